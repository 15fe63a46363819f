"""Compare the band driver with its peers in one run: same end states, potential and threshold.

Cases: a vacancy of copper (EMT), and with CHGNet 0.3.0 the LiCoO2 divacancy, Li2MnO3 from the TM
layer to the Li layer (2b to 2c), and Mn in the plane and out of it in delithiated Li2MnO3 (90
atoms). Five images, IDPP path, projected forces below 0.05 eV/Å. Peers: ASE's NEB with FIRE, BFGS
and NEBOptimizer on this package's fast CHGNet, so that force calls are compared and not
potentials, and, where atomate2 is installed, its ASE NEB with stock CHGNet from the same path, by
wall time, on the cases with CHGNet. atomate2 gets this path and these relaxed end states, since by
itself it would interpolate on a straight line; it is stopped after 12 times the wall time of this
package, though not before 400 s, and then counts as having taken at least as long.

"Tight" is ASE's NEB with FIRE at 0.01 eV/Å from the same path. Where it does not converge in 200
steps, ASE's dimer method goes on from its highest image, along its tangent, to the saddle at
0.01 eV/Å. That counts where the curvature along the mode is negative, and structures that fall from
both sides of the saddle come to places from which interpolated paths lead to the two end states
without rising above it. Nothing of this package's bands enters.

``--cases "LiF:Mg, DFT"`` is a case for GPAW (bash scripts/gpaw.sh), left out by default because a
call takes many seconds: a vacancy of LiF leaves its Mg, PBE, 15 atoms, three images.
Here "preconverged" starts this package's driver from its band of the emulator.

Every row runs in a process of its own, so that its peak memory is its own.

Targets (``--check`` exits 1 where one is missed):

* barrier within 5 meV of the tight one;
* at most a third of FIRE's force calls per image;
* at least 8 times less wall time than atomate2's NEB, where that is installed.

The last line printed is one JSON object.

    python benchmarks/neb.py [--quick] [--check] [--cases NAME ...] [--peers NAME ...]

``--quick`` takes the copper case, and of the peers FIRE and the tight band.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import resource
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.mep.dimer import DimerControl, MinModeAtoms, MinModeTranslate
from ase.mep.neb import NEB, NEBOptimizer
from ase.optimize import BFGS, FIRE
from ase.spacegroup import crystal
from numpy.typing import NDArray

from lrlo.workflows.backend import Backend, BackendCalculator, BackendSpec, load_backend
from lrlo.workflows.band import BandSettings, optimise_band
from lrlo.workflows.initial_path import initial_path

FMAX = 0.05  # eV/Å
TIGHT_FMAX = 0.01  # eV/Å
MOST_STEPS, TIGHT_STEPS, DIMER_STEPS = 300, 200, 200
BARRIER_TOLERANCE = 0.005  # eV
CALLS_SHARE = 1 / 3
ATOMATE2_RATIO = 8.0
#: When atomate2 is stopped: after so many times this package's wall time, not before so many s.
ATOMATE2_LIMIT, ATOMATE2_LEAST = 12.0, 400.0
#: Length of the step off a saddle, Å.
DOWNHILL = 0.1
OPTIMISERS: dict[str, type] = {"fire": FIRE, "bfgs": BFGS, "neboptimizer": NEBOptimizer}
BACKENDS = {
    "emt": BackendSpec(name="ase", calculator="ase.calculators.emt:EMT"),
    "chgnet": BackendSpec(name="emulator"),
    # Plane waves, one k point and quick mixing of an insulator: enough to count calls.
    "gpaw": BackendSpec(
        name="gpaw",
        kwargs={"cutoff": 300, "k_mesh": [1, 1, 1], "ladder": [{"mixing": 0.5}]},
    ),
}
PEERS = {
    "emt": ["tight", *OPTIMISERS],
    "chgnet": ["tight", *OPTIMISERS, "atomate2"],
    "gpaw": ["preconverged", "fire", "tight"],
}

Ends = tuple[Atoms, Atoms]
Row = dict[str, Any]
Result = TypeVar("Result")


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


def lif_beside_mg() -> Ends:
    """Vacancy of LiF that leaves the Mg that it compensates for the next shell, 15 atoms."""
    atoms = bulk("LiF", "rocksalt", a=4.03).repeat(2)
    mover = 0
    lithium = [i for i, atom in enumerate(atoms) if atom.symbol == "Li"]
    distances = atoms.get_distances(mover, lithium, mic=True)
    atoms.symbols[lithium[int(distances.argmax())]] = "Mg"
    ends = end_states(atoms, neighbours(atoms, mover, "Li", 3.0)[:1], mover)
    for end in ends:
        end.rattle(0.05, seed=1)  # forces that vanish by symmetry would keep it off its minimum
    return ends


@dataclass(frozen=True)
class Case:
    """A hop, what computes it and on how many interior images."""

    build: Callable[[], Ends]
    backend: str = "chgnet"
    n_images: int = 5


CASES = {
    "Cu vacancy": Case(copper_vacancy, "emt"),
    "LiCoO2 divacancy": Case(licoo2_divacancy),
    "Li2MnO3 2b-2c": Case(li2mno3_between_layers),
    "Mn in plane": Case(lambda: delithiated(out_of_plane=False)),
    "Mn out of plane": Case(lambda: delithiated(out_of_plane=True)),
    "LiF:Mg, DFT": Case(lif_beside_mg, "gpaw", n_images=3),
}


def alone(function: Callable[..., Result], *arguments: Any) -> Result:
    """Result of a function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def loaded(backend: str, images: list[Atoms]) -> Backend:
    """A backend that has nothing left to compile or load at its first call."""
    warnings.filterwarnings("ignore")
    result = load_backend(BACKENDS[backend])
    if backend != "gpaw":  # whose every call is a process
        result.evaluate(images[1:-1])
    return result


