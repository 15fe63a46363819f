"""Filters of results as users name them, and what they mean for stored documents."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from pymatgen.core import Composition, Element

from ..structures.hops import PathClass
from ..structures.rock_salt import RockSaltPrototype
from ..structures.stacking import Stacking
from ..structures.superlattice import Superlattice
from .barrier import PathStatus
from .columns import NO_CANDIDATE


class DocumentStore(Protocol):
    """What is needed of a jobflow JobStore.

    A store that also has ``field_values(criteria, fields)``, which returns a tuple of fields per
    document, need not make whole documents for a table.
    """

    def query(
        self, criteria: dict[str, Any], properties: list[str] | None = None, *, load: bool
    ) -> Iterable[dict[str, Any]]:
        """Documents that match MongoDB criteria."""

    def distinct(self, field: str, criteria: dict[str, Any]) -> list[Any]:
        """Distinct values of a field."""


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
#: ``composition`` and ``elements`` compare formulas, not their text.
_COMMON: Mapping[str, Filter] = {
    "study": Filter("context.study"),
    "study_key": Filter("context.study_key"),
    "composition": Filter("context.composition"),
    "elements": Filter("context.composition"),
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


def criteria_of(
    store: DocumentStore, kind: str, allowed: Mapping[str, Filter], filters: Mapping[str, Any]
) -> dict[str, Any]:
    """MongoDB criteria of filters.

    Parameters
    ----------
    store
        Connected store; it is asked which compositions it has.
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
            condition = _condition(store, kind, name, allowed[name], values)
            conditions.append({f"output.{allowed[name].path}": condition})
        else:
            known = (n + (" (min_, max_)" if f.ranged else "") for n, f in allowed.items())
            raise FilterError(f"there is no filter {name!r} here; allowed: {', '.join(known)}")
    return {"$and": conditions}


def _condition(
    store: DocumentStore, kind: str, name: str, each: Filter, values: Sequence[Any]
) -> Any:
    if name in ("composition", "elements"):
        formulas = store.distinct(f"output.{each.path}", {"output.kind": kind})
        found = _same_composition if name == "composition" else _with_elements
        return {"$in": found(formulas, values)}
    wrong = [value for value in values if each.choices and value not in each.choices]
    if wrong:
        raise FilterError(f"{name} {wrong[0]!r} is unknown; allowed: {', '.join(each.choices)}")
    known = [None if value == NO_CANDIDATE else value for value in values]
    return known[0] if len(known) == 1 else {"$in": known}


def _same_composition(formulas: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Formulas of the same composition as one that is wanted, however they are written."""
    compositions = [_composition(formula).fractional_composition for formula in wanted]
    return [
        formula
        for formula in formulas
        if any(
            _composition(formula).fractional_composition.almost_equals(each, rtol=0, atol=1e-6)
            for each in compositions
        )
    ]


def _with_elements(formulas: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Formulas with all elements that are wanted."""
    unknown = [symbol for symbol in wanted if not Element.is_valid_symbol(symbol)]
    if unknown:
        raise FilterError(f"unknown elements {unknown}")
    elements = {Element(symbol) for symbol in wanted}
    return [formula for formula in formulas if elements <= set(_composition(formula).elements)]


def _composition(formula: str) -> Composition:
    try:
        composition = Composition(formula)
    except ValueError as error:
        raise FilterError(f"{formula!r} is no formula: {error}") from None
    if not all(isinstance(element, Element) for element in composition):
        raise FilterError(f"{formula!r} is no formula of elements")
    return composition
