import doctest
from collections import Counter

import numpy as np
import pytest

from lrlo.structures import stacking_faults
from lrlo.structures.catalogue_crystals import faulted_honeycomb
from lrlo.structures.composition import CompositionError
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.oxygen_environment import oxygen_environments, tm_coordination
from lrlo.structures.rock_salt import rock_salt_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.stacking_faults import (
    FAULT_ANGLES,
    build_faulted_honeycomb,
    draw_fault_angles,
    faulted_frame,
    honeycomb_colours,
)

#: Space groups of the polytypes of Li2MnO3 (Bréger et al. 2005).
POLYTYPES = {
    (0, 0, 0): ("C2/m", 12),
    (120, 120): ("C2/m", 12),
    (0, 120): ("C2/c", 15),
    (0, 240): ("C2/c", 15),
    (0, 120, 0, 120): ("C2/c", 15),
    (0, 120, 240): ("P3_112", 151),
    (0, 240, 120): ("P3_212", 153),
    (0, 0, 0, 120): ("P-1", 2),
}


@pytest.mark.parametrize(("angles", "group"), POLYTYPES.items())
def test_polytypes_have_their_space_groups(angles: tuple[int, ...], group: tuple[str, int]) -> None:
    structure = build_faulted_honeycomb("Li2MnO3", angles).occupation.to_structure()
    assert structure.get_space_group_info(symprec=0.01) == group


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("stacking", [Stacking.O3, Stacking.O2, Stacking.P3])
def test_every_sequence_keeps_the_honeycomb(stacking: Stacking, seed: int) -> None:
    """All O stay O4 and all Mn keep three Mn neighbours, whatever the faults."""
    angles = tuple(int(a) for a in np.random.default_rng(seed).choice(FAULT_ANGLES, 6))
    model = build_faulted_honeycomb("Li2MnO3", angles, stacking=stacking)
    occupation = model.occupation
    assert {e.o_class.value for e in oxygen_environments(occupation)} == {"O4"}
    manganese = occupation.sites_of("Mn", SiteKind.TM_OCT)
    assert {tm_coordination(occupation, site) for site in manganese} == {3}
    per_layer = Counter(
        int(occupation.frame.layers[s]) for s in occupation.sites_of("Li", SiteKind.TM_OCT)
    )
    assert per_layer == dict.fromkeys(range(6), 1)


@pytest.mark.parametrize("stacking", [Stacking.O3, Stacking.O2])
def test_angles_are_those_between_the_centres(stacking: Stacking) -> None:
    """Oracle: lateral vectors from each Li to the Li of the next layer that are shortest."""
    angles = (0, 120, 240, 0, 0, 120)
    turned = build_faulted_honeycomb("Li2MnO3", angles, stacking=stacking, in_plane=(2, 2))
    straight = build_faulted_honeycomb("Li2MnO3", (0,) * 6, stacking=stacking, in_plane=(2, 2))

    def directions(model: stacking_faults.FaultedHoneycomb) -> list[set[int]]:
        frame = model.occupation.frame
        lithium = np.array(model.occupation.sites_of("Li", SiteKind.TM_OCT))
        images = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3)
        result = []
        for layer in range(5):
            lower = frame.frac_coords[lithium[frame.layers[lithium] == layer][0]]
            upper = frame.frac_coords[lithium[frame.layers[lithium] == layer + 1]]
            vectors = ((upper[:, None] + images - lower) @ frame.lattice).reshape(-1, 3)
            rise = np.abs(vectors[:, 2] - frame.tm_slab - frame.li_gap) < 0.1
            short = np.linalg.norm(vectors[:, :2], axis=1) < 0.6 * frame.a  # a / sqrt(3)
            found = vectors[rise & short]
            assert len(found) == 1  # the next are sqrt(3) a farther
            result.append({round(np.degrees(np.arctan2(v[1], v[0]))) % 360 for v in found})
        return result

    for angle, old, new in zip(angles, directions(straight), directions(turned), strict=False):
        assert {(direction + angle) % 360 for direction in old} == new


def test_density_and_turns_are_reported() -> None:
    model = build_faulted_honeycomb("Li2MnO3", (0, 120, 120, 0))
    assert model.angles == (0, 120, 120, 0)
    assert model.rotated == 0.5
    assert model.turns == 0.5
    assert build_faulted_honeycomb("Li2MnO3", (240, 240)).rotated == 1
    assert build_faulted_honeycomb("Li2MnO3", (240, 240)).turns == 0


