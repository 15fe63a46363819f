"""Backends: where energies and forces come from, and what each of them can do."""

import importlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from ..analysis.level_of_theory import LevelOfTheory
from .common_evaluation import shared
from .evaluation import Evaluation


class Capability(StrEnum):
    """What a study can ask of a backend.

    ``batches`` says that many structures in one call cost less than one by one, as on a GPU.
    """

    RELAX = "relax"
    STATIC = "static"
    STRESS = "stress"
    NEB = "neb"
    BONDING = "bonding"
    MAGMOMS = "magmoms"
    BATCHES = "batches"


class BackendError(RuntimeError):
    """A backend cannot be had, or cannot do what is asked of it."""


class BackendSpec(BaseModel):
    """Which backend a study uses, as written in the study file.

    Attributes
    ----------
    name
        ``emulator``, ``gpaw``, or ``ase`` for an installed ASE calculator.
    calculator
        For ``ase``: "module:Class" of an installed subclass of ASE's Calculator, or
        "atomate2:NAME" of a force field that atomate2 knows.
    kwargs
        For ``ase``: keyword arguments of the class. For ``emulator`` and ``gpaw``: its settings,
        see :class:`lrlo.workflows.emulator.EmulatorSettings` and
        :class:`lrlo.workflows.gpaw_backend.GpawBackendSettings`.
    version
        Model and version, filled in by :func:`versioned` when a study starts: part of the key of
        every task, so that results of another version are not taken for this one's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "emulator"
    calculator: str | None = None
    kwargs: dict[str, Any] = {}
    version: str = ""


class Backend(Protocol):
    """Energies and forces of many structures at once."""

    @property
    def level_of_theory(self) -> LevelOfTheory:
        """Label of the numbers that come out."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the backend can do."""

    def evaluate(
        self, structures: Sequence[Atoms], *, stress: bool = False, magmoms: bool = False
    ) -> list[Evaluation]:
        """Evaluate structures; computes only what is asked for.

        Raises
        ------
        BackendError
            If a structure has no finite energy and forces.
        """


_Settings = TypeVar("_Settings", bound=BaseModel)

AVAILABLE = ("emulator", "ase", "gpaw")
PLANNED = ("vasp",)


