"""Faults of machines on a real Slurm: memory, nodes, full and read-only disks."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jobflow_remote", reason="pip install 'lrlo[remote]'")

from jobflow import Flow

from lrlo.workflows.profile import read_profile
from lrlo.workflows.remote_queue import FailedJob
from lrlo.workflows.remote_run import renew_project, retry_study

from .local_slurm import PARTITION, LocalSlurm
from .studies import profile
from .submitted import JOBS, Submitted, submitted

sys.path.insert(0, str(JOBS))  # workers import the jobs by the same name
import cluster_jobs as jobs


def only_failed(cluster: Submitted) -> FailedJob:
    (found,) = cluster.status().failed
    return found


RESOURCES = {"partition": PARTITION, "time": "00:10:00"}
#: Less than a job here uses, and enough for one that uses nothing.
LITTLE = {"default": {**RESOURCES, "memory": "400MB"}}


def test_memory(slurm: LocalSlurm, mongo_server: str, tmp_path: Path) -> None:
    """Told, other jobs go on, and a retry with more memory in the profile does the job."""
    with submitted(tmp_path, mongo_server, resources=LITTLE) as cluster:
        job = jobs.use_memory(str(tmp_path), 2000)
        after = jobs.compute_after(str(tmp_path), "after", job.output)
        cluster.submit(Flow([job, after, jobs.compute(str(tmp_path), "other")], name="memory"))
        cluster.start()
        assert cluster.finish() == 1
        failed = only_failed(cluster)
        assert failed.reason.startswith("The job used more memory than it asked for")
        assert "memory limit" in failed.trace
        assert jobs.noted(tmp_path) == ["other", "use_memory"]
        much = {"default": {**RESOURCES, "memory": "4GB"}}
        setup = f"export OMP_NUM_THREADS=1 PYTHONPATH={JOBS}"
        renew_project(tmp_path, read_profile(profile(tmp_path, resources=much, setup=setup)))
        assert retry_study(tmp_path) == 1
        cluster.start()
        assert cluster.finish() == 0
    assert jobs.noted(tmp_path) == ["after", "other", "use_memory", "use_memory"]


def test_memory_of_a_batch(slurm: LocalSlurm, mongo_server: str, tmp_path: Path) -> None:
    """The scheduler ends the whole batch; what it had finished stays, and the rest is told."""
    batch = {"tasks": 100, "kinds": ["decide", "default"], "wait": 2}
    with submitted(tmp_path, mongo_server, resources=LITTLE, batch=batch) as cluster:
        first = jobs.compute(str(tmp_path), "first")
        job = jobs.use_memory_after(str(tmp_path), 2000, first.output)
        cluster.submit(Flow([first, job], name="memory"))
        cluster.start()
        assert cluster.finish() == 1
        assert cluster.status().counts == {"completed": 1, "failed": 1}
        reason = "The job used more memory than it asked for"
        assert only_failed(cluster).reason.startswith(reason)
        (tmp_path / "enough").touch()
        assert retry_study(tmp_path) == 1
        cluster.start()
        assert cluster.finish() == 0
    assert jobs.noted(tmp_path) == ["first", "use_memory", "use_memory"]


def test_a_node_that_fails(slurm: LocalSlurm, mongo_server: str, tmp_path: Path) -> None:
    path = tmp_path / "wait"
    path.touch()
    no_requeue = {"default": {**RESOURCES, "extra": ["#SBATCH --no-requeue"]}}
    with submitted(tmp_path, mongo_server, resources=no_requeue) as cluster:
        cluster.submit(Flow([jobs.until_removed(str(tmp_path), str(path))], name="node"))
        cluster.start()
        cluster.wait_for(lambda: jobs.noted(tmp_path) and cluster.process_of("until_removed"))
        slurm.fail_node()
        try:
            assert cluster.finish() == 1
        finally:
            slurm.repair_node()
        assert only_failed(cluster).reason.startswith("The node of the job failed")
        path.unlink()
        assert retry_study(tmp_path) == 1
        cluster.start()
        assert cluster.finish() == 0
    assert jobs.noted(tmp_path) == ["until_removed", "until_removed"]


def test_a_job_that_slurm_starts_again(
    slurm: LocalSlurm, mongo_server: str, tmp_path: Path
) -> None:
    """Where the site lets Slurm put jobs of a failed node back into the queue, all goes on."""
    path = tmp_path / "wait"
    path.touch()
    with submitted(tmp_path, mongo_server) as cluster:
        cluster.submit(Flow([jobs.until_removed(str(tmp_path), str(path))], name="node"))
        cluster.start()
        cluster.wait_for(lambda: jobs.noted(tmp_path) and cluster.process_of("until_removed"))
        number = cluster.process_of("until_removed")
        slurm.fail_node()
        slurm.repair_node()
        slurm.command("scontrol", "update", f"JobId={number}", "StartTime=now")
        cluster.wait_for(lambda: len(jobs.noted(tmp_path)) == 2)
        path.unlink()
        assert cluster.finish() == 0
        assert cluster.status().is_finished


def test_a_job_that_fills_the_disk(
    slurm: LocalSlurm, mongo_server: str, small_disk: Path, tmp_path: Path
) -> None:
    with submitted(tmp_path, mongo_server, work_dir=str(small_disk)) as cluster:
        large = small_disk / "large"
        job = jobs.write(str(tmp_path), str(large), 2)
        cluster.submit(Flow([job], name="disk"))
        cluster.start()
        assert cluster.finish() == 1
        assert only_failed(cluster).reason == "OSError: [Errno 28] No space left on device"
        large.unlink()
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        assert retry_study(tmp_path) == 1
        cluster.start()
        assert cluster.finish() == 0


@pytest.mark.parametrize(
    ("fault", "said"),
    [("full", "No space left on device"), ("read-only", "Could not create remote directory")],
)
def test_a_work_folder_that_takes_nothing(
    slurm: LocalSlurm, mongo_server: str, small_disk: Path, tmp_path: Path, fault: str, said: str
) -> None:
    """Jobs are sent again by themselves until it does; the status says what is wrong."""
    ballast = small_disk / "ballast"
    with submitted(tmp_path, mongo_server, work_dir=str(small_disk)) as cluster:
        cluster.submit(Flow([jobs.compute(str(tmp_path), "word")], name="disk"))
        if fault == "full":
            with pytest.raises(OSError, match="No space left"):
                ballast.write_bytes(bytes(2 * 1024**2))
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        cluster.start()
        cluster.wait_for(lambda: cluster.status().troubles)
        (trouble,) = cluster.status().troubles
        assert said in trouble
        ballast.unlink() if fault == "full" else subprocess.run(
            ["mount", "-o", "remount,rw", str(small_disk)], check=True
        )
        assert cluster.finish() == 0
        assert cluster.status().troubles == {}
    assert jobs.noted(tmp_path) == ["word"]
