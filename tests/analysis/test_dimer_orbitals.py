"""O-O pairs with levels set by hand: who is occupied, at which energy, in any frame."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from lrlo.analysis.dimer_orbitals import oxygen_dimers
from lrlo.analysis.orbital_populations import ElectronicStates, Orbital

SIGMA, PI, LEVEL = -3.0, -1.0, -8.0
LABELS = tuple(Orbital(atom, 2, 1, m) for atom in (0, 1) for m in (-1, 0, 1))


def pair_states(
    axis: np.ndarray, n_electrons: int, phase: complex = 1.0, k: float = 0.0
) -> ElectronicStates:
    """Orthogonal 2p orbitals of two O with σ and π hopping along an axis; closed shells."""
    order = [1, 2, 0]  # Cartesian component of m = -1, 0, 1
    u = axis[order]
    # The pair's difference p1 - p2 along the axis is bonding: positive hopping for p1 + p2.
    hopping = -SIGMA * np.outer(u, u) + PI * (np.eye(3) - np.outer(u, u))
    hamiltonian = LEVEL * np.eye(6, dtype=complex)
    hamiltonian[:3, 3:] = phase * hopping
    hamiltonian[3:, :3] = np.conj(phase) * hopping
    energies, vectors = np.linalg.eigh(hamiltonian)
    occupations = np.zeros(6)
    occupations[: n_electrons // 2] = 2
    return ElectronicStates(
        energies=energies[None, None],
        coefficients=vectors[None, None],
        hamiltonian=hamiltonian[None, None],
        overlap=np.eye(6)[None],
        k_points=np.array([[0, 0, k]]),
        k_weights=np.ones(1),
        occupations=occupations[None, None],
        orbitals=LABELS,
        n_electrons=n_electrons,
    )


def pair(axis: np.ndarray, distance: float) -> Structure:
    return Structure(
        Lattice.cubic(12), ["O", "O"], [np.zeros(3), distance * axis], coords_are_cartesian=True
    )


@pytest.mark.parametrize(("n_electrons", "bond_order"), [(2, 1), (6, 3), (8, 2), (10, 1), (12, 0)])
@pytest.mark.parametrize("seed", [1, 2])
def test_bond_order_in_any_frame(n_electrons: int, bond_order: float, seed: int) -> None:
    axis = Rotation.random(rng=seed).as_matrix()[0]
    states = pair_states(axis, n_electrons)
    (dimer,) = oxygen_dimers(states, pair(axis, 1.3))
    assert dimer.distance == pytest.approx(1.3)
    assert dimer.bond_order == pytest.approx(bond_order)
    assert sum(o.electrons for o in dimer.orbitals) == pytest.approx(n_electrons)
    top = states.valence_band_maximum
    energies = {o.kind: o.energy + top for o in dimer.orbitals}
    assert energies == pytest.approx(
        {"σ": LEVEL + SIGMA, "π": LEVEL + PI, "π*": LEVEL - PI, "σ*": LEVEL - SIGMA}
    )


def test_pair_across_the_boundary_at_k() -> None:
    """The second O is taken in the next cell: its Bloch sum carries the phase."""
    k = 0.3
    structure = Structure(Lattice.cubic(6), ["O", "O"], [[0, 0, 0.05], [0, 0, 0.85]])
    # Hopping from the first O to the image of the second in the cell below: exp(-2 pi i k).
    states = pair_states(np.array([0, 0, 1.0]), 8, np.exp(-2j * np.pi * k), k)
    (dimer,) = oxygen_dimers(states, structure)
    assert dimer.distance == pytest.approx(1.2)
    assert dimer.bond_order == pytest.approx(2)


def test_lattice_oxygens_are_no_pair() -> None:
    axis = np.array([0, 0, 1.0])
    assert oxygen_dimers(pair_states(axis, 12), pair(axis, 2.6)) == []
