"""What clusters do to jobs, on a real Slurm: each fault, what the user sees, and what is lost."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("jobflow_remote", reason="pip install 'lrlo[remote]'")

from jobflow import Flow

from lrlo.workflows.remote_project import lrlo_version
from lrlo.workflows.remote_queue import FailedJob
from lrlo.workflows.remote_run import cancel_study, retry_study
from lrlo.workflows.store import ResultStore, open_store

from ..mongo_double import MongoDouble
from ..workflows.mongodb import mongodb_uri
from .local_slurm import LocalSlurm
from .submitted import JOBS, Submitted, submitted

sys.path.insert(0, str(JOBS))  # workers import the jobs by the same name
import cluster_jobs as jobs


@pytest.fixture(scope="module")
def troubled(
    slurm: LocalSlurm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Submitted, ResultStore]]:
    """One flow with a job for every fault, run once for all tests of this module."""
    folder = tmp_path_factory.mktemp("faults")
    place = str(folder)
    fails, dies = jobs.fail(place), jobs.die(place)
    ended, cancelled = jobs.continued(place), jobs.compute(place, "cancelled", 300.0)
    after = jobs.check(fails.output, "nothing")
    one = jobs.branch(place, ["a", "b"], "one")
    two = jobs.branch(place, ["b", "c"], "two")
    checks = [jobs.check(one.output, "a+b"), jobs.check(two.output, "b+c")]
    others = [dies, ended, cancelled, after, jobs.relax_without_energy()]
    flow = Flow([fails, *others, one, two, *checks], name="faults")
    with mongodb_uri() as uri, submitted(folder, uri) as cluster:
        cluster.submit(flow)
        cluster.start()
        cluster.wait_for(lambda: cluster.process_of("compute"))
        slurm.command("scancel", cluster.process_of("compute") or "")
        cluster.wait_for(lambda: "part" in jobs.noted(folder) and cluster.process_of("continued"))
        slurm.expire(cluster.process_of("continued") or "")
        assert cluster.finish() == 1
        store = open_store(uri)
        yield cluster, store
        store.close()


def failed(cluster: Submitted, name: str) -> FailedJob:
    (found,) = (job for job in cluster.status().failed if job.name == name)
    return found


def test_a_traceback_reaches_the_status(troubled: tuple[Submitted, ResultStore]) -> None:
    job = failed(troubled[0], "fail")
    assert job.reason == "ValueError: the numbers do not add up"
    assert "Traceback" in job.trace
    assert "cluster_jobs.py" in job.trace


def test_energies_that_are_no_numbers_are_told_and_not_stored(
    troubled: tuple[Submitted, ResultStore],
) -> None:
    cluster, store = troubled
    reason = failed(cluster, "relax").reason
    assert reason.startswith("lrlo.workflows.backend.BackendError: structure 1 of 1 has energy nan")
    assert store.count({"name": "relax"}) == 0


def test_what_needs_a_failed_job_waits(troubled: tuple[Submitted, ResultStore]) -> None:
    assert troubled[0].status().counts["waiting for other jobs"] == 1


def test_a_cancelled_job_says_so(troubled: tuple[Submitted, ResultStore]) -> None:
    assert "cancelled" in failed(troubled[0], "compute").reason


def test_a_walltime_is_continued_from_the_checkpoint(
    troubled: tuple[Submitted, ResultStore],
) -> None:
    cluster, store = troubled
    ran = jobs.noted(cluster.folder)
    assert (ran.count("part"), ran.count("end")) == (1, 1)
    assert cluster.status().n_continued == 1
    (document,) = store.query({"name": "continued"}, load=True)
    assert document["output"] == 2


def test_a_killed_process_takes_no_other_job_with_it(
    troubled: tuple[Submitted, ResultStore],
) -> None:
    assert "SIGKILL" in failed(troubled[0], "die").reason
    expected = {"fail", "die", "compute", "relax"}
    assert {job.name for job in troubled[0].status().failed} == expected


def test_a_task_that_two_branches_ask_for_runs_once(
    troubled: tuple[Submitted, ResultStore],
) -> None:
    ran = jobs.noted(troubled[0].folder)
    assert [ran.count(word) for word in ("a", "b", "c")] == [1, 1, 1]
    assert [ran.count(f"branch-{name}") for name in ("one", "two")] == [1, 1]


def test_documents_are_as_a_local_run_stores_them(
    troubled: tuple[Submitted, ResultStore],
) -> None:
    (document,) = troubled[1].query({"name": "compute", "output": "a"}, load=True)
    assert document["digest"]
    assert document["metadata"]["task"] is True


def test_nothing_on_the_worker_tells_where_the_store_is(
    troubled: tuple[Submitted, ResultStore],
) -> None:
    cluster, _ = troubled
    files = [path for path in (cluster.folder / "work").rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if b"mongodb" in path.read_bytes()]
    assert "mongodb://" not in cluster.log()


def test_a_second_submission_computes_nothing_again(
    slurm: LocalSlurm, mongo_server: str, tmp_path: Path
) -> None:
    flow = Flow([jobs.compute(str(tmp_path), word) for word in ("x", "y")], name="again")
    with submitted(tmp_path, mongo_server) as cluster:
        for n_stored in (0, 2):
            copy = Flow([jobs.compute(str(tmp_path), word) for word in ("x", "y")], name="again")
            assert cluster.submit(copy) == (2, n_stored)
            cluster.start()
            assert cluster.finish() == 0
        assert cluster.status().n_stored == 2
    assert jobs.noted(tmp_path) == ["x", "y"]
    assert flow.jobs[0].uuid == copy.jobs[0].uuid


def test_a_killed_runner_goes_on(slurm: LocalSlurm, mongo_server: str, tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(4)]
    with submitted(tmp_path, mongo_server) as cluster:
        tasks = [jobs.compute(str(tmp_path), word, 1.0) for word in words]
        cluster.submit(Flow([*tasks, jobs.join([each.output for each in tasks])], name="kill"))
        cluster.start()
        cluster.wait_for(lambda: jobs.noted(tmp_path))
        cluster.kill()
        cluster.start()
        assert cluster.finish() == 0
        assert cluster.status().is_finished
    assert jobs.noted(tmp_path) == words


def test_cancel_and_retry(slurm: LocalSlurm, mongo_server: str, tmp_path: Path) -> None:
    with submitted(tmp_path, mongo_server) as cluster:
        path = tmp_path / "wait"
        path.touch()
        cluster.submit(Flow([jobs.until_removed(str(tmp_path), str(path))], name="cancel"))
        cluster.start()
        cluster.wait_for(lambda: jobs.noted(tmp_path) and cluster.process_of("until_removed"))
        assert cancel_study(tmp_path) == 1
        slurm.wait_until_idle()
        assert cluster.finish() == 1
        assert cluster.status().counts == {"cancelled": 1}
        path.unlink()
        assert retry_study(tmp_path) == 1
        cluster.start()
        assert cluster.finish() == 0
    assert jobs.noted(tmp_path) == ["until_removed", "until_removed"]


def test_a_scheduler_that_is_away_is_waited_for(
    slurm: LocalSlurm, mongo_server: str, tmp_path: Path
) -> None:
    with submitted(tmp_path, mongo_server) as cluster:
        first = jobs.compute(str(tmp_path), "first", 5.0)
        second = jobs.compute_after(str(tmp_path), "second", first.output)
        cluster.submit(Flow([first, second], name="away"))
        cluster.start()
        cluster.wait_for(lambda: jobs.noted(tmp_path))
        slurm.stop_controller()
        try:
            time.sleep(30)
            (trouble,) = cluster.status().troubles
            assert "Unable to contact slurm controller" in trouble
        finally:
            slurm.start_controller()
        assert cluster.finish(300) == 0
        assert cluster.status().is_finished
    assert jobs.noted(tmp_path) == ["first", "second"]


def test_a_worker_of_another_version_is_refused(
    slurm: LocalSlurm, mongo_server: str, tmp_path: Path
) -> None:
    """As if this side were upgraded: the worker, which is not, says so and where it is."""
    with submitted(tmp_path, mongo_server) as cluster:
        cluster.submit(Flow([jobs.compute(str(tmp_path), "word")], name="version"))
        (project,) = (tmp_path / "projects").glob("*.json")
        own = f"--version {lrlo_version()}"
        text = project.read_text()
        assert own in text
        project.write_text(text.replace(own, "--version 99.0"))
        cluster.start()
        assert cluster.finish() == 1
        reason = failed(cluster, "compute").reason
        assert reason.startswith(f"the worker has lrlo {lrlo_version()} ({sys.executable} on ")
        assert "the job was submitted with lrlo 99.0: install the same version" in reason
        project.write_text(text)
        assert retry_study(tmp_path) == 1
        cluster.start()
        assert cluster.finish() == 0
    assert jobs.noted(tmp_path) == ["word"]


@pytest.mark.slow
def test_a_database_that_is_away_is_waited_for(slurm: LocalSlurm, tmp_path: Path) -> None:
    with MongoDouble() as double, submitted(tmp_path, f"{double.uri}/away") as cluster:
        first = jobs.compute(str(tmp_path), "first", 5.0)
        second = jobs.compute_after(str(tmp_path), "second", first.output)
        cluster.submit(Flow([first, second], name="away"))
        cluster.start()
        cluster.wait_for(lambda: jobs.noted(tmp_path))
        double.stop()
        time.sleep(40)  # the job ends meanwhile
        double.start()
        assert cluster.finish(300) == 0
        assert "the database does not answer" in cluster.log()
        assert cluster.status().is_finished
    assert jobs.noted(tmp_path) == ["first", "second"]


@pytest.mark.slow
def test_a_walltime_is_continued_up_to_a_limit(
    slurm: LocalSlurm, mongo_server: str, tmp_path: Path
) -> None:
    limit = {"max_continuations": 0}
    with submitted(tmp_path, mongo_server, continuation=limit) as cluster:
        cluster.submit(Flow([jobs.continued(str(tmp_path))], name="limit"))
        cluster.start()
        cluster.wait_for(lambda: jobs.noted(tmp_path) and cluster.process_of("continued"))
        slurm.expire(cluster.process_of("continued") or "")
        assert cluster.finish() == 1
        assert "reached its walltime" in failed(cluster, "continued").reason
    assert jobs.noted(tmp_path) == ["part"]
