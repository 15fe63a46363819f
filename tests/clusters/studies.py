"""The smallest real study, and how it is submitted from a folder."""

import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import yaml
from click.testing import Result
from typer.testing import CliRunner

from lrlo.cli import app

from .local_slurm import PARTITION

#: Two relaxations and what is decided from them: CHGNet, 12 atoms, coarse thresholds.
SMALLEST = """
name: smallest
composition: Li1.2Ni0.2Mn0.6O2
structure: {min_atoms: 20, max_atoms: 24, seed: 3}
states:
  - {label: pristine}
relax: {fmax: 0.5, max_steps: 2}
"""
PYTHON = sys.executable


def profile(folder: Path, **changes: object) -> Path:
    """Profile of the tests' Slurm: what studies do in a batch, all else in jobs of their own."""
    settings: dict[str, object] = {
        "name": "test",
        "description": "Slurm of the tests",
        "scheduler": "slurm",
        "work_dir": str(folder / "work"),
        "python": PYTHON,
        "setup": "export OMP_NUM_THREADS=1",
        "resources": {"default": {"partition": PARTITION, "time": "00:10:00"}},
        "batch": {"tasks": 100, "kinds": ["decide", "static", "relax"], "wait": 30},
        **changes,
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def study(folder: Path, text: str = SMALLEST) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def settings(folder: Path, store: str) -> dict[str, str]:
    """Environment of the command, with projects of jobflow-remote in the folder."""
    return {
        "COLUMNS": "400",
        "LRLO_STORE": store,
        "JFREMOTE_PROJECTS_FOLDER": str(folder / "projects"),
    }


def lrlo(*arguments: str, folder: Path, store: str) -> Result:
    """Run the command in a folder."""
    with chdir(folder):
        return CliRunner().invoke(app, arguments, env=settings(folder, store))


def lrlo_process(*arguments: str, folder: Path, store: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, in a process of its own as users do."""
    return subprocess.run(
        [PYTHON, "-m", "lrlo", *arguments],
        cwd=folder,
        env={**os.environ, **settings(folder, store), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
