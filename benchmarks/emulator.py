"""Compare FastCHGNet with the stock CHGNetCalculator in one run.

Targets, for energies and forces on two cores (``--check`` exits 1 where one is missed):

* one structure of 72 to 200 atoms: at least 4 times as fast as stock;
* a band of 5 images: at least 5 times as fast as stock, which takes one image at a time;
* peak memory for the largest structure: no higher than stock's;
* the same values: energy within 1e-4 eV per 200 atoms, forces within 1e-3 eV/Å.

Each time is the shortest of some repetitions, stock and fast in turn, so that what else runs
on the machine disturbs both alike; the load is reported. On a machine in use, give
``--threads 1`` and read the ratio of processor times: stock's threads wait for one another at
every operation, which would flatter the other ratio. Before anything is timed, both evaluate
a small structure (compilation, first use of memory). The last line printed is one JSON object.

    python benchmarks/emulator.py [--quick] [--check] [--threads N]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.spacegroup import crystal

SINGLE_TARGET = 4.0
BAND_TARGET = 5.0
ENERGY_TOLERANCE = 1e-4  # eV per 200 atoms
FORCE_TOLERANCE = 1e-3  # eV/Å
REPEATS = {24: (1, 1, 1), 72: (3, 1, 1), 96: (2, 1, 2), 192: (2, 1, 4), 384: (4, 1, 4)}


def structure(n_atoms: int, seed: int = 0) -> Atoms:
    """Build Li2MnO3 of `n_atoms` atoms, displaced by 0.05 Å at random."""
    atoms = crystal(
        ["Li", "Li", "Li", "Mn", "O", "O"],
        [
            (0, 0.5, 0),
            (0, 0, 0.5),
            (0, 0.661, 0.5),
            (0, 0.167, 0),
            (0.219, 0, 0.227),
            (0.254, 0.321, 0.223),
        ],
        spacegroup=12,
        cellpar=[4.937, 8.532, 5.030, 90, 109.46, 90],
    ).repeat(REPEATS[n_atoms])
    atoms.positions += np.random.default_rng(seed).normal(0, 0.05, (len(atoms), 3))
    return atoms


def band(n_images: int, n_atoms: int) -> list[Atoms]:
    """Interpolate the images of a lithium hop into a vacancy."""
    start = structure(n_atoms)
    lithium = np.flatnonzero(start.symbols == "Li")
    nearest = np.argsort(start.get_distances(lithium[0], lithium, mic=True))[1]
    path = start.get_distance(lithium[nearest], lithium[0], mic=True, vector=True)
    moving = int(lithium[nearest]) - 1  # its index once atom lithium[0] is gone
    del start[int(lithium[0])]
    images = []
    for fraction in np.linspace(0, 1, n_images):
        image = start.copy()
        image.positions[moving] += fraction * path
        images.append(image)
    return images


class Stock:
    """The stock calculator, one structure at a time."""

    def __init__(self) -> None:
        from chgnet.model.dynamics import CHGNetCalculator

        with contextlib.redirect_stdout(io.StringIO()):
            self.calculator = CHGNetCalculator(use_device="cpu")

    def evaluate(self, structures: list[Atoms]) -> list[tuple[float, np.ndarray]]:
        """Return energies (eV) and forces (eV/Å) as an ASE optimiser would get them."""
        values = []
        for atoms in structures:
            self.calculator.calculate(atoms)
            results = self.calculator.results
            values.append((float(results["energy"]), results["forces"]))
        return values


class Fast:
    """FastCHGNet, all structures at once."""

    def __init__(self) -> None:
        from lrlo.workflows.fast_chgnet import FastCHGNet

        with contextlib.redirect_stdout(io.StringIO()):
            self.model = FastCHGNet(device="cpu")

    def evaluate(self, structures: list[Atoms]) -> list[tuple[float, np.ndarray]]:
        """Return energies (eV) and forces (eV/Å)."""
        return [(r.energy, r.forces) for r in self.model.evaluate(structures)]


def timed(work: Callable[[], Any]) -> tuple[np.ndarray, Any]:
    """Return the wall and the processor time that `work` takes, in seconds, and its result."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return np.array([time.perf_counter() - wall, time.process_time() - processor]), result


