"""Populations of orbitals: PDOS, COHP, COOP and their integrals, from H, S and eigenstates."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

SHELL_LETTERS = "spdfg"
#: Largest relative error of a sum rule.
SUM_RULE_TOLERANCE = 1e-6
#: States this little above the upper end of a window still belong to it, eV.
_EDGE = 1e-8


@dataclass(frozen=True)
class Orbital:
    """Label of one basis function, a real spherical harmonic on an atom.

    Attributes
    ----------
    atom
        Index of the atom.
    n, l
        Principal quantum number and angular momentum.
    m
        Real harmonic in the order -l … l: p is (y, z, x), d is (xy, yz, z2, xz, x2-y2).
    zeta
        Which of several radial functions of the shell, from 1.
    """

    atom: int
    n: int
    l: int  # noqa: E741  # the field's standard symbol
    m: int
    zeta: int = 1

    @property
    def shell(self) -> str:
        """Shell in the usual notation, such as 3d."""
        return f"{self.n}{SHELL_LETTERS[self.l]}"


class Operator(StrEnum):
    """What a crystal orbital population is weighted by."""

    HAMILTONIAN = "hamiltonian"
    OVERLAP = "overlap"


@dataclass(frozen=True)
class ElectronicStates:
    """Eigenstates in a basis of atomic orbitals, with the matrices that they solve.

    Attributes
    ----------
    energies
        Orbital energies, shape (n_spin, n_k, n_band), eV.
    coefficients
        Eigenvectors as columns, normalised by C^H S C = 1, shape (n_spin, n_k, n_orbital, n_band).
    hamiltonian
        Shape (n_spin, n_k, n_orbital, n_orbital), eV.
    overlap
        Shape (n_k, n_orbital, n_orbital).
    k_points
        Fractional k points, shape (n_k, 3).
    k_weights
        Weights of the k points, shape (n_k,), sum 1.
    occupations
        Electrons in every state, shape (n_spin, n_k, n_band); at most 2 / n_spin.
    orbitals
        Label of every basis function, length n_orbital.
    n_electrons
        Electrons that the cell holds, counted from its atoms and not from `occupations`.

    Raises
    ------
    ValueError
        If shapes do not fit together, the k weights do not add up to one, or no state is occupied.
    """

    energies: NDArray[np.float64]
    coefficients: NDArray
    hamiltonian: NDArray
    overlap: NDArray
    k_points: NDArray[np.float64]
    k_weights: NDArray[np.float64]
    occupations: NDArray[np.float64]
    orbitals: tuple[Orbital, ...]
    n_electrons: float

    def __post_init__(self) -> None:
        n_spin, n_k, n_band = self.energies.shape
        n = len(self.orbitals)
        expected = {
            "coefficients": (n_spin, n_k, n, n_band),
            "hamiltonian": (n_spin, n_k, n, n),
            "overlap": (n_k, n, n),
            "k_points": (n_k, 3),
            "k_weights": (n_k,),
            "occupations": (n_spin, n_k, n_band),
        }
        for name, shape in expected.items():
            found = np.shape(getattr(self, name))
            if found != shape:
                raise ValueError(f"{name} has shape {found}, which must be {shape}")
        if abs(self.k_weights.sum() - 1) > 1e-8:
            raise ValueError(f"the k weights add up to {self.k_weights.sum():.8f} instead of 1")
        if not self._filled.any():
            raise ValueError("no state is occupied")

    @property
    def capacity(self) -> float:
        """Electrons that one state can hold."""
        return 2.0 / len(self.energies)

    @property
    def _filled(self) -> NDArray[np.bool_]:
        return self.occupations >= self.capacity / 2

    @property
    def valence_band_maximum(self) -> float:
        """Energy of the highest state that is at least half full, over all spins and k, eV."""
        return float(self.energies[self._filled].max())

    @property
    def gap(self) -> float | None:
        """Lowest energy of a state less than half full, minus the valence-band maximum, eV.

        Negative where the spins overlap, as they may at a fixed total moment; None if the basis
        has no empty state.
        """
        empty = self.energies[~self._filled]
        return float(empty.min()) - self.valence_band_maximum if empty.size else None

    def select(
        self, atoms: Sequence[int] | int, shells: Sequence[str] | str | None = None
    ) -> NDArray[np.int64]:
        """Indices of the orbitals on some atoms, of some shells (such as 2p; None: all)."""
        wanted = {atoms} if isinstance(atoms, int) else set(atoms)
        names = {shells} if isinstance(shells, str) else shells
        return np.array(
            [
                index
                for index, orbital in enumerate(self.orbitals)
                if orbital.atom in wanted and (names is None or orbital.shell in names)
            ],
            dtype=np.int64,
        )

    def matrices(self, operator: Operator) -> NDArray:
        """Matrix elements of an operator, shape (n_spin, n_k, n_orbital, n_orbital)."""
        if operator is Operator.HAMILTONIAN:
            return self.hamiltonian
        return np.broadcast_to(self.overlap, self.hamiltonian.shape)

    def total(self, weights: NDArray[np.float64]) -> float:
        """Sum over occupied states of a weight per state, shape (n_spin, n_k, n_band)."""
        return float(np.einsum("skn,skn,k", weights, self.occupations, self.k_weights))

    def states_between(self, weights: NDArray[np.float64], low: float, high: float) -> float:
        """Sum of a weight over the states from `low` to `high` (eV), each with its capacity."""
        inside = (self.energies >= low) & (self.energies <= high + _EDGE)
        return float(np.einsum("skn,skn,k", weights, inside, self.k_weights) * self.capacity)

    def curve(
        self, weights: NDArray[np.float64], grid: NDArray[np.float64], width: float
    ) -> NDArray[np.float64]:
        """Weight per energy on a grid, each state a Gaussian, spins and k summed.

        Parameters
        ----------
        weights
            Weight of every state, shape (n_spin, n_k, n_band).
        grid
            Energies, eV, shape (n_grid,).
        width
            Standard deviation of the Gaussian, eV.

        Returns
        -------
        curve
            Shape (n_grid,), unit of the weight per eV.
        """
        amounts = (weights * self.k_weights[None, :, None] * self.capacity).ravel()
        offsets = (grid[:, None] - self.energies.ravel()) / width
        return np.exp(-0.5 * offsets**2) @ amounts / (width * np.sqrt(2 * np.pi))


def gross_populations(states: ElectronicStates) -> NDArray[np.float64]:
    """Share of every orbital in every state (Mulliken), the weights of the PDOS.

    Re[C*_mu (S C)_mu]; the shares of a state add up to one. J. Chem. Phys. 23, 1833 (1955).

    Returns
    -------
    populations
        Shape (n_spin, n_k, n_orbital, n_band).
    """
    return (states.coefficients.conj() * (states.overlap @ states.coefficients)).real


def directed_populations(
    states: ElectronicStates, orbitals: Sequence[int], directions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Gross population of the p orbitals that point along some directions, in every state.

    Parameters
    ----------
    states
        States to analyse.
    orbitals
        p orbitals of one atom, one or more sets of (y, z, x).
    directions
        Orthonormal Cartesian directions, shape (n_directions, 3).

    Returns
    -------
    populations
        Sum over the directions, shape (n_spin, n_k, n_band).
    """
    labels = [states.orbitals[index] for index in orbitals]
    coefficients = states.coefficients[:, :, orbitals]
    duals = (states.overlap @ states.coefficients)[:, :, orbitals]
    total = np.zeros(states.energies.shape)
    for zeta in {label.zeta for label in labels}:
        # Component of a Cartesian vector that the harmonic m = -1, 0, 1 stands for: y, z, x.
        components = np.array(
            [
                directions[:, (1, 2, 0)[label.m + 1]]
                if label.zeta == zeta
                else np.zeros(len(directions))
                for label in labels
            ]
        ).T
        total += ((components @ coefficients).conj() * (components @ duals)).real.sum(axis=2)
    return total


