"""Electronic states from GPAW: spin-polarised DFT+U in a basis of compact atomic orbitals."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pymatgen.core import Element, Structure

from ..analysis.bonding import BondingSolution
from ..analysis.bonding_documents import IcohpScale, ScfAttempt, ScfReport
from ..analysis.level_of_theory import LevelOfTheory
from ..analysis.orbital_populations import ElectronicStates, Orbital
from ..structures.occupation import is_transition_metal
from .backend import BackendError
from .bonding_source import CostEstimate, ScfError
from .progress import report_step

#: U of d shells, eV: fitted to formation energies of oxides (Wang, Maxisch, Ceder, Phys. Rev. B 73,
#: 195107 (2006); Jain et al., Phys. Rev. B 84, 045115 (2011)).
HUBBARD_U: Mapping[str, float] = MappingProxyType(
    {
        **{"Co": 3.32, "Cr": 3.7, "Fe": 5.3, "Mn": 3.9},
        **{"Mo": 4.38, "Ni": 6.2, "V": 3.25, "W": 6.2},
    }
)
#: Moments that the self-consistent cycle starts from where none are given, Bohr magneton.
START_MOMENTS: Mapping[str, float] = MappingProxyType(
    {"Mn": 3.0, "Ni": 1.7, "Fe": 4.2, "Cr": 3.0, "Co": 0.5, "V": 1.0, "Ru": 1.5}
)
#: Longest basis functions, Bohr. The stock bases of Li and Mn reach 10 and more, which makes every
#: atom of a small cell overlap with hundreds of images; these keep the gap of Li2MnO3.
BASIS_CUTOFF, TM_BASIS_CUTOFF = 6.0, 5.5
#: Energy that confinement may cost an orbital, eV.
BASIS_ENERGY_SHIFT = 0.3
#: Kelvin per eV.
_KELVIN = 11604.518
_LAST = 3
#: Measured on one core: seconds per iteration, per Å^3 of cell and per k point of 152 orbitals,
#: and how the latter grows; iterations of a typical cycle.
_SECONDS_PER_VOLUME, _SECONDS_PER_K, _GROWTH, _ITERATIONS = 0.005, 0.45, 2.5, 50


class GpawRung(BaseModel):
    """One try of the self-consistent cycle.

    Attributes
    ----------
    mixing
        Share of the new density.
    history
        Earlier densities that the mixer uses.
    smearing
        Width of the Fermi-Dirac occupations, eV.
    max_iterations
        Iterations after which the next rung is tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mixing: float = Field(default=0.05, gt=0, le=1)
    history: int = Field(default=5, ge=1)
    smearing: float = Field(default=0.05, gt=0)
    max_iterations: int = Field(default=150, ge=1)

    def __str__(self) -> str:
        return f"mixing {self.mixing:g} of {self.history}, smearing {self.smearing:g} eV"


#: Tried one after the other until one converges: less mixing, then more smearing.
GPAW_LADDER = (
    GpawRung(),
    GpawRung(mixing=0.02, history=8, max_iterations=300),
    GpawRung(mixing=0.02, history=3, smearing=0.1, max_iterations=300),
    GpawRung(mixing=0.02, history=3, smearing=0.2, max_iterations=300),
)


