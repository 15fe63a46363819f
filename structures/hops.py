"""Migration events: which ion hops from which site through which waypoint to which site."""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from pydantic import BaseModel, ConfigDict
from pymatgen.core import Structure

from .assignment import Assignment, SitePositions
from .frame import (
    OCTAHEDRA,
    SIX_COORDINATE,
    Frame,
    Neighbour,
    Sharing,
    SiteKind,
)
from .occupation import Occupation
from .oxygen_environment import oxygen_environments, tm_coordination
from .symmetry import site_permutations
from .vacuum import sites_in_vacuum


class PathClass(StrEnum):
    """Path classes of a migration event.

    ``out_of_plane`` goes through a ``li_tet``, and where the stacking makes a ``tm_oct`` share a
    face with a site of the Li layer (O2, O1, H1-3, P3) also straight through that face.
    ``tm_hop``: a TM between neighbouring octahedra of a frame without layers, through the
    tetrahedron beside their edge.
    """

    IN_PLANE = "in_plane"
    OUT_OF_PLANE = "out_of_plane"
    OUT_OF_PLANE_TRAP = "out_of_plane_trap"
    LI_HOP = "li_hop"
    TM_HOP = "tm_hop"


class LithiumMechanism(StrEnum):
    """How Li hops to a neighbouring octahedron or prism.

    ``divacancy``: through a tetrahedron that faces a second vacancy besides the destination. Van
    der Ven and Ceder, J. Power Sources 97-98, 529 (2001). Among prisms (P3): into the prism
    between Li sites, where all other Li sites around that prism are empty.
    ``dumbbell``: between the two anions of the edge that the octahedra share, because neither
    tetrahedron beside it faces a second vacancy.
    ``monovacancy``: through the prism between Li sites although it faces a further Li; prisms
    leave no other way.
    """

    DIVACANCY = "divacancy"
    DUMBBELL = "dumbbell"
    MONOVACANCY = "monovacancy"


#: Kinds of the start, the waypoint (none: straight) and the end of every path class; each frame
#: has one of the kinds given. Li in the prisms of P3 follows rules of its own.
PATH_KINDS = MappingProxyType(
    {
        PathClass.IN_PLANE: ((SiteKind.TM_OCT,), (SiteKind.TM_TET,), (SiteKind.TM_OCT,)),
        PathClass.OUT_OF_PLANE: (
            (SiteKind.TM_OCT,),
            (SiteKind.LI_TET,),
            (SiteKind.LI_OCT, SiteKind.LI_PRISM),
        ),
        PathClass.OUT_OF_PLANE_TRAP: ((SiteKind.TM_OCT,), (), (SiteKind.LI_TET,)),
        PathClass.LI_HOP: (
            (SiteKind.LI_OCT, SiteKind.CATION_OCT, SiteKind.LI_PRISM),
            (SiteKind.LI_TET, SiteKind.TET),
            (SiteKind.LI_OCT, SiteKind.CATION_OCT, SiteKind.LI_PRISM),
        ),
        PathClass.TM_HOP: ((SiteKind.CATION_OCT,), (SiteKind.TET,), (SiteKind.CATION_OCT,)),
    }
)


