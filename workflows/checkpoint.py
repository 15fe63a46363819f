"""Checkpoints that survive a killed process."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from jobflow import CURRENT_JOB
from numpy.typing import NDArray

_folder: ContextVar[Path | None] = ContextVar("checkpoint_folder", default=None)


_task: ContextVar[str | None] = ContextVar("running_task", default=None)


@contextmanager
def running_task(uuid: str) -> Iterator[None]:
    """Name the task that runs in this thread: jobflow knows only one at a time."""
    token = _task.set(uuid)
    try:
        yield
    finally:
        _task.reset(token)


def _running_uuid() -> str | None:
    job = CURRENT_JOB.job
    return _task.get() or (None if job is None else str(job.uuid))


def checkpoint_folder(run_folder: Path) -> Path:
    """Where a run keeps the checkpoints of its tasks."""
    return run_folder / "checkpoints"


def set_checkpoint_folder(folder: Path | None) -> None:
    """Where running tasks keep their checkpoints; None for the current directory."""
    _folder.set(folder)


def checkpoint_path(key: str) -> Path:
    """Path of the checkpoint of one task."""
    return (_folder.get() or Path.cwd()) / f"{key}.journal"


def calculation_folder(program: str) -> Path:
    """Folder for the files of a program that the running task starts; the same when it resumes.

    They stay when the task is finished.
    """
    uuid = _running_uuid()
    return (_folder.get() or Path.cwd()) / (f"{uuid}-{program}" if uuid else program)


class EvaluationJournal:
    """File of every evaluation made so far, in order.

    A deterministic optimiser that is started again replays the journal: it asks for the same
    positions in the same order and gets the stored values, bit for bit, until the journal ends
    and real work goes on. So any optimiser resumes exactly, without saving its state.

    Parameters
    ----------
    path
        Journal file; created when the first record is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records = _read_records(path)
        self._next = 0
        self.n_replayed = 0

    def replay(self, inputs: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Stored outputs if the next record belongs to `inputs`, else None.

        A record that does not fit ends the replay: what follows it is dropped.
        """
        if self._next >= len(self._records):
            return None
        stored_inputs, outputs = self._records[self._next]
        if stored_inputs.shape != inputs.shape or not np.allclose(
            stored_inputs, inputs, rtol=0, atol=1e-9
        ):
            self._rewrite(self._records[: self._next])
            return None
        self._next += 1
        self.n_replayed += 1
        return outputs

    def append(self, inputs: NDArray[np.float64], outputs: NDArray[np.float64]) -> None:
        """Store one evaluation; it is on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            _write_record(file, inputs, outputs)
        self._records.append((inputs.copy(), outputs.copy()))
        self._next = len(self._records)

    def _rewrite(self, records: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            for inputs, outputs in records:
                _write_record(file, inputs, outputs)
        temporary.replace(self.path)
        self._records = records


def _write_record(file, inputs: NDArray[np.float64], outputs: NDArray[np.float64]) -> None:  # type: ignore[no-untyped-def]
    np.save(file, inputs, allow_pickle=False)
    np.save(file, outputs, allow_pickle=False)
    file.flush()


def _read_records(path: Path) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Whole records of a journal; a record cut short by a kill is cut off the file."""
    records: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    if not path.exists():
        return records
    with path.open("r+b") as file:
        size = path.stat().st_size
        end = 0
        while file.tell() < size:
            try:
                inputs = np.load(file, allow_pickle=False)
                outputs = np.load(file, allow_pickle=False)
            except (ValueError, EOFError, OSError):
                file.truncate(end)
                break
            records.append((inputs, outputs))
            end = file.tell()
    return records


def running_journal() -> EvaluationJournal | None:
    """Journal of the running task; None where nothing runs or keeps checkpoints.

    Other runners than this package's, such as ``jobflow.run_locally``, set no folder for them.
    """
    uuid = _running_uuid()
    if uuid is None or _folder.get() is None:
        return None
    return EvaluationJournal(checkpoint_path(uuid))
