"""The ideal frame: every site an ion can sit on, and how the sites share polyhedra."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Self

import numpy as np
from monty.json import MontyDecoder, MSONable
from numpy.typing import NDArray
from pydantic_core import CoreSchema, core_schema
from pymatgen.optimization.neighbors import find_points_in_spheres

from .layered_prototype import LayeredPrototype
from .prototype import (
    LI_LAYER,
    OCTAHEDRA,
    SIX_COORDINATE,
    TETRAHEDRA,
    TM_LAYER,
    Prototype,
    SiteKind,
)
from .stacking import Stacking

__all__ = [
    "LI_LAYER",
    "OCTAHEDRA",
    "SIX_COORDINATE",
    "TETRAHEDRA",
    "TM_LAYER",
    "Frame",
    "Neighbour",
    "Sharing",
    "SiteKind",
    "layered_frame",
    "lithium_layer_sites",
    "primitive_lattice",
]


class Sharing(int, Enum):
    """Polyhedron sharing, as the number of common anions.

    ``FACE`` is a triangle; ``RECTANGULAR_FACE`` is the one through which prisms side by side
    touch.
    """

    CORNER = 1
    EDGE = 2
    FACE = 3
    RECTANGULAR_FACE = 4


@dataclass(frozen=True)
class Neighbour:
    """A site next to another one.

    Attributes
    ----------
    site
        Index of the neighbour in the frame.
    image
        Lattice translation of the neighbour, in supercell vectors.
    """

    site: int
    image: tuple[int, int, int]


@dataclass(frozen=True)
class _Links:
    """Links from sites to sites in lattice images, sorted by the first site.

    Attributes
    ----------
    starts
        Links of site i are those from ``starts[i]`` up to ``starts[i + 1]``, shape (n_sites + 1,).
    sites, images
        Site and lattice image that a link leads to, shapes (n_links,) and (n_links, 3).
    shared
        Anions that the polyhedra of both sites have in common, shape (n_links,).
    """

    starts: NDArray[np.int64]
    sites: NDArray[np.int64]
    images: NDArray[np.int64]
    shared: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Frame(MSONable):
    """All sites of a supercell, occupied or not.

    Build one with :func:`layered_frame` or :func:`~lrlo.structures.rock_salt.rock_salt_frame`.

    Attributes
    ----------
    prototype
        Crystal that the frame is a supercell of.
    matrix
        Supercell vectors (rows) in the primitive vectors of the prototype, shape (3, 3), integers.
    lattice
        Cell vectors (rows), shape (3, 3), Å.
    frac_coords
        Fractional site positions, shape (n_sites, 3).
    kinds
        Kind of every site.
    layers
        Index of the TM or Li layer that a cation site lies in; of the TM layer for anions; -1 for
        all sites of a frame without layers. Shape (n_sites,).
    in_plane
        Integer coordinates (i, j) of octahedra in the primitive in-plane lattice, measured along
        the stacking vector; superlattices are written in them. Without meaning in a frame without
        layers. Shape (n_sites, 2).
    """

    prototype: Prototype
    matrix: tuple[tuple[int, int, int], ...]
    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    kinds: tuple[SiteKind, ...]
    layers: NDArray[np.int64]
    in_plane: NDArray[np.int64]

    @classmethod
    def supercell(cls, prototype: Prototype, matrix: NDArray[np.int64]) -> Self:
        """Frame of a supercell of a prototype.

        Parameters
        ----------
        prototype
            Crystal to repeat.
        matrix
            Supercell vectors in primitive vectors, shape (3, 3), integers, right-handed.

        Raises
        ------
        ValueError
            If the matrix does not hold 3 x 3 integers, is singular or left-handed.
        """
        rows = _supercell_matrix(matrix)
        motif = prototype.motif
        translations = _translations(rows)
        positions = np.array([site.position for site in motif])
        layers = np.array([site.layer for site in motif])
        repeats = translations[:, 2] % int(np.gcd.reduce(rows[:, 2]))
        wrapped = ((positions[:, None] + translations) @ np.linalg.inv(rows)).reshape(-1, 3) % 1.0
        wrapped[wrapped > 1 - 1e-9] = 0.0
        return cls(
            prototype=prototype,
            matrix=tuple((int(i), int(j), int(k)) for i, j, k in rows),
            lattice=rows @ prototype.lattice,
            frac_coords=wrapped,
            kinds=tuple(site.kind for site in motif for _ in translations),
            layers=(layers[:, None] + repeats * prototype.n_layers).ravel(),
            in_plane=np.tile(translations[:, :2], (len(motif), 1)),
        )

    def __len__(self) -> int:
        return len(self.kinds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and (self.prototype, self.matrix) == (
            other.prototype,
            other.matrix,
        )

    def __hash__(self) -> int:
        return hash((self.prototype, self.matrix))

    def as_dict(self) -> dict[str, Any]:
        """Parameters from which :meth:`from_dict` rebuilds the frame (MSON protocol)."""
        return {
            "@module": type(self).__module__,
            "@class": type(self).__name__,
            "prototype": self.prototype.as_dict(),
            "matrix": [list(row) for row in self.matrix],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a frame from :meth:`as_dict`.

        Documents of version 0.1.0, which hold the parameters of a layered frame beside the
        matrix, are read, too.
        """
        prototype = (
            MontyDecoder().process_decoded(data["prototype"])
            if "prototype" in data
            else LayeredPrototype.from_dict(data)
        )
        return cls.supercell(prototype, np.array(data["matrix"]))

    @classmethod
    def __get_pydantic_core_schema__(cls, source_type: Any, handler: Any) -> CoreSchema:
        """Let pydantic documents hold a frame by its parameters, not by its arrays."""
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.from_dict(value),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.as_dict),
        )

    @property
    def label(self) -> str:
        """Short name of the prototype: the stacking of a layered frame."""
        return self.prototype.label

    @property
    def a(self) -> float:
        """Distance of neighbouring anions in a close-packed plane, Å.

        The in-plane lattice parameter of a layered frame.
        """
        return self.prototype.anion_distance

    @property
    def stacking(self) -> Stacking:
        """Oxygen stacking of a layered frame; ValueError for a frame without layers."""
        return self._layered.stacking

    @property
    def tm_slab(self) -> float:
        """Thickness of a TM slab, Å; ValueError for a frame without layers."""
        return self._layered.tm_slab

    @property
    def li_gap(self) -> float:
        """Thickness of a Li gap, Å; ValueError for a frame without layers."""
        return self._layered.li_gap

    @property
    def _layered(self) -> LayeredPrototype:
        if not isinstance(self.prototype, LayeredPrototype):
            raise ValueError(
                f"a frame of {self.label} has no layers, hence no stacking, slab or gap; its name "
                "is frame.label"
            )
        return self.prototype

    @property
    def n_layers(self) -> int:
        """Number of TM layers in the supercell; 0 for a frame without layers."""
        return int(self.layers.max()) + 1

    def sites(self, *kinds: SiteKind) -> NDArray[np.int64]:
        """Indices of the sites of the given kinds, ascending."""
        return np.array([i for i, kind in enumerate(self.kinds) if kind in kinds], dtype=np.int64)

    @cached_property
    def _corners(self) -> _Links:
        """Anions at the vertices of every polyhedron, as links from cation sites to anions."""
        anions = self.sites(SiteKind.ANION)
        cations = np.array([i for i, k in enumerate(self.kinds) if k is not SiteKind.ANION])
        positions = self.frac_coords @ self.lattice
        # The distance of neighbours in a close packing of the frame's density, with some room.
        cutoff = 1.3 * (np.sqrt(2) * abs(np.linalg.det(self.lattice)) / len(anions)) ** (1 / 3)
        owner, corner, images, distances = find_points_in_spheres(
            np.ascontiguousarray(positions[anions]),
            np.ascontiguousarray(positions[cations]),
            float(cutoff),
            np.ones(3, dtype=np.int64),
            np.ascontiguousarray(self.lattice),
        )
        images = images.astype(np.int64)
        by_distance = np.lexsort((distances, owner))
        rank = _rank_in_group(owner[by_distance])
        n_corners = np.array([6 if k in SIX_COORDINATE else 4 for k in self.kinds])[cations]
        nearest = by_distance[rank < n_corners[owner[by_distance]]]
        owner, corner, images = owner[nearest], corner[nearest], images[nearest]
        vectors = (self.frac_coords[anions[corner]] + images) @ self.lattice
        centroids = np.stack([np.bincount(owner, v, len(cations)) for v in vectors.T], axis=1)
        off_centre = np.abs(centroids / n_corners[:, None] - positions[cations]).max()
        if len(owner) < n_corners.sum() or off_centre > 1e-3:
            raise ValueError(
                f"the anions nearest to a site do not enclose it: the distances of "
                f"{self.prototype} are too far from those of a close packing; slab and gap "
                "between 0.7 a and 1.3 a are safe"
            )
        order = np.lexsort((*images.T[::-1], corner, owner))
        return _Links(
            starts=np.searchsorted(cations[owner[order]], np.arange(len(self) + 1)),
            sites=anions[corner[order]],
            images=images[order],
            shared=np.ones(len(order), dtype=np.int64),
        )

    @cached_property
    def vertices(self) -> tuple[tuple[Neighbour, ...], ...]:
        """Coordinating anions of every site: six of octahedra and prisms, four of tetrahedra.

        Found by distance in the frame's own geometry; anions have none.

        Raises
        ------
        ValueError
            If the nearest anions do not enclose a site, because the prototype's distances are far
            from those of a close packing.
        """
        return tuple(tuple(_neighbours(self._corners, site)) for site in range(len(self)))

    @cached_property
    def _sharing(self) -> _Links:
        """For every cation site, the cation sites whose polyhedra share anions with its own."""
        corners = self._corners
        owners = np.repeat(np.arange(len(self)), np.diff(corners.starts))
        # All pairs of polyhedra that meet at an anion; the image of the second is measured from
        # the first, by way of the anion.
        by_anion = np.argsort(corners.sites, kind="stable")
        anions = corners.sites[by_anion]
        first_of_anion = np.searchsorted(anions, np.arange(len(self) + 1))
        meeting = np.diff(first_of_anion)[corners.sites]
        one = np.repeat(np.arange(len(owners)), meeting)
        step = np.arange(len(one)) - np.repeat(np.cumsum(meeting) - meeting, meeting)
        other = by_anion[first_of_anion[corners.sites[one]] + step]
        images = corners.images[one] - corners.images[other]
        pairs = np.column_stack([owners[one], owners[other], images])
        pairs = pairs[(pairs[:, 0] != pairs[:, 1]) | np.any(images != 0, axis=1)]
        pairs = pairs[np.lexsort(pairs.T[::-1])]
        first = np.flatnonzero(np.any(np.diff(pairs, axis=0, prepend=-1) != 0, axis=1))
        distinct = pairs[first]
        return _Links(
            starts=np.searchsorted(distinct[:, 0], np.arange(len(self) + 1)),
            sites=distinct[:, 1],
            images=distinct[:, 2:],
            shared=np.diff(first, append=len(pairs)),
        )

    def neighbours(self, site: int, sharing: Sharing, *kinds: SiteKind) -> tuple[Neighbour, ...]:
        """Cation sites whose polyhedron shares a corner, an edge or a face with that of `site`.

        Periodic images count one by one, so that coordination numbers are right in small cells.
        """
        links = self._sharing
        span = slice(links.starts[site], links.starts[site + 1])
        return tuple(
            neighbour
            for neighbour, shared in zip(
                _neighbours(links, site), links.shared[span].tolist(), strict=True
            )
            if shared == sharing and (not kinds or self.kinds[neighbour.site] in kinds)
        )

    @cached_property
    def cations_of_anion(self) -> dict[int, tuple[int, ...]]:
        """The octahedral and prismatic sites around every anion.

        Six octahedra between anion planes of different letters, three ``tm_oct`` before three
        ``li_oct``; in P3 three ``tm_oct`` before six ``li_prism``, of which neighbours share a
        rectangular face, so that no more than three can hold an ion.
        """
        around: dict[int, list[int]] = {int(i): [] for i in self.sites(SiteKind.ANION)}
        for kind in SIX_COORDINATE:
            for site in self.sites(kind).tolist():
                for anion in self._corners.sites[slice(*self._corners.starts[site : site + 2])]:
                    around[int(anion)].append(site)
        return {anion: tuple(sites) for anion, sites in around.items()}


