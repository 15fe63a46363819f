"""Queue of a submitted study, as the runner sees it."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from jobflow import Flow, Job
from jobflow_remote.config.base import Project
from jobflow_remote.jobs.data import get_initial_flow_doc_dict, get_initial_job_doc_dict
from jobflow_remote.jobs.jobcontroller import JobController
from jobflow_remote.jobs.state import FlowState, JobState

from .profile import Profile, kind_of
from .remote_project import worker_name

#: Documents of one insertion: a server should answer others in between.
_AT_ONCE = 500


class StudyController(JobController):
    """Queue of one study, in which a job is met once, wherever it appears.

    Jobs of this package have keys that follow from their content. A flow that replaces a job may
    hold jobs that are in the queue already: they are left as they are.
    """

    _has_news = True  # an earlier runner may have completed jobs just before it ended

    @property
    def profile(self) -> Profile:
        """Profile that the study was submitted with."""
        assert self.project is not None
        assert self.project.metadata is not None
        return Profile.model_validate(self.project.metadata["profile"])

    def clear(self) -> None:
        """Make the queue empty; results are not touched."""
        for collection in (self.jobs, self.flows, self.auxiliary, self.batches):
            collection.drop()
        self.auxiliary.insert_many([{"next_id": 1}, {"running_runner": None}, {"runner_pings": []}])

    def fill(self, flow: Flow) -> None:
        """Put a flow into the empty queue, every job with the worker of its kind."""
        profile = self.profile
        documents = [
            get_initial_job_doc_dict(
                *(job, parents, str(number)),
                worker=worker_name(profile, kind_of(job)),
                exec_config=None,
                resources=None,
                priority=0,
            )
            for number, (job, parents) in enumerate(flow.iterflow(), start=1)
        ]
        self.auxiliary.update_one(
            {"next_id": {"$exists": True}}, {"$set": {"next_id": len(documents) + 1}}
        )
        self.flows.insert_one(get_initial_flow_doc_dict(flow, documents))
        for first in range(0, len(documents), _AT_ONCE):
            self.jobs.insert_many(documents[first : first + _AT_ONCE])
        self.build_indexes()  # after the documents, which is quicker than along with them
        self.jobs.create_index("parents")

    def unlock_all(self) -> None:
        """Remove locks that a killed runner left; only its successor may do so."""
        for collection in (self.jobs, self.flows):
            collection.update_many(
                {"lock_id": {"$ne": None}}, {"$set": {"lock_id": None, "lock_time": None}}
            )

    def lock_flow(self, **_: Any) -> Any:
        """Flow of the queue, as whoever completes a job has to hold it.

        The document, which names every job, is neither sent nor locked: the flow is changed by
        its runner only, which is one.
        """
        flow = self.flows.find_one({}, ["uuid"])
        return nullcontext(SimpleNamespace(locked_document=flow, unavailable_document=None))

    def get_flow_info_by_job_uuid(
        self, job_uuid: str, projection: list | dict | None = None
    ) -> dict[str, Any]:
        """Jobs of the flow, as the parent gives them to :meth:`refresh_children`: none."""
        return {"jobs": []}

    def refresh_children(self, job_uuids: list[str]) -> list[str]:
        """Leave the children of a completed job for :meth:`make_ready`."""
        self._has_news = True
        return []

    def make_ready(self) -> list[str]:
        """Make jobs ready whose parents are all completed, if any job was completed since.

        Returns
        -------
        ready
            Numbers of the jobs.
        """
        if not self._has_news:
            return []
        waiting = list(
            self.jobs.find({"state": JobState.WAITING.value}, ["db_id", "parents", "uuid", "index"])
        )
        parents = sorted({uuid for job in waiting for uuid in job["parents"] or []})
        states: dict[str, str] = {}
        found = self.jobs.find({"uuid": {"$in": parents}}, ["uuid", "index", "state"])
        for parent in sorted(found, key=lambda job: int(job["index"])):
            states[parent["uuid"]] = parent["state"]  # the largest index counts
        done = JobState.COMPLETED.value
        ready = [
            job["db_id"]
            for job in waiting
            if all(states.get(uuid) == done for uuid in job["parents"] or [])
        ]
        if ready:
            self.jobs.update_many(
                {"db_id": {"$in": ready}},
                {"$set": {"state": JobState.READY.value, "updated_on": datetime.now(UTC)}},
            )
        self._has_news = False
        return ready

    def update_flow_state(
        self, flow_uuid: str, updated_states: dict[str, dict[int, JobState | None]] | None = None
    ) -> FlowState:
        """Leave the flow's state as it is: :meth:`settle` sets it once, when the runner ends.

        It follows from the states of all jobs, and the runner does not look at it.
        """
        return FlowState.RUNNING

    def settle(self) -> bool:
        """Set the state of the flow by those of its jobs.

        Returns
        -------
        finished
            Whether every job is completed.
        """
        values = {job["state"] for job in self.jobs.find({}, {"_id": False, "state": True})}
        states = [JobState(value) for value in values]
        state = FlowState.from_jobs_states(states, states)
        self.flows.update_many(
            {}, {"$set": {"state": state.value, "updated_on": datetime.now(UTC)}}
        )
        return state is FlowState.COMPLETED

    def _append_flow(
        self, job_doc: dict, flow_dict: dict, new_flow_dict: dict, *args: Any, **kwargs: Any
    ) -> None:
        jobs = list(_stored_jobs_of(new_flow_dict))
        known = {
            (job["uuid"], job["index"])
            for job in self.jobs.find(
                {"uuid": {"$in": [job["uuid"] for job in jobs]}}, ["uuid", "index"]
            )
        }
        profile = self.profile
        for job in jobs:
            job["config"]["manager_config"]["worker"] = worker_name(profile, kind_of(job))
        if known:
            new_flow_dict = _without(new_flow_dict, known)
        if any(_stored_jobs_of(new_flow_dict)):
            super()._append_flow(job_doc, flow_dict, new_flow_dict, *args, **kwargs)


def open_queue(project: Project) -> StudyController:
    """Queue of a project, which is the queue of one study."""
    controller = StudyController.from_project(project)
    assert isinstance(controller, StudyController)
    return controller


def jobs_of(flow: Flow) -> Iterator[Job]:
    """Jobs of a flow and of those in it, in no particular order; quicker than in their order."""
    for each in flow.jobs:
        if isinstance(each, Flow):
            yield from jobs_of(each)
        else:
            yield each


def _stored_jobs_of(flow: Mapping[str, Any]) -> Iterator[dict]:
    """Jobs of a flow as it is stored."""
    for each in flow["jobs"]:
        if each.get("@class") == "Flow":
            yield from _stored_jobs_of(each)
        else:
            yield each


def _without(flow: Mapping[str, Any], known: set[tuple[str, int]]) -> dict[str, Any]:
    """A stored flow without some of its jobs; its output, which may refer to them, goes, too."""
    jobs = []
    for each in flow["jobs"]:
        if each.get("@class") == "Flow":
            inner = _without(each, known)
            jobs += [inner] if inner["jobs"] else []
        elif (each["uuid"], each["index"]) not in known:
            jobs.append(each)
    return {**flow, "jobs": jobs, "output": None}
