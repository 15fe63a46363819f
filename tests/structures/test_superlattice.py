import doctest
from collections import Counter

import numpy as np
import pytest

from lrlo.structures import layered_oxide, superlattice
from lrlo.structures.composition import CompositionError
from lrlo.structures.frame import Frame, Sharing, SiteKind, layered_frame
from lrlo.structures.layered_oxide import build_pristine, cap_honeycomb
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.oxygen_environment import oxygen_environments, tm_coordination
from lrlo.structures.rock_salt import rock_salt_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.superlattice import (
    Superlattice,
    cap_sites,
    honeycomb_centres,
    lithium_sites,
    max_lithium_fraction,
    repeat_vectors,
    spread_subset,
    superlattice_sites,
)

ORDERED = [s for s in Superlattice if s is not Superlattice.RANDOM]

#: Li per TM-layer site of the full superlattice, and O classes per repeat of one layer, by hand:
#: every Li of the TM layer touches six O, and no O touches two.
BY_HAND = {
    Superlattice.HONEYCOMB: (1 / 3, {"O4": 6}),
    Superlattice.RIBBON: (1 / 5, {"O4": 6, "O3": 4}),
    Superlattice.MESH: (1 / 4, {"O4": 6, "O3": 2}),
    Superlattice.CAPPED_HONEYCOMB: (1 / 3, {"O4": 6}),
    Superlattice.LI_POOR_HONEYCOMB: (1 / 9, {"O4": 6, "O3": 12}),
}


def full(superlattice: Superlattice, stacking: Stacking) -> Occupation:
    """Manganese oxide with as much Li as the superlattice holds, one repeat."""
    frame = layered_frame(stacking, repeat_vectors(superlattice))
    tm_oct = frame.sites(SiteKind.TM_OCT)
    n_lithium = round(max_lithium_fraction(superlattice) * len(tm_oct))
    lithium = lithium_sites(frame, superlattice, n_lithium, seed=0)
    return empty_frame(frame).with_species(
        {int(s): "Mn" for s in tm_oct}
        | {int(s): "Li" for s in (*frame.sites(SiteKind.LI_OCT), *lithium)}
    )


@pytest.mark.parametrize("stacking", [Stacking.O3, Stacking.O2, Stacking.O1])
@pytest.mark.parametrize("superlattice", ORDERED)
def test_fractions_and_oxygen_classes_by_hand(
    superlattice: Superlattice, stacking: Stacking
) -> None:
    occupation = full(superlattice, stacking)
    fraction, classes = BY_HAND[superlattice]
    layer = occupation.count(SiteKind.TM_OCT)
    assert layer["Li"] / layer.total() == pytest.approx(fraction, abs=1e-12)
    counted = Counter(e.o_class.value for e in oxygen_environments(occupation))
    layers = occupation.frame.n_layers
    assert counted == {name: n * layers for name, n in classes.items()}


@pytest.mark.parametrize("superlattice", ORDERED)
def test_no_two_lithium_are_first_neighbours(superlattice: Superlattice) -> None:
    occupation = full(superlattice, Stacking.O3)
    for site in occupation.sites_of("Li", SiteKind.TM_OCT):
        assert tm_coordination(occupation, site) == 6


@pytest.mark.parametrize("superlattice", ORDERED)
def test_ordered_o3_crystals_are_monoclinic(superlattice: Superlattice) -> None:
    """The lateral shift of O3 leaves one mirror plane of each in-plane order."""
    structure = full(superlattice, Stacking.O3).to_structure()
    assert structure.get_space_group_info(symprec=0.01) == ("C2/m", 12)


def test_ribbon_rows_are_two_and_a_half_a_apart() -> None:
    """Every close-packed row across the ribbons reads Li TM TM TM TM."""
    frame = layered_frame(Stacking.O3, np.diag([5, 5, 1]))
    lithium = set(lithium_sites(frame, Superlattice.RIBBON, 5, seed=0))
    by_label = {tuple(frame.in_plane[s]): int(s) for s in frame.sites(SiteKind.TM_OCT)}
    for j in range(5):
        row = [by_label[i, j] in lithium for i in range(5)]
        assert sum(row) == 1
    positions = frame.frac_coords[sorted(lithium)] @ frame.lattice
    along = np.array([1.0, -1.0, 0.0]) @ layered_frame(Stacking.O3, np.eye(3, dtype=int)).lattice
    across = np.cross(along / np.linalg.norm(along), [0, 0, 1.0])
    spacing = np.unique((positions @ across / (2.5 * frame.a)).round(6) % 1.0)
    assert np.linalg.norm(along) == pytest.approx(np.sqrt(3) * frame.a)
    assert len(spacing) == 1


def test_mesh_leaves_a_kagome_net() -> None:
    occupation = full(Superlattice.MESH, Stacking.O3)
    manganese = occupation.sites_of("Mn", SiteKind.TM_OCT)
    assert {tm_coordination(occupation, site) for site in manganese} == {4}


