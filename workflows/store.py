"""The store of results: one interface to an embedded file and to MongoDB."""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import bson
from bson import json_util
from jobflow import JobStore
from jobflow.utils.find import find_key, get_root_locations, update_in_dictionary
from maggma.core import Store
from maggma.stores import GridFSStore, MongoStore
from monty.json import jsanitize
from pydash import get
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.uri_parser import parse_uri

from ..analysis.columns import Records
from ..analysis.query import INDEXED_FIELDS, KEPT_FIELDS
from .claims import CLAIM_STORE, Claims, ClaimTable, MongoClaims, SQLiteClaims
from .sqlite_store import SQLiteStore
from .store_location import STORE_VARIABLE, StoreError, StoreLocation, store_location

__all__ = [
    "BLOB_STORE",
    "DOCUMENT_STORE",
    "MAX_DOCUMENT",
    "STORE_VARIABLE",
    "ResultStore",
    "SQLiteStore",
    "StoreError",
    "StoreLocation",
    "blob_key",
    "content_digest",
    "is_blob_sound",
    "jobstore_spec",
    "open_store",
    "store_location",
]

#: Largest document that MongoDB takes, bytes of BSON, with room for what is added on the way.
MAX_DOCUMENT = 16 * 1024**2 - 16 * 1024
#: Tables or collections of documents, and of large data (the additional store).
DOCUMENT_STORE, BLOB_STORE = "documents", "data"
#: Seconds that a MongoDB server has to answer, unless its URI says otherwise.
PATIENCE = 10.0
_BLOBS = uuid.UUID("a1c3c9a6-5d0c-4a0e-8a54-6b2f6f0d7c11")
_DUPLICATE_KEY = 11000


