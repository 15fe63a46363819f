"""The GPAW backend: real DFT+U for relaxations, energies and bands, on a laptop or a cluster."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from ase import Atoms
from pydantic import Field, model_validator
from pymatgen.core import Element, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from ..analysis.level_of_theory import LevelOfTheory
from .backend import BackendError, Capability, check_finite, checked_settings
from .bonding_source import CostEstimate
from .evaluation import Evaluation
from .gpaw_process import require_gpaw, run_gpaw
from .gpaw_settings import (
    ENERGY_LADDER,
    GpawRung,
    GpawSettings,
    irreducible_k_points,
    lcao_cost,
)

#: Seconds per iteration, k point and spin on one core, per band and plane wave and per band squared
#: and plane wave: set so that Li2MnO3 (12 atoms, 500 eV, gamma: 30 s measured, 49 s estimated) and
#: MnO (2 atoms, 8 k points: 29 s, 40 s) are not underestimated.
_PER_BAND, _PER_BAND_SQUARED, _ITERATIONS = 3e-6, 1.2e-8, 30
_BOHR, _HARTREE = 0.529177, 27.2114  # Å, eV


class GpawBackendSettings(GpawSettings):
    """How GPAW gives energies and forces; see :class:`GpawSettings` for what is not listed.

    Attributes
    ----------
    mode
        ``pw`` (plane waves) or ``lcao`` (atomic orbitals: faster, forces less exact, no stress, so
        that the cell cannot be relaxed).
    basis
        Of LCAO: ``dzp`` or ``szp``; one function per shell has no usable forces.
    cutoff
        Kinetic energy of the plane waves, eV. The stress of MnO is 0.12 eV/Å^3 off at 500 eV
        (Pulay) and 0.006 off at 700; its forces agree at both.
    smearing
        Width of the Fermi-Dirac occupations, eV; of every rung of the ladder.
    """

    mode: Literal["pw", "lcao"] = "pw"
    basis: Literal["szp", "dzp"] = "dzp"
    cutoff: float = Field(default=700.0, ge=200, le=2000)
    k_density: float = Field(default=2.5, gt=0)
    smearing: float = Field(default=0.05, gt=0)
    ladder: tuple[GpawRung, ...] = Field(default=ENERGY_LADDER, min_length=1)

    @property
    def in_atomic_orbitals(self) -> bool:
        """Whether the states are expanded in atomic orbitals."""
        return self.mode == "lcao"

    @model_validator(mode="after")
    def _one_smearing(self) -> Self:
        for rung in self.ladder:
            if "smearing" in rung.model_fields_set and rung.smearing != self.smearing:
                raise ValueError(
                    f"ladder: smearing {rung.smearing:g} eV where it is {self.smearing:g} eV "
                    "elsewhere; energies at different smearing cannot be compared"
                )
        rungs = (rung.model_copy(update={"smearing": self.smearing}) for rung in self.ladder)
        object.__setattr__(self, "ladder", tuple(rungs))
        return self


class GpawBackend:
    """GPAW (Mortensen et al., J. Chem. Phys. 160, 092503 (2024)) for relaxations and bands.

    Parameters
    ----------
    kwargs
        Fields of :class:`GpawBackendSettings`.

    Raises
    ------
    BackendError
        If GPAW is not installed, or a setting is unknown or out of range.
    """

    def __init__(self, kwargs: Mapping[str, Any] | None = None) -> None:
        place = "backend.kwargs"
        settings = checked_settings(GpawBackendSettings, kwargs or {}, "backend gpaw", place)
        self.settings = settings
        self.capabilities = frozenset(
            {
                *(Capability.RELAX, Capability.STATIC, Capability.NEB, Capability.MAGMOMS),
                Capability.BONDING,  # in LCAO, see gpaw_lcao.py
                *([Capability.STRESS] if settings.mode == "pw" else []),
            }
        )
        basis = (
            f"plane waves {settings.cutoff:g} eV"
            if settings.mode == "pw"
            else f"LCAO {settings.basis}"
        )
        self.level_of_theory = LevelOfTheory(
            backend="gpaw",
            model=f"{settings.functional_label}, {basis}",
            version=f"(GPAW {require_gpaw()})",
        )

    def estimate(self, structure: Structure) -> CostEstimate:
        """Time on the ranks asked for and memory over all of them."""
        if self.settings.mode == "lcao":
            return lcao_cost(structure, self.settings)
        return plane_wave_cost(structure, self.settings)

    def evaluate(
        self, structures: Sequence[Atoms], *, stress: bool = False, magmoms: bool = False
    ) -> list[Evaluation]:
        """See :meth:`Backend.evaluate`; every structure starts from typical moments.

        Raises
        ------
        BackendError
            Before anything runs: if a structure is above the limits, or stress is asked for
            without plane waves. Afterwards: if GPAW fails or does not converge.
        """
        if stress and self.settings.mode == "lcao":
            raise BackendError(
                "the cell cannot be relaxed with GPAW in mode lcao, which has no stress; set "
                "backend.kwargs.mode to pw, or keep the cell fixed"
            )
        limits = (self.settings.max_seconds, self.settings.max_gigabytes)
        for atoms in structures:
            cost = self.estimate(AseAtomsAdaptor.get_structure(atoms))
            cost.refuse_above(*limits, f"{len(atoms)} atoms with GPAW")
        wanted = ["forces", *(["stress"] if stress else [])]
        mode: dict[str, Any] = {"name": "lcao"}
        if self.settings.mode == "pw":
            mode = {"name": "pw", "ecut": self.settings.cutoff}
        with run_gpaw(self.settings, mode, structures, wanted) as outcomes:
            results = [
                Evaluation(
                    energy=outcome.energy,
                    forces=np.array(outcome.forces),
                    stress=np.array(outcome.stress) if stress else None,
                    magmoms=np.array(outcome.magmoms) if magmoms else None,
                )
                for outcome in outcomes
            ]
        check_finite(results)
        return results


def plane_wave_cost(structure: Structure, settings: GpawBackendSettings) -> CostEstimate:
    """Time and memory of plane waves; right within a factor of two for the two cells measured."""
    n_bands = 10 + 0.6 * sum(_valence(site.specie.symbol) for site in structure)
    volume = structure.volume / _BOHR**3
    n_waves = volume * (2 * settings.cutoff / _HARTREE) ** 1.5 / (6 * np.pi**2)
    n_k = irreducible_k_points(settings.mesh_of(structure.lattice.matrix))
    work = _PER_BAND * n_bands * n_waves + _PER_BAND_SQUARED * n_bands**2 * n_waves
    return CostEstimate(
        n_orbitals=int(n_waves),
        seconds=20 + _ITERATIONS * 2 * n_k * work / settings.n_ranks,
        gigabytes=0.4 * settings.n_ranks + 4 * 2 * n_k * n_bands * n_waves * 16 / 1e9,
    )


def _valence(symbol: str) -> int:
    """Electrons of an element in GPAW's datasets, about: d metals carry their semicore."""
    element = Element(symbol)
    if element.is_transition_metal:
        return element.group + 8
    return element.group if element.group <= 2 else element.group - 10
