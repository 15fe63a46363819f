"""Picture of one TM layer, seen from above."""

from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from pymatgen.core import Structure

from ..structures.assignment import Assignment, SitePositions, assign, in_frame_cell
from ..structures.frame import LI_LAYER, SiteKind
from ..structures.occupation import is_transition_metal
from ..structures.oxygen_environment import oxygen_environments
from ..structures.vacuum import sites_in_vacuum
from .documents import StateDocument
from .figure_style import CLASS_COLOURS, ELEMENT_COLOURS, GREY, OTHER_ELEMENT, shown


@dataclass(frozen=True)
class LayerSite:
    """A site of one TM layer on the page.

    Attributes
    ----------
    site
        Index in the frame.
    kind
        Kind of the site.
    species
        Element that sits there; None for a vacancy.
    o_class
        Oxygen class of an anion, else empty.
    position
        Projection on the layer plane, Å, shape (2,).
    above
        Whether it lies above the middle of the layer.
    """

    site: int
    kind: SiteKind
    species: str | None
    o_class: str
    position: NDArray[np.float64]
    above: bool


@dataclass(frozen=True)
class LayerPicture:
    """One TM layer seen from above.

    Attributes
    ----------
    sites
        Octahedra, occupied tetrahedra and anions of one in-plane repeat; empty ones in the vacuum
        beside a slab are left out.
    repeat
        In-plane translations of the layer (rows), Å, shape (2, 2).
    primitive
        In-plane vectors of the stacking (rows), Å, shape (2, 2).
    """

    sites: tuple[LayerSite, ...]
    repeat: NDArray[np.float64]
    primitive: NDArray[np.float64]

    def images(self, site: LayerSite, window: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions of a site's periodic images in a window (low, high corner), shape (n, 2)."""
        # Rows of lattice points per Å, across their closest rows.
        density = np.linalg.norm(np.linalg.inv(self.repeat), axis=0).max()
        reach = int(np.ceil(np.ptp(window, axis=0).max() * density)) + 2
        grid = np.array(list(product(range(-reach, reach + 1), repeat=2)))
        points = site.position + grid @ self.repeat
        return points[np.all((points >= window[0]) & (points <= window[1]), axis=1)]


def layer_picture(structure: Structure, assignment: Assignment, layer: int = 0) -> LayerPicture:
    """Project one TM layer of a structure, at its actual positions, on the layer plane.

    Parameters
    ----------
    structure
        Structure to draw.
    assignment
        Its atoms on the sites of its frame.
    layer
        Index of the TM layer, from 0.

    Raises
    ------
    ValueError
        If the frame has no such layer.
    """
    frame = assignment.frame
    if not frame.n_layers:
        raise ValueError(f"a frame of {frame.label} has no TM layer to draw")
    if not 0 <= layer < frame.n_layers:
        raise ValueError(f"TM layer {layer} does not exist; allowed: 0 to {frame.n_layers - 1}")
    matrix = np.array(frame.matrix)
    vacuum = sites_in_vacuum(assignment.occupation)
    structure = in_frame_cell(structure, assignment)
    assignment = replace(assignment, cell_map=np.eye(3, dtype=np.int64))
    lattice = np.array(structure.lattice.matrix)
    strained = np.linalg.inv(matrix) @ lattice
    plane = _plane_axes(strained)
    occupation = assignment.occupation
    classes = {e.site: e.o_class.value for e in oxygen_environments(occupation)}
    positions = SitePositions(structure, assignment)
    atoms = assignment.atoms

    ideal = frame.frac_coords @ matrix
    octahedra = [i for i in frame.sites(SiteKind.TM_OCT) if frame.layers[i] == layer]
    middle = ideal[octahedra[0], 2]
    shifts = _layer_translations(matrix)
    sites = []
    for site in map(int, np.flatnonzero(frame.layers == layer)):
        kind, species = frame.kinds[site], occupation.species[site]
        if kind in LI_LAYER:
            continue
        if species is None and kind not in (SiteKind.TM_OCT, SiteKind.ANION):
            continue
        # Sites of a slab's frame go on into the vacuum, where they are no vacancies.
        if species is None and (
            site in vacuum if kind is SiteKind.ANION else not occupation.is_enclosed(site)
        ):
            continue
        offset = ideal[site, 2] - middle
        if site in atoms:
            frac = np.array(structure.frac_coords[atoms[site]])
            frac = frac - np.round(frac - assignment.drift - frame.frac_coords[site])
        elif kind is SiteKind.ANION:
            frac = frame.frac_coords[site] + assignment.drift
        else:
            frac = positions.frac_coords(site)
        sites.append(
            LayerSite(
                site=site,
                kind=kind,
                species=species,
                o_class=classes.get(site, "") if species is not None else "",
                position=(frac + shifts[-round(offset)]) @ lattice @ plane,
                above=bool(offset > round(offset)),
            )
        )
    repeat = _layer_repeat(matrix) @ lattice @ plane
    return LayerPicture(tuple(sites), repeat, strained[:2] @ plane)


def tm_layer_figure(state: StateDocument, layer: int = 0) -> Figure:
    """One TM layer seen from above, with the O of the two anion planes that bound it.

    Accepted TM moves of ``state.moves`` are drawn as arrows from where the TM came from.

    Parameters
    ----------
    state
        State to draw.
    layer
        Index of the TM layer, from 0.
    """
    assignment = assign(state.structure, state.frame)
    picture = layer_picture(state.structure, assignment, layer)
    figure = Figure(figsize=(6.2, 6.9), layout="constrained")
    axes = figure.add_subplot()
    _, window = _outline_and_window(picture)
    # The legend takes the lower part of the figure.
    scale = min(6.0 * 72 / np.ptp(window[:, 0]), 5.2 * 72 / np.ptp(window[:, 1]))
    legend = draw_layer(axes, picture, scale)
    moved = _draw_moves(axes, picture, state, window, scale)
    legend.append(Line2D([], [], color="#111827", lw=1.4, label="in-plane repeat"))
    if moved:
        legend.append(
            Line2D([], [], color="#111827", marker="$\\rightarrow$", ls="", ms=12, label=moved)
        )
    axes.set_title(_layer_title(state, layer, len(assignment.unexplained)), fontsize=11, loc="left")
    figure.legend(handles=legend, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def layer_window(picture: LayerPicture) -> NDArray[np.float64]:
    """Window in which a layer is drawn (low, high corner), shape (2, 2), Å."""
    return _outline_and_window(picture)[1]


def draw_layer(axes: Axes, picture: LayerPicture, scale: float) -> list[Artist]:
    """Draw a layer with the outline of its in-plane repeat.

    Parameters
    ----------
    axes
        Axes to draw in.
    picture
        The layer.
    scale
        Points per Å that symbols are drawn with.

    Returns
    -------
    handles
        One legend entry for every symbol.
    """
    outline, window = _outline_and_window(picture)
    axes.fill(*outline.T, fc="#eef2f7", ec="#111827", lw=1.3, zorder=1)
    handles: list[Artist] = [
        _draw_group(axes, picture, window, scale, group) for group in _groups(picture)
    ]
    axes.set(xlim=window[:, 0], ylim=window[:, 1], aspect="equal", xticks=[], yticks=[])
    return handles


@dataclass(frozen=True)
class _Group:
    """Sites that are drawn with one symbol."""

    sites: tuple[LayerSite, ...]
    label: str
    colour: str
    marker: str
    diameter: float
    zorder: float
    letter: str = ""

    @property
    def gid(self) -> str:
        """Oxygen class, element or ``vacancy``, kept with the drawn symbols."""
        vacancy = "O vacancy" if self.sites[0].kind is SiteKind.ANION else "vacancy"
        return self.sites[0].o_class or self.letter or vacancy

    @property
    def vacant(self) -> bool:
        return self.sites[0].species is None


def _groups(picture: LayerPicture) -> list[_Group]:
    cations = [s for s in picture.sites if s.kind is not SiteKind.ANION]
    kinds: dict[tuple[str, SiteKind], list[LayerSite]] = {}
    for site in cations:
        kinds.setdefault((site.species or "", site.kind), []).append(site)
    groups = []
    for (element, kind), sites in sorted(kinds.items(), key=lambda k: (not k[0][0], k[0])):
        tetrahedral = kind is SiteKind.TM_TET
        name = f"{element} on tetrahedra" if tetrahedral else element or "vacancy"
        colour = ELEMENT_COLOURS.get(element, OTHER_ELEMENT) if element else "none"
        marker, diameter, zorder = ("D", 1.1, 6) if tetrahedral else ("o", 1.55, 3)
        label = f"{name} ({len(sites)})"
        groups.append(_Group(tuple(sites), label, colour, marker, diameter, zorder, element))
    anions = [s for s in picture.sites if s.kind is SiteKind.ANION]
    missing = tuple(s for s in anions if s.species is None)
    if missing:
        label = f"O vacancy ({len(missing)})"
        groups.append(_Group(missing, label, "white", "s", 0.8, 6))
    for o_class in sorted({s.o_class for s in anions if s.species is not None}):
        for above, marker in ((True, "^"), (False, "v")):
            chosen = tuple(
                s for s in anions if s.species and s.o_class == o_class and s.above == above
            )
            if chosen:
                side = "above" if above else "below"
                label = f"{o_class}, {side} ({len(chosen)})"
                colour = CLASS_COLOURS[o_class]
                groups.append(_Group(chosen, label, colour, marker, 0.8, 5 if above else 4))
    return groups


def _draw_group(
    axes: Axes, picture: LayerPicture, window: NDArray, scale: float, group: _Group
) -> PathCollection:
    points = np.vstack([picture.images(site, window) for site in group.sites])
    size = group.diameter * scale
    style: dict[str, Any] = {"edgecolors": GREY, "linewidths": 1.2, "linestyles": (0, (2, 1.5))}
    if not group.vacant:
        style = {"edgecolors": "#1f2937", "linewidths": 0.5, "linestyles": "-"}
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=size**2,
        c=group.colour,
        marker=group.marker,
        zorder=group.zorder,
        gid=group.gid,
        **style,
    )
    if group.letter and 0.5 * size > 4:
        dark = group.letter in ("Mn", "Cr")
        for x, y in points:
            axes.text(
                x,
                y,
                group.letter,
                ha="center",
                va="center_baseline",
                fontsize=min(0.45 * size, 11),
                color="white" if dark else "#111827",
                zorder=group.zorder + 0.1,
                clip_on=True,
            )
    return axes.scatter(
        [],
        [],
        s=45 if group.diameter < 1 else 110,
        c=group.colour,
        marker=group.marker,
        label=group.label,
        **style,
    )


def displaced_tm(state: StateDocument) -> dict[int, int]:
    """Original site, by present site, of every TM that accepted moves took elsewhere.

    Parameters
    ----------
    state
        State with the moves that led to it.
    """
    origins: dict[int, int] = {}
    for move in state.moves:
        if move.accepted and move.outcome == "moved":
            origin = origins.pop(move.start, move.start)
            if origin != move.end:
                origins[move.end] = origin
    return origins


def _draw_moves(
    axes: Axes, picture: LayerPicture, state: StateDocument, window: NDArray, scale: float
) -> str:
    """Rings and arrows of displaced TM; returns their legend label, empty if there are none."""
    by_site = {s.site: s for s in picture.sites}
    moves = [
        (by_site[origin], by_site[end])
        for end, origin in displaced_tm(state).items()
        if origin in by_site and end in by_site and is_transition_metal(by_site[end].species)
    ]
    for start, end in moves:
        back = (start.position - end.position) @ np.linalg.inv(picture.repeat)
        step = (back - np.round(back)) @ picture.repeat
        points = picture.images(end, window)
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=(1.75 * scale) ** 2,
            c="none",
            edgecolors="black",
            linewidths=1.8,
            zorder=3.5,
        )
        for point in points:
            arrow = axes.annotate(
                "",
                xy=point + 0.33 * step,
                xytext=point + step,
                arrowprops={"arrowstyle": "-|>", "lw": 1.8, "color": "black", "shrinkA": 0},
                zorder=7,
                annotation_clip=True,
            )
            if arrow.arrow_patch:
                arrow.arrow_patch.set_clip_path(axes.patch)
    return f"TM moved ({len(moves)})" if moves else ""


