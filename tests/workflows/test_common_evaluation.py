"""Tasks side by side: their structures meet in common calls, and nothing else of them does."""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from jobflow import Flow, Job
from pymatgen.io.ase import AseAtomsAdaptor

from lrlo.workflows.backend import AseBackend, BackendError, BackendSpec
from lrlo.workflows.common_evaluation import CommonEvaluation, SharedBackend
from lrlo.workflows.evaluation import Evaluation
from lrlo.workflows.interruption import Interrupted, deferred_signals
from lrlo.workflows.lanes import ThreadLanes
from lrlo.workflows.local_run import RunReport, run_flow
from lrlo.workflows.relax import RelaxMaker
from lrlo.workflows.store import ResultStore, open_store
from lrlo.workflows.study import read_study
from lrlo.workflows.study_flow import study_flow
from lrlo.workflows.study_model import model_study

from ..small_study import SMALL
from .test_task import Listener

EMT = BackendSpec(name="ase", calculator="ase.calculators.emt:EMT")


class Recording:
    """Backend that keeps how many structures every call had; silver it cannot do."""

    level_of_theory = AseBackend("ase.calculators.emt:EMT", {}).level_of_theory
    capabilities = AseBackend.capabilities

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def evaluate(
        self, structures: Sequence[Atoms], *, stress: bool = False, magmoms: bool = False
    ) -> list[Evaluation]:
        self.sizes.append(len(structures))
        if any("Ag" in atoms.symbols for atoms in structures):
            raise BackendError("no silver")
        return [Evaluation(float(atoms.positions[0, 0]), atoms.positions) for atoms in structures]


def together(*tasks: Callable[[], object], common: CommonEvaluation | None = None) -> list[object]:
    """What tasks that run side by side give, or the error that they end with."""
    meeting = common or CommonEvaluation()
    entered = [meeting.task() for _ in tasks]  # all are there before the first asks

    def run(entry, task):
        with entry:
            barrier.wait()
            try:
                return task()
            except (Exception, Interrupted) as error:
                return error

    from threading import Barrier

    barrier = Barrier(len(tasks))
    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, entered, tasks))


def asks(
    backend: SharedBackend, number: int, times: int, symbol: str = "Cu", **wanted: bool
) -> Callable[[], list[float]]:
    """Task that has structures evaluated one after the other."""

    def task() -> list[float]:
        energies = []
        for step in range(times):
            atoms = Atoms(symbol, positions=[[number + 0.01 * step, 0, 0]])
            energies.append(backend.evaluate([atoms], **wanted)[0].energy)
        return energies

    return task


def test_calls_of_running_tasks_are_one_call() -> None:
    """Three tasks of 4, 4 and 2 steps: three structures at a time, then two."""
    common, recording = CommonEvaluation(), Recording()
    backend = SharedBackend(recording, common)
    results = together(asks(backend, 1, 4), asks(backend, 2, 4), asks(backend, 3, 2), common=common)
    assert recording.sizes == [3, 3, 2, 2]
    for number, energies in enumerate(results, start=1):
        assert energies == pytest.approx([number + 0.01 * step for step in range(len(energies))])


def test_a_structure_that_cannot_be_evaluated_ends_its_own_task_alone() -> None:
    common = CommonEvaluation()
    backend = SharedBackend(Recording(), common)
    good, bad = together(asks(backend, 1, 3), asks(backend, 2, 3, "Ag"), common=common)
    assert good == pytest.approx([1, 1.01, 1.02])
    assert isinstance(bad, BackendError)


def test_what_is_asked_for_differently_is_not_mixed() -> None:
    common, recording = CommonEvaluation(), Recording()
    backend = SharedBackend(recording, common)
    together(asks(backend, 1, 2), asks(backend, 2, 2, stress=True), common=common)
    assert recording.sizes == [1, 1, 1, 1]


def test_stopped_tasks_end_at_their_next_call() -> None:
    common = CommonEvaluation()
    backend = SharedBackend(Recording(), common)
    common.stop()
    assert all(isinstance(r, Interrupted) for r in together(asks(backend, 1, 2), common=common))


