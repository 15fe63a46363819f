"""A real Slurm and a MongoDB (the double, or a real server) for the tests of clusters."""

from collections.abc import Iterator

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
