"""Figures of a study: oxygen classes, voltage, barriers, lattice, oxidation states."""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from .barrier import PathStatus, fitted_path, fitted_saddle
from .coordination import CoordinationSummary
from .documents import BarrierDocument, PathSegment, StateDocument
from .figure_style import CLASS_COLOURS, ELEMENT_COLOURS, GREY, OTHER_ELEMENT, shown
from .presentation import (
    by_replicate,
    hop_name,
    hop_sites,
    in_order,
    mark,
    plain,
    shown_barrier,
    status_name,
)

PATH_COLOURS = MappingProxyType(
    {
        "in_plane": "#0072b2",
        "out_of_plane": "#d55e00",
        "out_of_plane_trap": "#cc79a7",
        "li_hop": "#009e73",
        "tm_hop": "#56b4e9",
    }
)
STATE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d00", "#000000")
STATE_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
OXIDATION_COLOURS = MappingProxyType({2: "#c6dbef", 3: "#6baed6", 4: "#08519c"})
#: Symbols of the statuses that have a barrier; only ``converged`` is filled.
STATUS_MARKERS = MappingProxyType(
    {
        PathStatus.CONVERGED: "o",
        PathStatus.NO_INTERIOR_SADDLE: "^",
        PathStatus.SEVERAL_SADDLES: "s",
    }
)
PER_FU = "Li per formula unit (two O)"


