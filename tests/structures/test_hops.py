import itertools
from collections import Counter

import numpy as np
import pytest

from lrlo.structures.assignment import assign
from lrlo.structures.frame import Sharing, SiteKind
from lrlo.structures.hops import (
    PathClass,
    all_hops,
    find_hops,
    hop_images,
    surroundings,
    vacancy_cluster,
    why_no_hop,
)
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation
from lrlo.structures.symmetry import site_permutations


@pytest.fixture(scope="module")
def one_vacancy(li2mno3: PristineModel) -> Occupation:
    """Li2MnO3 with the Li of one honeycomb centre gone."""
    occupation = li2mno3.occupation
    return occupation.with_species({occupation.sites_of("Li", SiteKind.TM_OCT)[0]: None})


def test_in_plane_hops_into_one_centre(one_vacancy: Occupation) -> None:
    """Six Mn around the centre, two tetrahedra over every shared edge."""
    hops = all_hops(one_vacancy, ["Mn"], PathClass.IN_PLANE)
    assert len(hops) == 12
    assert len({hop.start for hop in hops}) == 6
    frame = one_vacancy.frame
    for hop in hops:
        assert hop.via is not None
        faces = {n.site for n in frame.neighbours(hop.via.site, Sharing.FACE)}
        assert {hop.start, hop.end.site} <= faces


def test_distinct_hops_times_degeneracy_are_all_hops(one_vacancy: Occupation) -> None:
    distinct = find_hops(one_vacancy, ["Mn"], PathClass.IN_PLANE)
    assert sum(hop.degeneracy for hop in distinct) == 12
    # The centre's site symmetry in C2/m is 2/m (order 4): 12 events in three orbits of four.
    assert [hop.degeneracy for hop in distinct] == [4, 4, 4]


def test_out_of_plane_needs_a_vacancy_in_the_li_layer(one_vacancy: Occupation) -> None:
    assert find_hops(one_vacancy, ["Mn"], PathClass.OUT_OF_PLANE) == ()
    assert "no vacancy on li_oct" in why_no_hop(one_vacancy, ["Mn"], PathClass.OUT_OF_PLANE)
    assert "no Co on tm_oct" in why_no_hop(one_vacancy, ["Co"], PathClass.IN_PLANE)
    frame = one_vacancy.frame
    mn = one_vacancy.sites_of("Mn")[0]
    tetrahedron = frame.neighbours(mn, Sharing.FACE, SiteKind.LI_TET)[0].site
    octahedron = frame.neighbours(tetrahedron, Sharing.FACE, SiteKind.LI_OCT)[0].site
    opened = one_vacancy.with_species({octahedron: None})
    hops = all_hops(opened, ["Mn"], PathClass.OUT_OF_PLANE)
    assert any(h.start == mn and h.via and h.via.site == tetrahedron for h in hops)
    assert {h.end.site for h in hops} == {octahedron}


def test_traps_are_the_two_tetrahedra_over_and_under_a_tm(one_vacancy: Occupation) -> None:
    hops = all_hops(one_vacancy, ["Mn"], PathClass.OUT_OF_PLANE_TRAP)
    assert Counter(hop.start for hop in hops) == dict.fromkeys(one_vacancy.sites_of("Mn"), 2)
    assert all(hop.via is None for hop in hops)


def test_lithium_hops_use_the_tetrahedra_of_their_layer(li2mno3: PristineModel) -> None:
    occupation = li2mno3.occupation
    vacancy = occupation.sites_of("Li", SiteKind.LI_OCT)[0]
    opened = occupation.with_species({vacancy: None})
    hops = all_hops(opened, ["Li"], PathClass.LI_HOP)
    assert len({hop.start for hop in hops}) == 6
    assert len(hops) == 12


def test_surroundings_by_hand(one_vacancy: Occupation) -> None:
    hop = find_hops(one_vacancy, ["Mn"], PathClass.IN_PLANE)[0]
    around = surroundings(one_vacancy, hop)
    assert around.o_classes_left == "O4:6"
    assert around.o_classes_joined == "O4:6"
    assert around.tm_coordination_start == 3
    assert around.tm_coordination_end == 5
    assert around.vacancy_cluster_size == 1
    # Waypoint tetrahedron: three tm_oct (mover, vacancy, one Mn) and one li_oct (Li).
    assert around.n_face_sharing_cations == 2
    assert around.n_face_sharing_vacancies == 1
    assert around.li_fraction_li_layer == 1.0


def test_vacancy_clusters_grow_over_shared_edges(one_vacancy: Occupation) -> None:
    centre = one_vacancy.sites_of(None, SiteKind.TM_OCT)[0]
    assert vacancy_cluster(one_vacancy, centre) == {centre}
    beside = one_vacancy.frame.neighbours(centre, Sharing.EDGE, SiteKind.LI_OCT)[0].site
    larger = one_vacancy.with_species({beside: None})
    assert vacancy_cluster(larger, centre) == {centre, beside}


@pytest.mark.parametrize("path_class", [PathClass.IN_PLANE, PathClass.OUT_OF_PLANE_TRAP])
def test_images_end_on_the_frame(one_vacancy: Occupation, path_class: PathClass) -> None:
    structure = one_vacancy.to_structure()
    structure.perturb(0.1)
    assignment = assign(structure, one_vacancy.frame)
    for hop in find_hops(one_vacancy, ["Mn"], path_class):
        images = hop_images(structure, assignment, hop)
        final = assign(images[-1], one_vacancy.frame).occupation
        assert final == one_vacancy.with_species({hop.start: None, hop.end.site: "Mn"})
        mover = assignment.atom_on(hop.start)
        steps = [
            np.linalg.norm(
                structure.lattice.get_cartesian_coords(b.frac_coords[mover] - a.frac_coords[mover])
            )
            for a, b in itertools.pairwise(images)
        ]
        assert all(1.2 < step < 2.3 for step in steps)  # octahedron to tetrahedron, no wrapping


def test_hop_that_does_not_fit_the_structure_is_refused(one_vacancy: Occupation) -> None:
    hop = find_hops(one_vacancy, ["Mn"], PathClass.IN_PLANE)[0]
    structure = one_vacancy.to_structure()
    taken = one_vacancy.with_species({hop.end.site: "Li"})
    with pytest.raises(ValueError, match="is taken"):
        hop_images(taken.to_structure(), assign(taken.to_structure(), taken.frame), hop)
    assignment = assign(structure, one_vacancy.frame)
    with pytest.raises(ValueError, match="not Ni"):
        hop_images(structure, assignment, hop.model_copy(update={"mover": "Ni"}))


def test_permutations_are_a_group_that_keeps_the_decoration(one_vacancy: Occupation) -> None:
    permutations = site_permutations(one_vacancy)
    known = {tuple(p) for p in permutations.tolist()}
    for p in permutations:
        assert all(
            one_vacancy.species[i] == one_vacancy.species[j]
            and one_vacancy.frame.kinds[i] == one_vacancy.frame.kinds[j]
            for i, j in enumerate(p)
        )
        assert all(tuple(p[q]) in known for q in permutations)
