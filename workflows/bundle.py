"""Bundles: a study as folders with a job script each, for clusters where nothing else may run.

A job script runs ``lrlo run`` inside its allocation against the file store in its folder. Shortly
before the walltime it is warned by SIGUSR1, lets the running evaluation end and submits itself
again, as often as the profile allows. Bundles hold no path, address or password: they can be
copied anywhere before they are submitted.

The header is written here and not by qtoolkit: that knows neither LSF nor the warning signals, and
comes with jobflow-remote only, which bundles do without.
"""

import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..structures.crystals import CRYSTALS
from .interruption import EXIT_CONTINUE
from .profile import Kind, Profile, Resources, Scheduler
from .scheduler_reason import find_reason
from .study import Study

#: Files of a part.
SCRIPT, STUDY, STATUS, RESULTS = "job.sh", "study.yaml", "status.log", "results"
#: Counts the jobs of a chain; set by the job before.
COUNTER = "LRLO_CONTINUATION"
_LOGS = ("job.*.log", "lrlo-*.o[0-9]*")


class BundleError(ValueError):
    """A bundle cannot be written or submitted; the message says why and what to do."""


@dataclass(frozen=True)
class Part:
    """What one job of a bundle computes.

    Attributes
    ----------
    folder
        Name of its folder.
    replicate
        Variant and seed that it runs; None for the whole study.
    """

    folder: str
    replicate: str | None


@dataclass(frozen=True)
class PartStatus:
    """How far a part is.

    Attributes
    ----------
    part
        Name of its folder.
    last
        Last line of its status file; empty before its first job has started.
    reason
        Why the scheduler ended its last job, where the job itself cannot know.
    """

    part: str
    last: str
    reason: str | None


def parts_of(study: Study, *, split: bool) -> list[Part]:
    """Parts of a study: one per variant and seed if it is split, else the study as a whole."""
    if not split:
        return [Part("all", None)]
    parts: list[Part] = []
    for variant in study.structures:
        for seed in variant.structure.seeds:
            replicate = f"{variant.label}, seed {seed}" if variant.label else f"seed {seed}"
            name = re.sub(r"[^A-Za-z0-9._+-]+", "-", replicate).strip(".-") or "part"
            if name in {part.folder for part in parts}:
                name = f"{name}-{len(parts) + 1}"
            parts.append(Part(name, replicate))
    return parts


def default_kind(study: Study) -> Kind:
    """Kind of job whose resources a bundle asks for: that of the study's longest work."""
    return Kind.NEB if study.hops is not None else Kind.RELAX


def write_bundle(
    study: Study,
    study_path: Path,
    profile: Profile,
    folder: Path,
    *,
    split: bool = False,
    kind: Kind | None = None,
) -> list[Path]:
    """Write a bundle: one folder per part with study, job script and a README for all.

    Parameters
    ----------
    study, study_path
        The study and its file.
    profile
        Machine that it is for.
    folder
        Folder to make.
    split
        Whether every variant and seed gets a job of its own.
    kind
        Kind of job whose resources are asked for; :func:`default_kind` if not given.

    Returns
    -------
    parts
        Folders of the parts.

    Raises
    ------
    BundleError
        If the folder exists or cannot be written, a structure file cannot go with the study, or
        the profile lacks what its scheduler needs.
    """
    asked = kind or default_kind(study)
    parts = parts_of(study, split=split)
    scripts = {part: job_script(study.name, part, profile, asked) for part in parts}
    files = _structure_files(study)
    try:
        folder.mkdir(parents=True)
        for part, script in scripts.items():
            place = folder / part.folder
            place.mkdir()
            shutil.copyfile(study_path, place / STUDY)
            for name in files:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(name, place / name)
            (place / SCRIPT).write_text(script, encoding="utf-8")
            (place / SCRIPT).chmod(0o755)
        readme = _readme(study.name, parts, profile.scheduler)
        (folder / "README.txt").write_text(readme, encoding="utf-8")
    except FileExistsError:
        raise BundleError(
            f"{folder} exists; choose another one with --folder, or remove it if its results are "
            "merged"
        ) from None
    except OSError as error:
        raise BundleError(
            f"{error.filename or folder} cannot be written: {error.strerror}"
        ) from None
    return [folder / part.folder for part in parts]


