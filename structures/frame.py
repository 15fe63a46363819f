"""The ideal frame: every site an ion can sit on, and how the sites share polyhedra."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cached_property
from typing import Any, Self

import numpy as np
from monty.json import MSONable
from numpy.typing import NDArray
from pydantic_core import CoreSchema, core_schema

from .stacking import (
    LAYER_SEQUENCES,
    LETTER_POSITIONS,
    Stacking,
    shift_letter,
    third_letter,
)


class SiteKind(StrEnum):
    """What a site of the frame is."""

    ANION = "anion"
    TM_OCT = "tm_oct"
    LI_OCT = "li_oct"
    TM_TET = "tm_tet"
    LI_TET = "li_tet"


class Sharing(int, Enum):
    """Polyhedron sharing, as the number of common anions."""

    CORNER = 1
    EDGE = 2
    FACE = 3


OCTAHEDRA = (SiteKind.TM_OCT, SiteKind.LI_OCT)
TETRAHEDRA = (SiteKind.TM_TET, SiteKind.LI_TET)


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


@dataclass(frozen=True, eq=False)
class Frame(MSONable):
    """All sites of a layered-oxide supercell, occupied or not.

    Build one with :func:`layered_frame`.

    Attributes
    ----------
    stacking
        Oxygen stacking.
    matrix
        Supercell vectors (rows) in the primitive vectors of the stacking, shape (3, 3), integers.
    a, tm_slab, li_gap
        In-plane lattice parameter, and distances between the anion planes that enclose a TM
        layer and a Li layer, Å.
    lattice
        Cell vectors (rows), shape (3, 3), Å.
    frac_coords
        Fractional site positions, shape (n_sites, 3).
    kinds
        Kind of every site.
    layers
        Index of the TM or Li layer that a cation site lies in; of the TM layer for anions.
        Shape (n_sites,).
    in_plane
        Integer coordinates (i, j) of octahedra in the primitive in-plane lattice, measured along
        the stacking vector; superlattices are written in them. Shape (n_sites, 2).
    """

    stacking: Stacking
    matrix: tuple[tuple[int, int, int], ...]
    a: float
    tm_slab: float
    li_gap: float
    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    kinds: tuple[SiteKind, ...]
    layers: NDArray[np.int64]
    in_plane: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kinds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((self.stacking, self.matrix, self.a, self.tm_slab, self.li_gap))

    def as_dict(self) -> dict[str, Any]:
        """Parameters from which :meth:`from_dict` rebuilds the frame (MSON protocol)."""
        return {
            "@module": type(self).__module__,
            "@class": type(self).__name__,
            "stacking": self.stacking.value,
            "matrix": [list(row) for row in self.matrix],
            "a": self.a,
            "tm_slab": self.tm_slab,
            "li_gap": self.li_gap,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a frame from :meth:`as_dict`."""
        return layered_frame(  # type: ignore[return-value]
            Stacking(data["stacking"]),
            np.array(data["matrix"]),
            a=data["a"],
            tm_slab=data["tm_slab"],
            li_gap=data["li_gap"],
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source_type: Any, handler: Any) -> CoreSchema:
        """Let pydantic documents hold a frame by its parameters, not by its arrays."""
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.from_dict(value),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.as_dict),
        )

    def sites(self, *kinds: SiteKind) -> NDArray[np.int64]:
        """Indices of the sites of the given kinds, ascending."""
        return np.array([i for i, kind in enumerate(self.kinds) if kind in kinds], dtype=np.int64)

    @property
    def n_layers(self) -> int:
        """Number of TM layers in the supercell."""
        return int(self.layers.max()) + 1

    @cached_property
    def vertices(self) -> tuple[tuple[Neighbour, ...], ...]:
        """Coordinating anions of every site: six of an octahedron, four of a tetrahedron.

        Found by distance in the frame's own geometry; anions have none.
        """
        anions = self.sites(SiteKind.ANION)
        shifts = _near_images(self.lattice, cutoff=1.2 * self.a)
        anion_positions = self.frac_coords[anions] @ self.lattice
        shifted = anion_positions[:, None] + (shifts @ self.lattice)[None]
        result: list[tuple[Neighbour, ...]] = []
        for site, kind in enumerate(self.kinds):
            if kind is SiteKind.ANION:
                result.append(())
                continue
            count = 6 if kind in OCTAHEDRA else 4
            distance = np.linalg.norm(shifted - self.frac_coords[site] @ self.lattice, axis=-1)
            nearest = np.argsort(distance, axis=None, kind="stable")[:count]
            result.append(
                tuple(
                    Neighbour(int(anions[index]), _image(shifts[image]))
                    for index, image in zip(*np.unravel_index(nearest, distance.shape), strict=True)
                )
            )
        return tuple(result)

    @cached_property
    def _sharing(self) -> tuple[dict[Neighbour, int], ...]:
        """For every site, its cation neighbours with the number of anions shared."""
        polyhedra: dict[int, list[tuple[int, NDArray[np.int64]]]] = {}
        for site, corners in enumerate(self.vertices):
            for corner in corners:
                polyhedra.setdefault(corner.site, []).append((site, np.array(corner.image)))
        result: list[dict[Neighbour, int]] = []
        for site, corners in enumerate(self.vertices):
            shared: dict[Neighbour, int] = {}
            for corner in corners:
                for other, image in polyhedra[corner.site]:
                    neighbour = Neighbour(other, _image(np.array(corner.image) - image))
                    if neighbour != Neighbour(site, (0, 0, 0)):
                        shared[neighbour] = shared.get(neighbour, 0) + 1
            result.append(shared)
        return tuple(result)

    def neighbours(self, site: int, sharing: Sharing, *kinds: SiteKind) -> tuple[Neighbour, ...]:
        """Cation sites whose polyhedron shares a corner, an edge or a face with that of `site`.

        Periodic images count one by one, so that coordination numbers are right in small cells.
        """
        return tuple(
            neighbour
            for neighbour, count in self._sharing[site].items()
            if count == sharing and (not kinds or self.kinds[neighbour.site] in kinds)
        )

    @cached_property
    def cations_of_anion(self) -> dict[int, tuple[int, ...]]:
        """The six octahedral sites around every anion, three ``tm_oct`` before three ``li_oct``."""
        around: dict[int, list[int]] = {int(i): [] for i in self.sites(SiteKind.ANION)}
        for kind in OCTAHEDRA:
            for site in self.sites(kind):
                for corner in self.vertices[site]:
                    around[corner.site].append(int(site))
        return {anion: tuple(sites) for anion, sites in around.items()}


