"""Compare the enumeration of Li/vacancy patterns with bsym, icet and SHRY in one run.

Targets (``--check`` exits 1 where one is missed):

* the same number of distinct patterns as Burnside's lemma and as every tool, in every cell;
* 20 sites, half filled: at least 500 times as fast as bsym;
* 24 sites, half filled, with 48 symmetry operations: under 0.2 s;
* 10,000 Ewald energies: at least 10,000 times as fast as one structure at a time. The one matrix
  that they are made from is not in this time; it is in ``ratio_with_matrix``, which cannot exceed
  10,000, since the matrix costs as much as one structure.

The cells are O3 LiCoO2 with 8 to 32 Li, half of them removed. The times of bsym and SHRY are those
of the enumeration alone, as ours; icet finds the symmetry in the same call. Each is the shortest
of some repetitions; before that, everyone enumerates the smallest cell once (compilation, imports).
A tool stops before a cell that would take it longer than ``--patience`` by the number of patterns,
and a tool that is not installed is reported as missing. ``--quick`` takes the cells up to 24 Li and
little patience. The last line printed is one JSON object.

    python benchmarks/vacancies.py [--quick] [--check] [--patience SECONDS]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Structure

from lrlo.structures.enumeration import Sublattices, class_chunks, sublattices
from lrlo.structures.ewald import Compensation, EwaldEnergy, ewald_energy, lowest_classes
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.vacancies import lithium_sublattices

BSYM_TARGET = 500.0
SECONDS_TARGET = 0.2
EWALD_TARGET = 10_000.0
N_ENERGIES = 10_000
N_SINGLE = 5
CELLS = {
    8: (2, 2, 2),
    12: (3, 2, 2),
    16: (4, 2, 2),
    20: (5, 2, 2),
    24: (3, 4, 2),
    28: (7, 2, 2),
    32: (4, 4, 2),
}
CHARGES = {"Li": 1.0, "Co": 3.0, "O": -2.0}


def lithium_cobalt_oxide(n_lithium: int) -> Occupation:
    """O3 LiCoO2 with `n_lithium` Li."""
    frame = layered_frame(Stacking.O3, np.diag(CELLS[n_lithium]))
    cations = {int(site): "Li" for site in frame.sites(SiteKind.LI_OCT)}
    cations |= {int(site): "Co" for site in frame.sites(SiteKind.TM_OCT)}
    return empty_frame(frame).with_species(cations)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the wall time that `work` takes, in seconds, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def enumerate_ours(lattice: Sublattices, quotas: dict[str, int]) -> tuple[int, int]:
    """Return the number of classes and the sum of their degeneracies."""
    count, total = 0, 0
    for chunk in class_chunks(lattice, quotas):
        count += len(chunk.kept)
        total += int(chunk.degeneracies.sum())
    return count, total


def run_bsym(occupation: Occupation, kept: int) -> tuple[float, int]:
    """Time bsym's unique_configurations; return seconds and classes."""
    from bsym.interface.pymatgen import configuration_space_from_structure

    structure = occupation.to_structure()
    lithium = [i for i, site in enumerate(structure) if site.specie.symbol == "Li"]
    space = configuration_space_from_structure(structure, subset=lithium)
    seconds, found = timed(lambda: space.unique_configurations({1: kept, 0: len(lithium) - kept}))
    assert sum(configuration.count for configuration in found) > 0
    return seconds, len(found)


def run_icet(occupation: Occupation, kept: int) -> tuple[float, int]:
    """Time icet's enumerate_structures on the supercell itself; return seconds and classes."""
    from icet.tools import enumerate_structures

    atoms = occupation.to_structure().to_ase_atoms()
    symbols = [["Li", "X"] if atom.symbol == "Li" else [atom.symbol] for atom in atoms]
    share = kept / len(atoms)
    work = enumerate_structures(
        atoms,
        [1],
        symbols,
        concentration_restrictions={"Li": (share - 1e-9, share + 1e-9)},
    )
    return timed(lambda: sum(1 for _ in work))


