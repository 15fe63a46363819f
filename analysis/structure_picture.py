"""Picture of a built structure: one TM layer from above, and the layers from the side."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product
from math import gcd
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, Wedge
from numpy.typing import NDArray
from pymatgen.core import Structure

from ..structures.assignment import Assignment, SitePositions, in_frame_cell
from ..structures.built_structure import BuiltStructure
from ..structures.composition import ANIONS
from ..structures.frame import LI_LAYER, Frame, SiteKind, lithium_layer_sites
from ..structures.occupation import Occupation
from ..structures.oxygen_environment import oxygen_environments
from ..structures.rock_salt import CUBIC_CELL
from ..structures.stacking import LAYER_SEQUENCES, shift_letter
from ..structures.vacuum import vacuum_width
from .figure_style import CLASS_COLOURS, ELEMENT_COLOURS, GREY, OTHER_ELEMENT, shown
from .layer_picture import draw_layer, layer_picture, layer_window

#: Atoms that come this close in projection make one column, Å.
_SAME_COLUMN = 0.25
_CATION_RADIUS, _ANION_RADIUS = 0.62, 0.42
_ANION_COLOUR = "#d98880"
_INK = "#1f2937"
#: Radius of the ring around the site of a defect, in radii of the ion.
_RING = 1.25
_MIN_WIDTH, _MAX_WIDTH = 17.0, 30.0
_MAX_HEIGHT = 46.0
#: Inches per Å.
_INCHES = 0.22
_VACANCY, _MISSING_ANION = "vacancy", "O vacancy"


class ViewDirection(StrEnum):
    """Direction that the side view looks along.

    ``rows``: along a1, a close-packed row, where A, B and C are apart, so that it shows the
    stacking. ``honeycomb``: at 90 degrees to a close-packed row, along the one of the three such
    directions with the purest columns, so that it shows the order of Li and its stacking faults.
    """

    ROWS = "rows"
    HONEYCOMB = "honeycomb"


@dataclass(frozen=True)
class Column:
    """Atoms that lie behind each other in a side view.

    Attributes
    ----------
    position
        On the page, Å, shape (2,).
    members
        Number of atoms by what they are: an element, an oxygen class, ``vacancy`` or
        ``O vacancy``.
    anion
        Whether it is a column of anions.
    changed
        Whether one of the sites is that of a defect.
    """

    position: NDArray[np.float64]
    members: Mapping[str, int]
    anion: bool
    changed: bool


@dataclass(frozen=True)
class SideView:
    """A structure projected along a direction in its layers; the normal points up.

    Attributes
    ----------
    columns
        Columns of one repeat.
    repeat
        Translations on the page (rows), the second one along the layers, Å, shape (2, 2).
    spacing
        Distance from one TM layer to the next, Å; 0 without layers.
    origin
        Height of the lowest anion plane of the first slab, Å.
    """

    columns: tuple[Column, ...]
    repeat: NDArray[np.float64]
    spacing: float
    origin: float

    def images(self, column: Column, window: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions of a column's periodic images in a window (low, high corner), shape (n, 2)."""
        corners = np.array(list(product(*window.T))) - column.position
        reach = corners @ np.linalg.inv(self.repeat)
        ranges = [
            range(int(np.floor(low)), int(np.ceil(high)) + 1)
            for low, high in zip(reach.min(axis=0), reach.max(axis=0), strict=True)
        ]
        points = column.position + np.array(list(product(*ranges))) @ self.repeat
        return points[np.all((points >= window[0]) & (points <= window[1]), axis=1)]


