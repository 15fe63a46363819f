"""Layered oxides as prototypes: the one construction of every stacking from its letters."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .prototype import MotifSite, Prototype, SiteKind, check_lengths
from .stacking import (
    LAYER_SEQUENCES,
    LETTER_POSITIONS,
    Stacking,
    other_letters,
    shift_letter,
    third_letter,
)


@dataclass(frozen=True)
class LayeredPrototype(Prototype):
    """Close-packed anion planes with a TM layer in every slab and a Li layer in every gap.

    Between planes of different letters lie one octahedron and two tetrahedra per anion of a
    plane; between planes of the same letter (the gaps of P3) two trigonal prisms, side by side,
    and no tetrahedra.

    Attributes
    ----------
    stacking
        Oxygen stacking.
    a, tm_slab, li_gap
        In-plane lattice parameter, and distances between the anion planes that enclose a TM
        layer and a Li layer, Å. The gap of Li in prisms is about as wide as that of octahedra;
        Na prisms stand about 3.4 Å high.

    Raises
    ------
    ValueError
        If a length is not positive.
    """

    stacking: Stacking
    a: float = 2.86
    tm_slab: float = 2.15
    li_gap: float = 2.60

    def __post_init__(self) -> None:
        check_lengths(a=self.a, tm_slab=self.tm_slab, li_gap=self.li_gap)

    def as_dict(self) -> dict[str, Any]:
        """MSON dictionary."""
        return {
            "@module": type(self).__module__,
            "@class": type(self).__name__,
            "stacking": self.stacking.value,
            "a": self.a,
            "tm_slab": self.tm_slab,
            "li_gap": self.li_gap,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild from :meth:`as_dict`."""
        return cls(Stacking(data["stacking"]), data["a"], data["tm_slab"], data["li_gap"])

    @property
    def label(self) -> str:
        """Stacking label."""
        return self.stacking.value

    @property
    def anion_distance(self) -> float:
        """In-plane lattice parameter, Å."""
        return self.a

    @property
    def n_layers(self) -> int:
        """TM layers in the repeat."""
        return len(LAYER_SEQUENCES[self.stacking].slabs)

    @property
    def lattice(self) -> NDArray[np.float64]:
        """Primitive vectors (a1, a2, repeat), rows, shape (3, 3), Å."""
        hexagonal = self.a * np.array([[1.0, 0.0], [-0.5, np.sqrt(0.75)]])
        height = self.n_layers * (self.tm_slab + self.li_gap)
        shift = np.array(LAYER_SEQUENCES[self.stacking].repeat_shift)
        shift = shift - np.round(shift)  # the shortest of the equivalent shifts
        return np.array(
            [[*hexagonal[0], 0.0], [*hexagonal[1], 0.0], [*(shift @ hexagonal), height]]
        )

    @property
    def motif(self) -> tuple[MotifSite, ...]:
        """Sites of the repeat, slab by slab from the bottom."""
        sequence = LAYER_SEQUENCES[self.stacking]
        primitive = self.lattice
        inverse = np.linalg.inv(primitive)
        sites: list[MotifSite] = []
        for slab, (lower, upper) in enumerate(sequence.slabs):
            bottom = slab * (self.tm_slab + self.li_gap)
            top = bottom + self.tm_slab
            above = (
                sequence.slabs[slab + 1][0]
                if slab + 1 < len(sequence.slabs)
                else shift_letter(sequence.slabs[0][0], sequence.repeat_shift)
            )
            for kind, letter, height in (
                (SiteKind.ANION, lower, bottom),
                (SiteKind.ANION, upper, top),
                *_between(SiteKind.TM_OCT, SiteKind.TM_TET, lower, upper, bottom, self.tm_slab),
                *(
                    _prisms(upper, lower, top, self.li_gap)
                    if upper == above
                    else _between(SiteKind.LI_OCT, SiteKind.LI_TET, upper, above, top, self.li_gap)
                ),
            ):
                lateral = np.array(LETTER_POSITIONS[letter]) @ primitive[:2, :2]
                x, y, z = np.array([*lateral, height]) @ inverse
                sites.append(MotifSite(kind, slab, (float(x), float(y), float(z))))
        return tuple(sites)


def _between(
    octahedron: SiteKind,
    tetrahedron: SiteKind,
    low: str,
    high: str,
    bottom: float,
    thickness: float,
) -> tuple[tuple[SiteKind, str, float], ...]:
    """(kind, letter, height) of the sites between anion planes of different letters."""
    return (
        (octahedron, third_letter(low, high), bottom + thickness / 2),
        # A tetrahedron's centre lies three quarters of its height from the apex.
        (tetrahedron, low, bottom + 0.75 * thickness),
        (tetrahedron, high, bottom + 0.25 * thickness),
    )


def _prisms(
    letter: str, below: str, bottom: float, thickness: float
) -> tuple[tuple[SiteKind, str, float], ...]:
    """(kind, letter, height) of the sites between anion planes of the same letter.

    The first prism stands on the octahedra of the slab underneath.
    """
    over_octahedra = third_letter(below, letter)
    others = sorted(other_letters(letter), key=lambda name: name != over_octahedra)
    return tuple((SiteKind.LI_PRISM, name, bottom + thickness / 2) for name in others)
