"""What a backend returns for one structure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Evaluation:
    """Energy of a structure and its derivatives.

    Attributes
    ----------
    energy
        Total energy of the cell, eV.
    forces
        Forces, shape (n_atoms, 3), eV/Å.
    stress
        Stress in ASE's Voigt order and sign, shape (6,), eV/Å^3; None unless asked for.
    magmoms
        Magnetic moments, shape (n_atoms,), Bohr magneton; None unless asked for or unknown to
        the backend.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None = None
    magmoms: NDArray[np.float64] | None = None
