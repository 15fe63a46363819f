"""One setting for the store, and no password where it does not belong."""

import logging
import stat
import traceback
from pathlib import Path

import pytest
from jobflow import Flow
from pymongo import MongoClient

from lrlo.workflows.configuration import (
    Configuration,
    ConfigurationError,
    configuration_path,
    read_configuration,
    write_configuration,
    write_private,
)
from lrlo.workflows.local_run import run_flow
from lrlo.workflows.store import ResultStore, StoreError, StoreLocation, open_store, store_location
from lrlo.workflows.task import task

from ..mongo_double import MongoDouble

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LRLO_STORE", raising=False)
    return tmp_path


def test_order_of_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / "study"
    assert store_location(None, folder).path == folder / "store.sqlite"
    write_configuration(Configuration(store="~/shared.sqlite"))
    assert store_location(None, folder).path == home / "shared.sqlite"
    monkeypatch.setenv("LRLO_STORE", "mongodb://host/db")
    assert str(store_location(None, folder)) == "mongodb://host/db"
    option = store_location("mine.sqlite", folder)
    assert (option.path, option.origin) == (Path("mine.sqlite"), "--store")
    monkeypatch.setenv("LRLO_STORE", "")
    assert store_location(None, folder).path == home / "shared.sqlite"


def test_nothing_says_where(home: Path) -> None:
    with pytest.raises(StoreError, match=r"use --store, LRLO_STORE or 'store:' in .*config.yaml"):
        store_location(None)


