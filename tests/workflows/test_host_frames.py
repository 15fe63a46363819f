"""Studies of crystals without layers and of end points run to their report."""

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

from lrlo.analysis.documents import BarrierDocument, StateDocument
from lrlo.analysis.query import find_barriers, find_states
from lrlo.analysis.report import write_report
from lrlo.analysis.study_results import find_study_results
from lrlo.analysis.tables import write_tables
from lrlo.structures.catalogue import BUILDERS
from lrlo.structures.structure_files import StructureFormat, read_built, structure_text
from lrlo.structures.vacuum import vacuum_width
from lrlo.workflows.local_run import run_flow
from lrlo.workflows.store import open_store
from lrlo.workflows.study import StudyError, read_study
from lrlo.workflows.study_flow import study_flow
from lrlo.workflows.study_model import model_study

#: Weak bonds leave the cells as they were built; the numbers mean nothing.
REST = """
lithiation: {patterns_per_split: 2, relaxed_per_content: 1, n_contents_after: 2}
migration: {n_steps: 2, movers: [Mn]}
relax: {fmax: 0.3, max_steps: 10}
neb: {fmax: 0.3, max_steps: 12, image_spacing: 1.0}
backend:
  calculator: ase.calculators.lj:LennardJones
  kwargs: {sigma: 1.9, epsilon: 0.02, rc: 5.0, smooth: true}
"""


class Quiet:
    """Hears of tasks and says nothing."""

    def task_started(self, name: str) -> None: ...

    def task_step(self, message: str) -> None: ...

    def task_finished(self, name: str, *, stored: bool) -> None: ...


@dataclass(frozen=True)
class Finished:
    """Results of a study, and the folder with its tables and report."""

    states: list[StateDocument]
    barriers: list[BarrierDocument]
    folder: Path

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.folder / f"{name}.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    @property
    def report(self) -> str:
        return (self.folder / "report.html").read_text(encoding="utf-8")


def run(folder: Path, text: str) -> Finished:
    """Run a study, write its tables and its report."""
    path = folder / "study.yaml"
    path.write_text(text + REST)
    study = read_study(path)
    store = open_store(folder / "store.sqlite")
    report = run_flow(study_flow(model_study(study)), store, folder, Quiet())
    assert not report.failures
    results = find_study_results(store, study.name, study.key)
    write_tables(folder, results.states, results.barriers)
    write_report(results.states, results.barriers, folder / "report.html", title=study.name)
    return Finished(results.states, results.barriers, folder)


