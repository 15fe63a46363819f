"""A MongoDB server for tests: the wire protocol over mongomock-ng, in a thread of the test.

pymongo, maggma and jobflow-remote talk to it as to a server of version 7. It answers the
commands that they use. What it does not do, so that tests with it say nothing about it:

* authentication, TLS, sessions, transactions, replica sets, change streams;
* durability: data live in memory, for as long as the object does, also while it is stopped;
* concurrency: one command at a time, so no two ever interleave;
* indexes: unique ones are kept, hints and collations are ignored. A query by ``_id`` is a look-up,
  every other goes through the collection, quickly where a field has to equal a text;
* whatever mongomock-ng does otherwise than MongoDB.

``python tests/mongo_double.py [PORT]`` serves until it is killed.
"""

import itertools
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import bson
import mongomock_ng
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from mongomock_ng.aggregate import process_pipeline
from mongomock_ng.collection import Collection
from mongomock_ng.filtering import filter_applies
from mongomock_ng.helpers import patch_datetime_awareness_in_document
from pymongo.errors import DuplicateKeyError, PyMongoError

MAX_DOCUMENT = 16 * 1024**2
_MAX_BATCH = 15_000_000
_NAIVE = CodecOptions(tz_aware=False)
#: Types of which two values are equal if and only if MongoDB holds them for equal.
_PLAIN = (str, bson.ObjectId)
#: Opcodes of the protocol.
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_CODES = {"DuplicateKeyError": 11000, "OperationFailure": 2, "WriteError": 2}

Command = dict[str, Any]


