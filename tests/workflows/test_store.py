import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from lrlo.workflows.store import SQLiteStore, StoreError, open_store


def fresh(path: Path) -> SQLiteStore:
    store = SQLiteStore(str(path), key="uuid")
    store.connect()
    return store


def test_documents_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = fresh(path)
    store.update(
        [{"uuid": "a", "index": 1, "n": 1}, {"uuid": "a", "index": 2, "n": 2}],
        key=["uuid", "index"],
    )
    store.update({"uuid": "a", "index": 1, "n": 3}, key=["uuid", "index"])
    again = fresh(path)
    assert sorted(d["n"] for d in again.query({"uuid": "a"})) == [2, 3]
    assert again.count({"n": {"$gte": 3}}) == 1
    assert again.query_one({"n": 3})["index"] == 1


def test_removed_documents_stay_removed(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = fresh(path)
    store.update([{"uuid": str(i), "even": i % 2 == 0} for i in range(6)])
    store.remove_docs({"even": True})
    assert store.count() == 3
    assert fresh(path).count() == 3


def test_killed_writer_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    code = (
        "import os, signal, sys\n"
        "from lrlo.workflows.store import SQLiteStore\n"
        "store = SQLiteStore(sys.argv[1], key='uuid'); store.connect()\n"
        "for i in range(1000):\n"
        "    store.update({'uuid': str(i), 'pad': 'x' * 2000})\n"
        "    print(i, flush=True)\n"
        "    if i == 40: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9
    acknowledged = [int(line) for line in done.stdout.split()]
    assert acknowledged[-1] == 40
    store = fresh(path)
    assert {d["uuid"] for d in store.query()} >= {str(i) for i in acknowledged}


def test_large_data_go_to_the_additional_store(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite")
    document = {"uuid": "a", "index": 1, "output": {"trajectory": [1, 2, 3], "energy": -1.0}}
    store.update(document, save={"data": ["trajectory"]})
    plain = store.query_one({"uuid": "a"})
    assert "blob_uuid" in plain["output"]["trajectory"]
    again = open_store(tmp_path / "store.sqlite")
    assert again.query_one({"uuid": "a"}, load=True)["output"]["trajectory"] == [1, 2, 3]


def test_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be opened or written"):
        open_store(tmp_path / "file" / "store.sqlite")
    (tmp_path / "text.sqlite").write_text("this is no database " * 100)
    with pytest.raises(StoreError, match="cannot be opened or written"):
        open_store(tmp_path / "text.sqlite")


def test_failed_update_leaves_memory_and_file_alike(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = fresh(path)
    store.update({"uuid": "a"})
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE documents")
    with pytest.raises(StoreError):
        store.update({"uuid": "b"})
    assert store.count({"uuid": "b"}) == 0


def test_password_of_a_uri_is_never_told() -> None:
    with pytest.raises(StoreError) as error:
        open_store("mongodb://user:secret@[bad/database")
    assert "secret" not in str(error.value)
    with pytest.raises(StoreError) as error:
        open_store("mongodb://user:secret@127.0.0.1:1/db?serverSelectionTimeoutMS=50")
    assert "secret" not in str(error.value)


def test_documents_are_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    fresh(path).update({"uuid": "a", "values": [1.5, None, "é"]})
    with sqlite3.connect(path) as connection:
        (text,) = connection.execute("SELECT document FROM documents").fetchone()
    assert json.loads(text)["values"] == [1.5, None, "é"]
