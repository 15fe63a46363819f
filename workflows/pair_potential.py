"""Pair potential that is linear in its coefficients, to be fitted while a band is optimised."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numba import njit
from numpy.typing import NDArray

#: Pairs farther apart do not interact, Å. Covers the first shells of an oxide or a metal.
CUTOFF = 4.0
#: Centres of the radial Gaussians and their width, Å.
CENTRES = np.arange(0.6, CUTOFF + 1e-9, 0.4)
WIDTH = 0.6


@dataclass(frozen=True)
class PairList:
    """Pairs of one structure that may come within the cutoff.

    Attributes
    ----------
    first, second
        Atoms, shape (n_pairs,).
    offsets
        Lattice vector from the home cell to the image of `second`, shape (n_pairs, 3), Å.
    kinds
        Pair of elements, counted from 0, shape (n_pairs,).
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    offsets: NDArray[np.float64]
    kinds: NDArray[np.int64]


class PairPotential:
    """Radial functions for every pair of elements, each a sum of Gaussians.

    The energy is ``coefficients @ features``; features have gradients, so that the coefficients
    can be fitted to forces.

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
    >>> energies, gradients = potential.features(copper.positions)
    >>> energies.shape, gradients.shape
    ((9,), (9, 4, 3))
    """

    def __init__(self, template: Atoms) -> None:
        self._template = template.copy()
        _, element = np.unique(template.numbers, return_inverse=True)
        self._element = element
        n_elements = int(element.max()) + 1
        self.n_coefficients = n_elements * (n_elements + 1) // 2 * len(CENTRES)

    def pairs(self, positions: NDArray[np.float64], skin: float = 0.0) -> PairList:
        """Pairs within the cutoff and a skin (Å) at positions of shape (n_atoms, 3)."""
        self._template.positions = positions
        first, second, shifts = neighbor_list("ijS", self._template, CUTOFF + skin)
        # every pair once: of the two directions between an atom and an image keep one
        leading = np.array([np.sign(shifts) @ (4, 2, 1) > 0, first < second])
        once = np.where(first == second, leading[0], leading[1])
        first, second, shifts = first[once], second[once], shifts[once]
        low, high = np.sort([self._element[first], self._element[second]], axis=0)
        return PairList(
            first=first,
            second=second,
            offsets=shifts @ self._template.cell.array,
            kinds=high * (high + 1) // 2 + low,
        )

    def features(
        self, positions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Features and their gradients.

        Returns
        -------
        values
            Shape (n_coefficients,).
        gradients
            Shape (n_coefficients, n_atoms, 3), 1/Å.
        """
        values = np.zeros(self.n_coefficients)
        gradients = np.zeros((self.n_coefficients, len(positions), 3))
        pairs = self.pairs(positions)
        _add_features(
            positions, pairs.first, pairs.second, pairs.offsets, pairs.kinds, values, gradients
        )
        return values, gradients

    def evaluate(
        self, coefficients: NDArray[np.float64], positions: NDArray[np.float64], pairs: PairList
    ) -> tuple[float, NDArray[np.float64]]:
        """Energy (eV) and its gradient (eV/Å, shape (n_atoms, 3)) for given coefficients (eV)."""
        gradient = np.zeros_like(positions)
        energy = _add_gradient(
            positions,
            pairs.first,
            pairs.second,
            pairs.offsets,
            pairs.kinds,
            coefficients.reshape(-1, len(CENTRES)),
            gradient,
        )
        return energy, gradient


def _kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with numba; keep the result on disk where there is a place for it."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # nothing is writable
        return njit(function)


@njit(inline="always")
def _separation(i, j, offset, positions):  # type: ignore[no-untyped-def]
    """Vector from atom i to the image of atom j, and its length."""
    dx = positions[j, 0] + offset[0] - positions[i, 0]
    dy = positions[j, 1] + offset[1] - positions[i, 1]
    dz = positions[j, 2] + offset[2] - positions[i, 2]
    return (dx, dy, dz), np.sqrt(dx * dx + dy * dy + dz * dz)


@njit(inline="always")
def _radial(r, k):  # type: ignore[no-untyped-def]
    """Value and slope of Gaussian k, smooth to zero at the cutoff."""
    x = (r - CENTRES[k]) / WIDTH
    u = r / CUTOFF
    rest = 1.0 - u * u
    gaussian = np.exp(-0.5 * x * x) * rest
    return gaussian * rest, -gaussian * (x / WIDTH * rest + 4.0 * u / CUTOFF)


@_kernel
def _add_features(positions, first, second, offsets, kinds, values, gradients):  # type: ignore[no-untyped-def]
    for pair in range(len(first)):
        i, j = first[pair], second[pair]
        step, r = _separation(i, j, offsets[pair], positions)
        if r >= CUTOFF:
            continue
        for k in range(len(CENTRES)):
            value, slope = _radial(r, k)
            feature = kinds[pair] * len(CENTRES) + k
            values[feature] += value
            for axis in range(3):
                gradients[feature, j, axis] += slope * step[axis] / r
                gradients[feature, i, axis] -= slope * step[axis] / r


@_kernel
def _add_gradient(positions, first, second, offsets, kinds, coefficients, gradient):  # type: ignore[no-untyped-def]
    energy = 0.0
    for pair in range(len(first)):
        i, j = first[pair], second[pair]
        step, r = _separation(i, j, offsets[pair], positions)
        if r >= CUTOFF:
            continue
        pull = 0.0
        for k in range(len(CENTRES)):
            value, slope = _radial(r, k)
            energy += coefficients[kinds[pair], k] * value
            pull += coefficients[kinds[pair], k] * slope
        for axis in range(3):
            gradient[j, axis] += pull * step[axis] / r
            gradient[i, axis] -= pull * step[axis] / r
    return energy
