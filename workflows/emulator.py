"""The emulator backend: CHGNet, a cheap ML potential whose weights come with its package."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Literal

from ase import Atoms
from pydantic import BaseModel, ConfigDict

from ..analysis.level_of_theory import LevelOfTheory
from .backend import Capability, check_finite, checked_settings
from .evaluation import Evaluation
from .fast_chgnet import FastCHGNet

_CAPABILITIES = frozenset(
    {
        *(Capability.RELAX, Capability.STATIC, Capability.STRESS),
        *(Capability.NEB, Capability.MAGMOMS),
        Capability.BONDING,  # by GFN1-xTB, see tight_binding.py
    }
)


class EmulatorSettings(BaseModel):
    """Which of CHGNet's models is used.

    Attributes
    ----------
    model
        ``0.3.0``, trained on PBE+U relaxations of the Materials Project, or ``r2scan``, the same
        fine-tuned on r2SCAN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["0.3.0", "r2scan"] = "0.3.0"


class Emulator:
    """CHGNet (Deng et al., Nature Machine Intelligence 5, 1031 (2023)).

    It underestimates barriers in this chemistry (about 0.1 eV on Li hops), which its level of
    theory says.

    Parameters
    ----------
    kwargs
        See :class:`EmulatorSettings`.

    Raises
    ------
    BackendError
        If a setting is unknown.
    """

    def __init__(self, kwargs: Mapping[str, Any] = MappingProxyType({})) -> None:
        place = "backend.kwargs"
        settings = checked_settings(EmulatorSettings, kwargs, "backend emulator", place)
        self._model = FastCHGNet(settings.model)
        self.capabilities = _CAPABILITIES
        if self._model.device.type != "cpu":
            self.capabilities |= {Capability.BATCHES}
        self.level_of_theory = LevelOfTheory(
            backend="emulator",
            model=self._model.version,
            version=f"(chgnet {version('chgnet')})",
            note="ML potential; barriers of Li hops come out about 0.1 eV low",
        )

    def evaluate(
        self, structures: Sequence[Atoms], *, stress: bool = False, magmoms: bool = False
    ) -> list[Evaluation]:
        """See :meth:`Backend.evaluate`."""
        results = self._model.evaluate(structures, stress=stress, magmoms=magmoms)
        check_finite(results)
        return results
