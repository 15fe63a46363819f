"""Electrostatic energy of Li/vacancy patterns: one matrix, then products.

The Ewald energy is a quadratic form of the charges, E = q.M.q, so that one summation gives the
energy of every pattern of a cell. In the pattern x (1 where an ion is kept, else 0) it is

    E(x) = constant + linear.x + x.pair.x / 2.

Energies rank patterns; they do not tell which are the same: distinct patterns can have equal
energies, and only symmetry decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Structure

from .enumeration import PatternClasses, Sublattices, operations, walk
from .occupation import is_transition_metal
from .pattern_kernels import Lowest, anneal, canonicalise, find_lowest

#: Digits after the point (eV) to which energies are taken as equal when classes are sorted.
_EQUAL_DIGITS = 6
#: Largest change of a coefficient under a symmetry operation, eV.
_SYMMETRY_TOLERANCE = 1e-3
#: Choices of a walk between two looks at the keyboard.
_NODES_AT_A_TIME = 50_000_000


class Compensation(StrEnum):
    """Where the charge goes that removed ions leave behind.

    ``background``: into a uniform background over the cell, the host's charges stay.
    ``transition_metals``: in equal shares onto the TM ions that stay, so that the cell is neutral.
    """

    BACKGROUND = "background"
    TRANSITION_METALS = "transition_metals"


@dataclass(frozen=True, eq=False)
class EwaldEnergy:
    """Ewald energy of the patterns of one structure.

    Build it with :func:`ewald_energy`.

    Attributes
    ----------
    constant
        Energy with all ions of the sublattices removed, eV per cell.
    linear
        Energy of keeping one ion, shape (n_sites,), eV.
    pair
        Interactions between kept ions, symmetric, zero on the diagonal, eV; shape
        (n_sites, n_sites).
    charges
        Charge by element, in units of e.
    compensation
        What neutralises the cell.
    """

    constant: float
    linear: NDArray[np.float64]
    pair: NDArray[np.float64]
    charges: Mapping[str, float]
    compensation: Compensation

    def energies(self, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Energy of every pattern, eV per cell.

        Parameters
        ----------
        kept
            Where ions are kept, shape (n_patterns, n_sites).

        Returns
        -------
        energies
            Shape (n_patterns,).
        """
        x = np.asarray(kept, dtype=np.float64)
        pairs: NDArray[np.float64] = np.einsum("pi,pi->p", x @ (self.pair / 2) + self.linear, x)
        return self.constant + pairs


@dataclass(frozen=True, eq=False)
class RankedClasses:
    """Classes of patterns in the order of their energy.

    Attributes
    ----------
    classes
        Lowest energy first; classes of equal energy in lexicographic order.
    energies
        eV per cell, shape (n_classes,).
    """

    classes: PatternClasses
    energies: NDArray[np.float64]


def ewald_energy(
    structure: Structure,
    charges: Mapping[str, float],
    ions: Sequence[int],
    compensation: Compensation,
) -> EwaldEnergy:
    """Energy of all patterns of a structure from one Ewald summation.

    Parameters
    ----------
    structure
        Structure with an ion on every site that can lose it.
    charges
        Charge by element, in units of e.
    ions
        Index in `structure` of every ion that a pattern keeps or removes, in the order of the
        patterns' columns.
    compensation
        What neutralises the cell.

    Raises
    ------
    ValueError
        If an element has no charge, an index is out of range or repeated, or no TM stays to take
        the compensation.
    """
    symbols = [site.specie.symbol for site in structure]
    sites = [int(index) for index in ions]
    _check_ions(symbols, charges, sites)
    unit = structure.copy()
    unit.remove_oxidation_states()
    unit.add_oxidation_state_by_site([1.0] * len(unit))
    unit.set_charge(len(unit))
    summation = EwaldSummation(unit)
    matrix = summation.total_energy_matrix
    # the uniform background's energy goes with the square of the total charge
    matrix = (matrix + matrix.T) / 2
    matrix += (summation.total_energy - matrix.sum()) / matrix.size
    host = np.array([float(charges[symbol]) for symbol in symbols])
    added = np.zeros((len(sites), len(symbols)))  # charges that come with a kept ion
    added[np.arange(len(sites)), sites] = host[sites]
    host[sites] = 0.0
    if compensation is Compensation.TRANSITION_METALS:
        metals = [
            i for i, s in enumerate(symbols) if is_transition_metal(s) and i not in set(sites)
        ]
        if not metals:
            raise ValueError("no transition metal that stays in the structure to compensate")
        host[metals] -= host.sum() / len(metals)
        added[:, metals] -= added.sum(axis=1, keepdims=True) / len(metals)
    pair = 2 * added @ matrix @ added.T
    linear = 2 * added @ matrix @ host + pair.diagonal() / 2
    np.fill_diagonal(pair, 0.0)
    return EwaldEnergy(float(host @ matrix @ host), linear, pair, dict(charges), compensation)


