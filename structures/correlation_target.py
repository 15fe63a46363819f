"""Target correlations of disordered cells: random, short-range ordered, partly ordered."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from .cluster_functions import EMPTY
from .disordered_cell import DisorderedClusters
from .frame import Frame
from .occupation import Occupation, empty_frame

#: Largest difference between a distance asked for and that of a shell, Å.
DISTANCE_TOLERANCE = 0.05

_MAX_SWEEPS = 5000
_TOLERANCE = 1e-9
#: At the very bounds of what is possible the fit converges slowly; this is near enough.
_LOOSE_TOLERANCE = 1e-4


class CorrelationTarget(ABC):
    """What the correlations of a disordered cell should be."""

    @abstractmethod
    def correlations(self, cell: DisorderedClusters) -> NDArray[np.float64]:
        """Target correlations of a cell, shape (n_functions,).

        Raises
        ------
        ValueError
            If the cell cannot have them.
        """


@dataclass(frozen=True)
class RandomOrder(CorrelationTarget):
    """Every site independent of the others: products of sublattice averages."""

    def correlations(self, cell: DisorderedClusters) -> NDArray[np.float64]:
        """Correlations of the infinite random crystal with the cell's concentrations.

        Sites outside the sublattices count with the species that they hold.
        """
        return cell.mean_correlations(lambda _, groups: _independent(cell, groups))


@dataclass(frozen=True)
class PairOrder:
    """A Warren-Cowley parameter of one pair of species in one shell.

    ``alpha = 1 - P(a, b) / (c_a c_b)``, with P the share of the shell's pairs that are (a, b):
    0 is random, negative means that the pair is preferred.

    Attributes
    ----------
    species
        The two species, None for an empty site.
    distance
        Distance of the shell, Å.
    alpha
        The parameter.
    sublattices
        Sublattices of the first and the second species.
    """

    species: tuple[str | None, str | None]
    distance: float
    alpha: float
    sublattices: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        first, second = (symbol or "empty" for symbol in self.species)
        return f"alpha {self.alpha:g} of {first}-{second} at {self.distance:.2f} Å"


@dataclass(frozen=True)
class ShortRangeOrder(CorrelationTarget):
    """Given Warren-Cowley parameters, and otherwise as random as these allow.

    Shells without a parameter are random. The rest follows by iterative proportional fitting,
    which maximises the entropy: the other species of a shell from its given parameters and the
    concentrations, triplets from their three pairs.

    Attributes
    ----------
    pairs
        The parameters.
    """

    pairs: tuple[PairOrder, ...]

    def correlations(self, cell: DisorderedClusters) -> NDArray[np.float64]:
        """Correlations with the parameters given.

        Raises
        ------
        ValueError
            If there is no such shell, sublattice or species, or if a parameter is outside its
            bounds or cannot be had together with the others.
        """
        fits = {
            shell: _fit_pair(cell, shell, given) for shell, given in _by_shell(self, cell).items()
        }

        def probabilities(orbit: int, groups: tuple[int, ...]) -> NDArray[np.float64]:
            independent = _independent(cell, groups)
            fitted: dict[tuple[int, ...], NDArray[np.float64]] = {}
            for (a, b), pair_orbit in cell.crystal.basis.edges(orbit).items():
                first, second = groups[a], groups[b]
                fit = fits.get((pair_orbit, min(first, second), max(first, second)))
                if fit is not None:
                    fitted[a, b] = fit if first <= second else fit.T
            if not fitted:
                return independent
            for a, b in cell.crystal.basis.edges(orbit):
                fitted.setdefault((a, b), _independent(cell, (groups[a], groups[b])))
            result = _most_random(independent, fitted)
            if result is None:
                edges = ", ".join(f"{d:.2f}" for d in cell.crystal.basis.orbits[orbit].distances)
                raise ValueError(
                    f"impossible short-range order: no decoration of the triangles with edges "
                    f"{edges} Å has all of {', '.join(map(str, self.pairs))}; ask for less order"
                )
            return result

        return cell.mean_correlations(probabilities)


@dataclass(frozen=True)
class PartialOrder(CorrelationTarget):
    """Correlations between those of a random crystal and those of an ordered one.

    Attributes
    ----------
    parent
        The ordered crystal, in any cell of the same prototype.
    order
        0 for random, 1 for the correlations of the parent, linear between.

    Raises
    ------
    ValueError
        If `order` is not between 0 and 1.
    """

    parent: Occupation
    order: float

    def __post_init__(self) -> None:
        if not 0 <= self.order <= 1:
            raise ValueError(f"order goes from 0 (random) to 1 (the parent), got {self.order}")

    def correlations(self, cell: DisorderedClusters) -> NDArray[np.float64]:
        """``(1 - order) * random + order * parent``.

        Raises
        ------
        ValueError
            If the parent has another prototype, species or concentrations than the cell.
        """
        random = RandomOrder().correlations(cell)
        clusters = cell.crystal.clusters(self.parent.frame)
        ordered = clusters.correlations(clusters.species_numbers(cell.crystal.species(self.parent)))
        for orbit, part in zip(cell.crystal.basis.orbits, cell.crystal.basis.slices, strict=True):
            if orbit.order == 1 and np.abs(random - ordered)[part].max() > 1e-6:
                raise ValueError(
                    "the ordered parent has other concentrations than the disordered cell, which "
                    "swaps cannot change: give both the same composition, layer by layer"
                )
        return (1 - self.order) * random + self.order * ordered


@dataclass(frozen=True)
class NeighbourOrder(CorrelationTarget):
    """Given Warren-Cowley parameters by neighbour shell, for the species of one sublattice.

    The distances of the shells are those of the cell, so that one target serves cells of any
    size. See :class:`ShortRangeOrder`.

    Attributes
    ----------
    alphas
        Parameters of a pair of species, the nearest shell first, ``{"Mn-Ni": (-0.2, 0.1)}``;
        shells beyond the last one given are random.

    Raises
    ------
    ValueError
        If there is no pair, a pair is not two species, or it has no parameter.
    """

    alphas: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        if not self.alphas:
            raise ValueError("a short-range order needs a pair of species, such as Mn-Ni")
        for pair, alphas in self.alphas.items():
            if len(pair.split("-")) != 2 or not all(pair.split("-")):
                raise ValueError(f"{pair!r} is no pair of species; write two symbols, as Mn-Ni")
            if not alphas:
                raise ValueError(f"{pair} has no parameter; give one for every shell")

    def correlations(self, cell: DisorderedClusters) -> NDArray[np.float64]:
        """Correlations with the parameters given.

        Raises
        ------
        ValueError
            If the cell has fewer shells than parameters, or cannot have them.
        """
        distances: list[float] = []
        for distance in sorted(_distances_between(cell, 0, 0).values()):
            if not distances or distance > distances[-1] + DISTANCE_TOLERANCE:
                distances.append(distance)
        pairs = []
        for pair, alphas in self.alphas.items():
            if len(alphas) > len(distances):
                raise ValueError(
                    f"{pair} has {len(alphas)} parameters, but there are {len(distances)} shells "
                    f"up to the pair cutoff: {', '.join(f'{d:.2f}' for d in distances)} Å"
                )
            first, second = pair.split("-")
            pairs += [
                PairOrder((first, second), distance, alpha)
                for distance, alpha in zip(distances, alphas, strict=False)
            ]
        return ShortRangeOrder(tuple(pairs)).correlations(cell)


@dataclass(frozen=True)
class OrderTowards(CorrelationTarget):
    """Between random and an ordered crystal that was built or read on a frame of its own.

    The parent's lengths do not count, and of its ions only those of the species that the
    sublattices hold: Li on a superlattice that stays in the cell is no part of the order.
    See :class:`PartialOrder`.

    Attributes
    ----------
    parent
        The ordered crystal, of the stacking and the concentrations of the cell.
    order
        0 for random, 1 for the correlations of the parent, linear between.

    Raises
    ------
    ValueError
        If `order` is not between 0 and 1.
    """

    parent: Occupation
    order: float

    def __post_init__(self) -> None:
        PartialOrder(self.parent, self.order)  # refuses what is no share

    def correlations(self, cell: DisorderedClusters) -> NDArray[np.float64]:
        """``(1 - order) * random + order * parent``.

        Raises
        ------
        ValueError
            If the parent has another frame or other concentrations than the cell.
        """
        frame = cell.cell.frame
        if self.parent.frame.label != frame.label:
            raise ValueError(
                f"the ordered parent is {self.parent.frame.label}, the cell {frame.label}; give "
                "both the same frame"
            )
        placed = {symbol for part in cell.cell.sublattices for symbol in part.counts}
        kinds = {frame.kinds[site] for part in cell.cell.sublattices for site in part.sites}
        empty = empty_frame(Frame.supercell(frame.prototype, np.array(self.parent.frame.matrix)))
        parent = empty.with_species(
            {
                int(site): species if (species := self.parent.species[site]) in placed else None
                for site in empty.frame.sites(*kinds)
            }
        )
        return PartialOrder(parent, self.order).correlations(cell)


def _independent(cell: DisorderedClusters, groups: tuple[int, ...]) -> NDArray[np.float64]:
    """Probability of every decoration of independent sites, one axis per site."""
    return reduce(np.multiply.outer, [cell.shares[group] for group in groups])


def _by_shell(
    order: ShortRangeOrder, cell: DisorderedClusters
) -> dict[tuple[int | None, int, int], list[PairOrder]]:
    """Parameters by pair orbit and groups, the lower group first."""
    shells: dict[tuple[int | None, int, int], list[PairOrder]] = {}
    for pair in order.pairs:
        for group, symbol in zip(pair.sublattices, pair.species, strict=True):
            if not 0 <= group < len(cell.sublattices):
                raise ValueError(
                    f"{pair}: there is no sublattice {group}, only 0 to {len(cell.sublattices) - 1}"
                )
            held = cell.cell.sublattices[group].counts
            if symbol not in held:
                where = f" on sublattice {group}" if len(cell.sublattices) > 1 else ""
                raise ValueError(
                    f"{pair}: {symbol or 'empty'} is not among what is ordered{where}; there are "
                    f"{', '.join(s or 'empty' for s in held)}"
                )
        low, high = sorted(pair.sublattices)
        distances = _distances_between(cell, low, high)
        found = [k for k, d in distances.items() if abs(d - pair.distance) < DISTANCE_TOLERANCE]
        if not found:
            raise ValueError(
                f"{pair}: no such shell up to the pair cutoff; there are "
                f"{', '.join(f'{d:.2f}' for d in sorted(set(distances.values())))} Å"
            )
        if pair.sublattices != (low, high):
            pair = PairOrder(pair.species[::-1], pair.distance, pair.alpha, (low, high))
        for k in found:
            shells.setdefault((k, low, high), []).append(pair)
    return shells


def _distances_between(cell: DisorderedClusters, low: int, high: int) -> dict[int, float]:
    """Distance of every pair orbit that joins sites of two groups, the lower group first, Å."""
    return {
        k: round(orbit.distances[0], 3)
        for k, orbit in enumerate(cell.crystal.basis.orbits)
        if orbit.order == 2
        and (np.sort(cell.groups[cell.clusters.clusters[k]], axis=1) == (low, high))
        .all(axis=1)
        .any()
    }


def _fit_pair(
    cell: DisorderedClusters, shell: tuple[int | None, int, int], given: list[PairOrder]
) -> NDArray[np.float64]:
    """Probabilities of the species on the two sites of a shell, shape (n_species, n_species)."""
    _, low, high = shell
    random = _independent(cell, (low, high))
    wanted = np.full(random.shape, np.nan)
    for pair in given:
        a, b = (
            cell.symbols(group).index(symbol or EMPTY)
            for group, symbol in zip((low, high), pair.species, strict=True)
        )
        first, second = cell.shares[low][a], cell.shares[high][b]
        _check_bounds(pair, first, second)
        value = (1 - pair.alpha) * first * second
        for entry in {(a, b), (b, a)} if low == high else {(a, b)}:
            if not np.isnan(wanted[entry]) and abs(wanted[entry] - value) > _TOLERANCE:
                raise ValueError(f"{pair} contradicts another value for the same pair")
            wanted[entry] = value
    fixed = np.where(np.isnan(wanted), 0.0, wanted)
    rest = _most_random(
        np.where(np.isnan(wanted), random, 0.0),
        {
            (0,): cell.shares[low] - fixed.sum(axis=1),
            (1,): cell.shares[high] - fixed.sum(axis=0),
        },
    )
    if rest is None:
        raise ValueError(
            f"impossible short-range order: {', '.join(map(str, given))} cannot be had together "
            "at these concentrations, where the pairs of a species add up to its share"
        )
    return fixed + rest


def _check_bounds(pair: PairOrder, first: float, second: float) -> None:
    """Refuse a parameter that would need fewer than no or more than all pairs of a species."""
    most, least = min(first, second), max(0.0, first + second - 1)
    low, high = 1 - most / (first * second), 1 - least / (first * second)
    if not low - _TOLERANCE <= pair.alpha <= high + _TOLERANCE:
        raise ValueError(
            f"impossible short-range order: {pair}; at shares of {first:.3f} and {second:.3f} it "
            f"lies between {low:.3f} and {high:.3f}"
        )


def _most_random(
    start: NDArray[np.float64], marginals: Mapping[tuple[int, ...], NDArray[np.float64]]
) -> NDArray[np.float64] | None:
    """Probabilities nearest to `start` in relative entropy that have given marginals.

    Iterative proportional fitting (Deming and Stephan, Ann. Math. Stat. 11, 427 (1940)); zeros of
    `start` stay. None if there are none such.
    """
    if any(wanted.min() < -_TOLERANCE for wanted in marginals.values()):
        return None
    fitted, worst = start, np.inf
    for _ in range(_MAX_SWEEPS):
        worst = 0.0
        for axes, wanted in marginals.items():
            others = tuple(set(range(start.ndim)) - set(axes))
            found = fitted.sum(axis=others)
            worst = max(worst, float(np.abs(found - wanted).max()))
            ratio = np.divide(
                np.maximum(wanted, 0), found, out=np.zeros_like(found), where=found > 0
            )
            fitted = fitted * np.expand_dims(ratio, others)
        if worst < _TOLERANCE:
            break
    return fitted if worst < _LOOSE_TOLERANCE else None
