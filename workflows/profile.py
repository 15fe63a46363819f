"""Cluster profiles: where jobs run and what each kind of job asks the scheduler for."""

import re
import shlex
from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from .yaml_text import parse_yaml

if TYPE_CHECKING:
    from jobflow import Job

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WORD = re.compile(r"[A-Za-z0-9][\w.,:@/+=-]*")
_FOLDER = re.compile(r"~?[\w./,:@+=-]+")
_TIME = re.compile(r"(?:(\d{1,3})-)?(\d{1,3}):([0-5]\d):([0-5]\d)")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?(MB|GB|TB)")
_MB = {"MB": 1, "GB": 1024, "TB": 1024**2}
_LOCAL = ("localhost", "127.0.0.1")


#: Variables by which programs are found: atomate2's and this package's.
_VARIABLES = {
    "vasp": "ATOMATE2_VASP_CMD",
    "lobster": "ATOMATE2_LOBSTER_CMD",
    "gpaw": "LRLO_GPAW_LAUNCHER",
}


class ProfileError(ValueError):
    """The profile cannot be used as it is; the message says which key and why."""


class Scheduler(StrEnum):
    """What starts jobs on the machine."""

    SLURM = "slurm"
    PBS = "pbs"
    SGE = "sge"
    LSF = "lsf"
    SHELL = "shell"


class Kind(StrEnum):
    """What a job does, and so what it needs.

    ``decide`` jobs only choose what comes next and take seconds; ``default`` stands for all kinds
    that a profile does not name.
    """

    RELAX = "relax"
    STATIC = "static"
    NEB = "neb"
    BONDING = "bonding"
    DECIDE = "decide"
    DEFAULT = "default"


def _one_line(text: str) -> str:
    # What stands in a job script's header must not add a line of its own to it.
    if not text.strip() or any(ord(character) < 32 for character in text):
        raise ValueError("must be one line of text")
    return text


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise ValueError("must be one word of letters, digits and . , : @ / + = _ -")
    return text


def _folder(text: str) -> str:
    # Job scripts name the folder without quotes.
    if not _FOLDER.fullmatch(text):
        raise ValueError("must be a path of letters, digits and . , : @ + = _ - only")
    return text