def o4_fraction_figure(states: Sequence[StateDocument]) -> Figure:
    """O4/(O4+O5) and the shares of all oxygen classes, before and after TM moved.

    Replicates of a state (seeds) are points with a line at their mean; bars are means.

    Parameters
    ----------
    states
        States to compare; with none, the figure says so.
    """
    groups = _by_label(states)
    if not groups:
        return _sentence("No state has been computed.")
    figure = Figure(figsize=(max(6.5, 1.5 * len(groups) + 2), 6.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    drawn: list[float] = []
    for name, offset, style in (
        ("before TM migration", -0.17, {"marker": "o", "mfc": "white"}),
        ("after TM migration", 0.17, {"marker": "o", "mfc": CLASS_COLOURS["O4"]}),
    ):
        means: list[tuple[float, float]] = []
        for place, group in enumerate(groups.values()):
            values = [c.o4_fraction for s in group for c in _stages(s)[name]]
            known = [value for value in values if value is not None]
            x = place + _shift(group, offset)
            if known:
                upper.plot([x] * len(known), known, ls="", mec=CLASS_COLOURS["O4"], ms=7, **style)
                means.append((x, float(np.mean(known))))
            if len(known) > 1:
                upper.plot([x - 0.11, x + 0.11], [means[-1][1]] * 2, color="black", lw=2)
        if means:
            line = "--" if offset < 0 else "-"
            upper.plot(
                *zip(*means, strict=True), color=CLASS_COLOURS["O4"], ls=line, lw=1, zorder=1
            )
            upper.plot([], [], ls="", mec=CLASS_COLOURS["O4"], ms=7, label=name, **style)
        drawn += [mean for _, mean in means]
        _stack_classes(lower, groups, name, offset)
    if not drawn:
        upper.text(0.5, 0.5, "no O4 or O5", transform=upper.transAxes, ha="center", color=GREY)
    upper.set_ylim(max(0.0, min([0.75, *drawn]) - 0.05), 1.03)
    upper.set_ylabel("O4/(O4+O5)")
    lower.set(ylim=(0, 1), ylabel="share of all O")
    lower.set_xticks(range(len(groups)), [textwrap.fill(shown(label), 16) for label in groups])
    for axes in (upper, lower):
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        _tidy(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
    return figure


def _stages(state: StateDocument) -> dict[str, list[CoordinationSummary]]:
    """Summaries before and after TM migration; only one where no TM was tried."""
    before = [state.before_migration] if state.moves else []
    return {"before TM migration": before, "after TM migration": [state.coordination]}


def _shift(group: Sequence[StateDocument], offset: float) -> float:
    return offset if any(state.moves for state in group) else 0.0


def _stack_classes(
    axes: Axes, groups: Mapping[str, Sequence[StateDocument]], name: str, offset: float
) -> None:
    hatched: dict[str, Any] = {"hatch": "////", "alpha": 0.55} if offset < 0 else {}
    bottom = np.zeros(len(groups))
    for o_class, colour in CLASS_COLOURS.items():
        shares = np.zeros(len(groups))
        for place, group in enumerate(groups.values()):
            summaries = [summary for state in group for summary in _stages(state)[name]]
            values = [summary.class_fractions.get(o_class, 0.0) for summary in summaries]
            shares[place] = np.mean(values) if values else 0.0
        if not shares.any():
            continue
        places = [i + _shift(group, offset) for i, group in enumerate(groups.values())]
        label = "" if offset < 0 else o_class
        axes.bar(
            places, shares, 0.3, bottom, color=colour, ec="white", lw=0.5, label=label, **hatched
        )
        bottom += shares
    if offset < 0 and bottom.any():
        axes.bar([0], [0], color="white", ec="#555555", hatch="////", label="before TM migration")


def voltage_figure(states: Sequence[StateDocument]) -> Figure:
    """Voltage against Li content for every host, with the states marked.

    Parameters
    ----------
    states
        States to compare; with none, the figure says so.
    """
    figure, axes = _single((7.6, 4.4))
    hosts: dict[tuple, list[StateDocument]] = {}
    for state in in_order(states):
        hosts.setdefault((state.context.replicate, state.curve.points), []).append(state)
    several = len({replicate for replicate, _ in hosts}) > 1
    for number, ((replicate, _), members) in enumerate(hosts.items()):
        n = members[0].context.n_formula_units
        steps = members[0].curve.steps
        if not steps:
            continue
        edges = [steps[0].n_li_low / n, *(step.n_li_high / n for step in steps)]
        origin = members[0].after
        name = f"host refilled after {shown(origin)}" if origin else "pristine host"
        axes.stairs(
            [step.voltage for step in steps],
            edges,
            baseline=None,
            color=_colour(number),
            lw=1.8,
            ls="--" if origin else "-",
            label=name + (f", {replicate}" if several else ""),
        )
    styles = _state_styles(states)
    for state in in_order(states):
        if state.voltage is None:
            axes.axvline(state.li_content, color="#9ca3af", lw=1, ls=":", zorder=0)
        else:
            axes.plot(
                state.li_content, state.voltage, label=shown(state.label), **styles[state.label]
            )
    for label in dict.fromkeys(s.label for s in in_order(states) if s.voltage is None):
        axes.plot([], [], color="#9ca3af", lw=1, ls=":", label=f"{shown(label)} (Li content)")
    axes.set(xlabel=PER_FU, ylabel="voltage against Li/Li$^+$ (V)")
    axes.set_title(_levels(states), fontsize=9, loc="left")
    axes.legend(
        *_unique_legend(axes), loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9
    )
    return figure


def lattice_figure(states: Sequence[StateDocument]) -> Figure:
    """Layer spacing, in-plane lattice parameter and volume against Li content.

    Crystals without layers have a volume only.

    Parameters
    ----------
    states
        States to compare; with none, the figure says so.
    """
    if not states:
        return _sentence("No state has been computed.")
    figure = Figure(figsize=(10.5, 3.9), layout="constrained")
    styles = _state_styles(states)
    panels = figure.subplots(1, 3, gridspec_kw={"wspace": 0.06})
    quantities: dict[str, Callable[[StateDocument], float | None]] = {
        "distance of TM layers (Å)": lambda s: s.layer_spacing,
        "a from area per TM-layer site (Å)": in_plane_parameter,
        "volume per formula unit (Å$^3$)": lambda s: s.volume,
    }
    for axes, (name, value) in zip(panels, quantities.items(), strict=True):
        measured = [state for state in states if value(state) is not None]
        for members in by_replicate(measured).values():
            charge = [s for s in members if s.after is None]
            points = sorted((s.li_content, value(s)) for s in charge)
            axes.plot(*zip(*points, strict=True), color="#9ca3af", lw=1, zorder=0)
            for state in members:
                for origin in (s for s in members if s.label == state.after):
                    x, y = zip(*((s.li_content, value(s)) for s in (origin, state)), strict=True)
                    axes.plot(x, y, color="#9ca3af", lw=1, ls="--", zorder=0)
                axes.plot(
                    state.li_content, value(state), label=shown(state.label), **styles[state.label]
                )
        if not measured:
            axes.text(0.5, 0.5, "no layers", transform=axes.transAxes, ha="center", color=GREY)
        axes.set(xlabel="Li per formula unit", ylabel=name)
        _tidy(axes)
    figure.legend(*_unique_legend(panels[-1]), loc="outside lower center", ncols=4, frameon=False)
    return figure


def in_plane_parameter(state: StateDocument) -> float | None:
    """In-plane lattice parameter of the hexagon with the same area per TM-layer site, Å.

    None without layers.
    """
    if state.in_plane_area is None:
        return None
    return float(np.sqrt(2 * state.in_plane_area / np.sqrt(3)))


def oxidation_figure(states: Sequence[StateDocument]) -> Figure:
    """Mean oxidation state per element against Li content, and shares per state of charge.

    Parameters
    ----------
    states
        States to compare; with none, the figure says so.
    """
    known = [state for state in in_order(states) if state.oxidation]
    elements = sorted({entry.element for state in known for entry in state.oxidation or []})
    if not elements:
        return _sentence("The backend gives no magnetic moments: no oxidation states.")
    labels = list(_by_label(known))
    figure = Figure(figsize=(10.5, 0.42 * len(labels) + 4.6), layout="constrained")
    grid = figure.add_gridspec(2, len(elements), height_ratios=(3, 0.42 * len(labels) + 0.9))
    top = figure.add_subplot(grid[0, :])
    for number, element in enumerate(elements):
        entries = [(s, e) for s in known for e in s.oxidation or [] if e.element == element]
        points = sorted((s.li_content, e.mean_state) for s, e in entries if s.after is None)
        later = [(s.li_content, e.mean_state) for s, e in entries if s.after is not None]
        colour = ELEMENT_COLOURS.get(element, OTHER_ELEMENT)
        style: dict[str, Any] = {
            "marker": STATE_MARKERS[number % len(STATE_MARKERS)],
            "ms": max(12 - 3 * number, 4),
        }
        top.plot(*np.transpose(points), color=colour, mec="#1f2937", ls=":", label=element, **style)
        if later:
            top.plot(*np.transpose(later), mec=colour, mfc="none", mew=1.8, ls="", **style)
        axes = figure.add_subplot(grid[1, number])
        _stack_oxidation(axes, labels, entries)
        axes.set_title(f"{element}: share of atoms", fontsize=10)
        axes.set_yticks(
            range(len(labels)), map(shown, labels) if number == 0 else [""] * len(labels)
        )
    top.set(xlabel=PER_FU, ylabel="mean oxidation state")
    top.set_title("open symbols: after another state", fontsize=9, loc="left")
    top.legend(frameon=False, ncols=len(elements))
    _tidy(top)
    handles = [
        Line2D([], [], ls="", marker="s", ms=9, mec=GREY, color=colour, label=f"+{n}")
        for n, colour in OXIDATION_COLOURS.items()
        if any(n in e.counts for s in known for e in s.oxidation or [])
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _stack_oxidation(axes: Axes, labels: list[str], entries: list) -> None:
    for row, label in enumerate(labels):
        counts = [entry.counts for state, entry in entries if state.label == label]
        total, left = sum(sum(count.values()) for count in counts), 0.0
        for number, colour in OXIDATION_COLOURS.items():
            share = sum(count.get(number, 0) for count in counts) / total if total else 0.0
            axes.barh(row, share, 0.6, left, color=colour, ec=GREY, lw=0.5)
            left += share
    axes.set(xlim=(0, 1), ylim=(len(labels) - 0.5, -0.5), xticks=(0, 0.5, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.spines[["top", "right"]].set_visible(False)


def barrier_figure(barriers: Sequence[BarrierDocument]) -> Figure:
    """Forward barrier of every hop, one row each, grouped by state and path class.

    Hops without a barrier are listed with their status and no number.

    Parameters
    ----------
    barriers
        Hops to show; with none, the figure says so.
    """
    if not barriers:
        return _sentence("No hop has been looked for.")
    ordered = sorted(barriers, key=lambda b: (b.order, b.path_class, b.context.replicate))
    groups = [
        (head, list(group))
        for head, group in groupby(ordered, lambda b: f"{shown(b.state)}, {plain(b.path_class)}")
    ]
    several = len({b.context.replicate for b in ordered}) > 1
    figure, axes = _single((8.2, min(0.3 * (len(ordered) + len(groups)) + 1.3, 60)))
    row, ticks, names = -0.3, [], []
    for head, group in groups:
        row += 0.3
        axes.text(0.01, row, head, transform=axes.get_yaxis_transform(), weight="bold", va="center")
        for barrier in group:
            row += 1
            replicate = barrier.context.replicate if several else ""
            names.append(", ".join(filter(None, (hop_sites(barrier), replicate))))
            ticks.append(row)
            _draw_barrier(axes, barrier, row)
        row += 1
    axes.set_yticks(ticks, names)
    axes.set_ylim(row - 0.3, -0.7)
    highest = max((value.forward for b in ordered if (value := shown_barrier(b))), default=0)
    axes.set_xlim(0, 1.08 * highest or 1)
    axes.set_xlabel("forward barrier (eV)")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    handles = []
    for status, marker in STATUS_MARKERS.items():
        face = "#374151" if status is PathStatus.CONVERGED else "white"
        style: dict[str, Any] = {"marker": marker, "color": "#374151", "mfc": face, "ms": 7}
        handles.append(Line2D([], [], ls="", label=plain(status.value), **style))
    handles.append(
        Line2D([], [], ls="", marker="x", color=GREY, ms=7, label="no barrier (reason given)")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _draw_barrier(axes: Axes, barrier: BarrierDocument, row: float) -> None:
    value = shown_barrier(barrier)
    if value is None or barrier.status is None:
        place = axes.get_yaxis_transform()
        axes.plot(0.02, row, marker="x", ms=6, color=GREY, ls="", transform=place)
        axes.text(0.04, row, status_name(barrier), transform=place, va="center", color=GREY)
        return
    colour = PATH_COLOURS.get(barrier.path_class, GREY)
    face = colour if barrier.status is PathStatus.CONVERGED else "white"
    axes.plot([0, value.forward], [row, row], color=colour, lw=1.2, alpha=0.6)
    axes.plot(value.forward, row, marker=STATUS_MARKERS[barrier.status], ms=8, mec=colour, mfc=face)


def profile_figure(barrier: BarrierDocument) -> Figure:
    """Energy along a path: images, curve fitted through them, and the saddle.

    Dashed and without a number where the hop has no barrier.

    Parameters
    ----------
    barrier
        Hop to show; without a computed path, the figure says why.
    """
    if not barrier.segments:
        return _sentence(f"{status_name(barrier)}: no path was computed. {barrier.detail}")
    figure, axes = _single((5.6, 3.7))
    value = shown_barrier(barrier)
    colour = PATH_COLOURS.get(barrier.path_class, GREY)
    start = 0.0
    points: list[tuple[float, float]] = []
    tops: list[tuple[float, float]] = []
    for segment in barrier.segments:
        lengths = (start + np.asarray(segment.arc_lengths)).tolist()
        images = (lengths, segment.energies, segment.tangential_forces)
        fine = np.linspace(lengths[0], lengths[-1], 20 * len(lengths))
        axes.plot(fine, fitted_path(*images)(fine), color=colour, lw=1.6, ls="-" if value else "--")
        points += list(zip(lengths, segment.energies, strict=True))
        tops.append(_saddle(segment, lengths))
        start = lengths[-1]
        if segment is not barrier.segments[-1]:
            axes.axvline(start, color="#9ca3af", lw=1, ls=":")
    axes.plot(*zip(*points, strict=True), "o", color=colour, mfc=colour if value else "white")
    if value:
        x, y = max(tops, key=lambda point: point[1])
        axes.plot(x, y, "*", ms=16, color="#f2c500", mec="black", zorder=5)
        note = f"{value.forward:.2f} eV{mark(barrier)}"
        axes.annotate(note, (x, y), (0, 11), textcoords="offset points", ha="center")
        axes.margins(y=0.16)
    head = f"{shown(barrier.state)}: {hop_name(barrier)}\n{status_name(barrier)}"
    if value:
        axes.set_title(head, fontsize=9, loc="left")
    else:
        axes.set_title(f"{head}: no barrier", fontsize=9, loc="left", color="#b91c1c")
    axes.set(xlabel="path length (Å)", ylabel="energy relative to the initial state (eV)")
    return figure


def _saddle(segment: PathSegment, lengths: Sequence[float]) -> tuple[float, float]:
    """Where a segment's barrier has its top: on an image or between two."""
    highest = int(np.argmax(segment.energies))
    top = segment.energies[0] + segment.barrier.forward
    if top <= segment.energies[highest] + 1e-9:
        return lengths[highest], segment.energies[highest]
    return fitted_saddle(lengths, segment.energies, segment.tangential_forces)


def _colour(number: int) -> str:
    return STATE_COLOURS[number % len(STATE_COLOURS)]


def _by_label(states: Iterable[StateDocument]) -> dict[str, list[StateDocument]]:
    groups: dict[str, list[StateDocument]] = {}
    for state in in_order(states):
        groups.setdefault(state.label, []).append(state)
    return groups


def _state_styles(states: Iterable[StateDocument]) -> dict[str, dict[str, Any]]:
    """Open markers by label, smaller one by one so that coinciding states stay visible."""
    return {
        label: {
            "color": _colour(n),
            "marker": STATE_MARKERS[n % len(STATE_MARKERS)],
            "mfc": "none",
            "mew": 1.8,
            "ms": max(13 - 2 * n, 5),
            "ls": "",
        }
        for n, label in enumerate(_by_label(states))
    }


def _levels(states: Iterable[StateDocument]) -> str:
    return "Level of theory: " + ", ".join(sorted({str(s.level_of_theory) for s in states}))


def _single(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    _tidy(axes)
    return figure, axes


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e7eb", lw=0.7)
    axes.set_axisbelow(True)


def _unique_legend(axes: Axes) -> tuple[list[Artist], list[str]]:
    """Handles and labels of the legend, every label once."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    return list(unique.values()), list(unique)


def _sentence(text: str) -> Figure:
    """Figure that says why there is nothing to draw."""
    figure = Figure(figsize=(6.4, 1.6))
    figure.text(0.5, 0.5, textwrap.fill(text, 80), ha="center", va="center", color=GREY)
    return figure
