"""The band benchmark judges by a reference of its own, and says what is missed."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from ase import Atoms
from ase.build import bulk
from ase.optimize import BFGS

from lrlo.workflows.backend import Backend, BackendCalculator, load_backend
from lrlo.workflows.initial_path import initial_path

FILE = Path(__file__).parents[1] / "benchmarks" / "neb.py"


@pytest.fixture(scope="module")
def neb() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_neb", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def emt(neb: ModuleType) -> Backend:
    return load_backend(neb.BACKENDS["emt"])


def relaxed(atoms: Atoms, backend: Backend) -> Atoms:
    atoms.calc = BackendCalculator(backend)
    assert BFGS(atoms, logfile=None).run(fmax=0.01, steps=100)
    atoms.calc = None
    return atoms


@pytest.fixture(scope="module")
def vacancy_path(neb: ModuleType, emt: Backend) -> list[Atoms]:
    """Hop into a vacancy of 32 sites of copper, three images."""
    atoms = bulk("Cu", cubic=True, a=3.61).repeat(2)
    ends = neb.end_states(atoms, [0], neb.neighbours(atoms, 0, "Cu", 2.7)[0])
    return initial_path(*(relaxed(atoms, emt) for atoms in ends), 3)


def test_the_dimer_finds_from_a_rough_band_the_barrier_of_a_tight_one(neb, emt, vacancy_path):
    tight, _ = neb.by_ase(vacancy_path, emt, "fire", neb.TIGHT_FMAX)
    rough, band = neb.by_ase(vacancy_path, emt, "fire", neb.TIGHT_FMAX, steps=3)
    row = neb.saddle(band, emt)
    assert tight["converged"]
    assert not rough["converged"]
    assert row["converged"]
    assert row["curvature_eV_per_A2"] < 0
    assert row["barrier_eV"] == pytest.approx(tight["barrier_eV"], abs=0.001)


def test_a_saddle_of_another_hop_is_no_reference(neb, emt, vacancy_path):
    _, band = neb.by_ase(vacancy_path, emt, "fire", neb.FMAX, steps=3)
    elsewhere = band[0].copy()
    far = neb.neighbours(elsewhere, 0, "Cu", 10.0)[-1]
    elsewhere.positions[far] += (1.0, 0.6, 0.3)  # a Frenkel pair
    elsewhere.calc = BackendCalculator(emt)
    band[-1] = elsewhere
    row = neb.saddle(band, emt)
    assert not row["joins_end_states"]
    assert not row["converged"]


def test_atomate2_is_stopped_in_time(neb, vacancy_path):
    pytest.importorskip("atomate2")
    row = neb.atomate2([image.copy() for image in vacancy_path], limit=0.0)
    assert row["stopped"]
    assert not row["converged"]
    assert "barrier_eV" not in row


GOOD = {
    "ours": {"converged": True, "barrier_eV": 1.0, "calls_per_image": 6.0, "seconds": 5.0},
    "tight": {"converged": True, "barrier_eV": 1.004},
    "fire": {"converged": True, "barrier_eV": 1.02, "calls_per_image": 30.0},
    "atomate2": {"converged": False, "stopped": True, "seconds": 60.0},
}


@pytest.mark.parametrize(
    ("driver", "change", "said"),
    [
        ("ours", {}, ""),
        ("ours", {"converged": False}, "not converged"),
        ("tight", {"barrier_eV": 1.006}, "-6 meV"),
        ("tight", {"converged": False}, "no tight barrier"),
        ("fire", {"calls_per_image": 12.0}, "0.50 of FIRE"),
        ("atomate2", {"seconds": 39.0}, "not 8 times"),
    ],
)
def test_what_is_missed_is_said(neb, driver, change, said):
    row = {**GOOD, driver: {**GOOD[driver], **change}}
    problems = neb.missed({"hop": row})
    assert len(problems) == bool(said)
    assert all(said in problem for problem in problems)
