"""Special quasirandom structures, and structures with a given short-range order.

Species are placed so that the correlations of pairs and triplets come as near as a cell allows to
those of a target: a random crystal (Zunger et al., Phys. Rev. Lett. 65, 353 (1990)), one with
given Warren-Cowley parameters, or one between random and ordered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations_with_replacement, product
from typing import Any, Self

import numpy as np
from monty.json import MSONable
from numpy.typing import NDArray

from .correlation_target import CorrelationTarget, RandomOrder
from .disordered_cell import (
    DisorderedCell,
    DisorderedClusters,
    FrameBasis,
    Sublattice,
    frame_basis,
)
from .frame import Frame, SiteKind
from .occupation import Occupation, empty_frame
from .swap_annealing import SwapAnnealing, SwapState

#: Default cutoffs, Å. In the TM layers of O3: three shells of a layer and three to the next ones,
#: and triangles with edges up to second neighbours of a layer.
PAIR_CUTOFF, TRIPLET_CUTOFF = 7.0, 5.1
RANDOM = RandomOrder()


@dataclass(frozen=True)
class OrbitError:
    """How far the correlations of one orbit are from the target.

    Attributes
    ----------
    kinds
        Kind of site of every corner of the cluster: one, two or three.
    distances
        Distances between the corners, ascending, Å.
    multiplicity
        Clusters per primitive cell.
    correlations, target
        Correlation of every cluster function, and its target.
    """

    kinds: tuple[SiteKind, ...]
    distances: tuple[float, ...]
    multiplicity: int
    correlations: tuple[float, ...]
    target: tuple[float, ...]

    @property
    def error(self) -> float:
        """Sum of the absolute errors; all orbits together give the objective."""
        return sum(abs(a - b) for a, b in zip(self.correlations, self.target, strict=True))


@dataclass(frozen=True)
class ShellOrder:
    """Warren-Cowley parameters of one neighbour shell.

    Attributes
    ----------
    sublattices
        Sublattices of the first and the second species.
    distance
        Distance of the shell, Å.
    alpha
        Parameter by species pair, ``{"Mn-Ni": alpha}``; 0 is random, negative means that the pair
        is preferred.
    """

    sublattices: tuple[int, int]
    distance: float
    alpha: Mapping[str, float]


@dataclass(frozen=True)
class ArrangedCell:
    """The best arrangement of a disordered cell that a search has found.

    Attributes
    ----------
    index
        Which of the cells of the search it is.
    occupation
        Species on the sites of the frame.
    objective
        Q, the sum over all cluster functions of the absolute error of their correlation; 0 is
        perfect.
    orbits
        The errors by orbit of points, pairs and triplets.
    shells
        Short-range order inside and between the sublattices.
    """

    index: int
    occupation: Occupation
    objective: float
    orbits: tuple[OrbitError, ...]
    shells: tuple[ShellOrder, ...]


@dataclass(frozen=True)
class SearchState(MSONable):
    """Where a search stands; it can be stored as JSON and continued.

    Attributes
    ----------
    cells
        State of every cell.
    """

    cells: tuple[SwapState, ...]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild from :meth:`as_dict`."""
        return cls(
            tuple(
                cell if isinstance(cell, SwapState) else SwapState.from_dict(cell)
                for cell in data["cells"]
            )
        )