def run_shry(occupation: Occupation, kept: int) -> tuple[float, int]:
    """Time SHRY's make_patterns; return seconds and classes."""
    from shry.core import Substitutor

    structure = occupation.to_structure()
    lithium = [i for i, site in enumerate(structure) if site.specie.symbol == "Li"]
    share = kept / len(lithium)
    disordered = Structure(
        structure.lattice,
        [
            {"Li": share, "Na": 1 - share} if i in set(lithium) else site.specie
            for i, site in enumerate(structure)
        ],
        structure.frac_coords,
        site_properties={"_atom_site_label": [site.specie.symbol for site in structure]},
    )
    silent = io.StringIO()  # progress bars
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        substitutor = Substitutor(disordered)
        return timed(lambda: sum(1 for _ in substitutor.make_patterns()))


TOOLS: dict[str, Callable[[Occupation, int], tuple[float, int]]] = {
    "bsym": run_bsym,
    "icet": run_icet,
    "shry": run_shry,
}


def enumerate_cells(sizes: list[int], last_compared: int, patience: float) -> list[dict[str, Any]]:
    """Enumerate every cell half filled, by us and by the tools that are there."""
    rows: list[dict[str, Any]] = []
    per_pattern = {name: 0.0 for name in TOOLS if importlib.util.find_spec(name)}
    for name in per_pattern:
        TOOLS[name](lithium_cobalt_oxide(8), 4)
    for n in sizes:
        occupation = lithium_cobalt_oxide(n)
        lattice = lithium_sublattices(occupation)
        quotas = {"Li layer": n // 2}
        n_classes, n_patterns = lattice.n_classes(quotas), lattice.n_patterns(quotas)
        work = partial(enumerate_ours, lattice, quotas)
        results = [timed(work) for _ in range(10 if n <= 24 else 2)]
        row: dict[str, Any] = {
            "sites": n,
            "operations": lattice.n_operations,
            "patterns": n_patterns,
            "burnside": n_classes,
            "ours": results[0][1][0],
            "degeneracies": results[0][1][1],
            "ours_s": min(seconds for seconds, _ in results),
        }
        for name in per_pattern:
            expected = per_pattern[name] * n_patterns
            if n > last_compared or expected > patience:
                continue
            repeats = 3 if expected < 3.0 else 1
            seconds, row[name] = min(TOOLS[name](occupation, n // 2) for _ in range(repeats))
            row[f"{name}_s"] = round(seconds, 4)
            row[f"{name}_ratio"] = round(seconds / row["ours_s"], 1)
            per_pattern[name] = seconds / n_patterns
        row["ours_s"] = round(row["ours_s"], 6)
        rows.append(row)
        print(describe(row), flush=True)
    return rows


def describe(row: dict[str, Any]) -> str:
    """One line of text for a cell."""
    line = (
        f"{row['sites']:2d} sites, {row['operations']:3d} operations: {row['ours']:9,d} classes in "
        f"{row['ours_s']:8.4f} s"
    )
    for name in TOOLS:
        if name in row:
            line += f"; {name} {row[f'{name}_s']:8.3f} s ({row[f'{name}_ratio']:.0f} times)"
    return line


def single_energy(structure: Structure, removed: np.ndarray) -> float:
    """Ewald energy of one structure, made and summed on its own, eV."""
    charges = np.array([CHARGES[site.specie.symbol] for site in structure])
    charges[removed] = 0.0
    cobalt = [i for i, site in enumerate(structure) if site.specie.symbol == "Co"]
    charges[cobalt] -= charges.sum() / len(cobalt)
    alone = structure.copy()
    alone.add_oxidation_state_by_site(charges.tolist())
    alone.remove_sites(removed.tolist())
    return float(EwaldSummation(alone).total_energy)


def compare_ewald(n_lithium: int) -> dict[str, Any]:
    """Time the energies of many patterns against one structure at a time."""
    occupation = lithium_cobalt_oxide(n_lithium)
    structure = occupation.to_structure()
    lattice = lithium_sublattices(occupation)
    atoms = list(occupation.occupied())
    ions = np.array([atoms.index(site) for site in lattice.all_sites])
    matrix_s, energy = timed(
        lambda: ewald_energy(structure, CHARGES, ions.tolist(), Compensation.TRANSITION_METALS)
    )
    assert isinstance(energy, EwaldEnergy)
    order = np.random.default_rng(0).random((N_ENERGIES, n_lithium)).argsort(axis=1)
    kept = order < n_lithium // 2
    many = [timed(lambda: energy.energies(kept)) for _ in range(5)]
    many_s, energies = min(many, key=itemgetter(0))
    singles = [timed(partial(single_energy, structure, ions[~row])) for row in kept[:N_SINGLE]]
    single_s = min(seconds for seconds, _ in singles)
    alone = np.array([value for _, value in singles])
    return {
        "atoms": len(structure),
        "energies": N_ENERGIES,
        "many_s": round(many_s, 6),
        "matrix_s": round(matrix_s, 4),
        "single_s": round(single_s, 4),
        "ratio": round(N_ENERGIES * single_s / many_s),
        "ratio_with_matrix": round(N_ENERGIES * single_s / (many_s + matrix_s)),
        "largest_difference_eV": float(np.abs(alone - energies[:N_SINGLE]).max()),
    }


def search_all(n_lithium: int, kept: int) -> dict[str, Any]:
    """Time the exact search for the lowest of all patterns, symmetry not used."""
    occupation = lithium_cobalt_oxide(n_lithium)
    symmetric = lithium_sublattices(occupation)
    lattice = sublattices(np.arange(len(occupation.species))[None], symmetric.sites)
    atoms = list(occupation.occupied())
    ions = [atoms.index(site) for site in lattice.all_sites]
    energy = ewald_energy(occupation.to_structure(), CHARGES, ions, Compensation.TRANSITION_METALS)
    lowest_classes(lattice, {"Li layer": 1}, energy, 1)  # compilation
    seconds, found = timed(lambda: lowest_classes(lattice, {"Li layer": kept}, energy, 100))
    return {
        "patterns": lattice.n_patterns({"Li layer": kept}),
        "wanted": len(found.energies),
        "seconds": round(seconds, 3),
    }


def missed_targets(report: dict[str, Any]) -> list[str]:
    """Name the targets of this file's header that `report` does not reach."""
    missed = []
    for row in report["cells"]:
        name = f"{row['sites']} sites"
        if row["degeneracies"] != row["patterns"]:
            missed.append(f"{name}: degeneracies add up to {row['degeneracies']}")
        for tool in ("ours", *TOOLS):
            if row.get(tool, row["burnside"]) != row["burnside"]:
                missed.append(f"{name}: {tool} has {row[tool]} classes, not {row['burnside']}")
        if row["sites"] == 20 and row.get("bsym_ratio", BSYM_TARGET) < BSYM_TARGET:
            missed.append(f"{name}: {row['bsym_ratio']} times as fast as bsym, not {BSYM_TARGET}")
        if row["sites"] == 24 and row["operations"] != 48:
            missed.append(f"{name}: {row['operations']} operations, not 48")
        if row["sites"] == 24 and row["ours_s"] >= SECONDS_TARGET:
            missed.append(f"{name}: {row['ours_s']} s, not {SECONDS_TARGET} s")
    ewald = report["ewald"]
    if ewald["ratio"] < EWALD_TARGET:
        missed.append(f"Ewald energies {ewald['ratio']} times as fast, not {EWALD_TARGET}")
    if ewald["largest_difference_eV"] > 1e-6:
        missed.append(f"Ewald energies differ by {ewald['largest_difference_eV']} eV")
    return missed


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases, under a minute")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument(
        "--patience", type=float, default=300.0, help="longest time for a tool's cell, s"
    )
    args = parser.parse_args()

    sizes = [8, 12, 16, 20, 24] if args.quick else list(CELLS)
    patience = min(args.patience, 3.0) if args.quick else args.patience
    small = lithium_sublattices(lithium_cobalt_oxide(8))
    compile_s, _ = timed(lambda: enumerate_ours(small, {"Li layer": 4}))
    report: dict[str, Any] = {
        "compile_s": round(compile_s, 2),
        "load_before": os.getloadavg()[0],
        "missing": [name for name in TOOLS if not importlib.util.find_spec(name)],
    }
    if report["missing"]:
        print(f"not installed, hence not compared: {', '.join(report['missing'])}")
    report["cells"] = enumerate_cells(sizes, last_compared=24, patience=patience)
    report["ewald"] = compare_ewald(24)
    print(
        f"{N_ENERGIES} Ewald energies in {report['ewald']['many_s'] * 1e3:.1f} ms, one structure "
        f"in {report['ewald']['single_s'] * 1e3:.0f} ms: {report['ewald']['ratio']:,} times"
    )
    report["search"] = search_all(32, 11)
    print("lowest {wanted} of {patterns:,} patterns in {seconds} s".format(**report["search"]))
    report["load_after"] = os.getloadavg()[0]
    report["missed"] = missed_targets(report)
    print(json.dumps(report))
    return 1 if args.check and report["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
