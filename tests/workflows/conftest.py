"""Stores of either kind, shared by the tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lrlo.workflows.store import ResultStore, open_store

from .mongodb import mongodb_uri


@pytest.fixture(params=["embedded", "mongodb"])
def any_location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a store may be opened; every test runs on both kinds."""
    if request.param == "embedded":
        yield str(tmp_path / "store.sqlite")
        return
    with mongodb_uri() as uri:
        yield uri


@pytest.fixture
def any_store(any_location: str) -> Iterator[ResultStore]:
    """Empty store of either kind."""
    opened = open_store(any_location)
    yield opened
    opened.close()
