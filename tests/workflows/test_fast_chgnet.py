"""FastCHGNet must return what stock CHGNet returns, however it is called.

Nothing here needs the network. Cells come from three layered oxides, repeated, strained,
rattled, delithiated, with vacancies and mixed transition metals.
"""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chgnet.graph.converter
import chgnet.model.model
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.spacegroup import crystal
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa, fs, kB
from chgnet.model import CHGNet
from pymatgen.io.ase import AseAtomsAdaptor

from lrlo.workflows import chgnet_layers, fast_chgnet
from lrlo.workflows.fast_chgnet import Evaluation, FastCHGNet, FastCHGNetCalculator

ENERGY_TOLERANCE = 1e-4  # eV per 200 atoms (or cell, if smaller)
FORCE_TOLERANCE = 1e-3  # eV/Å
FORCE_ROUNDING = 1e-5  # of stock's float32 sums: forces of badly rattled cells reach 100 eV/Å
STRESS_TOLERANCE = 1e-5  # eV/Å^3
STRESS_ROUNDING = 2e-5  # of float32 sums over thousands of bonds; stresses here reach 100 GPa
MAGMOM_TOLERANCE = 1e-4  # Bohr magnetons


# ------------------------------------------------------------------------- structures


def licoo2(repeat: tuple[int, int, int] = (1, 1, 1)) -> Atoms:
    """Layered LiCoO2, 12 atoms per conventional cell; its O-Co-O angles are straight."""
    cell = crystal(
        ["Li", "Co", "O"],
        [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.26)],
        spacegroup=166,
        cellpar=[2.83, 2.83, 14.1, 90, 90, 120],
    )
    return cell.repeat(repeat)


def li2mno3(repeat: tuple[int, int, int] = (1, 1, 1)) -> Atoms:
    """Monoclinic Li2MnO3, 24 atoms per conventional cell."""
    cell = crystal(
        ["Li", "Li", "Li", "Mn", "O", "O"],
        [
            (0, 0.5, 0),
            (0, 0, 0.5),
            (0, 0.661, 0.5),
            (0, 0.167, 0),
            (0.219, 0, 0.227),
            (0.254, 0.321, 0.223),
        ],
        spacegroup=12,
        cellpar=[4.937, 8.532, 5.030, 90, 109.46, 90],
    )
    return cell.repeat(repeat)


def nmc(repeat: tuple[int, int, int], rng: np.random.Generator) -> Atoms:
    """LiMO2 with Ni, Mn and Co drawn at random on the metal sites."""
    atoms = licoo2(repeat)
    metal = np.flatnonzero(atoms.symbols == "Co")
    atoms.symbols[metal] = rng.choice(["Ni", "Mn", "Co"], len(metal))
    return atoms


def disorder(
    atoms: Atoms,
    rng: np.random.Generator,
    rattle: float = 0.05,
    strain: float = 0.02,
    delithiation: float = 0.0,
    vacancies: int = 0,
) -> Atoms:
    """Remove atoms at random, then strain the cell and displace every atom (Å)."""
    atoms = atoms.copy()
    lithium = np.flatnonzero(atoms.symbols == "Li")
    del atoms[rng.choice(lithium, round(delithiation * len(lithium)), replace=False)]
    del atoms[rng.choice(len(atoms), vacancies, replace=False)]
    deformation = np.eye(3) + rng.normal(0, strain, (3, 3))
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    atoms.positions += rng.normal(0, rattle, (len(atoms), 3))
    return atoms


def sample(seed: int, largest: int) -> Atoms:
    """Draw one disordered cell of at most `largest` atoms."""
    rng = np.random.default_rng(seed)
    kind = seed % 3
    unit = 24 if kind == 1 else 12
    shapes = [(1, 1, 1), (2, 1, 1), (2, 2, 1), (3, 2, 1), (2, 2, 2), (3, 3, 1), (4, 4, 1)]
    fitting = [s for s in shapes if unit * np.prod(s) <= largest]
    repeat = fitting[rng.integers(len(fitting))]
    atoms = li2mno3(repeat) if kind == 1 else licoo2(repeat) if kind == 0 else nmc(repeat, rng)
    return disorder(
        atoms,
        rng,
        rattle=rng.choice([0.01, 0.05, 0.15]),
        strain=rng.choice([0.0, 0.02, 0.04]),
        delithiation=rng.choice([0.0, 0.5, 1.0]),
        vacancies=int(rng.integers(0, 3)),
    )


