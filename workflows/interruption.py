"""Stop a run when the scheduler asks for it, at a point where nothing is lost."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Exit code of a run that stopped because it was asked to and wants to be continued: EX_TEMPFAIL
#: of ``sysexits.h``, "the user is invited to retry".
EXIT_CONTINUE = 75
#: What schedulers send before they kill: SIGTERM at the end of the walltime, and SIGUSR1 ahead of
#: it where a warning was asked for (``sbatch --signal``, Grid Engine's ``s_rt``, ``bsub -wa``).
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

_asked_by: str | None = None


class Interrupted(BaseException):
    """The run was asked to stop; the message names the signal.

    No :class:`Exception`, so that nothing takes it for a failure of the running task.
    """


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Take note of stop signals while the block runs, instead of dying of them.

    The signal only sets a mark: whatever is being written is written to its end, and
    :func:`stop_if_asked` raises at the next point where stopping is safe. Works in the main thread
    only, as Python's signals do.
    """
    global _asked_by
    _asked_by = None
    before = {number: signal.signal(number, _note) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked_by = None


def ask_to_stop(by: str) -> None:
    """Ask this process to stop at the next safe point, as a stop signal does.

    Parameters
    ----------
    by
        Who asks: the message of :class:`Interrupted`.
    """
    global _asked_by
    _asked_by = by


def stop_if_asked() -> None:
    """Raise if the process was asked to stop; called where nothing would be lost.

    Raises
    ------
    Interrupted
        If it was.
    """
    if _asked_by is not None:
        raise Interrupted(_asked_by)


def _note(number: int, frame: FrameType | None) -> None:
    ask_to_stop(signal.Signals(number).name)
