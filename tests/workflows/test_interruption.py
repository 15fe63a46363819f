"""A run that a scheduler asks to stop loses nothing, says so, and ends as if never stopped."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from lrlo.workflows.interruption import (
    EXIT_CONTINUE,
    STOP_SIGNALS,
    Interrupted,
    deferred_signals,
    stop_if_asked,
)
from lrlo.workflows.local_run import RunReport, run_flow
from lrlo.workflows.progress import report_step
from lrlo.workflows.store import ResultStore, open_store
from lrlo.workflows.study import read_study
from lrlo.workflows.study_flow import study_flow
from lrlo.workflows.study_model import model_study

from ..small_study import SMALL, is_in_a_band

RESULTS = {"output.kind": {"$in": ["state", "barrier"]}}


class Listener:
    """Sends this process a signal at a step of a task, as a scheduler would."""

    def __init__(self, at: str | None = None, number: signal.Signals = signal.SIGTERM) -> None:
        self.at, self.number = at, number
        self.steps: list[str] = []

    def task_started(self, name: str) -> None:
        self.task_step(name)

    def task_step(self, message: str) -> None:
        self.steps.append(message)
        if self.at is not None and message.startswith(self.at):
            os.kill(os.getpid(), self.number)

    def task_finished(self, name: str, *, stored: bool) -> None:
        self.steps.append(f"finished {name}")


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_waits_for_a_safe_point(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with deferred_signals():
        stop_if_asked()  # nobody has asked
        os.kill(os.getpid(), number)
        time.sleep(0.01)  # and nothing happens here, where something might be half written
        with pytest.raises(Interrupted, match=number.name):
            report_step("between two evaluations")
    assert signal.getsignal(number) == before
    stop_if_asked()  # the next run starts anew


def test_an_interruption_is_no_failure_of_a_task() -> None:
    assert not issubclass(Interrupted, Exception)


def run(folder: Path, store: ResultStore, listener: Listener) -> RunReport:
    flow = study_flow(model_study(read_study(folder / "study.yaml")))
    with deferred_signals():
        return run_flow(flow, store, folder, listener)


def results(store: ResultStore) -> list[dict]:
    """Everything that was found, without what depends on the clock."""
    found = [document["output"] for document in store.query(RESULTS)]
    for document in found:
        document.pop("wall_time", None)
    return sorted(found, key=lambda document: document["kind"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunReport, list[dict]]:
    """Report and results of the small study, never stopped."""
    return run_whole(tmp_path_factory.mktemp("whole"), SMALL)


def run_whole(folder: Path, text: str) -> tuple[RunReport, list[dict]]:
    (folder / "study.yaml").write_text(text)
    store = open_store(folder / "store.sqlite")
    report = run(folder, store, Listener())
    assert report.stopped_by is None
    assert {each["kind"] for each in results(store)} == {"state", "barrier"}
    return report, results(store)


def test_a_run_stopped_in_a_band_ends_as_one_never_stopped(
    whole: tuple[RunReport, list[dict]], tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(SMALL)
    store = open_store(tmp_path / "store.sqlite")
    listener = Listener("band step 5,", signal.SIGUSR1)
    stopped = run(tmp_path, store, listener)
    assert stopped.stopped_by == "SIGUSR1"
    assert not stopped.failures
    assert listener.steps[-1].startswith("band step 5,")  # at once, not at the end of the band
    assert len(list((tmp_path / "checkpoints").glob("*.journal"))) == 1
    assert set(store.distinct("uuid")) == stopped.uuids  # what is said to be there is there

    resumed = run(tmp_path, store, Listener())
    assert not resumed.failures
    assert resumed.n_stored >= stopped.n_computed
    assert resumed.n_computed + stopped.n_computed == whole[0].n_computed
    assert not list((tmp_path / "checkpoints").glob("*.journal"))
    assert results(store) == whole[1]


def test_a_program_that_the_signal_killed_too_is_no_failure(tmp_path: Path) -> None:
    """Schedulers signal every process of a job, programs that a task runs included."""
    (tmp_path / "study.yaml").write_text(SMALL)

    class Killed(Listener):
        def task_step(self, message: str) -> None:
            super().task_step(message)
            if message.startswith("band step 2,"):
                os.kill(os.getpid(), signal.SIGTERM)
                raise ChildProcessError("the program was killed by signal 15")

    report = run(tmp_path, open_store(tmp_path / "store.sqlite"), Killed())
    assert report.stopped_by == "SIGTERM"
    assert not report.failures


@dataclass(frozen=True)
class Ended:
    """A process that has ended, and what it printed."""

    returncode: int
    said: str


def lrlo_run(folder: Path, *, at_band: signal.Signals | None = None) -> Ended:
    """A finished ``lrlo run``, sent a signal as soon as it is in a band."""
    environment = {**os.environ, "COLUMNS": "400", "PYTHONWARNINGS": "ignore"}
    environment.pop("LRLO_STORE", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "lrlo", "run", "study.yaml"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 600
    journals = folder / "small" / "checkpoints"
    while at_band and not any(is_in_a_band(each) for each in journals.glob("*.journal")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    if at_band:
        process.send_signal(at_band)
    said = process.communicate(timeout=600)[0]
    return Ended(process.returncode, said)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SMALL, id="lennard-jones"),
        pytest.param(SMALL.split("backend:")[0], id="emulator", marks=pytest.mark.slow),
    ],
)
def test_the_command_says_continue_me(
    whole: tuple[RunReport, list[dict]], tmp_path: Path, text: str
) -> None:
    expected = whole[1] if text == SMALL else run_whole(tmp_path, text)[1]
    folder = tmp_path / "stopped"
    folder.mkdir()
    (folder / "study.yaml").write_text(text)
    stopped = lrlo_run(folder, at_band=signal.SIGTERM)
    assert stopped.returncode == EXIT_CONTINUE == 75, stopped.said
    assert "stopped by SIGTERM" in stopped.said
    assert "Traceback" not in stopped.said
    assert len(list(folder.glob("small/checkpoints/*.journal"))) == 1
    table = folder / "small" / "tables" / "states.csv"  # what there is was written
    assert "pristine" in table.read_text()
    resumed = lrlo_run(folder)
    assert resumed.returncode == 0, resumed.said
    assert results(open_store(folder / "small" / "store.sqlite")) == expected
