"""The file-backed store: maggma documents in one SQLite file, no server."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bson import json_util
from jobflow import JobStore
from maggma.stores import MemoryStore, MongoURIStore
from maggma.stores.gridfs import GridFSURIStore
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

STORE_VARIABLE = "LRLO_STORE"


class StoreError(RuntimeError):
    """The store cannot be opened or written."""


class SQLiteStore(MemoryStore):
    """MemoryStore whose documents are written through to a table of a SQLite file.

    Every update is one transaction, on disk before it returns, so a killed process loses nothing
    that was acknowledged. Queries run in memory with MongoDB's language.

    Parameters
    ----------
    path
        SQLite file; created on connection.
    table
        Table of this store within the file.
    """

    def __init__(self, path: str, table: str = "documents", **kwargs: Any) -> None:
        if not table.isidentifier():
            raise StoreError(f"{table!r} cannot name a table")
        self.path = str(path)
        self.table = table
        super().__init__(collection_name=f"{Path(path).name}:{table}", **kwargs)

    @property
    def name(self) -> str:
        """Name that tells the file and the table."""
        return f"sqlite://{self.path}#{self.table}"

    def connect(self, force_reset: bool = False) -> None:
        """Open the file and load the documents.

        Raises
        ------
        StoreError
            If the file cannot be opened or written, or is no SQLite file.
        """
        if self._coll is not None and not force_reset:
            return
        with self._transaction() as connection:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self.table} (key TEXT PRIMARY KEY, document TEXT)"
            )
            rows = connection.execute(f"SELECT key, document FROM {self.table}").fetchall()
        super().connect(force_reset=True)
        for key, text in rows:
            document = json.loads(text, object_hook=json_util.object_hook)
            self._collection.insert_one({**document, "_id": key})

    def update(self, docs: list[dict] | dict, key: list | str | None = None) -> None:
        """Insert or replace documents by `key` (the store's key field by default).

        Raises
        ------
        StoreError
            If the file cannot be written; memory and file then still agree.
        """
        documents = docs if isinstance(docs, list) else [docs]
        names = [key] if isinstance(key, str) else list(key or [self.key])
        bodies = {
            json.dumps([str(document.get(name)) for name in names]): {
                name: value for name, value in document.items() if name != "_id"
            }
            for document in documents
        }
        with self._transaction() as connection:
            connection.executemany(
                f"INSERT OR REPLACE INTO {self.table} (key, document) VALUES (?, ?)",
                [(row, json_util.dumps(body)) for row, body in bodies.items()],
            )
        for row, body in bodies.items():
            self._collection.replace_one({"_id": row}, {**body, "_id": row}, upsert=True)

    def remove_docs(self, criteria: dict) -> None:
        """Remove documents that match a query."""
        rows = [document["_id"] for document in self._collection.find(criteria, {"_id": 1})]
        with self._transaction() as connection:
            connection.executemany(
                f"DELETE FROM {self.table} WHERE key = ?", [(row,) for row in rows]
            )
        self._collection.delete_many({"_id": {"$in": rows}})

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Connection whose changes are all on disk, or none, when the block ends."""
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=60)
            try:
                with connection:
                    yield connection
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the store {self.path} cannot be opened or written ({error}); choose another "
                f"with --store or {STORE_VARIABLE}"
            ) from error


def open_store(location: str | Path) -> JobStore:
    """Connected JobStore at a path (file-backed) or a ``mongodb://`` URI.

    Band trajectories and other large data go to the additional store ``data``.

    Raises
    ------
    StoreError
        If the store cannot be opened. Passwords of a URI are never part of the message.
    """
    text = str(location)
    store = _mongo_store(text) if text.startswith("mongodb") else _file_store(text)
    try:
        store.connect()
        store.count({"uuid": ""})  # a MongoDB client connects no sooner than it is asked
    except PyMongoError as error:
        raise StoreError(f"the MongoDB store does not answer ({type(error).__name__})") from None
    return store


def _file_store(path: str) -> JobStore:
    return JobStore(
        SQLiteStore(path, "documents", key="uuid"),
        additional_stores={"data": SQLiteStore(path, "data", key="blob_uuid")},
    )


def _mongo_store(uri: str) -> JobStore:
    try:
        database = parse_uri(uri)["database"] or "lrlo"
    except (PyMongoError, ValueError):
        raise StoreError(
            "the MongoDB URI cannot be read; write mongodb://user:password@host:port/database"
        ) from None
    return JobStore(
        MongoURIStore(uri, "documents", database=database, key="uuid"),
        additional_stores={"data": GridFSURIStore(uri, "data", database=database, key="blob_uuid")},
    )
