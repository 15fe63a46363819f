"""Symmetry-distinct patterns of kept and removed sites, by orderly generation.

A pattern keeps a given number of sites (its quota) of every sublattice. Patterns that a symmetry
operation maps onto each other form a class; the number of them is the class's degeneracy. The
classes of a quota are counted first (Burnside's lemma), then streamed: memory does not depend
on their number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb, prod

import numpy as np
from numpy.typing import NDArray

from .burnside import CycleIndex, cycle_index, draw_fixed_pattern
from .pattern_kernels import Branch, Tree, canonicalise, next_classes


@dataclass(frozen=True, eq=False)
class Sublattices:
    """Sites to keep or remove, and the symmetry that relates them.

    Build it with :func:`sublattices`, which checks what it is given.

    Attributes
    ----------
    sites
        Sites of every sublattice by its name.
    permutations
        ``permutations[g, i]`` is the position in :attr:`all_sites` to which operation g moves
        the site at position i, every permutation once, shape (n_operations, n_sites).
    """

    sites: Mapping[str, tuple[int, ...]]
    permutations: NDArray[np.int64]

    @property
    def all_sites(self) -> NDArray[np.int64]:
        """Sites of all sublattices, one after the other: the columns of patterns."""
        return np.concatenate([np.array(sites, dtype=np.int64) for sites in self.sites.values()])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sites of every sublattice."""
        return tuple(len(sites) for sites in self.sites.values())

    @property
    def n_operations(self) -> int:
        """Symmetry operations that permute the sites differently."""
        return len(self.permutations)

    @cached_property
    def cycle_index(self) -> CycleIndex:
        """Cycles of all operations, from which classes are counted."""
        return cycle_index(self.permutations, self.sizes)

    def checked(self, quotas: Mapping[str, int]) -> tuple[int, ...]:
        """Quotas in the order of the sublattices.

        Raises
        ------
        ValueError
            If a quota is missing, is for no sublattice, is no whole number, is negative or
            exceeds the sites.
        """
        if set(quotas) != set(self.sites):
            raise ValueError(
                f"quotas are given for {sorted(quotas)}; the sublattices are {sorted(self.sites)}"
            )
        for name, sites in self.sites.items():
            if quotas[name] not in range(len(sites) + 1):
                raise ValueError(
                    f"cannot keep {quotas[name]} of the {len(sites)} sites of the {name}; "
                    f"allowed are 0 to {len(sites)}"
                )
        return tuple(int(quotas[name]) for name in self.sites)

    def n_patterns(self, quotas: Mapping[str, int]) -> int:
        """Patterns with these quotas, symmetry not used."""
        return prod(map(comb, self.sizes, self.checked(quotas)))

    def n_classes(self, quotas: Mapping[str, int]) -> int:
        """Symmetry-distinct patterns with these quotas (Burnside's lemma)."""
        return self.cycle_index.n_classes(self.checked(quotas))


@dataclass(frozen=True, eq=False)
class PatternClasses:
    """Some classes of patterns.

    Attributes
    ----------
    kept
        One pattern of every class, the first of its class in lexicographic order of the kept
        sites' positions; shape (n_classes, n_sites), columns as :attr:`Sublattices.all_sites`.
    degeneracies
        Patterns of every class, shape (n_classes,).
    """

    kept: NDArray[np.bool_]
    degeneracies: NDArray[np.int64]


