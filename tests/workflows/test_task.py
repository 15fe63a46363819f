from pathlib import Path

import pytest
from jobflow import Flow, Response

from lrlo.workflows.local_run import RunError, exclusive, is_running, run_flow
from lrlo.workflows.store import open_store
from lrlo.workflows.task import content_key, is_finished, step, task

CALLS: list[float] = []


@task()
def square(x: float) -> float:
    CALLS.append(x)
    if x < 0:
        raise ValueError("negative")
    return x * x


@step()
def add_squares(a: float, b: float):
    jobs = [square(a), square(b)]
    total = add([job.output for job in jobs])
    return Response(replace=Flow([*jobs, total], output=total.output))


@step()
def add(values: list[float]) -> float:
    return sum(values)


class Listener:
    def __init__(self) -> None:
        self.stored = 0

    def task_started(self, name: str) -> None: ...

    def task_step(self, message: str) -> None: ...

    def task_finished(self, name: str, *, stored: bool) -> None:
        self.stored += stored


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


def test_key_depends_on_content_only() -> None:
    assert square(2.0).uuid == square(2.0).uuid == square(2.0 + 1e-13).uuid
    assert square(2.0).uuid != square(2.1).uuid
    assert square(2.0).uuid != add_squares(2.0, 2.0).uuid
    assert content_key({"a": 1, "b": [2]}) == content_key({"b": [2], "a": 1})


def test_second_run_computes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite")
    first = add_squares(3.0, 4.0)
    report = run_flow(Flow([first]), store, tmp_path, Listener())
    assert report.n_computed == 2
    assert store.get_output(first.uuid, load=True) == 25
    n_documents = store.count()

    listener = Listener()
    again = open_store(tmp_path / "store.sqlite")
    report = run_flow(Flow([add_squares(3.0, 4.0)]), again, tmp_path, listener)
    assert (report.n_computed, report.n_stored, listener.stored) == (0, 2, 2)
    assert CALLS == [3.0, 4.0]
    assert again.count() == n_documents  # a rerun does not grow the store


def test_only_what_changed_is_computed_again(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite")
    run_flow(Flow([add_squares(3.0, 4.0)]), store, tmp_path, Listener())
    run_flow(Flow([add_squares(3.0, 5.0)]), store, tmp_path, Listener())
    assert CALLS == [3.0, 4.0, 5.0]


def test_failure_leaves_out_what_depends_on_it_and_keeps_the_rest(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite")
    bad, good = square(-1.0), square(6.0)
    needs_bad = add([bad.output])
    report = run_flow(Flow([bad, needs_bad, good]), store, tmp_path, Listener())
    assert [failure.message for failure in report.failures] == ["ValueError: negative"]
    assert "Traceback" in report.failures[0].trace
    assert report.n_left_out == 1
    assert is_finished(good, store)
    assert not is_finished(bad, store)


def test_long_chains_have_no_limit(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite")
    first = count_down(1500)
    report = run_flow(Flow([first]), store, tmp_path, Listener())
    assert report.failures == []


@step()
def count_down(n: int):
    if n == 0:
        return "done"
    following = count_down(n - 1)
    return Response(replace=Flow([following], output=following.output))


def test_one_process_per_folder(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(RunError, match="another process"), exclusive(tmp_path):
            pass
    assert not is_running(tmp_path)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"), exclusive(tmp_path / "file" / "x"):
        pass
