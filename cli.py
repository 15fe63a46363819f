"""The ``lrlo`` command. Heavy imports wait until a command needs them."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from jobflow import JobStore

    from .analysis.documents import BarrierDocument, StateDocument
    from .workflows.study import Study
    from .workflows.study_model import StudyModel

app = typer.Typer(
    help="Migration and oxygen-coordination studies of Li-rich layered oxide cathodes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
profile_app = typer.Typer(help="Cluster profiles that come with the package.", no_args_is_help=True)
app.add_typer(profile_app, name="profile")

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (YAML).")]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Folder of the study's results [default: ./NAME]."),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="LRLO_STORE",
        show_envvar=True,
        help="Path of a file-backed store or mongodb:// URI [default: FOLDER/store.sqlite].",
    ),
]


#: Columns of the tables in the terminal; the files of a study have all.
STATE_COLUMNS = (
    *("state", "voltage (V)", "Li per f.u.", "Li layer", "TM layer", "O4/(O4+O5)"),
    *("TM moves kept", "TM moves tried", "layer spacing (Å)", "Mn state", "Ni state"),
)
COORDINATION_COLUMNS = (
    *("TM-TM coordination", "TM on tetrahedra", "TM in the Li layer"),
    *("O-O pairs below 2 Å", "trapped O2"),
)
BARRIER_COLUMNS = (
    *("state", "mover", "class", "from", "to", "status", "forward", "reverse", "reaction"),
    "calls",
)


class ResultKind(StrEnum):
    """What can be asked for."""

    BARRIERS = "barriers"
    COORDINATION = "coordination"
    STATES = "states"


class TableFormat(StrEnum):
    """How a table is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@app.command()
def new(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("study.yaml"),
) -> None:
    """Write a commented study file to start from."""
    from importlib.resources import files

    text = (files("lrlo.workflows") / "new_study.yaml").read_text(encoding="utf-8")
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in path.stem).strip(".-_")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text.replace("{name}", name or "study"))
    except FileExistsError:
        _fail(f"{path} exists; choose another name")
    except OSError as error:
        _fail(f"{path} cannot be written: {error.strerror}")
    typer.echo(f"wrote {path}; next: lrlo plan {path}")


@app.command()
def plan(study_path: StudyPath) -> None:
    """Say what a study would run, how large it is and what it would cost."""
    from .terminal import console, duration, print_rows
    from .workflows.plan import plan_study

    _, models = _load(study_path)
    _describe(models)
    with console.status("measuring the backend's speed"):
        planned = plan_study(models)
    rows = [
        {
            "stage": item.stage,
            "kind": item.kind,
            "tasks (at most)": item.n_tasks,
            "atoms (at most)": item.n_atoms,
            "force calls (about)": item.n_force_calls,
        }
        for item in planned.work
    ]
    print_rows(rows, "planned work")
    console.print(
        f"at most {planned.n_tasks} tasks, about {planned.n_force_calls} force calls and "
        f"{duration(planned.seconds)} here ({planned.seconds_per_call:.2f} s per call, measured); "
        "repeated tasks are computed once"
    )


