"""Slabs of the basal (001) and the edge {010} faces of layered oxides."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import gcd

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core import Composition, Lattice, Structure

from .composition import OXIDATION_STATES
from .frame import LI_LAYER, Frame
from .occupation import Occupation
from .stacking import LAYER_SEQUENCES
from .superlattice import spread_subset

#: Dipole moment per area above which a slab counts as polar, e / Å.
POLAR_DIPOLE = 1e-3
_SYMPREC = 0.01
#: Atoms this close along the normal lie in one plane, Å.
_PLANE = 0.05


class BasalTermination(StrEnum):
    """What a slab of the (001) face ends with.

    ``half-lithium``: half of a Li layer on either side; stoichiometric and, where the bulk has the
    symmetry, with equal faces (Kramer, Ceder, Chem. Mater. 21, 3799 (2009)).
    ``lithium``: a full Li layer on either side (Li-rich).
    ``oxygen``: anions on either side (Li-poor).
    ``lithium-oxygen``: a Li layer below, anions above; stoichiometric and polar.
    """

    HALF_LITHIUM = "half-lithium"
    LITHIUM = "lithium"
    OXYGEN = "oxygen"
    LITHIUM_OXYGEN = "lithium-oxygen"


@dataclass(frozen=True)
class Slab:
    """A slab with vacuum, ions on their bulk positions.

    Attributes
    ----------
    structure
        Cell whose third vector is the normal of the faces.
    occupation
        The same ions on sites of the crystal's frame, in a cell whose vacuum is made of whole
        lattice planes, no narrower than `vacuum`; its sites in the vacuum are empty.
    face
        Hexagonal indices of the face.
    termination
        What the faces end with.
    n_layers
        TM layers ((001)) or close-packed rows of the TM layer ({010}) across the slab.
    thickness, vacuum
        Distance between the outermost ions, and that to the next slab, Å.
    stoichiometric
        Whether the slab has the composition of the bulk.
    symmetric
        Whether an operation of the slab's symmetry exchanges its faces.
    charge
        Sum of the oxidation states, e.
    dipole
        Dipole moment of the oxidation states along the normal about the middle of the slab, per
        area, e / Å.
    """

    structure: Structure
    occupation: Occupation
    face: str
    termination: str
    n_layers: int
    thickness: float
    vacuum: float
    stoichiometric: bool
    symmetric: bool
    charge: float
    dipole: float

    @property
    def polar(self) -> bool:
        """Whether the dipole moment does not vanish (type 3 of Tasker, J. Phys. C 12, 4977)."""
        return abs(self.dipole) > POLAR_DIPOLE


@dataclass(frozen=True)
class _Block:
    """Ions of a crystal cut parallel to a face.

    Attributes
    ----------
    in_plane
        Vectors of the face (rows), shape (2, 3), Å.
    normal
        Unit normal, upwards, shape (3,).
    species, positions, sites
        Ions, Cartesian positions and sites of the frame.
    """

    in_plane: NDArray[np.float64]
    normal: NDArray[np.float64]
    species: NDArray[np.str_]
    positions: NDArray[np.float64]
    sites: NDArray[np.int64]

    @property
    def heights(self) -> NDArray[np.float64]:
        """Height of every ion along the normal, Å."""
        return self.positions @ self.normal

    def within(self, low: float, high: float) -> "_Block":
        """The ions with low <= height < high."""
        heights = self.heights
        return self.keep((heights >= low) & (heights < high))

    def keep(self, kept: NDArray[np.bool_]) -> "_Block":
        """The ions chosen by a mask."""
        return _Block(
            self.in_plane,
            self.normal,
            self.species[kept],
            self.positions[kept],
            self.sites[kept],
        )

    def structure(self, vacuum: float) -> Structure:
        """Slab with vacuum, centred in its cell, the normal along the third vector."""
        heights = self.heights
        height = float(np.ptp(heights)) + vacuum
        shift = (height / 2 - (heights.max() + heights.min()) / 2) * self.normal
        structure = Structure(
            Lattice(np.vstack([self.in_plane, height * self.normal])),
            [str(s) for s in self.species],
            self.positions + shift,
            coords_are_cartesian=True,
            to_unit_cell=True,
        )
        a, b, c, *angles = structure.lattice.parameters
        frac = structure.frac_coords
        return Structure(Lattice.from_parameters(a, b, c, *angles), structure.species, frac)


def basal_slab(
    occupation: Occupation,
    n_layers: int,
    *,
    termination: BasalTermination = BasalTermination.HALF_LITHIUM,
    vacuum: float = 15.0,
    oxidation_states: Mapping[str, float] | None = None,
) -> Slab:
    """Cut a slab of the basal face, (001) of the hexagonal cell.

    The faces keep the in-plane cell of the frame. For half-lithium faces the Li of the upper face
    is spread out, and that of the lower one follows by the symmetry that exchanges the faces.

    Parameters
    ----------
    occupation
        Layered crystal to cut.
    n_layers
        TM layers of the slab.
    termination
        What the faces end with.
    vacuum
        Distance to the next slab, Å.
    oxidation_states
        Replaces or extends the oxidation states that charge and dipole are made with.

    Raises
    ------
    ValueError
        If the frame has no layers, a number is not positive, the termination is unknown, or half
        a Li layer is no whole number of Li.

    Examples
    --------
    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.spinel import layered_reference
    >>> from lrlo.structures.stacking import Stacking
    >>> bulk = layered_reference(layered_frame(Stacking.O3, np.diag([2, 1, 1])), "Co")
    >>> slab = basal_slab(bulk, 3)
    >>> slab.stoichiometric, slab.symmetric, slab.polar
    (True, True, False)
    """
    frame = _checked_frame(occupation, n_layers, vacuum)
    termination = BasalTermination(termination)
    spacing = frame.tm_slab + frame.li_gap
    lithium_height = -frame.li_gap / 2
    block = _cut(occupation, (0, 0, 1), -spacing, (n_layers + 1) * spacing)
    low, high = lithium_height - _PLANE, n_layers * spacing + lithium_height + _PLANE
    if termination is BasalTermination.OXYGEN:
        low = -_PLANE
    if termination in (BasalTermination.OXYGEN, BasalTermination.LITHIUM_OXYGEN):
        high -= 4 * _PLANE
    block = block.within(low, high)
    if termination is BasalTermination.HALF_LITHIUM:
        block = _with_half_faces(block, frame, vacuum)
    return _slab(
        block, occupation, (0, 0, 1), "001", termination.value, n_layers, vacuum, oxidation_states
    )


def edge_slab(
    occupation: Occupation,
    n_rows: int,
    *,
    vacuum: float = 15.0,
    oxidation_states: Mapping[str, float] | None = None,
) -> Slab:
    """Cut a slab of the edge face, (010) of the hexagonal cell: the face that Li leaves through.

    The plane contains a1 and the normal of the layers. Slabs of whole periods have the bulk's
    composition at every height of the cut; of these cuts the one is taken with equal faces and the
    smallest dipole, then the one through the widest gap between atomic planes.

    Parameters
    ----------
    occupation
        Layered crystal to cut.
    n_rows
        Close-packed rows of the TM layer across the slab, sqrt(3)/2 a each.
    vacuum
        Distance to the next slab, Å.
    oxidation_states
        Replaces or extends the oxidation states that charge and dipole are made with.

    Raises
    ------
    ValueError
        If the frame has no layers, a number is not positive, or the rows are no whole number of
        periods of the crystal; the message names the multiples that are.

    Examples
    --------
    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.spinel import layered_reference
    >>> from lrlo.structures.stacking import Stacking
    >>> bulk = layered_reference(layered_frame(Stacking.O3, np.diag([1, 1, 1])), "Co")
    >>> slab = edge_slab(bulk, 5)
    >>> slab.structure.formula, slab.stoichiometric, slab.symmetric, slab.polar
    ('Li15 Co15 O30', True, True, False)
    """
    frame = _checked_frame(occupation, n_rows, vacuum)
    # (010) in the primitive vectors: three times the second in-plane coordinate of the repeat.
    shift = LAYER_SEQUENCES[frame.stacking].repeat_shift[1]
    indices = (0, 3, round(3 * (shift - round(shift))))
    period = _period(frame, indices)
    if 3 * n_rows % period:
        least = period // gcd(period, 3)
        raise ValueError(
            f"{n_rows} rows are no whole number of periods of the crystal across (010); use a "
            f"multiple of {least}, such as {-(-n_rows // least) * least}"
        )
    row = np.sqrt(0.75) * frame.a
    height, period_height = n_rows * row, period * row / 3
    block = _cut(occupation, indices, -_PLANE, height + period_height + row)
    candidates = []
    for bottom, gap in _cuts(block, period_height):
        slab = _slab(
            block.within(bottom, bottom + height - 1e-6),
            occupation,
            indices,
            "010",
            "whole periods",
            n_rows,
            vacuum,
            oxidation_states,
        )
        candidates.append((not slab.symmetric, round(abs(slab.dipole), 6), -round(gap, 3), slab))
    return min(candidates, key=lambda candidate: candidate[:3])[3]


def _checked_frame(occupation: Occupation, n_layers: int, vacuum: float) -> Frame:
    frame = occupation.frame
    if not frame.n_layers:
        raise ValueError(f"a frame of {frame.label} has no (001) or {{010}} faces to cut")
    if n_layers < 1:
        raise ValueError(f"a slab of {n_layers} layers is not possible; use at least 1")
    if not 0 < vacuum < np.inf:
        raise ValueError(f"a vacuum of {vacuum} Å is not possible; it must be positive and finite")
    return frame


def _period(frame: Frame, indices: tuple[int, int, int]) -> int:
    """Lattice planes of the primitive crystal from one of the supercell's to the next."""
    return int(np.gcd.reduce(np.array(frame.matrix) @ indices))


