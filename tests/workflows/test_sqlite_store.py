"""What maggma asks of a store, on SQLite and, as the reference, on maggma's own stores."""

import json
import math
import os
import pickle
import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from maggma.core import Sort, Store
from maggma.core import StoreError as MaggmaStoreError
from maggma.stores import MemoryStore, MongoStore
from maggma.validators import JSONSchemaValidator
from monty.json import MontyDecoder
from pymongo import MongoClient

from lrlo.workflows import sqlite_store
from lrlo.workflows.sqlite_store import SQLiteStore
from lrlo.workflows.store import StoreError

from .mongodb import mongodb_uri


@pytest.fixture(params=["sqlite", "memory", "mongodb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        opened: Store = SQLiteStore(str(tmp_path / "s.sqlite"), fields=["a", "b.c"], indexes=["n"])
        opened.connect()
        yield opened
        opened.close()
    elif request.param == "memory":
        opened = MemoryStore()
        opened.connect()
        yield opened
    else:
        with mongodb_uri() as uri:
            name = uri.partition("?")[0].rpartition("/")[2]
            opened = MongoStore(name, "test", uri=uri)
            opened.connect()
            yield opened
            opened.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SQLiteStore]:
    opened = SQLiteStore(str(tmp_path / "s.sqlite"), fields=["a", "b.c", "s"], indexes=["n"])
    opened.connect()
    yield opened
    opened.close()


def keys(store: Store, criteria: dict | None = None, **settings: Any) -> list:
    return [document["task_id"] for document in store.query(criteria, **settings)]


# -- maggma's behaviours -------------------------------------------------------------------------


def test_query_returns_what_was_stored(store: Store) -> None:
    document = {"task_id": 1, "a": 1, "b": {"c": [1.5, None, "é", {"d": True}]}, "e": {}}
    store.update(document)
    found = store.query_one({"task_id": 1})
    found.pop("_id", None)
    assert found == document
    assert store.query_one({"task_id": 2}) is None


def test_properties(store: Store) -> None:
    store.update({"task_id": 1, "a": 1, "b": {"c": 2, "d": 3}, "l": [{"x": 1, "y": 2}, {"y": 3}]})

    def found(properties: Any) -> dict:
        document = store.query_one(properties=properties)
        document.pop("_id", None)
        return document

    assert found(["a"]) == {"a": 1}
    assert found(["b.c"]) == {"b": {"c": 2}}
    assert found(["b.c", "b.d"]) == {"b": {"c": 2, "d": 3}}
    assert found({"a": 1, "missing": 1}) == {"a": 1}
    assert found(["l.x"]) == {"l": [{"x": 1}, {}]}
    assert found({"l": 0, "b.c": 0, "_id": 0}) == {"task_id": 1, "a": 1, "b": {"d": 3}}
    assert store.query_one(properties={"a": 1, "_id": 0}) == {"a": 1}
    assert set(store.query_one(properties=["a"])) == {"a", "_id"}
    assert set(store.query_one(properties={"_id": 1})) == {"_id"}


def test_null_is_not_missing_in_properties(store: Store) -> None:
    store.update([{"task_id": 1, "a": None}, {"task_id": 2}])
    assert store.query_one({"task_id": 1}, ["a"])["a"] is None
    assert "a" not in store.query_one({"task_id": 2}, ["a"])


def test_count(store: Store) -> None:
    assert store.count() == 0
    store.update([{"task_id": i, "a": i % 2} for i in range(5)])
    assert store.count() == 5
    assert store.count({"a": 1}) == 2
    assert store.count({"unknown.field": 1}) == 0


def test_sort_skip_limit(store: Store) -> None:
    store.update([{"task_id": i, "a": v, "z": -v} for i, v in enumerate((3, 1, 2, 1))])
    assert keys(store, sort={"a": 1, "task_id": 1}) == [1, 3, 2, 0]
    assert keys(store, sort={"a": Sort.Descending, "task_id": Sort.Ascending}) == [0, 2, 1, 3]
    assert keys(store, sort={"z": -1, "task_id": -1}) == [3, 1, 2, 0]  # z has no column
    assert keys(store, sort={"task_id": 1}, skip=1, limit=2) == [1, 2]
    assert keys(store, {"z": {"$lt": -1}}, sort={"z": 1}, limit=1) == [0]
    assert keys(store, {"z": {"$lt": 0}}, skip=3) == [3]


def test_missing_values_sort_first(store: Store) -> None:
    store.update([{"task_id": 1, "a": 0}, {"task_id": 2}, {"task_id": 3, "a": "x"}])
    assert keys(store, sort={"a": 1}) == [2, 1, 3]
    assert keys(store, sort={"a": -1}) == [3, 1, 2]


def test_distinct(store: Store) -> None:
    store.update([{"task_id": i, "a": v} for i, v in enumerate((1, 4, 4))])
    store.update([{"task_id": 10, "g": {"h": 1}}, {"task_id": 11, "g": {"h": 2}}])
    store.update([{"task_id": 20, "i": None}, {"task_id": 21, "l": ["x", "y"]}])
    store.update({"task_id": 22, "l": ["y", "z"]})
    assert sorted(store.distinct("a")) == [1, 4]
    assert sorted(store.distinct("g.h")) == [1, 2]
    assert store.distinct("blue") == []
    assert store.distinct("i") == [None]
    assert sorted(store.distinct("l")) == ["x", "y", "z"]
    assert store.distinct("a", {"task_id": 0}) == [1]


def test_update_by_any_key(store: Store) -> None:
    store.update({"e": 6, "d": 4}, key="e")
    assert store.query_one({"d": {"$exists": 1}}, properties=["d"])["d"] == 4
    store.update([{"e": 7, "d": 8, "f": 9}], key=["d", "f"])
    assert store.query_one({"d": 8, "f": 9}, properties=["e"])["e"] == 7
    store.update([{"e": 11, "d": 8, "f": 9}], key=["d", "f"])
    assert store.query_one({"d": 8, "f": 9}, properties=["e"])["e"] == 11
    assert store.count() == 2


def test_update_replaces_the_whole_document(store: Store) -> None:
    store.update({"task_id": 1, "a": 1, "b": {"c": 1}})
    store.update({"task_id": 1, "a": 2})
    document = store.query_one()
    document.pop("_id", None)
    assert document == {"task_id": 1, "a": 2}
    assert store.count({"b.c": 1}) == 0


def test_update_needs_the_key(store: Store) -> None:
    with pytest.raises(KeyError):
        store.update({"a": 1})


def test_the_last_of_equal_keys_in_one_update_counts(store: Store) -> None:
    store.update([{"task_id": 1, "a": 1}, {"task_id": 1, "a": 2}])
    assert [document["a"] for document in store.query()] == [2]


def test_validator(store: Store) -> None:
    schema = {"type": "object", "properties": {"e": {"type": "integer"}}, "required": ["e"]}
    store.validator = JSONSchemaValidator(schema=schema)
    store.update([{"e": 100, "d": 3}, {"e": "abc", "d": 4}], key="d")
    assert store.count() == 1
    store.validator = JSONSchemaValidator(schema=schema, strict=True)
    with pytest.raises(Exception, match="integer"):  # of jsonschema
        store.update({"e": "abc", "d": 5}, key="d")
    assert store.count() == 1


def test_groupby(store: Store) -> None:
    store.update(
        [
            {"e": 7, "d": 9, "f": 9, "g": {"h": 1}},
            {"e": 7, "d": 9, "f": 10, "g": {"h": 1}},
            {"e": 8, "d": 9, "f": 11, "g": {"h": 2}},
            {"e": 9, "d": 10, "f": 12},
        ],
        key="f",
    )
    by_d = {group["d"]: documents for group, documents in store.groupby("d", properties=["f"])}
    assert {d: sorted(x["f"] for x in found) for d, found in by_d.items()} == {
        9: [9, 10, 11],
        10: [12],
    }
    assert len(list(store.groupby(["e", "d"]))) == 3
    by_h = {g["g"]["h"]: len(f) for g, f in store.groupby("g.h") if "g" in g and "h" in g["g"]}
    assert by_h == {1: 2, 2: 1}
    assert len(list(store.groupby("d", criteria={"e": 7}))) == 1


def test_remove_docs(store: Store) -> None:
    store.update([{"task_id": i, "a": i % 2, "z": i} for i in range(6)])
    store.remove_docs({"a": 1})
    store.remove_docs({"z": {"$gte": 4}})
    assert sorted(keys(store)) == [0, 2]


def test_last_updated(store: Store) -> None:
    assert store.last_updated == datetime.min
    start = datetime.now(UTC).replace(tzinfo=None)
    store.update({"task_id": 1, "a": 1})
    with pytest.raises(MaggmaStoreError, match="last_updated"):
        _ = store.last_updated
    store.update({"task_id": 1, "last_updated": start + timedelta(seconds=1)})
    assert store.last_updated > start


def test_newer_in(store: Store) -> None:
    target = MemoryStore("other")
    target.connect()
    early, late = datetime(2024, 1, 1), datetime(2024, 1, 2, 3, 4, 5, 678000)
    store.update([{"task_id": i, "last_updated": late} for i in range(10)])
    target.update([{"task_id": i, "last_updated": early} for i in range(10)])
    assert len(target.newer_in(store)) == 10
    assert len(target.newer_in(store, exhaustive=True)) == 10
    assert len(store.newer_in(target)) == 0


def test_ensure_index(store: Store) -> None:
    store.update([{"task_id": i, "p": {"q": i}} for i in range(3)])
    assert store.ensure_index("p.q")
    assert store.ensure_index("p.q")
    assert keys(store, {"p.q": 2}) == [2]


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({"a": 1}, [1, 3]),
        ({"a": 1.0}, [1, 3]),
        ({"a": "x"}, [5]),
        ({"a": [1, 2]}, [3]),
        ({"a": {"$eq": 1}}, [1, 3]),
        ({"a": {"$ne": 1}}, [2, 4, 5, 6, 7, 8]),
        ({"a": {"$in": [2, "x"]}}, [2, 3, 5]),
        ({"a": {"$in": []}}, []),
        ({"a": {"$nin": [1, 2]}}, [4, 5, 6, 7, 8]),
        ({"a": {"$gt": 1}}, [2, 3]),
        ({"a": {"$gte": 1, "$lt": 2}}, [1, 3]),
        ({"a": {"$gt": "w"}}, [5]),
        ({"a": {"$lt": "w"}}, []),
        ({"a": None}, [4, 6, 7]),
        ({"a": {"$in": [None, 2]}}, [2, 3, 4, 6, 7]),
        ({"a": {"$ne": None}}, [1, 2, 3, 5, 8]),
        ({"a": {"$exists": True}}, [1, 2, 3, 4, 5, 8]),
        ({"a": {"$exists": False}}, [6, 7]),
        ({"a": {"$regex": "^x"}}, [5]),
        ({"a": {"$not": {"$gt": 1}}}, [1, 4, 5, 6, 7, 8]),
        ({"a": {"$size": 2}}, [3]),
        ({"b.c": 5}, [6, 7]),
        ({"b.c": {"$gt": 4}}, [6, 7]),
        ({"b": {"c": 5}}, [6]),
        ({"b": {"$elemMatch": {"c": 5, "d": 1}}}, [7]),
        ({"$or": [{"a": 2}, {"b.c": 5}]}, [2, 3, 6, 7]),
        ({"$and": [{"a": {"$gte": 1}}, {"task_id": {"$lt": 3}}]}, [1, 2]),
        ({"$nor": [{"a": 1}, {"b.c": 5}]}, [2, 4, 5, 8]),
        ({"a": 1, "task_id": {"$gt": 1}}, [3]),
        ({"o.p": 3}, [8]),
    ],
)
def test_criteria(store: Store, criteria: dict, expected: list[int]) -> None:
    store.update(
        [
            {"task_id": 1, "a": 1},
            {"task_id": 2, "a": 2},
            {"task_id": 3, "a": [1, 2]},
            {"task_id": 4, "a": None},
            {"task_id": 5, "a": "x"},
            {"task_id": 6, "b": {"c": 5}},
            {"task_id": 7, "b": [{"c": 1}, {"c": 5, "d": 1}]},
            {"task_id": 8, "a": {"k": 1}, "o": {"p": 3}},
        ]
    )
    assert sorted(keys(store, criteria)) == expected
    assert store.count(criteria) == len(expected)


