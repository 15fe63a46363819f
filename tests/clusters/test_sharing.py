"""A submitted study and another run that meet the same new task on one store."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("jobflow_remote", reason="pip install 'lrlo[remote]'")

from jobflow import Flow

from lrlo.workflows.claims import CLAIM_STORE, claim_key
from lrlo.workflows.local_run import exclusive, run_flow
from lrlo.workflows.remote_run import cancel_study
from lrlo.workflows.store import ResultStore, open_store

from ..workflows.test_claims import Listener
from .local_slurm import LocalSlurm
from .submitted import JOBS, submitted

sys.path.insert(0, str(JOBS))  # workers import the jobs by the same name
import cluster_jobs as jobs


def n_claims(store: ResultStore) -> int:
    return int(store.docs_store._collection.database[CLAIM_STORE].count_documents({}))


def test_a_runner_leaves_a_task_to_another_run(
    slurm: LocalSlurm, mongo_server: str, tmp_path: Path
) -> None:
    """Said by the status; when the other gives it up without a result it is computed."""
    store = open_store(mongo_server)
    theirs, ours = (jobs.compute(str(tmp_path), word) for word in ("theirs", "ours"))
    last = jobs.compute_after(str(tmp_path), "last", theirs.output)
    with store.claims() as claims, submitted(tmp_path, mongo_server) as cluster:
        assert claims.take(claim_key(theirs.uuid, 1)) is None
        cluster.submit(Flow([theirs, ours, last], name="shared"))
        cluster.start()
        cluster.wait_for(lambda: cluster.status().counts.get("completed") == 1)
        cluster.wait_for(lambda: cluster.status().holders)
        ((holder, n),) = cluster.status().holders.items()
        assert (f"process {claims._own.pid} on " in holder, n) == (True, 1)
        assert cluster.status().counts == {
            "waiting for other jobs": 1,
            "completed": 1,
            "left to another run, which computes the same for this store": 1,
        }
        assert jobs.noted(tmp_path) == ["ours"]
        claims.release_all()
        assert cluster.finish() == 0
    assert jobs.noted(tmp_path) == ["last", "ours", "theirs"]
    assert n_claims(store) == 0


def test_another_run_leaves_a_task_to_a_runner(
    slurm: LocalSlurm, mongo_server: str, tmp_path: Path
) -> None:
    """Also over a kill of the runner, which takes its claims back when it starts again."""
    store = open_store(mongo_server)
    path = tmp_path / "wait"
    path.touch()

    class Finishing(Listener):
        def task_held(self, name: str, holder: str) -> None:
            super().task_held(name, holder)
            path.unlink(missing_ok=True)

    listener = Finishing()
    with submitted(tmp_path, mongo_server) as cluster:
        cluster.submit(Flow([jobs.until_removed(str(tmp_path), str(path))], name="shared"))
        cluster.start()
        cluster.wait_for(lambda: jobs.noted(tmp_path))
        cluster.kill()
        cluster.start()
        assert cluster.runner is not None
        new = {"pid": cluster.runner.pid}
        found = store.docs_store._collection.database[CLAIM_STORE]
        cluster.wait_for(lambda: found.count_documents(new))
        with exclusive(tmp_path / "local") as run:
            flow = Flow([jobs.until_removed(str(tmp_path), str(path))])
            report = run_flow(flow, store, tmp_path / "local", listener, run)
        assert cluster.finish() == 0
    assert (report.n_computed, report.n_stored, len(listener.held)) == (0, 1, 1)
    assert jobs.noted(tmp_path) == ["until_removed"]
    assert n_claims(store) == 0


def test_failed_and_cancelled_jobs_keep_no_claim(
    slurm: LocalSlurm, mongo_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(mongo_server)
    path = tmp_path / "wait"
    path.touch()
    waits = jobs.until_removed(str(tmp_path), str(path))
    with submitted(tmp_path, mongo_server) as cluster:
        cluster.submit(Flow([jobs.fail(str(tmp_path)), waits], name="ends"))
        cluster.start()
        cluster.wait_for(lambda: any(job.reason for job in cluster.status().failed))
        cluster.wait_for(lambda: len(jobs.noted(tmp_path)) == 2 and n_claims(store) == 1)
        assert cancel_study(tmp_path) == 1
        assert n_claims(store) == 0
    slurm.wait_until_idle()
