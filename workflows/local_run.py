"""Run a flow on this machine: skip what is finished, report progress, survive failures."""

import fcntl
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jobflow import Flow, Job, JobStore

from ..analysis.documents import StudyContext
from .checkpoint import checkpoint_folder, checkpoint_path, set_checkpoint_folder
from .claims import Claims, claim_key, run_identity
from .interruption import Interrupted, stop_if_asked
from .lanes import Lanes, Outcome, ThreadLanes, compute
from .progress import listen
from .store import ResultStore
from .store_location import STORE_FILE, StoreLocation
from .task import is_finished

#: Seconds between two looks at tasks that other runs compute.
LOOK = 1.0


class RunError(RuntimeError):
    """A run cannot start."""


class RunListener(Protocol):
    """Is told what the run does."""

    def task_started(self, name: str) -> None:
        """A task starts."""

    def task_step(self, message: str) -> None:
        """The running task is at a step."""

    def task_finished(self, name: str, *, stored: bool) -> None:
        """A task ended, or its document was already stored."""

    def task_held(self, name: str, holder: str) -> None:
        """Another run computes a task; this one does what it can without it, then waits."""


@dataclass(frozen=True)
class Failure:
    """A job that raised an exception.

    Attributes
    ----------
    name
        Name of the job.
    message
        Exception in one line.
    trace
        Full traceback.
    place
        Name of the part of the flow that the job belongs to; empty in a flow without parts. A
        task that several need counts as the first one's.
    """

    name: str
    message: str
    trace: str
    place: str = ""


@dataclass
class RunReport:
    """What a run did.

    Attributes
    ----------
    n_computed, n_stored
        Tasks computed, and tasks whose document was already stored.
    failures
        Jobs that failed; jobs that depend on them were left out.
    n_left_out
        Jobs left out after a failure.
    seconds_by_kind
        Wall time of computed tasks by maker name, s.
    uuids
        Every job of the flow that has a document now.
    stopped_by
        Signal that the run stopped for before its end; None if it came to its end.
    """

    n_computed: int = 0
    n_stored: int = 0
    failures: list[Failure] = field(default_factory=list)
    n_left_out: int = 0
    seconds_by_kind: dict[str, float] = field(default_factory=dict)
    uuids: set[str] = field(default_factory=set)
    stopped_by: str | None = None


def run_flow(
    flow: Flow,
    store: ResultStore,
    folder: Path,
    listener: RunListener,
    run: str | None = None,
    lanes: Lanes | None = None,
) -> RunReport:
    """Run a flow on this machine, one job after the other or some tasks side by side.

    Unlike ``jobflow.run_locally`` it skips tasks whose document the store has, leaves tasks alone
    that another run computes for the same store until they are there or given up, goes on with the
    jobs that do not depend on a failed one, has no limit on how often jobs replace themselves, and
    stops between two evaluations when it is asked to
    (:func:`lrlo.workflows.interruption.deferred_signals`).

    Parameters
    ----------
    flow
        Flow to run.
    store
        Connected store.
    folder
        Folder of the run, which has its checkpoints.
    listener
        Is told about progress.
    run
        What :func:`exclusive` gives: claims of an earlier start of this run are taken over.
    lanes
        Where tasks run side by side (:func:`lrlo.workflows.lanes.choose_lanes`); by default they
        run here, one after the other.

    Raises
    ------
    StoreError
        If the store does not say what it has, or nothing can be claimed in it.
    """
    logging.getLogger("jobflow").setLevel(logging.ERROR)
    report = RunReport()
    inner = [part for part in flow.jobs if isinstance(part, Flow)]
    parts = {part.uuid: part.name for part in inner} if len(inner) > 1 else {}
    set_checkpoint_folder(checkpoint_folder(folder))
    listen(listener.task_step)
    try:
        with store.claims(run) as claims:
            if run is not None:
                claims.adopt()
                claims.release_all()
            with lanes or ThreadLanes() as room:
                _Runner(_Agenda(flow), store, claims, report, listener, room, parts).run()
    except Interrupted as stop:
        report.stopped_by = str(stop)
    finally:
        listen(None)
        set_checkpoint_folder(None)
    return report


