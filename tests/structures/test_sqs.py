import json
from itertools import combinations

import numpy as np
import pytest
from ase import Atoms
from icet import ClusterSpace

from lrlo.structures.correlation_target import (
    NeighbourOrder,
    OrderTowards,
    PairOrder,
    PartialOrder,
    RandomOrder,
    ShortRangeOrder,
)
from lrlo.structures.disordered_cell import DisorderedCell, Sublattice
from lrlo.structures.frame import Frame, SiteKind, layered_frame
from lrlo.structures.layered_prototype import LayeredPrototype
from lrlo.structures.occupation import empty_frame
from lrlo.structures.rock_salt import CUBIC_CELL, rock_salt_frame
from lrlo.structures.sqs import CorrelationSearch, SearchState, anneal_quasirandom
from lrlo.structures.stacking import Stacking
from lrlo.structures.supercell_shapes import isotropic_supercells
from lrlo.structures.superlattice import honeycomb_centres

FRAME = layered_frame(Stacking.O3, np.diag([3, 3, 2]))
SITES = [int(site) for site in FRAME.sites(SiteKind.TM_OCT)]


def _layer(frame: Frame, counts: dict, kind: SiteKind = SiteKind.TM_OCT) -> Sublattice:
    return Sublattice(tuple(frame.sites(kind).tolist()), counts)


def _cell(frame: Frame, counts: dict) -> DisorderedCell:
    return DisorderedCell(empty_frame(frame), (_layer(frame, counts),))


# -- one call for one layer ---------------------------------------------------------------------


def test_short_range_order_agrees_with_icet() -> None:
    """Pair correlations of a binary layer against icet's cluster vector."""
    counts = {"Ni": 9, "Mn": 9}
    order = anneal_quasirandom(FRAME, SITES, counts, seed=3, cutoff=5.0, n_steps=50)
    primitive = layered_frame(Stacking.O3, np.eye(3, dtype=int))
    site = primitive.sites(SiteKind.TM_OCT)
    cell = Atoms(
        "Ni", scaled_positions=primitive.frac_coords[site], cell=primitive.lattice, pbc=True
    )
    space = ClusterSpace(cell, cutoffs=[5.0], chemical_symbols=["Mn", "Ni"])
    atoms = Atoms(
        list(order.species), scaled_positions=FRAME.frac_coords[SITES], cell=FRAME.lattice, pbc=True
    )
    pairs = {
        round(2 * record["radius"], 3): value
        for record, value in zip(space.as_list, space.get_cluster_vector(atoms), strict=True)
        if record["order"] == 2
    }
    assert set(order.shell_distances) == set(pairs)
    for distance, alpha in zip(
        order.shell_distances, order.short_range_order["Mn-Ni"], strict=True
    ):
        # For a 50:50 binary with spins +-1 the correlation is the Warren-Cowley parameter.
        assert pairs[distance] == pytest.approx(alpha, abs=1e-9)


def test_annealing_finds_the_optimum_of_a_small_layer() -> None:
    """Three Ni among eight Mn on part of a layer, against all 56 arrangements."""
    sites = SITES[:8]
    found = anneal_quasirandom(FRAME, sites, {"Ni": 3, "Mn": 5}, seed=0, n_steps=2000)
    search = CorrelationSearch(
        (DisorderedCell(empty_frame(FRAME), (Sublattice(tuple(sites), {"Ni": 3, "Mn": 5}),)),)
    )
    annealing, cell = search._annealings[0], search._disordered[0]
    part = np.array(cell.sublattices[0])
    nickel, manganese = (cell.symbols(0).index(symbol) for symbol in ("Ni", "Mn"))
    errors = []
    for chosen in combinations(range(8), 3):
        numbers = cell.numbers.copy()
        numbers[part] = manganese
        numbers[part[list(chosen)]] = nickel
        errors.append(annealing.error(tuple(numbers.tolist())))
    assert found.objective == pytest.approx(min(errors), abs=1e-9)
    assert max(errors) > min(errors) + 0.1


