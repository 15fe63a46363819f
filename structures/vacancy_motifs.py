"""Tri-vacancies: three empty octahedra that touch one another."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .defects import Defect, make_defect
from .frame import OCTAHEDRA, Frame, Neighbour, Sharing, SiteKind
from .occupation import Occupation
from .symmetry import site_permutations


@dataclass(frozen=True)
class TriVacancy:
    """Three octahedra, empty or emptied, each of which shares an edge with the two others.

    Attributes
    ----------
    sites
        The three octahedra, ascending.
    n_tm_layer
        How many of them lie in a TM layer; the others lie in Li layers. 0 without layers.
    common_anions
        Anion sites at which all three meet.
    defect
        Li taken out to make the motif, with degeneracy and formal charge; no change where the
        three were empty already.
    """

    sites: tuple[int, int, int]
    n_tm_layer: int
    common_anions: tuple[int, ...]
    defect: Defect

    @property
    def n_removed(self) -> int:
        """Li taken out to make the motif."""
        return len(self.defect.changes)


def tri_vacancies(
    occupation: Occupation,
    n_tm_layer: int | None = None,
    *,
    oxidation_states: Mapping[str, float] | None = None,
) -> tuple[TriVacancy, ...]:
    """All symmetry-distinct tri-vacancies that taking out Li can make, the emptiest first.

    Vacancy clusters of both layers are where O2 is trapped in charged Li-rich oxides: House et
    al., Nature Energy 5, 777 (2020). Octahedra that hold another cation than Li stay as they
    are.

    Parameters
    ----------
    occupation
        Occupation to look in; vacancies that are there already are used.
    n_tm_layer
        Sites of the motif in a TM layer, 0 to 3; any number if None.
    oxidation_states
        Replaces or extends :data:`lrlo.structures.composition.OXIDATION_STATES`.

    Raises
    ------
    ValueError
        If `n_tm_layer` is not 0 to 3, or no three octahedra that touch one another are free of
        other cations than Li.

    Examples
    --------
    In Li2MnO3 no two Li of the TM layer touch, so that a motif takes one of them at most:

    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> pristine = build_pristine("Li2MnO3", min_atoms=72, max_atoms=72).occupation
    >>> sorted({motif.n_tm_layer for motif in tri_vacancies(pristine)})
    [0, 1]
    """
    if n_tm_layer not in (None, 0, 1, 2, 3):
        raise ValueError(f"a tri-vacancy has 0 to 3 sites in a TM layer, not {n_tm_layer}")
    frame = occupation.frame
    permutations = site_permutations(occupation)
    orbits: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
    for triple in touching_octahedra(frame):
        in_tm_layer = sum(frame.kinds[site] is SiteKind.TM_OCT for site in triple)
        if n_tm_layer not in (None, in_tm_layer):
            continue
        if any(occupation.species[site] not in (None, "Li") for site in triple):
            continue
        if not all(occupation.is_enclosed(site) for site in triple):
            continue
        images = np.sort(permutations[:, triple], axis=1).tolist()
        orbits.setdefault(min(map(tuple, images)), []).append(triple)
    if not orbits:
        which = "any layer" if n_tm_layer is None else f"{n_tm_layer} in a TM layer"
        raise ValueError(
            f"no three octahedra that share edges pairwise ({which}) hold only Li or nothing"
        )
    motifs = [_motif(occupation, orbit, oxidation_states) for orbit in orbits.values()]
    return tuple(sorted(motifs, key=lambda m: (m.n_removed, m.n_tm_layer, m.sites)))


def touching_octahedra(frame: Frame) -> tuple[tuple[int, int, int], ...]:
    """All sets of three octahedra that share an edge (or a face) pairwise, periodic images too.

    In cubic close packing (O3, rock salt) they are the eight faces of the octahedron of cations
    around every anion: eight per anion.

    Examples
    --------
    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.stacking import Stacking
    >>> frame = layered_frame(Stacking.O3, np.diag([3, 3, 3]))
    >>> len(touching_octahedra(frame)) / len(frame.sites(SiteKind.ANION))
    8.0
    """
    touching = {
        int(site): {
            neighbour
            for sharing in (Sharing.EDGE, Sharing.FACE)
            for neighbour in frame.neighbours(int(site), sharing, *OCTAHEDRA)
        }
        for site in frame.sites(*OCTAHEDRA)
    }
    triples = set()
    for first, around in touching.items():
        for second in around:
            for step in touching[second.site]:
                i, j, k = (int(x) for x in np.add(second.image, step.image))
                if Neighbour(step.site, (i, j, k)) in around:
                    triples.add(tuple(sorted({first, second.site, step.site})))
    # Three images of fewer sites, in cells that are one site wide, are no motif of their own.
    return tuple(sorted((t[0], t[1], t[2]) for t in triples if len(t) == 3))


def _motif(
    occupation: Occupation,
    orbit: list[tuple[int, int, int]],
    oxidation_states: Mapping[str, float] | None,
) -> TriVacancy:
    frame = occupation.frame
    sites = orbit[0]
    corners = [{corner.site for corner in frame.vertices[site]} for site in sites]
    removed = [site for site in sites if occupation.species[site] is not None]
    return TriVacancy(
        sites=sites,
        n_tm_layer=sum(frame.kinds[site] is SiteKind.TM_OCT for site in sites),
        common_anions=tuple(sorted(set.intersection(*corners))),
        defect=make_defect(occupation, dict.fromkeys(removed), oxidation_states, len(orbit)),
    )
