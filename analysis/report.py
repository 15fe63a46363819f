"""Report of a study as one HTML file that opens offline."""

import base64
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from ..structures.assignment import assign
from ..structures.frame import SiteKind
from .bonding_documents import BondingDocument
from .bonding_figures import bond_strength_figure, cohp_figure, labelled_results, pdos_figure
from .bonding_tables import bonding_class_rows, dopant_rows
from .competitive_bonding import compare_dopants
from .documents import BarrierDocument, StateDocument, StudyContext
from .figure_style import shown
from .figures import (
    barrier_figure,
    lattice_figure,
    o4_fraction_figure,
    oxidation_figure,
    profile_figure,
    voltage_figure,
)
from .findings import findings
from .layer_picture import tm_layer_figure
from .presentation import (
    NONE,
    by_replicate,
    hop_name,
    hop_sites,
    in_order,
    mark,
    percent,
    plain,
    shown_barrier,
    status_name,
)
from .tables import Row
from .variant_figure import variant_figure

#: Packages whose versions the report gives, where they are installed.
PACKAGES = (
    *("lrlo", "chgnet", "torch", "ase", "pymatgen", "jobflow", "spglib", "icet", "tblite"),
    "matplotlib",
)
#: More profiles than this are not drawn; the report says so.
MAX_PROFILES = 60


@dataclass(frozen=True)
class Picture:
    """A figure inside the page: data URI and alternative text."""

    source: str
    alt: str


@dataclass(frozen=True)
class Cell:
    """A table cell; `reason` cells span the four columns of energies."""

    text: str
    style: str = ""
    span: int = 1


@dataclass(frozen=True)
class Table:
    """Header and rows of a table."""

    header: list[str]
    rows: list[list[Cell]] = field(default_factory=list)