def path(name: str) -> list[Atoms]:
    """Path of a case that all drivers start from, its end states relaxed to 0.01 eV/Å."""
    warnings.filterwarnings("ignore")
    case = CASES[name]
    ends = case.build()
    for atoms in ends:
        atoms.calc = BackendCalculator(load_backend(BACKENDS[case.backend]))
        if not BFGS(atoms, logfile=None).run(fmax=0.01, steps=500):
            sys.exit("an end state did not relax")
        atoms.calc = None
    return initial_path(*ends, case.n_images)


def figures(converged: bool, calls: float, seconds: float, energies: np.ndarray) -> Row:
    """What is reported of one band."""
    return {
        "converged": converged,
        "calls_per_image": round(calls, 1),
        "seconds": round(seconds, 2),
        "barrier_eV": round(float(energies.max() - energies[0]), 4),
        "peak_memory_GB": peak_memory(),
    }


def peak_memory() -> float:
    """Peak memory of this process or, where it is larger, of one that it ran, GB."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(max(usage.ru_maxrss for usage in usages) / 2**20, 2)


def ours(images: list[Atoms], kind: str, preconverge: bool = False) -> Row:
    """Band driver of this package, from the band of the emulator if asked for."""
    backend = loaded(kind, images)
    settings = BandSettings(n_images=len(images) - 2, fmax=FMAX, max_steps=MOST_STEPS)
    start = time.perf_counter()
    if preconverge:
        cheaper = optimise_band(images, load_backend(BACKENDS["chgnet"]).evaluate, settings)
        for image, positions in zip(images, cheaper.positions, strict=True):
            image.positions = positions
    band = optimise_band(images, backend.evaluate, settings)
    seconds = time.perf_counter() - start
    calls = (band.n_force_calls - 2) / settings.n_images
    return figures(band.converged, calls, seconds, band.energies)


def by_ase(
    images: list[Atoms],
    backend: Backend,
    optimiser: str = "fire",
    fmax: float = FMAX,
    steps: int = MOST_STEPS,
) -> tuple[Row, list[Atoms]]:
    """ASE's NEB with one of its optimisers; figures and the band."""
    band = [image.copy() for image in images]
    for image in band:
        image.calc = BackendCalculator(backend)
    neb = NEB(band, k=1.0, climb=True, method="improvedtangent")
    start = time.perf_counter()
    try:
        converged = bool(OPTIMISERS[optimiser](neb, logfile=None).run(fmax=fmax, steps=steps))
    except Exception as error:  # NEBOptimizer gives up by raising
        print(f"    {optimiser}: {type(error).__name__}: {error}", flush=True)
        converged = False
    seconds = time.perf_counter() - start
    energies = np.array([image.get_potential_energy() for image in band])
    calls = sum(image.calc.n_evaluations for image in band[1:-1]) / (len(band) - 2)
    return figures(converged, calls, seconds, energies), band


