"""Submit studies to clusters, and what can be done with submitted ones."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .profile import Profile
from .remote_project import (
    RemoteError,
    install_project,
    lrlo_version,
    project_name,
    project_of,
    project_path,
    read_project,
    require_jobflow_remote,
    store_of,
    without_input,
)
from .remote_queue import (
    ACTIVE_STATES,
    CANCELLED_STATES,
    FAILED_STATES,
    RUNNER_LOCK,
    Submission,
    is_runner_alive,
    is_submitted,
    queue_of,
    read_submission,
    write_submission,
)
from .store_location import StoreLocation

if TYPE_CHECKING:
    from jobflow import Flow

    from .study import Study

#: Log of a study's runner, in the study's folder.
RUNNER_LOG = "runner.log"
#: Seconds in which a new runner either works or says why not.
_FIRST_SECONDS = 1.0


@dataclass(frozen=True)
class SubmissionReport:
    """What a submission did.

    Attributes
    ----------
    submission
        What was submitted.
    n_jobs
        Jobs put into the queue; 0 if the study was there already and goes on.
    n_stored
        Tasks of them that the store has, which are not computed.
    """

    submission: Submission
    n_jobs: int
    n_stored: int


def submit_study(
    study: "Study", flow: "Flow", profile: Profile, store: StoreLocation, folder: Path
) -> SubmissionReport:
    """Put a study into its queue; a runner takes it from there.

    Of a study that is there already and unfinished nothing changes. One that has ended is put
    anew: its finished tasks lie in the store and are not computed again.

    Parameters
    ----------
    study, flow
        The study and its flow.
    profile
        Machine that it goes to.
    store
        MongoDB database of results.
    folder
        Folder of the study.

    Raises
    ------
    RemoteError
        If the profile or the store cannot be used, or another version of the study is under way.
    """
    require_jobflow_remote()
    if is_submitted(folder):
        earlier = read_submission(folder)
        if project_path(earlier.project).exists():
            with queue_of(earlier) as queue:
                under_way = queue.has_active_jobs()
            if under_way and earlier.study_key != study.key:
                raise RemoteError(
                    f"an earlier version of {study.name} is under way: 'lrlo cancel' ends it, "
                    "what it has computed stays"
                )
            if under_way and earlier.profile != profile.name:
                raise RemoteError(
                    f"{study.name} is under way with the profile {earlier.profile}: 'lrlo "
                    "cancel' ends it, what it has computed stays"
                )
            if under_way:
                renew_project(folder, profile, store)
                return SubmissionReport(earlier, 0, 0)
    install_project(profile, store, study.name)
    submission = Submission(
        study=study.name,
        study_key=study.key,
        settings=study.model_dump(mode="json"),
        profile=profile.name,
        project=project_name(profile, study.name),
        version=lrlo_version(),
        submitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with queue_of(submission):
        n_jobs, n_stored = fill_queue(submission.project, flow)
    write_submission(folder, submission)
    return SubmissionReport(submission, n_jobs, n_stored)


def fill_queue(project: str, flow: "Flow") -> tuple[int, int]:
    """Empty the queue of a project and put a flow into it.

    Returns
    -------
    n_jobs, n_stored
        Jobs of the flow, and tasks of them whose documents the store has.
    """
    from .remote_controller import jobs_of, open_queue
    from .store import open_store

    settings = read_project(project)
    controller = open_queue(project_of(settings))
    try:
        controller.clear()
        controller.fill(flow)
        tasks = [job.uuid for job in jobs_of(flow) if job.metadata.get("task")]
        store = open_store(store_of(settings))
        try:
            n_stored = store.count({"uuid": {"$in": tasks}}) if tasks else 0
        finally:
            store.close()
        return len(flow.job_uuids), n_stored
    finally:
        controller.close()


def renew_project(folder: Path, profile: Profile, store: StoreLocation | None = None) -> None:
    """Let a submitted study go on with what its profile says now.

    A runner that works with what it said before is ended; jobs in the scheduler go on.

    Parameters
    ----------
    folder
        Folder of the study.
    profile
        Profile of the same name.
    store
        Database; the one that the study was submitted to if not given.

    Raises
    ------
    RemoteError
        If nothing was submitted, or with another profile.
    """
    submission = read_submission(folder)
    if submission.profile != profile.name:
        raise RemoteError(
            f"{submission.study} was submitted with the profile {submission.profile}, not with "
            f"{profile.name}: submit it again to use another one"
        )
    before = read_project(submission.project)
    install_project(profile, store or store_of(before), submission.study)
    if read_project(submission.project) != before:
        with queue_of(submission) as queue:
            queue.stop_runner(folder)


def start_runner(folder: Path) -> bool:
    """Start the study's runner in the background, unless one works already.

    Returns
    -------
    started
        Whether a process was started.

    Raises
    ------
    RemoteError
        If the process ends at once; the message says what it wrote.
    """
    if is_runner_alive(folder):
        return False
    path = folder / RUNNER_LOG
    with path.open("ab") as log:
        place = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "lrlo.workflows.remote_runner", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    with suppress(subprocess.TimeoutExpired):
        if process.wait(_FIRST_SECONDS):
            lines = path.read_bytes()[place:].decode(errors="replace").strip().splitlines()
            raise RemoteError(f"the runner ended: {lines[-1] if lines else f'see {path}'}")
    return True


def cancel_study(folder: Path) -> int:
    """Cancel the jobs of a submitted study that are not finished; what is computed stays.

    Returns
    -------
    cancelled
        Number of jobs that were under way.

    Raises
    ------
    RemoteError
        If nothing was submitted, or the queue does not answer.
    """
    from .claims import run_identity  # heavy

    submission = read_submission(folder)
    with queue_of(submission) as queue:
        queue.stop_runner(folder)
        found = queue.jobs.find(
            {"state": {"$in": list(ACTIVE_STATES)}}, ["worker", "remote.process_id", "state"]
        )
        active = list(found)
        # First the queue, for a runner on another machine, then the scheduler.
        queue.jobs.update_many(
            {"state": {"$in": list(ACTIVE_STATES)}}, {"$set": {"state": CANCELLED_STATES[0]}}
        )
        running = {
            (job["worker"], job["remote"]["process_id"])
            for job in active
            if job["state"] in ("SUBMITTED", "RUNNING") and job["remote"].get("process_id")
        }
        batches = queue.batches.find({"batch_state": {"$ne": "FINISHED"}})
        running |= {(batch["worker"], batch["process_id"]) for batch in batches}
        queue.batches.update_many({}, {"$set": {"batch_state": "FINISHED"}})
        _cancel_in_scheduler(read_project(submission.project), sorted(running))
        queue.flows.update_many({}, {"$set": {"state": "STOPPED"}})
        with suppress(FileNotFoundError):  # no runner was ever started
            queue.claims.delete_many({"run": run_identity(folder / RUNNER_LOCK)})
    return len(active)


def retry_study(folder: Path, numbers: Sequence[str] = ()) -> int:
    """Start failed and cancelled jobs of a submitted study again.

    Parameters
    ----------
    folder
        Folder of the study.
    numbers
        Numbers of the jobs; all with none.

    Returns
    -------
    retried
        Number of jobs.

    Raises
    ------
    RemoteError
        If nothing was submitted, a number is not that of a failed or cancelled job, or the queue
        does not answer.
    """
    with queue_of(read_submission(folder)) as queue:
        states = [*FAILED_STATES, *CANCELLED_STATES]
        query: dict[str, Any] = {"state": {"$in": states}}
        if numbers:
            query["db_id"] = {"$in": list(numbers)}
        jobs = list(queue.jobs.find(query, ["db_id", "state", "previous_state", "remote.error"]))
        unknown = sorted(set(numbers) - {job["db_id"] for job in jobs})
        if unknown:
            raise RemoteError(f"no failed or cancelled job has the number {', '.join(unknown)}")
        for job in jobs:
            queue.jobs.update_one({"_id": job["_id"]}, _again(job))
        if jobs:
            queue.flows.update_many({}, {"$set": {"state": "RUNNING"}})
    return len(jobs)


def fetch_study(folder: Path, target: StoreLocation) -> tuple[int, int]:
    """Copy a submitted study's documents to an embedded store.

    Parameters
    ----------
    folder
        Folder of the study.
    target
        Store to copy to.

    Returns
    -------
    n_new, n_present
        Documents added, and those that were there.

    Raises
    ------
    RemoteError
        If nothing was submitted or there is nothing to fetch yet.
    StoreError
        If a store cannot be read or written.
    """
    from .archive import ArchiveError, export_study, import_archive
    from .store import open_store

    submission = read_submission(folder)
    source = open_store(store_of(read_project(submission.project)))
    target.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=target.path.parent) as temporary:
            archive = Path(temporary) / "study.zip"
            export_study(source, submission.study, archive)
            local = open_store(target)
            try:
                report = import_archive(local, archive)
            finally:
                local.close()
    except ArchiveError as error:
        raise RemoteError(str(error)) from None
    finally:
        source.close()
    return report.n_new, report.n_present


def _again(job: dict[str, Any]) -> dict[str, Any]:
    """Update that starts a job again.

    A job whose result could not be collected goes on from there; all others start anew.
    """
    from jobflow_remote.jobs.data import get_reset_job_base_dict

    collecting = job["state"] == "REMOTE_ERROR" and job.get("previous_state") in (
        "RUN_FINISHED",
        "DOWNLOADED",
    )
    is_unreadable = "JSONDecodeError" in (job["remote"].get("error") or "")
    state = job["previous_state"] if collecting and not is_unreadable else "READY"
    fields = {**get_reset_job_base_dict(), "state": state, "lock_id": None, "lock_time": None}
    return {"$set": fields, "$unset": {"reason": ""}}


def _cancel_in_scheduler(settings: dict[str, Any], jobs: Sequence[tuple[str, str]]) -> None:
    """Cancel jobs of the scheduler; those that have ended in between are no error."""
    from jobflow_remote.remote.queue import QueueManager
    from jobflow_remote.utils.remote import SharedHosts

    project = project_of(settings)
    with SharedHosts(project) as hosts, without_input():
        for worker, number in jobs:
            scheduler = project.workers[worker].get_scheduler_io()
            QueueManager(scheduler, hosts.get_host(worker)).cancel(number)
