"""One GPAW calculation in its own processes: ``mpiexec -n N python -m lrlo.workflows.gpaw_worker``.

Reads a request (JSON), runs LCAO until a rung of its ladder converges, and writes H, S and
occupations (NPZ) beside a report (JSON). GPAW is imported here and nowhere else in the package.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms


def main(folder: Path) -> None:
    """Run the request in a folder.

    Parameters
    ----------
    folder
        Holds ``request.json``; ``report.json``, ``states.npz`` and a log per rung are written.
    """
    import gpaw
    from gpaw.mpi import world

    request = json.loads((folder / "request.json").read_text())
    if world.rank == 0:
        _make_missing_bases(request)
    world.barrier()
    gpaw.setup_paths.insert(0, request["basis_folder"])
    attempts: list[dict[str, Any]] = []
    for number, rung in enumerate(request["ladder"]):
        log = folder / f"rung_{number}.txt"
        calculator = _calculator(request, rung, log)
        atoms = _atoms(request)
        atoms.calc = calculator
        try:
            energy = atoms.get_potential_energy()
        except gpaw.KohnShamConvergenceError:
            energy = None
        attempts.append({"rung": number, "converged": energy is not None})
        if energy is not None:
            _write_states(calculator, folder)
            break
    if world.rank == 0:
        _write(folder / "report.json", {"attempts": attempts, "version": gpaw.__version__})


def _make_missing_bases(request: dict[str, Any]) -> None:
    """Generate compact bases that are not there yet, a few seconds for an element.

    A basis appears whole or not at all, so that several jobs can share the folder.
    """
    from gpaw.atom.basis import BasisMaker
    from gpaw.basis_data import parse_basis_name

    folder = Path(request["basis_folder"])
    folder.mkdir(parents=True, exist_ok=True)
    prefix, kind = request["basis"].split(".")
    for symbol, cutoff in request["basis_cutoffs"].items():
        path = folder / f"{symbol}.{request['basis']}.basis"
        if path.exists():
            continue
        maker = BasisMaker.from_symbol(symbol, gtxt=None, xc="PBE", name=prefix)
        basis = maker.generate(
            *parse_basis_name(kind),
            energysplit=request["basis_energy_shift"],
            rcutmax=cutoff,
            txt=None,
        )
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with temporary.open("w") as file:
            basis.write_to(file)
        temporary.replace(path)


def _atoms(request: dict[str, Any]) -> Atoms:
    return Atoms(
        request["symbols"],
        positions=request["positions"],
        cell=request["cell"],
        pbc=True,
        magmoms=request["magmoms"],
    )


def _calculator(request: dict[str, Any], rung: dict[str, Any], log: Path) -> Any:
    from gpaw import GPAW

    return GPAW(
        mode="lcao",
        basis=request["basis"],
        xc=request["functional"],
        h=request["grid_spacing"],
        kpts={"size": request["k_mesh"], "gamma": True},
        setups=request["setups"],
        nbands="nao",
        # Atom-resolved numbers need every k point's own states.
        symmetry={"point_group": False},
        occupations={"name": "fermi-dirac", "width": rung["smearing"]},
        mixer={
            "backend": "pulay",
            "method": "difference",
            "beta": rung["mixing"],
            "nmaxold": rung["history"],
            "weight": 50.0,
        },
        convergence={"density": 1e-5, "energy": 1e-5},
        maxiter=rung["max_iterations"],
        txt=str(log),
    )


def _write_states(calculator: Any, folder: Path) -> None:
    """Matrices and occupations of a converged calculation."""
    from gpaw.lcao.tools import get_lcao_hamiltonian
    from gpaw.mpi import world

    hamiltonian, overlap = get_lcao_hamiltonian(calculator)
    n_k, n_spin = len(calculator.get_ibz_k_points()), calculator.get_number_of_spins()
    places = [[(k, spin) for k in range(n_k)] for spin in range(n_spin)]
    energies = [[calculator.get_eigenvalues(k, s) for k, s in row] for row in places]
    weights = calculator.get_k_point_weights()
    counted = [[calculator.get_occupation_numbers(k, s) for k, s in row] for row in places]
    if world.rank == 0:
        np.savez(
            folder / "states.npz",
            hamiltonian=hamiltonian,
            overlap=overlap,
            energies=np.array(energies),
            # Occupation numbers come multiplied by the weight of their k point.
            occupations=np.array(counted) / weights[None, :, None],
            k_points=calculator.get_ibz_k_points(),
            k_weights=weights,
            n_electrons=calculator.setups.nvalence,
        )
        _write(folder / "orbitals.json", [_functions(setup) for setup in calculator.setups])


def _functions(setup: Any) -> list[dict[str, Any]]:
    """Basis functions of one atom, in GPAW's order."""
    return [
        {"n": function.n, "l": function.l, "type": function.type} for function in setup.basis.bf_j
    ]


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