def sharing_class(frame: Frame) -> PathClass:
    """Path class by which TM spread over the octahedra of their own sublattice.

    In the plane of a TM layer, or between any octahedra of a frame without layers.
    """
    return PathClass.IN_PLANE if frame.n_layers else PathClass.TM_HOP


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
    mechanism
        How Li hops; None for the other path classes.
    degeneracy
        Number of events that are the same by symmetry, this one included.
    """

    model_config = ConfigDict(frozen=True)

    mover: str
    path_class: PathClass
    start: int
    via: Neighbour | None
    end: Neighbour
    mechanism: LithiumMechanism | None = None
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
        Li per octahedron of the Li layers (in P3 on prisms, per TM octahedron) and of the TM
        layers; None in a frame without layers.
    n_face_sharing_cations
        Cations on octahedra that share a face with the waypoint, the mover not counted. The
        waypoint of a dumbbell hop is the two tetrahedra beside the edge, that of another
        straight path its end.
    n_face_sharing_vacancies
        Empty octahedra that share a face with the waypoint, the destination included.
    vacancy_cluster_size
        Empty octahedra connected by faces and edges with the destination, itself included.
    o_classes_left, o_classes_joined
        Classes of the anions around the start and around the end before the hop, e.g. "O4:2 O5:4".
    tm_coordination_start, tm_coordination_end
        TM among the edge-sharing ``tm_oct`` at the start, and at the end once the mover left.
    n_oxygen_vacancies
        Missing anions among those of start, waypoint and end; sites in the vacuum beside a slab
        miss none.
    stacking
        Stacking of the frame, or the name of a frame without layers.
    """

    model_config = ConfigDict(frozen=True)

    li_fraction_li_layer: float | None
    li_fraction_tm_layer: float | None
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

    Examples
    --------
    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> pristine = build_pristine("LiCoO2", min_atoms=72, max_atoms=72).occupation
    >>> one_vacancy = pristine.with_species({pristine.sites_of("Li")[0]: None})
    >>> {hop.mechanism.value for hop in all_hops(one_vacancy, ["Li"], PathClass.LI_HOP)}
    {'dumbbell'}
    """
    allowed = set(movers)
    return tuple(
        Hop(
            mover=mover,
            path_class=path_class,
            start=start,
            via=via,
            end=end,
            mechanism=mechanism,
        )
        for start, via, end, mechanism in _events(occupation, path_class)
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
    return _least_hindered_first(
        occupation, _distinct(occupation, all_hops(occupation, movers, path_class))
    )


def hops_without_lithium(
    occupation: Occupation, mover: str, path_class: PathClass
) -> tuple[Hop, ...]:
    """Symmetry-distinct events that are possible once the Li in their way has left.

    A full crystal has no vacancy to hop to. Here every Li but the mover counts as gone, and
    events are the same where the symmetry of the full crystal makes them so; the least hindered
    comes first.

    Parameters
    ----------
    occupation
        Occupation with its Li.
    mover
        Element that hops.
    path_class
        Path class to look for.

    Raises
    ------
    ValueError
        If there is no such event; the message says why.

    Examples
    --------
    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> pristine = build_pristine("Li2MnO3", min_atoms=72, max_atoms=72).occupation
    >>> find_hops(pristine, ["Mn"], PathClass.IN_PLANE)
    ()
    >>> [hop.degeneracy for hop in hops_without_lithium(pristine, "Mn", PathClass.IN_PLANE)]
    [24, 24, 24]
    """
    lithium = occupation.sites_of("Li")
    emptied = occupation.with_species(dict.fromkeys(lithium))
    if mover == "Li":
        alone = [(site, emptied.with_species({site: "Li"})) for site in lithium]
        found = [
            hop
            for site, single in alone
            for hop in all_hops(single, [mover], path_class)
            if hop.start == site
        ]
    else:
        found = list(all_hops(emptied, [mover], path_class))
    if not found:
        raise ValueError(f"no {path_class.value} hop: {why_no_hop(emptied, [mover], path_class)}")
    return _least_hindered_first(emptied, _distinct(occupation, found))


def _distinct(occupation: Occupation, hops: Iterable[Hop]) -> list[Hop]:
    """One hop of every kind that the symmetry of an occupation tells apart."""
    permutations = site_permutations(occupation)
    orbits: dict[tuple[int, int, int], list[Hop]] = {}
    for hop in hops:
        triples = permutations[:, [hop.start, (hop.via or hop.end).site, hop.end.site]]
        orbits.setdefault(min(map(tuple, triples.tolist())), []).append(hop)
    return [orbit[0].model_copy(update={"degeneracy": len(orbit)}) for orbit in orbits.values()]


def _least_hindered_first(occupation: Occupation, hops: Iterable[Hop]) -> tuple[Hop, ...]:
    def hindrance(hop: Hop) -> tuple[int, int, int, int, int]:
        around = surroundings(occupation, hop)
        return (
            around.n_face_sharing_cations,
            around.tm_coordination_end,
            -around.vacancy_cluster_size,
            hop.start,
            hop.end.site,
        )

    return tuple(sorted(hops, key=hindrance))


def why_no_hop(occupation: Occupation, movers: Iterable[str], path_class: PathClass) -> str:
    """Sentence that says why :func:`find_hops` finds nothing, for a path class without events."""
    frame = occupation.frame
    start_kinds, _, end_kinds = PATH_KINDS[path_class]
    movers = tuple(movers)
    names = " or ".join(movers)
    starts, ends = frame.sites(*start_kinds).tolist(), frame.sites(*end_kinds)
    for kinds, sites in ((start_kinds, starts), (end_kinds, ends)):
        if not len(sites):
            return f"a frame of {frame.label} has no {_listed(kinds)}"
    start_kind, end_kind = frame.kinds[starts[0]].value, frame.kinds[ends[0]].value
    if not any(occupation.species[site] in movers for site in starts):
        return f"no {names} on {start_kind}"
    if not any(_routes(frame, start, path_class) for start in starts):
        return f"no {start_kind} shares a face with {end_kind} in a frame of {frame.label}"
    if not occupation.sites_of(None, *end_kinds):
        return f"no vacancy on {end_kind} at this Li content"
    return f"no vacant {end_kind} next to {names} through a free waypoint"


def _listed(kinds: tuple[SiteKind, ...]) -> str:
    return " or ".join(kind.value for kind in kinds)


#: Start, waypoint (None: straight), end, and how Li hops (None: another path class).
_Event = tuple[int, Neighbour | None, Neighbour, LithiumMechanism | None]


def _events(occupation: Occupation, path_class: PathClass) -> Iterator[_Event]:
    """Events of whatever sits on the start, with an empty end and an empty waypoint.

    Both keep at least half of their anions: no ion hops off a slab.
    """
    frame, species = occupation.frame, occupation.species
    for start in frame.sites(*PATH_KINDS[path_class][0]).tolist():
        if species[start] is None:
            continue
        routes = [
            (via, end)
            for via, end in _routes(frame, start, path_class)
            if species[end.site] is None
            and (via is None or species[via.site] is None)
            and occupation.is_enclosed(end.site)
            and (via is None or occupation.is_enclosed(via.site))
            and not _crowded(occupation, end, start)
        ]
        if path_class is not PathClass.LI_HOP:
            yield from ((start, via, end, None) for via, end in routes)
        elif frame.kinds[start] is SiteKind.LI_PRISM:
            yield from _among_prisms(occupation, start, routes)
        else:
            yield from _among_octahedra(occupation, start, routes)


_Routes = list[tuple[Neighbour | None, Neighbour]]


def _routes(frame: Frame, start: int, path_class: PathClass) -> _Routes:
    """(via, end) of all ways out of a site over shared faces, occupied or not.

    Straight through a shared face where there is one, and through every waypoint. From one prism
    of P3 to the next the way is straight, and to the one after it, through the one between.
    """
    _, via_kinds, end_kinds = PATH_KINDS[path_class]
    here = Neighbour(start, (0, 0, 0))
    if frame.kinds[start] is SiteKind.LI_PRISM:
        via_kinds = end_kinds = (SiteKind.LI_PRISM,)
    routes: _Routes = [(None, end) for end in _faces(frame, here, *end_kinds)]
    if via_kinds:
        routes += [
            (via, end)
            for via in _faces(frame, here, *via_kinds)
            for end in _faces(frame, via, *end_kinds)
            if end != here
        ]
    return routes


def _faces(frame: Frame, centre: Neighbour, *kinds: SiteKind) -> list[Neighbour]:
    """Sites that share a face with a site in some lattice image."""
    shared = []
    for sharing in (Sharing.FACE, Sharing.RECTANGULAR_FACE):
        for step in frame.neighbours(centre.site, sharing, *kinds):
            i, j, k = (int(x) for x in np.add(centre.image, step.image))
            shared.append(Neighbour(step.site, (i, j, k)))
    return shared


def _among_octahedra(occupation: Occupation, start: int, routes: _Routes) -> Iterator[_Event]:
    """Events through every tetrahedron that faces a second vacancy, else over the edge."""
    ways: dict[Neighbour, list[Neighbour]] = {}
    for via, end in routes:
        if via is not None:
            ways.setdefault(end, []).append(via)
    for end, tetrahedra in ways.items():
        open_ways = [via for via in tetrahedra if _faces_vacancy(occupation, via, end)]
        for via in open_ways:
            yield start, via, end, LithiumMechanism.DIVACANCY
        if not open_ways:
            yield start, None, end, LithiumMechanism.DUMBBELL


def _faces_vacancy(occupation: Occupation, tetrahedron: Neighbour, end: Neighbour) -> bool:
    """Whether a tetrahedron shares a face with an empty octahedron besides the destination."""
    octahedra = _faces(occupation.frame, tetrahedron, *OCTAHEDRA)
    return any(_is_vacancy(occupation, n.site) for n in octahedra if n != end)


def _is_vacancy(occupation: Occupation, site: int) -> bool:
    return occupation.species[site] is None and occupation.is_enclosed(site)


def _among_prisms(occupation: Occupation, start: int, routes: _Routes) -> Iterator[_Event]:
    """Events into a neighbouring prism with room, else through it to the one behind."""
    for via, end in routes:
        if via is None:
            yield start, None, end, LithiumMechanism.DIVACANCY
        elif _crowded(occupation, via, start):
            yield start, via, end, LithiumMechanism.MONOVACANCY


def _crowded(occupation: Occupation, site: Neighbour, start: int) -> bool:
    """Whether a prism has an ion beside it that does not hop, too close for both to stay."""
    return occupation.frame.kinds[site.site] is SiteKind.LI_PRISM and any(
        occupation.species[beside.site] is not None and beside.site != start
        for beside in occupation.frame.neighbours(site.site, Sharing.RECTANGULAR_FACE)
    )


def surroundings(occupation: Occupation, hop: Hop) -> HopSurroundings:
    """Describe the surroundings of a hop in the occupation before it happens."""
    frame = occupation.frame
    waypoints = _waypoints(frame, hop)
    faces = {n for waypoint in waypoints for n in _faces(frame, waypoint, *SIX_COORDINATE)}
    others = [n.site for n in faces if n.site != hop.start]
    classes = {env.site: env.o_class.value for env in oxygen_environments(occupation)}
    left = [v.site for v in frame.vertices[hop.start]]
    joined = [v.site for v in frame.vertices[hop.end.site]]
    passed = [v.site for waypoint in waypoints for v in frame.vertices[waypoint.site]]
    after = occupation.with_species({hop.start: None, hop.end.site: hop.mover})
    vacuum = sites_in_vacuum(occupation)

    def li_fraction(*kinds: SiteKind) -> float | None:
        if not frame.n_layers:
            return None
        return len(occupation.sites_of("Li", *kinds)) / len(frame.sites(SiteKind.TM_OCT))

    def histogram(anions: list[int]) -> str:
        counts = Counter(classes[a] for a in anions if a in classes)
        return " ".join(f"{name}:{n}" for name, n in sorted(counts.items()))

    return HopSurroundings(
        li_fraction_li_layer=li_fraction(SiteKind.LI_OCT, SiteKind.LI_PRISM),
        li_fraction_tm_layer=li_fraction(SiteKind.TM_OCT),
        n_face_sharing_cations=sum(occupation.species[site] is not None for site in others),
        n_face_sharing_vacancies=sum(_is_vacancy(occupation, site) for site in others),
        vacancy_cluster_size=len(vacancy_cluster(occupation, hop.end.site)),
        o_classes_left=histogram(left),
        o_classes_joined=histogram(joined),
        tm_coordination_start=tm_coordination(occupation, hop.start),
        tm_coordination_end=tm_coordination(after, hop.end.site),
        n_oxygen_vacancies=sum(
            occupation.species[anion] is None for anion in {*left, *passed, *joined} - vacuum
        ),
        stacking=frame.label,
    )


def _waypoints(frame: Frame, hop: Hop) -> list[Neighbour]:
    """Polyhedra that the mover passes between start and end; the end of a straight path."""
    if hop.via is not None:
        return [hop.via]
    if hop.mechanism is LithiumMechanism.DUMBBELL:
        routes = _routes(frame, hop.start, hop.path_class)
        return [via for via, end in routes if via is not None and end == hop.end]
    return [hop.end]


def vacancy_cluster(occupation: Occupation, site: int) -> frozenset[int]:
    """Empty octahedra connected with `site` through shared faces and edges, itself included."""
    cluster, frontier = {site}, [site]
    while frontier:
        current = frontier.pop()
        for sharing in (Sharing.FACE, Sharing.EDGE):
            for neighbour in occupation.frame.neighbours(current, sharing, *OCTAHEDRA):
                if neighbour.site not in cluster and _is_vacancy(occupation, neighbour.site):
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
