"""Status and barriers of a band of images."""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.interpolate import CubicHermiteSpline

#: An intermediate minimum this deep splits a path, eV.
SPLIT_DEPTH = 0.05


class PathStatus(StrEnum):
    """Outcome of a migration path. Only ``converged`` is a barrier without a mark."""

    CONVERGED = "converged"
    UNCONVERGED = "unconverged"
    UNSTABLE_ENDPOINT = "unstable_endpoint"
    NO_INTERIOR_SADDLE = "no_interior_saddle"
    SEVERAL_SADDLES = "several_saddles"
    UNPHYSICAL = "unphysical"


#: Outcomes of one band whose energies are a barrier.
SOUND = (PathStatus.CONVERGED, PathStatus.NO_INTERIOR_SADDLE)


class Barrier(BaseModel):
    """Energies of a path, eV.

    Attributes
    ----------
    forward, reverse
        Saddle minus initial, and saddle minus final energy.
    reaction_energy
        Final minus initial energy.
    max_minus_min
        Highest minus lowest image, as some published tables give it: images only, no fit.
    """

    model_config = ConfigDict(frozen=True)

    forward: float
    reverse: float
    reaction_energy: float
    max_minus_min: float


def band_barrier(
    arc_lengths: Sequence[float],
    energies: Sequence[float],
    tangential_forces: Sequence[float],
    climbing_image: int | None = None,
) -> Barrier:
    """Barriers of a band.

    The saddle is the climbing image where there is one: it has been brought there, while the curve
    between images only estimates. Without one it is the highest point of the curve. For a monotone
    band the "saddle" is the higher end state.

    Parameters
    ----------
    arc_lengths, energies, tangential_forces
        See :func:`fitted_path`, end states included.
    climbing_image
        Index of the climbing image, end states counted.
    """
    values = np.asarray(energies, dtype=float)
    top = values.max()
    if climbing_image is None and 0 < values.argmax() < len(values) - 1:
        top = max(top, fitted_saddle(arc_lengths, energies, tangential_forces)[1])
    return Barrier(
        forward=float(top - values[0]),
        reverse=float(top - values[-1]),
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


def fitted_path(
    arc_lengths: Sequence[float], energies: Sequence[float], tangential_forces: Sequence[float]
) -> CubicHermiteSpline:
    """Smooth energy along the path through the images, from their energies and slopes, eV.

    Parameters
    ----------
    arc_lengths
        Path length up to every image, Å, ascending.
    energies
        Energy of every image, eV.
    tangential_forces
        Force along the path at every image, eV/Å (minus the slope).

    Notes
    -----
    Henkelman and Jónsson, J. Chem. Phys. 113, 9978 (2000), appendix.
    """
    return CubicHermiteSpline(arc_lengths, energies, -np.asarray(tangential_forces, dtype=float))


def fitted_saddle(
    arc_lengths: Sequence[float], energies: Sequence[float], tangential_forces: Sequence[float]
) -> tuple[float, float]:
    """Path length (Å) and energy (eV) of the highest point of :func:`fitted_path`."""
    path = fitted_path(arc_lengths, energies, tangential_forces)
    level = path.derivative().roots(extrapolate=False)
    places = np.append(level[np.isfinite(level)], arc_lengths)  # flat stretches give nan
    heights = path(places)
    highest = int(np.argmax(heights))
    return float(places[highest]), float(heights[highest])
