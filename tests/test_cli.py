"""The command line on a small real study: CHGNet, 24 atoms, coarse thresholds."""

import contextlib
import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrlo.cli import app

from . import small_study

SMALL = """
name: small
composition: Li1.2Ni0.2Mn0.6O2
structure: {min_atoms: 20, max_atoms: 24, seed: 3}
states:
  - {label: pristine}
  - {label: charged, li_content: 0.17}
  - {label: "4.2 V", voltage: 4.2}
  - {label: discharged, voltage: 2.0, after: charged}
lithiation: {n_contents: 3, n_contents_after: 2, patterns_per_split: 2, relaxed_per_content: 1}
migration: {n_steps: 2, temperature: 2000}
hops: {movers: [Mn], classes: [in_plane, out_of_plane], per_class: 1, states: [charged]}
relax: {fmax: 0.3, max_steps: 25}
neb: {fmax: 0.3, max_steps: 12, image_spacing: 1.0}
"""

#: The same way in seconds, with a band that is long enough to be killed in.
QUICK = small_study.SMALL.replace("fmax: 0.001, max_steps: 12", "fmax: 0.0001, max_steps: 100")


def lrlo(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in this process: importing everything anew would take most of the time."""
    with contextlib.chdir(folder):
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


@pytest.fixture(autouse=True, scope="module")
def _own_store() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LRLO_STORE", raising=False)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.yaml").write_text(SMALL)
    done = subprocess.run(
        [sys.executable, "-m", "lrlo", "run", "study.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done


def tables(folder: Path) -> dict[str, list[dict[str, str]]]:
    return {
        path.stem: list(csv.DictReader(path.read_text().splitlines()))
        for path in sorted((folder / "small" / "tables").glob("*.csv"))
    }


def test_run_reports_progress_tables_and_report(finished) -> None:
    folder, done = finished
    assert "of about" in done.stdout
    assert "left" in done.stdout
    assert "CHGNet" in (folder / "small" / "report.html").read_text()
    states = {row["state"]: row for row in tables(folder)["states"]}
    assert list(states) == ["pristine", "charged", "4.2 V", "discharged"]
    assert float(states["pristine"]["O4/(O4+O5)"]) == 1.0
    assert float(states["charged"]["Li per f.u."]) == pytest.approx(1 / 6, abs=1e-3)
    assert float(states["discharged"]["Li per f.u."]) > 1
    assert "computed voltage curve" in states["4.2 V"]["Li content from"]
    assert all("CHGNet 0.3.0" in row["level of theory"] for row in states.values())


def test_energies_and_voltages_are_physical(finished) -> None:
    folder, _ = finished
    for row in tables(folder)["states"]:
        n_atoms = 24 - 6 * (7 / 6 - float(row["Li per f.u."]))
        assert -8.5 < float(row["energy (eV)"]) / n_atoms < -5.0
        assert 4.5 < float(row["layer spacing (Å)"]) < 5.5


def test_only_sound_barriers_have_numbers(finished) -> None:
    folder, _ = finished
    rows = tables(folder)["barriers"]
    assert {row["path class"] for row in rows} == {"in_plane", "out_of_plane"}
    for row in rows:
        sound = row["status"] in ("converged", "no_interior_saddle", "several_saddles")
        if row["forward (eV)"]:
            assert sound
            assert 0 <= float(row["forward (eV)"]) < 8
            assert float(row["forward (eV)"]) - float(row["reverse (eV)"]) == pytest.approx(
                float(row["reaction energy (eV)"]), abs=2e-3
            )
        else:
            assert row["status"] != "converged"
            assert row["detail"]


def test_second_run_computes_nothing(finished) -> None:
    folder, _ = finished
    before = tables(folder)
    done = lrlo("run", "study.yaml", folder=folder)
    assert done.returncode == 0
    assert "0 tasks computed" in done.stdout
    assert tables(folder) == before


def test_tables_are_the_same_with_tasks_side_by_side(tmp_path: Path) -> None:
    text = small_study.SMALL.replace("[in_plane]", "[in_plane, out_of_plane]")
    found = []
    for n_lanes in ("1", "2"):
        folder = tmp_path / n_lanes
        folder.mkdir()
        (folder / "study.yaml").write_text(text)
        done = lrlo("run", "study.yaml", "--together", n_lanes, folder=folder)
        assert done.returncode == 0, done.stderr
        found.append(tables(folder))
    assert found[0] == found[1]
    assert [row["path class"] for row in found[0]["barriers"]] == ["in_plane", "out_of_plane"]


def test_edited_study_computes_only_what_changed(finished, tmp_path: Path) -> None:
    folder, _ = finished
    edited = SMALL.replace("fmax: 0.3, max_steps: 12", "fmax: 0.3, max_steps: 13")
    (folder / "edited.yaml").write_text(edited)
    done = lrlo("run", "edited.yaml", folder=folder)
    assert done.returncode == 0
    computed = int(done.stdout.split(" tasks computed")[0].split()[-1])
    n_bands = sum(row["force calls"] != "0" for row in tables(folder)["barriers"])
    # a path is at most one band, three intermediate minima and four segments
    assert 0 < computed <= 8 * n_bands
    assert len(tables(folder)["states"]) == 4
    again = lrlo("run", "study.yaml", folder=folder)  # going back is free
    assert "0 tasks computed" in again.stdout


def test_status_show_and_query(finished) -> None:
    folder, _ = finished
    status = lrlo("status", "study.yaml", folder=folder)
    assert "4 of 4 states finished" in status.stdout
    shown = lrlo("show", "study.yaml", folder=folder)
    assert "O4/(O4+O5)" in shown.stdout
    rows = json.loads(
        lrlo("query", "states", "--max-li-content", "0.5", "--format", "json", folder=folder).stdout
    )
    assert {row["state"] for row in rows} <= {"charged", "4.2 V"}
    text = lrlo(
        "query", "barriers", "--path-class", "in_plane", "--format", "csv", folder=folder
    ).stdout
    assert {row["path class"] for row in csv.DictReader(text.splitlines())} == {"in_plane"}
    table = lrlo("query", "coordination", "--state", "pristine", folder=folder)
    assert "TM-TM coordination" in table.stdout
    wrong = lrlo("query", "states", "--mover", "Mn", folder=folder)
    assert wrong.returncode == 1
    assert "filters are for barriers" in wrong.stderr


def test_results_of_an_earlier_version_are_mentioned(finished) -> None:
    folder, _ = finished
    (folder / "newer.yaml").write_text(SMALL.replace("temperature: 2000", "temperature: 1999"))
    for command in ("status", "show"):
        done = lrlo(command, "newer.yaml", folder=folder)
        assert done.returncode == 0
        assert "states of an earlier version: 'lrlo run newer.yaml'" in done.stdout
        assert "earlier version" not in lrlo(command, "study.yaml", folder=folder).stdout


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quick")
    (folder / "study.yaml").write_text(QUICK)
    assert lrlo("run", "study.yaml", folder=folder).returncode == 0
    return folder


@pytest.mark.parametrize("moment", ["between tasks", "in a band"])
def test_killed_quick_run_resumes_to_the_same_tables(
    quick: Path, tmp_path: Path, moment: str
) -> None:
    kill_and_resume(QUICK, tmp_path, moment)
    assert tables(tmp_path) == tables(quick)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["between tasks", "in a band"])
def test_killed_run_resumes_to_the_same_tables(finished, tmp_path: Path, moment: str) -> None:
    whole, _ = finished
    kill_and_resume(SMALL, tmp_path, moment)
    assert tables(tmp_path) == tables(whole)


def kill_and_resume(study: str, tmp_path: Path, moment: str) -> None:
    """Run a study, kill the process at a moment, and run it to its end."""
    (tmp_path / "study.yaml").write_text(study)
    process = subprocess.Popen(
        [sys.executable, "-m", "lrlo", "run", "study.yaml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    if moment == "between tasks":
        finished_tasks = 0
        for line in process.stdout:
            finished_tasks += line.startswith("[")
            if finished_tasks == 4:
                break
    else:
        journals = tmp_path / "small" / "checkpoints"
        deadline = time.monotonic() + 240
        while not any(small_study.is_in_a_band(p) for p in journals.glob("*.journal")):
            assert process.poll() is None, "the run ended before the moment came"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if moment != "between tasks":
        assert list((tmp_path / "small" / "checkpoints").glob("*.journal"))
    resumed = lrlo("run", "study.yaml", folder=tmp_path)
    assert resumed.returncode == 0
    stored = int(resumed.stdout.split(" were stored")[0].split()[-1])
    assert stored >= (4 if moment == "between tasks" else 1)
    assert not list((tmp_path / "small" / "checkpoints").glob("*.journal"))


def test_new_plan_and_profiles(tmp_path: Path) -> None:
    made = lrlo("new", "my study.yaml", folder=tmp_path)
    assert made.returncode == 0
    assert lrlo("new", "my study.yaml", folder=tmp_path).returncode == 1  # never overwrites
    planned = lrlo("plan", "my study.yaml", folder=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert "60 atoms" in planned.stdout
    assert "force calls" in planned.stdout
    assert not list(tmp_path.glob("*/store.sqlite"))
    assert "slurm" in lrlo("profile", "list", folder=tmp_path).stdout
    assert "partition" in lrlo("profile", "show", "slurm", folder=tmp_path).stdout
    assert lrlo("profile", "show", "../cli", folder=tmp_path).returncode == 1


def test_help_is_quick() -> None:
    """Heavy imports wait: seconds are noise, modules are not."""
    code = (
        "import sys\nfrom lrlo import cli\n"
        "heavy = {'torch', 'pymatgen', 'ase', 'jobflow', 'numpy', 'matplotlib', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("Li1.2Ni0.2Mn0.6O2", "Li1.2Qq0.2Mn0.6O2"), "Qq"),
        (("max_atoms: 24", "max_atoms: 20"), "nearest that can has 24 atoms"),
        (
            (
                "seed: 3}",
                "seed: 3}\nbonding: {pdos: true}\n"
                "backend: {calculator: 'ase.calculators.lj:LennardJones'}",
            ),
            "asks for bonding",
        ),
        (("after: charged", "after: chraged"), "no earlier state"),
    ],
)
def test_mistakes_end_with_a_clear_message(
    tmp_path: Path, change: tuple[str, str], part: str
) -> None:
    (tmp_path / "study.yaml").write_text(SMALL.replace(*change))
    done = lrlo("run", "study.yaml", folder=tmp_path)
    assert done.returncode == 1
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "small").exists()


def test_unbalanced_charge_is_warned_with_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(SMALL.replace("Li1.2Ni0.2Mn0.6O2", "LiMnO2"))
    done = lrlo("plan", "study.yaml", folder=tmp_path)
    assert done.returncode == 0
    assert "not charge-balanced: +6 e over 6 formula units" in done.stderr


def test_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(SMALL)
    (tmp_path / "blocked").write_text("a file, not a folder")
    done = lrlo("run", "study.yaml", "--store", "blocked/store.sqlite", folder=tmp_path)
    assert done.returncode == 1
    assert "cannot be opened or written" in done.stderr


def test_voltage_outside_the_curve_keeps_the_rest(finished) -> None:
    folder, _ = finished
    (folder / "high.yaml").write_text(SMALL.replace('"4.2 V", voltage: 4.2', "high, voltage: 5.9"))
    done = lrlo("run", "high.yaml", folder=folder)
    assert done.returncode == 1
    assert "above the highest plateau" in done.stderr
    assert "everything else is stored" in done.stderr
    assert {row["state"] for row in tables(folder)["states"]} == {
        "pristine",
        "charged",
        "discharged",
    }


def test_missing_store_is_said(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(SMALL)
    for command in (("status", "study.yaml"), ("show", "study.yaml"), ("query", "states")):
        done = lrlo(*command, folder=tmp_path)
        assert done.returncode == 1
        assert "store" in done.stderr


def test_bonding_of_a_state(tmp_path: Path) -> None:
    text = SMALL.split("states:")[0] + (
        "states: [{label: pristine}]\nhops: null\nrelax: {fmax: 0.3, max_steps: 20}\n"
        "bonding: {cohp: true}\n"
    )
    (tmp_path / "study.yaml").write_text(text)
    done = lrlo("run", "study.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["class"]: row for row in tables(tmp_path)["bonding_classes"]}
    counts = tables(tmp_path)["coordination"][0]
    n_oxygen = sum(int(row["O"]) for row in rows.values())
    assert int(rows["O4"]["O"]) / n_oxygen == pytest.approx(float(counts["O4"]), abs=1e-3)
    assert rows["O5"]["O"] == "0"
    assert rows["O5"]["-ICOHP (eV per bond)"] == ""  # a class with no member has no number
    assert 5 < float(rows["O4"]["-ICOHP (eV per bond)"]) < 15
    assert "GFN1-xTB" in (tmp_path / "small" / "report.html").read_text()
    shown = lrlo("show", "study.yaml", "--bonding", folder=tmp_path)
    assert "bonding by oxygen class" in shown.stdout
    assert lrlo("run", "study.yaml", folder=tmp_path).stdout.count("0 tasks computed") == 1


def test_archive_carries_a_study_elsewhere(
    finished: tuple[Path, subprocess.CompletedProcess], tmp_path: Path
) -> None:
    folder, _ = finished
    written = lrlo("export", "small", str(tmp_path / "small.zip"), folder=folder)
    assert written.returncode == 0, written.stderr
    store = ("--store", str(tmp_path / "elsewhere.sqlite"))
    assert lrlo("import", "small.zip", *store, folder=tmp_path).returncode == 0
    here = lrlo("query", "barriers", "--format", "csv", folder=folder)
    there = lrlo("query", "barriers", "--format", "csv", *store, folder=tmp_path)
    assert there.stdout == here.stdout != ""
    checked = lrlo("store", "check", *store, folder=tmp_path)
    assert checked.returncode == 0
    assert checked.stdout.splitlines()[-1] == "sound"
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    refused = lrlo("import", "bad.zip", *store, folder=tmp_path)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
