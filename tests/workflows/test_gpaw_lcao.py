"""GPAW as a source of bonding: labels, costs and failures; real calculations where it is there."""

from importlib import util
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure

from lrlo.analysis.bonding import BondingSolution, analyse_bonding
from lrlo.analysis.bonding_documents import EnergyWindow, IcohpScale
from lrlo.analysis.orbital_populations import Orbital, check_sum_rules
from lrlo.structures.oxygen_environment import OxygenClass
from lrlo.workflows import gpaw_lcao, gpaw_process
from lrlo.workflows.backend import BackendError
from lrlo.workflows.bonding_source import ScfError, TooLargeError
from lrlo.workflows.gpaw_lcao import GpawLcao
from lrlo.workflows.gpaw_settings import HUBBARD_U, GpawRung, GpawSettings
from lrlo.workflows.relax import to_atoms

from .test_tight_binding import LI2MNO3, high_spin

needs_gpaw = pytest.mark.skipif(
    util.find_spec("gpaw") is None, reason="GPAW is not installed (pip install gpaw gpaw-data)"
)
MNO = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.44), ["Mn", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bases")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if GPAW were there, for what runs before it."""
    monkeypatch.setattr(gpaw_process.util, "find_spec", lambda name: object())
    monkeypatch.setattr(gpaw_process.metadata, "version", lambda name: "0")


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpaw_process.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"libxc-dev .* pip install gpaw gpaw-data"):
        GpawLcao()


def test_labels_of_a_double_zeta_basis_with_semicore() -> None:
    """Mn as GPAW lists it: single zetas by l, then second zetas, then the polarisation."""
    names = [
        *((0, "3s-sz confined orbital"), (0, "4s-sz confined orbital")),
        *((1, "3p-sz confined orbital"), (2, "3d-sz confined orbital")),
        *((0, "3s-dz split-valence wave"), (0, "4s-dz split-valence wave")),
        *((1, "3p-dz split-valence wave"), (2, "3d-dz split-valence wave")),
        (3, "f-type Gaussian polarization"),
    ]
    labels = gpaw_lcao._orbitals(5, [{"n": None, "l": m, "type": name} for m, name in names])
    assert len(labels) == 27
    assert {label.atom for label in labels} == {5}
    shells = list(dict.fromkeys((label.shell, label.zeta) for label in labels))
    assert shells == [
        *(("3s", 1), ("4s", 1), ("3p", 1), ("3d", 1)),
        *(("3s", 2), ("4s", 2), ("3p", 2), ("3d", 2), ("4f", 1)),
    ]
    assert [label.m for label in labels if label.shell == "3d"] == 2 * [-2, -1, 0, 1, 2]


def test_atoms_outside_the_cell_get_the_phase_of_their_image() -> None:
    """Hopping to the atom wrapped to 0.3: in the user's cell that is the image one cell below."""
    structure = Structure(Lattice.cubic(4), ["O", "O"], [[0, 0, 0], [0, 0, 1.3]])
    k_points = np.array([[0, 0, 0.2]])
    orbitals = [Orbital(0, 2, 0, 0), Orbital(1, 2, 0, 0)]
    (phases,) = gpaw_lcao._phases(structure, k_points, orbitals)
    wrapped = np.array([[0, -1.0], [-1.0, 0]])
    hopping = (phases.conj()[:, None] * wrapped * phases)[0, 1]
    assert hopping == pytest.approx(-np.exp(-2j * np.pi * 0.2))


@pytest.mark.usefixtures("installed")
def test_cost_is_estimated_and_refused_above_a_limit() -> None:
    source = GpawLcao(GpawSettings(k_mesh=(2, 2, 2)))
    cost = source.estimate(LI2MNO3)
    assert cost.n_orbitals == 4 * 5 + 2 * 27 + 6 * 13
    assert GpawLcao(GpawSettings(basis="sz")).estimate(LI2MNO3).n_orbitals == 4 + 2 * 10 + 6 * 4
    assert GpawLcao(GpawSettings(k_mesh=(4, 4, 4))).estimate(LI2MNO3).seconds > 3 * cost.seconds
    parallel = GpawLcao(GpawSettings(k_mesh=(2, 2, 2), n_ranks=4)).estimate(LI2MNO3)
    assert parallel.seconds < cost.seconds
    large = LI2MNO3.copy().make_supercell((3, 3, 3))
    with pytest.raises(TooLargeError, match=r"324 atoms with GPAW .* raise max_seconds"):
        source.solve(large)


