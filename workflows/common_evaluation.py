"""Tasks that run side by side have their structures evaluated in common, in one call."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Condition
from typing import TYPE_CHECKING

from ase import Atoms

from ..analysis.level_of_theory import LevelOfTheory
from .evaluation import Evaluation
from .interruption import Interrupted

if TYPE_CHECKING:
    from .backend import Backend, Capability


@dataclass(eq=False)
class _Request:
    """Structures that one task waits for."""

    backend: "Backend"
    structures: Sequence[Atoms]
    stress: bool
    magmoms: bool
    results: list[Evaluation] | None = None
    error: Exception | None = None

    @property
    def is_answered(self) -> bool:
        return self.results is not None or self.error is not None


@dataclass(eq=False)
class CommonEvaluation:
    """Meeting place of tasks in threads of their own.

    A call of a backend waits until every running task has asked for something; then all structures
    are evaluated in one call. How they are divided into calls depends on which tasks run at the
    same time, and with it the last digits of an ML potential.
    """

    _meeting: Condition = field(default_factory=Condition)
    _waiting: list[_Request] = field(default_factory=list)
    _n_running: int = 0
    _is_stopped: bool = False

    @contextmanager
    def task(self) -> Iterator[None]:
        """Take part, for as long as a task runs in this thread."""
        with self._meeting:
            self._n_running += 1
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)
            with self._meeting:
                self._n_running -= 1
                self._meeting.notify_all()

    def stop(self) -> None:
        """Let every task end at its next call of a backend."""
        with self._meeting:
            self._is_stopped = True
            self._meeting.notify_all()

    def evaluate(
        self, backend: "Backend", structures: Sequence[Atoms], stress: bool, magmoms: bool
    ) -> list[Evaluation]:
        """Evaluate structures of the task in this thread, with those of all others.

        Raises
        ------
        BackendError
            If one of these structures, not of another task's, cannot be evaluated.
        Interrupted
            If the tasks were stopped.
        """
        request = _Request(backend, structures, stress, magmoms)
        with self._meeting:
            self._waiting.append(request)
            self._meeting.wait_for(
                lambda: (
                    request.is_answered or self._is_stopped or len(self._waiting) == self._n_running
                )
            )
            if not request.is_answered:
                if self._is_stopped:
                    raise Interrupted("the end of the run")
                answer(self._waiting)
                self._waiting.clear()
                self._meeting.notify_all()
        if request.error is not None:
            raise request.error
        assert request.results is not None
        return request.results


def answer(requests: Sequence[_Request]) -> None:
    """Evaluate what several tasks ask for; one that fails alone fails alone."""
    kinds: dict[tuple[int, bool, bool], list[_Request]] = {}
    for request in requests:
        key = (id(request.backend), request.stress, request.magmoms)
        kinds.setdefault(key, []).append(request)
    for alike in kinds.values():
        first = alike[0]
        structures = [atoms for request in alike for atoms in request.structures]
        try:
            found = iter(
                first.backend.evaluate(structures, stress=first.stress, magmoms=first.magmoms)
            )
        except Exception as error:
            if len(alike) == 1:
                first.error = error
            else:
                for request in alike:
                    answer([request])
            continue
        for request in alike:
            request.results = [next(found) for _ in request.structures]


@dataclass(frozen=True)
class SharedBackend:
    """A backend whose calls meet those of other tasks."""

    backend: "Backend"
    common: CommonEvaluation

    @property
    def level_of_theory(self) -> LevelOfTheory:
        """See :attr:`Backend.level_of_theory`."""
        return self.backend.level_of_theory

    @property
    def capabilities(self) -> frozenset["Capability"]:
        """See :attr:`Backend.capabilities`."""
        return self.backend.capabilities

    def evaluate(
        self, structures: Sequence[Atoms], *, stress: bool = False, magmoms: bool = False
    ) -> list[Evaluation]:
        """See :meth:`Backend.evaluate`."""
        return self.common.evaluate(self.backend, structures, stress, magmoms)


_current: ContextVar[CommonEvaluation | None] = ContextVar("common_evaluation", default=None)


def shared(backend: "Backend") -> "Backend":
    """The backend as the task in this thread is to call it."""
    common = _current.get()
    return backend if common is None else SharedBackend(backend, common)
