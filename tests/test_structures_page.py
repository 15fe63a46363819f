"""docs/structures.md: its commands run, its pictures are there, and it names every builder."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrlo.cli import app
from lrlo.structures.catalogue import BUILDERS
from lrlo.structures.stacking import Stacking
from lrlo.structures.superlattice import Superlattice

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "structures.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^lrlo (.+)$", PAGE, re.MULTILINE)


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, since later ones read what earlier ones wrote."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner(env={"TERM": "dumb"})
    for command in COMMANDS:
        # Pictures are drawn by a test of their own; they take most of the time.
        words = re.sub(r" --draw \S+", "", command)
        result = runner.invoke(app, shlex.split(words))
        assert result.exit_code == 0, f"lrlo {command}: {result.output}"
        output = re.search(r"--output (\S+)", command)
        assert output is None or (tmp_path / output.group(1)).stat().st_size > 0


def test_every_picture_is_drawn_by_a_command_and_small() -> None:
    shown = set(re.findall(r"\(pictures/(\S+)\)", PAGE))
    drawn = {name for command in COMMANDS for name in re.findall(r"--draw (\S+)", command)}
    assert shown == drawn
    assert shown == {path.name for path in (DOCS / "pictures").iterdir()}
    for name in shown:
        picture = (DOCS / "pictures" / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 60_000


def test_page_covers_the_catalogue() -> None:
    built = {shlex.split(command)[1] for command in COMMANDS if command.startswith("build ")}
    assert set(BUILDERS) <= built
    pictured = {shlex.split(c)[1] for c in COMMANDS if c.startswith("build ") and "--draw" in c}
    assert {*Superlattice, "faulted-honeycomb", "two-phase"} <= pictured
    stackings = {s for c in COMMANDS if "--draw" in c for s in re.findall(r"--stacking (\S+)", c)}
    assert stackings == set(Stacking)


def test_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "structures.md", "exec"), {})
    assert "symmetry-distinct" in capsys.readouterr().out
