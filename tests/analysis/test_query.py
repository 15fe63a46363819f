"""The same questions, the same answers: on the embedded store and on MongoDB's matching."""

import csv
import io
import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jobflow import JobStore
from maggma.stores import MemoryStore
from monty.json import jsanitize
from pydantic import BaseModel

from lrlo.analysis.barrier import PathStatus
from lrlo.analysis.query import (
    TABLES,
    FilterError,
    allowed_columns,
    allowed_filters,
    count_results,
    find_barriers,
    find_rows,
    find_states,
)
from lrlo.analysis.result_figures import FIGURES, draw_results
from lrlo.analysis.tables import (
    TableError,
    barrier_rows,
    coordination_rows,
    state_rows,
    to_csv,
    to_json,
    write_parquet,
)
from lrlo.workflows.store import open_store

from .bonding_results import TIGHT_BINDING, document_of, result_on
from .documents import CONTEXT, PRISTINE, barrier_of, migrated_state, state_of, texts

OTHER = CONTEXT.model_copy(
    update={
        **{"study": "t", "study_key": "l", "composition": "Li2MnO3", "superlattice": "random"},
        "realised": {"Li": 4 / 3, "Mn": 2 / 3},
    }
)


def bonding(ratio: float, **changes: Any) -> dict[str, Any]:
    """Fields of a bonding document that queries read."""
    classes = [
        {"o_class": "O4", "minus_icohp": {"mean": 2.5}, "band_top": {"mean": -0.5}},
        {"o_class": "O5", "minus_icohp": {"mean": 2.5 * ratio}, "band_top": None},
    ]
    return {
        "kind": "bonding",
        "context": CONTEXT.model_dump(mode="json"),
        **{"state": "4.8 V", "order": 1, "voltage": 4.8, "li_content": 0.3},
        "result": {
            "ratios": {"window_weight": 1.6, "window_nonbonding": 1.7, "minus_icohp": ratio},
            **{"classes": classes, "gap": 2.2, "icohp_scale": "DFT", "marks": ["a", "b"]},
        },
        "level_of_theory": {"backend": "gpaw", "model": "PBE+U", "version": "26"},
        **changes,
    }


def surroundings(li_layer: float) -> dict[str, Any]:
    return {
        **{"li_fraction_li_layer": li_layer, "li_fraction_tm_layer": 0.0},
        **{"n_face_sharing_cations": 1, "n_face_sharing_vacancies": 2, "vacancy_cluster_size": 3},
        **{"o_classes_left": "O4:6", "o_classes_joined": "O5:2"},
        **{"tm_coordination_start": 3, "tm_coordination_end": 5},
        **{"n_oxygen_vacancies": 0, "stacking": "O3"},
    }


def outputs() -> list[BaseModel | dict]:
    """Two studies: states, barriers of every status, a bonding document, tasks."""
    pristine, charged = state_of(PRISTINE, "pristine", 0), migrated_state()
    elsewhere = migrated_state(context=OTHER, li_layer=0.9)
    barriers = [
        barrier_of(PathStatus.CONVERGED, 0.9),
        barrier_of(
            PathStatus.CONVERGED, 0.3, path_class="out_of_plane", voltage=4.5, state="4.5 V"
        ),
        barrier_of(PathStatus.UNCONVERGED, 0.5),
        barrier_of(PathStatus.NO_INTERIOR_SADDLE, 0.6, surroundings=surroundings(0.25)),
        barrier_of(None, path_class="out_of_plane"),
        barrier_of(PathStatus.CONVERGED, 0.7, context=OTHER),
    ]
    tasks = [{"kind": "neb", "energies": [0.0]}, [1, 2], None]
    return [pristine, charged, elsewhere, *barriers, bonding(1.3), *tasks]  # type: ignore[list-item]


