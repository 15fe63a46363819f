"""Archives of studies: documents, large data and provenance in one file that holds no code.

An archive is a ZIP file with three members, of which nothing is ever unpacked to disk:
``manifest.json`` (what it is, versions, size and SHA-256 of the other two), ``documents.jsonl``
and ``blobs.jsonl`` (one extended-JSON document per line).
"""

import hashlib
import os
import stat
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from bson import Int64, ObjectId
from pydantic import BaseModel, ConfigDict, ValidationError

from .extended_json import dumps, loads
from .provenance import RunDocument, find_runs, package_versions, store_run
from .store import BLOB_STORE, ResultStore, is_blob_sound
from .store_check import document_problem, references

FORMAT_VERSION = 1
MANIFEST, DOCUMENTS, BLOBS = "manifest.json", "documents.jsonl", "blobs.jsonl"
#: Most bytes that an archive may hold unpacked, unless the user allows more.
MAX_BYTES = 20 * 1024**3
#: Compression beyond this is no data of a study.
MAX_RATIO = 200
#: Longest line, bytes: a document of MongoDB is at most 16 MB, a value of SQLite 1 GB.
_MAX_LINE = {DOCUMENTS: 64 * 1024**2, BLOBS: 1024**3, MANIFEST: 4 * 1024**2}
#: Packages and modules whose classes documents may name: reading a document imports them.
DATA_PACKAGES = frozenset(("atomate2", "emmet", "lrlo", "pymatgen"))
DATA_MODULES = frozenset(
    ("", "datetime", "jobflow.core.reference", "jobflow.core.schemas", "numpy", "uuid")
)
_DATA_TYPES = frozenset(
    (bool, bytes, datetime, float, int, str, uuid.UUID, Int64, ObjectId, type(None))
)
_CHUNK = 500
_BATCH_BYTES = 32 * 1024**2


class ArchiveError(ValueError):
    """An archive cannot be written, or is not what it should be; nothing of it was imported."""


