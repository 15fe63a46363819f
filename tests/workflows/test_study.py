from pathlib import Path

import pytest

from lrlo.workflows.backend import BackendError, BackendSpec, load_backend
from lrlo.workflows.study import StudyError, read_study
from lrlo.workflows.study_flow import check_capabilities, study_flow
from lrlo.workflows.study_model import model_study

EXAMPLES = Path(__file__).parents[2] / "examples"

MINIMAL = """
name: test
composition: Li1.14Ni0.26Mn0.55Co0.05O2
states: [{label: pristine}]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


def test_minimal_study_has_defaults(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, MINIMAL))
    assert study.backend.name == "emulator"
    assert study.structure.seeds == [7]
    assert study.hops is not None


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("colour: red", ["colour", "unknown key", "composition"]),
        ("structure: {stackin: O3}", ["structure.stackin", "unknown key", "superlattice"]),
        ("structure: {stacking: O9}", ["structure.stacking", "O9", "O3"]),
        ("structure: {superlattice: square}", ["superlattice", "square", "honeycomb"]),
        ("structure: {max_atoms: -4}", ["structure.max_atoms", "-4", "12"]),
        ("structure: {min_atoms: 60, max_atoms: 48}", ["min_atoms (60)", "48"]),
        ("states: [{label: a, li_content: -0.1}]", ["states.0.li_content", "-0.1", "0"]),
        ("states: [{label: a, li_layer: 1.2, tm_layer: 0}]", ["states.0.li_layer", "1.2", "1"]),
        ("states: [{label: a, li_layer: 0.5}]", ["li_layer and tm_layer are given together"]),
        ("states: [{label: a, voltage: 4, li_content: 1}]", ["only one of voltage"]),
        ("states: [{label: a, voltage: 9}]", ["states.0.voltage", "9", "6"]),
        ("states: [{label: a, voltage: 2, after: b}]", ["'b'", "no earlier state"]),
        ("states: [{label: a}, {label: a}]", ["two states are labelled 'a'"]),
        ("states: []", ["states"]),
        ("hops: {movers: [Xx]}", ["hops.movers", "unknown elements", "Xx"]),
        ("hops: {classes: [sideways]}", ["hops.classes.0", "sideways", "in_plane"]),
        ("hops: {states: [nowhere]}", ["hops.states", "nowhere", "pristine"]),
        ("backend: vasp", ["backend", "planned", "emulator"]),
        ("backend: magic", ["backend", "magic", "emulator"]),
        ("neb: {preconverge: magic}", ["neb.preconverge", "magic", "emulator"]),
        ("neb: {preconverge: emulator}", ["neb.preconverge", "study's own backend", "cheaper"]),
        ("composition: Li1.2Qq0.8O2", ["composition", "Qq"]),
        ("composition: Li1.5Mn1.5O2", ["composition", "3.000 cations"]),
        ("lithiation: {table: [[4.8, 0.2], [4.5, 0.4]]}", ["lithiation.table", "ascend"]),
        ("name: ../escape", ["name"]),
    ],
)
def test_mistakes_name_key_value_and_what_is_allowed(
    tmp_path: Path, change: str, parts: list[str]
) -> None:
    key = change.split(":")[0]
    kept = [line for line in MINIMAL.splitlines() if not line.startswith(f"{key}:")]
    with pytest.raises(StudyError) as error:
        read_study(write(tmp_path, "\n".join([*kept, change])))
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [1, 2", "not valid YAML"),
        ("- just\n- a list", "mapping"),
        ("name: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_files_that_are_no_study(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(StudyError, match=part):
        read_study(write(tmp_path, text))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be read"):
        read_study(tmp_path / "none.yaml")


def test_bonding_is_refused_before_anything_starts(tmp_path: Path) -> None:
    backend = "backend: {calculator: 'ase.calculators.lj:LennardJones'}\n"
    study = read_study(write(tmp_path, MINIMAL + backend + "bonding: {cohp: true}\n"))
    with pytest.raises(BackendError, match=r"asks for bonding, .* lacks .*tight_binding"):
        check_capabilities(study)


def test_more_lithium_than_the_cell_holds(tmp_path: Path) -> None:
    text = MINIMAL.replace("[{label: pristine}]", "[{label: a, li_content: 1.9}]")
    with pytest.raises(StudyError, match=r"asks for 28 Li.*holds 17"):
        model_study(read_study(write(tmp_path, text)))


def test_voltage_outside_the_users_table(tmp_path: Path) -> None:
    text = MINIMAL.replace("[{label: pristine}]", "[{label: a, voltage: 4.9}]")
    text += "lithiation: {table: [[4.0, 0.6], [4.8, 0.2]]}\n"
    with pytest.raises(StudyError, match=r"4\.9 V is outside .* from 4 to 4\.8 V"):
        model_study(read_study(write(tmp_path, text)))


def test_users_table_gives_the_lithium_content(tmp_path: Path) -> None:
    text = MINIMAL.replace("[{label: pristine}]", "[{label: a, voltage: 4.4}]")
    text += "lithiation: {table: [[4.0, 0.6], [4.8, 0.2]]}\n"
    model = model_study(read_study(write(tmp_path, text)))[0]
    assert model.targets[0] is not None
    assert model.targets[0].n_li == 6  # 0.4 x 15
    assert model.charge_voltages == []


def test_key_ignores_the_name_and_sees_everything_else(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, MINIMAL))
    renamed = read_study(write(tmp_path, MINIMAL.replace("name: test", "name: other")))
    changed = read_study(write(tmp_path, MINIMAL + "neb: {fmax: 0.1}\n"))
    assert study.key == renamed.key
    assert study.key != changed.key


@pytest.mark.parametrize(
    ("calculator", "message"),
    [
        ("no.such:Thing", "cannot be imported"),
        ("os:system", "not an ASE calculator"),
        ("ase.calculators.emt", "cannot be imported"),
    ],
)
def test_calculators_that_are_none(calculator: str, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        load_backend(BackendSpec(name="ase", calculator=calculator))


def test_tasks_of_another_model_version_are_other_tasks(tmp_path: Path, monkeypatch) -> None:
    models = model_study(read_study(write(tmp_path, MINIMAL)))
    one = study_flow(models).jobs[0].uuid
    assert study_flow(models).jobs[0].uuid == one
    backend = load_backend(models[0].study.backend)
    newer = backend.level_of_theory.model_copy(update={"version": "(chgnet 99)"})
    monkeypatch.setattr(backend, "level_of_theory", newer)
    assert study_flow(models).jobs[0].uuid != one


def test_emulator_of_the_other_functional(tmp_path: Path) -> None:
    text = MINIMAL + "backend: {name: emulator, kwargs: {model: r2scan}}\n"
    backend = load_backend(read_study(write(tmp_path, text)).backend)
    assert str(backend.level_of_theory).startswith("CHGNet r2scan")
    with pytest.raises(BackendError, match=r"kwargs\.model of the emulator.*0\.3\.0 or r2scan"):
        load_backend(BackendSpec(kwargs={"model": "0.2"}))
    with pytest.raises(BackendError, match=r"kwargs\.device of the emulator"):
        load_backend(BackendSpec(kwargs={"device": "cpu"}))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_valid_studies(path: Path) -> None:
    assert read_study(path).structures
