"""What workers run, without a scheduler."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("jobflow_remote", reason="pip install 'lrlo[remote]'")

from jobflow import Job, JobStore
from jobflow_remote.jobs.batch import RemoteBatchManager
from jobflow_remote.remote.data import get_job_path, get_remote_in_file, get_remote_store
from jobflow_remote.remote.host import LocalHost
from maggma.stores import MemoryStore
from monty.json import MontyDecoder, jsanitize

from lrlo.workflows.remote_execution import run_batch, run_job
from lrlo.workflows.remote_files import JobFile

from .submitted import JOBS

sys.path.insert(0, str(JOBS))
import cluster_jobs as jobs


@pytest.fixture
def placed(tmp_path: Path) -> Callable[[Job], Path]:
    """Puts the files of a job where a runner puts them."""

    def place(job: Job) -> Path:
        folder = Path(get_job_path(job.uuid, job.index, tmp_path / "jobs"))
        folder.mkdir(parents=True)
        store = get_remote_store(JobStore(MemoryStore()), folder, None)
        written = get_remote_in_file(jsanitize(job.as_dict(), strict=True), store)
        (folder / "jfremote_in.json").write_bytes(written.read())
        return folder

    return place


def answer(folder: Path) -> dict:
    return json.loads((folder / "jfremote_out.json").read_text())


def test_another_version_is_named_and_refused(
    placed: Callable[[Job], Path], tmp_path: Path
) -> None:
    folder = placed(jobs.compute(str(tmp_path), "x"))
    run_job(folder, version="0.0.7")
    error = answer(folder)["error"]
    assert "the worker has lrlo " in error
    assert "submitted with lrlo 0.0.7" in error
    assert os.uname().nodename in error
    assert jobs.noted(tmp_path) == []


def test_a_job_that_is_started_twice_runs_once(
    placed: Callable[[Job], Path], tmp_path: Path
) -> None:
    folder = placed(jobs.compute(str(tmp_path), "x"))
    for _ in range(2):
        run_job(folder)
    assert answer(folder)["response"]
    assert jobs.noted(tmp_path) == ["x"]
    os.utime(folder / "jfremote_in.json")  # it was sent again
    run_job(folder)
    assert jobs.noted(tmp_path) == ["x", "x"]


def test_a_job_that_was_killed_runs_again(placed: Callable[[Job], Path], tmp_path: Path) -> None:
    folder = placed(jobs.compute(str(tmp_path), "x"))
    (folder / "jfremote_out.json").write_text('{"start_time": 0}')  # what a killed one leaves
    run_job(folder)
    assert jobs.noted(tmp_path) == ["x"]


def test_the_file_of_a_job_that_runs_again_holds_one_document(tmp_path: Path) -> None:
    for n in (1, 2):
        file = JobFile(str(tmp_path / "remote_job_data.json"))
        file.connect()
        file.update({"uuid": "a", "index": 1, "n": n}, key=["uuid", "index"])
        file.update({"uuid": "b", "index": 1}, key=["uuid", "index"])
        # It is not closed: the process is killed.
    again = MontyDecoder().process_decoded(file.as_dict())
    again.connect()
    assert list(again.query()) == [{"uuid": "a", "index": 1, "n": 2}, {"uuid": "b", "index": 1}]


def test_a_batch_runs_all_and_survives_what_dies(
    placed: Callable[[Job], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(JOBS))
    (tmp_path / "batch").mkdir()
    monkeypatch.chdir(tmp_path / "batch")
    handles = RemoteBatchManager(LocalHost(), tmp_path / "handles")
    flow = [jobs.compute(str(tmp_path), word) for word in "abc"]
    flow += [jobs.die(str(tmp_path)), jobs.fail(str(tmp_path))]
    folders = {}
    for job in flow:
        folders[job.name] = placed(job)
        handles.submit_job(job.uuid, job.index)
    run_batch(tmp_path / "jobs", tmp_path / "handles", "uid", max_wait=0.5)
    assert jobs.noted(tmp_path) == ["a", "b", "c", "die", "fail"]
    assert len(handles.get_run_finished()) == 5
    assert handles.get_running() == []
    assert "SIGKILL" in (folders["die"] / "queue.err").read_text()
    assert "the numbers do not add up" in answer(folders["fail"])["error"]
    assert "end_time" in json.loads((tmp_path / "batch" / "batch_info.json").read_text())


def test_a_batch_stops_after_enough_jobs(
    placed: Callable[[Job], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(JOBS))
    (tmp_path / "batch").mkdir()
    monkeypatch.chdir(tmp_path / "batch")
    handles = RemoteBatchManager(LocalHost(), tmp_path / "handles")
    for word in "abcd":
        job = jobs.compute(str(tmp_path), word)
        placed(job)
        handles.submit_job(job.uuid, job.index)
    settings = {"max_jobs": 3, "parallel": 2, "max_wait": 0.5}
    run_batch(tmp_path / "jobs", tmp_path / "handles", "uid", **settings)
    assert len(jobs.noted(tmp_path)) == 3
    assert len(handles.get_submitted()) == 1
