import numpy as np
import pytest

from lrlo.structures.antisites import antisite_pairs
from lrlo.structures.frame import Sharing, SiteKind, layered_frame
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.stacking import Stacking


@pytest.fixture(scope="module")
def linio2() -> Occupation:
    """LiNiO2 in R-3m, 3 x 3 x 3 primitive cells, a = 2.86 Å, layers 4.75 Å apart."""
    frame = layered_frame(Stacking.O3, np.diag([3, 3, 3]))
    return empty_frame(frame).with_species(
        dict.fromkeys(frame.sites(SiteKind.TM_OCT).tolist(), "Ni")
        | dict.fromkeys(frame.sites(SiteKind.LI_OCT).tolist(), "Li")
    )


def test_shells_by_hand(linio2: Occupation) -> None:
    """Above a Li lie hollows of the Ni layer at a/sqrt(3) and then 2a/sqrt(3): 3 and 3 a side."""
    pairs = antisite_pairs(linio2, "Ni", max_distance=4.2)
    half = (linio2.frame.tm_slab + linio2.frame.li_gap) / 2
    lateral = linio2.frame.a / np.sqrt(3) * np.array([1, 2])
    assert [pair.distance for pair in pairs] == pytest.approx(np.hypot(half, lateral))
    assert [pair.defect.degeneracy for pair in pairs] == [27 * 6, 27 * 6]


def test_only_the_two_ions_are_exchanged(linio2: Occupation) -> None:
    pair = antisite_pairs(linio2, "Ni", max_distance=3.0)[0]
    after = pair.defect.occupation
    changed = {i for i, s in enumerate(after.species) if s != linio2.species[i]}
    assert changed == {pair.li_site, pair.tm_site}
    assert (after.species[pair.li_site], after.species[pair.tm_site]) == ("Ni", "Li")
    assert after.count() == linio2.count()
    assert pair.defect.charge.change == 0.0
    nearest = linio2.frame.neighbours(pair.li_site, Sharing.EDGE, SiteKind.TM_OCT)
    assert pair.tm_site in {n.site for n in nearest}


def test_every_pair_belongs_to_one_orbit(paper: PristineModel) -> None:
    occupation = paper.occupation
    pairs = antisite_pairs(occupation, "Ni", max_distance=3.0)
    n_all = sum(
        len(
            {
                n.site
                for n in occupation.frame.neighbours(ni, Sharing.EDGE, SiteKind.LI_OCT)
                if occupation.species[n.site] == "Li"
            }
        )
        for ni in occupation.sites_of("Ni")
    )
    assert sum(pair.defect.degeneracy for pair in pairs) == n_all
    assert sorted(p.distance for p in pairs) == pytest.approx([p.distance for p in pairs])


def test_bad_requests(linio2: Occupation) -> None:
    for distance in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="max_distance must be positive"):
            antisite_pairs(linio2, "Ni", max_distance=distance)
    with pytest.raises(ValueError, match="no Co on sites of class tm; they hold Ni"):
        antisite_pairs(linio2, "Co", max_distance=3.0)
    with pytest.raises(ValueError, match=r"within 2.0 Å; the closest is 2.89 Å"):
        antisite_pairs(linio2, "Ni", max_distance=2.0)
    without_li = linio2.with_species(dict.fromkeys(linio2.sites_of("Li")))
    with pytest.raises(ValueError, match=r"no site of class li_layer.*it has tm \(27\)"):
        antisite_pairs(without_li, "Ni", max_distance=3.0)
