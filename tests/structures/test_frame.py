import json
from collections import Counter

import numpy as np
import pytest
from monty.json import MontyDecoder, MontyEncoder
from pydantic import TypeAdapter
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from lrlo.structures.frame import (
    Frame,
    Sharing,
    SiteKind,
    layered_frame,
    lithium_layer_sites,
    primitive_lattice,
)
from lrlo.structures.occupation import empty_frame
from lrlo.structures.stacking import Stacking

#: What shares a face, and what shares an edge, with the sites of a kind, counted by hand. A face
#: of an octahedron has a tetrahedron behind it within its own layer (six of eight faces), and
#: another layer's octahedron, tetrahedron or prism behind the two faces that lie in anion planes.
#: An octahedron has twelve edges: six with octahedra of its layer, and the three of each plane
#: face with the layer beyond. Where a stacking has several rows, its sites are of several sorts.
FACES_AND_EDGES = {
    Stacking.O3: {
        "tm_oct": [({"tm_tet": 6, "li_tet": 2}, {"tm_oct": 6, "li_oct": 6})],
        "li_oct": [({"li_tet": 6, "tm_tet": 2}, {"li_oct": 6, "tm_oct": 6})],
        "tm_tet": [({"tm_oct": 3, "li_oct": 1}, {"tm_tet": 3, "li_tet": 3})],
        "li_tet": [({"li_oct": 3, "tm_oct": 1}, {"li_tet": 3, "tm_tet": 3})],
    },
    Stacking.O2: {
        "tm_oct": [
            ({"tm_tet": 6, "li_tet": 1, "li_oct": 1}, {"tm_oct": 6, "li_oct": 3, "li_tet": 3})
        ],
        "li_oct": [
            ({"li_tet": 6, "tm_tet": 1, "tm_oct": 1}, {"li_oct": 6, "tm_oct": 3, "tm_tet": 3})
        ],
        "tm_tet": [
            ({"tm_oct": 3, "li_oct": 1}, {"tm_tet": 3, "li_tet": 3}),
            ({"tm_oct": 3, "li_tet": 1}, {"tm_tet": 3, "li_oct": 3}),
        ],
        "li_tet": [
            ({"li_oct": 3, "tm_oct": 1}, {"li_tet": 3, "tm_tet": 3}),
            ({"li_oct": 3, "tm_tet": 1}, {"li_tet": 3, "tm_oct": 3}),
        ],
    },
    Stacking.O1: {
        "tm_oct": [({"tm_tet": 6, "li_oct": 2}, {"tm_oct": 6, "li_tet": 6})],
        "li_oct": [({"li_tet": 6, "tm_oct": 2}, {"li_oct": 6, "tm_tet": 6})],
        "tm_tet": [({"tm_oct": 3, "li_tet": 1}, {"tm_tet": 3, "li_oct": 3})],
        "li_tet": [({"li_oct": 3, "tm_tet": 1}, {"li_tet": 3, "tm_oct": 3})],
    },
    # A prism has three vertical edges, each the meeting of six prisms: two of the other five
    # share a rectangular face with it, three only the edge.
    Stacking.P3: {
        "tm_oct": [({"tm_tet": 6, "li_prism": 2}, {"tm_oct": 6, "li_prism": 6})],
        "li_prism": [({"tm_oct": 1, "tm_tet": 1}, {"li_prism": 9, "tm_oct": 3, "tm_tet": 3})],
        "tm_tet": [({"tm_oct": 3, "li_prism": 1}, {"tm_tet": 3, "li_prism": 3})],
    },
    # A gap of O1 and a gap of O3 in turn; every slab has one of each beside it.
    Stacking.H1_3: {
        "tm_oct": [
            ({"tm_tet": 6, "li_tet": 1, "li_oct": 1}, {"tm_oct": 6, "li_oct": 3, "li_tet": 3})
        ],
        "li_oct": [
            ({"li_tet": 6, "tm_oct": 2}, {"li_oct": 6, "tm_tet": 6}),
            ({"li_tet": 6, "tm_tet": 2}, {"li_oct": 6, "tm_oct": 6}),
        ],
        "tm_tet": [
            ({"tm_oct": 3, "li_oct": 1}, {"tm_tet": 3, "li_tet": 3}),
            ({"tm_oct": 3, "li_tet": 1}, {"tm_tet": 3, "li_oct": 3}),
        ],
        "li_tet": [
            ({"li_oct": 3, "tm_oct": 1}, {"li_tet": 3, "tm_tet": 3}),
            ({"li_oct": 3, "tm_tet": 1}, {"li_tet": 3, "tm_oct": 3}),
        ],
    },
}