# -- SQLite --------------------------------------------------------------------------------------


def test_random_criteria_give_what_mongomock_gives(sqlite: SQLiteStore) -> None:
    """An independent matcher on 200 random documents and 400 random criteria."""
    rng = random.Random(1)
    scalars = [None, -1, 0, 2, 2.5, 7, "", "a", "b", "é"]

    def value() -> Any:
        if rng.random() < 0.15:
            return [rng.choice(scalars) for _ in range(rng.randrange(3))]
        return rng.choice(scalars)

    def document(i: int) -> dict:
        made: dict[str, Any] = {"task_id": i}
        for name in ("a", "s", "n", "free"):
            if rng.random() < 0.8:
                made[name] = value()
        if rng.random() < 0.7:
            made["b"] = {"c": value()} if rng.random() < 0.8 else [{"c": value()}, {"c": value()}]
        return made

    def condition() -> Any:
        operator = rng.choice(
            ["=", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists"]
        )
        if operator == "=":
            return rng.choice(scalars)
        if operator in ("$in", "$nin"):
            return {operator: rng.sample(scalars, rng.randrange(1, 4))}
        if operator == "$exists":
            return {operator: rng.random() < 0.5}
        comparable = [each for each in scalars if each is not None]
        return {operator: rng.choice(comparable if operator.startswith(("$g", "$l")) else scalars)}

    def criteria(depth: int = 0) -> dict:
        if depth < 2 and rng.random() < 0.35:
            return {
                rng.choice(["$and", "$or", "$nor"]): [
                    criteria(depth + 1) for _ in range(rng.randrange(1, 4))
                ]
            }
        names = rng.sample(["a", "s", "n", "free", "b.c"], rng.randrange(1, 3))
        return {name: condition() for name in names}

    documents = [document(i) for i in range(200)]
    reference = MemoryStore()
    reference.connect()
    for each in (sqlite, reference):
        each.update(documents)
    n_matches = 0
    for _ in range(400):
        asked = criteria()
        expected = sorted(keys(reference, asked))
        assert sorted(keys(sqlite, asked)) == expected, asked
        assert sqlite.count(asked) == len(expected), asked
        n_matches += 0 < len(expected) < 200
    assert n_matches > 200  # most of them divide the documents


def test_truth_values_are_no_numbers(sqlite: SQLiteStore) -> None:
    """As in MongoDB; mongomock takes Python's True for 1."""
    sqlite.update([{"task_id": 1, "a": 1}, {"task_id": 2, "a": True}, {"task_id": 3, "a": False}])
    assert keys(sqlite, {"a": 1}) == [1]
    assert keys(sqlite, {"a": True}) == [2]
    assert keys(sqlite, {"a": {"$ne": False}}) == [1, 2]
    assert sqlite.query_one({"task_id": 2}, {"a": 1, "_id": 0}) == {"a": True}


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -0.0,
        5e-324,
        0.1 + 0.2,
        2**53 + 1,
        -(2**63),
        "line\nbreak \x00 \u2028",
        datetime(2024, 5, 6, 7, 8, 9, 123000),
        ObjectId("0123456789abcdef01234567"),
        b"\x00\xff",
        {"": {"a.b": 1, "$c": 2}},
        [[], [[1]], {}],
    ],
    ids=repr,
)
def test_values_come_back_as_they_were(sqlite: SQLiteStore, value: Any) -> None:
    sqlite.update({"task_id": 1, "a": value, "free": value})
    for found in (sqlite.query_one({"task_id": 1}), sqlite.query_one(properties=["a", "free"])):
        for name in ("a", "free"):
            assert type(found[name]) is type(value)
            assert repr(found[name]) == repr(value)