def lowest_classes(
    lattice: Sublattices, quotas: Mapping[str, int], energy: EwaldEnergy, n_classes: int
) -> RankedClasses:
    """Classes of lowest energy among all of a quota, exactly.

    Walks through the classes with the energy built up site by site; 5 to 300 ns for each of
    them, more with more symmetry.

    Parameters
    ----------
    lattice
        Sublattices and their symmetry, under which the energy does not change.
    quotas
        Sites to keep in every sublattice.
    energy
        Energy, columns as ``lattice.all_sites``.
    n_classes
        Number of classes wanted; all if there are fewer.

    Raises
    ------
    ValueError
        If a quota is impossible, `n_classes` is not positive or the energy is for other sites.
    """
    keep = lattice.checked(quotas)
    lowest = _empty_heap(lattice, energy, n_classes)
    if any(keep):
        tree, branch = walk(lattice, keep)
        fields = np.zeros((len(tree.first), len(energy.linear)))
        fields[0] = energy.linear
        energies = np.zeros(len(tree.first))
        while branch.level[0] >= 0:
            find_lowest(
                tuple(tree),
                tuple(branch),
                fields,
                energies,
                energy.pair,
                tuple(lowest),
                _NODES_AT_A_TIME,
            )
    else:
        lowest.size[0] = 1
    return _ranked(lattice, energy, lowest)


def annealed_classes(
    lattice: Sublattices,
    quotas: Mapping[str, int],
    energy: EwaldEnergy,
    n_classes: int,
    *,
    seed: int,
    n_runs: int = 8,
    n_steps: int = 200_000,
) -> RankedClasses:
    """Classes of lowest energy that simulated annealing finds, for more than can be gone through.

    Kept and vacant sites of a sublattice are swapped (Metropolis). The temperature falls
    geometrically, from the spread of the energies of random swaps to a thousandth of it. Nothing
    says that no lower class exists.

    Parameters
    ----------
    lattice, quotas, energy, n_classes
        As for :func:`lowest_classes`.
    seed
        Seed of the random numbers.
    n_runs
        Annealing runs, each from a random pattern.
    n_steps
        Swaps tried in every run.

    Raises
    ------
    ValueError
        As for :func:`lowest_classes`, and if the number of runs or steps is not positive.
    """
    if n_runs < 1 or n_steps < 1:
        raise ValueError(f"annealing needs runs and steps, got {n_runs} runs of {n_steps} steps")
    if lattice.n_patterns(quotas) == 1:
        return lowest_classes(lattice, quotas, energy, n_classes)
    keep = lattice.checked(quotas)
    lowest = _empty_heap(lattice, energy, n_classes)
    random = np.random.default_rng(seed)
    for _ in range(n_runs):
        chosen, vacant, kept = _random_pattern(lattice, keep, random)
        field = energy.linear + energy.pair @ kept
        spread = _swap_energies(chosen, vacant, field, energy.pair).std()
        anneal(
            np.concatenate(chosen),
            np.concatenate(vacant),
            np.cumsum([0, *map(len, chosen)]),
            np.cumsum([0, *map(len, vacant)]),
            kept,
            field,
            float(energy.energies(kept[None].view(bool))[0]) - energy.constant,
            energy.pair,
            operations(lattice),
            max(spread, 1e-6) * np.array([1.0, 1e-3]),
            n_steps,
            int(random.integers(2**31)),
            tuple(lowest),
        )
    return _ranked(lattice, energy, lowest)


