"""Studies that travel: export, import, and archives that someone made to do harm."""

import hashlib
import io
import json
import pickle
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobflow import Flow

from lrlo.analysis.barrier import PathStatus
from lrlo.analysis.query import find_barriers, find_states
from lrlo.workflows import archive as archive_module
from lrlo.workflows.archive import (
    BLOBS,
    DOCUMENTS,
    MANIFEST,
    ArchiveError,
    export_study,
    import_archive,
)
from lrlo.workflows.local_run import run_flow
from lrlo.workflows.provenance import find_runs, package_versions, record_run
from lrlo.workflows.store import BLOB_STORE, ResultStore, StoreError, open_store
from lrlo.workflows.store_check import check_store

from ..analysis.documents import CONTEXT, barrier_of, migrated_state
from .test_store_check import Silent, plain, walk


def study(store: ResultStore, folder: Path, name: str = "s", key: str = "k", n: int = 3) -> None:
    """Store a small study: two tasks with large data, a state, a barrier, and its run."""
    jobs = [walk(n), walk(n + 1)]
    run_flow(Flow(jobs), store, folder, Silent())
    context = CONTEXT.model_copy(update={"study": name, "study_key": key})
    for kind, result in (
        ("state", migrated_state()),
        ("barrier", barrier_of(PathStatus.CONVERGED)),
    ):
        output = plain(result.model_copy(update={"context": context}))
        store.update({"uuid": f"{name}{key}{kind}", "index": 1, "output": output})
    record_run(store, name, key, {"name": name, "composition": "Li2MnO3"}, {j.uuid for j in jobs})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    store = open_store(folder / "store.sqlite")
    study(store, folder)
    return export_study(store, "s", folder / "s.zip").path


@pytest.fixture
def target(tmp_path: Path) -> ResultStore:
    return open_store(tmp_path / "target.sqlite")


def everything(store: ResultStore) -> dict[tuple[str, int], dict]:
    found = store.query({}, load=True)
    return {(d["uuid"], d["index"]): {k: v for k, v in d.items() if k != "_id"} for d in found}


# -- there and back ------------------------------------------------------------------------------


def test_study_travels_whole(any_store: ResultStore, tmp_path: Path, target: ResultStore) -> None:
    study(any_store, tmp_path)
    report = export_study(any_store, "s", tmp_path / "out" / "s.zip")
    assert (report.n_documents, report.n_blobs, report.has_tasks) == (5, 2, True)
    imported = import_archive(target, report.path)
    assert (imported.study, imported.n_new, imported.n_blobs) == ("s", 5, 2)
    assert everything(target) == everything(any_store)
    assert check_store(target).is_sound
    (run,) = find_runs(target, "s")
    assert run.settings["composition"] == "Li2MnO3"
    assert run.versions["python"] == package_versions()["python"]
    assert len(find_states(target, study="s")) == len(find_barriers(target, study="s")) == 1
    n_computed = run_flow(Flow([walk(3), walk(4)]), target, tmp_path, Silent()).n_computed
    assert n_computed == 0  # what came with the archive is not computed again


def test_import_into_any_store(exported: Path, any_store: ResultStore) -> None:
    assert import_archive(any_store, exported).n_new == 5
    before = everything(any_store)
    again = import_archive(any_store, exported)
    assert (again.n_new, again.n_present, again.n_blobs, again.kept) == (0, 5, 0, [])
    assert everything(any_store) == before
    assert any_store.additional_stores[BLOB_STORE].count() == 2
    assert check_store(any_store).orphans == []


def test_archives_of_chunks_are_merged(tmp_path: Path, target: ResultStore) -> None:
    """One study, computed in two places, some tasks in both."""
    for name, n in (("one", 3), ("two", 4)):
        store = open_store(tmp_path / f"{name}.sqlite")
        study(store, tmp_path, n=n)
        import_archive(target, export_study(store, "s", tmp_path / f"{name}.zip").path)
    assert target.count({"metadata.task": True}) == 3
    (run,) = find_runs(target, "s")
    assert len(run.uuids) == 3
    assert check_store(target).is_sound


