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

_received: signal.Signals | None = None


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
    global _received
    _received = None
    before = {number: signal.signal(number, _note) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received = None


def stop_if_asked() -> None:
    """Raise if a stop signal has come; called where nothing would be lost.

    Raises
    ------
    Interrupted
        If one has.
    """
    if _received is not None:
        raise Interrupted(_received.name)


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    _received = signal.Signals(number)