def test_fully_capped_honeycomb_has_three_tm_around_every_oxygen() -> None:
    """A cap touches the three O above its centre and three O of the next slab: all of them."""
    capped = cap_honeycomb(full(Superlattice.HONEYCOMB, Stacking.O3), "Ni")
    assert {e.o_class.value for e in oxygen_environments(capped)} == {"O3"}
    assert capped.count(SiteKind.LI_OCT) == {"Li": 2, "Ni": 1}


def test_caps_keep_the_mirror_plane_of_the_honeycomb() -> None:
    capped = cap_honeycomb(full(Superlattice.HONEYCOMB, Stacking.O3), "Ni").to_structure()
    assert capped.get_space_group_info(symprec=0.01) == ("C2/m", 12)


@pytest.mark.parametrize(
    ("stacking", "sharing"), [(Stacking.O3, Sharing.EDGE), (Stacking.O1, Sharing.FACE)]
)
def test_caps_lie_above_their_centres(stacking: Stacking, sharing: Sharing) -> None:
    frame = layered_frame(stacking, np.diag([3, 3, 3]))
    centres = [int(site) for site in honeycomb_centres(frame)]
    caps = cap_sites(frame, centres)
    assert len(set(caps)) == len(centres)
    for centre, cap in zip(centres, caps, strict=True):
        assert frame.layers[cap] == frame.layers[centre]  # the Li layer above the TM layer
        assert cap in {n.site for n in frame.neighbours(centre, sharing, SiteKind.LI_OCT)}


def test_prisms_have_no_caps() -> None:
    frame = layered_frame(Stacking.P3, repeat_vectors(Superlattice.HONEYCOMB))
    with pytest.raises(ValueError, match="P3 has no Li octahedra"):
        cap_sites(frame, honeycomb_centres(frame).tolist())


def distances_between(frame: Frame, sites: tuple[int, ...]) -> np.ndarray:
    vectors = frame.frac_coords[list(sites)][:, None] - frame.frac_coords[list(sites)]
    vectors -= np.round(vectors)
    distance = np.linalg.norm(vectors @ frame.lattice, axis=-1)
    return distance[~np.eye(len(sites), dtype=bool)]


@pytest.mark.parametrize("n_lithium", [1, 3, 6])
def test_li_poor_honeycomb_leaves_first_neighbour_centres_empty(n_lithium: int) -> None:
    frame = layered_frame(Stacking.O3, np.diag([6, 9, 1]))
    sites = lithium_sites(frame, Superlattice.LI_POOR_HONEYCOMB, n_lithium, seed=2)
    assert len(sites) == n_lithium
    assert set(sites) <= set(honeycomb_centres(frame).tolist())
    assert np.all(distances_between(frame, sites) > 2.9 * frame.a)  # sqrt(3) a would be 1.73 a


def test_li_poor_honeycomb_in_a_cell_that_frustrates_it() -> None:
    """2 sqrt(3) a: the four centres of a layer are all first neighbours of each other."""
    frame = layered_frame(Stacking.O3, np.array([[4, 2, 0], [2, 4, 0], [0, 0, 2]]))
    two = lithium_sites(frame, Superlattice.LI_POOR_HONEYCOMB, 2, seed=0)
    assert sorted(frame.layers[list(two)]) == [0, 1]
    with pytest.raises(ValueError, match=r"3 Li do not fit on 8 .* nearest .* is 2"):
        lithium_sites(frame, Superlattice.LI_POOR_HONEYCOMB, 3, seed=0)


def test_centre_that_is_its_own_first_neighbour_is_refused() -> None:
    frame = layered_frame(Stacking.O3, repeat_vectors(Superlattice.HONEYCOMB))
    with pytest.raises(ValueError, match="nearest number that does is 0"):
        lithium_sites(frame, Superlattice.LI_POOR_HONEYCOMB, 1, seed=0)


@pytest.mark.parametrize("superlattice", ORDERED)
def test_subset_of_a_superlattice_lies_on_it(superlattice: Superlattice) -> None:
    frame = layered_frame(Stacking.O3, np.diag([2, 2, 1]) @ repeat_vectors(superlattice))
    sites = superlattice_sites(frame, superlattice)
    for seed in range(3):
        chosen = lithium_sites(frame, superlattice, 2, seed)
        assert len(chosen) == 2
        assert set(chosen) <= set(sites.tolist())
        assert chosen == lithium_sites(frame, superlattice, 2, seed)


def test_spread_subset_takes_opposite_corners() -> None:
    frame = layered_frame(Stacking.O3, np.diag([4, 4, 1]))
    layer = frame.sites(SiteKind.LI_OCT)
    first, second = spread_subset(frame, layer, 2, seed=0)
    assert distances_between(frame, (first, second)).min() > 1.99 * frame.a
    with pytest.raises(ValueError, match="17 sites asked for, 16 given"):
        spread_subset(frame, layer, 17, seed=0)


