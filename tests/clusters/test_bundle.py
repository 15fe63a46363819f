"""Bundles on a real Slurm, without MongoDB: warned, continued, finished, merged and asked.

The studies use weak Lennard-Jones bonds, which leave the cell as it was built: every stage takes
its course in seconds, and the numbers mean nothing.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lrlo.analysis.query import find_rows
from lrlo.workflows.archive import export_study, import_archive
from lrlo.workflows.bundle import bundle_status
from lrlo.workflows.store import open_store
from lrlo.workflows.store_check import check_store

from ..small_study import SMALL, is_in_a_band
from .local_slurm import PARTITION, LocalSlurm

#: The same, as slow as real forces: Slurm looks at walltimes every half minute.
SLOW_SMALL = SMALL.replace("ase.calculators.lj:LennardJones", "slow_bonds:SlowLennardJones")
SLOW_BONDS = """
import time
from ase.calculators.lj import LennardJones


class SlowLennardJones(LennardJones):
    def calculate(self, *arguments, **settings):
        time.sleep(0.5)
        super().calculate(*arguments, **settings)
"""


def lrlo(*arguments: str, folder: Path, code: int = 0) -> str:
    environment = {**os.environ, "COLUMNS": "400", "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = str(folder)  # of slow_bonds
    environment.pop("LRLO_STORE", None)
    done = subprocess.run(
        [sys.executable, "-m", "lrlo", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def write(folder: Path, study: str = SMALL, **changes: object) -> None:
    """Study and profile of the cluster of the tests."""
    profile = {
        "name": "test",
        "description": "the cluster of the tests",
        "scheduler": "slurm",
        "work_dir": str(folder),
        "setup": f"export OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore PYTHONPATH={folder}",
        "python": sys.executable,
        "resources": {"default": {"partition": PARTITION, "time": "00:30:00"}},
        **changes,
    }
    (folder / "study.yaml").write_text(study)
    (folder / "slow_bonds.py").write_text(SLOW_BONDS)
    (folder / "test.yaml").write_text(yaml.safe_dump(profile))


def submit(folder: Path, *options: str) -> str:
    """Number of the job of the last part."""
    said = lrlo(
        *("submit", "study.yaml", "--profile", "./test.yaml", "--bundle", "--now", *options),
        folder=folder,
    )
    return re.findall(r"Submitted batch job (\d+)", said)[-1]


def wait_for(condition, message: str, timeout: float = 120.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, message
        time.sleep(0.02)


def status(folder: Path) -> list[tuple[str, str]]:
    """Job and message of every line of a part's status file."""
    path = folder / "status.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(line.split(" job ", 1)[1].split(": ", 1)) for line in lines]  # type: ignore[misc]


def in_a_band(part: Path) -> bool:
    journals = part.glob("results/checkpoints/*.journal")
    return any(is_in_a_band(journal) for journal in journals)


def merged(folder: Path, *parts: Path) -> list[dict]:
    """Barriers of parts, asked for in another store."""
    store = open_store(folder / "merged.sqlite")
    for number, part in enumerate(parts):
        archive = folder / f"{number}.zip"
        export_study(open_store(part / "results" / "store.sqlite"), "small", archive)
        import_archive(store, archive)
    assert check_store(store).is_sound
    return find_rows([store], "barriers")


def test_a_warned_job_goes_on_by_itself_and_its_results_are_merged(
    slurm: LocalSlurm, tmp_path: Path
) -> None:
    write(tmp_path)
    first = submit(tmp_path)
    part = tmp_path / "small-bundle" / "all"
    wait_for(lambda: in_a_band(part), "no band was begun")
    # what Slurm does for --signal=B:USR1@180, only now
    slurm.command("scancel", "--batch", "--signal=USR1", first)
    slurm.wait_until_idle(120)
    said = status(part)
    second = said[-1][0]
    assert second != first
    node = said[0][1]
    assert node.startswith("running on ")
    assert said == [
        (first, node),
        (first, "goes on in another job, continuation 1 of 3"),
        (second, node),
        (second, "finished"),
    ]
    assert "stopped by SIGUSR1" in (part / f"job.{first}.log").read_text()
    assert "finished" in bundle_status(tmp_path / "small-bundle")[0].last
    went_on(part, second)
    [barrier] = merged(tmp_path, part)
    assert barrier["study"] == "small"
    assert barrier["status"] == "several_saddles"
    assert not list(part.glob("results/checkpoints/*.journal"))


def goes_on(slurm: LocalSlurm, part: Path) -> None:
    """A part that was ended is submitted again by hand, and finishes."""
    slurm.command("sbatch", f"--chdir={part}", str(part / "job.sh"))
    slurm.wait_until_idle(120)
    job, message = status(part)[-1]
    assert message == "finished"
    went_on(part, job)


def went_on(part: Path, job: str) -> None:
    """Assert that a job found what the jobs before it had stored."""
    stored = re.findall(r"(\d+) were stored", (part / f"job.{job}.log").read_text())
    assert int(stored[-1]) > 3


