"""Tasks in processes of their own: the same results, whatever happens to the processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from ase.build import bulk
from jobflow import Flow, Job
from pymatgen.io.ase import AseAtomsAdaptor

from lrlo.workflows import cores
from lrlo.workflows.backend import Backend, BackendSpec, Capability, load_backend
from lrlo.workflows.interruption import deferred_signals
from lrlo.workflows.lanes import (
    ProcessLanes,
    ThreadLanes,
    choose_lanes,
    default_together,
)
from lrlo.workflows.local_run import RunReport, exclusive, run_flow
from lrlo.workflows.neb import NebMaker
from lrlo.workflows.relax import RelaxMaker
from lrlo.workflows.store import ResultStore, open_store
from lrlo.workflows.store_location import StoreLocation

from .test_task import Listener

EMT = BackendSpec(name="ase", calculator="ase.calculators.emt:EMT")


def copper(seed: int, repeat: int = 2, fmax: float = 0.01) -> Job:
    """Relaxation of a rattled crystal."""
    atoms = bulk("Cu", cubic=True).repeat(repeat)
    atoms.rattle(0.1, seed=seed)
    job = RelaxMaker(backend=EMT, fmax=fmax).make(AseAtomsAdaptor.get_structure(atoms))
    job.name = f"copper {seed}"
    return job


def long() -> Job:
    """Relaxation that takes a while."""
    job = copper(5, repeat=3, fmax=1e-5)
    job.name = "long"
    return job


def tungsten() -> Job:
    """Relaxation that fails: EMT has no tungsten."""
    structure = AseAtomsAdaptor.get_structure(bulk("W", cubic=True))
    job = RelaxMaker(backend=EMT).make(structure)
    job.name = "tungsten"
    return job


def run(
    folder: Path, jobs: list[Job], n_lanes: int, listener: Listener | None = None
) -> tuple[RunReport, ResultStore]:
    """Run jobs in processes, in a folder of their own."""
    folder.mkdir(exist_ok=True)
    location = StoreLocation(str(folder / "store.sqlite"))
    store = open_store(location)
    lanes = ProcessLanes(n_lanes, location, folder)
    with exclusive(folder) as identity, deferred_signals():
        report = run_flow(Flow(jobs), store, folder, listener or Listener(), identity, lanes)
    return report, store


def documents(store: ResultStore) -> dict[str, dict]:
    """What was computed, by task, without the time that it took."""
    found = {d["uuid"]: d["output"] for d in store.query({}, load=True)}
    for output in found.values():
        output.pop("wall_time")
    return found


def lanes_of(parent: int) -> list[int]:
    """Processes that compute tasks for a process, and have not ended."""
    found = subprocess.run(
        ["pgrep", "--full", "spawn_main", "--parent", str(parent)], capture_output=True
    )
    return [int(number) for number in found.stdout.split()]


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def test_results_are_those_of_tasks_in_turn_to_the_last_bit(tmp_path: Path) -> None:
    """Relaxations and a band of a vacancy's hop."""
    vacancy = bulk("Cu", cubic=True).repeat(2)
    hopped = vacancy.copy()
    hopped.positions[1] = vacancy.positions[0]
    ends = [AseAtomsAdaptor.get_structure(atoms[1:]) for atoms in (vacancy, hopped)]

    def jobs() -> list[Job]:
        return [*(copper(seed) for seed in range(3)), NebMaker(backend=EMT).make(*ends, 0)]

    report, store = run(tmp_path / "processes", jobs(), 2)
    assert (report.failures, report.n_computed) == ([], 4)
    assert report.seconds_by_kind["relax"] > 0
    assert not list((tmp_path / "processes" / "checkpoints").glob("*.journal"))
    alone = open_store(tmp_path / "store.sqlite")
    run_flow(Flow(jobs()), alone, tmp_path, Listener())
    assert documents(store) == documents(alone)
    assert lanes_of(os.getpid()) == []


def test_a_task_that_fails_says_why_and_leaves_the_others_alone(tmp_path: Path) -> None:
    report, _ = run(tmp_path, [copper(1), tungsten(), copper(2)], 2)
    assert report.n_computed == 2
    (failure,) = report.failures
    assert failure.name == "tungsten"
    assert "W" in failure.message
    assert "emt.py" in failure.trace  # where it happened, in the other process


