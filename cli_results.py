"""``lrlo query``, ``export``, ``import``, ``store``. Heavy imports wait until they are needed."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from .analysis.tables import Row
    from .workflows.store import ResultStore

app = typer.Typer(add_completion=False)
store_app = typer.Typer(help="Look after a store.", no_args_is_help=True)

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="LRLO_STORE",
        show_envvar=True,
        show_default=False,
        help="Path of an embedded store or mongodb:// URI.",
    ),
]


class ResultKind(StrEnum):
    """What can be asked for."""

    BARRIERS = "barriers"
    COORDINATION = "coordination"
    BONDING = "bonding"
    STATES = "states"
    STRUCTURES = "structures"


#: Patterns of the columns that a table in the terminal has unless others are asked for.
_SHORT_TABLES = {
    ResultKind.BARRIERS: (
        *("state", r"Li per f\.u\.", "mover", "path class", "status", r"forward \(eV\)"),
        r"reverse \(eV\)",
    ),
    ResultKind.COORDINATION: (
        *("state", r"Li per f\.u\.", r"O4/\(O4\+O5\)", r"O\d", "TM-TM coordination"),
        *("TM on tetrahedra", "TM in the Li layer"),
    ),
    ResultKind.BONDING: (
        *("state", r"Li per f\.u\.", "O5:O4 -ICOHP", r"-ICOHP O[45] \(eV\)", r"gap \(eV\)"),
        "ICOHP scale",
    ),
    ResultKind.STATES: (
        *("state", r"voltage \(V\)", r"Li per f\.u\.", "Li layer", "TM layer"),
        *(r"O4/\(O4\+O5\)", "TM moves kept", r"energy \(eV\)", "relaxed"),
    ),
    ResultKind.STRUCTURES: (
        *("state", "formula", "atoms", r"[abc] \(Å\)", r"energy \(eV\)", "relaxed"),
    ),
}
#: Columns that such a table has in front where rows differ in them.
_TELL_APART = ("study", "variant", "seed", "level of theory")


class TableFormat(StrEnum):
    """How a table is printed or written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def fail(message: str) -> NoReturn:
    """End the command with a message on the error output."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


@contextmanager
def store_errors() -> Iterator[None]:
    """End the command with a message when a store cannot be used."""
    from .workflows.store import StoreError

    try:
        yield
    except StoreError as error:
        fail(str(error))


def open_existing(option: str | None, folder: Path | None = None) -> "ResultStore":
    """Store that a command reads, which has to be there already."""
    from .workflows.store import open_store
    from .workflows.store_location import store_location

    with store_errors():
        location = store_location(option, folder)
        if not location.exists():
            fail(f"there is no store at {location}; run a study first, or give --store")
        return open_store(location)


@app.command(rich_help_panel="Results")
def query(
    what: Annotated[ResultKind, typer.Argument(help="What to ask for.")],
    store: StoreOption = None,
    study: Annotated[
        list[str] | None, typer.Option(show_default=False, help="Name of the study.")
    ] = None,
    study_key: Annotated[
        list[str] | None,
        typer.Option(show_default=False, help="Version of the study: the hash of its content."),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(show_default=False, help="Label of the state, such as pristine."),
    ] = None,
    composition: Annotated[
        list[str] | None,
        typer.Option(
            show_default=False,
            help="Formula asked for, or of the computed cell before defects (to three digits).",
        ),
    ] = None,
    elements: Annotated[
        list[str] | None,
        typer.Option(show_default=False, help="Element in the computed cell, dopants included."),
    ] = None,
    stacking: Annotated[
        list[str] | None,
        typer.Option(show_default=False, help="Stacking of the anions, such as O3."),
    ] = None,
    superlattice: Annotated[
        list[str] | None,
        typer.Option(show_default=False, help="Order of Li in the TM layers, such as honeycomb."),
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(show_default=False, help="Label of the study's variant.")
    ] = None,
    dopant: Annotated[
        list[str] | None, typer.Option(show_default=False, help="Element put in as a dopant.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            show_default=False, help="Seed of the superlattice and the order of the cations."
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(show_default=False, help="What energies are from, such as emulator or gpaw."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            show_default=False, help="Model of that backend, as 'level of theory' names it."
        ),
    ] = None,
    path_class: Annotated[
        list[str] | None,
        typer.Option(
            show_default=False, help="Class of the hop, such as in_plane or out_of_plane."
        ),
    ] = None,
    mover: Annotated[
        list[str] | None, typer.Option(show_default=False, help="Element that hops.")
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            show_default=False,
            help="Outcome of the path, such as converged, unconverged or 'no candidate'.",
        ),
    ] = None,
    min_voltage: Annotated[
        float | None,
        typer.Option(show_default=False, help="Lowest voltage asked for, V against Li/Li+."),
    ] = None,
    max_voltage: Annotated[
        float | None,
        typer.Option(show_default=False, help="Highest voltage asked for, V against Li/Li+."),
    ] = None,
    min_li_content: Annotated[
        float | None,
        typer.Option(show_default=False, help="Lowest Li content, Li per formula unit."),
    ] = None,
    max_li_content: Annotated[
        float | None,
        typer.Option(show_default=False, help="Highest Li content, Li per formula unit."),
    ] = None,
    min_li_layer: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            help="Lowest Li per octahedron of the Li layers, 0 to 1.",
        ),
    ] = None,
    max_li_layer: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            help="Highest Li per octahedron of the Li layers, 0 to 1.",
        ),
    ] = None,
    min_tm_layer: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            help="Lowest Li per octahedron of the TM layers, 0 to 1.",
        ),
    ] = None,
    max_tm_layer: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            help="Highest Li per octahedron of the TM layers, 0 to 1.",
        ),
    ] = None,
    min_strain_in_plane: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            help="Lowest mean strain in the layers, 0.01 is 1 %, tensile positive.",
        ),
    ] = None,
    max_strain_in_plane: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            help="Highest mean strain in the layers, 0.01 is 1 %, tensile positive.",
        ),
    ] = None,
    min_strain_out_of_plane: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            help="Lowest strain along the layers' normal, 0.01 is 1 %, tensile positive.",
        ),
    ] = None,
    max_strain_out_of_plane: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            help="Highest strain along the layers' normal, 0.01 is 1 %, tensile positive.",
        ),
    ] = None,
    min_barrier: Annotated[
        float | None, typer.Option(show_default=False, help="Lowest forward barrier, eV.")
    ] = None,
    max_barrier: Annotated[
        float | None, typer.Option(show_default=False, help="Highest forward barrier, eV.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            help="Column to show, without its unit; a table has the main ones otherwise.",
        ),
    ] = None,
    sort: Annotated[
        list[str] | None, typer.Option(help="Column to sort by; -COLUMN from high to low.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most rows; 0 for all.")] = 0,
    format_: Annotated[
        TableFormat, typer.Option("--format", help="How to print.")
    ] = TableFormat.TABLE,
    output: Annotated[
        Path | None, typer.Option(help="File to write the table to; needed for parquet.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the results to this PNG or SVG file.")
    ] = None,
) -> None:
    """Ask stores for barriers, coordination, bonding, states or structures.

    An option given several times means any of its values (all of them for --elements). Without a
    store, those of the folders below this one are asked.
    """
    chosen = dict(locals())
    for name in ("what", "store", "columns", "sort", "limit", "format_", "output", "plot"):
        del chosen[name]
    from .analysis.query import FilterError, find_rows
    from .analysis.result_figures import draw_results
    from .analysis.tables import TableError, to_csv, to_json, write_parquet
    from .terminal import print_rows

    if format_ is TableFormat.PARQUET and output is None:
        fail("parquet is no text: give --output FILE")
    if plot is not None and plot.suffix not in (".png", ".svg"):
        fail(f"a figure is written as .png or .svg, not {plot.suffix or plot.name!r}")
    stores = _stores(store)
    try:
        with store_errors():
            rows = find_rows(
                stores, what.value, columns=columns or (), sort=sort or (), limit=limit, **chosen
            )
            if plot is not None:
                draw_results(stores, what.value, **chosen).savefig(plot, dpi=150)
        if format_ is TableFormat.PARQUET and output is not None:
            write_parquet(rows, output)
        elif format_ is TableFormat.TABLE and output is None:
            short = [] if columns else _short_columns(rows, what, sort or [])
            print_rows(rows, what.value, short or None)
            if short:
                _say_what_is_left_out(rows, short)
        else:
            text = to_json(rows) if format_ is TableFormat.JSON else to_csv(rows)
            if output is None:
                typer.echo(text)
            else:
                output.write_text(text, encoding="utf-8")
    except (FilterError, TableError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or output or plot} cannot be written: {error.strerror}")


def _short_columns(rows: "list[Row]", what: ResultKind, sort: list[str]) -> list[str]:
    """Columns for reading: those that tell rows apart, the main results, what is sorted by."""
    names = list(rows[0]) if rows else []
    apart = [n for n in _TELL_APART if n in names and len({row[n] for row in rows}) > 1]
    patterns = _SHORT_TABLES[what]
    main = [name for pattern in patterns for name in names if re.fullmatch(pattern, name)]
    keys = [key.removeprefix("-").lower() for key in sort]
    keyed = [n for n in names if n.lower() in keys or re.sub(r" \(.*\)$", "", n).lower() in keys]
    return list(dict.fromkeys([*apart, *main, *keyed]))


def _say_what_is_left_out(rows: "list[Row]", shown: list[str]) -> None:
    """Name the columns that a short table leaves out although they hold something."""
    from .terminal import console

    empty = (None, "")
    more = [n for n in rows[0] if n not in shown and any(row[n] not in empty for row in rows)]
    if more:
        number = "1 more column" if len(more) == 1 else f"{len(more)} more columns"
        text = f"{number}, by --column NAME or all by --format csv: {', '.join(more)}"
        console.print(text, soft_wrap=True, highlight=False, markup=False)


def _stores(option: str | None) -> "list[ResultStore]":
    """The store that is named, or those of the folders below this one."""
    from .workflows.store import StoreError
    from .workflows.store_location import STORE_FILE, store_location

    if option is None:
        try:
            store_location(None)
        except StoreError:
            paths = sorted(Path().glob(f"*/{STORE_FILE}"))
            if not paths:
                fail("no store found: give --store, or run a study here first")
            return [open_existing(str(path)) for path in paths]
    return [open_existing(option)]


@app.command(rich_help_panel="Results")
def export(
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    path: Annotated[Path, typer.Argument(help="Archive to write.")],
    store: StoreOption = None,
) -> None:
    """Write a study with its provenance to one archive."""
    from .workflows.archive import ArchiveError, export_study

    try:
        with store_errors():
            report = export_study(open_existing(store, Path(study)), study, path)
    except ArchiveError as error:
        fail(str(error))
    typer.echo(f"wrote {report.path}: {report.n_documents} documents, {report.n_blobs} large data")
    if not report.has_tasks:
        typer.echo("the tasks behind the results are not in the store, so they are not in it")


@app.command("import", rich_help_panel="Results")
def import_(
    path: Annotated[Path, typer.Argument(help="Archive that 'lrlo export' wrote.")],
    store: StoreOption = None,
) -> None:
    """Add an archive's documents to a store, which is made where there is none."""
    from .workflows.archive import ArchiveError, import_archive
    from .workflows.store import open_store
    from .workflows.store_location import store_location

    try:
        with store_errors():
            location = store_location(store)
            if not location.is_mongodb:
                location.path.parent.mkdir(parents=True, exist_ok=True)
            report = import_archive(open_store(location), path)
    except (ArchiveError, OSError) as error:
        fail(str(error))
    typer.echo(
        f"study {report.study}: {report.n_new} documents added, {report.n_present} were there, "
        f"{report.n_blobs} large data added"
    )
    if report.kept:
        typer.echo(f"{len(report.kept)} documents differ from the store's own, which were kept")


@store_app.command("check")
def store_check(
    store: StoreOption = None,
    remove_orphans: Annotated[
        bool, typer.Option("--remove-orphans", help="Remove large data that nothing refers to.")
    ] = False,
    remove_damaged: Annotated[
        bool,
        typer.Option("--remove-damaged", help="Remove damaged documents, to be computed again."),
    ] = False,
) -> None:
    """Verify every document of a store: readable, unchanged, nothing missing."""
    from .workflows import store_check as checks

    opened = open_existing(store)
    with store_errors():
        report = checks.check_store(opened)
        for line in report.lines():
            typer.echo(line)
        if remove_orphans:
            typer.echo(f"removed {len(checks.remove_orphans(opened, report))} large data")
        if remove_damaged:
            typer.echo(f"removed {checks.remove_damaged(opened, report)} documents")
    if not report.is_sound:
        raise typer.Exit(1)


app.add_typer(store_app, name="store", rich_help_panel="Results")
