import numpy as np
import pytest

from lrlo.structures.composition import CompositionError, parse_composition
from lrlo.structures.frame import Sharing, SiteKind, layered_frame
from lrlo.structures.layered_oxide import PristineModel, build_pristine
from lrlo.structures.stacking import Stacking
from lrlo.structures.supercell import choose_supercell
from lrlo.structures.superlattice import Superlattice, honeycomb_centres, lithium_sites


def test_li2mno3_has_its_space_group() -> None:
    structure = build_pristine("Li2MnO3", min_atoms=12, max_atoms=24).occupation.to_structure()
    assert structure.get_space_group_info(symprec=0.1) == ("C2/m", 12)


def test_ordered_oxide_has_its_space_group(licoo2: PristineModel) -> None:
    structure = licoo2.occupation.to_structure()
    assert structure.get_space_group_info(symprec=0.1) == ("R-3m", 166)


def test_paper_cell(paper: PristineModel) -> None:
    assert paper.occupation.count() == {"Li": 17, "Ni": 4, "Mn": 8, "Co": 1, "O": 30}
    assert paper.composition.charge_imbalance == 0
    assert paper.image_distance > 8


def test_superlattice_lithium_are_no_first_neighbours(paper: PristineModel) -> None:
    occupation = paper.occupation
    for site in occupation.sites_of("Li", SiteKind.TM_OCT):
        around = occupation.frame.neighbours(site, Sharing.EDGE, SiteKind.TM_OCT)
        assert all(occupation.species[n.site] != "Li" for n in around)
        assert len(around) == 6


def test_honeycomb_centres_are_a_third_of_every_layer() -> None:
    frame = layered_frame(Stacking.O3, np.array([[2, 1, 0], [1, 2, 0], [0, 0, 2]]))
    centres = honeycomb_centres(frame)
    layers = frame.layers[centres]
    assert len(centres) == 2
    assert sorted(layers) == [0, 1]


def test_incommensurate_cell_is_refused() -> None:
    frame = layered_frame(Stacking.O3, np.diag([2, 2, 1]))
    with pytest.raises(ValueError, match="not commensurate"):
        lithium_sites(frame, Superlattice.HONEYCOMB, 1, seed=0)


def test_li_poor_subset_is_spread_out() -> None:
    frame = layered_frame(Stacking.O3, np.array([[6, 0, 0], [0, 6, 0], [0, 0, 1]]))
    sites = lithium_sites(frame, Superlattice.HONEYCOMB, 4, seed=3)
    frac = frame.frac_coords[list(sites)]
    difference = frac[:, None] - frac[None]
    difference -= np.round(difference)
    distance = np.linalg.norm(difference @ frame.lattice, axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 2.99 * frame.a  # second neighbours among centres, not first


def test_same_seed_same_structure_other_seed_other_structure() -> None:
    def species(seed: int) -> tuple[str | None, ...]:
        return build_pristine("Li1.2Ni0.2Mn0.6O2", seed=seed).occupation.species

    assert species(1) == species(1)
    assert species(1) != species(2)


def test_too_much_lithium_for_the_honeycomb() -> None:
    with pytest.raises(CompositionError, match=r"at most 0\.333"):
        build_pristine("Li1.4Mn0.6O2")
    assert build_pristine("Li1.4Mn0.6O2", superlattice=Superlattice.RANDOM)


def test_cell_too_small_names_the_nearest_that_holds_the_composition() -> None:
    target = parse_composition("Li1.14Ni0.26Mn0.55Co0.05O2")
    with pytest.raises(CompositionError, match="nearest that can has") as error:
        choose_supercell(target, Stacking.O3, Superlattice.HONEYCOMB, min_atoms=12, max_atoms=24)
    nearest = int(str(error.value).split("nearest that can has ")[1].split()[0])
    model = build_pristine("Li1.14Ni0.26Mn0.55Co0.05O2", min_atoms=nearest, max_atoms=nearest)
    assert sum(model.occupation.count().values()) == nearest