def _check_ions(symbols: Sequence[str], charges: Mapping[str, float], ions: Sequence[int]) -> None:
    missing = sorted(set(symbols) - set(charges))
    if missing:
        raise ValueError(
            f"no charge given for {', '.join(missing)}; charges are given for {sorted(charges)}"
        )
    if not all(0 <= ion < len(symbols) for ion in ions):
        raise ValueError(f"ions are numbered 0 to {len(symbols) - 1}, got {list(ions)}")
    if len(set(ions)) < len(ions):
        raise ValueError(f"an ion is given twice: {sorted(ions)}")


def _empty_heap(lattice: Sublattices, energy: EwaldEnergy, n_classes: int) -> Lowest:
    """Room for the classes wanted, after checks of what was asked for."""
    if n_classes < 1:
        raise ValueError(f"at least one class has to be asked for, got {n_classes}")
    n_sites = sum(lattice.sizes)
    if len(energy.linear) != n_sites:
        raise ValueError(
            f"the energy is for {len(energy.linear)} sites, the sublattices have {n_sites}"
        )
    change = max(
        max(
            abs(energy.linear[image] - energy.linear).max(),
            abs(energy.pair[np.ix_(image, image)] - energy.pair).max(),
        )
        for image in lattice.permutations
    )
    if change > _SYMMETRY_TOLERANCE:
        raise ValueError(
            f"the symmetry operations change the energy by up to {change:.2g} eV per site or pair; "
            "take energy and symmetry from the same positions"
        )
    return Lowest(
        size=np.zeros(1, dtype=np.int64),
        energies=np.empty(n_classes),
        kept=np.zeros((n_classes, n_sites), dtype=np.uint8),
    )


def _random_pattern(
    lattice: Sublattices, keep: Sequence[int], random: np.random.Generator
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], NDArray[np.uint8]]:
    """Kept and vacant sites of the sublattices that have both, and the whole pattern."""
    chosen, vacant = [], []
    kept = np.zeros(sum(lattice.sizes), dtype=np.uint8)
    start = 0
    for size, quota in zip(lattice.sizes, keep, strict=True):
        order = start + random.permutation(size)
        kept[order[:quota]] = 1
        if 0 < quota < size:
            chosen.append(order[:quota])
            vacant.append(order[quota:])
        start += size
    return chosen, vacant, kept


def _swap_energies(
    chosen: Sequence[NDArray[np.int64]],
    vacant: Sequence[NDArray[np.int64]],
    field: NDArray[np.float64],
    pair: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Energy changes of all swaps of a kept and a vacant site."""
    changes = [
        field[into] - field[out][:, None] - pair[np.ix_(out, into)]
        for out, into in zip(chosen, vacant, strict=True)
    ]
    return np.concatenate([change.ravel() for change in changes])


def _ranked(lattice: Sublattices, energy: EwaldEnergy, lowest: Lowest) -> RankedClasses:
    """Content of a heap, sorted."""
    kept = lowest.kept[: lowest.size[0]]
    symmetries = np.empty(len(kept), dtype=np.int64)
    canonicalise(kept, operations(lattice), symmetries)
    energies = energy.energies(kept.view(bool))
    columns = [1 - column for column in kept.T[::-1]]
    order = np.lexsort([*columns, energies.round(_EQUAL_DIGITS)])
    classes = PatternClasses(kept[order].view(bool), lattice.n_operations // symmetries[order])
    return RankedClasses(classes, energies[order])
