"""Electronic states from GPAW: spin-polarised DFT+U in a basis of compact atomic orbitals."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from pymatgen.core import Structure

from ..analysis.bonding import BondingSolution
from ..analysis.bonding_documents import IcohpScale, ScfReport
from ..analysis.level_of_theory import LevelOfTheory
from ..analysis.orbital_populations import ElectronicStates, Orbital
from .bonding_source import CostEstimate, OrbitalSource
from .gpaw_process import require_gpaw, run_gpaw
from .gpaw_settings import GpawSettings, lcao_cost
from .relax import to_atoms


class GpawLcao(OrbitalSource):
    """GPAW in LCAO mode (Mortensen et al., J. Chem. Phys. 160, 092503 (2024)).

    Parameters
    ----------
    settings
        How it is run.

    Raises
    ------
    BackendError
        If GPAW is not installed; the message says how to get it.
    """

    def __init__(self, settings: GpawSettings | None = None) -> None:
        self.settings = settings or GpawSettings()
        self.level_of_theory = LevelOfTheory(
            backend="gpaw",
            model=f"{self.settings.functional_label}, LCAO {self.settings.basis}",
            version=f"(GPAW {require_gpaw()})",
            note="compact atomic orbitals; ICOHP depends on the basis",
        )

    def estimate(self, structure: Structure) -> CostEstimate:
        """Time on the ranks asked for, and memory over all of them, from measured rates."""
        return lcao_cost(structure, self.settings)

    def solve(
        self, structure: Structure, magmoms: Sequence[float] | None = None
    ) -> BondingSolution:
        """Electronic states of a structure.

        Parameters
        ----------
        structure
            Structure, periodic in all directions.
        magmoms
            Moments that the cycle starts from, Bohr magneton; typical ones if not given or all
            zero. The total moment is free.

        Raises
        ------
        TooLargeError
            Before anything runs, if the structure is above the limits.
        ScfError
            If no rung of the ladder converges; the message has the last iterations.
        BackendError
            If GPAW fails otherwise, for example for want of a PAW dataset.
        """
        limits = (self.settings.max_seconds, self.settings.max_gigabytes)
        self.estimate(structure).refuse_above(*limits, f"{len(structure)} atoms with GPAW")
        atoms = to_atoms(structure)
        atoms.set_initial_magnetic_moments(magmoms)
        given = magmoms is not None and any(magmoms)
        with run_gpaw(self.settings, {"name": "lcao"}, [atoms], ["states"]) as (outcome,):
            states = _states(structure, outcome.folder)
        return BondingSolution(
            states=states,
            scf=ScfReport(
                attempts=outcome.attempts,
                n_unpaired=None,
                moments_from="self-consistent, started from "
                + ("the moments given" if given else "typical moments"),
            ),
            icohp_scale=IcohpScale.DFT,
            level_of_theory=self.level_of_theory,
        )


def _states(structure: Structure, folder: Path) -> ElectronicStates:
    """States of the stored matrices; energies and occupations are GPAW's own."""
    stored = np.load(folder / "states.npz")
    functions = json.loads((folder / "orbitals.json").read_text())
    orbitals = tuple(
        orbital for atom, entries in enumerate(functions) for orbital in _orbitals(atom, entries)
    )
    phases = _phases(structure, stored["k_points"], orbitals)
    hamiltonian = phases.conj()[:, :, None] * stored["hamiltonian"] * phases[:, None]
    overlap = phases.conj()[:, :, None] * stored["overlap"] * phases[:, None]
    coefficients = np.array(
        [
            [scipy.linalg.eigh(h, s)[1] for h, s in zip(spin, overlap, strict=True)]
            for spin in hamiltonian
        ]
    )
    return ElectronicStates(
        energies=stored["energies"],
        coefficients=coefficients,
        hamiltonian=hamiltonian,
        overlap=overlap,
        k_points=stored["k_points"],
        k_weights=stored["k_weights"],
        occupations=stored["occupations"],
        orbitals=orbitals,
        n_electrons=float(stored["n_electrons"]),
    )


def _phases(
    structure: Structure, k_points: NDArray[np.float64], orbitals: Sequence[Orbital]
) -> NDArray[np.complex128]:
    """Phases that take Bloch sums from atoms wrapped into the cell, as GPAW has them, to ours."""
    shifts = np.floor(structure.frac_coords)[[orbital.atom for orbital in orbitals]]
    return np.exp(-2j * np.pi * k_points @ shifts.T)


def _orbitals(atom: int, functions: Sequence[dict[str, Any]]) -> list[Orbital]:
    """Labels of the basis functions of one atom, as GPAW describes them.

    A type such as "3d-dz split-valence wave" names its shell; a polarisation function has the
    lowest n of its l that is not below the valence.
    """
    named = [function["type"].split("-")[0] for function in functions]
    highest = max(int(name[0]) for name in named if name[0].isdigit())
    seen: Counter[tuple[int, int]] = Counter()
    labels = []
    for name, function in zip(named, functions, strict=True):
        momentum = function["l"]
        n = int(name[0]) if name[0].isdigit() else max(momentum + 1, highest)
        seen[n, momentum] += 1
        zeta = seen[n, momentum]
        labels += [Orbital(atom, n, momentum, m, zeta) for m in range(-momentum, momentum + 1)]
    return labels
