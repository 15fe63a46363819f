import numpy as np
import pytest
from pymatgen.core import Lattice
from scipy.spatial.transform import Rotation

from lrlo.structures.cell_map import cell_maps

LATTICES = {
    "cube": (Lattice.cubic(5), 24),
    "hexagonal": (Lattice.hexagonal(5, 8), 12),
    "rhombohedral": (Lattice.rhombohedral(5, 50), 6),
    "orthorhombic": (Lattice.orthorhombic(4, 5.5, 7.5), 4),
    "triclinic": (Lattice.from_parameters(4, 5.5, 7.5, 80, 95, 105), 1),
}


@pytest.mark.parametrize("name", list(LATTICES))
def test_maps_of_a_lattice_on_itself_are_its_rotations(name: str) -> None:
    lattice, n_rotations = LATTICES[name]
    matrix = np.array(lattice.matrix)
    maps = cell_maps(matrix, matrix, max_strain=0.02)
    assert len(maps) == n_rotations
    np.testing.assert_array_equal(maps[0].matrix, np.eye(3))
    metric = matrix @ matrix.T
    for cell_map in maps:
        assert round(np.linalg.det(cell_map.matrix)) == 1
        np.testing.assert_allclose(cell_map.matrix @ metric @ cell_map.matrix.T, metric, atol=1e-9)
        assert cell_map.strain == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_hidden_map_is_found_with_its_strain_and_rotation(seed: int) -> None:
    random = np.random.default_rng(seed)
    reference = np.array(Lattice.from_parameters(4.2, 5.5, 9.5, 80, 95, 105).matrix)
    hidden = np.eye(3, dtype=int)
    for _ in range(6):
        i, j = random.permutation(3)[:2]
        hidden[i] += random.integers(-2, 3) * hidden[j]
    stretch = np.diag([1.06, 0.97, 1.01])
    axes = Rotation.from_rotvec(random.normal(size=3)).as_matrix()
    stretch = axes @ stretch @ axes.T
    angle = 0.7
    rotation = Rotation.from_rotvec([0, 0, angle]).as_matrix()
    lattice = np.linalg.inv(hidden) @ reference @ stretch @ rotation
    maps = {m.matrix.tobytes(): m for m in cell_maps(lattice, reference, max_strain=0.1)}
    found = maps[hidden.astype(np.int64).tobytes()]
    assert found.strain == pytest.approx(0.06, abs=1e-9)
    assert found.rotation_angle == pytest.approx(angle, abs=1e-9)


def test_least_strain_comes_first_and_none_exceeds_the_limit() -> None:
    reference = np.diag([4.0, 4.4, 5.0])
    strains = [m.strain for m in cell_maps(np.diag([4.1, 4.4, 4.9]), reference, max_strain=0.3)]
    assert strains[0] == pytest.approx(0.025)
    assert len(strains) > 4  # exchanged edges are strained more
    assert np.all(np.diff(np.round(strains, 3)) >= 0)
    assert max(strains) <= 0.3


def test_no_map_between_lattices_of_other_volume_or_kind() -> None:
    cube = np.diag([4.0, 4.0, 4.0])
    assert cell_maps(1.3 * cube, cube, max_strain=0.25) == ()
    assert cell_maps(np.diag([2.0, 4.0, 8.0]), cube, max_strain=0.25) == ()


def test_elongated_cells_may_lean_by_many_short_vectors() -> None:
    reference = np.array([[2.86, 0, 0], [0, 2.86, 0], [0, 0, 60.0]])
    leaning = np.array([[1, 0, 0], [0, 1, 0], [5, -3, 1]]) @ reference
    maps = cell_maps(leaning, reference, max_strain=0.01)
    assert len(maps) == 8
    np.testing.assert_array_equal(maps[0].matrix, [[1, 0, 0], [0, 1, 0], [-5, 3, 1]])
