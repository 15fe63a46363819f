import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from lrlo.structures.assignment import (
    Assignment,
    AssignmentError,
    SitePositions,
    assign,
    in_frame_cell,
    match,
)
from lrlo.structures.frame import Frame, Sharing, SiteKind, layered_frame, lithium_layer_sites
from lrlo.structures.hops import PathClass, all_hops, hop_images
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.oxygen_environment import oxygen_environments
from lrlo.structures.rock_salt import rock_salt_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.symmetry import site_permutations

FRAMES = [*Stacking, "rock salt"]


def decorated(kind: str, matrix: list[list[int]], seed: int = 0) -> Occupation:
    """A frame with Li, Mn, Ni and vacancies at random on its octahedra, Li in the Li layers."""
    random = np.random.default_rng(seed)
    frame = (
        rock_salt_frame(np.array(matrix))
        if kind == "rock salt"
        else layered_frame(Stacking(kind), np.array(matrix))
    )
    sites = frame.sites(SiteKind.TM_OCT, SiteKind.CATION_OCT).tolist()
    species = random.choice(["Li", "Mn", "Ni", None], len(sites), p=[0.2, 0.4, 0.3, 0.1])
    return empty_frame(frame).with_species(
        dict(zip(sites, species.tolist(), strict=True))
        | dict.fromkeys(lithium_layer_sites(frame).tolist(), "Li")
    )


def in_other_vectors(
    structure: Structure, matrix: NDArray[np.int64], deformation: NDArray | None = None
) -> Structure:
    """The same crystal in other vectors of its lattice, deformed in space."""
    deformation = np.eye(3) if deformation is None else deformation
    return Structure(
        matrix @ structure.lattice.matrix @ deformation,
        structure.species,
        structure.frac_coords @ np.linalg.inv(matrix),
    )


def same_by_symmetry_of_the_frame(first: Occupation, second: Occupation) -> bool:
    """Whether an operation of the undecorated frame turns one occupation into the other."""
    species = np.array(first.species, dtype=object)
    return any(
        tuple(species[permutation]) == second.species
        for permutation in site_permutations(empty_frame(first.frame))
    )


def test_ideal_structure_is_read_back(paper: PristineModel) -> None:
    occupation = paper.occupation
    result = assign(occupation.to_structure(), occupation.frame)
    assert result.occupation == occupation
    assert result.displacements.max() < 1e-9
    assert result.unexplained == ()


def test_strain_drift_rattle_and_atom_order(paper: PristineModel) -> None:
    occupation = paper.occupation
    structure = occupation.to_structure()
    random = np.random.default_rng(4)
    order = random.permutation(len(structure))
    strain = np.eye(3) + np.array([[0.03, 0.01, 0], [0, -0.02, 0], [0.02, 0, 0.05]])
    changed = Structure(
        structure.lattice.matrix @ strain,
        [structure.species[i] for i in order],
        structure.frac_coords[order] + [0.01, -0.02, 0.015],
    )
    changed.perturb(0.25, seed=1)
    result = assign(changed, occupation.frame)
    assert result.occupation == occupation
    assert 0.1 < result.displacements.mean() < 0.3
    assert result.strain.trace() == pytest.approx(0.06, abs=0.01)


def test_vacancies_are_counted_not_guessed(paper: PristineModel) -> None:
    occupation = paper.occupation
    removed = occupation.sites_of("Li")[3:9]
    charged = occupation.with_species(dict.fromkeys(removed, None))
    result = assign(charged.to_structure(), occupation.frame).occupation
    assert set(result.sites_of(None, SiteKind.LI_OCT, SiteKind.TM_OCT)) == set(removed)


def test_migrated_and_tetrahedral_ions_are_found(paper: PristineModel) -> None:
    occupation = paper.occupation
    mn = occupation.sites_of("Mn")[0]
    tetrahedron = occupation.frame.neighbours(mn, Sharing.FACE, SiteKind.LI_TET)[0].site
    moved = occupation.with_species({mn: None, tetrahedron: "Mn"})
    structure = moved.to_structure()
    structure.perturb(0.2, seed=1)
    assert assign(structure, occupation.frame).occupation == moved


