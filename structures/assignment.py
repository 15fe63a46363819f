"""Map the atoms of a relaxed structure back to the sites of a frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.linalg import polar
from scipy.optimize import linear_sum_assignment

from .composition import ANIONS
from .frame import Frame, SiteKind
from .occupation import Occupation, is_transition_metal

#: Farther than this from every free site, an atom is reported as unexplained. Octahedra and
#: neighbouring tetrahedra lie about 1.75 Å apart, so this never overrules a nearest site.
MAX_DISPLACEMENT = 1.3
MAX_STRAIN = 0.25


class AssignmentError(ValueError):
    """The structure is not a deformed supercell of the frame."""


@dataclass(frozen=True)
class Assignment:
    """Which site every atom sits on.

    Attributes
    ----------
    frame
        The ideal sites.
    sites
        Site of every atom; None where no site explains the atom.
    displacements
        Distance of every atom from its site (from the nearest site of its sublattice where it
        has none) after drift and strain are removed, Å, shape (n_atoms,).
    drift
        Rigid translation of the structure against the frame, fractional, shape (3,).
    strain
        Homogeneous strain of the cell against the frame (right stretch minus one), shape (3, 3).
    species
        Element of every atom.
    """

    frame: Frame
    sites: tuple[int | None, ...]
    displacements: NDArray[np.float64]
    drift: NDArray[np.float64]
    strain: NDArray[np.float64]
    species: tuple[str, ...]

    @property
    def unexplained(self) -> tuple[int, ...]:
        """Atoms that no site explains."""
        return tuple(atom for atom, site in enumerate(self.sites) if site is None)

    @property
    def occupation(self) -> Occupation:
        """Species on the sites; sites without an atom are empty."""
        species: list[str | None] = [None] * len(self.frame)
        for atom, site in enumerate(self.sites):
            if site is not None:
                species[site] = self.species[atom]
        return Occupation(self.frame, tuple(species))

    def atom_on(self, site: int) -> int:
        """Index of the atom on a site.

        Raises
        ------
        KeyError
            If the site is empty.
        """
        try:
            return self.sites.index(site)
        except ValueError:
            raise KeyError(f"site {site} holds no atom") from None


def assign(
    structure: Structure, frame: Frame, max_displacement: float = MAX_DISPLACEMENT
) -> Assignment:
    """Assign atoms to sites with minimum total squared displacement under periodic boundaries.

    Anions go to anion sites, every other ion to any cation site. The cell vectors of the
    structure must correspond one by one to those of the frame (strained and rotated as they may
    be). Rigid drift is found from the anions; among translations that fit the anions equally
    well the one that keeps most TM on ``tm_oct`` is meant.

    Parameters
    ----------
    structure
        Structure to read, n_atoms atoms.
    frame
        Frame of the same supercell.
    max_displacement
        Atoms farther from every free site are left unexplained, Å.

    Raises
    ------
    AssignmentError
        If the cell is strained by more than 25 % against the frame, or an ion has no finite
        position.
    """
    lattice = np.array(structure.lattice.matrix)
    frac = np.array(structure.frac_coords)
    if not np.all(np.isfinite(frac)):
        raise AssignmentError("the structure has positions that are not finite numbers")
    strain = polar(np.linalg.solve(frame.lattice, lattice))[1] - np.eye(3)
    if np.abs(strain).max() > MAX_STRAIN:
        raise AssignmentError(
            f"the cell deviates from the frame by a strain of {np.abs(strain).max():.2f} "
            f"(allowed {MAX_STRAIN}); is it the same supercell, with vectors in the same order?"
        )
    species = tuple(site.specie.symbol for site in structure)
    anion_atoms = np.array([i for i, s in enumerate(species) if s in ANIONS], dtype=int)
    cation_atoms = np.array([i for i, s in enumerate(species) if s not in ANIONS], dtype=int)
    tm_atoms = np.array([i for i, s in enumerate(species) if is_transition_metal(s)], dtype=int)
    anion_sites = frame.sites(SiteKind.ANION)
    cation_sites = np.setdiff1d(np.arange(len(frame)), anion_sites)

    drift = _drift(frame, lattice, frac, anion_atoms, tm_atoms)
    sites: list[int | None] = [None] * len(species)
    displacements = np.zeros(len(species))
    for atoms, allowed in ((anion_atoms, anion_sites), (cation_atoms, cation_sites)):
        distance = _distances(frac[atoms] - drift, frame.frac_coords[allowed], lattice)
        # One dummy column per atom stands for "unexplained" at the largest allowed cost.
        cost = np.minimum(distance**2, 4 * max_displacement**2)
        dummy = np.full((len(atoms), len(atoms)), max_displacement**2)
        rows, columns = linear_sum_assignment(np.hstack([cost, dummy]))
        for row, column in zip(rows, columns, strict=True):
            if column < len(allowed):
                sites[atoms[row]] = int(allowed[column])
                displacements[atoms[row]] = distance[row, column]
            else:
                displacements[atoms[row]] = distance[row].min()
    return Assignment(frame, tuple(sites), displacements, drift, strain, species)


def _distances(
    first: NDArray[np.float64], second: NDArray[np.float64], lattice: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Minimum-image distances for compact (reduced) cells, shape (n_first, n_second), Å."""
    difference = first[:, None] - second[None]
    difference -= np.round(difference)
    return np.linalg.norm(difference @ lattice, axis=-1)