@pytest.mark.slow
def test_a_real_walltime_is_survived(slurm: LocalSlurm, tmp_path: Path) -> None:
    """Two seeds take longer than the minute that Slurm gives; it warns ahead of that."""
    text = SLOW_SMALL.replace("seed: 3", "seed: [3, 4]")
    resources = {"default": {"partition": PARTITION, "time": "00:01:00"}}
    write(tmp_path, text, resources=resources, continuation={"max_continuations": 30})
    submit(tmp_path)
    part = tmp_path / "small-bundle" / "all"
    slurm.wait_until_idle(1800)
    said = [message for _, message in status(part)]
    assert said[-1] == "finished"
    assert said.count("finished") == 1
    assert sum(message.startswith("goes on in another job") for message in said) >= 1
    assert {row["seed"] for row in merged(tmp_path, part)} == {3, 4}


@pytest.mark.slow
def test_a_cancelled_job_stays_away_and_says_so(slurm: LocalSlurm, tmp_path: Path) -> None:
    write(tmp_path)
    job = submit(tmp_path)
    part = tmp_path / "small-bundle" / "all"
    wait_for(lambda: in_a_band(part), "no band was begun")
    slurm.command("scancel", job)
    slurm.wait_until_idle(120)
    assert "goes on" not in "".join(message for _, message in status(part))
    assert "cancelled" in lrlo("bundle", "small-bundle", folder=tmp_path)
    goes_on(slurm, part)


@pytest.mark.slow
def test_a_killed_job_is_explained(slurm: LocalSlurm, tmp_path: Path) -> None:
    """The time is over without a warning, as when an operator shortens it."""
    write(tmp_path, SLOW_SMALL, resources={"default": {"partition": PARTITION}})
    job = submit(tmp_path)
    part = tmp_path / "small-bundle" / "all"
    wait_for(lambda: in_a_band(part), "no band was begun")
    slurm.expire(job)
    slurm.wait_until_idle(120)
    assert "DUE TO TIME LIMIT" in (part / f"job.{job}.log").read_text()
    assert "reached its walltime" in lrlo("bundle", "small-bundle", folder=tmp_path)
    goes_on(slurm, part)


@pytest.mark.slow
def test_parts_that_ran_apart_are_one_study_when_merged(slurm: LocalSlurm, tmp_path: Path) -> None:
    text = SMALL.replace("seed: 3", "seed: [3, 4]")
    write(tmp_path, text)
    submit(tmp_path, "--split")
    slurm.wait_until_idle(300)
    parts = [tmp_path / "small-bundle" / f"seed-{seed}" for seed in (3, 4)]
    assert [status(part)[-1][1] for part in parts] == ["finished"] * 2
    rows = merged(tmp_path, *parts)
    assert sorted(row["seed"] for row in rows) == [3, 4]
    # the merged store is the study's: running it there computes nothing
    again = lrlo(
        *("run", "study.yaml", "--store", "merged.sqlite", "--folder", "whole"), folder=tmp_path
    )
    assert "0 tasks computed" in again
    refused = lrlo("run", "study.yaml", "--replicate", "seed 9", folder=tmp_path, code=1)
    assert "no replicate 'seed 9'; allowed: 'seed 3', 'seed 4'" in refused
    shown = lrlo("show", "study.yaml", "--store", "merged.sqlite", folder=tmp_path)
    assert shown.count("charged") >= 2


@pytest.mark.slow
def test_a_node_that_dies_loses_nothing(slurm: LocalSlurm, tmp_path: Path) -> None:
    """SIGKILL of everything, as a node that loses power; submitted again, it goes on."""
    write(tmp_path)
    job = submit(tmp_path)
    part = tmp_path / "small-bundle" / "all"
    wait_for(lambda: in_a_band(part), "no band was begun")
    slurm.command("scancel", "--full", f"--signal={signal.SIGKILL.name}", job)
    slurm.wait_until_idle(120)
    # the script may see its program die before it dies itself
    assert status(part)[-1][1].startswith(("running on ", "cancelled or preempted"))
    goes_on(slurm, part)


def test_a_job_that_uses_too_much_memory_is_explained(slurm: LocalSlurm, tmp_path: Path) -> None:
    write(tmp_path, resources={"default": {"partition": PARTITION, "memory": "100MB"}})
    job = submit(tmp_path)
    part = tmp_path / "small-bundle" / "all"
    slurm.wait_until_idle(120)
    said = lrlo("bundle", "small-bundle", folder=tmp_path)
    assert "used more memory than it asked for" in said, (part / f"job.{job}.log").read_text()
    assert "goes on in another job" not in said


@pytest.mark.slow
def test_a_node_that_slurm_finds_dead(slurm: LocalSlurm, tmp_path: Path) -> None:
    """Slurm puts the job back into its queue, where sites allow it; it goes on by itself."""
    write(tmp_path)
    job = submit(tmp_path)
    part = tmp_path / "small-bundle" / "all"
    wait_for(lambda: in_a_band(part), "no band was begun")
    slurm.fail_node()
    slurm.repair_node()
    slurm.command("scontrol", "update", f"JobId={job}", "StartTime=now")
    slurm.wait_until_idle(180)
    assert status(part)[-1] == (job, "finished")
    went_on(part, job)


@pytest.mark.slow
def test_a_full_disk(slurm: LocalSlurm, small_disk: Path) -> None:
    """What was stored stays; with room, the part goes on."""
    write(small_disk)
    submit(small_disk)
    part = small_disk / "small-bundle" / "all"
    slurm.wait_until_idle(120)
    said = lrlo("bundle", "small-bundle", folder=small_disk)
    assert "failed with exit code 1" in said
    assert "The disk or the quota is full: make room" in said
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    goes_on(slurm, part)
