"""The emulator backend: CHGNet, a cheap ML potential whose weights come with its package."""

from collections.abc import Sequence
from importlib.metadata import version

import torch
from ase import Atoms

from ..analysis.level_of_theory import LevelOfTheory
from .backend import Capability, check_finite
from .evaluation import Evaluation
from .fast_chgnet import FastCHGNet


class Emulator:
    """CHGNet 0.3.0 (Deng et al., Nature Machine Intelligence 5, 1031 (2023)).

    Trained on PBE+U relaxations of the Materials Project. It underestimates barriers in this
    chemistry (about 0.1 eV on Li hops), which its level of theory says.
    """

    capabilities = frozenset(
        {
            *(Capability.RELAX, Capability.STATIC, Capability.STRESS),
            *(Capability.NEB, Capability.MAGMOMS),
            Capability.BONDING,  # by GFN1-xTB, see tight_binding.py
        }
    )

    def __init__(self) -> None:
        self._n_threads = torch.get_num_threads()
        self._model = FastCHGNet("0.3.0")
        self.level_of_theory = LevelOfTheory(
            backend="emulator",
            model="CHGNet 0.3.0",
            version=f"(chgnet {version('chgnet')})",
            note="ML potential; barriers of Li hops come out about 0.1 eV low",
        )

    def evaluate(
        self, structures: Sequence[Atoms], *, stress: bool = False, magmoms: bool = False
    ) -> list[Evaluation]:
        """See :meth:`Backend.evaluate`."""
        # One structure gains nothing from a second thread (47 to 170 atoms: 0 to 5 % on a free
        # machine) and waits for it on a busy one; the images of a band gain 15 to 20 %.
        torch.set_num_threads(self._n_threads if len(structures) > 2 else 1)
        results = self._model.evaluate(structures, stress=stress, magmoms=magmoms)
        check_finite(results)
        return results
