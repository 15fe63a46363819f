"""Populations by hand, against sisl, and against their sum rules."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lrlo.analysis.orbital_populations import (
    ElectronicStates,
    Operator,
    Orbital,
    atom_pair_sums,
    check_sum_rules,
    directed_populations,
    gross_populations,
    integrated_populations,
    orbital_pair_weights,
)

#: Two O with 2s and 2p, one Mn with 3p (m = 0 only) and 3d (m = 0 only).
LABELS = (
    *(Orbital(0, 2, 0, 0), *(Orbital(0, 2, 1, m) for m in (-1, 0, 1))),
    *(Orbital(1, 2, 0, 0), *(Orbital(1, 2, 1, m) for m in (-1, 0, 1))),
    *(Orbital(2, 3, 1, 0), Orbital(2, 3, 2, 0)),
)


def hermitian(random: np.random.Generator, n: int) -> NDArray[np.complex128]:
    matrix = random.normal(size=(n, n)) + 1j * random.normal(size=(n, n))
    return (matrix + matrix.conj().T) / 2


def solved(
    hamiltonian: NDArray,
    overlap: NDArray,
    k_weights: Sequence[float],
    occupations: NDArray[np.float64],
    orbitals: tuple[Orbital, ...],
    n_electrons: float,
) -> ElectronicStates:
    """States of given matrices, shapes (n_spin, n_k, n, n) and (n_k, n, n)."""
    pairs = [
        [scipy.linalg.eigh(h, s) for h, s in zip(spin, overlap, strict=True)]
        for spin in hamiltonian
    ]
    return ElectronicStates(
        energies=np.array([[e for e, _ in spin] for spin in pairs]),
        coefficients=np.array([[c for _, c in spin] for spin in pairs]),
        hamiltonian=hamiltonian,
        overlap=overlap,
        k_points=np.zeros((len(k_weights), 3)),
        k_weights=np.array(k_weights),
        occupations=occupations,
        orbitals=orbitals,
        n_electrons=n_electrons,
    )


@pytest.fixture(scope="module")
def states() -> ElectronicStates:
    """Two spins, two k points, complex matrices, fractional occupations."""
    random = np.random.default_rng(3)
    n = len(LABELS)
    hamiltonian = np.array([[hermitian(random, n) for _ in range(2)] for _ in range(2)])
    overlap = np.array([np.eye(n) + 0.05 * hermitian(random, n) for _ in range(2)])
    occupations = np.zeros((2, 2, n))
    occupations[0, :, :6], occupations[1, :, :4] = 1, 1
    occupations[0, 0, 6], occupations[0, 1, 6] = 0.3, 0.1
    electrons = 10 + 0.25 * 0.3 + 0.75 * 0.1
    return solved(hamiltonian, overlap, (0.25, 0.75), occupations, LABELS, electrons)


def test_two_level_molecule_by_hand() -> None:
    """H2: bonding energy, ICOHP 2 beta / (1 + s), overlap population 2 s / (1 + s)."""
    alpha, beta, s = -10.0, -4.0, 0.25
    molecule = solved(
        np.array([[[[alpha, beta], [beta, alpha]]]]),
        np.array([[[1, s], [s, 1]]]),
        (1.0,),
        np.array([[[2.0, 0.0]]]),
        (Orbital(0, 1, 0, 0), Orbital(1, 1, 0, 0)),
        2,
    )
    assert molecule.valence_band_maximum == pytest.approx((alpha + beta) / (1 + s))
    assert molecule.gap == pytest.approx((alpha - beta) / (1 - s) - (alpha + beta) / (1 + s))
    icohp = integrated_populations(molecule, Operator.HAMILTONIAN)
    pairs = atom_pair_sums(icohp, molecule.orbitals, 2)
    assert pairs[0, 1] == pytest.approx(2 * beta / (1 + s))
    assert pairs[0, 0] == pytest.approx(alpha / (1 + s))
    icoop = integrated_populations(molecule, Operator.OVERLAP)
    assert atom_pair_sums(icoop, molecule.orbitals, 2)[0, 1] == pytest.approx(2 * s / (1 + s))
    # Occupied bonding and empty antibonding state: -COHP positive, then negative.
    cohp = orbital_pair_weights(molecule, Operator.HAMILTONIAN, [0], [1])[0, 0]
    assert cohp == pytest.approx([beta / (1 + s), -beta / (1 - s)])


@pytest.mark.parametrize("operator", Operator)
def test_every_orbital_pair_equals_sisl(states: ElectronicStates, operator: Operator) -> None:
    sisl_electron = pytest.importorskip("sisl.physics.electron")
    grid = np.linspace(-4, 4, 7)
    expected = np.zeros((len(grid), len(LABELS), len(LABELS)))
    for spin in range(2):
        for k, weight in enumerate(states.k_weights):
            cop = sisl_electron.COP(
                grid,
                states.energies[spin, k],
                states.coefficients[spin, k].T,
                states.matrices(operator)[spin, k],
                distribution="gaussian",
                atol=0,
            )
            expected += weight * np.array(list(cop))
    for i in range(len(LABELS)):
        for j in range(len(LABELS)):
            if i == j:
                continue
            weights = orbital_pair_weights(states, operator, [i], [j])
            # sisl's Gaussian has a standard deviation of 0.1 eV; it lists i-j and j-i apart.
            curve = states.curve(weights, grid, 0.1)
            both = expected[:, i, j] + expected[:, j, i]
            assert curve == pytest.approx(both, abs=1e-10)


def test_periodic_chain_equals_sisl_with_its_own_solver() -> None:
    """Two s orbitals per cell with overlap, three k points: COHP and COOP from sisl's states."""
    sisl = pytest.importorskip("sisl")
    lattice = sisl.Lattice([2, 10, 10], nsc=[3, 1, 1])
    geometry = sisl.Geometry([[0, 0, 0], [0.8, 0, 0]], sisl.Atom(1, R=[1.5]), lattice=lattice)
    model = sisl.Hamiltonian(geometry, orthogonal=False)
    model.construct([(0.1, 0.9, 1.5), ((-3.0, 1.0), (-2.0, 0.3), (-0.7, 0.1))])
    points, weights = [[0, 0, 0], [0.2, 0, 0], [0.5, 0, 0]], np.array([0.2, 0.5, 0.3])
    hamiltonian = np.array([[model.Hk(k).toarray() for k in points]])
    overlap = np.array([model.Sk(k).toarray() for k in points])
    occupations = np.zeros((1, 3, 2))
    occupations[..., 0] = 2
    labels = (Orbital(0, 1, 0, 0), Orbital(1, 1, 0, 0))
    chain = solved(hamiltonian, overlap, weights.tolist(), occupations, labels, 2)
    grid = np.linspace(-6, 2, 50)
    for operator, of_k in ((Operator.HAMILTONIAN, model.Hk), (Operator.OVERLAP, model.Sk)):
        expected = np.zeros_like(grid)
        for k, weight in zip(points, weights, strict=True):
            # The three images of the pair stand apart, in supercell columns with their phases.
            curves = model.eigenstate(k).COP(grid, of_k(k, format="sc:csr"), "gaussian", atol=0)
            folded = np.array([c.toarray().reshape(2, 3, 2).sum(axis=1) for c in curves])
            expected += weight * (folded[:, 0, 1] + folded[:, 1, 0])
        found = chain.curve(orbital_pair_weights(chain, operator, [0], [1]), grid, 0.1)
        assert found == pytest.approx(2 * expected, abs=1e-10)  # sisl counts one spin


