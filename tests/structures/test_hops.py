import itertools
from collections import Counter

import numpy as np
import pytest

from lrlo.structures.assignment import assign
from lrlo.structures.frame import Sharing, SiteKind, layered_frame, lithium_layer_sites
from lrlo.structures.hops import (
    Hop,
    LithiumMechanism,
    PathClass,
    all_hops,
    find_hops,
    hop_images,
    hops_without_lithium,
    surroundings,
    vacancy_cluster,
    why_no_hop,
)
from lrlo.structures.layered_oxide import PristineModel, build_pristine
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.rock_salt import rock_salt_frame
from lrlo.structures.stacking import Stacking
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


def ordered(stacking: Stacking, matrix: np.ndarray) -> Occupation:
    """LiCoO2 with every site of both layers full."""
    frame = layered_frame(stacking, matrix)
    return empty_frame(frame).with_species(
        dict.fromkeys(frame.sites(SiteKind.TM_OCT).tolist(), "Co")
        | dict.fromkeys(frame.sites(SiteKind.LI_OCT).tolist(), "Li")
    )


#: Ways of one TM into empty Li layers: (through tetrahedra, straight through a shared face). In
#: O3 both Li layers lie behind a tetrahedron with three octahedra each, in O1 both behind a
#: shared face, in O2 one layer is of either sort.
WAYS_OUT = {Stacking.O3: (6, 0), Stacking.O2: (3, 1), Stacking.O1: (0, 2)}


@pytest.mark.parametrize("stacking", list(WAYS_OUT))
def test_out_of_plane_routes_follow_the_stacking(stacking: Stacking) -> None:
    full = ordered(stacking, np.diag([3, 3, 2]))
    delithiated = full.with_species(dict.fromkeys(full.sites_of("Li")))
    hops = all_hops(delithiated, ["Co"], PathClass.OUT_OF_PLANE)
    for start in full.sites_of("Co"):
        own = [hop for hop in hops if hop.start == start]
        straight = [hop for hop in own if hop.via is None]
        assert (len(own) - len(straight), len(straight)) == WAYS_OUT[stacking]
    traps = all_hops(delithiated, ["Co"], PathClass.OUT_OF_PLANE_TRAP)
    tetrahedra, shared_faces = WAYS_OUT[stacking]
    assert len(traps) == (2 - shared_faces) * len(full.sites_of("Co"))
    assert tetrahedra == 3 * (2 - shared_faces)


def test_straight_route_of_o2_runs_along_the_layer_normal() -> None:
    full = ordered(Stacking.O2, np.diag([3, 3, 1]))
    opened = full.with_species({full.sites_of("Li")[0]: None})
    hops = [h for h in find_hops(opened, ["Co"], PathClass.OUT_OF_PLANE) if h.via is None]
    assert [hop.degeneracy for hop in hops] == [1]  # the one TM that shares a face
    structure = opened.to_structure()
    assignment = assign(structure, opened.frame)
    images = hop_images(structure, assignment, hops[0])
    assert len(images) == 2
    mover = assignment.atom_on(hops[0].start)
    step = images[1][mover].coords - images[0][mover].coords
    half_repeat = (opened.frame.tm_slab + opened.frame.li_gap) / 2
    np.testing.assert_allclose(np.abs(step), [0, 0, half_repeat], atol=1e-9)
    assert surroundings(opened, hops[0]).n_face_sharing_cations == 0


def test_no_trap_where_no_tetrahedron_faces_the_tm() -> None:
    full = ordered(Stacking.O1, np.diag([2, 2, 2]))
    reason = why_no_hop(full, ["Co"], PathClass.OUT_OF_PLANE_TRAP)
    assert reason == "no tm_oct shares a face with li_tet in a frame of O1"


