"""Where tasks run side by side: in processes on a CPU, in threads that share calls on a GPU."""

import multiprocessing
import os
import pickle
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Self

from jobflow import Job, Response

from .backend import Backend, Capability
from .checkpoint import checkpoint_folder, running_task, set_checkpoint_folder
from .common_evaluation import CommonEvaluation
from .cores import n_cores, use_cores
from .interruption import STOP_SIGNALS, ask_to_stop, stop_if_asked
from .library_warnings import ignore_library_warnings
from .profile import Kind, kind_of
from .progress import listen
from .store import ResultStore, open_store
from .store_location import StoreLocation

#: Tasks that spend their time in a backend.
_IN_LANES = (Kind.RELAX, Kind.STATIC, Kind.NEB)
#: What a job gave, and the seconds that it took.
Outcome = tuple[Response, float]
#: Seconds after which a wait for tasks looks whether the run was asked to stop.
_LOOK = 0.5
#: Most processes that are used unasked, and memory that there is to be for each, bytes.
_MOST_PROCESSES, _MEMORY_EACH = 8, 4e9
#: Seconds of work for which processes are not worth their start, which takes some five.
_SHORT = 60.0


class LaneError(RuntimeError):
    """The process that computed a task is gone."""


def compute(job: Job, store: ResultStore) -> Outcome:
    """Run a job here."""
    start = perf_counter()
    with running_task(job.uuid):
        return job.run(store), perf_counter() - start


