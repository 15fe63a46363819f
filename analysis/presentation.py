"""How states, hops and numbers are named, marked and ordered wherever they are shown."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from .barrier import Barrier, PathStatus
from .documents import BarrierDocument, StateDocument

#: Statuses that have a barrier, with the mark of its numbers.
STATUS_MARKS: Mapping[PathStatus | None, str] = MappingProxyType(
    {
        PathStatus.CONVERGED: "",
        PathStatus.NO_INTERIOR_SADDLE: "†",
        PathStatus.SEVERAL_SADDLES: "‡",
    }
)
NONE = "–"


def plain(name: str) -> str:
    """Label of an identifier: underscores as spaces, hyphens where usage has them."""
    hyphened = name.replace("out_of_plane", "out-of-plane").replace("in_plane", "in-plane")
    return hyphened.replace("_", " ").replace("tm hop", "TM hop").replace("li hop", "Li hop")


def counted(number: int, noun: str) -> str:
    """Number of things whose plural ends in s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(fraction: float | None) -> str:
    """Share in per cent, with one decimal where it has one."""
    if fraction is None:
        return NONE
    return f"{100 * fraction:.1f}".removesuffix(".0") + " %"


def hop_sites(barrier: BarrierDocument) -> str:
    """Mover and sites of a hop; empty if there was no candidate."""
    hop = barrier.hop
    return f"{hop.mover} {hop.start} → {hop.end.site}" if hop else ""


def hop_name(barrier: BarrierDocument) -> str:
    """Path class, mover and sites of a hop."""
    return f"{plain(barrier.path_class)} {hop_sites(barrier)}".strip()


def status_name(barrier: BarrierDocument) -> str:
    """Status of a hop in words."""
    return plain(barrier.status.value) if barrier.status else "no candidate"


def mark(barrier: BarrierDocument) -> str:
    """Mark that goes with every number of a hop that is not a plain converged barrier."""
    return STATUS_MARKS.get(barrier.status, "")


def shown_barrier(barrier: BarrierDocument) -> Barrier | None:
    """Barrier of a hop if it may be shown; with its mark unless it is converged."""
    return barrier.barrier if barrier.status in STATUS_MARKS else None


def in_order(states: Iterable[StateDocument]) -> list[StateDocument]:
    """States in study order, replicates by variant and seed."""
    return sorted(states, key=lambda s: (s.order, s.context.variant, s.context.seed))


def by_replicate(states: Iterable[StateDocument]) -> dict[tuple[str, str], list[StateDocument]]:
    """States of every study key and replicate, in study order."""
    groups: dict[tuple[str, str], list[StateDocument]] = {}
    for state in in_order(states):
        groups.setdefault((state.context.study_key, state.context.replicate), []).append(state)
    return groups
