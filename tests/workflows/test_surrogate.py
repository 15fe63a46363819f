"""The surrogate of a band: what it learns, and what it proposes."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from lrlo.workflows.backend import AseBackend
from lrlo.workflows.band_proposal import REACH, highest_interior, propose
from lrlo.workflows.pair_potential import CUTOFF, PairPotential
from lrlo.workflows.surrogate import MEMORY, Surrogate

EMT = AseBackend("ase.calculators.emt:EMT", {})
#: A pair potential, which ends where that of the surrogate ends.
MORSE = AseBackend(
    "ase.calculators.morse:MorsePotential",
    {"epsilon": 0.3, "r0": 2.5, "rho0": 4.0, "rcut1": 3.2, "rcut2": 3.9},
)


def salt() -> Atoms:
    """Two elements in an oblique cell whose atoms see their own periodic images."""
    return bulk("NaCl", "rocksalt", a=5.2).repeat((2, 1, 1))


def rattled(atoms: Atoms, n: int, size: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return atoms.positions + random.normal(0, size, (n, len(atoms), 3))


def values(backend: AseBackend, atoms: Atoms, positions: np.ndarray) -> tuple:
    structures = []
    for place in positions:
        moved = atoms.copy()
        moved.positions = place
        structures.append(moved)
    found = backend.evaluate(structures)
    return np.array([each.energy for each in found]), np.array([each.forces for each in found])


def test_gradients_of_features_against_finite_differences() -> None:
    atoms = salt()
    potential = PairPotential(atoms)
    assert potential.n_coefficients == 3 * 9
    (positions,) = rattled(atoms, 1, 0.1)
    _, gradients = potential.features(positions[None])
    step = 1e-5
    for atom, axis in ((0, 0), (1, 2), (3, 1)):
        moved = np.array([positions, positions])
        moved[0, atom, axis] -= step
        moved[1, atom, axis] += step
        (before, after), _ = potential.features(moved)
        np.testing.assert_allclose(
            gradients[0, atom, axis], (after - before) / (2 * step), atol=1e-6
        )


def test_energies_and_forces_are_those_of_the_features() -> None:
    atoms = salt()
    potential = PairPotential(atoms)
    positions = rattled(atoms, 3, 0.1)
    coefficients = np.random.default_rng(1).normal(size=potential.n_coefficients)
    features, gradients = potential.features(positions)
    near = potential.pairs(atoms.positions[None].repeat(3, axis=0), skin=1.0)
    energies, forces = potential.evaluate(coefficients, positions, near)
    np.testing.assert_allclose(energies, features @ coefficients, atol=1e-10)
    np.testing.assert_allclose(forces, -gradients @ coefficients, atol=1e-10)
    np.testing.assert_allclose(forces.sum(axis=1), 0, atol=1e-10)  # no net force


def test_atoms_beyond_the_cutoff_do_not_interact() -> None:
    atoms = Atoms("NaCl", positions=[[0, 0, 0], [0, 0, CUTOFF + 0.1]])
    features, gradients = PairPotential(atoms).features(atoms.positions[None])
    assert not features.any()
    assert not gradients.any()


def test_a_pair_potential_is_learnt_from_few_structures() -> None:
    """Forces of unseen structures, from five; the rest of the model would need far more."""
    atoms = bulk("Cu", cubic=True, a=3.6)
    known, unseen = rattled(atoms, 5, 0.12), rattled(atoms, 4, 0.12, seed=9)
    surrogate = Surrogate(atoms, noise=0.002)
    surrogate.learn(known, *values(MORSE, atoms, known))
    energies, forces = surrogate.predict(unseen, surrogate.pairs_near(unseen, 0))
    true_energies, true_forces = values(MORSE, atoms, unseen)
    size = np.sqrt((true_forces**2).mean())
    assert size > 0.5
    assert np.sqrt(((forces - true_forces) ** 2).mean()) < 0.15 * size
    np.testing.assert_allclose(np.diff(energies), np.diff(true_energies), atol=0.1)


def test_what_was_learnt_is_given_back() -> None:
    """EMT is no pair potential: the Gaussian process adds what is left."""
    atoms = bulk("Cu", cubic=True, a=3.6)
    known = rattled(atoms, 6, 0.15)
    energies, forces = values(EMT, atoms, known)
    surrogate = Surrogate(atoms, noise=0.002)
    surrogate.learn(known[:4], energies[:4], forces[:4])
    surrogate.learn(known[4:], energies[4:], forces[4:])
    found_energies, found_forces = surrogate.predict(known, surrogate.pairs_near(known, 0))
    np.testing.assert_allclose(found_forces, forces, atol=0.02)
    np.testing.assert_allclose(found_energies, energies, atol=0.01)


def test_only_the_latest_structures_are_kept() -> None:
    atoms = bulk("Cu", a=3.6)
    surrogate = Surrogate(atoms, noise=0.002)
    known = rattled(atoms, MEMORY + 20, 0.05)
    surrogate.learn(known, *values(EMT, atoms, known))
    assert len(surrogate._positions) == MEMORY
    np.testing.assert_array_equal(surrogate._positions[-1], known[-1])


@pytest.mark.parametrize("climb", [False, True])
def test_proposals_stay_within_reach_and_keep_the_end_states(
    copper: list[Atoms], climb: bool
) -> None:
    positions = np.array([image.positions for image in copper])
    energies, forces = values(EMT, copper[0], positions)
    surrogate = Surrogate(copper[0], noise=0.002)
    surrogate.learn(positions, energies, forces)
    goal = propose(surrogate, positions, energies, spring=5.0, climb=climb, fmax=0.01)
    moves = np.linalg.norm((goal - positions).reshape(len(positions), -1), axis=1)
    np.testing.assert_array_equal(moves[[0, -1]], 0)
    assert (moves[1:-1] > 0.01).all()
    assert moves.max() <= REACH * (1 + 1e-9)


def test_the_highest_image_climbs_unless_it_is_an_end_state() -> None:
    assert highest_interior(np.array([0.0, 0.4, 0.9, 0.2])) == 2
    assert highest_interior(np.array([0.0, 0.4, 0.9, 1.2])) is None
    assert highest_interior(np.array([1.0, 0.4, 0.9, 0.2])) is None