class Killing(Listener):
    """Kills what computes a task as soon as that has evaluated something."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.killed: set[int] = set()

    def task_started(self, name: str) -> None:
        if "long" not in name or self.killed:
            return
        Thread(target=self.kill, daemon=True).start()

    def kill(self) -> None:
        until(lambda: any((self.folder / "checkpoints").glob("*.journal")))
        for number in lanes_of(os.getpid()):
            self.killed.add(number)
            os.kill(number, signal.SIGKILL)


def test_a_killed_process_is_named_and_the_next_run_goes_on(tmp_path: Path) -> None:
    listener = Killing(tmp_path)
    report, _ = run(tmp_path, [long()], 2, listener)
    assert listener.killed
    (failure,) = report.failures
    assert "was killed" in failure.message
    assert "--together" in failure.message
    (journal,) = (tmp_path / "checkpoints").glob("*.journal")
    assert journal.stat().st_size > 0
    report, store = run(tmp_path, [long(), copper(1)], 2)
    assert (report.failures, report.n_computed) == ([], 2)
    alone = open_store(tmp_path / "alone.sqlite")
    run_flow(Flow([long(), copper(1)]), alone, tmp_path / "alone", Listener())
    assert documents(store) == documents(alone)


def test_a_killed_process_is_replaced(tmp_path: Path) -> None:
    report, _ = run(tmp_path, [long(), *(copper(seed) for seed in range(4))], 2, Killing(tmp_path))
    assert report.n_computed >= 3  # one more at most was in the other process
    assert report.n_computed + len(report.failures) == 5


SCRIPT = """
import sys
from pathlib import Path
from tests.workflows.test_lanes import copper, documents, run

if __name__ == "__main__":
    report, store = run(Path(sys.argv[1]), [copper(s, 3, 1e-5) for s in range(2)], 2)
    print(report.stopped_by, report.n_computed, len(report.failures), flush=True)
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(tmp_path: Path) -> subprocess.Popen:
    """A run in a process group of its own, as a scheduler or a terminal starts it."""
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path / "run"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    journals = tmp_path / "run" / "checkpoints"
    until(lambda: len(list(journals.glob("*.journal"))) == 2)
    return process


@pytest.mark.parametrize("whole_group", [True, False])
def test_a_signal_stops_all_of_them_and_nothing_is_lost(
    started: subprocess.Popen, tmp_path: Path, whole_group: bool
) -> None:
    """A scheduler signals one process or all of them."""
    (os.killpg if whole_group else os.kill)(started.pid, signal.SIGTERM)
    told, complaints = started.communicate(timeout=60)
    assert (told, started.returncode) == ("SIGTERM 0 0\n", 0), complaints
    journals = list((tmp_path / "run" / "checkpoints").glob("*.journal"))
    assert len(journals) == 2
    report, store = run(tmp_path / "run", [copper(s, 3, 1e-5) for s in range(2)], 2)
    assert (report.failures, report.n_computed) == ([], 2)
    alone = open_store(tmp_path / "alone.sqlite")
    run_flow(Flow([copper(s, 3, 1e-5) for s in range(2)]), alone, tmp_path / "alone", Listener())
    assert documents(store) == documents(alone)


def test_processes_end_with_a_run_that_is_killed(started: subprocess.Popen) -> None:
    children = lanes_of(started.pid)
    assert len(children) == 2
    os.kill(started.pid, signal.SIGKILL)
    started.communicate()
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 10)


class OnGpu:
    """What matters of the emulator on a GPU."""

    def __init__(self, backend: Backend) -> None:
        self.level_of_theory = backend.level_of_theory
        self.capabilities = backend.capabilities | {Capability.BATCHES}


def test_cores_are_those_of_the_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in cores._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert cores.n_cores() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "32")
    assert cores.n_cores() == 32
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert cores.n_cores() == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")  # nested levels: not a number of cores
    assert cores.n_cores() == 8
    cores.use_cores(3)
    assert cores.n_cores() == 3


def test_lanes_suit_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emulator, emt = load_backend(BackendSpec()), load_backend(EMT)
    location = StoreLocation(str(tmp_path / "store.sqlite"))
    for backend, n_lanes, kind in (
        (emulator, 1, ThreadLanes),
        (emulator, 2, ProcessLanes),
        (emt, 2, ProcessLanes),
        (OnGpu(emulator), 16, ThreadLanes),
    ):
        lanes = choose_lanes(n_lanes, backend, location, tmp_path)
        assert (type(lanes), lanes.n_lanes) == (kind, n_lanes)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert default_together(emulator, 600) == 2
    assert default_together(emulator, 10) == 1  # not worth the start of processes
    assert default_together(emt, 600) == 1
    assert default_together(OnGpu(emulator), 600) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert default_together(emulator, 600) <= 8
