"""Projects of jobflow-remote, written from a profile and the place of the store."""

import getpass
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .configuration import ConfigurationError, require_private, write_private
from .profile import Batch, Kind, Profile, Resources, Scheduler
from .store_location import StoreError, StoreLocation

if TYPE_CHECKING:
    from jobflow_remote.config.base import Project

#: Worker that runs many small tasks in one job of the scheduler.
BATCH_WORKER = "batch"
#: Folder of batch jobs below the work folder.
BATCH_RUNS = "batches/runs"
#: Schedulers that jobflow-remote submits to.
SUPPORTED = (Scheduler.SLURM, Scheduler.PBS, Scheduler.SGE, Scheduler.SHELL)
#: What workers run, after their Python. Warnings would hide what the scheduler says at a job's end.
EXECUTION = "-W ignore -m lrlo.workflows.remote_execution"
#: Share of its walltime after which a batch job starts no further task.
_LAST_START = 0.8
#: Seconds between two attempts when a machine or a scheduler does not answer.
_PAUSES = (5, 10, 20, 30, 60, 120, 300)
#: Attempts before a job is given up: about a night without an answer.
_ATTEMPTS = 120
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


class RemoteError(RuntimeError):
    """Something about running on a cluster that the user can change. Shows no password."""


def require_jobflow_remote() -> None:
    """Say what to install where jobflow-remote is missing.

    Raises
    ------
    RemoteError
        If it is not installed.
    """
    if find_spec("jobflow_remote") is None:
        raise RemoteError(
            "jobflow-remote is not installed: pip install 'lrlo[remote]', or submit without it: "
            "lrlo submit --bundle"
        )


def lrlo_version() -> str:
    """Version of this package, which workers have to have, too."""
    return metadata.version("lrlo")


def queue_name(study: str) -> str:
    """Prefix of the collections of a study's queue: two users may have studies of one name."""
    return "_".join(_NOT_IN_A_NAME.sub("-", part) for part in ("queue", getpass.getuser(), study))


def project_name(profile: Profile, study: str | None = None) -> str:
    """Name of the project of a profile, or of a study that is submitted with it."""
    name = f"lrlo_{profile.name}"
    return name if study is None else f"{name}_{_NOT_IN_A_NAME.sub('-', study)}"


def projects_folder() -> Path:
    """Where jobflow-remote looks for projects: ``JFREMOTE_PROJECTS_FOLDER``, else ~/.jfremote."""
    return Path(os.environ.get("JFREMOTE_PROJECTS_FOLDER") or "~/.jfremote").expanduser()


def project_path(name: str) -> Path:
    """File of a project."""
    return projects_folder() / f"{name}.json"


def work_folder(profile: Profile) -> PurePosixPath:
    """Folder on the far side in which jobs run."""
    text = str(Path(profile.work_dir).expanduser()) if profile.is_local else profile.work_dir
    return PurePosixPath(text)


def worker_name(profile: Profile, kind: Kind) -> str:
    """Worker that runs jobs of a kind."""
    batch = profile.batch
    return BATCH_WORKER if batch is not None and kind in batch.kinds else kind.value