class CommandError(Exception):
    """A command that the server refuses."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class MongoDouble:
    """Server on a port of this machine; a context manager that starts and stops it.

    Parameters
    ----------
    port
        Port to listen on; 0 for any that is free. It is kept over stop and start.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._engine = _Engine()
        self._server: _Server | None = None

    @property
    def uri(self) -> str:
        """URI without database."""
        return f"mongodb://127.0.0.1:{self.port}"

    def start(self) -> "MongoDouble":
        """Listen, with the data of before if it was stopped."""
        self._server = _Server(("127.0.0.1", self.port), _Connection)
        self._server.engine = self._engine
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening and cut all connections; data are kept."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut_connections()
            self._server = None

    def __enter__(self) -> "MongoDouble":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Engine:
    """Answers commands, one at a time."""

    def __init__(self) -> None:
        self._client: Any = mongomock_ng.MongoClient()
        self._lock = threading.Lock()
        self._cursors: dict[int, list[dict]] = {}
        self._numbers = itertools.count(1)
        self._commands: Mapping[str, Callable[[Command, Any], Command]] = {
            **dict.fromkeys(("hello", "ismaster"), self._hello),
            **dict.fromkeys(("ping", "endsessions", "killsessions", "create"), self._nothing),
            "buildinfo": lambda c, db: {"version": "7.0.0", "versionArray": [7, 0, 0, 0]},
            "find": self._find,
            "getmore": self._get_more,
            "killcursors": self._kill_cursors,
            "aggregate": self._aggregate,
            "count": self._count,
            "distinct": self._distinct,
            "insert": self._insert,
            "update": self._update,
            "delete": self._delete,
            "findandmodify": self._find_and_modify,
            "createindexes": self._create_indexes,
            "listindexes": self._list_indexes,
            "dropindexes": self._drop_indexes,
            "listcollections": self._list_collections,
            "listdatabases": self._list_databases,
            "drop": lambda c, db: self._done(db.drop_collection(c["drop"])),
            "dropdatabase": lambda c, db: self._done(self._client.drop_database(db.name)),
        }

    def answer(self, command: Command) -> Command:
        """Reply to a command."""
        name = next(iter(command))
        handle = self._commands.get(name.lower())
        try:
            if "autocommit" in command:
                raise CommandError(20, "transactions need a replica set")
            if handle is None:
                raise CommandError(59, f"no such command: '{name}'")
            with self._lock:
                return {**handle(command, self._client[command.get("$db", "admin")]), "ok": 1.0}
        except Exception as error:
            return {"ok": 0.0, "errmsg": str(error), "code": _code(error)}

    # -- the server -----------------------------------------------------------------------------

    def _hello(self, command: Command, db: Any) -> Command:
        return {
            **{"ismaster": True, "isWritablePrimary": True, "helloOk": True, "readOnly": False},
            "maxBsonObjectSize": MAX_DOCUMENT,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "localTime": datetime.now(UTC),
            "logicalSessionTimeoutMinutes": 30,
            **{"connectionId": 1, "minWireVersion": 0, "maxWireVersion": 21},
        }

    def _nothing(self, command: Command, db: Any) -> Command:
        return {}

    def _done(self, _: object) -> Command:
        return {}

    # -- reading --------------------------------------------------------------------------------

    def _find(self, command: Command, db: Any) -> Command:
        collection, limit, skip = command["find"], command.get("limit", 0), command.get("skip", 0)
        query = patch_datetime_awareness_in_document(command.get("filter") or {})
        sort, projection = command.get("sort") or None, command.get("projection") or None
        # Not by `find`, which copies all that match whatever the limit is.
        found = _Collection(db, collection)._get_dataset(query, sort, projection, dict)
        found = itertools.islice(found, skip, skip + abs(limit) if limit else None)
        single = command.get("singleBatch", False) or limit < 0
        return self._cursor(list(found), db, collection, command.get("batchSize"), single=single)

    def _aggregate(self, command: Command, db: Any) -> Command:
        pipeline = list(command["pipeline"])
        first = pipeline.pop(0)["$match"] if pipeline and "$match" in pipeline[0] else {}
        documents = list(_Collection(db, command["aggregate"]).find(first))
        found = list(process_pipeline(documents, db, pipeline, None))
        size = (command.get("cursor") or {}).get("batchSize")
        return self._cursor(found, db, command["aggregate"], size)

    def _count(self, command: Command, db: Any) -> Command:
        collection = _Collection(db, command["count"])
        return {"n": collection.count_documents(command.get("query") or {})}

    def _distinct(self, command: Command, db: Any) -> Command:
        collection = _Collection(db, command["distinct"])
        return {"values": list(collection.distinct(command["key"], command.get("query") or {}))}

    def _cursor(
        self, found: list[dict], db: Any, collection: str, size: int | None, *, single: bool = False
    ) -> Command:
        batch, rest = _split(found, 101 if size is None else size)
        number = 0
        if rest and not single:
            number = next(self._numbers)
            self._cursors[number] = rest
        namespace = f"{db.name}.{collection}"
        return {"cursor": {"firstBatch": batch, "id": bson.Int64(number), "ns": namespace}}

    def _get_more(self, command: Command, db: Any) -> Command:
        number = command["getMore"]
        if number not in self._cursors:
            raise CommandError(43, f"cursor id {number} not found")
        batch, rest = _split(self._cursors.pop(number), command.get("batchSize") or 10_000)
        if rest:
            self._cursors[number] = rest
        namespace = f"{db.name}.{command['collection']}"
        left = bson.Int64(number if rest else 0)
        return {"cursor": {"nextBatch": batch, "id": left, "ns": namespace}}

    def _kill_cursors(self, command: Command, db: Any) -> Command:
        for number in command["cursors"]:
            self._cursors.pop(number, None)
        return {"cursorsKilled": command["cursors"]}

    # -- writing --------------------------------------------------------------------------------

    def _insert(self, command: Command, db: Any) -> Command:
        collection, n = _Collection(db, command["insert"]), 0
        errors: list[Command] = []
        for place, document in enumerate(command["documents"]):
            try:
                _check_size(document)
                collection.insert_one(document)
                n += 1
            except (CommandError, PyMongoError, mongomock_ng.DuplicateKeyError) as error:
                errors.append(_write_error(place, error))
                if command.get("ordered", True):
                    break
        return {"n": n, **({"writeErrors": errors} if errors else {})}

    def _update(self, command: Command, db: Any) -> Command:
        collection, n, n_modified = _Collection(db, command["update"]), 0, 0
        upserted: list[Command] = []
        errors: list[Command] = []
        for place, each in enumerate(command["updates"]):
            try:
                result = _apply_update(collection, each)
            except (CommandError, PyMongoError, mongomock_ng.DuplicateKeyError) as error:
                errors.append(_write_error(place, error))
                if command.get("ordered", True):
                    break
                continue
            n += result.matched_count
            n_modified += result.modified_count or 0
            if result.upserted_id is not None:
                n += 1
                upserted.append({"index": place, "_id": result.upserted_id})
        reply: Command = {"n": n, "nModified": n_modified}
        if upserted:
            reply["upserted"] = upserted
        if errors:
            reply["writeErrors"] = errors
        return reply

    def _delete(self, command: Command, db: Any) -> Command:
        collection, n = _Collection(db, command["delete"]), 0
        for each in command["deletes"]:
            remove = collection.delete_one if each.get("limit") else collection.delete_many
            n += remove(each["q"]).deleted_count
        return {"n": n}

    def _find_and_modify(self, command: Command, db: Any) -> Command:
        collection = _Collection(db, command.get("findAndModify") or command["findandmodify"])
        query = command.get("query") or {}
        settings: dict[str, Any] = {"projection": command.get("fields") or None}
        if command.get("sort"):
            settings["sort"] = list(command["sort"].items())
        if command.get("remove"):
            value = collection.find_one_and_delete(query, **settings)
        else:
            change = command["update"]
            settings["upsert"] = command.get("upsert", False)
            settings["return_document"] = bool(command.get("new"))
            if command.get("arrayFilters"):
                settings["array_filters"] = command["arrayFilters"]
            replaces = _is_replacement(change)
            modify = collection.find_one_and_replace if replaces else collection.find_one_and_update
            value = modify(query, change, **settings)
        outcome = {"n": int(value is not None), "updatedExisting": value is not None}
        return {"value": value, "lastErrorObject": outcome}

    # -- collections and indexes ----------------------------------------------------------------

    def _create_indexes(self, command: Command, db: Any) -> Command:
        kept = ("unique", "sparse", "expireAfterSeconds", "partialFilterExpression")
        for index in command["indexes"]:
            settings = {name: index[name] for name in kept if name in index}
            keys = list(index["key"].items())
            db[command["createIndexes"]].create_index(keys, name=index["name"], **settings)
        return {}

    def _list_indexes(self, command: Command, db: Any) -> Command:
        name = command["listIndexes"]
        if name not in db.list_collection_names():
            raise CommandError(26, f"ns does not exist: {db.name}.{name}")
        found = [
            {"v": 2, "name": label, "key": dict(index["key"]), "unique": index.get("unique", False)}
            for label, index in db[name].index_information().items()
        ]
        return self._cursor(found, db, name, len(found))

    def _drop_indexes(self, command: Command, db: Any) -> Command:
        collection = db[command["dropIndexes"]]
        if command["index"] == "*":
            collection.drop_indexes()
        else:
            collection.drop_index(command["index"])
        return {}

    def _list_collections(self, command: Command, db: Any) -> Command:
        wanted = (command.get("filter") or {}).get("name")
        found = [
            {"name": name, "type": "collection", "options": {}, "info": {"readOnly": False}}
            for name in db.list_collection_names()
            if not isinstance(wanted, str) or name == wanted
        ]
        return self._cursor(found, db, "$cmd.listCollections", len(found))

    def _list_databases(self, command: Command, db: Any) -> Command:
        names = self._client.list_database_names()
        found = [{"name": name, "sizeOnDisk": 0, "empty": False} for name in names]
        return {"databases": found, "totalSize": 0}


