import numpy as np
import pytest
from pymatgen.core import Structure

from lrlo.structures.assignment import assign
from lrlo.structures.frame import layered_frame
from lrlo.structures.layer_geometry import layer_geometry
from lrlo.structures.occupation import empty_frame
from lrlo.structures.rock_salt import CUBIC_CELL, rock_salt_frame
from lrlo.structures.stacking import Stacking


@pytest.mark.parametrize("stacking", list(Stacking))
def test_ideal_and_strained_layers(stacking: Stacking) -> None:
    frame = layered_frame(stacking, np.array([[2, 1, 0], [-1, 2, 0], [1, 0, 1]]))
    structure = empty_frame(frame).to_structure()
    ideal = layer_geometry(structure, assign(structure, frame))
    assert ideal.spacing == pytest.approx(2.15 + 2.60)
    assert ideal.in_plane_area == pytest.approx(2.86**2 * np.sqrt(0.75))
    assert ideal.volume == pytest.approx(ideal.spacing * ideal.in_plane_area)
    strained = Structure(
        structure.lattice.matrix @ np.diag([1.02, 0.99, 1.05]),
        structure.species,
        structure.frac_coords,
    )
    measured = layer_geometry(strained, assign(strained, frame))
    assert measured.spacing == pytest.approx(1.05 * ideal.spacing)
    assert measured.in_plane_area == pytest.approx(1.02 * 0.99 * ideal.in_plane_area)


def test_other_vectors_of_the_cell_change_nothing() -> None:
    frame = layered_frame(Stacking.H1_3, np.diag([2, 3, 1]))
    structure = empty_frame(frame).to_structure()
    skew = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 2]])
    other = Structure(
        skew @ structure.lattice.matrix,
        structure.species,
        structure.frac_coords @ np.linalg.inv(skew),
    )
    first, second = (layer_geometry(s, assign(s, frame)) for s in (structure, other))
    assert first.spacing == pytest.approx(second.spacing)
    assert first.in_plane_area == pytest.approx(second.in_plane_area)


def test_rock_salt_has_no_layers() -> None:
    frame = rock_salt_frame(CUBIC_CELL)
    structure = empty_frame(frame).to_structure()
    with pytest.raises(ValueError, match="no layers"):
        layer_geometry(structure, assign(structure, frame))
