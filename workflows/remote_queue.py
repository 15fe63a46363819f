"""What a submitted study's queue says, read without jobflow-remote."""

import fcntl
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from .configuration import write_private
from .remote_project import RemoteError, read_project, store_of

#: File in a study's folder that says what was submitted; it holds no secret.
SUBMISSION_FILE = "submission.json"
#: File in a study's folder that its runner keeps locked.
RUNNER_LOCK = "runner.lock"
#: States of jobs that the runner still has to do with.
ACTIVE_STATES = (
    *("READY", "CHECKED_OUT", "UPLOADED", "SUBMITTED", "RUNNING", "RUN_FINISHED", "DOWNLOADED"),
    *("BATCH_SUBMITTED", "BATCH_RUNNING"),
)
FAILED_STATES = ("FAILED", "REMOTE_ERROR")
CANCELLED_STATES = ("USER_STOPPED", "STOPPED", "PAUSED")
#: States in the words of this package.
WORDS = {
    "WAITING": "waiting for other jobs",
    "READY": "ready",
    "CHECKED_OUT": "being sent",
    "UPLOADED": "being sent",
    "SUBMITTED": "in the scheduler's queue",
    "BATCH_SUBMITTED": "in a batch's queue",
    "RUNNING": "running",
    "BATCH_RUNNING": "running",
    "RUN_FINISHED": "being collected",
    "DOWNLOADED": "being collected",
    "COMPLETED": "completed",
    **dict.fromkeys(FAILED_STATES, "failed"),
    **dict.fromkeys(CANCELLED_STATES, "cancelled"),
}
#: Of jobs that are ready while another run computes the same task.
_HELD = "left to another run, which computes the same for this store"
#: Collections of results and of claims; the names are those of :mod:`lrlo.workflows.store` and
#: :mod:`lrlo.workflows.claims`, which are slow to load.
RESULTS, CLAIMS = "documents", "claims"
#: Seconds that the database has to answer.
_PATIENCE = 10.0
#: Seconds that a runner has to end what it does.
_STOP_PATIENCE = 60.0
#: Seconds after which a runner without a sign of life counts as dead.
DEAD_AFTER = 120.0


class Submission(BaseModel):
    """What was submitted.

    Attributes
    ----------
    study, study_key
        Name of the study, and hash of its content.
    settings
        The study as its file says, defaults filled in.
    profile, project
        Names of the profile and of jobflow-remote's project.
    version
        Version of this package.
    submitted_at
        UTC, ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    study_key: str
    settings: dict[str, Any]
    profile: str
    project: str
    version: str
    submitted_at: str


@dataclass(frozen=True)
class FailedJob:
    """A job that failed.

    Attributes
    ----------
    number
        Number of the job in the queue.
    name, worker
        Name of the job, and where it ran.
    reason
        Why, in a sentence.
    trace
        Traceback, or what the job and the scheduler wrote.
    """

    number: str
    name: str
    worker: str
    reason: str
    trace: str


@dataclass(frozen=True)
class QueueStatus:
    """How far a submitted study is.

    Attributes
    ----------
    counts
        Jobs by state, in words.
    n_stored
        Completed tasks that the store already had.
    n_continued
        Times that a job was started again at its walltime.
    holders
        Other runs that compute tasks of this study, and how many.
    troubles
        Why steps of jobs are tried again, and of how many jobs.
    n_states, n_barriers
        States and barriers of the study in the store.
    failed
        Jobs that failed, at most as many as asked for.
    """

    counts: dict[str, int]
    n_stored: int
    n_continued: int
    n_states: int
    n_barriers: int
    failed: tuple[FailedJob, ...]
    holders: Mapping[str, int] = field(default_factory=dict)
    troubles: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_jobs(self) -> int:
        """Jobs known so far."""
        return sum(self.counts.values())

    @property
    def is_finished(self) -> bool:
        """Whether every job is completed."""
        return set(self.counts) == {WORDS["COMPLETED"]}


def write_submission(folder: Path, submission: Submission) -> None:
    """Note in a study's folder what was submitted."""
    folder.mkdir(parents=True, exist_ok=True)
    write_private(folder / SUBMISSION_FILE, submission.model_dump_json(indent=1))


def is_submitted(folder: Path) -> bool:
    """Whether the study of a folder was submitted through a queue."""
    return (folder / SUBMISSION_FILE).exists()