def test_store_keeps_its_own_where_contents_differ(exported: Path, target: ResultStore) -> None:
    mine = {"uuid": "skstate", "index": 1, "output": {"kind": "note", "n": 1}}
    target.update(mine)
    report = import_archive(target, exported)
    assert (report.n_new, report.kept) == (4, ["skstate"])
    assert target.get_output("skstate") == {"kind": "note", "n": 1}


def test_interrupted_import_is_completed(
    exported: Path, target: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "_CHUNK", 2)
    update, calls = target.docs_store.update, []

    def dies(*args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        update(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(target.docs_store, "update", dies)
        with pytest.raises(KeyboardInterrupt):
            import_archive(target, exported)
    assert target.count() == 2
    assert check_store(target).is_sound
    import_archive(target, exported)
    assert target.count() == 5
    assert check_store(target).lines() == ["5 documents, 2 large data", "sound"]


def test_shared_store_gives_one_study_only(tmp_path: Path, target: ResultStore) -> None:
    store = open_store(tmp_path / "shared.sqlite")
    study(store, tmp_path, name="mine", n=3)
    study(store, tmp_path, name="other", n=10)
    import_archive(target, export_study(store, "mine", tmp_path / "mine.zip").path)
    assert target.count() == 5
    assert target.distinct("output.context.study") == ["mine"]
    assert sorted(d["output"]["n"] for d in target.query({"metadata.task": True})) == [3, 4]


def test_study_without_recorded_run(tmp_path: Path) -> None:
    """Of version 0.1.0: everything of a store of its own, results alone of a shared one."""
    store = open_store(tmp_path / "store.sqlite")
    study(store, tmp_path)
    store.remove_docs({"output.kind": "run"})
    report = export_study(store, "s", tmp_path / "own.zip")
    assert (report.n_documents, report.n_blobs, report.has_tasks) == (4, 2, True)
    study(store, tmp_path, name="other", n=10)
    report = export_study(store, "s", tmp_path / "shared.zip")
    assert (report.n_documents, report.n_blobs, report.has_tasks) == (2, 0, False)


def test_export_says_what_it_cannot_do(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite")
    study(store, tmp_path)
    with pytest.raises(ArchiveError, match="nothing of a study 'x'; it has: s"):
        export_study(store, "x", tmp_path / "x.zip")
    (tmp_path / "there.zip").write_text("mine")
    with pytest.raises(ArchiveError, match="exists; choose another name"):
        export_study(store, "s", tmp_path / "there.zip")
    assert (tmp_path / "there.zip").read_text() == "mine"
    with pytest.raises(ArchiveError, match="cannot be written"):
        export_study(store, "s", tmp_path / "there.zip" / "s.zip")
    store.additional_stores[BLOB_STORE].remove_docs({})
    with pytest.raises(ArchiveError, match=r"large data .* of the study are missing"):
        export_study(store, "s", tmp_path / "s.zip")
    assert {p.name for p in tmp_path.glob("*s.zip*")} == set()  # nothing half written


def test_import_into_a_full_store(exported: Path, target: ResultStore) -> None:
    target.docs_store._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreError, match="full"):
        import_archive(target, exported)
    target.docs_store._connection.execute("PRAGMA max_page_count = 1073741823")
    assert import_archive(target, exported).n_new == 5


# -- archives that do harm -----------------------------------------------------------------------


Members = dict[str, bytes]


def read(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sealed(members: Members) -> Members:
    """Members with a manifest that is true of them, as an attacker would write it."""
    manifest = json.loads(members[MANIFEST])
    for name in (DOCUMENTS, BLOBS):
        manifest["members"][name] = {
            "sha256": hashlib.sha256(members[name]).hexdigest(),
            "n_bytes": len(members[name]),
            "n_lines": members[name].count(b"\n"),
        }
    return {**members, MANIFEST: json.dumps(manifest).encode()}


def write(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_document(members: Members, changes: dict[str, Any]) -> Members:
    """Members whose first document was changed, digest left out, manifest made true."""
    first, *others = members[DOCUMENTS].splitlines(keepends=True)
    document = {**json.loads(first), **changes}
    document.pop("digest", None)
    line = json.dumps(document).encode() + b"\n"
    return sealed({**members, DOCUMENTS: line + b"".join(others)})


def refused(target: ResultStore, path: Path, reason: str, **settings: Any) -> None:
    folder = sorted(p.name for p in path.parent.iterdir())
    with pytest.raises(ArchiveError, match=reason):
        import_archive(target, path, **settings)
    assert (target.count(), target.additional_stores[BLOB_STORE].count()) == (0, 0)
    now = sorted(p.name for p in path.parent.iterdir() if not p.name.endswith(("-wal", "-shm")))
    assert now == [name for name in folder if not name.endswith(("-wal", "-shm"))]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/cron.d/evil",
        "../evil.txt",
        "a/../../evil.txt",
        "C:\\evil.txt",
        "..\\evil.txt",
        "sub/documents.jsonl",
        "evil.pkl",
        "evil.py",
        "folder/",
    ],
)
def test_other_members_are_refused(
    exported: Path, target: ResultStore, tmp_path: Path, name: str
) -> None:
    members = read(exported)
    refused(target, write(tmp_path / "a.zip", {**members, name: b"x"}), "and nothing else")
    members[name] = members.pop(DOCUMENTS)
    refused(target, write(tmp_path / "b.zip", members), "and nothing else|damaged")


def test_links_and_devices_are_refused(exported: Path, target: ResultStore, tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR, stat.S_IFBLK):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in read(exported).items():
                info = zipfile.ZipInfo(name)
                info.external_attr = (kind | 0o777) << 16 if name == BLOBS else 0
                archive.writestr(info, b"/etc/passwd" if name == BLOBS else content)
        refused(target, path, "blobs.jsonl is no plain file")


def test_two_members_of_one_name_are_refused(
    exported: Path, target: ResultStore, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.zip", read(exported))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(DOCUMENTS, b"{}\n")
    refused(target, path, "and nothing else")


def test_changed_content_is_refused(exported: Path, target: ResultStore, tmp_path: Path) -> None:
    members = read(exported)
    path = tmp_path / "a.zip"
    for name, was, now in ((DOCUMENTS, b'"n": 3', b'"n": 5'), (BLOBS, b"[0, 1, 2", b"[0, 1, 9")):
        flipped = members[name].replace(was, now, 1)
        assert flipped != members[name]
        refused(target, write(path, {**members, name: flipped}), "is not what")
        refused(target, write(path, {**members, name: members[name] + b"{}\n"}), "not the size")
        refused(target, write(path, sealed({**members, name: flipped})), "digest says|computed")
    short = json.loads(members[MANIFEST])
    short["members"][DOCUMENTS]["n_lines"] -= 1
    refused(
        target, write(path, {**members, MANIFEST: json.dumps(short).encode()}), "changed or is dam"
    )


def test_cut_off_archive_is_refused(exported: Path, target: ResultStore, tmp_path: Path) -> None:
    whole = exported.read_bytes()
    for n in (0, 10, len(whole) // 2, len(whole) - 10):
        (tmp_path / "a.zip").write_bytes(whole[:n])
        refused(target, tmp_path / "a.zip", "is no archive of lrlo, or is damaged")
    at = whole.index(b"\x78\x01" if b"\x78\x01" in whole else whole[200:204])
    (tmp_path / "a.zip").write_bytes(whole[:at] + b"\xff\xff\xff" + whole[at + 3 :])
    refused(target, tmp_path / "a.zip", "damaged|is not what|no document")


def test_other_files_are_refused(target: ResultStore, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(pickle.dumps({"a": 1}))
    refused(target, path, "is no archive of lrlo")
    refused(target, write(path, {"readme.txt": b"hello"}), "and nothing else; got 'readme.txt'")
    with pytest.raises(ArchiveError, match="cannot be read"):
        import_archive(target, tmp_path / "none.zip")
    with pytest.raises(ArchiveError, match="cannot be read"):
        import_archive(target, tmp_path)


def test_encrypted_members_are_refused(exported: Path, target: ResultStore, tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", read(exported))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        (start,) = [archive.start_dir]
    content[start + 8] |= 1  # the flag in the first entry of the directory
    path.write_bytes(content)
    refused(target, path, "is encrypted")


def test_bombs_are_refused_before_they_are_unpacked(
    exported: Path, target: ResultStore, tmp_path: Path
) -> None:
    members = read(exported)
    path = write(tmp_path / "a.zip", {**members, BLOBS: b"\n" * 220_000_000})
    assert path.stat().st_size < 1_000_000
    refused(target, path, "compressed as no data of a study are")
    refused(target, exported, "more than the 0.0 GB that are allowed", max_bytes=1000)
    # a directory that declares less than the member holds
    small = write(tmp_path / "b.zip", members)
    with zipfile.ZipFile(small) as archive:
        start, n = archive.start_dir, archive.getinfo(DOCUMENTS).file_size
    content = small.read_bytes()
    lying = content[:start] + content[start:].replace(
        n.to_bytes(4, "little"), (n // 2).to_bytes(4, "little")
    )
    small.write_bytes(lying)
    refused(target, small, "not the size|damaged")


def test_long_lines_are_refused(
    exported: Path, target: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(archive_module._MAX_LINE, DOCUMENTS, 1000)
    refused(target, exported, "a line is longer than 1000 bytes")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json\n", "is no document"),
        (b"\xff\xfe\n", "is no document"),
        (b"[1]\n", "is no document"),
        (b"[" * 100_000 + b"\n", "is no document"),
        (b'{"a":' * 100_000 + b"\n", "is no document"),
        (pickle.dumps(print).replace(b"\n", b"") + b"\n", "is no document"),
        (b'{"uuid": "a"}\n', "lacks uuid and index"),
        (b'{"uuid": {"$gt": ""}, "index": 1}\n', "database operator"),
        (b'{"uuid": "a", "index": 1, "output": {"$where": "1"}}\n', "database operator"),
        (b'{"uuid": "a", "index": 1, "output": {"$code": "x"}}\n', "holds a Code"),
        (b'{"uuid": "a", "index": 1, "output": {"$oid": "zz"}}\n', "is no document"),
    ],
)
def test_lines_that_are_no_documents(
    exported: Path, target: ResultStore, tmp_path: Path, line: bytes, reason: str
) -> None:
    members = read(exported)
    path = write(tmp_path / "a.zip", sealed({**members, DOCUMENTS: line + members[DOCUMENTS]}))
    refused(target, path, reason)


@pytest.mark.parametrize(
    "code",
    [
        {"@module": "os", "@class": "system"},
        {"@module": "subprocess", "@class": "Popen", "args": ["touch", "evil"]},
        {"@module": "lrlo_evil", "@class": "X"},
        {"@module": "numpy.ctypeslib", "@class": "X"},
        {"@module": "uuid_evil", "@class": "X"},
        {"@module": ["os"], "@class": "X"},
        {"@module": "lrlo.cli", "@callable": "main"},
        {"@module": "pymatgen.core", "@callable": "Structure", "@bound": None},
    ],
    ids=str,
)
def test_documents_name_no_code(
    exported: Path, target: ResultStore, tmp_path: Path, code: dict[str, Any]
) -> None:
    """Whoever reads a document imports the modules that it names."""
    for place in ({"output": code}, {"output": {"deep": [{"er": code}]}}, {"metadata": code}):
        members = with_document(read(exported), place)
        refused(target, write(tmp_path / "a.zip", members), "names code to run")
    members = read(exported)
    first, *others = members[BLOBS].splitlines(keepends=True)
    blob = {**json.loads(first), "data": code, "blob_uuid": json.loads(first)["blob_uuid"]}
    members[BLOBS] = json.dumps(blob).encode() + b"\n" + b"".join(others)
    refused(target, write(tmp_path / "a.zip", sealed(members)), "names code to run")
    assert "subprocess_evil" not in sys.modules


def reference(schema: dict[str, Any], module: str = "jobflow.core.reference") -> dict[str, Any]:
    """Reference to a task's output, as steps store them."""
    return {
        "@module": module,
        "@class": "OutputReference",
        "uuid": "a",
        "attributes": [],
        "output_schema": schema,
    }


SCHEMA = {"@module": "lrlo.workflows.relax", "@callable": "RelaxDocument", "@bound": None}


def test_references_may_name_the_class_of_a_result(
    exported: Path, target: ResultStore, tmp_path: Path
) -> None:
    members = with_document(read(exported), {"metadata": {"of": reference(SCHEMA)}})
    assert import_archive(target, write(tmp_path / "a.zip", members)).n_new == 5


@pytest.mark.parametrize(
    "code",
    [
        reference({**SCHEMA, "@module": "os", "@callable": "system"}),
        reference({**SCHEMA, "@bound": {"@module": "lrlo.workflows.store"}}),
        reference({**SCHEMA, "@callable": "os.system"}),
        reference({**SCHEMA, "args": ["touch evil"]}),
        reference(SCHEMA, module="lrlo.workflows.relax"),
        reference({"deep": SCHEMA}),
    ],
    ids=str,
)
def test_references_name_no_other_code(
    exported: Path, target: ResultStore, tmp_path: Path, code: dict[str, Any]
) -> None:
    members = with_document(read(exported), {"metadata": {"of": code}})
    refused(target, write(tmp_path / "a.zip", members), "names code to run")


def test_incomplete_archives_are_refused(
    exported: Path, target: ResultStore, tmp_path: Path
) -> None:
    members, path = read(exported), tmp_path / "a.zip"
    others = members[BLOBS].splitlines(keepends=True)[1:]
    refused(
        target,
        write(path, sealed({**members, BLOBS: b"".join(others)})),
        "1 large data are missing",
    )
    alien = {"blob_uuid": "alien", "data": 1}
    more = members[BLOBS] + json.dumps(alien).encode() + b"\n"
    refused(target, write(path, sealed({**members, BLOBS: more})), "1 belong to no document")
    twice = members[DOCUMENTS] + members[DOCUMENTS].splitlines(keepends=True)[0]
    refused(
        target, write(path, sealed({**members, DOCUMENTS: twice})), "two documents have the key"
    )
    refused(
        target,
        write(path, with_document(members, {"metadata": {}, "output": {"kind": "run"}})),
        "does not fit the schema of a run",
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(version=99), "has format 99, this version of lrlo reads up to 1"),
        (lambda m: m.update(format="other"), "manifest cannot be read"),
        (lambda m: m.update(evil=1), "manifest cannot be read: Extra inputs"),
        (lambda m: m["members"].pop(BLOBS), "does not list both members"),
        (lambda m: m["members"].update({"../x": m["members"][BLOBS]}), "manifest cannot be read"),
        (lambda m: m["members"][BLOBS].update(n_bytes="many"), "manifest cannot be read"),
    ],
)
def test_wrong_manifests(
    exported: Path,
    target: ResultStore,
    tmp_path: Path,
    change: Callable[[dict], object],
    reason: str,
) -> None:
    members = read(exported)
    manifest = json.loads(members[MANIFEST])
    change(manifest)
    path = write(tmp_path / "a.zip", {**members, MANIFEST: json.dumps(manifest).encode()})
    refused(target, path, reason)
    for garbage in (b"", b"\xff", b"[]", b"{}"):
        path = write(tmp_path / "a.zip", {**members, MANIFEST: garbage})
        refused(target, path, "manifest cannot be read")


def test_archive_has_no_code_and_no_paths(exported: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(exported.read_bytes())) as archive:
        assert sorted(archive.namelist()) == sorted((BLOBS, DOCUMENTS, MANIFEST))
        manifest = json.loads(archive.read(MANIFEST))
        assert archive.testzip() is None
    assert manifest["study"] == "s"
    assert manifest["versions"]["python"]
    assert str(exported.parent) not in exported.read_bytes().decode("latin-1")