def content_digest(value: Any) -> str:
    """SHA-256 of a value as it is stored, to the last bit."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=json_util.default)
    return hashlib.sha256(text.encode()).hexdigest()


def blob_key(job_uuid: str, job_index: int, location: str, data: Any) -> str:
    """Key of large data: a hash of its content and of the place that it belongs to."""
    return str(uuid.uuid5(_BLOBS, f"{job_uuid}:{job_index}:{location}:{content_digest(data)}"))


def is_blob_sound(blob: Mapping[str, Any]) -> bool:
    """Whether large data are what was stored, as far as their key tells.

    Keys of jobflow itself are random and tell nothing.
    """
    key, job_uuid, job_index = blob["blob_uuid"], blob.get("job_uuid"), blob.get("job_index")
    if "location" not in blob or not isinstance(job_uuid, str) or not isinstance(job_index, int):
        return True
    return bool(key == blob_key(job_uuid, job_index, blob["location"], blob.get("data")))


class ResultStore(JobStore):
    """JobStore that keeps what it was given, whenever the process ends.

    Unlike its parent it writes large data before the document that refers to them, under keys
    that follow from their content; gives every document a digest of its output; moves fields
    that MongoDB's limit of 16 MB does not allow to the additional store; and raises
    :class:`StoreError` where a store fails.
    """

    docs_store: Store
    additional_stores: dict[str, Store]

    def update(
        self,
        docs: Any,
        key: list | str | None = None,
        save: bool | Mapping[str, Any] | None = None,
    ) -> None:
        """Insert or replace documents; parameters as in :meth:`jobflow.JobStore.update`.

        Raises
        ------
        StoreError
            If a store cannot be written or a document is too large. Nothing refers to data that
            are not there.
        """
        where: Any = self.save if save is None or save is True else save or {}
        documents = docs if isinstance(docs, list) else [docs]
        separated = [_separate(document, where) for document in documents]
        unknown = {name for each in separated for name in each.blobs} - set(self.additional_stores)
        if unknown:
            raise StoreError(f"no additional store {sorted(unknown)}")
        with self._explained():
            for each in separated:
                for name, blobs in each.blobs.items():
                    self.additional_stores[name].update(blobs, key="blob_uuid")
            self.docs_store.update(
                [each.document for each in separated], key=key or ["uuid", "index"]
            )

    def query(
        self,
        criteria: Any = None,
        properties: Any = None,
        sort: Any = None,
        skip: int = 0,
        limit: int = 0,
        load: Any = None,
    ) -> Iterator[dict]:
        """Documents that match; parameters as in :meth:`jobflow.JobStore.query`.

        Raises
        ------
        StoreError
            If a store cannot be read, or large data of a document are missing.
        """
        with self._explained():
            try:
                yield from super().query(criteria, properties, sort, skip, limit, load)
            except KeyError as error:
                raise StoreError(
                    f"large data {error} of a document are missing; 'lrlo store check' lists them"
                ) from None

    def count(self, criteria: Any = None) -> int:
        """Count the documents that match."""
        with self._explained():
            return int(super().count(criteria))

    def field_values(
        self, criteria: dict[str, Any], fields: Sequence[str]
    ) -> list[tuple[Any, ...]]:
        """Fields of the documents that match, as tuples; None where a field is missing."""
        with self._explained():
            if isinstance(self.docs_store, SQLiteStore):
                return list(self.docs_store.field_values(criteria, fields))
            documents = self.docs_store.query(criteria, list(fields))
            return Records.of(documents, fields).values

    def distinct(self, field: str, criteria: dict | None = None, all_exist: bool = False) -> list:
        """Distinct values of a field."""
        with self._explained():
            return list(self.docs_store.distinct(field, criteria))

    def remove_docs(self, criteria: dict) -> None:
        """Remove documents and their large data."""
        with self._explained():
            super().remove_docs(criteria)

    def claims(self, run: str | None = None) -> Claims:
        """Claims of tasks by this process.

        Parameters
        ----------
        run
            Identity of the run, as :func:`lrlo.workflows.claims.run_identity` gives it.
        """
        documents = self.docs_store
        table: ClaimTable
        if isinstance(documents, SQLiteStore):
            table = SQLiteClaims(documents)
        else:
            collection = documents._collection.database[CLAIM_STORE]
            table = MongoClaims(collection, documents.name)
        return Claims(table, run)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PyMongoError as error:
            raise StoreError(
                f"{self.docs_store.name} does not answer as it should ({type(error).__name__}); "
                "what was stored before is still there"
            ) from None


class MongoDocuments(MongoStore):
    """Documents of tasks in MongoDB: one per uuid and index, and a name without password."""

    @property
    def name(self) -> str:
        """Server and database."""
        return str(StoreLocation(str(self.uri)))

    def connect(self, force_reset: bool = False) -> None:
        """Connect, and let two processes never store one task twice."""
        super().connect(force_reset=force_reset)
        self._collection.create_index([("uuid", 1), ("index", 1)], unique=True)

    def update(self, docs: list[dict] | dict, key: list | str | None = None) -> None:
        """Insert or replace documents."""
        try:
            super().update(docs, key)
        except BulkWriteError as error:
            codes = {problem.get("code") for problem in error.details["writeErrors"]}
            if codes != {_DUPLICATE_KEY}:
                raise
            super().update(docs, key)  # another process was first: now replace its document


class MongoBlobs(GridFSStore):
    """Large data in GridFS, with a name that shows no password."""

    @property
    def name(self) -> str:
        """Server and database."""
        return str(StoreLocation(str(self.uri)))


def open_store(location: StoreLocation | str | Path) -> ResultStore:
    """Connected store at a path (embedded) or a ``mongodb://`` URI.

    Both keep the same documents and indexes and answer the same queries.

    Raises
    ------
    StoreError
        If the store cannot be opened. Passwords of a URI are never part of the message.
    """
    if not isinstance(location, StoreLocation):
        location = StoreLocation(str(location))
    store = _mongodb_store(location) if location.is_mongodb else _embedded_store(location)
    try:
        store.connect()
        store.count({"uuid": ""})  # a MongoDB client connects no sooner than it is asked
        for field in INDEXED_FIELDS:
            if location.is_mongodb:
                store.docs_store.ensure_index(field)
        if location.is_mongodb:
            for field in ("blob_uuid", "job_uuid"):
                store.additional_stores[BLOB_STORE].ensure_index(field)
    except DuplicateKeyError:
        raise StoreError(
            f"the database {location} holds several documents with the same uuid and index, as "
            "another program leaves them; choose another database"
        ) from None
    except PyMongoError as error:
        raise StoreError(
            f"the MongoDB store {location} does not answer ({type(error).__name__}); check host, "
            "port, user and password, and that the server can be reached from here"
        ) from None
    return store


def _embedded_store(location: StoreLocation) -> ResultStore:
    path = location.path
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name a file in it, such as {path / 'store.sqlite'}")
    documents = SQLiteStore(
        str(path), DOCUMENT_STORE, fields=KEPT_FIELDS, indexes=INDEXED_FIELDS, key="uuid"
    )
    blobs = SQLiteStore(
        str(path), BLOB_STORE, fields=["job_index"], indexes=["job_uuid"], key="blob_uuid"
    )
    return ResultStore(documents, additional_stores={BLOB_STORE: blobs})


def jobstore_spec(location: StoreLocation) -> dict[str, Any]:
    """Description of a MongoDB store as jobflow and jobflow-remote read it from a file.

    It holds the URI with its password: the file must be private.

    Raises
    ------
    StoreError
        If the location is no MongoDB database, or its URI cannot be read.
    """
    settings = _mongodb_settings(location)
    settings.pop("mongoclient_kwargs")
    return {
        "docs_store": {"type": "MongoStore", "collection_name": DOCUMENT_STORE, **settings},
        "additional_stores": {
            BLOB_STORE: {"type": "GridFSStore", "collection_name": BLOB_STORE, **settings}
        },
    }


def _mongodb_store(location: StoreLocation) -> ResultStore:
    settings = _mongodb_settings(location)
    return ResultStore(
        MongoDocuments(collection_name=DOCUMENT_STORE, key="uuid", **settings),
        additional_stores={
            BLOB_STORE: MongoBlobs(collection_name=BLOB_STORE, key="blob_uuid", **settings)
        },
    )


def _mongodb_settings(location: StoreLocation) -> dict[str, Any]:
    if not location.is_mongodb:
        raise StoreError(f"{location} is no MongoDB database")
    try:
        parsed = parse_uri(location.address)
    except (PyMongoError, ValueError):
        raise StoreError(
            f"the MongoDB URI {location} cannot be read; write "
            "mongodb://user:password@host:port/database, special characters of the password "
            "percent-encoded"
        ) from None
    client: dict[str, Any] = {"appname": "lrlo"}
    if "serverselectiontimeoutms" not in {name.lower() for name in parsed["options"]}:
        client["serverSelectionTimeoutMS"] = int(1000 * PATIENCE)
    return {
        "uri": location.address,
        "database": parsed["database"] or "lrlo",
        "mongoclient_kwargs": client,
    }


@dataclass(frozen=True)
class _Separated:
    """A document and what was taken out of it, by additional store."""

    document: dict[str, Any]
    blobs: dict[str, list[dict[str, Any]]]


def _separate(document: Any, save: Mapping[str, Any]) -> _Separated:
    """Document that fits into MongoDB, with a digest, and its large data."""
    clean = jsanitize(document, strict=True, allow_bson=True)
    separated = _Separated(clean, {})
    for name, keys in save.items():
        for key in keys if isinstance(keys, list | tuple) else [keys]:
            _take_out(separated, name, _locations(clean, key))
    clean["digest"] = content_digest(clean.get("output"))
    while (size := _bson_size(clean)) > MAX_DOCUMENT:
        output = clean.get("output")
        parts = output if isinstance(output, dict) else {}
        movable = {
            name: len(json_util.dumps(value))
            for name, value in parts.items()
            if isinstance(value, dict | list) and "blob_uuid" not in value
        }
        if not movable:
            raise StoreError(
                f"the document of {clean.get('name') or clean.get('uuid')} has "
                f"{size / 1024**2:.1f} MB, more than the 16 MB that a store takes, and no large "
                "part that could be kept apart; nothing was written"
            )
        _take_out(separated, BLOB_STORE, [["output", max(movable, key=lambda n: movable[n])]])
        clean["digest"] = content_digest(clean.get("output"))
    return separated


def _locations(document: dict[Any, Any], key: Any) -> list[list[Any]]:
    """Where a document has what is to be saved apart: a key, a class, or a path."""
    if isinstance(key, list | tuple):
        return [list(key)]
    wanted = key.value if isinstance(key, Enum) else key
    return list(get_root_locations(find_key(document, wanted, include_end=True)))


def _take_out(separated: _Separated, store: str, locations: Sequence[Sequence[Any]]) -> None:
    """Move parts of a document to an additional store; references take their places."""
    document: dict[Any, Any] = separated.document
    references = {}
    for location in locations:
        data = get(document, list(location))
        if data is None:
            continue
        place = ".".join(map(str, location))
        labels = data if isinstance(data, dict) else {}
        reference = {
            "@class": labels.get("@class", ""),
            "@module": labels.get("@module", ""),
            "blob_uuid": blob_key(document["uuid"], document["index"], place, data),
        }
        separated.blobs.setdefault(store, []).append(
            {
                **reference,
                "data": data,
                "location": place,
                "job_uuid": document["uuid"],
                "job_index": document["index"],
                "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
        references[tuple(location)] = {**reference, "store": store}
    update_in_dictionary(document, references)


def _bson_size(document: dict[str, Any]) -> int:
    try:
        return len(bson.encode(document))
    except (bson.errors.BSONError, OverflowError, UnicodeEncodeError) as error:
        raise StoreError(
            f"the document of {document.get('name') or document.get('uuid')} holds what a store "
            f"cannot keep ({type(error).__name__}); nothing was written"
        ) from None
