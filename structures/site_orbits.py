"""Symmetry-distinct sets of sites, each with the symmetry that it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .enumeration import class_chunks, sublattices

#: More symmetry-distinct sets than this are not listed unless asked for.
MAX_DISTINCT = 10_000


@dataclass(frozen=True, eq=False)
class SiteOrbit:
    """One set of sites that stands for all that are the same by symmetry.

    Attributes
    ----------
    sites
        The set, ascending; the first of its orbit in lexicographic order.
    degeneracy
        Number of sets in the orbit.
    permutations
        Operations that map the set to itself, shape (n_operations, n_sites).
    """

    sites: tuple[int, ...]
    degeneracy: int
    permutations: NDArray[np.int64]


def distinct_sets(
    permutations: NDArray[np.int64],
    sites: Sequence[int],
    size: int,
    max_distinct: int = MAX_DISTINCT,
) -> tuple[SiteOrbit, ...]:
    """All symmetry-distinct sets of a given size.

    The degeneracies add up to the binomial coefficient.

    Parameters
    ----------
    permutations
        Group of site permutations, shape (n_operations, n_sites); operations that do not map
        `sites` to themselves are left out.
    sites
        Sites to choose from.
    size
        Sites in a set.
    max_distinct
        Largest number of sets to list.

    Raises
    ------
    ValueError
        If there are fewer sites than wanted, or more than `max_distinct` distinct sets.

    Examples
    --------
    A square has two kinds of pairs, four sides and two diagonals:

    >>> turns = np.array([np.roll(np.arange(4), n) for n in range(4)])
    >>> [(orbit.sites, orbit.degeneracy) for orbit in distinct_sets(turns, range(4), 2)]
    [((0, 1), 4), ((0, 2), 2)]
    """
    candidates = np.unique(np.asarray(sites, dtype=np.int64))
    if not 0 <= size <= len(candidates):
        raise ValueError(f"cannot choose {size} of {len(candidates)} sites")
    group = permutations[np.isin(permutations[:, candidates], candidates).all(axis=1)]
    if size == 0:
        return (SiteOrbit((), 1, group),)
    lattice, quotas = sublattices(group, {"sites": candidates.tolist()}), {"sites": size}
    n_distinct = lattice.n_classes(quotas)
    if n_distinct > max_distinct:
        raise ValueError(
            f"{n_distinct} symmetry-distinct ways ({lattice.n_patterns(quotas)} in all) exceed the "
            f"limit of {max_distinct}: raise max_distinct, or draw placements at random"
        )
    orbits = []
    for classes in class_chunks(lattice, quotas):
        for kept, degeneracy in zip(classes.kept, classes.degeneracies.tolist(), strict=True):
            chosen = candidates[kept]
            stabilise = (np.sort(group[:, chosen], axis=1) == chosen).all(axis=1)
            orbits.append(SiteOrbit(tuple(chosen.tolist()), degeneracy, group[stabilise]))
    return tuple(sorted(orbits, key=lambda orbit: orbit.sites))
