import numpy as np
import pytest
from icet import ClusterSpace
from icet.tools.structure_generation import _get_sqs_cluster_vector

from lrlo.structures.correlation_target import (
    CorrelationTarget,
    NeighbourOrder,
    OrderTowards,
    PairOrder,
    PartialOrder,
    RandomOrder,
    ShortRangeOrder,
)
from lrlo.structures.disordered_cell import (
    DisorderedCell,
    DisorderedClusters,
    Sublattice,
    frame_basis,
)
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.superlattice import honeycomb_centres

A = 2.86  # first neighbours of a layer, Å


def _clusters(
    *counts: dict, matrix: list[int] | None = None, pairs: float = 5.1, triplets: float | None = 3.0
) -> DisorderedClusters:
    """TM layer and, where a second composition is given, Li layer."""
    frame = layered_frame(Stacking.O3, np.diag(matrix or [3, 2, 2]))
    kinds = (SiteKind.TM_OCT, SiteKind.LI_OCT)
    parts = tuple(
        Sublattice(tuple(frame.sites(kind).tolist()), held)
        for kind, held in zip(kinds, counts, strict=False)
    )
    cell = DisorderedCell(empty_frame(frame), parts)
    return DisorderedClusters(cell, frame_basis([cell], pair_cutoff=pairs, triplet_cutoff=triplets))


def _mean_over_arrangements(cell: DisorderedClusters, n: int) -> np.ndarray:
    random = np.random.default_rng(0)
    total = np.zeros(len(cell.crystal.basis))
    for _ in range(n):
        numbers = cell.numbers.copy()
        for part in cell.sublattices:
            numbers[list(part)] = random.permutation(numbers[list(part)])
        total += cell.clusters.correlations(numbers)
    return total / n


def _by_distance(cell: DisorderedClusters, values: np.ndarray) -> dict[tuple, np.ndarray]:
    """Correlations by kinds and distances."""
    found = {}
    for k, orbit in enumerate(cell.crystal.basis.orbits):
        sites = cell.crystal.sites(cell.cell.frame)[cell.clusters.clusters[k][0]]
        kinds = tuple(sorted(str(cell.cell.frame.kinds[site]) for site in sites))
        key = (kinds, tuple(round(d, 2) for d in orbit.distances))
        found[key] = values[cell.crystal.basis.slices[k]]
    return found


def test_random_target_with_a_species_on_two_sublattices_by_hand() -> None:
    """Li counts -1 and Ni +1; a quarter of the TM layer is Ni, three quarters of the Li layer."""
    cell = _clusters({"Li": 9, "Ni": 3}, {"Li": 3, "Ni": 9})
    found = _by_distance(cell, RandomOrder().correlations(cell))
    assert found[("tm_oct",), ()] == pytest.approx([-0.5])
    assert found[("li_oct",), ()] == pytest.approx([0.5])
    assert found[("tm_oct", "tm_oct"), (A,)] == pytest.approx([0.25])
    assert found[("li_oct", "li_oct"), (A,)] == pytest.approx([0.25])
    between = [v for (kinds, _), v in found.items() if kinds == ("li_oct", "tm_oct")]
    assert between
    for values in between:
        assert values == pytest.approx([-0.25])


