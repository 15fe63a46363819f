"""Stores of either kind and a small band, shared by the tests."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from lrlo.workflows.initial_path import initial_path
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


@pytest.fixture(scope="session")
def copper() -> list[Atoms]:
    """Five-image path of a Cu vacancy."""
    crystal = bulk("Cu", cubic=True).repeat(2)
    initial = crystal.copy()
    del initial[0]
    final = initial.copy()
    mover = int(np.argmin(crystal.get_distances(0, range(1, len(crystal)), mic=True)))
    step = crystal.get_distance(mover + 1, 0, mic=True, vector=True)
    final.positions[mover] += step
    for end in (initial, final):
        end.calc = EMT()
        BFGS(end, logfile=None).run(fmax=0.005)
        end.calc = None
    return initial_path(initial, final, 5)
