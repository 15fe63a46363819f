"""Figures show what the documents say: counts, positions, statuses."""

from collections import Counter

import numpy as np
import pytest

from lrlo.analysis.barrier import PathStatus
from lrlo.analysis.figures import (
    barrier_figure,
    in_plane_parameter,
    lattice_figure,
    o4_fraction_figure,
    oxidation_figure,
    profile_figure,
    voltage_figure,
)
from lrlo.analysis.layer_picture import tm_layer_figure
from lrlo.analysis.presentation import shown_barrier

from .documents import CONTEXT, N_FU, PRISTINE, barrier_of, migrated_state, state_of, texts


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
