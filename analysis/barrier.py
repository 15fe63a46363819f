"""Status and barriers of a band of images."""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

#: An intermediate minimum this deep splits a path, eV.
SPLIT_DEPTH = 0.05


class PathStatus(StrEnum):
    """Outcome of a migration path. Only ``converged`` is a barrier without a mark."""

    CONVERGED = "converged"
    UNCONVERGED = "unconverged"
    UNSTABLE_ENDPOINT = "unstable_endpoint"
    NO_INTERIOR_SADDLE = "no_interior_saddle"
    SEVERAL_SADDLES = "several_saddles"


class Barrier(BaseModel):
    """Energies of a path, eV.

    Attributes
    ----------
    forward, reverse
        Saddle minus initial, and saddle minus final energy.
    reaction_energy
        Final minus initial energy.
    max_minus_min
        Highest minus lowest image, as some published tables give it.
    """

    model_config = ConfigDict(frozen=True)

    forward: float
    reverse: float
    reaction_energy: float
    max_minus_min: float


def band_barrier(energies: Sequence[float]) -> Barrier:
    """Barriers from the energies of all images, end states included.

    For a monotone band the "saddle" is the higher end state.

    Parameters
    ----------
    energies
        Energies along the path, eV, at least two.
    """
    values = np.asarray(energies, dtype=float)
    return Barrier(
        forward=float(values.max() - values[0]),
        reverse=float(values.max() - values[-1]),
        reaction_energy=float(values[-1] - values[0]),
        max_minus_min=float(np.ptp(values)),
    )


def band_status(energies: Sequence[float], *, converged: bool) -> PathStatus:
    """Judge a band from its energies and whether its projected forces converged.

    A band with an intermediate minimum is called ``several_saddles`` whether or not it
    converged, since it should be split there before it is converged.
    """
    if intermediate_minimum(energies) is not None:
        return PathStatus.SEVERAL_SADDLES
    if not converged:
        return PathStatus.UNCONVERGED
    values = np.asarray(energies, dtype=float)
    if values[1:-1].max() <= max(values[0], values[-1]) + 1e-3:
        return PathStatus.NO_INTERIOR_SADDLE
    return PathStatus.CONVERGED


def intermediate_minimum(energies: Sequence[float]) -> int | None:
    """Index of the deepest interior minimum that splits the path, None if there is none.

    Its depth is measured against the lower of the maxima on its two sides.
    """
    values = np.asarray(energies, dtype=float)
    depths = {
        i: min(values[:i].max(), values[i + 1 :].max()) - values[i]
        for i in range(1, len(values) - 1)
        if values[i] <= values[i - 1] and values[i] <= values[i + 1]
    }
    if not depths or max(depths.values()) < SPLIT_DEPTH:
        return None
    return max(depths, key=lambda i: depths[i])


def fitted_profile(
    arc_lengths: Sequence[float],
    energies: Sequence[float],
    tangential_forces: Sequence[float],
    n_points: int = 20,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smooth profile through the images: cubic per interval, from energies and slopes.

    Parameters
    ----------
    arc_lengths
        Path length up to every image, Å, ascending.
    energies
        Energy of every image, eV.
    tangential_forces
        Force along the path at every image, eV/Å (minus the slope).
    n_points
        Points per interval.

    Returns
    -------
    length, energy
        Arrays of shape ((n_images - 1) * n_points + 1,), Å and eV.

    Notes
    -----
    Henkelman and Jónsson, J. Chem. Phys. 113, 9978 (2000), appendix.
    """
    s, e = np.asarray(arc_lengths, dtype=float), np.asarray(energies, dtype=float)
    slope = -np.asarray(tangential_forces, dtype=float)
    lengths, curve = [], []
    for i in range(len(s) - 1):
        width = s[i + 1] - s[i]
        t = np.linspace(0, 1, n_points, endpoint=False)
        lengths.append(s[i] + width * t)
        curve.append(
            (2 * t**3 - 3 * t**2 + 1) * e[i]
            + (t**3 - 2 * t**2 + t) * width * slope[i]
            + (3 * t**2 - 2 * t**3) * e[i + 1]
            + (t**3 - t**2) * width * slope[i + 1]
        )
    return np.append(np.concatenate(lengths), s[-1]), np.append(np.concatenate(curve), e[-1])
