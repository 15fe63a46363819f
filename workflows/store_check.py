"""Whether everything in a store is what it should be, and everything is there."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from jobflow.utils.find import find_key
from maggma.core import Store
from pydantic import BaseModel, ValidationError
from pydash import get

from ..analysis.bonding_documents import BondingDocument
from ..analysis.documents import BarrierDocument, StateDocument
from .provenance import RunDocument
from .sqlite_store import SQLiteStore
from .store import BLOB_STORE, ResultStore, StoreError, content_digest, is_blob_sound

#: Documents that queries read, by kind.
RESULT_MODELS: Mapping[str, type[BaseModel]] = {
    "state": StateDocument,
    "barrier": BarrierDocument,
    "bonding": BondingDocument,
    "run": RunDocument,
}
#: Large data younger than this may belong to a document that is just being written.
SETTLED = timedelta(hours=1)
_BATCH = 500


@dataclass(frozen=True)
class Damage:
    """A document that cannot be relied on.

    Attributes
    ----------
    uuid, index
        Its key; empty and 0 if it cannot be read.
    name
        Name of its job.
    reason
        What is wrong.
    row
        Row in an embedded store; None elsewhere.
    """

    uuid: str
    index: int
    name: str
    reason: str
    row: int | None = None


@dataclass
class CheckReport:
    """What a check found.

    Attributes
    ----------
    n_documents, n_blobs
        Documents and large data looked at.
    n_unverified
        Documents without digest, as other programs write them: read, but not verified.
    damaged
        Documents that cannot be relied on.
    orphans
        Keys of large data that no document refers to.
    faults
        What is wrong with the file of an embedded store.
    """

    n_documents: int = 0
    n_blobs: int = 0
    n_unverified: int = 0
    damaged: list[Damage] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether everything can be relied on; orphans only take space."""
        return not self.damaged and not self.faults

    def lines(self) -> list[str]:
        """The report in words."""
        lines = [f"{self.n_documents} documents, {self.n_blobs} large data"]
        if self.n_unverified:
            lines.append(f"{self.n_unverified} documents have no digest to verify them by")
        lines += [f"file: {fault}" for fault in self.faults]
        lines += [f"{d.name or d.uuid or f'row {d.row}'}: {d.reason}" for d in self.damaged]
        if self.orphans:
            lines.append(f"{len(self.orphans)} large data belong to no document")
        lines.append("sound" if self.is_sound else "damaged")
        return lines


def check_store(store: ResultStore) -> CheckReport:
    """Verify every document and all large data of a store; changes nothing.

    A document is verified by the digest of its output, large data by their key, which follows
    from their content. The uuid of a task is a hash of its inputs, which are not stored: only
    its form is checked.

    Raises
    ------
    StoreError
        If the store cannot be read at all.
    """
    report = CheckReport()
    parts = [store.docs_store, store.additional_stores[BLOB_STORE]]
    faults = [fault for each in parts if isinstance(each, SQLiteStore) for fault in each.faults()]
    report.faults = list(dict.fromkeys(faults))
    try:
        _check_documents(store, report, _check_blobs(store, report))
    except StoreError as error:
        if not report.faults:
            raise
        report.faults.append(str(error))
    return report


@dataclass(frozen=True)
class _Blobs:
    """Keys of large data: all, and those that were changed."""

    present: set[str]
    changed: set[str]


def _check_blobs(store: ResultStore, report: CheckReport) -> _Blobs:
    blobs = _Blobs(set(), set())
    for _, blob in _rows(store.additional_stores[BLOB_STORE]):
        report.n_blobs += 1
        if blob is None or not isinstance(blob.get("blob_uuid"), str):
            report.faults.append(f"a row of {BLOB_STORE} cannot be read")
            continue
        blobs.present.add(blob["blob_uuid"])
        if not is_blob_sound(blob):
            blobs.changed.add(blob["blob_uuid"])
    return blobs


