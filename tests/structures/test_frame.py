from collections import Counter

import numpy as np
import pytest

from lrlo.structures.frame import Frame, Sharing, SiteKind, layered_frame
from lrlo.structures.stacking import Stacking, shift_letter, third_letter

#: Cations that share a face or an edge with a site, counted by hand from the close packing:
#: in O3 no two octahedra share a face; in O2 a li_oct has a tm_oct on one side, in O1 on both.
FACES = {
    Stacking.O3: {
        SiteKind.TM_OCT: {"tm_tet": 6, "li_tet": 2},
        SiteKind.LI_OCT: {"li_tet": 6, "tm_tet": 2},
        SiteKind.TM_TET: {"tm_oct": 3, "li_oct": 1},
        SiteKind.LI_TET: {"li_oct": 3, "tm_oct": 1},
    },
    Stacking.O2: {
        SiteKind.TM_OCT: {"tm_tet": 6, "li_oct": 1, "li_tet": 1},
        SiteKind.LI_OCT: {"li_tet": 6, "tm_oct": 1, "tm_tet": 1},
    },
    Stacking.O1: {
        SiteKind.TM_OCT: {"tm_tet": 6, "li_oct": 2},
        SiteKind.LI_OCT: {"li_tet": 6, "tm_oct": 2},
    },
}


@pytest.mark.parametrize("stacking", list(Stacking))
def test_sites_per_formula_unit(stacking: Stacking) -> None:
    frame = layered_frame(stacking, np.diag([2, 2, 1]))
    per_kind = Counter(frame.kinds)
    n = per_kind[SiteKind.TM_OCT]
    assert per_kind == {
        SiteKind.ANION: 2 * n,
        SiteKind.TM_OCT: n,
        SiteKind.LI_OCT: n,
        SiteKind.TM_TET: 2 * n,
        SiteKind.LI_TET: 2 * n,
    }


@pytest.mark.parametrize("stacking", list(Stacking))
def test_face_sharing_is_that_of_the_close_packing(stacking: Stacking) -> None:
    frame = layered_frame(stacking, np.diag([3, 3, 2]))
    for kind, expected in FACES[stacking].items():
        for site in frame.sites(kind):
            around = Counter(
                frame.kinds[n.site].value for n in frame.neighbours(int(site), Sharing.FACE)
            )
            octahedra_or_opposite = {k: v for k, v in around.items() if k in expected}
            assert octahedra_or_opposite == expected


def test_octahedra_of_one_layer_share_six_edges() -> None:
    frame = layered_frame(Stacking.O3, np.diag([1, 1, 1]))  # all six are images of one site
    for kind in (SiteKind.TM_OCT, SiteKind.LI_OCT):
        site = int(frame.sites(kind)[0])
        assert len(frame.neighbours(site, Sharing.EDGE, kind)) == 6


@pytest.mark.parametrize("stacking", list(Stacking))
def test_every_anion_has_three_tm_and_three_li_octahedra(stacking: Stacking) -> None:
    frame = layered_frame(stacking, np.array([[2, 1, 0], [1, 2, 0], [0, 0, 1]]))
    for around in frame.cations_of_anion.values():
        kinds = Counter(frame.kinds[site] for site in around)
        assert kinds == {SiteKind.TM_OCT: 3, SiteKind.LI_OCT: 3}


def test_sharing_is_mutual() -> None:
    frame = layered_frame(Stacking.O3, np.diag([2, 3, 1]))
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


def test_frame_survives_serialisation() -> None:
    frame = layered_frame(Stacking.O2, np.diag([1, 2, 1]), a=2.9, tm_slab=2.1, li_gap=2.7)
    again = Frame.from_dict(frame.as_dict())
    assert again == frame
    np.testing.assert_array_equal(again.frac_coords, frame.frac_coords)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((3, 3)), "singular"),
        (np.diag([1.5, 1, 1]), "integers"),
        (np.diag([1, 1]), "3 x 3"),
    ],
)
def test_bad_supercell_matrix(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layered_frame(Stacking.O3, matrix)


def test_letters() -> None:
    assert third_letter("A", "C") == "B"
    assert shift_letter("A", (2 / 3, 1 / 3)) == "C"
    with pytest.raises(ValueError, match="prisms"):
        third_letter("A", "A")
    with pytest.raises(ValueError, match="close-packed"):
        shift_letter("A", (0.5, 0.0))