def _cut(occupation: Occupation, indices: tuple[int, int, int], low: float, high: float) -> _Block:
    """All ions between two heights above a lattice plane of the primitive crystal."""
    frame = occupation.frame
    steps = np.array(frame.matrix) @ np.array(indices) // _period(frame, indices)
    lattice = _plane_basis(steps) @ frame.lattice
    in_plane = _reduced(lattice[:2])
    normal = np.cross(*in_plane)
    normal /= np.linalg.norm(normal)
    if lattice[2] @ normal < 0:
        in_plane, normal = in_plane[::-1], -normal
    occupied = np.array(occupation.occupied())
    species = np.array([str(occupation.species[site]) for site in occupied])
    positions = frame.frac_coords[occupied] @ frame.lattice
    heights = positions @ normal
    repeats = range(
        int(np.floor((low - heights.max()) / (lattice[2] @ normal))),
        int(np.ceil((high - heights.min()) / (lattice[2] @ normal))) + 1,
    )
    return _Block(
        in_plane=in_plane,
        normal=normal,
        species=np.tile(species, len(repeats)),
        positions=np.concatenate([positions + n * lattice[2] for n in repeats]),
        sites=np.tile(occupied, len(repeats)),
    ).within(low, high)


def _plane_basis(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Unimodular rows; the products with coprime `steps` are 0, 0 and 1."""
    basis = np.eye(3, dtype=np.int64)
    steps = np.array(steps)
    while np.count_nonzero(steps) > 1:
        order = np.argsort(np.where(steps == 0, np.iinfo(np.int64).max, np.abs(steps)))
        least, other = order[0], order[1]
        factor = steps[other] // steps[least]
        steps[other] -= factor * steps[least]
        basis[other] -= factor * basis[least]
    last = int(np.flatnonzero(steps)[0])
    rows = [i for i in range(3) if i != last]
    return np.array([basis[rows[0]], basis[rows[1]], basis[last] * steps[last]])


def _reduced(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shortest two vectors of a plane lattice (Lagrange, Gauss)."""
    short, long = sorted(vectors, key=np.linalg.norm)
    while True:
        long = long - np.round(short @ long / (short @ short)) * short
        if np.linalg.norm(long) >= np.linalg.norm(short) - 1e-9:
            return np.array([short, long])
        short, long = long, short


def _cuts(block: _Block, period: float) -> list[tuple[float, float]]:
    """Heights half way between atomic planes within one period, and the widths of the gaps, Å."""
    heights = np.sort(block.heights)
    heights = heights[heights < period + heights[0] + _PLANE]
    planes = [heights[0]]
    for height in heights:
        if height - planes[-1] > _PLANE:
            planes.append(height)
    return [((low + high) / 2, high - low) for low, high in pairwise(planes)]


def _with_half_faces(block: _Block, frame: Frame, vacuum: float) -> _Block:
    """Every other Li of the outer Li layers taken away, the faces kept equal where possible."""
    heights = block.heights
    on_li_layer = np.array([frame.kinds[site] in LI_LAYER for site in block.sites])
    upper = np.flatnonzero(on_li_layer & (heights > heights.max() - _PLANE))
    lower = np.flatnonzero(on_li_layer & (heights < heights.min() + _PLANE))
    if len(upper) % 2 or len(lower) % 2:
        raise ValueError(
            f"half of {len(upper)} Li on the upper and {len(lower)} on the lower face is no whole "
            "number; use a bulk cell with an even number of Li per layer"
        )
    kept_sites = spread_subset(frame, block.sites[upper], len(upper) // 2, seed=0)
    kept_upper = upper[np.isin(block.sites[upper], kept_sites)]
    mapped = _exchanged(block, kept_upper, vacuum)
    if mapped is None:
        sites = spread_subset(frame, block.sites[lower], len(lower) // 2, seed=0)
        mapped = lower[np.isin(block.sites[lower], sites)]
    kept = np.ones(len(heights), dtype=bool)
    kept[upper] = kept[lower] = False
    kept[kept_upper] = kept[mapped] = True
    return block.keep(kept)


def _exchanged(block: _Block, atoms: NDArray[np.int64], vacuum: float) -> NDArray[np.int64] | None:
    """Atoms that an involution which exchanges the faces moves some atoms to; None without one."""
    structure = block.structure(vacuum)
    frac = np.array(structure.frac_coords)
    for rotation, translation in _exchanges(structure):
        if not np.array_equal(rotation @ rotation, np.eye(3)):
            continue

        def images(
            chosen: NDArray[np.int64],
            rotation: NDArray[np.int64] = rotation,
            translation: NDArray[np.float64] = translation,
        ) -> NDArray[np.int64]:
            difference = (frac[chosen] @ rotation.T + translation)[:, None] - frac[None]
            difference -= np.round(difference)
            return np.linalg.norm(difference @ structure.lattice.matrix, axis=-1).argmin(axis=1)

        mapped = images(atoms)
        if set(images(mapped)) == set(atoms):
            return mapped
    return None


def _exchanges(structure: Structure) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Operations of a slab that turn its normal round, inversions first."""
    labels = {symbol: n for n, symbol in enumerate(structure.symbol_set)}
    numbers = [labels[site.specie.symbol] for site in structure]
    cell = (structure.lattice.matrix, structure.frac_coords, numbers)
    symmetry = spglib.get_symmetry(cell, symprec=_SYMPREC)  # type: ignore[arg-type]
    if symmetry is None:
        return []
    operations = zip(symmetry["rotations"], symmetry["translations"], strict=True)
    exchanging = [(r, t) for r, t in operations if r[2, 2] == -1]
    return sorted(exchanging, key=lambda operation: int(np.trace(operation[0])))


def _on_frame(
    block: _Block, frame: Frame, indices: tuple[int, int, int], vacuum: float
) -> Occupation:
    """Ions of a block on the sites of a frame with vacuum, about in the middle of its cell."""
    primitive = frame.prototype.lattice
    basis = _plane_basis(np.array(indices) // gcd(*indices))
    step = basis[2] @ primitive
    spacing = abs(float(step @ block.normal))
    n_planes = int(np.ceil((float(np.ptp(block.heights)) + vacuum) / spacing - 1e-6))
    up = basis[2] * round(float(np.sign(step @ block.normal)))
    in_plane = np.rint(block.in_plane @ np.linalg.inv(primitive)).astype(np.int64)
    # The shortest of the vectors that lead to the same lattice plane: the least tilted cell.
    lateral = np.linalg.lstsq((basis[:2] @ primitive).T, n_planes * up @ primitive)[0]
    third = n_planes * up - np.rint(lateral).astype(np.int64) @ basis[:2]
    slab_frame = Frame.supercell(frame.prototype, np.vstack([in_plane, third]))
    heights = block.heights
    n_up = round((n_planes * spacing - heights.max() - heights.min()) / 2 / spacing)
    positions = block.positions + n_up * up @ primitive
    difference = (positions @ np.linalg.inv(slab_frame.lattice))[:, None] - slab_frame.frac_coords
    difference -= np.round(difference)
    distances = np.linalg.norm(difference @ slab_frame.lattice, axis=-1)
    species: list[str | None] = [None] * len(slab_frame)
    for ion, site in enumerate(distances.argmin(axis=1).tolist()):
        species[site] = str(block.species[ion])
    return Occupation(slab_frame, tuple(species))


def _slab(
    block: _Block,
    occupation: Occupation,
    indices: tuple[int, int, int],
    face: str,
    termination: str,
    n_layers: int,
    vacuum: float,
    oxidation_states: Mapping[str, float] | None,
) -> Slab:
    """Slab of a block with what can be said about it."""
    states = {**OXIDATION_STATES, **(oxidation_states or {})}
    missing = sorted(set(block.species) - set(states))
    if missing:
        raise ValueError(f"no oxidation state known for {missing}; give it in oxidation_states")
    charges = np.array([states[symbol] for symbol in block.species])
    heights = block.heights
    area = float(np.linalg.norm(np.cross(*block.in_plane)))
    middle = (heights.max() + heights.min()) / 2
    structure = block.structure(vacuum)
    bulk = Composition(occupation.count()).reduced_formula
    return Slab(
        structure=structure,
        occupation=_on_frame(block, occupation.frame, indices, vacuum),
        face=face,
        termination=termination,
        n_layers=n_layers,
        thickness=float(np.ptp(heights)),
        vacuum=vacuum,
        stoichiometric=structure.composition.reduced_formula == bulk,
        symmetric=bool(_exchanges(structure)),
        charge=float(charges.sum()),
        dipole=float(charges @ (heights - middle)) / area,
    )