def sublattices(permutations: NDArray[np.int64], sites: Mapping[str, Sequence[int]]) -> Sublattices:
    """Sublattices of a crystal with the symmetry that keeps them.

    Parameters
    ----------
    permutations
        Group of site permutations, shape (n_operations, n_crystal_sites), as
        :func:`lrlo.structures.symmetry.site_permutations` returns it.
    sites
        Sites of every sublattice by its name.

    Raises
    ------
    ValueError
        If there is no sublattice or an empty one, a site is out of range or given twice, or the
        permutations are no group or do not keep the sublattices.

    Examples
    --------
    A ring of six sites: two kept sites are first, second or third neighbours.

    >>> import numpy as np
    >>> turns = np.array([np.roll(np.arange(6), n) for n in range(6)])
    >>> ring = sublattices(turns, {"ring": range(6)})
    >>> ring.n_patterns({"ring": 2}), ring.n_classes({"ring": 2})
    (15, 3)
    >>> (classes,) = class_chunks(ring, {"ring": 2})
    >>> classes.degeneracies.tolist()
    [6, 6, 3]
    """
    table = np.asarray(permutations)
    if table.ndim != 2 or not len(table) or not np.issubdtype(table.dtype, np.integer):
        raise ValueError(
            f"permutations are a table of integers, operations by sites; got shape {table.shape} "
            f"of {table.dtype}"
        )
    n_crystal = table.shape[1]
    if not (np.sort(table, axis=1) == np.arange(n_crystal)).all():
        raise ValueError(f"every row of permutations holds the sites 0 to {n_crystal - 1} once")
    named = {name: tuple(int(site) for site in members) for name, members in sites.items()}
    _check_sites(named, n_crystal)
    for name, members in named.items():
        inside = np.isin(table[:, list(members)], members).all(axis=1)
        if not inside.all():
            raise ValueError(
                f"operation {int(inside.argmin())} moves sites of the {name} out of it; use the "
                "symmetry of the crystal in which the sublattices are decorated differently"
            )
    all_sites = np.array([site for members in named.values() for site in members])
    position = np.full(n_crystal, -1, dtype=np.int64)
    position[all_sites] = np.arange(len(all_sites))
    restricted = np.unique(position[table[:, all_sites]], axis=0)
    _check_group(restricted)
    return Sublattices(named, restricted)