def test_one_direction_everywhere_is_not_called_faulted() -> None:
    built = faulted_honeycomb("Li2MnO3", angles=(120, 120, 120, 120))
    assert built.space_group.startswith("C2/m")
    assert built.remarks["turns"].startswith("none, the perfect crystal")
    assert built.remarks["120 or 240 degrees"] == "4 of 4 interfaces"
    single = faulted_honeycomb("Li2MnO3", angles=(0, 120, 0, 0)).remarks
    assert single["120 or 240 degrees"] == "1 of 4 interfaces"
    assert single["turns"].startswith("2 of 4 interfaces")


@pytest.mark.parametrize(("density", "n_faults"), [(0, 0), (0.1, 2), (0.5, 10), (1, 20)])
def test_drawn_density_is_the_nearest_possible(density: float, n_faults: int) -> None:
    angles = draw_fault_angles(20, density, seed=4)
    assert sum(angle != 0 for angle in angles) == n_faults
    assert set(angles) <= set(FAULT_ANGLES)
    assert angles == draw_fault_angles(20, density, seed=4)


def test_both_directions_and_all_interfaces_are_drawn() -> None:
    drawn = np.array([draw_fault_angles(5, 0.4, seed) for seed in range(400)])
    share = (drawn != 0).mean(axis=0)
    assert np.abs(share - 0.4).max() < 0.1
    assert abs((drawn == 120).sum() / (drawn != 0).sum() - 0.5) < 0.1


def test_mixed_composition_with_little_lithium() -> None:
    model = build_faulted_honeycomb("Li1.2Ni0.2Mn0.6O2", (0, 120, 0, 240, 0), in_plane=(1, 2))
    assert model.occupation.count(SiteKind.TM_OCT) == {"Li": 6, "Ni": 6, "Mn": 18}
    assert model.composition.total_deviation == pytest.approx(0)
    lithium = model.occupation.sites_of("Li", SiteKind.TM_OCT)
    frame = model.occupation.frame
    colours = honeycomb_colours(frame, model.angles)
    centres = frame.sites(SiteKind.TM_OCT)[colours == 0]
    assert set(lithium) <= set(centres.tolist())


@pytest.mark.parametrize("angles", [(0, 120), (0, 0, 120), (120, 240, 240, 0)])
def test_sublattices_are_equally_many(angles: tuple[int, ...]) -> None:
    frame = faulted_frame(Stacking.O3, angles, in_plane=(2, 1))
    assert np.bincount(honeycomb_colours(frame, angles)).tolist() == [2 * len(angles)] * 3


@pytest.mark.parametrize(
    ("matrix", "angles", "message"),
    [
        (np.diag([2, 2, 2]), (0, 0), "has no honeycomb"),
        (np.diag([3, 3, 1]), (0,), "at least 2 layers"),
        (np.diag([3, 3, 3]), (0, 0), "2 angles for 3 interfaces"),
        (np.diag([3, 3, 3]), (0, 120, 0), "does not return to the bottom layer"),
        (np.diag([3, 3, 2]), (0, 90), r"\[90\] are not possible; allowed"),
        (np.array([[1, -1, 1], [1, 2, 0], [-1, 1, 2]]), (0, 0, 0), "must lie in the layers"),
    ],
)
def test_frames_without_such_faults(
    matrix: np.ndarray, angles: tuple[int, ...], message: str
) -> None:
    frame = layered_frame(Stacking.O3, matrix)
    with pytest.raises(ValueError, match=message):
        honeycomb_colours(frame, angles)


@pytest.mark.parametrize("stacking", [Stacking.O1, Stacking.H1_3])
def test_layers_on_top_of_each_other_have_no_faults(stacking: Stacking) -> None:
    with pytest.raises(ValueError, match="no rotational faults"):
        build_faulted_honeycomb("Li2MnO3", (0, 120), stacking=stacking)


def test_rock_salt_has_no_honeycomb() -> None:
    with pytest.raises(ValueError, match="no TM layers"):
        honeycomb_colours(rock_salt_frame(np.diag([3, 3, 3])), (0, 0, 0))


def test_incomplete_repeats_and_bad_sizes() -> None:
    with pytest.raises(ValueError, match="multiple of 2 angles"):
        faulted_frame(Stacking.O2, (0, 120, 0))
    with pytest.raises(ValueError, match="at least 1 of each"):
        faulted_frame(Stacking.O3, (0, 120), in_plane=(0, 1))
    with pytest.raises(CompositionError, match="nearest that fits is 2"):
        build_faulted_honeycomb("Li1.5Mn0.5O2", (0, 120))


@pytest.mark.parametrize("density", [-0.1, 1.1, float("nan")])
def test_density_out_of_range(density: float) -> None:
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        draw_fault_angles(4, density, seed=0)
    with pytest.raises(ValueError, match="at least 2 layers"):
        draw_fault_angles(1, 0.5, seed=0)


def test_examples() -> None:
    assert doctest.testmod(stacking_faults).failed == 0
