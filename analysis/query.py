"""Ask a store for barriers, coordination, bonding, states and structures."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .bonding_documents import BondingDocument
from .columns import (
    BARRIER_COLUMNS,
    BONDING_COLUMNS,
    CELL_COLUMNS,
    COORDINATION_COLUMNS,
    STATE_COLUMNS,
    STRUCTURE_COLUMNS,
    Column,
    ColumnGroup,
    Records,
    Row,
    rows_of,
)
from .documents import BarrierDocument, StateDocument
from .filters import (
    BARRIER_FILTERS,
    BONDING_FILTERS,
    STATE_FILTERS,
    DocumentStore,
    Filter,
    FilterError,
    criteria_of,
    field_values,
)

__all__ = [
    "INDEXED_FIELDS",
    "KEPT_FIELDS",
    "TABLES",
    "DocumentStore",
    "FilterError",
    "ResultTable",
    "allowed_columns",
    "allowed_filters",
    "count_results",
    "find_barriers",
    "find_bonding",
    "find_rows",
    "find_states",
]


#: Order of results: replicate by replicate, each in study order.
_REPLICATE_ORDER = ("context.study", "context.variant", "context.seed", "order")


@dataclass(frozen=True)
class ResultTable:
    """One kind of result that can be asked for.

    Attributes
    ----------
    kind
        Kind of the documents.
    columns
        Columns that a table has unless others are chosen.
    filters
        What it is filtered by.
    order
        Fields that it is sorted by unless asked otherwise.
    """

    kind: str
    columns: tuple[Column, ...]
    filters: Mapping[str, Filter]
    order: tuple[str, ...] = field(default=_REPLICATE_ORDER)


TABLES: Mapping[str, ResultTable] = {
    "barriers": ResultTable(
        "barrier",
        (*BARRIER_COLUMNS, *CELL_COLUMNS),
        BARRIER_FILTERS,
        (*_REPLICATE_ORDER, "path_class", "barrier.forward"),
    ),
    "coordination": ResultTable("state", COORDINATION_COLUMNS, STATE_FILTERS),
    "bonding": ResultTable("bonding", BONDING_COLUMNS, BONDING_FILTERS),
    "states": ResultTable("state", STATE_COLUMNS, STATE_FILTERS),
    "structures": ResultTable("state", STRUCTURE_COLUMNS, STATE_FILTERS),
}
#: What one state of one replicate of one study is told from all others by.
_CELL = ("context.study", "context.study_key", "context.seed", "context.variant")
#: Documents joined to a barrier: prefix of their fields, kind, and field of their state's label.
_JOINED: Mapping[str, tuple[str, str]] = {
    "cell": ("state", "label"),
    "bonding": ("bonding", "state"),
}

#: Fields of stored documents that queries select by; a store indexes them.
INDEXED_FIELDS: tuple[str, ...] = (
    "uuid",
    "output.kind",
    *(
        f"output.{path}"
        for path in (
            *("context.study", "context.study_key", "context.composition", "label", "state"),
            *("path_class", "status", "voltage"),
        )
    ),
)


def _kept_fields() -> tuple[str, ...]:
    paths = [path for table in TABLES.values() for path in (*table.order, *_CELL)]
    for table in TABLES.values():
        paths += [each.path for each in table.filters.values()]
        for column in table.columns:
            paths += [path.removeprefix("cell.").removeprefix("bonding.") for path in column.fields]
    large = ("structure", "result.classes")
    return (
        "index",
        "name",
        "digest",
        *dict.fromkeys(f"output.{path}" for path in paths if path not in large),
    )


#: Small fields that tables show; an embedded store keeps them where it need not read documents.
KEPT_FIELDS: tuple[str, ...] = _kept_fields()


def find_rows(
    stores: Sequence[DocumentStore],
    what: str,
    *,
    columns: Sequence[str] = (),
    sort: Sequence[str] = (),
    limit: int = 0,
    **filters: Any,
) -> list[Row]:
    """Table of results from one or several stores.

    Barriers are joined with the coordination of the cell they were computed in, and with the
    bonding of their state where there is one (of several the one stored last; a column says by
    what it was computed).

    Parameters
    ----------
    stores
        Connected stores.
    what
        Name in :data:`TABLES`: ``barriers``, ``coordination``, ``bonding``, ``states`` or
        ``structures``.
    columns
        Headers, with or without unit, of the columns wanted; all if empty.
    sort
        Headers to sort by; a minus in front sorts from high to low. Missing values come last.
    limit
        Most rows; 0 for all.
    **filters
        See :func:`allowed_filters`. A list means any of its values (of ``elements``: all of
        them); None is no filter.

    Raises
    ------
    FilterError
        For a table, filter, column or order that does not exist; says what does.
    """
    table = _table(what)
    shown = _chosen_columns(what, columns) if columns else list(table.columns)
    order = [(_one_column(what, name.removeprefix("-")), name.startswith("-")) for name in sort]
    needed = [*shown, *(column for column, _ in order)]
    found = [_records(store, what, needed, filters) for store in stores]
    records = replace(found[0], values=[values for each in found for values in each.values])
    if not order:
        order = [(Column(path, (path,)), False) for path in table.order]
    rows = rows_of(shown, _in_order(records, order, limit))
    if not columns:
        return rows
    names = [name for chosen in columns for name in _names_in(rows, shown, chosen)]
    return [{name: row[name] for name in dict.fromkeys(names)} for row in rows]


def find_states(store: DocumentStore, **filters: Any) -> list[StateDocument]:
    """States that match all filters, in study order.

    Parameters
    ----------
    store
        Connected store.
    **filters
        See :func:`allowed_filters`; ``state`` is the label, ``min_`` and ``max_`` go in front of
        quantities, None is no filter.

    Raises
    ------
    FilterError
        For a name that states cannot be filtered by.
    """
    documents = _whole_documents(store, "states", filters)
    states = [StateDocument.model_validate(document) for document in documents]
    return sorted(states, key=_study_order)


def find_barriers(store: DocumentStore, **filters: Any) -> list[BarrierDocument]:
    """Barriers that match all filters, in study order, lowest barrier first within a state.

    Parameters and errors as in :func:`find_states`.
    """
    documents = _whole_documents(store, "barriers", filters)
    barriers = [BarrierDocument.model_validate(document) for document in documents]

    def order(b: BarrierDocument) -> tuple[str, int, int, str, float]:
        height = b.barrier.forward if b.barrier else float("inf")
        return (b.context.study, b.context.seed, b.order, b.path_class, height)

    return sorted(barriers, key=order)


def find_bonding(
    store: DocumentStore, *, curves: bool = False, **filters: Any
) -> list[BondingDocument]:
    """Bonding of states that match all filters, in study order.

    Parameters and errors as in :func:`find_states`; `curves` says whether to read the curves,
    which are large data, too.
    """
    documents = _whole_documents(store, "bonding", filters, load=curves)
    found = [BondingDocument.model_validate(document) for document in documents]
    return sorted(found, key=_study_order)


def _study_order(document: StateDocument | BondingDocument) -> tuple[str, str, int, int]:
    context = document.context
    return (context.study, context.variant, context.seed, document.order)


def count_results(store: DocumentStore, what: str, by: str, **filters: Any) -> dict[str, int]:
    """Number of results by the value of one column, e.g. barriers by ``status``.

    Parameters as in :func:`find_rows`; reads only the fields it needs.
    """
    column = _one_column(what, by)
    values = _records(store, what, [column], filters).column(column)
    return dict(sorted(Counter(map(str, values)).items()))


def allowed_filters(what: str) -> list[str]:
    """Names of the filters of a kind of result.

    Raises
    ------
    FilterError
        If there is no such kind.
    """
    names = []
    for name, each in _table(what).filters.items():
        names += [name, f"min_{name}", f"max_{name}"] if each.ranged else [name]
    return names


def allowed_columns(what: str) -> list[str]:
    """Headers of the columns of a kind of result; groups by the name of the group.

    Raises
    ------
    FilterError
        If there is no such kind.
    """
    return [column.name for column in _table(what).columns]


def _table(what: str) -> ResultTable:
    if what not in TABLES:
        raise FilterError(f"unknown kind of result {what!r}; allowed: {', '.join(TABLES)}")
    return TABLES[what]


def _one_column(what: str, name: str) -> Column:
    """Column of a header, with or without unit, in any case."""
    by_name = {column.name: column for column in _table(what).columns}
    by_short_name = {column.short_name: column for column in reversed(list(by_name.values()))}
    column = by_name.get(name) or by_short_name.get(name.lower())
    if column is None or isinstance(column, ColumnGroup):
        single = [c.name for c in by_name.values() if not isinstance(c, ColumnGroup)]
        raise FilterError(f"{what} have no column {name!r}; allowed: {', '.join(single)}")
    return column


def _group_of(what: str, name: str) -> ColumnGroup | None:
    """Group that a header names, or is one of."""
    groups = [column for column in _table(what).columns if isinstance(column, ColumnGroup)]
    return next(
        (g for g in groups if name.lower() == g.name.lower() or re.fullmatch(g.member, name)), None
    )


def _chosen_columns(what: str, names: Sequence[str]) -> list[Column]:
    chosen: list[Column] = []
    for name in names:
        group = _group_of(what, name)
        if group is None:
            try:
                chosen.append(_one_column(what, name))
            except FilterError:
                allowed = ", ".join(allowed_columns(what))
                raise FilterError(f"{what} have no column {name!r}; allowed: {allowed}") from None
        else:
            chosen.append(group)
    return list(dict.fromkeys(chosen))


def _names_in(rows: Sequence[Row], shown: Sequence[Column], chosen: str) -> list[str]:
    """Headers in the rows that a chosen name stands for."""
    present = rows[0] if rows else {}
    if chosen in present:
        return [chosen]
    for column in shown:
        if chosen.lower() == column.name.lower() and isinstance(column, ColumnGroup):
            return [name for name in present if re.fullmatch(column.member, name)]
    return [c.name for c in shown if c.short_name == chosen.lower() and c.name in present]


def _criteria(store: DocumentStore, what: str, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Criteria of filters; an error says for what else a filter is."""
    table = _table(what)
    try:
        return criteria_of(store, table.kind, table.filters, filters)
    except FilterError as error:
        alien = {name for name, value in filters.items() if value is not None} - set(
            allowed_filters(what)
        )
        others = [name for name in TABLES if alien & set(allowed_filters(name))]
        hint = f" (those filters are for {' and '.join(others)})" if others else ""
        raise FilterError(f"{what}: {error}{hint}") from None