@dataclass(frozen=True, eq=False)
class CorrelationSearch:
    """Search for arrangements whose correlations come near a target, in one or several cells.

    Attributes
    ----------
    cells
        Disordered cells of one prototype, of any size and shape. See
        :func:`~lrlo.structures.supercell_shapes.isotropic_supercells`.
    target
        Correlations to reach.
    pair_cutoff, triplet_cutoff
        Longest distance between two sites of a cluster, Å; None as `triplet_cutoff` for pairs
        only.

    Raises
    ------
    ValueError
        If there is no cell, the cells are of different prototypes, a cutoff is not positive, or
        the target cannot be had.

    Examples
    --------
    Ni and Mn at random in the TM layer of a small O3 cell:

    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.stacking import Stacking
    >>> frame = layered_frame(Stacking.O3, np.diag([2, 2, 2]))
    >>> layer = Sublattice(tuple(frame.sites(SiteKind.TM_OCT).tolist()), {"Ni": 4, "Mn": 4})
    >>> cell = DisorderedCell(empty_frame(frame), (layer,))
    >>> search = CorrelationSearch((cell,), pair_cutoff=5.0, triplet_cutoff=None)
    >>> state = search.run(search.start(seed=1, steps_per_cycle=2000), n_cycles=2)
    >>> best = search.result(state)[0]
    >>> sorted(best.occupation.count(SiteKind.TM_OCT).items())
    [('Mn', 4), ('Ni', 4)]
    """

    cells: tuple[DisorderedCell, ...]
    target: CorrelationTarget = RANDOM
    pair_cutoff: float = PAIR_CUTOFF
    triplet_cutoff: float | None = TRIPLET_CUTOFF

    def __post_init__(self) -> None:
        if not self.cells:
            raise ValueError("a search needs a cell, got none")
        _ = self._annealings  # finds what is wrong with the target before any time is spent

    @cached_property
    def crystal(self) -> FrameBasis:
        """Cluster basis of the prototype."""
        return frame_basis(
            self.cells, pair_cutoff=self.pair_cutoff, triplet_cutoff=self.triplet_cutoff
        )

    @cached_property
    def _disordered(self) -> tuple[DisorderedClusters, ...]:
        return tuple(DisorderedClusters(cell, self.crystal) for cell in self.cells)

    @cached_property
    def _annealings(self) -> tuple[SwapAnnealing, ...]:
        return tuple(
            SwapAnnealing(cell.clusters, cell.sublattices, self.target.correlations(cell))
            for cell in self._disordered
        )

    def target_order(self) -> dict[str, tuple[float, ...]]:
        """Warren-Cowley parameters of the target by pair and shell, in the first sublattice."""
        cell = self._disordered[0]
        shells = _target_shells(cell, self.target.correlations(cell))
        return {pair: tuple(shell[pair] for shell in shells) for pair in (shells or ({},))[0]}

    def start(self, *, seed: int, steps_per_cycle: int = 20_000) -> SearchState:
        """State of a search with random arrangements.

        Parameters
        ----------
        seed
            Seed of the random numbers; each cell has its own.
        steps_per_cycle
            Swaps tried while a cell cools once.
        """
        return SearchState(
            tuple(
                annealing.start(cell.numbers, seed=(seed, k), steps_per_cycle=steps_per_cycle)
                for k, (annealing, cell) in enumerate(
                    zip(self._annealings, self._disordered, strict=True)
                )
            )
        )

    def run(self, state: SearchState, n_cycles: int = 10) -> SearchState:
        """Continue a search by some cycles for each cell.

        Two runs one after the other give what one of both lengths together gives.

        Raises
        ------
        ValueError
            If the state is that of another search.
        """
        self._check(state)
        return SearchState(
            tuple(
                annealing.run(cell, n_cycles)
                for annealing, cell in zip(self._annealings, state.cells, strict=True)
            )
        )

    def result(self, state: SearchState) -> tuple[ArrangedCell, ...]:
        """Best arrangement of every cell, lowest objective first; of equals the first given.

        Raises
        ------
        ValueError
            If the state is that of another search.
        """
        self._check(state)
        arranged = [
            _arranged(k, cell, annealing, swaps.best)
            for k, (cell, annealing, swaps) in enumerate(
                zip(self._disordered, self._annealings, state.cells, strict=True)
            )
        ]
        return tuple(sorted(arranged, key=lambda cell: (round(cell.objective, 9), cell.index)))

    def _check(self, state: SearchState) -> None:
        if len(state.cells) != len(self.cells) or not all(
            _fits(cell, swaps) for cell, swaps in zip(self._disordered, state.cells, strict=True)
        ):
            raise ValueError(
                "the state belongs to a search with other cells or counts; start a new one"
            )


def _fits(cell: DisorderedClusters, swaps: SwapState) -> bool:
    """Whether a state arranges what the sublattices of a cell hold."""
    return len(swaps.numbers) == len(cell.numbers) and all(
        sorted(swaps.numbers[place] for place in part) == sorted(cell.numbers[list(part)].tolist())
        for part in cell.sublattices
    )


