"""How GPAW is run: functional and U, basis, k points, mixers, ranks, and what that costs."""

import os
import shlex
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pymatgen.core import Element, Structure

from ..structures.occupation import is_transition_metal
from .bonding_source import CostEstimate

#: U of d shells for PBE, eV: fitted to formation energies of oxides (Wang, Maxisch, Ceder, Phys.
#: Rev. B 73, 195107 (2006); Jain et al., Phys. Rev. B 84, 045115 (2011)).
HUBBARD_U: Mapping[str, float] = MappingProxyType(
    {
        **{"Co": 3.32, "Cr": 3.7, "Fe": 5.3, "Mn": 3.9},
        **{"Mo": 4.38, "Ni": 6.2, "V": 3.25, "W": 6.2},
    }
)
#: U by functional where none is given. Formation energies by r2SCAN are compared without U
#: (Kingsbury et al., Phys. Rev. Materials 6, 013801 (2022)).
DEFAULT_U: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {"PBE": HUBBARD_U, "r2SCAN": MappingProxyType({})}
)
#: Functionals as GPAW names them.
FUNCTIONALS: Mapping[str, str] = MappingProxyType(
    {"PBE": "PBE", "r2SCAN": "MGGA_X_R2SCAN+MGGA_C_R2SCAN"}
)
#: Those that it has for atomic orbitals.
LCAO_FUNCTIONALS = ("PBE",)
#: Command that starts GPAW's processes where the settings name none, such as ``srun -n 64``: it
#: belongs to the machine, not to the study.
LAUNCHER_VARIABLE = "LRLO_GPAW_LAUNCHER"

#: Measured on one core: seconds per iteration, per Å^3 of cell and per k point of 152 orbitals,
#: and how the latter grows; iterations of a typical cycle.
_SECONDS_PER_VOLUME, _SECONDS_PER_K, _GROWTH, _ITERATIONS = 0.005, 0.45, 2.5, 50


class GpawRung(BaseModel):
    """One try of the self-consistent cycle.

    Attributes
    ----------
    mixing
        Share of the new density.
    history
        Earlier densities that the mixer uses.
    smearing
        Width of the Fermi-Dirac occupations, eV.
    max_iterations
        Iterations after which the next rung is tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mixing: float = Field(default=0.05, gt=0, le=1)
    history: int = Field(default=5, ge=1)
    smearing: float = Field(default=0.05, gt=0)
    max_iterations: int = Field(default=150, ge=1)

    def __str__(self) -> str:
        return f"mixing {self.mixing:g} of {self.history}, smearing {self.smearing:g} eV"


#: Tried one after the other until one converges: less mixing, then more smearing.
GPAW_LADDER = (
    GpawRung(),
    GpawRung(mixing=0.02, history=8, max_iterations=300),
    GpawRung(mixing=0.02, history=3, smearing=0.1, max_iterations=300),
    GpawRung(mixing=0.02, history=3, smearing=0.2, max_iterations=300),
)
#: Less mixing only: energies at different smearing cannot be compared.
ENERGY_LADDER = (
    GpawRung(),
    GpawRung(mixing=0.02, history=8, max_iterations=300),
    GpawRung(mixing=0.01, history=3, max_iterations=600),
)


class GpawSettings(BaseModel):
    """How GPAW is run.

    Attributes
    ----------
    functional
        ``PBE`` or ``r2SCAN``; the latter with plane waves only.
    hubbard_u
        U of d shells by element, eV; by default that of :data:`DEFAULT_U`. ``{}`` is without U.
    basis
        Of LCAO: ``dzp`` (double zeta, polarised), ``szp`` or ``sz``, all compact.
    k_density
        k points per 1/Å in every direction, gamma included.
    k_mesh
        k points in every direction instead.
    grid_spacing
        Spacing of the real-space grid of LCAO, Å.
    ladder
        Settings of the self-consistent cycle, tried in order.
    n_ranks
        MPI processes.
    launcher
        Command that starts them, followed by their number. Where the variable
        ``LRLO_GPAW_LAUNCHER`` holds a whole command (``srun -n 64``), that is used, and both are
        for estimates only.
    basis_folder
        Where generated bases are kept; the user's cache folder if not given.
    max_seconds, max_gigabytes
        Estimated time and memory above which a structure is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    functional: Literal["PBE", "r2SCAN"] = "PBE"
    hubbard_u: dict[str, float] | None = None
    basis: Literal["sz", "szp", "dzp"] = "dzp"
    k_density: float = Field(default=1.2, gt=0)
    k_mesh: tuple[int, int, int] | None = None
    grid_spacing: float = Field(default=0.2, gt=0.05, le=0.4)
    ladder: tuple[GpawRung, ...] = Field(default=GPAW_LADDER, min_length=1)
    n_ranks: int = Field(default=1, ge=1)
    launcher: tuple[str, ...] = ("mpiexec", "-n")
    basis_folder: Path | None = None
    max_seconds: float = Field(default=6 * 3600.0, gt=0)
    max_gigabytes: float = Field(default=16.0, gt=0)

    @model_validator(mode="after")
    def _functional_is_there(self) -> Self:
        if self.in_atomic_orbitals and self.functional not in LCAO_FUNCTIONALS:
            raise ValueError(
                f"functional {self.functional} needs plane waves: GPAW has no kinetic-energy "
                f"density of atomic orbitals; allowed here: {', '.join(LCAO_FUNCTIONALS)}"
            )
        return self

    @model_validator(mode="after")
    def _u_belongs_to_transition_metals(self) -> Self:
        wrong = [e for e in self.hubbard_u or {} if not _is_known_metal(e)]
        if wrong:
            raise ValueError(f"hubbard_u: {', '.join(wrong)} has no d shell to put U on")
        return self

    @property
    def in_atomic_orbitals(self) -> bool:
        """Whether the states are expanded in atomic orbitals."""
        return True

    @property
    def u_values(self) -> Mapping[str, float]:
        """U of d shells by element, eV."""
        return DEFAULT_U[self.functional] if self.hubbard_u is None else self.hubbard_u

    @property
    def functional_label(self) -> str:
        """Functional with "+U" where there is one."""
        return self.functional + ("+U" if self.u_values else "")

    @property
    def launch_command(self) -> list[str]:
        """What stands before the command of the worker; empty for a single process."""
        whole = os.environ.get(LAUNCHER_VARIABLE)
        if whole:
            return shlex.split(whole)
        return [] if self.n_ranks == 1 else [*self.launcher, str(self.n_ranks)]

    @property
    def bases(self) -> Path:
        """Folder of the generated bases."""
        if self.basis_folder is not None:
            return self.basis_folder
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return Path(base) / "lrlo" / f"gpaw-bases-{metadata.version('gpaw')}"

    def mesh_of(self, cell: NDArray[np.float64]) -> tuple[int, int, int]:
        """Number of k points in every direction of a cell with vectors in rows, Å."""
        if self.k_mesh is not None:
            return self.k_mesh
        reciprocal = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell), axis=0)
        a, b, c = (max(1, int(np.ceil(self.k_density * k - 1e-6))) for k in reciprocal)
        return a, b, c