def _whole_documents(
    store: DocumentStore, what: str, filters: Mapping[str, Any], *, load: bool = False
) -> list[dict[str, Any]]:
    found = store.query(_criteria(store, what, filters), load=load)
    return [document["output"] for document in found]


def _records(
    store: DocumentStore, what: str, columns: Iterable[Column], filters: Mapping[str, Any]
) -> Records:
    """Fields that columns and the order need, those of joined documents after a document's own."""
    table = _table(what)
    wanted = dict.fromkeys([*table.order, *(path for c in columns for path in c.fields)])
    joins = [prefix for prefix in _JOINED if any(p.startswith(f"{prefix}.") for p in wanted)]
    own = [path for path in wanted if path.split(".")[0] not in joins]
    if joins:
        own += [*_CELL, "state"]
    records = _stored(store, _criteria(store, what, filters), own)
    for prefix in joins:
        paths = [
            path.removeprefix(f"{prefix}.") for path in wanted if path.startswith(f"{prefix}.")
        ]
        records = _joined(store, records, prefix, paths)
    return records


def _stored(store: DocumentStore, criteria: dict[str, Any], paths: Iterable[str]) -> Records:
    """Fields of the documents that match."""
    names = tuple(dict.fromkeys(paths))
    return Records(names, field_values(store, criteria, [f"output.{name}" for name in names]))


