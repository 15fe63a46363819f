"""What a finished run removes from its store, and what it leaves to others."""

from pathlib import Path
from unittest.mock import Mock

import pytest
from jobflow import Flow, Response, job

from lrlo.analysis.documents import StudyContext
from lrlo.workflows.local_run import (
    RunError,
    exclusive,
    is_own_store,
    is_running,
    remove_outdated,
    run_flow,
)
from lrlo.workflows.store import BLOB_STORE, ResultStore
from lrlo.workflows.store_check import check_store
from lrlo.workflows.store_location import StoreLocation

STUDY, KEY, OTHER_KEY = "mine", "aaaa", "bbbb"


def context(seed: int = 7, variant: str = "") -> StudyContext:
    return StudyContext(
        study=STUDY,
        study_key=KEY,
        variant=variant,
        composition="Li2MnO3",
        target={},
        realised={},
        charge_imbalance=0.0,
        n_formula_units=1,
        stacking="O3",
        superlattice="honeycomb",
        seed=seed,
        sqs_objective=0.0,
        image_distance=5.0,
    )


def put(store: ResultStore, uuid: str, kind: str, **where: object) -> None:
    """A document with large data, of this version of the study unless said otherwise."""
    place = {"study": STUDY, "study_key": KEY, "variant": "", "seed": 7} | where
    output = {"kind": kind, "curves": {"numbers": [0.5] * 50}}
    if kind in ("state", "barrier", "bonding"):
        output["context"] = place
    store.update(
        {"uuid": uuid, "index": 1, "name": uuid, "output": output}, save={BLOB_STORE: ["curves"]}
    )


@pytest.fixture
def filled(any_store: ResultStore) -> ResultStore:
    """Results of two runs of a version, of another version and of another study, and tasks."""
    for kind in ("state", "barrier", "bonding"):
        put(any_store, f"now {kind}", kind)
        put(any_store, f"before {kind}", kind)
        put(any_store, f"version {kind}", kind, study_key=OTHER_KEY)
        put(any_store, f"study {kind}", kind, study="theirs")
    put(any_store, "task", "neb")
    return any_store


CURRENT = {"now state", "now barrier", "now bonding"}
ALWAYS = {*CURRENT, "study state", "study barrier", "study bonding", "task"}


def left(store: ResultStore) -> set[str]:
    return set(store.distinct("uuid"))


def test_on_a_shared_store_other_versions_are_left_alone(filled: ResultStore) -> None:
    """Another user may have a study of the same name, or this one in another folder."""
    assert remove_outdated(filled, STUDY, CURRENT, study_key=KEY) == 3
    assert left(filled) == ALWAYS | {"version state", "version barrier", "version bonding"}
    assert remove_outdated(filled, STUDY, CURRENT, study_key=KEY) == 0


def test_in_its_own_store_a_study_has_one_version(filled: ResultStore) -> None:
    assert remove_outdated(filled, STUDY, CURRENT, study_key=None) == 6
    assert left(filled) == ALWAYS


def test_large_data_go_with_their_documents(filled: ResultStore) -> None:
    assert filled.additional_stores[BLOB_STORE].count() == 13
    remove_outdated(filled, STUDY, CURRENT, study_key=None)
    assert filled.additional_stores[BLOB_STORE].count() == 7
    assert not check_store(filled).orphans
    assert len(list(filled.query({}, load=True))) == 7  # none lacks its own


def test_a_run_of_one_replicate_leaves_the_others(any_store: ResultStore) -> None:
    put(any_store, "this", "state", seed=1)
    put(any_store, "old", "state", seed=1)
    put(any_store, "other seed", "state", seed=2)
    put(any_store, "other variant", "state", seed=1, variant="doped")
    for key in (KEY, None):
        remove_outdated(any_store, STUDY, {"this"}, study_key=key, replicates=[context(1)])
        assert left(any_store) == {"this", "other seed", "other variant"}
    remove_outdated(
        any_store, STUDY, {"this"}, study_key=KEY, replicates=[context(2), context(1, "doped")]
    )
    assert left(any_store) == {"this"}


def test_which_store_is_a_studys_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("mine")
    assert is_own_store(StoreLocation("mine/store.sqlite"), folder)
    assert is_own_store(StoreLocation(str(tmp_path / "mine" / "store.sqlite")), folder)
    assert not is_own_store(StoreLocation("store.sqlite"), folder)
    assert not is_own_store(StoreLocation("mine/shared.sqlite"), folder)
    assert not is_own_store(StoreLocation("theirs/store.sqlite"), folder)
    assert not is_own_store(StoreLocation("mongodb://localhost/mine"), folder)


def test_one_run_at_a_time_in_a_folder(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with exclusive(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(RunError, match="another process"), exclusive(tmp_path):
            pass
    assert not is_running(tmp_path)


@job
def _fail(adds: bool) -> Response:
    if adds:
        return Response(replace=_fail(False))
    raise ValueError("no")


def test_failures_say_which_part_they_are_of(any_store: ResultStore, tmp_path: Path) -> None:
    """Also jobs that a job adds; a flow without parts has no names to tell apart."""
    parts = [Flow([_fail(adds)], name=f"s {name}") for adds, name in ((False, "a"), (True, "b"))]
    report = run_flow(Flow(parts, name="s"), any_store, tmp_path, Mock())
    assert [failure.place for failure in report.failures] == ["s a", "s b"]
    alone = run_flow(Flow([_fail(True)]), any_store, tmp_path, Mock())
    assert [failure.place for failure in alone.failures] == [""]
