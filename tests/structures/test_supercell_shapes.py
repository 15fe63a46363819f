import numpy as np
import pytest

from lrlo.structures.layered_prototype import LayeredPrototype
from lrlo.structures.rock_salt import RockSaltPrototype
from lrlo.structures.stacking import Stacking
from lrlo.structures.supercell_shapes import isotropic_supercells
from lrlo.structures.superlattice import Superlattice, repeat_vectors


def test_number_of_distinct_supercells_of_the_face_centred_lattice() -> None:
    """Hart and Forcade, Phys. Rev. B 77, 224115 (2008)."""
    counts = [len(isotropic_supercells(RockSaltPrototype(), n, limit=1000)) for n in range(1, 9)]
    assert counts == [1, 2, 3, 7, 5, 10, 7, 20]


def test_doubled_face_centred_cell_is_the_most_compact_possible() -> None:
    best = isotropic_supercells(RockSaltPrototype(4.0), 8)[0]
    assert best.compactness == pytest.approx(2 ** (1 / 6))
    assert best.image_distance == pytest.approx(2 * 4.0 / np.sqrt(2))
    assert np.all(best.matrix % 2 == 0)


@pytest.mark.parametrize("stacking", list(Stacking))
def test_shapes_have_the_size_and_the_image_distance_that_they_state(stacking: Stacking) -> None:
    prototype = LayeredPrototype(stacking)
    shapes = isotropic_supercells(prototype, 10, limit=6)
    grid = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), axis=-1).reshape(-1, 3)
    grid = grid[np.any(grid != 0, axis=1)]
    for shape in shapes:
        assert round(np.linalg.det(shape.matrix)) == 10
        lengths = np.linalg.norm(grid @ shape.matrix @ prototype.lattice, axis=1)
        assert lengths.min() == pytest.approx(shape.image_distance)
    assert np.all(np.diff([shape.image_distance for shape in shapes]) < 1e-6)


def test_supercells_are_made_of_the_repeat() -> None:
    repeat = repeat_vectors(Superlattice.HONEYCOMB)
    for shape in isotropic_supercells(LayeredPrototype(Stacking.O3), 8, limit=5, repeat=repeat):
        assert round(np.linalg.det(shape.matrix)) == 24
        multiples = shape.matrix @ np.linalg.inv(repeat)
        assert multiples == pytest.approx(np.rint(multiples), abs=1e-9)


def test_size_and_limit_are_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        isotropic_supercells(RockSaltPrototype(), 0)
    with pytest.raises(ValueError, match="at least 1"):
        isotropic_supercells(RockSaltPrototype(), 4, limit=0)