class GpawSettings(BaseModel):
    """How GPAW is run.

    Attributes
    ----------
    functional
        Exchange and correlation as GPAW names it: ``PBE``, ``MGGA_X_R2SCAN+MGGA_C_R2SCAN``, …
    hubbard_u
        U of d shells by element, eV; replaces the built-in table. ``{}`` is without U.
    basis
        ``dzp`` (double zeta, polarised), ``szp`` or ``sz``, all compact.
    k_density
        k points per 1/Å in every direction, gamma included.
    k_mesh
        k points in every direction instead.
    grid_spacing
        Spacing of the real-space grid, Å.
    ladder
        Settings of the self-consistent cycle, tried in order.
    n_ranks
        MPI processes.
    launcher
        Command that starts them, followed by their number.
    basis_folder
        Where generated bases are kept; the user's cache folder if not given.
    max_seconds, max_gigabytes
        Estimated time and memory above which a structure is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    functional: str = "PBE"
    hubbard_u: dict[str, float] = dict(HUBBARD_U)
    basis: Literal["sz", "szp", "dzp"] = "dzp"
    k_density: float = Field(default=1.2, gt=0)
    k_mesh: tuple[int, int, int] | None = None
    grid_spacing: float = Field(default=0.2, gt=0.05, le=0.4)
    ladder: tuple[GpawRung, ...] = Field(default=GPAW_LADDER, min_length=1)
    n_ranks: int = Field(default=1, ge=1)
    launcher: tuple[str, ...] = ("mpiexec", "-n")
    basis_folder: Path | None = None
    max_seconds: float = Field(default=6 * 3600.0, gt=0)
    max_gigabytes: float = Field(default=16.0, gt=0)


class GpawLcao:
    """GPAW in LCAO mode (Mortensen et al., J. Chem. Phys. 160, 092503 (2024)).

    Runs in processes of its own, so that MPI, memory and crashes stay apart from the caller's.

    Parameters
    ----------
    settings
        How it is run.

    Raises
    ------
    BackendError
        If GPAW is not installed; the message says how to get it.
    """

    def __init__(self, settings: GpawSettings | None = None) -> None:
        self.settings = settings or GpawSettings()
        if util.find_spec("gpaw") is None:
            raise BackendError(
                "GPAW is not installed; on Debian: apt-get install libxc-dev libopenblas-dev "
                "libopenmpi-dev openmpi-bin, then pip install gpaw gpaw-data"
            )
        plus_u = "+U" if self.settings.hubbard_u else ""
        self.level_of_theory = LevelOfTheory(
            backend="gpaw",
            model=f"{self.settings.functional}{plus_u}, LCAO {self.settings.basis}",
            version=f"(GPAW {metadata.version('gpaw')})",
            note="compact atomic orbitals; ICOHP depends on the basis",
        )

    def k_mesh(self, structure: Structure) -> tuple[int, int, int]:
        """Number of k points in every direction."""
        if self.settings.k_mesh is not None:
            return self.settings.k_mesh
        density = self.settings.k_density
        a, b, c = (
            max(1, int(np.ceil(density * length - 1e-6)))
            for length in structure.lattice.reciprocal_lattice.abc
        )
        return a, b, c

    def estimate(self, structure: Structure) -> CostEstimate:
        """Time on the ranks asked for, and memory over all of them, from measured rates."""
        n_orbitals = sum(_n_orbitals(s, self.settings.basis) for s in _symbols(structure))
        mesh = self.k_mesh(structure)
        # Time reversal makes k and -k one; in an even mesh 0 and 1/2 are their own partners.
        n_k = (int(np.prod(mesh)) + int(np.prod([2 - n % 2 for n in mesh]))) // 2
        per_k = _SECONDS_PER_K * (n_orbitals / 152) ** _GROWTH
        per_iteration = _SECONDS_PER_VOLUME * structure.volume + per_k * n_k
        grid = structure.volume / self.settings.grid_spacing**3
        return CostEstimate(
            n_orbitals=n_orbitals,
            seconds=30 + _ITERATIONS * per_iteration / self.settings.n_ranks,
            gigabytes=0.4 * self.settings.n_ranks
            + (12 * 2 * n_k * n_orbitals**2 * 16 + 200 * grid * 8) / 1e9,
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
            Moments that the cycle starts from, Bohr magneton; typical ones if not given. The
            total moment is free.

        Raises
        ------
        TooLargeError
            Before anything runs, if the structure is above the limits.
        ScfError
            If no rung of the ladder converges; the message has the last iterations.
        BackendError
            If GPAW fails otherwise, for example for want of a PAW dataset.
        """
        limits = (self.settings.max_seconds, self.settings.max_gigabytes)
        self.estimate(structure).refuse_above(*limits, f"{len(structure)} atoms with GPAW")
        with TemporaryDirectory(prefix="lrlo-gpaw-") as name:
            folder = Path(name)
            request = self._request(structure, magmoms)
            (folder / "request.json").write_text(json.dumps(request))
            report_step(f"GPAW, {self.settings.n_ranks} processes")
            report = self._run(folder)
            attempts = [_attempt(folder, a, self.settings.ladder) for a in report["attempts"]]
            if not attempts[-1].converged:
                raise ScfError(_failure(structure, attempts))
            states = _states(structure, folder)
        return BondingSolution(
            states=states,
            scf=ScfReport(
                attempts=tuple(attempts),
                n_unpaired=None,
                moments_from="self-consistent, started from "
                + ("typical moments" if magmoms is None else "the moments given"),
            ),
            icohp_scale=IcohpScale.DFT,
            level_of_theory=self.level_of_theory,
        )

    def _request(self, structure: Structure, magmoms: Sequence[float] | None) -> dict[str, Any]:
        symbols = _symbols(structure)
        if magmoms is None:
            magmoms = [START_MOMENTS.get(symbol, 0.0) for symbol in symbols]
        elements = sorted(set(symbols))
        folder = self.settings.basis_folder or _cache_folder()
        return {
            "symbols": symbols,
            "positions": structure.cart_coords.tolist(),
            "cell": structure.lattice.matrix.tolist(),
            "magmoms": [float(moment) for moment in magmoms],
            "basis": f"compact.{self.settings.basis}",
            "basis_folder": str(folder),
            "basis_energy_shift": BASIS_ENERGY_SHIFT,
            "basis_cutoffs": {
                e: TM_BASIS_CUTOFF if is_transition_metal(e) else BASIS_CUTOFF for e in elements
            },
            "functional": self.settings.functional,
            "grid_spacing": self.settings.grid_spacing,
            "k_mesh": list(self.k_mesh(structure)),
            "setups": {e: f":d,{u:g}" for e, u in self.settings.hubbard_u.items() if e in elements},
            "ladder": [rung.model_dump() for rung in self.settings.ladder],
        }

    def _run(self, folder: Path) -> dict[str, Any]:
        """Run the worker; its report.

        Raises
        ------
        BackendError
            With the end of its error output, if it left no report.
        """
        command = [sys.executable, "-m", f"{__package__}.gpaw_worker", str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if self.settings.n_ranks > 1:
            command = [*self.settings.launcher, str(self.settings.n_ranks), *command]
            environment["GPAW_MPI_BACKEND"] = "cgpaw"
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise BackendError(f"{command[0]} cannot be started: {error.strerror}") from error
        report = folder / "report.json"
        if done.returncode or not report.exists():
            raise BackendError(
                f"GPAW failed (exit {done.returncode}): {_cause(done.stderr)}. A missing PAW "
                "dataset comes with: pip install gpaw-data"
            )
        return json.loads(report.read_text())


def _cause(stderr: str) -> str:
    """Exception that ended the worker, or else the end of its error output."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|NotFound)\b", line)]
    return raised[0] if raised else " | ".join(lines[-_LAST:])


def _attempt(folder: Path, entry: dict[str, Any], ladder: Sequence[GpawRung]) -> ScfAttempt:
    rung = ladder[entry["rung"]]
    log = (folder / f"rung_{entry['rung']}.txt").read_text(errors="replace")
    lines = [line for line in log.splitlines() if "iter:" in line]
    iterations = [" ".join(line.replace("|", " ").split()) for line in lines]
    return ScfAttempt(
        settings=str(rung),
        spin_polarised=True,
        electronic_temperature=rung.smearing * _KELVIN,
        converged=entry["converged"],
        n_iterations=len(iterations),
        last_iterations=tuple(iterations[-_LAST:]),
    )


def _failure(structure: Structure, attempts: Sequence[ScfAttempt]) -> str:
    tried = "; ".join(
        f"{a.settings}: {a.n_iterations} iterations, the last {' | '.join(a.last_iterations)}"
        for a in attempts
    )
    return (
        f"GPAW did not converge for {structure.composition.formula}; tried {tried}. Relax the "
        "structure further, give moments, or add rungs with less mixing or more smearing"
    )


def _states(structure: Structure, folder: Path) -> ElectronicStates:
    """States of the stored matrices; energies and occupations are GPAW's own."""
    stored = np.load(folder / "states.npz")
    functions = json.loads((folder / "orbitals.json").read_text())
    orbitals = tuple(
        orbital for atom, entries in enumerate(functions) for orbital in _orbitals(atom, entries)
    )
    phases = _phases(structure, stored["k_points"], orbitals)
    hamiltonian = phases.conj()[:, :, None] * stored["hamiltonian"] * phases[:, None]
    overlap = phases.conj()[:, :, None] * stored["overlap"] * phases[:, None]
    coefficients = np.array(
        [
            [scipy.linalg.eigh(h, s)[1] for h, s in zip(spin, overlap, strict=True)]
            for spin in hamiltonian
        ]
    )
    return ElectronicStates(
        energies=stored["energies"],
        coefficients=coefficients,
        hamiltonian=hamiltonian,
        overlap=overlap,
        k_points=stored["k_points"],
        k_weights=stored["k_weights"],
        occupations=stored["occupations"],
        orbitals=orbitals,
        n_electrons=float(stored["n_electrons"]),
    )


def _phases(
    structure: Structure, k_points: NDArray[np.float64], orbitals: Sequence[Orbital]
) -> NDArray[np.complex128]:
    """Phases that take Bloch sums from atoms wrapped into the cell, as GPAW has them, to ours."""
    shifts = np.floor(structure.frac_coords)[[orbital.atom for orbital in orbitals]]
    return np.exp(-2j * np.pi * k_points @ shifts.T)


def _orbitals(atom: int, functions: Sequence[dict[str, Any]]) -> list[Orbital]:
    """Labels of the basis functions of one atom, as GPAW describes them.

    A type such as "3d-dz split-valence wave" names its shell; a polarisation function has the
    lowest n of its l that is not below the valence.
    """
    named = [function["type"].split("-")[0] for function in functions]
    highest = max(int(name[0]) for name in named if name[0].isdigit())
    seen: Counter[tuple[int, int]] = Counter()
    labels = []
    for name, function in zip(named, functions, strict=True):
        momentum = function["l"]
        n = int(name[0]) if name[0].isdigit() else max(momentum + 1, highest)
        seen[n, momentum] += 1
        zeta = seen[n, momentum]
        labels += [Orbital(atom, n, momentum, m, zeta) for m in range(-momentum, momentum + 1)]
    return labels


def _n_orbitals(symbol: str, basis: str) -> int:
    """Basis functions of an element: s, p of the valence, d of a TM with its 3s3p semicore."""
    if is_transition_metal(symbol):
        single, polarisation = 2 + 3 + 5, 7
    elif Element(symbol).group > 12:
        single, polarisation = 1 + 3, 5
    else:
        single, polarisation = 1, 3
    zetas = 2 if basis.startswith("d") else 1
    return zetas * single + (polarisation if basis.endswith("p") else 0)


def _symbols(structure: Structure) -> list[str]:
    return [site.specie.symbol for site in structure]


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "lrlo" / f"gpaw-bases-{metadata.version('gpaw')}"