def test_counts_are_kept_and_must_fill_the_sites() -> None:
    order = anneal_quasirandom(FRAME, SITES, {"Ni": 5, "Mn": 12, "Co": 1}, seed=1, n_steps=500)
    assert sorted(order.species) == ["Co"] + ["Mn"] * 12 + ["Ni"] * 5
    with pytest.raises(ValueError, match="does not fill"):
        anneal_quasirandom(FRAME, SITES, {"Ni": 5}, seed=1)
    with pytest.raises(ValueError, match="unknown species"):
        anneal_quasirandom(FRAME, SITES, {"Ni": 5, "Zz": 13}, seed=1)
    with pytest.raises(ValueError, match="above 0 Å"):
        anneal_quasirandom(FRAME, SITES, {"Ni": 5, "Mn": 13}, seed=1, cutoff=0)


def test_one_species_needs_no_search() -> None:
    order = anneal_quasirandom(FRAME, SITES, {"Mn": 18, "Ni": 0}, seed=1)
    assert order.species == ("Mn",) * 18
    assert order.objective == 0
    assert anneal_quasirandom(FRAME, [], {}, seed=1).species == ()


def test_the_seed_decides() -> None:
    counts = {"Ni": 5, "Mn": 12, "Co": 1}
    first, again, other = (
        anneal_quasirandom(FRAME, SITES, counts, seed=seed, n_steps=200) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.species != other.species


def test_species_spread_around_sites_that_are_left_out() -> None:
    """Two Ni and the rest Mn beside a honeycomb: Ni has as many left-out neighbours as Mn."""
    centres = set(honeycomb_centres(FRAME).tolist()[:3])
    rest = [site for site in SITES if site not in centres]
    order = anneal_quasirandom(FRAME, rest, {"Ni": 6, "Mn": 9}, seed=0, n_steps=20_000)
    best = dict(zip(rest, order.species, strict=True))
    near = {"Ni": 0, "Mn": 0}
    for centre in centres:
        difference = FRAME.frac_coords[rest][:, None] - FRAME.frac_coords[centre]
        images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)
        distance = np.linalg.norm((difference + images) @ FRAME.lattice, axis=-1)
        for site, image in zip(*np.nonzero(distance < 1.1 * FRAME.a), strict=True):
            near[best[rest[site]]] += 1
            assert image >= 0
    expected = 6 / 15 * sum(near.values())
    assert abs(near["Ni"] - expected) <= 1.5


# -- searches -----------------------------------------------------------------------------------


def test_a_cell_that_can_be_perfect_is() -> None:
    """Pairs of a 50:50 layer up to second neighbours: an arrangement without error exists."""
    frame = layered_frame(Stacking.O3, np.diag([4, 4, 2]))
    search = CorrelationSearch(
        (_cell(frame, {"Ni": 16, "Mn": 16}),), pair_cutoff=5.1, triplet_cutoff=None
    )
    best = search.result(search.run(search.start(seed=0), 5))[0]
    assert best.objective == pytest.approx(0, abs=1e-9)
    for shell in best.shells:
        assert shell.alpha == pytest.approx({"Mn-Mn": 0, "Mn-Ni": 0, "Ni-Ni": 0}, abs=1e-9)


def test_order_reaches_the_parent() -> None:
    """At full order the search returns the honeycomb, up to symmetry."""
    matrix = np.array([[2, 1, 0], [1, 2, 0], [0, 0, 1]]) * np.array([[2], [1], [1]])
    frame = layered_frame(Stacking.O3, matrix)
    tm = frame.sites(SiteKind.TM_OCT).tolist()
    parent = empty_frame(frame).with_species(
        dict.fromkeys(tm, "Mn") | dict.fromkeys(honeycomb_centres(frame).tolist(), "Li")
    )
    search = CorrelationSearch((_cell(frame, {"Li": 2, "Mn": 4}),), PartialOrder(parent, 1.0))
    best = search.result(search.run(search.start(seed=1, steps_per_cycle=2000), 2))[0]
    assert best.objective == pytest.approx(0, abs=1e-9)
    first = best.shells[0]
    assert first.distance == pytest.approx(frame.a, abs=1e-3)
    assert first.alpha["Li-Li"] == pytest.approx(1)  # no two Li are neighbours


