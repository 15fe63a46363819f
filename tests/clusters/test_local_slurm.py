"""The cluster of the tests does what the other tests rely on."""

import time
from pathlib import Path

import pytest

from .local_slurm import PARTITION, LocalSlurm


def submit(slurm: LocalSlurm, folder: Path, *lines: str) -> str:
    script = folder / "job.sh"
    script.write_text("\n".join(["#!/bin/bash", *lines, ""]))
    out = slurm.command(
        *("sbatch", "--parsable", f"--partition={PARTITION}", f"--chdir={folder}"),
        *("--output=out", "--error=err", str(script)),
    )
    return out.strip()


def test_a_job_runs(slurm: LocalSlurm, tmp_path: Path) -> None:
    submit(slurm, tmp_path, "echo from the node")
    slurm.wait_until_idle()
    assert (tmp_path / "out").read_text() == "from the node\n"


@pytest.mark.slow
def test_a_job_at_its_time_limit_is_ended_with_the_reason(
    slurm: LocalSlurm, tmp_path: Path
) -> None:
    job = submit(slurm, tmp_path, "touch started", "sleep 60")
    while not (tmp_path / "started").exists():
        time.sleep(0.05)
    slurm.expire(job)
    slurm.wait_until_idle()
    assert "DUE TO TIME LIMIT" in (tmp_path / "err").read_text()
