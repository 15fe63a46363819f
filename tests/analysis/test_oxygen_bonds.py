"""Oxygens with their TM: by hand in ideal crystals, in small cells, with TM that moved."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from lrlo.analysis.oxygen_bonds import BondedOxygen, TmNeighbour, bonded_oxygens
from lrlo.structures.assignment import AssignmentError
from lrlo.structures.frame import Sharing, SiteKind
from lrlo.structures.layered_oxide import PristineModel, build_pristine
from lrlo.structures.oxygen_environment import OxygenClass
from lrlo.structures.superlattice import Superlattice


def oxygen(*directions: tuple[float, float, float]) -> BondedOxygen:
    """Oxygen with a TM 2 Å away in every direction."""
    vectors = [2 * np.array([d]) / np.linalg.norm(d) for d in directions]
    neighbours = tuple(TmNeighbour(i, vector) for i, vector in enumerate(vectors, start=1))
    return BondedOxygen(0, len(neighbours), neighbours)


def test_li2mno3_has_one_free_orbital_along_li_o_li(li2mno3: PristineModel) -> None:
    structure, frame = li2mno3.occupation.to_structure(), li2mno3.occupation.frame
    found = bonded_oxygens(structure, frame)
    assert len(found) == li2mno3.occupation.count()["O"]
    for o in found:
        assert o.o_class is OxygenClass.O4
        assert len(o.neighbours) == 2
        (direction,) = o.nonbonding_directions
        # The Li-O-Li axis: the two Li that are most nearly opposite each other.
        around = structure.get_neighbors(structure[o.atom], 2.6)
        to_li = [n.coords - structure[o.atom].coords for n in around if n.specie.symbol == "Li"]
        units = np.array(to_li) / np.linalg.norm(to_li, axis=1)[:, None]
        assert len(units) == 4
        i, j = np.unravel_index((units @ units.T).argmin(), (4, 4))
        axis = (units[i] - units[j]) / np.linalg.norm(units[i] - units[j])
        assert abs(axis @ direction) > np.cos(np.radians(6))


def test_licoo2_has_no_free_orbital(licoo2: PristineModel) -> None:
    for o in bonded_oxygens(licoo2.occupation.to_structure(), licoo2.occupation.frame):
        assert (o.o_class, len(o.neighbours)) == (OxygenClass.O3, 3)
        assert o.nonbonding_directions.shape == (0, 3)


def test_bonds_to_images_of_one_tm_are_counted() -> None:
    """Primitive LiCoO2: the three Co around an O are images of one atom."""
    model = build_pristine(
        "LiCoO2", superlattice=Superlattice.RANDOM, min_atoms=4, max_atoms=4
    ).occupation
    for o in bonded_oxygens(model.to_structure(), model.frame):
        assert o.n_tm == 3
        (cobalt,) = o.neighbours
        lengths = np.linalg.norm(cobalt.vectors, axis=1)
        assert lengths == pytest.approx(np.hypot(model.frame.a / np.sqrt(3), 2.15 / 2))
        assert len(o.nonbonding_directions) == 0


def test_frame_and_cutoff_agree_in_the_ideal_crystal(paper: PristineModel) -> None:
    structure = paper.occupation.to_structure()
    with_frame = bonded_oxygens(structure, paper.occupation.frame)
    without = bonded_oxygens(structure)
    for a, b in zip(with_frame, without, strict=True):
        assert (a.atom, a.n_tm) == (b.atom, b.n_tm)
        assert [n.atom for n in a.neighbours] == [n.atom for n in b.neighbours]


def test_tm_on_a_tetrahedron_is_no_octahedral_neighbour(li2mno3: PristineModel) -> None:
    occupation = li2mno3.occupation
    mn = occupation.sites_of("Mn")[0]
    tetrahedron = occupation.frame.neighbours(mn, Sharing.FACE, SiteKind.LI_TET)[0].site
    moved = occupation.with_species({mn: None, tetrahedron: "Mn"})
    classes = [o.n_tm for o in bonded_oxygens(moved.to_structure(), occupation.frame)]
    assert sorted(set(classes)) == [1, 2]
    assert classes.count(1) == 6  # the octahedron that the Mn left


def test_oxygen_off_the_frame_is_left_out_and_bad_cells_refused(li2mno3: PristineModel) -> None:
    structure = li2mno3.occupation.to_structure()
    frame = li2mno3.occupation.frame
    n_oxygen = li2mno3.occupation.count()["O"]
    structure.append("O", structure.frac_coords[li2mno3.occupation.sites_of("Li")[0]] + 0.02)
    assert len(bonded_oxygens(structure, frame)) == n_oxygen
    with pytest.raises(AssignmentError, match="strain"):
        bonded_oxygens(structure.copy().scale_lattice(3 * structure.volume), frame)


@pytest.mark.parametrize(
    ("directions", "n_free"),
    [
        ((), 3),
        (((1, 0, 0),), 2),
        (((1, 0, 0), (0, 1, 0)), 1),
        (((1, 0, 0.1), (-0.1, 1, 0)), 1),  # 96 degrees, as in a real layer
        (((1, 0, 0), (-1, 0.05, 0)), 2),  # on opposite sides: one orbital
        (((1, 0, 0), (0, 1, 0), (0, 0, 1)), 0),
        (((1, 0, 0), (0, 1, 0), (-1, 0, 0)), 1),
        (((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)), 0),
    ],
)
def test_free_directions_are_at_right_angles_to_bonds(directions, n_free: int) -> None:
    o = oxygen(*directions)
    free = o.nonbonding_directions
    assert free.shape == (n_free, 3)
    assert free @ free.T == pytest.approx(np.eye(n_free))
    for tm in o.neighbours:
        assert np.abs(free @ tm.vectors[0]).max(initial=0) < 0.11


def test_lengths_cross_the_cell_boundary() -> None:
    structure = Structure(Lattice.cubic(8), ["O", "Mn"], [[0.01, 0.5, 0.5], [0.79, 0.5, 1.5]])
    (o,) = bonded_oxygens(structure)
    assert o.n_tm == 1
    assert o.neighbours[0].vectors[0] == pytest.approx([-0.22 * 8, 0, 0])
    assert o.neighbours[0].length == pytest.approx(0.22 * 8)
    far = Structure(Lattice.cubic(8), ["O", "Mn"], [[0.01, 0.5, 0.5], [0.6, 0.5, 0.5]])
    assert bonded_oxygens(far)[0].o_class is OxygenClass.O6
