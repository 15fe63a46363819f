"""A maggma store in one SQLite file: no server, indexed, safe against kills."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from maggma.core import Sort, Store
from mongomock_ng.filtering import filter_applies, resolve_sort_key
from monty.json import jsanitize

from .extended_json import dumps, loads
from .sqlite_criteria import (
    NULL,
    OPAQUE,
    Cell,
    Clause,
    any_composed,
    cell,
    cell_value,
    column,
    translate,
)
from .store_location import STORE_VARIABLE, StoreError

#: Marks the files of this store ("lrlo").
APPLICATION_ID = 0x6C726C6F
#: Format of the file. Version 0 (lrlo 0.1.0) had whole documents and nothing else.
FORMAT_VERSION = 1
#: First version of SQLite with all that is used here.
OLDEST_SQLITE = (3, 24)
#: Seconds to wait for another process.
PATIENCE = 60.0
#: Rows looked at at once.
_BATCH = 1000
#: Connections that a forked process must neither use nor close.
_INHERITED: list[sqlite3.Connection] = []
#: File systems of several machines: their processes cannot share the memory that a write-ahead
#: log needs.
NETWORK_FILE_SYSTEMS = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs"),
        *(
            "glusterfs",
            "gpfs",
            "lustre",
            "nfs",
            "nfs4",
            "panfs",
            "pvfs2",
            "smb3",
            "smbfs",
            "wekafs",
        ),
    )
)


class SQLiteStore(Store):
    """Documents as JSON in one table of a SQLite file, chosen fields beside them.

    The fields lie in a narrow table of their own, so that queries need not read documents.
    Criteria are translated to SQL as far as it says the same; the rest is decided on the
    documents themselves, with MongoDB's rules. Every update is one transaction, on disk before
    it returns. Documents come in batches: memory never holds all.

    Parameters
    ----------
    path
        SQLite file; created on connection. Several stores may share a file.
    table
        Table of this store within the file.
    fields
        Fields kept beside the documents.
    indexes
        Fields kept and indexed; the store's key is always one.
    **kwargs
        As for any maggma store: ``key``, ``last_updated_field``, ``validator``, ….
    """

    def __init__(
        self,
        path: str,
        table: str = "documents",
        fields: Sequence[str] = (),
        indexes: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        if not table.isidentifier():
            raise StoreError(f"{table!r} cannot name a table")
        self.path = str(path)
        self.table = table
        self.fields = tuple(fields)
        self.indexes = tuple(indexes)
        self.kwargs = kwargs
        self._connection: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._known: tuple[int, tuple[str, ...]] = (-1, ())  # schema version, columns
        self._texts = column(table)
        self._cells = column(f"{table}_fields")
        super().__init__(**kwargs)

    @property
    def name(self) -> str:
        """Name that tells the file and the table."""
        return f"sqlite://{self.path}#{self.table}"

    @property
    def _collection(self) -> Any:
        raise StoreError(f"{self.name} has no MongoDB collection; use the methods of the store")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SQLiteStore) and self.name == other.name

    def __hash__(self) -> int:
        return hash((self.name, self.last_updated_field))

    def connect(self, force_reset: bool = False) -> None:
        """Open the file; create or convert what is not there yet.

        A file that may not be written is opened for reading.

        Raises
        ------
        StoreError
            If the file cannot be opened, is no store of this package, or comes from a newer
            version of it.
        """
        if self._connection is not None and not force_reset:
            return
        self.close()
        try:
            with self._lock, self._explained():
                self._open_file(Path(self.path))
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                if self._process == os.getpid():
                    self._connection.close()
                else:  # closing would let go of the locks of the process that opened it
                    _INHERITED.append(self._connection)
            self._connection = None
            self._known = (-1, ())

    def count(self, criteria: dict | None = None) -> int:
        """Count the documents that match."""
        with self._read() as execute:
            clause = self._clause(criteria)
            number, doubtful = execute(
                f"SELECT COUNT(*), SUM({clause.doubt}) FROM {self._cells} WHERE {clause.sql}",
                clause.values,
            ).fetchone()
        return sum(1 for _ in self._rows(criteria or {})) if doubtful else int(number)

    def query(
        self,
        criteria: dict | None = None,
        properties: dict | list | None = None,
        sort: Mapping[str, Sort | int] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[dict]:
        """Documents that match, in the order of their first update unless sorted.

        Parameters
        ----------
        criteria
            MongoDB filter.
        properties
            Fields to return: a list, or a dict of ones (only these) or zeros (all but these).
        sort
            1 for ascending, -1 for descending, by field.
        skip, limit
            Documents left out at the start, and most documents returned (0 for all).
        """
        order = {name: Sort(way).value for name, way in (sort or {}).items()}
        hides_id = isinstance(properties, Mapping) and not properties.get("_id", True)
        for document in self._found(criteria or {}, properties, order, skip, limit):
            if hides_id:
                document.pop("_id", None)
            yield document

    def _found(
        self,
        criteria: Mapping[str, Any],
        properties: Mapping[str, int] | Sequence[str] | None,
        order: Mapping[str, int],
        skip: int,
        limit: int,
    ) -> Iterator[dict]:
        wanted = _wanted_fields(properties)
        rows = islice(self._rows(criteria, order), skip, skip + limit if limit else None)
        with self._read():
            is_kept = wanted is not None and set(wanted) <= set(self._columns())
        if wanted is not None and is_kept:
            yield from self._cells_of(rows, wanted)
        else:
            for _, document in self._documents(rows):
                yield project(document, properties)

    def field_values(
        self, criteria: Mapping[str, Any] | None, fields: Sequence[str]
    ) -> Iterator[tuple[Any, ...]]:
        """Fields of the documents that match, as tuples; None where a field is missing.

        The quickest way to a table: documents are read only where fields are not kept.
        """
        with self._read() as execute:
            clause, known = self._clause(criteria), self._columns()
            kept = [name if name in known else None for name in fields]
            listed = [column(name) if name else f"x'{OPAQUE.hex()}'" for name in kept]
            found = execute(
                f"SELECT {', '.join(['row', clause.doubt, *listed])} FROM {self._cells} "
                f"WHERE {clause.sql} ORDER BY +row",
                clause.values,
            ).fetchall()
        paths = [name.split(".") for name in fields]
        for row, doubt, *cells in found:
            if not doubt and OPAQUE not in cells:
                yield tuple(
                    [each if type(each) is not bytes else cell_value(each) for each in cells]
                )
                continue
            for _, document in self._documents([row]):
                if not doubt or filter_applies(criteria, document):
                    yield tuple(_field(document, path) for path in paths)

    def distinct(self, field: str, criteria: dict | None = None, all_exist: bool = False) -> list:
        """Distinct values of a field; of arrays, of their elements."""
        with self._read() as execute:
            clause, name = self._clause(criteria), column(field)
            if field in self._columns():
                found = execute(
                    f"SELECT DISTINCT {name}, {clause.doubt} OR {any_composed([field])} "
                    f"FROM {self._cells} WHERE {clause.sql} AND {name} IS NOT NULL",
                    clause.values,
                ).fetchall()
                if not any(doubt for _, doubt in found):
                    return [cell_value(value) for value, _ in found]
        values: dict[str, Any] = {}
        for document in self.query(criteria, [field]):
            for value in _leaves(document, field.split(".")):
                values.setdefault(dumps(value), value)
        return list(values.values())

    def groupby(
        self,
        keys: list[str] | str,
        criteria: dict | None = None,
        properties: dict | list | None = None,
        sort: Mapping[str, Sort | int] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[tuple[dict, list[dict]]]:
        """Documents grouped by the values of fields; those without such a field are left out."""
        names = [keys] if isinstance(keys, str) else list(keys)
        wanted = None if properties is None else [*dict.fromkeys([*properties, *names])]
        groups: dict[str, tuple[dict, list[dict]]] = {}
        for document in self.query(criteria, wanted, sort, skip, limit):
            values = [_leaves(document, name.split(".")) for name in names]
            if all(values):
                head = _kept(document, [name.split(".") for name in names])
                groups.setdefault(dumps(head), (head, []))[1].append(document)
        yield from groups.values()

    def update(self, docs: list[dict] | dict, key: list | str | None = None) -> None:
        """Insert documents, or replace those with the same `key` (the store's own by default).

        All of them are on disk when this returns, or none.

        Raises
        ------
        StoreError
            If the file cannot be written.
        KeyError
            If a document lacks the key.
        """
        names = [key] if isinstance(key, str) else list(key or [self.key])
        prepared = []
        for document in docs if isinstance(docs, list) else [docs]:
            clean = jsanitize(document, allow_bson=True, recursive_msonable=True)
            clean.pop("_id", None)
            if self._is_valid(clean):
                prepared.append((clean, {name: clean[name] for name in names}))
        with self._write() as execute:
            columns = self._columns()
            paths = [name.split(".") for name in columns]
            listed = ", ".join(["row", *map(column, columns)])
            marks = ", ".join("?" * (len(columns) + 1))
            setters = ", ".join(f"{name} = excluded.{name}" for name in map(column, columns))
            keep = (
                f"INSERT INTO {self._cells} ({listed}) VALUES ({marks}) "
                f"ON CONFLICT (row) DO UPDATE SET {setters}"
            )
            for document, identity in prepared:
                text, cells = dumps(document), [cell(document, path) for path in paths]
                row = self._row_of(identity)
                if row is None:
                    row = execute(
                        f"INSERT INTO {self._texts} (document) VALUES (?)", (text,)
                    ).lastrowid
                else:
                    execute(f"UPDATE {self._texts} SET document = ? WHERE row = ?", (text, row))
                execute(keep, (row, *cells))

    def remove_docs(self, criteria: dict) -> None:
        """Remove the documents that match."""
        with self._write():
            self._delete(list(self._rows(criteria)))

    def ensure_index(self, key: str, unique: bool = False) -> bool:
        """Keep and index a field.

        Raises
        ------
        StoreError
            If the index is to be unique and the documents there are not, or the file cannot be
            written.
        """
        with self._write():
            self._add_columns([key])
            self._add_index(key, unique=unique)
        return True

    def scan(self) -> Iterator[tuple[int, dict | None]]:
        """Every row with its document, None where it cannot be read. For checks."""
        with self._read() as execute:
            rows = [row for (row,) in execute(f"SELECT row FROM {self._texts} ORDER BY row")]
        for row, text in self._texts_of(rows):
            try:
                yield row, loads(text)
            except ValueError:
                yield row, None

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Statements inside are all on disk when the block ends, or none.

        For tables of the file that hold no documents. Yields the function that executes one.

        Raises
        ------
        StoreError
            If the file cannot be written.
        """
        with self._write() as execute:
            yield execute

    def remove_rows(self, rows: Iterable[int]) -> None:
        """Remove rows that :meth:`scan` told. For repairs."""
        with self._write():
            self._delete(rows)

    def faults(self) -> list[str]:
        """What is wrong with the file: SQLite's own integrity check, and fields beside documents
        that do not say what the documents say.
        """
        try:
            with self._read() as execute:
                found = [text for (text,) in execute("PRAGMA integrity_check") if text != "ok"]
            return found or self._wrong_fields()
        except StoreError as error:
            return [str(error.__cause__ or error)]

    def _wrong_fields(self) -> list[str]:
        with self._read() as execute:
            names = self._columns()
            (wrong,) = execute(
                f"SELECT COUNT(*) FROM {self._cells} "
                f"WHERE row NOT IN (SELECT row FROM {self._texts})"
            ).fetchone()
        listed = ", ".join(["row", *map(column, names)])
        paths = [name.split(".") for name in names]
        for row, document in self.scan():
            with self._read() as execute:
                sql = f"SELECT {listed} FROM {self._cells} WHERE row = ?"
                stored = execute(sql, (row,)).fetchone()
            if document is not None:
                wrong += stored != (row, *(cell(document, path) for path in paths))
        if not wrong:
            return []
        return [f"{self.table}: the fields of {wrong} documents differ from the documents"]

    # -- rows and documents ---------------------------------------------------------------------

    def _clause(self, criteria: Mapping[str, Any] | None) -> Clause:
        if any(name == "$where" for name in criteria or {}):
            raise StoreError("$where runs code; this store refuses it")
        return translate(criteria or {}, self._columns())

    def _rows(
        self, criteria: Mapping[str, Any], order: Mapping[str, int] | None = None
    ) -> Iterator[int]:
        """Rows of the documents that match, in the order asked for."""
        order = order or {}
        with self._read() as execute:
            clause, known = self._clause(criteria), self._columns()
            in_sql = {name: way for name, way in order.items() if name in known}
            keys = [
                f"NULLIF({column(name)}, x'{NULL.hex()}') {'ASC' if way > 0 else 'DESC'}"
                for name, way in in_sql.items()
            ]
            found = execute(
                f"SELECT row, {clause.doubt}, {any_composed(in_sql)} FROM {self._cells} "
                f"WHERE {clause.sql} ORDER BY {', '.join([*keys, '+row'])}",  # +: by an index
                clause.values,
            ).fetchall()
        rows = self._decided(criteria, ((row, doubt) for row, doubt, _ in found))
        if len(in_sql) == len(order) and not any(composed for *_, composed in found):
            yield from rows
        else:
            yield from _sorted_rows(self._documents(sorted(rows)), order)

    def _decided(
        self, criteria: Mapping[str, Any], candidates: Iterator[tuple[int, int]]
    ) -> Iterator[int]:
        """Rows that match; of those in doubt the documents are looked at."""
        while batch := list(islice(candidates, _BATCH)):
            doubtful = [row for row, doubt in batch if doubt]
            wrong = {
                row
                for row, document in self._documents(doubtful)
                if not filter_applies(criteria, document)
            }
            yield from (row for row, _ in batch if row not in wrong)

    def _row_of(self, identity: Mapping[str, Any]) -> int | None:
        """Row of the document with these values, if there is one."""
        return next(self._rows(identity), None)

    def _delete(self, rows: Iterable[int]) -> None:
        for row in rows:
            for table in (self._texts, self._cells):
                self._connected.execute(f"DELETE FROM {table} WHERE row = ?", (row,))

    def _documents(self, rows: Iterable[int]) -> Iterator[tuple[int, dict]]:
        """Documents of rows, in the order given; rows removed meanwhile are left out."""
        for row, text in self._texts_of(rows):
            try:
                document = loads(text)
            except ValueError as error:
                raise StoreError(
                    f"document {row} of {self.name} cannot be read ({type(error).__name__}); "
                    "'lrlo store check' says more"
                ) from None
            document["_id"] = row
            yield row, document

    def _texts_of(self, rows: Iterable[int]) -> Iterator[tuple[int, str]]:
        """Texts one by one: a document may be large."""
        sql = f"SELECT document FROM {self._texts} WHERE row = ?"
        for row in rows:
            with self._read() as execute:
                found = execute(sql, (row,)).fetchone()
            if found is not None:
                yield row, found[0]

    def _cells_of(self, rows: Iterable[int], names: Sequence[str]) -> Iterator[dict]:
        """Fields of rows as nested documents, from the cells alone where they suffice."""
        listed = ", ".join(["row", *map(column, names)])
        paths = [name.split(".") for name in names]
        remaining = iter(rows)
        while batch := list(islice(remaining, _BATCH)):
            marks = ", ".join("?" * len(batch))
            sql = f"SELECT {listed} FROM {self._cells} WHERE row IN ({marks})"
            with self._read() as execute:
                found = {row: values for row, *values in execute(sql, batch)}
            opaque = [row for row, values in found.items() if OPAQUE in values]
            whole = dict(self._documents(opaque))
            for row in batch:
                if row in whole:
                    yield project(whole[row], names)
                elif row in found and row not in opaque:
                    yield {"_id": row, **_nested(paths, found[row])}

    def _is_valid(self, document: dict) -> bool:
        """Whether the validator of the store, if there is one, accepts a document.

        Raises
        ------
        ValueError
            If it does not and is strict.
        """
        if not self.validator or self.validator.is_valid(document):
            return True
        errors = self.validator.validation_errors(document)
        if getattr(self.validator, "strict", False):
            raise ValueError(errors)
        self.logger.error(errors)
        return False

    # -- the file -------------------------------------------------------------------------------

    @property
    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"{self.name} is not connected; call connect() first")
        if self._process != os.getpid():
            raise StoreError(
                f"{self.name} was connected by another process; call connect(force_reset=True)"
            )
        return self._connection

    @contextmanager
    def _read(self) -> Iterator[Any]:
        """Reads inside see one state of the file."""
        with self._lock, self._explained():
            connection = self._connected
            if connection.in_transaction:
                yield connection.execute
                return
            connection.execute("BEGIN")
            try:
                yield connection.execute
            finally:
                connection.execute("COMMIT")

    @contextmanager
    def _write(self) -> Iterator[Any]:
        """Changes inside are all on disk when the block ends, or none."""
        with self._lock, self._explained():
            connection = self._connected
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection.execute
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._known = (-1, ())
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of SQLite as errors of the store."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the store {self.path} cannot be opened or written ({error}); {_advice(error)}"
            ) from error

    def _open_file(self, path: Path) -> None:
        self._process = os.getpid()
        if not path.exists() or all(os.access(p, os.W_OK) for p in (path, path.parent)):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(str(path))
            self._prepare()
            return
        self._connection = _open_to_read(path)
        if self._format() != FORMAT_VERSION:
            raise StoreError(
                f"the store {path} must be converted from an older format, but may not be "
                "written; ask its owner to open it once, or copy it"
            )

    def _columns(self) -> tuple[str, ...]:
        """Fields that the file keeps beside the documents, whoever asked for them."""
        connection = self._connected
        (version,) = connection.execute("PRAGMA schema_version").fetchone()
        if version != self._known[0]:
            found = connection.execute(f"PRAGMA table_info({self._cells})").fetchall()
            self._known = (version, tuple(name for _, name, *_ in found if name != "row"))
        return self._known[1]

    def _format(self) -> int:
        """Format of the file; -1 for an empty one.

        Raises
        ------
        StoreError
            If the file is another program's, or a newer version's.
        """
        connection = self._connected
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application == APPLICATION_ID and version <= FORMAT_VERSION:
            return int(version)
        if application == APPLICATION_ID:
            raise StoreError(
                f"the store {self.path} has format {version}, written by a newer version of lrlo; "
                f"this one reads up to {FORMAT_VERSION}: upgrade lrlo, or choose another store"
            )
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        names = [name for (name,) in tables]
        if not names:
            return -1
        if application == 0 and all(
            _columns_of(connection, n) == ["key", "document"] for n in names
        ):
            return 0
        raise StoreError(
            f"{self.path} is a database of another program; choose another path with --store or "
            f"{STORE_VARIABLE}"
        )

    def _prepare(self) -> None:
        """Bring the file to the present format and let it have this store's table and fields."""
        found = self._format()  # refuses what is not ours before anything is changed
        _choose_journal(self._connected, Path(self.path))
        wanted = dict.fromkeys([self.key, *self.indexes, *self.fields])
        if found == FORMAT_VERSION and set(wanted) <= set(self._columns()):
            return
        with self._write() as execute:
            if self._format() == 0:
                self._convert()
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            execute(
                f"CREATE TABLE IF NOT EXISTS {self._texts} "
                "(row INTEGER PRIMARY KEY AUTOINCREMENT, document TEXT NOT NULL)"
            )
            execute(f"CREATE TABLE IF NOT EXISTS {self._cells} (row INTEGER PRIMARY KEY)")
            self._add_columns(wanted)
            for name in dict.fromkeys([self.key, *self.indexes]):
                self._add_index(name)

    def _convert(self) -> None:
        """Take over the tables of format 0."""
        execute = self._connected.execute
        tables = execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            execute(f"ALTER TABLE {column(table)} RENAME TO {column(table + '_before')}")
            execute(
                f"CREATE TABLE {column(table)} "
                "(row INTEGER PRIMARY KEY AUTOINCREMENT, document TEXT NOT NULL)"
            )
            execute(f"CREATE TABLE {column(table + '_fields')} (row INTEGER PRIMARY KEY)")
            execute(
                f"INSERT INTO {column(table)} (document) "
                f"SELECT document FROM {column(table + '_before')} ORDER BY rowid"
            )
            execute(f"INSERT INTO {column(table + '_fields')} SELECT row FROM {column(table)}")
            execute(f"DROP TABLE {column(table + '_before')}")

    def _add_columns(self, names: Iterable[str]) -> None:
        """Keep further fields, of the documents already there, too."""
        execute = self._connected.execute
        new = [name for name in names if name not in self._columns()]
        if not new:
            return
        for name in new:
            execute(f"ALTER TABLE {self._cells} ADD COLUMN {column(name)}")
        setters = ", ".join(f"{column(name)} = ?" for name in new)
        paths = [name.split(".") for name in new]
        for row, document in self.scan():
            cells = [cell(document or {}, path) for path in paths]
            if any(value is not None for value in cells):
                execute(f"UPDATE {self._cells} SET {setters} WHERE row = ?", (*cells, row))

    def _add_index(self, name: str, *, unique: bool = False) -> None:
        """Index the documents that have a field."""
        index = column(f"{self.table}:{'unique:' if unique else ''}{name}")
        self._connected.execute(
            f"CREATE {'UNIQUE ' if unique else ''}INDEX IF NOT EXISTS {index} "
            f"ON {self._cells} ({column(name)}) WHERE {column(name)} IS NOT NULL"
        )


