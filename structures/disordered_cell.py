"""Cells in which some sites are disordered: what swaps with what, and what stays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from .cluster_functions import EMPTY, CellClusters, ClusterBasis, cell_clusters, cluster_basis
from .frame import Frame, SiteKind
from .occupation import Occupation
from .prototype import Prototype

_ELEMENTS = set(atomic_numbers) - {EMPTY}


@dataclass(frozen=True)
class Sublattice:
    """Sites that exchange species with each other, and how many ions of each they hold.

    Attributes
    ----------
    sites
        Sites of the frame.
    counts
        Ions of every species; None stands for empty sites.

    Raises
    ------
    ValueError
        If there are no sites or one is there twice, for fewer than two species, one that is no
        element, a count below 1, or counts that do not fill the sites.
    """

    sites: tuple[int, ...]
    counts: Mapping[str | None, int]

    def __post_init__(self) -> None:
        if not self.sites:
            raise ValueError("a sublattice needs sites, got none")
        if len(set(self.sites)) != len(self.sites):
            twice = sorted({site for site in self.sites if self.sites.count(site) > 1})
            raise ValueError(f"sites {twice} are in the sublattice more than once")
        unknown = [s for s in self.counts if s is not None and s not in _ELEMENTS]
        if unknown:
            raise ValueError(
                f"unknown species {unknown}; give element symbols, or None for empty sites"
            )
        bad = {s: n for s, n in self.counts.items() if n != int(n) or n < 1}
        if bad:
            raise ValueError(f"counts are whole numbers above 0, got {bad}; leave out species")
        if len(self.counts) < 2:
            raise ValueError(
                f"a sublattice of {list(self.counts)} has nothing to arrange: give two or more "
                "species"
            )
        if sum(self.counts.values()) != len(self.sites):
            raise ValueError(
                f"{dict(self.counts)} does not fill {len(self.sites)} sites: the counts add up to "
                f"{sum(self.counts.values())}"
            )


@dataclass(frozen=True)
class DisorderedCell:
    """A cell with species at random on some of its sites.

    Species move inside a sublattice only. Sublattices may share species: a vacancy in one layer
    is no vacancy in another.

    Attributes
    ----------
    occupation
        What the sites outside the sublattices hold; inside it has no meaning.
    sublattices
        Disordered sites.

    Raises
    ------
    ValueError
        If there is no sublattice, two share a site, or a site is not in the frame.
    """

    occupation: Occupation
    sublattices: tuple[Sublattice, ...]

    def __post_init__(self) -> None:
        if not self.sublattices:
            raise ValueError("a disordered cell needs a sublattice, got none")
        sites = [site for sublattice in self.sublattices for site in sublattice.sites]
        outside = [site for site in sites if not 0 <= site < len(self.occupation.frame)]
        if outside:
            raise ValueError(
                f"sites {outside} are not in the frame, which has {len(self.occupation.frame)}"
            )
        if len(set(sites)) != len(sites):
            raise ValueError("a site belongs to one sublattice only; some are in several")

    @property
    def frame(self) -> Frame:
        """Ideal sites."""
        return self.occupation.frame

    def arrangement(self) -> Occupation:
        """The cell with the species of every sublattice placed in the order of its sites."""
        return self.occupation.with_species(
            {
                site: species
                for sublattice in self.sublattices
                for site, species in zip(
                    sublattice.sites,
                    (s for s, n in sublattice.counts.items() for _ in range(n)),
                    strict=True,
                )
            }
        )


@dataclass(frozen=True, eq=False)
class FrameBasis:
    """Cluster basis of a prototype. Build one with :func:`frame_basis`.

    Attributes
    ----------
    prototype
        The crystal.
    kinds
        Kinds of sites that take part in its symmetry: all that are not always empty.
    basis
        Its clusters.
    """

    prototype: Prototype
    kinds: frozenset[SiteKind]
    basis: ClusterBasis

    def sites(self, frame: Frame) -> NDArray[np.int64]:
        """Sites of a frame that take part, ascending."""
        return frame.sites(*self.kinds)

    def clusters(self, frame: Frame) -> CellClusters:
        """Clusters of a frame, with sites numbered by their place in :meth:`sites`.

        Raises
        ------
        ValueError
            If the frame is of another prototype.
        """
        if frame.prototype != self.prototype:
            raise ValueError(f"a frame of {frame.prototype} is no supercell of {self.prototype}")
        return cell_clusters(self.basis, frame.lattice, frame.frac_coords[self.sites(frame)])

    def species(self, occupation: Occupation) -> list[str]:
        """Symbols on the sites that take part."""
        return [occupation.species[site] or EMPTY for site in self.sites(occupation.frame)]


def frame_basis(
    cells: Sequence[DisorderedCell], *, pair_cutoff: float, triplet_cutoff: float | None
) -> FrameBasis:
    """Cluster basis of the crystal that cells are supercells of.

    Sites of one kind may hold what any of them holds in any of the cells, and so may all kinds
    that a sublattice spans.

    Parameters
    ----------
    cells
        Disordered cells of one prototype.
    pair_cutoff, triplet_cutoff
        Longest distance between two sites of a cluster, Å; without `triplet_cutoff` pairs only.

    Raises
    ------
    ValueError
        If the cells are of different prototypes, a cutoff is not positive, or the geometry makes
        two kinds of sites the same by symmetry.
    """
    prototypes = {cell.frame.prototype for cell in cells}
    if len(prototypes) != 1:
        names = sorted(str(prototype) for prototype in prototypes)
        raise ValueError(f"only cells of one prototype can be compared, got {names}")
    groups = _kind_groups(cells)
    allowed = {kind: species for kinds, species in groups.items() for kind in kinds}
    found = _prototype_basis(
        prototypes.pop(), tuple(sorted(allowed.items())), pair_cutoff, triplet_cutoff
    )
    for mixed in _symmetric_kinds(found):
        if not any(mixed <= kinds for kinds in groups):
            raise ValueError(
                f"{' and '.join(sorted(mixed))} sites of {found.prototype} are the same by "
                "symmetry when both may hold the same species; change its distances by 0.01 Å"
            )
    return found


def _kind_groups(
    cells: Sequence[DisorderedCell],
) -> dict[frozenset[SiteKind], tuple[str, ...]]:
    """Kinds that sublattices join, with the species there; without what is always empty."""
    groups: list[tuple[set[SiteKind], set[str]]] = []
    for cell in cells:
        species = cell.arrangement().species
        joined = [set(part.sites) for part in cell.sublattices]
        rest = set(range(len(cell.frame))).difference(*joined)
        joined += [rest & set(cell.frame.sites(kind).tolist()) for kind in SiteKind]
        for sites in joined:
            kinds = {cell.frame.kinds[site] for site in sites}
            held = {species[site] or EMPTY for site in sites}
            touching = [group for group in groups if group[0] & kinds]
            groups = [group for group in groups if not group[0] & kinds]
            groups.append(
                (
                    kinds.union(*(group[0] for group in touching)),
                    held.union(*(group[1] for group in touching)),
                )
            )
    return {frozenset(kinds): tuple(sorted(held)) for kinds, held in groups if held - {EMPTY}}


@lru_cache(maxsize=8)
def _prototype_basis(
    prototype: Prototype,
    allowed: tuple[tuple[SiteKind, tuple[str, ...]], ...],
    pair_cutoff: float,
    triplet_cutoff: float | None,
) -> FrameBasis:
    species = dict(allowed)
    sites = [site for site in prototype.motif if site.kind in species]
    basis = cluster_basis(
        prototype.lattice,
        np.array([site.position for site in sites]),
        [species[site.kind] for site in sites],
        pair_cutoff=pair_cutoff,
        triplet_cutoff=triplet_cutoff,
    )
    return FrameBasis(prototype, frozenset(species), basis)


def _symmetric_kinds(found: FrameBasis) -> list[set[SiteKind]]:
    """Kinds of the sites of every point orbit."""
    sites = [site for site in found.prototype.motif if site.kind in found.kinds]
    positions = np.array([site.position for site in sites]) @ found.prototype.lattice
    parents, _ = found.basis.places(positions)
    kinds = {
        parent: {site.kind for site, p in zip(sites, parents, strict=True) if p == parent}
        for parent in parents.tolist()
    }
    return [
        set().union(*(kinds[parent] for parent in orbit.sites[:, 0].tolist()))
        for orbit in found.basis.orbits
        if orbit.order == 1
    ]


@dataclass(frozen=True, eq=False)
class DisorderedClusters:
    """Clusters of a disordered cell and what their sites hold on average.

    Sites are alike if they belong to one sublattice or hold the same species for good; such
    sites form a group.

    Attributes
    ----------
    cell
        The disordered cell.
    crystal
        Cluster basis of its prototype.
    """

    cell: DisorderedCell
    crystal: FrameBasis

    @cached_property
    def clusters(self) -> CellClusters:
        """Clusters; sites are numbered by their place among those that take part."""
        return self.crystal.clusters(self.cell.frame)

    @cached_property
    def sublattices(self) -> tuple[tuple[int, ...], ...]:
        """Sites of every sublattice, by place."""
        sites = self.crystal.sites(self.cell.frame)
        return tuple(
            tuple(np.searchsorted(sites, part.sites).tolist()) for part in self.cell.sublattices
        )

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Species numbers of an arrangement, shape (n_sites,)."""
        return self.clusters.species_numbers(self.crystal.species(self.cell.arrangement()))

    def occupation(self, numbers: Sequence[int]) -> Occupation:
        """The cell in a given arrangement."""
        sites = self.crystal.sites(self.cell.frame)
        changes: dict[int, str | None] = {}
        for part in self.sublattices:
            for place in part:
                symbol = self.symbols(int(self.groups[place]))[numbers[place]]
                changes[int(sites[place])] = None if symbol == EMPTY else symbol
        return self.cell.occupation.with_species(changes)

    def symbols(self, group: int) -> tuple[str, ...]:
        """Species that the sites of a group may hold, by species number."""
        place = int(np.flatnonzero(self.groups == group)[0])
        return self.crystal.basis.species[self.clusters.parent_sites[place]]

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Group of every site, shape (n_sites,); group k is sublattice k as far as these go."""
        groups = np.full(len(self.numbers), -1)
        for k, part in enumerate(self.sublattices):
            groups[list(part)] = k
        fixed: dict[tuple[tuple[str, ...], int], int] = {}
        for place in np.flatnonzero(groups < 0).tolist():
            allowed = self.crystal.basis.species[self.clusters.parent_sites[place]]
            holds = (allowed, int(self.numbers[place]))
            groups[place] = fixed.setdefault(holds, len(self.sublattices) + len(fixed))
        return groups

    @cached_property
    def shares(self) -> tuple[NDArray[np.float64], ...]:
        """For every group the share of each species number."""
        result = []
        for group in range(self.groups.max() + 1):
            held = self.numbers[self.groups == group]
            result.append(np.bincount(held, minlength=len(self.symbols(group))) / len(held))
        return tuple(result)

    def mean_correlations(
        self, probabilities: Callable[[int, tuple[int, ...]], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Correlations of clusters whose decorations have given probabilities.

        Parameters
        ----------
        probabilities
            From the index of an orbit and the groups of a cluster's sites to the probability of
            every decoration, shape (n_species, …), one axis per site.

        Returns
        -------
        correlations
            Mean over the clusters of the cell, shape (n_functions,).
        """
        means = []
        for k, orbit in enumerate(self.crystal.basis.orbits):
            kinds, counts = np.unique(
                self.groups[self.clusters.clusters[k]], axis=0, return_counts=True
            )
            mean = sum(
                n * np.tensordot(orbit.functions, probabilities(k, tuple(groups)), orbit.order)
                for groups, n in zip(kinds.tolist(), counts.tolist(), strict=True)
            )
            means.append(mean / counts.sum())
        return np.concatenate(means)
