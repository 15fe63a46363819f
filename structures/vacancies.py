"""Li/vacancy patterns by layer quota: distinct by symmetry, sampled, or lowest in energy."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain, combinations, pairwise, product
from math import comb, prod

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from .enumeration import PatternClasses, Sublattices, class_chunks, draw_classes, sublattices
from .ewald import (
    Compensation,
    RankedClasses,
    annealed_classes,
    ewald_energy,
    lowest_classes,
)
from .frame import LI_LAYER, TM_LAYER, Frame, SiteKind
from .occupation import Occupation
from .symmetry import site_permutations

#: Kinds of sites that make up a sublattice.
SUBLATTICE_KINDS: Mapping[str, tuple[SiteKind, ...]] = {
    "Li layer": LI_LAYER,
    "TM layer": TM_LAYER,
    "cation sublattice": (SiteKind.CATION_OCT, SiteKind.TET),
}
_PATTERNS_AT_A_TIME = 1024


def sublattice_kinds(frame: Frame) -> Mapping[str, tuple[SiteKind, ...]]:
    """Sublattices of a frame that lose Li on their own, by name, with the kinds of their sites.

    "Li layer" and "TM layer" in a layered frame, "cation sublattice" in one without layers.

    Examples
    --------
    >>> import numpy as np
    >>> from lrlo.structures.rock_salt import rock_salt_frame
    >>> list(sublattice_kinds(rock_salt_frame(np.eye(3, dtype=int))))
    ['cation sublattice']
    """
    present = set(frame.kinds)
    return {name: kinds for name, kinds in SUBLATTICE_KINDS.items() if present & set(kinds)}


class Search(StrEnum):
    """How patterns were found.

    ``exhaustive``: among all classes. ``sample``: among classes drawn with equal probability.
    ``annealing``: by simulated annealing, which sees an unknown share of the classes.
    """

    EXHAUSTIVE = "exhaustive"
    SAMPLE = "sample"
    ANNEALING = "annealing"


@dataclass(frozen=True)
class VacancyPattern:
    """One pattern that stands for all that are the same by symmetry.

    Attributes
    ----------
    kept
        Sites that keep their ion, ascending, by sublattice.
    removed
        Sites that lose it, ascending; ``occupation.with_species(dict.fromkeys(removed))`` is the
        occupation with the vacancies.
    degeneracy
        Patterns that are the same by symmetry.
    energy
        Energy by which it was chosen, eV per cell; only comparable within one quota.
    """

    kept: Mapping[str, tuple[int, ...]]
    removed: tuple[int, ...]
    degeneracy: int
    energy: float | None = None


@dataclass(frozen=True)
class PatternSelection:
    """Chosen patterns of one quota, and how much of all patterns was looked at.

    Attributes
    ----------
    patterns
        Lowest energy first, or in the order drawn.
    search
        How they were found.
    n_seen
        Classes looked at; None where they are not counted (annealing).
    n_classes, n_patterns
        Symmetry-distinct patterns, and all patterns.
    compensation
        Where the charge of removed ions went in Ewald energies; None if there are none.
    """

    patterns: tuple[VacancyPattern, ...]
    search: Search
    n_seen: int | None
    n_classes: int
    n_patterns: int
    compensation: Compensation | None = None


class TooManyPatternsError(ValueError):
    """More distinct patterns than the user's limit.

    Attributes
    ----------
    n_classes, n_patterns
        Symmetry-distinct patterns, and all patterns.
    limit
        The limit.
    """

    def __init__(self, n_classes: int, n_patterns: int, limit: int) -> None:
        super().__init__(
            f"{n_classes:,} distinct patterns (of {n_patterns:,}) are more than the limit of "
            f"{limit:,}. Raise the limit (patterns are streamed, memory does not grow), draw some "
            "with sample_patterns, or take the lowest with lowest_by_ewald or lowest_by_energy"
        )
        self.n_classes = n_classes
        self.n_patterns = n_patterns
        self.limit = limit


def lithium_sublattices(occupation: Occupation) -> Sublattices:
    """Li of the Li layers and Li of the TM layers, with the symmetry of the occupation.

    Their names are "Li layer" and "TM layer", in a frame without layers "cation sublattice".
    Sublattices without Li are left out.

    Parameters
    ----------
    occupation
        Occupation with Li on every site that can lose it.

    Raises
    ------
    ValueError
        If there is no Li.

    Examples
    --------
    Half of the Li removed from a LiCoO2 cell with eight Li:

    >>> import numpy as np
    >>> from lrlo.structures.frame import SiteKind, layered_frame
    >>> from lrlo.structures.occupation import empty_frame
    >>> from lrlo.structures.stacking import Stacking
    >>> frame = layered_frame(Stacking.O3, np.diag([2, 2, 2]))
    >>> cations = {int(site): "Li" for site in frame.sites(SiteKind.LI_OCT)}
    >>> cations |= {int(site): "Co" for site in frame.sites(SiteKind.TM_OCT)}
    >>> lattice = lithium_sublattices(empty_frame(frame).with_species(cations))
    >>> quotas = {"Li layer": 4}
    >>> lattice.n_patterns(quotas), lattice.n_classes(quotas)
    (70, 6)
    >>> sum(pattern.degeneracy for pattern in distinct_patterns(lattice, quotas, limit=100))
    70
    """
    lithium = {name: occupation.sites_of("Li", *kinds) for name, kinds in SUBLATTICE_KINDS.items()}
    present = {name: sites for name, sites in lithium.items() if sites}
    if not present:
        raise ValueError("the occupation holds no Li")
    return sublattices(site_permutations(occupation), present)


def distinct_patterns(
    lattice: Sublattices, quotas: Mapping[str, int], *, limit: int
) -> Iterator[VacancyPattern]:
    """Stream one pattern of every class; memory does not grow with their number.

    Parameters
    ----------
    lattice
        Sublattices and their symmetry.
    quotas
        Ions to keep in every sublattice.
    limit
        Largest number of distinct patterns to go through; counted beforehand.

    Raises
    ------
    TooManyPatternsError
        If there are more.
    ValueError
        If a quota is impossible or the limit is not positive.
    """
    _check_positive(limit=limit)
    n_classes = lattice.n_classes(quotas)
    if n_classes > limit:
        raise TooManyPatternsError(n_classes, lattice.n_patterns(quotas), limit)
    return (
        pattern
        for chunk in class_chunks(lattice, quotas, _PATTERNS_AT_A_TIME)
        for pattern in _patterns(lattice, chunk)
    )


def sample_patterns(
    lattice: Sublattices, quotas: Mapping[str, int], n_patterns: int, *, seed: int
) -> PatternSelection:
    """Draw distinct patterns, all with the same probability whatever their degeneracy.

    Parameters
    ----------
    lattice
        Sublattices and their symmetry.
    quotas
        Ions to keep in every sublattice.
    n_patterns
        Number of patterns to draw.
    seed
        Seed of the random numbers.

    Raises
    ------
    ValueError
        If a quota is impossible, or there are fewer distinct patterns than wanted.
    """
    _check_positive(n_patterns=n_patterns)
    n_classes = lattice.n_classes(quotas)
    if n_patterns > n_classes:
        raise ValueError(
            f"cannot draw {n_patterns} of {n_classes} distinct patterns; distinct_patterns lists "
            "all of them"
        )
    draws = _distinct_draws(lattice, quotas, n_patterns, seed)
    return PatternSelection(
        patterns=tuple(p for chunk in draws for p in _patterns(lattice, chunk)),
        search=Search.SAMPLE,
        n_seen=n_patterns,
        n_classes=n_classes,
        n_patterns=lattice.n_patterns(quotas),
    )


def lowest_by_ewald(
    occupation: Occupation,
    lattice: Sublattices,
    quotas: Mapping[str, int],
    charges: Mapping[str, float],
    *,
    compensation: Compensation,
    n_patterns: int,
    seed: int,
    limit: int = 100_000_000,
) -> PatternSelection:
    """Distinct patterns of lowest Ewald energy on the ideal sites.

    Exact where there are at most `limit` distinct patterns, else the lowest that simulated
    annealing finds; the result says which. Patterns of equal energy are all kept.

    Parameters
    ----------
    occupation
        Occupation with an ion on every site of the sublattices.
    lattice
        Sublattices and the symmetry of the occupation.
    quotas
        Ions to keep in every sublattice.
    charges
        Charge by element, in units of e.
    compensation
        Where the charge of removed ions goes.
    n_patterns
        Number of patterns wanted; all if there are fewer.
    seed
        Seed of the annealing.
    limit
        Largest number of distinct patterns to go through; a million takes 0.005 to 0.3 s.

    Raises
    ------
    ValueError
        If a quota is impossible, a charge is missing, a number is not positive, or the symmetry is
        not that of the occupation.
    """
    _check_positive(n_patterns=n_patterns, limit=limit)
    n_classes = lattice.n_classes(quotas)
    atom = {site: index for index, site in enumerate(occupation.occupied())}
    empty = [int(site) for site in lattice.all_sites if int(site) not in atom]
    if empty:
        raise ValueError(f"the occupation has no ion on sites {empty} of the sublattices")
    ions = [atom[int(site)] for site in lattice.all_sites]
    energy = ewald_energy(occupation.to_structure(), charges, ions, compensation)
    exact = n_classes <= limit
    ranked = (
        lowest_classes(lattice, quotas, energy, min(n_patterns, n_classes))
        if exact
        else annealed_classes(lattice, quotas, energy, n_patterns, seed=seed)
    )
    return PatternSelection(
        patterns=_ranked_patterns(lattice, ranked),
        search=Search.EXHAUSTIVE if exact else Search.ANNEALING,
        n_seen=n_classes if exact else None,
        n_classes=n_classes,
        n_patterns=lattice.n_patterns(quotas),
        compensation=compensation,
    )


def lowest_by_energy(
    lattice: Sublattices,
    quotas: Mapping[str, int],
    energy: Callable[[NDArray[np.bool_]], NDArray[np.float64]],
    *,
    n_patterns: int,
    seed: int,
    limit: int,
) -> PatternSelection:
    """Distinct patterns of lowest energy by any function.

    All distinct patterns are evaluated where there are at most `limit`, else `limit` drawn with
    equal probability; the result says which, and how many were seen.

    Parameters
    ----------
    lattice
        Sublattices and their symmetry.
    quotas
        Ions to keep in every sublattice.
    energy
        Function from patterns, shape (n, n_sites), true where the ion of a site of
        ``lattice.all_sites`` is kept, to their energies, shape (n,), eV.
    n_patterns
        Number of patterns wanted; all if there are fewer.
    seed
        Seed of the draws.
    limit
        Largest number of patterns to evaluate.

    Raises
    ------
    ValueError
        If a quota is impossible, a number is not positive, or `energy` does not return one finite
        number for every pattern.
    """
    _check_positive(n_patterns=n_patterns, limit=limit)
    n_classes = lattice.n_classes(quotas)
    exact = n_classes <= limit
    chunks = (
        class_chunks(lattice, quotas, _PATTERNS_AT_A_TIME)
        if exact
        else _distinct_draws(lattice, quotas, limit, seed)
    )
    kept = np.empty((0, sum(lattice.sizes)), dtype=bool)
    degeneracies, energies = np.empty(0, dtype=np.int64), np.empty(0)
    n_seen = 0
    for chunk in chunks:
        n_seen += len(chunk.kept)
        kept = np.concatenate([kept, chunk.kept])
        degeneracies = np.concatenate([degeneracies, chunk.degeneracies])
        energies = np.concatenate([energies, _evaluated(energy, chunk)])
        order = np.argsort(energies, kind="stable")[:n_patterns]
        kept, degeneracies, energies = kept[order], degeneracies[order], energies[order]
    return PatternSelection(
        patterns=_ranked_patterns(
            lattice, RankedClasses(PatternClasses(kept, degeneracies), energies)
        ),
        search=Search.EXHAUSTIVE if exact else Search.SAMPLE,
        n_seen=n_seen,
        n_classes=n_classes,
        n_patterns=lattice.n_patterns(quotas),
    )


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} is at least 1, got {number}")


def _patterns(lattice: Sublattices, classes: PatternClasses) -> Iterator[VacancyPattern]:
    """Classes, at least one, as sites of the crystal."""
    names, bounds = list(lattice.sites), np.cumsum((0, *lattice.sizes))
    kept = [
        _sites_where(classes.kept[:, start:end], lattice.all_sites[start:end])
        for start, end in pairwise(bounds)
    ]
    removed = _sites_where(~classes.kept, lattice.all_sites)
    for *members, gone, degeneracy in zip(
        *kept, removed, classes.degeneracies.tolist(), strict=True
    ):
        yield VacancyPattern(
            dict(zip(names, map(tuple, members), strict=True)), tuple(gone), degeneracy
        )


def _sites_where(chosen: NDArray[np.bool_], sites: NDArray[np.int64]) -> list[list[int]]:
    """Sites chosen in every row, ascending; all rows choose the same number."""
    found = sites[np.nonzero(chosen)[1]].reshape(len(chosen), -1)
    rows: list[list[int]] = np.sort(found, axis=1).tolist()
    return rows


def _ranked_patterns(lattice: Sublattices, ranked: RankedClasses) -> tuple[VacancyPattern, ...]:
    return tuple(
        replace(pattern, energy=float(energy))
        for pattern, energy in zip(_patterns(lattice, ranked.classes), ranked.energies, strict=True)
    )


def _distinct_draws(
    lattice: Sublattices, quotas: Mapping[str, int], n_classes: int, seed: int
) -> Iterator[PatternClasses]:
    """Draw different classes with equal probability, some at a time, `n_classes` in all."""
    random = np.random.default_rng(seed)
    seen: set[bytes] = set()
    while len(seen) < n_classes:
        draws = draw_classes(lattice, quotas, min(n_classes, _PATTERNS_AT_A_TIME), random)
        new = []
        for index, row in enumerate(draws.kept):
            key = np.packbits(row).tobytes()
            if key not in seen and len(seen) < n_classes:
                seen.add(key)
                new.append(index)
        if new:
            yield PatternClasses(draws.kept[new], draws.degeneracies[new])


def _evaluated(
    energy: Callable[[NDArray[np.bool_]], NDArray[np.float64]], chunk: PatternClasses
) -> NDArray[np.float64]:
    energies = np.asarray(energy(chunk.kept), dtype=np.float64)
    if energies.shape != (len(chunk.kept),) or not np.isfinite(energies).all():
        raise ValueError(
            f"the energy function has to return {len(chunk.kept)} finite numbers for as many "
            f"patterns; got shape {energies.shape}"
        )
    return energies


@dataclass(frozen=True)
class LithiumPattern:
    """Li kept on chosen sites.

    Attributes
    ----------
    kept
        Sites that keep (or receive) Li, of one sublattice after the other, ascending in each.
    ewald_energy
        Point-charge energy, eV per cell; only comparable within one quota.
    """

    kept: tuple[int, ...]
    ewald_energy: float


@dataclass(frozen=True)
class PatternSample:
    """The lowest patterns of one quota, and how much of all patterns was looked at.

    Attributes
    ----------
    patterns
        Lowest in Ewald energy first.
    n_seen, n_total
        Patterns ranked and patterns possible (symmetry not used).
    """

    patterns: tuple[LithiumPattern, ...]
    n_seen: int
    n_total: int


def lowest_patterns(
    structure: Structure,
    charges: Mapping[str, float],
    lithium: Mapping[str, Mapping[int, int]],
    quota: Mapping[str, int],
    *,
    n_patterns: int,
    seed: int,
    max_seen: int = 20_000,
) -> PatternSample:
    """Patterns that keep a quota of Li in every sublattice, lowest Ewald energy first.

    The Ewald matrix is computed once and every pattern costs one product q.M.q (the compensating
    charge is spread evenly over the TM ions). All patterns are ranked when there are at most
    `max_seen`, else a seeded uniform sample of that size.

    Parameters
    ----------
    structure
        Structure with every candidate Li site filled.
    charges
        Formal charge by element; TM charges are shifted together to neutralise the cell.
    lithium
        Candidate sites by the name of their sublattice (see :func:`sublattice_kinds`),
        ``{"Li layer": {frame site: atom index in structure}}``.
    quota
        Li to keep in every sublattice, by its name.
    n_patterns
        Number of patterns to return.
    seed
        Seed of the sample.
    max_seen
        Largest number of patterns to rank.

    Raises
    ------
    ValueError
        If the quota is not that of the sublattices, is negative or exceeds their sites.
    """
    if set(quota) != set(lithium):
        raise ValueError(f"a quota of {list(quota)} is not one of {list(lithium)}")
    for name, sites in lithium.items():
        if not 0 <= quota[name] <= len(sites):
            raise ValueError(f"cannot keep {quota[name]} Li on {len(sites)} sites of the {name}")
    n_total = prod(comb(len(sites), quota[name]) for name, sites in lithium.items())
    choices = _choices(
        [(list(sites.values()), quota[name]) for name, sites in lithium.items()],
        n_total,
        max_seen,
        np.random.default_rng(seed),
    )
    candidates = [atom for sites in lithium.values() for atom in sites.values()]
    model = ewald_energy(structure, charges, candidates, Compensation.TRANSITION_METALS)
    energies = model.energies(choices[:, candidates])
    order = np.argsort(energies.round(6), kind="stable")[:n_patterns]
    patterns = []
    for index in order:
        kept = tuple(
            site
            for sites in lithium.values()
            for site in sorted(sites)
            if choices[index, sites[site]]
        )
        patterns.append(LithiumPattern(kept, float(energies[index])))
    return PatternSample(tuple(patterns), n_seen=len(choices), n_total=n_total)


def _choices(
    groups: Sequence[tuple[list[int], int]],
    n_total: int,
    max_seen: int,
    random: np.random.Generator,
) -> NDArray[np.bool_]:
    """Which atoms of the structure are kept Li, shape (n_patterns, max atom index + 1).

    Groups are the atoms of a sublattice and how many of them are kept.
    """
    width = max((atom for atoms, _ in groups for atom in atoms), default=-1) + 1
    rows: list[tuple[int, ...]] = []
    if n_total <= max_seen:
        ways = [combinations(atoms, keep) for atoms, keep in groups]
        rows = [tuple(chain.from_iterable(row)) for row in product(*ways)]
    else:
        seen = set()
        for _ in range(max_seen):
            picked = [
                sorted(random.choice(atoms, keep, replace=False).tolist()) if keep else []
                for atoms, keep in groups
            ]
            seen.add(tuple(chain.from_iterable(picked)))
        rows = sorted(seen)
    kept = np.zeros((len(rows), width), dtype=bool)
    for index, row in enumerate(rows):
        kept[index, list(row)] = True
    return kept
