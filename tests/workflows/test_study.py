import re
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from lrlo.workflows.backend import BackendError, BackendSpec, load_backend
from lrlo.workflows.study import Study, StudyError, read_study
from lrlo.workflows.study_flow import check_capabilities, study_flow
from lrlo.workflows.study_model import model_study
from lrlo.workflows.yaml_text import parse_yaml

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
        (
            "lithiation: {table: [[4.5, 0.2], [4.8, 0.6]]}",
            ["lithiation.table", "must not rise", "0.2 at 4.5 V to 0.6 at 4.8 V"],
        ),
        ("lithiation: {table: [[4.5, 0.6], [4.5, 0.6]]}", ["lithiation.table", "each given once"]),
        ("structure: {seed: []}", ["structure.seed", "empty"]),
        ("structure: {oxidation_states: {Xx: 4}}", ["structure.oxidation_states", "Xx"]),
        ("structure: {seed: [1, 2, 1]}", ["structure.seed", "more than once: 1"]),
        ("structure: {seed: -1}", ["structure.seed", "from 0", "-1"]),
        ("variants: [{label: a, structure: {seed: [3, 3]}}]", ["variants.0.structure.seed", "3"]),
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
        ("name: a\nstates: []\nname: b", "'name' is given twice, in line 1 and in line 3"),
        (
            "name: a\nhops:\n  per_class: 1\n  per_class: 2",
            "'per_class' is given twice, in line 3 and in line 4",
        ),
        ("states: [{label: a, label: b}]", "'label' is given twice"),
        ("name: 2024-13-45", "not valid YAML"),
    ],
)
def test_files_that_are_no_study(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(StudyError, match=part):
        read_study(write(tmp_path, text))


def test_keys_of_a_merged_mapping_may_be_replaced(tmp_path: Path) -> None:
    merged = "[&a {label: a}, {<<: *a, label: b}]"
    text = MINIMAL.replace("[{label: pristine}]", merged)
    assert [state.label for state in read_study(write(tmp_path, text)).states] == ["a", "b"]


def test_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes("name: test\n# Ångström\n".encode("latin-1"))
    with pytest.raises(StudyError, match=r"not UTF-8 text \(byte 0xc5 in line 2\)"):
        read_study(path)


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


def test_mover_that_no_structure_holds(tmp_path: Path) -> None:
    text = MINIMAL + "hops: {movers: [Mn, Fe]}\n"
    with pytest.raises(StudyError, match=r"hops\.movers: Fe in no .*; there are Co, Li, Mn, Ni$"):
        model_study(read_study(write(tmp_path, text)))
    doped = text + "variants: [{label: a}, {label: b, defects: [{dopant: Fe, replaces: Mn}]}]\n"
    assert len(model_study(read_study(write(tmp_path, doped)))) == 2


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
    with pytest.raises(BackendError, match=r"emulator: .*kwargs\.model: .*'0\.3\.0' or 'r2scan'"):
        load_backend(BackendSpec(kwargs={"model": "0.2"}))
    with pytest.raises(BackendError, match=r"emulator: backend\.kwargs\.device: "):
        load_backend(BackendSpec(kwargs={"device": "cpu"}))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_valid_studies(path: Path) -> None:
    assert read_study(path).structures


def keys_by_section(model: type[BaseModel]) -> dict[str, set[str]]:
    """Every key of a section of the study file, with those of the sections in it."""
    found: dict[str, set[str]] = {}
    for name, field in model.model_fields.items():
        below = [keys_by_section(section) for section in sections_of(field.annotation)]
        found[name] = {key for keys in below for top in keys for key in {top, *keys[top]}}
    return found


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_of(part)]


def test_new_study_mentions_every_key() -> None:
    """In its own section; keys without a default shown are in comments."""
    text = (files("lrlo.workflows") / "new_study.yaml").read_text(encoding="utf-8")
    parts = re.split(r"^(?:# )?(?=\w+:)", text, flags=re.MULTILINE)
    sections: dict[str, str] = {}
    for before, part in pairwise(parts):  # the comments before a key are about it, too
        name = part.split(":")[0]
        sections[name] = sections.get(name, "") + before + part
    # Explained where they stand for the whole study.
    sections["variants"] += sections["structure"] + sections["defects"] + sections["strain"]
    sections["neb"] += sections["backend"]
    keys = {(name, key) for name, keys in keys_by_section(Study).items() for key in keys}
    keys = {(name, key) for name, key in keys if key != "version"}  # filled in by the program
    assert set(Study.model_fields) <= set(sections)
    assert [k for k in sorted(keys) if not re.search(rf"\b{k[1]}\b", sections[k[0]])] == []
    Study.model_validate(parse_yaml(text.replace("{name}", "test")))
