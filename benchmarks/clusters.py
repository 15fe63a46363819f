"""Measure what orchestration costs: 500 tasks through a real Slurm, 10,000 jobs in a queue.

* 500 relaxations of 24 atoms with CHGNet (four evaluations each, the shortest that a study has)
  are submitted as ``lrlo submit`` does and run through Slurm in two batch jobs of one core. The
  share of wall time that is lost is 1 - (time of the same tasks in a plain loop) / (two cores x
  wall time), from the start of the runner to its end; the loop is timed before and after on a
  sample, with two processes at once, so that what else runs on the machine is in both.
* 10,000 jobs are made, and submitted: time until all are in the queue.
* the status of that queue, as ``lrlo status`` asks for it, and the whole command.

The database is the double of the tests, unless ``LRLO_TEST_MONGODB_URI`` names a server: the
double keeps no indexes, so that a server is faster, the more the larger the queue. Slurm has to be
installed (``apt-get install slurm-wlm munge``), and so has jobflow-remote.

Targets (``--check`` exits 1 where one is missed): less than 20 % lost; 10,000 jobs submitted in
less than 120 s; their status in less than 2 s. The last line printed is one JSON object.

    python benchmarks/clusters.py [--quick] [--check]
"""

# ruff: noqa: E402  # the tests' Slurm is imported from the checkout, whatever its name

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the tests' Slurm and MongoDB

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jobflow import Flow, Job

from lrlo.structures.layered_oxide import build_pristine
from lrlo.workflows.profile import Profile
from lrlo.workflows.relax import RelaxMaker
from lrlo.workflows.remote_project import install_project, lrlo_version, project_name
from lrlo.workflows.remote_queue import Submission, queue_of, read_submission, write_submission
from lrlo.workflows.remote_run import fill_queue
from lrlo.workflows.static import StaticMaker
from lrlo.workflows.store_location import StoreLocation
from lrlo.workflows.study_flow import lithium_metal
from tests.clusters.local_slurm import PARTITION, LocalSlurm, why_no_slurm

LOST_TARGET = 0.20
SUBMIT_TARGET = 120.0  # s
STATUS_TARGET = 2.0  # s
N_CORES = 2
SAMPLE = 24
STUDY = """
name: benchmark
composition: LiCoO2
structure: {min_atoms: 16, max_atoms: 32}
states: [{label: pristine}]
"""


def relaxations(n: int, first: int = 0) -> list[Job]:
    """Different short relaxations of Li1.2Ni0.2Mn0.6O2 with 24 atoms."""
    host = build_pristine(
        "Li1.2Ni0.2Mn0.6O2", min_atoms=20, max_atoms=24, seed=3
    ).occupation.to_structure()
    maker = RelaxMaker(fmax=1e-4, max_steps=3)
    jobs = []
    for number in range(first, first + n):
        structure = host.copy()
        structure.perturb(0.02, seed=number)
        jobs.append(maker.make(structure))
    return jobs


def plain_loop(n: int) -> float:
    """Wall time per task of `n` tasks in a loop, without any orchestration, s."""
    from jobflow import JobStore
    from maggma.stores import MemoryStore

    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    warm, *tasks = relaxations(n + 1, first=100_000 + os.getpid() % 1000 * 100)
    warm.run(store)
    start = time.perf_counter()
    for task in tasks:
        task.run(store)
    return (time.perf_counter() - start) / n


def seconds_per_task() -> float:
    """Wall time per task in a loop, in as many processes at once as there are cores, s."""
    command = [sys.executable, __file__, "--loop", str(SAMPLE)]
    loops = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(N_CORES)]
    answers = [loop.communicate()[0] for loop in loops]
    return sum(float(answer.splitlines()[-1]) for answer in answers) / N_CORES


@contextmanager
def database() -> Iterator[str]:
    """URI of a fresh database: in a process of its own, as a server is."""
    name = f"benchmark_{os.getpid()}"
    if server := os.environ.get("LRLO_TEST_MONGODB_URI"):
        address, _, options = server.partition("?")
        yield f"{address.rstrip('/')}/{name}" + (f"?{options}" if options else "")
        return
    command = [sys.executable, str(ROOT / "tests" / "mongo_double.py"), "0"]
    double = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert double.stdout is not None
        yield f"{double.stdout.readline().strip()}/{name}"
    finally:
        double.kill()
        double.wait()


