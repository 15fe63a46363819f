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
    """Stacking label after Delmas: cation site of Li (O, octahedral) and slabs per repeat.

    Not to be confused with the oxygen-coordination labels O3 to O6 (``o_class``).
    """

    O3 = "O3"
    O2 = "O2"
    O1 = "O1"


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


#: Delmas, Fouassier, Hagenmuller, Physica B+C 99, 81 (1980). One slab of O3 repeats with a
#: lateral shift (AB CA BC), so its primitive cell is rhombohedral and holds one formula unit.
LAYER_SEQUENCES = MappingProxyType(
    {
        Stacking.O3: LayerSequence(slabs=(("A", "B"),), repeat_shift=(2 / 3, 1 / 3)),
        Stacking.O2: LayerSequence(slabs=(("A", "B"), ("C", "B")), repeat_shift=(0.0, 0.0)),
        Stacking.O1: LayerSequence(slabs=(("A", "B"),), repeat_shift=(0.0, 0.0)),
    }
)


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