@pytest.mark.parametrize("stacking", list(WAYS_OUT))
def test_single_vacancy_takes_six_dumbbell_hops(stacking: Stacking) -> None:
    full = ordered(stacking, np.diag([4, 4, 2]))
    vacancy = full.sites_of("Li")[0]
    opened = full.with_species({vacancy: None})
    hops = all_hops(opened, ["Li"], PathClass.LI_HOP)
    assert len(hops) == len({hop.start for hop in hops}) == 6
    for hop in hops:
        assert (hop.mechanism, hop.via) == (LithiumMechanism.DUMBBELL, None)
        shared = {v.site for v in full.frame.vertices[hop.start]} & {
            v.site for v in full.frame.vertices[vacancy]
        }
        assert len(shared) == 2  # the O-O edge


def test_divacancy_is_told_from_dumbbell() -> None:
    """Two Li neighbour both vacancies, and hop to either; three more at each hop over the edge."""
    full = ordered(Stacking.O3, np.diag([4, 4, 3]))
    first = full.sites_of("Li")[0]
    second = full.frame.neighbours(first, Sharing.EDGE, SiteKind.LI_OCT)[0].site
    opened = full.with_species({first: None, second: None})
    hops = all_hops(opened, ["Li"], PathClass.LI_HOP)
    by_mechanism = Counter(hop.mechanism for hop in hops)
    assert by_mechanism == {LithiumMechanism.DIVACANCY: 4, LithiumMechanism.DUMBBELL: 6}
    through = [hop for hop in hops if hop.mechanism is LithiumMechanism.DIVACANCY]
    assert Counter(hop.end.site for hop in through) == {first: 2, second: 2}
    for hop in through:
        assert hop.via is not None
        around = {n.site for n in full.frame.neighbours(hop.via.site, Sharing.FACE)}
        assert {first, second, hop.start} <= around
        assert surroundings(opened, hop).n_face_sharing_vacancies == 2
        assert surroundings(opened, hop).n_face_sharing_cations == 1  # the Co


def test_vacancy_in_the_tm_layer_opens_the_tetrahedron_too(li2mno3: PristineModel) -> None:
    full = li2mno3.occupation
    centre = full.sites_of("Li", SiteKind.TM_OCT)[0]
    tetrahedron = full.frame.neighbours(centre, Sharing.FACE, SiteKind.LI_TET)[0].site
    end = full.frame.neighbours(tetrahedron, Sharing.FACE, SiteKind.LI_OCT)[0].site
    opened = full.with_species({centre: None, end: None})
    hops = all_hops(opened, ["Li"], PathClass.LI_HOP)
    through = [hop for hop in hops if hop.mechanism is LithiumMechanism.DIVACANCY]
    assert {hop.via.site for hop in through if hop.via} == {tetrahedron}
    assert len(through) == 2
    assert len(hops) == 6


def test_ion_on_both_tetrahedra_blocks_a_lithium_hop() -> None:
    full = ordered(Stacking.O3, np.diag([4, 4, 3]))
    opened = full.with_species({full.sites_of("Li")[0]: None})
    hop = all_hops(opened, ["Li"], PathClass.LI_HOP)[0]
    faces = [
        {n.site for n in full.frame.neighbours(site, Sharing.FACE, SiteKind.LI_TET)}
        for site in (hop.start, hop.end.site)
    ]
    blocked = opened.with_species(dict.fromkeys(faces[0] & faces[1], "Co"))
    starts = {h.start for h in all_hops(blocked, ["Li"], PathClass.LI_HOP)}
    assert hop.start not in starts
    assert len(starts) == 5


def test_surroundings_of_a_dumbbell_are_those_of_both_tetrahedra() -> None:
    """Either tetrahedron beside the edge faces one Co and one more Li."""
    full = ordered(Stacking.O3, np.diag([3, 3, 3]))
    opened = full.with_species({full.sites_of("Li")[0]: None})
    hop = find_hops(opened, ["Li"], PathClass.LI_HOP)[0]
    around = surroundings(opened, hop)
    assert around.n_face_sharing_cations == 4
    assert around.n_face_sharing_vacancies == 1
    assert hop.degeneracy == 6  # the cell keeps R-3m


@pytest.fixture(scope="module")
def rock_salt() -> Occupation:
    """Li in every octahedron of a rock salt cell, 4 x 4 x 4 primitive cells."""
    frame = rock_salt_frame(np.diag([4, 4, 4]))
    sites = frame.sites(SiteKind.CATION_OCT).tolist()
    return empty_frame(frame).with_species(dict.fromkeys(sites, "Li"))


