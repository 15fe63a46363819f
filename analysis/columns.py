"""Columns of result tables: which fields of a stored document they show, and how."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .barrier import PathStatus

Row = dict[str, Any]

#: Mark next to a number that is not a plain converged barrier.
MARKS: Mapping[str, str] = {
    PathStatus.NO_INTERIOR_SADDLE: "end-point difference",
    PathStatus.SEVERAL_SADDLES: "highest of several saddles",
}
#: Status shown for a path class without a candidate, which has none.
NO_CANDIDATE = "no candidate"


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name
        Header, with the unit.
    fields
        Dotted paths of the fields it needs.
    show
        Function of their values (None where a field is missing).
    """

    name: str
    fields: tuple[str, ...]
    show: Callable[..., Any] = _as_it_is

    @property
    def short_name(self) -> str:
        """Header without its unit, in lower case."""
        return re.sub(r" \([^()]*\)$", "", self.name).lower()


@dataclass(frozen=True)
class ColumnGroup(Column):
    """Columns whose number the data decide; `show` returns a dict of them, or None.

    Attributes
    ----------
    member
        Pattern of their names.
    fill
        Value where a document lacks one of them.
    """

    member: str = ""
    fill: Any = None


@dataclass(frozen=True)
class Records:
    """Chosen fields of some documents.

    Attributes
    ----------
    fields
        Dotted paths of the fields.
    values
        Their values, one tuple per document; None where a field is missing.
    """

    fields: tuple[str, ...]
    values: list[tuple[Any, ...]]

    @classmethod
    def of(cls, documents: Iterable[Mapping[str, Any]], fields: Iterable[str]) -> "Records":
        """Fields of nested documents."""
        names = tuple(dict.fromkeys(fields))
        paths = [name.split(".") for name in names]
        return cls(names, [tuple(field_of(each, path) for path in paths) for each in documents])

    def column(self, column: Column) -> list[Any]:
        """Values of a column, one per document."""
        show, places = column.show, [self.fields.index(field) for field in column.fields]
        if len(places) == 1:
            (place,) = places
            found = [values[place] for values in self.values]
            return found if show is _as_it_is else [show(value) for value in found]
        return [show(*[values[place] for place in places]) for values in self.values]


