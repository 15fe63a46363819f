"""Compare the band driver with its peers in one run: same end states, potential and threshold.

Cases: a vacancy of copper (EMT), and with CHGNet 0.3.0 the LiCoO2 divacancy, Li2MnO3 from the TM
layer to the Li layer (2b to 2c), and Mn in the plane and out of it in delithiated Li2MnO3 (90
atoms). Five images, IDPP path, projected forces below 0.05 eV/Å. Peers: ASE's NEB with FIRE, BFGS
and NEBOptimizer on this package's fast CHGNet, so that force calls are compared and not
potentials, and, where atomate2 is installed, its ASE NEB with stock CHGNet from the same path, by
wall time, on the cases with CHGNet.

Targets (``--check`` exits 1 where one is missed):

* barrier within 5 meV of ASE's NEB with FIRE at 0.01 eV/Å, which starts from the same path, or from
  the band of this package where it does not converge from there;
* at most a third of FIRE's force calls per image;
* at least 8 times less wall time than atomate2's NEB, where that is installed.

The last line printed is one JSON object.

    python benchmarks/neb.py [--quick] [--check] [--cases NAME ...] [--peers NAME ...]

``--quick`` takes the copper case and FIRE alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.mep.neb import NEB, NEBOptimizer
from ase.optimize import BFGS, FIRE
from ase.spacegroup import crystal

from lrlo.workflows.backend import Backend, BackendCalculator, BackendSpec, load_backend
from lrlo.workflows.band import BandSettings, optimise_band
from lrlo.workflows.initial_path import initial_path

N_IMAGES = 5
FMAX = 0.05  # eV/Å
TIGHT_FMAX = 0.01  # eV/Å
MOST_STEPS = 500
BARRIER_TOLERANCE = 0.005  # eV
CALLS_SHARE = 1 / 3
ATOMATE2_RATIO = 8.0
PEERS: dict[str, type] = {"fire": FIRE, "bfgs": BFGS, "neboptimizer": NEBOptimizer}

Ends = tuple[Atoms, Atoms]


def end_states(host: Atoms, vacancies: list[int], mover: int) -> Ends:
    """End states of `mover` going to the first of some vacancies, not relaxed."""
    initial, final = host.copy(), host.copy()
    final.positions[mover] += host.get_distance(mover, vacancies[0], mic=True, vector=True)
    for atoms in (initial, final):
        del atoms[vacancies]
    return initial, final


def neighbours(atoms: Atoms, centre: int, symbol: str, cutoff: float) -> list[int]:
    """Indices of `symbol` within `cutoff` Å of an atom, nearest first."""
    distances = atoms.get_distances(centre, np.arange(len(atoms)), mic=True)
    order = np.argsort(distances)
    return [int(i) for i in order if atoms[i].symbol == symbol and 0.1 < distances[i] < cutoff]


def copper_vacancy() -> Ends:
    """107 atoms of fcc copper."""
    atoms = bulk("Cu", cubic=True, a=3.61).repeat(3)
    return end_states(atoms, [0], neighbours(atoms, 0, "Cu", 2.7)[0])


def licoo2_divacancy() -> Ends:
    """3 x 3 x 2 primitive cells of LiCoO2, 70 atoms, the measured lattice."""
    hexagonal = crystal(
        ["Co", "Li", "O"],
        basis=[(0, 0, 0), (0, 0, 0.5), (0, 0, 0.2605)],
        spacegroup=166,
        cellpar=[2.84, 2.84, 14.05, 90, 90, 120],
    )
    cell = np.array([[3, 0, 0], [0, 3, 0], [2, 1, 1]]) / 3 @ hexagonal.cell.array
    frac = np.array([[0, 0, 0], [0, 0, 0.5], [0, 0, 0.2605], [0, 0, -0.2605]])
    primitive = Atoms("CoLiO2", positions=frac @ hexagonal.cell.array, cell=cell, pbc=True)
    atoms = make_supercell(primitive, np.diag([3, 3, 2]))
    first = next(i for i, atom in enumerate(atoms) if atom.symbol == "Li")
    around = neighbours(atoms, first, "Li", 3.0)
    second, mover = next(
        (i, j) for i in around for j in around if 0.1 < atoms.get_distance(i, j, mic=True) < 3.0
    )
    return end_states(atoms, [first, second], mover)


def li2mno3() -> Atoms:
    """2 x 1 x 2 conventional cells of Li2MnO3, 96 atoms; ``spacegroup_kinds`` 0 is 2b, 1 is 2c."""
    atoms = crystal(
        ["Li", "Li", "Li", "Mn", "O", "O"],
        basis=[
            (0, 0.5, 0),
            (0, 0, 0.5),
            (0, 0.6606, 0.5),
            (0, 0.16708, 0),
            (0.2189, 0, 0.2273),
            (0.2540, 0.32119, 0.2233),
        ],
        spacegroup=12,
        cellpar=[4.904, 8.480, 4.984, 90, 109.44, 90],
    )
    return make_supercell(atoms, np.diag([2, 1, 2]))


def li2mno3_between_layers() -> Ends:
    """Li of the TM layer (2b) to a vacancy of the Li layer (2c)."""
    atoms = li2mno3()
    kinds = atoms.arrays["spacegroup_kinds"]
    vacancy, movers = int(np.flatnonzero(kinds == 1)[0]), np.flatnonzero(kinds == 0)
    mover = int(movers[atoms.get_distances(vacancy, movers, mic=True).argmin()])
    return end_states(atoms, [vacancy], mover)


def delithiated(out_of_plane: bool) -> Ends:
    """Mn with a TM-layer vacancy beside it and five Li-layer vacancies above it, 90 atoms."""
    atoms = li2mno3()
    kinds = atoms.arrays["spacegroup_kinds"]
    in_plane = int(np.flatnonzero(kinds == 0)[0])
    mover = neighbours(atoms, in_plane, "Mn", 3.2)[0]
    up = np.cross(atoms.cell[0], atoms.cell[1])
    above = [
        i
        for i in neighbours(atoms, mover, "Li", 4.5)
        if kinds[i] != 0 and atoms.get_distance(mover, i, mic=True, vector=True) @ up > 0
    ][:5]
    target, *others = [above[0], in_plane, *above[1:]] if out_of_plane else [in_plane, *above]
    return end_states(atoms, [target, *others], mover)


CASES: dict[str, tuple[str, Callable[[], Ends]]] = {
    "Cu vacancy": ("emt", copper_vacancy),
    "LiCoO2 divacancy": ("chgnet", licoo2_divacancy),
    "Li2MnO3 2b-2c": ("chgnet", li2mno3_between_layers),
    "Mn in plane": ("chgnet", lambda: delithiated(out_of_plane=False)),
    "Mn out of plane": ("chgnet", lambda: delithiated(out_of_plane=True)),
}


def relaxed(ends: Ends, backend: Backend) -> Ends:
    """End states relaxed to 0.01 eV/Å."""
    for atoms in ends:
        atoms.calc = BackendCalculator(backend)
        if not BFGS(atoms, logfile=None).run(fmax=0.01, steps=500):
            sys.exit("an end state did not relax")
        atoms.calc = None
    return ends


def peer(
    name: str, images: list[Atoms], backend: Backend, fmax: float = FMAX
) -> dict[str, float | bool]:
    """ASE's NEB with one of its optimisers."""
    band = [image.copy() for image in images]
    for image in band:
        image.calc = BackendCalculator(backend)
    neb = NEB(band, k=1.0, climb=True, method="improvedtangent")
    start = time.perf_counter()
    try:
        converged = bool(PEERS[name](neb, logfile=None).run(fmax=fmax, steps=MOST_STEPS))
    except Exception as error:  # NEBOptimizer gives up by raising
        print(f"    {name}: {type(error).__name__}: {error}", flush=True)
        converged = False
    seconds = time.perf_counter() - start
    energies = np.array([image.get_potential_energy() for image in band])
    n_calls = sum(image.calc.n_evaluations for image in band[1:-1])
    return figures(converged, n_calls / N_IMAGES, seconds, energies)


