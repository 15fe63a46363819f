"""What long work tells about itself, and where it can be stopped."""

from collections.abc import Callable
from contextvars import ContextVar

from .interruption import stop_if_asked

#: Receives one line about the step a running task is at.
StepListener = Callable[[str], None]

_listener: ContextVar[StepListener | None] = ContextVar("step_listener", default=None)


def listen(listener: StepListener | None) -> None:
    """Send the steps of running tasks to `listener` (None: nowhere)."""
    _listener.set(listener)


def report_step(message: str) -> None:
    """Tell where the running task is, e.g. "step 12, largest force 0.21 eV/Å".

    Tasks call it between evaluations, when the last one is on disk.

    Raises
    ------
    Interrupted
        If the run was asked to stop.
    """
    listener = _listener.get()
    if listener is not None:
        listener(message)
    stop_if_asked()
