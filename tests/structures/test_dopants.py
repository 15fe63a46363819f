from math import comb

import numpy as np
import pytest

from lrlo.structures.defects import make_defect
from lrlo.structures.dopants import distinct_dopants, random_dopants
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.rock_salt import CUBIC_CELL, rock_salt_frame
from lrlo.structures.site_classes import SiteClass, sites_of_class
from lrlo.structures.stacking import Stacking
from lrlo.structures.symmetry import site_permutations


@pytest.fixture(scope="module")
def rhombohedral() -> Occupation:
    """LiCoO2, 2 x 2 x 2 primitive cells, R-3m kept."""
    frame = layered_frame(Stacking.O3, np.diag([2, 2, 2]))
    return empty_frame(frame).with_species(
        dict.fromkeys(frame.sites(SiteKind.TM_OCT).tolist(), "Co")
        | dict.fromkeys(frame.sites(SiteKind.LI_OCT).tolist(), "Li")
    )


def test_classes_are_counted_by_hand(li2mno3: PristineModel) -> None:
    """Li2MnO3 = Li[Li1/3 Mn2/3]O2: 18 formula units."""
    classes = [c for c in SiteClass if c is not SiteClass.LI]
    numbers = {c: len(sites_of_class(li2mno3.occupation, c)) for c in classes}
    assert numbers == {
        SiteClass.TM: 12,
        SiteClass.TM_LAYER_LI: 6,
        SiteClass.LI_LAYER: 18,
        SiteClass.ANION: 36,
    }


def test_rock_salt_has_classes_without_layers() -> None:
    frame = rock_salt_frame(2 * CUBIC_CELL)
    cations = frame.sites(SiteKind.CATION_OCT).tolist()
    occupation = empty_frame(frame).with_species(
        dict.fromkeys(cations[:20], "Li") | dict.fromkeys(cations[20:], "Mn")
    )
    assert len(sites_of_class(occupation, SiteClass.LI)) == 20
    assert len(sites_of_class(occupation, SiteClass.TM)) == 12
    doped = random_dopants(occupation, {"Ti": 3}, SiteClass.TM, seed=2)
    assert doped.occupation.count() == {"Li": 20, "Mn": 9, "Ti": 3, "O": 32}
    having = r"disordered rock salt cell; it has tm \(12\), li \(20\), anion \(32\)"
    with pytest.raises(ValueError, match=having):
        sites_of_class(occupation, SiteClass.LI_LAYER)
    with pytest.raises(ValueError, match="layer 0; it has layers none"):
        sites_of_class(occupation, SiteClass.TM, layer=0)


def test_layers_share_the_sites_of_a_class(rhombohedral: Occupation) -> None:
    layers = [sites_of_class(rhombohedral, SiteClass.TM, layer=n) for n in (0, 1)]
    assert [len(sites) for sites in layers] == [4, 4]
    heights = [np.unique(rhombohedral.frame.frac_coords[list(s), 2].round(6)) for s in layers]
    assert [len(h) for h in heights] == [1, 1]
    assert set(layers[0]).isdisjoint(layers[1])


def test_one_dopant_is_the_same_everywhere(rhombohedral: Occupation) -> None:
    for site_class, n in ((SiteClass.TM, 8), (SiteClass.LI_LAYER, 8), (SiteClass.ANION, 16)):
        placements = distinct_dopants(rhombohedral, {"Mg": 1}, site_class)
        assert [p.degeneracy for p in placements] == [n]


def test_two_dopants_by_hand(rhombohedral: Occupation) -> None:
    """Eight sites of a 2 x 2 x 2 rhombohedral mesh: the seven others fall under -3m into the
    three mesh vectors, the three sums of two, and the sum of all three."""
    placements = distinct_dopants(rhombohedral, {"Al": 2}, SiteClass.TM)
    assert sorted(p.degeneracy for p in placements) == [4, 12, 12]
    assert sum(p.degeneracy for p in placements) == comb(8, 2)


def test_two_sorts_of_dopants_are_placed_together(rhombohedral: Occupation) -> None:
    placements = distinct_dopants(rhombohedral, {"Al": 1, "Ti": 2}, SiteClass.TM)
    assert sum(p.degeneracy for p in placements) == 8 * comb(7, 2)
    permutations = site_permutations(rhombohedral)
    seen = set()
    for placement in placements:
        assert placement.occupation.count(SiteKind.TM_OCT) == {"Co": 5, "Al": 1, "Ti": 2}
        species = np.array([str(s) for s in placement.occupation.species])
        orbit = {tuple(species[p]) for p in permutations}
        assert len(orbit) == placement.degeneracy
        assert seen.isdisjoint(orbit)
        seen |= orbit


