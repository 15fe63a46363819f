"""Annealing of species swaps towards target correlations.

The error is ``Q = sum_f |Gamma_f - target_f|`` over all cluster functions (van de Walle et al.,
Calphad 42, 13 (2013), without its bonus for perfect matches). For every site and species
the kernel keeps what the clusters around the site would add to each correlation; a swap is then
judged by adding four rows and correcting the clusters that hold both sites, and only accepted
swaps update the rows.

Correlations are summed as 64-bit integers in units of 2**-36. Sums are therefore exact: they do
not drift, and their order does not matter to the result.

Temperatures are in units of the mean change of Q by a random swap; from 0.2 to 0.05 the share of
swaps accepted falls from several per cent to a few per thousand, for cells of 12 to 200 sites.

numba keeps compiled kernels beside this file, or where that is read-only under the user's cache
directory (``NUMBA_CACHE_DIR`` overrides both). If nothing is writable, every process compiles
them anew, which takes several seconds. Kernels take `Functions` and `Incidence` as plain tuples:
a cached kernel would look for their classes under the name that this module had when it was
compiled.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from monty.json import MSONable
from numba import njit
from numpy.typing import NDArray

from .cluster_functions import CellClusters

#: Temperatures at which a cycle starts and ends, in mean changes of Q by a random swap.
HOT, COLD = 0.2, 0.05
#: Random swaps from which that mean is taken.
TRIAL_SWAPS = 500

_UNIT = 2.0**36
_CORNERS = 3
_FOREVER_HOT = 1e30


class Functions(NamedTuple):
    """Cluster functions of all orbits as integers.

    Attributes
    ----------
    values
        Values of every orbit one after the other, ``[decoration, function]`` within an orbit.
    starts
        Where the values of an orbit start, shape (n_orbits,).
    strides
        Step to the next species number of a corner, shape (n_orbits, 3).
    first, counts
        First function of an orbit in a correlation vector, and how many there are; both of
        shape (n_orbits,).
    """

    values: NDArray[np.int64]
    starts: NDArray[np.int64]
    strides: NDArray[np.int64]
    first: NDArray[np.int64]
    counts: NDArray[np.int64]


class Incidence(NamedTuple):
    """Clusters of the sites that swap.

    Sites are numbered anew: those that swap first, sublattice after sublattice, then the others,
    and last a dummy of species number 0 that fills the corners of points and pairs.

    Attributes
    ----------
    rows
        Orbit and three corners of the clusters of site 0, then of site 1, …; shape (n_rows, 4).
    starts
        First row of every site that swaps, shape (n_sites + 1,).
    shared, shared_starts
        Rows of site i that hold site j as well, and where they start for pair i * n_sites + j.
    low, high
        Site i swaps with the sites from ``low[i]`` to before ``high[i]``, shape (n_sites,).
    """

    rows: NDArray[np.int32]
    starts: NDArray[np.int64]
    shared: NDArray[np.int32]
    shared_starts: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


def _kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with numba; keep the result on disk where there is a place for it."""
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # nothing is writable
        return njit(nogil=True, error_model="numpy")(function)


@njit(forceinline=True, error_model="numpy")
def _decoration(corners: Any, strides: Any, numbers: Any, i: Any, j: Any) -> Any:
    """Offset of a decoration without sites i and j, and what one species more there adds."""
    offset, step_i, step_j = 0, 0, 0
    for corner in range(3):
        site, stride = corners[1 + corner], strides[corner]
        if site == i:
            step_i += stride
        elif site == j:
            step_j += stride
        else:
            offset += numbers[site] * stride
    return offset, step_i, step_j


@_kernel
def _fill_fields(functions: Any, incidence: Any, numbers: Any, fields: Any) -> None:
    """Sum what the clusters of every site add to the correlations, for each species there."""
    values, value_starts, strides, first, counts = functions
    rows, starts, _, _, _, _ = incidence
    for i in range(len(fields)):
        for row in range(starts[i], starts[i + 1]):
            orbit = rows[row, 0]
            offset, step, _ = _decoration(rows[row], strides[orbit], numbers, i, -1)
            for species in range(fields.shape[1]):
                at = value_starts[orbit] + offset + species * step
                for f in range(counts[orbit]):
                    fields[i, species, first[orbit] + f] += values[at + f]


