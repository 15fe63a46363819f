"""Bonds and angles of structures, as the layers of CHGNet read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from pymatgen.optimization.neighbors import find_points_in_spheres

__all__ = ["Graph", "build_graph", "merge_graphs"]


@dataclass(frozen=True)
class Graph:
    """Bonds and angles of one or several structures.

    Each bond and each angle is listed once; the layers treat it in both orientations.
    Short bonds, which form the angles, come first. Short bond b leaves atom ``bonds[0, b]``
    as directed bond b, and atom ``bonds[1, b]`` as directed bond n_short + b. An angle is a
    pair of directed bonds that leave the same atom.

    Attributes
    ----------
    bonds
        Center and neighbour of each bond, as indices of atoms, shape (2, n_bonds).
    vectors
        From center to neighbour, shape (n_bonds, 3), Å.
    n_short
        Number of short bonds.
    angles
        The two sides of each angle, as indices of directed bonds, shape (2, n_angles).
    """

    bonds: np.ndarray
    vectors: np.ndarray
    n_short: int
    angles: np.ndarray

    @property
    def n_rows(self) -> int:
        """Number of bonds and angles: what memory and time go with."""
        return self.bonds.shape[1] + self.angles.shape[1]


def build_graph(atoms: Atoms, cutoff: float, short_cutoff: float) -> Graph:
    """Find the bonds and angles of a structure.

    Parameters
    ----------
    atoms : Atoms
        The structure; it may be periodic in any direction, but needs a cell with a volume.
    cutoff, short_cutoff : float
        Lengths that bonds, and bonds that form angles, stay below; Å.

    Returns
    -------
    Graph
        The same, to the order, whenever the structure is the same.
    """
    positions = np.ascontiguousarray(atoms.positions, dtype=float)
    cell = np.ascontiguousarray(atoms.cell.array, dtype=float)
    i, j, image, distance = find_points_in_spheres(
        positions,
        positions,
        r=cutoff,
        pbc=np.ascontiguousarray(atoms.pbc, dtype=np.int64),
        lattice=cell,
        tol=1e-8,
    )
    # every bond is found from both ends: keep one, and no atom with itself in place
    x, y, z = np.rint(image).astype(np.int64).T
    upward = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    kept = np.flatnonzero((distance < cutoff) & ((i < j) | ((i == j) & upward)))
    is_long = distance[kept] >= short_cutoff
    kept = kept[np.argsort(is_long, kind="stable")]
    bonds = np.stack([i[kept], j[kept]])
    vectors = positions[bonds[1]] + image[kept] @ cell - positions[bonds[0]]
    n_short = int((~is_long).sum())
    return Graph(bonds, vectors, n_short, _pairs(bonds[:, :n_short].ravel()))


def _pairs(origin: np.ndarray) -> np.ndarray:
    """Return all unordered pairs of directed bonds that share their `origin` atom."""
    order = np.argsort(origin, kind="stable")
    end = np.cumsum(np.bincount(origin))[origin[order]]
    # within an atom's run of the sorted bonds, each bond pairs with all that follow it
    n_following = end - np.arange(len(origin)) - 1
    first = np.repeat(np.arange(len(origin)), n_following)
    run_start = np.repeat(np.cumsum(n_following) - n_following, n_following)
    second = first + 1 + np.arange(len(first)) - run_start
    return order[np.stack([first, second])]


def merge_graphs(graphs: Sequence[Graph], sizes: Sequence[int]) -> Graph:
    """Join the graphs of several structures into one.

    Parameters
    ----------
    graphs : sequence of Graph
        One per structure.
    sizes : sequence of int
        Number of atoms of each structure: the atoms of one follow those of the one before.

    Returns
    -------
    Graph
        That of all structures, bonds and angles in order of structure, short bonds first.
    """
    total = sum(g.n_short for g in graphs)
    bonds, angles = [], []
    n_atoms = n_short = 0
    for graph, size in zip(graphs, sizes, strict=True):
        bonds.append(graph.bonds + n_atoms)
        backward = graph.angles >= graph.n_short
        angles.append(graph.angles + n_short + backward * (total - graph.n_short))
        n_atoms += size
        n_short += graph.n_short

    def short_first(arrays: Sequence[np.ndarray]) -> np.ndarray:
        short = [a[..., : g.n_short] for a, g in zip(arrays, graphs, strict=True)]
        long = [a[..., g.n_short :] for a, g in zip(arrays, graphs, strict=True)]
        return np.concatenate(short + long, axis=-1)

    return Graph(
        short_first(bonds),
        short_first([g.vectors.T for g in graphs]).T,
        total,
        np.concatenate(angles, axis=1),
    )