def test_degeneracy_within_one_layer(rhombohedral: Occupation) -> None:
    placements = distinct_dopants(rhombohedral, {"Al": 1}, SiteClass.TM, layer=0)
    assert [p.degeneracy for p in placements] == [4]
    assert {rhombohedral.frame.layers[s] for p in placements for s in p.changes} == {0}


def test_replaces_one_species_only(paper: PristineModel) -> None:
    ni = set(paper.occupation.sites_of("Ni"))
    placements = distinct_dopants(paper.occupation, {"Al": 1}, SiteClass.TM, replaces="Ni")
    assert sum(p.degeneracy for p in placements) == len(ni)
    assert all(set(p.changes) <= ni for p in placements)


def test_charge_is_reported_and_not_corrected(li2mno3: PristineModel) -> None:
    pristine = li2mno3.occupation
    doped = random_dopants(pristine, {"Al": 2}, SiteClass.TM, seed=3)
    assert (doped.charge.before, doped.charge.after) == (0.0, -2.0)  # Al3+ for Mn4+
    assert doped.occupation.count()["Li"] == pristine.count()["Li"]
    fluorinated = random_dopants(pristine, {"F": 3}, SiteClass.ANION, seed=3)
    assert fluorinated.charge.change == 3.0
    chosen = random_dopants(pristine, {"Al": 2}, SiteClass.TM, seed=3, oxidation_states={"Al": 4})
    assert chosen.charge.change == 0.0


def test_random_placement_is_seeded_and_uniform(li2mno3: PristineModel) -> None:
    pristine = li2mno3.occupation

    def sites(seed: int) -> frozenset[int]:
        return frozenset(random_dopants(pristine, {"Ti": 1}, SiteClass.TM, seed=seed).changes)

    assert sites(5) == sites(5)
    drawn = [next(iter(sites(seed))) for seed in range(600)]
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == 12
    # Chi squared with 11 degrees of freedom: 31.3 is exceeded once in a thousand.
    assert ((counts - 50) ** 2 / 50).sum() < 31.3


def test_dopants_leave_their_own_kind_alone(paper: PristineModel) -> None:
    doped = random_dopants(paper.occupation, {"Co": 2}, SiteClass.TM, seed=1)
    before = paper.occupation.count()["Co"]
    assert doped.occupation.count()["Co"] == before + 2


@pytest.mark.parametrize(
    ("dopants", "site_class", "options", "message"),
    [
        ({"Ti": 1}, SiteClass.TM_LAYER_LI, {}, r"no site of class tm_layer_li in this O3 cell"),
        ({"Ti": 1}, SiteClass.TM_LAYER_LI, {}, r"it has tm \(8\), li_layer \(8\), anion \(16\)"),
        ({"Ti": 1}, SiteClass.TM, {"layer": 2}, "no site of class tm in layer 2; .* 0, 1"),
        ({"Ti": 9}, SiteClass.TM, {}, "9 dopants do not fit on 8 sites of class tm"),
        ({"Ti": 5}, SiteClass.TM, {"layer": 1}, "5 dopants do not fit on 4 sites"),
        ({"Ti": 1}, SiteClass.TM, {"replaces": "Ni"}, "no Ni on sites of class tm; they hold Co"),
        ({"Ti": 0}, SiteClass.TM, {}, "must be positive"),
        ({"Ti": -1}, SiteClass.TM, {}, "must be positive"),
        ({"Xx": 1}, SiteClass.TM, {}, "unknown elements among the dopants: Xx"),
        ({}, SiteClass.TM, {}, "no dopant given"),
        ({"Bi": 1}, SiteClass.TM, {}, "no oxidation state known for Bi"),
    ],
)
def test_bad_requests(rhombohedral, dopants, site_class, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        distinct_dopants(rhombohedral, dopants, site_class, **options)
    with pytest.raises(ValueError, match=message):
        random_dopants(rhombohedral, dopants, site_class, seed=1, **options)


def test_too_many_placements_are_refused_before_they_are_made(li2mno3: PristineModel) -> None:
    with pytest.raises(ValueError, match=r"9075135300 in all.*limit of 10000.*at random"):
        distinct_dopants(li2mno3.occupation, {"F": 18}, SiteClass.ANION)


def test_defect_of_a_vacancy(li2mno3: PristineModel) -> None:
    pristine = li2mno3.occupation
    site = pristine.sites_of("Mn")[0]
    defect = make_defect(pristine, {site: None})
    assert defect.occupation.species[site] is None
    assert defect.charge.change == -4.0