# ---------------------------------------------------------------------------- helpers


@pytest.fixture(scope="module")
def fast() -> FastCHGNet:
    return FastCHGNet(device="cpu")


@pytest.fixture(scope="module")
def stock() -> CHGNet:
    return CHGNet.load(use_device="cpu", verbose=False)


@pytest.fixture(scope="module")
def r2scan() -> tuple[FastCHGNet, CHGNet]:
    """The other checkpoint of the package, fast and stock."""
    stock = CHGNet.load(model_name="r2scan", use_device="cpu", verbose=False)
    return FastCHGNet("r2scan", device="cpu"), stock


@pytest.fixture
def exact_stock(monkeypatch: pytest.MonkeyPatch) -> Iterator[CHGNet]:
    """Stock CHGNet in float64: what both stock and fast round."""
    model = CHGNet.load(use_device="cpu", verbose=False).double()
    monkeypatch.setattr(chgnet.graph.converter, "TORCH_DTYPE", torch.float64)
    monkeypatch.setattr(chgnet.model.model, "TORCH_DTYPE", torch.float64)
    monkeypatch.setattr(
        model.composition_model,
        "_assemble_graphs",
        lambda graphs: torch.stack(
            [
                torch.bincount(g.atomic_number - 1, minlength=94).double() / len(g.atomic_number)
                for g in graphs
            ]
        ),
    )
    torch.set_default_dtype(torch.float64)
    yield model
    torch.set_default_dtype(torch.float32)


def stock_evaluation(model: CHGNet, atoms: Atoms) -> Evaluation:
    # on one thread: on several, its many small operations crawl on a machine that is in use
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _stock_evaluation(model, atoms)
    finally:
        torch.set_num_threads(n_threads)


def _stock_evaluation(model: CHGNet, atoms: Atoms) -> Evaluation:
    said = model.predict_structure(AseAtomsAdaptor.get_structure(atoms), task="efsm")
    return Evaluation(
        float(said["e"]) * len(atoms),
        said["f"],
        full_3x3_to_voigt_6_stress(said["s"]) * GPa,
        said["m"],
    )


def assert_same(
    one: Evaluation, other: Evaluation, scale: float = 1.0, rounding: float = 0.0
) -> None:
    """Compare two evaluations, at `scale` times the tolerances against stock.

    `rounding` counts the float32 units of the energy per atom that `other` may be off by.
    """
    n_atoms = len(one.forces)
    tolerance = scale * ENERGY_TOLERANCE * max(1.0, n_atoms / 200)
    tolerance += rounding * n_atoms * float(np.spacing(np.float32(abs(other.energy) / n_atoms)))
    assert one.energy == pytest.approx(other.energy, abs=tolerance, rel=0)
    relative = FORCE_ROUNDING if rounding else 0.0
    np.testing.assert_allclose(
        one.forces, other.forces, rtol=relative, atol=scale * FORCE_TOLERANCE
    )
    for mine, theirs, relative, allowed in (
        (one.stress, other.stress, STRESS_ROUNDING, STRESS_TOLERANCE),
        (one.magmoms, other.magmoms, 0.0, MAGMOM_TOLERANCE),
    ):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            np.testing.assert_allclose(mine, theirs, rtol=relative, atol=scale * allowed)


def evaluate(model: FastCHGNet, atoms: Atoms) -> Evaluation:
    (result,) = model.evaluate([atoms], stress=True, magmoms=True)
    return result


def assert_equals_stock(fast: FastCHGNet, stock: CHGNet, atoms: Atoms) -> None:
    # stock adds up fractions and energies per atom in float32: off by 9e-5 eV in 127 atoms
    assert_same(evaluate(fast, atoms), stock_evaluation(stock, atoms), rounding=1)


# --------------------------------------------------------------------- against stock


@pytest.mark.parametrize("seed", range(6))
def test_equals_stock(fast: FastCHGNet, stock: CHGNet, seed: int) -> None:
    atoms = sample(seed, largest=50)
    assert_equals_stock(fast, stock, atoms)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 154))
