"""MongoDB criteria as SQL conditions on the cells of a SQLite table."""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from .extended_json import dumps, loads

Cell = str | int | float | bytes | None

#: Cells of values that SQLite has no type for, in the order of their bytes. Missing fields are
#: NULL. Arrays, objects and other values begin with COMPOSED, followed by their JSON if it is
#: short; OPAQUE stands for what must be looked up in the document.
NULL, FALSE, TRUE, COMPOSED, OPAQUE = b"\x00", b"\x01", b"\x02", b"\xfe", b"\xff"
_CONSTANTS: Mapping[bytes, bool | None] = {NULL: None, FALSE: False, TRUE: True}
_EMPTY_ARRAY = COMPOSED + b"[]"
#: Longest JSON kept in a cell, bytes.
_SHORT = 1000
#: More values than this are handed to SQLite as one JSON array.
_MANY = 500
#: What is no scalar.
_NONE = object()


def cell(document: Mapping[str, Any], path: Sequence[str]) -> Cell:
    """What a table keeps of one field of a document."""
    value: Any = document
    for depth, name in enumerate(path):
        if isinstance(value, list):
            return OPAQUE if _is_in_elements(value, path[depth:]) else None
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    scalar = _scalar(value)
    if scalar is not _NONE:
        return scalar
    if isinstance(value, dict | list) and len(value) > _SHORT:
        return OPAQUE
    composed = COMPOSED + dumps(value).encode()
    return composed if len(composed) <= _SHORT else OPAQUE


def _is_in_elements(values: Sequence[Any], path: Sequence[str]) -> bool:
    """Whether a path goes on in some element of an array (or is an index of it)."""
    name, rest = path[0], path[1:]
    if name.isdigit():
        return True
    for value in values:
        if not isinstance(value, dict) or name not in value:
            continue
        inner = value[name]
        if not rest or (isinstance(inner, list) and _is_in_elements(inner, rest)):
            return True
        if isinstance(inner, dict) and _is_in_elements([inner], rest):
            return True
    return False


def cell_value(stored: Cell) -> Any:
    """Value that a cell stands for; the cell is neither NULL nor OPAQUE."""
    if not isinstance(stored, bytes):
        return stored
    if stored == _EMPTY_ARRAY:  # frequent
        return []
    if stored.startswith(COMPOSED):
        return loads(stored[1:].decode())
    return _CONSTANTS[stored]


def column(name: str) -> str:
    """Quoted column of a field."""
    return '"' + name.replace('"', '""') + '"'


def is_composed(name: str) -> str:
    """Condition for cells of a field whose value SQL cannot compare."""
    return f"{column(name)} >= x'{COMPOSED.hex()}'"


@dataclass(frozen=True)
class Clause:
    """Condition in SQL that every matching row fulfils.

    Attributes
    ----------
    sql, values
        Condition and its parameters.
    fields
        Fields that it compares. A row without a composed cell among them matches for certain.
    is_exact
        Whether it says all that the criteria say; if not, no row matches for certain.
    """

    sql: str
    values: tuple[Cell, ...] = ()
    fields: frozenset[str] = frozenset()
    is_exact: bool = True

    @property
    def doubt(self) -> str:
        """SQL for whether the document of a row has to be looked at."""
        if not self.is_exact:
            return "1"
        return any_composed(self.fields)


def any_composed(fields: Iterable[str]) -> str:
    """SQL for whether any of some cells is composed: 0 or 1."""
    conditions = [f"COALESCE({is_composed(name)}, 0)" for name in sorted(fields)]
    return f"({' OR '.join(conditions)})" if conditions else "0"


_EVERYTHING = Clause("1")
_UNKNOWN = Clause("1", is_exact=False)


def translate(criteria: Mapping[str, Any], columns: Collection[str]) -> Clause:
    """SQL for MongoDB criteria, on a table with cells of some fields.

    What SQL cannot say becomes a condition that lets too many rows through, never too few.
    """
    return _joined([_part(name, value, columns) for name, value in criteria.items()], "AND")


def _part(name: str, value: Any, columns: Collection[str]) -> Clause:
    if name == "$and":
        return _joined([translate(each, columns) for each in value], "AND")
    if name in ("$or", "$nor"):
        either = _joined([translate(each, columns) for each in value], "OR")
        if name == "$or":
            return either
        if not either.is_exact:
            return _UNKNOWN
        sql = f"(NOT COALESCE({either.sql}, 0) OR {any_composed(either.fields)})"
        return replace(either, sql=sql)
    if name not in columns:
        return _UNKNOWN
    is_operators = isinstance(value, dict) and any(key.startswith("$") for key in value)
    operators = value if is_operators else {"$eq": value}
    clause = _joined([_compared(column(name), *each) for each in operators.items()], "AND")
    return replace(clause, sql=f"({clause.sql} OR {is_composed(name)})", fields=frozenset((name,)))


def _joined(clauses: Sequence[Clause], by: Literal["AND", "OR"]) -> Clause:
    if not clauses:
        return _EVERYTHING
    return Clause(
        "(" + f" {by} ".join(clause.sql for clause in clauses) + ")",
        tuple(value for clause in clauses for value in clause.values),
        frozenset().union(*(clause.fields for clause in clauses)),
        is_exact=all(clause.is_exact for clause in clauses),
    )


def _compared(name: str, operator: str, value: Any) -> Clause:
    """Condition on one column, as if all of its cells were scalars."""
    if operator in ("$in", "$nin"):
        return _among(name, value, wanted=operator == "$in")
    if operator == "$exists":
        return Clause(f"{name} IS {'NOT ' if value else ''}NULL", ())
    encoded = _scalar(value)
    if encoded is _NONE:
        return _UNKNOWN
    if operator in ("$eq", "$ne"):
        return _among(name, [value], wanted=operator == "$eq")
    symbol = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}.get(operator)
    if symbol is None or isinstance(encoded, bytes):
        return _UNKNOWN
    # MongoDB compares within a type; SQLite sorts numbers < text < blobs.
    bounds = f"{name} >= '' AND {name} < x''" if isinstance(encoded, str) else f"{name} < ''"
    return Clause(f"({name} {symbol} ? AND {bounds})", (encoded,))


def _among(name: str, values: Any, *, wanted: bool) -> Clause:
    """Condition for a value among several; None also means a missing field."""
    cells = [_scalar(value) for value in values] if isinstance(values, list | tuple) else [_NONE]
    if _NONE in cells:
        return _UNKNOWN
    if len(cells) > _MANY and all(isinstance(each, str) for each in cells):
        listed = "IN (SELECT value FROM json_each(?))"
        parameters: tuple[Any, ...] = (json.dumps(cells),)
    else:
        listed, parameters = f"IN ({', '.join('?' * len(cells))})", tuple(cells)
    with_missing = NULL in cells
    if wanted:
        or_missing = f" OR {name} IS NULL" if with_missing else ""
        return Clause(f"({name} {listed}{or_missing})", parameters)
    unless = f"AND {name} IS NOT NULL" if with_missing else f"OR {name} IS NULL"
    return Clause(f"({name} NOT {listed} {unless})", parameters)


def _scalar(value: Any) -> Any:
    """Cell of a scalar, _NONE for anything else."""
    if value is None:
        return NULL
    if value is True or value is False:
        return TRUE if value else FALSE
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if _is_text(value):
        return str(value)
    return _NONE


def _is_text(value: Any) -> bool:
    """Whether a value is a text that UTF-8 can say (a lone surrogate is not)."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
