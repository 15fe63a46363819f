"""Energy surface learnt from the evaluations of a band, to propose where its images go next."""

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .linear_algebra import in_one_thread
from .pair_potential import PairList, PairPotential

#: Standard deviation of a pair coefficient before any force is known, eV.
PAIR_SCALE = 0.5
#: Standard deviation of the forces that no pair potential gives, eV/Å, and the distance in
#: configuration space over which they are alike, Å.
REST_SCALE = 0.1
REST_LENGTH = 0.8
#: Part of the energies' rest that is noise.
ENERGY_NOISE = 1e-3
#: Structures that are kept, the latest ones.
MEMORY = 100


class Surrogate:
    """Pair potential plus a Gaussian process for what pairs cannot express.

    Forces are modelled as ``-gradients of pair features @ coefficients + rest``. Coefficients
    and rest have Gaussian priors, so that both follow from one linear solve (universal kriging;
    Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 2.7). The
    rest is squared-exponential in the distance between structures, and independent for every
    force component, so that matrices are as large as the number of structures only. Energies are
    treated alike; they only choose tangents and the climbing image.

    All images and all steps of a band, and all pairs of the same elements in them, teach one
    model. That is why it needs fewer evaluations than an optimiser, which knows the last steps of
    every image.

    Parameters
    ----------
    template
        Structure with the elements and the cell of the band.
    noise
        Standard deviation of forces from a smooth surface, eV/Å.
    """

    def __init__(self, template: Atoms, noise: float) -> None:
        self._noise = noise
        self._potential = PairPotential(template)
        n_atoms, n_coefficients = len(template), self._potential.n_coefficients
        self._positions = np.empty((0, n_atoms, 3))
        self._energies = np.empty(0)
        self._forces = np.empty((0, n_atoms, 3))
        self._features = np.empty((0, n_coefficients))
        self._gradients = np.empty((0, n_atoms, 3, n_coefficients))

    @in_one_thread
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
        features, gradients = self._potential.features(positions)
        self._positions = _latest(self._positions, positions)
        self._energies = _latest(self._energies, energies)
        self._forces = _latest(self._forces, forces)
        self._features = _latest(self._features, features)
        self._gradients = _latest(self._gradients, gradients)
        self._fit()

    def _fit(self) -> None:
        n = len(self._positions)
        kernel = self._kernel(self._positions)
        # An explicit inverse: small, well conditioned by the noise, applied to many columns.
        inverse = np.linalg.inv(REST_SCALE**2 * kernel + self._noise**2 * np.eye(n))
        slopes = self._gradients.reshape(-1, self._potential.n_coefficients)
        weighted = (inverse @ slopes.reshape(n, -1)).reshape(slopes.shape)
        precision = slopes.T @ weighted + np.eye(slopes.shape[1]) / PAIR_SCALE**2
        coefficients = np.linalg.solve(precision, -weighted.T @ self._forces.ravel())
        self._coefficients = coefficients.astype(np.float64)
        rest = (self._forces.ravel() + slopes @ self._coefficients).reshape(n, -1)
        self._force_weights = REST_SCALE**2 * inverse @ rest
        energies = self._energies - self._features @ self._coefficients
        self._mean_energy = energies.mean()
        self._energy_weights = np.linalg.solve(
            kernel + ENERGY_NOISE * np.eye(n), energies - self._mean_energy
        )

    def pairs_near(self, positions: NDArray[np.float64], reach: float) -> PairList:
        """Pairs that structures may have which stay within `reach` (Å) of `positions`."""
        return self._potential.pairs(positions, 2 * reach)

    def predict(
        self, positions: NDArray[np.float64], pairs: PairList
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies and forces.

        Parameters
        ----------
        positions
            Shape (n, n_atoms, 3), Å.
        pairs
            From :meth:`pairs_near`, for structures near these.

        Returns
        -------
        energies
            Shape (n,), eV.
        forces
            Shape (n, n_atoms, 3), eV/Å.
        """
        energies, forces = self._potential.evaluate(self._coefficients, positions, pairs)
        kernel = self._kernel(positions)
        energies = energies + self._mean_energy + kernel @ self._energy_weights
        forces = forces + (kernel @ self._force_weights).reshape(positions.shape)
        return energies, forces

    def _kernel(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Correlation with the known structures, shape (len(positions), n)."""
        here = positions.reshape(len(positions), -1)
        known = self._positions.reshape(len(self._positions), -1)
        squares = (here**2).sum(1)[:, None] + (known**2).sum(1) - 2 * here @ known.T
        return np.exp(-np.maximum(squares, 0) / (2 * REST_LENGTH**2))


def _latest(known: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([known, new])[-MEMORY:]