def test_equals_stock_on_many_cells(fast: FastCHGNet, stock: CHGNet, seed: int) -> None:
    atoms = sample(seed, largest=200)
    assert_equals_stock(fast, stock, atoms)


@pytest.mark.parametrize("seed", range(6, 9))
def test_r2scan_equals_stock(r2scan: tuple[FastCHGNet, CHGNet], seed: int) -> None:
    assert_equals_stock(*r2scan, sample(seed, largest=50))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 250))
def test_r2scan_equals_stock_on_many_cells(r2scan: tuple[FastCHGNet, CHGNet], seed: int) -> None:
    assert_equals_stock(*r2scan, sample(seed, largest=200))


@pytest.mark.parametrize(
    ("seed", "largest"),
    [(3, 50), (4, 50), pytest.param(124, 200, marks=pytest.mark.slow)],
)
def test_equals_stock_in_float64(
    fast: FastCHGNet, exact_stock: CHGNet, seed: int, largest: int
) -> None:
    atoms = sample(seed, largest)
    expected = stock_evaluation(exact_stock, atoms)
    assert expected.forces.dtype == np.float64
    assert_same(evaluate(fast, atoms), expected)


def test_ideal_crystal_equals_stock(fast: FastCHGNet, stock: CHGNet) -> None:
    """Straight angles, where the derivative of the arc cosine is singular."""
    assert_equals_stock(fast, stock, licoo2())


def test_slab_equals_stock(fast: FastCHGNet, stock: CHGNet) -> None:
    slab = disorder(licoo2((2, 2, 1)), np.random.default_rng(1))
    slab.center(vacuum=8.0, axis=2)
    slab.pbc = (True, True, False)
    assert_equals_stock(fast, stock, slab)


def test_other_elements_equal_stock(fast: FastCHGNet, stock: CHGNet) -> None:
    atoms = disorder(licoo2(), np.random.default_rng(2))
    atoms.symbols[:4] = ["H", "Pu", "Bi", "F"]
    assert_equals_stock(fast, stock, atoms)


def test_structure_without_angles_equals_stock(fast: FastCHGNet, stock: CHGNet) -> None:
    atoms = Atoms("Li2", [(0, 0, 0), (4.0, 0, 0)], cell=[8.5, 9.0, 9.5], pbc=True)
    assert_equals_stock(fast, stock, atoms)


def test_comparison_notices_a_wrong_cutoff(stock: CHGNet) -> None:
    """The tolerances are tight enough to fail for a slightly different model."""
    atoms = sample(3, largest=30)
    wrong = FastCHGNet(device="cpu")
    wrong._bond_cutoff = 2.7
    with pytest.raises(AssertionError):
        assert_equals_stock(wrong, stock, atoms)


# ----------------------------------------------------------------- ways of calling it


def test_batch_equals_single(fast: FastCHGNet) -> None:
    """Different sizes, elements and cells; the one without short bonds too."""
    structures = [sample(seed, largest=40) for seed in range(20, 25)]
    structures.insert(2, Atoms("Li2", [(0, 0, 0), (4.0, 0, 0)], cell=[9.0] * 3, pbc=True))
    batch = fast.evaluate(structures, stress=True, magmoms=True)
    assert len(batch) == len(structures)
    for together, atoms in zip(batch, structures, strict=True):
        assert_same(together, evaluate(fast, atoms), scale=0.3)