@_kernel
def _set_species(
    functions: Any, incidence: Any, numbers: Any, fields: Any, i: Any, new: Any
) -> None:
    """Change the species of site i and the fields of the sites around it."""
    values, value_starts, strides, first, counts = functions
    rows, starts, _, _, _, _ = incidence
    for row in range(starts[i], starts[i + 1]):
        orbit = rows[row, 0]
        for corner in range(3):
            j = rows[row, 1 + corner]
            again = False  # an image of j has been here
            for earlier in range(corner):
                again |= rows[row, 1 + earlier] == j
            if j == i or j >= len(fields) or again:
                continue
            offset, step_i, step_j = _decoration(rows[row], strides[orbit], numbers, i, j)
            for species in range(fields.shape[1]):
                at = value_starts[orbit] + offset + species * step_j
                before, after = at + numbers[i] * step_i, at + new * step_i
                for f in range(counts[orbit]):
                    fields[j, species, first[orbit] + f] += values[after + f] - values[before + f]
    numbers[i] = new


@_kernel
def _swapped_sums(
    functions: Any,
    incidence: Any,
    numbers: Any,
    fields: Any,
    sums: Any,
    i: Any,
    j: Any,
    trial: Any,
) -> None:
    """Write the sums after a swap of sites i and j to `trial`."""
    values, value_starts, strides, first, counts = functions
    rows, _, shared, shared_starts, _, _ = incidence
    a, b = numbers[i], numbers[j]
    for f in range(len(sums)):
        trial[f] = sums[f] + fields[i, b, f] - fields[i, a, f] + fields[j, a, f] - fields[j, b, f]
    # each field takes the other site as it was: right the clusters that hold both
    pair = i * len(fields) + j
    for k in range(shared_starts[pair], shared_starts[pair + 1]):
        row = shared[k]
        orbit = rows[row, 0]
        offset, step_i, step_j = _decoration(rows[row], strides[orbit], numbers, i, j)
        offset += value_starts[orbit]
        ba, bb = offset + b * step_i + a * step_j, offset + b * step_i + b * step_j
        aa, ab = offset + a * step_i + a * step_j, offset + a * step_i + b * step_j
        for f in range(counts[orbit]):
            trial[first[orbit] + f] += (
                values[ba + f] - values[bb + f] - values[aa + f] + values[ab + f]
            )


@_kernel
def _anneal(
    functions: Any,
    incidence: Any,
    numbers: Any,
    best: Any,
    best_error: Any,
    sums: Any,
    target: Any,
    n_species: Any,
    hot: Any,
    cold: Any,
    n_steps: Any,
    random: Any,
) -> Any:
    """Try swaps while the temperature falls; change `numbers`, `best` and `sums` in place.

    Parameters
    ----------
    functions, incidence
        `Functions` and `Incidence` as plain tuples.
    numbers, best
        Species numbers now and at the lowest error so far, shape (n_all_sites + 1,).
    best_error
        Error of `best`.
    sums, target
        Correlations now and those to reach, shape (n_functions,).
    n_species
        Largest number of species on a site.
    hot, cold
        Temperatures at the start and at the end.
    n_steps
        Swaps to try.
    random
        ``numpy.random.Generator``.

    Returns
    -------
    total_change
        Sum over all swaps tried of the absolute change of the error.
    """
    _, _, _, _, low, high = incidence
    n_sites = len(low)
    fields = np.zeros((n_sites, n_species, len(sums)), dtype=np.int64)
    _fill_fields(functions, incidence, numbers, fields)
    trial = np.empty_like(sums)
    error = np.abs(sums - target).sum()
    if error < best_error:
        best_error = error
        best[:] = numbers
    total_change = 0.0
    for step in range(n_steps):
        i = int(random.random() * n_sites)
        j = i
        while numbers[j] == numbers[i]:
            j = low[i] + int(random.random() * (high[i] - low[i]))
        _swapped_sums(functions, incidence, numbers, fields, sums, i, j, trial)
        change = -error
        for f in range(len(sums)):
            change += abs(trial[f] - target[f])
        total_change += abs(change)
        if change > 0:
            temperature = hot * (cold / hot) ** (step / n_steps)
            if random.random() >= np.exp(-change / temperature):
                continue
        of_i, of_j = numbers[j], numbers[i]
        _set_species(functions, incidence, numbers, fields, i, of_i)
        _set_species(functions, incidence, numbers, fields, j, of_j)
        sums[:] = trial
        error += change
        if error < best_error:
            best_error = error
            best[:] = numbers
    return total_change


