"""Filters of results as users name them, and what they mean for stored documents."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from pymatgen.core import Composition, Element

from ..structures.hops import PathClass
from ..structures.rock_salt import RockSaltPrototype
from ..structures.stacking import Stacking
from ..structures.superlattice import Superlattice
from .barrier import PathStatus
from .columns import NO_CANDIDATE, Records


class DocumentStore(Protocol):
    """What is needed of a jobflow JobStore.

    A store that also has ``field_values(criteria, fields)``, which returns a tuple of fields per
    document, need not make whole documents for a table.
    """

    def query(
        self, criteria: dict[str, Any], properties: list[str] | None = None, *, load: bool
    ) -> Iterable[dict[str, Any]]:
        """Documents that match MongoDB criteria."""


class FilterError(ValueError):
    """A filter, column or sort order that results do not have; the message says what they have."""


@dataclass(frozen=True)
class Filter:
    """What results are filtered by.

    Attributes
    ----------
    path
        Field of the document.
    ranged
        Whether ``min_`` and ``max_`` go in front of its name.
    choices
        Allowed values; empty if there are too many to tell.
    """

    path: str
    ranged: bool = False
    choices: tuple[str, ...] = ()


def _choices(values: type[StrEnum]) -> tuple[str, ...]:
    return tuple(each.value for each in values)


#: Filters of all results. Fields that a document lacks match no value.
#: ``composition`` and ``elements`` compare what formulas mean, and look at the computed cell, too.
_COMMON: Mapping[str, Filter] = {
    "study": Filter("context.study"),
    "study_key": Filter("context.study_key"),
    "composition": Filter("context.composition"),
    "elements": Filter("context.realised"),
    "stacking": Filter(
        "context.stacking", choices=(*_choices(Stacking), RockSaltPrototype().label)
    ),
    "superlattice": Filter("context.superlattice", choices=_choices(Superlattice)),
    "seed": Filter("context.seed"),
    "variant": Filter("context.variant"),
    "dopant": Filter("context.dopants"),
    "strain_in_plane": Filter("context.strain.in_plane", ranged=True),
    "strain_out_of_plane": Filter("context.strain.out_of_plane", ranged=True),
    "backend": Filter("level_of_theory.backend"),
    "model": Filter("level_of_theory.model"),
    "voltage": Filter("voltage", ranged=True),
    "li_content": Filter("li_content", ranged=True),
}
STATE_FILTERS: Mapping[str, Filter] = {
    **_COMMON,
    "state": Filter("label"),
    "li_layer": Filter("li_layer", ranged=True),
    "tm_layer": Filter("tm_layer", ranged=True),
}
BONDING_FILTERS: Mapping[str, Filter] = {**_COMMON, "state": Filter("state")}
BARRIER_FILTERS: Mapping[str, Filter] = {
    **BONDING_FILTERS,
    "li_layer": Filter("surroundings.li_fraction_li_layer", ranged=True),
    "tm_layer": Filter("surroundings.li_fraction_tm_layer", ranged=True),
    "path_class": Filter("path_class", choices=_choices(PathClass)),
    "mover": Filter("hop.mover"),
    "status": Filter("status", choices=(*_choices(PathStatus), NO_CANDIDATE)),
    "barrier": Filter("barrier.forward", ranged=True),
}
#: Fields that tell what is in the cell of a document. What a cell has besides, it has as dopant.
_CELL_FIELDS = (
    *("uuid", "output.context.study_key", "output.context.composition"),
    *("output.context.realised", "output.context.dopants"),
)
#: Largest difference of atomic fractions: of formulas, and from the cell's composition, whose
#: amounts are periodic decimals that people write with three digits.
_FORMULA_TOLERANCE, _CELL_TOLERANCE = 1e-6, 2.5e-4


def field_values(
    store: DocumentStore, criteria: dict[str, Any], fields: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Fields of the documents that match, as tuples; None where a field is missing."""
    direct = getattr(store, "field_values", None)
    if direct is not None:
        return list(direct(criteria, fields))
    return Records.of(store.query(criteria, list(fields), load=False), fields).values


