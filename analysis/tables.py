"""Tables of states, coordination and barriers as rows, CSV, JSON and parquet."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from pydantic import BaseModel

from .columns import (
    BARRIER_COLUMNS,
    COORDINATION_COLUMNS,
    MARKS,
    STATE_COLUMNS,
    Column,
    Records,
    Row,
    rows_of,
)
from .documents import BarrierDocument, StateDocument

__all__ = [
    "MARKS",
    "Row",
    "TableError",
    "barrier_rows",
    "columns_of",
    "coordination_rows",
    "state_rows",
    "to_csv",
    "to_json",
    "write_parquet",
    "write_tables",
]


class TableError(RuntimeError):
    """A table cannot be written in the format asked for."""


def state_rows(states: Sequence[StateDocument]) -> list[Row]:
    """One row per state: Li contents, lattice, oxidation states, migration."""
    return _rows(STATE_COLUMNS, states)


def coordination_rows(states: Sequence[StateDocument]) -> list[Row]:
    """One row per state: oxygen classes, TM-TM coordination, tetrahedra, O-O pairs."""
    return _rows(COORDINATION_COLUMNS, states)


def barrier_rows(barriers: Sequence[BarrierDocument]) -> list[Row]:
    """One row per hop. Only sound paths have numbers; a mark tells what they are."""
    return _rows(BARRIER_COLUMNS, barriers)


def _rows(columns: Sequence[Column], documents: Iterable[BaseModel]) -> list[Row]:
    fields = [field for column in columns for field in column.fields]
    sections = {field.split(".")[0] for field in fields}
    dumped = [document.model_dump(mode="json", include=sections) for document in documents]
    return rows_of(columns, Records.of(dumped, fields))


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Every column of the rows, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def to_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV text with a header line; empty text for no rows."""
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=columns_of(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def to_json(rows: Sequence[Row]) -> str:
    """Rows as a JSON array."""
    return json.dumps(list(rows), indent=2, ensure_ascii=False)


def write_parquet(rows: Sequence[Row], path: Path) -> Path:
    """Write rows as a parquet file, for pandas, polars or DuckDB.

    Raises
    ------
    TableError
        If the packages for it are not installed.
    """
    try:
        pandas = import_module("pandas")
        import_module("pyarrow")  # pandas' own message does not say how to get it
    except ImportError as error:
        raise TableError(
            f"parquet needs {error.name}, which is not installed: pip install 'lrlo[parquet]', "
            "or ask for csv or json"
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(list(rows), columns=columns_of(rows)).to_parquet(path, index=False)
    return path


def write_tables(
    folder: Path, states: Sequence[StateDocument], barriers: Sequence[BarrierDocument]
) -> list[Path]:
    """Write states, coordination and barriers as CSV and JSON files.

    Returns
    -------
    paths
        Files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "states": state_rows(states),
        "coordination": coordination_rows(states),
        "barriers": barrier_rows(barriers),
    }
    paths = []
    for name, rows in tables.items():
        for suffix, text in ((".csv", to_csv(rows)), (".json", to_json(rows))):
            path = folder / f"{name}{suffix}"
            path.write_text(text, encoding="utf-8")
            paths.append(path)
    return paths