@pytest.mark.parametrize("stacking", list(Stacking))
def test_sites_per_formula_unit(stacking: Stacking) -> None:
    frame = layered_frame(stacking, np.diag([2, 2, 1]))
    per_kind = Counter(frame.kinds)
    n = per_kind[SiteKind.TM_OCT]
    lithium = (
        {SiteKind.LI_PRISM: 2 * n}
        if stacking is Stacking.P3
        else {SiteKind.LI_OCT: n, SiteKind.LI_TET: 2 * n}
    )
    assert (
        per_kind
        == {
            SiteKind.ANION: 2 * n,
            SiteKind.TM_OCT: n,
            SiteKind.TM_TET: 2 * n,
        }
        | lithium
    )


@pytest.mark.parametrize("stacking", list(Stacking))
def test_face_and_edge_sharing_counted_by_hand(stacking: Stacking) -> None:
    frame = layered_frame(stacking, np.diag([3, 3, 2]))
    expected = FACES_AND_EDGES[stacking]
    assert {kind.value for kind in frame.kinds} == {"anion", *expected}

    def around(site: int, sharing: Sharing) -> Counter[str]:
        return Counter(frame.kinds[n.site].value for n in frame.neighbours(site, sharing))

    for kind, sorts in expected.items():
        sites = frame.sites(SiteKind(kind))
        found = [(around(s, Sharing.FACE), around(s, Sharing.EDGE)) for s in sites.tolist()]
        for sort in sorts:  # the sorts are equally many
            assert found.count(sort) == len(sites) // len(sorts)


def test_prisms_side_by_side_share_a_rectangle_of_four_anions() -> None:
    frame = layered_frame(Stacking.P3, np.diag([3, 3, 1]))
    for site in frame.sites(SiteKind.LI_PRISM).tolist():
        beside = frame.neighbours(site, Sharing.RECTANGULAR_FACE)
        assert [frame.kinds[n.site] for n in beside] == [SiteKind.LI_PRISM] * 3
        for neighbour in beside:
            vector = frame.frac_coords[neighbour.site] + neighbour.image - frame.frac_coords[site]
            distance = np.linalg.norm(vector @ frame.lattice)
            assert distance == pytest.approx(frame.a / np.sqrt(3))
    for stacking in set(Stacking) - {Stacking.P3}:
        frame = layered_frame(stacking, np.diag([2, 2, 1]))
        assert not any(frame.neighbours(s, Sharing.RECTANGULAR_FACE) for s in range(len(frame)))


def test_octahedra_of_one_layer_share_six_edges_in_the_smallest_cell() -> None:
    frame = layered_frame(Stacking.O3, np.diag([1, 1, 1]))  # all six are images of one site
    for kind in (SiteKind.TM_OCT, SiteKind.LI_OCT):
        site = int(frame.sites(kind)[0])
        assert len(frame.neighbours(site, Sharing.EDGE, kind)) == 6


@pytest.mark.parametrize("stacking", list(Stacking))
def test_cations_around_every_anion(stacking: Stacking) -> None:
    frame = layered_frame(stacking, np.array([[2, 1, 0], [1, 2, 0], [0, 0, 1]]))
    lithium = {SiteKind.LI_PRISM: 6} if stacking is Stacking.P3 else {SiteKind.LI_OCT: 3}
    for around in frame.cations_of_anion.values():
        kinds = [frame.kinds[site] for site in around]
        assert kinds[:3] == [SiteKind.TM_OCT] * 3
        assert Counter(kinds[3:]) == lithium


@pytest.mark.parametrize("stacking", list(Stacking))
def test_sharing_is_mutual(stacking: Stacking) -> None:
    frame = layered_frame(stacking, np.diag([1, 2, 1]))
    for site in range(len(frame)):
        for sharing in Sharing:
            for neighbour in frame.neighbours(site, sharing):
                back = frame.neighbours(neighbour.site, sharing)
                opposite = tuple(-x for x in neighbour.image)
                assert any(n.site == site and n.image == opposite for n in back)


def test_vertices_do_not_depend_on_the_shape_of_the_cell() -> None:
    compact = layered_frame(Stacking.O3, np.diag([2, 2, 2]))
    sheared = layered_frame(Stacking.O3, np.array([[2, 0, 0], [2, 2, 0], [2, 2, 2]]))

    def bonds(frame: Frame) -> Counter[float]:
        lengths: Counter[float] = Counter()
        for site, corners in enumerate(frame.vertices):
            for corner in corners:
                vector = frame.frac_coords[corner.site] + corner.image - frame.frac_coords[site]
                lengths[round(float(np.linalg.norm(vector @ frame.lattice)), 6)] += 1
        return lengths

    assert bonds(compact) == bonds(sheared)


#: Space groups of the fully lithiated crystals: R-3m and P6_3mc (Delmas), P-3m1, R3m of P3 with
#: one of its two prisms taken, and R-3m of H1-3 (Chen, Lu, Dahn).
SPACE_GROUPS = {
    Stacking.O3: 166,
    Stacking.O2: 186,
    Stacking.O1: 164,
    Stacking.P3: 160,
    Stacking.H1_3: 166,
}