def _layer_title(state: StateDocument, layer: int, n_unexplained: int) -> str:
    voltage = "" if state.voltage is None else f"{state.voltage:g} V against Li/Li$^+$, "
    place = f"TM layer {layer + 1} of {state.frame.n_layers}"
    first = f"{shown(state.label)}: {place}, {state.context.replicate}"
    second = f"{voltage}{state.li_content:.2f} Li per f.u., {state.tm_layer:.2f} in the TM layers"
    notes = []
    if any(move.accepted and move.outcome == "rearranged" for move in state.moves):
        notes.append("a step rearranged several TM: not all origins known")
    if n_unexplained:
        notes.append(f"{n_unexplained} atoms off the sites of the frame are not drawn")
    return "\n".join([first, second, *notes])


def _outline_and_window(picture: LayerPicture) -> tuple[NDArray, NDArray]:
    """Closed outline of the in-plane repeat, and the window around it (low, high corner), Å."""
    octahedra = (s.position for s in picture.sites if s.kind is SiteKind.TM_OCT)
    # A layer of a slab's frame that lies in the vacuum has none.
    corner = next(octahedra, np.zeros(2)) - picture.primitive.sum(axis=0) / 2
    outline = corner + np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]) @ picture.repeat
    centre = outline[:4].mean(axis=0)
    half = np.maximum(np.ptp(outline, axis=0) / 2 + 1.6, (10.5, 9.0))
    return outline, np.array([centre - half, centre + half])


