import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from lrlo.structures.assignment import assign
from lrlo.structures.frame import Frame, layered_frame
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation
from lrlo.structures.rock_salt import rock_salt_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.strain import layer_strain, strain_frame, strain_structure


def test_tensile_is_positive_and_the_two_parts_are_apart(paper: PristineModel) -> None:
    structure = paper.occupation.to_structure()
    wider = strain_structure(structure, layer_strain(0.02))
    taller = strain_structure(structure, layer_strain(0.0, 0.02))
    # Lengths in the plane and along the normal of every bond scale each by its own factor.
    for strained, factors in ((wider, (1.02, 1.02, 1)), (taller, (1, 1, 1.02))):
        np.testing.assert_allclose(
            strained.cart_coords, structure.cart_coords * factors, atol=1e-12
        )
        np.testing.assert_allclose(
            strained.lattice.matrix, structure.lattice.matrix * factors, atol=1e-12
        )
    assert wider.volume / structure.volume == pytest.approx(1.02**2)
    assert strain_structure(structure, layer_strain(-0.02)).volume < structure.volume


def test_in_plane_tensor() -> None:
    strain = layer_strain([[0.03, 0.01], [0.01, -0.02]], 0.005)
    np.testing.assert_array_equal(strain, [[0.03, 0.01, 0], [0.01, -0.02, 0], [0, 0, 0.005]])


@pytest.mark.parametrize(
    "strain",
    [
        layer_strain(0.05, -0.04),
        layer_strain([[0.06, 0.02], [0.02, -0.05]], 0.08),
        np.array([[0.02, 0, 0.05], [0, 0.01, -0.03], [0.05, -0.03, 0.04]]),
    ],
)
def test_assignment_still_works_and_gives_the_strain_back(
    paper: PristineModel, strain: np.ndarray
) -> None:
    occupation = paper.occupation
    structure = occupation.to_structure()
    structure.perturb(0.1, seed=1)
    result = assign(strain_structure(structure, strain), occupation.frame)
    assert result.occupation == occupation
    np.testing.assert_allclose(result.strain, strain, atol=1e-9)


def test_strained_frame_holds_the_strained_structure(paper: PristineModel) -> None:
    occupation = paper.occupation
    strain = layer_strain(0.04, -0.03)
    frame = strain_frame(occupation.frame, strain)
    np.testing.assert_allclose(
        frame.lattice, strain_structure(occupation.to_structure(), strain).lattice.matrix
    )
    assert frame.kinds == occupation.frame.kinds
    result = assign(strain_structure(occupation.to_structure(), strain), frame)
    assert result.occupation == Occupation(frame, occupation.species)
    assert result.displacements.max() < 1e-9
    np.testing.assert_allclose(result.strain, 0, atol=1e-9)
    assert Frame.from_dict(frame.as_dict()) == frame


def test_rock_salt_takes_isotropic_strain() -> None:
    frame = rock_salt_frame(np.diag([2, 2, 2]), cubic_lattice_parameter=4.0)
    assert strain_frame(frame, 0.03 * np.eye(3)).a == pytest.approx(frame.a * 1.03)
    with pytest.raises(ValueError, match="the same strain in all directions only"):
        strain_frame(frame, layer_strain(0.03))


def test_strain_there_and_back(licoo2: PristineModel) -> None:
    structure = licoo2.occupation.to_structure()
    back = strain_structure(
        strain_structure(structure, layer_strain(0.1)), layer_strain(1 / 1.1 - 1)
    )
    np.testing.assert_allclose(back.lattice.matrix, structure.lattice.matrix, atol=1e-12)


def test_site_properties_stay(licoo2: PristineModel) -> None:
    structure = licoo2.occupation.to_structure()
    structure.add_site_property("magmom", [1.0] * len(structure))
    assert strain_structure(structure, layer_strain(0.01)).site_properties["magmom"][0] == 1.0


@pytest.mark.parametrize(
    ("strain", "message"),
    [
        (0.2 * np.eye(3), "a principal strain of 0.200 exceeds 0.15"),
        (-0.16 * np.eye(3), "exceeds 0.15"),
        (np.array([[0, 0.2, 0], [0.2, 0, 0], [0, 0, 0]]), "exceeds 0.15"),
        (np.array([[0, 0.1, 0], [-0.1, 0, 0], [0, 0, 0]]), "not symmetric"),
        (np.full((3, 3), np.nan), "finite tensor"),
        (np.eye(2), "finite tensor"),
    ],
)
def test_bad_strain(licoo2: PristineModel, strain: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strain_structure(licoo2.occupation.to_structure(), strain)
    with pytest.raises(ValueError, match=message):
        strain_frame(licoo2.occupation.frame, strain)


def test_bad_layer_strain() -> None:
    with pytest.raises(ValueError, match="exceeds"):
        layer_strain(0.0, 0.5)
    with pytest.raises(ValueError, match="not symmetric"):
        layer_strain([[0.01, 0.02], [0.0, 0.01]])
    with pytest.raises(ValueError, match=r"a number, xx, yy, xy or a \(2, 2\) tensor"):
        layer_strain(np.zeros(4))


def test_frame_refuses_what_it_cannot_hold() -> None:
    frame = layered_frame(Stacking.O2, np.diag([2, 2, 1]))
    with pytest.raises(ValueError, match="the same in x and y"):
        strain_frame(frame, layer_strain([[0.02, 0], [0, 0.01]]))


def test_left_handed_cell_is_refused() -> None:
    left = Structure(Lattice([[0, 3, 0], [3, 0, 0], [0, 0, 3]]), ["O"], [[0, 0, 0]])
    with pytest.raises(ValueError, match="left-handed"):
        strain_structure(left, layer_strain(0.01))