class Lanes(ABC):
    """Room for tasks that run side by side; a context manager that ends them.

    Parameters
    ----------
    n_lanes
        Most tasks at once; with one, tasks run in the caller's own thread.

    Attributes
    ----------
    running
        Job of everything that runs.
    """

    def __init__(self, n_lanes: int) -> None:
        self.n_lanes = n_lanes
        self.running: dict[Future[Outcome], Job] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let what still runs stop at its next evaluation, and wait for that."""
        self.stop()
        wait(self.running)

    def take(self, job: Job) -> bool:
        """Whether a job is for a lane: tasks that call a backend are."""
        return self.n_lanes > 1 and bool(job.metadata.get("task")) and kind_of(job) in _IN_LANES

    def start(self, job: Job, store: ResultStore) -> None:
        """Run a task in a lane."""
        future: Future[Outcome] = Future()
        self.running[future] = job
        work = self.prepare(job, store)

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # handed to the thread that waits for it
                future.set_exception(error)

        Thread(target=copy_context().run, args=(run,), name=job.name, daemon=True).start()

    def finished(self) -> list[tuple[Job, Future[Outcome]]]:
        """Wait for a task to end; those that have.

        Raises
        ------
        Interrupted
            If the run was asked to stop meanwhile.
        """
        while not (done := wait(self.running, _LOOK, FIRST_COMPLETED).done):
            stop_if_asked()
        return [(self.running.pop(future), future) for future in done]

    @abstractmethod
    def prepare(self, job: Job, store: ResultStore) -> Callable[[], Outcome]:
        """What a thread of its own is to do for a task."""

    @abstractmethod
    def stop(self) -> None:
        """Ask all running tasks to stop at their next evaluation."""


class ThreadLanes(Lanes):
    """Tasks in threads, their structures evaluated in common: one call costs less than many."""

    def __init__(self, n_lanes: int = 1) -> None:
        super().__init__(n_lanes)
        self._common = CommonEvaluation()

    def prepare(self, job: Job, store: ResultStore) -> Callable[[], Outcome]:
        """Run the task in the thread."""

        def work() -> Outcome:
            listen(None)  # the listener hears of one task at a time
            with self._common.task():
                return compute(job, store)

        return work

    def stop(self) -> None:
        """Let every task end at its next call of a backend."""
        self._common.stop()


class ProcessLanes(Lanes):
    """Tasks in processes, which share the CPU's cores; results are those of one after the other.

    A process starts when it is first needed, ends with this one, and is replaced where it was
    killed. A script that uses this class needs the usual ``if __name__ == "__main__":``.

    Parameters
    ----------
    n_lanes
        Most processes.
    location
        Store that they write to.
    folder
        Folder of the run.
    """

    def __init__(self, n_lanes: int, location: StoreLocation, folder: Path) -> None:
        super().__init__(n_lanes)
        self._place = (location, folder)
        self._processes: list[_Process] = []
        self._idle: list[_Process] = []

    def __exit__(self, *_: object) -> None:
        """Let what still runs stop at its next evaluation, and end the processes."""
        super().__exit__()
        for process in self._processes:
            process.end()

    def prepare(self, job: Job, store: ResultStore) -> Callable[[], Outcome]:
        """Hand the task to an idle process, and wait for it."""
        if not self._idle:
            self._idle.append(_Process(*self._place))
            self._processes += self._idle
        process = self._idle.pop()
        n_threads = max(1, n_cores() // len(self.running))

        def work() -> Outcome:
            try:
                return process.compute(job, n_threads)
            finally:
                if not process.is_dead:
                    self._idle.append(process)

        return work

    def stop(self) -> None:
        """Tell all processes to stop."""
        for process in self._processes:
            process.stop()


class _Process:
    """A process that computes one task after the other.

    Its pipe says when to stop; that the pipe is gone says that this process is.
    """

    def __init__(self, location: StoreLocation, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        inbox, self._pipe = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(1, context, _begin, (folder, inbox))
        self._location = location
        self.is_dead = False

    def compute(self, job: Job, n_threads: int) -> Outcome:
        """Compute a task, on so many threads.

        Raises
        ------
        LaneError
            If the process was killed.
        """
        try:
            return self._pool.submit(_compute_here, job, self._location, n_threads).result()
        except BrokenProcessPool:
            self.is_dead = True
            raise LaneError(
                "the process that computed this was killed, for want of memory perhaps; run "
                "again to go on from its last evaluation, with a smaller --together"
            ) from None

    def stop(self) -> None:
        """Ask for a stop at the next evaluation."""
        with suppress(OSError):  # it was killed
            self._pipe.send(None)

    def end(self) -> None:
        """End the process, which has nothing to do."""
        self._pool.shutdown()


def default_together(backend: Backend, seconds: float) -> int:
    """How many tasks run side by side where nobody says.

    One per core for the emulator on a CPU, at most eight and one for every 4 GB of memory; other
    backends have processes or threads of their own.

    Parameters
    ----------
    backend
        Backend of the tasks.
    seconds
        What they are estimated to take one after the other, s.
    """
    is_emulator = backend.level_of_theory.backend == "emulator"
    if not is_emulator or Capability.BATCHES in backend.capabilities or seconds < _SHORT:
        return 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(n_cores(), _MOST_PROCESSES, int(memory / _MEMORY_EACH)))


def choose_lanes(n_lanes: int, backend: Backend, location: StoreLocation, folder: Path) -> Lanes:
    """Lanes that suit a backend.

    Parameters
    ----------
    n_lanes
        Most tasks at once.
    backend
        Backend of the tasks.
    location
        Store of the run.
    folder
        Folder of the run.
    """
    if n_lanes == 1 or Capability.BATCHES in backend.capabilities:
        return ThreadLanes(n_lanes)
    return ProcessLanes(n_lanes, location, folder)


# ------------------------------------------------------------------ within a process of a lane


_open_once = lru_cache(open_store)


def _begin(folder: Path, inbox: Connection) -> None:
    """Prepare a process for tasks."""
    for number in (signal.SIGINT, *STOP_SIGNALS):  # the run decides; a whole job is signalled
        signal.signal(number, lambda *_: None)
    Thread(target=_listen, args=(inbox,), daemon=True).start()
    ignore_library_warnings()
    set_checkpoint_folder(checkpoint_folder(folder))


def _listen(inbox: Connection) -> None:
    """Do what the run says, and end with it."""
    try:
        inbox.recv()
    except EOFError:  # it was killed: whoever goes on is not to find this process at work
        os._exit(1)
    ask_to_stop("the end of the run")


def _compute_here(job: Job, location: StoreLocation, n_threads: int) -> Outcome:
    use_cores(n_threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(n_threads)
    try:
        response, seconds = compute(job, _open_once(location))
    except Exception as error:
        if _survives_pickling(error):
            raise
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    return replace(response, output=None), seconds  # its document is in the store


def _survives_pickling(error: Exception) -> bool:
    try:
        return str(pickle.loads(pickle.dumps(error))) == str(error)
    except Exception:
        return False
