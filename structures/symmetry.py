"""Permutations of frame sites under the space group of an occupation."""

from collections import Counter
from functools import cache

import numpy as np
import spglib
from numpy.typing import NDArray

from .frame import Frame
from .occupation import Occupation
from .prototype import Prototype


def site_permutations(occupation: Occupation, symprec: float = 1e-3) -> NDArray[np.int64]:
    """How the symmetry operations of the decorated frame move its sites.

    The frame's own space group with the present decoration, pure translations included; empty
    sites are told apart from occupied ones. The operations are those of the prototype's space
    group that keep the supercell lattice and the decoration; they act on integer coordinates, so
    that the cost grows with the number of sites times that of operations tried.

    Parameters
    ----------
    occupation
        Decorated frame with n_sites sites.
    symprec
        Distance tolerance for the space group of the prototype, Å.

    Returns
    -------
    permutations
        ``permutations[g, i]`` is the site that operation g moves site i to,
        shape (n_operations, n_sites).

    Raises
    ------
    RuntimeError
        If spglib finds no symmetry (not even the identity).

    Examples
    --------
    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.occupation import empty_frame
    >>> from lrlo.structures.stacking import Stacking
    >>> primitive = empty_frame(layered_frame(Stacking.O3, np.eye(3, dtype=int)))
    >>> site_permutations(primitive).shape  # the 12 operations of -3m move 8 sites in 2 ways
    (2, 8)
    """
    frame = occupation.frame
    sites = _SiteIndex(frame)
    labels: dict[str | None, int] = {}
    species = np.array([labels.setdefault(s, len(labels)) for s in occupation.species])
    # Sites of the rarest decoration go to each other, which leaves few translations to try.
    decoration = list(zip(sites.motif.tolist(), species.tolist(), strict=True))
    counts = Counter(decoration)
    rare = np.array(min(counts, key=lambda key: counts[key]))
    first = decoration.index(tuple(rare.tolist()))
    # Most operations break the decoration; a few sites show it.
    probe = np.linspace(0, len(frame) - 1, 32).astype(np.int64)
    kept = []
    for motif_of, offset, rotation in _operations(frame.prototype, symprec):
        moved_lattice = np.array(frame.matrix) @ rotation @ np.linalg.inv(frame.matrix)
        if np.abs(moved_lattice - np.round(moved_lattice)).max() > 1e-6:
            continue
        motif = motif_of[sites.motif]
        moved = offset[sites.motif] + sites.translation @ rotation
        targets = np.flatnonzero((sites.motif == motif[first]) & (species == rare[1]))
        for translation in sites.translation[targets] - moved[first]:
            probed = sites.of(motif[probe], moved[probe] + translation)
            if not np.array_equal(species[probed], species[probe]):
                continue
            permutation = sites.of(motif, moved + translation)
            if np.array_equal(species[permutation], species):
                kept.append(permutation)
    return np.unique(np.array(kept, dtype=np.int64), axis=0)


class _SiteIndex:
    """Sites of a frame by motif site and lattice translation.

    Attributes
    ----------
    motif
        Index of every site in the prototype's motif, shape (n_sites,).
    translation
        Primitive lattice translation of every site, modulo the supercell, shape (n_sites, 3).
    """

    def __init__(self, frame: Frame) -> None:
        positions = np.array([site.position for site in frame.prototype.motif])
        matrix = np.array(frame.matrix)
        self._n_cells = round(np.linalg.det(matrix))
        self.motif = np.repeat(np.arange(len(positions)), self._n_cells)
        translation = frame.frac_coords @ matrix - positions[self.motif]
        self.translation = np.rint(translation).astype(np.int64)
        # n_cells times a fractional coordinate is an integer: exact arithmetic modulo n_cells.
        self._adjugate = np.rint(self._n_cells * np.linalg.inv(matrix)).astype(np.int64)
        keys = self._key(self.translation[: self._n_cells])
        self._order = np.argsort(keys)
        self._sorted_keys = keys[self._order]

    def of(self, motif: NDArray[np.int64], translation: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sites with the given motif indices and translations."""
        cell = self._order[np.searchsorted(self._sorted_keys, self._key(translation))]
        return motif * self._n_cells + cell

    def _key(self, translation: NDArray[np.int64]) -> NDArray[np.int64]:
        """One number for all translations that differ by a supercell vector."""
        i, j, k = (translation @ self._adjugate % self._n_cells).T
        return (i * self._n_cells + j) * self._n_cells + k


@cache
def _operations(
    prototype: Prototype, symprec: float
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], ...]:
    """Operations of a prototype on its motif.

    Of every operation: the motif site that each motif site goes to, shape (n,), the primitive
    translation that it is moved by on the way, shape (n, 3), and the rotation of translations
    (rows), shape (3, 3).
    """
    positions = np.array([site.position for site in prototype.motif])
    kinds = [site.kind for site in prototype.motif]
    numbers = [sorted(set(kinds)).index(kind) + 1 for kind in kinds]
    cell = (prototype.lattice, positions, numbers)
    symmetry = spglib.get_symmetry(cell, symprec=symprec)  # type: ignore[arg-type]  # arrays serve
    if symmetry is None:
        raise RuntimeError(f"spglib found no symmetry for {prototype}")
    operations = []
    for rotation, shift in zip(symmetry["rotations"], symmetry["translations"], strict=True):
        step = (positions @ rotation.T + shift)[:, None] - positions
        distance = np.linalg.norm((step - np.round(step)) @ prototype.lattice, axis=-1)
        target = distance.argmin(axis=1)
        offset = np.rint(step[np.arange(len(target)), target]).astype(np.int64)
        operations.append((target, offset, rotation.T.astype(np.int64)))
    return tuple(operations)