def write_report(
    states: Sequence[StateDocument],
    barriers: Sequence[BarrierDocument],
    path: Path,
    *,
    title: str,
    bonding: Sequence[BondingDocument] = (),
    notes: Sequence[str] = (),
    failures: Sequence[str] = (),
) -> Path:
    """Write the report of a study.

    The file appears whole or not at all, and replaces an older one.

    Parameters
    ----------
    states, barriers
        Results; either may be empty.
    path
        HTML file to write.
    title
        Title of the page.
    bonding
        Bonding of states, curves loaded.
    notes
        Remarks of whoever ran the study.
    failures
        What could not be computed, and why.

    Returns
    -------
    path
        The file written.
    """
    template = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(template).render(
        title=title,
        notes=notes,
        failures=failures,
        bonding=_bonding_sections(bonding),
        **_content(in_order(states), sorted(barriers, key=_barrier_order)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _content(states: list[StateDocument], barriers: list[BarrierDocument]) -> dict[str, object]:
    documents: list[StateDocument | BarrierDocument] = [*states, *barriers]
    contexts = {d.context.model_dump_json(): d.context for d in documents}
    levels = {(str(d.level_of_theory), d.level_of_theory) for d in documents}
    with_path = [b for b in barriers if b.segments]
    return {
        "models": models_table(list(contexts.values())),
        "compositions": [
            re.findall(r"([^\d.]+)([\d.]*)", composition)
            for composition in sorted({c.composition for c in contexts.values()})
        ],
        "levels": [level for _, level in sorted(levels, key=lambda pair: pair[0])],
        "findings": findings(states, barriers),
        "states": states_table(states),
        "layers": list(_layer_pictures(states)),
        "coordination": _coordination_pictures(states),
        "variants": _variant_picture(states, barriers),
        "voltage": picture(voltage_figure(states), "voltage against Li content"),
        "lattice": picture(lattice_figure(states), "lattice against Li content"),
        "oxidation": picture(oxidation_figure(states), "oxidation states against Li content"),
        "thresholds": _thresholds(states),
        "barriers": barriers_table(barriers),
        "barrier_overview": picture(barrier_figure(barriers), "forward barriers by state"),
        "profiles": [
            picture(
                profile_figure(b), f"energy profile, {b.state}, {hop_name(b)}, {status_name(b)}"
            )
            for b in with_path[:MAX_PROFILES]
        ],
        "n_profiles_left_out": max(len(with_path) - MAX_PROFILES, 0),
        "studies": sorted({(c.study, c.study_key) for c in contexts.values()}),
        "versions": _versions(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


@dataclass(frozen=True)
class BondingSection:
    """Bonding at one level of theory: figures, classes, dopants and what marks the results."""

    level: str
    pictures: list[Picture]
    classes: Table
    dopants: Table | None
    marks: list[str]


def _bonding_sections(documents: Sequence[BondingDocument]) -> list[BondingSection]:
    """One section per level of theory: their numbers are never shown together."""
    sections = []
    for level in sorted({str(document.level_of_theory) for document in documents}):
        members = [d for d in documents if str(d.level_of_theory) == level]
        results = labelled_results(members)
        pictures = [
            picture(draw(results), f"{name}, {level}")
            for name, draw in (
                ("O 2p states by oxygen class", pdos_figure),
                ("COHP by oxygen class", cohp_figure),
                ("bond length against ICOHP", bond_strength_figure),
            )
        ]
        marks = [f"{label}: {mark}" for label, r in results.items() for mark in r.marks]
        comparisons = compare_dopants(members)
        marks += [f"no comparison of dopants: {sentence}" for sentence in comparisons.left_out]
        classes = _bonding_table(bonding_class_rows(members))
        dopants = _bonding_table(dopant_rows(comparisons.made)) if comparisons.made else None
        sections.append(BondingSection(level, pictures, classes, dopants, marks))
    return sections


def _bonding_table(rows: Sequence[Row]) -> Table:
    left_out = {"study", "left out of ICOHP", "level of theory"}
    names = [name for name in rows[0] if name not in left_out]
    table = Table(names)
    for row in rows:
        table.rows.append([Cell(NONE if row[n] in (None, "") else str(row[n])) for n in names])
    return table


def _coordination_pictures(states: Sequence[StateDocument]) -> list[Picture]:
    """One picture per variant, its name above it where there are several."""
    variants = list(dict.fromkeys(s.context.variant for s in states)) or [""]
    pictures = []
    for variant in variants:
        figure = o4_fraction_figure([s for s in states if s.context.variant == variant])
        if len(variants) > 1:
            figure.suptitle(shown(variant))
        pictures.append(picture(figure, f"O4/(O4+O5) and oxygen classes {variant}".rstrip()))
    return pictures


def _variant_picture(
    states: Sequence[StateDocument], barriers: Sequence[BarrierDocument]
) -> Picture | None:
    """Comparison of the variants; None where there are not several."""
    if len({s.context.variant for s in states}) < 2:
        return None
    return picture(variant_figure(states, barriers), "O4/(O4+O5) and lowest barriers by variant")


def picture(figure: Figure, alt: str) -> Picture:
    """Figure as an SVG data URI.

    Parameters
    ----------
    figure, alt
        Figure and its alternative text.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index(b"<svg") :]  # without the reference to the DTD
    encoded = base64.b64encode(drawing).decode("ascii")
    return Picture(f"data:image/svg+xml;base64,{encoded}", alt)


def _layer_pictures(states: Sequence[StateDocument]) -> Iterator[Picture]:
    for members in by_replicate(states).values():
        for state in members:
            # A state that follows another one keeps the TM where the moves there took them.
            origin = next((s for s in members if s.label == state.after), None)
            moves = [*(origin.moves if origin else []), *state.moves]
            drawn = state.model_copy(update={"moves": moves})
            for layer in _tm_layers(state):
                alt = f"TM layer {layer + 1}, {state.label}, {state.context.replicate}"
                yield picture(tm_layer_figure(drawn, layer), alt)


def _tm_layers(state: StateDocument) -> list[int]:
    """TM layers that hold ions; those in the vacuum beside a slab do not."""
    if not state.frame.n_layers:
        return []
    frame = state.frame
    held = assign(state.structure, frame).occupation.occupied()
    return sorted({int(frame.layers[i]) for i in held if frame.kinds[i] is SiteKind.TM_OCT})


def models_table(contexts: Sequence[StudyContext]) -> Table:
    """How every pristine supercell was built: one column per study, variant and seed.

    Parameters
    ----------
    contexts
        Distinct contexts of the results.
    """
    ordered = sorted(contexts, key=lambda c: (c.study, c.variant, c.seed))
    before = " before defects" if any(context.defects for context in ordered) else ""
    rows: list[tuple[str, Callable[[StudyContext], str]]] = [
        ("variant", lambda c: c.variant or NONE),
        ("seed of superlattice and SQS", lambda c: str(c.seed)),
        ("target (cations per f.u.)", lambda c: _amounts(c.target)),
        (f"realised{before} (cations per f.u.)", lambda c: _amounts(c.realised)),
        (f"deviation{before} (cations per f.u.)", _deviation),
        ("charge imbalance of the cell (e)", lambda c: _signed(c.charge_imbalance, 2)),
        ("formula units in the cell", lambda c: str(c.n_formula_units)),
        ("stacking", lambda c: c.stacking),
        ("Li superlattice of the TM layer", lambda c: c.superlattice or NONE),
        ("order of the other cations", lambda c: c.tm_order or NONE),
        (
            "SQS error (sum of correlation errors; 0 is perfect)",
            lambda c: f"{c.sqs_objective:.4f}" if c.tm_order else NONE,
        ),
        ("shortest ion to image distance (Å)", lambda c: f"{c.image_distance:.2f}"),
        ("defects", lambda c: "; ".join(c.defects) or NONE),
        ("cells", _cells),
    ]
    table = Table(["study", *(c.study for c in ordered)])
    for name, text in rows if ordered else []:
        table.rows.append([Cell(name), *(Cell(text(c)) for c in ordered)])
    return table


def _cells(context: StudyContext) -> str:
    """Whether the cells of a study are free, and at what they are held."""
    if context.vacuum is not None:
        return f"fixed; slab with {context.vacuum:.1f} Å of vacuum"
    if context.strain is None:
        return "free"
    strain = context.strain
    in_plane = strain.components or (strain.in_plane,)
    parts = [_signed(100 * e, 1) + " %" for e in (*in_plane, strain.out_of_plane)]
    names = "xx, yy, xy, zz" if strain.components else "in plane, out of plane"
    return f"fixed; strain {names} {', '.join(parts)}"


def _deviation(context: StudyContext) -> str:
    species = dict.fromkeys([*context.target, *context.realised])
    return ", ".join(
        f"{s} {_signed(context.realised.get(s, 0.0) - context.target.get(s, 0.0), 3)}"
        for s in species
    )


def states_table(states: Sequence[StateDocument]) -> Table:
    """One row per state.

    Parameters
    ----------
    states
        States in the order of the rows.
    """
    classes = sorted(
        {"O3", "O4", "O5", "O6"}.union(*(s.coordination.class_fractions for s in states))
    )
    columns: list[tuple[str, Callable[[StateDocument], str]]] = [
        ("state", lambda s: s.label),
        ("variant", lambda s: s.context.variant or NONE),
        ("seed", lambda s: str(s.context.seed)),
        ("after", lambda s: s.after or NONE),
        ("voltage (V)", lambda s: NONE if s.voltage is None else f"{s.voltage:g}"),
        ("Li per f.u.", lambda s: f"{s.li_content:.3f}"),
        ("Li per Li-layer octahedron", lambda s: _number(s.li_layer, 3)),
        ("Li per TM-layer octahedron", lambda s: _number(s.tm_layer, 3)),
        ("O4/(O4+O5)", lambda s: percent(s.coordination.o4_fraction)),
        ("before TM moved", lambda s: percent(s.before_migration.o4_fraction)),
        *((name, _class_share(name)) for name in classes),
        ("TM moves accepted / tried", _moves),
        ("temperature (K)", lambda s: NONE if s.temperature is None else f"{s.temperature:g}"),
        ("seed of moves", lambda s: NONE if s.migration_seed is None else str(s.migration_seed)),
        ("TM on tetrahedra", lambda s: str(s.coordination.n_tm_tet)),
        ("TM in the Li layers", lambda s: _count(s.coordination.n_tm_li_layer)),
        ("TM–TM coordination", lambda s: _number(s.coordination.tm_tm_coordination, 2)),
        ("O–O pairs below 2 Å", _pairs),
        ("trapped O2", lambda s: str(s.oxygen_pairs.n_trapped)),
        ("atoms off the frame", lambda s: _count(s.coordination.n_unexplained)),
        ("energy (eV per f.u.)", lambda s: f"{_signed(s.energy / s.context.n_formula_units, 3)}"),
        ("relaxation converged", lambda s: "yes" if s.converged else "no"),
        ("Li content from", lambda s: s.li_source),
        ("why the moves stopped", lambda s: s.migration_stopped),
        ("level of theory", lambda s: str(s.level_of_theory)),
    ]
    table = Table([name for name, _ in columns])
    for state in states:
        table.rows.append(
            [
                Cell(
                    text(state),
                    "bad" if name == "relaxation converged" and not state.converged else "",
                )
                for name, text in columns
            ]
        )
    return table


def barriers_table(barriers: Sequence[BarrierDocument]) -> Table:
    """One row per hop; numbers only where the path has a barrier, marked unless converged.

    Parameters
    ----------
    barriers
        Hops in the order of the rows.
    """
    table = Table(
        [
            *("state", "variant", "seed", "mover", "path class", "start → end site", "status"),
            *("forward (eV)", "reverse (eV)", "reaction energy (eV)", "max − min (eV)"),
            *(
                "symmetry-equivalent hops",
                "Li per Li-layer octahedron",
                "Li per TM-layer octahedron",
            ),
            *("face-sharing cations at waypoint", "face-sharing vacancies", "vacancy cluster"),
            *("O left", "O joined", "TM–TM at start", "TM–TM at end", "O vacancies", "stacking"),
            *("images", "force calls", "ions that follow", "detail", "level of theory"),
        ]
    )
    table.rows.extend(_barrier_cells(barrier) for barrier in barriers)
    return table


def _barrier_cells(b: BarrierDocument) -> list[Cell]:
    around, hop, value = b.surroundings, b.hop, shown_barrier(b)
    status = b.status.value if b.status else "no_candidate"
    energies = [Cell(f"no number: {b.detail or status_name(b)}", "reason", 4)]
    if value:
        numbers = (value.forward, value.reverse, value.reaction_energy, value.max_minus_min)
        energies = [Cell(f"{_signed(number, 2, plus='')}{mark(b)}", "number") for number in numbers]
    surroundings = [NONE] * 11
    if around:
        surroundings = [
            *(_number(around.li_fraction_li_layer, 3), _number(around.li_fraction_tm_layer, 3)),
            *(str(around.n_face_sharing_cations), str(around.n_face_sharing_vacancies)),
            *(str(around.vacancy_cluster_size), around.o_classes_left, around.o_classes_joined),
            *(str(around.tm_coordination_start), str(around.tm_coordination_end)),
            *(str(around.n_oxygen_vacancies), around.stacking),
        ]
    rest = [
        *(str(b.n_images), str(b.n_force_calls), "; ".join(b.followers) or NONE),
        *(b.detail if value else NONE, str(b.level_of_theory)),
    ]
    return [
        *(Cell(b.state), Cell(b.context.variant or NONE), Cell(str(b.context.seed))),
        Cell(hop.mover if hop else NONE),
        *(Cell(plain(b.path_class)), Cell(hop_sites(b).partition(" ")[2] or NONE)),
        Cell(f"{status_name(b)}{mark(b)}", f"status {status}"),
        *energies,
        *(Cell(text) for text in (str(hop.degeneracy) if hop else NONE, *surroundings, *rest)),
    ]


def _barrier_order(b: BarrierDocument) -> tuple[int, str, str, float]:
    value = shown_barrier(b)
    height = value.forward if value else float("inf")
    return (b.order, b.path_class, b.context.replicate, height)


def _class_share(name: str) -> Callable[[StateDocument], str]:
    return lambda s: percent(s.coordination.class_fractions.get(name, 0.0))


def _moves(state: StateDocument) -> str:
    accepted = sum(move.accepted for move in state.moves)
    return f"{accepted} / {len(state.moves)}" if state.moves else NONE


def _pairs(state: StateDocument) -> str:
    pairs = state.oxygen_pairs.pairs
    if not pairs:
        return "none"
    return f"{len(pairs)} (shortest {pairs[0].distance:.2f} Å, {pairs[0].label})"


def _thresholds(states: Sequence[StateDocument]) -> list[str]:
    """Moments that the oxidation states were read from, in words."""
    entries = {e.element: e.thresholds for s in states for e in s.oxidation or []}
    return [
        f"{element}: " + ", ".join(f"+{state} up to {limit:g} μB" for limit, state in limits)
        for element, limits in sorted(entries.items())
    ]


def _signed(value: float, digits: int, plus: str = "+") -> str:
    rounded = round(value, digits) + 0.0
    return f"{plus if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded):.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _count(number: int | None) -> str:
    return NONE if number is None else str(number)


def _amounts(amounts: dict[str, float]) -> str:
    return ", ".join(f"{species} {amount:.3f}" for species, amount in amounts.items())


def _versions() -> list[tuple[str, str]]:
    found = []
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found.append((name, metadata.version(name)))
    return found
