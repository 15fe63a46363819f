"""GPAW in processes of its own: ``mpiexec -n N python -m lrlo.workflows.gpaw_worker FOLDER``.

Reads a request (JSON), runs every structure until a rung of the ladder converges, and writes
what was asked for beside a report (JSON). GPAW is imported here and nowhere else in the package.
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
        Holds ``request.json``; ``report.json`` and, in a folder per structure, a log per rung and
        the matrices of LCAO are written. The first structure that does not converge is the last.
    """
    import gpaw
    from gpaw.mpi import world

    request = json.loads((folder / "request.json").read_text())
    if request["mode"]["name"] == "lcao":
        if world.rank == 0:
            _make_missing_bases(request)
        world.barrier()
        gpaw.setup_paths.insert(0, request["basis_folder"])
    entries: list[dict[str, Any]] = []
    for index, structure in enumerate(request["structures"]):
        place = folder / str(index)
        if world.rank == 0:
            place.mkdir()
        world.barrier()
        entries.append(_converge(request, structure, place))
        if entries[-1]["results"] is None:
            break
    if world.rank == 0:
        _write(folder / "report.json", {"structures": entries, "version": gpaw.__version__})


def _converge(request: dict[str, Any], structure: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Climb the ladder with one structure; its tries and, unless all failed, its results."""
    import gpaw

    attempts: list[dict[str, Any]] = []
    for number, rung in enumerate(request["ladder"]):
        calculator = _calculator(request, structure, rung, folder / f"rung_{number}.txt")
        atoms = _atoms(structure)
        atoms.calc = calculator
        attempt = {"rung": number, "converged": True, "spin_polarised": any(structure["magmoms"])}
        attempts.append(attempt)
        try:
            atoms.get_potential_energy()
        except gpaw.KohnShamConvergenceError:
            attempt["converged"] = False
            continue
        return {"attempts": attempts, "results": _results(atoms, request["wanted"], folder)}
    return {"attempts": attempts, "results": None}


def _results(atoms: Atoms, wanted: list[str], folder: Path) -> dict[str, Any]:
    """Numbers of a converged calculation; its matrices go to a file."""
    if "states" in wanted:
        _write_states(atoms.calc, folder)
    return {
        "energy": float(atoms.get_potential_energy()),
        "forces": atoms.get_forces().tolist() if "forces" in wanted else None,
        "stress": atoms.get_stress().tolist() if "stress" in wanted else None,
        "magmoms": atoms.get_magnetic_moments().tolist(),
    }


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


def _atoms(structure: dict[str, Any]) -> Atoms:
    return Atoms(
        structure["symbols"],
        positions=structure["positions"],
        cell=structure["cell"],
        pbc=True,
        magmoms=structure["magmoms"],
    )


def _calculator(
    request: dict[str, Any], structure: dict[str, Any], rung: dict[str, Any], log: Path
) -> Any:
    from gpaw import GPAW

    more: dict[str, Any] = {}
    if request["mode"]["name"] == "lcao":
        more |= {"basis": request["basis"], "h": request["grid_spacing"]}
    if "states" in request["wanted"]:
        # Atom-resolved numbers need every k point's own states, and all of them.
        more |= {"symmetry": {"point_group": False}, "nbands": "nao"}
    return GPAW(
        mode=request["mode"],
        xc=request["functional"],
        kpts={"size": structure["k_mesh"], "gamma": True},
        setups=request["setups"],
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
        **more,
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
