"""O-O dimers: neighbouring oxygen brought together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from .composition import OXIDATION_STATES
from .frame import OCTAHEDRA
from .occupation import Occupation
from .oxygen_environment import OxygenClass, oxygen_environments
from .symmetry import site_permutations

#: Lengths that an O-O dimer can be given, Å: from below O2 (1.21) to above a peroxide (1.45),
#: where a pair begins to count as close.
MIN_LENGTH, MAX_LENGTH = 1.15, 2.0
#: O farther apart than this are no neighbours in a close-packed oxide (about 2.5 to 3.1), Å.
MAX_NEIGHBOUR_DISTANCE = 3.5
#: Longest bond between O and a cation that counts, Å.
MAX_BOND = 2.6


@dataclass(frozen=True)
class NeighbouringOxygen:
    """Two O of a frame that could form a dimer.

    Attributes
    ----------
    sites
        The two anion sites, ascending.
    distance
        Shortest distance on the frame, Å.
    o_classes
        Oxygen classes of the two.
    vacancies
        Empty octahedra that have both as corners.
    degeneracy
        Number of pairs that are the same by symmetry, this one included.
    """

    sites: tuple[int, int]
    distance: float
    o_classes: tuple[OxygenClass, OxygenClass]
    vacancies: tuple[int, ...]
    degeneracy: int


@dataclass(frozen=True)
class OxygenDimer:
    """A structure with an O-O dimer.

    Attributes
    ----------
    structure
        The structure; only the two O have moved.
    atoms
        The two O.
    length
        O-O distance, Å.
    moved
        Distance that either of the two has moved, Å.
    kept, lost
        Cations (atom indices, ascending) within bonding distance of either O before: those that
        still are within it of the same O, and those that are not.
    """

    structure: Structure
    atoms: tuple[int, int]
    length: float
    moved: float
    kept: tuple[tuple[int, ...], tuple[int, ...]]
    lost: tuple[tuple[int, ...], tuple[int, ...]]


def neighbouring_oxygen(
    occupation: Occupation, max_distance: float = MAX_NEIGHBOUR_DISTANCE
) -> tuple[NeighbouringOxygen, ...]:
    """All symmetry-distinct pairs of neighbouring O, those around most vacancies first.

    Parameters
    ----------
    occupation
        Occupation to look in.
    max_distance
        Largest distance on the frame, Å.

    Raises
    ------
    ValueError
        If the distance is not positive.

    Examples
    --------
    A missing Li of the TM layer makes its six O candidates; twelve of their pairs are edges of
    the empty octahedron:

    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> pristine = build_pristine("Li2MnO3", min_atoms=72, max_atoms=72).occupation
    >>> charged = pristine.with_species({pristine.sites_of("Li")[0]: None})
    >>> sum(p.degeneracy for p in neighbouring_oxygen(charged) if p.vacancies)
    12
    """
    if not max_distance > 0:
        raise ValueError(f"max_distance must be positive, got {max_distance} Å")
    frame = occupation.frame
    classes = {e.site: e.o_class for e in oxygen_environments(occupation)}
    oxygen = [site for site in classes if occupation.species[site] == "O"]
    positions = frame.frac_coords[oxygen]
    distances = Lattice(frame.lattice).get_all_distances(positions, positions)
    empty = [site for kind in OCTAHEDRA for site in occupation.sites_of(None, kind)]
    corners = {site: {corner.site for corner in frame.vertices[site]} for site in empty}
    permutations = site_permutations(occupation)
    orbits: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for i, j in np.argwhere(np.triu(distances <= max_distance, 1)):
        pair = oxygen[i], oxygen[j]
        images = np.sort(permutations[:, pair], axis=1).tolist()
        orbits.setdefault(min(map(tuple, images)), []).append(pair)
    index = {site: i for i, site in enumerate(oxygen)}
    pairs = [
        NeighbouringOxygen(
            sites=orbit[0],
            distance=float(distances[index[orbit[0][0]], index[orbit[0][1]]]),
            o_classes=(classes[orbit[0][0]], classes[orbit[0][1]]),
            vacancies=tuple(site for site in empty if corners[site].issuperset(orbit[0])),
            degeneracy=len(orbit),
        )
        for orbit in orbits.values()
    ]
    return tuple(sorted(pairs, key=lambda p: (-len(p.vacancies), round(p.distance, 3), p.sites)))


def form_dimer(
    structure: Structure,
    atoms: tuple[int, int],
    length: float,
    direction: Sequence[float] | NDArray[np.float64] | None = None,
) -> OxygenDimer:
    """Bring two neighbouring O to a given length, symmetric about their midpoint.

    Nothing else moves. Of the periodic images of the second O the nearest is meant.

    Parameters
    ----------
    structure
        Ideal or relaxed structure.
    atoms
        The two O.
    length
        O-O distance of the dimer, Å; 1.15 to 2.0.
    direction
        Direction of the dimer in Cartesian coordinates, shape (3,), any length and sign; the
        direction of the pair as it is if None.

    Raises
    ------
    ValueError
        If the atoms are not two neighbouring O, the length is out of bounds, or the direction is
        no direction.

    Examples
    --------
    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> occupation = build_pristine("Li2MnO3", min_atoms=72, max_atoms=72).occupation
    >>> pair = neighbouring_oxygen(occupation)[0]
    >>> atoms = tuple(occupation.occupied().index(site) for site in pair.sites)
    >>> dimer = form_dimer(occupation.to_structure(), atoms, 1.30)
    >>> round(dimer.length, 6), round(dimer.moved, 2)
    (1.3, 0.71)
    """
    if not MIN_LENGTH <= length <= MAX_LENGTH:
        raise ValueError(
            f"a dimer of {length} Å is out of bounds; allowed {MIN_LENGTH} to {MAX_LENGTH} Å "
            "(O2 1.21, superoxide 1.33, peroxide 1.45)"
        )
    first, second = atoms
    for atom in atoms:
        if not 0 <= atom < len(structure) or structure[atom].specie.symbol != "O":
            raise ValueError(f"atom {atom} is not an O of the structure")
    distance, image = structure[first].distance_and_image(structure[second])
    if first == second or distance > MAX_NEIGHBOUR_DISTANCE:
        raise ValueError(
            f"atoms {first} and {second} are no neighbours ({distance:.2f} Å apart, "
            f"allowed {MAX_NEIGHBOUR_DISTANCE} Å)"
        )
    start = structure[first].coords
    separation = structure[second].coords + image @ structure.lattice.matrix - start
    along = separation if direction is None else np.asarray(direction, dtype=np.float64)
    if along.shape != (3,) or not np.all(np.isfinite(along)) or not np.linalg.norm(along) > 0:
        raise ValueError(f"a direction has three finite components, not all zero: {direction}")
    # The sign that moves the atoms less.
    along = along / np.linalg.norm(along) * (1.0 if along @ separation >= 0 else -1.0)
    shift = (separation - length * along) / 2
    moved = structure.copy()
    for atom, step in ((first, shift), (second, -shift)):
        moved.translate_sites([atom], step, frac_coords=False, to_unit_cell=False)
    before, after = ([_cations(s, atom) for atom in atoms] for s in (structure, moved))
    return OxygenDimer(
        structure=moved,
        atoms=(first, second),
        length=float(moved.get_distance(first, second)),
        moved=float(np.linalg.norm(shift)),
        kept=(_atoms(before[0] & after[0]), _atoms(before[1] & after[1])),
        lost=(_atoms(before[0] - after[0]), _atoms(before[1] - after[1])),
    )


def _cations(structure: Structure, atom: int) -> set[tuple[int, tuple[int, ...]]]:
    """Cations within bonding distance of an atom, with the image relative to its home cell."""
    return {
        (neighbour.index, tuple(int(x) for x in neighbour.image))
        for neighbour in structure.get_neighbors(structure[atom], MAX_BOND)
        if OXIDATION_STATES.get(neighbour.specie.symbol, 1) > 0
    }


def _atoms(cations: set[tuple[int, tuple[int, ...]]]) -> tuple[int, ...]:
    return tuple(sorted(atom for atom, _ in cations))
