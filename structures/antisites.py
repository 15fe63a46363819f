"""Antisite pairs: two cations of different layers exchanged."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Lattice

from .defects import Defect, make_defect
from .occupation import Occupation
from .site_classes import SiteClass, sites_of_class
from .symmetry import site_permutations


@dataclass(frozen=True)
class AntisitePair:
    """Li of the Li layer and a TM of the TM layer, exchanged.

    Attributes
    ----------
    li_site, tm_site
        Sites that held Li and the TM before.
    distance
        Shortest distance between the two sites on the frame, Å.
    defect
        The exchange, with its degeneracy and formal charge.
    """

    li_site: int
    tm_site: int
    distance: float
    defect: Defect


def antisite_pairs(
    occupation: Occupation,
    tm: str,
    *,
    max_distance: float,
    oxidation_states: Mapping[str, float] | None = None,
) -> tuple[AntisitePair, ...]:
    """All symmetry-distinct Li/TM antisite pairs within a distance, the closest first.

    Parameters
    ----------
    occupation
        Occupation before the exchange.
    tm
        Element that goes to the Li layer, such as Ni.
    max_distance
        Largest distance between the two sites, Å. Neighbours across the layers are about 2.9 Å
        apart; the second shell begins near 4.1 Å.
    oxidation_states
        Replaces or extends :data:`lrlo.structures.composition.OXIDATION_STATES`.

    Raises
    ------
    ValueError
        If the distance is not positive, the cell has no such site class, the TM layer does not
        hold the element, or no pair is that close (with the distance of the closest).

    Examples
    --------
    Every one of the 18 Li of a LiCoO2 cell has six Co around it:

    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> pristine = build_pristine("LiCoO2", min_atoms=72, max_atoms=72).occupation
    >>> pairs = antisite_pairs(pristine, "Co", max_distance=3.0)
    >>> sum(pair.defect.degeneracy for pair in pairs), round(pairs[0].distance, 2)
    (108, 2.89)
    """
    if not max_distance > 0:
        raise ValueError(f"max_distance must be positive, got {max_distance} Å")
    lithium = sites_of_class(occupation, SiteClass.LI_LAYER)
    metals = sites_of_class(occupation, SiteClass.TM, species=tm)
    frac = occupation.frame.frac_coords
    distances = Lattice(occupation.frame.lattice).get_all_distances(
        frac[list(lithium)], frac[list(metals)]
    )
    if distances.min() > max_distance:
        raise ValueError(
            f"no Li/{tm} pair within {max_distance} Å; the closest is {distances.min():.2f} Å"
        )
    permutations = site_permutations(occupation)
    orbits: dict[tuple[int, int], list[tuple[int, int, float]]] = {}
    for i, j in np.argwhere(distances <= max_distance):
        pair = lithium[i], metals[j]
        first = min(map(tuple, permutations[:, pair].tolist()))
        orbits.setdefault(first, []).append((*pair, float(distances[i, j])))
    pairs = []
    for orbit in orbits.values():
        li_site, tm_site, distance = orbit[0]
        changes = {li_site: tm, tm_site: "Li"}
        defect = make_defect(occupation, changes, oxidation_states, degeneracy=len(orbit))
        pairs.append(AntisitePair(li_site, tm_site, distance, defect))
    return tuple(sorted(pairs, key=lambda pair: (round(pair.distance, 3), pair.li_site)))
