"""Compare the SQS search with icet's annealing and with sqsgenerator at equal wall time.

Targets (``--check`` exits 1 where one is missed, or where a tool to compare with is missing):

* a lower objective than either in every case, in the same time;
* in one and the same cell and in the same time, never a higher objective than icet (in a small
  cell both may find the best that there is);
* at least 50 times as many swaps per second as icet, in one and the same cell.

The objective is ``Q = sum_f |Gamma_f - target_f|`` over all cluster functions of pairs up to 7.0 Å
and triplets up to 5.1 Å, every function with weight 1, computed for the results of all three
from ``icet.ClusterSpace.get_cluster_vector``. It is what icet and we minimise; sqsgenerator
minimises Warren-Cowley parameters of the same pairs (all shells with weight 1) and is given the
best Q among the structures that it returns.

Cases: the TM layer of O3, of Li1.14Ni0.26Mn0.55Co0.05O2 and of Li1.2Mn0.54Ni0.13Co0.13O2 in whole
atoms, for cells of 96 and 192 atoms (24 and 48 TM-layer sites):

* ``random``: Li, Ni, Mn and Co at random on the TM layer; the target is that of a random layer.
  icet runs its ``generate_sqs_from_supercells`` (optimality_weight=0, T_start=0.2).
* ``honeycomb``: Li stays on a spread-out subset of honeycomb centres, Ni, Mn and Co are at random
  on the rest; the target is the mean over all such arrangements around this Li. icet's function
  cannot hold sites fixed: its annealing is run with the same settings and a calculator whose
  sublattices leave Li out.

We share the time between the four most isotropic cells. icet runs twice, each time with all of
the time: in the most isotropic cell, and in the same four cells (which it anneals together); the
better result counts. sqsgenerator takes one cell, the most isotropic. All run in one thread, on
the TM-layer sites alone, which is the cheapest for each. The time of each is that of the search,
without imports, compilation and the list of clusters of the primitive cell; icet's number of
steps follows from a short trial, and sqsgenerator runs in rounds until the time is over. The last
line printed is one JSON object. sqsgenerator is no dependency of the project:
``pip install sqsgenerator``.

    python benchmarks/sqs.py [--quick] [--check] [--seconds S]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from ase import Atoms
from icet import ClusterSpace
from icet.core.sublattices import Sublattices
from icet.tools.structure_generation import (
    _get_sqs_cluster_vector,
    generate_sqs_from_supercells,
)
from mchammer.calculators import TargetVectorCalculator
from mchammer.ensembles import TargetClusterVectorAnnealing

from lrlo.structures.cluster_functions import basis_from_icet
from lrlo.structures.composition import parse_composition, realise
from lrlo.structures.correlation_target import RandomOrder
from lrlo.structures.disordered_cell import (
    DisorderedCell,
    DisorderedClusters,
    FrameBasis,
    Sublattice,
)
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.layered_prototype import LayeredPrototype
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.sqs import CorrelationSearch
from lrlo.structures.stacking import Stacking
from lrlo.structures.supercell_shapes import isotropic_supercells
from lrlo.structures.superlattice import Superlattice, lithium_sites, repeat_vectors

PAIR_CUTOFF, TRIPLET_CUTOFF = 7.0, 5.1  # Å
SPEED_TARGET = 50.0
FORMULAS = {
    "Li1.14Ni0.26Mn0.55Co0.05O2": "paper",
    "Li1.2Mn0.54Ni0.13Co0.13O2": "Li1.2",
}
PROTOTYPE = LayeredPrototype(Stacking.O3)
SEED = 1
N_CELLS = 4


@dataclass(frozen=True)
class Case:
    """A formula, a cell size and a model of the TM layer."""

    formula: str
    n_atoms: int
    model: str

    @property
    def name(self) -> str:
        """Short name."""
        return f"{FORMULAS[self.formula]} {self.n_atoms} {self.model}"

    def cells(self, limit: int) -> list[DisorderedCell]:
        """The most isotropic cells of the size."""
        honeycomb = self.model == "honeycomb"
        repeat = repeat_vectors(Superlattice.HONEYCOMB) if honeycomb else np.eye(3, dtype=int)
        size = self.n_atoms // 4 // round(np.linalg.det(repeat))
        shapes = isotropic_supercells(PROTOTYPE, size, limit=limit, repeat=repeat)
        return [self.cell(shape.matrix) for shape in shapes]

    def cell(self, matrix: np.ndarray) -> DisorderedCell:
        """The TM layer of a supercell."""
        frame = layered_frame(Stacking.O3, matrix)
        counts = dict(realise(parse_composition(self.formula), self.n_atoms // 4).tm_layer_counts)
        sites = frame.sites(SiteKind.TM_OCT).tolist()
        occupation = empty_frame(frame)
        if self.model == "honeycomb":
            lithium = lithium_sites(frame, Superlattice.HONEYCOMB, counts.pop("Li"), seed=0)
            occupation = occupation.with_species(dict.fromkeys(lithium, "Li"))
            sites = [site for site in sites if site not in lithium]
        return DisorderedCell(occupation, (Sublattice(tuple(sites), counts),))


class Judge:
    """icet's cluster space of the TM layer, the target, and Q of an arrangement."""

    def __init__(self, cell: DisorderedCell) -> None:
        self.cell = cell
        motif = [site for site in PROTOTYPE.motif if site.kind is SiteKind.TM_OCT]
        layer = Atoms(
            "H",
            scaled_positions=[site.position for site in motif],
            cell=PROTOTYPE.lattice,
            pbc=True,
        )
        self.species = sorted(set(self.symbols(cell.arrangement())))
        self.space = ClusterSpace(layer, [PAIR_CUTOFF, TRIPLET_CUTOFF], self.species)
        crystal = FrameBasis(PROTOTYPE, frozenset({SiteKind.TM_OCT}), basis_from_icet(self.space))
        own = RandomOrder().correlations(DisorderedClusters(cell, crystal))
        self.target = np.array([1.0, *own])
        if len(cell.sublattices[0].sites) == len(self.symbols(cell.arrangement())):
            concentrations = {
                s: n / len(cell.sublattices[0].sites) for s, n in cell.sublattices[0].counts.items()
            }
            theirs = _get_sqs_cluster_vector(self.space, concentrations)
            assert np.abs(theirs - self.target).max() < 1e-9  # one active sublattice: icet's holds

    @property
    def movable(self) -> np.ndarray:
        """Which sites of the TM layer swap."""
        sites = self.cell.frame.sites(SiteKind.TM_OCT)
        return np.isin(sites, self.cell.sublattices[0].sites)

    def symbols(self, occupation: Occupation) -> list[str]:
        """Species of the TM layer."""
        sites = occupation.frame.sites(SiteKind.TM_OCT)
        return [str(occupation.species[site]) for site in sites]

    def atoms(self, symbols: list[str]) -> Atoms:
        """The TM layer as icet takes it."""
        frame = self.cell.frame
        positions = frame.frac_coords[frame.sites(SiteKind.TM_OCT)]
        return Atoms(symbols, scaled_positions=positions, cell=frame.lattice, pbc=True)

    def objective(self, symbols: list[str]) -> float:
        """Q from icet's cluster vector."""
        counts = Counter(self.symbols(self.cell.arrangement()))
        assert Counter(symbols) == counts
        vector = self.space.get_cluster_vector(self.atoms(symbols))
        return float(np.abs(vector - self.target).sum())