def side_view(
    structure: Structure,
    assignment: Assignment | None,
    direction: ViewDirection,
    changed: Collection[int] = (),
) -> SideView:
    """Project a structure along a direction in its layers.

    Parameters
    ----------
    structure
        Structure to draw, at its actual positions.
    assignment
        Its atoms on the sites of its frame. None for a structure without a frame: it is seen
        along the shorter of its first two vectors, with the normal of both upwards.
    direction
        Direction to look along, for layered frames.
    changed
        Sites of a defect.
    """
    if assignment is None:
        lattice = np.array(structure.lattice.matrix)
        axis = int(np.argmin(structure.lattice.abc[:2]))
        along = np.eye(3, dtype=np.int64)[axis]
        normal = np.cross(lattice[0], lattice[1])
        symbols = [site.specie.symbol for site in structure]
        atoms = [
            _Item(cart, "O" if symbol in ANIONS else symbol, False)
            for cart, symbol in zip(structure.cart_coords, symbols, strict=True)
        ]
        return _projected(atoms, np.eye(3, dtype=np.int64), lattice, along, normal)
    frame = assignment.frame
    structure = in_frame_cell(structure, assignment)
    assignment = replace(assignment, cell_map=np.eye(3, dtype=np.int64))
    matrix = np.array(frame.matrix)
    strained = np.linalg.inv(matrix) @ np.array(structure.lattice.matrix)
    items = _items(structure, assignment, changed)
    if not frame.n_layers:
        # Along [011] of the cubic cell, where cations and anions are in columns of their own.
        return _projected(items, matrix, strained, np.array([1, 0, 0]), CUBIC_CELL[0] @ strained)
    normal = np.cross(strained[0], strained[1])
    spacing = float(strained[2] @ normal / np.linalg.norm(normal)) / frame.prototype.n_layers
    origin = float(assignment.drift @ structure.lattice.matrix @ normal / np.linalg.norm(normal))
    # The shift of the Li2MnO3 stacking first: it stays straight where the columns are as pure.
    candidates = (
        [(1, 0, 0)] if direction is ViewDirection.ROWS else [(1, -1, 0), (2, 1, 0), (1, 2, 0)]
    )
    views = [_projected(items, matrix, strained, np.array(along), normal) for along in candidates]
    purest = min(views, key=lambda view: sum(len(c.members) - 1 for c in view.columns))
    return replace(purest, spacing=spacing, origin=origin)


def preferred_direction(built: BuiltStructure) -> ViewDirection:
    """Honeycomb where a TM layer holds Li, else rows."""
    occupation = built.occupation
    ordered = occupation is not None and occupation.sites_of("Li", SiteKind.TM_OCT)
    return ViewDirection.HONEYCOMB if ordered else ViewDirection.ROWS


def structure_figure(
    built: BuiltStructure,
    *,
    title: str = "",
    layer: int | None = None,
    direction: ViewDirection | None = None,
) -> Figure:
    """A TM layer from above, if there is one, beside the side view; sites of defects are ringed.

    Slabs have the side view only.

    Parameters
    ----------
    built
        Structure to draw.
    title
        Title; the formula if empty.
    layer
        TM layer to draw, from 0; that of the defect, else the first, if None.
    direction
        Direction of the side view; :func:`preferred_direction` if None.

    Raises
    ------
    ValueError
        If the frame has no such TM layer.
    """
    chosen = direction or preferred_direction(built)
    if vacuum_width(built.structure) is not None:
        # The sites of a slab's frame go on into the vacuum, where they are no vacancies.
        built = replace(built, assignment=None)
    view = side_view(built.structure, built.assignment, chosen, built.changed)
    window = _view_window(view, built)
    has_map = built.frame is not None and built.frame.n_layers > 0
    side_width, side_height = np.ptp(window, axis=0)
    side_inches = np.clip(np.array([side_width, side_height]) * _INCHES, 3.2, 11.0)
    width, height = float(side_inches[0]), float(side_inches[1])
    if has_map:
        assert built.assignment is not None
        assert built.frame is not None
        if layer is None:
            layer = _layer_to_draw(built.assignment.occupation, built.changed)
        picture = layer_picture(built.structure, built.assignment, layer)
        map_window = np.ptp(layer_window(picture), axis=0)
        map_width = float(np.clip(map_window[0] * _INCHES, 4.4, 8.0))
        map_height = map_width * map_window[1] / map_window[0]
        height = max(height, float(map_height))
        figure = Figure(figsize=(map_width + width + 0.4, height + 1.5), layout="constrained")
        above, side = figure.subplots(1, 2, width_ratios=[map_width, width])
        draw_layer(above, picture, 72 * map_width / map_window[0] * 0.96)
        for site in picture.sites:
            if site.site in built.changed:
                radius = _RING * (_ANION_RADIUS if site.kind is SiteKind.ANION else 0.78)
                for point in picture.images(site, layer_window(picture)):
                    above.add_patch(_ring(point, radius))
        above.set_title(
            f"TM layer {layer + 1} of {built.frame.n_layers}, from above",
            fontsize=10,
        )
    else:
        figure = Figure(figsize=(max(width, 5.0), height + 1.5), layout="constrained")
        side = figure.subplots()
    _draw_side(side, view, window, built, chosen)
    side.set_title(_side_title(built, chosen), fontsize=10)
    figure.suptitle(shown(title or built.formula), fontsize=12, fontweight="bold")
    figure.legend(
        handles=_legend(view, has_map=has_map),
        loc="outside lower center",
        ncols=max(2, int(figure.get_figwidth() / 1.48)),
        fontsize=9,
        frameon=False,
        columnspacing=1.4,
        handletextpad=0.5,
    )
    return figure