def test_lithium_hops_in_rock_salt(rock_salt: Occupation) -> None:
    """Twelve neighbours hop over the edge; of a pair of vacancies four Li neighbour both, and
    each tetrahedron that holds the pair holds two of the four."""
    first = rock_salt.sites_of("Li")[0]
    opened = rock_salt.with_species({first: None})
    hops = find_hops(opened, ["Li"], PathClass.LI_HOP)
    assert [(h.degeneracy, h.mechanism) for h in hops] == [(12, LithiumMechanism.DUMBBELL)]
    second = rock_salt.frame.neighbours(first, Sharing.EDGE)[0].site
    pair = rock_salt.with_species({first: None, second: None})
    hops = find_hops(pair, ["Li"], PathClass.LI_HOP)
    numbers: Counter[LithiumMechanism | None] = Counter()
    for hop in hops:
        numbers[hop.mechanism] += hop.degeneracy
    assert numbers == {LithiumMechanism.DIVACANCY: 8, LithiumMechanism.DUMBBELL: 14}


def test_surroundings_in_rock_salt(rock_salt: Occupation) -> None:
    opened = rock_salt.with_species({rock_salt.sites_of("Li")[0]: None})
    around = surroundings(opened, find_hops(opened, ["Li"], PathClass.LI_HOP)[0])
    assert around.stacking == "disordered rock salt"
    assert around.n_face_sharing_cations == 4
    assert around.li_fraction_li_layer is around.li_fraction_tm_layer is None
    reason = why_no_hop(opened, ["Mn"], PathClass.IN_PLANE)
    assert reason == "a frame of disordered rock salt has no tm_oct"
    assert all_hops(opened, ["Mn"], PathClass.IN_PLANE) == ()


@pytest.fixture(scope="module")
def p3() -> Occupation:
    """LiCoO2 in P3 stacking, Li on the prisms that stand on TM octahedra."""
    frame = layered_frame(Stacking.P3, np.diag([4, 4, 2]))
    return empty_frame(frame).with_species(
        dict.fromkeys(frame.sites(SiteKind.TM_OCT).tolist(), "Co")
        | dict.fromkeys(lithium_layer_sites(frame).tolist(), "Li")
    )


def test_single_vacancy_among_prisms(p3: Occupation) -> None:
    """Six Li around the vacancy, each separated from it by one prism, which a third Li faces."""
    opened = p3.with_species({p3.sites_of("Li")[0]: None})
    hops = all_hops(opened, ["Li"], PathClass.LI_HOP)
    assert {hop.mechanism for hop in hops} == {LithiumMechanism.MONOVACANCY}
    assert len(hops) == len({hop.start for hop in hops}) == 6
    for hop in hops:
        assert hop.via is not None
        assert p3.frame.kinds[hop.via.site] is SiteKind.LI_PRISM
        assert surroundings(opened, hop).n_face_sharing_cations >= 1  # the third Li


def test_divacancy_among_prisms(p3: Occupation) -> None:
    """Three Li sites face a prism; with two of them empty the third Li can move into it. The two
    vacancies are neighbours along one direction, with one prism that faces both."""
    first = p3.sites_of("Li")[0]
    frame = p3.frame
    between = frame.neighbours(first, Sharing.RECTANGULAR_FACE)[0].site
    others = [n.site for n in frame.neighbours(between, Sharing.RECTANGULAR_FACE)]
    second = next(site for site in others if site != first)
    mover = next(site for site in others if site not in (first, second))
    opened = p3.with_species({first: None, second: None})
    straight = [h for h in all_hops(opened, ["Li"], PathClass.LI_HOP) if h.via is None]
    assert [(h.start, h.end.site, h.mechanism) for h in straight] == [
        (mover, between, LithiumMechanism.DIVACANCY)
    ]
    structure = opened.to_structure()
    images = hop_images(structure, assign(structure, frame), straight[0])
    after = assign(images[-1], frame).occupation
    assert after == opened.with_species({mover: None, between: "Li"})