class MovableSites(TargetVectorCalculator):
    """icet's calculator with sublattices that leave out the sites held fixed."""

    def __init__(self, judge: Judge, start: Atoms) -> None:
        super().__init__(start.copy(), judge.space, judge.target, optimality_weight=0)
        species = list(judge.cell.sublattices[0].counts)
        allowed = [
            species if free else [symbol]
            for free, symbol in zip(judge.movable, start.get_chemical_symbols(), strict=True)
        ]
        self._sublattices = Sublattices(allowed, start, start, 1e-6)


def run_icet(judges: list[Judge], n_steps: int) -> float:
    """Anneal with icet in one or several cells for a number of steps; return Q."""
    starts = [judge.atoms(judge.symbols(judge.cell.arrangement())) for judge in judges]
    part = judges[0].cell.sublattices[0]
    if len(part.sites) == len(starts[0]):
        concentrations = {symbol: n / len(part.sites) for symbol, n in part.counts.items()}
        found = generate_sqs_from_supercells(
            judges[0].space,
            starts,
            concentrations,
            T_start=0.2,
            n_steps=n_steps,
            optimality_weight=0,
            random_seed=SEED,
        )
    else:
        random = np.random.default_rng(SEED)
        for judge, start in zip(judges, starts, strict=True):
            symbols = np.array(start.get_chemical_symbols())
            free = judge.movable
            symbols[free] = random.permutation(symbols[free])
            start.set_chemical_symbols(symbols.tolist())
        ensemble = TargetClusterVectorAnnealing(
            structure=starts,
            calculators=[MovableSites(*pair) for pair in zip(judges, starts, strict=True)],
            T_start=0.2,
            random_seed=SEED,
        )
        found = ensemble.generate_structure(number_of_trial_steps=n_steps)
    (cell,) = [
        judge
        for judge, start in zip(judges, starts, strict=True)
        if np.allclose(start.cell, found.cell)
    ]
    return cell.objective(found.get_chemical_symbols())