def _arranged(
    index: int, cell: DisorderedClusters, annealing: SwapAnnealing, numbers: tuple[int, ...]
) -> ArrangedCell:
    correlations = cell.clusters.correlations(np.array(numbers))
    kinds = [cell.cell.frame.kinds[site] for site in cell.crystal.sites(cell.cell.frame)]
    orbits = [
        OrbitError(
            kinds=tuple(kinds[place] for place in clusters[0]),
            distances=orbit.distances,
            multiplicity=orbit.multiplicity,
            correlations=tuple(correlations[part].tolist()),
            target=tuple(annealing.target[part].tolist()),
        )
        for orbit, clusters, part in zip(
            cell.crystal.basis.orbits,
            cell.clusters.clusters,
            cell.crystal.basis.slices,
            strict=True,
        )
    ]
    return ArrangedCell(
        index=index,
        occupation=cell.occupation(numbers),
        objective=sum(orbit.error for orbit in orbits),
        orbits=tuple(orbits),
        shells=_shells(cell, np.array(numbers)),
    )


def _shells(cell: DisorderedClusters, numbers: NDArray[np.int64]) -> tuple[ShellOrder, ...]:
    """Warren-Cowley parameters of all shells, by sublattices and distance."""
    by_distance: dict[float, list[NDArray[np.int64]]] = {}
    for orbit, clusters in zip(cell.crystal.basis.orbits, cell.clusters.clusters, strict=True):
        if orbit.order == 2:
            pairs = by_distance.setdefault(round(orbit.distances[0], 3), [])
            pairs += [clusters, clusters[:, ::-1]]
    shells = []
    for low, high in combinations_with_replacement(range(len(cell.sublattices)), 2):
        for distance, pairs in sorted(by_distance.items()):
            both = np.concatenate(pairs)
            inside = both[(cell.groups[both] == (low, high)).all(axis=1)]
            if len(inside):
                shells.append(ShellOrder((low, high), distance, _alphas(cell, inside, numbers)))
    return tuple(shells)


def _target_shells(
    cell: DisorderedClusters, correlations: NDArray[np.float64]
) -> list[dict[str, float]]:
    """Warren-Cowley parameters that target correlations mean in the first sublattice, by distance.

    The functions of a pair orbit and the shares of the species on its ends determine how often
    every pair is there.
    """
    share = cell.shares[0]
    symbols = cell.symbols(0)
    held = [i for i in np.argsort(symbols).tolist() if share[i]]
    counts: dict[float, NDArray[np.float64]] = {}
    inside: dict[float, int] = {}
    basis = cell.crystal.basis
    for orbit, part, clusters in zip(
        basis.orbits, basis.slices, cell.clusters.clusters, strict=True
    ):
        ends = [cell.crystal.basis.species[p] for p in cell.clusters.parent_sites[clusters[0]]]
        if orbit.order != 2 or any(species != symbols for species in ends):
            continue
        n = len(symbols)
        ones = np.eye(n)
        first, second = (
            np.bincount(cell.numbers[clusters[:, k]], minlength=n) / len(clusters) for k in (0, 1)
        )
        equations = np.concatenate(
            [orbit.functions.reshape(-1, n * n), np.repeat(ones, n, 1), np.tile(ones, (1, n))]
        )
        found = np.linalg.lstsq(equations, np.concatenate([correlations[part], first, second]))[0]
        pairs = found.reshape(n, n) * len(clusters)
        distance = round(orbit.distances[0], 3)
        counts[distance] = counts.get(distance, 0) + (pairs + pairs.T) / 2
        inside[distance] = inside.get(distance, 0) + int(
            (cell.groups[clusters] == 0).all(axis=1).sum()
        )
    return [
        {
            f"{symbols[i]}-{symbols[j]}": float(
                1 - counts[distance][i, j] / (inside[distance] * share[i] * share[j])
            )
            for a, i in enumerate(held)
            for j in held[a:]
        }
        for distance in sorted(counts)
        if inside[distance]
    ]


def _alphas(
    cell: DisorderedClusters, pairs: NDArray[np.int64], numbers: NDArray[np.int64]
) -> Mapping[str, float]:
    """Warren-Cowley parameters of ordered pairs of sites of two sublattices."""
    low, high = (int(group) for group in cell.groups[pairs[0]])
    first, second = cell.shares[low], cell.shares[high]
    found = np.zeros((len(first), len(second)))
    np.add.at(found, tuple(numbers[pairs].T), 1 / len(pairs))
    held = [
        sorted((symbol, number) for number, symbol in enumerate(cell.symbols(g)) if share[number])
        for g, share in ((low, first), (high, second))
    ]
    return {
        f"{a}-{b}": float(1 - found[i, j] / (first[i] * second[j]))
        for (a, i), (b, j) in product(*held)
        if low != high or a <= b
    }


