"""Electronic states from GFN1-xTB by tblite: the source of bonding that needs no DFT."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from pymatgen.core import Structure
from scipy.constants import physical_constants

from ..analysis.bonding import BondingSolution
from ..analysis.bonding_documents import IcohpScale, ScfAttempt, ScfReport
from ..analysis.level_of_theory import LevelOfTheory
from ..analysis.orbital_populations import SHELL_LETTERS, ElectronicStates, Orbital
from ..structures.occupation import is_transition_metal
from .backend import BackendError
from .bonding_source import CostEstimate, OrbitalSource, ScfError
from .progress import report_step

_BOHR = physical_constants["Bohr radius"][0] * 1e10  # Å
_HARTREE = physical_constants["Hartree energy in eV"][0]  # eV
_BOLTZMANN = physical_constants["Boltzmann constant in eV/K"][0]  # eV/K

#: Seconds for 305 orbitals (60 atoms) on one core, and exponent of the growth, measured on 12 to
#: 96 atoms of Li-rich layered oxides.
_SECONDS_AT_305_ORBITALS, _GROWTH = 16.0, 2.5
#: Matrices of n_orbitals^2 doubles that are alive at once, tblite's and the analysis' together
#: (0.16 GB measured for 484 orbitals).
_N_MATRICES = 40
#: Lines of an unconverged log that are kept.
_LAST = 3


class ScfRung(BaseModel):
    """One try of the self-consistent cycle.

    Attributes
    ----------
    spin_polarised
        Whether the spins may differ.
    temperature
        Electronic temperature, K.
    damping
        Share of the new density that the mixer takes.
    max_iterations
        Iterations after which the next rung is tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spin_polarised: bool = True
    temperature: float = Field(default=300.0, gt=0)
    damping: float = Field(default=0.2, gt=0, le=1)
    max_iterations: int = Field(default=250, ge=1)

    def __str__(self) -> str:
        spin = "" if self.spin_polarised else "not spin-polarised, "
        return f"{spin}{self.temperature:g} K, mixer damping {self.damping:g}"


#: Tried one after the other until one converges: less damping, warmer electrons, no spin.
LADDER = (
    ScfRung(),
    ScfRung(damping=0.1),
    ScfRung(damping=0.1, temperature=1000),
    ScfRung(damping=0.1, temperature=3000),
    ScfRung(spin_polarised=False, damping=0.1),
    ScfRung(spin_polarised=False, damping=0.1, temperature=1000),
    ScfRung(spin_polarised=False, damping=0.1, temperature=3000),
)


