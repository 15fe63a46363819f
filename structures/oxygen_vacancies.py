"""Oxygen vacancies, by oxygen class and by distance to a hop."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice

from .defects import Defect, make_defect
from .frame import Frame
from .hops import Hop
from .occupation import Occupation
from .oxygen_environment import OxygenClass, oxygen_environments
from .site_orbits import MAX_DISTINCT, distinct_sets
from .symmetry import site_permutations


@dataclass(frozen=True)
class OxygenVacancies:
    """Oxygen missing from some anion sites.

    Attributes
    ----------
    sites
        Anion sites, ascending.
    o_classes
        Oxygen classes of the sites before, in the same order.
    distance
        Distance from the nearest of the sites to the straight legs of the hop, Å; None where no
        hop was given.
    defect
        The change, with its degeneracy and formal charge.
    """

    sites: tuple[int, ...]
    o_classes: tuple[OxygenClass, ...]
    distance: float | None
    defect: Defect


def oxygen_vacancies(
    occupation: Occupation,
    number: int = 1,
    *,
    o_class: OxygenClass | None = None,
    oxidation_states: Mapping[str, float] | None = None,
    max_distinct: int = MAX_DISTINCT,
) -> tuple[OxygenVacancies, ...]:
    """All symmetry-distinct sets of oxygen vacancies, the most frequent first.

    Parameters
    ----------
    occupation
        Occupation before.
    number
        Vacancies in the cell.
    o_class
        Class of the oxygen that is removed; any if None.
    oxidation_states
        Replaces or extends :data:`lrlo.structures.composition.OXIDATION_STATES`.
    max_distinct
        Largest number of sets to list.

    Raises
    ------
    ValueError
        If the number is not positive, there are fewer O of the class (the message lists the
        classes that there are), or there are more than `max_distinct` sets.

    Examples
    --------
    C2/m Li2MnO3 has two kinds of O, 4i and 8j; either vacancy leaves a charge of +2:

    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> pristine = build_pristine("Li2MnO3", min_atoms=24, max_atoms=24).occupation
    >>> [(v.o_classes[0].value, v.defect.degeneracy, v.defect.charge.change)
    ...  for v in oxygen_vacancies(pristine)]
    [('O4', 8, 2.0), ('O4', 4, 2.0)]
    """
    if number < 1:
        raise ValueError(f"the number of vacancies must be positive, got {number}")
    classes = _oxygen_classes(occupation, o_class)
    if number > len(classes):
        which = "O" if o_class is None else f"O of class {o_class.value}"
        raise ValueError(f"cannot remove {number} of {len(classes)} {which}")
    vacancies = [
        OxygenVacancies(
            orbit.sites,
            tuple(classes[site] for site in orbit.sites),
            None,
            make_defect(occupation, dict.fromkeys(orbit.sites), oxidation_states, orbit.degeneracy),
        )
        for orbit in distinct_sets(
            site_permutations(occupation), list(classes), number, max_distinct
        )
    ]
    return tuple(sorted(vacancies, key=lambda v: (-v.defect.degeneracy, v.sites)))


def oxygen_vacancies_near(
    occupation: Occupation,
    hop: Hop,
    *,
    max_distance: float,
    o_class: OxygenClass | None = None,
    oxidation_states: Mapping[str, float] | None = None,
) -> tuple[OxygenVacancies, ...]:
    """Single oxygen vacancies around a hop that the hop's symmetry tells apart, nearest first.

    Parameters
    ----------
    occupation
        Occupation before the hop and the vacancy.
    hop
        Hop that the vacancy is to act on.
    max_distance
        Largest distance from the straight legs start - waypoint - end on the frame, Å. The
        anions of the polyhedra that the mover passes lie within about 2.1 Å.
    o_class, oxidation_states
        See :func:`oxygen_vacancies`.

    Raises
    ------
    ValueError
        If the distance is not positive, the cell has no O of the class, or none is that close.

    Examples
    --------
    >>> from lrlo.structures.hops import PathClass, find_hops
    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> pristine = build_pristine("Li2MnO3", min_atoms=72, max_atoms=72).occupation
    >>> charged = pristine.with_species({pristine.sites_of("Li")[0]: None})
    >>> hop = find_hops(charged, ["Mn"], PathClass.IN_PLANE)[0]
    >>> near = oxygen_vacancies_near(charged, hop, max_distance=2.0)
    >>> sum(v.defect.degeneracy for v in near)  # six at the start, four more at the end
    10
    """
    if not max_distance > 0:
        raise ValueError(f"max_distance must be positive, got {max_distance} Å")
    classes = _oxygen_classes(occupation, o_class)
    distances = _distances_to_path(occupation.frame, hop, list(classes), max_distance)
    if not distances:
        raise ValueError(f"no O within {max_distance} Å of {hop.label}; raise max_distance")
    permutations = site_permutations(occupation)
    path = [hop.start, (hop.via or hop.end).site, hop.end.site]
    kept = permutations[(permutations[:, path] == path).all(axis=1)]
    orbits: dict[tuple[int, float], list[int]] = {}
    for site, distance in distances.items():
        orbits.setdefault((int(kept[:, site].min()), round(distance, 3)), []).append(site)
    vacancies = [
        OxygenVacancies(
            (sites[0],),
            (classes[sites[0]],),
            distances[sites[0]],
            make_defect(occupation, {sites[0]: None}, oxidation_states, len(sites)),
        )
        for sites in orbits.values()
    ]
    return tuple(sorted(vacancies, key=lambda v: (round(v.distance or 0.0, 3), v.sites)))


def _oxygen_classes(occupation: Occupation, o_class: OxygenClass | None) -> dict[int, OxygenClass]:
    """Class of every O that is present, of one class only if given."""
    classes = {
        environment.site: environment.o_class
        for environment in oxygen_environments(occupation)
        if occupation.species[environment.site] == "O"
    }
    chosen = {site: c for site, c in classes.items() if o_class in (None, c)}
    if not chosen:
        having = ", ".join(f"{c.value} ({n})" for c, n in sorted(Counter(classes.values()).items()))
        raise ValueError(
            f"no O of class {o_class.value if o_class else 'any'} in this cell; it has "
            f"{having or 'no O'}"
        )
    return chosen


def _distances_to_path(
    frame: Frame, hop: Hop, anions: list[int], max_distance: float
) -> dict[int, float]:
    """Distance of anions to the straight legs of a hop on the frame, Å, up to a largest one."""
    steps = [step for step in (hop.via, hop.end) if step is not None]
    corners = [frame.frac_coords[hop.start]]
    corners += [frame.frac_coords[step.site] + step.image for step in steps]
    path = np.array(corners) @ frame.lattice
    reach = max_distance + float(np.linalg.norm(path - path[0], axis=1).max())
    lattice = Lattice(frame.lattice)
    found: dict[int, float] = {}
    for frac, _, index, _ in lattice.get_points_in_sphere(
        frame.frac_coords[anions], path[0], reach
    ):
        site = anions[int(index)]
        distance = _distance_to_legs(lattice.get_cartesian_coords(frac), path)
        if distance <= min(max_distance, found.get(site, np.inf)):
            found[site] = distance
    return found


def _distance_to_legs(point: NDArray[np.float64], path: NDArray[np.float64]) -> float:
    """Distance of a point to a polyline, shape (n_corners, 3), Å."""
    distances = []
    for start, end in pairwise(path):
        leg = end - start
        share = np.clip((point - start) @ leg / (leg @ leg), 0, 1)
        distances.append(float(np.linalg.norm(point - start - share * leg)))
    return min(distances)
