"""Oxygen coordination of a structure: class fractions, histogram, TM-TM neighbours."""

from collections import Counter

import numpy as np
from pydantic import BaseModel, ConfigDict
from pymatgen.core import Structure

from ..structures.frame import TETRAHEDRA, SiteKind
from ..structures.occupation import Occupation, is_transition_metal
from ..structures.oxygen_environment import OxygenClass, oxygen_environments, tm_coordination

#: A TM this close to an O counts as bonded in the frame-free cross-check, Å.
TM_O_BOND = 2.6


class EnvironmentCount(BaseModel):
    """Number of anions with one and the same octahedral surroundings."""

    model_config = ConfigDict(frozen=True)

    o_class: OxygenClass
    n_tm: int
    n_li: int
    n_vac: int
    n_other: int
    tm_species: tuple[str, ...]
    count: int


class CoordinationSummary(BaseModel):
    """What surrounds the oxygen and the TM of one structure.

    Attributes
    ----------
    n_oxygen
        Anions counted.
    class_fractions
        Share of every class over all O; they add up to one.
    o4_fraction
        The paper's fraction O4/(O4+O5); None where there is neither.
    histogram
        Anions by (n_tm, n_li, n_vac, TM species).
    n_tm_tet
        TM on tetrahedra, counted apart.
    n_tm_li_layer
        TM on octahedra of the Li layers; None in a frame without layers.
    n_li_tet
        Li on tetrahedra.
    tm_tm_coordination
        Mean number of TM among the six edge-sharing ``tm_oct``, for TM on ``tm_oct``; among the
        twelve edge-sharing octahedra in a frame without layers. None where no TM sits there.
    tm_tm_histogram
        Number of TM on such octahedra by that coordination.
    n_unexplained
        Atoms that no site of the frame explains; None where it was not asked.
    """

    model_config = ConfigDict(frozen=True)

    n_oxygen: int
    class_fractions: dict[str, float]
    o4_fraction: float | None
    histogram: tuple[EnvironmentCount, ...]
    n_tm_tet: int
    n_tm_li_layer: int | None
    n_li_tet: int
    tm_tm_coordination: float | None
    tm_tm_histogram: dict[int, int]
    n_unexplained: int | None = None


def summarise_coordination(
    occupation: Occupation, n_unexplained: int | None = None
) -> CoordinationSummary:
    """Count oxygen environments and TM-TM neighbours of an occupation.

    Parameters
    ----------
    occupation
        Species on the frame, e.g. from ``assign(structure, frame).occupation``.
    n_unexplained
        Atoms that the assignment left over, kept with the result.
    """
    environments = oxygen_environments(occupation)
    classes = Counter(environment.o_class for environment in environments)
    same: Counter[tuple] = Counter(
        (e.o_class, e.n_tm, e.n_li, e.n_vac, e.n_other, e.tm_species) for e in environments
    )
    coordination = [
        tm_coordination(occupation, int(site))
        for site in occupation.frame.sites(SiteKind.TM_OCT, SiteKind.CATION_OCT)
        if is_transition_metal(occupation.species[site])
    ]

    def tm_on(*kinds: SiteKind) -> int:
        return sum(n for s, n in occupation.count(*kinds).items() if is_transition_metal(s))

    o4, o5 = classes[OxygenClass.O4], classes[OxygenClass.O5]
    return CoordinationSummary(
        n_oxygen=len(environments),
        class_fractions={c.value: n / len(environments) for c, n in sorted(classes.items())},
        o4_fraction=o4 / (o4 + o5) if o4 + o5 else None,
        histogram=tuple(
            EnvironmentCount(
                o_class=key[0],
                n_tm=key[1],
                n_li=key[2],
                n_vac=key[3],
                n_other=key[4],
                tm_species=key[5],
                count=count,
            )
            for key, count in sorted(same.items())
        ),
        n_tm_tet=tm_on(*TETRAHEDRA),
        n_tm_li_layer=tm_on(SiteKind.LI_OCT, SiteKind.LI_PRISM)
        if occupation.frame.n_layers
        else None,
        n_li_tet=occupation.count(*TETRAHEDRA)["Li"],
        tm_tm_coordination=float(np.mean(coordination)) if coordination else None,
        tm_tm_histogram=dict(sorted(Counter(coordination).items())),
        n_unexplained=n_unexplained,
    )


def frame_free_class_fractions(structure: Structure, cutoff: float = TM_O_BOND) -> dict[str, float]:
    """Class fractions from TM within a cutoff of every O, without any frame.

    A cross-check for cells whose frame is lost: it cannot tell octahedra from tetrahedra.

    Parameters
    ----------
    structure
        Any structure with oxygen.
    cutoff
        Largest TM-O distance that counts, Å.
    """
    symbols = [site.specie.symbol for site in structure]
    counts = dict.fromkeys((i for i, s in enumerate(symbols) if s == "O"), 0)
    centres, neighbours, _, _ = structure.get_neighbor_list(cutoff)
    for centre, neighbour in zip(centres.tolist(), neighbours.tolist(), strict=True):
        if centre in counts and is_transition_metal(symbols[neighbour]):
            counts[centre] += 1
    classes = Counter(f"O{6 - min(n, 6)}" for n in counts.values())
    return {name: n / len(counts) for name, n in sorted(classes.items())}
