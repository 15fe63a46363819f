"""Measure the embedded store from 10 to 100,000 documents, beside maggma's file-backed stores.

Documents are shaped as studies leave them: tasks of about 5 kB, one barrier in five, a state for
every hundred. Per number of documents: the time to insert one more, to replace one, and to look
one up by its key, one transaction each, as runs do. maggma's MontyStore (where montydb is
installed: ``pip install montydb``) and JSONStore take the same documents, up to the number that
they can stand; they are filled past their own ``update``, which would take hours.

Targets (``--check`` exits 1 where one is missed):

* insert, replace and look-up at the largest number of documents: at most 2 times as long as at
  100, in processor time (what else uses the disk of the machine changes the wall time);
* faster than MontyStore and JSONStore from 1,000 documents on;
* a barrier query over 100,000 documents (filtered, sorted, joined with coordination), as the
  command makes it: under 1 s;
* counts of tasks by kind, states, and hops by status over 10,000 documents: under 0.5 s;
* memory of the process with the largest store: at most 150 MiB above that with an empty one.

Every time is a median. The last line printed is one JSON object.

    python benchmarks/store.py [--quick] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jobflow import JobStore
from maggma.stores import JSONStore, MontyStore

from lrlo.analysis.query import count_results, find_rows
from lrlo.workflows.store import open_store

GROWTH_TARGET = 2.0
QUERY_TARGET = 1.0  # s
STATUS_TARGET = 0.5  # s
MEMORY_TARGET = 150.0  # MiB
KEY = ["uuid", "index"]
CONTEXT = {
    "study": "benchmark",
    "composition": "Li1.2Ni0.2Mn0.6O2",
    "stacking": "O3",
    "superlattice": "honeycomb",
}
SURROUNDINGS = {
    "li_fraction_li_layer": 0.3,
    "n_face_sharing_cations": 1,
    "vacancy_cluster_size": 5,
    "o_classes_left": "O4:6",
    "o_classes_joined": "O4:2 O5:4",
    "tm_coordination_start": 3,
    "tm_coordination_end": 5,
    "stacking": "O3",
}
THEORY = {"backend": "emulator", "model": "CHGNet", "version": "0.3.0"}


def documents(seed: int = 1) -> Iterator[dict[str, Any]]:
    """Documents of many studies, without end."""
    rng = random.Random(seed)
    number = 0
    while True:
        number += 1
        key = {"uuid": str(uuid.UUID(int=rng.getrandbits(128), version=4)), "index": 1}
        rest = {
            "metadata": {"task": number % 5 != 0},
            "hosts": [str(uuid.UUID(int=rng.getrandbits(128), version=4))],
            "completed_at": "2026-11-21T12:00:00",
            "name": f"job {number}",
        }
        yield {**key, "output": output(number, rng), **rest}


def output(number: int, rng: random.Random) -> dict[str, Any]:
    """Output of one job: a state, a barrier or a task."""
    context = {**CONTEXT, "study_key": f"key {number // 100}", "seed": 7}
    label = f"{rng.choice((4.5, 4.6, 4.7, 4.8))} V"
    if number % 100 == 50:
        summary = {"o4_fraction": rng.random(), "class_fractions": {"O4": 0.9, "O5": 0.1}}
        return {
            **{"kind": "state", "context": context, "label": "4.8 V", "order": 1, "voltage": 4.8},
            **{"before_migration": {**summary, "tm_tm_coordination": 3.0}, "li_content": 0.3},
            "structure": {"sites": [[rng.random() for _ in range(3)] for _ in range(72)]},
            "level_of_theory": THEORY,
        }
    if number % 5 == 0:
        forward = rng.random()
        return {
            **{"kind": "barrier", "context": context, "state": label, "order": 1},
            **{"voltage": float(label[:3]), "li_content": rng.random()},
            "path_class": rng.choice(("in_plane", "out_of_plane", "li_hop", "out_of_plane_trap")),
            "hop": {"mover": rng.choice(("Mn", "Ni", "Co")), "start": 3, "end": {"site": 4}},
            "surroundings": SURROUNDINGS,
            "status": rng.choice(("converged", "converged", "unconverged", "unstable_endpoint")),
            "barrier": {"forward": forward, "reverse": 0.4, "reaction_energy": forward - 0.4},
            "segments": [{"energies": [rng.random() for _ in range(9)]} for _ in range(3)],
            **{"detail": "largest projected force 0.04 eV/Å", "followers": []},
            **{"n_images": 7, "n_force_calls": 100, "level_of_theory": THEORY},
        }
    return {
        "kind": rng.choice(("relax", "static", "neb")),
        "energies": [rng.random() for _ in range(220)],
        "level_of_theory": THEORY,
    }


class Embedded:
    """The embedded store, as a run opens it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "store.sqlite"
        self.store: JobStore = open_store(self.path)

    def fill(self, batch: list[dict]) -> None:
        """Add documents."""
        self.store.docs_store.update(batch, key=KEY)

    def upsert(self, document: dict) -> None:
        """Insert or replace one document."""
        self.store.update(document, key=KEY)

    def look_up(self, document: dict) -> int:
        """Number of documents with the key of one."""
        return self.store.count({name: document[name] for name in KEY})