def test_pairs_and_sites_account_for_everything(states: ElectronicStates) -> None:
    rules = check_sum_rules(states)
    assert rules.violations == []
    assert rules.energy_error < 1e-10
    assert rules.electron_error < 1e-10
    for operator, total in (
        (Operator.HAMILTONIAN, rules.band_energy),
        (Operator.OVERLAP, rules.n_electrons),
    ):
        populations = integrated_populations(states, operator)
        pairs = atom_pair_sums(populations, LABELS, 3)
        assert np.triu(pairs).sum() == pytest.approx(total)
        for a, b in ((0, 1), (0, 2), (1, 2)):
            weights = orbital_pair_weights(
                states, operator, states.select(a).tolist(), states.select(b).tolist()
            )
            assert states.total(weights) == pytest.approx(pairs[a, b])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: {"coefficients": 1.001 * s.coefficients},
        lambda s: {"hamiltonian": s.hamiltonian[::-1]},
        lambda s: {"overlap": s.overlap[::-1]},
        lambda s: {"n_electrons": s.n_electrons + 0.01},
        lambda s: {"energies": np.where(s.occupations > 0.5, s.energies + 1e-4, s.energies)},
        lambda s: {"hamiltonian": s.hamiltonian * np.nan},
    ],
    ids=["normalisation", "spins", "k points", "electrons", "energies", "not numbers"],
)
def test_sum_rules_find_what_does_not_belong_together(states: ElectronicStates, spoil) -> None:
    assert check_sum_rules(replace(states, **spoil(states))).violations