@pytest.fixture(scope="module")
def rock_salt(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return run(
        tmp_path_factory.mktemp("rock_salt"),
        """
name: rock-salt
composition: Li1.2Mn0.4Ti0.4O2
structure: {stacking: disordered-rock-salt, min_atoms: 32, max_atoms: 40, seed: 3}
states:
  - {label: pristine}
  - {label: charged, li_content: 0.4}
  - {label: discharged, li_content: 1.0, after: charged}
hops: {movers: [Mn], per_class: 1, states: [charged]}
""",
    )


def test_rock_salt_is_charged_and_discharged(rock_salt: Finished) -> None:
    """Li leaves one sublattice; TM move and hop between any octahedra."""
    assert [state.li_content for state in rock_salt.states] == [1.2, 0.4, 1.0]
    charged = rock_salt.states[1]
    assert len(charged.moves) == 2
    assert charged.volume == pytest.approx(charged.structure.volume / 10)
    (barrier,) = rock_salt.barriers
    assert barrier.path_class == "tm_hop"
    assert barrier.hop is not None
    kinds = [charged.frame.kinds[site].value for site in (barrier.hop.start, barrier.hop.end.site)]
    assert kinds == ["cation_oct", "cation_oct"]
    assert barrier.hop.via is not None
    assert charged.frame.kinds[barrier.hop.via.site].value == "tet"


def test_results_are_found_by_their_frame(rock_salt: Finished) -> None:
    store = open_store(rock_salt.folder / "store.sqlite")
    (found,) = find_barriers(store, stacking="disordered rock salt", path_class="tm_hop")
    assert found == rock_salt.barriers[0]
    assert not find_barriers(store, stacking="O3")
    assert not find_states(store, min_li_layer=0.0)  # a field that these states lack


def test_what_needs_layers_is_empty_without_them(rock_salt: Finished) -> None:
    """Empty, not zero: in the documents, in the tables, and in the report."""
    for state in rock_salt.states:
        assert state.li_layer is state.tm_layer is None
        assert state.layer_spacing is state.in_plane_area is None
        assert state.coordination.n_tm_li_layer is None
        assert state.coordination.tm_tm_coordination is not None
    for row in rock_salt.table("states"):
        assert row["Li layer"] == row["TM layer"] == row["layer spacing (Å)"] == ""
        assert float(row["volume per f.u. (Å³)"]) > 0
    assert {row["TM in the Li layer"] for row in rock_salt.table("coordination")} == {""}
    assert "disordered rock salt" in rock_salt.report
    assert "TM layer 1" not in rock_salt.report


def test_spinel_and_oxides_are_end_points(tmp_path: Path) -> None:
    """LiM2O4 from a CIF and M3O4 from JSON relax and give their states, beside LiMO2."""
    spinel = BUILDERS["spinel"].build(metal="Mn")
    oxide = BUILDERS["oxide-spinel"].build(metal="Mn")
    (tmp_path / "spinel.cif").write_text(structure_text(spinel, StructureFormat.CIF))
    (tmp_path / "oxide.json").write_text(structure_text(oxide, StructureFormat.JSON))
    done = run(
        tmp_path,
        f"""
name: end-points
composition: LiMnO2
structure: {{min_atoms: 12, max_atoms: 12, seed: 3}}
variants:
  - {{label: layered}}
  - {{label: spinel, composition: LiMn2O4, structure: {{file: {tmp_path}/spinel.cif}}}}
  - {{label: oxide, composition: Mn3O4, structure: {{file: {tmp_path}/oxide.json}}}}
  - {{label: NiO, composition: NiO, structure: {{file: NiO}}}}
states: [{{label: pristine}}]
hops: {{movers: [Mn], classes: [in_plane], per_class: 1, states: [pristine]}}
""",
    )
    states = {state.context.variant: state for state in done.states}
    assert {name: state.li_content for name, state in states.items()} == {
        **{"layered": 1.0, "spinel": 0.5, "oxide": 0.0, "NiO": 0.0}
    }
    assert all(state.converged and state.coordination.n_unexplained == 0 for state in done.states)
    assert states["spinel"].coordination.n_li_tet == 8  # 8a
    assert states["oxide"].coordination.n_tm_tet == 8
    assert states["spinel"].coordination.class_fractions == {"O3": 1.0}
    outcomes = {b.context.variant: b.hop is not None for b in done.barriers}
    # Only the spinels have empty octahedra (16c) when they are full.
    assert outcomes == {"layered": False, "spinel": True, "oxide": True, "NiO": False}


@pytest.fixture(scope="module")
def slab(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("slab")
    bulk = BUILDERS["layered"].build(metal="Mn", size=(2, 1))
    built = BUILDERS["basal-slab"].build(host=bulk, layers=2)
    (folder / "slab.json").write_text(structure_text(built, StructureFormat.JSON))
    return run(
        folder,
        f"""
name: slab
composition: LiMnO2
structure: {{file: {folder}/slab.json}}
states:
  - {{label: pristine}}
  - {{label: charged, li_content: 0.25}}
  - {{label: discharged, li_content: 0.75, after: charged}}
hops: {{movers: [Mn], classes: [out_of_plane], per_class: 1, states: [charged]}}
""",
    )


def test_the_vacuum_of_a_slab_stays(slab: Finished) -> None:
    """Li leaves from all its layers, positions relax, and the cell is that of the file."""
    assert [state.li_content for state in slab.states] == [1.0, 0.25, 0.75]
    first = slab.states[0]
    assert first.context.vacuum == pytest.approx(19.0, abs=0.1)
    for state in slab.states:
        assert state.structure.lattice == first.structure.lattice
        vacuum = vacuum_width(state.structure)
        assert vacuum is not None
        assert vacuum > 18.5  # wider where Li of the faces has left
        assert state.layer_spacing is state.in_plane_area is state.volume is None
        assert state.coordination.n_unexplained == 0
    assert {row["volume per f.u. (Å³)"] for row in slab.table("states")} == {""}
    (barrier,) = slab.barriers
    assert barrier.hop is not None
    assert first.frame.n_layers == 6
    assert slab.report.count('alt="TM layer') == 2 * len(slab.states)  # none of the vacuum


def test_slabs_that_cannot_be_studied_say_why(slab: Finished, tmp_path: Path) -> None:
    """A slab without its frame, and strain of a slab."""
    settings = "states: [{label: pristine}]" + REST
    read_built(str(slab.folder / "slab.json")).structure.to(str(tmp_path / "slab.cif"))
    path = tmp_path / "study.yaml"
    head = f"name: s\ncomposition: LiMnO2\nstructure: {{file: {tmp_path}/slab.cif}}\n"
    path.write_text(head + settings)
    with pytest.raises(StudyError, match=r"structure.file: the structure has 19.0 Å of vacuum"):
        model_study(read_study(path))
    head = head.replace(str(tmp_path), str(slab.folder)).replace("cif", "json")
    path.write_text(head + "strain: {in_plane: 0.01}\n" + settings)
    with pytest.raises(StudyError, match="strain: the cell of a slab is held as it is"):
        model_study(read_study(path))
