"""The exact counts of the definitions: O classes of ideal and once-migrated crystals."""

from collections import Counter

import numpy as np
import pytest
from pymatgen.core import Structure

from lrlo.structures.assignment import assign
from lrlo.structures.frame import (
    LI_LAYER,
    TM_LAYER,
    Sharing,
    SiteKind,
    layered_frame,
    lithium_layer_sites,
)
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.oxygen_environment import oxygen_environments, tm_coordination
from lrlo.structures.stacking import Stacking


def classes(occupation: Occupation) -> Counter[str]:
    return Counter(env.o_class.value for env in oxygen_environments(occupation))


def one_swap(occupation: Occupation) -> tuple[Occupation, int, int]:
    """Mn moved into the neighbouring Li site of a honeycomb centre; that Li is gone."""
    centre = occupation.sites_of("Li", SiteKind.TM_OCT)[0]
    mover = next(
        n.site
        for n in occupation.frame.neighbours(centre, Sharing.EDGE, SiteKind.TM_OCT)
        if occupation.species[n.site] == "Mn"
    )
    return occupation.with_species({centre: "Mn", mover: None}), mover, centre


def test_li2mno3_is_all_o4(li2mno3: PristineModel) -> None:
    assert classes(li2mno3.occupation) == {"O4": 36}


def test_ordered_oxide_is_all_o3(licoo2: PristineModel) -> None:
    assert classes(licoo2.occupation) == {"O3": 36}


def test_removing_all_lithium_changes_no_class(li2mno3: PristineModel) -> None:
    occupation = li2mno3.occupation
    bare = occupation.with_species(dict.fromkeys(occupation.sites_of("Li"), None))
    assert classes(bare) == {"O4": 36}
    assert all(env.n_vac == 4 and env.n_li == 0 for env in oxygen_environments(bare))


def test_one_swap_by_hand(li2mno3: PristineModel) -> None:
    """Edge-sharing octahedra have two O in common, which keep their class; four O around the
    site left lose a TM (O4 to O5), four around the site joined gain one (O4 to O3)."""
    swapped, mover, centre = one_swap(li2mno3.occupation)
    assert classes(swapped) == {"O4": 28, "O5": 4, "O3": 4}
    changed = {env.site: env.o_class.value for env in oxygen_environments(swapped)}
    left = {v.site for v in swapped.frame.vertices[mover]}
    joined = {v.site for v in swapped.frame.vertices[centre]}
    assert len(left & joined) == 2
    assert {changed[o] for o in left - joined} == {"O5"}
    assert {changed[o] for o in joined - left} == {"O3"}


def test_neighbour_counts_add_up_to_six(paper: PristineModel) -> None:
    for env in oxygen_environments(paper.occupation):
        assert env.n_tm + env.n_li + env.n_vac + env.n_other == 6


def test_paper_superlattice_has_no_o5(paper: PristineModel) -> None:
    # Two Li on centres, six O each: 12 of 30 O have two TM, the rest three.
    assert classes(paper.occupation) == {"O4": 12, "O3": 18}


def test_tm_coordination(li2mno3: PristineModel, licoo2: PristineModel) -> None:
    mn = li2mno3.occupation.sites_of("Mn")
    assert {tm_coordination(li2mno3.occupation, site) for site in mn} == {3}
    co = licoo2.occupation.sites_of("Co")
    assert {tm_coordination(licoo2.occupation, site) for site in co} == {6}
    swapped, _, centre = one_swap(li2mno3.occupation)
    # The centre had six Mn around it, one of which is the mover: in-plane migration raises it.
    assert tm_coordination(swapped, centre) == 5
    # A TM that leaves a full layer takes one neighbour from each of six.
    gone = licoo2.occupation.with_species({co[0]: None})
    around = gone.frame.neighbours(co[0], Sharing.EDGE, SiteKind.TM_OCT)
    assert {tm_coordination(gone, n.site) for n in around} == {5}


