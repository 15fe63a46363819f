import doctest
from collections import Counter
from functools import cache

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Species, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from lrlo.structures import crystals
from lrlo.structures.assignment import Assignment, assign
from lrlo.structures.crystals import (
    CRYSTALS,
    OrderedCrystal,
    PublishedCrystal,
    build_crystal,
    named_crystal,
)
from lrlo.structures.frame import Sharing, SiteKind
from lrlo.structures.oxygen_environment import oxygen_environments, tm_coordination
from lrlo.structures.stacking_faults import build_faulted_honeycomb


@cache
def crystal_structure(name: str) -> Structure:
    return build_crystal(name)


@cache
def assignment_of(name: str) -> Assignment:
    return assign(crystal_structure(name), CRYSTALS[name].frame())


PUBLISHED = [c for c in CRYSTALS.values() if isinstance(c, PublishedCrystal)]
ORDERED = [c for c in CRYSTALS.values() if isinstance(c, OrderedCrystal)]

#: Oxidation states, and spin where the ion has a choice, for the ionic radii.
STATES = {
    "Li2MnO3": {"Li": (1, ""), "Mn": (4, "")},
    "LiCoO2": {"Li": (1, ""), "Co": (3, "Low Spin")},
    "LiNiO2": {"Li": (1, ""), "Ni": (3, "Low Spin")},
    "LiMnO2-C2/m": {"Li": (1, ""), "Mn": (3, "High Spin")},
    "LiMnO2-Pmmn": {"Li": (1, ""), "Mn": (3, "High Spin")},
    "Li2RuO3": {"Li": (1, ""), "Ru": (4, "")},
    "Li2IrO3": {"Li": (1, ""), "Ir": (4, "")},
    "NiO": {"Ni": (2, "")},
}

#: a, b, c (Å) and beta of independent determinations: Li2MnO3 of Massarotti et al., J. Appl.
#: Crystallogr. 30, 123 (1997); Li2IrO3 of Freund et al., Sci. Rep. 6, 35362 (2016); LiNiO2 of
#: Ohzuku et al., J. Electrochem. Soc. 140, 1862 (1993).
OTHER_CELLS = {
    "Li2MnO3": (4.9246, 8.5216, 5.0245, 109.398),
    "Li2IrO3": (5.1749, 8.9359, 5.1194, 109.827),
    "LiNiO2": (2.88, 2.88, 14.18, 90.0),
}


@pytest.mark.parametrize("crystal", PUBLISHED, ids=lambda c: c.name)
def test_space_group_lattice_and_multiplicities(crystal: PublishedCrystal) -> None:
    structure = crystal_structure(crystal.name)
    analyzer = SpacegroupAnalyzer(structure, symprec=0.01)
    assert analyzer.get_space_group_number() == crystal.space_group
    assert structure.lattice.parameters == pytest.approx(crystal.lattice)
    found = Counter(
        (str(sites[0].specie), f"{len(sites)}")
        for sites in analyzer.get_symmetrized_structure().equivalent_sites
    )
    multiplicities = ((s.species, s.wyckoff.rstrip("abcdefghij")) for s in crystal.sites)
    assert found == Counter(multiplicities)


@pytest.mark.parametrize(("name", "cell"), OTHER_CELLS.items())
def test_cells_agree_with_other_determinations(name: str, cell: tuple[float, ...]) -> None:
    lattice = crystal_structure(name).lattice
    assert (*lattice.abc, lattice.beta) == pytest.approx(cell, rel=0.005)


@pytest.mark.parametrize("name", STATES)
def test_bond_lengths_are_sums_of_ionic_radii(name: str) -> None:
    """Shannon radii of six-fold cations and 1.40 Å of O2-, against the mean of six bonds.

    Li is soft: in the TM layer its octahedra are those of the smaller metals beside it.
    """
    structure = crystal_structure(name)
    for site in structure:
        symbol = site.specie.symbol
        if symbol == "O":
            continue
        state, spin = STATES[name][symbol]
        radius = Species(symbol, state).get_shannon_radius("VI", spin=spin)
        bonds = sorted(
            n.nn_distance for n in structure.get_neighbors(site, 3.2) if n.specie.symbol == "O"
        )[:6]
        assert np.mean(bonds) == pytest.approx(radius + 1.40, rel=0.08 if symbol == "Li" else 0.03)
        assert bonds[0] > 1.8


@pytest.mark.parametrize("name", CRYSTALS)
def test_no_ions_too_close(name: str) -> None:
    structure = crystal_structure(name) * (2, 2, 2)  # shortest images, too
    distances = np.array(structure.distance_matrix)
    np.fill_diagonal(distances, np.inf)
    oxygen = np.array([site.specie.symbol == "O" for site in structure])
    assert distances.min() > 1.8
    assert distances[np.ix_(oxygen, oxygen)].min() > 2.4
    assert distances[np.ix_(~oxygen, ~oxygen)].min() > 2.3


@pytest.mark.parametrize("name", CRYSTALS)
def test_every_ion_has_its_site(name: str) -> None:
    assignment = assignment_of(name)
    assert assignment.unexplained == ()
    assert assignment.displacements.max() < 0.25
    assert np.abs(assignment.strain).max() < 0.1