def run_sqsgenerator(judge: Judge, n_samples: int, seed: int) -> float:
    """Sample with sqsgenerator; return the lowest Q among the structures that it gives."""
    import sqsgenerator
    from sqsgenerator.core import LogLevel

    start = judge.atoms(judge.symbols(judge.cell.arrangement()))
    free, fixed = (np.flatnonzero(which).tolist() for which in (judge.movable, ~judge.movable))
    composition: Any = dict(judge.cell.sublattices[0].counts)
    if fixed:
        composition = [{"sites": free, **composition}, {"sites": fixed, "Li": len(fixed)}]
    basis = basis_from_icet(judge.space)
    distances = sorted({round(o.distances[0], 3) for o in basis.orbits if o.order == 2})
    config = {
        "structure": {
            "lattice": start.cell.tolist(),
            "coords": start.get_scaled_positions().tolist(),
            "species": start.get_chemical_symbols(),
        },
        "iterations": n_samples,
        "iteration_mode": "random",
        "sublattice_mode": "interact",
        "shell_radii": [0.0, *(d + 0.01 for d in distances)],
        "shell_weights": {k + 1: 1.0 for k in range(len(distances))},
        "composition": composition,
        "thread_config": 1,
        "seed": [seed],
        "max_results_per_objective": 10,
    }
    parsed = sqsgenerator.parse_config(config)
    if hasattr(parsed, "msg"):  # a ParseError is returned, not raised
        raise ValueError(f"sqsgenerator refuses {parsed.key}: {parsed.msg}")
    pack = sqsgenerator.optimize(parsed, level=LogLevel.error)
    return min(
        judge.objective(list(result.structure().symbols))
        for _, results in pack
        for result in results
    )


def run_own(cells: list[DisorderedCell], seconds: float) -> tuple[Any, int]:
    """Search until the time is over; return the best arrangement and the swaps tried."""
    start = time.perf_counter()
    search = CorrelationSearch(tuple(cells), pair_cutoff=PAIR_CUTOFF, triplet_cutoff=TRIPLET_CUTOFF)
    state = search.start(seed=SEED)
    while time.perf_counter() - start < seconds:
        state = search.run(state, 1)
    return search.result(state)[0], sum(s.n_cycles * s.steps_per_cycle for s in state.cells)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the wall time that `work` takes, in seconds, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def annealed_by_icet(judges: list[Judge], seconds: float) -> dict[str, float]:
    """Anneal with icet for a time."""
    trial_s, _ = timed(lambda: run_icet(judges, 300))
    n_steps = max(300, int(300 * seconds / trial_s))
    icet_s, objective = timed(lambda: run_icet(judges, n_steps))
    return figures(objective, icet_s, n_steps)


def sampled_by_sqsgenerator(judge: Judge, seconds: float) -> dict[str, float]:
    """Sample with sqsgenerator for a time."""
    trial_s, _ = timed(lambda: run_sqsgenerator(judge, 30_000, SEED))
    per_round = max(30_000, int(30_000 * seconds / trial_s / 4))
    objectives: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        objectives.append(run_sqsgenerator(judge, per_round, SEED + len(objectives)))
    elapsed = time.perf_counter() - start
    return figures(min(objectives), elapsed, per_round * len(objectives))


def figures(objective: float, seconds: float, n_steps: int) -> dict[str, float]:
    """Figures of one search."""
    return {
        "Q": objective,
        "seconds": round(seconds, 2),
        "steps": n_steps,
        "steps_per_s": round(n_steps / seconds),
    }


