"""The store of results, embedded and on MongoDB, and what can happen to its file."""

import gc
import os
import random
import resource
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from jobflow import JobStore

from lrlo.workflows import sqlite_store
from lrlo.workflows.sqlite_store import FORMAT_VERSION, SQLiteStore
from lrlo.workflows.store import (
    BLOB_STORE,
    MAX_DOCUMENT,
    ResultStore,
    StoreError,
    StoreLocation,
    blob_key,
    content_digest,
    jobstore_spec,
    open_store,
)
from lrlo.workflows.store_check import check_store

from ..mongo_double import MongoDouble


def document(uuid: str, index: int = 1, **output: Any) -> dict[str, Any]:
    return {"uuid": uuid, "index": index, "name": f"job {uuid}", "output": output}


def n_blobs(store: ResultStore) -> int:
    return store.additional_stores[BLOB_STORE].count()


# -- both kinds of store -------------------------------------------------------------------------


def test_documents_outlive_the_connection(any_location: str) -> None:
    first = open_store(any_location)
    first.update([document("a", 1, n=1), document("a", 2, n=2)])
    first.update(document("a", 1, n=3))
    first.close()
    again = open_store(any_location)
    assert sorted(d["output"]["n"] for d in again.query({"uuid": "a"})) == [2, 3]
    assert again.count({"output.n": {"$gte": 3}}) == 1
    assert again.get_output("a") == {"n": 2}
    assert again.get_output("a", which=1) == {"n": 3}


def test_large_data_lie_apart(any_location: str) -> None:
    store = open_store(any_location)
    store.update(document("a", trajectory=[1.5, 2], energy=-1.0), save={"data": ["trajectory"]})
    assert "blob_uuid" in store.query_one({"uuid": "a"})["output"]["trajectory"]
    again = open_store(any_location)
    loaded = again.query_one({"uuid": "a"}, load=True)["output"]
    assert loaded == {"trajectory": [1.5, 2], "energy": -1.0}
    again.remove_docs({"uuid": "a"})
    assert (again.count(), n_blobs(again)) == (0, 0)


def test_ways_to_name_large_data(any_store: ResultStore) -> None:
    both = {"a": {"big": [1]}, "b": {"big": [1]}, "c": {"other": 3, "big": None}}
    any_store.update(document("1", **both), save={"data": "big"})
    any_store.update(document("2", **both), save={"data": [["output", "c"]]})
    any_store.update(document("3", **both), save={"data": "output"})
    assert n_blobs(any_store) == 2 + 1 + 1  # equal data at two places are two; None is none
    for uuid in "123":
        assert any_store.query_one({"uuid": uuid}, load=True)["output"] == both
    with pytest.raises(StoreError, match="no additional store"):
        any_store.update(document("4", big=1), save={"elsewhere": "big"})


def test_storing_again_leaves_nothing_behind(any_store: ResultStore) -> None:
    for _ in range(3):
        any_store.update(document("a", trajectory=[1, 2]), save={"data": "trajectory"})
    assert (any_store.count(), n_blobs(any_store)) == (1, 1)