def copper(seed: int) -> Job:
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.rattle(0.1, seed=seed)
    job = RelaxMaker(backend=EMT, relax_cell=False, fmax=0.01).make(
        AseAtomsAdaptor.get_structure(atoms)
    )
    job.name = f"copper {seed}"
    return job


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Structures of every call of EMT."""
    found: list[int] = []
    evaluate = AseBackend.evaluate

    def counted(self, structures, **wanted):
        found.append(len(structures))
        return evaluate(self, structures, **wanted)

    monkeypatch.setattr(AseBackend, "evaluate", counted)
    return found


def energies(store: ResultStore) -> dict[str, float]:
    found = store.query({"output.kind": "relax"})
    return {document["uuid"]: document["output"]["energy"] for document in found}


def test_relaxations_side_by_side_end_as_one_after_the_other(
    sizes: list[int], tmp_path: Path
) -> None:
    stores = []
    for n_lanes in (1, 3):
        sizes.clear()
        folder = tmp_path / str(n_lanes)
        folder.mkdir()
        stores.append(open_store(folder / "store.sqlite"))
        flow = Flow([copper(seed) for seed in range(5)])
        report = run_flow(flow, stores[-1], folder, Listener(), lanes=ThreadLanes(n_lanes))
        assert (report.failures, report.n_computed) == ([], 5)
        assert report.seconds_by_kind["relax"] > 0
        assert not list((folder / "checkpoints").glob("*.journal"))
        if n_lanes == 1:
            alone = list(sizes)
    assert energies(stores[0]) == energies(stores[1])
    assert len(energies(stores[0])) == 5
    assert sum(sizes) == sum(alone)  # nothing more is computed
    assert len(sizes) < 0.6 * len(alone)  # but in fewer calls
    assert max(sizes) == 3


def test_a_signal_stops_all_of_them_and_they_go_on(
    sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    whole = open_store(tmp_path / "whole" / "store.sqlite")
    run_flow(
        Flow([copper(s) for s in range(3)]),
        whole,
        tmp_path / "whole",
        Listener(),
        lanes=ThreadLanes(3),
    )
    n_whole = sum(sizes)
    sizes.clear()
    store = open_store(tmp_path / "store.sqlite")

    def run() -> RunReport:
        with deferred_signals():
            flow = Flow([copper(seed) for seed in range(3)])
            return run_flow(flow, store, tmp_path, Listener(), lanes=ThreadLanes(3))

    evaluate = AseBackend.evaluate

    def signalled(self, structures, **wanted):
        if max(sizes, default=0) == 3:  # all of them are there
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, structures, **wanted)

    with monkeypatch.context() as patch:
        patch.setattr(AseBackend, "evaluate", signalled)
        report = run()
    assert report.stopped_by == "SIGTERM"
    assert report.n_computed == 0
    assert len(list((tmp_path / "checkpoints").glob("*.journal"))) == 3
    report = run()
    assert (report.stopped_by, report.n_computed) == (None, 3)
    assert energies(store) == energies(whole)
    assert sum(sizes) == n_whole  # no evaluation was lost or made twice


def test_one_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    atoms = bulk("W", cubic=True)  # EMT has no tungsten
    bad = RelaxMaker(backend=EMT).make(AseAtomsAdaptor.get_structure(atoms))
    store = open_store(tmp_path / "store.sqlite")
    flow = Flow([copper(1), bad, copper(2)])
    report = run_flow(flow, store, tmp_path, Listener(), lanes=ThreadLanes(3))
    assert report.n_computed == 2
    assert len(report.failures) == 1
    assert "W" in report.failures[0].message


def test_a_study_side_by_side_has_the_results_of_one_in_order(tmp_path: Path) -> None:
    found = []
    text = SMALL.replace("per_class: 1", "per_class: 3").replace(
        "classes: [in_plane]", "classes: [in_plane, out_of_plane]"
    )
    for n_lanes in (1, 4):
        folder = tmp_path / str(n_lanes)
        folder.mkdir()
        (folder / "study.yaml").write_text(text)
        store = open_store(folder / "store.sqlite")
        flow = study_flow(model_study(read_study(folder / "study.yaml")))
        report = run_flow(flow, store, folder, Listener(), lanes=ThreadLanes(n_lanes))
        assert report.failures == []
        documents = [
            d["output"] for d in store.query({"output.kind": {"$in": ["state", "barrier"]}})
        ]
        for document in documents:
            document.pop("wall_time", None)
        found.append(sorted(documents, key=lambda d: (d["kind"], str(d.get("hop")))))
        assert len(documents) > 3
    np.testing.assert_equal(found[1], found[0])
