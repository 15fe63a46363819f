import itertools
from math import comb

import numpy as np
import pytest

from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.hops import Hop, PathClass, find_hops, surroundings
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.oxygen_environment import OxygenClass, oxygen_environments
from lrlo.structures.oxygen_vacancies import oxygen_vacancies, oxygen_vacancies_near
from lrlo.structures.stacking import Stacking


@pytest.fixture(scope="module")
def charged(li2mno3: PristineModel) -> Occupation:
    """Li2MnO3 with the Li of one honeycomb centre gone."""
    occupation = li2mno3.occupation
    return occupation.with_species({occupation.sites_of("Li", SiteKind.TM_OCT)[0]: None})


@pytest.fixture(scope="module")
def hop(charged: Occupation) -> Hop:
    return find_hops(charged, ["Mn"], PathClass.IN_PLANE)[0]


def test_li2mno3_has_two_kinds_of_oxygen(li2mno3: PristineModel) -> None:
    """C2/m: O on 4i and on 8j, one to two."""
    vacancies = oxygen_vacancies(li2mno3.occupation)
    assert [v.defect.degeneracy for v in vacancies] == [24, 12]
    for vacancy in vacancies:
        assert vacancy.o_classes == (OxygenClass.O4,)
        assert vacancy.distance is None
        assert vacancy.defect.charge.change == 2.0
        assert vacancy.defect.occupation.count()["O"] == 35


def test_pairs_add_up(li2mno3: PristineModel) -> None:
    pairs = oxygen_vacancies(li2mno3.occupation, 2)
    assert sum(p.defect.degeneracy for p in pairs) == comb(36, 2)
    assert all(len(p.sites) == len(p.o_classes) == 2 for p in pairs)


def test_classes_choose_the_oxygen(paper: PristineModel) -> None:
    occupation = paper.occupation
    for wanted in (OxygenClass.O3, OxygenClass.O4):
        there = {e.site for e in oxygen_environments(occupation) if e.o_class is wanted}
        vacancies = oxygen_vacancies(occupation, o_class=wanted)
        assert {v.sites[0] for v in vacancies} <= there
        assert sum(v.defect.degeneracy for v in vacancies) == len(there) > 0


def test_vacancy_shows_in_the_surroundings_of_the_hop(charged: Occupation, hop: Hop) -> None:
    for vacancy in oxygen_vacancies_near(charged, hop, max_distance=2.0):
        assert surroundings(vacancy.defect.occupation, hop).n_oxygen_vacancies == 1
    far = [
        v for v in oxygen_vacancies_near(charged, hop, max_distance=4.0) if (v.distance or 0) > 2.5
    ]
    assert far
    assert all(surroundings(v.defect.occupation, hop).n_oxygen_vacancies == 0 for v in far)


def test_distances_are_those_to_the_path(charged: Occupation, hop: Hop) -> None:
    """Sampled along the path, over all near images."""
    frame = charged.frame
    assert hop.via is not None
    corners = [frame.frac_coords[hop.start]] + [
        frame.frac_coords[n.site] + n.image for n in (hop.via, hop.end)
    ]
    share = np.linspace(0, 1, 2001)[:, None]
    path = np.concatenate([a + share * (b - a) for a, b in itertools.pairwise(corners)])
    images = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3)
    near = oxygen_vacancies_near(charged, hop, max_distance=3.5)
    distances = [v.distance for v in near]
    assert sorted(distances) == pytest.approx(distances, abs=1e-6)
    for vacancy in near:
        offsets = path[:, None] - (frame.frac_coords[vacancy.sites[0]] + images)[None]
        sampled = np.linalg.norm(offsets @ frame.lattice, axis=-1).min()
        assert vacancy.distance == pytest.approx(sampled, abs=1e-4)


def test_all_near_oxygen_is_found_once(charged: Occupation, hop: Hop) -> None:
    passed = {
        corner.site
        for site in (hop.start, hop.via.site, hop.end.site)
        for corner in charged.frame.vertices[site]
    }
    near = oxygen_vacancies_near(charged, hop, max_distance=2.0)
    assert sum(v.defect.degeneracy for v in near) == len(passed) == 10


def test_hop_symmetry_joins_equivalent_oxygen() -> None:
    """A Li dumbbell hop in R-3m lies on a two-fold axis, which pairs the ten O around it."""
    frame = layered_frame(Stacking.O3, np.diag([3, 3, 3]))
    full = empty_frame(frame).with_species(
        dict.fromkeys(frame.sites(SiteKind.TM_OCT).tolist(), "Co")
        | dict.fromkeys(frame.sites(SiteKind.LI_OCT).tolist(), "Li")
    )
    opened = full.with_species({full.sites_of("Li")[0]: None})
    hop = find_hops(opened, ["Li"], PathClass.LI_HOP)[0]
    near = oxygen_vacancies_near(opened, hop, max_distance=2.11)
    assert [v.defect.degeneracy for v in near] == [2, 2, 2, 2, 2]
    edge = {v.site for v in frame.vertices[hop.start]} & {
        v.site for v in frame.vertices[hop.end.site]
    }
    assert near[0].sites[0] in edge  # the O-O edge that the Li passes is nearest
    assert near[0].distance is not None
    assert near[1].distance is not None
    assert near[0].distance < near[1].distance - 0.5


def test_bad_requests(li2mno3: PristineModel, charged: Occupation, hop: Hop) -> None:
    pristine = li2mno3.occupation
    with pytest.raises(ValueError, match=r"no O of class O5 in this cell; it has O4 \(36\)"):
        oxygen_vacancies(pristine, o_class=OxygenClass.O5)
    for number in (0, -1):
        with pytest.raises(ValueError, match="must be positive"):
            oxygen_vacancies(pristine, number)
    with pytest.raises(ValueError, match="cannot remove 37 of 36 O"):
        oxygen_vacancies(pristine, 37)
    with pytest.raises(ValueError, match="limit of 3"):
        oxygen_vacancies(pristine, 2, max_distinct=3)
    for distance in (0.0, -2.0):
        with pytest.raises(ValueError, match="max_distance must be positive"):
            oxygen_vacancies_near(charged, hop, max_distance=distance)
    with pytest.raises(ValueError, match=r"no O within 0.5 Å"):
        oxygen_vacancies_near(charged, hop, max_distance=0.5)
    bare = charged.with_species(dict.fromkeys(charged.sites_of("O")))
    with pytest.raises(ValueError, match="it has no O"):
        oxygen_vacancies(bare)