class _Collection(Collection):
    """Collection in which documents that cannot match are passed over before they are matched.

    Parameters
    ----------
    database
        Database of mongomock-ng.
    name
        Name of the collection.
    """

    def __init__(self, database: Any, name: str) -> None:
        super().__init__(database, name, _db_store=database._store)

    def _iter_documents(self, filter: Mapping[str, Any]) -> Iterator[dict]:
        wanted = _wanted(filter)
        if not wanted:
            yield from super()._iter_documents(filter)
            return
        found = self._candidates(wanted)
        if not found:
            filter_applies(filter, {})  # a filter that is wrong is refused all the same
        yield from (document for document in found if filter_applies(filter, document))

    def _candidates(self, wanted: Mapping[str, frozenset]) -> list[dict]:
        """Documents that have one of the values wanted in each field, or a list in its place."""
        if "_id" in wanted:
            documents = [self._store[key] for key in wanted["_id"] if key in self._store]
        else:
            documents = list(self._store.documents)
        for field, values in wanted.items():
            documents = [
                document
                for document in documents
                if isinstance(value := document.get(field), list)
                or (isinstance(value, _PLAIN) and value in values)
            ]
        return documents

    def _ensure_uniques(self, new_data: dict) -> None:
        """Compare with all documents only if another one has the same texts."""
        for index in self._store.indexes.values():
            if index.get("unique"):
                wanted = _wanted({field: new_data.get(field) for field, _ in index["key"]})
                if not wanted or len(self._candidates(wanted)) > 1:
                    super()._ensure_uniques(new_data)
                    return

    def _copy_only_fields(self, doc: dict, fields: Any, *args: Any, **kwargs: Any) -> Any:
        if not fields:
            return bson.decode(bson.encode(doc), _NAIVE)
        return super()._copy_only_fields(doc, fields, *args, **kwargs)


