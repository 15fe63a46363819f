"""The queue of a study, without a scheduler, and the double that it lies in."""

import random
import sys
from pathlib import Path

import mongomock_ng
import pytest
from pymongo import MongoClient
from pymongo.errors import BulkWriteError, OperationFailure

pytest.importorskip("jobflow_remote", reason="pip install 'lrlo[remote]'")

from jobflow import Flow

from lrlo.workflows.remote_controller import open_queue
from lrlo.workflows.remote_project import project_name, project_of, read_project

from ..mongo_double import MongoDouble
from .submitted import JOBS, submitted

sys.path.insert(0, str(JOBS))
import cluster_jobs as jobs


def test_children_of_what_a_killed_runner_has_completed_become_ready(
    tmp_path: Path, mongo_server: str
) -> None:
    with submitted(tmp_path, mongo_server) as cluster:
        first = jobs.compute(str(tmp_path), "a")
        second = jobs.check(first.output, "a")
        cluster.submit(Flow([first, second]))
        queue = open_queue(project_of(read_project(project_name(cluster.profile, "faults"))))
        assert queue.make_ready() == []
        queue.jobs.update_one({"uuid": first.uuid}, {"$set": {"state": "COMPLETED"}})
        assert queue.make_ready() == []  # this runner has completed nothing since
        queue.close()
        again = open_queue(queue.project)
        assert len(again.make_ready()) == 1
        assert again.jobs.find_one({"uuid": second.uuid})["state"] == "READY"
        again.close()


def test_the_double_finds_what_it_would_find_by_matching_every_document() -> None:
    words = ["a", "b", "c", None, 1, ["a", "b"], ["c"], {"a": "b"}]
    chance = random.Random(1)
    documents = []
    for number in range(200):
        values = {field: chance.choice(words) for field in "xyz" if chance.random() < 0.8}
        documents.append({"_id": f"{number % 2}{number}", **values})
    queries = [
        {"x": "a"},
        {"x": "a", "y": {"$in": ["b", "c"]}},
        {"x": {"$in": []}},
        {"x": {"$in": ["a", None]}},
        {"x": "c", "z": None},
        {"x": "a", "$or": [{"y": "b"}, {"z": 1}]},
        {"x": {"$ne": "a"}, "y": "b"},
        {"x.a": "b", "y": "c"},
        {"_id": "17"},
        {"_id": {"$in": ["17", "08", "none"]}, "x": {"$exists": True}},
    ]
    plain = mongomock_ng.MongoClient()["test"]["c"]
    plain.insert_many(documents)
    with MongoDouble() as double, MongoClient(double.uri) as client:
        collection = client["test"]["c"]
        collection.insert_many(documents)
        for query in queries:
            expected = sorted(each["_id"] for each in plain.find(query))
            found = list(collection.find(query))
            assert sorted(each["_id"] for each in found) == expected, query
            assert all(each in documents for each in found)
            assert collection.count_documents(query) == len(expected)
            limited = collection.find(query, ["x"]).sort("_id", 1).skip(1).limit(3)
            assert [each["_id"] for each in limited] == expected[1:4]


def test_the_double_keeps_unique_indexes_and_refuses_wrong_queries() -> None:
    with MongoDouble() as double, MongoClient(double.uri) as client:
        collection = client["test"]["c"]
        collection.create_index([("x", 1), ("y", 1)], unique=True)
        collection.insert_many([{"x": "a", "y": 1}, {"x": "a", "y": 2}, {"x": "b", "y": 1}])
        with pytest.raises(BulkWriteError):
            collection.insert_many([{"x": "a", "y": 2}])
        with pytest.raises(OperationFailure):
            collection.update_one({"x": "b"}, {"$set": {"x": "a"}})
        assert collection.count_documents({"x": "a"}) == 2
        with pytest.raises(OperationFailure):
            collection.find_one({"$wrong": 1, "x": "none"})
