"""What workers run: one job in its folder, or many small ones in one process.

``python -m lrlo.workflows.remote_execution run FOLDER`` runs the job whose files lie in a folder;
``… batch JOBS HANDLES UID`` runs the jobs that wait in the folder of handles, one after the other
in a Python that is started once.
"""

import argparse
import contextlib
import fcntl
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .cores import n_cores, use_cores

#: Seconds between two looks for waiting jobs.
_LOOK = 0.2
#: Seconds between two signs of life of a batch.
_PING = 60.0


class WorkerError(RuntimeError):
    """The worker cannot run the job."""


def run_job(folder: Path, checkpoints: Path | None = None, version: str | None = None) -> None:
    """Run the job whose files lie in a folder; what it gives or raises is written there.

    A job that is started twice, as after a crash between submission and its record, runs once.

    Parameters
    ----------
    folder
        Folder of the job.
    checkpoints
        Where checkpoints are kept over restarts; by default the folder of the job.
    version
        Version of this package that submitted the job; with another one the job is refused.
    """
    from jobflow_remote.jobs.data import IN_FILENAME, OUT_FILENAME
    from jobflow_remote.jobs.run import run_remote_job

    from .checkpoint import set_checkpoint_folder
    from .progress import listen

    with _alone_in(folder):
        out, given = folder / OUT_FILENAME, folder / IN_FILENAME
        if _is_answer(out) and out.stat().st_mtime_ns > given.stat().st_mtime_ns:
            return
        set_checkpoint_folder(checkpoints or folder)
        listen(lambda message: print(message, flush=True))
        try:
            require_version(version)
            run_remote_job(folder)
        except WorkerError as error:
            _write_error(out, str(error))
        finally:
            listen(None)
            set_checkpoint_folder(None)


def require_version(version: str | None) -> None:
    """Refuse jobs of another version of this package.

    Raises
    ------
    WorkerError
        If this is another version.
    """
    own = metadata.version("lrlo")
    if version is not None and version != own:
        raise WorkerError(
            f"the worker has lrlo {own} ({sys.executable} on {os.uname().nodename}), and the job "
            f"was submitted with lrlo {version}: install the same version on both sides, then "
            "'lrlo retry'"
        )


def run_batch(
    jobs: Path,
    handles: Path,
    uid: str,
    *,
    checkpoints: Path | None = None,
    version: str | None = None,
    max_jobs: int | None = None,
    max_time: float | None = None,
    max_wait: float = 60.0,
    parallel: int = 1,
) -> None:
    """Run waiting jobs until there are none, or there were enough.

    Every job writes its output where a job of its own would. A job whose process dies is
    finished without a result, and the others go on in a new process.

    Parameters
    ----------
    jobs
        Folder below which the folders of jobs lie.
    handles
        Folder in which waiting jobs are announced.
    uid
        Name of this batch.
    checkpoints, version
        As in :func:`run_job`.
    max_jobs
        Most jobs.
    max_time
        No further job starts after this time, s.
    max_wait
        Seconds to wait for further jobs.
    parallel
        Jobs at a time.
    """
    workers = [_JobProcess(jobs, checkpoints, version) for _ in range(parallel)]
    announced = _Announced(handles, uid)
    life = _SignOfLife()
    start = idle_since = time.monotonic()
    n_started = 0
    try:
        while True:
            life.show()
            now = time.monotonic()
            for worker in workers:
                if worker.is_done():
                    finished = worker.take()
                    idle_since = time.monotonic()
                    announced.finish(finished)
            may_start = (max_jobs is None or n_started < max_jobs) and (
                max_time is None or now - start < max_time
            )
            waiting = False
            for worker in workers:
                if worker.is_busy or not may_start:
                    continue
                if max_jobs is not None and n_started >= max_jobs:
                    break
                found = announced.take()
                if found is None:
                    break
                worker.start(found)
                n_started += 1
                waiting = True
            busy = any(worker.is_busy for worker in workers)
            if not busy and (not may_start or now - idle_since > max_wait):
                return
            if not waiting:
                _wait_for([worker for worker in workers if worker.is_busy])
    finally:
        for worker in workers:
            worker.close()
        life.end()


class _Announced:
    """Files that say which jobs wait, run and have ended.

    They are those of jobflow-remote, whose own class for them takes longer to load than a short
    job takes to run.
    """

    def __init__(self, folder: Path, uid: str) -> None:
        self._folder = folder
        self._uid = uid

    def take(self) -> str | None:
        """Take any job that waits; None if there is none."""
        waiting = os.listdir(self._folder / "submitted")
        random.shuffle(waiting)  # batches that look at the same time take different ones
        for job in waiting:
            mine = self._folder / "running" / f"{job}_{self._uid}"
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._folder / "submitted" / job, mine)
            if mine.exists():  # else another batch was first
                return job
        return None

    def finish(self, job: str) -> None:
        """Note that a job has ended."""
        name = f"{job}_{self._uid}"
        os.rename(self._folder / "running" / name, self._folder / "run_finished" / name)


