"""Li/vacancy patterns by layer quota, ranked by electrostatics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Structure

from .occupation import is_transition_metal


@dataclass(frozen=True)
class LithiumPattern:
    """Li kept on chosen sites of the two layers.

    Attributes
    ----------
    li_layer, tm_layer
        Sites that keep (or receive) Li, ascending.
    ewald_energy
        Point-charge energy, eV per cell; only comparable within one quota.
    """

    li_layer: tuple[int, ...]
    tm_layer: tuple[int, ...]
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
    li_layer: Mapping[int, int],
    tm_layer: Mapping[int, int],
    quota: tuple[int, int],
    *,
    n_patterns: int,
    seed: int,
    max_seen: int = 20_000,
) -> PatternSample:
    """Patterns that keep `quota` = (Li-layer, TM-layer) Li, lowest Ewald energy first.

    The Ewald matrix is computed once and every pattern costs one product q.M.q (the compensating
    charge is spread evenly over the TM ions). All patterns are ranked when there are at most
    `max_seen`, else a seeded uniform sample of that size.

    Parameters
    ----------
    structure
        Structure with every candidate Li site filled.
    charges
        Formal charge by element; TM charges are shifted together to neutralise the cell.
    li_layer, tm_layer
        Candidate sites of the two layers, ``{frame site: atom index in structure}``.
    quota
        Li to keep in the Li layer and in the TM layer.
    n_patterns
        Number of patterns to return.
    seed
        Seed of the sample.
    max_seen
        Largest number of patterns to rank.

    Raises
    ------
    ValueError
        If a quota is negative or exceeds its layer's sites.
    """
    layers = (li_layer, tm_layer)
    for keep, sites, name in zip(quota, layers, ("Li layer", "TM layer"), strict=True):
        if not 0 <= keep <= len(sites):
            raise ValueError(f"cannot keep {keep} Li on {len(sites)} sites of the {name}")
    n_total = comb(len(li_layer), quota[0]) * comb(len(tm_layer), quota[1])
    choices = _choices(layers, quota, n_total, max_seen, np.random.default_rng(seed))
    energies = _ewald_energies(structure, charges, choices, layers)
    order = np.argsort(energies.round(6), kind="stable")[:n_patterns]
    patterns = []
    for index in order:
        li_sites, tm_sites = (
            tuple(sorted(site for site, atom in sites.items() if choices[index, atom]))
            for sites in layers
        )
        patterns.append(LithiumPattern(li_sites, tm_sites, float(energies[index])))
    return PatternSample(tuple(patterns), n_seen=len(choices), n_total=n_total)


def _choices(
    layers: Sequence[Mapping[int, int]],
    quota: tuple[int, int],
    n_total: int,
    max_seen: int,
    random: np.random.Generator,
) -> NDArray[np.bool_]:
    """Which atoms of the structure are kept Li, shape (n_patterns, max atom index + 1)."""
    atoms = [list(sites.values()) for sites in layers]
    width = max((a for group in atoms for a in group), default=-1) + 1
    rows: list[tuple[int, ...]] = []
    if n_total <= max_seen:
        rows = [
            (*first, *second)
            for first in combinations(atoms[0], quota[0])
            for second in combinations(atoms[1], quota[1])
        ]
    else:
        seen = set()
        for _ in range(max_seen):
            picked = [
                sorted(random.choice(group, keep, replace=False).tolist()) if keep else []
                for group, keep in zip(atoms, quota, strict=True)
            ]
            seen.add((*picked[0], *picked[1]))
        rows = sorted(seen)
    kept = np.zeros((len(rows), width), dtype=bool)
    for index, row in enumerate(rows):
        kept[index, list(row)] = True
    return kept


def _ewald_energies(
    structure: Structure,
    charges: Mapping[str, float],
    kept: NDArray[np.bool_],
    layers: Sequence[Mapping[int, int]],
) -> NDArray[np.float64]:
    """Ewald energy of every pattern, shape (n_patterns,), eV."""
    unit = structure.copy()
    unit.add_oxidation_state_by_site([1.0] * len(unit))
    unit.set_charge(len(unit))
    matrix = EwaldSummation(unit).total_energy_matrix
    symbols = [site.specie.symbol for site in structure]
    base = np.array([float(charges[symbol]) for symbol in symbols])
    candidates = [atom for sites in layers for atom in sites.values()]
    base[candidates] = 0.0
    charge = np.tile(base, (len(kept), 1))
    charge[:, candidates] = kept[:, candidates] * charges["Li"]
    tm = [i for i, symbol in enumerate(symbols) if is_transition_metal(symbol)]
    charge[:, tm] -= charge.sum(axis=1, keepdims=True) / len(tm)
    energies: NDArray[np.float64] = np.einsum("pi,ij,pj->p", charge, matrix, charge, optimize=True)
    return energies
