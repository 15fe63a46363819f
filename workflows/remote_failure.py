"""Why a job of a submitted study ended without a result, asked on the far side."""

import json
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobflow_remote.jobs.data import OUT_FILENAME
from jobflow_remote.remote.data import get_job_path

from .profile import Profile, Scheduler
from .remote_project import BATCH_RUNS, work_folder
from .remote_queue import last_line
from .scheduler_reason import find_reason

if TYPE_CHECKING:
    from jobflow_remote.remote.host import BaseHost

#: Characters of a job's output that are searched for the scheduler's reason.
_TAIL = 20_000
_BATCH_IN_ERROR = re.compile(r"process_id: (\S+), uuid: (\S+) was likely killed")
_WALLTIME = "The job reached its walltime"
#: What Slurm says of a job that it has put back into its queue, as after the failure of a node.
_IN_QUEUE = re.compile(r"\bJobState=(?:PENDING|CONFIGURING|RUNNING|REQUEUED)\b")
#: What it says of one that it is about to put back, and how long that may take, s.
_SOON_IN_QUEUE = re.compile(r"\bJobState=NODE_FAIL\b.*\bRequeue=1\b", re.DOTALL)
_REQUEUE_PATIENCE = 60.0
#: What jobflow-remote says where a job left no answer: none, of another host none, or half of one.
_NO_ANSWER = (
    *("was not present in the download", "does not contain the response", "likely killed"),
    *("does not exist", "JSONDecodeError"),
)


@dataclass(frozen=True)
class Explanation:
    """Why a job failed.

    Attributes
    ----------
    reason
        In a sentence.
    is_in_queue
        Whether the scheduler has put it into its queue again, so that it has not failed.
    """

    reason: str
    is_in_queue: bool = False

    @property
    def is_walltime(self) -> bool:
        """Whether the job reached its walltime."""
        return self.reason.startswith(_WALLTIME)


class FailureInquiry:
    """Asks the far side about jobs that failed.

    Parameters
    ----------
    profile
        Machine that they ran on.
    host_of
        Gives the connection of a worker.
    """

    def __init__(self, profile: Profile, host_of: "Callable[[str], BaseHost]") -> None:
        self._profile = profile
        self._host_of = host_of
        self._asked_at: dict[str, float] = {}  # by job on a failed node: when it was first asked

    def explain(self, doc: Mapping[str, Any]) -> Explanation | None:
        """Why a job failed; None if that is not known yet.

        Parameters
        ----------
        doc
            Job as the queue has it.
        """
        error = doc.get("error") or doc["remote"].get("error") or ""
        if not any(words in error for words in _NO_ANSWER):
            return Explanation(last_line(error) or "no reason was given")
        text = self._written_by(doc)
        reason, told = find_reason(text), ""
        if self._profile.scheduler is Scheduler.SLURM:
            answer = self._asked(doc)
            if answer is None and reason is None:
                return None
            told = answer or ""
        if not _BATCH_IN_ERROR.search(error):
            key = str(doc["_id"])
            if _IN_QUEUE.search(told):
                self._asked_at.pop(key, None)
                return Explanation("", is_in_queue=True)
            now = time.monotonic()
            if _SOON_IN_QUEUE.search(told) and (
                now - self._asked_at.setdefault(key, now) < _REQUEUE_PATIENCE
            ):
                return None
        reason = reason or find_reason(told) or last_line(text)
        return Explanation(reason or f"the job ended without a result: {last_line(error)}")

    def has_answer(self, doc: Mapping[str, Any]) -> bool:
        """Whether a job has left its answer although its batch was taken for a killed one."""
        host = self._host_of(doc["worker"])
        path = Path(doc["run_dir"] or "", OUT_FILENAME)
        if not _BATCH_IN_ERROR.search(doc["remote"].get("error") or "") or not host.exists(path):
            return False
        try:
            written = json.loads(host.read_text_file(path))
        except ValueError:
            return False
        return bool(written.get("response") or written.get("error"))

    def _written_by(self, doc: Mapping[str, Any]) -> str:
        """What a job, and the batch that it ran in, wrote to its outputs."""
        host = self._host_of(doc["worker"])
        folders = [doc["run_dir"]]
        batch = _BATCH_IN_ERROR.search(doc["remote"].get("error") or "")
        if batch is not None:
            base = work_folder(self._profile) / BATCH_RUNS
            folders.append(get_job_path(batch[2], None, str(base)))
        text = ""
        for folder in folders:
            for name in ("queue.out", "queue.err"):
                path = Path(folder, name)
                if folder and host.exists(path):
                    text += host.read_text_file(path)[-_TAIL:] + "\n"
        return text

    def _asked(self, doc: Mapping[str, Any]) -> str | None:
        """What Slurm says about a job; None if it does not answer."""
        batch = _BATCH_IN_ERROR.search(doc["remote"].get("error") or "")
        number = batch[1] if batch is not None else doc["remote"].get("process_id")
        if not number:
            return ""
        host = self._host_of(doc["worker"])
        out, errors, code = host.execute(f"scontrol show job {shlex.quote(str(number))}")
        if code and "Invalid job id" not in errors:
            return None
        return str(out)