def test_excluded_orbitals_have_no_part(states: ElectronicStates) -> None:
    populations = integrated_populations(states, Operator.HAMILTONIAN)
    semicore = states.select(2, "3p")
    without = atom_pair_sums(populations, LABELS, 3, semicore.tolist())
    d = states.select(2, "3d")
    assert without[0, 2] == pytest.approx(2 * populations[np.ix_(states.select(0), d)].sum())
    assert without[0, 1] == pytest.approx(atom_pair_sums(populations, LABELS, 3)[0, 1])


def test_pdos_shares_add_up_to_one_state(states: ElectronicStates) -> None:
    gross = gross_populations(states)
    assert gross.sum(axis=2) == pytest.approx(np.ones_like(states.energies))
    grid = np.linspace(-12, 12, 4801)
    curve = states.curve(gross.sum(axis=2), grid, 0.1)
    assert np.trapezoid(curve, grid) == pytest.approx(2 * len(LABELS), rel=1e-6)


def test_p_shell_along_directions(states: ElectronicStates) -> None:
    """Axes give single harmonics (m = -1, 0, 1 is y, z, x); any frame gives the whole shell."""
    p = states.select(1, "2p").tolist()
    gross = gross_populations(states)
    for direction, m in (([1, 0, 0], 1), ([0, 1, 0], -1), ([0, 0, 1], 0)):
        along = directed_populations(states, p, np.array([direction], dtype=float))
        assert along == pytest.approx(gross[:, :, p[m + 1]])
    turned = Rotation.random(rng=1).as_matrix()
    whole = directed_populations(states, p, turned)
    assert whole == pytest.approx(gross[:, :, p].sum(axis=2))
    assert not directed_populations(states, p, np.zeros((0, 3))).any()


def test_weight_between_energies_counts_states(states: ElectronicStates) -> None:
    ones = np.ones_like(states.energies)
    low, high = states.energies.min() - 1, states.energies.max()
    assert states.states_between(ones, low, high) == pytest.approx(2 * len(LABELS))
    top = states.valence_band_maximum
    inside = (states.energies <= top + 1e-9).astype(float)
    expected = np.einsum("skn,k->", inside, states.k_weights)
    assert states.states_between(ones, low, top) == pytest.approx(expected)


def test_orbitals_are_chosen_by_label(states: ElectronicStates) -> None:
    assert states.select([0, 2], ["2p", "3d"]).tolist() == [1, 2, 3, 9]
    assert states.select(2).tolist() == [8, 9]
    assert states.select(0, "4s").size == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k_weights": np.array([0.5, 0.6])}, "add up to 1.1"),
        ({"k_weights": np.ones(3) / 3}, r"k_weights has shape \(3,\)"),
        ({"orbitals": LABELS[:-1]}, "coefficients has shape"),
        ({"occupations": np.zeros((2, 2, len(LABELS)))}, "no state is occupied"),
    ],
)
def test_states_that_cannot_be(states: ElectronicStates, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(states, **change)


def test_gap_is_negative_where_spins_overlap(states: ElectronicStates) -> None:
    shifted = states.energies + np.array([0, -20])[:, None, None]
    overlapping = replace(states, energies=shifted).gap
    assert overlapping is not None
    assert overlapping < 0
    full = replace(states, occupations=np.ones_like(states.energies))
    assert full.gap is None