def scheduler_options(scheduler: Scheduler, resources: Resources) -> dict[str, Any]:
    """Resources in the names of the scheduler's header, as qtoolkit writes it.

    Raises
    ------
    RemoteError
        If jobflow-remote has no such scheduler.
    """
    extra = {"qverbatim": "\n".join(resources.extra)} if resources.extra else {}
    memory = resources.memory_mb
    if scheduler is Scheduler.SLURM:
        options: dict[str, Any] = {
            "partition": resources.partition,
            "account": resources.account,
            "nodes": resources.nodes,
            "ntasks": resources.ntasks,
            "cpus_per_task": resources.cpus_per_task,
            "gpus": resources.gpus or None,
            "mem": f"{memory}M" if memory else None,
            "time": resources.time,
        }
    elif scheduler is Scheduler.PBS:
        per_node = -(-resources.ntasks // resources.nodes)
        select = [f"select={resources.nodes}", f"ncpus={per_node * resources.cpus_per_task}"]
        select += [f"mpiprocs={per_node}"]
        select += [f"ngpus={-(-resources.gpus // resources.nodes)}"] if resources.gpus else []
        select += [f"mem={memory}mb"] if memory else []
        options = {
            "queue": resources.partition,
            "account": resources.account,
            "select": ":".join(select),
            "walltime": _hours(resources.seconds),
        }
    elif scheduler is Scheduler.SGE:
        slots = resources.ntasks * resources.cpus_per_task
        options = {
            "queue": resources.partition,
            "device": resources.account,  # -P, the project that is charged
            "select": f"h_vmem={-(-memory * resources.nodes // slots)}M" if memory else None,
            "walltime": _hours(resources.seconds),
        }
    elif scheduler is Scheduler.SHELL:
        return {}
    else:
        raise RemoteError(
            f"jobflow-remote does not submit to {scheduler.value}, only to "
            f"{', '.join(SUPPORTED)}; use: lrlo submit --bundle"
        )
    return {name: value for name, value in {**options, **extra}.items() if value is not None}


def project_settings(
    profile: Profile, store: StoreLocation, study: str | None = None
) -> dict[str, Any]:
    """Project of jobflow-remote as its file says it.

    It holds the URI of the store with its password.

    Parameters
    ----------
    profile
        Machine that jobs go to.
    store
        MongoDB database of results; the queue lies there, too.
    study
        Study whose queue the project has; None for the profile's own, which holds no jobs.

    Raises
    ------
    RemoteError
        If jobflow-remote has no such scheduler, or the store is no MongoDB database.
    """
    if not store.is_mongodb:
        raise RemoteError(
            f"the queue of a cluster needs MongoDB, and the store is {store}: name a mongodb:// "
            "URI (--store, LRLO_STORE or the configuration file), or submit without MongoDB: "
            "lrlo submit --bundle"
        )
    from .store import jobstore_spec  # heavy

    try:
        jobstore = jobstore_spec(store)
    except StoreError as error:
        raise RemoteError(str(error)) from None
    name = project_name(profile, study)
    queue = queue_name(study) if study is not None else f"{queue_name('')}{profile.name}"
    folder = projects_folder() / name
    return {
        "name": name,
        "base_dir": str(folder),
        "runner": {"max_step_attempts": _ATTEMPTS, "delta_retry": list(_PAUSES)},
        "workers": _workers(profile, name),
        "queue": {
            "store": {**jobstore["docs_store"], "collection_name": f"{queue}_jobs"},
            "flows_collection": f"{queue}_flows",
            "auxiliary_collection": f"{queue}_state",
            "batches_collection": f"{queue}_batches",
        },
        "jobstore": jobstore,
        "remote_jobstore": {
            "store": {"@module": "lrlo.workflows.remote_files", "@class": "JobFile"},
            "extension": "json",
        },
        "metadata": {
            "profile": profile.model_dump(mode="json"),
            "study": study,
            "lrlo": lrlo_version(),
        },
    }


def install_project(profile: Profile, store: StoreLocation, study: str | None = None) -> Path:
    """Write a project's file, readable by its owner alone.

    Parameters
    ----------
    profile, store, study
        As in :func:`project_settings`.

    Returns
    -------
    path
        The file written.

    Raises
    ------
    RemoteError
        If jobflow-remote is missing or does not know the scheduler, the store is no MongoDB
        database, or the file cannot be written.
    """
    require_jobflow_remote()
    settings = project_settings(profile, store, study)
    project_of(settings)
    path = project_path(settings["name"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, json.dumps(settings, indent=1))
    except OSError as error:
        raise RemoteError(f"{path} cannot be written ({error.strerror})") from None
    return path


def read_project(name: str) -> dict[str, Any]:
    """Settings of an installed project.

    Raises
    ------
    RemoteError
        If there is none, it cannot be read, or others may read it.
    """
    path = project_path(name)
    try:
        require_private(path)
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RemoteError(f"there is no project {path}: submit the study first") from None
    except ConfigurationError as error:
        raise RemoteError(str(error)) from None
    except (OSError, ValueError) as error:
        raise RemoteError(f"{path} cannot be read ({type(error).__name__})") from None
    if not isinstance(settings, dict):
        raise RemoteError(f"{path} does not hold a project")
    return settings


def project_of(settings: Mapping[str, Any]) -> "Project":
    """Settings as jobflow-remote has them.

    Raises
    ------
    RemoteError
        If jobflow-remote is missing or does not accept them.
    """
    require_jobflow_remote()
    from jobflow_remote.config.base import Project
    from pydantic import ValidationError

    try:
        return Project.model_validate(settings)
    except ValidationError as error:  # it would show the password
        places = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise RemoteError(
            f"jobflow-remote {metadata.version('jobflow-remote')} does not accept the project "
            f"{settings.get('name')} ({places})"
        ) from None


def store_of(settings: Mapping[str, Any]) -> StoreLocation:
    """Database of a project."""
    return StoreLocation(str(settings["queue"]["store"]["uri"]), "the project's file")


@contextmanager
def without_input() -> Iterator[None]:
    """Keep what is typed here from programs that run over ssh, whose library passes it on."""
    before = sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = before


def _workers(profile: Profile, project: str) -> dict[str, Any]:
    own = {
        worker_name(profile, kind): _worker(profile, kind)
        for kind in Kind
        if worker_name(profile, kind) != BATCH_WORKER
    }
    if profile.batch is not None:
        own[BATCH_WORKER] = _batch_worker(profile, profile.batch, project)
    return own


def _worker(profile: Profile, kind: Kind) -> dict[str, Any]:
    folder = work_folder(profile)
    arguments = f"--version {lrlo_version()} --checkpoints {folder / 'checkpoints'}"
    settings: dict[str, Any] = {
        "type": "local" if profile.is_local else "remote",
        "scheduler_type": profile.scheduler.value,
        "work_dir": str(folder / "jobs"),
        "resources": scheduler_options(profile.scheduler, profile.resources_of(kind)),
        "pre_run": profile.setup_of(kind),
        "execution_cmd": f"{_python(profile)} {EXECUTION} run {{}} {arguments}",
        "max_jobs": profile.max_jobs,
    }
    if profile.scheduler is Scheduler.SGE:
        settings["scheduler_username"] = profile.user or getpass.getuser()
    if not profile.is_local:
        login = {"host": profile.host, "user": profile.user, "port": profile.port}
        key = {"key_filename": str(Path(profile.key).expanduser())} if profile.key else {}
        settings |= {**{k: v for k, v in login.items() if v is not None}, **key}
    return settings


def _batch_worker(profile: Profile, batch: Batch, project: str) -> dict[str, Any]:
    folder = work_folder(profile)
    seconds = profile.resources_of(batch.resources).seconds
    return {
        **_worker(profile, batch.resources),
        "max_jobs": batch.max_jobs,
        "batch": {
            "jobs_handle_dir": str(folder / "batches" / f"{project}_{getpass.getuser()}"),
            "work_dir": str(folder / BATCH_RUNS),
            "max_jobs_per_batch": batch.tasks,
            "max_wait": batch.wait,
            "max_time": None if seconds is None else _LAST_START * seconds,
            "parallel_jobs": batch.parallel,
        },
    }


def _python(profile: Profile) -> str:
    # Braces would be taken for the place of the folder.
    return profile.python.replace("{", "{{").replace("}", "}}")


def _hours(seconds: int | None) -> str | None:
    """Walltime as HH:MM:SS, which PBS and Grid Engine read."""
    if seconds is None:
        return None
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
