"""Map the atoms of a relaxed structure back to the sites of a frame."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from pymatgen.optimization.neighbors import find_points_in_spheres
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from .alignment import MAX_STRAIN, AssignmentError, align, cell_strain
from .composition import ANIONS
from .frame import Frame, SiteKind
from .occupation import Occupation, is_transition_metal

__all__ = [
    "MAX_DISPLACEMENT",
    "MAX_STRAIN",
    "Assignment",
    "AssignmentError",
    "SitePositions",
    "assign",
    "in_frame_cell",
]

#: Farther than this from every free site, an atom is reported as unexplained. Octahedra and
#: neighbouring tetrahedra lie about 1.75 Å apart, so this never overrules a nearest site.
MAX_DISPLACEMENT = 1.3
#: A cell is degenerate where its volume is this share of the product of its edges.
_FLAT = 1e-9


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
        Rigid translation of the structure against the frame, fractional in the cell vectors of
        the frame, shape (3,).
    strain
        Homogeneous strain of the cell against the frame (right stretch minus one), shape (3, 3).
    species
        Element of every atom.
    cell_map
        Cell vectors of the frame (rows) in those of the structure, integers of determinant 1,
        shape (3, 3); the unit matrix where the vectors correspond one by one.
    """

    frame: Frame
    sites: tuple[int | None, ...]
    displacements: NDArray[np.float64]
    drift: NDArray[np.float64]
    strain: NDArray[np.float64]
    species: tuple[str, ...]
    cell_map: NDArray[np.int64] = field(default_factory=lambda: np.eye(3, dtype=np.int64))

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

    @cached_property
    def atoms(self) -> dict[int, int]:
        """Atom on every site that holds one."""
        return {site: atom for atom, site in enumerate(self.sites) if site is not None}

    def atom_on(self, site: int) -> int:
        """Index of the atom on a site.

        Raises
        ------
        KeyError
            If the site is empty.
        """
        try:
            return self.atoms[site]
        except KeyError:
            raise KeyError(f"site {site} holds no atom") from None


def assign(
    structure: Structure, frame: Frame, max_displacement: float = MAX_DISPLACEMENT
) -> Assignment:
    """Assign atoms to sites with minimum total squared displacement under periodic boundaries.

    Anions go to anion sites, every other ion to any cation site. The cell may be strained,
    rotated, and given by any vectors of its lattice (:attr:`Assignment.cell_map` tells which);
    rigid drift is found from the anions; see :func:`~lrlo.structures.alignment.align`. Atoms keep
    their order.

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
        If the cell is no supercell of the frame with at most 25 % strain, is left-handed or
        degenerate, if a site has a partial occupancy or no finite position, or if there is no
        anion.

    Examples
    --------
    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> occupation = build_pristine("LiCoO2", min_atoms=48, max_atoms=48).occupation
    >>> reduced = occupation.to_structure().get_reduced_structure("niggli")
    >>> assign(reduced, occupation.frame).occupation == occupation
    True
    """
    species = _species(structure)
    frac = np.array(structure.frac_coords)
    lattice = np.array(structure.lattice.matrix)
    _check_geometry(frac, lattice)
    anion_atoms = np.array([i for i, s in enumerate(species) if s in ANIONS], dtype=int)
    cation_atoms = np.array([i for i, s in enumerate(species) if s not in ANIONS], dtype=int)
    tm_atoms = np.array([i for i, s in enumerate(species) if is_transition_metal(s)], dtype=int)
    if not len(anion_atoms):
        raise AssignmentError("the structure has no anion to align with the frame")
    anion_sites = frame.sites(SiteKind.ANION)
    cation_sites = np.setdiff1d(np.arange(len(frame)), anion_sites)

    alignment = align(frame, lattice, frac[anion_atoms], frac[tm_atoms])
    in_frame = alignment.cell_map @ lattice
    positions = _in_vectors(frac, alignment.cell_map) - alignment.drift
    sites: list[int | None] = [None] * len(species)
    displacements = np.zeros(len(species))
    for atoms, allowed in ((anion_atoms, anion_sites), (cation_atoms, cation_sites)):
        targets = frame.frac_coords[allowed]
        chosen, distances = match(positions[atoms], targets, in_frame, max_displacement)
        displacements[atoms] = distances
        for atom, column in zip(atoms.tolist(), chosen.tolist(), strict=True):
            sites[atom] = int(allowed[column]) if column >= 0 else None
    return Assignment(
        frame=frame,
        sites=tuple(sites),
        displacements=displacements,
        drift=alignment.drift,
        strain=cell_strain(in_frame, frame.lattice),
        species=species,
        cell_map=alignment.cell_map,
    )


def _species(structure: Structure) -> tuple[str, ...]:
    """Element of every site.

    Raises
    ------
    AssignmentError
        If a site is occupied in part or by several species.
    """
    if not structure.is_ordered:
        mixed = [f"{i} ({site.species})" for i, site in enumerate(structure) if not site.is_ordered]
        raise AssignmentError(
            f"{len(mixed)} sites have partial occupancies, e.g. site {', '.join(mixed[:3])}; atoms "
            "are assigned one by one: choose one ordered cell first, with lrlo build or "
            "pymatgen's OrderDisorderedStructureTransformation"
        )
    return tuple(site.specie.symbol for site in structure)