def test_atom_that_no_site_explains_is_reported(paper: PristineModel) -> None:
    occupation = paper.occupation
    frame = occupation.frame
    structure = occupation.to_structure()
    # A second Li a little beside an occupied octahedron: one of the two has no site.
    site = occupation.sites_of("Li", SiteKind.TM_OCT)[0]
    structure.append("Li", frame.frac_coords[site] + [0.02, 0, 0])
    result = assign(structure, frame, max_displacement=0.5)
    assert len(result.unexplained) == 1
    assert structure[result.unexplained[0]].specie.symbol == "Li"
    assert result.occupation == occupation


def test_wrong_cell_is_refused(paper: PristineModel, licoo2: PristineModel) -> None:
    with pytest.raises(AssignmentError, match="strain"):
        assign(licoo2.occupation.to_structure(), paper.occupation.frame)


def test_positions_that_are_no_numbers_are_refused(paper: PristineModel) -> None:
    structure = paper.occupation.to_structure()
    structure.translate_sites([0], [np.nan, 0, 0], to_unit_cell=False)
    with pytest.raises(AssignmentError, match="finite"):
        assign(structure, paper.occupation.frame)


def test_site_positions_follow_the_anions(paper: PristineModel) -> None:
    occupation = paper.occupation
    structure = occupation.to_structure()
    structure.translate_sites(range(len(structure)), [0.05, 0.0, 0.02])
    result = assign(structure, occupation.frame)
    positions = SitePositions(structure, result)
    site = occupation.sites_of("Mn")[2]
    found = positions.frac_coords(site)
    expected = occupation.frame.frac_coords[site] + [0.05, 0.0, 0.02]
    np.testing.assert_allclose((found - expected) % 1.0 % 1.0, 0, atol=1e-6)
    with pytest.raises(KeyError, match="holds no atom"):
        result.atom_on(int(occupation.frame.sites(SiteKind.LI_TET)[0]))


@pytest.mark.parametrize("kind", FRAMES)
def test_every_frame_under_strain_shear_and_drift(kind: str) -> None:
    occupation = decorated(kind, [[3, 0, 0], [0, 2, 0], [1, 0, 2]])
    structure = occupation.to_structure()
    structure.perturb(0.15, seed=1)
    deformation = np.array([[1.05, 0.04, 0.0], [0.0, 0.97, 0.03], [0.05, 0.0, 1.06]])
    changed = Structure(
        structure.lattice.matrix @ deformation,
        structure.species,
        structure.frac_coords + np.array([0.02, -0.01, 0.015]),
    )
    result = assign(changed, occupation.frame)
    assert result.occupation == occupation
    np.testing.assert_array_equal(result.cell_map, np.eye(3))
    np.testing.assert_allclose(result.drift, [0.02, -0.01, 0.015], atol=0.01)
    np.testing.assert_allclose(result.strain.trace(), 0.08, atol=0.02)


@pytest.mark.parametrize("kind", FRAMES)
def test_cells_in_any_vectors_rotated_strained_and_drifted(kind: str) -> None:
    occupation = decorated(kind, [[2, 0, 0], [1, 2, 0], [0, -1, 2]], seed=1)
    random = np.random.default_rng(7)
    deformation = np.array([[1.03, 0.03, 0.0], [0.0, 0.98, 0.0], [-0.02, 0.0, 1.02]])
    matrices = (
        [[0, 1, 0], [0, 0, 1], [1, 0, 0]],  # vectors in another order
        [[0, 1, 0], [1, 0, 0], [0, 0, -1]],
        [[1, 0, 0], [3, 1, 0], [-2, 1, 1]],  # a skew cell
        [[-1, 2, 0], [0, -1, 1], [2, -4, 1]],
    )
    for matrix in matrices:
        assert round(np.linalg.det(matrix)) == 1
        structure = occupation.to_structure()
        structure.perturb(0.12, seed=1)
        structure.translate_sites(range(len(structure)), random.random(3), to_unit_cell=False)
        turned = deformation @ Rotation.from_rotvec(random.normal(size=3)).as_matrix()
        result = assign(in_other_vectors(structure, np.array(matrix), turned), occupation.frame)
        assert result.unexplained == ()
        assert result.displacements.max() < 0.35
        assert same_by_symmetry_of_the_frame(occupation, result.occupation)
        assert round(np.linalg.det(result.cell_map)) == 1


