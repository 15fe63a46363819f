"""Spinel and rock-salt references on the close-packed anions of the layered oxide."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .frame import (
    OCTAHEDRA,
    TETRAHEDRA,
    Frame,
    Sharing,
    SiteKind,
    layered_frame,
    lithium_layer_sites,
)
from .occupation import Occupation, empty_frame
from .stacking import Stacking

#: Repeat of the spinel (8 anions) and its cube (32 anions), in the primitive vectors of O3.
SPINEL_REPEAT = ((2, 0, 0), (0, 2, 0), (1, 1, 1))
SPINEL_CUBE = ((3, 1, 1), (-1, 1, 1), (-1, -3, 1))


@dataclass(frozen=True)
class SpinelSites:
    """Sites of an O3 frame that a spinel on the same anions takes, by Wyckoff letter of Fd-3m.

    Attributes
    ----------
    octahedra
        16d: three of four ``tm_oct`` and one of four ``li_oct``.
    empty_octahedra
        16c: the others.
    tetrahedra
        8a: tetrahedra that share no face with 16d.
    """

    octahedra: tuple[int, ...]
    empty_octahedra: tuple[int, ...]
    tetrahedra: tuple[int, ...]


def cubic_frame(a: float, matrix: NDArray[np.int64] | None = None) -> Frame:
    """O3 frame whose anions are exactly cubic close-packed.

    All occupations of it, layered, spinel or rock salt, have the same anions in the same cell.

    Parameters
    ----------
    a
        Edge of the spinel cube, twice that of the rock-salt cube, Å.
    matrix
        Supercell in primitive vectors of O3, shape (3, 3); the spinel cube of 32 anions if not
        given.

    Raises
    ------
    ValueError
        If the edge is not positive, or the matrix is no supercell.

    Examples
    --------
    >>> frame = cubic_frame(8.2)
    >>> len(frame.sites(SiteKind.ANION)), round(float(np.linalg.det(frame.lattice)) ** (1 / 3), 6)
    (32, 8.2)
    """
    if not a > 0:
        raise ValueError(f"the edge of the spinel cube must be a positive length in Å, got {a}")
    spacing = a / np.sqrt(12)
    return layered_frame(
        Stacking.O3,
        np.array(SPINEL_CUBE) if matrix is None else matrix,
        a=a / np.sqrt(8),
        tm_slab=spacing,
        li_gap=spacing,
    )


def spinel_sites(frame: Frame) -> SpinelSites:
    """Sites that a spinel takes on the anions of an O3 frame.

    Every fourth TM of each layer moves to the Li layer, above and below the triangles of TM that
    stay: the path from the layered oxide to spinel keeps the anions (Thackeray, Prog. Solid State
    Chem. 25, 1 (1997)). Of the translation variants the one without TM on the first ``tm_oct``
    is taken.

    Raises
    ------
    ValueError
        If the stacking is not O3, or the supercell no multiple of the spinel repeat.

    Examples
    --------
    >>> sites = spinel_sites(cubic_frame(8.2))
    >>> len(sites.octahedra), len(sites.tetrahedra)
    (16, 8)
    """
    if not frame.n_layers or frame.stacking is not Stacking.O3:
        raise ValueError(
            f"spinel needs the layers and the cubic close-packed anions of O3, the frame is "
            f"{frame.label}"
        )
    to_repeat = np.linalg.inv(SPINEL_REPEAT)
    multiples = np.array(frame.matrix) @ to_repeat
    if not np.allclose(multiples, np.round(multiples)):
        raise ValueError(
            f"supercell {[list(row) for row in frame.matrix]} is no multiple of the spinel repeat "
            f"{[list(row) for row in SPINEL_REPEAT]} (rows with components all even or all odd)"
        )
    tm_oct = frame.sites(SiteKind.TM_OCT)
    offset = (frame.frac_coords[tm_oct] - frame.frac_coords[tm_oct[0]]) @ frame.lattice
    multiples = np.round(offset @ np.linalg.inv(frame.prototype.lattice)) @ to_repeat
    left = set(tm_oct[np.all(np.abs(multiples - np.round(multiples)) < 1e-6, axis=1)])
    entered = {
        int(site)
        for site in frame.sites(SiteKind.LI_OCT)
        if all(n.site not in left for n in frame.neighbours(int(site), Sharing.EDGE))
    }
    octahedra = {int(site) for site in tm_oct if site not in left} | entered
    tetrahedra = tuple(
        int(site)
        for site in frame.sites(*TETRAHEDRA)
        if all(
            n.site not in octahedra for n in frame.neighbours(int(site), Sharing.FACE, *OCTAHEDRA)
        )
    )
    empty = (int(site) for site in frame.sites(*OCTAHEDRA) if site not in octahedra)
    return SpinelSites(tuple(sorted(octahedra)), tuple(empty), tetrahedra)


def layered_reference(frame: Frame, metal: str) -> Occupation:
    """LiMO2 of any layered stacking: M on all TM octahedra, the Li layers full of Li.

    Raises
    ------
    ValueError
        If the frame has no layers.

    Examples
    --------
    >>> layered_reference(cubic_frame(8.2), "Co").to_structure().get_space_group_info()
    ('R-3m', 166)
    """
    if not frame.n_layers:
        raise ValueError(f"a frame of {frame.label} has no layers for Li and {metal}")
    return empty_frame(frame).with_species(
        {int(site): metal for site in frame.sites(SiteKind.TM_OCT)}
        | {int(site): "Li" for site in lithium_layer_sites(frame)}
    )


def lithium_spinel(frame: Frame, metal: str, lithium: str = "Li") -> Occupation:
    """LiM2O4: M on 16d, Li on 8a.

    Raises
    ------
    ValueError
        If the frame holds no spinel (see :func:`spinel_sites`).

    Examples
    --------
    >>> spinel = lithium_spinel(cubic_frame(8.24), "Mn").to_structure()
    >>> spinel.reduced_formula, spinel.get_space_group_info()
    ('LiMn2O4', ('Fd-3m', 227))
    """
    sites = spinel_sites(frame)
    return empty_frame(frame).with_species(
        dict.fromkeys(sites.octahedra, metal) | dict.fromkeys(sites.tetrahedra, lithium)
    )


def metal_spinel(frame: Frame, metal: str) -> Occupation:
    """M3O4: M on 16d and 8a.

    Raises
    ------
    ValueError
        If the frame holds no spinel (see :func:`spinel_sites`).

    Examples
    --------
    >>> metal_spinel(cubic_frame(8.08), "Co").to_structure().formula
    'Co24 O32'
    """
    return lithium_spinel(frame, metal, lithium=metal)


def metal_monoxide(frame: Frame, metal: str) -> Occupation:
    """MO: M on all octahedra of an O3 or a rock salt frame.

    Raises
    ------
    ValueError
        If the anions are not cubic close-packed.

    Examples
    --------
    >>> metal_monoxide(cubic_frame(8.35), "Ni").to_structure().get_space_group_info()
    ('Fm-3m', 225)
    """
    if frame.n_layers and frame.stacking is not Stacking.O3:
        raise ValueError(
            "rock salt needs the cubic close-packed anions of O3 or of a rock salt frame, the "
            f"frame is {frame.label}"
        )
    octahedra = (int(site) for site in frame.sites(*OCTAHEDRA))
    return empty_frame(frame).with_species(dict.fromkeys(octahedra, metal))
