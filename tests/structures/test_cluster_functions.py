from collections.abc import Sequence

import numpy as np
import pytest
from ase import Atoms
from icet import ClusterSpace

from lrlo.structures.cluster_functions import (
    ClusterBasis,
    basis_from_icet,
    cell_clusters,
    cluster_basis,
)
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.rock_salt import RockSaltPrototype, rock_salt_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.superlattice import honeycomb_centres

IDENTITY = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
HONEYCOMB = [[2, 1, 0], [1, 2, 0], [0, 0, 1]]
SKEWED = [[1, 1, 0], [-1, 2, 1], [0, -1, 2]]
LONG = [[1, 0, 0], [0, 1, 0], [0, 0, 3]]

QUATERNARY = {
    SiteKind.ANION: ["O"],
    SiteKind.TM_OCT: ["Li", "Mn", "Ni", "Co"],
    SiteKind.LI_OCT: ["Li"],
}
SHARED = {
    SiteKind.ANION: ["O", "F"],
    SiteKind.TM_OCT: ["Ni", "Li", "X"],
    SiteKind.LI_OCT: ["X", "Li", "Ni"],
}
TETRAHEDRA = {
    SiteKind.ANION: ["O"],
    SiteKind.TM_OCT: ["Mn"],
    SiteKind.LI_OCT: ["Li", "X"],
    SiteKind.LI_TET: ["X", "Mn", "Li"],
}


def _space(
    stacking: Stacking, allowed: dict[SiteKind, list[str]], cutoffs: list[float]
) -> ClusterSpace:
    frame = layered_frame(stacking, np.eye(3, dtype=int))
    sites = frame.sites(*allowed)
    species = [allowed[frame.kinds[site]] for site in sites]
    cell = Atoms(
        [s[0] for s in species],
        scaled_positions=frame.frac_coords[sites],
        cell=frame.lattice,
        pbc=True,
    )
    return ClusterSpace(cell, cutoffs, species)


@pytest.mark.parametrize("matrix", [IDENTITY, HONEYCOMB, SKEWED, LONG])
@pytest.mark.parametrize("allowed", [QUATERNARY, SHARED, TETRAHEDRA])
@pytest.mark.parametrize("stacking", [Stacking.O3, Stacking.O2])
def test_correlations_are_those_of_icet(
    stacking: Stacking, allowed: dict[SiteKind, list[str]], matrix: list[list[int]]
) -> None:
    """Several species and sublattices, vacancies, and cells that meet their own images."""
    space = _space(stacking, allowed, [5.1, 4.2])
    frame = layered_frame(stacking, np.array(matrix))
    sites = frame.sites(*allowed)
    cell = cell_clusters(basis_from_icet(space), frame.lattice, frame.frac_coords[sites])
    assert any(
        (clusters[:, 0] == clusters[:, -1]).any()
        for orbit, clusters in zip(cell.basis.orbits, cell.clusters, strict=True)
        if orbit.order > 1
    )
    random = np.random.default_rng(0)
    for _ in range(3):
        symbols = [str(random.choice(allowed[frame.kinds[site]])) for site in sites]
        atoms = Atoms(
            symbols, scaled_positions=frame.frac_coords[sites], cell=frame.lattice, pbc=True
        )
        found = cell.correlations(cell.species_numbers(symbols))
        assert found == pytest.approx(space.get_cluster_vector(atoms)[1:], abs=1e-9)


def test_any_cell_of_the_crystal_gives_the_same_basis() -> None:
    primitive = RockSaltPrototype()
    frame = rock_salt_frame(np.array([[2, 0, 1], [0, 3, 0], [-1, 0, 1]]))
    sites = frame.sites(SiteKind.CATION_OCT, SiteKind.ANION)

    def species(kinds: Sequence[SiteKind]) -> list[list[str]]:
        return [["O"] if kind is SiteKind.ANION else ["Li", "Mn", "Ni"] for kind in kinds]

    motif = [site for site in primitive.motif if site.kind is not SiteKind.TET]
    small = cluster_basis(
        primitive.lattice,
        np.array([site.position for site in motif]),
        species([site.kind for site in motif]),
        pair_cutoff=5.0,
        triplet_cutoff=4.3,
    )
    large = cluster_basis(
        frame.lattice,
        frame.frac_coords[sites],
        species([frame.kinds[site] for site in sites]),
        pair_cutoff=5.0,
        triplet_cutoff=4.3,
    )
    # neighbours of the face-centred lattice: 6, 3 pairs per site; triangles of edges 1 1 1 (8)
    # and 1 1 sqrt(2) (12)
    assert [(orbit.order, orbit.multiplicity) for orbit in small.orbits] == [
        (1, 1),
        (2, 6),
        (2, 3),
        (3, 8),
        (3, 12),
    ]
    cells = [
        cell_clusters(basis, frame.lattice, frame.frac_coords[sites]) for basis in (small, large)
    ]
    random = np.random.default_rng(1)
    symbols = [
        str(random.choice(["Li", "Mn", "Ni"])) if frame.kinds[site] is SiteKind.CATION_OCT else "O"
        for site in sites
    ]
    first, second = (cell.correlations(cell.species_numbers(symbols)) for cell in cells)
    assert np.sort(first) == pytest.approx(np.sort(second), abs=1e-12)