class Member(BaseModel):
    """Size and hash of a member.

    Attributes
    ----------
    sha256
        Hash of its bytes, hexadecimal.
    n_bytes, n_lines
        Size unpacked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    n_bytes: int
    n_lines: int


class Manifest(BaseModel):
    """What an archive says about itself.

    Attributes
    ----------
    version
        Format of the archive.
    study
        Name of the study.
    created_at
        UTC, ISO 8601.
    versions
        Packages that wrote the archive.
    members
        The other members.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["lrlo archive"] = "lrlo archive"
    version: int
    study: str
    created_at: str
    versions: dict[str, str]
    members: dict[Literal["documents.jsonl", "blobs.jsonl"], Member]


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes
    ----------
    path
        The archive.
    n_documents, n_blobs
        Documents and large data in it.
    has_tasks
        Whether the tasks that the results come from are in it.
    """

    path: Path
    n_documents: int
    n_blobs: int
    has_tasks: bool


@dataclass
class ImportReport:
    """What an import did.

    Attributes
    ----------
    study
        Name of the study.
    n_new, n_present
        Documents added, and documents that the store had already.
    kept
        Keys of documents that the store has with another content; the store's own were kept.
    n_blobs
        Large data added.
    """

    study: str
    n_new: int = 0
    n_present: int = 0
    kept: list[str] = field(default_factory=list)
    n_blobs: int = 0


def export_study(store: ResultStore, study: str, path: Path) -> ExportReport:
    """Write a study with its provenance to an archive; the file appears whole or not at all.

    Parameters
    ----------
    store
        Connected store.
    study
        Name of the study.
    path
        File to write.

    Raises
    ------
    ArchiveError
        If the store has nothing of the study, large data are missing, or the file exists or
        cannot be written.
    StoreError
        If the store cannot be read.
    """
    if path.exists():
        raise ArchiveError(f"{path} exists; choose another name")
    uuids, has_tasks = _uuids_of(store, study)
    if not uuids:
        known = sorted(filter(None, store.distinct("output.context.study")))
        raise ArchiveError(
            f"the store has nothing of a study {study!r}; it has: {', '.join(known) or 'none'}"
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x+b") as file:
            members = _write_archive(file, store, study, uuids)
        temporary.replace(path)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be written ({error.strerror})") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return ExportReport(path, members[DOCUMENTS].n_lines, members[BLOBS].n_lines, has_tasks)


def import_archive(store: ResultStore, path: Path, max_bytes: int = MAX_BYTES) -> ImportReport:
    """Add what an archive holds to a store.

    The whole archive is checked before anything is written. Importing it again changes nothing;
    an interrupted import is completed by another one.

    Parameters
    ----------
    store
        Connected store.
    path
        Archive that :func:`export_study` wrote.
    max_bytes
        Most bytes unpacked.

    Raises
    ------
    ArchiveError
        If the file is no archive, is damaged, is too large, or holds anything but data.
    StoreError
        If the store cannot be written.
    """
    with _opened(path) as archive:
        manifest = _checked_manifest(archive, max_bytes)
        _check_content(archive, manifest)
        report = ImportReport(study=manifest.study)
        added: set[tuple[str, int]] = set()
        wanted: set[str] = set()
        for batch in _batched(_lines(archive, DOCUMENTS)):
            for document in _not_in_store(store, batch, report):
                added.add((document["uuid"], document["index"]))
                wanted.update(references(document))
        # Large data first: no document ever refers to what is not there.
        for batch in _batched(_lines(archive, BLOBS)):
            blobs = [blob for blob in batch if blob["blob_uuid"] in wanted]
            store.additional_stores[BLOB_STORE].update(blobs, key="blob_uuid")
            report.n_blobs += len(blobs)
        for batch in _batched(_lines(archive, DOCUMENTS)):
            new = [each for each in batch if (each["uuid"], each["index"]) in added]
            store.docs_store.update(new, key=["uuid", "index"])
        report.n_new = len(added)
    return report


# -- writing ------------------------------------------------------------------------------------


def _uuids_of(store: ResultStore, study: str) -> tuple[list[str], bool]:
    """Documents of a study, and whether its tasks are among them."""
    uuids = {str(uuid) for uuid in store.distinct("uuid", {"output.context.study": study})}
    runs = find_runs(store, study)
    uuids |= {uuid for run in runs for uuid in run.uuids}
    uuids |= set(store.distinct("uuid", {"output.kind": "run", "output.study": study}))
    if uuids and not runs and store.distinct("output.context.study") == [study]:
        return sorted(store.distinct("uuid")), True  # the store is this study's own
    return sorted(uuids), bool(runs)


def _write_archive(
    file: IO[bytes], store: ResultStore, study: str, uuids: list[str]
) -> dict[str, Member]:
    referred: list[str] = []

    def documents() -> Iterator[dict[str, Any]]:
        for chunk in _chunks(uuids):
            found = list(store.query({"uuid": {"$in": chunk}}, load=False))
            for document in sorted(found, key=lambda d: (d["uuid"], d["index"])):
                referred.extend(references(document))
                yield document

    def blobs() -> Iterator[dict[str, Any]]:
        for key in sorted(set(referred)):
            blob = store.additional_stores[BLOB_STORE].query_one({"blob_uuid": key})
            if blob is None:
                raise ArchiveError(
                    f"large data {key} of the study are missing in the store; 'lrlo store check' "
                    "lists all"
                )
            yield blob

    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        members = {
            DOCUMENTS: _write_lines(archive, DOCUMENTS, documents()),
            BLOBS: _write_lines(archive, BLOBS, blobs()),
        }
        manifest = Manifest(
            version=FORMAT_VERSION,
            study=study,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=package_versions(),
            members=members,
        )
        archive.writestr(MANIFEST, manifest.model_dump_json(indent=2))
    return members


def _write_lines(archive: zipfile.ZipFile, name: str, documents: Iterable[dict]) -> Member:
    digest, n_bytes, n_lines = hashlib.sha256(), 0, 0
    with archive.open(name, "w", force_zip64=True) as member:
        for document in documents:
            line = (dumps({k: v for k, v in document.items() if k != "_id"}) + "\n").encode()
            member.write(line)
            digest.update(line)
            n_bytes += len(line)
            n_lines += 1
    return Member(sha256=digest.hexdigest(), n_bytes=n_bytes, n_lines=n_lines)


def _chunks(values: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


# -- reading ------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read ({error.strerror or error})") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ArchiveError(f"{path} is no archive of lrlo, or is damaged ({error})") from None


def _checked_manifest(archive: zipfile.ZipFile, max_bytes: int) -> Manifest:
    """Manifest of an archive whose members are the right ones and not too large."""
    members = archive.infolist()
    names = sorted(member.filename for member in members)
    if names != sorted((MANIFEST, DOCUMENTS, BLOBS)):
        shown = ", ".join(repr(name) for name in names[:5])
        raise ArchiveError(
            f"an archive holds {MANIFEST}, {DOCUMENTS} and {BLOBS} and nothing else; got {shown}"
        )
    for member in members:
        mode = member.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise ArchiveError(f"{member.filename} is no plain file")
        if member.flag_bits & 0x1:
            raise ArchiveError(f"{member.filename} is encrypted")
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if total > max_bytes:
        raise ArchiveError(
            f"the archive holds {total / 1024**3:.1f} GB, more than the {max_bytes / 1024**3:.1f} "
            "GB that are allowed; allow more if you trust it"
        )
    if total > MAX_RATIO * max(packed, 1024**2):
        raise ArchiveError("the archive is compressed as no data of a study are")
    try:
        text = b"".join(_raw_lines(archive, MANIFEST)).decode()
        manifest = Manifest.model_validate_json(text)
    except (ValidationError, UnicodeDecodeError) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ArchiveError(f"the manifest cannot be read: {problem}") from None
    if manifest.version > FORMAT_VERSION:
        raise ArchiveError(
            f"the archive has format {manifest.version}, this version of lrlo reads up to "
            f"{FORMAT_VERSION}: upgrade lrlo"
        )
    if set(manifest.members) != {DOCUMENTS, BLOBS}:
        raise ArchiveError("the manifest does not list both members")
    return manifest


def _check_content(archive: zipfile.ZipFile, manifest: Manifest) -> None:
    """Read everything once: hashes, keys, and that it is data and complete."""
    referred: set[str] = set()
    keys: set[tuple[str, int]] = set()
    blobs: set[str] = set()
    for document in _verified(archive, DOCUMENTS, manifest.members[DOCUMENTS]):  # type: ignore[index]
        if not isinstance(document.get("uuid"), str) or not isinstance(document.get("index"), int):
            raise ArchiveError(f"{DOCUMENTS}: a document lacks uuid and index")
        key = (document["uuid"], document["index"])
        if key in keys:
            raise ArchiveError(f"{DOCUMENTS}: two documents have the key {key}")
        keys.add(key)
        problem = document_problem(document)
        if problem:
            raise ArchiveError(f"{DOCUMENTS}: document {key[0]} {problem}")
        referred.update(references(document))
    for blob in _verified(archive, BLOBS, manifest.members[BLOBS]):  # type: ignore[index]
        if not isinstance(blob.get("blob_uuid"), str) or "data" not in blob:
            raise ArchiveError(f"{BLOBS}: large data without key or content")
        if not is_blob_sound(blob):
            raise ArchiveError(f"{BLOBS}: {blob['blob_uuid']} is not what was computed")
        blobs.add(blob["blob_uuid"])
    if referred != blobs:
        raise ArchiveError(
            f"{len(referred - blobs)} large data are missing and {len(blobs - referred)} belong "
            "to no document"
        )


def _verified(archive: zipfile.ZipFile, name: str, expected: Member) -> Iterator[dict[str, Any]]:
    """Documents of a member that is as long and has the hash that the manifest says."""
    if archive.getinfo(name).file_size != expected.n_bytes:
        raise ArchiveError(f"{name} has not the size that the manifest says")
    digest, n_lines = hashlib.sha256(), 0
    for line in _raw_lines(archive, name):
        digest.update(line)
        n_lines += 1
        yield _data_only(name, line)
    if digest.hexdigest() != expected.sha256 or n_lines != expected.n_lines:
        raise ArchiveError(f"{name} is not what the manifest says: it was changed or is damaged")


def _raw_lines(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    with archive.open(name) as member:
        while line := member.readline(_MAX_LINE[name] + 1):
            if len(line) > _MAX_LINE[name]:
                raise ArchiveError(f"{name}: a line is longer than {_MAX_LINE[name]} bytes")
            yield line


def _lines(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Size and document of every line of a member that was checked before."""
    for line in _raw_lines(archive, name):
        yield len(line), _data_only(name, line)


