"""Whether a profile works: connection, scheduler, Python, commands and store, tried for real."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .profile import Kind, Profile, Scheduler
from .remote_project import (
    SUPPORTED,
    lrlo_version,
    project_of,
    project_settings,
    require_jobflow_remote,
    without_input,
    work_folder,
)
from .store_location import StoreError, StoreLocation

if TYPE_CHECKING:
    from jobflow_remote.remote.host import BaseHost

#: Marks what the far side's Python answers, among whatever else a shell prints.
_MARK = "lrlo-answer:"
_ASK_PYTHON = (
    "import json, sys; from importlib import metadata as m; "
    "v = lambda n: next((d.version for d in m.distributions(name=n)), None); "
    f"print('{_MARK}' + json.dumps([sys.version.split()[0], v('lrlo'), v('jobflow-remote')]))"
)
#: Command that tells whether a scheduler answers.
_ASK_SCHEDULER = {
    Scheduler.SLURM: "sinfo -h -o '%R %T'",
    Scheduler.PBS: "qstat -Q",
    Scheduler.SGE: "qstat -g c",
    Scheduler.SHELL: "true",
}


@dataclass(frozen=True)
class Finding:
    """What was found about one thing.

    Attributes
    ----------
    subject
        What was looked at.
    is_fine
        Whether it works.
    detail
        What was found.
    remedy
        What to do if it does not work.
    """

    subject: str
    is_fine: bool
    detail: str
    remedy: str = ""


def check_profile(profile: Profile, store: StoreLocation) -> list[Finding]:
    """Try what a study that is submitted with a profile needs.

    Parameters
    ----------
    profile
        Machine.
    store
        Where results are to be kept.

    Returns
    -------
    findings
        In the order in which things are needed; what cannot be tried without an earlier one is
        left out.

    Raises
    ------
    RemoteError
        If jobflow-remote is not installed here.
    """
    require_jobflow_remote()
    findings = [_store(store)]
    if profile.scheduler not in SUPPORTED:
        names = ", ".join(SUPPORTED)
        remedy = "use it with: lrlo submit --bundle"
        detail = f"jobflow-remote submits to {names}, not to {profile.scheduler.value}"
        return [*findings, Finding("scheduler", False, detail, remedy)]
    # Workers do not depend on the store; any database does to make them.
    settings = project_settings(profile, StoreLocation("mongodb://localhost/none"))
    host = next(iter(project_of(settings).workers.values())).get_host()
    with without_input():
        return findings + list(_far_side(profile, host))


def _far_side(profile: Profile, host: "BaseHost") -> Iterator[Finding]:
    where = "this machine" if profile.is_local else profile.host
    try:
        host.connect()
        out, errors, code = _run(host, f"echo {_MARK}")
    except Exception as error:
        # ssh libraries raise whatever they like; the kind of error says most.
        out, errors, code = "", f"{type(error).__name__}: {error}", 1
    if code or _MARK not in out:
        remedy = (
            f"'{_ssh_command(profile)} true' has to work without typing anything: check host, "
            "user and key, and start ssh-agent"
        )
        yield Finding("connection", False, f"{where}: {_last(errors)}", remedy)
        return
    yield Finding("connection", True, where)
    try:
        yield _folder(profile, host)
        yield from _scheduler(profile, host)
        yield from _python(profile, host)
        yield from _commands(profile, host)
    finally:
        host.close()


def _ssh_command(profile: Profile) -> str:
    words = ["ssh"]
    words += ["-p", str(profile.port)] if profile.port else []
    words += ["-i", profile.key] if profile.key else []
    words += [f"{profile.user}@{profile.host}" if profile.user else profile.host]
    return shlex.join(words)


def _folder(profile: Profile, host: "BaseHost") -> Finding:
    folder = work_folder(profile)
    path = shlex.quote(str(folder))
    _, errors, code = _run(host, f"mkdir -p {path} && touch {path}/.lrlo && rm {path}/.lrlo")
    remedy = "name a folder in work_dir that you may write to, on a file system that nodes share"
    detail = str(folder) if code == 0 else f"{folder} cannot be written: {_last(errors)}"
    return Finding("work folder", code == 0, detail, remedy)


def _scheduler(profile: Profile, host: "BaseHost") -> Iterator[Finding]:
    name = profile.scheduler.value
    out, errors, code = _run(host, _ASK_SCHEDULER[profile.scheduler])
    if code:
        remedy = (
            f"is {name} on this host, and up? its commands must be in the PATH of a login shell"
        )
        yield Finding("scheduler", False, f"{name} does not answer: {_last(errors)}", remedy)
        return
    yield Finding("scheduler", True, name)
    if profile.scheduler is not Scheduler.SLURM:
        return
    known = {line.split()[0] for line in out.splitlines() if line.strip()}
    asked = {profile.resources_of(kind).partition for kind in Kind} - {None}
    if missing := sorted(str(each) for each in asked - known):
        detail = f"no partition {', '.join(missing)}"
        remedy = f"name one of {', '.join(sorted(known))} in resources"
        yield Finding("partitions", False, detail, remedy)
    elif asked:
        yield Finding("partitions", True, ", ".join(sorted(map(str, asked))))


def _python(profile: Profile, host: "BaseHost") -> Iterator[Finding]:
    command = f"{profile.python} -c {shlex.quote(_ASK_PYTHON)}"
    out, errors, code = _run(host, command, profile.setup_of(Kind.DEFAULT))
    answers = [line.partition(_MARK)[2] for line in out.splitlines() if _MARK in line]
    if code or not answers:
        remedy = "check setup and python of the profile: they have to start Python 3.11 or newer"
        yield Finding("Python", False, f"{profile.python}: {_last(errors)}", remedy)
        return
    python, lrlo, remote = json.loads(answers[-1])
    is_new = tuple(map(int, python.split(".")[:2])) >= (3, 11)
    yield Finding("Python", is_new, python, "lrlo needs Python 3.11 or newer")
    own = lrlo_version()
    detail = f"{lrlo}" if lrlo else "not installed for this Python"
    if lrlo and lrlo != own:
        detail += f", and {own} here"
    yield Finding("lrlo", lrlo == own, detail, f"install lrlo {own} on the far side")
    remedy = "install 'lrlo[remote]' on the far side"
    yield Finding("jobflow-remote", remote is not None, remote or "not installed", remedy)


def _commands(profile: Profile, host: "BaseHost") -> Iterator[Finding]:
    for name, command in profile.commands.model_dump(exclude_none=True).items():
        kind = Kind.BONDING if name == "lobster" else Kind.RELAX
        programs = [word for word in shlex.split(command) if not word.startswith("-")]
        missing = []
        # The launcher and, where one is named, the program: "srun vasp_std".
        for program in dict.fromkeys((programs[0], programs[-1])):
            if program.isdigit():
                continue
            _, _, code = _run(host, f"command -v {shlex.quote(program)}", profile.setup_of(kind))
            if code:
                missing.append(program)
        detail = f"{', '.join(missing)} not found" if missing else command
        remedy = f"load its module in setup, or correct commands.{name}"
        yield Finding(name, not missing, detail, remedy)


def _store(store: StoreLocation) -> Finding:
    from .store import open_store

    remedy = "name it with --store, LRLO_STORE or the configuration file"
    if not store.is_mongodb:
        detail = f"{store} is no MongoDB database, which the queue needs"
        return Finding("store", False, detail, f"{remedy}; or use: lrlo submit --bundle")
    try:
        open_store(store).close()
    except StoreError as error:
        return Finding("store", False, str(error), remedy)
    return Finding("store", True, str(store))


def _run(host: "BaseHost", command: str, setup: str = "") -> tuple[str, str, int]:
    """Output, errors and exit code of a command after the lines that jobs run first."""
    script = f"{setup}\n{command}" if setup else command
    out, errors, code = host.execute(f"bash -c {shlex.quote(script)}")
    return str(out), str(errors), int(code)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no answer"