def _check_geometry(frac: NDArray[np.float64], lattice: NDArray[np.float64]) -> None:
    """Refuse positions that are no numbers, and left-handed and degenerate cells."""
    if not (np.all(np.isfinite(frac)) and np.all(np.isfinite(lattice))):
        raise AssignmentError("the structure has positions or cell vectors that are not finite")
    volume = float(np.linalg.det(lattice))
    if abs(volume) <= _FLAT * np.linalg.norm(lattice, axis=1).prod():
        raise AssignmentError(
            f"the cell of the structure is degenerate (volume {volume:.3g} Å^3): its vectors "
            f"{lattice.round(3).tolist()} lie nearly in a plane"
        )
    if volume < 0:
        raise AssignmentError(
            f"the cell vectors of the structure are left-handed (triple product {volume:.1f} Å^3): "
            "exchange two of them together with the fractional coordinates along them"
        )


def match(
    positions: NDArray[np.float64],
    sites: NDArray[np.float64],
    lattice: NDArray[np.float64],
    max_distance: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One-to-one match of positions with sites of least total squared distance.

    A position that stays without a site costs `max_distance` squared. The match is exact: only
    pairs that no least match can contain, those farther apart, are left out.

    Parameters
    ----------
    positions, sites
        Fractional coordinates, shapes (n, 3) and (m, 3).
    lattice
        Cell vectors (rows), shape (3, 3), Å.
    max_distance
        Largest distance of a pair, Å.

    Returns
    -------
    chosen
        Site of every position, -1 for none, shape (n,).
    distances
        Distance from that site, from the nearest site where there is none, Å, shape (n,).
    """
    n, m = len(positions), len(sites)
    if not n:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    rows, columns, distance = _pairs(positions, sites, lattice, max_distance)
    # Column m + i leaves position i without a site. Weights start at 1 because the algorithm
    # knows no edges of zero weight.
    alone = np.arange(n)
    weights = np.concatenate([distance**2, np.full(n, max_distance**2)]) + 1.0
    edges = (np.concatenate([rows, alone]), np.concatenate([columns, m + alone]))
    graph = csr_array((weights, edges), shape=(n, m + n))
    _, matched = min_weight_full_bipartite_matching(graph)
    distances = np.sqrt(np.maximum(graph[alone, matched] - 1.0, 0.0))
    lost = np.flatnonzero(matched >= m)
    distances[lost] = _nearest_distance(positions[lost], sites, lattice, max_distance)
    return np.where(matched < m, matched, -1).astype(np.int64), distances


def _pairs(
    positions: NDArray[np.float64],
    sites: NDArray[np.float64],
    lattice: NDArray[np.float64],
    cutoff: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(position, site, distance) of the pairs within a cutoff, each with its nearest image."""
    rows, columns, _, distance = find_points_in_spheres(
        np.ascontiguousarray(sites @ lattice),
        np.ascontiguousarray(positions % 1.0 @ lattice),  # far from the cell the search is slow
        float(cutoff),
        np.ones(3, dtype=np.int64),
        np.ascontiguousarray(lattice),
    )
    order = np.lexsort((distance, columns, rows))
    rows, columns, distance = rows[order], columns[order], distance[order]
    nearest = np.flatnonzero(np.diff(rows, prepend=-1) | np.diff(columns, prepend=-1))
    return rows[nearest], columns[nearest], distance[nearest]


def _nearest_distance(
    positions: NDArray[np.float64],
    sites: NDArray[np.float64],
    lattice: NDArray[np.float64],
    cutoff: float,
) -> NDArray[np.float64]:
    """Distance of every position from the nearest site, searched for in growing spheres."""
    result = np.full(len(positions), np.inf)
    while np.any(unknown := np.isinf(result)):
        rows, _, distance = _pairs(positions[unknown], sites, lattice, cutoff)
        found = result[unknown]
        np.minimum.at(found, rows, distance)
        result[unknown] = found
        cutoff *= 2
    return result


def _in_vectors(frac: NDArray[np.float64], cell_map: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fractional coordinates in other vectors of the same lattice (rows of `cell_map`)."""
    return frac @ np.rint(np.linalg.inv(cell_map))


def in_frame_cell(structure: Structure, assignment: Assignment) -> Structure:
    """The same crystal with cell vectors that correspond one by one to those of the frame.

    Parameters
    ----------
    structure
        Structure that was assigned.
    assignment
        Its assignment.

    Returns
    -------
    structure
        Copy with the same atoms in the same order and place.
    """
    return Structure(
        assignment.cell_map @ structure.lattice.matrix,
        structure.species_and_occu,
        _in_vectors(np.array(structure.frac_coords), assignment.cell_map),
        charge=structure.charge,
        site_properties=structure.site_properties,
    )


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

    @cached_property
    def _atoms_in_frame(self) -> NDArray[np.float64]:
        """Fractional positions of the atoms in the cell vectors of the frame."""
        return _in_vectors(np.array(self.structure.frac_coords), self.assignment.cell_map)

    def frac_coords(self, site: int, image: tuple[int, int, int] = (0, 0, 0)) -> NDArray:
        """Fractional position of a cation site in a lattice image, shape (3,).

        The image counts cell vectors of the frame, the position those of the structure.
        """
        frame, atoms = self.assignment.frame, self.assignment.atoms
        corners = []
        for corner in frame.vertices[site]:
            ideal = frame.frac_coords[corner.site] + self.assignment.drift
            if corner.site in atoms:
                actual = self._atoms_in_frame[atoms[corner.site]]
                ideal = actual - np.round(actual - ideal)
            corners.append(ideal + corner.image)
        return (np.mean(corners, axis=0) + image) @ self.assignment.cell_map

    def without(self, sites: set[int]) -> Structure:
        """Copy of the structure with the ions on some sites removed."""
        removed = self.structure.copy()
        removed.remove_sites([self.assignment.atom_on(site) for site in sites])
        return removed
