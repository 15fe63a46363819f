"""Oxygen stackings of layered oxides, written as close-packed layer letters."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np

#: Lateral position of the close-packed letters in the hexagonal basis (a1, a2 at 120 degrees).
LETTER_POSITIONS = MappingProxyType(
    {"A": (0.0, 0.0), "B": (1 / 3, 2 / 3), "C": (2 / 3, 1 / 3)},
)


class Stacking(StrEnum):
    """Stacking label after Delmas: site of Li (O octahedral, P prismatic), slabs per repeat.

    Not to be confused with the oxygen-coordination labels O3 to O6 (``o_class``).

    ``H1-3`` is the hybrid of O1 and O3 that LiCoO2 passes near Li0.15: the gaps alternate between
    those of O1, where octahedra share faces with TM, and those of O3, and only the latter hold Li
    (Van der Ven, Aydinol, Ceder, Phys. Rev. B 58, 2975 (1998); Chen, Lu, Dahn,
    J. Electrochem. Soc. 149, A1604 (2002)). The frame has the sites of every gap.
    """

    O3 = "O3"
    O2 = "O2"
    O1 = "O1"
    P3 = "P3"
    H1_3 = "H1-3"


@dataclass(frozen=True)
class LayerSequence:
    """Anion letters of one repeat of a stacking.

    Attributes
    ----------
    slabs
        Lower and upper anion letter of every TM slab, from bottom to top.
    repeat_shift
        Lateral shift, in the hexagonal basis, of the next repeat.
    """

    slabs: tuple[tuple[str, str], ...]
    repeat_shift: tuple[float, float]


#: Delmas, Fouassier, Hagenmuller, Physica B+C 99, 81 (1980). Where a repeat comes back with a
#: lateral shift, the primitive cell is rhombohedral and holds a third of the hexagonal repeat:
#: O3 is AB CA BC, P3 is AB BC CA, and H1-3 is AB AB CA CA BC BC.
LAYER_SEQUENCES = MappingProxyType(
    {
        Stacking.O3: LayerSequence(slabs=(("A", "B"),), repeat_shift=(2 / 3, 1 / 3)),
        Stacking.O2: LayerSequence(slabs=(("A", "B"), ("C", "B")), repeat_shift=(0.0, 0.0)),
        Stacking.O1: LayerSequence(slabs=(("A", "B"),), repeat_shift=(0.0, 0.0)),
        Stacking.P3: LayerSequence(slabs=(("A", "B"),), repeat_shift=(1 / 3, 2 / 3)),
        Stacking.H1_3: LayerSequence(slabs=(("A", "B"), ("A", "B")), repeat_shift=(2 / 3, 1 / 3)),
    }
)


def other_letters(letter: str) -> tuple[str, str]:
    """The two close-packed letters besides one, in alphabetical order.

    Raises
    ------
    ValueError
        If the letter is none of A, B and C.

    Examples
    --------
    >>> other_letters("B")
    ('A', 'C')
    """
    if letter not in LETTER_POSITIONS:
        raise ValueError(f"a close-packed layer is A, B or C, not {letter!r}")
    first, second = (name for name in LETTER_POSITIONS if name != letter)
    return first, second


def third_letter(first: str, second: str) -> str:
    """Letter of the octahedral sites between two different close-packed anion layers.

    Raises
    ------
    ValueError
        If the letters are equal: the sites between are then prismatic.

    Examples
    --------
    >>> third_letter("A", "B")
    'C'
    """
    if first == second:
        raise ValueError(f"anion layers {first}{second} enclose prisms, not octahedra")
    return ({"A", "B", "C"} - {first, second}).pop()


def shift_letter(letter: str, shift: tuple[float, float]) -> str:
    """Letter that a close-packed layer becomes when it is shifted laterally.

    Raises
    ------
    ValueError
        If the shift does not lead from one close-packed position to another.
    """
    target = np.add(LETTER_POSITIONS[letter], shift)
    for name, position in LETTER_POSITIONS.items():
        difference = target - position
        if np.allclose(difference, np.round(difference), atol=1e-6):
            return name
    raise ValueError(f"shift {shift} does not lead from {letter} to a close-packed position")
