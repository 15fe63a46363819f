"""No task is computed twice at a time, whoever asks for it, and no dead process blocks one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from jobflow import Flow

from lrlo.workflows import claims as claims_module
from lrlo.workflows import local_run
from lrlo.workflows.claims import Claims, run_identity
from lrlo.workflows.local_run import run_flow
from lrlo.workflows.store import ResultStore, StoreError, open_store
from lrlo.workflows.store_check import check_store

from ..mongo_double import MongoDouble

JOBS = Path(__file__).parents[1] / "clusters"
sys.path.insert(0, str(JOBS))
jobs = import_module("cluster_jobs")  # by the name that other processes have for it

#: What another user or study runs: a flow of `cluster_jobs`, given as an expression.
RUN = """
import sys
from pathlib import Path
from jobflow import Flow
import cluster_jobs as jobs
from lrlo.workflows.local_run import exclusive, run_flow
from lrlo.workflows.store import open_store

class Listener:
    task_started = task_step = staticmethod(lambda *_: None)
    task_finished = staticmethod(lambda *_, stored: None)
    task_held = staticmethod(lambda name, holder: print("left to", holder, flush=True))

store, folder, place, expression = sys.argv[1:]
with exclusive(Path(folder)) as run:
    flow = Flow(eval(expression))
    report = run_flow(flow, open_store(store), Path(folder), Listener(), run)