def checked_settings(
    model: type[_Settings], values: Mapping[str, Any], what: str, place: str
) -> _Settings:
    """Settings of a backend or another program, from what a study file says.

    Parameters
    ----------
    model
        Model of the settings.
    values
        What the study says.
    what, place
        What the settings are of, and where they stand in the study file: for the message.

    Raises
    ------
    BackendError
        Naming every setting that is unknown or out of range, and those that there are.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join([place, *map(str, problem['loc'])])}: "
            + str(problem["msg"]).removeprefix("Value error, ")
            for problem in error.errors()
        )
        raise BackendError(
            f"{what}: {problems} (settings: {', '.join(model.model_fields)})"
        ) from error


def load_backend(spec: BackendSpec) -> Backend:
    """The backend that a specification names, loaded once per process.

    Its calls meet those of the tasks that run beside this one, if any do
    (:mod:`lrlo.workflows.common_evaluation`).

    Raises
    ------
    BackendError
        If there is no such backend, or its calculator cannot be imported.
    """
    return shared(_load(spec.model_dump_json(exclude={"version"})))


def versioned(spec: BackendSpec) -> BackendSpec:
    """Specification with the model and version that it means on this machine."""
    return spec.model_copy(update={"version": str(load_backend(spec).level_of_theory)})


@lru_cache(maxsize=4)
def _load(specification: str) -> Backend:
    spec = BackendSpec.model_validate_json(specification)
    if spec.name == "emulator":
        from .emulator import Emulator

        return Emulator(spec.kwargs)
    if spec.name == "ase":
        if spec.calculator is None:
            raise BackendError("backend 'ase' needs calculator: 'module:Class'")
        return AseBackend(spec.calculator, spec.kwargs)
    if spec.name == "gpaw":
        from .gpaw_backend import GpawBackend

        return GpawBackend(spec.kwargs)
    known = ", ".join(AVAILABLE)
    hint = " (planned, not in this version)" if spec.name in PLANNED else ""
    raise BackendError(f"unknown backend {spec.name!r}{hint}; allowed: {known}")


class AseBackend:
    """Any installed ASE calculator, one structure after the other.

    Raises
    ------
    BackendError
        If the class cannot be imported or is no ASE calculator.
    """

    capabilities = frozenset(
        {Capability.RELAX, Capability.STATIC, Capability.STRESS, Capability.NEB}
    )

    def __init__(self, calculator: str, kwargs: dict[str, Any]) -> None:
        self._calculator = _ase_calculator(calculator, kwargs)
        package = type(self._calculator).__module__.split(".")[0]
        version = getattr(importlib.import_module(package), "__version__", "")
        self.level_of_theory = LevelOfTheory(backend="ase", model=calculator, version=version)

    def evaluate(
        self, structures: Sequence[Atoms], *, stress: bool = False, magmoms: bool = False
    ) -> list[Evaluation]:
        """See :meth:`Backend.evaluate`."""
        wanted = ["energy", "forces", *(["stress"] if stress else [])]
        results = []
        for atoms in structures:
            self._calculator.calculate(atoms, wanted, all_changes)
            values = self._calculator.results
            moments = values.get("magmoms") if magmoms else None
            results.append(
                Evaluation(
                    energy=float(values["energy"]),
                    forces=np.array(values["forces"], dtype=float),
                    stress=_voigt(values["stress"]) if stress else None,
                    magmoms=None if moments is None else np.array(moments),
                )
            )
        check_finite(results)
        return results


def _ase_calculator(name: str, kwargs: dict[str, Any]) -> Calculator:
    """Calculator of an importable class, or of a force field that atomate2 knows by name."""
    module_name, _, class_name = name.partition(":")
    if module_name == "atomate2":
        return _force_field(class_name, kwargs)
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BackendError(
            f"calculator {name!r} cannot be imported ({error}); write 'module:Class' "
            "of an installed ASE calculator, such as 'ase.calculators.lj:LennardJones', or "
            "'atomate2:NAME' of a force field, such as 'atomate2:MACE'"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Calculator)):
        raise BackendError(f"{name!r} is not an ASE calculator class")
    return cls(**kwargs)


def _force_field(name: str, kwargs: dict[str, Any]) -> Calculator:
    """Calculator of one of atomate2's force fields."""
    try:
        from atomate2.forcefields import MLFF
        from atomate2.forcefields.utils import ase_calculator
    except ImportError as error:
        raise BackendError(
            f"'atomate2:{name}' needs atomate2 ({error}); pip install atomate2"
        ) from error
    known = {field.value for field in MLFF}
    if name not in known:
        raise BackendError(
            f"atomate2 knows no force field {name!r}; allowed: {', '.join(sorted(known))}"
        )
    try:
        calculator = ase_calculator(name, **kwargs)
    except ImportError as error:
        raise BackendError(
            f"the force field {name!r} needs a package of its own: {error}"
        ) from error
    if calculator is None:
        raise BackendError(f"atomate2 makes no calculator of the force field {name!r}")
    return calculator


def _voigt(stress: ArrayLike) -> NDArray[np.float64]:
    """Stress in Voigt order; some calculators give the whole tensor."""
    values = np.array(stress, dtype=float)
    return full_3x3_to_voigt_6_stress(values) if values.shape == (3, 3) else values


def check_finite(evaluations: Sequence[Evaluation]) -> None:
    """Refuse energies, forces or stresses that are not numbers.

    Raises
    ------
    BackendError
        If one is not finite.
    """
    for index, evaluation in enumerate(evaluations):
        if not (np.isfinite(evaluation.energy) and np.isfinite(evaluation.forces).all()):
            raise BackendError(
                f"structure {index + 1} of {len(evaluations)} has energy {evaluation.energy} and "
                f"{np.count_nonzero(~np.isfinite(evaluation.forces))} forces that are not finite"
            )
        if evaluation.stress is not None and not np.isfinite(evaluation.stress).all():
            raise BackendError(
                f"structure {index + 1} of {len(evaluations)} has a stress that is not finite"
            )


class BackendCalculator(Calculator):
    """ASE calculator over a backend, for ASE's optimisers."""

    implemented_properties = ["energy", "forces", "stress", "magmoms"]

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self._backend = backend
        self.n_evaluations = 0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate one structure; stress and moments only when asked for."""
        super().calculate(atoms, properties, system_changes)
        result = self._backend.evaluate(
            [self.atoms], stress="stress" in properties, magmoms="magmoms" in properties
        )[0]
        self.n_evaluations += 1
        self.results = {"energy": result.energy, "forces": result.forces}
        if result.stress is not None:
            self.results["stress"] = result.stress
        if result.magmoms is not None:
            self.results["magmoms"] = result.magmoms