@pytest.fixture(params=["embedded", "mongomock"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    if request.param == "embedded":
        opened: JobStore = open_store(tmp_path / "store.sqlite")
    else:
        opened = JobStore(MemoryStore(), additional_stores={"data": MemoryStore("data")})
        opened.connect()
    fill(opened)
    yield opened
    opened.close()


def fill(store: JobStore) -> None:
    for i, output in enumerate(outputs()):
        plain = jsanitize(output, strict=True, enum_values=True)
        store.update({"uuid": str(i), "index": 1, "output": plain})


def forward(store: JobStore, **filters: Any) -> list[float | None]:
    rows = find_rows([store], "barriers", columns=["forward"], sort=["forward"], **filters)
    return [row["forward (eV)"] for row in rows]


# -- filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0.3, 0.6, 0.7, 0.9, None, None]),
        ({"study": "s"}, [0.3, 0.6, 0.9, None, None]),
        ({"study": ["s", "t"], "status": "converged"}, [0.3, 0.7, 0.9]),
        ({"composition": "Mn0.6Ni0.2Li1.2O2"}, [0.3, 0.6, 0.9, None, None]),
        ({"composition": "Li6Ni1Mn3O10"}, [0.3, 0.6, 0.9, None, None]),
        ({"composition": ["Li2MnO3", "LiCoO2"]}, [0.7]),
        ({"composition": "LiCoO2"}, []),
        ({"elements": ["Mn"]}, [0.3, 0.6, 0.7, 0.9, None, None]),
        ({"elements": ["Mn", "Ni"]}, [0.3, 0.6, 0.9, None, None]),
        ({"elements": "Co"}, []),
        ({"stacking": "O3", "superlattice": "random"}, [0.7]),
        ({"seed": 3, "backend": "emulator", "mover": "Mn"}, [0.3, 0.6, 0.7, 0.9, None]),
        ({"seed": 4}, []),
        ({"model": "Model X", "state": "4.5 V"}, [0.3]),
        ({"voltage": 4.5}, [0.3]),
        ({"min_voltage": 4.6}, [0.6, 0.7, 0.9, None, None]),
        ({"max_voltage": 4.6, "min_voltage": 4.5}, [0.3]),
        ({"max_li_content": 0.2}, []),
        ({"min_li_layer": 0.2, "max_li_layer": 0.3}, [0.6]),
        ({"path_class": "out_of_plane"}, [0.3, None]),
        ({"path_class": ["in_plane", "out_of_plane"], "status": "converged"}, [0.3, 0.7, 0.9]),
        ({"status": "no candidate"}, [None]),
        ({"status": ["no candidate", "converged"], "study": "s"}, [0.3, 0.9, None]),
        ({"min_barrier": 0.5, "max_barrier": 0.8}, [0.6, 0.7]),
        ({"dopant": "Al"}, []),
        ({"min_strain_in_plane": 0.0}, []),
        ({"seed": None, "status": []}, [0.3, 0.6, 0.7, 0.9, None, None]),
    ],
    ids=str,
)
def test_filters(store: JobStore, filters: dict[str, Any], expected: list[float | None]) -> None:
    assert forward(store, **filters) == expected


def test_filters_of_documents_that_have_defects_and_strain(store: JobStore) -> None:
    context = {
        **CONTEXT.model_dump(mode="json"),
        "dopants": ["Al", "Ti"],
        "strain": {"in_plane": 0.02, "out_of_plane": -0.01},
        "variant": "strained",
    }
    plain = jsanitize(barrier_of(PathStatus.CONVERGED, 0.8), strict=True, enum_values=True)
    store.update({"uuid": "d", "index": 1, "output": {**plain, "context": context}})
    for filters in (
        {"dopant": "Al"},
        {"dopant": ["Ti", "Mg"]},
        {"min_strain_in_plane": 0.01, "max_strain_out_of_plane": 0.0},
        {"strain_in_plane": 0.02},
        {"variant": "strained"},
    ):
        assert forward(store, **filters) == [0.8], filters
    assert forward(store, max_strain_in_plane=0.01) == []


def test_composition_and_elements_are_of_the_computed_cell(store: JobStore) -> None:
    """A variant from a file of another composition, and a doped one, of the study's formula."""
    file = {"variant": "file", "realised": {"Li": 7 / 6, "Co": 5 / 6}}
    doped = {"variant": "doped", "dopants": ["Al", "F"]}
    for uuid, changes, height in (("f", file, 0.81), ("g", doped, 0.82)):
        barrier = barrier_of(
            PathStatus.CONVERGED, height, context=CONTEXT.model_copy(update=changes)
        )
        plain = jsanitize(barrier, strict=True, enum_values=True)
        store.update({"uuid": uuid, "index": 1, "output": plain})
    assert forward(store, elements="Co") == [0.81]
    assert forward(store, elements=["Al", "Ni", "F", "O"]) == [0.82]
    assert forward(store, elements="Ni", status="converged") == [0.3, 0.82, 0.9]
    assert forward(store, composition="Li1.167Co0.833O2") == [0.81]
    assert forward(store, composition="Li1.16Co0.84O2") == []
    nominal = forward(store, composition="Li1.2Ni0.2Mn0.6O2", status="converged")
    assert nominal == [0.3, 0.81, 0.82, 0.9]
    assert forward(store, elements="Co", composition="Li2MnO3") == []