def orbital_pair_weights(
    states: ElectronicStates, operator: Operator, left: Sequence[int], right: Sequence[int]
) -> NDArray[np.float64]:
    """Crystal orbital population between two different sets of orbitals, in every state.

    2 Re sum C*_mu O_mu,nu C_nu over mu in `left` and nu in `right`, all periodic images of the
    pair together. With the Hamiltonian it is the COHP (Dronskowski and Blöchl, J. Phys. Chem. 97,
    8617 (1993)), negative for bonding; with the overlap the COOP.

    Returns
    -------
    weights
        eV or electrons, shape (n_spin, n_k, n_band).
    """
    between = states.matrices(operator)[:, :, left][..., right]
    bra, ket = states.coefficients[:, :, left].conj(), states.coefficients[:, :, right]
    return 2 * (bra * (between @ ket)).real.sum(axis=2)


def integrated_populations(states: ElectronicStates, operator: Operator) -> NDArray[np.float64]:
    """Integral over the occupied states of every orbital pair's population, spins and k summed.

    Uses the occupations of the states, so that fractional ones count as they are.

    Returns
    -------
    populations
        Symmetric, shape (n_orbital, n_orbital): eV (ICOHP) or electrons (ICOOP). A pair of
        orbitals has the sum of its two elements, an orbital by itself the diagonal one; all
        elements add up to the band energy or to the number of electrons.
    """
    filled = states.coefficients * states.occupations[:, :, None]
    density = filled @ states.coefficients.conj().swapaxes(-1, -2)
    products = (states.matrices(operator) * density.conj()).real
    populations = np.einsum("skij,k->ij", products, states.k_weights)
    return (populations + populations.T) / 2


