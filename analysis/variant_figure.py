"""Comparison of the variants of a study: oxygen coordination and lowest barriers by state."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .barrier import PathStatus
from .documents import BarrierDocument, StateDocument
from .figure_style import GREY, shown
from .figures import STATE_COLOURS, STATE_MARKERS
from .presentation import in_order, plain

_LINE_STYLES = ("-", "--", ":", "-.")


def variant_figure(states: Sequence[StateDocument], barriers: Sequence[BarrierDocument]) -> Figure:
    """O4/(O4+O5) and the lowest converged barrier of every path class, by state and variant.

    Values are means over the seeds of a variant. Only converged barriers count; a variant without
    one in a state has no point there.

    Parameters
    ----------
    states, barriers
        Results of all variants.
    """
    labels = list(dict.fromkeys(state.label for state in in_order(states)))
    variants = list(dict.fromkeys(state.context.variant for state in states))
    classes = list(dict.fromkeys(barrier.path_class for barrier in barriers))
    figure = Figure(
        figsize=(max(6.5, 1.4 * len(labels) + 3), 2.7 * (1 + len(classes)) + 0.4),
        layout="constrained",
    )
    axes_of = np.atleast_1d(figure.subplots(1 + len(classes), 1, sharex=True))
    for number, variant in enumerate(variants):
        # Variants side by side, so that equal values stay visible.
        places = np.arange(len(labels)) + 0.12 * (number - (len(variants) - 1) / 2)
        style = {**_style(number), "label": shown(variant) or "study"}
        own = [state for state in states if state.context.variant == variant]
        fractions = [
            [s.coordination.o4_fraction for s in own if s.label == label] for label in labels
        ]
        axes_of[0].plot(places, _means(fractions), lw=1, ms=7, **style)
        for axes, path_class in zip(axes_of[1:], classes, strict=True):
            lowest = [_lowest_by_seed(barriers, variant, label, path_class) for label in labels]
            axes.plot(places, _means(lowest), lw=1, ms=7, **style)
    axes_of[0].set_ylabel("O4/(O4+O5)")
    axes_of[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes, path_class in zip(axes_of[1:], classes, strict=True):
        axes.set_ylabel(f"lowest {plain(path_class)}\nbarrier (eV)")
        axes.set_ylim(bottom=0)
        if not any(np.isfinite(line.get_ydata()).any() for line in axes.lines):
            _say_empty(axes)
    for axes in axes_of:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e5e7eb", lw=0.7)
    axes_of[-1].set_xticks(range(len(labels)), [shown(label) for label in labels])
    axes_of[0].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
    return figure


def _lowest_by_seed(
    barriers: Sequence[BarrierDocument], variant: str, label: str, path_class: str
) -> list[float | None]:
    """Lowest converged forward barrier of every seed, eV."""
    found: dict[int, float] = {}
    for barrier in barriers:
        where = (barrier.context.variant, barrier.state, barrier.path_class)
        if where != (variant, label, path_class) or barrier.status is not PathStatus.CONVERGED:
            continue
        if barrier.barrier is not None:
            seed = barrier.context.seed
            found[seed] = min(found.get(seed, np.inf), barrier.barrier.forward)
    return list(found.values())


def _means(groups: Sequence[Sequence[float | None]]) -> list[float]:
    known = [[value for value in group if value is not None] for group in groups]
    return [float(np.mean(group)) if group else float("nan") for group in known]


def _style(number: int) -> dict[str, str]:
    """Style of a variant: once the colours are used up, marker and line differ."""
    turn, place = divmod(number, len(STATE_COLOURS))
    return {
        "color": STATE_COLOURS[place],
        "marker": STATE_MARKERS[(place + turn) % len(STATE_MARKERS)],
        "linestyle": _LINE_STYLES[turn % len(_LINE_STYLES)],
    }


def _say_empty(axes: Axes) -> None:
    """Say that there is nothing to show, without a scale that nothing is drawn on."""
    axes.set_yticks([])
    axes.text(0.5, 0.5, "no converged barrier", transform=axes.transAxes, ha="center", color=GREY)
