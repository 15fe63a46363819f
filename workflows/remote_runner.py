"""The process that takes a submitted study through a cluster.

It sends jobs to the machine, collects what they give, and goes on until nothing is left to do.
It may be killed at any moment and started again: everything it knows lies in the queue.
"""

import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jobflow import Job
from jobflow_remote.config.base import LogLevel
from jobflow_remote.jobs.data import get_reset_job_base_dict
from jobflow_remote.jobs.runner import Runner
from jobflow_remote.jobs.state import JobState
from jobflow_remote.remote.queue import QueueManager
from monty.json import MontyDecoder
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from .claims import claim_key, run_identity
from .local_run import remove_outdated
from .profile import Profile
from .provenance import record_run
from .remote_controller import open_queue
from .remote_failure import FailureInquiry
from .remote_project import (
    EXECUTION,
    RemoteError,
    lrlo_version,
    read_project,
    store_of,
    without_input,
    work_folder,
)
from .remote_queue import (
    ACTIVE_STATES,
    DEAD_AFTER,
    FAILED_STATES,
    RUNNER_LOCK,
    Submission,
    read_submission,
    runner_lock,
)
from .store import ResultStore, StoreError, open_store

logger = logging.getLogger(__name__)

#: Seconds between two looks at files and at the scheduler, on this machine and over ssh.
_PAUSE = {True: 0.3, False: 5.0}
_SCHEDULER_PAUSE = {True: 2.0, False: 20.0}
#: Seconds between two signs of life.
_BEAT = 10.0
#: Seconds to wait when the database does not answer.
_DATABASE_PAUSE = 5.0
#: Seconds between two looks at a task that another run computes, at least and for each of them.
_HELD_PAUSE, _HELD_PAUSE_EACH = 5.0, 0.01
#: States of jobs that have a next step here, which are taken in this order.
_MOVING = [
    state.value
    for state in (
        JobState.DOWNLOADED,
        JobState.RUN_FINISHED,
        JobState.UPLOADED,
        JobState.CHECKED_OUT,
    )
]
#: States of jobs that a batch has to do with.
_IN_BATCH = [JobState.BATCH_SUBMITTED.value, JobState.BATCH_RUNNING.value]
_NOTHING = {
    **dict.fromkeys(("replace", "addition", "detour", "stored_data", "output"), None),
    **dict.fromkeys(("stop_children", "stop_jobflow"), False),
}