def _layer_basis(**cutoffs: float) -> ClusterBasis:
    frame = layered_frame(Stacking.O3, np.eye(3, dtype=int))
    site = frame.sites(SiteKind.TM_OCT)
    return cluster_basis(frame.lattice, frame.frac_coords[site], [["Li", "Mn"]], **cutoffs)


def test_honeycomb_correlations_by_hand() -> None:
    """One Li in three, no two of them neighbours; Li counts -1 and Mn +1."""
    frame = layered_frame(Stacking.O3, np.array(HONEYCOMB) * np.array([[1], [1], [2]]))
    sites = frame.sites(SiteKind.TM_OCT)
    centres = honeycomb_centres(frame)
    cell = cell_clusters(
        _layer_basis(pair_cutoff=4.96, triplet_cutoff=2.9), frame.lattice, frame.frac_coords[sites]
    )
    numbers = cell.species_numbers(["Li" if site in centres else "Mn" for site in sites])
    point, first, second, triangle = cell.correlations(numbers)
    assert point == pytest.approx(1 / 3)
    assert first == pytest.approx(1 - 2 * 2 / 3)  # two of three first-neighbour pairs are Li-Mn
    assert second == pytest.approx(1)  # second neighbours are alike
    assert triangle == pytest.approx(-1)  # every triangle holds one Li


def test_order_of_sites_does_not_matter() -> None:
    frame = layered_frame(Stacking.O3, np.array(SKEWED))
    sites = frame.sites(SiteKind.TM_OCT)
    basis = _layer_basis(pair_cutoff=6.0, triplet_cutoff=5.0)
    random = np.random.default_rng(2)
    symbols = random.choice(["Li", "Mn"], len(sites))
    values = []
    for order in (np.arange(len(sites)), random.permutation(len(sites))):
        cell = cell_clusters(basis, frame.lattice, frame.frac_coords[sites][order])
        values.append(cell.correlations(cell.species_numbers(symbols[order].tolist())))
    assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_edges_of_triplets_are_the_pairs_of_their_distances() -> None:
    basis = _layer_basis(pair_cutoff=5.1, triplet_cutoff=5.1)
    for k, orbit in enumerate(basis.orbits):
        edges = basis.edges(k).values()
        assert sorted(basis.orbits[e].distances[0] for e in edges if e is not None) == (
            pytest.approx(orbit.distances)
        )


def test_edges_beyond_the_pair_cutoff_have_no_pair() -> None:
    basis = _layer_basis(pair_cutoff=2.9, triplet_cutoff=5.0)
    longest = [
        set(basis.edges(k).values()) for k, orbit in enumerate(basis.orbits) if orbit.order == 3
    ]
    assert any(None in edges for edges in longest)


@pytest.mark.parametrize(
    "cutoffs", [{"pair_cutoff": 0.0}, {"pair_cutoff": 5.0, "triplet_cutoff": -1.0}]
)
def test_cutoffs_are_positive(cutoffs: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0 Å"):
        _layer_basis(**cutoffs)


def test_species_are_elements_and_at_least_two() -> None:
    cube = 4 * np.eye(3), np.zeros((1, 3))
    with pytest.raises(ValueError, match=r"unknown species \['Qq'\]"):
        cluster_basis(*cube, [["Mn", "Qq"]], pair_cutoff=5.0)
    with pytest.raises(ValueError, match="nothing to arrange"):
        cluster_basis(*cube, [["Mn"]], pair_cutoff=5.0)


def test_cells_that_are_no_supercells_are_refused() -> None:
    basis = _layer_basis(pair_cutoff=3.0)
    frame = layered_frame(Stacking.O3, np.diag([2, 2, 1]))
    sites = frame.sites(SiteKind.TM_OCT)
    positions = frame.frac_coords[sites]
    with pytest.raises(ValueError, match="no supercell"):
        cell_clusters(basis, 1.01 * frame.lattice, positions)
    moved = positions.copy()
    moved[1] += np.linalg.solve(frame.lattice.T, [0, 0, 0.1])
    with pytest.raises(ValueError, match=r"site 1 lies 0\.100 Å"):
        cell_clusters(basis, frame.lattice, moved)
    with pytest.raises(ValueError, match="3 sites given"):
        cell_clusters(basis, frame.lattice, positions[:3])
    with pytest.raises(ValueError, match="3 of them different"):
        cell_clusters(basis, frame.lattice, positions[[0, 1, 2, 2]])


def test_species_that_a_site_may_not_hold_are_refused() -> None:
    frame = layered_frame(Stacking.O3, np.diag([2, 1, 1]))
    cell = cell_clusters(
        _layer_basis(pair_cutoff=3.0),
        frame.lattice,
        frame.frac_coords[frame.sites(SiteKind.TM_OCT)],
    )
    with pytest.raises(ValueError, match="has Co where the cell has Li or Mn"):
        cell.species_numbers(["Li", "Co"])