@pytest.mark.parametrize("kind", FRAMES)
def test_niggli_cell_gives_the_same_sites(kind: str) -> None:
    """Without a rotation in space, the map that turns nothing is taken: labels stay."""
    occupation = decorated(kind, [[2, 1, 0], [-1, 2, 0], [1, -1, 2]], seed=2)
    structure = occupation.to_structure()
    reduced = structure.get_reduced_structure("niggli")
    result = assign(reduced, occupation.frame)
    assert result.occupation == occupation
    np.testing.assert_allclose(
        result.cell_map @ reduced.lattice.matrix, occupation.frame.lattice, atol=1e-6
    )
    np.testing.assert_allclose(result.strain, 0, atol=1e-8)


def test_conventional_cell_on_the_frame_of_primitive_vectors() -> None:
    """Three O3 repeats one above the other: upright, or along the rhombohedral vector."""
    upright = layered_frame(Stacking.O3, np.array([[2, 0, 0], [0, 2, 0], [1, -1, 3]]))
    np.testing.assert_allclose(upright.lattice[2], [0, 0, 3 * 4.75], atol=1e-9)
    leaning = layered_frame(Stacking.O3, np.array([[2, 0, 0], [0, 2, 0], [1, 1, 3]]))
    assert np.linalg.norm(leaning.lattice[2, :2]) > 5
    for frame, other in ((upright, leaning), (leaning, upright)):
        sites = other.sites(SiteKind.TM_OCT)
        crystal = empty_frame(other).with_species({int(sites[0]): "Mn", int(sites[5]): "Ni"})
        read = assign(crystal.to_structure(), frame)
        assert read.unexplained == ()
        assert read.displacements.max() < 1e-9
        assert read.occupation.count(SiteKind.TM_OCT) == {"Mn": 1, "Ni": 1}


def test_reverse_setting_of_a_hexagonal_cell() -> None:
    """Equal cells whose anions stack the other way round match only by another map."""
    occupation = decorated("O3", [[2, 0, 0], [0, 2, 0], [1, -1, 3]])
    structure = occupation.to_structure()
    turned = in_other_vectors(structure, np.array([[0, -1, 0], [1, 1, 0], [0, 0, 1]]))
    aligned = Structure(occupation.frame.lattice, turned.species, turned.frac_coords)
    np.testing.assert_allclose(aligned.lattice.parameters, structure.lattice.parameters)
    result = assign(aligned, occupation.frame)
    assert result.displacements.max() < 1e-6
    assert same_by_symmetry_of_the_frame(occupation, result.occupation)


def test_tm_layers_decide_where_anions_fit_in_several_ways() -> None:
    """Close-packed planes lie in four directions of a cubic cell; TM tell which are the slabs."""
    a = 2.9
    plane = a * np.sqrt(2 / 3)
    # In-plane vectors and repeat in the vectors of the face-centred lattice, and a cube of them.
    o3 = np.array([[0, -1, 1], [1, 0, -1], [1, 1, 0]])
    cube = 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    matrix = np.rint(cube @ np.linalg.inv(o3)).astype(int)
    frame = layered_frame(Stacking.O3, matrix, a=a, tm_slab=plane, li_gap=plane)
    np.testing.assert_allclose(frame.lattice @ frame.lattice.T, 8 * a**2 * np.eye(3), atol=1e-9)
    lithium, tm = frame.sites(SiteKind.LI_OCT), frame.sites(SiteKind.TM_OCT)
    crystal = empty_frame(frame).with_species(
        dict.fromkeys(lithium.tolist(), "Li") | dict.fromkeys(tm.tolist(), "Co")
    )
    structure = crystal.to_structure()
    structure.perturb(0.1, seed=1)
    for matrix in ([[0, -1, 0], [1, 0, 0], [0, 0, 1]], [[0, 0, 1], [0, -1, 0], [1, 0, 0]]):
        read = assign(in_other_vectors(structure, np.array(matrix)), frame)
        assert read.occupation == crystal


