"""Wheel and sdist hold what they need and work outside the checkout."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return folder


def test_wheel_has_package_data_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "lrlo/py.typed",
        "lrlo/cli.py",
        "lrlo/hpc_profiles/slurm.yaml",
        "lrlo/workflows/new_study.yaml",
        "lrlo/analysis/report.html",
    ):
        assert name in names
    assert not [n for n in names if "tests" in n or "benchmarks" in n]
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_sdist_can_be_built_from(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [name.split("/", 1)[-1] for name in archive.getnames()]
    assert {"pyproject.toml", "README.md", "structures/frame.py", "analysis/report.html"} <= set(
        names
    )


def test_installed_wheel_works_outside_the_checkout(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel],
        check=True,
        capture_output=True,
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import lrlo\n"
        "assert lrlo.__file__.startswith(sys.argv[1]), lrlo.__file__\n"
        "sys.argv = ['lrlo', *sys.argv[2:]]; from lrlo.cli import main; main()"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, str(target), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("profile", "show", "slurm").stdout.startswith("#")
    assert run("new", "study.yaml").returncode == 0
    planned = run("plan", "study.yaml")
    assert planned.returncode == 0, planned.stderr
    assert "60 atoms" in planned.stdout
