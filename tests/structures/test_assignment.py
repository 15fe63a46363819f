import numpy as np
import pytest
from pymatgen.core import Structure

from lrlo.structures.assignment import AssignmentError, SitePositions, assign
from lrlo.structures.frame import Sharing, SiteKind
from lrlo.structures.layered_oxide import PristineModel


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
    changed.perturb(0.25)
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
    structure.perturb(0.2)
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
