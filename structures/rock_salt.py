"""The disordered rock salt frame: every octahedron alike, no layers."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .frame import Frame
from .prototype import MotifSite, Prototype, SiteKind, check_lengths

#: Vectors of the conventional cubic cell (four formula units MO) in the primitive ones.
CUBIC_CELL = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])


@dataclass(frozen=True)
class RockSaltPrototype(Prototype):
    """Rock salt, Fm-3m: cations on 4a, anions on 4b, tetrahedra on 8c.

    Attributes
    ----------
    cubic_lattice_parameter
        Edge of the conventional cubic cell, Å.

    Raises
    ------
    ValueError
        If the lattice parameter is not positive.
    """

    cubic_lattice_parameter: float = 4.15

    def __post_init__(self) -> None:
        check_lengths(cubic_lattice_parameter=self.cubic_lattice_parameter)

    def as_dict(self) -> dict[str, Any]:
        """MSON dictionary."""
        return {
            "@module": type(self).__module__,
            "@class": type(self).__name__,
            "cubic_lattice_parameter": self.cubic_lattice_parameter,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild from :meth:`as_dict`."""
        return cls(data["cubic_lattice_parameter"])

    @property
    def label(self) -> str:
        """Name of the crystal."""
        return "disordered rock salt"

    @property
    def anion_distance(self) -> float:
        """Half a face diagonal, Å."""
        return self.cubic_lattice_parameter / np.sqrt(2)

    @property
    def n_layers(self) -> int:
        """No layers."""
        return 0

    @property
    def lattice(self) -> NDArray[np.float64]:
        """Primitive vectors of the face-centred lattice, rows, shape (3, 3), Å."""
        return self.cubic_lattice_parameter / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])

    @property
    def motif(self) -> tuple[MotifSite, ...]:
        """Sites of the primitive cell."""
        return (
            MotifSite(SiteKind.ANION, -1, (0.5, 0.5, 0.5)),
            MotifSite(SiteKind.CATION_OCT, -1, (0.0, 0.0, 0.0)),
            MotifSite(SiteKind.TET, -1, (0.25, 0.25, 0.25)),
            MotifSite(SiteKind.TET, -1, (0.75, 0.75, 0.75)),
        )


def rock_salt_frame(matrix: NDArray[np.int64], *, cubic_lattice_parameter: float = 4.15) -> Frame:
    """Build the frame of a disordered rock salt supercell.

    Parameters
    ----------
    matrix
        Supercell vectors in the primitive vectors of the face-centred lattice, shape (3, 3),
        integers, right-handed. For cubic cells multiply with :data:`CUBIC_CELL`.
    cubic_lattice_parameter
        Edge of the conventional cubic cell, Å.

    Raises
    ------
    ValueError
        If the matrix is not a right-handed, non-singular (3, 3) matrix of integers, or the
        lattice parameter is not positive.

    Examples
    --------
    >>> from collections import Counter
    >>> frame = rock_salt_frame(np.diag([2, 2, 2]) @ CUBIC_CELL)
    >>> {kind.value: n for kind, n in sorted(Counter(frame.kinds).items())}
    {'anion': 32, 'cation_oct': 32, 'tet': 64}
    """
    return Frame.supercell(RockSaltPrototype(cubic_lattice_parameter), matrix)
