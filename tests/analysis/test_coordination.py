import pytest

from lrlo.analysis.coordination import frame_free_class_fractions, summarise_coordination
from lrlo.structures.frame import Sharing, SiteKind
from lrlo.structures.layered_oxide import PristineModel


def test_ideal_crystals(li2mno3: PristineModel, licoo2: PristineModel) -> None:
    honeycomb = summarise_coordination(li2mno3.occupation)
    assert honeycomb.class_fractions == {"O4": 1.0}
    assert honeycomb.o4_fraction == 1.0
    assert honeycomb.tm_tm_histogram == {3: 12}
    layered = summarise_coordination(licoo2.occupation)
    assert layered.class_fractions == {"O3": 1.0}
    assert layered.o4_fraction is None
    assert layered.tm_tm_coordination == 6


def test_one_swap_lowers_the_papers_fraction(li2mno3: PristineModel) -> None:
    occupation = li2mno3.occupation
    centre = occupation.sites_of("Li", SiteKind.TM_OCT)[0]
    mover = next(
        n.site
        for n in occupation.frame.neighbours(centre, Sharing.EDGE, SiteKind.TM_OCT)
        if occupation.species[n.site] == "Mn"
    )
    summary = summarise_coordination(occupation.with_species({centre: "Mn", mover: None}))
    assert summary.class_fractions == pytest.approx({"O3": 4 / 36, "O4": 28 / 36, "O5": 4 / 36})
    assert summary.o4_fraction == pytest.approx(28 / 32)
    assert summary.tm_tm_coordination > 3


def test_histogram_adds_up(paper: PristineModel) -> None:
    summary = summarise_coordination(paper.occupation)
    assert sum(entry.count for entry in summary.histogram) == summary.n_oxygen == 30
    assert sum(summary.class_fractions.values()) == pytest.approx(1)
    assert all(len(entry.tm_species) == entry.n_tm for entry in summary.histogram)


def test_tm_off_their_layer_are_counted(paper: PristineModel) -> None:
    occupation = paper.occupation
    mn, ni = occupation.sites_of("Mn")[0], occupation.sites_of("Ni")[0]
    tetrahedron = occupation.frame.neighbours(mn, Sharing.FACE, SiteKind.LI_TET)[0].site
    octahedron = occupation.sites_of("Li", SiteKind.LI_OCT)[0]
    moved = occupation.with_species({mn: None, tetrahedron: "Mn", ni: None, octahedron: "Ni"})
    summary = summarise_coordination(moved)
    assert (summary.n_tm_tet, summary.n_tm_li_layer) == (1, 1)


def test_frame_free_count_agrees_on_undistorted_cells(paper: PristineModel) -> None:
    summary = summarise_coordination(paper.occupation)
    structure = paper.occupation.to_structure()
    assert frame_free_class_fractions(structure) == pytest.approx(summary.class_fractions)
