import doctest
from collections import Counter

import numpy as np
import pytest

from lrlo.structures import domains
from lrlo.structures.composition import CompositionError
from lrlo.structures.domains import build_two_phase
from lrlo.structures.frame import SiteKind
from lrlo.structures.oxygen_environment import oxygen_environments, tm_coordination
from lrlo.structures.stacking import Stacking


def test_counts_by_hand() -> None:
    """6 rows of 3 sites: 6 Li, 12 Mn; 4 rows of 3 sites: 12 Co; 12 and 12 formula units."""
    model = build_two_phase(0.5, "LiCoO2", rich_rows=6)
    assert model.occupation.count(SiteKind.TM_OCT) == {"Li": 6, "Mn": 12, "Co": 12}
    assert (len(model.rich_sites), len(model.poor_sites)) == (18, 12)
    assert model.x == model.target_x == 0.5
    assert model.rich_width == pytest.approx(6 * np.sqrt(0.75) * 2.86)
    assert model.poor_width == pytest.approx(4 * np.sqrt(0.75) * 2.86)


@pytest.mark.parametrize("x", [0.2, 0.4, 0.55, 0.7])
@pytest.mark.parametrize("rich_rows", [3, 6])
def test_realised_share_is_that_of_the_ions(x: float, rich_rows: int) -> None:
    model = build_two_phase(x, "LiNiO2", rich_rows=rich_rows)
    layer = model.occupation.count(SiteKind.TM_OCT)
    assert model.x == pytest.approx(layer["Mn"] / (layer["Mn"] + layer["Ni"]))
    assert layer["Li"] == layer["Mn"] / 2
    for rows in (model.poor_rows - 1, model.poor_rows + 1):
        other = 2 * rich_rows / (2 * rich_rows + 3 * rows)
        assert abs(other - x) >= abs(model.x - x)


@pytest.mark.parametrize("stacking", [Stacking.O3, Stacking.O2, Stacking.O1])
def test_oxygen_classes(stacking: Stacking) -> None:
    """Far from the walls O4 in one domain, O3 in the other; at the walls what Li makes of it."""
    model = build_two_phase(0.5, "LiCoO2", rich_rows=6, columns=2, n_repeats=2, stacking=stacking)
    occupation = model.occupation
    frame = occupation.frame
    rich = set(model.rich_sites)
    interior: dict[bool, set[str]] = {True: set(), False: set()}
    walls = Counter[str]()
    for environment in oxygen_environments(occupation):
        around = [
            site in rich
            for site in frame.cations_of_anion[environment.site]
            if frame.kinds[site] is SiteKind.TM_OCT
        ]
        if all(around) or not any(around):
            interior[around[0]].add(environment.o_class.value)
        else:
            walls[environment.o_class.value] += 1
    assert interior == {True: {"O4"}, False: {"O3"}}
    # Two walls per layer, each with one O per column site above and one below the TM layer: two
    # of three sites beside the wall are Mn, so a pair of them leaves out Li in one of three.
    per_layer_wall = 3 * 2 * 2
    assert walls.total() == 2 * per_layer_wall * frame.n_layers
    assert walls["O4"] == walls["O3"]


def test_every_lithium_of_the_tm_layer_makes_six_o4() -> None:
    occupation = build_two_phase(0.3, "LiNi0.5Mn0.5O2", rich_rows=5).occupation
    classes = Counter(e.o_class.value for e in oxygen_environments(occupation))
    lithium = occupation.sites_of("Li", SiteKind.TM_OCT)
    assert set(classes) == {"O3", "O4"}
    assert classes["O4"] == 6 * len(lithium)
    assert {tm_coordination(occupation, site) for site in lithium} == {6}


def test_domains_are_contiguous_stripes() -> None:
    model = build_two_phase(0.4, "LiCoO2", rich_rows=4)
    frame = model.occupation.frame
    rows = frame.in_plane[list(model.rich_sites)][:, 1]
    assert sorted(set(rows.tolist())) == [0, 1, 2, 3]
    assert not set(model.rich_sites) & set(model.poor_sites)
    assert model.occupation.frame.n_layers == 1


def test_mixed_metals_of_the_poor_domain() -> None:
    model = build_two_phase(
        0.3, "LiNi0.3333Mn0.3333Co0.3333O2", rich_rows=3, columns=1, n_repeats=2
    )
    poor = [model.occupation.species[site] for site in model.poor_sites]
    assert Counter(poor) == {"Ni": 10, "Mn": 10, "Co": 10}
    assert model.composition.total_deviation == pytest.approx(0)
    assert model.order.objective >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": 0.5, "rich_rows": 0}, "at least 1 row"),
        ({"x": 0.5, "rich_rows": -3}, "-3 rows is not possible"),
        ({"x": 0.0, "rich_rows": 3}, "0 < x < 1"),
        ({"x": 1.0, "rich_rows": 3}, "0 < x < 1"),
        ({"x": 0.9, "rich_rows": 2}, r"nearest that fits is x = 0\.571"),
        ({"x": 0.5, "rich_rows": 3, "columns": 0}, "at least 1"),
        ({"x": 0.5, "rich_rows": 3, "n_repeats": -1}, "at least 1"),
    ],
)
def test_impossible_domains(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_two_phase(poor_phase="LiCoO2", **arguments)


def test_impossible_poor_phases() -> None:
    with pytest.raises(CompositionError, match="has Li in its TM layer"):
        build_two_phase(0.5, "Li1.2Mn0.8O2", rich_rows=3)
    with pytest.raises(CompositionError, match=r"too small for \['Co'\]"):
        build_two_phase(0.5, "LiNi0.95Co0.05O2", rich_rows=3)


def test_examples() -> None:
    assert doctest.testmod(domains).failed == 0