def criteria_of(
    store: DocumentStore, kind: str, allowed: Mapping[str, Filter], filters: Mapping[str, Any]
) -> dict[str, Any]:
    """MongoDB criteria of filters.

    Parameters
    ----------
    store
        Connected store; it is asked what is in its cells.
    kind
        Kind of the documents.
    allowed
        Filters of that kind by name.
    filters
        Values by name, with ``min_`` or ``max_`` in front of quantities; a list means any of its
        values (of ``elements``: all of them), None or an empty list is no filter.

    Raises
    ------
    FilterError
        For a name or value that is not allowed.
    """
    conditions: list[dict[str, Any]] = [{"output.kind": kind}]
    for name, value in filters.items():
        if value is None or value == []:
            continue
        bound, _, quantity = name.partition("_")
        if bound in ("min", "max") and quantity in allowed and allowed[quantity].ranged:
            operator = "$gte" if bound == "min" else "$lte"
            conditions.append({f"output.{allowed[quantity].path}": {operator: value}})
        elif name in allowed:
            values = list(value) if isinstance(value, list | tuple | set) else [value]
            if name in ("composition", "elements"):
                found = _with_composition if name == "composition" else _with_elements
                conditions.append(_in_cells(store, kind, found(values)))
            else:
                condition = _condition(name, allowed[name], values)
                conditions.append({f"output.{allowed[name].path}": condition})
        else:
            known = (n + (" (min_, max_)" if f.ranged else "") for n, f in allowed.items())
            raise FilterError(f"there is no filter {name!r} here; allowed: {', '.join(known)}")
    return {"$and": conditions}


def _condition(name: str, each: Filter, values: Sequence[Any]) -> Any:
    wrong = [value for value in values if each.choices and value not in each.choices]
    if wrong:
        raise FilterError(f"{name} {wrong[0]!r} is unknown; allowed: {', '.join(each.choices)}")
    known = [None if value == NO_CANDIDATE else value for value in values]
    return known[0] if len(known) == 1 else {"$in": known}


@dataclass(frozen=True)
class _Cell:
    """What documents say of the cell that they were computed in.

    Attributes
    ----------
    formula
        Composition asked for.
    realised
        Composition of the fully lithiated supercell before defects; None if it is not stored.
    dopants
        Elements put in.
    """

    formula: Composition
    realised: Composition | None
    dopants: frozenset[Element]

    @classmethod
    def of(
        cls, formula: str, realised: Mapping[str, float] | None, dopants: Sequence[str] | None
    ) -> "_Cell":
        """Cell of the fields of a context."""
        cations = {symbol: amount for symbol, amount in (realised or {}).items() if amount > 0}
        return cls(
            _composition(formula),
            Composition({**cations, "O": 2.0}) if cations else None,  # per two anions
            frozenset(Element(symbol) for symbol in dopants or ()),
        )


def _in_cells(store: DocumentStore, kind: str, fits: Callable[[_Cell], bool]) -> dict[str, Any]:
    """Criteria for the documents whose cell fits.

    No criteria can compare compositions, so the documents are named: by their study where all of
    it fits, else one by one.
    """
    known: dict[str, bool] = {}
    of_study: dict[str | None, list[tuple[str, bool]]] = {}
    for uuid, study_key, *fields in field_values(store, {"output.kind": kind}, _CELL_FIELDS):
        if fields[0] is None:
            continue
        text = repr(fields)  # documents are many, cells few
        if text not in known:
            known[text] = fits(_Cell.of(*fields))
        of_study.setdefault(study_key, []).append((uuid, known[text]))
    whole = {key for key, found in of_study.items() if key and all(fit for _, fit in found)}
    apart = (found for key, found in of_study.items() if key not in whole)
    single = sorted({uuid for found in apart for uuid, fit in found if fit})
    studies = {"output.context.study_key": {"$in": sorted(filter(None, whole))}}
    return {"$or": [studies, {"uuid": {"$in": single}}]} if single else studies


def _with_composition(wanted: Sequence[str]) -> Callable[[_Cell], bool]:
    """Whether a cell, or what was asked for, has a composition, however it is written."""
    compositions = [_composition(formula).fractional_composition for formula in wanted]

    def fits(cell: _Cell) -> bool:
        for own, tolerance in (
            (cell.formula, _FORMULA_TOLERANCE),
            (cell.realised, _CELL_TOLERANCE),
        ):
            if own is not None and any(
                own.fractional_composition.almost_equals(each, rtol=0, atol=tolerance)
                for each in compositions
            ):
                return True
        return False

    return fits


def _with_elements(wanted: Sequence[str]) -> Callable[[_Cell], bool]:
    """Whether a cell has all elements that are wanted."""
    unknown = [symbol for symbol in wanted if not Element.is_valid_symbol(symbol)]
    if unknown:
        raise FilterError(f"unknown elements {unknown}")
    elements = {Element(symbol) for symbol in wanted}

    def fits(cell: _Cell) -> bool:
        present = (cell.realised or cell.formula).elements
        return elements <= {*present, *cell.dopants}

    return fits


def _composition(formula: str) -> Composition:
    try:
        composition = Composition(formula)
    except ValueError as error:
        raise FilterError(f"{formula!r} is no formula: {error}") from None
    if not all(isinstance(element, Element) for element in composition):
        raise FilterError(f"{formula!r} is no formula of elements")
    return composition