def compare(case: Case, seconds: float, has_sqsgenerator: bool) -> dict[str, Any]:
    """Run all three on a case."""
    cells = case.cells(N_CELLS)
    judges = [Judge(cell) for cell in cells]
    row: dict[str, Any] = {"case": case.name, "counts": dict(cells[0].sublattices[0].counts)}

    one, several = annealed_by_icet(judges[:1], seconds), annealed_by_icet(judges, seconds)
    row["icet_one_cell"], row["icet_several_cells"] = one, several
    row["icet_Q"] = min(one["Q"], several["Q"])

    # no more time than icet had, although the last cycle takes a little longer
    limit = 0.98 * min(seconds, one["seconds"], several["seconds"])
    row["objective_difference"] = 0.0
    for name, chosen in (("own_one_cell", cells[:1]), ("own_several_cells", cells)):
        own_s, (best, n_swaps) = timed(partial(run_own, chosen, limit))
        judge = judges[best.index]
        objective = judge.objective(judge.symbols(best.occupation))
        row[name] = figures(objective, own_s, n_swaps)
        row["objective_difference"] = max(
            row["objective_difference"], abs(best.objective - objective)
        )
    row["own_Q"] = row["own_several_cells"]["Q"]
    row["speed_ratio"] = round(row["own_one_cell"]["steps_per_s"] / one["steps_per_s"], 1)

    row["sqsgenerator"] = row["sqsgenerator_Q"] = None
    if has_sqsgenerator:
        row["sqsgenerator"] = sampled_by_sqsgenerator(judges[0], seconds)
        row["sqsgenerator_Q"] = row["sqsgenerator"]["Q"]
    return row


def missed_targets(report: dict[str, Any]) -> list[str]:
    """Name the targets of this file's header that `report` does not reach."""
    missed = [f"{tool} is not installed" for tool in report["missing_tools"]]
    for row in report["cases"]:
        for tool in ("icet", "sqsgenerator"):
            other = row[f"{tool}_Q"]
            if other is not None and not row["own_Q"] < other - 1e-9:
                missed.append(
                    f"{row['case']}: Q {row['own_Q']:.4f} is not below {tool}'s {other:.4f}"
                )
        if row["own_one_cell"]["Q"] > row["icet_one_cell"]["Q"] + 1e-9:
            missed.append(f"{row['case']}: Q above icet's in the same cell")
        if row["speed_ratio"] < SPEED_TARGET:
            missed.append(
                f"{row['case']}: {row['speed_ratio']:.0f} times icet's steps per second, not "
                f"{SPEED_TARGET:.0f}"
            )
        if row["objective_difference"] > 1e-9:
            missed.append(f"{row['case']}: own objective differs from icet's")
    return missed


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases, under a minute")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--seconds", type=float, help="for each search; default 10, quick 1.5")
    args = parser.parse_args()
    logging.getLogger("icet").setLevel(logging.WARNING)
    seconds = args.seconds or (1.5 if args.quick else 10.0)
    cases = [
        Case(formula, n_atoms, model)
        for formula in FORMULAS
        for n_atoms in (96, 192)
        for model in ("random", "honeycomb")
    ]
    if args.quick:
        cases = [cases[0], cases[3], cases[6]]
    has_sqsgenerator = find_spec("sqsgenerator") is not None
    report: dict[str, Any] = {
        "seconds": seconds,
        "pair_cutoff": PAIR_CUTOFF,
        "triplet_cutoff": TRIPLET_CUTOFF,
        "missing_tools": [] if has_sqsgenerator else ["sqsgenerator"],
        "load_before": os.getloadavg()[0],
        "cases": [],
    }
    for tool in report["missing_tools"]:
        print(f"{tool} is not installed: nothing to compare with; pip install {tool}")
    run_own(cases[0].cells(1), 0.0)  # compilation
    for case in cases:
        row = compare(case, seconds, has_sqsgenerator)
        report["cases"].append(row)
        print(
            f"{row['case']:21s} Q: own {row['own_Q']:.4f} (one cell "
            f"{row['own_one_cell']['Q']:.4f}), icet {row['icet_one_cell']['Q']:.4f} (several "
            f"{row['icet_several_cells']['Q']:.4f}), sqsgenerator "
            f"{row['sqsgenerator_Q'] or float('nan'):.4f}; "
            f"{row['own_one_cell']['steps_per_s']} swaps/s, {row['speed_ratio']:.0f} times icet's",
            flush=True,
        )
    report["load_after"] = os.getloadavg()[0]
    report["missed"] = missed_targets(report)
    print(json.dumps(report))
    return 1 if args.check and report["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