def test_atoms_and_images_stay_those_of_the_structure(paper: PristineModel) -> None:
    """Positions of sites and hops come in the structure's own cell, whatever its vectors."""
    occupation = paper.occupation
    vacancy = occupation.sites_of("Li", SiteKind.TM_OCT)[0]
    charged = occupation.with_species({vacancy: None})
    straight = charged.to_structure()
    straight.perturb(0.1, seed=1)
    skew = in_other_vectors(straight, np.array([[1, 0, 0], [2, 1, 0], [-1, 1, 1]]))
    plain, mapped = (assign(s, occupation.frame) for s in (straight, skew))
    assert plain.sites == mapped.sites
    assert not np.array_equal(mapped.cell_map, np.eye(3))
    hops = all_hops(charged, ["Mn"], PathClass.IN_PLANE)
    for hop in hops[:6]:
        paths = [
            [image[plain.atom_on(hop.start)].coords for image in hop_images(s, assignment, hop)]
            for s, assignment in ((straight, plain), (skew, mapped))
        ]
        steps = [np.diff(path, axis=0) for path in paths]
        np.testing.assert_allclose(steps[0], steps[1], atol=1e-8)
        assert np.linalg.norm(steps[0], axis=1).max() < 3.0


def test_structure_rewritten_in_the_vectors_of_the_frame(paper: PristineModel) -> None:
    occupation = paper.occupation
    structure = occupation.to_structure()
    structure.add_site_property("magmom", np.arange(len(structure)).tolist())
    skew = in_other_vectors(structure, np.array([[1, 1, 0], [0, 1, 0], [0, 3, 1]]))
    skew.add_site_property("magmom", structure.site_properties["magmom"])
    rewritten = in_frame_cell(skew, assign(skew, occupation.frame))
    np.testing.assert_allclose(rewritten.lattice.matrix, occupation.frame.lattice, atol=1e-6)
    np.testing.assert_allclose(rewritten.cart_coords, skew.cart_coords, atol=1e-6)
    assert rewritten.site_properties["magmom"] == structure.site_properties["magmom"]
    np.testing.assert_array_equal(
        assign(rewritten, occupation.frame).cell_map, np.eye(3, dtype=int)
    )


def dense_match(
    positions: NDArray, sites: NDArray, lattice: NDArray, max_distance: float
) -> tuple[float, int]:
    """Total cost and number of lost positions of the least match, over a full cost matrix."""
    grid = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), axis=-1).reshape(-1, 3)
    difference = positions[:, None, None] - sites[None, :, None] + grid
    cost = (np.linalg.norm(difference @ lattice, axis=-1) ** 2).min(axis=2)
    alone = np.full((len(positions), len(positions)), max_distance**2)
    full = np.hstack([cost, alone])
    rows, columns = linear_sum_assignment(full)
    return float(full[rows, columns].sum()), int((columns >= len(sites)).sum())


@pytest.mark.parametrize("max_distance", [0.8, 1.3, 3.0])
@pytest.mark.parametrize("seed", range(6))
def test_sparse_match_costs_as_little_as_the_dense_one(seed: int, max_distance: float) -> None:
    random = np.random.default_rng(seed)
    lattice = np.array(Lattice.from_parameters(6, 7, 8, 75, 100, 110).matrix)
    positions, sites = random.random((14, 3)), random.random((17 - seed, 3))
    chosen, distances = match(positions, sites, lattice, max_distance)
    kept = chosen >= 0
    assert len(set(chosen[kept])) == kept.sum()
    cost = (distances[kept] ** 2).sum() + max_distance**2 * (~kept).sum()
    expected, lost = dense_match(positions, sites, lattice, max_distance)
    assert cost == pytest.approx(expected, abs=1e-9)
    assert (~kept).sum() == lost
    assert np.all(distances[kept] <= max_distance)