def _joined(store: DocumentStore, records: Records, prefix: str, paths: list[str]) -> Records:
    """Records with fields of the documents of the same states."""
    kind, label = _JOINED[prefix]
    keys = {key for key in records.column(Column("", ("context.study_key",))) if key is not None}
    criteria = {"output.kind": kind, "output.context.study_key": {"$in": sorted(keys)}}
    others = _stored(store, criteria, [*paths, *_CELL, label])
    fields = dict(zip(_places(others, label), _tuples(others, paths), strict=True))
    nothing = (None,) * len(paths)
    return Records(
        (*records.fields, *(f"{prefix}.{path}" for path in paths)),
        [
            (*values, *fields.get(place, nothing))
            for values, place in zip(records.values, _places(records, "state"), strict=True)
        ],
    )


def _places(records: Records, label: str) -> list[tuple[Any, ...]]:
    """What tells the state of every record from all others."""
    return _tuples(records, (*_CELL, label))


def _tuples(records: Records, paths: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(records.column(Column(path, (path,))) for path in paths), strict=True))


def _in_order(records: Records, order: Sequence[tuple[Column, bool]], limit: int) -> Records:
    """Records sorted by columns, from high to low where said; missing values come last."""
    numbers = list(range(len(records.values)))
    for column, falling in reversed(order):
        keys = [_sort_key(value, falling=falling) for value in records.column(column)]
        numbers.sort(key=keys.__getitem__, reverse=falling)
    return replace(records, values=[records.values[i] for i in numbers[: limit or None]])


def _sort_key(value: Any, *, falling: bool) -> tuple[bool, bool, Any]:
    """Key that sorts missing values last, numbers before texts."""
    is_missing = value is None or value == ""
    return (is_missing != falling, isinstance(value, str), "" if is_missing else value)
