"""Forces of a nudged elastic band."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BandForces:
    """Forces that act on the interior images.

    Attributes
    ----------
    driving
        Projected true force plus spring force along the path, shape (n_images, n_atoms, 3),
        eV/Å.
    residuals
        Largest projected force (springs left out) of every image; on the climbing image the
        largest climbing force. Shape (n_images,), eV/Å.
    tangential
        True force along the tangent at every image, shape (n_images,), eV/Å.
    """

    driving: NDArray[np.float64]
    residuals: NDArray[np.float64]
    tangential: NDArray[np.float64]


#: Softest spring of a band, as a part of the stiffest.
_SOFTEST = 0.1


def energy_weighted_springs(energies: NDArray[np.float64], stiffest: float) -> NDArray[np.float64]:
    """Spring constants that grow with energy, so that images gather near the saddle.

    Parameters
    ----------
    energies
        Of all images with end states, shape (n_images + 2,), eV.
    stiffest
        Spring constant at the highest image, eV/Å^2; at the lower end state it is a tenth of this.

    Returns
    -------
    springs
        Between neighbouring images, by the higher one of the two, shape (n_images + 1,), eV/Å^2.

    Notes
    -----
    After Ásgeirsson et al., J. Chem. Theory Comput. 17, 4929 (2021): linear in energy.
    """
    higher = np.maximum(energies[1:], energies[:-1])
    lowest = min(energies[0], energies[-1])
    height = max(float(energies.max() - lowest), 1e-9)
    shares = np.clip((higher - lowest) / height, 0, 1)
    springs: NDArray[np.float64] = stiffest * (_SOFTEST + (1 - _SOFTEST) * shares)
    return springs


def band_forces(
    positions: NDArray[np.float64],
    energies: NDArray[np.float64],
    forces: NDArray[np.float64],
    springs: NDArray[np.float64],
    climbing_image: int | None,
) -> BandForces:
    """Nudged forces with the improved tangent and, if asked, a climbing image.

    Parameters
    ----------
    positions, forces
        All images with end states, shape (n_images + 2, n_atoms, 3), Å and eV/Å.
    energies
        Shape (n_images + 2,), eV.
    springs
        Spring constant between neighbouring images, shape (n_images + 1,), eV/Å^2.
    climbing_image
        Index (end states counted) of the climbing image, or None.

    Notes
    -----
    Henkelman and Jónsson, J. Chem. Phys. 113, 9978 (2000), eqs. 8-12; climbing image:
    Henkelman, Uberuaga and Jónsson, ibid. 9901, eq. 5.
    """
    steps = np.diff(positions, axis=0)
    lengths = np.linalg.norm(steps, axis=(1, 2))
    driving, residuals, tangential = [], [], []
    for i in range(1, len(positions) - 1):
        tangent = _tangent(steps[i - 1], steps[i], energies[i - 1 : i + 2])
        along = float((forces[i] * tangent).sum())
        perpendicular = forces[i] - along * tangent
        if i == climbing_image:
            force = forces[i] - 2 * along * tangent
            residual = force
        else:
            force = (
                perpendicular
                + (springs[i] * lengths[i] - springs[i - 1] * lengths[i - 1]) * tangent
            )
            residual = perpendicular
        driving.append(force)
        residuals.append(np.linalg.norm(residual, axis=1).max())
        tangential.append(along)
    return BandForces(np.array(driving), np.array(residuals), np.array(tangential))


def _tangent(
    before: NDArray[np.float64], after: NDArray[np.float64], energies: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Improved tangent from the steps before and after an image and the three energies."""
    low, here, high = energies
    if high > here > low:
        tangent = after
    elif high < here < low:
        tangent = before
    else:
        changes = sorted((abs(high - here), abs(low - here)))
        weights = (changes[1], changes[0]) if high > low else (changes[0], changes[1])
        tangent = weights[0] * after + weights[1] * before
        if not tangent.any():  # three equal energies
            tangent = after + before
    return tangent / np.linalg.norm(tangent)