def test_tetrahedral_tm_is_counted_apart(licoo2: PristineModel) -> None:
    occupation = licoo2.occupation
    co = occupation.sites_of("Co")[0]
    tetrahedron = occupation.frame.neighbours(co, Sharing.FACE, SiteKind.LI_TET)[0].site
    moved = occupation.with_species({co: None, tetrahedron: "Co"})
    environments = oxygen_environments(moved)
    assert sum(env.n_tm_tet for env in environments) == 4
    assert classes(moved) == {"O3": 30, "O4": 6}  # the six O around the empty octahedron


def _translated(structure: Structure) -> Structure:
    moved = structure.copy()
    moved.translate_sites(range(len(moved)), [0.313, 0.771, 0.419])
    return moved


def _rotated(structure: Structure) -> Structure:
    angle = 1.1
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    return Structure(
        structure.lattice.matrix @ rotation.T, structure.species, structure.frac_coords
    )


@pytest.mark.parametrize("change", [_translated, _rotated])
def test_translation_and_rotation_of_the_input_change_nothing(paper: PristineModel, change) -> None:
    occupation, _mover, _centre = one_swap(paper.occupation)
    structure = occupation.to_structure()
    structure.perturb(0.08, seed=1)
    read = assign(change(structure), occupation.frame).occupation
    assert classes(read) == classes(occupation)
    histogram = Counter((e.n_tm, e.n_li, e.n_vac, e.tm_species) for e in oxygen_environments(read))
    assert histogram == Counter(
        (e.n_tm, e.n_li, e.n_vac, e.tm_species) for e in oxygen_environments(occupation)
    )


def ordered(stacking: Stacking) -> Occupation:
    """LiCoO2 in a stacking."""
    frame = layered_frame(stacking, np.diag([3, 3, 2]))
    return empty_frame(frame).with_species(
        dict.fromkeys(frame.sites(SiteKind.TM_OCT).tolist(), "Co")
        | dict.fromkeys(lithium_layer_sites(frame).tolist(), "Li")
    )


@pytest.mark.parametrize("stacking", list(Stacking))
def test_ordered_oxide_is_all_o3_in_every_stacking(stacking: Stacking) -> None:
    occupation = ordered(stacking)
    for env in oxygen_environments(occupation):
        assert (env.o_class, env.n_tm, env.n_li, env.n_vac, env.n_other) == ("O3", 3, 3, 0, 0)
    assert occupation.count(*LI_LAYER)["Li"] == occupation.count(*TM_LAYER)["Co"] > 0
    for site in occupation.frame.sites(SiteKind.TM_OCT).tolist():
        assert tm_coordination(occupation, site) == 6


def test_vacancies_and_migration_in_prisms() -> None:
    occupation = ordered(Stacking.P3)
    frame = occupation.frame
    lithium = lithium_layer_sites(frame).tolist()
    # A prism has six vertices: one Li less is one vacancy for each of six O.
    charged = occupation.with_species({lithium[0]: None})
    assert Counter(env.n_vac for env in oxygen_environments(charged)) == {0: 30, 1: 6}
    assert set(classes(charged)) == {"O3"}
    # Co goes straight through the shared face; of the six O around its octahedron three are at
    # the prism, too, and keep their class, three lose a TM; the three O above gain one.
    (octahedron,) = frame.neighbours(lithium[0], Sharing.FACE, SiteKind.TM_OCT)
    moved = charged.with_species({octahedron.site: None, lithium[0]: "Co"})
    assert classes(moved) == {"O3": 30, "O4": 3, "O2": 3}
    for env in oxygen_environments(moved):
        assert env.n_tm + env.n_li + env.n_vac + env.n_other == 6
    # Co in a prism shares edges with the three Co around the one above, and no more.
    assert tm_coordination(moved, lithium[0]) == 3


def test_crowded_prisms_leave_no_vacancy() -> None:
    occupation = ordered(Stacking.P3)
    crowded = occupation.with_species(
        dict.fromkeys(occupation.frame.sites(SiteKind.LI_PRISM).tolist(), "Li")
    )
    for env in oxygen_environments(crowded):
        assert (env.n_tm, env.n_li, env.n_vac) == (3, 6, 0)