print(report.n_computed, report.n_stored, report.n_left_out, *report.failures)
"""


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.held: list[str] = []

    def task_started(self, name: str) -> None: ...
    def task_step(self, message: str) -> None: ...
    def task_finished(self, name: str, *, stored: bool) -> None: ...

    def task_held(self, name: str, holder: str) -> None:
        self.held.append(f"{name}: {holder}")


@contextmanager
def running(
    store: str, folder: Path, place: Path, expression: str
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RUN, store, str(folder), str(place), expression],
        env={**os.environ, "PYTHONPATH": str(JOBS), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], object], timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def n_claims(store: ResultStore) -> int:
    """Claims that lie in a store."""
    documents = store.docs_store
    if hasattr(documents, "_connection"):
        return int(documents._connection.execute("SELECT COUNT(*) FROM claims").fetchone()[0])
    return int(documents._collection.database["claims"].count_documents({}))


# -- two processes -------------------------------------------------------------------------------


def test_two_studies_share_new_tasks(any_location: str, tmp_path: Path) -> None:
    """Each task runs once; both have all results, and neither sits idle."""
    flow = "[*(t := [jobs.compute(place, w, 0.3) for w in 'abcdef'])] + [jobs.join([x.output for x in t])]"  # noqa: E501
    open_store(any_location).close()
    folders = [tmp_path / name for name in ("mine", "theirs")]
    with (
        running(any_location, folders[0], tmp_path, flow) as one,
        running(any_location, folders[1], tmp_path, flow) as two,
    ):
        said = [process.communicate(timeout=120)[0] for process in (one, two)]
    counts = [[int(word) for word in text.splitlines()[-1].split()] for text in said]
    assert jobs.noted(tmp_path) == list("abcdef")
    assert [computed + stored for computed, stored, _ in counts] == [6, 6]
    assert sum(computed for computed, _, _ in counts) == 6
    store = open_store(any_location)
    assert store.query_one({"name": "join"}, load=True)["output"] == "a+b+c+d+e+f"
    assert n_claims(store) == 0
    assert check_store(store).is_sound


def test_a_killed_owner_blocks_nobody(any_location: str, tmp_path: Path) -> None:
    path = tmp_path / "wait"
    path.touch()
    flow = f"[jobs.until_removed(place, {str(path)!r})]"
    store = open_store(any_location)
    with running(any_location, tmp_path / "killed", tmp_path, flow) as owner:
        wait_for(lambda: jobs.noted(tmp_path))
        with running(any_location, tmp_path / "waits", tmp_path, flow) as other:
            assert other.stdout is not None
            first = other.stdout.readline()
            assert first.startswith(f"left to process {owner.pid} on {os.uname().nodename} since ")
            assert jobs.noted(tmp_path) == ["until_removed"]
            owner.send_signal(signal.SIGKILL)
            owner.wait()
            killed_at = time.monotonic()
            wait_for(lambda: len(jobs.noted(tmp_path)) == 2)
            assert time.monotonic() - killed_at < 10
            path.unlink()
            assert other.communicate(timeout=60)[0] == "1 0 0\n"
    assert n_claims(store) == 0


def test_what_the_other_stores_is_taken(any_location: str, tmp_path: Path) -> None:
    path = tmp_path / "wait"
    path.touch()
    job = jobs.until_removed(str(tmp_path), str(path))
    flow = f"[jobs.until_removed(place, {str(path)!r})]"
    listener = Listener()
    store = open_store(any_location)

    def finishes(name: str, holder: str) -> None:
        listener.held.append(holder)
        path.unlink()

    listener.task_held = finishes  # type: ignore[method-assign]
    after = jobs.compute_after(str(tmp_path), "after", job.output)
    with running(any_location, tmp_path / "theirs", tmp_path, flow):
        wait_for(lambda: jobs.noted(tmp_path))
        first = jobs.compute(str(tmp_path), "meanwhile")
        report = run_flow(Flow([job, after, first]), store, tmp_path, listener)
    assert (report.n_computed, report.n_stored) == (2, 1)
    assert len(listener.held) == 1
    ran = (tmp_path / "ran").read_text().split()
    assert ran == ["until_removed", "meanwhile", "after"]  # nothing idle while it waits


def test_an_owner_that_is_silent_for_long_is_given_up(
    any_location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one on a machine that lost its power: no one can look whether it lives."""
    monkeypatch.setattr(claims_module, "STALE_AFTER", 1.0)
    monkeypatch.setattr(local_run, "LOOK", 0.1)
    flow = "[jobs.compute(place, 'word', 3.0)]"
    store = open_store(any_location)
    with running(any_location, tmp_path / "silent", tmp_path, flow) as owner:
        wait_for(lambda: jobs.noted(tmp_path))
        owner.send_signal(signal.SIGSTOP)
        listener = Listener()
        start = time.monotonic()
        job = jobs.compute(str(tmp_path), "word", 3.0)
        report = run_flow(Flow([job]), store, tmp_path, listener)
        assert time.monotonic() - start >= 4.0
        assert (report.n_computed, len(listener.held)) == (1, 1)
        owner.send_signal(signal.SIGCONT)
        assert owner.communicate(timeout=60)[0] == "1 0 0\n"
    assert store.count({"uuid": job.uuid}) == 1
    assert n_claims(store) == 0


