"""The path that a band starts from."""

import itertools

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.mep.neb import NEB, idpp_interpolate


def initial_path(
    initial: Atoms, final: Atoms, n_images: int, via: Atoms | None = None
) -> list[Atoms]:
    """Path by image-dependent pair potential (IDPP), through a waypoint if one is given.

    Every leg is interpolated by IDPP (Smidstrup et al., J. Chem. Phys. 140, 214106 (2014)) and
    the legs are resampled at equal distances.

    Parameters
    ----------
    initial, final
        End states with the same atoms in the same order.
    n_images
        Interior images of the result.
    via
        Waypoint; its other atoms stand half way between the end states.

    Returns
    -------
    images
        ``n_images + 2`` structures, continuous across cell boundaries.

    Raises
    ------
    ValueError
        If the end states do not hold the same atoms in the same order.
    """
    if list(initial.numbers) != list(final.numbers):
        raise ValueError("the end states of a band need the same atoms in the same order")
    stations = [initial.positions]
    for station in (via, final):
        if station is not None:
            step, _ = find_mic(station.positions - stations[-1], initial.cell, pbc=True)
            stations.append(stations[-1] + step)
    points = [stations[0]]
    for start, end in itertools.pairwise(stations):
        leg = [initial.copy() for _ in range(5)]
        for image, weight in zip(leg, np.linspace(0, 1, 5), strict=True):
            image.positions = (1 - weight) * start + weight * end
        idpp_interpolate(
            NEB(leg, method="improvedtangent"), traj=None, log=None, mic=True, fmax=0.1, steps=100
        )
        points += [image.positions for image in leg[1:]]
    path = np.array(points)
    length = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=(1, 2))))
    images = []
    for target in np.linspace(0, length[-1], n_images + 2):
        i = min(int(np.searchsorted(length, target, side="right")) - 1, len(path) - 2)
        weight = (target - length[i]) / (length[i + 1] - length[i])
        image = initial.copy()
        image.positions = (1 - weight) * path[i] + weight * path[i + 1]
        images.append(image)
    return images
