"""Input of VASP and LOBSTER against references that are derived beside them; reading the output."""

import json
import stat
from collections.abc import Sequence
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from pymatgen.core import Structure

from lrlo.analysis.bonding_documents import EnergyWindow
from lrlo.analysis.bonding_lobster import LobsterError
from lrlo.workflows import vasp_lobster
from lrlo.workflows.backend import BackendError
from lrlo.workflows.gpaw_settings import HUBBARD_U
from lrlo.workflows.vasp_lobster import (
    VaspLobsterBondingMaker,
    VaspSettings,
    incar,
    k_mesh,
    lobster_basis,
    lobster_maker,
    potcars,
    require_potcars,
    run_vasp_and_lobster,
    sorted_by_element,
    with_moments,
)

from .test_tight_binding import LI2MNO3

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
        run_vasp_and_lobster.original(LI2MNO3, None, None, VaspSettings(), EnergyWindow())


def test_atoms_of_an_element_come_together() -> None:
    mixed = Structure.from_sites([LI2MNO3[i] for i in (11, 0, 4, 1, 10, 5)])
    ordered, order = sorted_by_element(mixed)
    assert [site.specie.symbol for site in ordered] == ["O", "O", "Li", "Li", "Mn", "Mn"]
    assert order == [0, 4, 1, 3, 2, 5]
    assert with_moments(mixed, None).site_properties["magmom"] == [0, 0, 3, 0, 0, 3]
    assert with_moments(mixed, [0, 0, -3, 0, 0, 3]).site_properties["magmom"][2] == -3


def test_task_is_known_by_its_content() -> None:
    jobs = [
        VaspLobsterBondingMaker(settings=VaspSettings(hubbard_u={"Mn": u})).make(LI2MNO3)
        for u in (3.9, 3.9, 4.0)
    ]
    assert jobs[0].uuid == jobs[1].uuid != jobs[2].uuid


def test_output_that_is_missing(tmp_path: Path) -> None:
    read = vasp_lobster.read_bonding.original
    with pytest.raises(LobsterError, match=r"no COHPCAR\.lobster"):
        read([f"node01:{tmp_path}"], LI2MNO3, None, VaspSettings(), EnergyWindow())


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


@needs_atomate2
@pytest.mark.filterwarnings("ignore")
def test_first_job_goes_on_with_the_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[str]] = []
    monkeypatch.setattr(
        vasp_lobster, "require_potcars", lambda s, settings: seen.append(list(potcars(s, settings)))
    )
    monkeypatch.chdir(tmp_path)
    moments = [3.0 if site.specie.symbol == "Mn" else 0.0 for site in LI2MNO3]
    response = run_vasp_and_lobster.original(LI2MNO3, None, moments, VaspSettings(), EnergyWindow())
    assert seen == [["Li", "Mn", "O"]]
    flow, read = response.replace.jobs
    assert response.replace.output == read.output
    assert read.metadata["task"]
    static = flow.jobs[1].function_args[0]
    assert json.dumps(static.input_set_generator.user_incar_settings["LDAUU"]) == '{"Mn": 3.9}'
