"""Many hops at once: time per hop against how many bands run side by side.

Lithium hops into a divacancy of LiCoO2 cells (46 atoms) with Ni on random sites, so that no two
hops are the same; three images, end states relaxed before. Each row runs the same hops through
``run_flow`` with another number of bands side by side (``lrlo run --together N``): in processes on
a CPU, up to one per core; on a GPU the emulator evaluates their images in common. The time per hop
is what every hop beyond the first two adds; the start of the processes stands apart.

Target (``--check`` exits 1 where it is missed), with the largest number side by side against one
after the other: at least 1.5 times less time per hop on a GPU, 1.2 times on two or more cores.

The last line printed is one JSON object.

    python benchmarks/screen.py [--quick] [--check] [--hops N] [--together N ...]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.optimize import BFGS
from ase.spacegroup import crystal
from jobflow import Flow, Job
from pymatgen.io.ase import AseAtomsAdaptor

from lrlo.workflows.backend import BackendCalculator, BackendSpec, load_backend
from lrlo.workflows.band import BandSettings
from lrlo.workflows.cores import n_cores
from lrlo.workflows.lanes import choose_lanes
from lrlo.workflows.local_run import run_flow
from lrlo.workflows.neb import NebMaker
from lrlo.workflows.store import open_store
from lrlo.workflows.store_location import StoreLocation

GAIN = {"GPU": 1.5, "CPU": 1.2}
N_COBALT = 12


class Silent:
    """Is told what the run does, and says nothing."""

    def task_started(self, name: str) -> None:
        """A task starts."""

    def task_step(self, message: str) -> None:
        """A task is at a step."""

    def task_finished(self, name: str, *, stored: bool) -> None:
        """A task has ended."""

    def task_held(self, name: str, holder: str) -> None:
        """Another run computes a task."""


def nickel_sites(n_hops: int) -> list[tuple[int, ...]]:
    """Which three of the twelve Co become Ni, another choice for every hop."""
    choices = list(itertools.combinations(range(N_COBALT), 3))
    order = np.random.default_rng(0).permutation(len(choices))
    return [choices[i] for i in order[:n_hops]]


def end_states(nickel: tuple[int, ...]) -> tuple[Atoms, Atoms, int]:
    """Relaxed end states of a divacancy hop, and the atom that moves."""
    host = crystal(
        ["Li", "Co", "O"],
        [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.2605)],
        spacegroup=166,
        cellpar=[2.834, 2.834, 14.19, 90, 90, 120],
    ).repeat((2, 2, 1))
    host.symbols[np.flatnonzero(host.symbols == "Co")[list(nickel)]] = "Ni"
    lithium = np.flatnonzero(host.symbols == "Li")
    mover = int(lithium[0])
    near = lithium[np.argsort(host.get_distances(mover, lithium, mic=True))][1:]
    first = int(near[0])
    second = next(int(i) for i in near[1:] if host.get_distance(first, i, mic=True) < 3.0)
    ends = []
    for at_end in (False, True):
        atoms = host.copy()
        if at_end:
            atoms.positions[mover] += host.get_distance(mover, first, mic=True, vector=True)
        del atoms[[first, second]]
        atoms.calc = BackendCalculator(load_backend(BackendSpec()))
        BFGS(atoms, logfile=None).run(fmax=0.05, steps=100)
        atoms.calc = None
        ends.append(atoms)
    return ends[0], ends[1], mover - sum(gone < mover for gone in (first, second))


def hop(ends: tuple[Atoms, Atoms, int], max_steps: int) -> Job:
    """Band between two end states."""
    first, last = (AseAtomsAdaptor.get_structure(atoms) for atoms in ends[:2])
    settings = BandSettings(n_images=3, fmax=0.1, max_steps=max_steps)
    return NebMaker(settings=settings).make(first, last, ends[2])


def figures(ends: list[tuple[Atoms, Atoms, int]], together: int) -> dict[str, float]:
    """What is reported of all hops, so many side by side."""
    few, row = screen(ends[:2], together), screen(ends, together)
    per_hop = (row["seconds"] - few["seconds"]) / (row["hops"] - few["hops"])
    start = row["seconds"] - row["hops"] * per_hop
    return {**row, "seconds_per_hop": round(per_hop, 2), "seconds_before": round(start, 1)}


def screen(
    ends: list[tuple[Atoms, Atoms, int]], together: int, max_steps: int = 100
) -> dict[str, float]:
    """Run all hops, so many side by side."""
    with tempfile.TemporaryDirectory() as name:
        folder, location = Path(name), StoreLocation(str(Path(name) / "store.sqlite"))
        store = open_store(location)
        jobs = [hop(each, max_steps) for each in ends]
        lanes = choose_lanes(together, load_backend(BackendSpec()), location, folder)
        start = time.perf_counter()
        report = run_flow(Flow(jobs), store, folder, Silent(), lanes=lanes)
        seconds = time.perf_counter() - start
        bands = [found["output"] for found in store.query({"output.kind": "neb"})]
    assert not report.failures, report.failures[0].message
    calls = sum(band["n_force_calls"] for band in bands)
    return {
        "together": together,
        "hops": len(bands),
        "converged": sum(band["status"] == "converged" for band in bands),
        "force_calls": calls,
        "seconds": round(seconds, 2),
    }


def main() -> None:
    """Run the rows and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="6 hops")
    parser.add_argument("--check", action="store_true", help="exit 1 if the target is missed")
    parser.add_argument("--hops", type=int, default=32)
    parser.add_argument("--together", type=int, nargs="+")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    device = "GPU" if torch.cuda.is_available() else "CPU"
    n_hops = 6 if arguments.quick else arguments.hops
    sizes = arguments.together or ([1, 4, 16, 32] if device == "GPU" else [1, n_cores()])
    ends = [end_states(nickel) for nickel in nickel_sites(n_hops)]
    screen(ends[:1], 1, 2)  # what is compiled at first use
    rows = []
    for size in sizes:
        rows.append(figures(ends, size))
        print(rows[-1], flush=True)
    gain = rows[0]["seconds_per_hop"] / rows[-1]["seconds_per_hop"]
    report = {
        "device": device,
        "model": str(load_backend(BackendSpec()).level_of_theory),
        "atoms": len(ends[0][0]),
        "rows": rows,
        "gain": round(gain, 2),
    }
    missed = sizes[-1] > 1 and gain < GAIN[device]
    print(json.dumps({**report, "missed": missed}))
    if arguments.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