def peer(images: list[Atoms], kind: str, optimiser: str) -> Row:
    """ASE's NEB with one of its optimisers."""
    return by_ase(images, loaded(kind, images), optimiser)[0]


def tight(images: list[Atoms], kind: str) -> Row:
    """The barrier that others are measured against: FIRE's, or the dimer's from FIRE's band."""
    backend = loaded(kind, images)
    row, band = by_ase(images, backend, "fire", TIGHT_FMAX, TIGHT_STEPS)
    return row if row["converged"] else {"fire": row, **saddle(band, backend)}


def saddle(band: list[Atoms], backend: Backend) -> Row:
    """The saddle that ASE's dimer method finds from a band's highest image, as a row.

    It is converged if it joins the end states: from both sides of it structures fall, and from
    where they come to rest interpolated paths lead on to the end states below the saddle.
    """
    start = time.perf_counter()
    highest = 1 + int(np.argmax([image.get_potential_energy() for image in band[1:-1]]))
    tangent = band[highest + 1].positions - band[highest - 1].positions
    atoms = band[highest].copy()
    atoms.calc = BackendCalculator(backend)
    # Differences over the stock 0.0001 and 0.001 Å drown in the noise of single precision.
    control = DimerControl(
        logfile=None, dimer_separation=0.02, trial_trans_step=0.01, max_num_rot=3
    )
    dimer = MinModeAtoms(
        atoms, control, eigenmodes=[tangent / np.linalg.norm(tangent)], random_seed=0
    )
    # ASE calls it converged where the curvature is negative, too.
    converged = MinModeTranslate(dimer, logfile=None).run(fmax=TIGHT_FMAX, steps=DIMER_STEPS)
    energy, curvature = dimer.get_potential_energy(), dimer.get_curvature()
    step = DOWNHILL * dimer.get_eigenmode()
    if np.vdot(step, tangent) < 0:
        step = -step
    joined = all(
        highest_on_the_way(atoms.positions + side * step, band[end], backend) < energy
        for side, end in ((-1, 0), (1, -1))
    )
    return {
        "converged": bool(converged and joined),
        "barrier_eV": round(float(energy - band[0].get_potential_energy()), 4),
        "curvature_eV_per_A2": round(float(curvature), 2),
        "joins_end_states": joined,
        "dimer_calls": atoms.calc.n_evaluations,
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory_GB": peak_memory(),
    }


def highest_on_the_way(start: NDArray[np.float64], end: Atoms, backend: Backend) -> float:
    """Highest energy from where a structure comes to rest to an end state, by interpolation, eV."""
    atoms = end.copy()
    atoms.positions = start
    atoms.calc = BackendCalculator(backend)
    BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=FMAX, steps=MOST_STEPS)
    return max(result.energy for result in backend.evaluate(initial_path(atoms, end, 9)))