def test_tm_leaves_a_p3_slab_through_faces_of_prisms_with_room(p3: Occupation) -> None:
    """Either Li layer shares one face with a TM octahedron."""
    emptied = p3.with_species(dict.fromkeys(p3.sites_of("Li")))
    hops = all_hops(emptied, ["Co"], PathClass.OUT_OF_PLANE)
    assert Counter(hop.start for hop in hops) == dict.fromkeys(p3.sites_of("Co"), 2)
    assert all(hop.via is None for hop in hops)
    # In the full crystal the prisms that are left are beside Li.
    assert all_hops(p3, ["Co"], PathClass.OUT_OF_PLANE) == ()


def test_h1_3_has_a_gap_of_either_sort() -> None:
    frame = layered_frame(Stacking.H1_3, np.diag([3, 3, 2]))
    full = empty_frame(frame).with_species(
        dict.fromkeys(frame.sites(SiteKind.TM_OCT).tolist(), "Co")
    )
    hops = all_hops(full, ["Co"], PathClass.OUT_OF_PLANE)
    start = full.sites_of("Co")[0]
    own = [hop.via is None for hop in hops if hop.start == start]
    assert Counter(own) == {False: 3, True: 1}  # one neighbouring gap of O3, one of O1


def test_images_follow_cells_given_by_other_vectors(one_vacancy: Occupation) -> None:
    structure = one_vacancy.to_structure().get_reduced_structure("niggli")
    assignment = assign(structure, one_vacancy.frame)
    assert not np.array_equal(assignment.cell_map, np.eye(3))
    hop = find_hops(assignment.occupation, ["Mn"], PathClass.IN_PLANE)[0]
    images = hop_images(structure, assignment, hop)
    after = assign(images[-1], one_vacancy.frame).occupation
    assert after == assignment.occupation.with_species({hop.start: None, hop.end.site: "Mn"})
    mover = assignment.atom_on(hop.start)
    for a, b in itertools.pairwise(images):
        assert 1.2 < np.linalg.norm(b[mover].coords - a[mover].coords) < 2.3


def test_hop_survives_serialisation_and_old_documents() -> None:
    full = ordered(Stacking.O3, np.diag([3, 3, 2]))
    hop = all_hops(full.with_species({full.sites_of("Li")[0]: None}), ["Li"], PathClass.LI_HOP)[0]
    assert Hop.model_validate_json(hop.model_dump_json()) == hop
    stored = hop.model_dump(mode="json")
    del stored["mechanism"]  # written before the field existed
    assert Hop.model_validate(stored).mechanism is None


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
    structure.perturb(0.1, seed=1)
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


def test_hops_of_a_full_crystal_once_its_lithium_has_left(li2mno3: PristineModel) -> None:
    """Those of the emptied crystal, told apart by the symmetry of the full one."""
    full = li2mno3.occupation
    emptied = full.with_species(dict.fromkeys(full.sites_of("Li")))
    for path_class in (PathClass.IN_PLANE, PathClass.OUT_OF_PLANE):
        assert not find_hops(full, ["Mn"], path_class)
        found = hops_without_lithium(full, "Mn", path_class)
        events = all_hops(emptied, ["Mn"], path_class)
        assert sum(hop.degeneracy for hop in found) == len(events)
        assert len(found) >= len(find_hops(emptied, ["Mn"], path_class))


def test_lithium_hops_of_a_full_crystal() -> None:
    """One Li alone goes from any of its sites to any neighbouring one, through tetrahedra."""
    full = build_pristine("LiCoO2", min_atoms=48, max_atoms=48).occupation
    found = hops_without_lithium(full, "Li", PathClass.LI_HOP)
    assert {hop.mechanism for hop in found} == {LithiumMechanism.DIVACANCY}
    n_sites = len(full.sites_of("Li"))
    assert sum(hop.degeneracy for hop in found) % n_sites == 0
    with pytest.raises(ValueError, match="no Fe on tm_oct"):
        hops_without_lithium(full, "Fe", PathClass.IN_PLANE)