class Peer:
    """One of maggma's stores."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.store.connect()

    def fill(self, batch: list[dict]) -> None:
        """Add documents past the store's own update."""
        self.store._collection.insert_many([dict(document) for document in batch])
        if isinstance(self.store, JSONStore):
            self.store.update_json_file()

    def upsert(self, document: dict) -> None:
        """Insert or replace one document."""
        self.store.update(document, key=KEY)

    def look_up(self, document: dict) -> int:
        """Number of documents with the key of one."""
        return int(self.store.count({name: document[name] for name in KEY}))


def medians(work: list[Callable[[], Any]]) -> dict[str, float]:
    """Median wall and processor time of some pieces of work, ms."""
    wall, processor = [], []
    for each in work:
        start = time.perf_counter(), time.process_time()
        each()
        wall.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    return {
        "wall_ms": round(1e3 * statistics.median(wall), 3),
        "processor_ms": round(1e3 * statistics.median(processor), 3),
    }


def measure(store: Embedded | Peer, sizes: list[int], repeats: int) -> list[dict[str, Any]]:
    """Times at every number of documents."""
    rng, source = random.Random(2), documents()
    held: list[dict] = []
    n_documents, rows = 0, []
    for size in sizes:
        while n_documents < size:
            batch = [next(source) for _ in range(min(1000, size - n_documents))]
            store.fill(batch)
            n_documents += len(batch)
            held = rng.sample(held + batch, min(len(held) + len(batch), 200))
        new = [next(source) for _ in range(repeats)]
        known = rng.sample(held, min(len(held), repeats))
        found = [store.look_up(document) for document in known]
        assert found == [1] * len(known), found
        row = {
            "documents": size,
            "insert": medians([lambda d=d: store.upsert(d) for d in new]),  # type: ignore[misc]
            "replace": medians([lambda d=d: store.upsert(d) for d in known]),  # type: ignore[misc]
            "look_up": medians([lambda d=d: store.look_up(d) for d in known]),  # type: ignore[misc]
        }
        n_documents += len(new)
        rows.append(row)
        print(
            f"{type(store).__name__ if isinstance(store, Embedded) else type(store.store).__name__}"
            f", {size:6d} documents: "
            + ", ".join(
                f"{name} {row[name]['wall_ms']:.2f} ms ({row[name]['processor_ms']:.2f})"
                for name in ("insert", "replace", "look_up")
            ),
            flush=True,
        )
    return rows


