"""Vacuum in a periodic cell: what tells a slab from a crystal."""

import numpy as np
from pymatgen.core import Structure

from .occupation import Occupation

#: Difference of heights that is none, Å.
_SAME_HEIGHT = 0.1
#: An empty layer wider than this is vacuum, Å; planes of a crystal are no farther apart.
LEAST_VACUUM = 5.0


def vacuum_width(structure: Structure) -> float | None:
    """Width of the vacuum beside a slab; None in a crystal.

    The widest layer without an atom along the normal of any two cell vectors, Å.

    Parameters
    ----------
    structure
        Periodic structure with at least one atom.

    Examples
    --------
    >>> from pymatgen.core import Lattice
    >>> bulk = Structure(Lattice.cubic(4.2), ["Ni", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> vacuum_width(bulk) is None
    True
    >>> bulk.lattice = Lattice.orthorhombic(4.2, 4.2, 20.0)
    >>> vacuum_width(bulk)
    10.0
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(structure.lattice.matrix), axis=0)
    frac = np.sort(np.array(structure.frac_coords) % 1.0, axis=0)
    gaps = np.diff(frac, axis=0, append=frac[:1] + 1.0).max(axis=0)
    widest = float((gaps * heights).max())
    return widest if widest > LEAST_VACUUM else None


def sites_in_vacuum(occupation: Occupation) -> frozenset[int]:
    """Sites of a slab's frame that lie in its vacuum; none in a crystal.

    A site at the height of an ion belongs to the slab: an O that is missing from a face counts.

    Parameters
    ----------
    occupation
        Ions on the sites of a frame.
    """
    structure = occupation.to_structure()
    if vacuum_width(structure) is None:
        return frozenset()
    frame = occupation.frame
    heights = 1 / np.linalg.norm(np.linalg.inv(frame.lattice), axis=0)
    ions = np.sort(frame.frac_coords[list(occupation.occupied())] % 1.0, axis=0)
    gaps = np.diff(ions, axis=0, append=ions[:1] + 1.0)
    inside = np.zeros(len(frame), dtype=bool)
    for axis, below in enumerate(gaps.argmax(axis=0)):
        width = gaps[below, axis] * heights[axis]
        if width > LEAST_VACUUM:
            above = (frame.frac_coords[:, axis] - ions[below, axis]) % 1.0 * heights[axis]
            inside |= (above > _SAME_HEIGHT) & (above < width - _SAME_HEIGHT)
    return frozenset(np.flatnonzero(inside).tolist())
