from collections import Counter
from math import comb

import numpy as np
import pytest

from lrlo.structures.frame import OCTAHEDRA, Sharing, SiteKind, layered_frame
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.rock_salt import CUBIC_CELL, rock_salt_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.vacancy_motifs import touching_octahedra, tri_vacancies


def test_o3_motifs_by_layer() -> None:
    """Faces of the octahedron of cations around an anion (three of each layer, opposite faces):
    one all TM layer, one all Li layer, three of either mixture."""
    frame = layered_frame(Stacking.O3, np.diag([4, 4, 4]))
    triples = touching_octahedra(frame)
    by_layer = Counter(
        sum(frame.kinds[site] is SiteKind.TM_OCT for site in triple) for triple in triples
    )
    n_anions = len(frame.sites(SiteKind.ANION))
    assert by_layer == {0: n_anions, 1: 3 * n_anions, 2: 3 * n_anions, 3: n_anions}


def test_rock_salt_has_eight_per_anion() -> None:
    frame = rock_salt_frame(np.diag([3, 3, 3]) @ CUBIC_CELL)
    assert len(touching_octahedra(frame)) == 8 * len(frame.sites(SiteKind.ANION))


@pytest.mark.parametrize("stacking", [Stacking.O3, Stacking.O2, Stacking.O1, Stacking.H1_3])
def test_three_octahedra_touch_one_another(stacking: Stacking) -> None:
    frame = layered_frame(stacking, np.diag([4, 4, 4]))
    touching = {
        site: {
            n.site
            for sharing in (Sharing.EDGE, Sharing.FACE)
            for n in frame.neighbours(site, sharing, *OCTAHEDRA)
        }
        for site in frame.sites(*OCTAHEDRA).tolist()
    }
    triples = touching_octahedra(frame)
    assert len(triples) == len(set(triples)) > 0
    for i, j, k in triples[::97]:
        assert {j, k} <= touching[i]
        assert k in touching[j]
    # Complete: all cliques of three in a cell without short images.
    cliques = {
        tuple(sorted((i, j, k)))
        for i, around in touching.items()
        for j in around
        for k in around & touching[j]
    }
    assert set(triples) == cliques


def test_every_motif_meets_at_one_anion(li2mno3: PristineModel) -> None:
    motifs = tri_vacancies(li2mno3.occupation)
    assert all(len(motif.common_anions) == 1 for motif in motifs)


def test_li2mno3_by_hand(li2mno3: PristineModel) -> None:
    """Around each of the 36 O lie three Li of the Li layer, one triangle, and one Li of the TM
    layer, which shares one face of the O's octahedron of cations with two of the three. Honeycomb
    centres do not touch, so that no motif holds two."""
    occupation = li2mno3.occupation
    motifs = tri_vacancies(occupation)
    by_layer: Counter[int] = Counter()
    for motif in motifs:
        by_layer[motif.n_tm_layer] += motif.defect.degeneracy
        assert motif.n_removed == 3
        assert motif.defect.charge.change == -3.0
        assert motif.defect.occupation.count()["Li"] == occupation.count()["Li"] - 3
    assert by_layer == {0: 36, 1: 36}


def test_vacancies_that_are_there_are_used(li2mno3: PristineModel) -> None:
    occupation = li2mno3.occupation
    first = tri_vacancies(occupation, 1)[0]
    again = tri_vacancies(first.defect.occupation, 1)[0]
    assert again.sites == first.sites
    assert again.n_removed == 0
    assert again.defect.charge.change == 0.0
    assert again.defect.occupation == first.defect.occupation
    partly = occupation.with_species({first.sites[0]: None})
    assert min(m.n_removed for m in tri_vacancies(partly)) == 2


def test_degeneracies_add_up(paper: PristineModel) -> None:
    occupation = paper.occupation
    free = {
        site
        for site in occupation.frame.sites(*OCTAHEDRA).tolist()
        if occupation.species[site] in (None, "Li")
    }
    n_all = sum(set(t) <= free for t in touching_octahedra(occupation.frame))
    assert sum(m.defect.degeneracy for m in tri_vacancies(occupation)) == n_all > 0
    assert n_all < comb(len(free), 3)


def test_small_cells_do_not_count_images(li2mno3: PristineModel) -> None:
    frame = layered_frame(Stacking.O3, np.eye(3, dtype=int))
    assert touching_octahedra(frame) == ()
    tiny: Occupation = empty_frame(frame)
    with pytest.raises(ValueError, match="no three octahedra"):
        tri_vacancies(tiny)


def test_bad_requests(licoo2: PristineModel) -> None:
    with pytest.raises(ValueError, match="0 to 3 sites in a TM layer, not 4"):
        tri_vacancies(licoo2.occupation, 4)
    with pytest.raises(ValueError, match=r"no three octahedra .*\(1 in a TM layer\)"):
        tri_vacancies(licoo2.occupation, 1)
