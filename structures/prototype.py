"""Prototypes: the crystals that frames are supercells of, as lattice and motif of sites."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from monty.json import MSONable
from numpy.typing import NDArray


class SiteKind(StrEnum):
    """What a site of a frame is.

    ``anion``, and in the layered frames octahedra and tetrahedra of the TM layers and of the Li
    layers (``tm_oct``, ``li_oct``, ``tm_tet``, ``li_tet``) and, where two equal anion layers face
    each other, the prisms of the Li layers (``li_prism``). A frame without layers has
    ``cation_oct`` and ``tet``.
    """

    ANION = "anion"
    TM_OCT = "tm_oct"
    LI_OCT = "li_oct"
    TM_TET = "tm_tet"
    LI_TET = "li_tet"
    LI_PRISM = "li_prism"
    CATION_OCT = "cation_oct"
    TET = "tet"


OCTAHEDRA = (SiteKind.TM_OCT, SiteKind.LI_OCT, SiteKind.CATION_OCT)
TETRAHEDRA = (SiteKind.TM_TET, SiteKind.LI_TET, SiteKind.TET)
#: Sites with six vertices, which count as cation neighbours of an anion.
SIX_COORDINATE = (*OCTAHEDRA, SiteKind.LI_PRISM)
TM_LAYER = (SiteKind.TM_OCT, SiteKind.TM_TET)
LI_LAYER = (SiteKind.LI_OCT, SiteKind.LI_TET, SiteKind.LI_PRISM)


@dataclass(frozen=True)
class MotifSite:
    """A site of a prototype.

    Attributes
    ----------
    kind
        Kind of the site.
    layer
        TM or Li layer within the repeat; -1 in a prototype without layers.
    position
        Fractional position in the primitive vectors.
    """

    kind: SiteKind
    layer: int
    position: tuple[float, float, float]


class Prototype(MSONable, ABC):
    """A crystal with every site that an ion can sit on, given by few parameters.

    Subclasses are frozen dataclasses, so that equal parameters make equal prototypes.
    """

    @property
    @abstractmethod
    def label(self) -> str:
        """Short name for tables and messages."""

    @property
    @abstractmethod
    def anion_distance(self) -> float:
        """Distance between neighbouring anions of one close-packed plane, Å."""

    @property
    @abstractmethod
    def n_layers(self) -> int:
        """TM layers in the repeat; 0 without layers."""

    @property
    @abstractmethod
    def lattice(self) -> NDArray[np.float64]:
        """Primitive vectors (rows), right-handed, shape (3, 3), Å."""

    @property
    @abstractmethod
    def motif(self) -> tuple[MotifSite, ...]:
        """Sites of the primitive cell."""


def check_lengths(**lengths: float) -> None:
    """Refuse lengths that are not positive and finite.

    Raises
    ------
    ValueError
        If one is not; the message names it.
    """
    for name, length in lengths.items():
        if not (np.isfinite(length) and length > 0):
            raise ValueError(f"{name} is a length in Å and must be positive, got {length}")