def submitted_folder(study_path: Path, folder: Path | None) -> Path | None:
    """Folder of a study if it was submitted, else None; the study file is not checked."""
    if folder is None:
        try:
            data = yaml.safe_load(study_path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return None
        name = data.get("name") if isinstance(data, dict) else None
        folder = Path(name) if isinstance(name, str) and name else None
    return folder.resolve() if folder is not None and is_submitted(folder) else None


def read_submission(folder: Path) -> Submission:
    """What was submitted from a study's folder.

    Raises
    ------
    RemoteError
        If nothing was, or the note cannot be read.
    """
    path = folder / SUBMISSION_FILE
    try:
        return Submission.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RemoteError(
            f"no study was submitted from {folder}: lrlo submit STUDY --profile NAME"
        ) from None
    except (OSError, ValueError, ValidationError) as error:
        raise RemoteError(f"{path} cannot be read ({type(error).__name__})") from None


@contextmanager
def runner_lock(folder: Path) -> Iterator[bool]:
    """Whether this process is the one that may run the study of a folder; ends with it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / RUNNER_LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def is_runner_alive(folder: Path) -> bool:
    """Whether a process of this machine runs the study of a folder."""
    if not (folder / RUNNER_LOCK).exists():
        return False
    with runner_lock(folder) as alone:
        return not alone


@contextmanager
def queue_of(submission: Submission) -> Iterator["Queue"]:
    """Queue of a submitted study.

    Raises
    ------
    RemoteError
        If the project's file cannot be used or the database does not answer.
    """
    settings = read_project(submission.project)
    location = store_of(settings)
    client: MongoClient[dict[str, Any]] = MongoClient(
        location.address, serverSelectionTimeoutMS=int(1000 * _PATIENCE)
    )
    try:
        yield Queue(client[settings["queue"]["store"]["database"]], settings["queue"])
    except PyMongoError as error:
        raise RemoteError(
            f"the queue in {location} does not answer ({type(error).__name__}): check that the "
            "server can be reached from here; nothing is lost"
        ) from None
    finally:
        client.close()


class Queue:
    """Collections of a study's queue."""

    def __init__(self, database: Any, settings: Mapping[str, Any]) -> None:
        self.jobs = database[settings["store"]["collection_name"]]
        self.flows = database[settings["flows_collection"]]
        self.state = database[settings["auxiliary_collection"]]
        self.batches = database[settings["batches_collection"]]
        self.results = database[RESULTS]
        self.claims = database[CLAIMS]

    def has_active_jobs(self) -> bool:
        """Whether a runner would have work."""
        return self.jobs.find_one({"state": {"$in": list(ACTIVE_STATES)}}, ["_id"]) is not None

    def failed_jobs(self, limit: int = 0) -> list[FailedJob]:
        """Jobs that failed, oldest first; all with a limit of 0."""
        fields = ["db_id", "job.name", "worker", "reason", "error", "remote"]
        found = self.jobs.find({"state": {"$in": list(FAILED_STATES)}}, fields)
        return [_failed_job(document) for document in found.sort("created_on", 1).limit(limit)]

    def status(self, submission: Submission, limit: int = 20) -> QueueStatus:
        """How far a study is, with at most `limit` failed jobs."""
        # The fields of all jobs, which are small: a server counts them no faster than this.
        names = ("state", "was_stored", "continuations", "held")
        jobs = list(self.jobs.find({}, {"_id": False, **dict.fromkeys(names, True)}))
        # A job that was sent after all still has a holder of before.
        holders = Counter(
            job["held"] for job in jobs if job["state"] == "CHECKED_OUT" and job.get("held")
        )
        by_state = Counter(job["state"] for job in jobs)
        by_state["CHECKED_OUT"] -= holders.total()
        counts: Counter[str] = Counter()
        for state, word in WORDS.items():
            counts[word] += by_state[state]
        counts[_HELD] = holders.total()
        return QueueStatus(
            counts={word: n for word, n in counts.items() if n},
            n_stored=sum(bool(job.get("was_stored")) for job in jobs),
            n_continued=sum(job.get("continuations", 0) for job in jobs),
            n_states=self._n_results(submission, "state"),
            n_barriers=self._n_results(submission, "barrier"),
            failed=tuple(self.failed_jobs(limit)),
            holders=dict(holders),
            troubles=self._troubles(),
        )

    def _troubles(self) -> dict[str, int]:
        query = {"remote.step_attempts": {"$gt": 0}, "state": {"$in": list(ACTIVE_STATES)}}
        found = self.jobs.find(query, {"remote.error": True})
        return dict(Counter(last_line(job["remote"].get("error")) for job in found))

    def _n_results(self, submission: Submission, kind: str) -> int:
        of_study = {
            "output.kind": kind,
            "output.context.study": submission.study,
            "output.context.study_key": submission.study_key,
        }
        return len(list(self.results.find(of_study, ["_id"])))

    def stop_runner(self, folder: Path) -> None:
        """Ask the runner of this machine to stop, and wait until it has.

        Raises
        ------
        RemoteError
            If it does not stop.
        """
        found = self.state.find_one({"runner.host": socket.gethostname()})
        if found is None or not is_runner_alive(folder):
            return
        with suppress(ProcessLookupError):
            os.kill(found["runner"]["pid"], signal.SIGTERM)
        end = time.monotonic() + _STOP_PATIENCE
        while is_runner_alive(folder):
            if time.monotonic() > end:
                raise RemoteError(f"the runner, process {found['runner']['pid']}, does not stop")
            time.sleep(0.1)

    def remote_runner(self) -> str | None:
        """Another machine on which a runner of the study showed itself lately."""
        found = self.state.find_one({"runner": {"$exists": True}})
        if found is None or found["runner"]["host"] == socket.gethostname():
            return None  # on this machine the lock of the study's folder decides
        is_alive = time.time() - found["runner"]["time"] < DEAD_AFTER
        return str(found["runner"]["host"]) if is_alive else None


def _failed_job(document: Mapping[str, Any]) -> FailedJob:
    remote = document.get("remote") or {}
    parts = [document.get("error"), remote.get("error")]
    parts += [remote.get("queue_out"), remote.get("queue_err")]
    reason = document.get("reason") or last_line(document.get("error") or remote.get("error"))
    return FailedJob(
        number=document["db_id"],
        name=document["job"]["name"],
        worker=document["worker"],
        reason=reason or "not known yet",
        trace="\n".join(part.strip() for part in parts if part and part.strip()),
    )


def last_line(text: str | None) -> str:
    """Last line of a text that says something: of a traceback, the exception."""
    lines = (text or "").strip().splitlines()
    return lines[-1].strip() if lines else ""
