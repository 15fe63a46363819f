"""Octahedral cation neighbours of every anion, and TM-TM coordination, from an occupation."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from .frame import TETRAHEDRA, Sharing, SiteKind
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

    In P3 an anion has three octahedra of the TM layer and six prisms of the Li layer around it.
    Ions in prisms that share a rectangular face would be 1.65 Å apart, so that at most three of
    the six are taken: an anion has six places for cations there, too, and as many vacancies as
    are missing to six neighbours.

    Attributes
    ----------
    site
        Anion site of the frame.
    n_tm, n_li, n_vac, n_other
        Octahedral (or prismatic) neighbours that hold a TM, a Li, nothing, another cation; they
        add up to six.
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
        return OxygenClass(f"O{max(0, 6 - self.n_tm)}")


def oxygen_environments(occupation: Occupation) -> tuple[OxygenEnvironment, ...]:
    """Environment of every O, in site order; other anions have none."""
    frame = occupation.frame
    tetrahedral: Counter[int] = Counter()
    for site in frame.sites(*TETRAHEDRA):
        if is_transition_metal(occupation.species[site]):
            tetrahedral.update(corner.site for corner in frame.vertices[site])
    environments = []
    for anion, neighbours in frame.cations_of_anion.items():
        if occupation.species[anion] != "O":
            continue
        around = [s for site in neighbours if (s := occupation.species[site]) is not None]
        tm = tuple(sorted(s for s in around if is_transition_metal(s)))
        n_li = around.count("Li")
        environments.append(
            OxygenEnvironment(
                site=anion,
                n_tm=len(tm),
                n_li=n_li,
                # More than six only if ions crowd face-sharing prisms.
                n_vac=max(0, 6 - len(around)),
                n_other=len(around) - len(tm) - n_li,
                n_tm_tet=tetrahedral[anion],
                tm_species=tm,
            )
        )
    return tuple(environments)


def tm_coordination(occupation: Occupation, site: int) -> int:
    """Number of TM among the ``tm_oct`` that share an edge with a site, images counted.

    A TM of a honeycomb has 3, of a full TM layer 6. In a frame without layers all octahedra that
    share an edge count; in full rock salt there are 12.
    """
    return sum(
        is_transition_metal(occupation.species[neighbour.site])
        for neighbour in occupation.frame.neighbours(
            site, Sharing.EDGE, SiteKind.TM_OCT, SiteKind.CATION_OCT
        )
    )