def test_division_into_batches_changes_nothing(
    fast: FastCHGNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    structures = [sample(seed, largest=30) for seed in range(30, 34)]
    whole = fast.evaluate(structures, stress=True, magmoms=True)
    monkeypatch.setattr(fast_chgnet, "_MAX_ROWS", 1)
    for one, other in zip(whole, fast.evaluate(structures, stress=True, magmoms=True), strict=True):
        assert_same(one, other, scale=0.3)


def test_threads_change_no_bit(fast: FastCHGNet) -> None:
    """A run goes on elsewhere, on another number of cores, as if it had stayed."""
    atoms = disorder(licoo2((3, 3, 1)), np.random.default_rng(41))
    n_threads = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(evaluate(fast, atoms))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(n_threads)
    for result in results[1:]:
        assert result.energy == results[0].energy
        assert np.array_equal(result.forces, results[0].forces)
        assert np.array_equal(result.stress, results[0].stress)
        assert np.array_equal(result.magmoms, results[0].magmoms)


@pytest.mark.parametrize("block", [37, 100])
def test_block_size_changes_nothing(
    fast: FastCHGNet, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    atoms = sample(41, largest=60)
    expected = evaluate(fast, atoms)
    monkeypatch.setattr(chgnet_layers, "_BLOCK", block)
    assert_same(evaluate(fast, atoms), expected, scale=0.3)


def test_plain_operations_equal_the_kernels(
    fast: FastCHGNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU runs."""
    structures = [sample(seed, largest=40) for seed in (50, 51)]
    fused = fast.evaluate(structures, stress=True, magmoms=True)
    monkeypatch.setattr(fast, "_fused", False)
    plain = fast.evaluate(structures, stress=True, magmoms=True)
    for one, other in zip(fused, plain, strict=True):
        assert_same(one, other, scale=0.3)


def test_sequence_of_moves_equals_fresh_models(fast: FastCHGNet) -> None:
    """Memory kept between calls never shows, whatever was evaluated before."""
    rng = np.random.default_rng(7)
    atoms = disorder(licoo2((2, 2, 1)), rng)
    fresh = copy.deepcopy(fast)
    for step in range(6):
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
        if step == 2:
            atoms.set_cell(atoms.cell.array * 1.03, scale_atoms=True)
        if step == 4:
            del atoms[3]
        moved = evaluate(fast, atoms)
        fresh._space = chgnet_layers.Workspace()
        assert_same(moved, evaluate(fresh, atoms.copy()), scale=0.1)


FRESH_PROCESS = """
import pickle, sys
import torch
from lrlo.workflows.fast_chgnet import FastCHGNet
torch.set_num_threads(2)
model = FastCHGNet(device="cpu")
for structures in pickle.load(sys.stdin.buffer):
    results = model.evaluate(structures, stress=True, magmoms=True)
sys.stdout.buffer.write(b"results:" + pickle.dumps(results))
"""


@pytest.mark.parametrize("compiled", ["before", pytest.param("anew", marks=pytest.mark.slow)])
def test_processes_agree_to_the_bit(tmp_path: Path, compiled: str) -> None:
    """As the first evaluation or not, with kernels loaded or just compiled: runs can resume."""
    structures = [sample(124, largest=100), sample(61, largest=30)]
    calls = [[structures], [[licoo2()], structures]]
    environments = [dict(os.environ), dict(os.environ)]
    if compiled == "anew":
        environments[0]["NUMBA_CACHE_DIR"] = str(tmp_path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FRESH_PROCESS],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for environment in environments
    ]
    with ThreadPoolExecutor(2) as pool:
        said = pool.map(lambda p, c: p.communicate(pickle.dumps(c))[0], processes, calls)
    one, other = (pickle.loads(output.partition(b"results:")[2]) for output in said)
    for mine, theirs in zip(one, other, strict=True):
        assert mine.energy == theirs.energy
        np.testing.assert_array_equal(mine.forces, theirs.forces)
        np.testing.assert_array_equal(mine.stress, theirs.stress)
        np.testing.assert_array_equal(mine.magmoms, theirs.magmoms)


def test_concurrent_calls_do_not_mix(fast: FastCHGNet) -> None:
    structures = [sample(seed, largest=30) for seed in range(60, 66)]
    alone = [evaluate(fast, atoms) for atoms in structures]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda atoms: evaluate(fast, atoms), structures))
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other, scale=0.3)


def test_results_outlive_the_next_call(fast: FastCHGNet) -> None:
    first = evaluate(fast, sample(70, largest=30))
    kept = copy.deepcopy(first)
    evaluate(fast, sample(71, largest=30))
    assert_same(first, kept, scale=0.0)


def test_only_what_is_asked_for(fast: FastCHGNet) -> None:
    (result,) = fast.evaluate([licoo2()])
    assert result.stress is None
    assert result.magmoms is None
    assert fast.evaluate([]) == []
    assert fast.version == "CHGNet 0.3.0"


def test_pickle(fast: FastCHGNet) -> None:
    atoms = sample(72, largest=20)
    assert_same(evaluate(pickle.loads(pickle.dumps(fast)), atoms), evaluate(fast, atoms), 0.1)


# ---------------------------------------------------------------------------- physics


def test_translation_and_wrapping(fast: FastCHGNet) -> None:
    atoms = sample(80, largest=50)
    moved = atoms.copy()
    moved.translate((1.234, -7.1, 20.3))
    moved.wrap()
    moved.positions[0] += 2 * moved.cell[0] - moved.cell[2]
    assert_same(evaluate(fast, moved), evaluate(fast, atoms), scale=0.5)


def test_permutation(fast: FastCHGNet) -> None:
    atoms = sample(81, largest=50)
    order = np.random.default_rng(0).permutation(len(atoms))
    there, back = evaluate(fast, atoms[order]), evaluate(fast, atoms)
    assert back.magmoms is not None
    expected = Evaluation(back.energy, back.forces[order], back.stress, back.magmoms[order])
    assert_same(there, expected, scale=0.5)


def test_rotation(fast: FastCHGNet) -> None:
    atoms = sample(82, largest=50)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation, scale_atoms=True)
    (one,), (other,) = fast.evaluate([turned]), fast.evaluate([atoms])
    expected = Evaluation(other.energy, other.forces @ rotation)
    assert_same(one, expected, scale=0.5)


def test_forces_are_the_slope_of_the_energy(fast: FastCHGNet) -> None:
    """Five-point differences; steps between float32 rounding and a quickly varying energy."""
    atoms = disorder(li2mno3(), np.random.default_rng(3), rattle=0.1)
    (result,) = fast.evaluate([atoms])
    rng = np.random.default_rng(4)
    step = 0.01
    for _ in range(3):
        direction = rng.normal(size=atoms.positions.shape)
        direction /= np.linalg.norm(direction)
        shifted = []
        for k in (-2, -1, 1, 2):
            image = atoms.copy()
            image.positions += k * step * direction
            shifted.append(image)
        e = [r.energy for r in fast.evaluate(shifted)]
        slope = (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * step)
        assert -np.sum(result.forces * direction) == pytest.approx(slope, abs=4e-3)
    assert np.abs(result.forces).max() > 0.5  # the comparison is not one of zeros
    np.testing.assert_allclose(result.forces.sum(0), 0, atol=1e-4)


def test_energy_is_conserved_in_dynamics(fast: FastCHGNet) -> None:
    """Velocity Verlet: the total energy stays, and strays by the square of the time step."""
    spreads = {}
    for step, n_steps in ((1.0, 40), (2.0, 20)):
        atoms = li2mno3()
        atoms.calc = FastCHGNetCalculator(model=fast)
        MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(1))
        dynamics = VelocityVerlet(atoms, timestep=step * fs)
        totals = []
        dynamics.attach(lambda a=atoms, t=totals: t.append(a.get_total_energy()))
        dynamics.run(n_steps)
        spreads[step] = np.ptp(totals)
        exchanged = 1.5 * len(atoms) * kB * 600 / 2  # half of the kinetic energy turns potential
        assert spreads[step] < 0.02 * exchanged
    assert 2.5 < spreads[2.0] / spreads[1.0] < 6


def test_stress_is_the_slope_of_the_energy(fast: FastCHGNet) -> None:
    atoms = disorder(li2mno3(), np.random.default_rng(5))
    (result,) = fast.evaluate([atoms], stress=True)
    assert result.stress is not None
    step = 0.004
    for voigt, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        shifted = []
        for k in (-2, -1, 1, 2):
            strain = np.zeros((3, 3))
            strain[i, j] += k * step / 2
            strain[j, i] += k * step / 2
            image = atoms.copy()
            image.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            shifted.append(image)
        e = [r.energy for r in fast.evaluate(shifted)]
        slope = (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * step) / atoms.get_volume()
        assert result.stress[voigt] == pytest.approx(slope, abs=1e-4)
    assert np.abs(result.stress).max() > 5e-3


@pytest.mark.parametrize("cutoff", [3.0, 6.0])
def test_bonds_vanish_smoothly_at_the_cutoffs(fast: FastCHGNet, cutoff: float) -> None:
    """A bond that leaves the graph takes no energy with it."""
    around = []
    for distance in (cutoff - 1e-4, cutoff + 1e-4):
        positions = [(0, 0, 0), (1.9, 0, 0), (0, distance, 0)]
        around.append(Atoms("CoOO", positions, cell=[20.0, 20.0, 20.0], pbc=True))
        if cutoff == 6.0:
            around[-1] += Atoms("O", [(0, distance, 2.0)])
    inside, outside = fast.evaluate(around)
    np.testing.assert_allclose(inside.forces, outside.forces, atol=1e-3)
    # what bonds that stay account for: the moved atoms' forces times the way they went
    work = -2e-4 * inside.forces[2:, 1].sum()
    assert outside.energy - inside.energy == pytest.approx(work, abs=1e-5)


# ----------------------------------------------------------------------------- errors


def test_unknown_element(fast: FastCHGNet) -> None:
    atoms = licoo2()
    atoms.symbols[0] = "Am"
    with pytest.raises(ValueError, match=r"does not know the element\(s\) Am"):
        fast.evaluate([licoo2(), atoms])


def test_isolated_atom(fast: FastCHGNet) -> None:
    atoms = Atoms("LiO2", [(0, 0, 0), (10, 0, 0), (11.5, 0, 0)], cell=[20.0] * 3, pbc=True)
    with pytest.raises(ValueError, match=r"structure 0 \(LiO2\).*within 6 Å of atom\(s\) \[0\]"):
        fast.evaluate([atoms])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions_that_are_no_numbers(fast: FastCHGNet, value: float) -> None:
    atoms = licoo2()
    atoms.positions[3, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        fast.evaluate([atoms])


def test_no_cell_no_atoms_no_list(fast: FastCHGNet) -> None:
    with pytest.raises(ValueError, match="no volume"):
        fast.evaluate([Atoms("O2", [(0, 0, 0), (0, 0, 1.2)])])
    with pytest.raises(ValueError, match="no atoms"):
        fast.evaluate([Atoms(cell=[5, 5, 5], pbc=True)])
    with pytest.raises(TypeError, match="sequence of structures"):
        fast.evaluate(licoo2())
    with pytest.raises(ValueError, match="Unknown model_name"):
        FastCHGNet("no such model")


def test_works_after_an_error(fast: FastCHGNet) -> None:
    atoms = licoo2()
    before = evaluate(fast, atoms)
    with pytest.raises(ValueError, match="no atoms"):
        fast.evaluate([atoms, Atoms(cell=[5, 5, 5], pbc=True)])
    assert_same(evaluate(fast, atoms), before, scale=0.1)


# ------------------------------------------------------------------------- calculator


def test_calculator_equals_model(fast: FastCHGNet) -> None:
    atoms = sample(90, largest=30)
    expected = evaluate(fast, atoms)
    atoms.calc = FastCHGNetCalculator(fast)
    assert atoms.get_potential_energy() == expected.energy
    assert atoms.get_potential_energy(force_consistent=True) == expected.energy
    np.testing.assert_array_equal(atoms.get_forces(), expected.forces)
    np.testing.assert_array_equal(atoms.get_stress(), expected.stress)
    np.testing.assert_array_equal(atoms.get_magnetic_moments(), expected.magmoms)


def test_calculator_computes_only_what_is_asked_for(
    fast: FastCHGNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, bool]] = []
    original = fast.evaluate

    def counting(structures: list[Atoms], **wanted: bool) -> list[Evaluation]:
        calls.append(wanted)
        return original(structures, **wanted)

    monkeypatch.setattr(fast, "evaluate", counting)
    atoms = licoo2()
    atoms.calc = FastCHGNetCalculator(fast)
    atoms.get_potential_energy()
    atoms.get_forces()
    assert calls == [{"stress": False, "magmoms": False}]
    assert "stress" not in atoms.calc.results
    atoms.get_stress()
    assert calls[1:] == [{"stress": True, "magmoms": False}]
    atoms.rattle(0.01)
    atoms.get_forces()
    assert len(calls) == 3


@pytest.mark.parametrize("before", [False, True])
def test_setting_for_small_numbers_is_left_as_it_was(fast: FastCHGNet, before: bool) -> None:
    try:
        torch.set_flush_denormal(before)
        evaluate(fast, licoo2())
        assert chgnet_layers._flushes_denormals() is before
    finally:
        torch.set_flush_denormal(False)
