"""Input of VASP and LOBSTER against references that are derived beside them; reading the output."""

import socket
import stat
from collections.abc import Callable
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from jobflow import Flow
from pydantic import BaseModel, ValidationError
from pymatgen.core import Structure

from lrlo.analysis.bonding_documents import BondingResult
from lrlo.structures.oxygen_environment import OxygenClass
from lrlo.workflows import vasp_lobster
from lrlo.workflows.backend import BackendError
from lrlo.workflows.bonding import BondingMaker, BondingSourceSpec
from lrlo.workflows.gpaw_settings import HUBBARD_U
from lrlo.workflows.local_run import run_flow
from lrlo.workflows.store import open_store
from lrlo.workflows.tight_binding import TightBinding
from lrlo.workflows.vasp_lobster import (
    VaspLobster,
    VaspSettings,
    incar,
    k_mesh,
    lobster_basis,
    lobster_maker,
    potcars,
    require_potcars,
    sorted_by_element,
    with_moments,
)

from ..analysis.lobster_files import write_lobster_files
from .test_task import Listener
from .test_tight_binding import LI2MNO3, high_spin

REFERENCES = Path(__file__).parent / "references" / "vasp"
needs_atomate2 = pytest.mark.skipif(
    any(util.find_spec(name) is None for name in ("atomate2", "lobsterpy", "ijson")),
    reason="atomate2 is not installed (pip install 'lrlo[vasp]')",
)


def test_incar_by_functional_and_element() -> None:
    pbe = incar(LI2MNO3, VaspSettings())
    assert pbe["LDAUU"] == {"Mn": HUBBARD_U["Mn"]}
    assert (pbe["LDAU"], pbe["LDAUL"], pbe["METAGGA"]) == (True, {"Mn": 2}, None)
    r2scan = incar(LI2MNO3, VaspSettings(functional="r2SCAN"))
    assert (r2scan["LDAU"], r2scan["METAGGA"], r2scan["LASPH"]) == (False, "R2Scan", True)
    other = incar(LI2MNO3, VaspSettings(functional="r2SCAN", hubbard_u={"Mn": 1.8, "Ni": 2.1}))
    assert other["LDAUU"] == {"Mn": 1.8}
    assert not incar(LI2MNO3, VaspSettings(hubbard_u={}))["LDAU"]
    assert VaspSettings().level_of_theory.model == "PBE+U, LOBSTER"
    assert VaspSettings(functional="r2SCAN").level_of_theory.model == "r2SCAN, LOBSTER"


def test_k_mesh_of_a_cell() -> None:
    assert k_mesh(LI2MNO3.lattice.matrix, 3.0) == (5, 5, 4)
    assert k_mesh(np.diag([2 * np.pi, 4 * np.pi, 40.0]), 3.0) == (3, 2, 1)


def test_datasets_and_basis() -> None:
    settings = VaspSettings(potcars={"Mn": "Mn_sv"})
    assert potcars(LI2MNO3, settings) == {"Li": "Li_sv", "Mn": "Mn_sv", "O": "O"}
    assert set(lobster_basis(LI2MNO3, settings)["Mn"].split()) == {"3s", "3p", "3d", "4s"}
    with pytest.raises(BackendError, match=r"no standard basis .*Mn_none"):
        lobster_basis(LI2MNO3, VaspSettings(potcars={"Mn": "Mn_none"}))


def test_missing_datasets_say_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pymatgen.core import SETTINGS

    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(tmp_path))
    with pytest.raises(BackendError, match=r"no POTCAR Li_sv \(PBE_54\).*PMG_VASP_PSP_DIR"):
        require_potcars(LI2MNO3, VaspSettings())


@pytest.mark.parametrize(
    "wrong",
    [
        *({"functional": "LDA"}, {"hubbard_u": {"O": 4}}, {"cutoff": 10}, {"smearing": 0}),
        *({"k_density": -1}, {"encut": 520}),
    ],
)
def test_settings_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        VaspSettings.model_validate(wrong)


def test_missing_atomate2_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vasp_lobster.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"pip install 'lrlo\[vasp\]'"):
        VaspLobster().analyse(LI2MNO3)


def test_atoms_of_an_element_come_together() -> None:
    mixed = Structure.from_sites([LI2MNO3[i] for i in (11, 0, 4, 1, 10, 5)])
    ordered, order = sorted_by_element(mixed)
    assert [site.specie.symbol for site in ordered] == ["O", "O", "Li", "Li", "Mn", "Mn"]
    assert order == [0, 4, 1, 3, 2, 5]
    assert with_moments(mixed, None).site_properties["magmom"] == [0, 0, 3, 0, 0, 3]
    assert with_moments(mixed, [0, 0, -3, 0, 0, 3]).site_properties["magmom"][2] == -3


def maker(**settings: object) -> BondingMaker:
    return BondingMaker(source=BondingSourceSpec(name="vasp", settings=settings))


def test_task_is_known_by_its_content() -> None:
    jobs = [maker(hubbard_u={"Mn": u}).make(LI2MNO3) for u in (3.9, 3.9, 4.0)]
    assert jobs[0].uuid == jobs[1].uuid != jobs[2].uuid


def lines_of(text: str) -> list[str]:
    """Lines in any order, as programs read them: case and spaces do not matter."""
    return sorted(" ".join(line.lower().split()) for line in text.splitlines() if line.strip())


