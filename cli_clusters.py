"""``lrlo profile``, ``submit``, ``log``, ``cancel``, ``retry``, ``fetch``. Heavy imports wait."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_bundle import app as bundle_app
from .cli_bundle import submit_bundle
from .cli_results import StoreOption, fail

if TYPE_CHECKING:
    from .workflows.profile import Profile
    from .workflows.remote_queue import FailedJob
    from .workflows.study import Study

app = typer.Typer(add_completion=False)
profile_app = typer.Typer(help="Machines that studies are submitted to.", no_args_is_help=True)

_PANEL = "Clusters"
StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (YAML).")]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Folder of the study's results (default: ./NAME)."),
]
ProfileName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a profile, or path of your own file.")
]


@profile_app.command("list")
def profile_list() -> None:
    """List the profiles that come with the package."""
    from .workflows.profile import profile_names, read_profile

    names = profile_names()
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:{width}}  {read_profile(name).description}")


@profile_app.command("show")
def profile_show(name: ProfileName) -> None:
    """Print a profile, to copy and change."""
    from .workflows.profile import ProfileError, profile_text

    try:
        typer.echo(profile_text(name), nl=False)
    except ProfileError as error:
        fail(str(error))


@profile_app.command("install")
def profile_install(name: ProfileName, store: StoreOption = None) -> None:
    """Write the project of jobflow-remote for a profile; 'lrlo submit' does so for a study."""
    from .workflows.remote_project import install_project
    from .workflows.store_location import store_location

    profile = _profile(name)
    with _errors():
        path = install_project(profile, store_location(store, Path()))
    typer.echo(f"wrote {path}; only you can read it, since it may hold a password")


@profile_app.command("check")
def profile_check(name: ProfileName, store: StoreOption = None) -> None:
    """Test connection, scheduler, Python, commands and store; say what is missing."""
    from .terminal import console
    from .workflows.remote_check import check_profile
    from .workflows.store_location import store_location

    profile = _profile(name)
    with _errors():
        findings = check_profile(profile, store_location(store, Path()))
    for finding in findings:
        mark = {True: "[green]ok[/]     ", False: "[red]missing[/]"}[finding.is_fine]
        console.print(f"{mark} {finding.subject}: ", end="")
        console.print(finding.detail, markup=False, highlight=False, soft_wrap=True)
        if not finding.is_fine and finding.remedy:
            console.print(f"        {finding.remedy}", markup=False, soft_wrap=True)
    if not all(finding.is_fine for finding in findings):
        raise typer.Exit(1)


@app.command(rich_help_panel=_PANEL)
def submit(
    study_path: StudyPath,
    profile: Annotated[
        str, typer.Option("--profile", help="Name of a profile, or path of your own file.")
    ],
    folder: FolderOption = None,
    store: StoreOption = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Stay until the study is finished, instead of in background."),
    ] = False,
    bundle: Annotated[
        bool,
        typer.Option("--bundle", help="Without MongoDB: write a folder with its own job scripts."),
    ] = False,
    split: Annotated[
        bool, typer.Option("--split", help="With --bundle: a job for every variant and seed.")
    ] = False,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind", help="With --bundle: whose resources are asked for.", show_default=False
        ),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="With --bundle: submit the jobs, too.")
    ] = False,
) -> None:
    """Submit a study to a cluster, or go on with a submitted one.

    A process on this machine, the runner, sends jobs to the cluster and collects results. It ends
    with the study; if it was killed, the same command goes on from there. What the store already
    has is not computed again.
    """
    if bundle:
        submit_bundle(study_path, profile, folder, split=split, kind=kind, now=now)
        return
    if split or kind or now:
        fail("--split, --kind and --now go with --bundle")
    from .terminal import console
    from .workflows.remote_run import RUNNER_LOG, start_runner, submit_study
    from .workflows.store_location import store_location

    machine = _profile(profile)
    study = _study(study_path)
    target = (folder or Path(study.name)).resolve()
    with _errors():
        location = store_location(store, target)
        report = submit_study(study, _flow(study), machine, location, target)
        if report.n_jobs:
            console.print(
                f"{study.name}: {report.n_jobs} jobs submitted with the profile {machine.name}; "
                f"of {report.n_stored} the store has the result; more follow from what they find",
                soft_wrap=True,
                highlight=False,
            )
        else:
            console.print(f"{study.name} is under way and goes on", highlight=False)
        if wait:
            _wait(target)
        elif start_runner(target):
            console.print(
                f"the runner works in the background ({target / RUNNER_LOG}); next: lrlo status "
                f"{study_path}",
                soft_wrap=True,
                highlight=False,
            )


@app.command(rich_help_panel=_PANEL)
def log(
    study_path: StudyPath,
    numbers: Annotated[
        list[str] | None, typer.Argument(metavar="[JOB]...", show_default=False)
    ] = None,
    folder: FolderOption = None,
) -> None:
    """Print why jobs of a submitted study failed: tracebacks and what the scheduler wrote."""
    from .workflows.remote_queue import queue_of, read_submission

    target = _folder(study_path, folder)
    with _errors(), queue_of(read_submission(target)) as queue:
        failed = queue.failed_jobs()
    wanted = [job for job in failed if not numbers or job.number in numbers]
    unknown = sorted(set(numbers or ()) - {job.number for job in wanted})
    if unknown:
        fail(f"no failed job has the number {', '.join(unknown)}")
    if not wanted:
        typer.echo("no job has failed")
    for job in wanted:
        typer.echo(f"{_line(job)}\n{job.trace}\n")


@app.command(rich_help_panel=_PANEL)
def cancel(study_path: StudyPath, folder: FolderOption = None) -> None:
    """Cancel the jobs of a submitted study; what is computed stays."""
    from .workflows.remote_run import cancel_study

    with _errors():
        n_cancelled = cancel_study(_folder(study_path, folder))
    typer.echo(f"{n_cancelled} jobs cancelled; 'lrlo retry' starts them again")


@app.command(rich_help_panel=_PANEL)
def retry(
    study_path: StudyPath,
    numbers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[JOB]...", help="Numbers of jobs, as status prints them (default: all)."
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            help="The profile, if it has changed: more time or memory (default: as submitted).",
            show_default=False,
        ),
    ] = None,
    folder: FolderOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the study is finished.")] = False,
) -> None:
    """Start failed and cancelled jobs of a submitted study again."""
    from .workflows.remote_run import renew_project, retry_study, start_runner

    target = _folder(study_path, folder)
    machine = _profile(profile) if profile else None
    with _errors():
        if machine is not None:
            renew_project(target, machine)
        n_retried = retry_study(target, numbers or ())
        typer.echo(f"{n_retried} jobs start again")
        if wait:
            _wait(target)
        elif n_retried:
            start_runner(target)


@app.command(rich_help_panel=_PANEL)
def fetch(study_path: StudyPath, folder: FolderOption = None) -> None:
    """Copy a submitted study's documents to the embedded store in its folder."""
    from .workflows.remote_run import fetch_study
    from .workflows.store_location import STORE_FILE, StoreLocation

    target = _folder(study_path, folder)
    with _errors():
        n_new, n_present = fetch_study(target, StoreLocation(str(target / STORE_FILE)))
    typer.echo(f"{n_new} documents fetched to {target / STORE_FILE}, {n_present} were there")
    typer.echo(
        f"next: lrlo run {study_path} --store {target / STORE_FILE} writes tables, figures and "
        "the report without computing anything"
    )