def lcao_cost(structure: Structure, settings: GpawSettings) -> CostEstimate:
    """Time on the ranks asked for, and memory over all of them, from measured rates."""
    n_orbitals = sum(_n_orbitals(site.specie.symbol, settings.basis) for site in structure)
    n_k = irreducible_k_points(settings.mesh_of(structure.lattice.matrix))
    per_k = _SECONDS_PER_K * (n_orbitals / 152) ** _GROWTH
    per_iteration = _SECONDS_PER_VOLUME * structure.volume + per_k * n_k
    grid = structure.volume / settings.grid_spacing**3
    return CostEstimate(
        n_orbitals=n_orbitals,
        seconds=30 + _ITERATIONS * per_iteration / settings.n_ranks,
        gigabytes=0.4 * settings.n_ranks
        + (12 * 2 * n_k * n_orbitals**2 * 16 + 200 * grid * 8) / 1e9,
    )


def irreducible_k_points(mesh: tuple[int, int, int]) -> int:
    """Number of k points of a mesh through gamma that time reversal leaves.

    Examples
    --------
    >>> irreducible_k_points((2, 2, 2)), irreducible_k_points((3, 3, 1))
    (8, 5)
    """
    # k and -k are one; in an even mesh 0 and 1/2 are their own partners.
    return (int(np.prod(mesh)) + int(np.prod([2 - n % 2 for n in mesh]))) // 2


def _n_orbitals(symbol: str, basis: str) -> int:
    """Basis functions of an element: s, p of the valence, d of a TM with its 3s3p semicore."""
    if is_transition_metal(symbol):
        single, polarisation = 2 + 3 + 5, 7
    elif Element(symbol).group > 12:
        single, polarisation = 1 + 3, 5
    else:
        single, polarisation = 1, 3
    zetas = 2 if basis.startswith("d") else 1
    return zetas * single + (polarisation if basis.endswith("p") else 0)


def _is_known_metal(symbol: str) -> bool:
    return Element.is_valid_symbol(symbol) and Element(symbol).is_transition_metal
