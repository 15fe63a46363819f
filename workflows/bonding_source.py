"""What every source of electronic states has in common: its protocol, costs and failures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pymatgen.core import Structure

from ..analysis.bonding import BondingSolution
from ..analysis.level_of_theory import LevelOfTheory
from .backend import BackendError


class ScfError(BackendError):
    """The self-consistent cycle did not converge with any setting of the ladder."""


class TooLargeError(BackendError):
    """The structure would take more time or memory than allowed."""


@dataclass(frozen=True)
class CostEstimate:
    """What a structure would take.

    Attributes
    ----------
    n_orbitals
        Basis functions: atomic orbitals or plane waves.
    seconds
        Time, s; a retry of the ladder takes as long again.
    gigabytes
        Memory, GB.
    """

    n_orbitals: int
    seconds: float
    gigabytes: float

    def refuse_above(self, max_seconds: float, max_gigabytes: float, what: str) -> None:
        """Refuse what is above the limits.

        Raises
        ------
        TooLargeError
            Naming the estimate, the limit and the setting that raises it.
        """
        for value, limit, name, unit in (
            (self.seconds, max_seconds, "max_seconds", "s"),
            (self.gigabytes, max_gigabytes, "max_gigabytes", "GB"),
        ):
            if value > limit:
                raise TooLargeError(
                    f"{what} ({self.n_orbitals} basis functions) would take about {value:.3g} "
                    f"{unit}, above the limit of {limit:g} {unit}; take a smaller cell or raise "
                    f"{name}"
                )


class BondingSource(Protocol):
    """Where electronic states in a basis of atomic orbitals come from."""

    @property
    def level_of_theory(self) -> LevelOfTheory:
        """Label of the numbers that come out."""

    def estimate(self, structure: Structure) -> CostEstimate:
        """Time and memory that a structure would take."""

    def solve(
        self, structure: Structure, magmoms: Sequence[float] | None = None
    ) -> BondingSolution:
        """Electronic states of a structure.

        Parameters
        ----------
        structure
            Structure, periodic in all directions.
        magmoms
            Moment of every atom, Bohr magneton.

        Raises
        ------
        BackendError
            If the structure is too large, or its states do not converge.
        """
