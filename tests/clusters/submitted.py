"""A submitted flow and its runner, as tests drive them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobflow import Flow

from lrlo.workflows.profile import read_profile
from lrlo.workflows.remote_project import install_project, lrlo_version, project_name
from lrlo.workflows.remote_queue import (
    QueueStatus,
    Submission,
    queue_of,
    read_submission,
    write_submission,
)
from lrlo.workflows.remote_run import fill_queue
from lrlo.workflows.store_location import StoreLocation

from .studies import profile

JOBS = Path(__file__).parent


class Submitted:
    """A flow of :mod:`cluster_jobs` in the queue of a store.

    Parameters
    ----------
    folder
        Folder of everything.
    store
        URI of a fresh database.
    changes
        Keys of the profile other than those of the tests.
    """

    def __init__(self, folder: Path, store: str, **changes: object) -> None:
        self.folder, self.store = folder, store
        os.environ["JFREMOTE_PROJECTS_FOLDER"] = str(folder / "projects")
        setup = f"export OMP_NUM_THREADS=1 PYTHONPATH={JOBS}"
        self.profile = read_profile(profile(folder, **{"setup": setup, **changes}))
        self.runner: subprocess.Popen | None = None

    def submit(self, flow: Flow) -> tuple[int, int]:
        """Put a flow into the queue; jobs and stored tasks of it."""
        install_project(self.profile, StoreLocation(self.store), "faults")
        submission = Submission(
            study="faults",
            study_key="key",
            settings={},
            profile=self.profile.name,
            project=project_name(self.profile, "faults"),
            version=lrlo_version(),
            submitted_at="2026-01-01T00:00:00+00:00",
        )
        write_submission(self.folder, submission)
        return fill_queue(submission.project, flow)

    def start(self) -> None:
        """Start a runner."""
        with (self.folder / "runner.log").open("ab") as log:
            self.runner = subprocess.Popen(
                [
                    sys.executable,
                    "-W",
                    "ignore",
                    "-m",
                    "lrlo.workflows.remote_runner",
                    str(self.folder),
                ],
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """Kill the runner as nothing can prevent."""
        assert self.runner is not None
        self.runner.send_signal(signal.SIGKILL)
        self.runner.wait()

    def finish(self, timeout: float = 120.0) -> int:
        """Wait until the runner ends by itself."""
        assert self.runner is not None
        return self.runner.wait(timeout)

    def wait_for(self, condition: Callable[[], object], timeout: float = 90.0) -> None:
        """Wait until something is so while the runner works."""
        end = time.monotonic() + timeout
        while not condition():
            assert self.runner is not None
            assert self.runner.poll() is None, f"{self.log()}\n{self.status()}"
            assert time.monotonic() < end, self.log()
            time.sleep(0.2)

    def close(self) -> None:
        """End the runner."""
        if self.runner is not None and self.runner.poll() is None:
            self.runner.terminate()
            self.runner.wait(30)

    def status(self) -> QueueStatus:
        """How far it is."""
        submission = read_submission(self.folder)
        with queue_of(submission) as queue:
            return queue.status(submission)

    def process_of(self, name: str) -> str | None:
        """Number that Slurm gave the job of a name, once it runs."""
        with queue_of(read_submission(self.folder)) as queue:
            query = {"job.name": name, "state": "RUNNING"}
            found = queue.jobs.find_one(query, ["remote.process_id"])
        return None if found is None else str(found["remote"]["process_id"])

    def log(self) -> str:
        """What the runner wrote."""
        return (self.folder / "runner.log").read_text()


@contextmanager
def submitted(folder: Path, store: str, **changes: object) -> Iterator[Submitted]:
    """A flow that is submitted, ended whatever happens."""
    before = os.environ.get("JFREMOTE_PROJECTS_FOLDER")
    each = Submitted(folder, store, **changes)
    try:
        yield each
    finally:
        each.close()
        if before is None:
            del os.environ["JFREMOTE_PROJECTS_FOLDER"]
        else:
            os.environ["JFREMOTE_PROJECTS_FOLDER"] = before