def test_numbers_are_found_to_the_last_bit(sqlite: SQLiteStore) -> None:
    values = [0.1 + 0.2, 0.3, 4.35, 1 / 3, 2**53 + 1.0, float(2**62)]
    sqlite.update([{"task_id": i, "n": value} for i, value in enumerate(values)])
    for i, value in enumerate(values):
        assert keys(sqlite, {"n": value}) == [i]


def test_many_values_at_once(sqlite: SQLiteStore) -> None:
    sqlite.update([{"task_id": f"t{i}"} for i in range(10)])
    wanted = [f"t{i}" for i in range(5, 40_000)]
    assert len(keys(sqlite, {"task_id": {"$in": wanted}})) == 5
    assert len(keys(sqlite, {"task_id": {"$nin": wanted}})) == 5
    assert sqlite.count({"free": {"$in": wanted}}) == 0


def test_queries_by_index_read_no_other_document(sqlite: SQLiteStore) -> None:
    sqlite.update([{"task_id": i, "n": i, "a": i % 3} for i in range(50)])
    with sqlite3.connect(sqlite.path) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT row FROM documents_fields WHERE n IN (?)", (7,)
        ).fetchall()
    assert "USING COVERING INDEX" in plan[0][-1]
    with sqlite3.connect(sqlite.path) as connection:
        connection.execute("UPDATE documents SET document = 'broken' WHERE row = 3")
    assert sqlite.count({"a": 1}) == 17  # all of this from the fields beside the documents
    assert len(list(sqlite.query({"a": {"$in": [0, 1, 2]}}, ["n"], sort={"n": -1}))) == 50
    assert sorted(sqlite.distinct("a")) == [0, 1, 2]
    with pytest.raises(StoreError, match=r"document 3 of .* cannot be read"):
        list(sqlite.query({"n": 2}))