def submit(folder: Path, uri: str, flow: Flow) -> float:
    """Put a flow into a queue as ``lrlo submit`` does; seconds that it took."""
    profile = Profile.model_validate(
        {
            "name": "benchmark",
            "description": "two batch jobs of one core",
            "scheduler": "slurm",
            "work_dir": str(folder / "work"),
            "python": sys.executable,
            "setup": "export OMP_NUM_THREADS=1",
            "resources": {"default": {"partition": PARTITION, "time": "10:00:00"}},
            "batch": {
                "tasks": 10_000,
                "max_jobs": N_CORES,
                "kinds": ["decide", "static", "relax"],
            },
        }
    )
    start = time.perf_counter()
    install_project(profile, StoreLocation(uri), "benchmark")
    submission = Submission(
        study="benchmark",
        study_key="benchmark",
        settings={},
        profile=profile.name,
        project=project_name(profile, "benchmark"),
        version=lrlo_version(),
        submitted_at="2026-01-01T00:00:00+00:00",
    )
    write_submission(folder, submission)
    fill_queue(submission.project, flow)
    return time.perf_counter() - start


def measure_throughput(folder: Path, n_tasks: int) -> dict[str, Any]:
    """Run tasks through Slurm."""
    before = seconds_per_task()
    with LocalSlurm(), database() as uri:
        submit(folder, uri, Flow(relaxations(n_tasks), name="benchmark"))
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "lrlo.workflows.remote_runner", str(folder)],
            check=False,
        )
        wall = time.perf_counter() - start
        submission = read_submission(folder)
        with queue_of(submission) as queue:
            times = queue.jobs.find({}, ["start_time", "end_time"])
            busy = sum((each["end_time"] - each["start_time"]).total_seconds() for each in times)
            counts = queue.status(submission).counts
    after = seconds_per_task()
    plain = n_tasks * (before + after) / 2
    return {
        "tasks": n_tasks,
        "finished": done.returncode == 0,
        "states": counts,
        "wall_s": round(wall, 1),
        "s_per_task_plain": [round(before, 3), round(after, 3)],
        "s_per_task_busy": round(busy / n_tasks, 3),
        "lost": round(1 - plain / (N_CORES * wall), 3),
        "idle": round(1 - busy / (N_CORES * wall), 3),
    }


def measure_queue(folder: Path, n_jobs: int) -> dict[str, Any]:
    """Make and submit many jobs, and ask for their status."""
    with database() as uri:
        start = time.perf_counter()
        cell = lithium_metal()
        jobs = []
        for number in range(n_jobs):
            structure = cell.copy()
            structure.perturb(0.02, seed=number)
            jobs.append(StaticMaker().make([structure]))
        flow = Flow(jobs, name="benchmark")
        made = time.perf_counter() - start
        submitted = submit(folder, uri, flow)
        start = time.perf_counter()
        submission = read_submission(folder)
        with queue_of(submission) as queue:
            status = queue.status(submission)
        asked = time.perf_counter() - start
        assert status.counts == {"ready": n_jobs}, status
        (folder / "study.yaml").write_text(STUDY)
        start = time.perf_counter()
        subprocess.run(
            [
                *(sys.executable, "-m", "lrlo", "status", str(folder / "study.yaml")),
                *("--folder", str(folder)),
            ],
            check=True,
        )
        command = time.perf_counter() - start
    return {
        "jobs": n_jobs,
        "make_s": round(made, 1),
        "submit_s": round(submitted, 1),
        "status_s": round(asked, 2),
        "status_command_s": round(command, 2),
    }


def missed_targets(report: dict[str, Any]) -> list[str]:
    """Name the targets of this file's header that `report` does not reach."""
    missed = []
    throughput, queue = report["throughput"], report["queue"]
    if not throughput["finished"]:
        missed.append(f"tasks: {throughput['states']}")
    if throughput["lost"] >= LOST_TARGET:
        missed.append(f"lost: {throughput['lost']:.0%}")
    if queue["make_s"] + queue["submit_s"] >= SUBMIT_TARGET:
        missed.append(f"submission: {queue['make_s'] + queue['submit_s']:.0f} s")
    if queue["status_command_s"] >= STATUS_TARGET:
        missed.append(f"status: {queue['status_command_s']:.1f} s")
    return missed


def main() -> int:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer tasks and jobs")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--loop", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loop:
        print(plain_loop(args.loop))
        return 0
    if reason := why_no_slurm():
        parser.error(reason)
    report: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 2)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["JFREMOTE_PROJECTS_FOLDER"] = str(folder / "projects")
        report["queue"] = measure_queue(folder / "queue", 1000 if args.quick else 10_000)
        print(f"queue: {report['queue']}")
        report["throughput"] = measure_throughput(folder / "tasks", 60 if args.quick else 500)
        print(f"tasks: {report['throughput']}")
    report["load_after"] = round(os.getloadavg()[0], 2)
    report["missed"] = missed_targets(report)
    print(json.dumps(report))
    return 1 if args.check and report["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