@pytest.mark.parametrize("stacking", list(Stacking))
def test_space_group_of_the_crystal(stacking: Stacking) -> None:
    frame = layered_frame(stacking, np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]]))
    lithium = lithium_layer_sites(frame)
    tm = frame.sites(SiteKind.TM_OCT)
    assert len(lithium) == len(tm)
    crystal = empty_frame(frame).with_species(
        dict.fromkeys(tm.tolist(), "Co") | dict.fromkeys(lithium.tolist(), "Li")
    )
    analyzer = SpacegroupAnalyzer(crystal.to_structure(), symprec=1e-4)
    assert analyzer.get_space_group_number() == SPACE_GROUPS[stacking]


def test_lithium_of_charged_h13_stays_in_every_other_gap() -> None:
    frame = layered_frame(Stacking.H1_3, np.diag([2, 2, 2]))
    apart = [
        s
        for s in lithium_layer_sites(frame).tolist()
        if not frame.neighbours(s, Sharing.FACE, SiteKind.TM_OCT)
    ]
    assert sorted(Counter(frame.layers[apart].tolist()).items()) == [(1, 4), (3, 4)]


@pytest.mark.parametrize("stacking", list(Stacking))
def test_frame_survives_serialisation(stacking: Stacking) -> None:
    frame = layered_frame(stacking, np.diag([1, 2, 1]), a=2.9, tm_slab=2.1, li_gap=2.7)
    adapter = TypeAdapter(Frame)
    for again in (
        Frame.from_dict(frame.as_dict()),
        json.loads(json.dumps(frame, cls=MontyEncoder), cls=MontyDecoder),
        adapter.validate_python(json.loads(json.dumps(adapter.dump_python(frame)))),
    ):
        assert again == frame
        assert hash(again) == hash(frame)
        assert (again.stacking, again.a, again.tm_slab, again.li_gap) == (stacking, 2.9, 2.1, 2.7)
        np.testing.assert_array_equal(again.frac_coords, frame.frac_coords)
    assert layered_frame(stacking, np.diag([1, 2, 1])) != frame


def test_frame_of_an_earlier_document_is_read() -> None:
    document = {
        "@module": "lrlo.structures.frame",
        "@class": "Frame",
        "stacking": "O2",
        "matrix": [[1, 0, 0], [0, 2, 0], [0, 0, 1]],
        "a": 2.9,
        "tm_slab": 2.1,
        "li_gap": 2.7,
    }
    expected = layered_frame(Stacking.O2, np.diag([1, 2, 1]), a=2.9, tm_slab=2.1, li_gap=2.7)
    assert Frame.from_dict(document) == expected
    assert MontyDecoder().process_decoded(document) == expected


def test_sites_keep_their_order() -> None:
    """Stored occupations name sites by index: slab by slab, motif site by motif site."""
    frame = layered_frame(Stacking.O3, np.diag([2, 1, 1]))
    assert [kind.value for kind in frame.kinds[::2]] == [
        *("anion", "anion", "tm_oct", "tm_tet", "tm_tet", "li_oct", "li_tet", "li_tet")
    ]
    np.testing.assert_allclose(frame.frac_coords[1] - frame.frac_coords[0], [0.5, 0, 0])
    np.testing.assert_array_equal(frame.in_plane[:2], [[0, 0], [1, 0]])


def test_primitive_lattice_is_rhombohedral_where_the_repeat_is_shifted() -> None:
    for stacking in Stacking:
        repeat = primitive_lattice(stacking)[2]
        lateral = 0.0 if stacking in (Stacking.O1, Stacking.O2) else 2.86 / np.sqrt(3)
        assert np.linalg.norm(repeat[:2]) == pytest.approx(lateral, abs=1e-9)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((3, 3)), "singular"),
        (np.diag([1.5, 1, 1]), "integers"),
        (np.diag([1, 1]), "3 x 3"),
        (np.diag([2, 2, -1]), "left-handed.*exchange two rows"),
        (np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]), "left-handed"),
    ],
)
def test_bad_supercell_matrix(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layered_frame(Stacking.O3, matrix)


@pytest.mark.parametrize("name", ["a", "tm_slab", "li_gap"])
@pytest.mark.parametrize("length", [0.0, -2.0, np.nan])
def test_bad_lengths(name: str, length: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is a length"):
        layered_frame(Stacking.O3, np.eye(3, dtype=int), **{name: length})


@pytest.mark.parametrize("stacking", list(Stacking))
def test_polyhedra_exist_for_all_thicknesses_that_the_message_calls_safe(
    stacking: Stacking,
) -> None:
    for tm_slab in (2.0, 2.86, 3.7):
        for li_gap in (2.0, 2.86, 3.7):
            frame = layered_frame(
                stacking, np.eye(3, dtype=int), a=2.86, tm_slab=tm_slab, li_gap=li_gap
            )
            assert len(frame.vertices) == len(frame)
    flat = layered_frame(stacking, np.eye(3, dtype=int), tm_slab=1.0, li_gap=1.0)
    with pytest.raises(ValueError, match="do not enclose it"):
        _ = flat.vertices
