"""Octahedral cation neighbours of every anion, and TM-TM coordination, from an occupation."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from .frame import Sharing, SiteKind
from .occupation import Occupation, is_transition_metal


class OxygenClass(StrEnum):
    """Oxygen-coordination label: "O" + (6 - number of TM neighbours).

    O4 is OLi4TM2 of Li2MnO3, O5 is OLi5TM1. Vacancies do not change the class; a TM that moves
    does. Not to be confused with the stacking labels O3, O2, O1.
    """

    O0 = "O0"
    O1 = "O1"
    O2 = "O2"
    O3 = "O3"
    O4 = "O4"
    O5 = "O5"
    O6 = "O6"


@dataclass(frozen=True)
class OxygenEnvironment:
    """What sits on the six octahedra around one anion.

    Attributes
    ----------
    site
        Anion site of the frame.
    n_tm, n_li, n_vac, n_other
        Octahedral neighbours that hold a TM, a Li, nothing, another cation; they add up to six.
    n_tm_tet
        TM on tetrahedra that touch the anion; not part of the six.
    tm_species
        TM neighbours by element, sorted.
    """

    site: int
    n_tm: int
    n_li: int
    n_vac: int
    n_other: int
    n_tm_tet: int
    tm_species: tuple[str, ...]

    @property
    def o_class(self) -> OxygenClass:
        """Class by the number of TM neighbours."""
        return OxygenClass(f"O{6 - self.n_tm}")


def oxygen_environments(occupation: Occupation) -> tuple[OxygenEnvironment, ...]:
    """Environment of every anion that is present, in site order."""
    frame = occupation.frame
    tetrahedral: Counter[int] = Counter()
    for site in frame.sites(SiteKind.TM_TET, SiteKind.LI_TET):
        if is_transition_metal(occupation.species[site]):
            tetrahedral.update(corner.site for corner in frame.vertices[site])
    environments = []
    for anion, neighbours in frame.cations_of_anion.items():
        if occupation.species[anion] is None:
            continue
        around = [occupation.species[site] for site in neighbours]
        tm = tuple(sorted(s for s in around if s is not None and is_transition_metal(s)))
        n_li, n_vac = around.count("Li"), around.count(None)
        environments.append(
            OxygenEnvironment(
                site=anion,
                n_tm=len(tm),
                n_li=n_li,
                n_vac=n_vac,
                n_other=6 - len(tm) - n_li - n_vac,
                n_tm_tet=tetrahedral[anion],
                tm_species=tm,
            )
        )
    return tuple(environments)


def tm_coordination(occupation: Occupation, site: int) -> int:
    """Number of TM among the ``tm_oct`` that share an edge with a site, images counted.

    A TM of a honeycomb has 3, of a full TM layer 6.
    """
    return sum(
        is_transition_metal(occupation.species[neighbour.site])
        for neighbour in occupation.frame.neighbours(site, Sharing.EDGE, SiteKind.TM_OCT)
    )
