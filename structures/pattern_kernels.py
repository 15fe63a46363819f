"""Numba kernels that walk through the patterns of kept sites, up to symmetry.

A pattern is a row of 0 and 1, one entry per site; it stands for its class where no operation
gives a larger row (read from the first site on). Sites are chosen one by one in ascending order;
a choice of some sites is followed further only while it is the largest of its class, which
reaches every class exactly once (orderly generation: Read, Ann. Discrete Math. 2, 107 (1978);
Faradžev, Problèmes combinatoires et théorie des graphes, CNRS, 131 (1978)).

An operation is compared with the pattern entry by entry, as far as the sites chosen so far
decide. Once it gives less, it gives less for every pattern further down and is not looked at
there again; those that are still undecided at the end are the pattern's own symmetry.

numba keeps compiled kernels beside this file, or where that is read-only under the user's cache
directory (``NUMBA_CACHE_DIR`` overrides both). If nothing is writable, every process compiles
them anew, which takes several seconds. All that a kernel calls stands in this file, the only
one whose changes numba notices. Kernels take a `Tree`, `Branch` or `Lowest` as a plain tuple:
a cached kernel would look for their classes under the name that this module had when it was
compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

_Array = np.ndarray


def _kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with numba; keep the result on disk where there is a place for it."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # nothing is writable
        return njit(nogil=True)(function)


class Tree(NamedTuple):
    """What the walk goes through: level l chooses the l-th kept site.

    Attributes
    ----------
    first, last
        First and last site that a level may choose, shape (n_levels,).
    filled
        Last site whose state is known once a level has filled its sublattice; -1 for a level
        that does not fill it, after which the sites up to the chosen one are known. Shape
        (n_levels,).
    permutations
        Operations without the identity, shape (n_operations - 1, n_sites), uint16.
    """

    first: _Array
    last: _Array
    filled: _Array
    permutations: _Array


class Branch(NamedTuple):
    """Where the walk stands; kernels go on from here.

    Attributes
    ----------
    level
        Level that chooses next, -1 at the end; shape (1,).
    cursor
        Site that a level tries next, shape (n_levels,).
    kept
        The pattern so far, shape (n_sites,), uint8.
    n_open, undecided, equal_to
        Number of operations that are undecided before a level chooses; which they are; and the
        site up to which they are known to give the same. Shapes (n_levels + 1,) and, twice,
        (n_levels + 1, n_operations - 1).
    """

    level: _Array
    cursor: _Array
    kept: _Array
    n_open: _Array
    undecided: _Array
    equal_to: _Array


class Lowest(NamedTuple):
    """The patterns of lowest energy so far: a heap with the highest of them on top.

    Attributes
    ----------
    size
        Patterns held, shape (1,).
    energies
        Their energies, shape (n_wanted,).
    kept
        Their rows, shape (n_wanted, n_sites), uint8.
    """

    size: _Array
    energies: _Array
    kept: _Array


@_kernel
def _compare(tree: Any, branch: Any, level: Any, site: Any) -> Any:
    """Compare the pattern with its images once a level has chosen a site.

    Returns how many operations are still undecided (kept for the next level), or -1 if one of
    them gives a larger row.
    """
    _, _, filled, permutations = tree
    _, _, kept, n_open, undecided, equal_to = branch
    decided = site if filled[level] < 0 else filled[level]
    n_next = 0
    for index in range(n_open[level]):
        operation, start = undecided[level, index], equal_to[level, index]
        image = permutations[operation]
        position, unsure, smaller = start, -1, False
        while position <= decided:
            here, there = kept[position], kept[image[position]]
            if there > here:
                # the next pattern is likely to fail for the same operation: try it first
                undecided[level, index] = undecided[level, 0]
                equal_to[level, index] = equal_to[level, 0]
                undecided[level, 0], equal_to[level, 0] = operation, start
                return -1
            # a site not decided yet counts as empty: the image can only become larger
            sure = unsure < 0 and image[position] <= decided
            if here > there:
                smaller = sure
                break
            if unsure < 0 and not sure:
                unsure = position
            position += 1
        if not smaller:
            undecided[level + 1, n_next] = operation
            equal_to[level + 1, n_next] = position if unsure < 0 else unsure
            n_next += 1
    return n_next


@_kernel
def next_classes(tree: Any, branch: Any, classes: _Array, symmetries: _Array) -> Any:
    """Walk on until `classes` is full or the tree ends.

    Parameters
    ----------
    tree, branch
        `Tree` and `Branch` as plain tuples.
    classes
        Receives one pattern of every class, shape (n_classes, n_sites), uint8.
    symmetries
        Receives the number of operations that keep the pattern, shape (n_classes,).

    Returns
    -------
    count
        Number of classes written.
    """
    first, last, _, _ = tree
    standing, cursor, kept, n_open, _, _ = branch
    level, count = standing[0], 0
    while level >= 0 and count < len(classes):
        site = cursor[level]
        if site > last[level]:
            level -= 1
            if level >= 0:
                kept[cursor[level] - 1] = 0
            continue
        cursor[level] = site + 1
        kept[site] = 1
        n_next = _compare(tree, branch, level, site)
        if n_next >= 0 and level + 1 < len(first):
            level += 1
            n_open[level] = n_next
            cursor[level] = max(site + 1, first[level])
            continue
        if n_next >= 0:
            classes[count] = kept
            symmetries[count] = n_next + 1
            count += 1
        kept[site] = 0
    standing[0] = level
    return count


@_kernel
def find_lowest(
    tree: Any,
    branch: Any,
    fields: _Array,
    energies: _Array,
    pair: _Array,
    lowest: Any,
    n_nodes: Any,
) -> None:
    """Walk on through `n_nodes` choices and keep the classes of lowest energy.

    The last site is chosen by energy first: only a pattern that would enter `lowest` is compared
    with its images.

    Parameters
    ----------
    tree, branch, lowest
        `Tree`, `Branch` and `Lowest` as plain tuples.
    fields
        ``fields[l, i]`` is the energy of keeping site i in addition to the sites chosen before
        level l, shape (n_levels, n_sites); row 0 is given.
    energies
        Energy of the sites chosen before a level, shape (n_levels,); entry 0 is given.
    pair
        Interactions between kept sites, shape (n_sites, n_sites).
    """
    first, last, _, _ = tree
    standing, cursor, kept, n_open, _, _ = branch
    size, highest, _ = lowest
    level = standing[0]
    while level >= 0 and n_nodes > 0:
        site = cursor[level]
        is_last = level + 1 == len(first)
        if is_last and size[0] == len(highest):
            low_enough = highest[0] - energies[level]
            while site <= last[level] and fields[level, site] >= low_enough:
                site += 1
        if site > last[level]:
            level -= 1
            if level >= 0:
                kept[cursor[level] - 1] = 0
            continue
        n_nodes -= 1
        cursor[level] = site + 1
        kept[site] = 1
        energy = energies[level] + fields[level, site]
        n_next = _compare(tree, branch, level, site)
        if n_next >= 0 and not is_last:
            level += 1
            n_open[level] = n_next
            cursor[level] = max(site + 1, first[level])
            energies[level] = energy
            for other in range(site + 1, len(kept)):
                fields[level, other] = fields[level - 1, other] + pair[site, other]
            continue
        if n_next >= 0:
            _insert(lowest, energy, kept)
        kept[site] = 0
    standing[0] = level


@_kernel
def _insert(lowest: Any, energy: Any, kept: _Array) -> None:
    """Put a pattern into the heap, in the place of the highest where it is full."""
    held, energies, rows = lowest
    size = held[0]
    if size < len(energies):
        place = size
        held[0] = size + 1
        while place > 0 and energies[(place - 1) // 2] < energy:
            parent = (place - 1) // 2
            energies[place] = energies[parent]
            rows[place] = rows[parent]
            place = parent
    else:
        place = 0
        while 2 * place + 1 < size:
            child = 2 * place + 1
            if child + 1 < size and energies[child + 1] > energies[child]:
                child += 1
            if energies[child] <= energy:
                break
            energies[place] = energies[child]
            rows[place] = rows[child]
            place = child
    energies[place] = energy
    rows[place] = kept


@_kernel
def _largest_image(kept: _Array, permutations: _Array, largest: _Array) -> Any:
    """Write the largest image of a pattern; return how many operations give it."""
    largest[:] = kept
    n_equal = 1
    for operation in range(len(permutations)):
        image = permutations[operation]
        for site in range(len(kept)):
            there = kept[image[site]]
            if there != largest[site]:
                if there > largest[site]:
                    for rest in range(site, len(kept)):
                        largest[rest] = kept[image[rest]]
                    n_equal = 1
                break
        else:
            n_equal += 1
    return n_equal


@_kernel
def canonicalise(kept: _Array, permutations: _Array, symmetries: _Array) -> None:
    """Replace every pattern by the one that stands for its class.

    Parameters
    ----------
    kept
        Patterns, shape (n_patterns, n_sites), uint8; overwritten.
    permutations
        Operations without the identity, shape (n_operations - 1, n_sites).
    symmetries
        Receives the number of operations that keep the pattern, shape (n_patterns,).
    """
    largest = np.empty_like(kept[0])
    for row in range(len(kept)):
        symmetries[row] = _largest_image(kept[row], permutations, largest)
        kept[row] = largest


@_kernel
def anneal(
    chosen: _Array,
    vacant: _Array,
    chosen_starts: _Array,
    vacant_starts: _Array,
    kept: _Array,
    field: _Array,
    energy: Any,
    pair: _Array,
    permutations: _Array,
    temperatures: _Array,
    n_steps: Any,
    seed: Any,
    lowest: Any,
) -> None:
    """Swap kept and vacant sites at falling temperature (Metropolis) and keep the lowest classes.

    Parameters
    ----------
    chosen, vacant
        Kept and vacant sites that may change, sublattice after sublattice; overwritten.
    chosen_starts, vacant_starts
        Where every sublattice begins in them, and the end of the last, shape (n_sublattices + 1,);
        every sublattice has both.
    kept
        The first pattern, shape (n_sites,), uint8; overwritten.
    field
        Energy of keeping a site in addition to the others, shape (n_sites,); overwritten.
    energy
        Energy of the first pattern.
    pair
        Interactions between kept sites, zero on the diagonal, shape (n_sites, n_sites).
    permutations
        Operations without the identity.
    temperatures
        First and last temperature, in the unit of energy.
    lowest
        `Lowest` as a plain tuple.
    """
    np.random.seed(seed)  # noqa: NPY002 (numba's own generator)
    size, highest, _ = lowest
    n_sites = len(field)
    largest = kept.copy()
    ratio = temperatures[1] / temperatures[0]
    for step in range(n_steps):
        temperature = temperatures[0] * ratio ** (step / n_steps)
        out = np.random.randint(len(chosen))  # noqa: NPY002
        sublattice = 0
        while chosen_starts[sublattice + 1] <= out:
            sublattice += 1
        into = np.random.randint(vacant_starts[sublattice], vacant_starts[sublattice + 1])  # noqa: NPY002
        old, new = chosen[out], vacant[into]
        change = field[new] - field[old] - pair[old, new]
        if change > 0 and np.random.random() >= np.exp(-change / temperature):  # noqa: NPY002
            continue
        chosen[out], vacant[into] = new, old
        kept[old], kept[new] = 0, 1
        energy += change
        for site in range(n_sites):
            field[site] += pair[new, site] - pair[old, site]
        if size[0] == len(highest) and energy >= highest[0]:
            continue
        _largest_image(kept, permutations, largest)
        if not _holds(lowest, energy, largest):
            _insert(lowest, energy, largest)


@_kernel
def _holds(lowest: Any, energy: Any, kept: _Array) -> Any:
    """Whether a pattern is in the heap; energies only save the comparison of far ones."""
    size, energies, rows = lowest
    for index in range(size[0]):
        if abs(energies[index] - energy) < 1e-6 * (1.0 + abs(energy)):
            same = True
            for site in range(len(kept)):
                if rows[index, site] != kept[site]:
                    same = False
                    break
            if same:
                return True
    return False
