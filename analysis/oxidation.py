"""Oxidation states of TM from magnetic moments."""

from collections import Counter
from collections.abc import Sequence
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict

#: Largest moment (Bohr magneton) of every oxidation state, PBE+U, octahedral, Ni(III) and Co(III)
#: low spin; half way between typical moments: Mn(IV) 3.1, Mn(III) 3.9, Mn(II) 4.6; Ni(IV) 0.1,
#: Ni(III) 1.0, Ni(II) 1.7; Co(III) 0.1, Co(IV) 1.1; cf. Deng et al., Nat. Mach. Intell. 5, 1031.
MOMENT_THRESHOLDS = MappingProxyType(
    {
        "Mn": ((3.5, 4), (4.25, 3), (6.0, 2)),
        "Ni": ((0.55, 4), (1.35, 3), (3.0, 2)),
        "Co": ((0.6, 3), (2.0, 4), (4.0, 2)),
        "Fe": ((3.9, 4), (6.0, 3)),
        "Cr": ((2.45, 4), (3.6, 3)),
    }
)


class OxidationStates(BaseModel):
    """Oxidation states of one element in one structure.

    Attributes
    ----------
    element
        TM element.
    mean_moment
        Mean absolute magnetic moment, Bohr magneton.
    mean_state
        Mean oxidation state.
    counts
        Atoms by oxidation state.
    thresholds
        Largest moment of every state that the labels came from.
    """

    model_config = ConfigDict(frozen=True)

    element: str
    mean_moment: float
    mean_state: float
    counts: dict[int, int]
    thresholds: tuple[tuple[float, int], ...]


def oxidation_states(
    species: Sequence[str], magmoms: Sequence[float]
) -> tuple[OxidationStates, ...]:
    """Oxidation states by element, from the size of every atom's moment.

    Elements without thresholds are left out. The labels are as good as the moments: those of an
    ML potential are inferred from the structure.

    Parameters
    ----------
    species
        Element of every atom.
    magmoms
        Moment of every atom, Bohr magneton, same length.
    """
    results = []
    for element in sorted(set(species) & set(MOMENT_THRESHOLDS)):
        thresholds = MOMENT_THRESHOLDS[element]
        moments = [abs(m) for s, m in zip(species, magmoms, strict=True) if s == element]
        states = [
            next((state for limit, state in thresholds if moment <= limit), thresholds[-1][1])
            for moment in moments
        ]
        results.append(
            OxidationStates(
                element=element,
                mean_moment=sum(moments) / len(moments),
                mean_state=sum(states) / len(states),
                counts=dict(sorted(Counter(states).items())),
                thresholds=thresholds,
            )
        )
    return tuple(results)