class StudyRunner(Runner):
    """Runner of one study.

    Unlike its parent it completes tasks that the store already has, starts jobs again that
    reached their walltime, finds out why the scheduler ended a job, keeps documents through
    :class:`lrlo.workflows.store.ResultStore`, and ends when nothing is left to do.

    Parameters
    ----------
    submission
        What was submitted.
    run
        Identity of the run, see :func:`lrlo.workflows.claims.run_identity`.
    """

    job_controller: Any  # the parent's, until it is replaced by `queue`

    def __init__(self, submission: Submission, run: str) -> None:
        super().__init__(project_name=submission.project, log_level=LogLevel.WARN)
        logger.disabled = False  # setting up its log, the parent silences all others
        self.submission = submission
        self.job_controller.close()
        self.queue = open_queue(self.project)
        self.job_controller = self.queue
        self.store = open_store(store_of(read_project(submission.project)))
        self.jobstore: Any = _CompletionStore(self.store)
        self.claims = self.store.claims(run)
        self._held: set[str] = set()
        self._running: dict[str, list[tuple[str, int, str]]] = {}  # by worker, noted as running
        self._inquiry = FailureInquiry(self.profile, self.get_host)
        self._beat_at = 0.0
        self._scheduler_at = 0.0

    @property
    def profile(self) -> Profile:
        """Profile that the study was submitted with."""
        return self.queue.profile

    def run_until_finished(self) -> bool:
        """Work until nothing is left to do or the process is asked to stop.

        Returns
        -------
        finished
            Whether every job is completed.
        """
        signal.signal(signal.SIGTERM, self.handle_signal)
        is_new = True
        while not self.stop_signal:
            try:
                if is_new:
                    self.queue.unlock_all()
                    self.claims.adopt()
                    is_new = False
                self._beat()
                goes_on = self._work()
                if self._is_time_for_scheduler():
                    self._look_at_scheduler()
                if not goes_on and not self._has_work():
                    break
                pause = 0.0 if goes_on else _PAUSE[self.profile.is_local]
            except (PyMongoError, StoreError) as error:
                logger.warning("the database does not answer: %s", type(error).__name__)
                is_new = True  # what it was doing may have left locks
                pause = _DATABASE_PAUSE
            self._sleep(pause)
        self.claims.stop()
        if self.stop_signal:
            return False  # jobs go on; the next start adopts their claims
        self.claims.release_all()
        self._end_batches()
        finished = self.queue.settle()
        if finished:
            self._record()
        return finished

    def checkout(self) -> None:
        """Take every job that is ready."""
        ready, taken = JobState.READY.value, JobState.CHECKED_OUT.value
        update = {"state": taken, "updated_on": datetime.now(UTC)}
        self.queue.jobs.update_many({"state": ready}, {"$set": update})

    def _work(self) -> bool:
        """Take every job as far as it goes now, or as many as there is time for.

        Unlike the parent, which looks through the queue for every step of every job, it asks for
        the jobs once.

        Returns
        -------
        goes_on
            Whether there is more to do at once.
        """
        is_local = self.profile.is_local
        end = time.monotonic() + _PAUSE[is_local]
        end = max(end, self._scheduler_at + _SCHEDULER_PAUSE[is_local])
        for name, manager in self.batch_workers.items():
            self.batch_update_run_finished_jobs(manager, name, self.get_worker(name))
        states = [*_MOVING, JobState.READY.value]
        query = {"state": {"$in": states}, **_not_waiting()}
        found = self.queue.jobs.find(query, ["worker", "state", "priority", "created_on"])
        in_order = found.sort([("priority", -1), ("created_on", 1)])
        jobs = sorted(in_order, key=lambda each: states.index(each["state"]))
        if jobs and jobs[-1]["state"] == JobState.READY.value:
            self.checkout()
        for job in jobs:
            if time.monotonic() > end:
                return True  # the scheduler gets to know what was sent so far
            while self._advance(job):
                pass
        return bool(self.queue.make_ready())

    def _advance(self, job: Mapping[str, Any]) -> bool:
        """Take a job one step further; False if there is no other to take now."""
        states = _MOVING
        limit = self.limited_workers.get(job["worker"])
        if limit is not None and limit["current"] >= limit["max"]:
            states = [state for state in states if state != JobState.UPLOADED.value]
            if job["state"] == JobState.UPLOADED.value:
                return False
        steps = {
            JobState.CHECKED_OUT: self.upload,
            JobState.UPLOADED: self.submit,
            JobState.RUN_FINISHED: self.download,
            JobState.DOWNLOADED: self.complete_job,
        }
        with self.queue.lock_job_for_update(
            query={"_id": job["_id"], "state": {"$in": states}, **_not_waiting()},
            max_step_attempts=self.runner_options.max_step_attempts,
            delta_retry=self.runner_options.delta_retry,
        ) as lock:
            document = lock.locked_document
            if document is None:
                return False
            steps[JobState(document["state"])](lock)
        update: Any = lock.update_on_release
        return update["$set"].get("state") in _MOVING

    def batch_update_run_finished_jobs(self, batch_manager: Any, name: str, worker: Any) -> None:
        """Note which jobs of batches have ended."""
        finished = _or_nothing(batch_manager.get_run_finished)
        state = JobState.DOWNLOADED if worker.is_local else JobState.RUN_FINISHED
        self._note_in_batches(finished, _IN_BATCH, {"state": state.value}, name, worker)
        batch_manager.delete_run_finished(finished)

    def batch_update_running_jobs(
        self, batch_manager: Any, name: str, worker: Any
    ) -> list[tuple[str, int, str]]:
        """Note which jobs of batches run, and return them."""
        running = _or_nothing(batch_manager.get_running)
        update = {"state": JobState.BATCH_RUNNING.value, "start_time": datetime.now(UTC)}
        new = [job for job in running if job not in self._running.get(name, ())]
        self._note_in_batches(new, _IN_BATCH[:1], update, name, worker)
        self._running[name] = running
        return running

    def _note_in_batches(
        self,
        jobs: Sequence[tuple[str, int, str]],
        states: Sequence[str],
        update: Mapping[str, Any],
        name: str,
        worker: Any,
    ) -> None:
        """Update jobs that are in one of some states: all at once, where the parent locks each."""
        updates = []
        for uuid, index, batch in jobs:
            process = self.batch_get_process_id([], batch, name, worker)
            fields = {**update, "remote.process_id": process, "updated_on": datetime.now(UTC)}
            query = {"uuid": uuid, "index": index, "state": {"$in": list(states)}}
            updates.append(UpdateOne(query, {"$set": fields}))
        if updates:
            self.queue.jobs.bulk_write(updates, ordered=False)

    def submit_batch_processes(
        self, queue_manager: Any, name: str, worker: Any, running: list[str]
    ) -> None:
        """Submit batches for jobs that wait, unless there are as many as may be."""
        if len(running) < worker.max_jobs:
            super().submit_batch_processes(queue_manager, name, worker, running)

    def get_jobstore(self, flow_id: str | None) -> Any:
        """Store of results, in which documents are kept as a local run keeps them."""
        return self.jobstore

    def get_queue_manager(self, worker_name: str) -> QueueManager:
        """Manager of the scheduler that starts batches with this package's own command."""
        if worker_name not in self.queue_managers:
            scheduler = self.get_worker(worker_name).get_scheduler_io()
            self.queue_managers[worker_name] = _StudyQueueManager(
                scheduler, self.get_host(worker_name), self.profile
            )
        return self.queue_managers[worker_name]

    def upload(self, lock: Any) -> None:
        """Send a job to the machine, unless it needs none or is another run's.

        See :meth:`_complete_here`. A task that another run computes stays where it is and is
        looked at again.
        """
        doc = lock.locked_document
        if not doc["job"]["metadata"].get("task"):
            if not self._complete_here(doc):
                super().upload(lock)
            return
        key = claim_key(doc["uuid"], doc["index"])
        holder = self.claims.take(key)
        if holder is not None:
            self._held.add(key)
            pause = max(_HELD_PAUSE, _HELD_PAUSE_EACH * len(self._held))
            again = datetime.now(UTC) + timedelta(seconds=pause)
            lock.update_on_release = {"$set": {"held": str(holder), "held_until": again}}
            return
        self._held.discard(key)
        # Asked once, with the claim: whoever had it before may have stored the task.
        if self._complete_here(doc):
            self.claims.release(key)
        else:
            super().upload(lock)

    def complete_job(self, lock: Any) -> None:
        """Store what a job gave, and give its claim back."""
        super().complete_job(lock)
        doc = lock.locked_document
        if doc["job"]["metadata"].get("task"):
            self.claims.release(claim_key(doc["uuid"], doc["index"]))

    def submit(self, lock: Any) -> None:
        """Submit a job under a name that is safe in a script."""
        job = lock.locked_document["job"]
        job["name"] = script_name(job["name"])
        super().submit(lock)

    def _is_time_for_scheduler(self) -> bool:
        pause = _SCHEDULER_PAUSE[self.profile.is_local]
        return time.monotonic() - self._scheduler_at >= pause

    def _look_at_scheduler(self) -> None:
        """Ask what became of submitted jobs."""
        self.check_run_status()
        if self.limited_workers:
            self.refresh_num_current_jobs()
        if self.batch_workers:
            self.update_batch_jobs()
        self._explain_failures()
        self._scheduler_at = time.monotonic()

    def _has_work(self) -> bool:
        queries = ({"state": {"$in": list(ACTIVE_STATES)}}, _UNEXPLAINED)
        return any(self.queue.jobs.find_one(query, ["_id"]) for query in queries)

    def _complete_here(self, doc: dict) -> bool:
        """Complete a job that needs no machine.

        These are tasks whose document the store has, and jobs of jobflow that only store
        references to other jobs' outputs.
        """
        job = doc["job"]
        is_task = bool(job["metadata"].get("task"))
        if is_task:
            if not self._is_stored(doc):
                return False
        elif job["function"].get("@callable") == "store_inputs":
            decoded: Job = MontyDecoder().process_decoded(job)
            decoded.run(store=self.store)
        else:
            return False
        now = datetime.now(UTC)
        times = {"start_time": now, "end_time": now, "was_stored": is_task}
        with self.queue.lock_flow() as flow:
            self.queue.checkin_job(doc, flow.locked_document, dict(_NOTHING), doc_update=times)
        return True

    def _is_stored(self, doc: Mapping[str, Any]) -> bool:
        place = {"uuid": doc["uuid"], "index": doc["index"]}
        return self.store.query_one(place, ["uuid"]) is not None

    def _explain_failures(self) -> None:
        """Find out why jobs failed; start those again that reached their walltime."""
        fields = ["uuid", "index", "worker", "state", "error", "remote", "run_dir"]
        found = self.queue.jobs.find(_UNEXPLAINED, [*fields, "continuations"])
        for doc in list(found):
            if doc["state"] == JobState.REMOTE_ERROR.value and self._inquiry.has_answer(doc):
                # A batch that ended right after its last job is taken for a killed one.
                local = self.get_worker(doc["worker"]).is_local
                state = JobState.DOWNLOADED if local else JobState.RUN_FINISHED
                self._set(doc, {**get_reset_job_base_dict(), "state": state.value})
                continue
            explained = self._inquiry.explain(doc)
            if explained is None:
                continue  # it is asked again
            if explained.is_in_queue:
                self._set(doc, {**get_reset_job_base_dict(), "state": JobState.SUBMITTED.value})
                continue
            n_continued, reason = doc.get("continuations", 0), explained.reason
            limit = self.profile.continuation.max_continuations
            if explained.is_walltime and n_continued < limit:
                update = {"state": JobState.READY.value, "continuations": n_continued + 1}
                self._set(doc, {**get_reset_job_base_dict(), **update})
                continue
            if explained.is_walltime and limit:
                reason = f"{reason} It was continued {n_continued} times, the limit."
            self._set(doc, {"reason": reason})
            self.claims.release(claim_key(doc["uuid"], doc["index"]))

    def _set(self, doc: Mapping[str, Any], update: Mapping[str, Any]) -> None:
        self.queue.jobs.update_one({"_id": doc["_id"]}, {"$set": dict(update)})

    def _end_batches(self) -> None:
        """End batches that wait for jobs which will not come."""
        for name in self.batch_workers:
            manager = self.get_queue_manager(name)
            for batch in self.queue.batches.find({"batch_state": {"$ne": "FINISHED"}}):
                manager.cancel(batch["process_id"])
                self.queue.set_finished_batch_process(batch["batch_uid"])

    def _record(self) -> None:
        uuids = {job["uuid"] for job in self.queue.jobs.find({}, ["uuid"])}
        submission = self.submission
        remove_outdated(self.store, submission.study, uuids, study_key=submission.study_key)
        settings = submission.settings
        record_run(self.store, submission.study, submission.study_key, settings, uuids)

    def _beat(self) -> None:
        """Show that the runner lives."""
        now = time.monotonic()
        if now - self._beat_at < _BEAT:
            return
        self._beat_at = now
        self.queue.auxiliary.update_one(
            {"runner": {"$exists": True}},
            {
                "$set": {
                    "runner": {
                        "host": socket.gethostname(),
                        "pid": os.getpid(),
                        "time": time.time(),
                    }
                }
            },
            upsert=True,
        )

    def refuse_second(self) -> None:
        """Refuse to start while a runner of the study lives on another machine.

        Raises
        ------
        RemoteError
            If there is one.
        """
        other = self.queue.auxiliary.find_one({"runner": {"$exists": True}})
        if other is None or other["runner"]["host"] == socket.gethostname():
            return  # on this machine the lock of the study's folder decides
        if time.time() - other["runner"]["time"] < DEAD_AFTER:
            raise RemoteError(f"a runner of the study works on {other['runner']['host']}")

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.stop_signal and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))


