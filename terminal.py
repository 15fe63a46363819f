"""What the command line shows: tables, progress, warnings."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from .analysis.tables import Row
    from .workflows.plan import StudyPlan

#: Width of output that goes to a file or a pipe.
_FILE_WIDTH = 160
#: Characters between columns of a table.
_COLUMN_GAP = 3

console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _FILE_WIDTH)
errors = Console(stderr=True)


def print_rows(rows: Sequence["Row"], title: str, columns: Sequence[str] | None = None) -> None:
    """Print rows as a table; columns that are empty throughout are left out."""
    if not rows:
        console.print(f"{title}: none")
        return
    names = list(columns or dict.fromkeys(name for row in rows for name in row))
    shown = [name for name in names if any(row.get(name) not in (None, "") for row in rows)]
    table = Table(
        title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    widths = _column_widths(rows, shown)
    for name, width in zip(shown, widths, strict=True):
        numeric = all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", width=width)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in shown))
    console.print(table)


def _column_widths(rows: Sequence["Row"], names: Sequence[str]) -> list[int | None]:
    """Widths that fold headers between words and no value; None where there is no room for it."""
    widths = [
        max(*(len(_cell(row.get(name))) for row in rows), *map(len, name.split())) for name in names
    ]
    left = console.width - sum(widths) - _COLUMN_GAP * len(widths)
    if left < 0:
        return [None] * len(names)
    for number, name in enumerate(names):
        more = min(max(len(name) - widths[number], 0), left)
        widths[number] += more
        left -= more
    return list(widths)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def duration(seconds: float) -> str:
    """Seconds in words for people: 42 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class ProgressReport:
    """Tells what runs, how many of how many tasks, and the time left.

    On a terminal it is one live line; elsewhere it is one line per finished task. The number of
    tasks is the plan's estimate and the time left follows from the pace so far.

    Parameters
    ----------
    plan
        The plan of the study.
    together
        How many tasks run side by side.
    """

    def __init__(self, plan: "StudyPlan", together: int = 1) -> None:
        self._n_planned = plan.n_tasks
        self._seconds_planned = plan.seconds / together
        self._together = together
        self._n_done = 0
        self._n_computed = 0
        self._seconds_computed = 0.0
        self._starts: dict[str, float] = {}
        self._progress: Progress | None = None
        self._bar: Any = None

    @contextmanager
    def shown(self) -> Iterator["ProgressReport"]:
        """Show the live line while the block runs, if the output is a terminal."""
        if not console.is_terminal:
            yield self
            return
        columns = (
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f} of about {task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=console, transient=True) as self._progress:
            self._bar = self._progress.add_task("starting", total=self._n_planned, left="")
            yield self
        self._progress = None

    def task_started(self, name: str) -> None:
        """Show the task that starts."""
        self._starts[name] = perf_counter()
        self._name = name
        n_others = len(self._starts) - 1
        self._describe(f"{name}, and {n_others} more" if n_others else name)

    def task_step(self, message: str) -> None:
        """Show the step that the running task is at."""
        self._describe(f"{self._name}: {message}")

    def task_finished(self, name: str, *, stored: bool) -> None:
        """Count a task that ended or was stored before."""
        self._n_done += 1
        taken = 0.0 if stored else perf_counter() - self._starts.pop(name, perf_counter())
        if not stored:
            self._n_computed += 1
            self._seconds_computed += taken / self._together
        if self._progress is not None:
            total = max(self._n_planned, self._n_done)
            self._progress.update(
                self._bar, completed=self._n_done, total=total, left=self._time_left()
            )
        elif not stored:
            console.print(
                f"\\[{self._n_done} of about {max(self._n_planned, self._n_done)}] {name}: "
                f"{taken:.1f} s{self._time_left(', ')}",
                soft_wrap=True,
            )
            sys.stdout.flush()

    def task_held(self, name: str, holder: str) -> None:
        """Say who else computes a task."""
        text = f"{name}: left to {holder}, which computes it for the same store"
        place = console if self._progress is None else self._progress.console
        place.print(text, soft_wrap=True, markup=False, highlight=False)
        self._describe("waiting for another run")
        sys.stdout.flush()

    def _describe(self, text: str) -> None:
        if self._progress is not None:
            self._progress.update(self._bar, description=text)

    def _time_left(self, before: str = "") -> str:
        """Tasks left times the mean time of a task, from the plan until some were computed."""
        n_left = max(self._n_planned - self._n_done, 0)
        planned = self._seconds_planned / max(self._n_planned, 1)
        # The plan weighs as much as five tasks, so that the first ones do not decide alone.
        mean = (self._seconds_computed + 5 * planned) / (self._n_computed + 5)
        return f"{before}about {duration(n_left * mean)} left" if n_left else ""
