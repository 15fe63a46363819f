"""Ask a store for states and barriers."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from .documents import BarrierDocument, StateDocument


class DocumentStore(Protocol):
    """What is needed of a maggma store or a jobflow JobStore."""

    def query(self, criteria: dict[str, Any], *, load: bool) -> Iterable[dict[str, Any]]:
        """Documents that match MongoDB criteria."""


class FilterError(ValueError):
    """A filter names no field that can be filtered by."""


#: Fields that results are filtered by, as users name them. Those with a range take ``min_`` and
#: ``max_`` in front of the name.
FILTERS: Mapping[str, str] = {
    "study": "context.study",
    "composition": "context.composition",
    "stacking": "context.stacking",
    "superlattice": "context.superlattice",
    "seed": "context.seed",
    "backend": "level_of_theory.backend",
    "state": "state",
    "voltage": "voltage",
    "li_content": "li_content",
    "path_class": "path_class",
    "mover": "hop.mover",
    "status": "status",
}
RANGES = ("voltage", "li_content")
_BARRIER_ONLY = ("path_class", "mover", "status")


def find_states(store: DocumentStore, **filters: Any) -> list[StateDocument]:
    """States that match all filters, in study order.

    Parameters
    ----------
    store
        Connected store.
    **filters
        Names of :data:`FILTERS` (``state`` is the label), ``min_``/``max_`` for ranges; None is
        no filter.

    Raises
    ------
    FilterError
        For a name that states cannot be filtered by.
    """
    wrong = sorted(name for name in _BARRIER_ONLY if filters.get(name) is not None)
    if wrong:
        raise FilterError(f"states have no {', '.join(wrong)}; those filters are for barriers")
    documents = _find(store, "state", {**FILTERS, "state": "label"}, filters)
    states = [StateDocument.model_validate(document) for document in documents]
    return sorted(states, key=lambda s: (s.context.study, s.context.seed, s.order))


def find_barriers(store: DocumentStore, **filters: Any) -> list[BarrierDocument]:
    """Barriers that match all filters, in study order, lowest barrier first within a state.

    Parameters and errors as in :func:`find_states`.
    """
    documents = _find(store, "barrier", FILTERS, filters)
    barriers = [BarrierDocument.model_validate(document) for document in documents]

    def order(b: BarrierDocument) -> tuple[str, int, int, str, float]:
        height = b.barrier.forward if b.barrier else float("inf")
        return (b.context.study, b.context.seed, b.order, b.path_class, height)

    return sorted(barriers, key=order)


def _find(
    store: DocumentStore, kind: str, fields: Mapping[str, str], filters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    criteria: dict[str, Any] = {"output.kind": kind}
    for name, value in filters.items():
        if value is None:
            continue
        bound, _, ranged = name.partition("_")
        if bound in ("min", "max") and ranged in RANGES:
            operator = "$gte" if bound == "min" else "$lte"
            criteria.setdefault(f"output.{fields[ranged]}", {})[operator] = value
        elif name in fields:
            criteria[f"output.{fields[name]}"] = value
        else:
            raise FilterError(f"unknown filter {name!r}; allowed: {', '.join(fields)}")
    return [document["output"] for document in store.query(criteria, load=False)]