@app.command()
def run(study_path: StudyPath, folder: FolderOption = None, store: StoreOption = None) -> None:
    """Run a study here, or go on with it; writes tables, figures and report.html."""
    from .terminal import ProgressReport, console, duration, errors
    from .workflows.local_run import RunError, exclusive, remove_outdated, run_flow
    from .workflows.plan import plan_study
    from .workflows.store import StoreError
    from .workflows.study_flow import study_flow

    study, models = _load(study_path)
    target = folder or Path(study.name)
    _describe(models)
    try:
        with exclusive(target):
            opened = _open(target, store)
            progress = ProgressReport(plan_study(models))
            with progress.shown():
                report = run_flow(study_flow(models), opened, target, progress)
            if not report.failures:
                remove_outdated(opened, study.name, report.uuids)
            failures = [f"{failure.name}: {failure.message}" for failure in report.failures]
            for failure in report.failures:
                with (target / "errors.log").open("a", encoding="utf-8") as log:
                    log.write(f"{failure.name}\n{failure.trace}\n")
            states, barriers = _results(opened, study)
            _write_results(target, study, states, barriers, failures)
    except (RunError, StoreError, OSError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        errors.print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None
    times = ", ".join(f"{kind} {duration(s)}" for kind, s in report.seconds_by_kind.items())
    console.print(
        f"{report.n_computed} tasks computed, {report.n_stored} were stored"
        + (f" ({times})" if times else "")
    )
    _show(states, barriers)
    console.print(f"report: {target / 'report.html'}", soft_wrap=True)
    if report.failures:
        for message in failures:
            errors.print(f"failed: {message}", style="red", markup=False, soft_wrap=True)
        errors.print(
            f"{len(failures)} jobs failed and {report.n_left_out} that need them were left out; "
            f"tracebacks: {target / 'errors.log'}; everything else is stored",
            soft_wrap=True,
        )
        raise typer.Exit(1)


@app.command()
def status(study_path: StudyPath, folder: FolderOption = None, store: StoreOption = None) -> None:
    """Say how far a study is."""
    from .terminal import console
    from .workflows.local_run import is_running
    from .workflows.study import StudyError, read_study

    try:
        study = read_study(study_path)
    except StudyError as error:
        _fail(str(error))
    target = folder or Path(study.name)
    opened = _open(target, store, must_exist=True)
    console.print(f"{study.name}: {'running' if is_running(target) else 'not running'}")
    for kind in ("relax", "static", "neb"):
        console.print(f"  {opened.count({'output.kind': kind})} {kind} tasks stored")
    states, barriers = _results(opened, study)
    n_states = len(study.states) * sum(len(each.structure.seeds) for each in study.structures)
    console.print(f"  {len(states)} of {n_states} states finished")
    outcomes = [b.status.value if b.status else "no candidate" for b in barriers]
    for outcome in sorted(set(outcomes)):
        console.print(f"  {outcomes.count(outcome)} hops: {outcome}")


@app.command()
def show(study_path: StudyPath, folder: FolderOption = None, store: StoreOption = None) -> None:
    """Print the tables of a study."""
    from .workflows.study import StudyError, read_study

    try:
        study = read_study(study_path)
    except StudyError as error:
        _fail(str(error))
    _show(*_results(_open(folder or Path(study.name), store, must_exist=True), study))


@app.command()
def query(
    what: Annotated[ResultKind, typer.Argument(help="What to ask for.")],
    store: StoreOption = None,
    study: Annotated[str | None, typer.Option(help="Name of the study.")] = None,
    state: Annotated[str | None, typer.Option(help="Label of the state.")] = None,
    composition: Annotated[str | None, typer.Option(help="Formula as in the study file.")] = None,
    superlattice: Annotated[str | None, typer.Option(help="Li order of the TM layer.")] = None,
    stacking: Annotated[str | None, typer.Option(help="Oxygen stacking.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the SQS.")] = None,
    backend: Annotated[str | None, typer.Option(help="Backend, such as emulator.")] = None,
    path_class: Annotated[str | None, typer.Option(help="in_plane, out_of_plane, …")] = None,
    mover: Annotated[str | None, typer.Option(help="Element that hops.")] = None,
    status: Annotated[str | None, typer.Option(help="Status of the path.")] = None,
    min_voltage: Annotated[float | None, typer.Option(help="V against Li/Li+.")] = None,
    max_voltage: Annotated[float | None, typer.Option(help="V against Li/Li+.")] = None,
    min_li_content: Annotated[float | None, typer.Option(help="Li per formula unit.")] = None,
    max_li_content: Annotated[float | None, typer.Option(help="Li per formula unit.")] = None,
    format_: Annotated[
        TableFormat, typer.Option("--format", help="How to print.")
    ] = TableFormat.TABLE,
) -> None:
    """Ask a store for barriers, coordination or states.

    Without --store, the stores of the folders below this one are asked.
    """
    from .analysis.query import FilterError, find_barriers, find_states
    from .analysis.tables import barrier_rows, coordination_rows, state_rows, to_csv, to_json
    from .terminal import print_rows

    filters = {
        "study": study,
        "state": state,
        "composition": composition,
        "superlattice": superlattice,
        "stacking": stacking,
        "seed": seed,
        "backend": backend,
        "path_class": path_class,
        "mover": mover,
        "status": status,
        "min_voltage": min_voltage,
        "max_voltage": max_voltage,
        "min_li_content": min_li_content,
        "max_li_content": max_li_content,
    }
    locations = [store] if store else [str(path) for path in sorted(Path().glob("*/store.sqlite"))]
    if not locations:
        _fail("no store found: give --store, or run a study here first")
    rows = []
    try:
        for location in locations:
            opened = _open(Path(), location, must_exist=True)
            if what is ResultKind.BARRIERS:
                rows += barrier_rows(find_barriers(opened, **filters))
            else:
                make = state_rows if what is ResultKind.STATES else coordination_rows
                rows += make(find_states(opened, **filters))
    except FilterError as error:
        _fail(str(error))
    if format_ is TableFormat.TABLE:
        print_rows(rows, what.value)
    else:
        typer.echo(to_csv(rows) if format_ is TableFormat.CSV else to_json(rows))


@profile_app.command("list")
def profile_list() -> None:
    """List the cluster profiles."""
    from importlib.resources import files

    for entry in sorted(files("lrlo.hpc_profiles").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            typer.echo(entry.name.removesuffix(".yaml"))


@profile_app.command("show")
def profile_show(name: Annotated[str, typer.Argument(help="Name of the profile.")]) -> None:
    """Print a cluster profile, to copy and change."""
    from importlib.resources import files

    entry = files("lrlo.hpc_profiles") / f"{name}.yaml"
    if "/" in name or not entry.is_file():
        _fail(f"no profile {name!r}; 'lrlo profile list' lists them")
    typer.echo(entry.read_text(encoding="utf-8"), nl=False)


def main() -> None:
    """Entry point of the command."""
    import warnings

    warnings.filterwarnings(
        "ignore", module="(chgnet|pymatgen|torch|ase|monty|mongomock|scipy|jobflow).*"
    )
    app()


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


def _load(study_path: Path) -> "tuple[Study, list[StudyModel]]":
    """Read a study, build its cells and check its backend; ends the command if one fails."""
    from .structures.composition import CompositionError
    from .workflows.backend import BackendError
    from .workflows.study import StudyError, read_study
    from .workflows.study_flow import check_capabilities
    from .workflows.study_model import model_study

    try:
        study = read_study(study_path)
        models = model_study(study)
        check_capabilities(study)
    except (StudyError, CompositionError, BackendError) as error:
        _fail(str(error))
    return study, models


def _describe(models: "list[StudyModel]") -> None:
    """Print what the supercells realise, and warn when charges do not balance."""
    from .terminal import console, errors

    for model in models:
        host = model.host
        composition = host.composition
        deviation = ", ".join(f"{s} {d:+.3f}" for s, d in composition.deviation.items())
        counts = host.occupation.count()
        formula = "".join(f"{symbol}{counts[symbol]}" for symbol in sorted(counts))
        console.print(
            f"cell ({model.label or f'seed {model.context.seed}'}): {formula}, "
            f"{len(host.structure)} atoms, images {host.image_distance:.1f} Å apart; "
            f"deviation per formula unit: {deviation}",
            soft_wrap=True,
            highlight=False,
        )
        if model.context.defects:
            console.print(f"  with {'; '.join(model.context.defects)}", highlight=False)
        if abs(host.charge.after) > 1e-6:
            states = ", ".join(f"{s} {q:+g}" for s, q in host.charge.oxidation_states.items())
            errors.print(
                f"warning: the cell is not charge-balanced: {host.charge.after:+g} e "
                f"over {composition.n_formula_units} formula units with {states}; "
                "recorded, not corrected",
                style="yellow",
                soft_wrap=True,
                highlight=False,
            )


def _open(folder: Path, store: str | None, *, must_exist: bool = False) -> "JobStore":
    from .workflows.store import StoreError, open_store

    location = store or str(folder / "store.sqlite")
    if must_exist and not location.startswith("mongodb") and not os.path.exists(location):
        _fail(f"there is no store at {location}; run the study first, or give --folder or --store")
    try:
        return open_store(location)
    except StoreError as error:
        _fail(str(error))


def _results(
    store: "JobStore", study: "Study"
) -> "tuple[list[StateDocument], list[BarrierDocument]]":
    """States and barriers of the study as its file says now."""
    from .analysis.query import find_barriers, find_states

    states = find_states(store, study=study.name)
    barriers = find_barriers(store, study=study.name)
    key = study.key
    return (
        [state for state in states if state.context.study_key == key],
        [barrier for barrier in barriers if barrier.context.study_key == key],
    )


def _show(states: "list[StateDocument]", barriers: "list[BarrierDocument]") -> None:
    from .analysis.tables import barrier_rows, coordination_rows, state_rows
    from .terminal import console, print_rows

    seed = ["seed"] if len({state.context.seed for state in states}) > 1 else []
    print_rows(
        state_rows(states),
        "states",
        [*seed, *STATE_COLUMNS],
    )
    rows = coordination_rows(states)
    classes = [name for name in ("O2", "O3", "O4", "O5", "O6") if any(name in row for row in rows)]
    print_rows(
        rows,
        "coordination",
        [*seed, "state", *classes, *COORDINATION_COLUMNS],
    )
    rows = barrier_rows(barriers)
    short = {"forward (eV)": "forward", "reverse (eV)": "reverse"}
    short |= {"reaction energy (eV)": "reaction", "path class": "class", "force calls": "calls"}
    shown = [{short.get(name, name): value for name, value in row.items()} for row in rows]
    print_rows(
        shown,
        "barriers (eV)",
        [*seed, *BARRIER_COLUMNS],
    )
    for row in rows:
        if row["status"] != "converged":
            hop = f"{row['mover'] or ''} {row['path class']} {row['from'] or ''}"
            line = f"  {row['state']}, {' '.join(hop.split())}: {row['status']}; {row['detail']}"
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def _write_results(
    folder: Path,
    study: "Study",
    states: "list[StateDocument]",
    barriers: "list[BarrierDocument]",
    failures: list[str],
) -> None:
    from .analysis.report import write_report
    from .analysis.tables import write_tables

    write_tables(folder / "tables", states, barriers)
    write_report(states, barriers, folder / "report.html", title=study.name, failures=failures)