def ours(images: list[Atoms], backend: Backend) -> tuple[dict[str, float | bool], list[Atoms]]:
    """Optimise with this package's driver; figures and the band."""
    start = time.perf_counter()
    settings = BandSettings(n_images=N_IMAGES, fmax=FMAX, max_steps=MOST_STEPS)
    band = optimise_band(images, backend.evaluate, settings)
    seconds = time.perf_counter() - start
    row = figures(band.converged, (band.n_force_calls - 2) / N_IMAGES, seconds, band.energies)
    found = [image.copy() for image in images]
    for image, positions in zip(found, band.positions, strict=True):
        image.positions = positions
    return row, found


def atomate2(images: list[Atoms]) -> dict[str, float | bool]:
    """atomate2's ASE NEB (FIRE, a calculator per image) with stock CHGNet, from the same path."""
    from atomate2.ase.utils import AseNebInterface
    from chgnet.model.dynamics import CHGNetCalculator

    with contextlib.redirect_stdout(io.StringIO()):
        interface = AseNebInterface(CHGNetCalculator(use_device="cpu"))
    start = time.perf_counter()
    result = interface.run_neb(
        [image.copy() for image in images],
        fmax=FMAX,
        steps=MOST_STEPS,
        neb_kwargs={"k": 1.0, "climb": True, "method": "improvedtangent"},
        neb_doc_kwargs={},  # it is unpacked, and None by default
    )
    seconds = time.perf_counter() - start
    energies = np.array(result.energies)
    return {
        "seconds": round(seconds, 2),
        "barrier_eV": round(float(energies.max() - energies[0]), 4),
        "peak_memory_GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def figures(
    converged: bool, calls: float, seconds: float, energies: np.ndarray
) -> dict[str, float | bool]:
    """What is reported of one band."""
    return {
        "converged": converged,
        "calls_per_image": round(calls, 1),
        "seconds": round(seconds, 2),
        "barrier_eV": round(float(energies.max() - energies[0]), 4),
        "peak_memory_GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def missed(rows: dict[str, dict[str, dict[str, float | bool]]]) -> list[str]:
    """Targets of the header that the figures do not reach."""
    problems = []
    for case, row in rows.items():
        mine = row["ours"]
        if not mine["converged"]:
            problems.append(f"{case}: not converged")
            continue
        if "tight" in row and row["tight"]["converged"]:
            error = mine["barrier_eV"] - row["tight"]["barrier_eV"]
            if abs(error) > BARRIER_TOLERANCE:
                problems.append(f"{case}: barrier {1000 * error:+.0f} meV off")
        if "fire" in row and row["fire"]["converged"]:
            share = mine["calls_per_image"] / row["fire"]["calls_per_image"]
            if share > CALLS_SHARE:
                problems.append(f"{case}: {share:.2f} of FIRE's force calls")
        if "atomate2" in row and row["atomate2"]["seconds"] < ATOMATE2_RATIO * mine["seconds"]:
            problems.append(f"{case}: not {ATOMATE2_RATIO:g} times as fast as atomate2")
    return problems


def main() -> None:
    """Run the cases and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the copper case alone")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=["tight", *PEERS, "atomate2"],
        default=["tight", *PEERS, "atomate2"],
    )
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    names = ["Cu vacancy"] if arguments.quick else arguments.cases
    others = ["tight", "fire"] if arguments.quick else arguments.peers
    backends = {
        "emt": BackendSpec(name="ase", calculator="ase.calculators.emt:EMT"),
        "chgnet": BackendSpec(name="emulator"),
    }
    rows: dict[str, dict[str, dict[str, float | bool]]] = {}
    for name in names:
        kind, build = CASES[name]
        backend = load_backend(backends[kind])
        ends = relaxed(build(), backend)
        images = initial_path(*ends, N_IMAGES)
        mine, band = ours(images, backend)
        row = rows[name] = {"ours": mine}
        print(f"{name} ({len(ends[0])} atoms)\n    ours: {row['ours']}", flush=True)
        for other in others:
            if other == "atomate2":
                if kind != "chgnet":
                    continue
                try:
                    row[other] = atomate2(images)
                except ImportError as error:
                    print(f"    atomate2 left out: {error}", flush=True)
                    continue
            elif other == "tight":
                row[other] = peer("fire", images, backend, TIGHT_FMAX)
                if not row[other]["converged"]:
                    row[other] = peer("fire", band, backend, TIGHT_FMAX)
            else:
                row[other] = peer(other, images, backend)
            print(f"    {other}: {row[other]}", flush=True)
    problems = missed(rows)
    print(
        json.dumps({"images": N_IMAGES, "fmax_eV_per_A": FMAX, "cases": rows, "missed": problems})
    )
    if arguments.check and problems:
        sys.exit(1)


if __name__ == "__main__":
    main()
