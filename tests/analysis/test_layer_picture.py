"""The picture of a TM layer shows every site where it is, as what it is."""

from collections import Counter

import numpy as np
import pytest
from matplotlib.figure import Figure

from lrlo.analysis.documents import StateDocument
from lrlo.analysis.figure_style import CLASS_COLOURS
from lrlo.analysis.layer_picture import displaced_tm, layer_picture, tm_layer_figure
from lrlo.structures.assignment import assign
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.slabs import edge_slab
from lrlo.structures.spinel import layered_reference
from lrlo.structures.stacking import Stacking

from .documents import PRISTINE, migrated_state, state_of, texts


def drawn(figure: Figure, state: StateDocument, layer: int) -> Counter:
    """Symbols by gid, periodic images counted once."""
    repeat = layer_picture(state.structure, assign(state.structure, state.frame), layer).repeat
    counts: Counter = Counter()
    for collection in figure.axes[0].collections:
        if collection.get_gid():
            folded = np.asarray(collection.get_offsets()) @ np.linalg.inv(repeat)
            folded = np.round(folded - np.floor(folded + 1e-4), 3)
            counts[collection.get_gid()] += len(np.unique(folded, axis=0))
    return counts


@pytest.mark.parametrize("state", [state_of(PRISTINE, "pristine", 0), migrated_state()])
def test_layers_show_every_site_once(state: StateDocument) -> None:
    total: Counter = Counter()
    for layer in range(state.frame.n_layers):
        total += drawn(tm_layer_figure(state, layer), state, layer)
    classes = state.coordination.class_fractions
    assert {c: n for c, n in total.items() if c in CLASS_COLOURS} == {
        c: round(f * state.coordination.n_oxygen) for c, f in classes.items()
    }
    occupation = assign(state.structure, state.frame).occupation
    expected = Counter(
        occupation.species[i] or "vacancy" for i in state.frame.sites(SiteKind.TM_OCT)
    )
    assert {c: n for c, n in total.items() if c not in CLASS_COLOURS} == expected


def test_migration_shows_in_the_classes() -> None:
    assert set(migrated_state().coordination.class_fractions) > {"O3", "O4"}


def test_oxygen_carries_its_class_colour() -> None:
    figure = tm_layer_figure(migrated_state())
    groups = [c for c in figure.axes[0].collections if c.get_gid() in CLASS_COLOURS]
    assert groups
    for group in groups:
        red, green, blue = (round(255 * x) for x in group.get_facecolor()[0][:3])
        assert f"#{red:02x}{green:02x}{blue:02x}" == CLASS_COLOURS[group.get_gid()]


def test_neighbours_in_the_picture_are_neighbours() -> None:
    state = state_of(PRISTINE, "pristine", 0)
    picture = layer_picture(state.structure, assign(state.structure, state.frame))
    cations = [s for s in picture.sites if s.kind is SiteKind.TM_OCT]
    window = np.array([[-40.0, -40.0], [40.0, 40.0]])
    images = np.vstack([picture.images(s, window) for s in cations])
    distance = np.linalg.norm(images - cations[0].position, axis=1)
    assert np.sum(np.abs(distance - state.frame.a) < 1e-6) == 6
    oxygen = [s for s in picture.sites if s.kind is SiteKind.ANION]
    images = np.vstack([picture.images(s, window) for s in oxygen])
    distance = np.linalg.norm(images - cations[0].position, axis=1)
    assert np.sum(np.abs(distance - state.frame.a / np.sqrt(3)) < 1e-6) == 6
    assert sum(s.above for s in oxygen) == len(oxygen) / 2


def test_rotated_and_shifted_cell_gives_the_same_picture() -> None:
    state = migrated_state()
    turned = state.structure.copy()
    turned.translate_sites(range(len(turned)), [-0.02, 0.015, -0.01])
    turned.lattice = type(turned.lattice).from_parameters(*turned.lattice.parameters)
    moved = state.model_copy(update={"structure": turned})
    pictures = [layer_picture(s.structure, assign(s.structure, s.frame)) for s in (state, moved)]
    first, second = (np.array([s.position for s in p.sites]) for p in pictures)
    change = ((second - second[0]) - (first - first[0])) @ np.linalg.inv(pictures[0].repeat)
    assert np.allclose(change, np.round(change), atol=1e-4)  # the same but for periodic images
    assert [s.species for s in pictures[0].sites] == [s.species for s in pictures[1].sites]


def test_moved_tm_is_marked_and_told() -> None:
    state = migrated_state()
    assert displaced_tm(state) == {state.moves[0].end: state.moves[0].start}
    assert "TM moved (1)" in texts(tm_layer_figure(state))
    back = state.moves[0].model_copy(
        update={"start": state.moves[0].end, "end": state.moves[0].start}
    )
    assert displaced_tm(state.model_copy(update={"moves": [*state.moves, back]})) == {}
    rejected = state.moves[0].model_copy(update={"accepted": False})
    unmoved = state.model_copy(update={"moves": [rejected]})
    assert "TM moved" not in texts(tm_layer_figure(unmoved))


def test_unknown_layer_is_refused() -> None:
    state = migrated_state()
    with pytest.raises(ValueError, match="allowed: 0 to"):
        tm_layer_figure(state, state.frame.n_layers)


def test_nothing_is_missing_in_the_vacuum_of_a_slab() -> None:
    frame = layered_frame(Stacking.O3, np.array([[1, 0, 0], [0, 2, 0], [0, 0, 1]]))
    slab = edge_slab(layered_reference(frame, "Co"), 6).occupation
    gone = next(i for i in slab.sites_of("O") if slab.frame.layers[i] == 0)
    slab = slab.with_species({gone: None})
    structure = slab.to_structure()
    picture = layer_picture(structure, assign(structure, slab.frame))
    assert [s.site for s in picture.sites if not s.species and s.kind is SiteKind.ANION] == [gone]
    empty = [s.site for s in picture.sites if s.species is None and s.kind is SiteKind.TM_OCT]
    assert all(slab.is_enclosed(site) for site in empty)
    assert len(empty) < len(slab.sites_of(None, SiteKind.TM_OCT))
