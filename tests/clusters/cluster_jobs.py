"""Quick jobs for the tests of clusters; workers import this file by its name.

Every job notes in a file that it ran, so that tests see what was computed how often.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator
from jobflow import Flow, Job, Response
from pymatgen.core import Lattice, Structure

from lrlo.workflows.backend import BackendSpec
from lrlo.workflows.checkpoint import checkpoint_path
from lrlo.workflows.relax import RelaxMaker
from lrlo.workflows.task import step, task


def note(folder: str, word: str) -> None:
    with (Path(folder) / "ran").open("a") as file:
        file.write(f"{word}\n")


def noted(folder: Path) -> list[str]:
    path = folder / "ran"
    return sorted(path.read_text().split()) if path.exists() else []


@task()
def compute(folder: str, word: str, seconds: float = 0.0) -> str:
    """Take some time."""
    note(folder, word)
    time.sleep(seconds)
    return word


@task()
def fail(folder: str) -> None:
    """Raise."""
    note(folder, "fail")
    raise ValueError("the numbers do not add up")


@task()
def continued(folder: str) -> int:
    """Do one part in every start, and be killed by the walltime after it, until there are two."""
    path = checkpoint_path("continued")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("x")
    if len(path.read_text()) < 2:
        note(folder, "part")
        time.sleep(300)
    note(folder, "end")
    return len(path.read_text())


@step()
def die(folder: str) -> None:
    """Be killed as the kernel does when memory runs out."""
    note(folder, "die")
    os.kill(os.getpid(), signal.SIGKILL)


@step()
def branch(folder: str, words: list[str], name: str) -> Job:
    """Replace itself by tasks; other branches may ask for the same ones."""
    note(folder, f"branch-{name}")
    tasks = [compute(folder, word) for word in words]
    end = join([each.output for each in tasks])
    return Response(replace=Flow([*tasks, end], output=end.output))  # type: ignore[return-value]


@step()
def join(words: list[str]) -> str:
    """Put words together."""
    return "+".join(words)


@step()
def check(word: str, wanted: str) -> str:
    """Compare what came with what should."""
    if word != wanted:
        raise ValueError(f"{word} instead of {wanted}")
    return word


@task()
def until_removed(folder: str, path: str) -> bool:
    """Wait until a file is gone."""
    note(folder, "until_removed")
    while Path(path).exists():
        time.sleep(0.2)
    return True


@task()
def use_memory(folder: str, megabytes: int, seconds: float = 5.0) -> int:
    """Use memory for a while, unless the scheduler ends it first."""
    note(folder, "use_memory")
    if (Path(folder) / "enough").exists():
        return 0
    filled = bytearray(b"x") * (megabytes * 1024**2)
    time.sleep(seconds)
    return len(filled)


@task()
def use_memory_after(folder: str, megabytes: int, before: str) -> int:
    """Follow another job, and use memory."""
    return int(use_memory.original(folder, megabytes))


@task()
def write(folder: str, path: str, megabytes: int) -> int:
    """Write a large file where the job runs, or elsewhere."""
    note(folder, "write")
    Path(path).write_bytes(bytes(megabytes * 1024**2))
    return megabytes


@task()
def compute_after(folder: str, word: str, before: str) -> str:
    """Follow another job."""
    note(folder, word)
    return f"{before} {word}"


class NotANumber(Calculator):
    """Potential that has no value for anything."""

    implemented_properties = ["energy", "forces", "stress"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results = {
            "energy": np.nan,
            "forces": np.full((len(atoms), 3), np.nan),
            "stress": np.zeros(6),
        }


def relax_without_energy() -> Job:
    """Relaxation by a potential that has no value."""
    crystal = Structure(Lattice.cubic(4.0), ["Li"], [[0, 0, 0]])
    backend = BackendSpec(name="ase", calculator="cluster_jobs:NotANumber")
    return RelaxMaker(backend=backend).make(crystal)
