"""What ``lrlo query`` prints, from a store of made-up results."""

import csv
import re
from pathlib import Path

import pytest
import typer
from monty.json import jsanitize
from typer.testing import CliRunner

from lrlo.analysis.barrier import PathStatus
from lrlo.cli import app
from lrlo.workflows.store import open_store

from .analysis.documents import CONTEXT, barrier_of


@pytest.fixture
def store(tmp_path: Path) -> str:
    path = tmp_path / "store.sqlite"
    opened = open_store(path)
    for number, variant in enumerate(("O3", "doped")):
        document = barrier_of(
            PathStatus.CONVERGED, 0.5, context=CONTEXT.model_copy(update={"variant": variant})
        )
        plain = jsanitize(document, strict=True, enum_values=True)
        opened.update({"uuid": str(number), "index": 1, "output": plain})
    opened.close()
    return str(path)


def query(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["query", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_table_is_short_and_says_what_it_leaves_out(store: str) -> None:
    shown = query("barriers", "--store", store)
    header = next(line for line in shown.splitlines() if "mover" in line).split()
    assert header[0] == "variant"  # rows differ in it
    assert {"state", "status"} < set(header)
    assert not {"study", "seed", "detail"} & set(header)
    (more,) = (line for line in shown.splitlines() if "more columns" in line)
    assert {"--column", "csv:", "study,", "images,"} < set(more.split())
    everything = next(
        csv.reader(query("barriers", "--store", store, "--format", "csv").split("\n"))
    )
    assert {"study", "seed", "images", "detail"} < set(everything)


def test_columns_that_are_asked_for_or_sorted_by_are_shown(store: str) -> None:
    assert "images" in query("barriers", "--store", store, "--sort", "-images").split("more")[0]
    chosen = query("barriers", "--store", store, "--column", "images", "--column", "state")
    assert chosen.splitlines()[2].split() == ["images", "state"]
    assert "more columns" not in chosen


def test_every_option_has_a_help_that_is_shown_whole() -> None:
    """Markup would take what is in square brackets for a style."""
    group = typer.main.get_command(app)
    pending = [group]
    while pending:
        command = pending.pop()
        pending += getattr(command, "commands", {}).values()
        for parameter in command.params:
            text = getattr(parameter, "help", None) or ""
            assert not re.search(r"\[[a-z]", text), (command.name, parameter.name)
            if command.name == "query":
                assert text, parameter.name
