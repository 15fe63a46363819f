"""Bundles: what is written, for every scheduler, and what the job script does with signals."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from lrlo.workflows.bundle import (
    BundleError,
    Part,
    bundle_status,
    default_kind,
    job_script,
    parts_of,
    submit_part,
    warning_seconds,
    write_bundle,
)
from lrlo.workflows.profile import Kind, Profile, Resources, Scheduler, profile_names, read_profile
from lrlo.workflows.study import Study

from ..grid_engine import directives, verify, why_no_qsub

REFERENCES = Path(__file__).parents[1] / "clusters" / "references"
SCHEDULERS = ("slurm", "pbs", "sge", "lsf")
EXTRA = {
    "slurm": ["#SBATCH --constraint=avx512"],
    "pbs": ["#PBS -l place=scatter"],
    "sge": ["#$ -pe mpi 32", "#$ -l gpu=2"],
    "lsf": ["#BSUB -x"],
}
WORK = {"partition": "work", "account": "proj1", "nodes": 2, "ntasks": 8, "cpus_per_task": 4}


def profile(scheduler: str = "slurm", **changes) -> Profile:
    return Profile.model_validate(
        {
            "name": "test",
            "description": "a cluster",
            "scheduler": scheduler,
            "work_dir": "/work",
            "resources": {"default": {}},
            **changes,
        }
    )


def study(**changes) -> Study:
    settings = {"name": "small", "composition": "Li1.2Ni0.2Mn0.6O2", "states": [{"label": "a"}]}
    return Study.model_validate(settings | changes)


@pytest.fixture
def study_path(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text("name: small\n")
    return path


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_scripts_are_the_references(scheduler: str) -> None:
    """The references and how they follow from the manuals: tests/clusters/references."""
    resources = {**WORK, "gpus": 2, "memory": "16GB", "time": "1-00:00:00"}
    machine = profile(
        scheduler,
        setup="module load python/3.11\nexport OMP_NUM_THREADS=4\n",
        resources={"default": resources | {"extra": EXTRA[scheduler]}},
        continuation={"max_continuations": 5},
    )
    script = job_script("formation-voltage", Part("x", "Ti's, seed 7"), machine, Kind.NEB)
    assert script == (REFERENCES / f"{scheduler}.sh").read_text()


LABELS = ["doped", "Ti's $(touch no) `touch no`", 'a "b" \\'[:7], "line\nbreak", "-n; touch no"]


@pytest.mark.parametrize("name", profile_names())
@pytest.mark.parametrize("label", LABELS)
def test_scripts_are_sound_for_bash_whatever_a_label_says(
    name: str, label: str, tmp_path: Path
) -> None:
    machine = read_profile(name).model_copy(update={"setup": "", "python": "echo"})
    script = job_script("s", Part("x", label), machine, Kind.NEB)
    (tmp_path / "job.sh").write_text(script)
    assert subprocess.run(["bash", "-n", "job.sh"], cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "study.yaml").write_text("")
    said = subprocess.run(
        ["bash", "job.sh"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert said.stdout == (
        "-m lrlo run study.yaml --folder results --store results/store.sqlite --replicate "
        f"{label}\n"
    )
    assert not (tmp_path / "no").exists()


def test_grid_engine_understands_its_scripts(tmp_path: Path) -> None:
    """``qsub -verify`` reads all directives; it needs no daemon."""
    if (reason := why_no_qsub()) is not None:
        pytest.skip(reason)
    script = (REFERENCES / "sge.sh").read_text()
    understood = verify(script, tmp_path)
    assert understood.returncode == 0, understood.stderr
    said = directives(understood)
    assert said["job_name"] == "lrlo-formation-voltage"
    assert said["hard resource_list"] == "h_rt=24:00:00,s_rt=23:50:00,h_vmem=1024M,gpu=2"
    assert said["parallel environment"] == "mpi range: 32"
    assert said["hard_queue_list"] == "work"
    assert said["merge"] == "y"
    broken = script.replace("#$ -cwd", "#$ -cwd -walltime 3")
    assert verify(broken, tmp_path).returncode != 0


# -- what the script does -----------------------------------------------------------------------

#: Stands for ``lrlo run``: says that it runs, and ends with a code of its own at a signal.
RUN = """#!/bin/bash
echo "$@" > arguments
trap 'exit {at_signal}' USR1 TERM
touch running
for i in $(seq {tenths}); do sleep 0.1; done
exit {at_end}
"""
#: Stands for sbatch, qsub and bsub, which are not asked for a job here but for how they are called.
SUBMIT = (
    '#!/bin/bash\necho "$(basename "$0") $* count=$LRLO_CONTINUATION" >> submitted\nexit {code}\n'
)
NUMBERS = {"slurm": "SLURM_JOB_ID", "pbs": "PBS_JOBID", "sge": "JOB_ID", "lsf": "LSB_JOBID"}
NEXT = {
    "slurm": "sbatch --dependency=afterany:7 --export=ALL,LRLO_CONTINUATION=1 job.sh",
    "pbs": "qsub -W depend=afterany:7 -v LRLO_CONTINUATION=1 job.sh",
    "sge": "qsub -hold_jid 7 -v LRLO_CONTINUATION=1 job.sh",
    "lsf": "bsub -w ended(7)",
}


@dataclass
class Job:
    """A job script that runs in bash as the scheduler would run it."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen | None = None

    def start(self) -> "Job":
        self.process = subprocess.Popen(
            ["bash", str(self.folder / "job.sh")],
            cwd="/" if "PBS_O_WORKDIR" in self.environment else self.folder,
            env=self.environment,
        )
        deadline = time.monotonic() + 30
        while not (self.folder / "running").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return self

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self) -> int:
        assert self.process is not None
        return self.process.wait(30)

    @property
    def status(self) -> list[str]:
        return [
            line.split(": ", 1)[1] for line in (self.folder / "status.log").read_text().splitlines()
        ]

    @property
    def submitted(self) -> str:
        path = self.folder / "submitted"
        return path.read_text().strip() if path.exists() else ""