class _Agenda:
    """Jobs in an order in which each follows what it needs; what is put off comes again.

    Parameters
    ----------
    flow
        Flow to run.
    """

    def __init__(self, flow: Flow) -> None:
        self._pending: list[Iterator[tuple[Job, list[str]]]] = [flow.iterflow()]
        self._put_off: list[tuple[Job, list[str]]] = []
        self._uuids: set[str] = set()
        self._n_given = 0
        self._holders: dict[str, str] = {}

    def next(self, idle: Callable[[], None]) -> tuple[Job, list[str]] | None:
        """Next job and the uuids of those that it needs; None when none is left.

        Calls `idle` where all that is left was put off.
        """
        while True:
            while self._pending:
                try:
                    item = next(self._pending[-1])
                except StopIteration:
                    self._pending.pop()
                    continue
                self._n_given += 1
                return item
            if not self._put_off:
                return None
            if self._n_given == len(self._put_off):  # nothing has moved since the last round
                idle()
            self._pending.insert(0, iter(self._put_off))  # below what `idle` may have added
            self._put_off, self._n_given = [], 0
            self._uuids.clear()

    def add(self, more: Any) -> None:
        """Put what a job adds ahead of all else: what follows the job may need it."""
        self._pending.append(more.iterflow())

    def put_off(self, job: Job, parents: list[str]) -> None:
        """Give a job again when the others have had their turn."""
        self._put_off.append((job, parents))
        self._uuids.add(job.uuid)

    def waits_for(self, parents: Sequence[str]) -> bool:
        """Whether one of these jobs was put off."""
        return not self._uuids.isdisjoint(parents)

    def is_news(self, key: str, holder: str) -> bool:
        """Whether this holder of a task was not told yet."""
        is_news = self._holders.get(key) != holder
        self._holders[key] = holder
        return is_news


