"""Where a surrogate wants the images of a band to go."""

from contextlib import suppress

import numpy as np
from ase.optimize.ode import ode12r
from ase.optimize.sciopt import OptimizerConvergenceError
from numpy.typing import NDArray

from .linear_algebra import in_one_thread
from .nudged_forces import band_forces, energy_weighted_springs
from .surrogate import Surrogate

#: Farthest that an image moves in configuration space between two evaluations, Å: where it was
#: evaluated the surrogate is right, and this far from there what it adds to the pair potential is
#: uncertain by a third of what it was before anything was known.
REACH = 0.25
#: Most steps on the surrogate, which cost next to nothing.
MAX_STEPS = 200


class _OutOfReachError(Exception):
    """An image has left the region where the surrogate is trusted."""


@in_one_thread
def propose(
    surrogate: Surrogate,
    positions: NDArray[np.float64],
    energies: NDArray[np.float64],
    *,
    spring: float,
    climb: bool,
    fmax: float,
) -> NDArray[np.float64]:
    """Relax a band on the surrogate, until an image is ``REACH`` away from where it was.

    The optimiser is ODE12r (Makri, Ortner and Kermode, J. Chem. Phys. 150, 094109 (2019)).

    Parameters
    ----------
    surrogate
        Surrogate that has learnt the band.
    positions
        All images, shape (n_images + 2, n_atoms, 3), Å.
    energies
        Their energies, of which those of the end states stay, shape (n_images + 2,), eV.
    spring
        Spring constant at the highest image, eV/Å^2.
    climb
        Whether the highest image climbs.
    fmax
        Largest force, springs included, at which to stop, eV/Å.

    Returns
    -------
    positions
        The same shape; end states as they were.
    """
    shape = positions[1:-1].shape
    start = positions[1:-1].reshape(shape[0], -1)
    pairs = surrogate.pairs_near(positions[1:-1], REACH)
    reached = start
    largest = np.inf

    def driving(flat: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal largest
        interior = flat.reshape(shape)
        inner_energies, inner_forces = surrogate.predict(interior, pairs)
        profile = np.array([energies[0], *inner_energies, energies[-1]])
        nudged = band_forces(
            np.concatenate([positions[:1], interior, positions[-1:]]),
            profile,
            np.pad(inner_forces, ((1, 1), (0, 0), (0, 0))),
            energy_weighted_springs(profile, spring),
            highest_interior(profile) if climb else None,
        )
        largest = np.linalg.norm(nudged.driving, axis=2).max()
        return nudged.driving.ravel()

    def keep(flat: NDArray[np.float64]) -> None:
        nonlocal reached
        reached = flat.reshape(start.shape).copy()
        if np.linalg.norm(reached - start, axis=1).max() > REACH:
            raise _OutOfReachError

    with suppress(_OutOfReachError, OptimizerConvergenceError):
        ode12r(
            driving,
            start.ravel().copy(),
            verbose=0,
            steps=MAX_STEPS,
            callback=keep,
            converged=lambda forces, flat: largest <= fmax,
        )
    moves = reached - start
    lengths = np.linalg.norm(moves, axis=1, keepdims=True)
    moves *= np.minimum(1, REACH / np.maximum(lengths, REACH))
    return np.concatenate([positions[:1], (start + moves).reshape(shape), positions[-1:]])


def highest_interior(energies: NDArray[np.float64]) -> int | None:
    """Index of the highest image, None if it is an end state."""
    highest = int(np.argmax(energies))
    return highest if 0 < highest < len(energies) - 1 else None