@needs_atomate2
@pytest.mark.filterwarnings("ignore")
def test_input_of_vasp(tmp_path: Path) -> None:
    structure = with_moments(LI2MNO3, None)
    maker = lobster_maker(structure, VaspSettings(), tmp_path)
    generator = maker.lobster_static_maker.input_set_generator
    written = generator.get_input_set(structure, potcar_spec=True)
    for name in ("INCAR", "KPOINTS", "POTCAR.spec"):
        assert lines_of(str(written[name])) == lines_of((REFERENCES / name).read_text()), name


@needs_atomate2
@pytest.mark.filterwarnings("ignore")
def test_flow_and_input_of_lobster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LOBSTER's job runs with a stand-in for the program, which keeps what it was given."""
    from pymatgen.io.vasp import Incar, Poscar

    program = tmp_path / "lobster"
    program.write_text(f"#!/bin/sh\ncp lobsterin {tmp_path}/given\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    structure = with_moments(LI2MNO3, None)
    settings = VaspSettings(lobster_command=str(program), vasp_command="srun vasp_std")
    maker = lobster_maker(structure, settings, tmp_path)
    assert maker.lobster_static_maker.run_vasp_kwargs == {"vasp_cmd": "srun vasp_std"}
    flow = maker.make(structure)
    names = [job.name for job in flow.jobs]
    assert names[:3] == ["get_basis_infos", "update_user_incar_settings_maker", "get_lobster_jobs"]
    first = flow.jobs[0]
    found = first.function(*first.function_args, **first.function_kwargs)
    assert found["nbands"] == 62
    (basis,) = found["basis_dict"]  # one run of LOBSTER
    run = tmp_path / "run"
    run.mkdir()
    Poscar(LI2MNO3).write_file(run / "POSCAR")
    Incar.from_file(REFERENCES / "INCAR").write_file(run / "INCAR")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    make = type(maker.lobster_maker).make.original
    with pytest.raises(FileNotFoundError):  # there is no output to read
        make(maker.lobster_maker, str(run), basis)
    assert lines_of((tmp_path / "given").read_text()) == lines_of(
        (REFERENCES / "lobsterin").read_text()
    )


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand-ins for VASP, its datasets and LOBSTER; what was run, in order.

    LOBSTER's writes the files of known states, once there is a file ``licence``.
    """
    from atomate2.lobster import jobs as lobster_jobs
    from atomate2.lobster.files import VASP_OUTPUT_FILES
    from atomate2.lobster.schemas import LobsterTaskDocument
    from atomate2.vasp.jobs import base
    from emmet.core.tasks import TaskDoc, TaskState
    from pymatgen.io.vasp.sets import VaspInputGenerator

    ran: list[str] = []
    get_input_set = VaspInputGenerator.get_input_set

    def run_vasp(**settings: object) -> None:
        ran.append("vasp")
        assert "NBANDS = 62" in Path("INCAR").read_text()
        for name in VASP_OUTPUT_FILES:
            Path(name).touch()

    def run_lobster(**settings: object) -> None:
        ran.append("lobster")
        assert Path("WAVECAR").exists()
        if not (tmp_path / "licence").exists():
            raise RuntimeError("LOBSTER found no licence")
        write_lobster_files(TightBinding().solve(LI2MNO3, high_spin(LI2MNO3)), Path.cwd())

    def document(kind: type[BaseModel], **fields: object) -> Callable[..., BaseModel]:
        return lambda *a, **k: kind.model_construct(
            dir_name=f"{socket.gethostname()}:{Path.cwd()}", **fields
        )

    monkeypatch.setattr(vasp_lobster, "require_potcars", lambda structure, settings: None)
    monkeypatch.setattr(
        VaspInputGenerator,
        "get_input_set",
        lambda *a, **k: get_input_set(*a, **{**k, "potcar_spec": True}),
    )
    monkeypatch.setattr(base, "run_vasp", run_vasp)
    monkeypatch.setattr(base, "get_vasp_task_document", document(TaskDoc, state=TaskState.SUCCESS))
    monkeypatch.setattr(lobster_jobs, "run_lobster", run_lobster)
    monkeypatch.setattr(LobsterTaskDocument, "from_directory", document(LobsterTaskDocument))
    return ran


@needs_atomate2
@pytest.mark.filterwarnings("ignore")
def test_lobster_that_failed_is_run_again_and_vasp_is_not(
    programs: list[str], tmp_path: Path
) -> None:
    store = open_store(tmp_path / "store.sqlite")
    flow = Flow([maker().make(LI2MNO3, magmoms=high_spin(LI2MNO3))])
    report = run_flow(flow, store, tmp_path, Listener())
    assert [failure.message for failure in report.failures] == [
        "RuntimeError: LOBSTER found no licence"
    ]
    (tmp_path / "licence").touch()
    report = run_flow(flow, store, tmp_path, Listener())
    assert (report.failures, report.n_computed) == ([], 1)
    assert programs == ["vasp", "lobster", "lobster"]
    (stored,) = store.query({"output.kind": "bonding_result"})
    result = BondingResult.model_validate(stored["output"])
    assert result.level_of_theory == VaspSettings().level_of_theory
    assert result.of_class(OxygenClass.O4).n_oxygen == 6
    assert list(tmp_path.glob("checkpoints/*-vasp/job_*/COHPCAR.lobster*"))
    assert not list(tmp_path.glob("checkpoints/*-vasp/*/WAVECAR"))
    report = run_flow(flow, store, tmp_path, Listener())
    assert (report.n_computed, report.n_stored) == (0, 1)