def test_random_target_is_the_mean_of_random_arrangements() -> None:
    """Also where icet's is not: vacancies and Ni in both layers."""
    cell = _clusters(
        {"Mn": 60, "Ni": 12, None: 36}, {"Li": 54, "Ni": 30, None: 24}, matrix=[6, 6, 3]
    )
    target = RandomOrder().correlations(cell)
    # in a finite cell a pair of random sites is not quite independent: order 1 / 108
    assert _mean_over_arrangements(cell, 200) == pytest.approx(target, abs=0.02)

    frame = layered_frame(Stacking.O3, np.eye(3, dtype=int))
    kinds = {
        SiteKind.ANION: ["O"],
        SiteKind.TM_OCT: ["Mn", "Ni", "X"],
        SiteKind.LI_OCT: ["Li", "Ni", "X"],
    }
    sites = frame.sites(*kinds)
    atoms = empty_frame(frame).with_species(dict.fromkeys(sites.tolist(), "O")).to_structure(sites)
    space = ClusterSpace(
        atoms.to_ase_atoms(), [5.1, 3.0], [kinds[frame.kinds[site]] for site in sites]
    )
    layers = [("Mn", "Ni", "X"), ("Li", "Ni", "X")]
    shares = [
        {"Mn": 60 / 108, "Ni": 12 / 108, "X": 36 / 108},
        {"Li": 54 / 108, "Ni": 30 / 108, "X": 24 / 108},
    ]
    concentrations = {
        sublattice.symbol: shares[
            layers.index(tuple(sorted(sublattice.chemical_symbols, key="MnLiNiX".find)))
        ]
        for sublattice in space.get_sublattices(space.primitive_structure)
        if len(sublattice.chemical_symbols) > 1
    }
    theirs = _get_sqs_cluster_vector(space, concentrations)[1:]
    assert np.abs(np.sort(theirs) - np.sort(target)).max() > 0.05


def test_random_target_agrees_with_icet_for_one_sublattice() -> None:
    counts = {"Li": 2, "Mn": 7, "Ni": 3}
    cell = _clusters(counts, pairs=6.0, triplets=5.1)
    frame = layered_frame(Stacking.O3, np.eye(3, dtype=int))
    site = frame.sites(SiteKind.TM_OCT)
    layer = empty_frame(frame).with_species({int(site[0]): "Mn"}).to_structure(site)
    space = ClusterSpace(layer.to_ase_atoms(), [6.0, 5.1], list(counts))
    theirs = _get_sqs_cluster_vector(space, {s: n / 12 for s, n in counts.items()})
    assert np.sort(RandomOrder().correlations(cell)) == pytest.approx(np.sort(theirs[1:]))


def test_random_target_around_fixed_sites_is_the_mean_over_the_others() -> None:
    frame = layered_frame(Stacking.O3, np.array([[6, 0, 0], [0, 6, 0], [0, 0, 3]]))
    centres = honeycomb_centres(frame).tolist()[::2]
    rest = tuple(sorted(set(frame.sites(SiteKind.TM_OCT).tolist()) - set(centres)))
    cell = DisorderedCell(
        empty_frame(frame).with_species(dict.fromkeys(centres, "Li")),
        (Sublattice(rest, {"Mn": len(rest) - 30, "Ni": 30}),),
    )
    clusters = DisorderedClusters(cell, frame_basis([cell], pair_cutoff=5.1, triplet_cutoff=3.0))
    target = RandomOrder().correlations(clusters)
    assert _mean_over_arrangements(clusters, 200) == pytest.approx(target, abs=0.02)
    # which differs from that of a layer where Li is random, too
    random = DisorderedCell(
        empty_frame(frame),
        (
            Sublattice(
                tuple(frame.sites(SiteKind.TM_OCT).tolist()),
                {"Mn": len(rest) - 30, "Ni": 30, "Li": len(centres)},
            ),
        ),
    )
    all_random = RandomOrder().correlations(
        DisorderedClusters(random, frame_basis([random], pair_cutoff=5.1, triplet_cutoff=3.0))
    )
    assert np.abs(all_random - target).max() > 0.03


HALF = {"Ni": 6, "Mn": 6}


def _order(*pairs: PairOrder) -> ShortRangeOrder:
    return ShortRangeOrder(pairs)


@pytest.mark.parametrize("alpha", [-0.3, 0.0, 0.5, 1.0])
def test_correlation_of_an_equal_binary_is_its_warren_cowley_parameter(alpha: float) -> None:
    cell = _clusters(HALF)
    found = _by_distance(cell, _order(PairOrder(("Ni", "Mn"), A, alpha)).correlations(cell))
    assert found[("tm_oct", "tm_oct"), (A,)] == pytest.approx([alpha], abs=1e-6)
    assert found[("tm_oct", "tm_oct"), (4.95,)] == pytest.approx([0], abs=1e-6)
    # symmetric in the two species: no triplet correlation of spins
    assert found[("tm_oct",) * 3, (A, A, A)] == pytest.approx([0], abs=1e-6)


