"""Figures show what the documents say: counts, positions, statuses."""

from collections import Counter

import numpy as np
import pytest
from lrlo.analysis.barrier import Barrier, PathStatus
from lrlo.analysis.coordination import summarise_coordination
from lrlo.analysis.documents import (
    BarrierDocument,
    PathSegment,
    StateDocument,
    StudyContext,
    TmMove,
)
from lrlo.analysis.figures import (
    CLASS_COLOURS,
    barrier_figure,
    displaced_tm,
    in_plane_parameter,
    lattice_figure,
    layer_picture,
    o4_fraction_figure,
    oxidation_figure,
    profile_figure,
    shown_barrier,
    tm_layer_figure,
    voltage_figure,
)
from lrlo.analysis.level_of_theory import LevelOfTheory
from lrlo.analysis.oxidation import oxidation_states
from lrlo.analysis.oxygen_pairs import find_oxygen_pairs
from lrlo.analysis.voltage import LithiationPoint, voltage_curve
from lrlo.structures.assignment import assign
from lrlo.structures.frame import Sharing, SiteKind
from lrlo.structures.hops import Hop, PathClass
from lrlo.structures.layered_oxide import build_pristine
from lrlo.structures.occupation import Occupation
from matplotlib.figure import Figure

THEORY = LevelOfTheory(backend="emulator", model="Model X", version="1", note="barriers low")
PRISTINE = build_pristine("Li1.2Ni0.2Mn0.6O2", min_atoms=30, max_atoms=60, seed=3).occupation
N_FU = len(PRISTINE.frame.sites(SiteKind.TM_OCT))
CONTEXT = StudyContext(
    study="s",
    study_key="k",
    composition="Li1.2Ni0.2Mn0.6O2",
    target={"Li": 1.2},
    realised={"Li": 1.2},
    charge_imbalance=0.0,
    n_formula_units=N_FU,
    stacking="O3",
    superlattice="honeycomb",
    seed=3,
    sqs_objective=0.0,
    image_distance=8.0,
)