def layered_frame(
    stacking: Stacking,
    matrix: NDArray[np.int64],
    *,
    a: float = 2.86,
    tm_slab: float = 2.15,
    li_gap: float = 2.60,
) -> Frame:
    """Build the frame of a supercell from the stacking's layer sequence.

    Parameters
    ----------
    stacking
        Oxygen stacking.
    matrix
        Supercell vectors in primitive vectors (a1, a2, repeat), shape (3, 3), integers.
    a, tm_slab, li_gap
        In-plane lattice parameter and anion-plane distances, Å.

    Raises
    ------
    ValueError
        If the matrix is not a non-singular (3, 3) matrix of integers.
    """
    integer_matrix = np.array(matrix, dtype=np.int64)
    if integer_matrix.shape != (3, 3) or not np.array_equal(integer_matrix, matrix):
        raise ValueError(f"a supercell matrix has 3 x 3 integers, got {matrix!r}")
    if round(np.linalg.det(integer_matrix)) == 0:
        raise ValueError(f"the supercell matrix is singular: {integer_matrix.tolist()}")
    primitive, motif = _primitive_motif(stacking, a, tm_slab, li_gap)
    lattice = integer_matrix @ primitive
    translations = _translations(integer_matrix)
    slabs = len(LAYER_SEQUENCES[stacking].slabs)
    n_repeats = int(np.gcd.reduce(integer_matrix[:, 2]))

    fracs, kinds, layers, in_plane = [], [], [], []
    inverse = np.linalg.inv(integer_matrix)
    for kind, slab, position in motif:
        for translation in translations:
            fracs.append((position + translation) @ inverse)
            kinds.append(kind)
            layers.append((translation[2] % n_repeats) * slabs + slab)
            in_plane.append(translation[:2])
    wrapped = np.array(fracs) % 1.0
    wrapped[wrapped > 1 - 1e-9] = 0.0
    return Frame(
        stacking=stacking,
        matrix=tuple(_image(row) for row in integer_matrix),
        a=a,
        tm_slab=tm_slab,
        li_gap=li_gap,
        lattice=lattice,
        frac_coords=wrapped,
        kinds=tuple(kinds),
        layers=np.array(layers, dtype=np.int64),
        in_plane=np.array(in_plane, dtype=np.int64),
    )


