"""Studies on clusters without MongoDB: ``lrlo submit --bundle`` and ``lrlo bundle``."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_results import fail

app = typer.Typer(add_completion=False)


def submit_bundle(
    study_path: Path,
    profile: str,
    folder: Path | None = None,
    *,
    split: bool = False,
    kind: str | None = None,
    now: bool = False,
) -> None:
    """Write the bundle of a study and, if asked, submit its parts; what ``--bundle`` does.

    Parameters
    ----------
    study_path
        Study file.
    profile
        Name or file of the profile.
    folder
        Folder to make; ``NAME-bundle`` if not given.
    split
        Whether every variant and seed gets a job of its own.
    kind
        Kind of job whose resources are asked for.
    now
        Whether the parts are submitted, too.
    """
    from .structures.composition import CompositionError
    from .workflows.backend import BackendError
    from .workflows.bundle import BundleError, submit_part, write_bundle
    from .workflows.profile import Kind, ProfileError, read_profile
    from .workflows.study import StudyError, read_study
    from .workflows.study_flow import check_capabilities
    from .workflows.study_model import model_study

    if kind is not None and kind not in list(Kind):
        fail(f"unknown kind of job {kind!r}; allowed: {', '.join(Kind)}")
    try:
        machine = read_profile(profile)
        study = read_study(study_path)
        model_study(study)  # what cannot be built is said now and not by a job
        check_capabilities(study)
        target = folder or Path(f"{study.name}-bundle")
        parts = write_bundle(
            study, study_path, machine, target, split=split, kind=Kind(kind) if kind else None
        )
        typer.echo(f"wrote {target} with {len(parts)} job{'s' * (len(parts) > 1)}")
        if not now:
            typer.echo(f"next: {target / 'README.txt'} says how to submit, or --now does it")
        for part in parts if now else ():
            typer.echo(f"{part.name}: {submit_part(part, machine)}")
    except (
        *(BackendError, BundleError, CompositionError),
        *(ProfileError, StudyError),
    ) as error:
        fail(str(error))
    if now:
        typer.echo(f"next: lrlo bundle {target}")


@app.command(rich_help_panel="Clusters")
def bundle(
    folder: Annotated[Path, typer.Argument(help="Folder that 'lrlo submit --bundle' made.")],
) -> None:
    """Say how far the jobs of a bundle are, and why one was ended."""
    from .workflows.bundle import BundleError, bundle_status

    try:
        found = bundle_status(folder)
    except BundleError as error:
        fail(str(error))
    for each in found:
        typer.echo(f"{each.part}: {each.last or 'no job has started'}")
        if each.reason:
            typer.echo(f"  {each.reason}")