def state_of(occupation: Occupation, label: str, order: int, **changes: object) -> StateDocument:
    """Document of an ideal structure."""
    structure = occupation.to_structure()
    summary = summarise_coordination(occupation)
    species = [site.specie.symbol for site in structure]
    n_li = occupation.count()["Li"]
    full = PRISTINE.count()["Li"]
    points = [LithiationPoint(n_li=n, energy=-2.0 * n + 0.05 * n * n) for n in (0, full // 2, full)]
    values: dict = {
        **{"context": CONTEXT, "label": label, "after": None, "order": order, "voltage": None},
        **{"li_source": "given Li content", "li_content": n_li / N_FU},
        **{"li_layer": 0.5, "tm_layer": 0.1, "structure": structure, "frame": occupation.frame},
        **{"energy": -1.0 * n_li, "converged": True, "lattice": {}, "layer_spacing": 4.8},
        **{"in_plane_area": 7.1, "volume": 34.0 + n_li / N_FU, "coordination": summary},
        **{"before_migration": summary, "oxygen_pairs": find_oxygen_pairs(structure)},
        "oxidation": list(oxidation_states(species, [3.1] * len(species))),
        **{"moves": [], "temperature": None, "migration_seed": None},
        **{"migration_stopped": "not sampled", "o4_chain": []},
        **{"curve": voltage_curve(points, -1.9), "level_of_theory": THEORY},
    }
    return StateDocument(**{**values, **changes})


def migrated_state(label: str = "4.8 V", order: int = 1, **changes: object) -> StateDocument:
    """Honeycomb Li gone, and one Mn moved into its site."""
    vacancy = PRISTINE.sites_of("Li", SiteKind.TM_OCT)[0]
    near = PRISTINE.frame.neighbours(vacancy, Sharing.EDGE, SiteKind.TM_OCT)
    mn = next(n.site for n in near if PRISTINE.species[n.site] == "Mn")
    charged = PRISTINE.with_species({vacancy: None})
    move = TmMove(
        step=1, mover="Mn", start=mn, end=vacancy, energy_change=-0.1, accepted=True,
        outcome="moved",
    )  # fmt: skip
    values = {
        "moves": [move],
        "before_migration": summarise_coordination(charged),
        "voltage": 4.8,
        "temperature": 300.0,
    }
    return state_of(
        charged.with_species({mn: None, vacancy: "Mn"}), label, order, **{**values, **changes}
    )


def barrier_of(status: PathStatus | None, forward: float = 0.7654, **changes: object):
    """Document of a hop with one segment."""
    energies = [0.0, forward, 0.25]
    value = Barrier(
        forward=forward, reverse=forward - 0.25, reaction_energy=0.25, max_minus_min=forward
    )
    segment = PathSegment(
        status=status or PathStatus.UNCONVERGED, barrier=value, arc_lengths=[0.0, 1.5, 3.0],
        energies=energies, tangential_forces=[0.0, 0.0, 0.0], residual=0.04,
    )  # fmt: skip
    sound = status not in (None, PathStatus.UNCONVERGED, PathStatus.UNSTABLE_ENDPOINT)
    hop = Hop(
        mover="Mn", path_class=PathClass.IN_PLANE, start=31, via=None,
        end={"site": 34, "image": (0, 0, 0)},
    )  # fmt: skip
    values: dict = {
        **{"context": CONTEXT, "state": "4.8 V", "order": 1, "voltage": 4.8, "li_content": 0.3},
        **{"path_class": "in_plane", "hop": hop if status else None, "surroundings": None},
        **{"status": status, "detail": "detail in words", "barrier": value if sound else None},
        "segments": [segment] if status and status is not PathStatus.UNSTABLE_ENDPOINT else [],
        **{"followers": [], "n_images": 1, "n_force_calls": 10, "wall_time": 1.0},
        "level_of_theory": THEORY,
    }
    return BarrierDocument(**{**values, **changes})


def texts(figure: Figure) -> str:
    """All text of a figure."""
    return " | ".join(text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))


def drawn(figure: Figure, state: StateDocument, layer: int) -> Counter:
    """Symbols by gid, periodic images counted once."""
    repeat = layer_picture(state, assign(state.structure, state.frame), layer).repeat
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
    picture = layer_picture(state, assign(state.structure, state.frame))
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
    pictures = [layer_picture(s, assign(s.structure, s.frame)) for s in (state, moved)]
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


def test_o4_figure_has_values_before_and_after() -> None:
    state = migrated_state()
    figure = o4_fraction_figure([state_of(PRISTINE, "pristine", 0), state])
    heights = {round(float(y), 6) for line in figure.axes[0].lines for y in line.get_ydata()}
    assert {round(state.before_migration.o4_fraction or 0, 6),
            round(state.coordination.o4_fraction or 0, 6)} <= heights  # fmt: skip
    bars = Counter(round(p.get_x(), 3) for p in figure.axes[1].patches if p.get_height() > 0)
    assert len(bars) == 3  # pristine; before and after


def test_replicates_are_points_with_their_mean() -> None:
    first = migrated_state()
    second = state_of(PRISTINE, "4.8 V", 1, moves=first.moves,
                      context=CONTEXT.model_copy(update={"seed": 4}))  # fmt: skip
    figure = o4_fraction_figure([first, second])
    fractions = [s.coordination.o4_fraction or 0 for s in (first, second)]
    lines = [list(map(float, line.get_ydata())) for line in figure.axes[0].lines]
    assert fractions in lines
    assert pytest.approx([np.mean(fractions)] * 2) in lines


def test_voltage_figure_steps_and_levels() -> None:
    state = migrated_state()
    figure = voltage_figure([state_of(PRISTINE, "pristine", 0), state])
    stairs = [p for p in figure.axes[0].patches if hasattr(p, "get_data")]
    assert len(stairs) == 1  # both states come from one host
    values, edges, _ = stairs[0].get_data()
    assert list(values) == [step.voltage for step in state.curve.steps]
    assert edges[-1] == pytest.approx(state.curve.steps[-1].n_li_high / N_FU)
    assert "Model X" in texts(figure)


def test_barrier_figure_draws_numbers_only_where_there_is_a_barrier() -> None:
    figure = barrier_figure(
        [
            barrier_of(PathStatus.CONVERGED, 0.7),
            barrier_of(PathStatus.NO_INTERIOR_SADDLE, 0.6),
            barrier_of(PathStatus.UNCONVERGED, 9.9),
            barrier_of(PathStatus.UNSTABLE_ENDPOINT, 8.8),
            barrier_of(None),
        ]
    )
    ends = {float(max(line.get_xdata())) for line in figure.axes[0].lines}
    assert ends == {0.7, 0.6, 0.02}  # 0.02: the mark in axes coordinates
    assert figure.axes[0].get_xlim()[1] < 1
    for status in ("unconverged", "unstable endpoint", "no candidate"):
        assert status in texts(figure)


def test_unsound_documents_never_count_as_barriers() -> None:
    leaked = barrier_of(PathStatus.CONVERGED).model_copy(update={"status": PathStatus.UNCONVERGED})
    assert not shown_barrier(leaked)


def test_profile_is_dashed_and_says_so_when_unconverged() -> None:
    bad = profile_figure(barrier_of(PathStatus.UNCONVERGED))
    good = profile_figure(barrier_of(PathStatus.CONVERGED))
    assert bad.axes[0].lines[0].get_linestyle() == "--"
    assert good.axes[0].lines[0].get_linestyle() == "-"
    assert "unconverged: no barrier" in texts(bad)
    assert "0.77 eV" in texts(good)
    assert "0.77" not in texts(bad)
    assert "0.77 eV†" in texts(profile_figure(barrier_of(PathStatus.NO_INTERIOR_SADDLE)))


def test_profile_joins_segments() -> None:
    one = barrier_of(PathStatus.SEVERAL_SADDLES)
    second = one.segments[0].model_copy(update={"energies": [0.25, 0.9, 0.1]})
    figure = profile_figure(one.model_copy(update={"segments": [*one.segments, second]}))
    points = figure.axes[0].lines[-2]
    assert list(points.get_xdata()) == [0.0, 1.5, 3.0, 3.0, 4.5, 6.0]
    assert list(figure.axes[0].lines[-1].get_xdata()) == [4.5]  # the saddle


def test_lattice_parameter_of_the_ideal_layer() -> None:
    area = PRISTINE.frame.a**2 * np.sqrt(3) / 2
    state = state_of(PRISTINE, "pristine", 0, in_plane_area=area)
    assert in_plane_parameter(state) == pytest.approx(PRISTINE.frame.a)


def test_oxidation_figure() -> None:
    figure = oxidation_figure([state_of(PRISTINE, "pristine", 0)])
    assert "Mn: share of atoms" in texts(figure)
    assert "+4" in texts(figure)
    nothing = oxidation_figure([state_of(PRISTINE, "pristine", 0, oxidation=None)])
    assert "no oxidation states" in texts(nothing)


@pytest.mark.parametrize(
    "draw", [o4_fraction_figure, voltage_figure, barrier_figure, lattice_figure, oxidation_figure]
)
def test_nothing_to_draw_is_no_error(draw) -> None:
    draw([]).savefig("/dev/null", format="svg")


@pytest.mark.parametrize("label", ["_hidden", "50 $ of $x^", "a\\b{c}"])
def test_any_label_can_be_drawn(label: str) -> None:
    states = [state_of(PRISTINE, label, 0), migrated_state("next", 1, after=label)]
    figures = [draw(states) for draw in (o4_fraction_figure, voltage_figure, lattice_figure)]
    hop = barrier_of(PathStatus.CONVERGED, state=label)
    figures += [oxidation_figure(states), tm_layer_figure(states[0])]
    for figure in [*figures, barrier_figure([hop]), profile_figure(hop)]:
        figure.savefig("/dev/null", format="svg")