def project(document: dict, properties: Mapping[str, int] | Sequence[str] | None) -> dict:
    """Fields of a document as MongoDB's projection returns them.

    Raises
    ------
    StoreError
        For projections that choose and leave out at the same time, or use operators.
    """
    if not properties:
        return document
    wanted = _wanted_fields(properties)
    if wanted is None:
        for name in properties:
            _drop(document, name.split("."))
        return document
    return {"_id": document["_id"], **_kept(document, [name.split(".") for name in wanted])}


def _wanted_fields(properties: Mapping[str, Any] | Sequence[str] | None) -> list[str] | None:
    """Fields that a projection chooses; None for whole documents or fields left out."""
    if not properties:
        return None
    if not isinstance(properties, Mapping):
        return list(properties)
    choices = {name: value for name, value in properties.items() if name != "_id"}
    if any(value not in (0, 1) for value in choices.values()) or len(set(choices.values())) > 1:
        raise StoreError("properties are a list of fields, or a dict of all ones or all zeros")
    keeps = any(choices.values()) if choices else properties["_id"]
    return list(choices) if keeps else None


def _field(document: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = document
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _kept(value: Any, paths: Sequence[Sequence[str]]) -> Any:
    if isinstance(value, list):
        return [_kept(each, paths) for each in value if isinstance(each, dict | list)]
    kept: dict[str, Any] = {}
    for name in dict.fromkeys(path[0] for path in paths):
        if name not in value:
            continue
        below = [path[1:] for path in paths if path[0] == name]
        inner = value[name]
        if not all(below):
            kept[name] = inner
        elif isinstance(inner, dict | list):
            kept[name] = _kept(inner, below)
    return kept


def _drop(value: Any, path: Sequence[str]) -> None:
    if isinstance(value, list):
        for each in value:
            _drop(each, path)
    elif isinstance(value, dict) and path[0] in value:
        if len(path) == 1:
            del value[path[0]]
        else:
            _drop(value[path[0]], path[1:])


def _nested(paths: Sequence[Sequence[str]], values: Sequence[Cell]) -> dict:
    document: dict[str, Any] = {}
    for path, value in zip(paths, values, strict=True):
        if value is None:
            continue
        place = document
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = cell_value(value)
    return document


def _leaves(value: Any, path: Sequence[str]) -> list:
    """Values at a path; arrays on the way and at the end stand for their elements."""
    if isinstance(value, list):
        return [leaf for each in value for leaf in _leaves(each, path)]
    if not path:
        return [value]
    return _leaves(value[path[0]], path[1:]) if isinstance(value, dict) and path[0] in value else []


def _sorted_rows(matching: Iterable[tuple[int, dict]], order: Mapping[str, int]) -> list[int]:
    keyed = [
        (row, {name: resolve_sort_key(name, document) for name in order})
        for row, document in matching
    ]
    for name, way in reversed(list(order.items())):
        keyed.sort(key=lambda item: item[1][name], reverse=way < 0)
    return [row for row, _ in keyed]


def _columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    return [name for _, name, *_ in connection.execute(f"PRAGMA table_info({column(table)})")]


def _open(path: str) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(
            f"this Python has SQLite {sqlite3.sqlite_version}; the embedded store needs "
            f"{'.'.join(map(str, OLDEST_SQLITE))} or newer"
        )
    connection = sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, uri=False
    )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -32768")  # KiB
    return connection


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Open a file that may not be written.

    Its write-ahead log, if one is there, needs a folder that may be written; without one
    nobody is writing, and the file can be taken as it is.
    """
    uri = path.resolve().as_uri()
    log = path.with_name(path.name + "-wal")
    options = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    return sqlite3.connect(
        f"{uri}?{options}",
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )


def _choose_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Write-ahead log where all processes are on one machine, else a rollback journal."""
    wanted = "delete" if file_system(path) in NETWORK_FILE_SYSTEMS else "wal"
    deadline = time.monotonic() + PATIENCE
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != wanted:
        try:
            connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # SQLite does not wait by itself here


def file_system(path: Path) -> str:
    """Type of the file system that holds a path; empty where the system does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    mounts = {}
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        mounts[point.replace("\\040", " ")] = kind
    place = path.resolve()
    return next((mounts[str(p)] for p in (place, *place.parents) if str(p) in mounts), "")


def _advice(error: Exception) -> str:
    """What to do about an error of SQLite or of the system."""
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return "free space or raise the quota: what was stored before is still there"
    if "readonly" in text:
        return f"make it writable, or choose another with --store or {STORE_VARIABLE}"
    if "locked" in text:
        return f"another process kept it for more than {PATIENCE:.0f} s"
    if "not a database" in text or "malformed" in text:
        return "it is no store or is damaged; 'lrlo store check' says more"
    return f"choose another with --store or {STORE_VARIABLE}"
