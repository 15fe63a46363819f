"""The side view shows every atom where it is, and pictures say what they show."""

from collections import Counter
from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lrlo.analysis.structure_picture import (
    SideView,
    ViewDirection,
    preferred_direction,
    side_view,
    structure_figure,
)
from lrlo.structures.built_structure import BuiltStructure
from lrlo.structures.catalogue_crystals import (
    basal,
    crystal,
    disordered_rock_salt,
    faulted_honeycomb,
    layered,
)
from lrlo.structures.catalogue_defects import antisite, oxygen_vacancy
from lrlo.structures.stacking import LAYER_SEQUENCES, Stacking

from .documents import texts

BUILT = {
    "crystal": crystal("Li2MnO3"),
    "faults": faulted_honeycomb("Li2MnO3", angles=(0, 120, 0, 240)),
    "O2": layered("Co", stacking=Stacking.O2),
    "P3": layered("Co", stacking=Stacking.P3),
    "rock salt": disordered_rock_salt("LiMn0.5Ti0.5O2", size=1),
    "slab": replace(basal(layered("Co"), layers=2), assignment=None),  # as slabs are drawn
}


def legend(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.legends[0].get_texts()}


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("direction", ViewDirection)
def test_every_atom_is_in_a_column(name: str, direction: ViewDirection) -> None:
    built = BUILT[name]
    view = side_view(built.structure, built.assignment, direction)
    shown: Counter = Counter()
    for column in view.columns:
        shown.update(column.members)
    cations = {
        symbol: n
        for symbol, n in built.structure.composition.get_el_amt_dict().items()
        if symbol != "O"
    }
    oxygen = built.o_classes or {"O": built.structure.composition["O"]}
    assert shown == Counter({**cations, **oxygen})


@pytest.mark.parametrize("name", ["crystal", "faults", "O2", "slab"])
def test_repeat_of_the_page_is_that_of_the_crystal(name: str) -> None:
    """Columns per area of the page, each weighted with its atoms, make the density."""
    built = BUILT[name]
    view = side_view(built.structure, built.assignment, ViewDirection.ROWS)
    area = abs(float(np.linalg.det(view.repeat)))
    depth = built.structure.volume / area  # of one repeat of the page along the view
    a = min(built.structure.lattice.abc[:2]) if built.frame is None else built.frame.a
    assert depth / a == pytest.approx(round(depth / a), abs=0.02)


def lithium_positions(view: SideView) -> list[tuple[float, float]]:
    """Height and place of the Li columns of the TM layers, one a layer."""
    width = 1.5 * 2.86
    found = []
    for column in view.columns:
        level = (column.position[1] - view.origin) / view.spacing
        if column.members == {"Li": 1} and abs(level % 1 - 0.226) < 0.05:
            found.append((float(np.floor(level)), float(column.position[0] % width)))
    return sorted(found)


def lithium_moves(angles: tuple[int, ...]) -> list[int]:
    """Steps of a/2 that the Li columns move from one layer to the next, -1 to 1."""
    built = faulted_honeycomb("Li2MnO3", angles=angles)
    view = side_view(built.structure, built.assignment, ViewDirection.HONEYCOMB)
    places = lithium_positions(view)
    assert [level for level, _ in places] == list(range(len(angles)))
    moves = [(second - first) / (2.86 / 2) for (_, first), (_, second) in pairwise(places)]
    assert np.allclose(moves, np.round(moves), atol=1e-3)
    return [(round(move) + 1) % 3 - 1 for move in moves]


def test_faults_shift_the_columns_of_lithium() -> None:
    """Straight up at 0 degrees, half of a to one side at 120 and to the other at 240."""
    assert lithium_moves((0, 0, 0, 0)) == [0, 0, 0]
    first, second, third = lithium_moves((0, 120, 240, 0))
    assert first == 0
    assert abs(second) == 1
    assert third == -second
    assert lithium_moves((120, 120, 0, 0)) == [second, second, 0]


@pytest.mark.parametrize("stacking", Stacking)
def test_letters_of_the_stacking_stand_beside_the_planes(stacking: Stacking) -> None:
    built = layered("Co", stacking=stacking, size=(1, 1))
    figure = structure_figure(built, direction=ViewDirection.ROWS)
    letters = [t.get_text() for t in figure.axes[1].texts]
    first = [letter for slab in LAYER_SEQUENCES[stacking].slabs for letter in slab]
    assert letters[: len(first)] == first
    assert len(letters) >= 6


def test_lithium_in_the_tm_layer_decides_the_direction() -> None:
    assert preferred_direction(BUILT["crystal"]) is ViewDirection.HONEYCOMB
    assert preferred_direction(BUILT["O2"]) is ViewDirection.ROWS
    assert preferred_direction(BUILT["slab"]) is ViewDirection.ROWS


def test_defects_are_ringed_and_their_layer_is_drawn() -> None:
    host = layered("Ni", size=(3, 3))
    built = antisite(host, tm="Ni")
    figure = structure_figure(built)
    assert "defect" in legend(figure)
    assert "defect" not in legend(structure_figure(host))
    missing = oxygen_vacancy(host)
    assert missing.frame is not None
    layer = int(missing.frame.layers[missing.changed[0]])
    figure = structure_figure(missing)
    assert f"TM layer {layer + 1} of 3, from above" in texts(figure)
    assert "O vacancy" in legend(figure)


@pytest.mark.parametrize("name", BUILT)
def test_pictures_are_drawn(name: str) -> None:
    figure = structure_figure(BUILT[name], title=name)
    assert name in texts(figure)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=40)
    picture = np.array(Image.open(content).convert("L"))
    assert (picture < 245).mean() > 0.1  # not an empty page


def test_legend_names_what_is_drawn() -> None:
    names = legend(structure_figure(BUILT["crystal"]))
    assert {"Li", "Mn", "O of class O4", "O above the layer", "in-plane repeat"} <= names
    assert "O of class O3" not in names
    assert legend(structure_figure(basal(layered("Co"), layers=2))) == {"Li", "Co", "O"}


def test_unknown_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed: 0 to 0"):
        structure_figure(BUILT["crystal"], layer=3)


def test_structure_without_a_frame_is_drawn() -> None:
    bare = BuiltStructure(BUILT["crystal"].structure)
    assert len(structure_figure(bare).axes) == 1