@pytest.fixture
def make_job(tmp_path: Path):
    def make(
        scheduler: str = "slurm",
        *,
        count: int | None = None,
        limit: int = 3,
        at_signal: int = 75,
        at_end: int = 0,
        tenths: int = 100,
        refuse: bool = False,
        change: tuple[str, str] = ("", ""),
    ) -> Job:
        folder, programs = tmp_path / "a part's folder", tmp_path / "bin"
        folder.mkdir()
        programs.mkdir()
        machine = profile(
            scheduler,
            python=str(programs / "python"),
            continuation={"max_continuations": limit},
            resources={"default": {"time": "00:01:00"}},
        )
        script = job_script("small", Part("x", None), machine, Kind.NEB)
        assert change[0] in script
        (folder / "job.sh").write_text(script.replace(*change))
        (folder / "study.yaml").write_text("")
        contents = {
            "python": RUN.format(at_signal=at_signal, at_end=at_end, tenths=tenths),
            **dict.fromkeys(("sbatch", "qsub", "bsub"), SUBMIT.format(code=int(refuse))),
        }
        for name, text in contents.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
        environment |= {NUMBERS[scheduler]: "7"}
        environment |= {"PBS_O_WORKDIR": str(folder)} if scheduler == "pbs" else {}
        if count is not None:
            environment["LRLO_CONTINUATION"] = str(count)
        return Job(folder, environment)

    return make


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_job_that_finishes_submits_nothing(scheduler: str, make_job) -> None:
    job = make_job(scheduler, tenths=1).start()
    assert job.end() == 0
    assert job.status[-1] == "finished"
    assert job.submitted == ""
    said = (job.folder / "arguments").read_text().strip()
    assert said == "-m lrlo run study.yaml --folder results --store results/store.sqlite"


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_warned_job_goes_on_in_the_next(scheduler: str, make_job) -> None:
    job = make_job(scheduler).start()
    job.send(signal.SIGUSR1)
    assert job.end() == 0  # the chain has not failed
    assert job.submitted.startswith(NEXT[scheduler])
    assert job.submitted.endswith("count=1" if scheduler == "lsf" else "count=")
    assert job.status[-1] == "goes on in another job, continuation 1 of 3"