def test_document_never_refers_to_what_is_not_there(
    any_store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may die between the two writes: then only large data may be left."""

    def dies(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(any_store.additional_stores[BLOB_STORE], "update", dies)
        with pytest.raises(KeyboardInterrupt):
            any_store.update(document("a", trajectory=[1]), save={"data": "trajectory"})
    assert (any_store.count(), n_blobs(any_store)) == (0, 0)
    with monkeypatch.context() as patch:
        patch.setattr(any_store.docs_store, "update", dies)
        with pytest.raises(KeyboardInterrupt):
            any_store.update(document("a", trajectory=[1]), save={"data": "trajectory"})
    assert (any_store.count(), n_blobs(any_store)) == (0, 1)
    any_store.update(document("a", trajectory=[1]), save={"data": "trajectory"})
    assert (any_store.count(), n_blobs(any_store)) == (1, 1)


def test_missing_large_data_are_said(any_store: ResultStore) -> None:
    any_store.update(document("a", trajectory=[1]), save={"data": "trajectory"})
    any_store.additional_stores[BLOB_STORE].remove_docs({"job_uuid": "a"})
    with pytest.raises(StoreError, match="are missing; 'lrlo store check'"):
        any_store.query_one({"uuid": "a"}, load=True)


def test_too_large_documents_are_divided(any_store: ResultStore) -> None:
    """16 MB is MongoDB's limit; the largest part goes, the rest stays where queries find it."""
    large, small = ["x" * 9_000_000, "y" * 9_000_000], ["z" * 1000]
    any_store.update(document("a", large=large, small=small, kind="relax"))
    plain = any_store.query_one({"uuid": "a"})["output"]
    assert "blob_uuid" in plain["large"]
    assert (plain["small"], plain["kind"]) == (small, "relax")
    assert any_store.get_output("a", load=True) == {"large": large, "small": small, "kind": "relax"}


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ({"text": "x" * (MAX_DOCUMENT + 1)}, "has 16.0 MB, more than the 16 MB"),
        (["x" * (MAX_DOCUMENT + 1)], "has 16.0 MB, more than the 16 MB"),
        ({"n": 2**64}, "cannot keep"),
        ({"text": "\ud800"}, "cannot keep"),
    ],
    ids=["text", "list", "integer", "surrogate"],
)
def test_what_no_store_takes_is_refused_before_anything_is_written(
    any_store: ResultStore, output: Any, reason: str
) -> None:
    whole = {**document("b"), "output": output}
    with pytest.raises(StoreError, match=reason) as error:
        any_store.update([document("a", big=[1]), whole], save={"data": "big"})
    assert "job b" in str(error.value)
    assert (any_store.count(), n_blobs(any_store)) == (0, 0)


def test_digest_says_what_the_output_was(any_store: ResultStore) -> None:
    output = {"energies": [0.1 + 0.2, -0.0, 1e300], "text": "é", "nothing": None, "n": 2**60}
    any_store.update(document("a", **output))
    found = any_store.query_one({"uuid": "a"})
    assert found["digest"] == content_digest(found["output"]) == content_digest(output)
    assert content_digest({"x": 0.1}) != content_digest({"x": 0.1 + 2e-17})
    assert blob_key("a", 1, "output.x", [1]) != blob_key("a", 1, "output.y", [1])


def test_queries_that_the_package_makes(any_store: ResultStore) -> None:
    context = {"study": "s", "study_key": "k", "seed": 1}
    any_store.update(
        [
            document("1", kind="state", context=context, label="4.5 V"),
            document("2", kind="barrier", context=context, status="converged"),
            document("3", kind="barrier", context={**context, "study": "t"}, status=None),
            document("4", kind="neb", energies=[0.0, 1.0]),
        ]
    )
    assert any_store.count({"uuid": "2", "index": 1}) == 1
    assert any_store.count({"output.kind": "neb"}) == 1
    outdated = {
        "output.kind": {"$in": ["state", "barrier"]},
        "output.context.study": "s",
        "uuid": {"$nin": ["1"]},
    }
    assert any_store.docs_store.count(outdated) == 1
    any_store.docs_store.remove_docs(outdated)
    assert sorted(d["uuid"] for d in any_store.query({}, ["uuid"])) == ["1", "3", "4"]
    assert sorted(any_store.distinct("output.context.study")) == ["s", "t"]
    assert [
        d["uuid"] for d in any_store.query({"output.status": None}, ["uuid"], sort={"uuid": 1})
    ] == [
        "1",
        "3",
        "4",
    ]


def test_mongodb_that_goes_away_and_comes_back() -> None:
    with MongoDouble() as double:
        store = open_store(f"{double.uri}/test?serverSelectionTimeoutMS=800")
        store.update(document("a", n=1))
        double.stop()
        for ask in (
            lambda: store.count(),
            lambda: store.update(document("b")),
            lambda: store.query_one({}),
            lambda: store.distinct("uuid"),
            lambda: store.remove_docs({}),
        ):
            with pytest.raises(StoreError, match="what was stored before is still there"):
                ask()
        double.start()
        store.update(document("b", n=2))
        assert store.count() == 2


