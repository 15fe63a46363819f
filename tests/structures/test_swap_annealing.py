import json
from itertools import permutations

import numpy as np
import pytest

from lrlo.structures import swap_annealing
from lrlo.structures.cluster_functions import CellClusters, cell_clusters, cluster_basis
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.swap_annealing import SwapAnnealing, SwapState

TWO_LAYERS = {
    SiteKind.ANION: ["O"],
    SiteKind.TM_OCT: ["Li", "Mn", "Ni"],
    SiteKind.LI_OCT: ["Li", "Ni", "X"],
}


def _problem(
    matrix: list[list[int]], tm_layer: list[str], li_layer: list[str]
) -> tuple[SwapAnnealing, np.ndarray]:
    """Two sublattices that share species, with the random target of each."""
    frame = layered_frame(Stacking.O3, np.array(matrix))
    sites = frame.sites(*TWO_LAYERS)
    basis = cluster_basis(
        frame.lattice,
        frame.frac_coords[sites],
        [TWO_LAYERS[frame.kinds[site]] for site in sites],
        pair_cutoff=5.1,
        triplet_cutoff=4.2,
    )
    clusters = cell_clusters(basis, frame.lattice, frame.frac_coords[sites])
    parts = tuple(
        tuple(np.flatnonzero(np.isin(sites, frame.sites(kind))).tolist())
        for kind in (SiteKind.TM_OCT, SiteKind.LI_OCT)
    )
    symbols = ["O"] * len(sites)
    for part, species in zip(parts, (tm_layer, li_layer), strict=True):
        for site, symbol in zip(part, species, strict=True):
            symbols[site] = symbol
    target = np.zeros(len(basis))
    return SwapAnnealing(clusters, parts, target), clusters.species_numbers(symbols)


SMALL = [[2, 0, 0], [0, 2, 0], [0, 0, 1]]
SLAB = [[1, 0, 0], [0, 1, 0], [0, 0, 4]]  # every site is its own neighbour
SKEWED = [[2, 1, 0], [0, 2, 1], [1, 0, 2]]


def _has_self_images(clusters: CellClusters) -> bool:
    return any((c[:, :1] == c[:, 1:]).any() for c in clusters.clusters)


@pytest.mark.parametrize("matrix", [SMALL, SLAB])
def test_finds_the_lowest_of_all_arrangements(matrix: list[list[int]]) -> None:
    annealing, numbers = _problem(matrix, ["Li", "Mn", "Mn", "Ni"], ["Li", "Li", "Ni", "X"])
    assert _has_self_images(annealing.clusters)
    tm, li = (list(part) for part in annealing.sublattices)
    errors = []
    for first in set(permutations(numbers[tm].tolist())):
        for second in set(permutations(numbers[li].tolist())):
            numbers[tm], numbers[li] = first, second
            errors.append(annealing.error(tuple(numbers.tolist())))
    assert min(errors) < max(errors) - 0.1
    state = annealing.run(annealing.start(numbers, seed=(3,), steps_per_cycle=500), 2)
    assert annealing.error(state.best) == pytest.approx(min(errors), abs=1e-12)


@pytest.mark.parametrize("matrix", [SMALL, SLAB, SKEWED])
def test_sums_kept_by_the_kernel_are_those_of_the_arrangement(matrix: list[list[int]]) -> None:
    """Integers: equal exactly, however often a swap was accepted."""
    size = round(np.linalg.det(matrix))
    annealing, numbers = _problem(
        matrix,
        ["Li", "Ni"] + ["Mn"] * (size - 2),
        ["Ni", "X"] + ["Li"] * (size - 2),
    )
    placed = annealing._renumbered(tuple(numbers.tolist()))
    sums = annealing._sums(tuple(numbers.tolist()))
    before = sums.copy()
    swap_annealing._anneal(
        tuple(annealing._functions),
        tuple(annealing._incidence),
        placed,
        placed.copy(),
        int(np.abs(sums).sum()),
        sums,
        np.zeros_like(sums),
        3,
        1e30,
        1e30,
        1000,
        np.random.default_rng(0),
    )
    assert not np.array_equal(sums, before)
    after = tuple(placed[annealing._place].tolist())
    assert np.array_equal(sums, annealing._sums(after))
    # and these are the correlations
    unit = 2.0**36 * annealing.clusters.n_cells
    assert sums / unit == pytest.approx(annealing.clusters.correlations(np.array(after)), abs=1e-9)


def test_sublattices_keep_what_they_hold() -> None:
    annealing, numbers = _problem(SKEWED, ["Li", "Ni"] + ["Mn"] * 7, ["Ni", "X", "X"] + ["Li"] * 6)
    state = annealing.run(annealing.start(numbers, seed=(0,), steps_per_cycle=300), 2)
    for found in (state.numbers, state.best):
        for part in annealing.sublattices:
            assert sorted(np.array(found)[list(part)]) == sorted(numbers[list(part)])
        rest = np.setdiff1d(np.arange(len(numbers)), np.concatenate(annealing.sublattices))
        assert np.array_equal(np.array(found)[rest], numbers[rest])


def test_two_runs_give_what_one_long_run_gives() -> None:
    annealing, numbers = _problem(
        SKEWED, ["Li", "Ni", "Ni"] + ["Mn"] * 6, ["Ni", "X", "X"] + ["Li"] * 6
    )
    start = annealing.start(numbers, seed=(5,), steps_per_cycle=100)
    stored = json.loads(json.dumps(annealing.run(start, 2).as_dict()))
    assert annealing.run(SwapState.from_dict(stored), 3) == annealing.run(start, 5)
    other = annealing.start(numbers, seed=(6,), steps_per_cycle=100)
    assert annealing.run(other, 5).numbers != annealing.run(start, 5).numbers


def test_error_never_rises_with_more_cycles() -> None:
    annealing, numbers = _problem(
        SKEWED, ["Li", "Ni", "Ni"] + ["Mn"] * 6, ["Ni", "X", "X"] + ["Li"] * 6
    )
    state = annealing.start(numbers, seed=(1,), steps_per_cycle=20)
    errors = []
    for _ in range(20):
        errors.append(annealing.error(state.best))
        assert errors[-1] <= annealing.error(state.numbers) + 1e-9
        state = annealing.run(state, 1)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_a_sublattice_of_one_species_is_refused() -> None:
    annealing, numbers = _problem(SMALL, ["Mn"] * 4, ["Li", "Li", "Ni", "X"])
    with pytest.raises(ValueError, match="nothing to swap"):
        annealing.start(numbers, seed=(0,), steps_per_cycle=10)


def test_a_cycle_has_a_step() -> None:
    annealing, numbers = _problem(SMALL, ["Li", "Mn", "Mn", "Ni"], ["Li", "Li", "Ni", "X"])
    with pytest.raises(ValueError, match="at least one step"):
        annealing.start(numbers, seed=(0,), steps_per_cycle=0)