OneLine = Annotated[str, AfterValidator(_one_line)]
Word = Annotated[str, AfterValidator(_word)]
FolderPath = Annotated[str, AfterValidator(_folder)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(_Section):
    """What one job of a kind asks the scheduler for.

    Attributes
    ----------
    partition
        Partition or queue; also written ``queue``.
    account
        Account that is charged.
    nodes, ntasks, cpus_per_task
        Nodes, processes in all, and threads of each process.
    gpus
        GPUs in all.
    memory
        Memory per node, e.g. ``16GB``.
    time
        Walltime, ``HH:MM:SS`` or ``D-HH:MM:SS``.
    extra
        Further lines for the header of the job script, as the scheduler reads them
        (``#SBATCH --constraint=...``).
    setup
        Lines that jobs of this kind run after those of the profile.
    """

    partition: Word | None = Field(
        default=None, validation_alias=AliasChoices("partition", "queue")
    )
    account: Word | None = None
    nodes: Count = 1
    ntasks: Count = 1
    cpus_per_task: Count = 1
    gpus: int = Field(default=0, ge=0)
    memory: str | None = None
    time: str | None = None
    extra: tuple[OneLine, ...] = ()
    setup: str = ""

    @field_validator("memory")
    @classmethod
    def _memory_has_a_unit(cls, memory: str | None) -> str | None:
        if memory is not None and not _MEMORY.fullmatch(memory):
            raise ValueError("must be a number with MB, GB or TB, such as 16GB")
        return memory

    @field_validator("time", mode="before")
    @classmethod
    def _time_is_quoted(cls, time: Any) -> Any:
        if isinstance(time, int) and not isinstance(time, bool):
            # YAML reads 04:00:00 without quotes as a number of seconds.
            raise ValueError('must be text in quotes: "HH:MM:SS" or "D-HH:MM:SS"')
        return time

    @field_validator("time")
    @classmethod
    def _time_can_be_read(cls, time: str | None) -> str | None:
        if time is not None:
            found = _TIME.fullmatch(time)
            if found is None or (found[1] is not None and int(found[2]) > 23):
                raise ValueError('must be "HH:MM:SS" or "D-HH:MM:SS", such as "04:00:00"')
            if not _seconds(found):
                raise ValueError("must be more than no time")
        return time

    @field_validator("extra")
    @classmethod
    def _extra_lines_are_directives(cls, extra: tuple[str, ...]) -> tuple[str, ...]:
        for line in extra:
            if not line.startswith("#"):
                raise ValueError(
                    f"{line!r} is no directive of a scheduler, which starts with #; commands go "
                    "into setup"
                )
        return extra

    @property
    def seconds(self) -> int | None:
        """Walltime, s."""
        found = _TIME.fullmatch(self.time) if self.time else None
        return _seconds(found) if found else None

    @property
    def memory_mb(self) -> int | None:
        """Memory per node, MB of 1024² bytes."""
        found = _MEMORY.fullmatch(self.memory) if self.memory else None
        return round(float(found[1]) * _MB[found[2]]) if found else None


class Commands(_Section):
    """How programs are started on the far side.

    Attributes
    ----------
    vasp, lobster
        Command with its launcher, e.g. ``srun vasp_std``; None where the program is not there.
    gpaw
        What starts GPAW's processes, e.g. ``srun -n 64``; jobs see it as ``LRLO_GPAW_LAUNCHER``.
    """

    vasp: OneLine | None = None
    lobster: OneLine | None = None
    gpaw: OneLine | None = None


class Continuation(_Section):
    """What happens to a job that the scheduler ended at its walltime.

    Attributes
    ----------
    max_continuations
        How often it is started again, from its checkpoint; 0 for never.
    """

    max_continuations: int = Field(default=3, ge=0, le=1000)


class Batch(_Section):
    """How small tasks are packed into batch jobs.

    Attributes
    ----------
    tasks
        Most tasks that one batch job runs.
    max_jobs
        Most batch jobs in the queue at a time.
    parallel
        Tasks that a batch job runs at once.
    kinds
        Kinds of tasks that are packed; all others get a job of their own.
    wait
        Seconds that a batch job waits for more tasks before it ends.
    resources
        Kind whose resources the batch job asks for.
    """

    tasks: Count = 100
    max_jobs: Count = 1
    parallel: Count = 1
    kinds: tuple[Kind, ...] = (Kind.DECIDE, Kind.STATIC)
    wait: float = Field(default=60.0, ge=1.0)
    resources: Kind = Kind.DEFAULT

    @field_validator("kinds")
    @classmethod
    def _some_kinds(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
        if not kinds:
            raise ValueError("name at least one kind, or leave batch out")
        return kinds


class Profile(_Section):
    """A machine that studies are submitted to.

    Attributes
    ----------
    name
        Name of the profile.
    description
        One line for lists.
    scheduler
        ``slurm``, ``pbs``, ``sge``, ``lsf`` or ``shell`` (no scheduler).
    host
        Login node; ``localhost`` when commands are given there, else reached by ssh.
    user, port, key
        For ssh; by default what the user's ssh configuration says.
    work_dir
        Folder on the far side in which jobs run; on a file system that all nodes share.
    setup
        Lines that every job runs first: modules, environment, thread counts.
    python
        Command of the far side's Python that has ``lrlo``, after `setup`.
    commands
        Programs besides Python.
    resources
        By kind of job; what a kind does not say is taken from ``default``.
    continuation, batch
        See :class:`Continuation` and :class:`Batch`; without `batch` every task is a job.
    max_jobs
        Most jobs of a kind in the queue at a time; None for no limit.
    """

    name: str
    description: OneLine
    scheduler: Scheduler
    host: Word = "localhost"
    user: Word | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    key: OneLine | None = None
    work_dir: FolderPath
    setup: str = ""
    python: OneLine = "python"
    commands: Commands = Commands()
    resources: Mapping[Kind, Resources]
    continuation: Continuation = Continuation()
    batch: Batch | None = None
    max_jobs: Count | None = None

    @field_validator("name")
    @classmethod
    def _name_is_a_file_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("must be letters, digits and . _ -, starting with a letter or digit")
        return name

    @field_validator("resources", mode="before")
    @classmethod
    def _fill_from_default(cls, resources: Any) -> Any:
        """Kinds inherit from ``default`` key by key."""
        if not isinstance(resources, Mapping) or not isinstance(resources.get("default"), Mapping):
            return resources
        default = _one_name_for_queue(resources["default"])
        return {
            kind: {**default, **_one_name_for_queue(own)} if isinstance(own, Mapping) else own
            for kind, own in resources.items()
        }

    @model_validator(mode="after")
    def _fits_together(self) -> "Profile":
        if Kind.DEFAULT not in self.resources:
            raise ValueError("resources: the kind default is needed; other kinds inherit from it")
        if self.is_local:
            given = [name for name in ("user", "port", "key") if getattr(self, name) is not None]
            if given:
                raise ValueError(
                    f"{', '.join(given)}: only for a host that is reached by ssh, not {self.host}"
                )
        path = self.work_dir
        if not path.startswith("/") and not (self.is_local and path.startswith("~")):
            raise ValueError(
                "work_dir: must be an absolute path"
                + (" or start with ~" if self.is_local else f" on {self.host}")
                + f" (got {path!r})"
            )
        return self

    @property
    def is_local(self) -> bool:
        """Whether jobs are submitted from this machine."""
        return self.host in _LOCAL

    def resources_of(self, kind: Kind | str) -> Resources:
        """What a job of a kind asks for: its own entry, else ``default``."""
        return self.resources.get(Kind(kind), self.resources[Kind.DEFAULT])

    def setup_of(self, kind: Kind | str) -> str:
        """Lines that a job of a kind runs first: the profile's, the kind's, then its commands.

        The commands are variables that the backends read.
        """
        commands = self.commands.model_dump(exclude_none=True)
        exports = [
            f"export {_VARIABLES[name]}={shlex.quote(command)}"
            for name, command in sorted(commands.items())
        ]
        parts = (self.setup.strip(), self.resources_of(kind).setup.strip(), *exports)
        return "\n".join(part for part in parts if part)


def profile_names() -> list[str]:
    """Names of the profiles that come with the package."""
    entries = files("lrlo.hpc_profiles").iterdir()
    names = (Path(entry.name) for entry in entries)
    return sorted(name.stem for name in names if name.suffix == ".yaml")


def profile_text(name_or_path: str | Path) -> str:
    """Text of a profile: of a file, or of one that comes with the package.

    Raises
    ------
    ProfileError
        If there is no such profile or file, or it cannot be read.
    """
    text = str(name_or_path)
    if "/" not in text and not text.endswith((".yaml", ".yml")):
        if text not in profile_names():
            raise ProfileError(
                f"no profile {text!r}; allowed: {', '.join(profile_names())}, or the path of your "
                "own file, such as ./mine.yaml"
            )
        return (files("lrlo.hpc_profiles") / f"{text}.yaml").read_text(encoding="utf-8")
    try:
        return Path(text).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ProfileError(f"the profile {text} cannot be read: {reason}") from None


def read_profile(name_or_path: str | Path) -> Profile:
    """Read and check a profile.

    Parameters
    ----------
    name_or_path
        Name of a profile that comes with the package, or path of a YAML file (with a ``/`` or
        the ending ``.yaml``).

    Raises
    ------
    ProfileError
        If there is no such profile, it is not YAML, or it says something that is not allowed.
        The message names the key, the value and what is allowed.
    """
    try:
        data = parse_yaml(profile_text(name_or_path))
    except yaml.YAMLError as error:
        raise ProfileError(f"{name_or_path} is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ProfileError(
            f"{name_or_path} does not hold a mapping of keys; 'lrlo profile show slurm' prints one"
        )
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(problem)}" for problem in error.errors())
        raise ProfileError(f"{name_or_path} is not a valid profile:\n{problems}") from None


def kind_of(job: "Job | Mapping[str, Any]") -> Kind:
    """Kind of a job, by the Maker that its function belongs to.

    Jobs that are no tasks decide what comes next. A Maker of another package counts as the kind
    whose Maker it is derived from or named after, else as ``default``.

    Parameters
    ----------
    job
        Job, or a job as it is stored in a queue; of the latter only the Maker's own name is seen.
    """
    if isinstance(job, Mapping):
        metadata, function = job["metadata"], job["function"]
        bound = function.get("@bound") if isinstance(function, Mapping) else None
        names = [str(bound["@class"])] if isinstance(bound, Mapping) else []
    else:
        owner = getattr(job.function, "__self__", None)
        metadata, names = job.metadata, [base.__name__ for base in type(owner).__mro__]
    if not metadata.get("task", True):
        return Kind.DECIDE
    for name in names:
        for kind in Kind:
            if name.endswith(f"{kind.value.capitalize()}Maker"):
                return kind
    return Kind.DEFAULT


def _seconds(found: re.Match[str]) -> int:
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((24 * days + hours) * 60 + minutes) * 60 + seconds


def _one_name_for_queue(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Resources with the queue under its first name, so that a kind's replaces the default's."""
    if "queue" in resources and "partition" in resources:
        raise ValueError("partition and queue are two names of one key; give one of them")
    return {"partition" if key == "queue" else key: value for key, value in resources.items()}


def _explain(problem: Mapping[str, Any]) -> str:
    """One line about a key: key, value, what is wrong and allowed."""
    location = [str(part) for part in problem["loc"] if part != "[key]"]
    key = ".".join(location) or "profile"
    message = str(problem["msg"]).removeprefix("Value error, ")
    value = problem.get("input")
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed here: {', '.join(_allowed_keys(location[:-1]))}"
    if problem["type"] == "missing":
        return f"{key}: this key is needed"
    if problem["type"] == "enum" and isinstance(value, str):
        allowed = Kind if location[0] in ("resources", "batch") else Scheduler
        return f"{key}: unknown {value!r}; allowed: {', '.join(allowed)}"
    if isinstance(value, (str, int, float, bool)):
        return f"{key}: {message} (got {value!r})"
    return message if not location else f"{key}: {message}"


def _allowed_keys(location: list[str]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        "resources": Resources,
        "commands": Commands,
        "continuation": Continuation,
        "batch": Batch,
    }
    return list((sections[location[0]] if location else Profile).model_fields)