def test_jobflow_reads_and_writes_the_same_mongodb_store() -> None:
    """As the runner of a cluster does, from a description in a file."""
    with MongoDouble() as double:
        location = StoreLocation(f"{double.uri}/test")
        theirs = JobStore.from_dict_spec(jobstore_spec(location))
        theirs.connect()
        theirs.update(document("a", big=[1], kind="relax"), save={"data": ["big"]})
        ours = open_store(location)
        ours.update(document("b", big=[2], kind="relax"), save={"data": ["big"]})
        for store in (ours, theirs):
            outputs = [d["output"]["big"] for d in store.query({"output.kind": "relax"}, load=True)]
            assert sorted(outputs) == [[1], [2]]
        assert check_store(ours).is_sound
    with pytest.raises(StoreError, match="is no MongoDB database"):
        jobstore_spec(StoreLocation("a.sqlite"))


def test_two_processes_store_one_task_once_on_mongodb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second insert meets the unique index and becomes a replacement."""
    with MongoDouble() as double:
        store, other = (open_store(f"{double.uri}/test") for _ in range(2))
        collection = store.docs_store._collection
        write = type(collection).bulk_write

        def late(self: Any, requests: list, **settings: Any) -> Any:
            monkeypatch.undo()
            other.update(document("a", n=1))
            # what the server of a race sees: both looked, neither found it
            for request in requests:
                request._filter = {"uuid": "no match"}
            return write(self, requests, **settings)

        monkeypatch.setattr(type(collection), "bulk_write", late)
        store.docs_store.update({"uuid": "a", "index": 1, "output": {"n": 2}}, ["uuid", "index"])
        assert [d["output"]["n"] for d in store.query({})] == [2]


# -- the embedded store --------------------------------------------------------------------------


def test_documents_are_plain_json_in_plain_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    open_store(path).update(document("a", values=[1.5, None, "é"]))
    with sqlite3.connect(path) as connection:
        found = connection.execute(
            "SELECT json_extract(document, '$.output.values[2]'), uuid "
            "FROM documents JOIN documents_fields USING (row)"
        ).fetchall()
    assert found == [("é", "a")]


@pytest.mark.parametrize(
    "criteria",
    [
        {"uuid": "a", "index": 1},
        {"uuid": {"$in": ["a", "b"]}},
        {"output.kind": "barrier", "output.voltage": {"$gte": 4.5}},
        {"$and": [{"output.path_class": "in_plane"}, {"output.surroundings.stacking": "O3"}]},
    ],
    ids=str,
)
def test_lookups_go_by_an_index(tmp_path: Path, criteria: dict[str, Any]) -> None:
    """So that neither lookup nor update gets slower with the number of documents."""
    store = open_store(tmp_path / "store.sqlite")
    statements: list[str] = []
    connection = store.docs_store._connection
    connection.set_trace_callback(statements.append)
    store.query_one(criteria)
    store.count(criteria)
    connection.set_trace_callback(None)
    selects = [each for each in statements if each.startswith("SELECT row, ") or "COUNT" in each]
    assert len(selects) == 2
    for statement in selects:
        plan = [line for *_, line in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert any("USING" in line and "INDEX documents:" in line for line in plan)
        assert not any(line.startswith("SCAN") for line in plan), plan


def test_memory_does_not_hold_all_documents(tmp_path: Path) -> None:
    """40 MB of documents, of which a query holds a few at a time."""
    store = open_store(tmp_path / "store.sqlite")
    text = "x" * 20_000
    for first in range(0, 2000, 250):
        store.docs_store.update(
            [document(str(i), text=text, kind="relax") for i in range(first, first + 250)],
            key=["uuid", "index"],
        )
    tracemalloc.start()
    for criteria in ({}, {"output.kind": "relax"}, {"output.text": {"$gt": "w"}}):
        assert sum(len(d["output"]["text"]) == 20_000 for d in store.query(criteria)) == 2000
    assert store.count({"output.text": text}) == 2000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 15e6


def format_0(path: Path) -> dict[str, dict[str, Any]]:
    """File as lrlo 0.1.0 wrote it."""
    documents = {
        "a": document(
            "a", kind="neb", energy=-1.5, trajectory={"blob_uuid": "b1", "store": "data"}
        ),
        "b": document(
            "b", kind="state", context={"study": "s"}, when={"$date": "2024-01-01T00:00:00Z"}
        ),
    }
    blob = {"blob_uuid": "b1", "data": [1, 2], "job_uuid": "a", "job_index": 1}
    with sqlite3.connect(path) as connection:
        for table in ("documents", "data"):
            connection.execute(f"CREATE TABLE {table} (key TEXT PRIMARY KEY, document TEXT)")
        connection.executemany(
            "INSERT INTO documents VALUES (?, ?)",
            [(f'["{k}", "1"]', json_util.dumps(d)) for k, d in documents.items()],
        )
        connection.execute("INSERT INTO data VALUES (?, ?)", ('["b1"]', json_util.dumps(blob)))
    connection.close()
    return documents


def test_file_of_version_0_1_0_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    format_0(path)
    store = open_store(path)
    assert store.query_one({"uuid": "a"}, load=True)["output"]["trajectory"] == [1, 2]
    assert store.query_one({"output.context.study": "s"})["output"]["when"].year == 2024
    store.update(document("a", kind="neb", energy=-2.0))
    assert store.count() == 2
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT_VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert open_store(path).count({"output.kind": "state"}) == 1


def test_conversion_that_is_killed_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.sqlite"
    format_0(path)

    def dies(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SQLiteStore, "_add_columns", dies)
        with pytest.raises(KeyboardInterrupt):
            open_store(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT COUNT(key) FROM documents").fetchone() == (2,)
    connection.close()
    assert open_store(path).count() == 2


def test_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    open_store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"reads up to {FORMAT_VERSION}: upgrade lrlo"):
        open_store(path)
    assert path.read_bytes() == before


def test_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photos (id INTEGER, name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="database of another program"):
        open_store(path)
    assert path.read_bytes() == before
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA application_id = 1234")
        connection.execute("DROP TABLE photos")
        connection.execute("CREATE TABLE documents (key TEXT, document TEXT)")
    with pytest.raises(StoreError, match="database of another program"):
        open_store(path)


def test_later_version_may_keep_more_fields(tmp_path: Path) -> None:
    """Fields are added to documents already there, also while an older process writes."""
    path = str(tmp_path / "s.sqlite")
    old = SQLiteStore(path, fields=["a"], key="uuid")
    old.connect()
    old.update({"uuid": "1", "b": {"c": 1}})
    new = SQLiteStore(path, fields=["a", "b.c"], key="uuid")
    new.connect()
    old.update({"uuid": "2", "b": {"c": 2}})
    with sqlite3.connect(path) as connection:
        found = connection.execute('SELECT uuid, "b.c" FROM documents_fields').fetchall()
    assert found == [("1", 1), ("2", 2)]
    assert [d["uuid"] for d in old.query({"b.c": 2})] == ["2"]


def test_unreadable_document_does_not_keep_the_store_shut(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    first = SQLiteStore(str(path), key="uuid")
    first.connect()
    first.update([{"uuid": "1"}, {"uuid": "2", "a": 5}])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE documents SET document = 'broken' WHERE row = 1")
    later = SQLiteStore(str(path), key="uuid", fields=["a"])
    later.connect()
    assert [d["uuid"] for d in later.query({"a": 5})] == ["2"]


def test_sqlite_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "OLDEST_SQLITE", (99, 0))
    with pytest.raises(StoreError, match=r"needs 99.0 or newer"):
        open_store(tmp_path / "store.sqlite")


def test_paths_that_cannot_be_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be opened or written"):
        open_store(tmp_path / "file" / "store.sqlite")
    (tmp_path / "text.sqlite").write_text("this is no database " * 100)
    with pytest.raises(StoreError, match=r"cannot be opened or written.*no store or is damaged"):
        open_store(tmp_path / "text.sqlite")
    assert (tmp_path / "text.sqlite").read_text() == "this is no database " * 100
    with pytest.raises(StoreError, match="is a folder; name a file in it"):
        open_store(tmp_path)


def test_cut_off_file_is_no_store_of_wrong_answers(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = open_store(path)
    store.docs_store.update([document(str(i), text="x" * 5000) for i in range(50)], "uuid")
    store.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(StoreError):
        list(open_store(path).query({}))


def in_child(work: Callable[[], None], user: int | None = None) -> str:
    """What a forked process says at the end: "ok", or its error."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if user is not None and os.getuid() == 0:
                os.setuid(user)
            work()
            message = "ok"
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
        os.write(write, message.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


def test_disk_full(tmp_path: Path) -> None:
    """By SQLite's own page limit, then by the system's limit on the size of files."""
    path = tmp_path / "store.sqlite"
    store = open_store(path)
    store.update(document("a", n=1))
    documents = store.docs_store
    (pages,) = documents._connection.execute("PRAGMA page_count").fetchone()
    documents._connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(StoreError, match=r"full.*free space or raise the quota"):
        store.update(document("b", text="x" * 100_000))
    documents._connection.execute("PRAGMA max_page_count = 1073741823")
    store.update(document("c", n=1))
    store.close()

    def beyond_the_limit() -> None:
        opened = open_store(path)
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        for i in range(100):
            opened.update(document(f"full {i}", text="x" * 50_000))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    message = in_child(beyond_the_limit)
    assert message.startswith("StoreError")
    assert "free space or raise the quota" in message
    again = open_store(path)
    uuids = [d["uuid"] for d in again.query({}, ["uuid"])]
    assert uuids[:2] == ["a", "c"]
    assert again.docs_store.faults() == []
    again.update(document("d"))


@pytest.mark.skipif(os.getuid() != 0, reason="changes to another user")
def test_file_of_another_user(tmp_path: Path) -> None:
    """What may only be read can be queried, and says so when it is written."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    path, old, log = (tmp_path / name for name in ("new.sqlite", "old.sqlite", "log.sqlite"))
    open_store(path).update(document("a", kind="relax"))
    gc.collect()  # the last connection takes the write-ahead log with it
    assert not path.with_name("new.sqlite-wal").exists()
    format_0(old)
    held = open_store(log)
    held.update(document("a", kind="relax"))
    for file in tmp_path.iterdir():
        file.chmod(0o644)

    def reads(file: Path) -> Callable[[], None]:
        def work() -> None:
            assert open_store(file).count({"output.kind": "relax"}) == 1

        return work

    assert in_child(reads(path), user=65534) == "ok"
    assert in_child(reads(log), user=65534) == "ok"
    message = in_child(lambda: open_store(path).update(document("b")), user=65534)
    assert "readonly" in message
    assert "make it writable, or choose another with --store" in message
    assert "must be converted" in in_child(reads(old), user=65534)
    message = in_child(reads(tmp_path / "none.sqlite"), user=65534)
    assert "cannot be opened or written" in message
    assert open_store(path).count() == 1
    held.close()


def test_process_that_keeps_the_file_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "PATIENCE", 0.2)
    path = tmp_path / "store.sqlite"
    store = open_store(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another process kept it for more than 0 s"):
        store.update(document("a"))
    assert store.count() == 0  # reading goes on
    other.execute("ROLLBACK")
    store.update(document("a"))
    other.close()


# -- kills ---------------------------------------------------------------------------------------


def write_until_killed(path: Path, writer: int, pipe: int, n_documents: int) -> None:
    """Writer process: says a key once its document, with large data, is stored."""
    store = open_store(path)
    for i in range(n_documents):
        key = f"{writer}:{i}"
        store.update(document(key, trajectory=[writer, i] * 100), save={"data": "trajectory"})
        store.update(document("shared", writer=writer, i=i, kind="relax"))
        os.write(pipe, f"{key}\n".encode())
    store.close()


def kill_one_of_four(path: Path, rng: random.Random, first: int, n_documents: int) -> list[str]:
    """Keys that four processes acknowledged, of which one was killed at a random moment."""
    read, write = os.pipe()
    children = []
    for writer in range(first, first + 4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                write_until_killed(path, writer, write, n_documents)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(write)
    victim = rng.choice(children)
    kill_at = time.monotonic() + rng.uniform(0.0, 0.01 * n_documents)
    said, killed = b"", False
    while True:
        wait = max(0.0, kill_at - time.monotonic())
        ready, _, _ = select.select([read], [], [], None if killed else wait)
        if ready:
            part = os.read(read, 65536)
            if not part:
                break
            said += part
        if not killed and time.monotonic() >= kill_at:
            os.kill(victim, signal.SIGKILL)
            killed = True
    os.close(read)
    for child in children:
        _, status = os.waitpid(child, 0)
        assert status == 0 or (child == victim and os.WIFSIGNALED(status)), "a writer failed"
    return said.decode().split()


def survive_kills(folder: Path, n_rounds: int, n_documents: int) -> int:
    """Rounds of kills; every fourth starts with no file. Returns the number of real kills."""
    rng = random.Random(7)
    acknowledged: list[str] = []
    n_short, path = 0, folder / "none"
    for round_ in range(n_rounds):
        if round_ % 4 == 0:
            path, acknowledged = folder / f"store_{round_}.sqlite", []
        said = kill_one_of_four(path, rng, 4 * round_, n_documents)
        acknowledged += said
        n_short += len(said) < 4 * n_documents
        store = open_store(path)
        assert {d["uuid"] for d in store.query({}, ["uuid"])} >= {*acknowledged}
        assert store.count({"uuid": "shared"}) <= 1
        for key in said:
            writer, i = (int(part) for part in key.split(":"))
            found = store.query_one({"uuid": key}, load=True)
            assert found["output"]["trajectory"] == [writer, i] * 100
            assert found["digest"]
        for part in (store.docs_store, store.additional_stores[BLOB_STORE]):
            assert part.faults() == []  # PRAGMA integrity_check, and fields beside documents
        store.close()
    return n_short


def test_four_writers_of_which_one_is_killed(tmp_path: Path) -> None:
    assert survive_kills(tmp_path, n_rounds=8, n_documents=16) >= 1


@pytest.mark.slow
def test_hundred_rounds_of_kills(tmp_path: Path) -> None:
    assert survive_kills(tmp_path, n_rounds=100, n_documents=20) >= 30


def test_kill_while_a_file_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    format_0(path)
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO documents VALUES (?, ?)",
            [(str(i), json_util.dumps(document(f"d{i}", text="x" * 2000))) for i in range(300)],
        )
    connection.close()
    rng = random.Random(3)
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                open_store(path)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    store = open_store(path)
    assert store.count() == 302
    assert store.docs_store.faults() == []


def test_killed_writer_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """In a process of its own, as a user starts it."""
    path = tmp_path / "store.sqlite"
    code = (
        "import os, signal, sys\n"
        "from lrlo.workflows.store import open_store\n"
        "store = open_store(sys.argv[1])\n"
        "for i in range(1000):\n"
        "    store.update({'uuid': str(i), 'index': 1, 'output': {'pad': 'x' * 2000}})\n"
        "    print(i, flush=True)\n"
        "    if i == 40: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9
    acknowledged = [int(line) for line in done.stdout.split()]
    assert acknowledged[-1] == 40
    store = open_store(path)
    assert {d["uuid"] for d in store.query()} >= {str(i) for i in acknowledged}
