"""Layer spacing, in-plane area and volume of a relaxed layered structure."""

from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure

from .assignment import Assignment


@dataclass(frozen=True)
class LayerGeometry:
    """Size of a layered crystal per formula unit.

    Attributes
    ----------
    spacing
        Mean distance from one TM layer to the next, Å.
    in_plane_area
        Area of a layer per site of the TM layer, Å^2.
    volume
        Volume per formula unit (one site of the TM layer), Å^3.
    """

    spacing: float
    in_plane_area: float
    volume: float


def layer_geometry(structure: Structure, assignment: Assignment) -> LayerGeometry:
    """Measure the layers of a relaxed structure.

    The layer plane is spanned by the strained primitive in-plane vectors of the frame, so that
    the result does not depend on the vectors of the cell.

    Parameters
    ----------
    structure
        Structure that was assigned.
    assignment
        Its assignment to a layered frame.

    Raises
    ------
    ValueError
        If the frame has no layers.

    Examples
    --------
    >>> from lrlo.structures.assignment import assign
    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> occupation = build_pristine("LiCoO2", min_atoms=48, max_atoms=48).occupation
    >>> structure = occupation.to_structure()
    >>> round(layer_geometry(structure, assign(structure, occupation.frame)).spacing, 3)
    4.75
    """
    frame = assignment.frame
    if not frame.n_layers:
        raise ValueError(f"a frame of {frame.label} has no layers to measure")
    in_frame = assignment.cell_map @ np.array(structure.lattice.matrix)
    primitive = np.linalg.solve(np.array(frame.matrix), in_frame)
    area = float(np.linalg.norm(np.cross(primitive[0], primitive[1])))
    volume = abs(float(np.linalg.det(primitive))) / frame.prototype.n_layers
    return LayerGeometry(spacing=volume / area, in_plane_area=area, volume=volume)