def measure_queries(store: JobStore) -> dict[str, Any]:
    """Times of the queries that commands make."""

    def barriers(**filters: Any) -> list[dict]:
        return find_rows([store], "barriers", sort=["forward"], **filters)

    asked: dict[str, Callable[[], Any]] = {
        "selective": lambda: barriers(
            path_class="in_plane", mover="Mn", status="converged", min_voltage=4.75
        ),
        "one class": lambda: barriers(path_class="in_plane"),
        "six columns of one class": lambda: barriers(
            path_class="in_plane",
            columns=["state", "mover", "status", "forward", "reverse", "cell O5"],
        ),
        "all barriers": barriers,
    }
    results: dict[str, Any] = {}
    for name, ask in asked.items():
        rows = ask()
        times = medians([ask] * 3)
        results[name] = {"rows": len(rows), **times}
        print(f"barrier query, {name}: {len(rows)} rows, {times['wall_ms']:.0f} ms", flush=True)
    return results


def measure_status(store: JobStore) -> dict[str, float]:
    """Time to count tasks by kind, states, and hops by status."""

    def status() -> None:
        for kind in ("relax", "static", "neb"):
            store.count({"output.kind": kind})
        count_results(store, "states", "state")
        count_results(store, "barriers", "status")

    return medians([status] * 5)


def resident_memory() -> float:
    """Resident memory of this process, MiB."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2


def missed_targets(report: dict[str, Any]) -> list[str]:
    """Name the targets of this file's header that `report` does not reach."""
    missed = []
    rows = {row["documents"]: row for row in report["embedded"]}
    largest = max(rows)
    for name in ("insert", "replace", "look_up"):
        growth = rows[largest][name]["processor_ms"] / rows[100][name]["processor_ms"]
        report["growth_from_100"][name] = round(growth, 2)
        if growth > GROWTH_TARGET:
            missed.append(f"{name}: {growth:.2f} times as long at {largest} as at 100 documents")
    for peer in ("MontyStore", "JSONStore"):
        for row in report[peer] or []:
            for name in ("insert", "replace", "look_up"):
                ours = rows[row["documents"]][name]["wall_ms"]
                if row["documents"] >= 1000 and row[name]["wall_ms"] <= ours:
                    missed.append(f"{name}: no faster than {peer} at {row['documents']}")
    selective = report["queries"]["selective"]["wall_ms"] / 1e3
    if selective > QUERY_TARGET:
        missed.append(f"barrier query: {selective:.2f} s")
    if report["status"]["wall_ms"] > 1e3 * STATUS_TARGET:
        missed.append(f"status: {report['status']['wall_ms']:.0f} ms")
    if report["memory_MiB"]["growth"] > MEMORY_TARGET:
        missed.append(f"memory: {report['memory_MiB']['growth']} MiB more than at the start")
    return missed


def main() -> int:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer documents, under a minute")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    args = parser.parse_args()
    sizes = [10, 100, 1000, 5000] if args.quick else [10, 100, 1000, 10_000, 100_000]
    peer_sizes = [100, 1000] if args.quick else [10, 100, 1000, 10_000]
    repeats, peer_repeats = (30, 3) if args.quick else (100, 5)
    report: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 2), "growth_from_100": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Embedded(folder)
        before = resident_memory()
        report["embedded"] = measure(store, sizes, repeats)
        report["queries"] = measure_queries(store.store)
        after = resident_memory()
        report["memory_MiB"] = {"with": round(after), "growth": round(after - before)}
        report["file_MB"] = round(store.path.stat().st_size / 1e6)
        (folder / "ten_thousand").mkdir()
        half = Embedded(folder / "ten_thousand")
        source = documents(3)
        for _ in range(10):
            half.fill([next(source) for _ in range(1000)])
        report["status"] = measure_status(half.store)
        print(f"status of 10,000 documents: {report['status']['wall_ms']:.0f} ms")
        json_store = JSONStore(str(folder / "peer.json"), read_only=False, key="uuid")
        report["JSONStore"] = measure(Peer(json_store), peer_sizes, peer_repeats)
        try:
            monty = MontyStore("documents", database_path=str(folder / "monty"), key="uuid")
        except RuntimeError:
            report["MontyStore"] = None
            print("MontyStore: montydb is not installed")
        else:
            report["MontyStore"] = measure(Peer(monty), peer_sizes, peer_repeats)
    report["load_after"] = round(os.getloadavg()[0], 2)
    report["missed"] = missed_targets(report)
    print(json.dumps(report))
    return 1 if args.check and report["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