@pytest.mark.parametrize("alpha", [-0.25, 0.25])
def test_short_range_order_is_reached(alpha: float) -> None:
    frame = layered_frame(Stacking.O3, np.array([[1, 5, 0], [-1, 1, 2], [4, 2, 2]]))
    search = CorrelationSearch(
        (_cell(frame, {"Ni": 24, "Mn": 24}),),
        ShortRangeOrder((PairOrder(("Ni", "Mn"), frame.a, alpha),)),
    )
    best = search.result(search.run(search.start(seed=0), 5))[0]
    by_distance = {shell.distance: shell.alpha["Mn-Ni"] for shell in best.shells}
    assert by_distance[2.86] == pytest.approx(alpha, abs=0.03)
    assert all(abs(a) < 0.1 for distance, a in by_distance.items() if distance > 3)


def test_species_shared_by_layers_are_at_random_in_each() -> None:
    """Ni and vacancies in both layers, with their own concentrations."""
    frame = layered_frame(Stacking.O3, np.diag([3, 4, 2]))
    cell = DisorderedCell(
        empty_frame(frame),
        (
            _layer(frame, {"Mn": 18, "Ni": 6}),
            _layer(frame, {"Li": 16, "Ni": 2, None: 6}, SiteKind.LI_OCT),
        ),
    )
    search = CorrelationSearch((cell,), pair_cutoff=5.1, triplet_cutoff=3.0)
    state = search.run(search.start(seed=0), 3)
    best = search.result(state)[0]
    assert best.occupation.count(SiteKind.TM_OCT) == {"Mn": 18, "Ni": 6}
    assert best.occupation.count(SiteKind.LI_OCT) == {"Li": 16, "Ni": 2}
    assert {shell.sublattices for shell in best.shells} == {(0, 0), (0, 1), (1, 1)}
    between = [shell for shell in best.shells if shell.sublattices == (0, 1)]
    assert set(between[0].alpha) == {f"{a}-{b}" for a in ("Mn", "Ni") for b in ("Li", "Ni", "X")}
    start = search.result(search.start(seed=0))[0]
    assert best.objective < start.objective


def test_errors_by_orbit_add_up_to_the_objective() -> None:
    search = CorrelationSearch((_cell(FRAME, {"Li": 3, "Ni": 5, "Mn": 10}),))
    best = search.result(search.start(seed=0))[0]
    assert sum(orbit.error for orbit in best.orbits) == pytest.approx(best.objective)
    points = [orbit for orbit in best.orbits if not orbit.distances]
    assert sum(orbit.error for orbit in points) == pytest.approx(0, abs=1e-12)
    assert {len(orbit.kinds) for orbit in best.orbits} == {1, 2, 3}
    assert all(set(orbit.kinds) == {SiteKind.TM_OCT} for orbit in best.orbits)
    # icet's cluster vector, computed apart from the search
    primitive = layered_frame(Stacking.O3, np.eye(3, dtype=int))
    space = ClusterSpace(
        Atoms("Ni", cell=primitive.lattice, pbc=True), [7.0, 5.1], ["Li", "Mn", "Ni"]
    )
    atoms = Atoms(
        [best.occupation.species[site] for site in SITES],
        scaled_positions=FRAME.frac_coords[SITES] - FRAME.frac_coords[SITES[0]],
        cell=FRAME.lattice,
        pbc=True,
    )
    own = np.concatenate([orbit.correlations for orbit in best.orbits])
    assert np.sort(own) == pytest.approx(np.sort(space.get_cluster_vector(atoms)[1:]), abs=1e-9)