def _layer_to_draw(occupation: Occupation, changed: Collection[int]) -> int:
    """TM layer with the most sites of a defect, the first that holds ions if there are none."""
    frame = occupation.frame
    layers = Counter(
        int(frame.layers[site]) for site in changed if frame.kinds[site] not in LI_LAYER
    )
    if layers:
        return max(sorted(layers), key=lambda layer: layers[layer])
    held = [int(frame.layers[i]) for i in frame.sites(SiteKind.TM_OCT) if occupation.species[i]]
    return min(held, default=0)


def _ring(point: NDArray[np.float64], radius: float) -> Circle:
    """Mark of a site with a defect."""
    return Circle(
        (float(point[0]), float(point[1])), radius, fill=False, ec="black", lw=2.0, zorder=8
    )


def _side_title(built: BuiltStructure, direction: ViewDirection) -> str:
    if built.frame is None:
        return "side view"
    if not built.frame.n_layers:
        return "side view along [011] of the cubic cell"
    rows = direction is ViewDirection.ROWS
    return f"side view {'along' if rows else 'at right angles to'} a close-packed row"


@dataclass(frozen=True)
class _Item:
    """An atom or a vacancy: Cartesian position, what it is, whether a defect is there."""

    position: NDArray[np.float64]
    label: str
    changed: bool


def _items(structure: Structure, assignment: Assignment, changed: Collection[int]) -> list[_Item]:
    """The atoms, then the vacancies."""
    frame, occupation = assignment.frame, assignment.occupation
    lattice = np.array(structure.lattice.matrix)
    classes = {e.site: e.o_class.value for e in oxygen_environments(occupation)}
    items = []
    for atom, site in enumerate(assignment.sites):
        element = structure[atom].specie.symbol
        label = element if site is None else classes.get(site, element)
        items.append(_Item(np.array(structure.cart_coords[atom]), label, site in changed))
    positions = SitePositions(structure, assignment)
    for site in _fillable(frame):
        if occupation.species[site] is None:
            position = positions.frac_coords(site) @ lattice
            items.append(_Item(position, _VACANCY, site in changed))
    for site in frame.sites(SiteKind.ANION).tolist():
        if occupation.species[site] is None:
            position = (frame.frac_coords[site] + assignment.drift) @ lattice
            items.append(_Item(position, _MISSING_ANION, site in changed))
    return items


def _fillable(frame: Frame) -> list[int]:
    """Cation sites that count as vacancies when they are empty."""
    if not frame.n_layers:
        return [int(site) for site in frame.sites(SiteKind.CATION_OCT)]
    return sorted(
        {int(site) for site in frame.sites(SiteKind.TM_OCT)}
        | {int(site) for site in lithium_layer_sites(frame)}
    )


