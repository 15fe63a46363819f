"""Layer gliding from O3 to O1 stacking."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from .assignment import Assignment, in_frame_cell
from .frame import Frame, SiteKind, layered_frame
from .stacking import Stacking

#: Shifts of a slab against the one below that turn O3 into O1, in a1 and a2: the three of the form
#: <1-10>/3, of length a / sqrt(3). They carry the lower anions of a slab from one hollow of the
#: anions below to the next over the bridge between; the opposite shifts lead over the anions
#: themselves (prismatic stacking).
GLIDES = ((1 / 3, -1 / 3), (1 / 3, 2 / 3), (-2 / 3, -1 / 3))
#: Shifts of the ions of a Li layer against the slab below that go with them: to the octahedra of
#: O1, by way of a tetrahedron, on the left of the glide (on the right would be its mirror image).
_LITHIUM_SHIFTS = ((2 / 3, 1 / 3), (-1 / 3, 1 / 3), (-1 / 3, -2 / 3))
#: What a glide adds to the repeat vector of O1, in a1 and a2.
_EXTRA_REPEATS = ((0, 0), (0, 1), (-1, 0))


@dataclass(frozen=True)
class GlidePath:
    """Structures along a rigid glide from O3 to O1.

    Attributes
    ----------
    structures
        From O3 to O1 at equal steps, in the cell vectors of the frame, ions in the same order,
        positions not wrapped; the middle one is the saddle, with the slabs bridging one another.
    shift
        Shift of every slab against the one below at the end, shape (3,), Å.
    frame
        O1 frame of the last structure.
    """

    structures: tuple[Structure, ...]
    shift: NDArray[np.float64]
    frame: Frame

    @property
    def saddle(self) -> Structure:
        """The structure half way."""
        return self.structures[len(self.structures) // 2]


def glide_o3_to_o1(
    structure: Structure, assignment: Assignment, *, n_images: int = 7, direction: int = 0
) -> GlidePath:
    """Glide every slab of an O3 structure by <1-10>/3 against the one below.

    Slabs are rigid and keep their distances. All slabs move at once, so that the cell vectors
    that lead to other slabs shear. Ions of a Li layer go along to the octahedra of O1.

    Parameters
    ----------
    structure
        O3 structure, ideal or relaxed.
    assignment
        Its assignment.
    n_images
        Structures on the path, both ends included; odd, so that the saddle is one of them.
    direction
        Which of the three glides, 0 to 2, 120 degrees apart. They are the same in an undecorated
        crystal, not with an ordered TM layer.

    Raises
    ------
    ValueError
        If the frame is not O3, an ion sits on a tetrahedron or on no site, `n_images` is even or
        less than 3, or the direction is not 0 to 2.

    Examples
    --------
    >>> from lrlo.structures.assignment import assign
    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> occupation = build_pristine("LiCoO2", min_atoms=12, max_atoms=12).occupation
    >>> structure = occupation.to_structure()
    >>> path = glide_o3_to_o1(structure, assign(structure, occupation.frame))
    >>> end = assign(path.structures[-1], path.frame)
    >>> end.frame.stacking.value, round(float(end.displacements.max()), 6)
    ('O1', 0.0)
    """
    frame = assignment.frame
    if frame.label != Stacking.O3.value:
        raise ValueError(f"only O3 stacking glides to O1; this frame is {frame.label}")
    if n_images < 3 or n_images % 2 == 0:
        raise ValueError(f"n_images must be odd and at least 3, got {n_images}")
    if direction not in range(3):
        raise ValueError(f"the glide directions are 0, 1 and 2, got {direction}")
    structure = in_frame_cell(structure, assignment)
    matrix = np.array(frame.matrix)
    lattice = np.array(structure.lattice.matrix)
    in_plane = np.linalg.solve(matrix, lattice)[:2]
    shift = np.array(GLIDES[direction]) @ in_plane
    lithium_shift = np.array(_LITHIUM_SHIFTS[direction]) @ in_plane
    slabs, in_gap = _slabs(structure, assignment)
    moves = slabs[:, None] * shift + in_gap[:, None] * lithium_shift

    structures = [
        Structure(
            Lattice(lattice + share * np.outer(matrix[:, 2], shift)),
            structure.species_and_occu,
            np.array(structure.cart_coords) + share * moves,
            coords_are_cartesian=True,
            site_properties=structure.site_properties,
        )
        for share in np.linspace(0, 1, n_images)
    ]
    repeat = np.eye(3, dtype=np.int64)
    repeat[2, :2] = _EXTRA_REPEATS[direction]
    final = layered_frame(
        Stacking.O1, matrix @ repeat, a=frame.a, tm_slab=frame.tm_slab, li_gap=frame.li_gap
    )
    return GlidePath(tuple(structures), shift, final)


def _slabs(
    structure: Structure, assignment: Assignment
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Number of the slab that every ion goes with, and whether it lies in the Li layer above."""
    frame = assignment.frame
    sites = []
    for atom, site in enumerate(assignment.sites):
        place = "no site" if site is None else frame.kinds[site].value
        if site is None or frame.kinds[site] in (SiteKind.TM_TET, SiteKind.LI_TET):
            raise ValueError(
                f"atom {atom} ({assignment.species[atom]}) is on {place}: layers that "
                "glide rigidly need every ion on an octahedron or anion site"
            )
        sites.append(site)
    ideal = frame.frac_coords[sites]
    images = np.round(np.array(structure.frac_coords) - assignment.drift - ideal)
    heights = ((ideal + images) @ np.array(frame.matrix))[:, 2]
    in_gap = np.array([frame.kinds[site] is SiteKind.LI_OCT for site in sites])
    # The lower anions of a slab lie at whole numbers.
    return np.floor(heights + 1e-6).astype(np.int64), in_gap
