"""What every source of electronic states has in common: its protocol, costs and failures."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from pymatgen.core import Structure

from ..analysis.bonding import BondingSolution, analyse_bonding
from ..analysis.bonding_documents import BondingResult, EnergyWindow
from ..analysis.level_of_theory import LevelOfTheory
from ..structures.frame import Frame
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
    """Where the bonding of a structure comes from."""

    @property
    def level_of_theory(self) -> LevelOfTheory:
        """Label of the numbers that come out."""

    def estimate(self, structure: Structure) -> CostEstimate | None:
        """Time and memory that a structure would take; None where that cannot be told here."""

    def analyse(
        self,
        structure: Structure,
        frame: Frame | None = None,
        magmoms: Sequence[float] | None = None,
        window: EnergyWindow | None = None,
    ) -> BondingResult:
        """O 2p states, -ICOHP and gaps of a structure.

        Parameters
        ----------
        structure
            Structure, periodic in all directions.
        frame
            Frame of its cell; None to take oxygen classes from a distance cutoff.
        magmoms
            Moment of every atom, Bohr magneton.
        window
            Window of the O 2p weight; the default one if None.

        Raises
        ------
        BackendError
            If the structure is too large, its states do not converge, or a program is missing.
        """


class OrbitalSource(ABC):
    """A source that gives electronic states in a basis of atomic orbitals, analysed here."""

    @abstractmethod
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

    def analyse(
        self,
        structure: Structure,
        frame: Frame | None = None,
        magmoms: Sequence[float] | None = None,
        window: EnergyWindow | None = None,
    ) -> BondingResult:
        """Solve and analyse (:class:`BondingSource`)."""
        start = perf_counter()
        solution = self.solve(structure, magmoms)
        return analyse_bonding(
            solution,
            structure,
            frame,
            window or EnergyWindow(),
            wall_time=perf_counter() - start,
        )