def field_of(document: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Field of a nested document; None where it is missing."""
    value: Any = document
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def rows_of(columns: Sequence[Column], records: Records) -> list[Row]:
    """One row per document; every row has the same columns."""
    shown: dict[str, list[Any]] = {}
    for column in columns:
        values = records.column(column)
        if not isinstance(column, ColumnGroup):
            shown[column.name] = values
            continue
        for name in sorted({name for value in values for name in value or {}}):
            shown[name] = [(value or {}).get(name, column.fill) for value in values]
    return [dict(zip(shown, row, strict=True)) for row in zip(*shown.values(), strict=True)]


def rounded(digits: int = 3) -> Callable[[float | None], float | None]:
    """Function that rounds a number, if there is one."""

    def show(value: float | None) -> float | None:
        return None if value is None else round(value, digits)

    return show


def _sum_accepted(moves: list[dict] | None) -> int:
    return sum(move["accepted"] for move in moves or [])


def _length(values: list | None) -> int:
    return len(values or [])


def _n_trapped(pairs: list[dict] | None) -> int:
    return sum(pair["trapped"] for pair in pairs or [])


def _level(model: str | None, version: str | None) -> str:
    return f"{model or ''} {version or ''}".strip()


def _fractions(fractions: dict[str, float] | None) -> dict[str, float | None]:
    return {name: rounded()(value) for name, value in (fractions or {}).items()}


def _no_frame_fractions(fractions: dict[str, float] | None) -> dict[str, float | None]:
    return {f"{name} (no frame)": value for name, value in _fractions(fractions).items()}


def _mean_oxidation_states(entries: list[dict] | None) -> dict[str, float | None]:
    return {f"{each['element']} state": rounded(2)(each["mean_state"]) for each in entries or []}


def _mark(status: str | None, forward: float | None) -> str:
    return MARKS.get(status, "") if status and forward is not None else ""


def _status(status: str | None) -> str:
    return status or NO_CANDIDATE


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _joined(values: list[str] | None) -> str:
    return "; ".join(values or [])


def _formula(structure: dict | None) -> str | None:
    if structure is None:
        return None
    counts: dict[str, int] = {}
    for site in structure["sites"]:
        for species in site["species"]:
            counts[species["element"]] = counts.get(species["element"], 0) + 1
    return "".join(f"{element}{counts[element]}" for element in sorted(counts))


def _n_atoms(structure: dict | None) -> int | None:
    return None if structure is None else len(structure["sites"])


def _of_class(o_class: str, quantity: str) -> Callable[[list[dict] | None], float | None]:
    """Function that finds the mean of a quantity over one oxygen class."""

    def show(classes: list[dict] | None) -> float | None:
        for entry in classes or []:
            if entry["o_class"] == o_class and entry.get(quantity) is not None:
                return rounded()(entry[quantity]["mean"])
        return None

    return show


def _context(*names: tuple[str, str]) -> tuple[Column, ...]:
    return tuple(Column(name, (f"context.{field}",)) for name, field in names)


_REPLICATE = _context(("study", "study"), ("variant", "variant"), ("seed", "seed"))
_LEVEL = Column("level of theory", ("level_of_theory.model", "level_of_theory.version"), _level)

STATE_COLUMNS: tuple[Column, ...] = (
    *_REPLICATE,
    Column("state", ("label",)),
    Column("voltage (V)", ("voltage",)),
    Column("Li per f.u.", ("li_content",), rounded()),
    Column("Li layer", ("li_layer",), rounded()),
    Column("TM layer", ("tm_layer",), rounded()),
    Column("Li content from", ("li_source",)),
    Column("O4/(O4+O5)", ("coordination.o4_fraction",), rounded()),
    Column("TM moves kept", ("moves",), _sum_accepted),
    Column("TM moves tried", ("moves",), _length),
    Column("temperature (K)", ("temperature",)),
    Column("layer spacing (Å)", ("layer_spacing",), rounded()),
    Column("area per f.u. (Å²)", ("in_plane_area",), rounded()),
    Column("volume per f.u. (Å³)", ("volume",), rounded()),
    ColumnGroup(
        "oxidation states", ("oxidation",), _mean_oxidation_states, member=r"[A-Z][a-z]? state"
    ),
    Column("energy (eV)", ("energy",), rounded(4)),
    Column("relaxed", ("converged",)),
    _LEVEL,
)

COORDINATION_COLUMNS: tuple[Column, ...] = (
    *_REPLICATE,
    Column("state", ("label",)),
    Column("Li per f.u.", ("li_content",), rounded()),
    Column("O4/(O4+O5)", ("coordination.o4_fraction",), rounded()),
    Column("before TM moved", ("before_migration.o4_fraction",), rounded()),
    ColumnGroup(
        "oxygen classes", ("coordination.class_fractions",), _fractions, member=r"O\d", fill=0.0
    ),
    ColumnGroup(
        "oxygen classes without the frame",
        ("frame_free_classes",),
        _no_frame_fractions,
        member=r"O\d \(no frame\)",
    ),
    Column("TM-TM coordination", ("coordination.tm_tm_coordination",), rounded(2)),
    Column("TM on tetrahedra", ("coordination.n_tm_tet",)),
    Column("TM in the Li layer", ("coordination.n_tm_li_layer",)),
    Column("Li on tetrahedra", ("coordination.n_li_tet",)),
    Column("O-O pairs below 2 Å", ("oxygen_pairs.pairs",), _length),
    Column("trapped O2", ("oxygen_pairs.pairs",), _n_trapped),
    Column("atoms without site", ("coordination.n_unexplained",)),
    _LEVEL,
)

STRUCTURE_COLUMNS: tuple[Column, ...] = (
    *_REPLICATE,
    *_context(
        ("composition", "composition"), ("stacking", "stacking"), ("superlattice", "superlattice")
    ),
    Column("state", ("label",)),
    Column("Li per f.u.", ("li_content",), rounded()),
    Column("formula", ("structure",), _formula),
    Column("atoms", ("structure",), _n_atoms),
    *(Column(f"{axis} (Å)", (f"lattice.{axis}",), rounded()) for axis in "abc"),
    *(Column(f"{a} (°)", (f"lattice.{a}",), rounded()) for a in ("alpha", "beta", "gamma")),
    Column("layer spacing (Å)", ("layer_spacing",), rounded()),
    Column("volume per f.u. (Å³)", ("volume",), rounded()),
    Column("energy (eV)", ("energy",), rounded(4)),
    Column("relaxed", ("converged",)),
    _LEVEL,
)

BARRIER_COLUMNS: tuple[Column, ...] = (
    *_REPLICATE,
    Column("state", ("state",)),
    Column("Li per f.u.", ("li_content",), rounded()),
    Column("mover", ("hop.mover",)),
    Column("path class", ("path_class",)),
    Column("from", ("hop.start",)),
    Column("via", ("hop.via.site",)),
    Column("to", ("hop.end.site",)),
    Column("status", ("status",), _status),
    Column("forward (eV)", ("barrier.forward",), rounded()),
    Column("reverse (eV)", ("barrier.reverse",), rounded()),
    Column("reaction energy (eV)", ("barrier.reaction_energy",), rounded()),
    Column("max - min (eV)", ("barrier.max_minus_min",), rounded()),
    Column("mark", ("status", "barrier.forward"), _mark),
    Column("same by symmetry", ("hop.degeneracy",)),
    Column("cations at waypoint", ("surroundings.n_face_sharing_cations",)),
    Column("vacancies at waypoint", ("surroundings.n_face_sharing_vacancies",)),
    Column("vacancy cluster", ("surroundings.vacancy_cluster_size",)),
    Column("O left", ("surroundings.o_classes_left",)),
    Column("O joined", ("surroundings.o_classes_joined",)),
    Column("TM-TM before", ("surroundings.tm_coordination_start",)),
    Column("TM-TM after", ("surroundings.tm_coordination_end",)),
    Column("O vacancies", ("surroundings.n_oxygen_vacancies",)),
    Column("stacking", ("surroundings.stacking", "context.stacking"), _first),
    Column("followers", ("followers",), _joined),
    Column("images", ("n_images",)),
    Column("force calls", ("n_force_calls",)),
    _LEVEL,
    Column("detail", ("detail",)),
)

BONDING_COLUMNS: tuple[Column, ...] = (
    *_REPLICATE,
    Column("state", ("state",)),
    Column("voltage (V)", ("voltage",)),
    Column("Li per f.u.", ("li_content",), rounded()),
    Column("O5:O4 O 2p in window", ("result.ratios.window_weight",), rounded()),
    Column("O5:O4 non-bonding O 2p", ("result.ratios.window_nonbonding",), rounded()),
    Column("O5:O4 -ICOHP", ("result.ratios.minus_icohp",), rounded()),
    *(
        Column(f"-ICOHP {o_class} (eV)", ("result.classes",), _of_class(o_class, "minus_icohp"))
        for o_class in ("O3", "O4", "O5")
    ),
    *(
        Column(f"O 2p band top {o_class} (eV)", ("result.classes",), _of_class(o_class, "band_top"))
        for o_class in ("O3", "O4", "O5")
    ),
    Column("gap (eV)", ("result.gap",), rounded()),
    Column("ICOHP scale", ("result.icohp_scale",)),
    Column("marks", ("result.marks",), _joined),
    _LEVEL,
)

#: Coordination and bonding of the cell that a hop happens in: before the TM of its state moved.
#: Fields of the state lie under ``cell``, those of its bonding under ``bonding``.
CELL_COLUMNS: tuple[Column, ...] = (
    Column("cell O4/(O4+O5)", ("cell.before_migration.o4_fraction",), rounded()),
    Column("cell O4", ("cell.before_migration.class_fractions.O4",), rounded()),
    Column("cell O5", ("cell.before_migration.class_fractions.O5",), rounded()),
    Column("cell TM-TM coordination", ("cell.before_migration.tm_tm_coordination",), rounded(2)),
    Column("state O5:O4 -ICOHP", ("bonding.result.ratios.minus_icohp",), rounded()),
    Column("state O5:O4 O 2p in window", ("bonding.result.ratios.window_weight",), rounded()),
    Column(
        "state bonding by",
        ("bonding.level_of_theory.model", "bonding.level_of_theory.version"),
        _level,
    ),
)
