"""GFN1-xTB: labels, physics of Li2MnO3, the ladder and what is refused."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from lrlo.analysis.bonding import analyse_bonding
from lrlo.analysis.bonding_documents import BondingResult, EnergyWindow, IcohpScale
from lrlo.analysis.dimer_orbitals import oxygen_dimers
from lrlo.analysis.orbital_populations import (
    Operator,
    check_sum_rules,
    orbital_pair_weights,
)
from lrlo.structures.frame import Sharing, SiteKind, layered_frame
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.oxygen_environment import OxygenClass
from lrlo.structures.stacking import Stacking
from lrlo.structures.superlattice import honeycomb_centres
from lrlo.workflows.backend import BackendError
from lrlo.workflows.bonding_source import ScfError, TooLargeError
from lrlo.workflows.tight_binding import (
    LADDER,
    ScfRung,
    TightBinding,
    TightBindingSettings,
)

#: Experimental Li2MnO3, C2/m, primitive cell of 12 atoms (Å, degrees).
LI2MNO3 = Structure.from_spacegroup(
    "C2/m",
    Lattice.from_parameters(4.937, 8.532, 5.030, 90, 109.46, 90),
    ["Li", "Li", "Li", "Mn", "O", "O"],
    [
        *([0, 0.5, 0], [0, 0, 0.5], [0, 0.661, 0.5], [0, 0.167, 0]),
        *([0.219, 0, 0.227], [0.254, 0.321, 0.223]),
    ],
).get_primitive_structure()
ICOHP_OF_DFT = 3.38  # eV per Mn-O bond, PBE+U in a local basis


def high_spin(structure: Structure) -> list[float]:
    return [3.0 if site.specie.symbol == "Mn" else 0.0 for site in structure]


def molecule(symbols: list[str], positions: list[list[float]], edge: float = 9.0) -> Structure:
    return Structure(Lattice.cubic(edge), symbols, positions, coords_are_cartesian=True)


@pytest.fixture(scope="module")
def li2mno3() -> BondingResult:
    solution = TightBinding().solve(LI2MNO3, high_spin(LI2MNO3))
    return analyse_bonding(solution, LI2MNO3, None, EnergyWindow())


def test_li2mno3_is_a_high_spin_insulator(li2mno3: BondingResult) -> None:
    assert li2mno3.sum_rules.violations == []
    assert li2mno3.sum_rules.energy_error < 1e-10
    assert li2mno3.gap is not None
    assert 0 < li2mno3.gap < 4
    assert li2mno3.total_moment == pytest.approx(6)  # two Mn(IV)
    assert li2mno3.tm_moments["Mn"].count == 2
    assert 2.5 < li2mno3.tm_moments["Mn"].mean < 4
    assert li2mno3.scf.moments_from == "moments of the TM"
    (o4,) = [row for row in li2mno3.classes if row.n_oxygen]
    assert (o4.o_class, o4.n_oxygen, o4.n_bonds) == (OxygenClass.O4, 6, 12)
    (mn,) = li2mno3.gaps
    assert mn.charge_transfer_gap is not None
    assert mn.mott_gap is not None
    assert 0 < mn.charge_transfer_gap < mn.mott_gap  # Mn(IV) oxides are charge-transfer oxides


def test_icohp_is_three_times_that_of_dft_and_says_so(li2mno3: BondingResult) -> None:
    strength = li2mno3.of_class(OxygenClass.O4).minus_icohp
    assert strength is not None
    assert 2.5 < strength.mean / ICOHP_OF_DFT < 3.5
    assert strength.spread < 0.1 * strength.mean
    assert li2mno3.icohp_scale is IcohpScale.TIGHT_BINDING
    assert "three times the DFT scale" in li2mno3.level_of_theory.note
    assert li2mno3.semicore_left_out == []


def test_all_p_shells_hold_six_states(li2mno3: BondingResult) -> None:
    for oxygen in li2mno3.oxygens:
        assert 0 < oxygen.window_nonbonding < oxygen.window_weight < 6
        assert oxygen.window_nonbonding + oxygen.window_hybridised == pytest.approx(
            oxygen.window_weight
        )
        assert oxygen.window_nonbonding < 2  # one orbital
        assert oxygen.band_centre is not None
        assert oxygen.band_centre < oxygen.band_top <= 0


def test_orbital_pairs_equal_sisl_on_the_same_matrices() -> None:
    sisl_electron = pytest.importorskip("sisl.physics.electron")
    states = TightBinding().solve(LI2MNO3, high_spin(LI2MNO3)).states
    assert check_sum_rules(states).violations == []
    grid = states.valence_band_maximum + np.array([-4.0, -1.0, 0.0, 2.0])
    manganese = next(i for i, s in enumerate(LI2MNO3) if s.specie.symbol == "Mn")
    oxygen = next(i for i, s in enumerate(LI2MNO3) if s.specie.symbol == "O")
    left, right = states.select(manganese), states.select(oxygen)
    for operator in Operator:
        expected = np.zeros((len(grid), len(left), len(right)))
        for spin in range(2):
            cop = sisl_electron.COP(
                grid,
                states.energies[spin, 0],
                states.coefficients[spin, 0].T,
                states.matrices(operator)[spin, 0],
                distribution="gaussian",
                atol=0,
            )
            matrices = np.array(list(cop))
            expected += matrices[:, left][..., right]
            expected += matrices[:, right][..., left].swapaxes(1, 2)
        for i, mu in enumerate(left.tolist()):
            for j, nu in enumerate(right.tolist()):
                weights = orbital_pair_weights(states, operator, [mu], [nu])
                assert states.curve(weights, grid, 0.1) == pytest.approx(
                    expected[:, i, j], abs=1e-10
                )


def one_swap() -> Occupation:
    """Li2MnO3 of 24 atoms (four Mn) with one Mn and a neighbouring honeycomb Li exchanged."""
    frame = layered_frame(Stacking.O3, np.array([[1, -1, 0], [3, 3, 0], [0, 0, 1]]))
    lithium = {int(site) for site in honeycomb_centres(frame)}
    species: dict[int, str | None] = {int(s): "Li" for s in frame.sites(SiteKind.LI_OCT)}
    for site in frame.sites(SiteKind.TM_OCT).tolist():
        species[site] = "Li" if site in lithium else "Mn"
    host = empty_frame(frame).with_species(species)
    centre = min(lithium)
    # Of its two kinds of Mn neighbours, one that touches this Li once and no image of it.
    touched = [n.site for n in frame.neighbours(centre, Sharing.EDGE, SiteKind.TM_OCT)]
    mn = next(s for s in touched if touched.count(s) == 1 and species[s] == "Mn")
    return host.with_species({centre: "Mn", mn: "Li"})


def test_one_swap_orders_the_classes() -> None:
    """1 TM > 2 TM > 3 TM for the O 2p weight and for -ICOHP per bond, 24 atoms."""
    occupation = one_swap()
    structure = occupation.to_structure()
    solution = TightBinding().solve(structure, high_spin(structure))
    result = analyse_bonding(solution, structure, occupation.frame, EnergyWindow())
    o3, o4, o5, _ = result.classes
    assert (o3.n_oxygen, o4.n_oxygen, o5.n_oxygen) == (4, 4, 4)
    for quantity in ("window_weight", "window_nonbonding", "minus_icohp", "minus_icohp_dp"):
        means = [getattr(row, quantity).mean for row in (o5, o4, o3)]
        assert means[0] > means[1] > means[2], quantity
    assert result.ratios.window_weight is not None
    assert 1.4 < result.ratios.window_weight < 2.1
    assert result.ratios.minus_icohp is not None
    assert 1.1 < result.ratios.minus_icohp < 1.5
    assert o3.window_nonbonding is not None
    assert o3.window_nonbonding.mean == 0  # every 2p of O3 points at a TM


@pytest.mark.parametrize(("axis", "m"), [([1, 0, 0], 1), ([0, 1, 0], -1), ([0, 0, 1], 0)])
def test_labels_of_p_orbitals_are_y_z_x(axis: list[float], m: int) -> None:
    """The s orbital of Li overlaps with the O 2p that points at it, and with no other."""
    structure = molecule(["O", "Li"], [[0, 0, 0], (1.7 * np.array(axis)).tolist()])
    states = TightBinding(TightBindingSettings(n_unpaired=1)).solve(structure).states
    (s,) = states.select(1, "2s")
    overlaps = {
        states.orbitals[p].m: abs(float(states.overlap[0, s, p])) for p in states.select(0, "2p")
    }
    assert overlaps.pop(m) > 0.1
    assert max(overlaps.values()) < 1e-6


def test_labels_of_d_orbitals() -> None:
    """A pair along z: s overlaps with d(z2) alone; along the xy diagonal with d(xy) and d(z2)."""
    for position, members in (([0, 0, 1.8], {0}), ([1.3, 1.3, 0], {-2, 0})):
        structure = molecule(["Mn", "Li"], [[0, 0, 0], position])
        states = TightBinding(TightBindingSettings(n_unpaired=6)).solve(structure).states
        assert {o.shell for o in states.orbitals if o.atom == 0} == {"3d", "4s", "4p"}
        (s,) = states.select(1, "2s")
        overlaps = {
            states.orbitals[d].m: abs(float(states.overlap[0, s, d]))
            for d in states.select(0, "3d")
        }
        assert {m for m, value in overlaps.items() if value > 1e-3} == members


@pytest.mark.parametrize(
    ("symbols", "positions", "n_unpaired", "bond_order"),
    [
        (["O", "O"], [[0, 0, 0], [0.7, 0.7, 0.7]], 2, 2),
        (["O", "O", "Li"], [[0, 0, -0.67], [0, 0, 0.67], [1.6, 0, 0]], 1, 1.5),
        (["O", "O", "Li", "Li"], [[0, 0, -0.76], [0, 0, 0.76], [1.6, 0, 0], [-1.6, 0, 0]], 0, 1),
    ],
    ids=["O2", "superoxide", "peroxide"],
)
def test_oxygen_molecules(symbols, positions, n_unpaired: int, bond_order: float) -> None:
    structure = molecule(symbols, positions)
    states = TightBinding(TightBindingSettings(n_unpaired=n_unpaired)).solve(structure).states
    (dimer,) = oxygen_dimers(states, structure)
    assert dimer.bond_order == pytest.approx(bond_order, abs=0.15)
    energies = [orbital.energy for orbital in dimer.orbitals]
    assert energies == sorted(energies)
    pi_star = dimer.orbitals[2].electrons
    assert pi_star == pytest.approx({2: 2, 1: 3, 0: 4}[n_unpaired], abs=0.1)
    for orbital, capacity in zip(dimer.orbitals, (2, 4, 4, 2), strict=True):
        assert 0 <= orbital.electrons <= capacity + 1e-9


def test_spin_of_the_molecule_is_the_one_asked_for() -> None:
    structure = molecule(["O", "O"], [[0, 0, 0], [0, 0, 1.21]])
    triplet = TightBinding(TightBindingSettings(n_unpaired=2)).solve(structure)
    assert triplet.states.occupations.sum(axis=-1).ravel() == pytest.approx([7, 5])
    assert triplet.scf.moments_from == "given"
    spinless = TightBinding().solve(structure)
    assert spinless.states.energies.shape[0] == 1
    assert not spinless.scf.final.spin_polarised
    assert check_sum_rules(spinless.states).violations == []


def test_moments_become_whole_electrons_of_the_right_parity() -> None:
    """O2 has 12 valence electrons, LiO 7; the TM of a cell make up its spin."""
    mno = molecule(["Mn", "O"], [[0, 0, 0], [0, 0, 1.7]])  # 13 electrons
    for moments, expected in (([4.6, 0.1], 5), ([-2.8, 0.4], 3), ([4.2, 0.0], 5), ([3.6, 0.0], 3)):
        solution = TightBinding().solve(mno, moments)
        assert solution.scf.n_unpaired == expected, moments
    assert "made to fit" in solution.scf.moments_from


def test_ladder_is_climbed_until_a_rung_converges() -> None:
    ladder = (ScfRung(max_iterations=3), ScfRung(damping=0.1, temperature=1000))
    solution = TightBinding(TightBindingSettings(ladder=ladder)).solve(LI2MNO3, high_spin(LI2MNO3))
    first, second = solution.scf.attempts
    assert (first.converged, first.n_iterations, second.converged) == (False, 3, True)
    assert first.last_iterations[-1].startswith("3 ")
    result = analyse_bonding(solution, LI2MNO3, None, EnergyWindow())
    assert any("1000 K" in mark for mark in result.marks)


def test_default_ladder_ends_without_spin() -> None:
    assert [rung.spin_polarised for rung in LADDER] == sorted(
        (rung.spin_polarised for rung in LADDER), reverse=True
    )
    assert {rung.temperature for rung in LADDER} >= {300, 1000, 3000}
    assert {rung.damping for rung in LADDER} == {0.1, 0.2}
    rungs = (ScfRung(max_iterations=2), ScfRung(spin_polarised=False, damping=0.1))
    solution = TightBinding(TightBindingSettings(ladder=rungs)).solve(LI2MNO3, high_spin(LI2MNO3))
    assert solution.scf.n_unpaired is None
    result = analyse_bonding(solution, LI2MNO3, None, EnergyWindow())
    assert result.total_moment is None
    assert result.tm_moments == {}
    assert result.gaps == []  # d bands are not split: there are no Hubbard bands
    assert any("not spin-polarised" in mark for mark in result.marks)


def test_nothing_converged_is_a_failure_with_its_last_iterations() -> None:
    ladder = (ScfRung(max_iterations=2), ScfRung(max_iterations=4, damping=0.1))
    source = TightBinding(TightBindingSettings(ladder=ladder))
    with pytest.raises(ScfError, match="did not converge") as failure:
        source.solve(LI2MNO3, high_spin(LI2MNO3))
    assert "2 iterations" in str(failure.value)
    assert "mixer damping 0.1: 4 iterations, the last 2 " in str(failure.value)


def test_cells_above_the_limits_are_refused_before_anything_runs() -> None:
    large = LI2MNO3.copy().make_supercell((6, 6, 4))
    with pytest.raises(TooLargeError, match=r"1728 atoms .* raise max_seconds"):
        TightBinding().solve(large, high_spin(large))
    with pytest.raises(TooLargeError, match="raise max_gigabytes"):
        TightBinding(TightBindingSettings(max_gigabytes=0.05)).solve(LI2MNO3, high_spin(LI2MNO3))
    TightBinding().estimate(large).refuse_above(1e9, 1e3, "raised limits")  # does not raise


def test_estimates_grow_with_the_cell() -> None:
    small = TightBinding().estimate(LI2MNO3)
    large = TightBinding().estimate(LI2MNO3.copy().make_supercell((2, 1, 1)))
    assert small.n_orbitals == 4 * 4 + 2 * 9 + 6 * 4
    assert large.n_orbitals == 2 * small.n_orbitals
    assert 4 < large.seconds / small.seconds < 8
    assert large.gigabytes > small.gigabytes


@pytest.mark.parametrize(
    ("settings", "magmoms", "message"),
    [
        ({"n_unpaired": 3}, None, "n_unpaired is 3, but the cell has 54 valence electrons"),
        ({}, [3.0], "1 moments given for 12 atoms"),
    ],
)
def test_impossible_spins_are_refused(settings: dict, magmoms, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        TightBinding(TightBindingSettings(**settings)).solve(LI2MNO3, magmoms)


def test_elements_without_parameters_are_refused() -> None:
    with pytest.raises(BackendError, match="no parameters for U "):
        TightBinding().solve(molecule(["U", "O"], [[0, 0, 0], [0, 0, 1.8]]))


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tblite.interface", None)
    with pytest.raises(BackendError, match="pip install tblite"):
        TightBinding()
