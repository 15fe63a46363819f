import itertools

import numpy as np
import pytest
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from lrlo.structures.assignment import assign
from lrlo.structures.frame import Sharing, SiteKind, layered_frame
from lrlo.structures.gliding import GLIDES, GlidePath, glide_o3_to_o1
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.stacking import Stacking


def ordered(stacking: Stacking, matrix: np.ndarray, lithium: str | None = "Li") -> Occupation:
    """LiCoO2 or CoO2."""
    frame = layered_frame(stacking, matrix)
    return empty_frame(frame).with_species(
        dict.fromkeys(frame.sites(SiteKind.TM_OCT).tolist(), "Co")
        | dict.fromkeys(frame.sites(SiteKind.LI_OCT).tolist(), lithium)
    )


def glide(occupation: Occupation, direction: int = 0, n_images: int = 7) -> GlidePath:
    structure = occupation.to_structure()
    assignment = assign(structure, occupation.frame)
    return glide_o3_to_o1(structure, assignment, direction=direction, n_images=n_images)


def group(structure: Structure) -> str:
    return SpacegroupAnalyzer(structure, symprec=1e-3).get_space_group_symbol()


def gap_distance(structure: Structure) -> float:
    """Shortest O-O distance across the Li layers, Å."""
    oxygen = [i for i, site in enumerate(structure) if site.specie.symbol == "O"]
    return min(
        float(n.nn_distance)
        for i in oxygen
        for n in structure.get_neighbors(structure[i], 3.3)
        if n.specie.symbol == "O" and abs(n.coords[2] - structure[i].coords[2]) > 2.4
    )


MATRICES = [
    np.eye(3, dtype=int),
    np.diag([2, 2, 3]),
    np.array([[2, 1, 0], [-1, 1, 0], [1, 1, 2]]),
]


@pytest.mark.parametrize("direction", [0, 1, 2])
@pytest.mark.parametrize("matrix", MATRICES)
def test_path_leads_from_o3_over_a_monoclinic_saddle_to_o1(
    matrix: np.ndarray, direction: int
) -> None:
    path = glide(ordered(Stacking.O3, matrix, None), direction)
    assert group(path.structures[0]) == "R-3m"
    assert [group(s) for s in path.structures[1:-1]] == ["C2/m"] * 5
    assert group(path.structures[-1]) == "P-3m1"
    assert path.frame.stacking is Stacking.O1


@pytest.mark.parametrize("direction", [0, 1, 2])
@pytest.mark.parametrize("matrix", MATRICES)
def test_last_structure_is_o1_with_shared_faces(matrix: np.ndarray, direction: int) -> None:
    before = ordered(Stacking.O3, matrix)
    path = glide(before, direction)
    result = assign(path.structures[-1], path.frame)
    assert result.unexplained == ()
    assert result.displacements.max() < 1e-6
    np.testing.assert_allclose(result.strain, 0, atol=1e-9)
    after = result.occupation
    for kind in (SiteKind.TM_OCT, SiteKind.LI_OCT, SiteKind.ANION):
        assert after.count(kind) == before.count(kind)
    lithium = after.sites_of("Li")
    assert all(len(path.frame.neighbours(s, Sharing.FACE, SiteKind.TM_OCT)) == 2 for s in lithium)
    assert not any(before.frame.neighbours(s, Sharing.FACE, SiteKind.TM_OCT) for s in lithium)


def test_shift_is_a_third_of_1_minus_1_0(licoo2: PristineModel) -> None:
    frame = licoo2.occupation.frame
    hexagonal = np.linalg.solve(np.array(frame.matrix), frame.lattice)[:2]
    shifts = [glide(licoo2.occupation, d).shift for d in range(3)]
    for shift, indices in zip(shifts, [(1, -1), (1, 2), (-2, -1)], strict=True):
        np.testing.assert_allclose(3 * shift, indices @ hexagonal, atol=1e-9)
        assert np.linalg.norm(shift) == pytest.approx(frame.a / np.sqrt(3))
    np.testing.assert_allclose(np.sum(shifts, axis=0), 0, atol=1e-9)  # 120 degrees apart
    assert len(GLIDES) == 3