def _data_only(name: str, line: bytes) -> dict[str, Any]:
    """Document of a line.

    Raises
    ------
    ArchiveError
        If it is no document, or would have code imported when it is read.
    """
    try:
        document = loads(line.decode())
    except ValueError as error:  # UnicodeDecodeError is one
        raise ArchiveError(f"{name}: a line is no document ({type(error).__name__})") from None
    if not isinstance(document, dict):
        raise ArchiveError(f"{name}: a line is no document")
    pending: list[Any] = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            _refuse_code(name, value)
            schema = _schema_of(value)
            pending.extend(each for each in value.values() if each is not schema)
        elif type(value) not in _DATA_TYPES:  # bson.Code is a str
            raise ArchiveError(f"{name}: a document holds a {type(value).__name__}; refused")
    return document


def _schema_of(value: dict[str, Any]) -> dict[str, Any] | None:
    """Result class that a reference to a task's output names; None if it names anything else.

    Jobflow looks it up and reads its fields; nothing of it is called.
    """
    schema = value.get("output_schema")
    is_class_name = (
        value.get("@module") == "jobflow.core.reference"
        and isinstance(schema, dict)
        and schema.keys() == {"@module", "@callable", "@bound"}
        and schema["@bound"] is None
        and _is_data_module(schema["@module"])
        and str(schema["@callable"]).isidentifier()
    )
    return schema if is_class_name else None