@dataclass
class _Runner:
    """Takes jobs from an agenda and runs them; `parts` are names of flows by uuid."""

    agenda: _Agenda
    store: ResultStore
    claims: Claims
    report: RunReport
    listener: RunListener
    lanes: Lanes
    parts: Mapping[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Run until nothing is left."""
        while True:
            item = self.agenda.next(self._wait)
            if item is not None:
                stop_if_asked()
                self._offer(*item)
            elif self.lanes.running:
                self._wait()
            else:
                return

    def _offer(self, job: Job, parents: list[str]) -> None:
        """Run a job, or leave it out, or put it off."""
        if self.failed.intersection(parents):
            self.failed.add(job.uuid)
            self.report.n_left_out += 1
            return
        busy = {running.uuid for running in self.lanes.running.values()}
        if self.agenda.waits_for(parents) or not busy.isdisjoint((*parents, job.uuid)):
            self.agenda.put_off(job, parents)
            return
        if is_finished(job, self.store):
            self._count_stored(job)
            return
        is_task = bool(job.metadata.get("task"))
        if is_task and (holder := self.claims.take(_key(job))) is not None:
            if self.agenda.is_news(_key(job), holder.owner):
                self.listener.task_held(job.name, str(holder))
            self.agenda.put_off(job, parents)
            return
        if is_task and is_finished(job, self.store):  # whoever had the claim has just stored it
            self.claims.release(_key(job))
            self._count_stored(job)
            return
        if is_task:
            self.listener.task_started(job.name)
        if self.lanes.take(job):
            self.lanes.start(job, self.store)
            while len(self.lanes.running) >= self.lanes.n_lanes:
                self._wait()
            return
        while is_task and self.lanes.running:  # a program of its own: alone
            self._wait()
        self._conclude(job, lambda: compute(job, self.store))

    def _wait(self) -> None:
        """Conclude tasks of other threads, or give other runs time."""
        if not self.lanes.running:
            time.sleep(LOOK)
        for job, future in self.lanes.finished() if self.lanes.running else ():
            self._conclude(job, future.result)

    def _conclude(self, job: Job, result: Callable[[], Outcome]) -> None:
        """Take note of what a job gave."""
        is_task = bool(job.metadata.get("task"))
        try:
            response, seconds = result()
        except Exception as error:
            stop_if_asked()  # the scheduler's signal may have ended a program that it ran
            self.failed.add(job.uuid)
            message = f"{type(error).__name__}: {error}"
            self.report.failures.append(
                Failure(job.name, message, traceback.format_exc(), self._place(job))
            )
            return
        finally:
            if is_task:
                self.claims.release(_key(job))
        self.report.uuids.add(job.uuid)
        if is_task:
            self._count_computed(job, seconds)
        for more in (response.addition, response.detour, response.replace):
            if more is not None:
                self.agenda.add(more)

    def _place(self, job: Job) -> str:
        """Name of the part that a job belongs to; jobs that jobs add belong to the same."""
        return next((self.parts[host] for host in job.hosts if host in self.parts), "")

    def _count_stored(self, job: Job) -> None:
        self.report.uuids.add(job.uuid)
        self.report.n_stored += 1
        self.listener.task_finished(job.name, stored=True)

    def _count_computed(self, job: Job, seconds: float) -> None:
        maker = getattr(job.function, "__self__", None)
        kind = type(maker).__name__.removesuffix("Maker").lower()
        self.report.seconds_by_kind[kind] = self.report.seconds_by_kind.get(kind, 0.0) + seconds
        self.report.n_computed += 1
        checkpoint_path(job.uuid).unlink(missing_ok=True)
        self.listener.task_finished(job.name, stored=False)


def _key(job: Job) -> str:
    return claim_key(job.uuid, job.index)


def remove_outdated(
    store: JobStore,
    study: str,
    current: set[str],
    *,
    study_key: str | None,
    replicates: Sequence[StudyContext] = (),
) -> int:
    """Remove state, barrier and bonding documents of a study that its last run did not write.

    Tasks stay: they are what makes going back to an earlier version of a study free.

    Parameters
    ----------
    store
        Connected store.
    study
        Name of the study.
    current
        Jobs of the run that has just finished.
    study_key
        Version of the study that was run: documents of other versions are left alone, since they
        may be another user's study of the same name. None for all versions, in a store of the
        study's own (:func:`is_own_store`).
    replicates
        Replicates that were run; all if empty.

    Returns
    -------
    removed
        Number of documents removed.

    Raises
    ------
    StoreError
        If the store cannot be written.
    """
    criteria: dict[str, Any] = {
        "output.kind": {"$in": ["state", "barrier", "bonding"]},
        "output.context.study": study,
        "uuid": {"$nin": sorted(current)},
    }
    if study_key is not None:
        criteria["output.context.study_key"] = study_key
    if replicates:
        criteria["$or"] = [
            {"output.context.variant": each.variant, "output.context.seed": each.seed}
            for each in replicates
        ]
    n_removed = store.count(criteria)
    if n_removed:
        store.remove_docs(criteria)
    return int(n_removed)


def is_own_store(location: StoreLocation, folder: Path) -> bool:
    """Whether a store is the one in a study's folder, and so not shared with other studies."""
    return not location.is_mongodb and location.path.resolve() == (folder / STORE_FILE).resolve()


@contextmanager
def exclusive(folder: Path) -> Iterator[str]:
    """Keep a second run out of a study's folder; the lock ends with the process.

    Yields
    ------
    run
        Identity of the run, the same whenever it is started in this folder.

    Raises
    ------
    RunError
        If the folder cannot be written or another process runs the study there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "run.lock").open("w")
    except OSError as error:
        raise RunError(f"the folder {folder} cannot be written ({error.strerror})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"another process is running the study in {folder}") from error
        yield run_identity(folder / "run.lock")


def is_running(folder: Path) -> bool:
    """Whether a process runs a study in a folder now."""
    lock_path = folder / "run.lock"
    if not lock_path.exists():
        return False
    with lock_path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