def _drift(
    frame: Frame,
    lattice: NDArray[np.float64],
    frac: NDArray[np.float64],
    anion_atoms: NDArray[np.int64],
    tm_atoms: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Rigid fractional translation of the structure against the frame."""
    sites = frame.frac_coords[frame.sites(SiteKind.ANION)]
    tm_oct = frame.frac_coords[frame.sites(SiteKind.TM_OCT)]
    if not len(anion_atoms):
        raise AssignmentError("the structure has no anion to align with the frame")

    def refined(drift: NDArray[np.float64]) -> tuple[float, float, NDArray[np.float64]]:
        for _ in range(3):
            difference = (frac[anion_atoms] - drift)[:, None] - sites[None]
            difference -= np.round(difference)
            nearest = np.linalg.norm(difference @ lattice, axis=-1).argmin(axis=1)
            drift = drift + difference[np.arange(len(nearest)), nearest].mean(axis=0)
        anion_error = _distances(frac[anion_atoms] - drift, sites, lattice).min(axis=1)
        tm_error = _distances(frac[tm_atoms] - drift, tm_oct, lattice).min(axis=1)
        misplaced = float((tm_error > 1.0).mean()) if len(tm_atoms) else 0.0
        return misplaced, float((anion_error**2).mean()), drift

    unmoved = refined(np.zeros(3))
    if unmoved[0] < 0.5 and unmoved[1] < 0.5**2:
        return unmoved[2]
    shifts = frac[anion_atoms[0]] - sites
    return min((refined(shift) for shift in shifts), key=lambda r: (round(r[0], 2), r[1]))[2]


@dataclass(frozen=True)
class SitePositions:
    """Where the sites of the frame lie in a relaxed structure.

    A site's position is the centroid of the actual positions of its coordinating anions, so it
    follows local distortion; where an anion is missing its ideal position stands in.

    Attributes
    ----------
    structure
        The relaxed structure.
    assignment
        Its assignment.
    """

    structure: Structure
    assignment: Assignment

    def frac_coords(self, site: int, image: tuple[int, int, int] = (0, 0, 0)) -> NDArray:
        """Fractional position of a cation site in a lattice image, shape (3,)."""
        frame = self.assignment.frame
        corners = []
        for corner in frame.vertices[site]:
            ideal = frame.frac_coords[corner.site] + self.assignment.drift
            if corner.site in self.assignment.sites:
                atom = self.assignment.atom_on(corner.site)
                actual = np.array(self.structure.frac_coords[atom])
                ideal = actual - np.round(actual - ideal)
            corners.append(ideal + corner.image)
        return np.mean(corners, axis=0) + image

    def without(self, sites: set[int]) -> Structure:
        """Copy of the structure with the ions on some sites removed."""
        removed = self.structure.copy()
        removed.remove_sites([self.assignment.atom_on(site) for site in sites])
        return removed