def test_states_and_barriers_as_documents(store: JobStore) -> None:
    assert [s.label for s in find_states(store)] == ["pristine", "4.8 V", "4.8 V"]
    assert [s.context.study for s in find_states(store, state="4.8 V")] == ["s", "t"]
    assert [s.label for s in find_states(store, min_li_layer=0.8)] == ["4.8 V"]
    heights = [b.barrier.forward if b.barrier else None for b in find_barriers(store, study="s")]
    assert heights == [0.6, 0.9, None, 0.3, None]
    assert len(find_barriers(store, status="unconverged")) == 1


@pytest.mark.parametrize(
    ("what", "settings", "parts"),
    [
        ("barrier", {}, ["unknown kind of result 'barrier'", "barriers, coordination, bonding"]),
        ("barriers", {"temperature": 300}, ["no filter 'temperature'", "voltage (min_, max_)"]),
        ("barriers", {"min_mover": "Mn"}, ["no filter 'min_mover'"]),
        (
            "states",
            {"mover": "Mn"},
            ["states: there is no filter 'mover'", "filters are for barriers"],
        ),
        ("bonding", {"path_class": "in_plane"}, ["filters are for barriers"]),
        ("barriers", {"status": "done"}, ["status 'done' is unknown", "converged, unconverged"]),
        ("barriers", {"path_class": ["in_plane", "up"]}, ["'up' is unknown", "li_hop"]),
        ("states", {"stacking": "O9"}, ["stacking 'O9' is unknown", "O3"]),
        ("states", {"elements": ["Xx"]}, ["unknown elements ['Xx']"]),
        ("states", {"composition": "Qq2"}, ["'Qq2' is no formula"]),
        ("states", {"columns": ["height"]}, ["no column 'height'", "oxidation states"]),
        ("barriers", {"columns": ["O4"]}, ["no column 'O4'", "forward (eV)"]),
        ("states", {"sort": ["height"]}, ["no column 'height'", "energy (eV)"]),
        ("states", {"sort": ["oxidation states"]}, ["no column 'oxidation states'"]),
    ],
)
def test_what_cannot_be_asked(
    store: JobStore, what: str, settings: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(FilterError) as error:
        find_rows([store], what, **settings)
    for part in parts:
        assert part in str(error.value)


# -- tables --------------------------------------------------------------------------------------


def test_rows_are_those_of_the_documents(store: JobStore) -> None:
    states, barriers = find_states(store), find_barriers(store)
    assert find_rows([store], "states") == state_rows(states)
    assert find_rows([store], "coordination") == coordination_rows(states)
    own = list(barrier_rows(barriers)[0])
    rows = [{name: row[name] for name in own} for row in find_rows([store], "barriers")]
    # without a barrier the order is that of the store
    assert sorted(map(str, rows)) == sorted(map(str, barrier_rows(barriers)))


def test_only_sound_paths_have_numbers(store: JobStore) -> None:
    rows = {
        (row["study"], row["status"]): row
        for row in find_rows([store], "barriers", path_class="in_plane")
    }
    assert rows["s", "converged"]["forward (eV)"] == 0.9
    assert rows["s", "converged"]["mark"] == ""
    assert rows["s", "unconverged"]["forward (eV)"] is None
    assert rows["s", "no_interior_saddle"]["mark"] == "end-point difference"


def test_barrier_is_joined_with_the_cell_it_was_computed_in(store: JobStore) -> None:
    """The cell before TM moved: afterwards O5 is another share."""
    state = next(s for s in find_states(store, study="s") if s.label == "4.8 V")
    before, after = state.before_migration, state.coordination
    assert before.class_fractions.get("O5", 0.0) != after.class_fractions["O5"]
    (row,) = find_rows([store], "barriers", study="s", status="converged", min_voltage=4.6)
    assert row["cell O4"] == round(before.class_fractions["O4"], 3)
    assert row["cell O5"] in (None, round(before.class_fractions.get("O5", 0.0), 3))
    assert row["cell O4/(O4+O5)"] == round(before.o4_fraction, 3)
    assert row["cell TM-TM coordination"] == round(before.tm_tm_coordination, 2)
    assert (row["state O5:O4 -ICOHP"], row["state bonding by"]) == (1.3, "PBE+U 26")


def test_join_mixes_no_studies_seeds_or_states(store: JobStore) -> None:
    changed = {"o4_fraction": 0.111}
    for i, changes in enumerate(({"seed": 9}, {"study_key": "x"}, {"study": "y"})):
        state = migrated_state(context=CONTEXT.model_copy(update=changes))
        summary = state.before_migration.model_copy(update=changed)
        plain = jsanitize(
            state.model_copy(update={"before_migration": summary}), strict=True, enum_values=True
        )
        store.update({"uuid": f"alien {i}", "index": 1, "output": plain})
    rows = find_rows([store], "barriers", columns=["state", "cell O4/(O4+O5)", "state bonding by"])
    assert 0.111 not in [row["cell O4/(O4+O5)"] for row in rows]
    without = next(row for row in rows if row["state"] == "4.5 V")
    assert (without["cell O4/(O4+O5)"], without["state bonding by"]) == (None, "")


def test_bonding(store: JobStore) -> None:
    (row,) = find_rows([store], "bonding", backend="gpaw")
    assert row["O5:O4 -ICOHP"] == 1.3
    assert (row["-ICOHP O4 (eV)"], row["-ICOHP O5 (eV)"], row["-ICOHP O3 (eV)"]) == (
        2.5,
        3.25,
        None,
    )
    assert (row["O 2p band top O4 (eV)"], row["O 2p band top O5 (eV)"]) == (-0.5, None)
    assert (row["ICOHP scale"], row["marks"], row["level of theory"]) == ("DFT", "a; b", "PBE+U 26")
    assert find_rows([store], "bonding", backend="emulator") == []


def test_structures(store: JobStore) -> None:
    rows = find_rows([store], "structures", study="s", state="pristine")
    counts = PRISTINE.count()
    assert rows[0]["formula"] == "".join(f"{e}{counts[e]}" for e in sorted(counts))
    assert rows[0]["atoms"] == sum(counts.values())
    assert rows[0]["stacking"] == "O3"


def test_columns_in_the_order_asked(store: JobStore) -> None:
    rows = find_rows([store], "barriers", columns=["forward", "STATE", "max - min (eV)"], limit=1)
    assert list(rows[0]) == ["forward (eV)", "state", "max - min (eV)"]
    rows = find_rows([store], "coordination", columns=["O5", "state", "oxygen classes", "O4"])
    assert list(rows[0])[:2] == ["O5", "state"]
    assert {"O4", "O5"} <= set(rows[0])
    assert rows[0]["O5"] == 0.0  # no such O: a share of none, not unknown
    rows = find_rows([store], "states", columns=["Mn state"])
    assert {frozenset(row) for row in rows} == {frozenset(["Mn state"])}
    assert find_rows([store], "states", columns=["state"], study="none") == []


def test_order(store: JobStore) -> None:
    def column(name: str, **settings: Any) -> list[Any]:
        return [row[name] for row in find_rows([store], "barriers", **settings)]

    up = column("forward (eV)", sort=["forward"])
    down = column("forward (eV)", sort=["-forward (eV)"])
    assert up == [0.3, 0.6, 0.7, 0.9, None, None]
    assert down == [0.9, 0.7, 0.6, 0.3, None, None]  # missing values last in both directions
    assert column("forward (eV)", sort=["-forward"], limit=2) == [0.9, 0.7]
    both = find_rows([store], "barriers", sort=["-study", "path class", "forward"])
    assert [row["study"] for row in both] == ["t", *["s"] * 5]
    assert [row["path class"] for row in both[1:]] == [*["in_plane"] * 3, *["out_of_plane"] * 2]


def test_several_stores(store: JobStore, tmp_path: Path) -> None:
    other = open_store(tmp_path / "other.sqlite")
    plain = jsanitize(barrier_of(PathStatus.CONVERGED, 0.45), strict=True, enum_values=True)
    other.update({"uuid": "x", "index": 1, "output": plain})
    rows = find_rows([store, other], "barriers", sort=["forward"], status="converged")
    assert [row["forward (eV)"] for row in rows] == [0.3, 0.45, 0.7, 0.9]


def test_counts(store: JobStore) -> None:
    assert count_results(store, "barriers", "status", study="s") == {
        "converged": 2,
        "no candidate": 1,
        "no_interior_saddle": 1,
        "unconverged": 1,
    }
    assert count_results(store, "states", "state") == {"4.8 V": 2, "pristine": 1}


def test_embedded_store_answers_without_reading_documents(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = open_store(path)
    fill(store)
    expected = {what: find_rows([store], what) for what in ("barriers", "coordination")}
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE documents SET document = 'gone'")
    for what, rows in expected.items():
        assert find_rows([store], what, elements=["Mn"], min_voltage=None) == rows
    assert count_results(store, "barriers", "status")["converged"] == 3


def test_what_is_allowed_can_be_listed() -> None:
    assert {"status", "min_voltage", "max_strain_in_plane"} <= set(allowed_filters("barriers"))
    assert "status" not in allowed_filters("states")
    assert "cell O5" in allowed_columns("barriers")
    for what in TABLES:
        names = allowed_columns(what)
        assert len(set(names)) == len(names)


# -- formats and figures -------------------------------------------------------------------------


def test_formats_hold_the_same_rows(store: JobStore) -> None:
    rows = find_rows([store], "coordination")
    assert json.loads(to_json(rows)) == rows
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [float(row["O5"]) for row in read] == [row["O5"] for row in rows]
    assert list(read[0]) == list(rows[0])
    assert to_csv([]) == ""


def test_parquet(store: JobStore, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow: pip install 'lrlo[parquet]'")
    import pandas as pd

    rows = find_rows([store], "barriers")
    frame = pd.read_parquet(write_parquet(rows, tmp_path / "out" / "b.parquet"))
    assert list(frame.columns) == list(rows[0])
    assert frame["forward (eV)"].dropna().tolist() == [
        r["forward (eV)"] for r in rows if r["forward (eV)"] is not None
    ]
    assert write_parquet([], tmp_path / "none.parquet").exists()


def test_parquet_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TableError, match=r"pip install 'lrlo\[parquet\]', or ask for csv or json"):
        write_parquet([{"a": 1}], tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


@pytest.mark.parametrize("what", FIGURES)
def test_figures(store: JobStore, what: str) -> None:
    store.docs_store.remove_docs({"output.kind": "bonding"})
    plain = jsanitize(document_of(result_on(PRISTINE)), strict=True, enum_values=True)
    store.update({"uuid": "bonds", "index": 1, "output": plain})
    figure = draw_results([store], what, study="s")
    expected = {
        "barriers": "forward barrier (eV)",
        "coordination": "O4/(O4+O5)",
        "states": "voltage against Li/Li$^+$ (V)",
        "structures": "Li per formula unit",
        "bonding": "ICOHP",
    }
    assert expected[what] in texts(figure)
    draw_results([store], what, study="none")  # an empty figure, no error


def test_figures_that_do_not_exist(store: JobStore) -> None:
    with pytest.raises(FilterError, match="tasks have no figure; allowed: barriers"):
        draw_results([store], "tasks")
    with pytest.raises(FilterError, match="no filter 'mover'"):
        draw_results([store], "states", mover="Mn")
    store.docs_store.remove_docs({"output.kind": "bonding"})
    for i, theory in enumerate((TIGHT_BINDING, TIGHT_BINDING.model_copy(update={"model": "PBE"}))):
        result = result_on(PRISTINE, level_of_theory=theory)
        plain = jsanitize(document_of(result, f"s{i}"), strict=True, enum_values=True)
        store.update({"uuid": f"b{i}", "index": 1, "output": plain})
    with pytest.raises(FilterError, match="choose one with backend or model"):
        draw_results([store], "bonding")
    assert "ICOHP" in texts(draw_results([store], "bonding", model="PBE"))