def test_paths_and_uris() -> None:
    assert StoreLocation("mongodb_results.sqlite").path == Path("mongodb_results.sqlite")
    assert StoreLocation("~/a.sqlite").path == Path("~/a.sqlite").expanduser()
    assert StoreLocation("mongodb+srv://cluster.example.org/db").is_mongodb
    assert not StoreLocation("no/such/file").exists()
    for wrong in ("postgres://host/db", "http://host", ""):
        with pytest.raises(StoreError, match=r"is no store.*or a URI that starts with mongodb://"):
            StoreLocation(wrong)
    with pytest.raises(StoreError, match="is no file"):
        _ = StoreLocation("mongodb://host").path


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"mongodb://user:{SECRET}@host:27017/db?authSource=admin", "mongodb://host:27017/db"),
        (f"mongodb://user:{SECRET}@h1:1,h2:2/db", "mongodb://h1:1,h2:2/db"),
        (f"mongodb+srv://user:{SECRET}@host/db?tls=true", "mongodb+srv://host/db"),
        (f"mongodb://host/db?tlsCertificateKeyFilePassword={SECRET}", "mongodb://host/db"),
        (f"mongodb://user:{SECRET}@[::1]:27017", "mongodb://[::1]:27017"),
        # passwords that were not percent-encoded
        (f"mongodb://user:1{SECRET}/2@host/db", "mongodb://host/db"),
        (f"mongodb://user:1@{SECRET}@host/db", "mongodb://host/db"),
        (f"mongodb://user:12?{SECRET}@host/db", "mongodb://…"),
        (f"mongodb://{SECRET} {SECRET}", "mongodb://…"),
    ],
)
def test_text_of_a_uri_shows_no_password(uri: str, shown: str) -> None:
    location = StoreLocation(uri)
    assert str(location) == shown
    assert SECRET not in repr(location) + f"{location}" + str([location])


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://user:{SECRET}@[bad/database",
        f"mongodb://user:{SECRET}/x@host/database",
        f"mongodb://user:{SECRET}@127.0.0.1:1/db?serverSelectionTimeoutMS=50",
        f"mongodb://user:{SECRET}@host:notaport/db",
        f"mongodb://user@{SECRET}:12?3@host/db",
        "AUTHENTICATION",
    ],
)
def test_no_password_in_errors_and_logs(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with MongoDouble() as double:
        if uri == "AUTHENTICATION":  # the double refuses it
            uri = f"mongodb://user:{SECRET}@127.0.0.1:{double.port}/db"
        with pytest.raises(StoreError) as error:
            open_store(uri)
    told = "".join(traceback.format_exception(error.value)) + repr(error.value) + caplog.text
    assert SECRET not in told
    assert "MongoDB" in str(error.value)


@task()
def divide(a: float, b: float) -> float:
    return a / b


class Silent:
    def task_started(self, name: str) -> None: ...

    def task_step(self, message: str) -> None: ...

    def task_finished(self, name: str, *, stored: bool) -> None: ...


def test_no_secret_of_the_uri_in_documents(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with MongoDouble() as double:
        store = open_store(f"{double.uri}/db?authMechanismProperties=SERVICE_NAME:{SECRET}")
        jobs = [divide(1.0, 2.0), divide(1.0, 0.0)]
        report = run_flow(Flow(jobs), store, tmp_path, Silent())
        store.update({"uuid": "a", "index": 1, "output": {"big": [1]}}, save={"data": ["big"]})
        assert (report.n_computed, len(report.failures)) == (1, 1)
        client: MongoClient = MongoClient(double.uri)
        held = "".join(
            str(document)
            for name in client["db"].list_collection_names()
            for document in client["db"][name].find()
        )
        client.close()
    assert "0.5" in held
    told = held + caplog.text + store.name + str([f.trace + f.message for f in report.failures])
    assert SECRET not in told
    assert SECRET not in repr(store) + repr(store.docs_store)


def test_names_of_stores_show_no_password() -> None:
    made = ResultStore.__new__(ResultStore)
    assert SECRET not in repr(made)
    from lrlo.workflows.store import MongoBlobs, MongoDocuments

    for kind in (MongoDocuments, MongoBlobs):
        store = kind(database="db", collection_name="c", uri=f"mongodb://user:{SECRET}@host/db")
        assert store.name == "mongodb://host/db"


# -- the configuration file ----------------------------------------------------------------------


def test_configuration_is_written_for_its_owner_alone(home: Path) -> None:
    uri = f"mongodb://user:{SECRET}@host/db"
    path = write_configuration(Configuration(store=uri))
    assert path == configuration_path() == home / "config/lrlo/config.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_configuration().store == uri
    path.chmod(0o644)
    write_configuration(Configuration(store=uri))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_password_that_others_may_read_is_refused(mode: int) -> None:
    path = write_configuration(Configuration(store=f"mongodb://user:{SECRET}@host/db"))
    path.chmod(mode)
    with pytest.raises(StoreError, match=f"run: chmod 600 {path}") as error:
        store_location(None)
    assert SECRET not in "".join(traceback.format_exception(error.value))
    path.chmod(0o600)
    assert store_location(None).is_mongodb


def test_configuration_without_secret_may_be_read_by_all(home: Path) -> None:
    for store in ("~/a.sqlite", "mongodb://host/db"):
        write_configuration(Configuration(store=store)).chmod(0o644)
        assert store_location(None).exists() == store.startswith("mongodb")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("stores: a", "stores: Extra inputs are not permitted; allowed keys: store"),
        (f"store: [{SECRET}]", "store: Input should be a valid string"),
        (f"{SECRET}: [", "is not valid YAML"),
        (f"- {SECRET}", "file: Input should be a valid dictionary"),
        ("store: relative.sqlite", "must be absolute or start with ~"),
        ("store: !!python/object/apply:os.system ['touch /tmp/no']", "is not valid YAML"),
    ],
)
def test_wrong_configuration(home: Path, text: str, reason: str) -> None:
    path = configuration_path()
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        read_configuration()
    assert reason in str(error.value)
    assert SECRET not in "".join(traceback.format_exception(error.value))


def test_configuration_that_is_no_file(home: Path) -> None:
    assert read_configuration() == Configuration()
    configuration_path().mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_configuration()


def test_private_file_appears_whole_or_not_at_all(home: Path) -> None:
    path = home / "secret.yaml"
    write_private(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\ud800")
    assert path.read_text() == "first"
    assert [p.name for p in home.glob(".secret*")] == []
