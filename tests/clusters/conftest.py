"""A real Slurm and a MongoDB (the double, or a real server) for the tests of clusters."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..workflows.mongodb import mongodb_uri
from .local_slurm import LocalSlurm, why_no_slurm


@pytest.fixture(scope="session")
def slurm() -> Iterator[LocalSlurm]:
    """Slurm of one node; skipped with the reason where it cannot be started."""
    reason = why_no_slurm()
    if reason is not None:
        pytest.skip(reason)
    with LocalSlurm() as cluster:
        yield cluster


@pytest.fixture
def mongo_server() -> Iterator[str]:
    """URI of a fresh MongoDB database."""
    with mongodb_uri() as uri:
        yield uri


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Folder on a file system of its own of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
