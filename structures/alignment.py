"""How a structure lies on a frame: which cell vectors correspond, and the rigid drift."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import polar
from scipy.spatial import cKDTree

from .cell_map import CellMap, cell_maps
from .frame import OCTAHEDRA, Frame, SiteKind

#: Largest strain of a cell against the frame.
MAX_STRAIN = 0.25
#: Root mean square distances of anions from the anion sites, Å: below the first an alignment is
#: taken for right, above the second a cell with other vectors is another crystal. Anions thrown
#: at random into a close packing are about 1.3 Å from its sites.
GOOD_MISFIT = 0.5
MAX_MISFIT = 0.8
#: Alignments whose misfits differ by less fit the anions equally well, Å. Where Li gaps take the
#: place of slabs of another thickness, the misfit rises by about 0.1 Å.
EQUAL_MISFIT = 0.3
#: Share of misplaced TM below which an alignment is taken for right, and difference below which
#: two shares are equal.
GOOD_MISPLACED = 0.3
EQUAL_MISPLACED = 0.15
#: A TM farther from every octahedron of the TM layers is misplaced, Å.
_OFF_SITE = 1.0
#: Atoms that alignments are compared by, and anions that drifts are guessed from.
_N_COMPARED = 128
_N_ANCHORS = 3


class AssignmentError(ValueError):
    """The structure is not a deformed supercell of the frame."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """Correspondence of a structure's cell and origin with those of a frame.

    Attributes
    ----------
    cell_map
        Cell vectors of the frame (rows) in those of the structure, integers, shape (3, 3).
    drift
        Rigid translation of the structure, fractional in the cell vectors of the frame, shape
        (3,).
    misfit
        Root mean square distance of the anions from the nearest anion sites, Å.
    misplaced
        Share of TM that are not on an octahedron of the TM layers (on any, without layers).
    """

    cell_map: NDArray[np.int64]
    drift: NDArray[np.float64]
    misfit: float
    misplaced: float

    @property
    def good(self) -> bool:
        """Whether no other alignment needs to be looked for."""
        return self.misfit < GOOD_MISFIT and self.misplaced < GOOD_MISPLACED


def cell_strain(
    lattice: NDArray[np.float64], reference: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Homogeneous strain of a cell against another (right stretch minus one), shape (3, 3)."""
    return polar(np.linalg.solve(reference, lattice))[1] - np.eye(3)


def align(
    frame: Frame,
    lattice: NDArray[np.float64],
    anions: NDArray[np.float64],
    tms: NDArray[np.float64],
) -> Alignment:
    """Find the cell vectors and the drift that put a structure on a frame.

    Vectors that correspond one by one are taken where the anions then lie on the frame. Else all
    choices of lattice vectors within the strain allowed are compared: of those that fit the
    anions equally well (:data:`EQUAL_MISFIT`) the one with most TM on ``tm_oct``, then the best
    fit, the least strain, the least rotation in space. Drifts are compared in the same way, the
    shortest last; a drift is only defined up to the translations that map the frame onto itself.

    Parameters
    ----------
    frame
        Frame of the same supercell, with any vectors.
    lattice
        Cell vectors of the structure (rows), right-handed, shape (3, 3), Å.
    anions, tms
        Fractional positions of the anions and the TM, shapes (n_anions, 3) and (n_tm, 3).

    Raises
    ------
    AssignmentError
        If no choice of vectors brings the cell within the strain allowed, or the anions near
        anion sites.
    """
    random = np.random.default_rng(0)
    compared = [random.permutation(positions)[:_N_COMPARED] for positions in (anions, tms)]
    found = _chosen(frame, lattice, *compared)
    primitive_drift = found.drift @ np.array(frame.matrix)
    return _Fit(frame, lattice, found.cell_map, anions, tms).refined(primitive_drift)


def _chosen(
    frame: Frame,
    lattice: NDArray[np.float64],
    anions: NDArray[np.float64],
    tms: NDArray[np.float64],
) -> Alignment:
    as_given = None
    if np.abs(cell_strain(lattice, frame.lattice)).max() <= MAX_STRAIN:
        as_given = _Fit(frame, lattice, np.eye(3, dtype=np.int64), anions, tms).best()
        if as_given.good:
            return as_given
    maps = cell_maps(lattice, frame.lattice, MAX_STRAIN)
    mapped = _best_mapped(frame, lattice, maps, anions, tms)
    if as_given is not None and (
        mapped is None
        or (
            as_given.misfit <= mapped.misfit + EQUAL_MISFIT
            and as_given.misplaced <= mapped.misplaced + EQUAL_MISPLACED
        )
    ):
        return as_given
    if mapped is None:
        raise AssignmentError(
            f"no choice of cell vectors brings the cell of the structure ({_measures(lattice)}) "
            f"within a strain of {MAX_STRAIN} of the frame's ({_measures(frame.lattice)}): build "
            "the frame of the structure's supercell"
        )
    if mapped.misfit > MAX_MISFIT:
        raise AssignmentError(
            f"the cell of the structure ({_measures(lattice)}) is within a strain of "
            f"{maps[0].strain:.2f} of the frame's ({_measures(frame.lattice)}), but its anions "
            f"are {mapped.misfit:.2f} Å (root mean square) off the anion sites at best, allowed "
            f"{MAX_MISFIT} Å: is it the same supercell of {frame.label}?"
        )
    return mapped


