"""Integer maps between the vectors of two cells that are the same up to strain and rotation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice
from pymatgen.optimization.neighbors import find_points_in_spheres


@dataclass(frozen=True, eq=False)
class CellMap:
    """A choice of lattice vectors that makes a cell look like a reference cell.

    Attributes
    ----------
    matrix
        Vectors that correspond to those of the reference (rows) in the vectors of the cell,
        integers of determinant +1, shape (3, 3).
    strain
        Largest principal strain of the cell against the reference, as a magnitude.
    rotation_angle
        Angle by which the cell is rotated in space against the reference, radians.
    """

    matrix: NDArray[np.int64]
    strain: float
    rotation_angle: float


def cell_maps(
    lattice: NDArray[np.float64], reference: NDArray[np.float64], max_strain: float
) -> tuple[CellMap, ...]:
    """All choices of lattice vectors that are a reference cell, strained and rotated.

    Both cells are reduced; the lattice vectors of the length of each reference vector are then
    combined where the lengths of their sums and differences agree, too. Maps that mirror the
    reference are left out.

    Parameters
    ----------
    lattice, reference
        Cell vectors (rows), right-handed, shape (3, 3), Å.
    max_strain
        Largest principal strain allowed.

    Returns
    -------
    maps
        Least strain first, then least rotation.

    Examples
    --------
    >>> cube = np.diag([4.0, 4.0, 4.0])
    >>> sheared = np.array([[1, 0, 0], [1, 1, 0], [2, 0, 1]]) @ cube
    >>> maps = cell_maps(sheared, cube, max_strain=0.1)
    >>> len(maps)  # the rotations of a cube
    24
    >>> maps[0].matrix.tolist()
    [[1, 0, 0], [-1, 1, 0], [-2, 0, 1]]
    """
    cell, target = (
        np.array(Lattice(m).get_lll_reduced_lattice().matrix) for m in (lattice, reference)
    )
    target = target[np.argsort(np.linalg.norm(target, axis=1))]
    vectors = _lattice_vectors(cell, (1 + max_strain) * np.linalg.norm(target, axis=1).max())
    candidates = [vectors[_as_long(vectors @ cell, row, max_strain)] for row in target]
    triples = []
    for first in _without_opposites(candidates[0]):
        second = candidates[1][
            _agree(candidates[1] @ cell, first @ cell, target[1::-1], max_strain)
        ]
        for middle in second:
            third = candidates[2]
            for earlier, row in ((first, target[0]), (middle, target[1])):
                pair = np.array([target[2], row])
                third = third[_agree(third @ cell, earlier @ cell, pair, max_strain)]
            determinants = third @ np.cross(first, middle)
            for last, sign in zip(third, determinants, strict=True):
                if abs(sign) == 1:
                    triples.append(np.array([first, middle, last]))
    if not triples:
        return ()
    chosen = np.array(triples)
    chosen = chosen * np.sign(np.linalg.det(chosen @ cell) * np.linalg.det(target))[:, None, None]
    deformation = np.linalg.inv(target) @ chosen @ cell
    left, stretches, right = np.linalg.svd(deformation)
    strains = np.abs(stretches - 1).max(axis=1)
    cosines = (np.trace(left @ right, axis1=1, axis2=2) - 1) / 2
    angles = np.arccos(np.clip(cosines, -1, 1))
    # Back from the reduced cells to the given ones.
    matrices = np.linalg.solve(target @ np.linalg.inv(reference), chosen @ cell)
    matrices = np.rint(matrices @ np.linalg.inv(lattice)).astype(np.int64)
    maps = [
        CellMap(matrix, float(strain), float(angle))
        for matrix, strain, angle in zip(matrices, strains, angles, strict=True)
        if strain <= max_strain
    ]
    return tuple(sorted(maps, key=lambda m: (round(m.strain, 3), round(m.rotation_angle, 3))))


def _lattice_vectors(cell: NDArray[np.float64], radius: float) -> NDArray[np.int64]:
    """Lattice vectors up to a length, in cell vectors, shape (n, 3)."""
    origin = np.zeros((1, 3))
    _, _, images, _ = find_points_in_spheres(
        origin, origin, float(radius), np.ones(3, dtype=np.int64), np.ascontiguousarray(cell)
    )
    return images.astype(np.int64)


def _as_long(
    vectors: NDArray[np.float64], reference: NDArray[np.float64], max_strain: float
) -> NDArray[np.bool_]:
    """Which vectors have the length of a reference vector within the strain allowed."""
    ratio = np.linalg.norm(vectors, axis=-1) / np.linalg.norm(reference)
    return np.abs(ratio - 1) <= max_strain


def _agree(
    vectors: NDArray[np.float64],
    other: NDArray[np.float64],
    references: NDArray[np.float64],
    max_strain: float,
) -> NDArray[np.bool_]:
    """Which vectors stand to `other` as the first reference vector stands to the second."""
    return _as_long(vectors + other, references[0] + references[1], max_strain) & _as_long(
        vectors - other, references[0] - references[1], max_strain
    )


def _without_opposites(vectors: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """One of every vector and its opposite."""
    return [v for v in vectors if tuple(v) > tuple(-v)]