def _plane_axes(strained: NDArray) -> NDArray:
    """Two orthonormal axes in the layer plane, columns, shape (3, 2)."""
    x = strained[0] / np.linalg.norm(strained[0])
    normal = np.cross(strained[0], strained[1])
    y = np.cross(normal / np.linalg.norm(normal), x)
    return np.stack([x, y], axis=1)


def _layer_translations(matrix: NDArray) -> dict[int, NDArray]:
    """Shortest supercell translation for every change of height, in stacking repeats."""
    reach = int(np.abs(matrix[:, 2]).max()) + 1
    grid = sorted(product(range(-reach, reach + 1), repeat=3), key=lambda n: sum(map(abs, n)))
    translations: dict[int, NDArray] = {}
    for n in grid:
        translations.setdefault(int(n @ matrix[:, 2]), np.array(n))
    return translations


def _layer_repeat(matrix: NDArray) -> NDArray:
    """Two shortest supercell translations that span the in-plane repeat of a layer, rows."""
    reach = max(3, int(np.abs(matrix[:, 2]).max()))
    grid = np.array(list(product(range(-reach, reach + 1), repeat=3)))
    grid = grid[(grid @ matrix[:, 2] == 0) & np.any(grid != 0, axis=1)]
    # Lengths in the hexagonal metric, a1 and a2 at 120 degrees.
    u, v = (grid @ matrix)[:, :2].T
    grid = grid[np.argsort(u**2 + v**2 - u * v, kind="stable")]
    cell = abs(round(float(np.linalg.det(matrix)))) // int(np.gcd.reduce(matrix[:, 2]))
    in_plane = (grid @ matrix)[:, :2]
    for i, j in combinations(range(len(grid)), 2):
        if round(float(np.linalg.det(in_plane[[i, j]]))) == cell:
            return grid[[i, j]]
    raise ValueError(f"no in-plane repeat found for the supercell {matrix.tolist()}")