def layered_frame(
    stacking: Stacking,
    matrix: NDArray[np.int64],
    *,
    a: float = 2.86,
    tm_slab: float = 2.15,
    li_gap: float = 2.60,
) -> Frame:
    """Build the frame of a layered-oxide supercell from the stacking's layer sequence.

    Parameters
    ----------
    stacking
        Oxygen stacking.
    matrix
        Supercell vectors in primitive vectors (a1, a2, repeat), shape (3, 3), integers,
        right-handed.
    a, tm_slab, li_gap
        In-plane lattice parameter and anion-plane distances, Å.

    Raises
    ------
    ValueError
        If the matrix is not a right-handed, non-singular (3, 3) matrix of integers, or a length
        is not positive.

    Examples
    --------
    >>> from collections import Counter
    >>> frame = layered_frame(Stacking.O3, np.diag([2, 2, 1]))
    >>> {kind.value: n for kind, n in sorted(Counter(frame.kinds).items())}
    {'anion': 8, 'li_oct': 4, 'li_tet': 8, 'tm_oct': 4, 'tm_tet': 8}
    """
    prototype = LayeredPrototype(stacking, a=a, tm_slab=tm_slab, li_gap=li_gap)
    return Frame.supercell(prototype, matrix)


def primitive_lattice(
    stacking: Stacking, *, a: float = 2.86, tm_slab: float = 2.15, li_gap: float = 2.60
) -> NDArray[np.float64]:
    """Primitive vectors (a1, a2, repeat) of a stacking, rows, Å."""
    return LayeredPrototype(stacking, a=a, tm_slab=tm_slab, li_gap=li_gap).lattice