@dataclass(frozen=True)
class SwapState(MSONable):
    """Where an annealing stands. Plain numbers, so that it can be stored as JSON.

    Attributes
    ----------
    seed
        Seeds of the run; cycle k draws from ``numpy.random.default_rng([*seed, k])``.
    steps_per_cycle
        Swaps tried per cycle.
    n_cycles
        Cycles done.
    numbers, best
        Species numbers of all sites of the cell now, and at the lowest error so far.
    swap_cost
        Mean absolute change of Q by a random swap, the unit of temperature.
    """

    seed: tuple[int, ...]
    steps_per_cycle: int
    n_cycles: int
    numbers: tuple[int, ...]
    best: tuple[int, ...]
    swap_cost: float

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild from :meth:`as_dict`."""
        return cls(
            seed=tuple(data["seed"]),
            steps_per_cycle=data["steps_per_cycle"],
            n_cycles=data["n_cycles"],
            numbers=tuple(data["numbers"]),
            best=tuple(data["best"]),
            swap_cost=data["swap_cost"],
        )


@dataclass(frozen=True, eq=False)
class SwapAnnealing:
    """Swaps inside the sublattices of one cell that lead its correlations to a target.

    A run consists of cycles. Each heats and cools, starts where the last one ended, and has random
    numbers of its own; a run of m and another of n cycles therefore give what one of m + n gives.

    Attributes
    ----------
    clusters
        Clusters of the cell.
    sublattices
        Sites that swap with each other, for each sublattice; all of one may hold the same species.
    target
        Correlations to reach, shape (n_functions,).
    """

    clusters: CellClusters
    sublattices: tuple[tuple[int, ...], ...]
    target: NDArray[np.float64]

    def start(
        self, numbers: NDArray[np.int64], *, seed: tuple[int, ...], steps_per_cycle: int
    ) -> SwapState:
        """State before the first cycle: a random permutation of every sublattice.

        Parameters
        ----------
        numbers
            Species numbers of all sites, shape (n_sites,); sublattices keep their composition,
            other sites their species.
        seed
            Seeds of the random numbers.
        steps_per_cycle
            Swaps tried per cycle.

        Raises
        ------
        ValueError
            If a sublattice holds one species only, so that there is nothing to swap, or for less
            than one step.
        """
        if steps_per_cycle < 1:
            raise ValueError(f"a cycle has at least one step, got {steps_per_cycle}")
        random = np.random.default_rng(list(seed))
        shuffled = numbers.copy()
        for sublattice in self.sublattices:
            sites = list(sublattice)
            if len(set(numbers[sites].tolist())) < 2:
                raise ValueError("a sublattice of one species has nothing to swap; leave it out")
            shuffled[sites] = random.permutation(shuffled[sites])
        placed = tuple(shuffled.tolist())
        state = SwapState(seed, steps_per_cycle, 0, placed, placed, swap_cost=1.0)
        mixed, swap_cost = self._anneal(state, _FOREVER_HOT, _FOREVER_HOT, TRIAL_SWAPS, random)
        return replace(mixed, swap_cost=max(swap_cost, 1e-9))

    def run(self, state: SwapState, n_cycles: int) -> SwapState:
        """Continue a run by some cycles."""
        for _ in range(n_cycles):
            random = np.random.default_rng([*state.seed, state.n_cycles])
            state, _ = self._anneal(state, HOT, COLD, state.steps_per_cycle, random)
            state = replace(state, n_cycles=state.n_cycles + 1)
        return state

    def error(self, numbers: tuple[int, ...]) -> float:
        """Q of an arrangement."""
        correlations = self.clusters.correlations(np.array(numbers))
        return float(np.abs(correlations - self.target).sum())

    def _anneal(
        self, state: SwapState, hot: float, cold: float, n_steps: int, random: np.random.Generator
    ) -> tuple[SwapState, float]:
        """Try swaps; also return their mean absolute change of Q."""
        unit = _UNIT * self.clusters.n_cells
        target = np.rint(self.target * unit).astype(np.int64)
        numbers, best = self._renumbered(state.numbers), self._renumbered(state.best)
        total_change = _anneal(
            tuple(self._functions),
            tuple(self._incidence),
            numbers,
            best,
            int(np.abs(self._sums(state.best) - target).sum()),
            self._sums(state.numbers),
            target,
            max(len(allowed) for allowed in self.clusters.basis.species),
            hot * state.swap_cost * unit,
            cold * state.swap_cost * unit,
            n_steps,
            random,
        )
        after = replace(
            state,
            numbers=tuple(numbers[self._place].tolist()),
            best=tuple(best[self._place].tolist()),
        )
        return after, total_change / n_steps / unit

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """Sites as the kernels number them, without the dummy."""
        swapping = [site for sublattice in self.sublattices for site in sublattice]
        fixed = np.setdiff1d(np.arange(len(self.clusters.parent_sites)), swapping)
        return np.concatenate([np.array(swapping, dtype=np.int64), fixed])

    @cached_property
    def _place(self) -> NDArray[np.int64]:
        """The number that the kernels give to every site."""
        return np.argsort(self._order)

    def _renumbered(self, numbers: tuple[int, ...]) -> NDArray[np.int64]:
        """Species numbers as the kernels take them, with the dummy."""
        return np.append(np.array(numbers, dtype=np.int64)[self._order], 0)

    def _sums(self, numbers: tuple[int, ...]) -> NDArray[np.int64]:
        """Correlations times the number of cells in integer units."""
        array = np.array(numbers, dtype=np.int64)
        return np.concatenate(
            [
                values[
                    np.ravel_multi_index(tuple(array[clusters].T), orbit.functions.shape[1:])
                ].sum(axis=0)
                for orbit, clusters, values in zip(
                    self.clusters.basis.orbits, self.clusters.clusters, self._values, strict=True
                )
            ]
        )

    @cached_property
    def _values(self) -> list[NDArray[np.int64]]:
        """Integer values of every orbit, ``[decoration, function]``."""
        return [
            np.rint(
                np.moveaxis(orbit.functions, 0, -1).reshape(-1, len(orbit.functions))
                * (_UNIT / orbit.multiplicity)
            ).astype(np.int64)
            for orbit in self.clusters.basis.orbits
        ]

    @cached_property
    def _functions(self) -> Functions:
        orbits = self.clusters.basis.orbits
        sizes = np.array([values.size for values in self._values])
        counts = np.array([len(orbit.functions) for orbit in orbits])
        return Functions(
            values=np.concatenate([values.ravel() for values in self._values]),
            starts=np.cumsum(sizes) - sizes,
            strides=np.array([_strides(orbit.functions.shape) for orbit in orbits]),
            first=np.cumsum(counts) - counts,
            counts=counts,
        )

    @cached_property
    def _incidence(self) -> Incidence:
        sizes = np.array([len(sublattice) for sublattice in self.sublattices])
        ends = np.cumsum(sizes)
        n_sites = int(ends[-1])
        blocks = []
        for orbit, clusters in enumerate(self.clusters.clusters):
            block = np.full((len(clusters), 1 + _CORNERS), len(self._order))
            block[:, 0] = orbit
            block[:, 1 : 1 + clusters.shape[1]] = self._place[clusters]
            blocks.append(block)
        rows = np.concatenate(blocks)
        owner, index = _holders(rows[:, 1:], n_sites)
        rows = rows[index]
        other, index = _holders(rows[:, 1:], n_sites)
        pair = owner[index] * n_sites + other
        order = np.argsort(pair, kind="stable")
        order = order[owner[index[order]] != other[order]]
        return Incidence(
            rows=rows.astype(np.int32),
            starts=np.searchsorted(owner, np.arange(n_sites + 1)),
            shared=index[order].astype(np.int32),
            shared_starts=np.searchsorted(pair[order], np.arange(n_sites**2 + 1)),
            low=np.repeat(ends - sizes, sizes),
            high=np.repeat(ends, sizes),
        )


def _strides(shape: tuple[int, ...]) -> list[int]:
    """Steps in ``[decoration, function]`` values from one species number to the next."""
    n_functions, *n_species = shape
    steps = [n_functions * int(np.prod(n_species[k + 1 :])) for k in range(len(n_species))]
    return steps + [0] * (_CORNERS - len(steps))


def _holders(
    corners: NDArray[np.int64], n_sites: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sites below `n_sites` with the rows that hold them, once each, sorted by site."""
    sites, rows = [], []
    for corner in range(_CORNERS):
        site = corners[:, corner]
        first_time = (corners[:, :corner] != site[:, None]).all(axis=1)
        held = np.flatnonzero(first_time & (site < n_sites))
        sites.append(site[held])
        rows.append(held)
    order = np.lexsort((np.concatenate(rows), np.concatenate(sites)))
    return np.concatenate(sites)[order], np.concatenate(rows)[order]
