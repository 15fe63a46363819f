"""A cluster that is reached by ssh: a real sshd on loopback in front of the real Slurm."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("jobflow_remote", reason="pip install 'lrlo[remote]'")

from jobflow import Flow

from lrlo.workflows.remote_project import project_of, without_input

from ..workflows.mongodb import mongodb_uri
from .local_slurm import LocalSlurm
from .local_ssh import HOST, LocalSSH, why_no_ssh
from .studies import lrlo, profile, settings, study
from .submitted import JOBS, submitted

sys.path.insert(0, str(JOBS))  # workers import the jobs by the same name
import cluster_jobs as jobs


@pytest.fixture(scope="module")
def ssh(slurm: LocalSlurm) -> Iterator[LocalSSH]:
    """sshd whose logins know the Slurm of the tests."""
    reason = why_no_ssh()
    if reason is not None:
        pytest.skip(reason)
    with LocalSSH(SLURM_CONF=str(slurm.configuration)) as server:
        yield server


#: The command, whose runner looks as often as at a scheduler of its own machine.
QUICK = """
from lrlo.workflows import remote_runner
for pauses in (remote_runner._PAUSE, remote_runner._SCHEDULER_PAUSE):
    pauses[False] = pauses[True]
from lrlo.cli import main
main()
"""
SUBMIT = ("submit", "study.yaml", "--profile", "./test.yaml", "--wait")


def login(ssh: LocalSSH) -> dict[str, object]:
    return {"host": HOST, "port": ssh.port, "user": "root", "key": str(ssh.key)}


@pytest.fixture(scope="module")
def finished(
    ssh: LocalSSH, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str, str]]:
    """Folder, store and output of a study that was submitted by ssh."""
    folder = tmp_path_factory.mktemp("ssh")
    profile(folder, **login(ssh))
    study(folder)
    with mongodb_uri() as uri:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", QUICK, *SUBMIT],
            cwd=folder,
            env={**os.environ, **settings(folder, uri), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield folder, uri, done.stdout


def test_the_profile_is_checked_over_ssh(ssh: LocalSSH, mongo_server: str, tmp_path: Path) -> None:
    profile(tmp_path, **login(ssh))
    done = lrlo("profile", "check", "./test.yaml", folder=tmp_path, store=mongo_server)
    assert done.exit_code == 0, done.stdout + done.stderr
    assert f"ok      connection: {HOST}" in done.stdout
    for subject in ("work folder", "scheduler", "partitions", "Python", "lrlo", "jobflow-remote"):
        assert f"ok      {subject}: " in done.stdout


def test_an_installed_project_reaches_the_machine(
    ssh: LocalSSH, mongo_server: str, tmp_path: Path
) -> None:
    profile(tmp_path, **login(ssh))
    done = lrlo("profile", "install", "./test.yaml", folder=tmp_path, store=mongo_server)
    assert done.exit_code == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "projects").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    project = project_of(json.loads(path.read_text()))
    with without_input():
        for worker in project.workers.values():
            assert worker.type == "remote"
            host = worker.get_host()
            host.connect()
            out, _, code = host.execute("echo $SSH_CONNECTION")
            assert (out.split()[3], code) == (str(ssh.port), 0)
            host.close()


def test_a_wrong_key_is_told(ssh: LocalSSH, mongo_server: str, tmp_path: Path) -> None:
    profile(tmp_path, **{**login(ssh), "key": str(ssh.base / "host_key")})
    done = lrlo("profile", "check", "./test.yaml", folder=tmp_path, store=mongo_server)
    assert done.exit_code == 1
    assert "missing connection: " in done.stdout
    assert f"'ssh -p {ssh.port} -i {ssh.base / 'host_key'} root@{HOST} true' has to work" in (
        done.stdout
    )
    assert "Traceback" not in done.stdout + done.stderr


def test_a_study_is_completed_over_ssh(finished: tuple[Path, str, str]) -> None:
    folder, uri, out = finished
    assert "5 jobs submitted with the profile test" in out
    status = lrlo("status", "study.yaml", folder=folder, store=uri).stdout
    assert "7 jobs completed" in status
    found = lrlo("query", "states", "--format", "json", folder=folder, store=uri)
    (row,) = json.loads(found.stdout)
    assert row["state"] == "pristine"
    fetched = lrlo("fetch", "study.yaml", folder=folder, store=uri)
    assert fetched.exit_code == 0, fetched.stderr
    again = lrlo("run", "study.yaml", folder=folder, store="smallest/store.sqlite")
    assert "0 tasks computed, 2 were stored" in again.stdout, again.stdout + again.stderr


def test_files_of_the_far_side_tell_no_store(finished: tuple[Path, str, str]) -> None:
    folder, _uri, _ = finished
    files = [path for path in (folder / "work").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if b"mongodb" in path.read_bytes()]


@pytest.mark.slow
def test_failures_are_told_over_ssh(
    ssh: LocalSSH, slurm: LocalSlurm, mongo_server: str, tmp_path: Path
) -> None:
    """A traceback, and the scheduler's reason."""
    with submitted(tmp_path, mongo_server, **login(ssh)) as cluster:
        cluster.submit(
            Flow([jobs.fail(str(tmp_path)), jobs.compute(str(tmp_path), "w", 300.0)], name="f")
        )
        cluster.start()
        cluster.wait_for(lambda: cluster.process_of("compute"))
        slurm.command("scancel", cluster.process_of("compute") or "")
        assert cluster.finish() == 1
        reasons = {job.name: job.reason for job in cluster.status().failed}
    assert reasons["fail"] == "ValueError: the numbers do not add up"
    assert "cancelled by its owner" in reasons["compute"]


@pytest.mark.slow
def test_a_connection_that_is_cut_is_made_again(
    ssh: LocalSSH, slurm: LocalSlurm, mongo_server: str, tmp_path: Path
) -> None:
    with submitted(tmp_path, mongo_server, **login(ssh)) as cluster:
        first = jobs.compute(str(tmp_path), "first", 5.0)
        second = jobs.compute_after(str(tmp_path), "second", first.output)
        cluster.submit(Flow([first, second], name="cut"))
        cluster.start()
        cluster.wait_for(lambda: jobs.noted(tmp_path))
        ssh.stop()
        try:
            cluster.wait_for(lambda: cluster.status().troubles)
        finally:
            ssh.start()
        assert cluster.finish(300) == 0
        assert cluster.status().is_finished
    assert jobs.noted(tmp_path) == ["first", "second"]