def test_a_run_that_was_killed_takes_its_own_tasks_back(
    any_location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, though nobody can tell whether the other process lives."""
    path = tmp_path / "wait"
    path.touch()
    flow = f"[jobs.until_removed(place, {str(path)!r})]"
    folder = tmp_path / "mine"
    store = open_store(any_location)
    with running(any_location, folder, tmp_path, flow) as owner:
        wait_for(lambda: jobs.noted(tmp_path))
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    path.unlink()
    monkeypatch.setattr(claims_module, "_is_alive", lambda pid: True)
    listener = Listener()
    with local_run.exclusive(folder) as run:
        job = jobs.until_removed(str(tmp_path), str(path))
        report = run_flow(Flow([job]), store, folder, listener, run)
    assert (report.n_computed, listener.held) == (1, [])


def test_a_failed_task_is_given_back(any_store: ResultStore, tmp_path: Path) -> None:
    report = run_flow(Flow([jobs.fail(str(tmp_path))]), any_store, tmp_path, Listener())
    assert len(report.failures) == 1
    assert n_claims(any_store) == 0


# -- claims --------------------------------------------------------------------------------------


@pytest.fixture
def other(any_location: str, any_store: ResultStore) -> Iterator[Claims]:
    """Claims of another process, as far as anyone can see."""
    second = open_store(any_location)
    with second.claims("other run") as claims:
        yield claims
    second.close()


def test_one_of_two_has_a_task(any_store: ResultStore, other: Claims) -> None:
    with any_store.claims() as mine:
        assert mine.take("task") is None
        assert mine.take("task") is None  # still
        holder = other.take("task")
        assert holder is not None
        assert holder.pid == os.getpid()
        assert other.take("another") is None
        mine.release("another")  # not its own
        assert mine.take("another") is not None
        mine.release("task")
        assert other.take("task") is None
    assert n_claims(any_store) == 2
    other.release_all()
    assert n_claims(any_store) == 0


def test_of_two_that_find_a_dead_claim_one_has_it(
    any_location: str, any_store: ResultStore, other: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.take("task")
    monkeypatch.setattr(claims_module, "_is_alive", lambda pid: False)
    third = open_store(any_location).claims()
    table = any_store.claims()._table
    find = table.find

    def late(key: str) -> object:
        found = find(key)
        if found is not None and found.run == "other run":
            assert third.take(key) is None  # somebody is quicker
        else:
            monkeypatch.setattr(claims_module, "_is_alive", lambda pid: True)
        return found

    monkeypatch.setattr(table, "find", late)
    holder = Claims(table).take("task")
    assert holder is not None
    assert holder.owner == third._own.owner
    third.stop()


def test_a_sign_of_life_keeps_a_claim(
    any_store: ResultStore, other: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "BEAT", 0.1)
    monkeypatch.setattr(claims_module, "STALE_AFTER", 0.6)
    with any_store.claims() as mine:
        assert mine.take("task") is None
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            assert other.take("task") is not None
            time.sleep(0.05)
        mine.stop()
        silent_at = time.monotonic()
        wait_for(lambda: other.take("task") is None, 5.0)
        assert time.monotonic() - silent_at > 0.5


def test_claims_of_an_earlier_start_are_adopted(any_store: ResultStore, tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    lock.touch()
    run = run_identity(lock)
    before, now = any_store.claims(run), any_store.claims(run)
    before.take("one")
    before.take("two")
    before.stop()
    now.adopt()
    now.release("one")
    assert n_claims(any_store) == 1
    before.release_all()  # they are not its own any more
    assert n_claims(any_store) == 1
    now.stop()
    now.release_all()
    assert n_claims(any_store) == 0


def test_runs_are_known_by_their_folders(tmp_path: Path) -> None:
    with local_run.exclusive(tmp_path / "a") as one, local_run.exclusive(tmp_path / "b") as two:
        assert one != two
        assert str(tmp_path) not in one
    assert local_run.is_running(tmp_path / "a") is False
    with local_run.exclusive(tmp_path / "a") as again:
        assert again == one


def test_a_database_that_was_away_makes_nobody_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "STALE_AFTER", 0.3)
    with MongoDouble() as double:
        uri = f"{double.uri}/test?serverSelectionTimeoutMS=300"
        owner, waiting = open_store(uri).claims(), open_store(uri).claims()
        assert owner.take("task") is None
        assert waiting.take("task") is not None
        double.stop()
        with pytest.raises(StoreError, match="what was stored before is still there"):
            waiting.take("task")
        owner.release("task")  # says nothing
        double.start()
        assert waiting.take("task") is not None  # a look after a long time without any
        for claims in (owner, waiting):
            claims.stop()


def test_claims_need_no_new_format(tmp_path: Path) -> None:
    """A store without claims takes them, and one with claims is like any other."""
    path = tmp_path / "store.sqlite"
    store = open_store(path)
    version = store.docs_store._connection.execute("PRAGMA user_version").fetchone()
    with store.claims() as claims:
        claims.take("task")
        assert open_store(path).count() == 0
        assert check_store(store).is_sound
        assert store.docs_store._connection.execute("PRAGMA user_version").fetchone() == version