def _check_documents(store: ResultStore, report: CheckReport, blobs: _Blobs) -> None:
    referred: set[str] = set()
    for row, document in _rows(store.docs_store):
        report.n_documents += 1
        if document is None:
            report.damaged.append(Damage("", 0, "", "cannot be read", row))
            continue
        wanted = set(references(document))
        referred |= wanted
        missing, changed = wanted - blobs.present, wanted & blobs.changed
        reason = (
            document_problem(document)
            or (f"{len(missing)} of its large data are missing" if missing else "")
            or (f"{len(changed)} of its large data were changed" if changed else "")
        )
        if reason:
            index = document.get("index")
            number = index if isinstance(index, int) else 0
            uuid, name = str(document.get("uuid", "")), str(document.get("name", ""))
            report.damaged.append(Damage(uuid, number, name, reason, row))
        report.n_unverified += "digest" not in document
    report.orphans = sorted(blobs.present - referred)


def remove_orphans(
    store: ResultStore, report: CheckReport, older_than: timedelta = SETTLED
) -> list[str]:
    """Remove large data that belong to no document.

    What was written a short while ago is left alone: its document may be on its way.

    Returns
    -------
    removed
        Their keys.
    """
    blobs = store.additional_stores[BLOB_STORE]
    before = datetime.now(UTC) - older_than
    removed: list[str] = []
    for start in range(0, len(report.orphans), _BATCH):
        chunk = report.orphans[start : start + _BATCH]
        for blob in blobs.query({"blob_uuid": {"$in": chunk}}):
            written_at = blob.get("written_at")
            if written_at is None or datetime.fromisoformat(written_at) <= before:
                removed.append(blob["blob_uuid"])
    for start in range(0, len(removed), _BATCH):
        blobs.remove_docs({"blob_uuid": {"$in": removed[start : start + _BATCH]}})
    return removed


def remove_damaged(store: ResultStore, report: CheckReport) -> int:
    """Remove documents that cannot be relied on; the next run computes them again.

    Returns
    -------
    removed
        Number of documents removed.
    """
    rows = [damage.row for damage in report.damaged if damage.row is not None]
    if isinstance(store.docs_store, SQLiteStore):
        store.docs_store.remove_rows(rows)
        return len(rows)
    for damage in report.damaged:
        store.docs_store.remove_docs({"uuid": damage.uuid, "index": damage.index})
    return len(report.damaged)


def document_problem(document: Mapping[str, Any]) -> str:
    """What is wrong with a document by itself; empty if nothing is."""
    uuid, index, output = document.get("uuid"), document.get("index"), document.get("output")
    if not isinstance(uuid, str) or not isinstance(index, int):
        return "lacks uuid and index"
    if document.get("metadata", {}).get("task") and not _is_content_key(uuid):
        return "is a task whose uuid is no content key"
    if "digest" in document and document["digest"] != content_digest(output):
        return "was changed: its output is not what its digest says"
    kind = output.get("kind") if isinstance(output, dict) else None
    model = RESULT_MODELS.get(kind) if isinstance(kind, str) else None
    if model is None or (kind == "run" and references(document)):
        return ""
    try:
        model.model_validate(output)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        return f"does not fit the schema of a {kind} ({place}: {error.errors()[0]['msg']})"
    except Exception as error:  # whatever a class makes of wrong data
        logging.getLogger(__name__).debug("unreadable %s", kind, exc_info=True)
        return f"cannot be read as a {kind} ({type(error).__name__})"
    return ""


def references(document: Mapping[str, Any]) -> list[str]:
    """Keys of the large data that a document refers to."""
    whole: dict[Any, Any] = dict(document)
    found = (get(whole, [*place, "blob_uuid"]) for place in find_key(whole, "blob_uuid"))
    return [key for key in found if isinstance(key, str)]


def _is_content_key(uuid: str) -> bool:
    try:
        return UUID(uuid).version == 5
    except ValueError:
        return False


def _rows(store: Store) -> Iterator[tuple[int | None, dict[str, Any] | None]]:
    """Documents with their row in an embedded store; None for those that cannot be read."""
    if isinstance(store, SQLiteStore):
        yield from store.scan()
    else:
        yield from ((None, document) for document in store.query({}))
