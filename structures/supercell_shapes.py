"""Shapes of supercells of a given size, the most isotropic first."""

from dataclasses import dataclass

import numpy as np
import spglib
from numpy.typing import NDArray

from .prototype import Prototype


@dataclass(frozen=True, eq=False)
class SupercellShape:
    """A supercell and its distance between periodic images.

    Attributes
    ----------
    matrix
        Reduced supercell vectors (rows) in primitive vectors, right-handed, shape (3, 3).
    image_distance
        Length of its shortest lattice vector, Å.
    compactness
        `image_distance` over the cube root of the volume: 1 for a cube, at most
        2**(1/6) = 1.12 (fcc).
    """

    matrix: NDArray[np.int64]
    image_distance: float
    compactness: float


def isotropic_supercells(
    prototype: Prototype,
    size: int,
    *,
    limit: int = 10,
    repeat: NDArray[np.int64] | None = None,
) -> tuple[SupercellShape, ...]:
    """Supercells whose periodic images are farthest apart.

    All sublattices of the size are compared (Hermite normal forms); of those that are the same
    by the symmetry of the prototype one is given.

    Parameters
    ----------
    prototype
        Crystal to repeat.
    size
        Cells of the repeat in the supercell.
    limit
        Supercells to give.
    repeat
        Vectors that the supercell has to be made of, such as those of a superlattice, in
        primitive vectors, shape (3, 3); default: the primitive vectors.

    Raises
    ------
    ValueError
        If the size or the limit is not positive.

    Examples
    --------
    >>> from lrlo.structures.layered_prototype import LayeredPrototype
    >>> from lrlo.structures.stacking import Stacking
    >>> shapes = isotropic_supercells(LayeredPrototype(Stacking.O3), 24, limit=3)
    >>> [round(shape.image_distance, 2) for shape in shapes]
    [9.95, 9.95, 9.95]
    """
    if size < 1 or limit < 1:
        raise ValueError(f"size and limit are at least 1, got {size} and {limit}")
    base = np.eye(3, dtype=np.int64) if repeat is None else np.array(repeat, dtype=np.int64)
    to_cartesian = base @ prototype.lattice
    reduced = _minkowski_reduced(_hermite_normal_forms(size), to_cartesian)
    distances = np.linalg.norm(reduced[:, 0] @ to_cartesian, axis=1)
    rotations = _rotations(prototype)
    shapes: list[SupercellShape] = []
    seen: set[tuple[int, ...]] = set()
    for index in np.argsort(-distances.round(6), kind="stable"):
        matrix = reduced[index] @ base
        if _normal_form(matrix) in seen:
            continue
        seen.update(_normal_form(matrix @ rotation) for rotation in rotations)
        volume = abs(np.linalg.det(matrix @ prototype.lattice))
        shapes.append(
            SupercellShape(
                matrix=matrix if np.linalg.det(matrix) > 0 else -matrix,
                image_distance=float(distances[index]),
                compactness=float(distances[index] / volume ** (1 / 3)),
            )
        )
        if len(shapes) == limit:
            break
    return tuple(shapes)


def _hermite_normal_forms(determinant: int) -> NDArray[np.int64]:
    """All sublattices of an index as upper-triangular matrices, shape (n, 3, 3)."""
    blocks = []
    for a in (d for d in range(1, determinant + 1) if determinant % d == 0):
        for c in (d for d in range(1, determinant // a + 1) if determinant // a % d == 0):
            f = determinant // a // c
            b, d, e = (
                grid.ravel()
                for grid in np.meshgrid(np.arange(c), np.arange(f), np.arange(f), indexing="ij")
            )
            block = np.zeros((len(b), 3, 3), dtype=np.int64)
            block[:, 0, 0], block[:, 1, 1], block[:, 2, 2] = a, c, f
            block[:, 0, 1], block[:, 0, 2], block[:, 1, 2] = b, d, e
            blocks.append(block)
    return np.concatenate(blocks)


def _minkowski_reduced(cells: NDArray[np.int64], lattice: NDArray[np.float64]) -> NDArray[np.int64]:
    """Shortest vectors that span each cell, the shortest first.

    The greedy algorithm of Semaev (Cryptography and Lattices, LNCS 2146, 181 (2001)): the longest
    vector is shortened by the lattice of the two others until it stays the longest.
    """
    cells = cells.copy()
    steps = np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    active = np.arange(len(cells))
    while len(active):
        cell = _by_length(cells[active], lattice)
        first = cell[:, 0] @ lattice
        turns = np.rint((cell[:, 1] @ lattice * first).sum(axis=1) / (first**2).sum(axis=1))
        cell[:, 1] -= turns[:, None].astype(np.int64) * cell[:, 0]
        plane, third = cell[:, :2] @ lattice, cell[:, 2] @ lattice
        gram = plane @ plane.transpose(0, 2, 1)
        nearest = np.linalg.solve(gram, plane @ third[:, :, None])[:, :, 0]
        trials = np.floor(nearest).astype(np.int64)[:, None] + steps
        candidates = cell[:, None, 2] - trials @ cell[:, :2]
        lengths = np.linalg.norm(candidates @ lattice, axis=2).round(9)
        cell[:, 2] = candidates[np.arange(len(cell)), lengths.argmin(axis=1)]
        cell = _by_length(cell, lattice)
        total = np.linalg.norm(cell @ lattice, axis=2).sum(axis=1)
        before = np.linalg.norm(cells[active] @ lattice, axis=2).sum(axis=1)
        cells[active] = cell
        active = active[total < before - 1e-6]
    return cells


def _by_length(cells: NDArray[np.int64], lattice: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows of every cell by length, the shortest first."""
    order = np.linalg.norm(cells @ lattice, axis=2).round(9).argsort(axis=1, kind="stable")
    return np.take_along_axis(cells, order[:, :, None], axis=1)


def _rotations(prototype: Prototype) -> list[NDArray[np.int64]]:
    """Point group of a prototype, as matrices that act on rows of primitive coordinates."""
    kinds = [site.kind for site in prototype.motif]
    cell = (
        prototype.lattice,
        [site.position for site in prototype.motif],
        [sorted(set(kinds)).index(kind) + 1 for kind in kinds],
    )
    symmetry = spglib.get_symmetry(cell, symprec=1e-3)  # type: ignore[arg-type]  # arrays serve
    if symmetry is None:
        raise RuntimeError(f"spglib found no symmetry for {prototype}")
    return [rotation.T.astype(np.int64) for rotation in symmetry["rotations"]]


def _normal_form(matrix: NDArray[np.int64]) -> tuple[int, ...]:
    """Hermite normal form of a lattice: the same for all matrices whose rows span it."""
    rows = [list(map(int, row)) for row in matrix]
    for column in range(3):
        while True:
            rest = [k for k in range(column, 3) if rows[k][column]]
            pivot = min(rest, key=lambda k: abs(rows[k][column]))
            rows[column], rows[pivot] = rows[pivot], rows[column]
            if len(rest) == 1:
                break
            for k in range(column + 1, 3):
                turns = rows[k][column] // rows[column][column]
                rows[k] = [x - turns * y for x, y in zip(rows[k], rows[column], strict=True)]
        if rows[column][column] < 0:
            rows[column] = [-x for x in rows[column]]
        for k in range(column):
            turns = rows[k][column] // rows[column][column]
            rows[k] = [x - turns * y for x, y in zip(rows[k], rows[column], strict=True)]
    return tuple(x for row in rows for x in row)