def job_script(study: str, part: Part, profile: Profile, kind: Kind) -> str:
    """Job script of a part.

    Raises
    ------
    BundleError
        If the profile lacks what its scheduler needs.
    """
    dialect = _DIALECTS[profile.scheduler]
    resources = profile.resources_of(kind)
    warning = warning_seconds(resources)
    header = [*dialect.header(f"lrlo-{study}", resources, warning), *resources.extra]
    limit = profile.continuation.max_continuations if dialect.resubmit else 0
    replicate = "" if part.replicate is None else f" --replicate {shlex.quote(part.replicate)}"
    timer = ""
    if dialect.warns_itself and resources.seconds and warning is not None:
        timer = _TIMER.format(seconds=resources.seconds - warning)
    replace = {
        "@HEADER@": "".join(f"{line}\n" for line in header),
        "@JOB@": dialect.job,
        "@LIMIT@": str(limit),
        "@COUNTER@": COUNTER,
        "@RESUBMIT@": dialect.resubmit or "false",
        "@GRACE@": str((warning or 60) // 2),
        "@SETUP@": profile.setup_of(kind) or ":",
        "@TIMER@": timer,
        "@RUN@": f"{profile.python} -m lrlo run {STUDY} --folder {RESULTS} "
        f"--store {RESULTS}/store.sqlite{replicate}",
        "@CONTINUE@": str(EXIT_CONTINUE),
    }
    return re.sub("@[A-Z]+@", lambda found: replace[found[0]], _SCRIPT)


def warning_seconds(resources: Resources) -> int | None:
    """How long before its walltime a job is warned, s: a tenth of it, 30 s to 10 min.

    At most half of a very short walltime; None for a job without one.
    """
    seconds = resources.seconds
    return None if seconds is None else min(max(seconds // 10, 30), 600, seconds // 2)


def submit_part(part: Path, profile: Profile) -> str:
    """Submit a part on this machine.

    Returns
    -------
    answer
        What the scheduler says, in one line.

    Raises
    ------
    BundleError
        If the profile's machine is another one, or the scheduler is not there or refuses.
    """
    if not profile.is_local:
        raise BundleError(
            f"the jobs of profile {profile.name} are submitted on {profile.host}: copy the bundle "
            f"there and follow its README.txt (rsync -a {shlex.quote(str(part.parent))} "
            f"{profile.host}:)"
        )
    command = _DIALECTS[profile.scheduler].submit
    program = command.split()[0]
    if shutil.which(program) is None:
        raise BundleError(
            f"{program} is not there: submit the bundle where {profile.scheduler} is, as its "
            "README.txt says"
        )
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=part,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    if done.returncode:
        problem = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise BundleError(f"{program} refused {part.name}: {problem[-1]}")
    return " ".join(done.stdout.split()) or "started"


def bundle_status(folder: Path) -> list[PartStatus]:
    """How far every part of a bundle is, from the files in its folder.

    Raises
    ------
    BundleError
        If the folder holds no bundle.
    """
    parts = sorted(path.parent for path in folder.glob(f"*/{SCRIPT}"))
    if not parts:
        raise BundleError(f"{folder} holds no bundle; 'lrlo submit STUDY --bundle' writes one")
    return [_part_status(part) for part in parts]


def _part_status(part: Path) -> PartStatus:
    try:
        last = (part / STATUS).read_text(encoding="utf-8").splitlines()[-1]
    except (OSError, IndexError):
        last = ""
    reason = None
    logs = [path for pattern in _LOGS for path in part.glob(pattern)]
    if logs and any(f": {word}" in last for word in ("running", "cancelled", "failed")):
        newest = max(logs, key=lambda path: path.stat().st_mtime)
        reason = find_reason(newest.read_text(encoding="utf-8", errors="replace"))
    return PartStatus(part.name, last, reason)


def _structure_files(study: Study) -> list[str]:
    """Structure files that the study names by a relative path."""
    names = {v.structure.file for v in study.structures if v.structure.file is not None}
    files = sorted(name for name in names if Path(name).exists() or name not in CRYSTALS)
    relative = [name for name in files if not Path(name).is_absolute()]
    for name in relative:
        if ".." in Path(name).parts:
            raise BundleError(
                f"structure.file: {name} lies outside of this folder and cannot go with the "
                "study; copy it here, or give its absolute path on the cluster"
            )
    return relative


# -- schedulers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Dialect:
    """How one scheduler says what all of them can.

    Attributes
    ----------
    submit
        Command that submits the script.
    job
        Variable with the number of the job.
    resubmit
        Command by which a running job submits the next one, to start when it has ended; empty if
        there is no walltime that would need it.
    header
        Directives for a name, resources and seconds of warning.
    warns_itself
        Whether the script has to warn itself, since the scheduler does not.
    """

    submit: str
    job: str
    resubmit: str
    header: Callable[[str, Resources, int | None], list[str]]
    warns_itself: bool = False


def _slurm(name: str, resources: Resources, warning: int | None) -> list[str]:
    memory, gpus = resources.memory_mb, resources.gpus
    options = [
        f"--job-name={name}",
        "--output=job.%j.log",
        "--open-mode=append",
        _given("--partition={}", resources.partition),
        _given("--account={}", resources.account),
        f"--nodes={resources.nodes}",
        f"--ntasks={resources.ntasks}",
        f"--cpus-per-task={resources.cpus_per_task}",
        _given("--gpus={}", gpus or None),
        _given("--mem={}M", memory),
        _given("--time={}", _clock(resources.seconds)),
        _given("--signal=B:USR1@{}", warning),
    ]
    return [f"#SBATCH {option}" for option in options if option]


def _pbs(name: str, resources: Resources, warning: int | None) -> list[str]:
    per_node = math.ceil(resources.ntasks / resources.nodes)
    chunk = [
        f"{resources.nodes}",
        f"ncpus={per_node * resources.cpus_per_task}",
        f"mpiprocs={per_node}",
        f"ompthreads={resources.cpus_per_task}",
        _given("mem={}mb", resources.memory_mb),
        _given("ngpus={}", math.ceil(resources.gpus / resources.nodes) or None),
    ]
    options = [
        f"-N {name[:15]}",  # the longest name that all of the family take
        "-j oe",
        _given("-q {}", resources.partition),
        _given("-A {}", resources.account),
        f"-l select={':'.join(filter(None, chunk))}",
        _given("-l walltime={}", _clock(resources.seconds)),
    ]
    return [f"#PBS {option}" for option in options if option]


def _sge(name: str, resources: Resources, warning: int | None) -> list[str]:
    slots = resources.ntasks * resources.cpus_per_task
    if slots > 1 and not any(re.match(r"#\$ +-pe ", line) for line in resources.extra):
        raise BundleError(
            f"Grid Engine gives {slots} slots in a parallel environment of the site only: name it "
            f"in the profile, resources: extra: ['#$ -pe smp {slots}'] ('qconf -spl' lists them)"
        )
    if resources.gpus and not any("gpu" in line.lower() for line in resources.extra):
        raise BundleError(
            "Grid Engine has no name of its own for GPUs: ask for them with the site's in the "
            f"profile, such as resources: extra: ['#$ -l gpu={resources.gpus}'] ('qconf -sc' lists "
            "them)"
        )
    memory, seconds = resources.memory_mb, resources.seconds
    options = [
        f"-N {name}",
        "-S /bin/bash",
        "-cwd",
        "-j y",
        "-o job.$JOB_ID.log",
        _given("-q {}", resources.partition),
        _given("-P {}", resources.account),
        _given("-l h_rt={}", _clock(seconds)),
        _given("-l s_rt={}", _clock(seconds - warning) if seconds and warning else None),
        _given("-l h_vmem={}M", memory * resources.nodes // slots if memory else None),
    ]
    return [f"#$ {option}" for option in options if option]


def _lsf(name: str, resources: Resources, warning: int | None) -> list[str]:
    slots = resources.ntasks * resources.cpus_per_task
    memory, seconds = resources.memory_mb, resources.seconds
    minutes = math.ceil(seconds / 60) if seconds else None
    options = [
        f"-J {name}",
        "-o job.%J.log",
        _given("-q {}", resources.partition),
        _given("-P {}", resources.account),
        f"-n {slots}",
        f'-R "span[ptile={math.ceil(slots / resources.nodes)}]"',
        _given('-R "rusage[mem={}MB]"', memory),
        _given("-M {}MB", memory * resources.nodes if memory else None),
        _given('-gpu "num={}"', math.ceil(resources.gpus / resources.nodes) or None),
        f"-W {minutes // 60}:{minutes % 60:02}" if minutes else "",
        f"-wa USR1 -wt {math.ceil(warning / 60)}" if warning else "",
    ]
    return [f"#BSUB {option}" for option in options if option]


def _shell(name: str, resources: Resources, warning: int | None) -> list[str]:
    return []


def _given(form: str, value: object) -> str:
    """The form with the value, or nothing without a value."""
    return "" if value is None else form.format(value)


def _clock(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


_NEXT = f"{COUNTER}=$((count + 1))"
_DIALECTS: Mapping[Scheduler, _Dialect] = {
    Scheduler.SLURM: _Dialect(
        "sbatch job.sh",
        "SLURM_JOB_ID",
        f'sbatch --dependency=afterany:"$job" --export=ALL,{_NEXT} {SCRIPT}',
        _slurm,
    ),
    Scheduler.PBS: _Dialect(
        "qsub job.sh",
        "PBS_JOBID",
        f'qsub -W depend=afterany:"$job" -v {_NEXT} {SCRIPT}',
        _pbs,
        warns_itself=True,
    ),
    Scheduler.SGE: _Dialect(
        "qsub job.sh",
        "JOB_ID",
        f'qsub -hold_jid "$job" -v {_NEXT} {SCRIPT}',
        _sge,
    ),
    Scheduler.LSF: _Dialect(
        "bsub < job.sh",
        "LSB_JOBID",
        f'{_NEXT} bsub -w "ended($job)" < {SCRIPT}',
        _lsf,
    ),
    Scheduler.SHELL: _Dialect("nohup bash job.sh > job.shell.log 2>&1 &", "LRLO_JOB", "", _shell),
}


# -- texts --------------------------------------------------------------------------------------

_TIMER = """
# This scheduler gives no warning of its own.
( trap 'kill "$!"' TERM; sleep {seconds} & wait "$!" && kill -USR1 "$$" ) > /dev/null 2>&1 &
timer=$!
"""

_SCRIPT = """#!/bin/bash
@HEADER@
# Runs a part of a study here, and goes on in another job when the walltime ends.
# Submit it from the folder that it lies in; README.txt, one folder up, says how.
cd -- "${PBS_O_WORKDIR:-$PWD}" || exit 1 # PBS starts jobs in the home folder
if [ ! -f study.yaml ] || [ ! -f job.sh ]; then
    echo "error: submit job.sh from the folder that it lies in" >&2
    exit 1
fi
job="${@JOB@:-$$}"
count="${@COUNTER@:-0}"
limit=@LIMIT@

note() {
    echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) job $job: $*" >> status.log
}

submitted=0
submit_next() {
    [ "$submitted" = 0 ] || return
    submitted=1
    if [ "$count" -ge "$limit" ]; then
        note "stopped at the walltime, $limit continuations used up: submit job.sh again to go on"
    elif @RESUBMIT@ > /dev/null; then
        note "goes on in another job, continuation $((count + 1)) of $limit"
    else
        note "stopped at the walltime, the next job was refused: submit job.sh again to go on"
    fi
}

@SETUP@

# SIGUSR1 warns of the walltime. SIGTERM without it cancels: that job is not submitted again.
warned=0
cancelled=0
give_up=0
timer=
run=
trap 'warned=1; give_up=$((SECONDS + @GRACE@)); kill -USR1 "$run" 2> /dev/null' USR1
trap 'cancelled=1; kill -TERM "$run" 2> /dev/null' TERM
@TIMER@
note "running on $(hostname)"
@RUN@ &
run=$!
while kill -0 "$run" 2> /dev/null; do
    if [ "$warned" = 0 ]; then
        wait "$run"
    elif [ "$SECONDS" -lt "$give_up" ]; then
        sleep 1
    else
        submit_next # the evaluation does not end in time: the next job repeats it
        wait "$run"
    fi
done
wait "$run"
code=$?
[ -z "$timer" ] || kill "$timer" 2> /dev/null
if [ "$code" = 0 ]; then
    note "finished"
elif [ "$warned" = 1 ] && { [ "$code" = @CONTINUE@ ] || [ "$code" -gt 128 ]; }; then
    submit_next
    code=0
elif [ "$cancelled" = 1 ] || [ "$code" = @CONTINUE@ ]; then
    note "cancelled or preempted: submit job.sh again to go on"
else
    note "failed with exit code $code: the last lines of the output of this job say why"
fi
exit "$code"
"""


def _readme(study: str, parts: list[Part], scheduler: Scheduler) -> str:
    submit = _DIALECTS[scheduler].submit
    what = "one job for the whole study" if len(parts) == 1 else f"{len(parts)} jobs"
    each = "".join(f"  (cd {shlex.quote(part.folder)} && {submit})\n" for part in parts)
    return f"""Bundle of the study {study}: {what}, {scheduler}.

Submit, in this folder (it may be copied elsewhere before):
{each}
Watch: lrlo bundle .
  Every part writes status.log; a job that reaches its walltime submits the next one by itself.
  A part that stopped goes on where it was when its job.sh is submitted again.

Merge what is there into one store, any number of times:
  for part in */; do
    rm -f "$part/results.zip"
    lrlo export {study} "$part/results.zip" --store "$part/results/store.sqlite"
    lrlo import "$part/results.zip" --store merged.sqlite
  done
  lrlo show {shlex.quote(parts[0].folder)}/study.yaml --store merged.sqlite
"""
