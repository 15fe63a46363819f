"""Profiles: what they may say, and what is said about mistakes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from monty.json import jsanitize

from lrlo.workflows.barriers import BarrierMaker
from lrlo.workflows.neb import NebMaker
from lrlo.workflows.profile import (
    Commands,
    Kind,
    Profile,
    ProfileError,
    Scheduler,
    kind_of,
    profile_names,
    read_profile,
)
from lrlo.workflows.relax import RelaxMaker
from lrlo.workflows.static import StaticMaker
from lrlo.workflows.study_flow import lithium_metal
from lrlo.workflows.task import step

SMALLEST: dict[str, Any] = {
    "name": "mine",
    "description": "a test",
    "scheduler": "slurm",
    "work_dir": "/scratch/lrlo",
    "resources": {"default": {"partition": "debug"}},
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**SMALLEST, **changes}))
    return path


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_are_valid(name: str) -> None:
    profile = read_profile(name)
    assert profile.name == name
    for kind in Kind:
        resources = profile.resources_of(kind)
        assert profile.scheduler is Scheduler.SHELL or resources.seconds


def test_every_scheduler_and_both_worked_examples_are_there() -> None:
    assert {read_profile(name).scheduler for name in profile_names()} == set(Scheduler)
    vasp = read_profile("site_cpu_vasp")
    assert vasp.commands.vasp == "srun --cpu-bind=cores vasp_std"
    assert vasp.commands.lobster
    assert read_profile("site_gpu_ml").resources_of("relax").gpus == 1


def test_kinds_inherit_from_default_key_by_key(tmp_path: Path) -> None:
    resources = {
        "default": {"queue": "short", "cpus_per_task": 4, "memory": "1.5GB", "time": "00:10:00"},
        "neb": {"partition": "long", "time": "1-02:03:04", "setup": "module load more"},
    }
    profile = read_profile(written(tmp_path, resources=resources, setup="source env"))
    neb = profile.resources_of(Kind.NEB)
    assert (neb.partition, neb.cpus_per_task, neb.memory_mb) == ("long", 4, 1536)
    assert neb.seconds == ((24 + 2) * 60 + 3) * 60 + 4
    assert profile.resources_of("relax") == profile.resources_of("default")
    assert profile.resources_of("relax").partition == "short"
    assert profile.setup_of("neb") == "source env\nmodule load more"
    assert profile.setup_of("relax") == "source env"
    launched = profile.model_copy(update={"commands": Commands(gpaw="srun -n 4")})
    assert launched.setup_of("relax") == "source env\nexport LRLO_GPAW_LAUNCHER='srun -n 4'"


def test_a_profile_cannot_be_changed(tmp_path: Path) -> None:
    profile = read_profile(written(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        profile.host = "elsewhere"


def test_kind_of_a_job_follows_its_maker() -> None:
    structure = lithium_metal()

    class CarefulRelaxMaker(RelaxMaker):
        pass

    @step()
    def choose() -> None:
        return None

    assert kind_of(RelaxMaker().make(structure)) is Kind.RELAX
    assert kind_of(CarefulRelaxMaker().make(structure)) is Kind.RELAX
    assert kind_of(StaticMaker().make([structure])) is Kind.STATIC
    assert kind_of(NebMaker().make(structure, structure, 0)) is Kind.NEB
    assert kind_of(choose()) is Kind.DECIDE


def test_kind_of_a_job_in_a_queue() -> None:
    structure = lithium_metal()
    for maker, kind in ((RelaxMaker, Kind.RELAX), (StaticMaker, Kind.STATIC)):
        job = maker().make([structure] if maker is StaticMaker else structure)
        assert kind_of(jsanitize(job.as_dict(), strict=True)) is kind
    decide = BarrierMaker().make(structure, structure)
    assert kind_of(jsanitize(decide.as_dict(), strict=True)) is Kind.DECIDE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "colour: unknown key; allowed here: name, description, scheduler"),
        ({"scheduler": "cron"}, "scheduler: unknown 'cron'; allowed: slurm, pbs, sge, lsf, shell"),
        ({"name": "../up"}, "name: must be letters"),
        ({"work_dir": "lrlo"}, "work_dir: must be an absolute path or start with ~"),
        ({"work_dir": "~/lrlo", "host": "far"}, "work_dir: must be an absolute path on far"),
        ({"user": "me"}, "user: only for a host that is reached by ssh"),
        ({"host": "far -oProxyCommand=x"}, "host: must be one word"),
        ({"port": 0}, "port: "),
        ({"resources": {}}, "resources: the kind default is needed"),
        ({"resources": {"default": {}, "dance": {}}}, "unknown 'dance'; allowed: relax, static"),
        (
            {"resources": {"default": {"cores": 3}}},
            "resources.default.cores: unknown key; allowed here: partition, account, nodes",
        ),
        ({"resources": {"default": {"time": "4h"}}}, r'resources.default.time: must be "HH:MM:SS"'),
        ({"resources": {"default": {"time": "1-24:00:00"}}}, "resources.default.time: must be"),
        ({"resources": {"default": {"time": "00:00:00"}}}, "more than no time"),
        ({"resources": {"default": {"time": 14400}}}, "must be text in quotes"),
        ({"resources": {"default": {"memory": "16"}}}, "memory: must be a number with MB, GB"),
        ({"resources": {"default": {"ntasks": 0}}}, "resources.default.ntasks: "),
        ({"resources": {"default": {"queue": "a", "partition": "b"}}}, "two names of one key"),
        ({"resources": {"default": {"partition": "a\nrm -rf"}}}, "partition: must be one word"),
        ({"resources": {"default": {"extra": ["module load x"]}}}, "no directive"),
        ({"resources": {"default": {"extra": ["#SBATCH a\nrm"]}}}, "must be one line"),
        ({"continuation": {"max_continuations": -1}}, "continuation.max_continuations: "),
        ({"batch": {"kinds": []}}, "batch.kinds: name at least one kind"),
        ({"batch": {"tasks": "many"}}, "batch.tasks: "),
        ({"commands": {"vaps": "x"}}, "commands.vaps: unknown key; allowed here: vasp, lobster"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError) as caught:
        read_profile(written(tmp_path, **changes))
    assert message in str(caught.value)


def test_missing_and_unreadable_profiles(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no profile 'nothing'; allowed: lsf, pbs"):
        read_profile("nothing")
    with pytest.raises(ProfileError, match="cannot be read: No such file"):
        read_profile(tmp_path / "nothing.yaml")
    with pytest.raises(ProfileError, match=r"cannot be read"):
        read_profile("../cli")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    with pytest.raises(ProfileError, match="is not valid YAML"):
        read_profile(broken)
    broken.write_text("name: a\nscheduler: slurm\nname: b")
    with pytest.raises(ProfileError, match="'name' is given twice, in line 1 and in line 3"):
        read_profile(broken)
    broken.write_text("- a list")
    with pytest.raises(ProfileError, match="does not hold a mapping"):
        read_profile(broken)
    broken.write_text("name: !!python/object/apply:os.getcwd []")
    with pytest.raises(ProfileError, match="is not valid YAML"):
        read_profile(broken)


def test_needed_keys_are_named() -> None:
    assert {name for name, field in Profile.model_fields.items() if field.is_required()} == {
        *("name", "description", "scheduler", "work_dir", "resources")
    }