@pytest.mark.parametrize("superlattice", ORDERED)
def test_incommensurate_cells_are_refused(superlattice: Superlattice) -> None:
    frame = layered_frame(Stacking.O3, np.diag([7, 1, 1]))
    with pytest.raises(ValueError, match=r"not commensurate .* use a multiple of"):
        lithium_sites(frame, superlattice, 1, seed=0)


def test_frame_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="has no TM layers"):
        superlattice_sites(rock_salt_frame(np.diag([2, 2, 2])), Superlattice.MESH)


@pytest.mark.parametrize("n_lithium", [-1, 2])
def test_too_much_or_negative_lithium_names_the_nearest(n_lithium: int) -> None:
    frame = layered_frame(Stacking.O3, repeat_vectors(Superlattice.MESH))
    nearest = 0 if n_lithium < 0 else 1
    with pytest.raises(ValueError, match=f"nearest number that does is {nearest}"):
        lithium_sites(frame, Superlattice.MESH, n_lithium, seed=0)


@pytest.mark.parametrize(
    ("formula", "superlattice", "max_atoms"),
    [
        ("Li1.2Ni0.2Mn0.6O2", Superlattice.RIBBON, 72),
        ("Li1.25Co0.25Mn0.5O2", Superlattice.MESH, 72),
        ("Li1.1Ni0.3Mn0.6O2", Superlattice.LI_POOR_HONEYCOMB, 144),
    ],
)
def test_pristine_cells_of_every_superlattice(
    formula: str, superlattice: Superlattice, max_atoms: int
) -> None:
    model = build_pristine(formula, superlattice=superlattice, max_atoms=max_atoms)
    occupation = model.occupation
    assert occupation.count(SiteKind.TM_OCT) == model.composition.tm_layer_counts
    assert set(occupation.count(SiteKind.LI_OCT)) == {"Li"}
    n_lithium = model.composition.tm_layer_counts["Li"]
    classes = Counter(e.o_class.value for e in oxygen_environments(occupation))
    assert classes["O4"] == 6 * n_lithium
    assert classes["O3"] == sum(classes.values()) - 6 * n_lithium


def test_capped_pristine_cell_keeps_the_composition() -> None:
    formula = "Li1.1Ni0.1Mn0.55Co0.25O2"
    capped = build_pristine(formula, superlattice=Superlattice.CAPPED_HONEYCOMB, cap="Ni")
    plain = build_pristine(formula)
    assert capped.occupation.count() == plain.occupation.count()
    caps = capped.occupation.sites_of("Ni", SiteKind.LI_OCT)
    assert len(caps) == plain.composition.tm_layer_counts["Ni"]
    assert capped.occupation.sites_of("Ni", SiteKind.TM_OCT) == ()
    assert capped.occupation.count(SiteKind.TM_OCT) == capped.composition.tm_layer_counts
    frame = capped.occupation.frame
    lithium = capped.occupation.sites_of("Li", SiteKind.TM_OCT)
    assert set(caps) <= set(cap_sites(frame, lithium))


@pytest.mark.parametrize(
    ("formula", "superlattice", "cap", "message"),
    [
        ("Li1.2Ni0.2Mn0.6O2", Superlattice.CAPPED_HONEYCOMB, "Ni", "at most 2 Ni"),
        ("Li1.2Ni0.2Mn0.6O2", Superlattice.CAPPED_HONEYCOMB, None, "names the species"),
        ("Li1.2Ni0.2Mn0.6O2", Superlattice.HONEYCOMB, "Ni", "names the species"),
        ("Li1.2Ni0.2Mn0.6O2", Superlattice.CAPPED_HONEYCOMB, "Co", "not a cation .* allowed"),
        ("Li1.33Mn0.67O2", Superlattice.MESH, None, r"at most 0\.250"),
        ("Li1.25Mn0.75O2", Superlattice.RIBBON, None, r"at most 0\.200"),
        ("Li1.2Mn0.8O2", Superlattice.LI_POOR_HONEYCOMB, None, r"at most 0\.111"),
    ],
)
def test_compositions_that_a_superlattice_cannot_hold(
    formula: str, superlattice: Superlattice, cap: str | None, message: str
) -> None:
    with pytest.raises(CompositionError, match=message):
        build_pristine(formula, superlattice=superlattice, cap=cap)


def test_caps_need_lithium_underneath(licoo2: layered_oxide.PristineModel) -> None:
    with pytest.raises(ValueError, match="no honeycomb to cap"):
        cap_honeycomb(licoo2.occupation, "Ni")
    honeycomb = full(Superlattice.HONEYCOMB, Stacking.O3)
    manganese = honeycomb.sites_of("Mn", SiteKind.TM_OCT)
    with pytest.raises(ValueError, match="hold no Li of the TM layer"):
        cap_honeycomb(honeycomb, "Ni", manganese)


@pytest.mark.parametrize("module", [superlattice, layered_oxide])
def test_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