def test_pbs_jobs_warn_themselves(make_job) -> None:
    job = make_job("pbs", change=("sleep 30 &", "sleep 0.5 &")).start()
    assert job.end() == 0
    assert job.status[-1] == "goes on in another job, continuation 1 of 3"


def test_the_last_continuation_stops(make_job) -> None:
    job = make_job(count=3).start()
    job.send(signal.SIGUSR1)
    assert job.end() == 0
    assert job.submitted == ""
    assert "3 continuations used up: submit job.sh again" in job.status[-1]


def test_a_site_that_lets_no_job_submit(make_job) -> None:
    job = make_job(refuse=True).start()
    job.send(signal.SIGUSR1)
    assert job.end() == 0
    assert "the next job was refused: submit job.sh again" in job.status[-1]


def test_a_cancelled_job_does_not_come_back(make_job) -> None:
    job = make_job().start()
    job.send(signal.SIGTERM)
    assert job.end() == 75
    assert job.submitted == ""
    assert job.status[-1] == "cancelled or preempted: submit job.sh again to go on"


def test_an_evaluation_that_outlasts_the_warning_is_repeated_by_the_next_job(make_job) -> None:
    job = make_job(tenths=50, change=("SECONDS + 15", "SECONDS + 1"))
    text = (job.folder.parent / "bin" / "python").read_text()
    (job.folder.parent / "bin" / "python").write_text(text.replace("'exit 75'", "''"))
    job.start()
    job.send(signal.SIGUSR1)
    deadline = time.monotonic() + 4
    while not job.submitted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert job.submitted.startswith(NEXT["slurm"])  # while the run is still there
    assert job.process is not None
    assert job.process.poll() is None
    assert job.end() == 0
    assert job.submitted.count("sbatch") == 1
    assert job.status[-2:] == ["goes on in another job, continuation 1 of 3", "finished"]


def test_a_run_that_fails_is_not_repeated(make_job) -> None:
    job = make_job(tenths=1, at_end=1).start()
    assert job.end() == 1
    assert job.submitted == ""
    assert job.status[-1].startswith("failed with exit code 1")


def test_a_run_that_fails_after_the_warning_is_not_repeated(make_job) -> None:
    job = make_job(at_signal=1).start()
    job.send(signal.SIGUSR1)
    assert job.end() == 1
    assert job.submitted == ""