def compare(stock: Stock, fast: Fast, structures: list[Atoms], repeats: int) -> dict[str, float]:
    """Time both on the same structures, in turn; compare what they return."""
    stock_s = fast_s = np.full(2, np.inf)
    for _ in range(repeats):
        seconds, expected = timed(lambda: stock.evaluate(structures))
        stock_s = np.minimum(stock_s, seconds)
        for _ in range(3):
            seconds, found = timed(lambda: fast.evaluate(structures))
            fast_s = np.minimum(fast_s, seconds)
    pairs = list(zip(found, expected, strict=True))
    # stock rounds the energy per atom to float32: one unit of that is allowed for
    excess = [
        abs(e - e0)
        / (
            ENERGY_TOLERANCE * max(1, len(f) / 200)
            + len(f) * np.spacing(np.float32(abs(e0) / len(f)))
        )
        for (e, f), (e0, _) in pairs
    ]
    return {
        "images": len(structures),
        "atoms": len(structures[0]),
        "stock_s": round(stock_s[0], 4),
        "fast_s": round(fast_s[0], 4),
        "ratio": round(stock_s[0] / fast_s[0], 2),
        "processor_ratio": round(stock_s[1] / fast_s[1], 2),
        "energy_error_over_tolerance": round(float(max(excess)), 3),
        "force_error_eV_per_A": float(max(np.abs(f - f0).max() for (_, f), (_, f0) in pairs)),
    }


def peak_memory(kind: str, n_atoms: int) -> float:
    """Return the peak resident memory (MiB) of a process that evaluates one structure twice."""
    command = [sys.executable, str(Path(__file__).resolve()), "--peak", kind, str(n_atoms)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def print_peak(kind: str, n_atoms: int) -> None:
    """Evaluate a structure twice and print this process's peak resident memory, MiB."""
    model = Stock() if kind == "stock" else Fast()
    for _ in range(2):
        model.evaluate([structure(n_atoms)])
    # not getrusage: its maximum is inherited from the process that started this one
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    print(int(line.split()[1]) / 1024)


def missed_targets(report: dict[str, Any]) -> list[str]:
    """Name the targets of this file's header that `report` does not reach."""
    missed = []
    for row in report["single"] + report["bands"]:
        name = f"{row['images']} x {row['atoms']} atoms"
        if row["images"] == 1 and 72 <= row["atoms"] <= 200 and row["ratio"] < SINGLE_TARGET:
            missed.append(f"{name}: {row['ratio']} times as fast, not {SINGLE_TARGET}")
        if row["images"] == 5 and row["ratio"] < BAND_TARGET:
            missed.append(f"{name}: {row['ratio']} times as fast, not {BAND_TARGET}")
        if row["energy_error_over_tolerance"] > 1:
            missed.append(f"{name}: energies differ")
        if row["force_error_eV_per_A"] > FORCE_TOLERANCE:
            missed.append(f"{name}: forces differ")
    memory = report["peak_memory_MiB"]
    if memory["fast"] > memory["stock"]:
        missed.append(f"peak memory {memory['fast']} MiB above stock's {memory['stock']} MiB")
    return missed


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases, under a minute")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--threads", type=int, help="for both; default: all of torch's")
    parser.add_argument("--peak", nargs=2, metavar=("KIND", "ATOMS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.peak:
        print_peak(args.peak[0], int(args.peak[1]))
        return 0

    sizes = [24, 96] if args.quick else [24, 72, 96, 192, 384]
    bands = [5] if args.quick else [3, 5, 9]
    repeats = 2 if args.quick else 3
    stock, fast = Stock(), Fast()
    for model in (stock, fast):
        model.evaluate([structure(24)])
    report: dict[str, Any] = {
        "model": fast.model.version,
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
    }
    report["single"] = [compare(stock, fast, [structure(n)], repeats) for n in sizes]
    report["bands"] = [compare(stock, fast, band(n, 96), repeats) for n in bands]
    for row in report["single"] + report["bands"]:
        print(
            f"{row['images']} x {row['atoms']:3d} atoms: "
            f"stock {row['stock_s']:7.3f} s, fast {row['fast_s']:6.3f} s, "
            f"ratio {row['ratio']:5.1f} (processor time {row['processor_ratio']:5.1f}), "
            f"forces differ by {row['force_error_eV_per_A']:.0e} eV/Å"
        )
    report["peak_memory_MiB"] = {
        kind: round(peak_memory(kind, sizes[-1]), 1) for kind in ("stock", "fast")
    }
    report["load_after"] = os.getloadavg()[0]
    report["missed"] = missed_targets(report)
    print(json.dumps(report))
    return 1 if args.check and report["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