def class_chunks(
    lattice: Sublattices, quotas: Mapping[str, int], chunk_size: int = 65_536
) -> Iterator[PatternClasses]:
    """Every class of patterns once, some at a time.

    Orderly generation (Read, Ann. Discrete Math. 2, 107 (1978)). At the end of the stream the
    number of classes has been compared with Burnside's, and the sum of the degeneracies with the
    product of binomials.

    Parameters
    ----------
    lattice
        Sublattices and their symmetry.
    quotas
        Sites to keep in every sublattice.
    chunk_size
        Largest number of classes in memory.

    Raises
    ------
    ValueError
        If a quota is impossible or the chunk size is not positive.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size is at least 1, got {chunk_size}")
    return _class_chunks(lattice, quotas, lattice.checked(quotas), chunk_size)


def _class_chunks(
    lattice: Sublattices, quotas: Mapping[str, int], keep: tuple[int, ...], chunk_size: int
) -> Iterator[PatternClasses]:
    n_classes, n_patterns = lattice.n_classes(quotas), lattice.n_patterns(quotas)
    n_sites, n_operations = sum(lattice.sizes), lattice.n_operations
    if not any(keep):
        yield PatternClasses(np.zeros((1, n_sites), dtype=bool), np.ones(1, dtype=np.int64))
        return
    tree, branch = walk(lattice, keep)
    seen, degeneracy = 0, 0
    size = min(chunk_size, n_classes)
    while branch.level[0] >= 0:
        kept = np.empty((size, n_sites), dtype=np.uint8)
        symmetries = np.empty(size, dtype=np.int64)
        count = next_classes(tuple(tree), tuple(branch), kept, symmetries)
        if count:
            degeneracies = n_operations // symmetries[:count]
            seen += count
            degeneracy += int(degeneracies.sum())
            yield PatternClasses(kept[:count].view(bool), degeneracies)
    if (seen, degeneracy) != (n_classes, n_patterns):
        raise RuntimeError(
            f"found {seen} classes of {degeneracy} patterns, not {n_classes} of {n_patterns}"
        )


def draw_classes(
    lattice: Sublattices, quotas: Mapping[str, int], n_draws: int, random: np.random.Generator
) -> PatternClasses:
    """Draw classes independently, every class with the same probability.

    An operation is drawn in proportion to the patterns that it leaves as they are, then one of
    these patterns (Dixon and Wilf, J. Algorithms 4, 205 (1983)). Drawing patterns instead would
    favour classes of high degeneracy, that is of low symmetry. A class may come more than once.

    Parameters
    ----------
    lattice
        Sublattices and their symmetry.
    quotas
        Sites to keep in every sublattice.
    n_draws
        Number of draws.
    random
        Source of random numbers.

    Raises
    ------
    ValueError
        If a quota is impossible or `n_draws` is not positive.
    """
    keep = lattice.checked(quotas)
    if n_draws < 1:
        raise ValueError(f"n_draws is at least 1, got {n_draws}")
    index = lattice.cycle_index
    weights = [n * f for n, f in zip(index.numbers, index.n_fixed(keep), strict=True)]
    total = sum(weights)
    types = random.choice(len(weights), n_draws, p=[weight / total for weight in weights])
    kept = np.empty((n_draws, sum(lattice.sizes)), dtype=np.uint8)
    members = [np.flatnonzero(index.type_of == kind) for kind in range(len(weights))]
    for row, kind in enumerate(types):
        operation = random.choice(members[kind])
        kept[row] = draw_fixed_pattern(lattice.permutations[operation], lattice.sizes, keep, random)
    symmetries = np.empty(n_draws, dtype=np.int64)
    canonicalise(kept, operations(lattice), symmetries)
    return PatternClasses(kept.view(bool), lattice.n_operations // symmetries)


def operations(lattice: Sublattices) -> NDArray[np.uint16]:
    """Permutations without the identity, as the kernels take them."""
    identity = (lattice.permutations == np.arange(sum(lattice.sizes))).all(axis=1)
    return lattice.permutations[~identity].astype(np.uint16)


def walk(lattice: Sublattices, keep: Sequence[int]) -> tuple[Tree, Branch]:
    """Start of a walk through all patterns; at least one site is kept."""
    first: list[int] = []
    last: list[int] = []
    filled: list[int] = []
    begin = 0
    for size, quota in zip(lattice.sizes, keep, strict=True):
        if quota and filled:
            filled[-1] = begin - 1
        first += [begin] * quota
        last += [begin + size - quota + chosen for chosen in range(quota)]
        filled += [-1] * quota
        begin += size
    filled[-1] = begin - 1
    tree = Tree(np.array(first), np.array(last), np.array(filled), operations(lattice))
    n_levels, n_operations = len(first), len(tree.permutations)
    branch = Branch(
        level=np.zeros(1, dtype=np.int64),
        cursor=np.array(first),
        kept=np.zeros(begin, dtype=np.uint8),
        n_open=np.full(n_levels + 1, n_operations),
        undecided=np.zeros((n_levels + 1, n_operations), dtype=np.uint32),
        equal_to=np.zeros((n_levels + 1, n_operations), dtype=np.int32),
    )
    branch.undecided[0] = np.arange(n_operations)
    return tree, branch


def _check_sites(named: Mapping[str, tuple[int, ...]], n_crystal: int) -> None:
    if not named:
        raise ValueError("no sublattice given")
    owner: dict[int, str] = {}
    for name, members in named.items():
        if not members:
            raise ValueError(f"the {name} has no sites; leave out sublattices without sites")
        for site in members:
            if not 0 <= site < n_crystal:
                raise ValueError(
                    f"site {site} of the {name} does not exist; sites are 0 to {n_crystal - 1}"
                )
            if site in owner:
                raise ValueError(f"site {site} is given twice: {owner[site]} and {name}")
            owner[site] = name


def _check_group(permutations: NDArray[np.int64]) -> None:
    """Refuse permutations that are no group.

    Generators are added until they reach all permutations; the set is closed if it is closed
    under each of them.
    """
    index = {row.tobytes(): g for g, row in enumerate(permutations)}
    identity = index.get(np.arange(permutations.shape[1]).tobytes(), -1)
    products: list[list[int]] = []  # products[s][g]: first g, then the generator s
    reached = {identity}
    while -1 not in reached and len(reached) < len(permutations):
        generator = next(g for g in range(len(permutations)) if g not in reached)
        composed = permutations[generator][permutations]
        products.append([index.get(row.tobytes(), -1) for row in composed])
        reached, frontier = {identity}, {identity}
        while frontier and -1 not in frontier:
            frontier = {table[g] for g in frontier for table in products} - reached
            reached |= frontier
    if -1 in reached:
        raise ValueError(
            "the permutations are not a group: the identity or products of some are missing"
        )