def _measures(lattice: NDArray[np.float64]) -> str:
    lengths = ", ".join(f"{length:.2f}" for length in np.linalg.norm(lattice, axis=1))
    return f"edges {lengths} Å, volume {abs(np.linalg.det(lattice)):.1f} Å^3"


def _best_mapped(
    frame: Frame,
    lattice: NDArray[np.float64],
    maps: tuple[CellMap, ...],
    anions: NDArray[np.float64],
    tms: NDArray[np.float64],
) -> Alignment | None:
    """The best alignment over choices of vectors, least strained first; None without any."""
    tried: list[tuple[Alignment, tuple[float, ...]]] = []
    limit = np.inf
    for cell_map in maps:
        if cell_map.strain > limit:
            break
        found = _Fit(frame, lattice, cell_map.matrix, anions, tms).best()
        tried.append((found, (round(cell_map.strain, 2), round(cell_map.rotation_angle, 3))))
        if found.misfit < GOOD_MISFIT:
            # A map that fits with much more strain than another is a coincidence.
            limit = min(limit, cell_map.strain + 0.05)
    return _preferred(tried) if tried else None


def _preferred(tried: list[tuple[Alignment, tuple[float, ...]]]) -> Alignment:
    """Anions that fit, then most TM in place, then the best fit, then the smallest key given."""
    misfit = min(found.misfit for found, _ in tried)
    tried = [t for t in tried if t[0].misfit <= misfit + EQUAL_MISFIT]
    misplaced = min(found.misplaced for found, _ in tried)
    tried = [t for t in tried if t[0].misplaced <= misplaced + EQUAL_MISPLACED]
    return min(tried, key=lambda t: (round(t[0].misfit, 2), *t[1]))[0]


class _Fit:
    """Anions and TM of a structure compared with a frame, for one choice of cell vectors.

    The sites of a frame repeat with the primitive cell, so that positions modulo that cell are
    compared with the few sites of the motif, whatever the size of the supercell. Everything is
    fractional in primitive vectors.
    """

    def __init__(
        self,
        frame: Frame,
        lattice: NDArray[np.float64],
        cell_map: NDArray[np.int64],
        anions: NDArray[np.float64],
        tms: NDArray[np.float64],
    ) -> None:
        matrix = np.array(frame.matrix)
        to_primitive = np.linalg.inv(cell_map) @ matrix
        self._cell_map, self._to_supercell = cell_map, np.linalg.inv(matrix)
        self._primitive = self._to_supercell @ cell_map @ lattice
        self._anions, self._tms = anions @ to_primitive, tms @ to_primitive
        motif = frame.prototype.motif
        tm_kinds = (SiteKind.TM_OCT,) if frame.n_layers else OCTAHEDRA
        self._anion_motif, tm_motif = (
            np.array([site.position for site in motif if site.kind in kinds])
            for kinds in ((SiteKind.ANION,), tm_kinds)
        )
        self._anion_sites = _MotifPositions(self._anion_motif, self._primitive)
        self._tm_sites = _MotifPositions(tm_motif, self._primitive)

    def best(self) -> Alignment:
        """The best drift; none if that fits already."""
        still = self.refined(np.zeros(3))
        if still.good:
            return still
        tried: list[tuple[Alignment, tuple[float, ...]]] = []
        for anchor, site in product(self._anions[:_N_ANCHORS], self._anion_motif):
            drift = _shortest(anchor - site, self._primitive)
            tried.append((self.refined(drift), (float(np.linalg.norm(drift @ self._primitive)),)))
        return _preferred(tried)

    def refined(self, drift: NDArray[np.float64]) -> Alignment:
        """Improve a drift, in primitive vectors, by the mean offset from the nearest anions."""
        for _ in range(3):
            drift = drift + self._anion_sites.offsets(self._anions - drift).mean(axis=0)
        off_anions = self._anion_sites.offsets(self._anions - drift) @ self._primitive
        misplaced = 0.0
        if len(self._tms):
            off_tms = self._tm_sites.offsets(self._tms - drift) @ self._primitive
            misplaced = float((np.linalg.norm(off_tms, axis=1) > _OFF_SITE).mean())
        return Alignment(
            cell_map=self._cell_map,
            drift=drift @ self._to_supercell,
            misfit=float(np.sqrt((off_anions**2).sum(axis=1).mean())),
            misplaced=misplaced,
        )


class _MotifPositions:
    """Sites of a motif with the images around the primitive cell."""

    def __init__(self, motif: NDArray[np.float64], primitive: NDArray[np.float64]) -> None:
        images = np.array(list(product((-1, 0, 1), repeat=3)))
        self._primitive = primitive
        self._positions = (motif % 1.0 + images[:, None]).reshape(-1, 3)
        self._tree = cKDTree(self._positions @ primitive)

    def offsets(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractional offsets of positions from their nearest sites, shape (n, 3)."""
        wrapped = positions % 1.0
        _, nearest = self._tree.query(wrapped @ self._primitive)
        return wrapped - self._positions[nearest]


def _shortest(
    translation: NDArray[np.float64], lattice: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The shortest of the translations that differ by lattice vectors, fractional."""
    images = np.array(list(product((-1, 0, 1), repeat=3)))
    equivalent = translation - np.round(translation) + images
    return equivalent[np.linalg.norm(equivalent @ lattice, axis=1).argmin()]