def atom_pair_sums(
    populations: NDArray[np.float64],
    orbitals: Sequence[Orbital],
    n_atoms: int,
    excluded: Sequence[int] = (),
) -> NDArray[np.float64]:
    """Populations of atom pairs from those of orbital pairs.

    Parameters
    ----------
    populations
        Result of :func:`integrated_populations`.
    orbitals
        Labels of the orbitals.
    n_atoms
        Number of atoms.
    excluded
        Orbitals that are left out.

    Returns
    -------
    pairs
        Shape (n_atoms, n_atoms), symmetric: a pair's whole population off the diagonal, the
        on-site one on it. Diagonal and upper triangle add up to all elements of `populations`.
    """
    on_atom = np.zeros((n_atoms, len(orbitals)))
    on_atom[[orbital.atom for orbital in orbitals], np.arange(len(orbitals))] = 1
    on_atom[:, list(excluded)] = 0
    sums = on_atom @ populations @ on_atom.T
    return sums + sums.T - np.diag(np.diag(sums))


class SumRules(BaseModel):
    """Whether the populations of all pairs account for all energy and all electrons.

    Attributes
    ----------
    band_energy
        Sum of the occupied orbital energies, eV.
    pair_energy
        Sum of the ICOHP over all pairs and on-site terms, eV; equals `band_energy`.
    n_electrons
        Electrons counted from the atoms.
    overlap_population
        Sum of the ICOOP over all pairs and on-site terms; equals `n_electrons`.
    tolerance
        Largest relative error that passes.
    """

    model_config = ConfigDict(frozen=True)

    band_energy: float
    pair_energy: float
    n_electrons: float
    overlap_population: float
    tolerance: float = SUM_RULE_TOLERANCE

    @property
    def energy_error(self) -> float:
        """Relative error of the band energy."""
        return abs(self.pair_energy - self.band_energy) / max(abs(self.band_energy), 1e-12)

    @property
    def electron_error(self) -> float:
        """Relative error of the number of electrons."""
        return abs(self.overlap_population - self.n_electrons) / max(self.n_electrons, 1e-12)

    @property
    def violations(self) -> list[str]:
        """What does not add up, in words; empty if all does."""
        found = []
        if not self.energy_error <= self.tolerance:
            found.append(
                f"pairs and on-site terms add up to {self.pair_energy:.6f} eV, not to the band "
                f"energy of {self.band_energy:.6f} eV (relative error {self.energy_error:.1e})"
            )
        if not self.electron_error <= self.tolerance:
            found.append(
                f"overlap populations add up to {self.overlap_population:.6f} electrons, the "
                f"atoms have {self.n_electrons:g} (relative error {self.electron_error:.1e})"
            )
        return found


def check_sum_rules(states: ElectronicStates) -> SumRules:
    """Compare the sums over all orbital pairs with band energy and electron count.

    The band energy is the sum of orbital energies and the electrons are counted from the atoms:
    neither is computed from the matrices, so wrong labels of spin or k, vectors that are not
    normalised, and matrices of another calculation all show.
    """
    return SumRules(
        band_energy=states.total(states.energies),
        pair_energy=float(integrated_populations(states, Operator.HAMILTONIAN).sum()),
        n_electrons=states.n_electrons,
        overlap_population=float(integrated_populations(states, Operator.OVERLAP).sum()),
    )
