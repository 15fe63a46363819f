"""GPAW as a backend: settings, refusals, and real relaxations where it is installed."""

from importlib import util
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure

from lrlo.analysis.barrier import band_barrier
from lrlo.workflows import gpaw_process
from lrlo.workflows.backend import BackendError, BackendSpec, Capability, load_backend, versioned
from lrlo.workflows.band import BandSettings, optimise_band
from lrlo.workflows.bonding import default_source, load_source
from lrlo.workflows.bonding_source import ScfError, TooLargeError
from lrlo.workflows.gpaw_backend import GpawBackend, GpawBackendSettings
from lrlo.workflows.gpaw_lcao import GpawLcao
from lrlo.workflows.gpaw_settings import HUBBARD_U, LAUNCHER_VARIABLE, GpawSettings
from lrlo.workflows.relax import RelaxMaker, to_atoms

from .test_tight_binding import LI2MNO3

needs_gpaw = pytest.mark.skipif(
    util.find_spec("gpaw") is None, reason="GPAW is not installed (bash scripts/gpaw.sh)"
)
LIF = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.06), ["Li", "F"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if GPAW were there, for what runs before it."""
    monkeypatch.setattr(gpaw_process.util, "find_spec", lambda name: object())
    monkeypatch.setattr(gpaw_process.metadata, "version", lambda name: "0")
    monkeypatch.delenv(LAUNCHER_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bases")


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpaw_process.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"libxc-dev .* pip install gpaw gpaw-data"):
        GpawBackend()


@pytest.mark.usefixtures("installed")
def test_backend_by_name_with_its_capabilities_and_label() -> None:
    spec = BackendSpec(name="gpaw", kwargs={"cutoff": 640})
    backend = load_backend(spec)
    assert backend.capabilities >= {
        *(Capability.RELAX, Capability.STATIC, Capability.NEB),
        *(Capability.MAGMOMS, Capability.BONDING),
    }
    assert "PBE+U, plane waves 640 eV" in versioned(spec).version
    assert GpawBackend({"mode": "lcao"}).level_of_theory.model == "PBE+U, LCAO dzp"
    assert GpawBackend({"functional": "r2SCAN"}).level_of_theory.model.startswith("r2SCAN, plane")


WRONG = {
    "unknown": ({"encut": 500}, r"backend\.kwargs\.encut: .*settings: functional, hubbard_u"),
    "functional": ({"functional": "B3LYP"}, r"kwargs\.functional: .*'PBE' or 'r2SCAN'"),
    "r2scan in lcao": ({"functional": "r2SCAN", "mode": "lcao"}, "needs plane waves"),
    "sz": ({"mode": "lcao", "basis": "sz"}, r"kwargs\.basis: .*'szp' or 'dzp'"),
    "u of oxygen": ({"hubbard_u": {"O": 3}}, "O has no d shell"),
    "cutoff": ({"cutoff": 50}, r"kwargs\.cutoff: .* 200"),
    "smearing": (
        {"ladder": [{"smearing": 0.05}, {"smearing": 0.2}]},
        "smearing 0.2 eV where it is 0.05 eV elsewhere",
    ),
    "ranks": ({"n_ranks": 0}, r"kwargs\.n_ranks"),
}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("kwargs", "message"), WRONG.values(), ids=WRONG.keys())
def test_settings_that_cannot_be(kwargs: dict, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        GpawBackend(kwargs)


@pytest.mark.usefixtures("installed")
def test_settings_reach_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = GpawBackendSettings(smearing=0.1, n_ranks=4)
    assert {rung.smearing for rung in settings.ladder} == {0.1}
    assert settings.u_values == HUBBARD_U
    assert GpawBackendSettings(functional="r2SCAN").u_values == {}
    atoms = [to_atoms(LI2MNO3), bulk("Li", "bcc", a=3.44, cubic=True).repeat(2)]
    asked = gpaw_process.request(settings, {"name": "pw", "ecut": 500}, atoms, ["forces"])
    assert asked["setups"] == {"Mn": f":d,{HUBBARD_U['Mn']}"}
    assert [cell["k_mesh"] for cell in asked["structures"]] == [[4, 4, 4], [3, 3, 3]]
    oxide, metal = (cell["magmoms"] for cell in asked["structures"])
    assert sum(oxide) == 6
    assert not any(metal)  # not spin-polarised
    atoms[0].set_initial_magnetic_moments([-3.0 if s == "Mn" else 0.0 for s in atoms[0].symbols])
    again = gpaw_process.request(settings, {"name": "lcao"}, atoms[:1], [])
    assert sum(again["structures"][0]["magmoms"]) == -6
    assert settings.launch_command == ["mpiexec", "-n", "4"]
    monkeypatch.setenv(LAUNCHER_VARIABLE, "srun --cpu-bind=cores -n 64")
    assert settings.launch_command == ["srun", "--cpu-bind=cores", "-n", "64"]


@pytest.mark.usefixtures("installed")
def test_refusals_come_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object) -> None:
        raise AssertionError("GPAW was started")

    monkeypatch.setattr(gpaw_process, "_run", never)
    atoms = to_atoms(LI2MNO3)
    with pytest.raises(BackendError, match=r"lcao, which has no stress; set .*mode to pw"):
        GpawBackend({"mode": "lcao"}).evaluate([atoms], stress=True)
    with pytest.raises(TooLargeError, match=r"768 atoms with GPAW .* raise max_seconds"):
        GpawBackend().evaluate([atoms.repeat(4)])
    with pytest.raises(TooLargeError, match="raise max_gigabytes"):
        GpawBackend({"max_seconds": 1e9, "max_gigabytes": 1}).evaluate([atoms.repeat(2)])
    one, four = (GpawBackend({"n_ranks": n}).estimate(LI2MNO3) for n in (1, 4))
    assert four.seconds < one.seconds / 2


@pytest.mark.usefixtures("installed")
def test_bonding_of_a_gpaw_study_comes_from_gpaw() -> None:
    assert default_source(BackendSpec()).name == "tight_binding"
    kwargs = {"hubbard_u": {"Mn": 4.5}, "n_ranks": 8, "cutoff": 600, "mode": "pw"}
    source = load_source(default_source(BackendSpec(name="gpaw", kwargs=kwargs)))
    assert isinstance(source, GpawLcao)
    assert source.settings == GpawSettings(hubbard_u={"Mn": 4.5}, n_ranks=8)
    other = default_source(BackendSpec(name="gpaw", kwargs={"functional": "r2SCAN"}))
    assert load_source(other).level_of_theory.model == "PBE+U, LCAO dzp"
    with pytest.raises(ValidationError, match="needs plane waves"):
        GpawSettings(functional="r2SCAN")


def small(bases: Path, **changes: object) -> dict:
    values = {"mode": "lcao", "grid_spacing": 0.2, "k_mesh": (2, 2, 2)}
    return {**values, "basis_folder": str(bases), **changes}


@needs_gpaw
def test_forces_are_the_slope_of_the_energy(bases: Path) -> None:
    """LiF, two atoms: the smallest case that runs the whole way."""
    backend = GpawBackend(small(bases))
    images = []
    for shift in (0.09, 0.1, 0.11):
        atoms = to_atoms(LIF)
        atoms.positions[0, 2] += shift
        images.append(atoms)
    low, middle, high = backend.evaluate(images, magmoms=True)
    assert middle.magmoms is not None
    assert not middle.magmoms.any()
    assert middle.stress is None
    slope = -(high.energy - low.energy) / 0.02
    assert middle.forces[0, 2] == pytest.approx(slope, abs=0.02)
    assert -0.4 < slope < -0.1  # back to its site; plane waves give -0.15 eV/Å


@needs_gpaw
def test_failures_of_gpaw_are_told(bases: Path) -> None:
    hopeless = GpawBackend(small(bases, k_mesh=(1, 1, 1), ladder=[{"max_iterations": 2}]))
    with pytest.raises(ScfError, match=r"did not converge for (LiF|FLi); .* 2 iterations"):
        hopeless.evaluate([to_atoms(LIF)])


@pytest.mark.slow
@needs_gpaw
def test_stress_is_the_slope_of_the_energy() -> None:
    """MnO with +U in plane waves: moment, and stress against finite differences."""
    backend = GpawBackend({"k_mesh": (2, 2, 2)})
    half = 4.44 / 2
    cell = half * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    scaled = [[0, 0, 0], [0.5, 0.5, 0.5]]
    volumes = [
        Atoms("MnO", cell=cell * stretch, scaled_positions=scaled, pbc=True)
        for stretch in (0.99, 1.0, 1.01)
    ]
    (middle,) = backend.evaluate(volumes[1:2], stress=True, magmoms=True)
    low, high = backend.evaluate([volumes[0], volumes[2]])
    slope = (high.energy - low.energy) / (volumes[2].get_volume() - volumes[0].get_volume())
    assert middle.stress is not None
    # At a fixed cutoff the number of plane waves grows with the cell, which the stress leaves out.
    assert middle.stress[:3].mean() == pytest.approx(slope, abs=0.015)
    assert middle.magmoms is not None
    assert middle.magmoms[0] == pytest.approx(4.6, abs=0.2)


@pytest.mark.slow
@needs_gpaw
def test_relaxation_and_band(bases: Path) -> None:
    """Ammonia relaxes and turns inside out: bond length, and the same barrier from both sides."""
    spec = BackendSpec(name="gpaw", kwargs=small(bases, k_mesh=(1, 1, 1)))
    flat, height = 0.95, 0.35
    around = [[flat * np.cos(a), flat * np.sin(a), -height] for a in 2 * np.pi / 3 * np.arange(3)]
    guess = Structure(
        Lattice.cubic(6.4),
        ["N", "H", "H", "H"],
        np.array([[0, 0, 0], *around]) + 3.2,
        coords_are_cartesian=True,
    )
    relax = RelaxMaker.make.original  # type: ignore[attr-defined]  # run here, not as a job
    document = relax(RelaxMaker(backend=spec, fmax=0.05), guess)
    assert document.converged
    assert document.structure.get_distance(0, 1) == pytest.approx(1.02, abs=0.03)
    assert document.magmoms == [0.0] * 4
    first = to_atoms(document.structure)
    last = first.copy()
    # Mirrored at the plane half way between N and H, so that the middle image is the flat molecule.
    plane = (first.positions[0, 2] + first.positions[1:, 2].mean()) / 2
    last.positions[:, 2] = 2 * plane - last.positions[:, 2]
    middle = first.copy()
    middle.positions = (first.positions + last.positions) / 2
    settings = BandSettings(n_images=1, fmax=0.1)
    band = optimise_band([first, middle, last], load_backend(spec).evaluate, settings)
    assert band.converged
    barrier = band_barrier(band.arc_lengths, band.energies, band.tangential_forces)
    assert barrier.forward == pytest.approx(barrier.reverse, abs=0.02)
    assert 0.1 < barrier.forward < 0.4  # experiment 0.25 eV
