"""Which tasks a study consists of, and what computed them."""

import platform
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Literal

from jobflow import JobStore
from pydantic import BaseModel

_NAMESPACE = uuid.UUID("5d2f6c0e-0f6b-4f7e-9f0e-2a3b0c9d4e51")
#: Packages whose versions a run records, where they are installed.
PACKAGES: Sequence[str] = (
    *("lrlo", "ase", "atomate2", "chgnet", "gpaw", "icet", "jobflow", "jobflow-remote", "maggma"),
    *("numpy", "pymatgen", "scipy", "spglib", "tblite", "torch"),
)


class RunDocument(BaseModel):
    """Runs of one version of a study.

    Attributes
    ----------
    study, study_key
        Name of the study, and hash of its content.
    settings
        The study as its file says, defaults filled in.
    uuids
        Every job of the study that has a document.
    versions
        Versions of Python and of the packages at the last run.
    finished_at
        End of the last run (UTC, ISO 8601).
    """

    kind: Literal["run"] = "run"

    study: str
    study_key: str
    settings: dict[str, Any]
    uuids: list[str]
    versions: dict[str, str]
    finished_at: str


def record_run(
    store: JobStore, study: str, study_key: str, settings: dict[str, Any], uuids: Iterable[str]
) -> RunDocument:
    """Store which jobs a run of a study consisted of; those of earlier runs are kept.

    Parameters
    ----------
    store
        Connected store.
    study, study_key, settings
        Name, hash and content of the study.
    uuids
        Jobs that have a document.

    Raises
    ------
    StoreError
        If the store cannot be written.
    """
    run = RunDocument(
        study=study,
        study_key=study_key,
        settings=settings,
        uuids=sorted(uuids),
        versions=package_versions(),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return store_run(store, run)


def store_run(store: JobStore, run: RunDocument) -> RunDocument:
    """Store a run; of the same version of the study, jobs add up and the latest run counts.

    Raises
    ------
    StoreError
        If the store cannot be written.
    """
    for known in find_runs(store, run.study, run.study_key):
        latest = max((run, known), key=lambda each: each.finished_at)
        uuids = sorted({*run.uuids, *known.uuids})
        run = latest.model_copy(update={"uuids": uuids})
    store.update(
        {
            "uuid": run_uuid(run.study, run.study_key),
            "index": 1,
            "name": f"run of {run.study}",
            "output": run.model_dump(mode="json"),
            "completed_at": run.finished_at,
            "metadata": {"task": False},
            "hosts": [],
        }
    )
    return run


def find_runs(store: JobStore, study: str, study_key: str | None = None) -> list[RunDocument]:
    """Runs of a study, of one version of it or of all.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    criteria = {"output.kind": "run", "output.study": study}
    if study_key is not None:
        criteria["uuid"] = run_uuid(study, study_key)
    found = store.query(criteria, load=True)
    return [RunDocument.model_validate(document["output"]) for document in found]


def run_uuid(study: str, study_key: str) -> str:
    """Key of the runs of one version of a study."""
    return str(uuid.uuid5(_NAMESPACE, f"{study}:{study_key}"))


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result may depend on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