@pytest.mark.usefixtures("installed")
def test_settings_reach_the_request() -> None:
    settings = GpawSettings(hubbard_u={"Mn": 4.5, "Ni": 6.0}, k_density=1.2)
    request = gpaw_process.request(settings, {"name": "lcao"}, [to_atoms(LI2MNO3)], ["states"])
    assert request["setups"] == {"Mn": ":d,4.5"}  # only elements of the cell
    (cell,) = request["structures"]
    assert cell["k_mesh"] == [2, 2, 2]
    assert sorted(set(cell["magmoms"])) == [0.0, 3.0]
    assert request["basis_cutoffs"]["Mn"] < request["basis_cutoffs"]["Li"]
    assert GpawSettings().u_values == HUBBARD_U
    assert "+U" in GpawLcao(settings).level_of_theory.model
    assert "+U" not in GpawLcao(GpawSettings(hubbard_u={})).level_of_theory.model


@pytest.mark.parametrize(
    "wrong",
    [
        *({"basis": "tzp"}, {"ladder": []}, {"n_ranks": 0}, {"k_mesh": [2, 2]}, {"U": {}}),
        *({"functional": "r2SCAN"}, {"hubbard_u": {"O": 4.0}}),
    ],
)
def test_settings_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        GpawSettings.model_validate(wrong)


@pytest.mark.usefixtures("installed")
def test_launcher_that_is_missing_and_worker_that_dies(bases: Path) -> None:
    missing = GpawSettings(launcher=("no-such-mpiexec", "-n"), n_ranks=2, basis_folder=bases)
    with pytest.raises(BackendError, match="no-such-mpiexec cannot be started"):
        GpawLcao(missing).solve(MNO)
    dies = GpawSettings(launcher=("false", "-n"), n_ranks=2, basis_folder=bases)
    with pytest.raises(BackendError, match="exit 1"):
        GpawLcao(dies).solve(MNO)
    traceback = (
        "Traceback (most recent call last):\n  x\nKeyError: 'U'\n---\nmpiexec: job aborted\n"
    )
    assert gpaw_process._cause(traceback) == "KeyError: 'U'"


def small(bases: Path, **changes: object) -> GpawSettings:
    values: dict = {"k_mesh": (2, 2, 2), "basis": "sz", "grid_spacing": 0.25, "hubbard_u": {}}
    return GpawSettings(**{**values, "basis_folder": bases, **changes})


@pytest.fixture(scope="module")
def mno(bases: Path) -> BondingSolution:
    return GpawLcao(small(bases)).solve(MNO, [5.0, 0.0])


@needs_gpaw
def test_smallest_crystal(mno: BondingSolution) -> None:
    """Rock-salt MnO: sum rules with GPAW's own energies, six bonds to one and the same Mn."""
    rules = check_sum_rules(mno.states)
    assert rules.violations == []
    assert rules.n_electrons == 15 + 6
    result = analyse_bonding(mno, MNO, None, EnergyWindow())
    (bond,) = result.bonds
    assert (bond.n_images, bond.length) == (6, pytest.approx(2.22))
    assert bond.minus_icohp_dp > 0
    assert result.semicore_left_out == ["Mn 3p", "Mn 3s"]
    assert result.icohp_scale is IcohpScale.DFT
    assert result.of_class(OxygenClass.O0).n_oxygen == 1
    assert sum("temperature" in mark for mark in result.marks) == 0


@needs_gpaw
def test_failures_of_gpaw_are_told(bases: Path, mno: BondingSolution) -> None:
    hopeless = small(bases, k_mesh=(1, 1, 1), ladder=(GpawRung(max_iterations=2),))
    with pytest.raises(ScfError, match=r"2 iterations, the last iter: 1 .* iter: 2 "):
        GpawLcao(hopeless).solve(MNO)
    uranium = Structure(Lattice.cubic(4), ["U", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with pytest.raises(BackendError, match=r"'U'.*pip install gpaw-data"):
        GpawLcao(small(bases)).solve(uranium)


@pytest.mark.slow
@needs_gpaw
def test_li2mno3_with_pbe_u(bases: Path) -> None:
    """12 atoms: gap, moment and -ICOHP of PBE+U (about two minutes)."""
    solution = GpawLcao(GpawSettings(basis_folder=bases)).solve(LI2MNO3, high_spin(LI2MNO3))
    result = analyse_bonding(solution, LI2MNO3, None, EnergyWindow())
    assert result.gap == pytest.approx(2.2, abs=0.2)
    assert result.total_moment == pytest.approx(6, abs=0.01)
    assert result.tm_moments["Mn"].mean == pytest.approx(3.07, abs=0.1)
    strength = result.of_class(OxygenClass.O4).minus_icohp
    assert strength is not None
    assert strength.mean == pytest.approx(3.4, abs=0.3)
    assert result.sum_rules.violations == []
