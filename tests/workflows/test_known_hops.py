"""Li barriers of CHGNet 0.3.0 against values computed before with stock tools.

Protocol of the reference values: lattice fixed, end states relaxed, three images, no climbing
image, highest minus lowest image.

The LiCoO2 references (0.448 and 0.119 eV) were stated for a = 2.84 and c = 14.3 Å, where they are
not reproduced: this driver gives 0.388 and 0.071 eV, ASE's own NEB with the stock calculator 0.380.
They are reproduced at the lattice that the model itself relaxes to (2.834 and 14.19 Å).
"""

import numpy as np
import pytest
from ase import Atoms
from ase.build import make_supercell
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.spacegroup import crystal

from lrlo.workflows.backend import BackendCalculator, BackendSpec, load_backend
from lrlo.workflows.band import BandSettings, optimise_band
from lrlo.workflows.initial_path import initial_path

pytestmark = pytest.mark.slow

THREE_IMAGES = BandSettings(n_images=3, climb=False, fmax=0.05, max_steps=200)


def max_minus_min(host: Atoms, vacancies: list[int], mover: int) -> float:
    """Height of the band for `mover` hopping into the first of the vacancies, eV."""
    backend = load_backend(BackendSpec(name="emulator"))
    initial = host.copy()
    final = host.copy()
    final.positions[mover] = host.positions[mover] + host.get_distance(
        mover, vacancies[0], mic=True, vector=True
    )
    for atoms in (initial, final):
        del atoms[vacancies]
        atoms.calc = BackendCalculator(backend)
        assert BFGS(atoms, logfile=None).run(fmax=0.03, steps=300)
    band = optimise_band(initial_path(initial, final, 3), backend.evaluate, THREE_IMAGES)
    assert band.converged
    return float(np.ptp(band.energies))


def conventional_licoo2(a: float = 2.84, c: float = 14.3) -> Atoms:
    return crystal(
        ["Co", "Li", "O"],
        basis=[(0, 0, 0), (0, 0, 0.5), (0, 0, 0.2605)],
        spacegroup=166,
        cellpar=[a, a, c, 90, 90, 120],
    )


@pytest.fixture(scope="module")
def own_lattice() -> tuple[float, float]:
    """a and c of LiCoO2 as the model relaxes it, Å."""
    atoms = conventional_licoo2()
    atoms.calc = BackendCalculator(load_backend(BackendSpec(name="emulator")))
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.005, steps=200)
    lengths = atoms.cell.lengths()
    return float(lengths[0]), float(lengths[2])


def licoo2(a: float, c: float) -> Atoms:
    """3 x 3 x 2 primitive cells of LiCoO2.

    The primitive vectors are two of the hexagonal layer and one to the next layer: the supercell
    keeps R-3m, so that all hops of a kind are one and the same.
    """
    hexagonal = conventional_licoo2(a, c)
    to_primitive = np.array([[3, 0, 0], [0, 3, 0], [2, 1, 1]]) / 3
    cell = to_primitive @ hexagonal.cell.array
    frac = np.array([[0, 0, 0], [0, 0, 0.5], [0, 0, 0.2605], [0, 0, -0.2605]])
    primitive = Atoms("CoLiO2", positions=frac @ hexagonal.cell.array, cell=cell, pbc=True)
    return make_supercell(primitive, np.diag([3, 3, 2]))


def neighbours(atoms: Atoms, centre: int, symbol: str, cutoff: float) -> list[int]:
    """Indices of `symbol` within `cutoff` Å of an atom, nearest first."""
    distances = atoms.get_distances(centre, np.arange(len(atoms)), mic=True)
    order = np.argsort(distances)
    return [i for i in order if atoms[i].symbol == symbol and 0.1 < distances[i] < cutoff]


def monovacancy(atoms: Atoms) -> float:
    """Height of the band of a Li hop into a single vacancy, eV."""
    vacancy = next(i for i, atom in enumerate(atoms) if atom.symbol == "Li")
    mover = neighbours(atoms, vacancy, "Li", 3.0)[0]
    return max_minus_min(atoms, [vacancy], mover)


def test_lattice_is_near_the_measured_one(own_lattice: tuple[float, float]) -> None:
    """2.816 and 14.05 Å by diffraction; PBE makes cells larger by about 1 %."""
    assert own_lattice == pytest.approx((2.816, 14.05), rel=0.02)


def test_licoo2_monovacancy(own_lattice: tuple[float, float]) -> None:
    assert monovacancy(licoo2(*own_lattice)) == pytest.approx(0.448, abs=0.03)


def test_wider_li_gap_lowers_the_barrier() -> None:
    assert 0.3 < monovacancy(licoo2(2.84, 14.3)) < 0.42


def test_licoo2_divacancy(own_lattice: tuple[float, float]) -> None:
    atoms = licoo2(*own_lattice)
    first = next(i for i, atom in enumerate(atoms) if atom.symbol == "Li")
    around = neighbours(atoms, first, "Li", 3.0)
    second, mover = next(
        (i, j) for i in around for j in around if 0.1 < atoms.get_distance(i, j, mic=True) < 3.0
    )
    assert max_minus_min(atoms, [first, second], mover) == pytest.approx(0.119, abs=0.03)


def test_li2mno3_from_the_tm_layer_to_the_li_layer() -> None:
    atoms = crystal(
        ["Li", "Li", "Li", "Mn", "O", "O"],
        basis=[
            (0, 0.5, 0),
            (0, 0, 0.5),
            (0, 0.6606, 0.5),
            (0, 0.16708, 0),
            (0.2189, 0, 0.2273),
            (0.2540, 0.32119, 0.2233),
        ],
        spacegroup=12,
        cellpar=[4.904, 8.480, 4.984, 90, 109.44, 90],
    )
    atoms = make_supercell(atoms, np.diag([2, 1, 2]))
    assert len(atoms) == 96
    site_2c = np.flatnonzero(atoms.arrays["spacegroup_kinds"] == 1)
    site_2b = np.flatnonzero(atoms.arrays["spacegroup_kinds"] == 0)
    vacancy = int(site_2c[0])
    distances = atoms.get_distances(vacancy, site_2b, mic=True)
    mover = int(site_2b[distances.argmin()])
    assert max_minus_min(atoms, [vacancy], mover) == pytest.approx(0.617, abs=0.03)