def test_lost_atoms_report_the_nearest_site() -> None:
    lattice = 10 * np.eye(3)
    sites = np.array([[0.0, 0, 0], [0.5, 0, 0]])
    chosen, distances = match(np.array([[0.9, 0, 0], [0.95, 0, 0]]), sites, lattice, 0.7)
    np.testing.assert_array_equal(chosen, [-1, 0])
    np.testing.assert_allclose(distances, [1.0, 0.5])
    chosen, distances = match(np.array([[0.5, 0.4, 0]]), sites, lattice, 0.7)
    np.testing.assert_array_equal(chosen, [-1])
    np.testing.assert_allclose(distances, [4.0])


def test_surplus_oxygen_is_listed_not_dropped(paper: PristineModel) -> None:
    structure = paper.occupation.to_structure()
    structure.append("O", paper.occupation.frame.frac_coords[0] + [0.03, 0.03, 0.03])
    result = assign(structure, paper.occupation.frame)
    assert len(result.unexplained) == 1
    assert result.species[result.unexplained[0]] == "O"
    assert len(result.sites) == len(structure)


def test_ten_thousand_atoms_in_linear_memory() -> None:
    occupation = decorated("O3", [[16, 0, 0], [0, 16, 0], [0, 0, 10]])
    structure = occupation.to_structure()
    structure.perturb(0.2, seed=1)
    skew = in_other_vectors(structure, np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]]))
    assert len(skew) > 9_900
    tracemalloc.start()
    result = assign(skew, occupation.frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.occupation == occupation
    assert peak < 200e6  # one dense matrix of cations by sites would take 600 MB
    assert len(oxygen_environments(result.occupation)) == 5120


def mixed(structure: Structure) -> Structure:
    changed = structure.copy()
    changed.replace(0, {"Li": 0.5, "Mn": 0.5})
    return changed


def left_handed(structure: Structure) -> Structure:
    return in_other_vectors(structure, np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]))


def flat(structure: Structure) -> Structure:
    matrix = structure.lattice.matrix.copy()
    matrix[2] = matrix[0] + matrix[1]
    return Structure(Lattice(matrix), structure.species, structure.frac_coords)


def without_anions(structure: Structure) -> Structure:
    changed = structure.copy()
    changed.remove_species(["O"])
    return changed


def blown_up(structure: Structure) -> Structure:
    return Structure(1.4 * structure.lattice.matrix, structure.species, structure.frac_coords)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (mixed, r"site 0 \(Li0.5 Mn0.5\).*choose one ordered cell"),
        (left_handed, "left-handed.*exchange two"),
        (flat, "degenerate"),
        (without_anions, "no anion"),
        (blown_up, "strain of 0.25.*build the frame of the structure's supercell"),
    ],
)
def test_bad_structures(
    paper: PristineModel, change: Callable[[Structure], Structure], message: str
) -> None:
    with pytest.raises(AssignmentError, match=message):
        assign(change(paper.occupation.to_structure()), paper.occupation.frame)


def test_another_supercell_of_equal_volume_is_refused() -> None:
    occupation = decorated("O3", [[4, 0, 0], [0, 1, 0], [0, 0, 1]])
    frame = layered_frame(Stacking.O3, np.diag([2, 2, 1]))
    with pytest.raises(AssignmentError, match="strain"):
        assign(occupation.to_structure(), frame)


def test_assignment_without_a_cell_map_means_the_same_vectors(paper: PristineModel) -> None:
    """Code that makes assignments itself need not know of other vectors."""
    frame: Frame = paper.occupation.frame
    by_hand = Assignment(
        frame=frame,
        sites=(0, None),
        displacements=np.zeros(2),
        drift=np.zeros(3),
        strain=np.zeros((3, 3)),
        species=("O", "Li"),
    )
    np.testing.assert_array_equal(by_hand.cell_map, np.eye(3))
    assert by_hand.atoms == {0: 0}
    assert by_hand.atom_on(0) == 0
