"""A relaxation that was stopped goes on where it was."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from jobflow import Flow
from pymatgen.io.ase import AseAtomsAdaptor

from lrlo.workflows.backend import AseBackend, BackendSpec, load_backend
from lrlo.workflows.checkpoint import EvaluationJournal
from lrlo.workflows.interruption import deferred_signals
from lrlo.workflows.journaled_backend import JournaledBackend
from lrlo.workflows.local_run import RunReport, run_flow
from lrlo.workflows.relax import RelaxMaker
from lrlo.workflows.store import open_store

EMT = BackendSpec(name="ase", calculator="ase.calculators.emt:EMT")


class Counting:
    """Backend that counts what it computes."""

    def __init__(self) -> None:
        self._backend = load_backend(EMT)
        self.level_of_theory = self._backend.level_of_theory
        self.capabilities = self._backend.capabilities
        self.n = 0

    def evaluate(self, structures, *, stress=False, magmoms=False):
        self.n += len(structures)
        return self._backend.evaluate(structures, stress=stress, magmoms=magmoms)


def crystals() -> list[Atoms]:
    made = []
    for step in range(4):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=step)
        made.append(atoms)
    return made


@pytest.mark.parametrize("stress", [False, True])
def test_answers_are_those_of_the_backend_bit_for_bit(tmp_path: Path, stress: bool) -> None:
    path = tmp_path / "task.journal"
    direct = [Counting().evaluate([atoms], stress=stress)[0] for atoms in crystals()]
    for n_before in (0, 2, 4):  # how many the journal has already
        path.unlink(missing_ok=True)
        first = JournaledBackend(Counting(), EvaluationJournal(path))
        for atoms in crystals()[:n_before]:
            first.evaluate([atoms], stress=stress)
        backend = Counting()
        second = JournaledBackend(backend, EvaluationJournal(path))
        for atoms, expected in zip(crystals(), direct, strict=True):
            [found] = second.evaluate([atoms], stress=stress)
            assert found.energy == expected.energy
            assert np.array_equal(found.forces, expected.forces)
            assert (found.stress is None) == (not stress)
            if expected.stress is not None:
                assert np.array_equal(found.stress, expected.stress)
        assert backend.n == 4 - n_before


def test_energies_alone_do_not_answer_for_stress(tmp_path: Path) -> None:
    path = tmp_path / "task.journal"
    atoms = crystals()[0]
    JournaledBackend(Counting(), EvaluationJournal(path)).evaluate([atoms])
    backend = Counting()
    [found] = JournaledBackend(backend, EvaluationJournal(path)).evaluate([atoms], stress=True)
    assert backend.n == 1
    assert found.stress is not None


def test_another_cell_is_another_question(tmp_path: Path) -> None:
    path = tmp_path / "task.journal"
    atoms = crystals()[0]
    JournaledBackend(Counting(), EvaluationJournal(path)).evaluate([atoms])
    larger = atoms.copy()
    larger.set_cell(atoms.cell * 1.01)  # the same positions
    backend = Counting()
    JournaledBackend(backend, EvaluationJournal(path)).evaluate([larger])
    assert backend.n == 1


class Stopping:
    """Listener that has the run stopped at a step of its task."""

    def __init__(self, at: str | None = None) -> None:
        self.at = at

    def task_started(self, name: str) -> None:
        pass

    def task_step(self, message: str) -> None:
        if self.at is not None and message.startswith(self.at):
            os.kill(os.getpid(), signal.SIGTERM)

    def task_finished(self, name: str, *, stored: bool) -> None:
        pass


@pytest.mark.parametrize("relax_cell", [False, True])
def test_a_stopped_relaxation_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relax_cell: bool
) -> None:
    computed = 0
    evaluate = AseBackend.evaluate

    def counted(self, structures, **wanted):
        nonlocal computed
        computed += len(structures)
        return evaluate(self, structures, **wanted)

    monkeypatch.setattr(AseBackend, "evaluate", counted)
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.rattle(0.1, seed=1)
    structure = AseAtomsAdaptor.get_structure(atoms)

    def run(folder: str, at: str | None = None) -> tuple[RunReport, int, list[dict]]:
        nonlocal computed
        computed = 0
        job = RelaxMaker(backend=EMT, relax_cell=relax_cell, fmax=0.01).make(structure)
        store = open_store(tmp_path / folder / "store.sqlite")
        with deferred_signals():
            report = run_flow(Flow([job]), store, tmp_path / folder, Stopping(at))
        return report, computed, list(store.query({}, load=True))

    for folder in ("whole", "stopped"):
        (tmp_path / folder).mkdir()
    _, n_whole, [whole] = run("whole")
    report, n_first, none = run("stopped", at="step 5,")
    assert report.stopped_by == "SIGTERM"
    assert none == []
    _, n_second, [resumed] = run("stopped")
    assert 5 < n_first < n_whole
    assert n_first + n_second == n_whole  # nothing was computed twice
    assert not list(tmp_path.glob("stopped/checkpoints/*"))
    for name in ("energy", "structure", "max_force", "n_force_calls", "converged"):
        assert resumed["output"][name] == whole["output"][name]