def test_a_script_submitted_from_elsewhere_says_so(make_job, tmp_path: Path) -> None:
    job = make_job()
    done = subprocess.run(
        ["bash", str(job.folder / "job.sh")],
        cwd=tmp_path,
        env=job.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "submit job.sh from the folder that it lies in" in done.stderr


# -- what is written ----------------------------------------------------------------------------


def test_a_bundle_has_all_it_needs_and_no_secret(
    study_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRLO_STORE", "mongodb://me:s3cret@server/db")
    [part] = write_bundle(study(), study_path, read_profile("slurm"), tmp_path / "a" / "bundle")
    assert part == tmp_path / "a" / "bundle" / "all"
    assert (part / "study.yaml").read_text() == "name: small\n"
    assert os.access(part / "job.sh", os.X_OK)
    written = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(written) == 3
    for path in written:
        text = path.read_text()
        assert "s3cret" not in text
        assert str(tmp_path) not in text  # it may be copied elsewhere
    readme = (tmp_path / "a" / "bundle" / "README.txt").read_text()
    assert "(cd all && sbatch job.sh)" in readme
    with pytest.raises(BundleError, match="exists; choose another"):
        write_bundle(study(), study_path, read_profile("slurm"), tmp_path / "a" / "bundle")


def test_a_split_study_has_a_part_per_variant_and_seed() -> None:
    variants = [{"label": "Ti doped"}, {"label": "Ti-doped"}, {"label": "ε"}]
    parts = parts_of(study(structure={"seed": [1, 2]}, variants=variants), split=True)
    assert [part.replicate for part in parts] == [
        *("Ti doped, seed 1", "Ti doped, seed 2", "Ti-doped, seed 1", "Ti-doped, seed 2"),
        *("ε, seed 1", "ε, seed 2"),
    ]
    assert parts[0].folder == "Ti-doped-seed-1"
    assert len({part.folder for part in parts}) == 6
    assert [p.replicate for p in parts_of(study(), split=True)] == ["seed 7"]
    assert parts_of(study(), split=False) == [Part("all", None)]


def test_structure_files_go_with_the_study(
    study_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "host.cif").write_text("data_host\n")
    machine = read_profile("slurm")
    own = study(structure={"file": "cells/host.cif"})
    [part] = write_bundle(own, study_path, machine, tmp_path / "one")
    assert (part / "cells" / "host.cif").read_text() == "data_host\n"
    named = study(structure={"file": "LiCoO2"})  # a crystal that lrlo knows, no file
    assert write_bundle(named, study_path, machine, tmp_path / "two")
    absolute = study(structure={"file": "/data/host.cif"})
    assert write_bundle(absolute, study_path, machine, tmp_path / "three")
    for outside in ("../host.cif", "cells/../../host.cif"):
        with pytest.raises(BundleError, match="lies outside of this folder"):
            write_bundle(study(structure={"file": outside}), study_path, machine, tmp_path / "four")
    assert not (tmp_path / "four").exists()


def test_grid_engine_needs_the_names_of_the_site(study_path: Path, tmp_path: Path) -> None:
    for resources, name in (({"ntasks": 4}, "-pe smp 4"), ({"gpus": 1}, "gpu=1")):
        with pytest.raises(BundleError, match=name):
            write_bundle(
                study(),
                study_path,
                profile("sge", resources={"default": resources}),
                tmp_path / "b",
            )
    assert not (tmp_path / "b").exists()


def test_resources_are_those_of_the_longest_work() -> None:
    assert default_kind(study()) is Kind.NEB
    assert default_kind(study(hops=None)) is Kind.RELAX


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("00:00:40", 20), ("00:01:00", 30), ("01:00:00", 360), ("7-00:00:00", 600), (None, None)],
)
def test_jobs_are_warned_in_time(time: str | None, seconds: int | None) -> None:
    assert warning_seconds(Resources(time=time)) == seconds


def test_a_bundle_of_a_machine_without_scheduler_runs_at_once(
    study_path: Path, tmp_path: Path
) -> None:
    machine = profile("shell", python=sys.executable, host="localhost")
    [part] = write_bundle(study(), study_path, machine, tmp_path / "bundle")
    assert submit_part(part, machine) == "started"
    deadline = time.monotonic() + 60
    while "failed" not in (last := bundle_status(tmp_path / "bundle")[0].last):
        assert time.monotonic() < deadline, last
        time.sleep(0.2)
    # the file of this test is no study, which the job says as lrlo does
    assert "is not a valid study" in (part / "job.shell.log").read_text()


def test_jobs_are_submitted_where_the_scheduler_is(study_path: Path, tmp_path: Path) -> None:
    far = profile(host="cluster.example.org")
    [part] = write_bundle(study(), study_path, far, tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"copy the bundle there .*cluster\.example\.org"):
        submit_part(part, far)


def test_a_scheduler_that_is_not_there(
    study_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [part] = write_bundle(study(), study_path, profile("lsf"), tmp_path / "bundle")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BundleError, match="bsub is not there"):
        submit_part(part, profile("lsf"))


def test_status_tells_why_a_job_was_ended(study_path: Path, tmp_path: Path) -> None:
    [part] = write_bundle(study(), study_path, profile(), tmp_path / "bundle")
    [before] = bundle_status(tmp_path / "bundle")
    assert (before.part, before.last, before.reason) == ("all", "", None)
    (part / "status.log").write_text("2026-01-05T10:00:00Z job 7: running on n1\n")
    assert bundle_status(tmp_path / "bundle")[0].reason is None
    (part / "job.7.log").write_text(
        "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch. Some of the step tasks "
        "have been OOM Killed.\n"
    )
    reason = bundle_status(tmp_path / "bundle")[0].reason
    assert reason is not None
    assert "more memory" in reason
    with pytest.raises(BundleError, match="holds no bundle"):
        bundle_status(tmp_path)


def test_every_scheduler_of_a_profile_has_a_script() -> None:
    for scheduler in Scheduler:
        assert job_script("s", Part("x", None), profile(scheduler.value), Kind.NEB)
