"""Migration events: which ion hops from which site through which waypoint to which site."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from pydantic import BaseModel, ConfigDict
from pymatgen.core import Structure

from .assignment import Assignment, SitePositions
from .frame import OCTAHEDRA, Neighbour, Sharing, SiteKind
from .occupation import Occupation
from .oxygen_environment import oxygen_environments, tm_coordination
from .symmetry import site_permutations


class PathClass(StrEnum):
    """Path classes of a migration event."""

    IN_PLANE = "in_plane"
    OUT_OF_PLANE = "out_of_plane"
    OUT_OF_PLANE_TRAP = "out_of_plane_trap"
    LI_HOP = "li_hop"


#: Kinds of the start, the waypoint (None: straight) and the end of every path class.
PATH_KINDS = MappingProxyType(
    {
        PathClass.IN_PLANE: (SiteKind.TM_OCT, SiteKind.TM_TET, SiteKind.TM_OCT),
        PathClass.OUT_OF_PLANE: (SiteKind.TM_OCT, SiteKind.LI_TET, SiteKind.LI_OCT),
        PathClass.OUT_OF_PLANE_TRAP: (SiteKind.TM_OCT, None, SiteKind.LI_TET),
        PathClass.LI_HOP: (SiteKind.LI_OCT, SiteKind.LI_TET, SiteKind.LI_OCT),
    }
)


class Hop(BaseModel):
    """One migration event.

    Attributes
    ----------
    mover
        Element that hops.
    path_class
        Path class.
    start
        Site that the mover leaves, in the home cell.
    via
        Waypoint tetrahedron with its lattice image; None for a straight path.
    end
        Empty site that the mover joins, with its lattice image.
    degeneracy
        Number of events that are the same by symmetry, this one included.
    """

    model_config = ConfigDict(frozen=True)

    mover: str
    path_class: PathClass
    start: int
    via: Neighbour | None
    end: Neighbour
    degeneracy: int = 1

    @property
    def label(self) -> str:
        """Short name, unique within one structure."""
        return f"{self.mover} {self.path_class.value} {self.start}>{self.end.site}"


class HopSurroundings(BaseModel):
    """What surrounds a hop before it happens; the columns a barrier table is sorted by.

    Attributes
    ----------
    li_fraction_li_layer, li_fraction_tm_layer
        Li per octahedron of the Li layers and of the TM layers.
    n_face_sharing_cations
        Cations on octahedra that share a face with the waypoint (with the end for a trap), the
        mover not counted.
    n_face_sharing_vacancies
        Empty octahedra that share a face with the waypoint, the destination included.
    vacancy_cluster_size
        Empty octahedra connected by faces and edges with the destination, itself included.
    o_classes_left, o_classes_joined
        Classes of the anions around the start and around the end before the hop, e.g. "O4:2 O5:4".
    tm_coordination_start, tm_coordination_end
        TM among the edge-sharing ``tm_oct`` at the start, and at the end once the mover left.
    n_oxygen_vacancies
        Missing anions among those of start, waypoint and end.
    stacking
        Stacking of the frame.
    """

    model_config = ConfigDict(frozen=True)

    li_fraction_li_layer: float
    li_fraction_tm_layer: float
    n_face_sharing_cations: int
    n_face_sharing_vacancies: int
    vacancy_cluster_size: int
    o_classes_left: str
    o_classes_joined: str
    tm_coordination_start: int
    tm_coordination_end: int
    n_oxygen_vacancies: int
    stacking: str


def all_hops(
    occupation: Occupation, movers: Iterable[str], path_class: PathClass
) -> tuple[Hop, ...]:
    """Every event of a path class, symmetry not used.

    Parameters
    ----------
    occupation
        Occupation before the hop.
    movers
        Elements that may hop.
    path_class
        Path class to look for.
    """
    allowed = set(movers)
    return tuple(
        Hop(mover=mover, path_class=path_class, start=start, via=via, end=end)
        for start, via, end in _events(occupation, path_class)
        if (mover := occupation.species[start]) in allowed
    )


def find_hops(
    occupation: Occupation, movers: Iterable[str], path_class: PathClass
) -> tuple[Hop, ...]:
    """All symmetry-distinct events of a path class, the least hindered first.

    Sorted by cations that share a face with the waypoint, then by TM next to the destination,
    then by larger vacancy cluster, then by site.

    Parameters
    ----------
    occupation
        Occupation before the hop.
    movers
        Elements that may hop.
    path_class
        Path class to look for.
    """
    permutations = site_permutations(occupation)
    orbits: dict[tuple[int, int, int], list[Hop]] = {}
    for hop in all_hops(occupation, movers, path_class):
        triples = permutations[:, [hop.start, (hop.via or hop.end).site, hop.end.site]]
        orbits.setdefault(min(map(tuple, triples.tolist())), []).append(hop)
    distinct = [orbit[0].model_copy(update={"degeneracy": len(orbit)}) for orbit in orbits.values()]

    def hindrance(hop: Hop) -> tuple[int, int, int, int, int]:
        around = surroundings(occupation, hop)
        return (
            around.n_face_sharing_cations,
            around.tm_coordination_end,
            -around.vacancy_cluster_size,
            hop.start,
            hop.end.site,
        )

    return tuple(sorted(distinct, key=hindrance))


def why_no_hop(occupation: Occupation, movers: Iterable[str], path_class: PathClass) -> str:
    """Sentence that says why :func:`find_hops` finds nothing, for a path class without events."""
    start_kind, _, end_kind = PATH_KINDS[path_class]
    movers = tuple(movers)
    if not any(occupation.sites_of(mover, start_kind) for mover in movers):
        return f"no {' or '.join(movers)} on {start_kind.value}"
    if not occupation.sites_of(None, end_kind):
        return f"no vacancy on {end_kind.value} at this Li content"
    return f"no vacant {end_kind.value} next to {' or '.join(movers)} through a free waypoint"


def _events(
    occupation: Occupation, path_class: PathClass
) -> list[tuple[int, Neighbour | None, Neighbour]]:
    frame = occupation.frame
    start_kind, via_kind, end_kind = PATH_KINDS[path_class]
    events: list[tuple[int, Neighbour | None, Neighbour]] = []
    for start in (int(site) for site in frame.sites(start_kind)):
        if via_kind is None:
            events += [
                (start, None, end)
                for end in frame.neighbours(start, Sharing.FACE, end_kind)
                if occupation.species[end.site] is None
            ]
            continue
        for via in frame.neighbours(start, Sharing.FACE, via_kind):
            if occupation.species[via.site] is not None:
                continue
            for step in frame.neighbours(via.site, Sharing.FACE, end_kind):
                i, j, k = (int(x) for x in np.add(via.image, step.image))
                end = Neighbour(step.site, (i, j, k))
                if end.site != start and occupation.species[end.site] is None:
                    events.append((start, via, end))
    return events


def surroundings(occupation: Occupation, hop: Hop) -> HopSurroundings:
    """Describe the surroundings of a hop in the occupation before it happens."""
    frame = occupation.frame
    waypoint = hop.via.site if hop.via else hop.end.site
    faces = [n.site for n in frame.neighbours(waypoint, Sharing.FACE, *OCTAHEDRA)]
    others = [occupation.species[site] for site in faces if site != hop.start]
    classes = {env.site: env.o_class.value for env in oxygen_environments(occupation)}
    left = [v.site for v in frame.vertices[hop.start]]
    joined = [v.site for v in frame.vertices[hop.end.site]]
    passed = [v.site for v in frame.vertices[waypoint]]
    after = occupation.with_species({hop.start: None, hop.end.site: hop.mover})

    def li_fraction(kind: SiteKind) -> float:
        return len(occupation.sites_of("Li", kind)) / len(frame.sites(kind))

    def histogram(anions: list[int]) -> str:
        counts = Counter(classes[a] for a in anions if a in classes)
        return " ".join(f"{name}:{n}" for name, n in sorted(counts.items()))

    return HopSurroundings(
        li_fraction_li_layer=li_fraction(SiteKind.LI_OCT),
        li_fraction_tm_layer=li_fraction(SiteKind.TM_OCT),
        n_face_sharing_cations=sum(s is not None for s in others),
        n_face_sharing_vacancies=sum(s is None for s in others),
        vacancy_cluster_size=len(vacancy_cluster(occupation, hop.end.site)),
        o_classes_left=histogram(left),
        o_classes_joined=histogram(joined),
        tm_coordination_start=tm_coordination(occupation, hop.start),
        tm_coordination_end=tm_coordination(after, hop.end.site),
        n_oxygen_vacancies=len({a for a in (*left, *passed, *joined) if a not in classes}),
        stacking=frame.stacking.value,
    )


def vacancy_cluster(occupation: Occupation, site: int) -> frozenset[int]:
    """Empty octahedra connected with `site` through shared faces and edges, itself included."""
    cluster, frontier = {site}, [site]
    while frontier:
        current = frontier.pop()
        for sharing in (Sharing.FACE, Sharing.EDGE):
            for neighbour in occupation.frame.neighbours(current, sharing, *OCTAHEDRA):
                if occupation.species[neighbour.site] is None and neighbour.site not in cluster:
                    cluster.add(neighbour.site)
                    frontier.append(neighbour.site)
    return frozenset(cluster)


def hop_images(structure: Structure, assignment: Assignment, hop: Hop) -> tuple[Structure, ...]:
    """Structures along a hop built on the frame: start, waypoint (if any), end.

    All atoms but the mover stay; the mover sits on the centroid of the actual anions of the
    waypoint and of the destination, without wrapping, so that paths can be interpolated.

    Raises
    ------
    KeyError
        If the start site holds no atom.
    ValueError
        If the atom on the start site is not the mover, or the end is taken.
    """
    mover = assignment.atom_on(hop.start)
    if assignment.species[mover] != hop.mover:
        raise ValueError(f"site {hop.start} holds {assignment.species[mover]}, not {hop.mover}")
    if hop.end.site in assignment.sites:
        raise ValueError(f"the end site {hop.end.site} of {hop.label} is taken")
    positions = SitePositions(structure, assignment)
    # The start site's own home-cell position tells in which image the mover's atom lies.
    home = positions.frac_coords(hop.start)
    offset = np.round(np.array(structure.frac_coords[mover]) - home)
    images = [structure.copy()]
    for step in (hop.via, hop.end):
        if step is None:
            continue
        target = positions.frac_coords(step.site, step.image) + offset
        moved = structure.copy()
        moved.replace(mover, hop.mover, target, properties=moved[mover].properties)
        images.append(moved)
    return tuple(images)