def lithium_layer_sites(frame: Frame) -> NDArray[np.int64]:
    """Sites that Li fills in the Li layers of the fully lithiated crystal, one per ``tm_oct``.

    All ``li_oct``; of the ``li_prism`` of P3, of which neighbours share a rectangular face, those
    that stand on a ``tm_oct``, which gives the R3m order of P3 crystals.

    Examples
    --------
    The Li of charged H1-3 sits on those that share no face with a ``tm_oct``:

    >>> frame = layered_frame(Stacking.H1_3, np.diag([2, 2, 1]))
    >>> sites = lithium_layer_sites(frame)
    >>> apart = [s for s in sites if not frame.neighbours(s, Sharing.FACE, SiteKind.TM_OCT)]
    >>> len(sites), len(apart)
    (8, 4)
    """

    def stands_on_octahedron(site: int) -> bool:
        (face,) = frame.neighbours(site, Sharing.FACE, SiteKind.TM_OCT)
        vector = frame.frac_coords[face.site] + face.image - frame.frac_coords[site]
        return bool((vector @ frame.lattice)[2] < 0)

    prisms = [s for s in frame.sites(SiteKind.LI_PRISM).tolist() if stands_on_octahedron(s)]
    return np.sort(np.array([*frame.sites(SiteKind.LI_OCT).tolist(), *prisms], dtype=np.int64))


