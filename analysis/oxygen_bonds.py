"""Every oxygen of a structure with its class, its TM-O bonds and its non-bonding directions."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from ..structures.assignment import Assignment, assign
from ..structures.composition import ANIONS
from ..structures.frame import Frame
from ..structures.occupation import is_transition_metal
from ..structures.oxygen_environment import OxygenClass
from .coordination import TM_O_BOND

#: A TM on a neighbouring octahedron that is farther than this has no bond left to the O, Å.
BROKEN_BOND = 3.2
#: Singular value of the bond directions below which they count as one axis: two TM on opposite
#: sides of an O (to within 40 degrees) engage one and the same p orbital.
_SAME_AXIS = 0.5


@dataclass(frozen=True)
class TmNeighbour:
    """A TM bonded to an oxygen.

    Attributes
    ----------
    atom
        Index of the TM.
    vectors
        From the oxygen to every periodic image of the TM that it bonds, shape (n_images, 3), Å.
    """

    atom: int
    vectors: NDArray[np.float64]

    @property
    def length(self) -> float:
        """Mean bond length over the images, Å."""
        return float(np.linalg.norm(self.vectors, axis=1).mean())


@dataclass(frozen=True)
class BondedOxygen:
    """An oxygen and the TM around it.

    Attributes
    ----------
    atom
        Index of the oxygen.
    n_tm
        TM among the six octahedral neighbours (with a frame), or within the cutoff (without).
    neighbours
        The TM with a bond to it.
    """

    atom: int
    n_tm: int
    neighbours: tuple[TmNeighbour, ...]

    @property
    def o_class(self) -> OxygenClass:
        """Class by the number of TM neighbours."""
        return OxygenClass(f"O{6 - min(self.n_tm, 6)}")

    @property
    def nonbonding_directions(self) -> NDArray[np.float64]:
        """Directions at right angles to all TM-O bonds, orthonormal, shape (n_directions, 3).

        A 2p orbital along one of them has no sigma overlap with any TM. O4 (two bonds near 90
        degrees) has one, which is the Li-O-Li axis; O5 has two, O6 three, O3 none. They follow
        the actual bonds, so they stay defined when the Li is gone.
        """
        vectors = [vector for tm in self.neighbours for vector in tm.vectors]
        if not vectors:
            return np.eye(3)
        units = np.array(vectors) / np.linalg.norm(vectors, axis=1)[:, None]
        _, sizes, axes = np.linalg.svd(units, full_matrices=True)
        return axes[int((sizes > _SAME_AXIS).sum()) :]


def bonded_oxygens(structure: Structure, frame: Frame | None = None) -> list[BondedOxygen]:
    """Oxygens of a structure in atom order.

    Parameters
    ----------
    structure
        Structure to read.
    frame
        Frame of its cell. With it, classes and bonds are those of the six octahedral neighbours
        (TM on tetrahedra are no members), and oxygen that no site explains is left out. Without
        it, a TM within 2.6 Å counts.

    Raises
    ------
    AssignmentError
        If the structure is no deformed supercell of the frame.
    """
    images = _tm_images(structure)
    if frame is None:
        return [
            _bonded(
                atom,
                {
                    tm: [v for v in vectors if np.linalg.norm(v) <= TM_O_BOND]
                    for tm, vectors in images.get(atom, {}).items()
                },
            )
            for atom, site in enumerate(structure)
            if site.specie.symbol in ANIONS
        ]
    assignment = assign(structure, frame)
    return [
        _from_frame(atom, octahedral, images.get(atom, {}))
        for atom, octahedral in _octahedral_tm(assignment)
    ]


def _octahedral_tm(assignment: Assignment) -> Iterable[tuple[int, Counter[int]]]:
    """Every oxygen on a site, with its octahedral TM and how often each is a neighbour."""
    atom_on = {site: atom for atom, site in enumerate(assignment.sites) if site is not None}
    for atom, site in enumerate(assignment.sites):
        if site is None or assignment.species[atom] not in ANIONS:
            continue
        around = [atom_on.get(other) for other in assignment.frame.cations_of_anion[site]]
        yield (
            atom,
            Counter(
                other
                for other in around
                if other is not None and is_transition_metal(assignment.species[other])
            ),
        )


def _from_frame(
    atom: int, octahedral: Counter[int], images: dict[int, list[NDArray[np.float64]]]
) -> BondedOxygen:
    bonds = {tm: images.get(tm, [])[:count] for tm, count in octahedral.items()}
    return BondedOxygen(atom, octahedral.total(), _bonded(atom, bonds).neighbours)


def _bonded(atom: int, bonds: dict[int, list[NDArray[np.float64]]]) -> BondedOxygen:
    neighbours = tuple(
        TmNeighbour(tm, np.array(vectors)) for tm, vectors in sorted(bonds.items()) if vectors
    )
    return BondedOxygen(atom, sum(len(tm.vectors) for tm in neighbours), neighbours)


def _tm_images(structure: Structure) -> dict[int, dict[int, list[NDArray[np.float64]]]]:
    """Vectors from every oxygen to the images of every TM around it, shortest first, Å."""
    symbols = [site.specie.symbol for site in structure]
    centres, others, shifts, distances = structure.get_neighbor_list(BROKEN_BOND)
    found: dict[int, dict[int, list[NDArray[np.float64]]]] = {}
    for index in np.argsort(distances, kind="stable"):
        oxygen, tm = int(centres[index]), int(others[index])
        if symbols[oxygen] in ANIONS and is_transition_metal(symbols[tm]):
            step = structure.frac_coords[tm] + shifts[index] - structure.frac_coords[oxygen]
            vector = structure.lattice.get_cartesian_coords(step)
            found.setdefault(oxygen, {}).setdefault(tm, []).append(vector)
    return found