class _CompletionStore:
    """Store of results as jobflow-remote uses it: documents go through the whole store.

    jobflow-remote writes to the store of documents itself, which would leave out what
    :class:`ResultStore` does: digests, and room for large documents.
    """

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self.docs_store = self
        self.additional_stores = store.additional_stores

    def update(self, document: dict, key: Sequence[str]) -> None:
        """Store a document whose large data are stored already."""
        self._store.update(document, key=list(key), save={})

    def connect(self) -> None:
        """It is connected as long as the runner runs."""

    def close(self) -> None:
        """It is closed with the process."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _StudyQueueManager(QueueManager):
    """Starts batches with this package's command, which starts Python once for many tasks."""

    def __init__(self, scheduler: Any, host: Any, profile: Profile) -> None:
        super().__init__(scheduler, host)
        self._profile = profile

    def submit(self, commands: Any, *args: Any, **kwargs: Any) -> Any:
        """Write a script and submit it."""
        given = [commands] if isinstance(commands, str) else list(commands)
        return super().submit([self._own(command) for command in given], *args, **kwargs)

    def _own(self, command: str) -> str:
        words = command.split()
        if "run-batch" not in words:
            return command
        positional, options = _split_options(words[words.index("run-batch") + 1 :])
        names = {"-mj": "--max-jobs", "-mt": "--max-time", "-mw": "--max-wait", "-pj": "--parallel"}
        settings = [f"{names[name]} {value}" for name, value in options.items() if name in names]
        checkpoints = work_folder(self._profile) / "checkpoints"
        return " ".join(
            [
                *(self._profile.python, EXECUTION, "batch", *positional, *settings),
                *("--version", lrlo_version(), "--checkpoints", str(checkpoints)),
            ]
        )