def _projected(
    items: Sequence[_Item],
    matrix: NDArray[np.int64],
    primitive: NDArray[np.float64],
    along: NDArray[np.int64],
    normal: NDArray[np.float64],
) -> SideView:
    """Columns along a primitive lattice direction (integers in the layer plane)."""
    up = normal / np.linalg.norm(normal)
    right = np.cross(up, along @ primitive)
    right /= np.linalg.norm(right)
    axes = np.stack([right, up], axis=1)
    basis = np.array([along, _complement(along), [0, 0, 1]])
    steps = np.rint(matrix @ np.linalg.inv(basis)).astype(np.int64)[:, 1:]
    repeat = _row_basis(steps) @ basis[1:] @ primitive @ axes
    if repeat[1, 0] < 0:
        repeat[1] *= -1
    inverse = np.linalg.inv(repeat)
    columns: list[tuple[list[NDArray[np.float64]], list[_Item]]] = []
    for item in items:
        point = item.position @ axes
        for points, members in columns:
            step = (point - points[0]) @ inverse
            offset = (step - np.round(step)) @ repeat
            if _is_anion(members[0]) is _is_anion(item) and np.linalg.norm(offset) < _SAME_COLUMN:
                points.append(points[0] + offset)
                members.append(item)
                break
        else:
            columns.append(([point], [item]))
    return SideView(
        columns=tuple(
            Column(
                position=np.mean(points, axis=0),
                members=dict(sorted(Counter(item.label for item in members).items())),
                anion=_is_anion(members[0]),
                changed=any(item.changed for item in members),
            )
            for points, members in columns
        ),
        repeat=repeat,
        spacing=0.0,
        origin=0.0,
    )


def _is_anion(item: _Item) -> bool:
    return item.label in CLASS_COLOURS or item.label in ("O", _MISSING_ANION)


def _complement(along: NDArray[np.int64]) -> NDArray[np.int64]:
    """In-plane integers that span the layer together with a primitive direction."""
    i, j = int(along[0]), int(along[1])
    for u, v in product(range(-2, 3), repeat=2):
        if i * v - j * u == 1:
            return np.array([u, v, 0])
    raise ValueError(f"{along.tolist()} is no primitive direction in the layers")


