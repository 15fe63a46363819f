"""Figures of bonding: O 2p states and -COHP by oxygen class, bond length against -ICOHP."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..structures.oxygen_environment import OxygenClass
from .bonding_documents import BondingDocument, BondingResult, IcohpScale
from .figure_style import CLASS_COLOURS, GREY, shown

#: Symbols of the TM elements; others share the last one.
ELEMENT_MARKERS = {"Mn": "o", "Ni": "s", "Co": "^", "Fe": "v", "Ti": "D", "Ru": "P", "Cr": "X"}
OTHER_MARKER = "*"
#: Energies drawn, eV from the valence-band maximum: the O 2p band.
SHOWN_ENERGIES = (-8.0, 3.0)
_WINDOW_COLOUR = "#fef3c7"


class MixedLevelsError(ValueError):
    """Results of different levels of theory cannot share a figure."""


def labelled_results(documents: Sequence[BondingDocument]) -> dict[str, BondingResult]:
    """Results by state, in study order; with variant and seed where there are several."""
    ordered = sorted(documents, key=lambda d: (d.order, d.context.variant, d.context.seed))
    several = len({document.context.replicate for document in documents}) > 1
    return {
        document.state + (f", {document.context.replicate}" if several else ""): document.result
        for document in ordered
    }


def pdos_figure(results: Mapping[str, BondingResult]) -> Figure:
    """O 2p states by class, all and non-bonding, with the window shaded; one row per result.

    Parameters
    ----------
    results
        Results by label, curves loaded; with none, the figure says so.

    Raises
    ------
    MixedLevelsError
        If the results come from different levels of theory.
    """
    drawn = _with_curves(results)
    if not drawn:
        return _sentence("No bonding has been computed.")
    figure, grid = _grid(len(drawn), 2)
    for row, (label, result) in zip(grid, drawn.items(), strict=True):
        curves = result.curves
        assert curves is not None
        for axes, pdos in zip(row, (curves.o2p, curves.o2p_nonbonding), strict=True):
            axes.axvspan(result.window.low, result.window.high, color=_WINDOW_COLOUR, lw=0)
            for o_class, values in sorted(pdos.items()):
                if np.any(values):
                    axes.plot(
                        curves.energies,
                        values,
                        color=CLASS_COLOURS[o_class.value],
                        lw=1.5,
                        label=_members(result, o_class),
                    )
            _energy_axis(axes, SHOWN_ENERGIES)
            axes.set_ylim(bottom=0)
        row[0].set_ylabel("O 2p states (1/eV per O)")
        head = f"{shown(label)}\nall O 2p{_ratio(result.ratios.window_weight)}"
        row[0].set_title(head, fontsize=10, loc="left")
        head = f"non-bonding part{_ratio(result.ratios.window_nonbonding)}"
        row[1].set_title(head, fontsize=10, loc="left")
        row[1].legend(
            *row[0].get_legend_handles_labels(),
            loc="upper left",
            bbox_to_anchor=(1, 1),
            frameon=False,
            fontsize=9,
        )
    _name_energy_axis(grid)
    _name_level(figure, drawn)
    return figure


def cohp_figure(results: Mapping[str, BondingResult]) -> Figure:
    """-COHP per TM-O bond by class, bonding upwards; one row per result.

    Parameters and errors as in :func:`pdos_figure`.
    """
    drawn = _with_curves(results)
    if not drawn:
        return _sentence("No bonding has been computed.")
    figure, grid = _grid(len(drawn), 1)
    limits = (min(_lowest_bond(result) for result in drawn.values()), SHOWN_ENERGIES[1])
    for (axes,), (label, result) in zip(grid, drawn.items(), strict=True):
        curves = result.curves
        assert curves is not None
        for o_class, values in sorted(curves.minus_cohp.items()):
            strength = result.of_class(o_class).minus_icohp
            number = f": {strength.mean:.2f} eV" if strength else ""
            axes.plot(
                curves.energies,
                values,
                color=CLASS_COLOURS[o_class.value],
                lw=1.5,
                label=f"{o_class.value}–TM{number}",
            )
        axes.axhline(0, color="black", lw=0.8)
        _energy_axis(axes, limits)
        axes.set_ylabel("−COHP (eV/eV per bond)")
        axes.set_title(shown(label), fontsize=10, loc="left")
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1, 1),
            frameon=False,
            fontsize=9,
            title="mean −ICOHP per bond",
            title_fontsize=9,
        )
    _name_energy_axis(grid)
    _name_level(figure, drawn, *_icohp_remarks(drawn))
    return figure


def bond_strength_figure(results: Mapping[str, BondingResult]) -> Figure:
    """Bond length against -ICOHP, one point per TM-O bond; one panel per result.

    Parameters
    ----------
    results
        Results by label; with none, the figure says so.

    Raises
    ------
    MixedLevelsError
        If the results come from different levels of theory.
    """
    _refuse_mixed(results)
    if not results:
        return _sentence("No bonding has been computed.")
    n_columns = min(len(results), 3)
    n_rows = -(-len(results) // n_columns)
    figure = Figure(figsize=(3.7 * n_columns + 1.2, 3.5 * n_rows + 0.4), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(results) :]:
        axes.set_visible(False)
    for axes, (label, result) in zip(grid.flat, results.items(), strict=False):
        kinds = sorted({(bond.element, bond.o_class) for bond in result.bonds})
        for element, o_class in kinds:
            points = [
                (bond.length, bond.minus_icohp)
                for bond in result.bonds
                if (bond.element, bond.o_class) == (element, o_class)
            ]
            axes.plot(
                *zip(*points, strict=True),
                marker=ELEMENT_MARKERS.get(element, OTHER_MARKER),
                mfc=CLASS_COLOURS[o_class.value],
                mec="#1f2937",
                mew=0.6,
                ms=6.5,
                alpha=0.85,
                ls="",
            )
        axes.set_title(shown(label), fontsize=10, loc="left")
        _tidy(axes)
    for index, axes in enumerate(grid.flat[: len(results)]):
        if index % n_columns == 0:
            axes.set_ylabel("−ICOHP per bond (eV)")
        if index + n_columns >= len(results):
            axes.set_xlabel("TM–O length (Å)")
            axes.tick_params(labelbottom=True)
    bonds = [bond for result in results.values() for bond in result.bonds]
    handles = [
        Line2D([], [], ls="", marker="o", color=CLASS_COLOURS[c.value], ms=8, label=c.value)
        for c in sorted({bond.o_class for bond in bonds})
    ] + [
        Line2D([], [], ls="", marker=ELEMENT_MARKERS.get(e, OTHER_MARKER), mfc="white", mec="black",
               ms=7, label=e)
        for e in sorted({bond.element for bond in bonds})
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9)
    _name_level(figure, results, *_icohp_remarks(results))
    return figure


def _with_curves(results: Mapping[str, BondingResult]) -> dict[str, BondingResult]:
    _refuse_mixed(results)
    return {label: result for label, result in results.items() if result.curves is not None}


def _refuse_mixed(results: Mapping[str, BondingResult]) -> None:
    levels = sorted({str(result.level_of_theory) for result in results.values()})
    if len(levels) > 1:
        raise MixedLevelsError(
            f"one figure cannot hold {' and '.join(levels)}: their ICOHP differ in scale; draw one "
            "figure for each"
        )


def _grid(n_rows: int, n_columns: int) -> tuple[Figure, np.ndarray]:
    size = (4.1 * n_columns + 1.9 + (n_columns == 1) * 1.2, 2.5 * n_rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey="row")


def _lowest_bond(result: BondingResult) -> float:
    """Where the -COHP curves of a result begin, or the O 2p band does, eV."""
    curves = result.curves
    if curves is None or not curves.minus_cohp:
        return SHOWN_ENERGIES[0]
    strength = np.abs(list(curves.minus_cohp.values())).max(axis=0)
    begin = curves.energies[int(np.argmax(strength > 0.02 * strength.max()))]
    return min(begin - 0.5, SHOWN_ENERGIES[0])


def _energy_axis(axes: Axes, limits: tuple[float, float]) -> None:
    axes.axvline(0, color=GREY, lw=1, ls="--")
    axes.set_xlim(*limits)
    _tidy(axes)


def _name_energy_axis(grid: np.ndarray) -> None:
    for axes in grid[-1]:
        axes.set_xlabel("energy from the valence-band maximum (eV)")


def _members(result: BondingResult, o_class: OxygenClass) -> str:
    return f"{o_class.value} ({result.of_class(o_class).n_oxygen} O)"


def _ratio(value: float | None) -> str:
    return f", O5:O4 = {value:.2f} in the window" if value is not None else ""


def _name_level(figure: Figure, results: Mapping[str, BondingResult], *remarks: str) -> None:
    """Say below the figure where the numbers come from and what goes with them."""
    level = next(iter(results.values())).level_of_theory
    text = ". ".join([f"Level of theory: {level}", *remarks])
    figure.supxlabel(textwrap.fill(text, 110), fontsize=8, color=GREY, x=0.01, ha="left")


def _icohp_remarks(results: Mapping[str, BondingResult]) -> list[str]:
    """What an ICOHP may be compared with, and what it leaves out."""
    remarks = []
    if any(r.icohp_scale is IcohpScale.TIGHT_BINDING for r in results.values()):
        remarks.append("ICOHP of this model is about three times that of DFT")
    if left_out := sorted({shell for r in results.values() for shell in r.semicore_left_out}):
        remarks.append(f"Left out of COHP: {', '.join(left_out)}")
    return remarks


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e7eb", lw=0.7)
    axes.set_axisbelow(True)


def _sentence(text: str) -> Figure:
    """Figure that says why there is nothing to draw."""
    figure = Figure(figsize=(6.4, 1.6))
    figure.text(0.5, 0.5, textwrap.fill(text, 80), ha="center", va="center", color=GREY)
    return figure