@dataclass(frozen=True)
class QuasirandomOrder:
    """Species placed on some sites of a frame, at random unless another target was given.

    Attributes
    ----------
    species
        Species on every site, in the order of the sites given.
    objective
        Q, the sum over the cluster functions of pairs and triplets of the absolute error of
        their correlation; 0 is a perfect SQS, or the target to the last shell.
    short_range_order
        Warren-Cowley parameter by species pair and shell, ``{"Mn-Ni": (alpha_1, alpha_2, …)}``;
        0 is random, negative means the pair is preferred.
    shell_distances
        Distance of every shell, Å.
    target_order
        The parameters asked for, as `short_range_order`.
    """

    species: tuple[str, ...]
    objective: float
    short_range_order: Mapping[str, tuple[float, ...]]
    shell_distances: tuple[float, ...]
    target_order: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def anneal_quasirandom(
    frame: Frame,
    sites: Sequence[int],
    counts: Mapping[str, int],
    *,
    seed: int,
    target: CorrelationTarget = RANDOM,
    cutoff: float = PAIR_CUTOFF,
    triplet_cutoff: float | None = TRIPLET_CUTOFF,
    n_steps: int = 50_000,
) -> QuasirandomOrder:
    """Place species on some sites of a frame so that their pairs and triplets look random.

    With another target they look like that.

    The other sites of the same kind count as one more species that stays where it is, so that
    the species are spread evenly around it, too. With fewer than two species there is nothing to
    place; objective and short-range order are then empty.

    Parameters
    ----------
    frame
        Frame that the sites belong to.
    sites
        Sites to fill.
    counts
        Ions of every species; they add up to the number of sites.
    seed
        Seed of the random numbers.
    target
        Correlations to reach.
    cutoff, triplet_cutoff
        Longest distance between two sites of a pair and of a triplet, Å; None for no triplets.
    n_steps
        Swaps tried.

    Raises
    ------
    ValueError
        If the counts do not add up to the number of sites, a species is no element, a cutoff is
        not positive, or the target cannot be had.

    Examples
    --------
    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.stacking import Stacking
    >>> frame = layered_frame(Stacking.O3, np.diag([2, 2, 2]))
    >>> layer = frame.sites(SiteKind.TM_OCT).tolist()
    >>> order = anneal_quasirandom(frame, layer, {"Ni": 4, "Mn": 4}, seed=1, n_steps=2000)
    >>> sorted(order.species)
    ['Mn', 'Mn', 'Mn', 'Mn', 'Ni', 'Ni', 'Ni', 'Ni']
    """
    present: dict[str | None, int] = {symbol: n for symbol, n in sorted(counts.items()) if n}
    if sum(present.values()) != len(sites):
        raise ValueError(f"{dict(counts)} does not fill {len(sites)} sites")
    if len(present) < 2:
        if target != RANDOM:
            raise ValueError(
                f"{', '.join(map(str, present)) or 'nothing'} alone has no order to choose: an "
                "order needs two species on the same sites"
            )
        return QuasirandomOrder(tuple(s for s in counts for _ in range(counts[s])), 0.0, {}, ())
    layer = Sublattice(tuple(int(site) for site in sites), present)
    search = CorrelationSearch(
        (DisorderedCell(empty_frame(frame), (layer,)),),
        target,
        pair_cutoff=cutoff,
        triplet_cutoff=triplet_cutoff,
    )
    n_cycles = max(1, round(n_steps / 20_000))
    state = search.start(seed=seed, steps_per_cycle=max(1, n_steps // n_cycles))
    best = search.result(search.run(state, n_cycles))[0]
    return QuasirandomOrder(
        species=tuple(str(best.occupation.species[site]) for site in layer.sites),
        objective=best.objective,
        short_range_order={
            pair: tuple(shell.alpha[pair] for shell in best.shells)
            for pair in (best.shells[0].alpha if best.shells else ())
        },
        shell_distances=tuple(shell.distance for shell in best.shells),
        target_order=search.target_order(),
    )