def test_several_cells_are_compared() -> None:
    cells = tuple(
        _cell(layered_frame(Stacking.O3, shape.matrix), {"Li": 2, "Ni": 3, "Mn": 7})
        for shape in isotropic_supercells(LayeredPrototype(Stacking.O3), 12, limit=4)
    )
    search = CorrelationSearch(cells)
    results = search.result(search.run(search.start(seed=0, steps_per_cycle=5000), 2))
    assert sorted(result.index for result in results) == [0, 1, 2, 3]
    objectives = [result.objective for result in results]
    assert objectives == sorted(objectives)
    assert objectives[0] < objectives[-1]
    for result in results:
        assert result.occupation.frame == cells[result.index].frame


def test_a_stored_search_goes_on_as_if_never_stopped() -> None:
    cells = tuple(
        _cell(layered_frame(Stacking.O3, np.diag(matrix)), {"Li": 2, "Ni": 3, "Mn": 7})
        for matrix in ([3, 2, 2], [3, 4, 1])
    )
    search = CorrelationSearch(cells)
    start = search.start(seed=4, steps_per_cycle=300)
    stored = SearchState.from_dict(json.loads(json.dumps(search.run(start, 1).as_dict())))
    again = CorrelationSearch(cells)
    assert again.run(stored, 2) == search.run(start, 3)


def test_a_state_of_another_search_is_refused() -> None:
    state = CorrelationSearch((_cell(FRAME, {"Ni": 9, "Mn": 9}),)).start(seed=0)
    other = CorrelationSearch((_cell(FRAME, {"Ni": 8, "Mn": 10}),))
    with pytest.raises(ValueError, match="other cells or counts"):
        other.run(state)
    with pytest.raises(ValueError, match="other cells or counts"):
        CorrelationSearch((_cell(FRAME, {"Ni": 9, "Mn": 9}),) * 2).result(state)


def test_rock_salt_has_one_cation_sublattice() -> None:
    frame = rock_salt_frame(2 * CUBIC_CELL)
    cell = DisorderedCell(
        empty_frame(frame), (_layer(frame, {"Li": 19, "Mn": 13}, SiteKind.CATION_OCT),)
    )
    search = CorrelationSearch((cell,), RandomOrder(), pair_cutoff=5.2, triplet_cutoff=4.3)
    start = search.start(seed=0)
    best = search.result(search.run(start, 2))[0]
    assert best.objective < search.result(start)[0].objective
    assert {orbit.kinds[0] for orbit in best.orbits} == {SiteKind.CATION_OCT}


def test_a_search_needs_a_cell_and_a_target_that_it_can_have() -> None:
    with pytest.raises(ValueError, match="needs a cell"):
        CorrelationSearch(())
    impossible = ShortRangeOrder((PairOrder(("Ni", "Mn"), 2.86, -0.9),))
    with pytest.raises(ValueError, match="impossible short-range order"):
        CorrelationSearch((_cell(FRAME, {"Ni": 9, "Mn": 9}),), impossible)
    with pytest.raises(ValueError, match="above 0 Å"):
        CorrelationSearch((_cell(FRAME, {"Ni": 9, "Mn": 9}),), pair_cutoff=-1)


def test_parameters_asked_for_are_those_of_the_target() -> None:
    """Of a parent its own, times the order; of given shells the ones given."""
    frame = layered_frame(Stacking.O3, np.array([[2, 1, 0], [1, 2, 0], [0, 0, 1]]))
    centres = honeycomb_centres(frame)
    layer = frame.sites(SiteKind.TM_OCT).tolist()
    parent = empty_frame(frame).with_species(
        {site: "Li" if site in centres else "Mn" for site in layer}
    )
    counts = {"Li": len(centres), "Mn": len(layer) - len(centres)}
    order = anneal_quasirandom(
        frame, layer, counts, seed=0, n_steps=200, target=OrderTowards(parent, 0.5)
    )
    # A honeycomb centre has six Mn and no Li first, no Mn among its six second neighbours.
    assert order.target_order["Li-Mn"][:2] == pytest.approx((-0.25, 0.5))
    given = NeighbourOrder({"Li-Mn": (-0.1, 0.2)})
    order = anneal_quasirandom(frame, layer, counts, seed=0, n_steps=200, target=given)
    assert order.target_order["Li-Mn"] == pytest.approx((-0.1, 0.2, *[0.0] * 4), abs=1e-6)