def test_consumer_may_write_while_it_reads(sqlite: SQLiteStore) -> None:
    sqlite.update([{"task_id": i, "a": 0} for i in range(500)])
    seen = 0
    for document in sqlite.query({"a": 0}):
        sqlite.update({"task_id": document["task_id"], "a": 1})
        if document["task_id"] == 10:
            sqlite.remove_docs({"task_id": {"$gte": 490}})
        seen += 1
    assert seen == 490
    assert sqlite.count({"a": 1}) == 490


def test_failed_update_changes_nothing(sqlite: SQLiteStore) -> None:
    sqlite.update({"task_id": 1, "a": 1})
    with pytest.raises(KeyError):
        sqlite.update([{"task_id": 1, "a": 2}, {"no key": 1}])
    sqlite._connection.execute("DROP TABLE documents")
    with pytest.raises(StoreError, match="cannot be opened or written"):
        sqlite.update({"task_id": 2, "a": 1})
    assert keys(sqlite, {}, properties=["task_id"]) == [1]


def test_unique_index(sqlite: SQLiteStore) -> None:
    sqlite.update([{"task_id": 1, "n": 1}, {"task_id": 2, "n": 1}])
    with pytest.raises(StoreError, match="UNIQUE"):
        sqlite.ensure_index("n", unique=True)
    sqlite.remove_docs({"task_id": 2})
    assert sqlite.ensure_index("n", unique=True)
    with pytest.raises(StoreError, match="UNIQUE"):
        sqlite.update({"task_id": 3, "n": 1})