def _row_basis(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Two integer vectors, the second along the layers, that span the lattice of some."""
    upward = np.array([0, 0])
    flat = 0
    for row in rows:
        first, second = upward, np.array(row)
        while second[1]:
            first, second = second, first - first[1] // second[1] * second
        upward, flat = first, gcd(flat, int(second[0]))
    if upward[1] < 0:
        upward = -upward
    upward = upward - round(upward[0] / flat) * np.array([flat, 0])
    return np.array([upward, [flat, 0]])


def _view_window(view: SideView, built: BuiltStructure) -> NDArray[np.float64]:
    """Low and high corner of the side view, Å."""
    heights = np.array([column.position[1] for column in view.columns])
    period = float(np.clip(view.repeat[1, 0], _MIN_WIDTH, _MAX_WIDTH))
    if built.frame is None:
        low, high = heights.min() - 1.5, heights.max() + 1.5
    elif not view.spacing:
        low, high = -1.0, 13.0
    else:
        n_layers = max(built.frame.n_layers, 3)
        low = view.origin - 0.5 * view.spacing
        high = low + min((n_layers + 0.45) * view.spacing, _MAX_HEIGHT)
    return np.array([[-1.0, low], [period, high]])


def _draw_side(
    axes: Axes,
    view: SideView,
    window: NDArray[np.float64],
    built: BuiltStructure,
    direction: ViewDirection,
) -> None:
    frame = built.frame
    if frame is not None and frame.n_layers:
        slab = view.spacing * frame.tm_slab / (frame.tm_slab + frame.li_gap)
        first = int(np.floor((window[0, 1] - view.origin) / view.spacing)) - 1
        for level in range(first, first + 40):
            bottom = view.origin + level * view.spacing
            axes.axhspan(bottom, bottom + slab, color="#eef2f7", lw=0, zorder=0)
            if direction is ViewDirection.ROWS:
                _letter_planes(axes, frame, level, bottom, slab, window)
    # Columns at the edge of the window are cut by the axes, not left out.
    margin = np.array([[-1.0, -1.0], [1.0, 1.0]]) * _CATION_RADIUS
    for column in view.columns:
        for point in view.images(column, window + margin):
            _draw_column(axes, column, point)
    axes.set(xlim=window[:, 0], ylim=window[:, 1], aspect="equal", xticks=[], yticks=[], anchor="C")


def _letter_planes(
    axes: Axes, frame: Frame, level: int, bottom: float, slab: float, window: NDArray[np.float64]
) -> None:
    """A, B or C beside the two anion planes of a slab."""
    sequence = LAYER_SEQUENCES[frame.stacking]
    repeats, index = divmod(level, len(sequence.slabs))
    shift = tuple(float(repeats * s) for s in sequence.repeat_shift)
    for letter, height in zip(sequence.slabs[index], (bottom, bottom + slab), strict=True):
        if window[0, 1] < height < window[1, 1]:
            axes.text(
                window[1, 0] + 0.35,
                height,
                shift_letter(letter, (shift[0], shift[1])),
                fontsize=8,
                color=_INK,
                va="center",
                ha="left",
                clip_on=False,
            )


def _draw_column(axes: Axes, column: Column, point: NDArray[np.float64]) -> None:
    radius = _ANION_RADIUS if column.anion else _CATION_RADIUS
    centre = (float(point[0]), float(point[1]))
    zorder = 3.0 if column.anion else 2.0
    total = sum(column.members.values())
    start = 90.0
    for label, number in column.members.items():
        empty = label in (_VACANCY, _MISSING_ANION)
        end = start + 360 * number / total
        style: dict[str, Any] = {
            "fc": "white" if empty else _colour(label),
            "lw": 0,
            "zorder": zorder,
        }
        if empty and number < total:
            style |= {"hatch": "//////", "ec": GREY}
        axes.add_patch(
            Circle(centre, radius, **style)
            if number == total
            else Wedge(centre, radius, start, end, **style)
        )
        start = end
    if column.changed:
        axes.add_patch(_ring(point, _RING * radius))
    vacant = set(column.members) <= {_VACANCY, _MISSING_ANION}
    axes.add_patch(
        Circle(
            centre,
            radius,
            fill=False,
            ec=GREY if vacant else _INK,
            lw=1.0 if vacant else 0.5,
            ls=(0, (2, 1.5)) if vacant else "-",
            zorder=zorder + 0.1,
        )
    )


def _colour(label: str) -> str:
    if label == "O":
        return _ANION_COLOUR
    return CLASS_COLOURS.get(label) or ELEMENT_COLOURS.get(label, OTHER_ELEMENT)


def _legend(view: SideView, *, has_map: bool) -> list[Artist]:
    present: Counter[str] = Counter()
    for column in view.columns:
        present.update(column.members)
    order = [
        *sorted(label for label in present if label not in CLASS_COLOURS and len(label) < 3),
        *sorted(label for label in present if label in CLASS_COLOURS),
    ]
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            marker="o",
            ls="",
            ms=7 if label in CLASS_COLOURS or label == "O" else 10,
            mfc=_colour(label),
            mec=_INK,
            mew=0.5,
            label=f"O of class {label}" if label in CLASS_COLOURS else label,
        )
        for label in order
    ]
    for label, size in ((_VACANCY, 10), (_MISSING_ANION, 7)):
        if label in present:
            handles.append(
                Line2D([], [], marker="o", ls="", ms=size, mfc="white", mec=GREY, label=label)
            )
    if has_map:
        style: dict[str, Any] = {"ls": "", "ms": 7, "mfc": "white", "mec": _INK}
        handles.append(Line2D([], [], marker="^", label="O above the layer", **style))
        handles.append(Line2D([], [], marker="v", label="O below the layer", **style))
        handles.append(Patch(fc="#eef2f7", ec="#111827", lw=1.3, label="in-plane repeat"))
    if any(column.changed for column in view.columns):
        ring: dict[str, Any] = {"ls": "", "ms": 11, "mfc": "none", "mec": "black", "mew": 2.0}
        handles.append(Line2D([], [], marker="o", label="defect", **ring))
    if any(len(column.members) > 1 for column in view.columns):
        split: dict[str, Any] = {"fillstyle": "left", "mfcalt": "white", "mec": _INK, "mew": 0.5}
        split["mfc"] = GREY
        handles.append(Line2D([], [], marker="o", ls="", ms=10, label="mixed column", **split))
    return handles