def test_slabs_are_rigid_and_steps_equal() -> None:
    before = ordered(Stacking.O3, np.diag([2, 2, 2]))
    path = glide(before, n_images=9)
    slab = [
        i
        for i, site in enumerate(before.occupied())
        if before.frame.kinds[site] in (SiteKind.ANION, SiteKind.TM_OCT)
        and before.frame.layers[site] == 0
    ]
    coords = np.array([s.cart_coords for s in path.structures])
    steps = np.diff(coords, axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-9)
    np.testing.assert_allclose(steps[..., 2], 0, atol=1e-9)  # the spacing of the layers stays
    for a, b in itertools.pairwise(slab):
        apart = coords[:, a] - coords[:, b]
        np.testing.assert_allclose(apart, np.broadcast_to(apart[0], apart.shape), atol=1e-9)


def test_saddle_is_the_bridge_and_not_the_top_of_an_anion() -> None:
    """Half way the anions above lie over the bridge of two below, a/2 to the side of either."""
    before = ordered(Stacking.O3, np.diag([2, 2, 2]), None)
    a, gap = before.frame.a, before.frame.li_gap
    for direction in range(3):
        path = glide(before, direction)
        distances = [gap_distance(s) for s in path.structures]
        assert distances[0] == pytest.approx(np.hypot(a / np.sqrt(3), gap))
        assert distances[-1] == pytest.approx(distances[0])
        assert gap_distance(path.saddle) == pytest.approx(np.hypot(a / 2, gap))
        assert min(distances) == pytest.approx(gap_distance(path.saddle))
        assert gap_distance(path.saddle) > gap + 0.3  # over the top it would be the gap itself


def test_lithium_keeps_clear_of_oxygen() -> None:
    path = glide(ordered(Stacking.O3, np.diag([2, 2, 2])))
    for structure in path.structures:
        lithium = [i for i, s in enumerate(structure) if s.specie.symbol == "Li"]
        nearest = min(
            n.nn_distance for i in lithium for n in structure.get_neighbors(structure[i], 3)
        )
        assert 1.9 < nearest < 2.2


def test_relaxed_decorated_drifting_and_reduced_cells(paper: PristineModel) -> None:
    occupation = paper.occupation.with_species(
        dict.fromkeys(paper.occupation.sites_of("Li", SiteKind.LI_OCT)[::2])
    )
    structure = occupation.to_structure()
    structure.perturb(0.1, seed=1)
    structure.translate_sites(range(len(structure)), [0.04, -0.03, 0.02])
    structure = structure.get_reduced_structure("niggli")
    path = glide_o3_to_o1(structure, assign(structure, occupation.frame))
    result = assign(path.structures[-1], path.frame)
    assert result.unexplained == ()
    assert result.displacements.max() < 0.25
    for kind in (SiteKind.TM_OCT, SiteKind.LI_OCT):
        assert result.occupation.count(kind) == occupation.count(kind)
    assert [s.species for s in path.structures] == [structure.species] * 7


def test_bad_requests(licoo2: PristineModel) -> None:
    occupation = licoo2.occupation
    structure = occupation.to_structure()
    assignment = assign(structure, occupation.frame)
    for n_images in (1, 2, 6):
        with pytest.raises(ValueError, match="odd and at least 3"):
            glide_o3_to_o1(structure, assignment, n_images=n_images)
    with pytest.raises(ValueError, match="0, 1 and 2, got 3"):
        glide_o3_to_o1(structure, assignment, direction=3)
    o2 = ordered(Stacking.O2, np.diag([2, 2, 1]))
    with pytest.raises(ValueError, match="only O3 stacking glides to O1; this frame is O2"):
        glide(o2)
    tetrahedron = int(occupation.frame.sites(SiteKind.LI_TET)[0])
    pinned = occupation.with_species({tetrahedron: "Co"})
    with pytest.raises(ValueError, match="is on li_tet"):
        glide(pinned)
    structure.append("Li", np.add(structure[0].frac_coords, [0.01, 0, 0]))
    crowded = assign(structure, occupation.frame, max_displacement=0.3)
    with pytest.raises(ValueError, match="is on no site"):
        glide_o3_to_o1(structure, crowded)
