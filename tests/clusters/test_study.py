"""A study submitted by the command, completed on a real Slurm, asked for, and fetched."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("jobflow_remote", reason="pip install 'lrlo[remote]'")

from ..workflows.mongodb import mongodb_uri
from .local_slurm import LocalSlurm
from .studies import SMALLEST, lrlo, lrlo_process, profile, study


@pytest.fixture(scope="module")
def finished(
    slurm: LocalSlurm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str, str]]:
    """Folder, store and output of the submitted study."""
    folder = tmp_path_factory.mktemp("study")
    profile(folder)
    study(folder)
    with mongodb_uri() as uri:
        done = lrlo_process(
            *("submit", "study.yaml", "--profile", "./test.yaml", "--wait"),
            folder=folder,
            store=uri,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield folder, uri, done.stdout


def test_the_study_is_submitted_and_completed(finished: tuple[Path, str, str]) -> None:
    folder, uri, out = finished
    assert "5 jobs submitted with the profile test" in out
    status = lrlo("status", "study.yaml", folder=folder, store=uri).stdout
    assert "7 jobs completed" in status
    assert "1 states and 0 barriers stored" in status


def test_its_results_are_asked_for_like_any_other(finished: tuple[Path, str, str]) -> None:
    folder, uri, _ = finished
    found = lrlo("query", "states", "--format", "json", folder=folder, store=uri)
    (row,) = json.loads(found.stdout)
    assert row["state"] == "pristine"
    assert row["O4/(O4+O5)"] == 1.0


def test_fetched_results_are_a_finished_local_study(finished: tuple[Path, str, str]) -> None:
    folder, uri, _ = finished
    fetched = lrlo("fetch", "study.yaml", folder=folder, store=uri)
    assert fetched.exit_code == 0, fetched.stderr
    assert "0 were there" in fetched.stdout
    again = lrlo("run", "study.yaml", folder=folder, store="smallest/store.sqlite")
    assert "0 tasks computed, 2 were stored" in again.stdout, again.stdout + again.stderr
    assert (folder / "smallest" / "report.html").exists()


def test_files_hold_no_secret_or_are_private(finished: tuple[Path, str, str]) -> None:
    folder, uri, _ = finished
    (project,) = (folder / "projects").glob("*.json")
    assert project.stat().st_mode & 0o777 == 0o600
    assert uri in project.read_text()
    others = [p for p in folder.rglob("*") if p.is_file() and p != project]
    assert not [path for path in others if uri.encode() in path.read_bytes()]


def test_log_retry_and_cancel_have_nothing_to_do(finished: tuple[Path, str, str]) -> None:
    folder, uri, _ = finished
    assert "no job has failed" in lrlo("log", "study.yaml", folder=folder, store=uri).stdout
    wrong = lrlo("retry", "study.yaml", "77", folder=folder, store=uri)
    assert wrong.exit_code == 1
    assert wrong.stderr == "error: no failed or cancelled job has the number 77\n"
    again = ("retry", "study.yaml", "--profile")
    assert "0 jobs start again" in lrlo(*again, "./test.yaml", folder=folder, store=uri).stdout
    other = lrlo(*again, "slurm", folder=folder, store=uri)
    assert other.exit_code == 1
    assert "was submitted with the profile test, not with slurm" in other.stderr
    assert "0 jobs cancelled" in lrlo("cancel", "study.yaml", folder=folder, store=uri).stdout


def test_a_profile_that_works_is_checked(slurm: LocalSlurm, mongo_server: str, tmp_path) -> None:
    profile(tmp_path)
    done = lrlo("profile", "check", "./test.yaml", folder=tmp_path, store=mongo_server)
    assert done.exit_code == 0, done.stdout + done.stderr
    for subject in ("store", "connection", "scheduler", "partitions", "Python", "lrlo"):
        assert f"ok      {subject}: " in done.stdout


def test_what_a_profile_misses_is_said(slurm: LocalSlurm, tmp_path: Path) -> None:
    profile(
        tmp_path,
        resources={"default": {"partition": "nowhere", "time": "00:10:00"}},
        python="/nowhere/python",
        commands={"vasp": "srun vasp_std"},
    )
    store = str(tmp_path / "store.sqlite")
    done = lrlo("profile", "check", "./test.yaml", folder=tmp_path, store=store)
    assert done.exit_code == 1
    assert "missing partitions: no partition nowhere" in done.stdout
    assert "name one of debug in resources" in done.stdout
    assert "missing Python: /nowhere/python: " in done.stdout
    assert "missing vasp: vasp_std not found" in done.stdout
    assert f"missing store: {store} is no MongoDB database" in done.stdout
    refused = lrlo("profile", "install", "./test.yaml", folder=tmp_path, store=store)
    assert refused.exit_code == 1
    assert "error: the queue of a cluster needs MongoDB" in refused.stderr
    assert "--bundle" in refused.stderr


def test_nothing_was_submitted(tmp_path: Path) -> None:
    study(tmp_path, SMALLEST)
    for command in ("log", "cancel", "retry", "fetch"):
        done = lrlo(command, "study.yaml", folder=tmp_path, store="mongodb://localhost:1/none")
        assert done.exit_code == 1
        assert done.stderr.startswith("error: no study was submitted from ")
        assert "Traceback" not in done.stderr