def show_queue(folder: Path) -> None:
    """Print how far a submitted study is."""
    from .terminal import console
    from .workflows.remote_queue import is_runner_alive, queue_of, read_submission

    with _errors():
        submission = read_submission(folder)
        with queue_of(submission) as queue:
            status = queue.status(submission)
            elsewhere = queue.remote_runner()
            has_work = queue.has_active_jobs()
    works = is_runner_alive(folder)
    runner = "the runner works" if works else "no runner works"
    if elsewhere and not works:
        runner = f"the runner works on {elsewhere}"
    console.print(
        f"{submission.study}: submitted with the profile {submission.profile}, {runner}",
        highlight=False,
    )
    for word, n in status.counts.items():
        console.print(f"  {n} jobs {word}", highlight=False)
    for holder, n in status.holders.items():
        console.print(f"  {n} of them by {holder}", highlight=False, markup=False)
    if status.n_stored:
        console.print(f"  {status.n_stored} of them were stored before", highlight=False)
    if status.n_continued:
        console.print(f"  {status.n_continued} continued at their walltime", highlight=False)
    console.print(f"  {status.n_states} states and {status.n_barriers} barriers stored")
    for trouble, n in status.troubles.items():
        console.print(
            f"  {n} jobs are tried again by themselves: {trouble}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for job in status.failed:
        console.print(f"  failed: {_line(job)}", highlight=False, markup=False, soft_wrap=True)
    if status.failed:
        console.print("  'lrlo log' prints tracebacks, 'lrlo retry' starts failed jobs again")
    if has_work and not works and not elsewhere:
        console.print("  the same 'lrlo submit' goes on")


def _wait(folder: Path) -> None:
    """Run a submitted study in this process, and say how it ended."""
    from .workflows.remote_runner import run_study

    try:
        finished = run_study(folder)
    except KeyboardInterrupt:
        typer.echo("stopped; jobs in the scheduler go on, and so does the same 'lrlo submit'")
        raise typer.Exit(130) from None
    show_queue(folder)
    if not finished:
        raise typer.Exit(1)


def _line(job: "FailedJob") -> str:
    return f"job {job.number}, {job.name} ({job.worker}): {job.reason}"


def _profile(name: str) -> "Profile":
    from .workflows.profile import ProfileError, read_profile

    try:
        return read_profile(name)
    except ProfileError as error:
        fail(str(error))


def _study(path: Path) -> "Study":
    from .workflows.study import StudyError, read_study

    try:
        return read_study(path)
    except StudyError as error:
        fail(str(error))


def _folder(study_path: Path, folder: Path | None) -> Path:
    return (folder or Path(_study(study_path).name)).resolve()


def _flow(study: "Study"):  # type: ignore[no-untyped-def]  # a flow of jobflow, which is heavy
    """Flow of a study; ends the command if its cells cannot be built."""
    from .structures.composition import CompositionError
    from .workflows.backend import BackendError
    from .workflows.study import StudyError
    from .workflows.study_flow import check_capabilities, study_flow
    from .workflows.study_model import model_study

    try:
        models = model_study(study)
        check_capabilities(study)
        return study_flow(models)
    except (StudyError, CompositionError, BackendError) as error:
        fail(str(error))


@contextmanager
def _errors() -> Iterator[None]:
    """End the command with a message where something about the cluster or a store is wrong."""
    from .workflows.remote_project import RemoteError
    from .workflows.store_location import StoreError

    try:
        yield
    except (RemoteError, StoreError) as error:
        fail(str(error))


app.add_typer(bundle_app)
app.add_typer(profile_app, name="profile", rich_help_panel=_PANEL)
