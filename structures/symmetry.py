"""Permutations of frame sites under the space group of an occupation."""

import numpy as np
import spglib
from numpy.typing import NDArray

from .occupation import Occupation


def site_permutations(occupation: Occupation, symprec: float = 1e-3) -> NDArray[np.int64]:
    """How the symmetry operations of the decorated frame move its sites.

    The frame's own space group with the present decoration, pure translations included; empty
    sites are told apart from occupied ones.

    Parameters
    ----------
    occupation
        Decorated frame with n_sites sites.
    symprec
        Distance tolerance, Å.

    Returns
    -------
    permutations
        ``permutations[g, i]`` is the site that operation g moves site i to,
        shape (n_operations, n_sites).

    Raises
    ------
    RuntimeError
        If spglib finds no symmetry (not even the identity).
    """
    frame = occupation.frame
    labels: dict[tuple[str, str | None], int] = {}
    numbers = [
        labels.setdefault((kind.value, species), len(labels) + 1)
        for kind, species in zip(frame.kinds, occupation.species, strict=True)
    ]
    cell = (frame.lattice, frame.frac_coords, numbers)
    symmetry = spglib.get_symmetry(cell, symprec=symprec)  # type: ignore[arg-type]  # arrays serve
    if symmetry is None:
        raise RuntimeError("spglib found no symmetry for the decorated frame")
    permutations = set()
    for rotation, translation in zip(symmetry["rotations"], symmetry["translations"], strict=True):
        moved = frame.frac_coords @ rotation.T + translation
        difference = moved[:, None] - frame.frac_coords[None]
        difference -= np.round(difference)
        target = np.linalg.norm(difference @ frame.lattice, axis=-1).argmin(axis=1)
        permutations.add(tuple(int(i) for i in target))
    return np.array(sorted(permutations), dtype=np.int64)