class _JobProcess:
    """Process that runs one job after the other; the imports are done once."""

    def __init__(self, jobs: Path, checkpoints: Path | None, version: str | None) -> None:
        self._settings = (jobs, checkpoints, version)
        self._process: Any = None
        self._pipe: Connection | None = None
        self._job: str | None = None
        self._start()

    @property
    def is_busy(self) -> bool:
        """Whether a job was given and its end not yet taken."""
        return self._job is not None

    @property
    def pipe(self) -> Connection | None:
        """Becomes readable when the job is finished or the process dead."""
        return self._pipe

    def _start(self) -> None:
        own, other = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(other, *self._settings)
        )
        self._process.start()
        other.close()
        self._pipe = own

    def start(self, job: str) -> None:
        """Give the process a job, by its name among those announced."""
        if self._process is None or not self._process.is_alive():
            self._start()
        self._job = job
        assert self._pipe is not None
        with contextlib.suppress(OSError):  # a process that is dead already is seen by is_done
            self._pipe.send(job)

    def is_done(self) -> bool:
        """Whether the job given has ended, in whatever way."""
        return self._job is not None and self._pipe is not None and self._pipe.poll()

    def take(self) -> str:
        """The job that has ended; if its process died, that is written to the job's errors."""
        assert self._job is not None
        assert self._pipe is not None
        job, self._job = self._job, None
        try:
            self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            self._pipe.close()
            _tell_death(_folder_of(job, self._settings[0]), self._process.exitcode)
            self._process = self._pipe = None
        return job

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.join(5)
            if self._process.is_alive():
                self._process.kill()


def _serve(pipe: Connection, jobs: Path, checkpoints: Path | None, version: str | None) -> None:
    """Run the jobs whose names come through a pipe, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import jobflow_remote.jobs.run  # noqa: F401  # loaded while a first job is looked for

    while True:
        try:
            folder = _folder_of(pipe.recv(), jobs)
        except (EOFError, OSError):
            return
        with _output_to(folder):
            try:
                run_job(folder, checkpoints, version)
            except Exception:
                traceback.print_exc()
        pipe.send(str(folder))


def _folder_of(job: str, jobs: Path) -> Path:
    """Folder of an announced job."""
    from jobflow_remote.remote.data import get_job_path

    uuid, _, index = job.rpartition("_")
    return Path(get_job_path(uuid, int(index), jobs))


@contextlib.contextmanager
def _output_to(folder: Path) -> Iterator[None]:
    """Send what is printed, also by libraries, to the files that a job of its own would have."""
    before = [os.dup(number) for number in (1, 2)]
    files = [
        os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for name in ("queue.out", "queue.err")
    ]
    try:
        for number, file in zip((1, 2), files, strict=True):
            os.dup2(file, number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
        for each in (*before, *files):
            os.close(each)


def _tell_death(folder: Path, code: int | None) -> None:
    how = f"exit code {code}"
    if code is not None and code < 0:
        how = f"signal {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            how += "; often the kernel, when memory runs out"
    with contextlib.suppress(OSError), (folder / "queue.err").open("a") as file:
        file.write(f"\nlrlo: the process of the job was ended by {how}\n")


class _SignOfLife:
    """File that tells the runner when the batch started, that it lives, and when it ended."""

    def __init__(self) -> None:
        self._start = datetime.now(UTC)
        self._shown = -_PING
        self.show()

    def show(self) -> None:
        """Renew the sign when it is due."""
        if time.monotonic() - self._shown >= _PING:
            self._shown = time.monotonic()
            self._write()

    def end(self) -> None:
        """Tell that the batch ended by itself."""
        self._write(end_time=datetime.now(UTC))

    def _write(self, **more: datetime) -> None:
        from jobflow_remote.jobs.data import BATCH_INFO_FILENAME
        from monty.serialization import dumpfn

        times = {"start_time": self._start, "last_ping_time": datetime.now(UTC), **more}
        dumpfn(times, f"{BATCH_INFO_FILENAME}.new.json")
        os.replace(f"{BATCH_INFO_FILENAME}.new.json", BATCH_INFO_FILENAME)


def _wait_for(workers: list[_JobProcess]) -> None:
    from multiprocessing.connection import wait

    pipes = [worker.pipe for worker in workers if worker.pipe is not None]
    if pipes:
        wait(pipes, _LOOK)
    else:
        time.sleep(_LOOK)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    with (folder / "running.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_answer(path: Path) -> bool:
    """Whether a job wrote its answer, not only when it started."""
    from monty.serialization import loadfn

    try:
        written = loadfn(path, cls=None)
    except (OSError, ValueError):
        return False
    return bool(written.get("response")) or bool(written.get("error"))


def _write_error(path: Path, message: str) -> None:
    from monty.serialization import dumpfn

    now = datetime.now(UTC)
    dumpfn({"response": None, "error": message, "start_time": now, "end_time": now}, path)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of workers."""
    parser = argparse.ArgumentParser(prog="python -m lrlo.workflows.remote_execution")
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("run", "batch"):
        action = actions.add_parser(name)
        action.add_argument("folder", type=Path)
        if name == "batch":
            action.add_argument("handles", type=Path)
            action.add_argument("uid")
            action.add_argument("--max-jobs", type=int)
            action.add_argument("--max-time", type=float)
            action.add_argument("--max-wait", type=float, default=60.0)
            action.add_argument("--parallel", type=int, default=1)
        action.add_argument("--version")
        action.add_argument("--checkpoints", type=Path)
    given = parser.parse_args(arguments)
    use_cores(max(1, n_cores() // getattr(given, "parallel", 1)))
    if given.action == "run":
        run_job(given.folder, given.checkpoints, given.version)
        return
    run_batch(
        given.folder,
        given.handles,
        given.uid,
        checkpoints=given.checkpoints,
        version=given.version,
        max_jobs=given.max_jobs,
        max_time=given.max_time,
        max_wait=given.max_wait,
        parallel=given.parallel,
    )


if __name__ == "__main__":
    main()