def atomate2(images: list[Atoms], limit: float) -> Row:
    """atomate2's ASE NEB (FIRE, a calculator per image) with stock CHGNet, for `limit` seconds."""
    from atomate2.ase.utils import AseNebInterface
    from chgnet.model.dynamics import CHGNetCalculator

    class Limited(CHGNetCalculator):
        """Stock calculator that raises once the time is over."""

        def calculate(self, *arguments: Any, **keywords: Any) -> None:
            if time.perf_counter() - start > limit:
                raise TimeoutError
            super().calculate(*arguments, **keywords)

    warnings.filterwarnings("ignore")
    with contextlib.redirect_stdout(io.StringIO()):
        interface = AseNebInterface(Limited(use_device="cpu"))
    start = time.perf_counter()
    try:
        result = interface.run_neb(
            images,
            fmax=FMAX,
            steps=MOST_STEPS,
            neb_kwargs={"k": 1.0, "climb": True, "method": "improvedtangent"},
            neb_doc_kwargs={},  # it is unpacked, and None by default
        )
    except TimeoutError:
        row: Row = {"converged": False, "stopped": True}
    else:
        energies = np.array(result.energies)
        row = {
            "converged": str(result.state.value) == "successful",
            "barrier_eV": round(float(energies.max() - energies[0]), 4),
        }
    seconds = round(time.perf_counter() - start, 2)
    return {**row, "seconds": seconds, "peak_memory_GB": peak_memory()}


def missed(rows: dict[str, dict[str, Row]]) -> list[str]:
    """Targets of the header that the figures do not reach."""
    problems = []
    for case, row in rows.items():
        for driver in ("ours", "preconverged"):
            if driver not in row:
                continue
            mine, label = row[driver], f"{case}, {driver}"
            if not mine["converged"]:
                problems.append(f"{label}: not converged")
                continue
            if "tight" in row:
                error = mine["barrier_eV"] - row["tight"]["barrier_eV"]
                if not row["tight"]["converged"]:
                    problems.append(f"{label}: no tight barrier to compare with")
                elif abs(error) > BARRIER_TOLERANCE:
                    problems.append(f"{label}: barrier {1000 * error:+.0f} meV off")
            if "fire" in row and row["fire"]["converged"]:
                share = mine["calls_per_image"] / row["fire"]["calls_per_image"]
                if share > CALLS_SHARE:
                    problems.append(f"{label}: {share:.2f} of FIRE's force calls")
            if "atomate2" in row and row["atomate2"]["seconds"] < ATOMATE2_RATIO * mine["seconds"]:
                problems.append(f"{label}: not {ATOMATE2_RATIO:g} times as fast as atomate2")
    return problems


def rows_of(name: str, peers: list[str]) -> dict[str, Row]:
    """Figures of this package and its peers on one case."""
    kind = CASES[name].backend
    images = alone(path, name)
    print(f"{name} ({len(images[0])} atoms, {len(images) - 2} images)", flush=True)
    rows: dict[str, Row] = {}
    for driver in ["ours", *peers]:
        try:
            if driver == "ours":
                row = alone(ours, images, kind)
            elif driver == "preconverged":
                row = alone(ours, images, kind, True)
            elif driver == "tight":
                row = alone(tight, images, kind)
            elif driver == "atomate2":
                limit = max(ATOMATE2_LEAST, ATOMATE2_LIMIT * rows["ours"]["seconds"])
                row = alone(atomate2, images, limit)
            else:
                row = alone(peer, images, kind, driver)
        except ImportError as error:
            print(f"    {driver} left out: {error}", flush=True)
            continue
        rows[driver] = row
        print(f"    {driver}: {row}", flush=True)
    return rows


def main() -> None:
    """Run the cases and print the figures."""
    every_peer = list(dict.fromkeys(peer for peers in PEERS.values() for peer in peers))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the copper case and FIRE alone")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument(
        "--cases",
        nargs="+",
        choices=list(CASES),
        default=[name for name, case in CASES.items() if case.backend != "gpaw"],
    )
    parser.add_argument("--peers", nargs="*", choices=every_peer, default=every_peer)
    arguments = parser.parse_args()
    names = ["Cu vacancy"] if arguments.quick else arguments.cases
    wanted = ["tight", "fire"] if arguments.quick else arguments.peers
    rows = {
        name: rows_of(name, [peer for peer in PEERS[CASES[name].backend] if peer in wanted])
        for name in names
    }
    problems = missed(rows)
    images = {name: CASES[name].n_images for name in names}
    print(json.dumps({"images": images, "fmax_eV_per_A": FMAX, "cases": rows, "missed": problems}))
    if arguments.check and problems:
        sys.exit(1)


if __name__ == "__main__":
    main()