def test_no_order_is_random_order() -> None:
    cell = _clusters({"Li": 2, "Mn": 7, "Ni": 3})
    zero = _order(PairOrder(("Li", "Ni"), A, 0.0), PairOrder(("Mn", "Ni"), 4.95, 0.0))
    assert zero.correlations(cell) == pytest.approx(RandomOrder().correlations(cell), abs=1e-8)


def test_like_pairs_follow_from_unlike_ones() -> None:
    """c_a alpha_aa + c_b alpha_ab = 0 in a binary."""
    cell = _clusters({"Ni": 3, "Mn": 9})
    unlike = _order(PairOrder(("Ni", "Mn"), A, -0.2)).correlations(cell)
    like = _order(PairOrder(("Ni", "Ni"), A, 0.2 * 9 / 3)).correlations(cell)
    assert unlike == pytest.approx(like, abs=1e-6)


def test_order_between_sublattices() -> None:
    """Ni of the TM layer next to vacancies of the Li layer; either order of the pair says so."""
    cell = _clusters(HALF, {"Li": 6, None: 6}, triplets=None)
    distance = next(
        o.distances[0]
        for k, o in enumerate(cell.crystal.basis.orbits)
        if o.order == 2 and len(set(cell.groups[cell.clusters.clusters[k][0]])) == 2
    )
    forward = _order(PairOrder(("Ni", None), distance, -0.4, (0, 1))).correlations(cell)
    backward = _order(PairOrder((None, "Ni"), distance, -0.4, (1, 0))).correlations(cell)
    assert forward == pytest.approx(backward)
    found = _by_distance(cell, forward)
    # icet numbers by atomic number: the vacancy and Mn count -1, so that Ni-vacancy is unlike
    assert found[("li_oct", "tm_oct"), (round(distance, 2),)] == pytest.approx([-0.4])
    assert found[("tm_oct", "tm_oct"), (A,)] == pytest.approx([0], abs=1e-9)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (PairOrder(("Ni", "Mn"), A, 1.1), r"lies between -1\.000 and 1\.000"),
        (PairOrder(("Ni", "Mn"), A, -1.1), r"lies between -1\.000 and 1\.000"),
        (PairOrder(("Ni", "Ni"), A, -1.2), r"lies between -1\.000 and 1\.000"),
        # two of the three corners of a triangle are alike
        (PairOrder(("Ni", "Mn"), A, -0.34), "no decoration of the triangles with edges 2.86"),
        (PairOrder(("Ni", "Mn"), 3.3, -0.1), r"no such shell .* there are 2\.86, 4\.95, 5\.03 Å"),
        (PairOrder(("Ni", "Co"), A, -0.1), "Co is not among what is ordered; there are Ni, Mn"),
        (PairOrder(("Ni", "Mn"), A, -0.1, (0, 1)), "there is no sublattice 1, only 0 to 0"),
    ],
)
def test_impossible_order(pair: PairOrder, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _order(pair).correlations(_clusters(HALF))


def test_order_at_its_geometric_bound_is_possible() -> None:
    """At -1/3 every triangle of an equal binary holds both species."""
    cell = _clusters(HALF)
    found = _by_distance(cell, _order(PairOrder(("Ni", "Mn"), A, -1 / 3)).correlations(cell))
    assert found[("tm_oct", "tm_oct"), (A,)] == pytest.approx([-1 / 3], abs=1e-3)


def test_values_that_exclude_each_other() -> None:
    cell = _clusters({"Li": 4, "Mn": 4, "Ni": 4}, triplets=None)
    with pytest.raises(ValueError, match="contradicts another value"):
        _order(PairOrder(("Ni", "Mn"), A, 0.1), PairOrder(("Mn", "Ni"), A, 0.2)).correlations(cell)
    # all neighbours of Ni are Mn and all are Li
    with pytest.raises(ValueError, match="cannot be had together"):
        _order(PairOrder(("Ni", "Mn"), A, -2.0), PairOrder(("Ni", "Li"), A, -2.0)).correlations(
            cell
        )


def _honeycomb(matrix: np.ndarray, lithium: list[int] | None = None) -> Occupation:
    frame = layered_frame(Stacking.O3, matrix)
    centres = honeycomb_centres(frame).tolist() if lithium is None else lithium
    tm = frame.sites(SiteKind.TM_OCT).tolist()
    return empty_frame(frame).with_species(dict.fromkeys(tm, "Mn") | dict.fromkeys(centres, "Li"))


@pytest.mark.parametrize("order", [0.0, 0.3, 1.0])
def test_partial_order_is_linear_between_random_and_parent(order: float) -> None:
    """The parent may be given in its own smaller cell."""
    parent = _honeycomb(np.array([[2, 1, 0], [1, 2, 0], [0, 0, 1]]))
    cell = _clusters({"Li": 12, "Mn": 24}, matrix=[3, 6, 2])
    target: CorrelationTarget = PartialOrder(parent, order)
    found = _by_distance(cell, target.correlations(cell))
    random, ordered = 1 / 9, -1 / 3  # first neighbours: (1/3)**2, and two unlike pairs of three
    assert found[("tm_oct", "tm_oct"), (A,)] == pytest.approx(
        [(1 - order) * random + order * ordered]
    )


def test_bad_partial_order() -> None:
    parent = _honeycomb(np.array([[2, 1, 0], [1, 2, 0], [0, 0, 1]]))
    with pytest.raises(ValueError, match=r"from 0 \(random\) to 1"):
        PartialOrder(parent, 1.2)
    with pytest.raises(ValueError, match="other concentrations"):
        PartialOrder(parent, 0.5).correlations(_clusters({"Li": 2, "Mn": 10}))
    with pytest.raises(ValueError, match="has Li where the cell has"):
        PartialOrder(parent, 0.5).correlations(_clusters(HALF))
    o2 = layered_frame(Stacking.O2, np.diag([3, 2, 1]))
    with pytest.raises(ValueError, match="no supercell of"):
        PartialOrder(empty_frame(o2), 0.5).correlations(_clusters(HALF))


def test_neighbour_order_counts_shells_by_distance() -> None:
    """The same as the parameters at the distances of the first and second shell."""
    cell = _clusters({"Mn": 12, "Ni": 24}, matrix=[3, 6, 2])
    by_number = NeighbourOrder({"Mn-Ni": (-0.2, 0.1)}).correlations(cell)
    by_distance = _order(
        PairOrder(("Mn", "Ni"), A, -0.2), PairOrder(("Mn", "Ni"), np.sqrt(3) * A, 0.1)
    ).correlations(cell)
    assert by_number == pytest.approx(by_distance)


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ({}, "needs a pair"),
        ({"Mn": (0.1,)}, "no pair of species"),
        ({"Mn-Ni": ()}, "one for every shell"),
        ({"Mn-Ni": (0.0,) * 40}, "shells up to the pair cutoff"),
        ({"Mn-Fe": (0.1,)}, "Fe is not among"),
        ({"Mn-Ni": (-9.0,)}, "lies between"),
    ],
)
def test_bad_neighbour_order(alphas: dict[str, tuple[float, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeighbourOrder(alphas).correlations(_clusters(HALF))


def test_order_towards_a_parent_of_other_lengths() -> None:
    """Lengths of the parent do not count, nor Li that stays on its superlattice."""
    matrix = np.array([[2, 1, 0], [1, 2, 0], [0, 0, 1]])
    parent = _honeycomb(matrix)
    frame = layered_frame(Stacking.O3, matrix, a=3.0, tm_slab=2.3)
    stretched = Occupation(frame, parent.species)
    cell = _clusters({"Li": 12, "Mn": 24}, matrix=[3, 6, 2])
    found = OrderTowards(stretched, 0.5).correlations(cell)
    assert found == pytest.approx(PartialOrder(parent, 0.5).correlations(cell))
    o2 = layered_frame(Stacking.O2, np.diag([3, 2, 1]))
    with pytest.raises(ValueError, match="the ordered parent is O2, the cell O3"):
        OrderTowards(empty_frame(o2), 0.5).correlations(cell)