@pytest.mark.parametrize(
    ("name", "o_class"),
    [
        ("Li2MnO3", "O4"),
        ("Li2RuO3", "O4"),
        ("Li2IrO3", "O4"),
        ("LiCoO2", "O3"),
        ("LiNiO2", "O3"),
        ("LiMnO2-C2/m", "O3"),
        ("LiNi1/3Co1/3Mn1/3O2", "O3"),
        ("LiMn2O4", "O3"),
        ("Co3O4", "O3"),
    ],
)
def test_one_oxygen_class(name: str, o_class: str) -> None:
    occupation = assignment_of(name).occupation
    assert {e.o_class.value for e in oxygen_environments(occupation)} == {o_class}


@pytest.mark.parametrize("name", ["Li2MnO3", "Li2RuO3", "Li2IrO3", "LiCoO2", "LiMnO2-C2/m"])
def test_layered_crystals_have_their_tm_in_the_tm_layer(name: str) -> None:
    occupation = assignment_of(name).occupation
    assert set(occupation.count(SiteKind.LI_OCT)) == {"Li"}
    assert occupation.count(SiteKind.LI_OCT)["Li"] == len(occupation.frame.sites(SiteKind.LI_OCT))


def test_li2ruo3_stacks_like_the_alternating_fault() -> None:
    """The published C2/c crystal is the polytype whose shift turns to and fro."""
    faulted = build_faulted_honeycomb("Li2RuO3", (0, 120)).occupation.to_structure()
    matcher = StructureMatcher(ltol=0.2, stol=0.2, angle_tol=5)
    assert matcher.fit(build_crystal("Li2RuO3"), faulted)
    straight = build_faulted_honeycomb("Li2RuO3", (0, 0)).occupation.to_structure()
    symbols = {s.get_space_group_info(symprec=0.01)[0] for s in (faulted, straight)}
    assert symbols == {"C2/c", "C2/m"}


def averaged(crystal: OrderedCrystal) -> Structure:
    """One species on the TM layer, the Li layer full."""
    occupation = crystal.occupation()
    frame = occupation.frame
    return occupation.with_species(
        {int(s): "Mn" for s in frame.sites(SiteKind.TM_OCT)}
        | {int(s): "Li" for s in frame.sites(SiteKind.LI_OCT)}
    ).to_structure()


@pytest.mark.parametrize("crystal", ORDERED, ids=lambda c: c.name)
def test_average_structures(crystal: OrderedCrystal) -> None:
    analyzer = SpacegroupAnalyzer(averaged(crystal), symprec=0.01)
    assert analyzer.get_space_group_number() == crystal.space_group
    assert analyzer.get_space_group_symbol() == crystal.symbol
    cell = analyzer.get_conventional_standard_structure().lattice
    assert (cell.a, cell.c) == pytest.approx(crystal.lattice)


def test_ncm_order() -> None:
    """sqrt(3) x sqrt(3) in P3_112: every TM has three of each other kind around it."""
    crystal = named_crystal("LiNi1/3Co1/3Mn1/3O2")
    structure = crystal.structure()
    assert structure.get_space_group_info(symprec=0.01) == ("P3_112", 151)
    assert structure.lattice.a == pytest.approx(np.sqrt(3) * 2.862)
    assert isinstance(crystal, OrderedCrystal)
    occupation = crystal.occupation()
    for site in occupation.frame.sites(SiteKind.TM_OCT):
        around = Counter(
            occupation.species[n.site]
            for n in occupation.frame.neighbours(int(site), Sharing.EDGE, SiteKind.TM_OCT)
        )
        assert sorted(around.values()) == [3, 3]
        assert occupation.species[site] not in around


@pytest.mark.parametrize(
    ("name", "tm_layer", "li_layer"),
    [
        ("O2-Li0.83[Li0.2Ni0.2Mn0.6]O2", {"Li": 6, "Ni": 6, "Mn": 18}, 25),
        ("O2-Li1.25Co0.25Mn0.5O2", {"Li": 6, "Co": 6, "Mn": 12}, 24),
    ],
)
def test_o2_crystals(name: str, tm_layer: dict[str, int], li_layer: int) -> None:
    crystal = named_crystal(name)
    assert isinstance(crystal, OrderedCrystal)
    occupation = crystal.occupation()
    frame = occupation.frame
    assert occupation.count(SiteKind.TM_OCT) == tm_layer
    assert occupation.count(SiteKind.LI_OCT) == {"Li": li_layer}
    for site in occupation.sites_of("Li", SiteKind.TM_OCT):
        assert tm_coordination(occupation, site) == 6
    for site in frame.sites(SiteKind.LI_OCT):  # O2: a face with one TM octahedron
        assert len(frame.neighbours(int(site), Sharing.FACE, SiteKind.TM_OCT)) == 1
    per_layer = Counter(int(frame.layers[s]) for s in occupation.sites_of("Li", SiteKind.TM_OCT))
    assert len(set(per_layer.values())) == 1


def test_vacancies_are_no_first_neighbours() -> None:
    crystal = named_crystal("O2-Li0.83[Li0.2Ni0.2Mn0.6]O2")
    assert isinstance(crystal, OrderedCrystal)
    occupation = crystal.occupation()
    frame = occupation.frame
    empty = occupation.sites_of(None, SiteKind.LI_OCT)
    for site in empty:
        around = frame.neighbours(site, Sharing.EDGE, SiteKind.LI_OCT)
        assert all(n.site not in empty for n in around)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="no crystal is named 'LiFePO4'; there are Li2MnO3"):
        build_crystal("LiFePO4")


def test_examples() -> None:
    assert doctest.testmod(crystals).failed == 0
