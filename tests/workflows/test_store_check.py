"""Damage of every kind is found, and only what was asked for is removed."""

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jobflow import Flow
from monty.json import jsanitize

from lrlo.analysis.barrier import PathStatus
from lrlo.workflows.local_run import run_flow
from lrlo.workflows.provenance import record_run
from lrlo.workflows.store import BLOB_STORE, ResultStore, open_store
from lrlo.workflows.store_check import check_store, remove_damaged, remove_orphans
from lrlo.workflows.task import task

from ..analysis.documents import barrier_of, migrated_state


class Silent:
    def task_started(self, name: str) -> None: ...

    def task_step(self, message: str) -> None: ...

    def task_finished(self, name: str, *, stored: bool) -> None: ...


@task(data=["path"])
def walk(n: int) -> dict[str, Any]:
    return {"path": list(range(n)), "n": n}


def plain(result: Any) -> dict[str, Any]:
    """Output as a job stores it."""
    return jsanitize(result, strict=True, enum_values=True)


def fill(store: ResultStore, folder: Path) -> list[str]:
    """Two tasks with large data, a state and a barrier; keys of the tasks."""
    jobs = [walk(3), walk(4)]
    report = run_flow(Flow(jobs), store, folder, Silent())
    assert report.failures == []
    for uuid, output in (("s", migrated_state()), ("b", barrier_of(PathStatus.CONVERGED))):
        store.update({"uuid": uuid, "index": 1, "name": uuid, "output": plain(output)})
    record_run(store, "s", "k", {}, [job.uuid for job in jobs])
    return [job.uuid for job in jobs]


def change(store: ResultStore, uuid: str, **changes: Any) -> None:
    """Change a document behind the back of the store."""
    document = store.docs_store.query_one({"uuid": uuid}, {"_id": 0})
    store.docs_store.update({**document, **changes}, key=["uuid", "index"])


def test_sound_store(any_store: ResultStore, tmp_path: Path) -> None:
    fill(any_store, tmp_path)
    report = check_store(any_store)
    assert report.is_sound
    assert (report.n_documents, report.n_blobs, report.n_unverified) == (5, 2, 0)
    assert report.lines() == ["5 documents, 2 large data", "sound"]


def test_changed_output(any_store: ResultStore, tmp_path: Path) -> None:
    tasks = fill(any_store, tmp_path)
    output = any_store.query_one({"uuid": tasks[0]})["output"]
    change(any_store, tasks[0], output={**output, "n": 99})
    report = check_store(any_store)
    assert [(d.uuid, d.index) for d in report.damaged] == [(tasks[0], 1)]
    assert "not what its digest says" in report.damaged[0].reason
    assert report.lines()[-1] == "damaged"
    assert any_store.count() == 5  # a check changes nothing
    assert remove_damaged(any_store, report) == 1
    assert any_store.count() == 4
    run_flow(Flow([walk(3)]), any_store, tmp_path, Silent())
    assert check_store(any_store).is_sound


def test_missing_and_changed_large_data(any_store: ResultStore, tmp_path: Path) -> None:
    tasks = fill(any_store, tmp_path)
    blobs = any_store.additional_stores[BLOB_STORE]
    blobs.remove_docs({"job_uuid": tasks[0]})
    blob = blobs.query_one({"job_uuid": tasks[1]})
    blobs.update({**blob, "data": [0]}, key="blob_uuid")
    reasons = {d.uuid: d.reason for d in check_store(any_store).damaged}
    assert reasons == {
        tasks[0]: "1 of its large data are missing",
        tasks[1]: "1 of its large data were changed",
    }


def test_orphans_are_removed_only_when_asked_and_old_enough(
    any_store: ResultStore, tmp_path: Path
) -> None:
    tasks = fill(any_store, tmp_path)
    blobs = any_store.additional_stores[BLOB_STORE]
    any_store.docs_store.remove_docs({"uuid": tasks[0]})
    blobs.update(
        {"blob_uuid": "of another program", "data": 1, "job_uuid": "x", "job_index": 1},
        key="blob_uuid",
    )
    report = check_store(any_store)
    assert report.is_sound
    assert len(report.orphans) == 2
    assert "2 large data belong to no document" in report.lines()
    assert blobs.count() == 3
    # what was just written may be waiting for its document
    assert remove_orphans(any_store, report) == ["of another program"]
    assert len(remove_orphans(any_store, check_store(any_store), older_than=timedelta(0))) == 1
    assert blobs.count() == 1
    assert check_store(any_store).orphans == []
    assert any_store.query_one({"uuid": tasks[1]}, load=True)["output"]["path"] == [0, 1, 2, 3]


def test_documents_of_other_programs_are_not_verified(any_store: ResultStore) -> None:
    any_store.docs_store.update({"uuid": "a", "index": 1, "output": {"n": 1}}, key="uuid")
    report = check_store(any_store)
    assert report.is_sound
    assert report.n_unverified == 1
    assert "1 documents have no digest to verify them by" in report.lines()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"uuid": 7, "index": 1}, "lacks uuid and index"),
        ({"uuid": "a", "index": "one"}, "lacks uuid and index"),
        ({"uuid": "a"}, "lacks uuid and index"),
        ({"uuid": "a", "index": 1, "metadata": {"task": True}}, "uuid is no content key"),
        ({"uuid": "a", "index": 1, "output": 1, "digest": None}, "not what its digest says"),
    ],
)
def test_forms_that_documents_must_have(
    any_store: ResultStore, document: dict[str, Any], reason: str
) -> None:
    any_store.docs_store.update(document, key="uuid")
    (damage,) = check_store(any_store).damaged
    assert reason in damage.reason


def test_results_must_fit_their_schema(any_store: ResultStore) -> None:
    state = plain(migrated_state())
    for uuid, changes in (
        ("1", {"voltage": "high"}),
        ("2", {"structure": {"@module": "pymatgen.core", "@class": "Structure"}}),
        ("3", {}),
    ):
        any_store.update({"uuid": uuid, "index": 1, "output": {**state, **changes}})
    reasons = {d.uuid: d.reason for d in check_store(any_store).damaged}
    assert set(reasons) == {"1", "2"}
    assert "does not fit the schema of a state (voltage" in reasons["1"]
    assert "state" in reasons["2"]


# -- the embedded store --------------------------------------------------------------------------


def test_unreadable_documents_and_fields(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = open_store(path)
    fill(store, tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE documents SET document = '{\"uuid\": ' WHERE row = 1")
        connection.execute("UPDATE documents_fields SET \"output.kind\" = 'neb' WHERE row = 2")
        connection.execute("DELETE FROM documents_fields WHERE row = 3")
        connection.execute("UPDATE data SET document = 'x' WHERE row = 1")
    report = check_store(store)
    assert [(d.row, d.reason) for d in report.damaged if not d.uuid] == [(1, "cannot be read")]
    assert "documents: the fields of 2 documents differ from the documents" in report.faults
    assert "a row of data cannot be read" in report.faults
    assert "row 1: cannot be read" in report.lines()
    assert not report.is_sound


def test_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = open_store(path)
    store.docs_store.update(
        [{"uuid": str(i), "index": 1, "text": "x" * 300} for i in range(300)], key="uuid"
    )
    store.close()
    with path.open("r+b") as file:  # a page of the middle, as a bad disk leaves it
        file.seek(4096 * (path.stat().st_size // 8192))
        file.write(b"\x00" * 4096)
    report = check_store(open_store(path))
    assert not report.is_sound
    assert report.faults
