"""The ``lrlo`` command. Heavy imports wait until a command needs them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_clusters import app as clusters_app
from .cli_clusters import show_queue
from .cli_results import StoreOption, fail, open_existing, store_errors
from .cli_results import app as results_app
from .cli_structures import app as structures_app

if TYPE_CHECKING:
    from .analysis.study_results import StudyResults
    from .workflows.store import ResultStore
    from .workflows.study import Study
    from .workflows.study_model import StudyModel

app = typer.Typer(
    help="Migration and oxygen-coordination studies of Li-rich layered oxide cathodes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(clusters_app)  # submit, log, cancel, retry, fetch, profile
app.add_typer(results_app)  # query, export, import, store
app.add_typer(structures_app)  # build, enumerate

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (YAML).")]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Folder of the study's results (default: ./NAME)."),
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
        fail(f"{path} exists; choose another name")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}")
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
def run(
    study_path: StudyPath,
    folder: FolderOption = None,
    store: StoreOption = None,
    replicate: Annotated[
        list[str] | None,
        typer.Option(
            help="Run only this one of the study's variants and seeds, such as 'seed 7' or "
            "'doped, seed 7' (default: all).",
            show_default=False,
        ),
    ] = None,
    together: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help="Relaxations and bands that run side by side: in processes, or evaluated in "
            "common on a GPU (default: one per core for the emulator on a CPU, else 1).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a study here, or go on with it; writes tables, figures and report.html.

    On SIGTERM and SIGUSR1, which schedulers send ahead of a walltime, it stops after the running
    evaluation, writes what there is and exits with code 75: the same command goes on from there.
    """
    from .analysis.study_results import find_study_results
    from .terminal import ProgressReport, console, duration, errors
    from .workflows.backend import load_backend
    from .workflows.interruption import EXIT_CONTINUE, deferred_signals
    from .workflows.lanes import choose_lanes, default_together
    from .workflows.local_run import (
        RunError,
        exclusive,
        is_own_store,
        remove_outdated,
        run_flow,
    )
    from .workflows.plan import plan_study
    from .workflows.provenance import record_run
    from .workflows.store import StoreError, open_store
    from .workflows.store_location import store_location
    from .workflows.study_flow import study_flow

    study, models = _load(study_path)
    models = _chosen(models, replicate or [])
    target = folder or Path(study.name)
    _describe(models)
    try:
        with exclusive(target) as run, deferred_signals():
            location = store_location(store, target)
            opened = open_store(location)
            plan, backend = plan_study(models), load_backend(study.backend)
            together = together or default_together(backend, plan.seconds)
            lanes = choose_lanes(together, backend, location, target)
            progress = ProgressReport(plan, together)
            with progress.shown():
                report = run_flow(study_flow(models), opened, target, progress, run, lanes)
            if not report.failures and not report.stopped_by:
                remove_outdated(
                    opened,
                    study.name,
                    report.uuids,
                    study_key=None if is_own_store(location, target) else study.key,
                    replicates=[model.context for model in models] if replicate else (),
                )
                settings = study.model_dump(mode="json")
                record_run(opened, study.name, study.key, settings, report.uuids)
            failures = []
            for failure in report.failures:
                place = failure.place.removeprefix(study.name).strip()  # variant and seed
                name = f"{place}: {failure.name}" if place else failure.name
                failures.append(f"{name}: {failure.message}")
                with (target / "errors.log").open("a", encoding="utf-8") as log:
                    log.write(f"{name}\n{failure.trace}\n")
            results = find_study_results(opened, study.name, study.key)
            _write_results(target, study, results, failures)
    except (RunError, StoreError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        errors.print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None
    times = ", ".join(f"{kind} {duration(s)}" for kind, s in report.seconds_by_kind.items())
    console.print(
        f"{report.n_computed} tasks computed, {report.n_stored} were stored"
        + (f" ({times})" if times else "")
    )
    _show(results)
    console.print(f"report: {target / 'report.html'}", soft_wrap=True)
    if report.failures:
        for message in failures:
            errors.print(f"failed: {message}", style="red", markup=False, soft_wrap=True)
        errors.print(
            f"{len(failures)} jobs failed and {report.n_left_out} that need them were left out; "
            f"tracebacks: {target / 'errors.log'}; everything else is stored",
            soft_wrap=True,
        )
    if report.stopped_by:
        errors.print(
            f"stopped by {report.stopped_by}; what was computed is stored, and the same command "
            "goes on from here",
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_CONTINUE)
    if report.failures:
        raise typer.Exit(1)


@app.command()
def status(study_path: StudyPath, folder: FolderOption = None, store: StoreOption = None) -> None:
    """Say how far a study is."""
    from .workflows.remote_queue import submitted_folder

    if (submitted := submitted_folder(study_path, folder)) is not None:
        show_queue(submitted)
        return
    from .analysis.query import count_results
    from .terminal import console
    from .workflows.local_run import is_running
    from .workflows.study import StudyError, read_study

    try:
        study = read_study(study_path)
    except StudyError as error:
        fail(str(error))
    target = folder or Path(study.name)
    opened = open_existing(store, target)
    with store_errors():
        tasks = {
            kind: opened.count({"output.kind": kind})
            for kind in ("relax", "static", "neb", "bonding_result")
        }
        version = {"study": study.name, "study_key": study.key}
        n_finished = sum(count_results(opened, "states", "state", **version).values())
        outcomes = count_results(opened, "barriers", "status", **version)
        n_bonding = sum(count_results(opened, "bonding", "state", **version).values())
        earlier = "" if n_finished else _earlier_results(opened, study, study_path)
    console.print(f"{study.name}: {'running' if is_running(target) else 'not running'}")
    for kind, number in tasks.items():
        console.print(f"  {number} {kind.removesuffix('_result')} tasks stored")
    n_states = len(study.states) * sum(len(each.structure.seeds) for each in study.structures)
    console.print(f"  {n_finished} of {n_states} states finished")
    if study.bonding.wanted:
        console.print(f"  bonding of {n_bonding} of {n_states} states finished")
    for outcome, number in outcomes.items():
        console.print(f"  {'1 hop' if number == 1 else f'{number} hops'}: {outcome}")
    if earlier:
        console.print(earlier, soft_wrap=True, highlight=False, markup=False)


@app.command()
def show(
    study_path: StudyPath,
    folder: FolderOption = None,
    store: StoreOption = None,
    bonding: Annotated[
        bool, typer.Option("--bonding", help="Print the tables of bonding instead.")
    ] = False,
) -> None:
    """Print the tables of a study."""
    from .analysis.study_results import find_study_results
    from .terminal import console
    from .workflows.study import StudyError, read_study

    try:
        study = read_study(study_path)
    except StudyError as error:
        fail(str(error))
    opened = open_existing(store, folder or Path(study.name))
    with store_errors():
        results = find_study_results(opened, study.name, study.key)
        earlier = "" if results.states else _earlier_results(opened, study, study_path)
    if earlier:
        console.print(earlier, soft_wrap=True, highlight=False, markup=False)
    elif bonding:
        _show_bonding(results)
    else:
        _show(results)


def main() -> None:
    """Entry point of the command."""
    from .workflows.library_warnings import ignore_library_warnings

    ignore_library_warnings()
    app()


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
        fail(str(error))
    return study, models


def _chosen(models: "list[StudyModel]", replicates: list[str]) -> "list[StudyModel]":
    """Models of the replicates that are named, or all; ends the command for an unknown one."""
    known = [model.context.replicate for model in models]
    unknown = [name for name in replicates if name not in known]
    if unknown:
        names = ", ".join(map(repr, known))
        fail(f"the study has no replicate {unknown[0]!r}; allowed: {names}")
    return [m for m in models if not replicates or m.context.replicate in replicates]


def _describe(models: "list[StudyModel]") -> None:
    """Print what the supercells realise, and warn when charges do not balance."""
    from .terminal import console, errors

    for model in models:
        host = model.host
        composition = host.composition
        deviation = ", ".join(f"{s} {d:+.3f}" for s, d in composition.deviation.items())
        counts = host.occupation.count()
        formula = "".join(f"{symbol}{counts[symbol]}" for symbol in sorted(counts))
        name = model.label or f"seed {model.context.seed}"
        before = " before defects" if model.context.defects else ""
        console.print(
            f"cell ({name}): {formula}, "
            f"{len(host.structure)} atoms, images {host.image_distance:.1f} Å apart; "
            f"deviation per formula unit{before}: {deviation}",
            soft_wrap=True,
            highlight=False,
        )
        if model.context.defects:
            console.print(f"  with {'; '.join(model.context.defects)}", highlight=False)
        if abs(host.charge.after) > 1e-6:
            states = ", ".join(f"{s} {q:+g}" for s, q in host.charge.oxidation_states.items())
            errors.print(
                f"warning: the cell ({name}) is not charge-balanced: {host.charge.after:+g} e "
                f"over {composition.n_formula_units} formula units with {states}; "
                "recorded, not corrected",
                style="yellow",
                soft_wrap=True,
                highlight=False,
            )


def _earlier_results(store: "ResultStore", study: "Study", study_path: Path) -> str:
    """Say that a store has results of other versions of a study; empty if it has none."""
    from .analysis.query import count_results

    number = sum(count_results(store, "states", "state", study=study.name).values())
    if not number:
        return ""
    states = "1 state" if number == 1 else f"{number} states"
    return (
        f"nothing is stored of the study as its file is now, but {states} of an earlier version: "
        f"'lrlo run {study_path}' computes what has changed; 'lrlo query states --study "
        f"{study.name}' shows the earlier results"
    )


def _show_bonding(results: "StudyResults") -> None:
    from .analysis.bonding_tables import (
        bonding_class_rows,
        bonding_rows,
        dimer_rows,
        dopant_rows,
        gap_rows,
    )
    from .analysis.competitive_bonding import compare_dopants
    from .terminal import console, print_rows

    if not results.bonding:
        console.print("no bonding was computed; ask for it in the study: bonding: {cohp: true}")
        return
    comparisons = compare_dopants(results.bonding)
    left_out = {"study", "window", "marks", "SCF", "ICOHP scale", "left out of ICOHP"}
    left_out |= {"level of theory"}
    for title, rows in (
        ("bonding by oxygen class", bonding_class_rows(results.bonding)),
        ("bonding", bonding_rows(results.bonding)),
        ("gaps (not the U of DFT+U)", gap_rows(results.bonding)),
        ("O-O pairs", dimer_rows(results.bonding)),
        ("bonds that a dopant changes", dopant_rows(comparisons.made)),
    ):
        if rows:
            names = [n for n in rows[0] if n not in left_out and not n.endswith("spread")]
            print_rows(rows, title, names)
    for sentence in comparisons.left_out:
        text = f"  no comparison of dopants: {sentence}"
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    for document in results.bonding:
        for line in (f"level of theory: {document.level_of_theory}", *document.result.marks):
            text = f"  {document.state}, {document.context.replicate}: {line}"
            console.print(text, soft_wrap=True, highlight=False, markup=False)


def _show(results: "StudyResults") -> None:
    from .analysis.tables import barrier_rows, coordination_rows, state_rows
    from .terminal import console, print_rows

    states, barriers = results.states, results.barriers
    contexts = [*(state.context for state in states), *(hop.context for hop in barriers)]
    tell_apart = [
        name
        for name in ("variant", "seed")
        if len({getattr(context, name) for context in contexts}) > 1
    ]
    print_rows(
        state_rows(states),
        "states",
        [*tell_apart, *STATE_COLUMNS],
    )
    rows = coordination_rows(states)
    classes = [name for name in ("O2", "O3", "O4", "O5", "O6") if any(name in row for row in rows)]
    print_rows(
        rows,
        "coordination",
        [*tell_apart, "state", *classes, *COORDINATION_COLUMNS],
    )
    rows = barrier_rows(barriers)
    short = {"forward (eV)": "forward", "reverse (eV)": "reverse"}
    short |= {"reaction energy (eV)": "reaction", "path class": "class", "force calls": "calls"}
    shown = [{short.get(name, name): value for name, value in row.items()} for row in rows]
    print_rows(
        shown,
        "barriers (eV)",
        [*tell_apart, *BARRIER_COLUMNS],
    )
    for row in rows:
        if row["status"] != "converged":
            hop = f"{row['mover'] or ''} {row['path class']} {row['from'] or ''}"
            parts = {"variant": row["variant"], "seed": f"seed {row['seed']}"}
            where = [parts[name] for name in tell_apart if parts[name]] + [row["state"]]
            line = f"  {', '.join(where)}, {' '.join(hop.split())}: {row['status']}; "
            line += row["detail"]
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def _write_results(
    folder: Path, study: "Study", results: "StudyResults", failures: list[str]
) -> None:
    from .analysis.bonding_tables import write_bonding_tables
    from .analysis.report import write_report
    from .analysis.tables import write_tables

    write_tables(folder / "tables", results.states, results.barriers)
    if results.bonding:
        write_bonding_tables(folder / "tables", results.bonding)
    write_report(
        results.states,
        results.barriers,
        folder / "report.html",
        title=study.name,
        bonding=results.bonding,
        failures=failures,
    )