def _neighbours(links: _Links, site: int) -> Iterator[Neighbour]:
    span = slice(links.starts[site], links.starts[site + 1])
    for other, (i, j, k) in zip(
        links.sites[span].tolist(), links.images[span].tolist(), strict=True
    ):
        yield Neighbour(other, (i, j, k))


def _rank_in_group(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of every entry within its run of equal values."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    lengths = np.diff(starts, append=len(groups))
    return np.arange(len(groups)) - np.repeat(starts, lengths)


def _supercell_matrix(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """The matrix as integers, checked."""
    integers = np.array(matrix, dtype=np.int64)
    if integers.shape != (3, 3) or not np.array_equal(integers, matrix):
        raise ValueError(f"a supercell matrix has 3 x 3 integers, got {matrix!r}")
    determinant = round(np.linalg.det(integers))
    if determinant == 0:
        raise ValueError(f"the supercell matrix is singular: {integers.tolist()}")
    if determinant < 0:
        raise ValueError(
            f"the supercell matrix is left-handed (determinant {determinant}): "
            f"{integers.tolist()}; exchange two rows or change the sign of one"
        )
    return integers


def _translations(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """All primitive lattice points inside the supercell, shape (abs(det), 3)."""
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) @ matrix
    low, high = corners.min(axis=0), corners.max(axis=0)
    grid = np.stack(
        np.meshgrid(*(np.arange(lo, hi + 1) for lo, hi in zip(low, high, strict=True))), axis=-1
    ).reshape(-1, 3)
    frac = grid @ np.linalg.inv(matrix)
    inside = np.all((frac > -1e-9) & (frac < 1 - 1e-9), axis=1)
    return grid[inside]
