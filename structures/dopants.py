"""Dopants: foreign ions on a class of sites."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from .defects import Defect, make_defect
from .occupation import Occupation
from .site_classes import SiteClass, sites_of_class
from .site_orbits import MAX_DISTINCT, distinct_sets
from .symmetry import site_permutations


def distinct_dopants(
    occupation: Occupation,
    dopants: Mapping[str, int],
    site_class: SiteClass,
    *,
    layer: int | None = None,
    replaces: str | None = None,
    oxidation_states: Mapping[str, float] | None = None,
    max_distinct: int = MAX_DISTINCT,
) -> tuple[Defect, ...]:
    """All symmetry-distinct ways to put dopants on a class of sites.

    Parameters
    ----------
    occupation
        Occupation before doping.
    dopants
        Number of ions of every dopant.
    site_class, layer
        Sites to dope, see :func:`sites_of_class`.
    replaces
        Only sites that hold this species; all of the class if None.
    oxidation_states
        Replaces or extends :data:`lrlo.structures.composition.OXIDATION_STATES`.
    max_distinct
        Largest number of placements to list.

    Returns
    -------
    placements
        One placement for every orbit of the space group of the decorated frame; their
        degeneracies add up to the number of all placements.

    Raises
    ------
    ValueError
        If the sites do not exist or are too few, a dopant is not an element or its number is not
        positive, or there are more than `max_distinct` placements.

    Examples
    --------
    Every Mn of Li2MnO3 is the same by symmetry; two Ti on them go in two ways:

    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> pristine = build_pristine("Li2MnO3", min_atoms=24, max_atoms=24).occupation
    >>> [d.degeneracy for d in distinct_dopants(pristine, {"Ti": 1}, SiteClass.TM)]
    [4]
    >>> sum(d.degeneracy for d in distinct_dopants(pristine, {"Ti": 2}, SiteClass.TM))
    6
    """
    sites = _candidates(occupation, dopants, site_class, layer, replaces)
    placements: list[tuple[dict[int, str], int, NDArray[np.int64]]] = [
        ({}, 1, site_permutations(occupation))
    ]
    # The next dopant sees the symmetry that the ones before have left.
    for dopant, number in dopants.items():
        placements = [
            (
                {**taken, **dict.fromkeys(orbit.sites, dopant)},
                degeneracy * orbit.degeneracy,
                orbit.permutations,
            )
            for taken, degeneracy, permutations in placements
            for orbit in distinct_sets(
                permutations, [s for s in sites if s not in taken], number, max_distinct
            )
        ]
        if len(placements) > max_distinct:
            raise ValueError(
                f"{len(placements)} symmetry-distinct placements or more exceed the limit of "
                f"{max_distinct}: raise max_distinct, or use random_dopants"
            )
    return tuple(
        make_defect(occupation, taken, oxidation_states, degeneracy)
        for taken, degeneracy, _ in placements
    )


def random_dopants(
    occupation: Occupation,
    dopants: Mapping[str, int],
    site_class: SiteClass,
    *,
    seed: int,
    layer: int | None = None,
    replaces: str | None = None,
    oxidation_states: Mapping[str, float] | None = None,
) -> Defect:
    """Put dopants on a class of sites at random, every placement equally likely.

    Parameters
    ----------
    occupation
        Occupation before doping.
    dopants
        Number of ions of every dopant.
    site_class, layer, replaces, oxidation_states
        See :func:`distinct_dopants`.
    seed
        Seed of the draw.

    Raises
    ------
    ValueError
        As :func:`distinct_dopants`.

    Examples
    --------
    One F for O adds a charge of +1, to be balanced by an electron on the TM:

    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> pristine = build_pristine("Li2MnO3", min_atoms=24, max_atoms=24).occupation
    >>> doped = random_dopants(pristine, {"F": 1}, SiteClass.ANION, seed=1)
    >>> doped.occupation.count()["F"], doped.charge.change
    (1, 1.0)
    """
    sites = _candidates(occupation, dopants, site_class, layer, replaces)
    drawn = np.random.default_rng(seed).permutation(sites)
    changes: dict[int, str | None] = {}
    for dopant, number in dopants.items():
        chosen = drawn[len(changes) : len(changes) + number]
        changes |= dict.fromkeys((int(site) for site in chosen), dopant)
    return make_defect(occupation, changes, oxidation_states)


def _candidates(
    occupation: Occupation,
    dopants: Mapping[str, int],
    site_class: SiteClass,
    layer: int | None,
    replaces: str | None,
) -> list[int]:
    """Sites that the dopants may take, after checks of what was asked for."""
    if not dopants:
        raise ValueError('no dopant given; name elements with numbers, such as {"Ti": 1}')
    if unknown := [symbol for symbol in dopants if not Element.is_valid_symbol(symbol)]:
        raise ValueError(f"unknown elements among the dopants: {', '.join(unknown)}")
    if wrong := {symbol: n for symbol, n in dopants.items() if n < 1}:
        raise ValueError(f"the number of every dopant must be positive, got {wrong}")
    sites = sites_of_class(occupation, site_class, layer=layer, species=replaces)
    free = [site for site in sites if occupation.species[site] not in dopants]
    if sum(dopants.values()) > len(free):
        where = site_class.value if replaces is None else f"{site_class.value} with {replaces}"
        raise ValueError(
            f"{sum(dopants.values())} dopants do not fit on {len(free)} sites of class {where}"
        )
    return free
