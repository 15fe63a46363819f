"""Tables of states, coordination and barriers as rows, CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .barrier import PathStatus
from .documents import BarrierDocument, StateDocument

Row = dict[str, Any]

#: Mark next to a number that is not a plain converged barrier.
MARKS = {
    PathStatus.NO_INTERIOR_SADDLE: "end-point difference",
    PathStatus.SEVERAL_SADDLES: "highest of several saddles",
}


def state_rows(states: Sequence[StateDocument]) -> list[Row]:
    """One row per state: Li contents, lattice, oxidation states, migration."""
    return [
        {
            "study": s.context.study,
            "seed": s.context.seed,
            "state": s.label,
            "voltage (V)": s.voltage,
            "Li per f.u.": _rounded(s.li_content),
            "Li layer": _rounded(s.li_layer),
            "TM layer": _rounded(s.tm_layer),
            "Li content from": s.li_source,
            "O4/(O4+O5)": _rounded(s.coordination.o4_fraction),
            "TM moves kept": sum(move.accepted for move in s.moves),
            "TM moves tried": len(s.moves),
            "temperature (K)": s.temperature,
            "layer spacing (Å)": _rounded(s.layer_spacing),
            "area per f.u. (Å²)": _rounded(s.in_plane_area),
            "volume per f.u. (Å³)": _rounded(s.volume),
            **{f"{o.element} state": _rounded(o.mean_state, 2) for o in s.oxidation or []},
            "energy (eV)": _rounded(s.energy, 4),
            "relaxed": s.converged,
            "level of theory": str(s.level_of_theory),
        }
        for s in states
    ]


def coordination_rows(states: Sequence[StateDocument]) -> list[Row]:
    """One row per state: oxygen classes, TM-TM coordination, tetrahedra, O-O pairs."""
    classes = sorted({name for s in states for name in s.coordination.class_fractions})
    return [
        {
            "study": s.context.study,
            "seed": s.context.seed,
            "state": s.label,
            "Li per f.u.": _rounded(s.li_content),
            "O4/(O4+O5)": _rounded(s.coordination.o4_fraction),
            "before TM moved": _rounded(s.before_migration.o4_fraction),
            **{name: _rounded(s.coordination.class_fractions.get(name, 0.0)) for name in classes},
            **{f"{name} (no frame)": _rounded(n) for name, n in s.frame_free_classes.items()},
            "TM-TM coordination": _rounded(s.coordination.tm_tm_coordination, 2),
            "TM on tetrahedra": s.coordination.n_tm_tet,
            "TM in the Li layer": s.coordination.n_tm_li_layer,
            "Li on tetrahedra": s.coordination.n_li_tet,
            "O-O pairs below 2 Å": len(s.oxygen_pairs.pairs),
            "trapped O2": s.oxygen_pairs.n_trapped,
            "atoms without site": s.coordination.n_unexplained,
            "level of theory": str(s.level_of_theory),
        }
        for s in states
    ]


def barrier_rows(barriers: Sequence[BarrierDocument]) -> list[Row]:
    """One row per hop. Only sound paths have numbers; a mark tells what they are."""
    return [_barrier_row(b) for b in barriers]


def _barrier_row(b: BarrierDocument) -> Row:
    around = b.surroundings
    return {
        "study": b.context.study,
        "seed": b.context.seed,
        "state": b.state,
        "Li per f.u.": _rounded(b.li_content),
        "mover": b.hop.mover if b.hop else None,
        "path class": b.path_class,
        "from": b.hop.start if b.hop else None,
        "via": b.hop.via.site if b.hop and b.hop.via else None,
        "to": b.hop.end.site if b.hop else None,
        "status": b.status.value if b.status else "no candidate",
        "forward (eV)": _rounded(b.barrier.forward) if b.barrier else None,
        "reverse (eV)": _rounded(b.barrier.reverse) if b.barrier else None,
        "reaction energy (eV)": _rounded(b.barrier.reaction_energy) if b.barrier else None,
        "max - min (eV)": _rounded(b.barrier.max_minus_min) if b.barrier else None,
        "mark": MARKS.get(b.status, "") if b.status and b.barrier else "",
        "same by symmetry": b.hop.degeneracy if b.hop else None,
        "cations at waypoint": around.n_face_sharing_cations if around else None,
        "vacancies at waypoint": around.n_face_sharing_vacancies if around else None,
        "vacancy cluster": around.vacancy_cluster_size if around else None,
        "O left": around.o_classes_left if around else None,
        "O joined": around.o_classes_joined if around else None,
        "TM-TM before": around.tm_coordination_start if around else None,
        "TM-TM after": around.tm_coordination_end if around else None,
        "O vacancies": around.n_oxygen_vacancies if around else None,
        "stacking": around.stacking if around else b.context.stacking,
        "followers": "; ".join(b.followers),
        "images": b.n_images,
        "force calls": b.n_force_calls,
        "level of theory": str(b.level_of_theory),
        "detail": b.detail,
    }


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


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