class TightBindingSettings(BaseModel):
    """How GFN1-xTB is run.

    Attributes
    ----------
    n_unpaired
        Unpaired electrons of the cell; from the moments of its atoms if not given.
    ladder
        Settings of the self-consistent cycle, tried in order.
    max_seconds, max_gigabytes
        Estimated time and memory above which a structure is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_unpaired: int | None = Field(default=None, ge=0)
    ladder: tuple[ScfRung, ...] = Field(default=LADDER, min_length=1)
    max_seconds: float = Field(default=1800.0, gt=0)
    max_gigabytes: float = Field(default=4.0, gt=0)


class TightBinding(OrbitalSource):
    """GFN1-xTB (Grimme, Bannwarth, Shushkov, JCTC 13, 1989 (2017)) by tblite.

    Spin-polarised, periodic, at the gamma point. Its ICOHP is about three times the DFT value, so
    it is compared with its own kind only.

    Parameters
    ----------
    settings
        How it is run.
    """

    def __init__(self, settings: TightBindingSettings | None = None) -> None:
        self.settings = settings or TightBindingSettings()
        major, minor, patch = _tblite().library.get_version()
        self.level_of_theory = LevelOfTheory(
            backend="emulator",
            model="GFN1-xTB",
            version=f"(tblite {major}.{minor}.{patch})",
            note="gamma point only; ICOHP about three times the DFT scale, never to be compared "
            "with LOBSTER's",
        )

    def estimate(self, structure: Structure) -> CostEstimate:
        """Time and memory that a structure would take.

        Raises
        ------
        BackendError
            If GFN1-xTB has no parameters for an element.
        """
        n_orbitals = sum(
            sum(2 * SHELL_LETTERS.index(shell[1]) + 1 for shell in _element(symbol)["shells"])
            for symbol in _symbols(structure)
        )
        return CostEstimate(
            n_orbitals=n_orbitals,
            seconds=_SECONDS_AT_305_ORBITALS * (n_orbitals / 305) ** _GROWTH,
            gigabytes=0.1 + _N_MATRICES * n_orbitals**2 * 8e-9,
        )

    def solve(
        self, structure: Structure, magmoms: Sequence[float] | None = None
    ) -> BondingSolution:
        """Electronic states of a structure.

        Parameters
        ----------
        structure
            Structure, periodic in all directions.
        magmoms
            Moment of every atom, Bohr magneton, such as an ML potential gives: the TM moments,
            rounded to whole electrons and taken as parallel, are the unpaired electrons of the
            cell. Without them and without ``n_unpaired`` the calculation is not spin-polarised.

        Raises
        ------
        TooLargeError
            Before anything runs, if the structure is above the limits.
        ScfError
            If no rung of the ladder converges; the message has the last iterations.
        BackendError
            If the number of unpaired electrons does not fit the cell, or an element has no
            parameters.
        """
        limits = (self.settings.max_seconds, self.settings.max_gigabytes)
        self.estimate(structure).refuse_above(*limits, f"{len(structure)} atoms with GFN1-xTB")
        n_electrons = sum(sum(_element(symbol)["refocc"]) for symbol in _symbols(structure))
        n_unpaired, source = self._unpaired(structure, magmoms, round(n_electrons))
        attempts: list[ScfAttempt] = []
        for rung in self.settings.ladder:
            if n_unpaired is None:
                rung = rung.model_copy(update={"spin_polarised": False})
            report_step(f"GFN1-xTB, {rung}")
            calculator, result, attempt = _run(structure, rung, n_unpaired or 0)
            attempts.append(attempt)
            if result is not None:
                return BondingSolution(
                    states=_states(structure, calculator, result, n_electrons),
                    scf=ScfReport(
                        attempts=tuple(attempts),
                        n_unpaired=n_unpaired if rung.spin_polarised else None,
                        moments_from=source,
                    ),
                    icohp_scale=IcohpScale.TIGHT_BINDING,
                    level_of_theory=self.level_of_theory,
                )
        tried = "; ".join(
            f"{a.settings}: {a.n_iterations} iterations, the last {' | '.join(a.last_iterations)}"
            for a in attempts
        )
        raise ScfError(
            f"GFN1-xTB did not converge for {structure.composition.formula}; tried {tried} "
            "(cycle, energy and its change in hartree, change of density). Relax the structure "
            "further, set n_unpaired, or add rungs to the ladder"
        )

    def _unpaired(
        self, structure: Structure, magmoms: Sequence[float] | None, n_electrons: int
    ) -> tuple[int | None, str]:
        """Unpaired electrons of the cell (None: not spin-polarised), and where they are from."""
        given = self.settings.n_unpaired
        if given is not None:
            if (n_electrons - given) % 2 or given > n_electrons:
                raise BackendError(
                    f"n_unpaired is {given}, but the cell has {n_electrons} valence electrons: "
                    "both must be even or both odd"
                )
            return given, "given"
        if magmoms is None:
            return None, "no moments given: not spin-polarised"
        if len(magmoms) != len(structure):
            raise BackendError(f"{len(magmoms)} moments given for {len(structure)} atoms")
        moments = [
            abs(moment)
            for symbol, moment in zip(_symbols(structure), magmoms, strict=True)
            if is_transition_metal(symbol)
        ]
        whole = sum(round(moment) for moment in moments)
        if (n_electrons - whole) % 2:
            whole += 1 if sum(moments) > whole or not whole else -1
            return whole, "moments of the TM, made to fit the number of electrons"
        return whole, "moments of the TM"


def _run(
    structure: Structure, rung: ScfRung, n_unpaired: int
) -> tuple[Any, Any | None, ScfAttempt]:
    """Run one rung: calculator, result (None if it did not converge) and what happened."""
    tblite = _tblite()
    log: list[str] = []
    calculator = tblite.interface.Calculator(
        "GFN1-xTB",
        np.array([site.specie.Z for site in structure]),
        structure.cart_coords / _BOHR,
        uhf=n_unpaired,
        lattice=np.array(structure.lattice.matrix) / _BOHR,
        periodic=np.array([True] * 3),
        color=False,
        logger=log.append,
    )
    calculator.set("temperature", rung.temperature * _BOLTZMANN / _HARTREE)
    calculator.set("mixer-damping", rung.damping)
    calculator.set("max-iter", rung.max_iterations)
    calculator.set("save-integrals", 1)
    if rung.spin_polarised:
        calculator.add("spin-polarization", 1.0)
    result, cause = None, ""
    try:
        result = calculator.singlepoint()
    except tblite.exceptions.TBLiteRuntimeError as error:
        cause = str(error)
    iterations = [" ".join(line.split()) for line in log if line.strip()[:1].isdigit()]
    last = tuple(iterations[-_LAST:]) or (cause,)
    return (
        calculator,
        result,
        ScfAttempt(
            settings=str(rung),
            spin_polarised=rung.spin_polarised,
            electronic_temperature=rung.temperature,
            converged=result is not None,
            n_iterations=len(iterations),
            last_iterations=last,
        ),
    )


def _states(
    structure: Structure, calculator: Any, result: Any, n_electrons: float
) -> ElectronicStates:
    """Converged states with the Hamiltonian that they solve.

    tblite hands out the Hamiltonian before self-consistency only; the converged one of every spin
    follows from its states: H = S C E C^T S.
    """
    energies = np.atleast_2d(result.get("orbital-energies")) * _HARTREE
    occupations = np.atleast_2d(result.get("orbital-occupations"))
    n_spin, n = energies.shape
    coefficients = result.get("orbital-coefficients").reshape(n_spin, n, n)
    overlap = result.get("overlap-matrix")
    projected = overlap @ coefficients
    return ElectronicStates(
        energies=energies[:, None],
        coefficients=coefficients[:, None],
        hamiltonian=((projected * energies[:, None]) @ projected.swapaxes(1, 2))[:, None],
        overlap=overlap[None],
        k_points=np.zeros((1, 3)),
        k_weights=np.ones(1),
        occupations=occupations[:, None],
        orbitals=_orbitals(structure, calculator),
        n_electrons=n_electrons,
    )


def _orbitals(structure: Structure, calculator: Any) -> tuple[Orbital, ...]:
    """Labels in tblite's order: shells by atom, real harmonics from -l to l within a shell."""
    atoms = calculator.get("shell-map")
    shells = calculator.get("orbital-map")
    momenta = calculator.get("angular-momenta")
    symbols = _symbols(structure)
    numbers: list[int] = []
    seen: Counter[int] = Counter()
    for atom, momentum in zip(atoms.tolist(), momenta.tolist(), strict=True):
        name = _element(symbols[atom])["shells"][seen[atom]]
        if SHELL_LETTERS.index(name[1]) != momentum:
            raise BackendError(
                f"tblite lists a shell with angular momentum {momentum} on {symbols[atom]} where "
                f"its parameters have {name}: this version of tblite orders shells differently"
            )
        numbers.append(int(name[0]))
        seen[atom] += 1
    place: Counter[int] = Counter()
    orbitals = []
    for shell in shells.tolist():
        momentum = int(momenta[shell])
        orbitals.append(
            Orbital(int(atoms[shell]), numbers[shell], momentum, place[shell] - momentum)
        )
        place[shell] += 1
    return tuple(orbitals)


def _symbols(structure: Structure) -> list[str]:
    return [site.specie.symbol for site in structure]


def _element(symbol: str) -> dict[str, Any]:
    """Parameters of an element: names of its shells and their reference occupations."""
    try:
        return _parameters()[symbol]
    except KeyError:
        raise BackendError(f"GFN1-xTB has no parameters for {symbol} (it has H to Rn)") from None


@lru_cache(maxsize=1)
def _parameters() -> dict[str, dict[str, Any]]:
    """Parameters of GFN1-xTB by element."""
    library = _tblite().library
    parameters, table = library.new_param(), library.new_table()
    library.export_gfn1_param(parameters)
    library.dump_param(parameters, table)
    return library.table_to_dict(table)["element"]


def _tblite() -> ModuleType:
    try:
        import tblite.interface
        import tblite.library
    except ImportError as error:
        raise BackendError(
            f"bonding in the emulator needs tblite, which cannot be imported ({error}); install "
            "it with: pip install tblite"
        ) from error
    return tblite
