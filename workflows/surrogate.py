"""Energy surface learnt from the evaluations of a band, to propose where its images go next."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from .pair_potential import PairList, PairPotential

#: Standard deviation of a pair coefficient before any force is known, eV.
PAIR_SCALE = 0.5
#: Standard deviation of the forces that no pair potential gives, eV/Å, and the distance in
#: configuration space over which they are alike, Å.
REST_SCALE = 0.05
REST_LENGTH = 0.8
#: Standard deviation of forces and of energies from a smooth surface, eV/Å and eV.
FORCE_NOISE = 0.01
ENERGY_NOISE = 0.001
#: Evaluations that are kept, the latest ones.
MEMORY = 100


class Surrogate:
    """Pair potential plus a Gaussian process for what pairs cannot express.

    Forces are modelled as ``-coefficients @ gradients of pair features + rest``. Coefficients
    and rest have Gaussian priors, so that both follow from one linear solve (universal kriging;
    Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 2.7). The
    rest is squared-exponential in the distance between structures and independent for every
    force component: tested on bands of oxides, it predicts forces as well as a process over the
    energy and its gradient, and solves n x n systems only. Energies are treated alike; they only
    choose tangents and the climbing image.

    All images and all steps of a band, and the pairs of equal elements within them, share one
    model. That is why it needs fewer evaluations than an optimiser that knows the last steps of
    each image.

    Parameters
    ----------
    template
        Structure with the elements and the cell of the band.
    """

    def __init__(self, template: Atoms) -> None:
        self._potential = PairPotential(template)
        self._positions = np.empty((0, len(template), 3))
        self._energies = np.empty(0)
        self._forces = np.empty_like(self._positions)
        self._features = np.empty((0, self._potential.n_coefficients))
        self._gradients = np.empty((0, self._potential.n_coefficients, len(template), 3))
        self._pairs: Sequence[PairList] = ()

    def learn(
        self,
        positions: NDArray[np.float64],
        energies: NDArray[np.float64],
        forces: NDArray[np.float64],
    ) -> None:
        """Add evaluated structures and fit again.

        Parameters
        ----------
        positions, forces
            Shape (n, n_atoms, 3), Å and eV/Å.
        energies
            Shape (n,), eV.
        """
        features = [self._potential.features(image) for image in positions]
        self._positions = _latest(self._positions, positions)
        self._energies = _latest(self._energies, energies)
        self._forces = _latest(self._forces, forces)
        self._features = _latest(self._features, np.array([values for values, _ in features]))
        self._gradients = _latest(self._gradients, np.array([slopes for _, slopes in features]))
        self._fit()

    def _fit(self) -> None:
        n = len(self._positions)
        kernel = self._kernel(self._positions)
        force_covariance = cho_factor(REST_SCALE**2 * kernel + FORCE_NOISE**2 * np.eye(n))
        slopes = self._gradients.reshape(n, self._potential.n_coefficients, -1)
        forces = self._forces.reshape(n, -1)
        weighted = cho_solve(force_covariance, slopes.reshape(n, -1)).reshape(slopes.shape)
        precision = np.einsum("nkd,nld->kl", slopes, weighted, optimize=True)
        precision[np.diag_indices_from(precision)] += PAIR_SCALE**-2
        self._coefficients = np.linalg.solve(
            precision, -np.einsum("nkd,nd->k", weighted, forces, optimize=True)
        )
        rest = forces + np.einsum("nkd,k->nd", slopes, self._coefficients, optimize=True)
        self._force_weights = cho_solve(force_covariance, REST_SCALE**2 * rest)
        energies = self._energies - self._features @ self._coefficients
        self._mean_energy = energies.mean()
        energy_covariance = cho_factor(kernel + ENERGY_NOISE / REST_SCALE * np.eye(n))
        self._energy_weights = cho_solve(energy_covariance, energies - self._mean_energy)

    def stand_at(self, positions: NDArray[np.float64], reach: float) -> None:
        """Prepare predictions for images that stay within `reach` (Å) of `positions`."""
        self._pairs = [self._potential.pairs(image, 2 * reach) for image in positions]

    def predict(
        self, positions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies (eV) and forces (eV/Å) of the images prepared by :meth:`stand_at`."""
        kernel = self._kernel(positions)
        energies = self._mean_energy + kernel @ self._energy_weights
        forces = (kernel @ self._force_weights).reshape(positions.shape)
        for i, (image, pairs) in enumerate(zip(positions, self._pairs, strict=True)):
            energy, gradient = self._potential.evaluate(self._coefficients, image, pairs)
            energies[i] += energy
            forces[i] -= gradient
        return energies, forces

    def _kernel(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Correlation with the known structures, shape (len(positions), n)."""
        here, known = positions.reshape(len(positions), -1), self._positions
        known = known.reshape(len(known), -1)
        distances = (here**2).sum(1)[:, None] + (known**2).sum(1) - 2 * here @ known.T
        return np.exp(-0.5 * np.maximum(distances, 0) / REST_LENGTH**2)


def _latest(known: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([known, new])[-MEMORY:]
