"""Jobs addressed by their content, so that nothing is ever computed twice."""

import hashlib
import json
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from jobflow import Job, JobStore, job
from monty.json import jsanitize

_NAMESPACE = uuid.UUID("6f4d3f5e-6c1b-4e43-9d11-0b8d2f5a7c10")
#: Raised when the meaning of a stored document changes, so that old ones are computed again.
CONTENT_VERSION = 1


def task(**job_settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Job]]:
    """Make a method or function into a job that computes something worth keeping.

    Like ``jobflow.job``, but the job's uuid is a hash of the function and its inputs. A runner
    skips a task whose document the store already has (:func:`is_finished`).
    """
    return _addressed(is_task=True, job_settings=job_settings)


def step(**job_settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Job]]:
    """Make a function into a job that only decides what comes next; it runs every time.

    A step that may replace itself by a flow takes no ``output_schema``: jobflow then stores a
    reference to the flow's output, which no schema fits.
    """
    return _addressed(is_task=False, job_settings=job_settings)


def is_finished(candidate: Job, store: JobStore) -> bool:
    """Whether a job is a task whose document lies in the store."""
    if not candidate.metadata.get("task"):
        return False
    return store.count({"uuid": candidate.uuid, "index": candidate.index}) > 0


def content_key(value: Any) -> str:
    """Hash of a value's content: numbers to ten significant digits, versions left out."""
    canonical = json.dumps(_canonical(jsanitize(value, strict=True)), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _addressed(
    *, is_task: bool, job_settings: dict[str, Any]
) -> Callable[[Callable[..., Any]], Callable[..., Job]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Job]:
        make_job = job(function, **job_settings)

        @wraps(function)
        def make(*args: Any, **kwargs: Any) -> Job:
            new = make_job(*args, **kwargs)
            owner = getattr(new.function, "__self__", None)
            name = f"{function.__module__}.{function.__qualname__}"
            inputs = [CONTENT_VERSION, name, owner, new.function_args, new.function_kwargs]
            new.set_uuid(str(uuid.uuid5(_NAMESPACE, content_key(inputs))))
            new.metadata["task"] = is_task  # not update_metadata: children must not inherit it
            return new

        make.original = function  # type: ignore[attr-defined]  # what jobflow runs
        return make

    return decorate


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _canonical(v) for k, v in value.items() if k != "@version"}
    if isinstance(value, list):
        return [_canonical(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.10g}")
    return value