def _or_nothing(listing: Callable[[], list[tuple[str, int, str]]]) -> list[tuple[str, int, str]]:
    """List files of batches; nothing if the machine does not answer, which is asked again."""
    try:
        return listing()
    except Exception:
        logger.warning("files of batches cannot be listed", exc_info=True)
        return []


def _not_waiting() -> dict[str, Any]:
    """Jobs that do not wait for another attempt, nor for another run."""
    is_over = {"$not": {"$gt": datetime.now(UTC)}}
    return {"remote.retry_time_limit": is_over, "held_until": is_over}


#: Failed jobs that nobody has looked at yet.
_UNEXPLAINED = {"state": {"$in": list(FAILED_STATES)}, "reason": {"$exists": False}}


def script_name(name: str) -> str:
    """Name of a job as a script may hold it: the user's labels are part of names."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", name)[:60].strip("_") or "job"


def _split_options(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return list(words[:first]), dict(zip(words[first::2], words[first + 1 :: 2], strict=True))


def run_study(folder: Path) -> bool:
    """Run a submitted study until it is finished, cancelled, or failed as far as it can.

    Parameters
    ----------
    folder
        Folder of the study.

    Returns
    -------
    finished
        Whether every job is completed. False, too, if another process runs the study already.
    """
    with runner_lock(folder) as alone:
        if not alone:
            logger.info("another process runs the study in %s", folder)
            return False
        runner = StudyRunner(read_submission(folder), run_identity(folder / RUNNER_LOCK))
        runner.refuse_second()
        try:
            with without_input():
                return runner.run_until_finished()
        finally:
            runner.cleanup()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(message)s")
    try:
        sys.exit(0 if run_study(Path(sys.argv[1])) else 1)
    except (RemoteError, StoreError) as error:
        sys.exit(f"error: {error}")
