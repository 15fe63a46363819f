"""Projects: workers by kind, scripts of every scheduler, and secrets in private files only."""

import json
from pathlib import Path

import pytest

pytest.importorskip("jobflow_remote", reason="pip install 'lrlo[remote]'")

from qtoolkit.io import scheduler_mapping

from lrlo.workflows.profile import Kind, read_profile
from lrlo.workflows.remote_project import (
    RemoteError,
    install_project,
    project_settings,
    read_project,
    scheduler_options,
    store_of,
)
from lrlo.workflows.remote_runner import script_name
from lrlo.workflows.store_location import StoreLocation

from ..grid_engine import directives, verify, why_no_qsub
from .studies import profile

SECRET = StoreLocation("mongodb://me:top-secret@db.example/lrlo?authSource=admin")


@pytest.fixture(autouse=True)
def _projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JFREMOTE_PROJECTS_FOLDER", str(tmp_path / "projects"))


def test_every_kind_has_its_worker_and_small_ones_share_one() -> None:
    workers = project_settings(read_profile("slurm"), SECRET)["workers"]
    assert set(workers) == {"relax", "neb", "bonding", "default", "batch"}
    assert workers["neb"]["resources"]["time"] == "1-00:00:00"
    assert workers["bonding"]["resources"]["ntasks"] == 16
    assert workers["batch"]["batch"]["max_jobs_per_batch"] == 100
    assert workers["batch"]["batch"]["max_time"] == 0.8 * 4 * 3600
    assert workers["batch"]["max_jobs"] == 2


def test_workers_of_another_host_are_reached_by_ssh() -> None:
    workers = project_settings(read_profile("site_cpu_vasp"), SECRET)["workers"]
    relax = workers["relax"]
    assert (relax["type"], relax["host"], relax["user"]) == (
        *("remote", "login.cluster.example", "me"),
    )
    assert relax["work_dir"] == "/scratch/me/lrlo/jobs"
    lines = relax["pre_run"].splitlines()
    assert lines.index("module load vasp/6.4.3") > lines.index("module purge")
    assert "export ATOMATE2_VASP_CMD='srun --cpu-bind=cores vasp_std'" in lines
    assert "vasp/6.4.3" not in workers["default"]["pre_run"]


@pytest.mark.parametrize(
    ("name", "kind", "lines"),
    [
        (
            *("slurm", Kind.BONDING),
            [
                *("#SBATCH --partition=compute", "#SBATCH --job-name=job", "#SBATCH --nodes=1"),
                *("#SBATCH --ntasks=16", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=32768M"),
                "#SBATCH --time=12:00:00",
            ],
        ),
        (
            *("site_gpu_ml", Kind.RELAX),
            [
                *("#SBATCH --partition=gpu", "#SBATCH --job-name=job", "#SBATCH --nodes=1"),
                *("#SBATCH --ntasks=1", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=32768M"),
                *("#SBATCH --time=04:00:00", "#SBATCH --account=project123", "#SBATCH --gpus=1"),
            ],
        ),
        (
            *("pbs", Kind.BONDING),
            [
                *("#PBS -q workq", "#PBS -N job"),
                "#PBS -l select=1:ncpus=16:mpiprocs=16:mem=32768mb",
                "#PBS -l walltime=12:00:00",
            ],
        ),
        (
            *("sge", Kind.NEB),
            [
                *("#$ -q all.q", "#$ -N job", "#$ -l h_vmem=1024M", "#$ -l h_rt=24:00:00"),
                "#$ -pe smp 16",
            ],
        ),
    ],
)
def test_headers_of_scripts(name: str, kind: Kind, lines: list[str]) -> None:
    chosen = read_profile(name)
    options = scheduler_options(chosen.scheduler, chosen.resources_of(kind))
    writer = scheduler_mapping[chosen.scheduler.value]()
    script = writer.get_submission_script(["true"], {**options, "job_name": "job"})
    written = [line for line in script.splitlines() if line]
    assert written == ["#!/bin/bash", *lines, "true"]


def test_grid_engine_understands_what_jobflow_remote_submits(tmp_path: Path) -> None:
    if (reason := why_no_qsub()) is not None:
        pytest.skip(reason)
    chosen = read_profile("sge")
    options = scheduler_options(chosen.scheduler, chosen.resources_of(Kind.NEB))
    script = scheduler_mapping["sge"]().get_submission_script(["true"], options)
    understood = verify(script, tmp_path)
    assert understood.returncode == 0, understood.stderr
    said = directives(understood)
    assert said["hard resource_list"] == "h_vmem=1024M,h_rt=24:00:00"
    assert said["parallel environment"] == "smp range: 16"
    assert said["hard_queue_list"] == "all.q"


def test_lsf_goes_with_bundles_only() -> None:
    with pytest.raises(RemoteError, match=r"does not submit to lsf, only to slurm.*--bundle"):
        install_project(read_profile("lsf"), SECRET)


def test_a_queue_needs_mongodb(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match=r"needs MongoDB.*--bundle"):
        install_project(read_profile("slurm"), StoreLocation(str(tmp_path / "store.sqlite")))


def test_the_file_is_private_and_refused_if_it_is_not(tmp_path: Path) -> None:
    path = install_project(read_profile(profile(tmp_path)), SECRET, "my study")
    assert path.stat().st_mode & 0o777 == 0o600
    name = json.loads(path.read_text())["name"]
    assert name == "lrlo_test_my-study"
    assert store_of(read_project(name)).address == SECRET.address
    path.chmod(0o644)
    with pytest.raises(RemoteError, match="can be read by others") as caught:
        read_project(name)
    assert "top-secret" not in str(caught.value)


def test_a_wrong_uri_is_not_shown(tmp_path: Path) -> None:
    wrong = StoreLocation("mongodb://me:top-secret@db.example:port/lrlo")
    with pytest.raises(RemoteError, match="cannot be read") as caught:
        install_project(read_profile(profile(tmp_path)), wrong)
    assert "top-secret" not in str(caught.value)


def test_a_missing_project_is_named() -> None:
    with pytest.raises(RemoteError, match="there is no project"):
        read_project("none")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("relax the host", "relax_the_host"),
        ("state $(touch x)`id`\n#SBATCH --uid=0", "state_touch_x_id_SBATCH_--uid_0"),
        ("日本", "job"),
    ],
)
def test_names_of_jobs_are_safe_in_scripts(name: str, safe: str) -> None:
    assert script_name(name) == safe
