"""GPAW in processes of its own, so that MPI, memory and crashes stay apart from the caller's."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from ase import Atoms

from ..analysis.bonding_documents import ScfAttempt
from ..structures.occupation import is_transition_metal
from .backend import BackendError
from .bonding_source import ScfError
from .gpaw_settings import FUNCTIONALS, GpawRung, GpawSettings
from .progress import report_step

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


@dataclass(frozen=True)
class GpawOutcome:
    """A converged calculation of one structure.

    Attributes
    ----------
    folder
        Holds what was asked for beyond energies; gone after the ``with`` block.
    attempts
        Tries of the self-consistent cycle, the last one converged.
    energy
        Total energy extrapolated to zero smearing, eV.
    forces
        Shape (n_atoms, 3), eV/Å; None if not asked for.
    stress
        ASE's order and sign, eV/Å^3; None if not asked for.
    magmoms
        Moments inside the augmentation spheres, Bohr magneton.
    """

    folder: Path
    attempts: tuple[ScfAttempt, ...]
    energy: float
    forces: list[list[float]] | None
    stress: list[float] | None
    magmoms: list[float]


def require_gpaw() -> str:
    """Version of GPAW.

    Raises
    ------
    BackendError
        If it is not installed; the message says how to get it.
    """
    if util.find_spec("gpaw") is None:
        raise BackendError(
            "GPAW is not installed; on Debian: apt-get install build-essential python3-dev "
            "libxc-dev libopenblas-dev libopenmpi-dev openmpi-bin, then "
            "pip install gpaw gpaw-data (docs/method.md)"
        )
    return metadata.version("gpaw")


@contextmanager
def run_gpaw(
    settings: GpawSettings,
    mode: Mapping[str, Any],
    structures: Sequence[Atoms],
    wanted: Sequence[str] = (),
) -> Iterator[list[GpawOutcome]]:
    """Compute structures one after the other, in one start of GPAW.

    Parameters
    ----------
    settings
        How it is run.
    mode
        GPAW's ``mode``.
    structures
        Periodic structures. Initial moments that are all zero are replaced by typical ones.
    wanted
        Of ``forces``, ``stress`` and ``states`` (H, S and occupations of LCAO).

    Yields
    ------
    outcomes
        One per structure, while the folder of the calculation exists.

    Raises
    ------
    ScfError
        If no rung of the ladder converges; the message has the last iterations.
    BackendError
        If GPAW fails otherwise, for example for want of a PAW dataset.
    """
    with TemporaryDirectory(prefix="lrlo-gpaw-") as name:
        folder = Path(name)
        (folder / "request.json").write_text(
            json.dumps(request(settings, mode, structures, wanted))
        )
        command = settings.launch_command
        report_step(f"GPAW, {len(structures)} structures, {' '.join(command) or 'one process'}")
        report = _run(folder, command)
        yield [
            _outcome(folder / str(index), atoms, entry, settings.ladder)
            for index, (atoms, entry) in enumerate(
                zip(structures, report["structures"], strict=False)
            )
        ]


def request(
    settings: GpawSettings,
    mode: Mapping[str, Any],
    structures: Sequence[Atoms],
    wanted: Sequence[str],
) -> dict[str, Any]:
    """What the worker is asked, ready for JSON."""
    elements = sorted({symbol for atoms in structures for symbol in atoms.symbols})
    return {
        "structures": [
            {
                "symbols": list(atoms.symbols),
                "positions": atoms.positions.tolist(),
                "cell": atoms.cell.array.tolist(),
                "magmoms": _start_moments(atoms),
                "k_mesh": list(settings.mesh_of(atoms.cell.array)),
            }
            for atoms in structures
        ],
        "wanted": list(wanted),
        "mode": dict(mode),
        "basis": f"compact.{settings.basis}",
        "basis_folder": str(settings.bases),
        "basis_energy_shift": BASIS_ENERGY_SHIFT,
        "basis_cutoffs": {
            e: TM_BASIS_CUTOFF if is_transition_metal(e) else BASIS_CUTOFF for e in elements
        },
        "functional": FUNCTIONALS[settings.functional],
        "grid_spacing": settings.grid_spacing,
        "setups": {e: f":d,{u:g}" for e, u in settings.u_values.items() if u and e in elements},
        "ladder": [rung.model_dump() for rung in settings.ladder],
    }


def _start_moments(atoms: Atoms) -> list[float]:
    given = atoms.get_initial_magnetic_moments()
    if given.any():
        return [float(moment) for moment in given]
    return [START_MOMENTS.get(symbol, 0.0) for symbol in atoms.symbols]


def _run(folder: Path, launch: Sequence[str]) -> dict[str, Any]:
    """Run the worker; its report.

    Raises
    ------
    BackendError
        With the end of its error output, if it left no report.
    """
    command = [*launch, sys.executable, "-m", f"{__package__}.gpaw_worker", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if launch:
        environment["GPAW_MPI_BACKEND"] = "cgpaw"
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,  # the worker must not import what lies where the user stands
            capture_output=True,
            text=True,
            check=False,
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


def _outcome(
    folder: Path, atoms: Atoms, entry: Mapping[str, Any], ladder: Sequence[GpawRung]
) -> GpawOutcome:
    attempts = tuple(_attempt(folder, attempt, ladder) for attempt in entry["attempts"])
    if not attempts[-1].converged:
        raise ScfError(_failure(atoms.get_chemical_formula(), attempts))
    return GpawOutcome(folder=folder, attempts=attempts, **entry["results"])


def _attempt(folder: Path, entry: Mapping[str, Any], ladder: Sequence[GpawRung]) -> ScfAttempt:
    rung = ladder[entry["rung"]]
    log = (folder / f"rung_{entry['rung']}.txt").read_text(errors="replace")
    lines = [line for line in log.splitlines() if "iter:" in line]
    iterations = [" ".join(line.replace("|", " ").split()) for line in lines]
    return ScfAttempt(
        settings=str(rung),
        spin_polarised=entry["spin_polarised"],
        electronic_temperature=rung.smearing * _KELVIN,
        converged=entry["converged"],
        n_iterations=len(iterations),
        last_iterations=tuple(iterations[-_LAST:]),
    )


def _failure(formula: str, attempts: Sequence[ScfAttempt]) -> str:
    tried = "; ".join(
        f"{a.settings}: {a.n_iterations} iterations, the last {' | '.join(a.last_iterations)}"
        for a in attempts
    )
    return (
        f"GPAW did not converge for {formula}; tried {tried}. Relax the structure further, give "
        "moments, or add rungs with less mixing or more smearing"
    )
