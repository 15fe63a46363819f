"""Pair potential that is linear in its coefficients, to be fitted while a band is optimised."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pymatgen.optimization.neighbors import find_points_in_spheres

#: Pairs farther apart do not interact, Å. Covers the first shells of an oxide or a metal.
CUTOFF = 4.0
#: Centres of the radial Gaussians and their width, Å.
CENTRES = np.arange(0.6, CUTOFF + 1e-9, 0.4)
WIDTH = 0.6


@dataclass(frozen=True)
class PairList:
    """Pairs within the cutoff of some structures, each pair from both of its ends.

    Attributes
    ----------
    first, second
        Atoms, counted through all structures, shape (n_pairs,).
    offsets
        Lattice vector to the periodic image of `second`, shape (n_pairs, 3), Å.
    kinds
        Pair of elements, counted from 0, shape (n_pairs,).
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    offsets: NDArray[np.float64]
    kinds: NDArray[np.int64]


class PairPotential:
    """Radial functions for every pair of elements, each a sum of Gaussians.

    The energy is ``features @ coefficients``. Features have gradients, so that the coefficients
    can be fitted to forces by linear regression.

    Parameters
    ----------
    template
        Structure with the elements and the cell of all others.

    Attributes
    ----------
    n_coefficients
        Number of features.

    Examples
    --------
    >>> from ase.build import bulk
    >>> copper = bulk("Cu", cubic=True)
    >>> potential = PairPotential(copper)
    >>> features, gradients = potential.features(copper.positions[None])
    >>> features.shape, gradients.shape
    ((1, 9), (1, 4, 3, 9))
    """

    def __init__(self, template: Atoms) -> None:
        # directions that are not periodic may have no cell vector
        self._cell = np.ascontiguousarray(template.cell.complete().array)
        self._periodic = np.ascontiguousarray(template.pbc, dtype=np.int64)
        _, self._element = np.unique(template.numbers, return_inverse=True)
        n_elements = int(self._element.max()) + 1
        self._n_kinds = n_elements * (n_elements + 1) // 2
        self.n_coefficients = self._n_kinds * len(CENTRES)

    def pairs(self, positions: NDArray[np.float64], skin: float = 0.0) -> PairList:
        """Pairs within the cutoff and a skin (Å) in structures of shape (n, n_atoms, 3)."""
        lists = [self._pairs_of_one(image, skin) for image in positions]
        return _joined(lists, positions.shape[1])

    def features(
        self, positions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Features of structures, and their gradients.

        Parameters
        ----------
        positions
            Shape (n, n_atoms, 3), Å.

        Returns
        -------
        values
            Shape (n, n_coefficients).
        gradients
            Shape (n, n_atoms, 3, n_coefficients), 1/Å.
        """
        n, n_atoms = positions.shape[:2]
        values = np.zeros((n, self._n_kinds, len(CENTRES)))
        gradients = np.zeros((n * n_atoms, self._n_kinds, 3, len(CENTRES)))
        pairs = self.pairs(positions)
        directions, distances = _separations(positions, pairs)
        shapes, slopes = _radial(distances)
        np.add.at(values, (pairs.first // n_atoms, pairs.kinds), shapes / 2)
        pulls = -directions[:, :, None] * slopes[:, None, :]
        np.add.at(gradients, (pairs.first, pairs.kinds), pulls)
        gradients = gradients.transpose(0, 2, 1, 3).reshape(n, n_atoms, 3, -1)
        return values.reshape(n, -1), gradients

    def evaluate(
        self, coefficients: NDArray[np.float64], positions: NDArray[np.float64], pairs: PairList
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies and forces of structures for given coefficients.

        Parameters
        ----------
        coefficients
            Shape (n_coefficients,), eV.
        positions
            Shape (n, n_atoms, 3), Å.
        pairs
            Pairs of these structures, from :meth:`pairs`.

        Returns
        -------
        energies
            Shape (n,), eV.
        forces
            Shape (n, n_atoms, 3), eV/Å.
        """
        n, n_atoms = positions.shape[:2]
        directions, distances = _separations(positions, pairs)
        shapes, slopes = _radial(distances)
        weights = coefficients.reshape(-1, len(CENTRES))[pairs.kinds]
        halves = (shapes * weights).sum(axis=1) / 2
        energies = np.bincount(pairs.first // n_atoms, halves, minlength=n).astype(float)
        pulls = directions * (slopes * weights).sum(axis=1)[:, None]
        forces = np.stack(
            [np.bincount(pairs.first, pull, minlength=n * n_atoms) for pull in pulls.T], axis=1
        )
        return energies, forces.astype(float).reshape(positions.shape)

    def _pairs_of_one(self, positions: NDArray[np.float64], skin: float) -> PairList:
        points = np.ascontiguousarray(positions, dtype=float)
        first, second, shifts, _ = find_points_in_spheres(
            points, points, r=CUTOFF + skin, pbc=self._periodic, lattice=self._cell
        )
        others = (first != second) | shifts.any(axis=1)  # all but an atom with itself
        first, second, shifts = first[others], second[others], shifts[others]
        low, high = np.sort([self._element[first], self._element[second]], axis=0)
        return PairList(first, second, shifts @ self._cell, high * (high + 1) // 2 + low)


def _joined(lists: Sequence[PairList], n_atoms: int) -> PairList:
    """One list of pairs for structures of `n_atoms` each."""
    return PairList(
        first=np.concatenate([each.first + i * n_atoms for i, each in enumerate(lists)]),
        second=np.concatenate([each.second + i * n_atoms for i, each in enumerate(lists)]),
        offsets=np.concatenate([each.offsets for each in lists]),
        kinds=np.concatenate([each.kinds for each in lists]),
    )


def _separations(
    positions: NDArray[np.float64], pairs: PairList
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors from the first to the second atoms, (n_pairs, 3), and distances, (n_pairs,)."""
    points = positions.reshape(-1, 3)
    steps = points[pairs.second] + pairs.offsets - points[pairs.first]
    distances = np.linalg.norm(steps, axis=1)
    return steps / distances[:, None], distances


def _radial(distances: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values and slopes of all Gaussians, smooth to zero at the cutoff, (n_pairs, n_centres)."""
    apart = (distances[:, None] - CENTRES) / WIDTH
    ratio = distances[:, None] / CUTOFF
    rest = np.maximum(1 - ratio**2, 0)
    gaussians = np.exp(-(apart**2) / 2) * rest
    return gaussians * rest, -gaussians * (apart / WIDTH * rest + 4 * ratio / CUTOFF)