def primitive_lattice(
    stacking: Stacking, *, a: float = 2.86, tm_slab: float = 2.15, li_gap: float = 2.60
) -> NDArray[np.float64]:
    """Primitive vectors (a1, a2, repeat) of a stacking, rows, Å."""
    sequence = LAYER_SEQUENCES[stacking]
    hexagonal = a * np.array([[1.0, 0.0], [-0.5, np.sqrt(0.75)]])
    height = len(sequence.slabs) * (tm_slab + li_gap)
    repeat = np.array(sequence.repeat_shift)
    repeat = repeat - np.round(repeat)  # the shortest of the equivalent shifts
    return np.array([[*hexagonal[0], 0.0], [*hexagonal[1], 0.0], [*(repeat @ hexagonal), height]])


def _primitive_motif(
    stacking: Stacking, a: float, tm_slab: float, li_gap: float
) -> tuple[NDArray[np.float64], list[tuple[SiteKind, int, NDArray[np.float64]]]]:
    """Primitive vectors, and (kind, slab, fractional position) of every site in the repeat."""
    sequence = LAYER_SEQUENCES[stacking]
    primitive = primitive_lattice(stacking, a=a, tm_slab=tm_slab, li_gap=li_gap)
    hexagonal = primitive[:2, :2]
    spacing = tm_slab + li_gap
    sites: list[tuple[SiteKind, int, tuple[str, float]]] = []
    for slab, (lower, upper) in enumerate(sequence.slabs):
        bottom = slab * spacing
        above = (
            sequence.slabs[slab + 1][0]
            if slab + 1 < len(sequence.slabs)
            else shift_letter(sequence.slabs[0][0], sequence.repeat_shift)
        )
        sites += [(SiteKind.ANION, slab, (lower, bottom))]
        sites += [(SiteKind.ANION, slab, (upper, bottom + tm_slab))]
        for octahedron, tetrahedron, low, high, start, thickness in (
            (SiteKind.TM_OCT, SiteKind.TM_TET, lower, upper, bottom, tm_slab),
            (SiteKind.LI_OCT, SiteKind.LI_TET, upper, above, bottom + tm_slab, li_gap),
        ):
            sites += [(octahedron, slab, (third_letter(low, high), start + thickness / 2))]
            # A tetrahedron's centre lies three quarters of its height from the apex.
            sites += [(tetrahedron, slab, (low, start + 0.75 * thickness))]
            sites += [(tetrahedron, slab, (high, start + 0.25 * thickness))]
    inverse = np.linalg.inv(primitive)
    motif = [
        (kind, slab, np.array([*(np.array(LETTER_POSITIONS[letter]) @ hexagonal), z]) @ inverse)
        for kind, slab, (letter, z) in sites
    ]
    return primitive, motif


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


def _near_images(lattice: NDArray[np.float64], cutoff: float) -> NDArray[np.int64]:
    """Lattice translations that can bring two points of the cell within `cutoff` Å."""
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    reach = np.ceil(cutoff / heights).astype(int) + 1
    ranges = (np.arange(-n, n + 1) for n in reach)
    return np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)


def _image(vector: NDArray[np.int64]) -> tuple[int, int, int]:
    i, j, k = (round(float(x)) for x in vector)
    return i, j, k
