"""Cluster functions: points, pairs and triplets of a lattice, and their correlations in a cell.

The correlation of a cluster function is its mean over all clusters of an orbit,

    Gamma_f = < prod_i theta_f(i)(s_i) >,

with icet's trigonometric point functions theta (van de Walle, Calphad 33, 266 (2009);
Ångqvist et al., Adv. Theory Simul. 2, 1900015 (2019)) and its order of orbits and functions, so
that the values are those of ``icet.ClusterSpace.get_cluster_vector`` without the leading 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

if TYPE_CHECKING:
    from icet import ClusterSpace

#: Symbol of an empty site among the species of a cluster basis.
EMPTY = "X"
#: Largest distance between a site and its place in the parent lattice, Å.
POSITION_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Orbit:
    """Symmetry-equivalent clusters of a lattice, and the functions of their decorations.

    Attributes
    ----------
    distances
        Distances between the sites of a cluster, ascending, Å: none for a point, one for a pair,
        three for a triplet.
    sites
        Parent sites of every cluster per primitive cell, shape (multiplicity, order).
    offsets
        Primitive cells that these sites lie in, shape (multiplicity, order, 3).
    functions
        Value of every cluster function for every decoration: ``functions[f, a, b, ...]`` for the
        species numbers a, b, … on the cluster's sites, averaged over the permutations of the
        point functions that symmetry allows. Shape (n_functions, n_species, …).
    """

    distances: tuple[float, ...]
    sites: NDArray[np.int64]
    offsets: NDArray[np.int64]
    functions: NDArray[np.float64]

    @property
    def order(self) -> int:
        """Number of sites of a cluster."""
        return self.sites.shape[1]

    @property
    def multiplicity(self) -> int:
        """Clusters per primitive cell."""
        return len(self.sites)


@dataclass(frozen=True, eq=False)
class ClusterBasis:
    """Orbits of a parent lattice up to cutoffs. Build one with :func:`cluster_basis`.

    Attributes
    ----------
    lattice
        Primitive vectors (rows), shape (3, 3), Å.
    frac_coords
        Parent sites, shape (n_parent_sites, 3).
    species
        Allowed species of every parent site, by atomic number; a species number is an index
        here. :data:`EMPTY` stands for an empty site.
    orbits
        Orbits of points, pairs and triplets.
    """

    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    species: tuple[tuple[str, ...], ...]
    orbits: tuple[Orbit, ...]

    def __len__(self) -> int:
        """Number of cluster functions."""
        return sum(len(orbit.functions) for orbit in self.orbits)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where the functions of every orbit stand in a correlation vector."""
        ends = np.cumsum([len(orbit.functions) for orbit in self.orbits])
        return tuple(
            slice(int(end) - len(orbit.functions), int(end))
            for end, orbit in zip(ends, self.orbits, strict=True)
        )

    def places(self, positions: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Parent sites and primitive cells that positions belong to.

        Parameters
        ----------
        positions
            Cartesian positions, shape (n, 3), Å.

        Returns
        -------
        sites, cells
            Parent sites, shape (n,), and cells in primitive vectors, shape (n, 3).

        Raises
        ------
        ValueError
            If a position is none of the lattice's.
        """
        difference = (positions @ np.linalg.inv(self.lattice))[:, None] - self.frac_coords
        cells = np.rint(difference)
        distance = np.linalg.norm((difference - cells) @ self.lattice, axis=-1)
        sites = distance.argmin(axis=1)
        rows = np.arange(len(positions))
        off = distance[rows, sites]
        if off.max(initial=0.0) > POSITION_TOLERANCE:
            raise ValueError(
                f"site {off.argmax()} lies {off.max():.3f} Å from any site of the parent lattice"
            )
        return sites, cells[rows, sites].astype(np.int64)

    def edges(self, orbit: int) -> dict[tuple[int, int], int | None]:
        """Pair orbits of the edges of an orbit's clusters.

        Returns
        -------
        edges
            For corners a < b the index of their pair orbit, None if it is beyond the pair cutoff.
        """
        sites, offsets = self.orbits[orbit].sites[0], self.orbits[orbit].offsets[0]
        return {
            (a, b): self._pairs.get(
                (int(sites[a]), int(sites[b]), tuple((offsets[b] - offsets[a]).tolist()))
            )
            for a, b in combinations(range(len(sites)), 2)
        }

    @cached_property
    def _pairs(self) -> dict[tuple[int, int, tuple[int, ...]], int]:
        """Pair orbit of two sites and the step from the cell of the first to the second's."""
        pairs = {}
        for k, orbit in enumerate(self.orbits):
            if orbit.order != 2:
                continue
            steps = orbit.offsets[:, 1] - orbit.offsets[:, 0]
            for (a, b), step in zip(orbit.sites.tolist(), steps, strict=True):
                pairs[a, b, tuple(step.tolist())] = k
                pairs[b, a, tuple((-step).tolist())] = k
        return pairs


def cluster_basis(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    species: Sequence[Sequence[str]],
    *,
    pair_cutoff: float,
    triplet_cutoff: float | None = None,
) -> ClusterBasis:
    """Find the orbits of a crystal whose sites may hold several species.

    Parameters
    ----------
    lattice
        Vectors (rows) of any cell of the crystal, shape (3, 3), Å; the primitive cell is found.
    frac_coords
        Its sites, shape (n_sites, 3).
    species
        Species that every site may hold, :data:`EMPTY` for none. Sites with one species take
        part in the symmetry only.
    pair_cutoff, triplet_cutoff
        Longest distance between two sites of a cluster, Å; without `triplet_cutoff` pairs only.

    Raises
    ------
    ValueError
        For a cutoff that is not positive, a species that is no element, or if no site may hold
        two species.

    Examples
    --------
    >>> basis = cluster_basis(4 * np.eye(3), np.zeros((1, 3)), [["Ni", "Mn"]], pair_cutoff=6)
    >>> [(orbit.order, orbit.multiplicity) for orbit in basis.orbits]
    [(1, 1), (2, 3), (2, 6)]
    """
    # imported here: icet takes longer to import than most callers take altogether
    from icet import ClusterSpace

    cutoffs = [pair_cutoff] if triplet_cutoff is None else [pair_cutoff, triplet_cutoff]
    if min(cutoffs) <= 0:
        raise ValueError(f"cluster cutoffs are distances above 0 Å, got {cutoffs}")
    unknown = sorted({s for allowed in species for s in allowed} - set(atomic_numbers))
    if unknown:
        raise ValueError(f"unknown species {unknown}; give element symbols, or {EMPTY} for empty")
    if all(len(set(allowed)) < 2 for allowed in species):
        raise ValueError("no site may hold two or more species, so there is nothing to arrange")
    cell = Atoms(
        [allowed[0] for allowed in species], scaled_positions=frac_coords, cell=lattice, pbc=True
    )
    return basis_from_icet(ClusterSpace(cell, cutoffs, [list(allowed) for allowed in species]))


def basis_from_icet(space: "ClusterSpace") -> ClusterBasis:
    """Read the orbits and functions of an icet cluster space of orders up to three."""
    parent = space.primitive_structure
    species = tuple(
        tuple(sorted(allowed, key=lambda symbol: atomic_numbers[symbol]))
        for allowed in space.chemical_symbols
    )
    orbits = []
    for index in range(len(space.orbit_list)):
        orbit = space.orbit_list.get_orbit(index)
        sites = np.array(orbit.all_sites, dtype=np.int64)
        n_species = [len(species[site]) for site in sites[0]]
        functions = [
            _cluster_function(
                space, n_species, element["multicomponent_vector"], element["site_permutations"]
            )
            for element in orbit.cluster_vector_elements
        ]
        orbits.append(
            Orbit(
                distances=tuple(sorted(float(d) for d in orbit.distances)),
                sites=sites,
                offsets=np.array(orbit.all_site_offsets, dtype=np.int64),
                functions=np.array(functions),
            )
        )
    return ClusterBasis(
        lattice=np.array(parent.cell),
        frac_coords=parent.get_scaled_positions(wrap=False),
        species=species,
        orbits=tuple(orbits),
    )


def _cluster_function(
    space: "ClusterSpace",
    n_species: Sequence[int],
    point_functions: Sequence[int],
    permutations: Sequence[Sequence[int]],
) -> NDArray[np.float64]:
    """Values for every decoration, mean over the permutations, shape `n_species`."""
    values = np.zeros(tuple(n_species))
    for permutation in permutations:
        for decoration in product(*(range(n) for n in n_species)):
            values[decoration] += np.prod(
                [
                    space.evaluate_cluster_function(n, point_functions[function], number)
                    for n, function, number in zip(n_species, permutation, decoration, strict=True)
                ]
            )
    return values / len(permutations)


@dataclass(frozen=True, eq=False)
class CellClusters:
    """All clusters of a supercell. Build one with :func:`cell_clusters`.

    Attributes
    ----------
    basis
        Orbits of the parent lattice.
    parent_sites
        Parent site of every site of the supercell, shape (n_sites,).
    clusters
        For every orbit the sites of its clusters, shape (n_primitive_cells * multiplicity, order).
        Periodic images count one by one: a site may be there twice in a small cell.
    """

    basis: ClusterBasis
    parent_sites: NDArray[np.int64]
    clusters: tuple[NDArray[np.int64], ...]

    @property
    def n_cells(self) -> int:
        """Number of primitive cells."""
        return len(self.parent_sites) // len(self.basis.frac_coords)

    def species_numbers(self, species: Sequence[str]) -> NDArray[np.int64]:
        """Number every site's species among those allowed there, shape (n_sites,).

        Raises
        ------
        ValueError
            If a site holds a species that it may not hold.
        """
        numbers = np.empty(len(self.parent_sites), dtype=np.int64)
        for site, (symbol, parent) in enumerate(zip(species, self.parent_sites, strict=True)):
            allowed = self.basis.species[parent]
            if symbol not in allowed:
                there = "nothing, or an element without a place," if symbol == EMPTY else symbol
                raise ValueError(
                    f"the ordered crystal has {there} where the cell has "
                    f"{' or '.join(s if s != EMPTY else 'nothing' for s in allowed)}; give both "
                    "the same elements on the same kinds of sites"
                )
            numbers[site] = allowed.index(symbol)
        return numbers

    def correlations(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Correlations of the cluster functions for given species numbers, shape (len(basis),)."""
        return np.concatenate(
            [
                orbit.functions[(slice(None), *numbers[clusters].T)].mean(axis=1)
                for orbit, clusters in zip(self.basis.orbits, self.clusters, strict=True)
            ]
        )


def cell_clusters(
    basis: ClusterBasis, lattice: NDArray[np.float64], frac_coords: NDArray[np.float64]
) -> CellClusters:
    """List the clusters of a supercell of the parent lattice.

    Parameters
    ----------
    basis
        Orbits of the parent lattice.
    lattice
        Vectors (rows) of the supercell, shape (3, 3), Å, in the orientation of the parent.
    frac_coords
        Its sites in any order, shape (n_sites, 3); every site of the parent lattice is there.

    Raises
    ------
    ValueError
        If the cell or a site does not lie on the parent lattice, or a site is missing.
    """
    exact = lattice @ np.linalg.inv(basis.lattice)
    matrix = np.rint(exact).astype(np.int64)
    if np.abs((exact - matrix) @ basis.lattice).max() > POSITION_TOLERANCE:
        raise ValueError(
            f"the cell is no supercell of the parent lattice: its vectors are {exact.tolist()} "
            "primitive vectors, which have to be integers"
        )
    n_cells = abs(round(np.linalg.det(matrix)))
    # adjugate: offsets that differ by a supercell vector agree modulo n_cells after it
    adjugate = np.rint(n_cells * np.linalg.inv(matrix)).astype(np.int64)
    parent_sites, offsets = basis.places(frac_coords @ lattice)
    n_sites = len(basis.frac_coords) * n_cells
    index = {
        (int(parent), *key): site
        for site, (parent, key) in enumerate(
            zip(parent_sites, (offsets @ adjugate % n_cells).tolist(), strict=True)
        )
    }
    if len(index) != n_sites or len(parent_sites) != n_sites:
        raise ValueError(
            f"{len(parent_sites)} sites given, {len(index)} of them different; the supercell has "
            f"{n_cells} primitive cells of {len(basis.frac_coords)} sites"
        )
    origins = offsets[parent_sites == 0]
    clusters = []
    for orbit in basis.orbits:
        places = (orbit.offsets[None] + origins[:, None, None]) @ adjugate % n_cells
        parents = np.broadcast_to(orbit.sites, places.shape[:-1])
        found = [
            index[(parent, *key)]
            for parent, key in zip(
                parents.ravel().tolist(), places.reshape(-1, 3).tolist(), strict=True
            )
        ]
        clusters.append(np.array(found, dtype=np.int64).reshape(-1, orbit.order))
    return CellClusters(basis, parent_sites, tuple(clusters))