def _wanted(query: Mapping[str, Any]) -> dict[str, frozenset]:
    """Values that a query allows for fields that have to equal a text or an identifier."""
    wanted = {}
    for field, value in query.items():
        values = value["$in"] if isinstance(value, dict) and set(value) == {"$in"} else [value]
        is_plain = all(isinstance(each, _PLAIN) for each in values)
        if is_plain and "." not in field and not field.startswith("$"):
            wanted[field] = frozenset(values)
    return wanted


def _apply_update(collection: Any, each: Command) -> Any:
    change, settings = each["u"], {"upsert": each.get("upsert", False)}
    if each.get("arrayFilters"):
        settings["array_filters"] = each["arrayFilters"]
    if _is_replacement(change):
        _check_size(change)
        return collection.replace_one(each["q"], change, **settings)
    apply = collection.update_many if each.get("multi") else collection.update_one
    return apply(each["q"], change, **settings)


def _is_replacement(change: Any) -> bool:
    return isinstance(change, dict) and not any(key.startswith("$") for key in change)


def _check_size(document: dict) -> None:
    if len(bson.encode(document)) > MAX_DOCUMENT:
        raise CommandError(10334, "object to insert too large")


def _split(documents: list[dict], n: int) -> tuple[list[dict], list[dict]]:
    """First batch, encoded and not longer than a message may be, and the rest."""
    batch: list[dict] = []
    size = 0
    for document in documents[:n]:
        encoded = bson.encode(document)
        size += len(encoded)
        if batch and size > _MAX_BATCH:
            break
        batch.append(RawBSONDocument(encoded))
    return batch, documents[len(batch) :]


def _code(error: Exception) -> int:
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, DuplicateKeyError):
        return 11000
    return getattr(error, "code", None) or _CODES.get(type(error).__name__, 8000)


def _write_error(place: int, error: Exception) -> Command:
    return {"index": place, "code": _code(error), "errmsg": str(error)}


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    engine: _Engine

    def __init__(self, *args: Any) -> None:
        self.open_sockets: set[socket.socket] = set()
        super().__init__(*args)

    def cut_connections(self) -> None:
        for connection in list(self.open_sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Connection(socketserver.BaseRequestHandler):
    """Messages of one client: OP_MSG, and OP_QUERY of the first handshake."""

    server: _Server

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.open_sockets.add(self.request)
        try:
            while self._answer_one():
                pass
        except (EOFError, OSError):
            pass
        finally:
            self.server.open_sockets.discard(self.request)

    def _answer_one(self) -> bool:
        length, request, _, opcode = struct.unpack("<iiii", self._receive(16))
        body = self._receive(length - 16)
        if opcode == _OP_MSG:
            flags, command = _message(body)
            reply = bson.encode(self.server.engine.answer(command))
            if not flags & 2:  # "more to come": the client wants no reply
                head = struct.pack("<iiii", 21 + len(reply), 0, request, _OP_MSG)
                self.request.sendall(head + bytes(5) + reply)
            return True
        if opcode == _OP_QUERY:
            start = body.index(b"\0", 4) + 9
            reply = bson.encode(self.server.engine.answer(bson.decode(body[start:], _NAIVE)))
            head = struct.pack("<iiii", 36 + len(reply), 0, request, _OP_REPLY)
            self.request.sendall(head + struct.pack("<iqii", 8, 0, 0, 1) + reply)
            return True
        return False

    def _receive(self, n: int) -> bytes:
        received = bytearray()
        while len(received) < n:
            part = self.request.recv(min(n - len(received), 1 << 20))
            if not part:
                raise EOFError
            received += part
        return bytes(received)


def _message(body: bytes) -> tuple[int, Command]:
    """Flags and command of an OP_MSG, its document sequences put into the command."""
    (flags,) = struct.unpack_from("<I", body, 0)
    place, end = 4, len(body) - (4 if flags & 1 else 0)  # a checksum may follow
    command: Command = {}
    while place < end:
        kind = body[place]
        (size,) = struct.unpack_from("<i", body, place + 1)
        section = body[place + 1 : place + 1 + size]
        if kind == 0:
            command = {**bson.decode(section, _NAIVE), **command}
        else:
            name_end = section.index(b"\0", 4)
            name = section[4:name_end].decode()
            command[name] = bson.decode_all(section[name_end + 1 :], _NAIVE)
        place += 1 + size
    return flags, command


if __name__ == "__main__":
    double = MongoDouble(int(sys.argv[1]) if len(sys.argv) > 1 else 27017).start()
    print(double.uri, flush=True)
    threading.Event().wait()