def _is_data_module(module: Any) -> bool:
    return isinstance(module, str) and (
        module in DATA_MODULES or module.split(".")[0] in DATA_PACKAGES
    )


def _refuse_code(name: str, value: dict[str, Any]) -> None:
    module = value.get("@module") or ""
    if not _is_data_module(module) or "@callable" in value or "@bound" in value:
        raise ArchiveError(f"{name}: a document names code to run ({module!r}); refused")
    if any(key.startswith("$") for key in value):
        raise ArchiveError(f"{name}: a document holds a database operator; refused")


def _batched(lines: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """Documents in batches that fit into memory."""
    batch: list[dict[str, Any]] = []
    size = 0
    for n_bytes, document in lines:
        batch.append(document)
        size += n_bytes
        if len(batch) >= _CHUNK or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _not_in_store(
    store: ResultStore, documents: list[dict[str, Any]], report: ImportReport
) -> list[dict[str, Any]]:
    """Documents to add; counts the others."""
    criteria = {"uuid": {"$in": [document["uuid"] for document in documents]}}
    found = store.query(criteria, ["digest"], load=False)
    present = {(each["uuid"], each["index"]): each.get("digest") for each in found}
    fresh = []
    for document in documents:
        key = (document["uuid"], document["index"])
        if key not in present:
            fresh.append(document)
        elif _kind(document) == "run":
            store_run(store, RunDocument.model_validate(document["output"]))
            report.n_present += 1
        elif present[key] in (None, document.get("digest")):
            report.n_present += 1
        else:
            report.kept.append(document["uuid"])
    return fresh


def _kind(document: dict[str, Any]) -> Any:
    output = document.get("output")
    return output.get("kind") if isinstance(output, dict) else None