def test_code_in_criteria_is_refused(sqlite: SQLiteStore) -> None:
    with pytest.raises(StoreError, match="runs code"):
        list(sqlite.query({"$where": "1"}))


def test_store_can_be_described_and_made_again(sqlite: SQLiteStore) -> None:
    sqlite.update({"task_id": 1, "a": 1})
    for again in (
        MontyDecoder().process_decoded(json.loads(json.dumps(sqlite.as_dict()))),
        pickle.loads(pickle.dumps(sqlite)),
    ):
        assert again == sqlite
        assert hash(again) == hash(sqlite)
        assert (again.fields, again.indexes, again.key) == (
            sqlite.fields,
            sqlite.indexes,
            "task_id",
        )
        again.connect()
        assert again.count({"a": 1}) == 1
        again.close()
    assert sqlite != MemoryStore()


def test_closed_store_says_so(sqlite: SQLiteStore) -> None:
    sqlite.close()
    with pytest.raises(StoreError, match="not connected"):
        sqlite.count()
    sqlite.connect()
    assert sqlite.count() == 0


def test_forked_process_must_connect_again(sqlite: SQLiteStore) -> None:
    sqlite.update({"task_id": 1})
    child = os.fork()
    if child == 0:
        try:
            sqlite.count()
        except StoreError:
            sqlite.connect(force_reset=True)
            sqlite.update({"task_id": 2})
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert sqlite.count() == 2


def test_table_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot name a table"):
        SQLiteStore(str(tmp_path / "s.sqlite"), "a; DROP TABLE b")
    odd = SQLiteStore(str(tmp_path / "s.sqlite"), "select", fields=['a"b', "c d.e"])
    odd.connect()
    odd.update({"task_id": 1, 'a"b': 2, "c d": {"e": 3}})
    assert keys(odd, {'a"b': 2, "c d.e": 3}) == [1]


def test_rollback_journal_on_network_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write-ahead log would need memory that the machines share."""
    assert sqlite_store.file_system(Path("/proc/self")) == "proc"
    assert sqlite_store.file_system(tmp_path / "not" / "there") != ""
    modes = {}
    for kind in ("ext4", "lustre"):
        monkeypatch.setattr(sqlite_store, "file_system", lambda path, kind=kind: kind)
        opened = SQLiteStore(str(tmp_path / f"{kind}.sqlite"))
        opened.connect()
        opened.update({"task_id": 1})
        (modes[kind],) = opened._connection.execute("PRAGMA journal_mode").fetchone()
        opened.close()
    assert modes == {"ext4": "wal", "lustre": "delete"}
    opened = SQLiteStore(str(tmp_path / "ext4.sqlite"))  # moved to a cluster
    opened.connect()
    assert opened._connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert opened.count() == 1


def test_mongodb_server_of_the_tests_enforces_the_size_of_documents() -> None:
    with mongodb_uri() as uri:
        client: MongoClient = MongoClient(uri)
        with pytest.raises(Exception, match="too large"):
            client.get_default_database()["c"].insert_one({"a": "x" * (16 * 1024**2 + 20_000)})
        client.close()
