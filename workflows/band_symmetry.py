"""Bands whose second half is the mirror image of the first: only one half is evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import spglib
from ase import Atoms
from ase.geometry import find_mic
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

#: Largest distance of an atom from where symmetry puts it, Å: above what end states relaxed to a
#: usual threshold differ by, far below a displacement that means something.
TOLERANCE = 0.05


@dataclass(frozen=True)
class BandMirror:
    """Symmetry operation that maps every image on its counterpart from the other end.

    Attributes
    ----------
    rotation
        Proper or improper rotation, shape (3, 3), of Cartesian vectors in columns.
    atoms
        Atom of an image that goes to every atom of its counterpart, shape (n_atoms,).
    shifts
        Translation, with what lattice vectors each atom needs, shape (n_atoms, 3), Å.
    """

    rotation: NDArray[np.float64]
    atoms: NDArray[np.int64]
    shifts: NDArray[np.float64]

    def of_positions(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions of the counterpart from those of an image, shape (n_atoms, 3), Å."""
        return self.of_vectors(positions) + self.shifts

    def of_vectors(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Vectors of the counterpart's atoms from those of an image, shape (n_atoms, 3)."""
        return (vectors @ self.rotation.T)[self.atoms]


def find_band_mirror(images: Sequence[Atoms]) -> BandMirror | None:
    """Operation that maps a path on itself backwards; None if there is none within 0.05 Å.

    It is looked for among the space-group operations of the middle of the path.

    Parameters
    ----------
    images
        Path with end states, each atom moving continuously.
    """
    positions = np.array([image.positions for image in images])
    template = images[0]
    middle = (positions[(len(images) - 1) // 2] + positions[len(images) // 2]) / 2
    cell = (
        template.cell.array,
        template.cell.scaled_positions(middle),
        template.numbers,
    )
    symmetry = spglib.get_symmetry(cell, symprec=TOLERANCE)
    if symmetry is None:
        return None
    to_cartesian = template.cell.array.T
    best: tuple[float, BandMirror] | None = None
    for turn, shift in zip(symmetry["rotations"], symmetry["translations"], strict=True):
        if not np.array_equal(turn @ turn, np.eye(3, dtype=int)):
            continue
        rotation = to_cartesian @ turn @ np.linalg.inv(to_cartesian)
        moved = middle @ rotation.T + shift @ template.cell.array
        atoms = _counterparts(moved, middle, template)
        if atoms is None or not np.array_equal(atoms[atoms], np.arange(len(atoms))):
            continue
        whole = np.round(template.cell.scaled_positions(middle - moved[atoms]))
        mirror = BandMirror(rotation, atoms, (shift + whole) @ template.cell.array)
        backwards = [mirror.of_positions(image) for image in positions]
        error = float(np.linalg.norm(backwards - positions[::-1], axis=2).max())
        if error < TOLERANCE and (best is None or error < best[0]):
            best = error, mirror
    return None if best is None else best[1]


def mirrored_band(positions: NDArray[np.float64], mirror: BandMirror) -> NDArray[np.float64]:
    """Positions whose interior obeys the mirror exactly, shape (n_images, n_atoms, 3).

    The first half is kept, end states too; a middle image becomes the average with its own mirror
    image.
    """
    n_images = len(positions)
    result = positions.copy()
    for index in range(n_images // 2, n_images - 1):
        result[index] = mirror.of_positions(positions[n_images - 1 - index])
    if n_images % 2:
        result[n_images // 2] = (positions[n_images // 2] + result[n_images // 2]) / 2
    return result


def _counterparts(
    moved: NDArray[np.float64], middle: NDArray[np.float64], template: Atoms
) -> NDArray[np.int64] | None:
    """Atom that an operation brings to the place of every atom, None if one finds no place."""
    distances = np.full((len(moved), len(moved)), 1e3)
    for number in np.unique(template.numbers):
        same = np.flatnonzero(template.numbers == number)
        steps = middle[same][:, None] - moved[same][None]
        _, lengths = find_mic(steps.reshape(-1, 3), template.cell, template.pbc)
        distances[np.ix_(same, same)] = lengths.reshape(len(same), len(same))
    places, atoms = linear_sum_assignment(distances)
    if distances[places, atoms].max() > TOLERANCE:
        return None
    return atoms
