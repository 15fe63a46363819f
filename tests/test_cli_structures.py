"""``lrlo build`` and ``lrlo enumerate`` on small cells, with good and with bad input."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from pymatgen.core import Structure
from typer.testing import CliRunner

from lrlo.cli import app
from lrlo.structures.catalogue import BUILDERS
from lrlo.structures.crystals import CRYSTALS
from lrlo.structures.structure_files import read_built

runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lrlo(*arguments: str) -> str:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    """Message of a command that fails and leaves no new file behind."""
    before = {path: path.read_bytes() for path in Path().rglob("*")}
    result = runner.invoke(app, arguments)
    assert result.exit_code != 0
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert {path: path.read_bytes() for path in Path().rglob("*")} == before
    return result.output


def test_help_is_quick() -> None:
    """Heavy libraries wait: the help of the command imports neither numpy nor pymatgen."""
    code = (
        "import sys; from lrlo.cli import app; import typer.main; typer.main.get_command(app);"
        "sys.exit(any(m in sys.modules for m in ('numpy', 'pymatgen', 'matplotlib', 'ase')))"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert time.perf_counter() - start < 10


def test_list_has_everything_with_a_line_each() -> None:
    lines = lrlo("build", "--list").splitlines()
    starts = [line.split()[0] for line in lines if line.startswith("  ")]
    assert Counter(starts) == Counter([*BUILDERS, *CRYSTALS])
    assert all(len(line.split()) > 1 for line in lines if line.startswith("  "))


@pytest.mark.parametrize("name", BUILDERS)
def test_help_explains_every_parameter(name: str) -> None:
    text = lrlo("build", name, "--help")
    for parameter in BUILDERS[name].parameters:
        option = "SOURCE" if parameter.name == "host" else f"--{parameter.name.replace('_', '-')}"
        assert option in text


def test_build_prints_what_is_realised_and_writes() -> None:
    text = lrlo(
        *("build", "honeycomb", "--formula", "Li1.2Mn0.54Ni0.13Co0.13O2", "--max-atoms", "48"),
        *("--seed", "7", "--output", "cell.cif", "--draw", "cell.png"),
    )
    structure = Structure.from_file("cell.cif")
    assert f"{structure.composition.formula}, {len(structure)} atoms" in text
    manganese = 2 * structure.composition["Mn"] / structure.composition["O"]
    assert f"Mn {manganese:.3f} ({manganese - 0.54:+.3f})" in text
    assert "charge: " in text
    assert "space group: " in text
    classes = {"O" + str(6 - n) for n in range(7)}
    assert any(f"oxygen classes: {name}" in text for name in classes)
    assert Path("cell.png").read_bytes().startswith(b"\x89PNG")


def test_same_seed_gives_the_same_file() -> None:
    for name in ("one.vasp", "two.vasp"):
        lrlo(*("build", "random", "--formula", "Li1.2Ni0.2Mn0.6O2", "--seed", "3", "-o", name))
    assert Path("one.vasp").read_text() == Path("two.vasp").read_text()


def test_svg_is_reproducible() -> None:
    for name in ("one.svg", "two.svg"):
        lrlo("build", "crystal", "--name", "LiCoO2", "--draw", name)
    assert Path("one.svg").read_bytes() == Path("two.svg").read_bytes()
    assert b"<svg" in Path("one.svg").read_bytes()


def test_format_overrules_the_suffix() -> None:
    lrlo("build", "monoxide", "--metal", "Ni", "-o", "cell.txt", "--format", "poscar")
    assert Path("cell.txt").read_text().splitlines()[5].split() == ["Ni", "O"]


def test_without_files_it_only_says() -> None:
    assert "C2/m (12)" in lrlo("build", "crystal", "--name", "Li2MnO3")
    assert not list(Path().iterdir())


def test_defects_follow_each_other() -> None:
    lrlo("build", "honeycomb", "--formula", "Li2MnO3", "--max-atoms", "24", "-o", "host.json")
    lrlo("build", "dopant", "host.json", "--ions", "Ti=1", "--on", "tm", "-o", "doped.json")
    lrlo("build", "oxygen-vacancy", "doped.json", "-o", "vacant.json")
    host, last = read_built("host.json"), read_built("vacant.json")
    assert last.frame == host.frame
    assert dict(last.structure.composition.get_el_amt_dict()) == {
        **{"Li": 8, "Mn": 3, "Ti": 1, "O": 11}
    }


def test_defects_on_a_file_of_unknown_origin() -> None:
    """The frame is found, and atoms that are not part of the defect stay."""
    CRYSTALS["Li2MnO3"].structure().get_reduced_structure().to("relaxed.cif")
    lrlo("build", "dopant", "relaxed.cif", "--ions", "Ru=1", "--on", "tm", "-o", "doped.cif")
    before, after = Structure.from_file("relaxed.cif"), Structure.from_file("doped.cif")
    distances = before.lattice.get_all_distances(before.frac_coords, after.frac_coords)
    assert distances.min(axis=1).max() < 1e-4
    assert after.composition["Ru"] == 1


def test_charges_are_reported() -> None:
    text = lrlo("build", "dopant", "LiCoO2", "--ions", "Ti=1", "--on", "tm")
    assert "charge: +1 e" in text
    assert "formal charge brought in: +1 e" in text
    changed = lrlo(
        *("build", "dopant", "LiCoO2", "--ions", "Ti=1", "--on", "tm"),
        *("--oxidation-states", "Ti=3"),
    )
    assert "charge: balanced" in changed


def test_path_of_gliding_layers() -> None:
    text = lrlo("build", "glide", "LiCoO2", "--images", "5", "--output", "path.xyz")
    assert "5 on a path" in text
    assert Path("path.xyz").read_text().count("Lattice=") == 5
    assert "choose one of them" in refused("build", "glide", "LiCoO2", "-o", "path.cif")
    lrlo("build", "glide", "LiCoO2", "--image", "4", "-o", "saddle.cif", "--draw", "saddle.png")
    assert len(Structure.from_file("saddle.cif")) == 12


def test_order_of_the_cations() -> None:
    """A short-range order, and a share of the order of a parent that was built before."""
    formula = ("--formula", "LiNi0.5Mn0.5O2", "--max-atoms", "32", "--min-atoms", "32")
    text = lrlo("build", "random", *formula, "--short-range-order", "Mn-Ni=-0.3", "-o", "one.json")
    alpha = float(text.split("Warren-Cowley Mn-Ni, reached (asked for): ")[1].split()[0])
    assert alpha == pytest.approx(-0.3, abs=0.05)
    text = lrlo("build", "random", *formula, "--parent", "one.json", "--order", "1")
    reached = text.split("Warren-Cowley Mn-Ni, reached (asked for): ")[1].split()
    assert float(reached[0]) == pytest.approx(alpha)
    assert float(reached[1].strip("()")) == pytest.approx(alpha)  # the parent's own


MIXED = """data_mixed
_cell_length_a 2.88
_cell_length_b 2.88
_cell_length_c 14.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_symmetry_space_group_name_H-M 'R -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Li1 Li 0 0 0.5 0.9
Ni1 Ni 0 0 0.5 0.1
Ni2 Ni 0 0 0 1
O1 O 0 0 0.2585 1
"""
LEFT_HANDED = "left\n1\n0 4 0\n4 0 0\n0 0 4\nNi O\n1 1\ndirect\n0 0 0\n.5 .5 .5\n"
FLAT = "flat\n1\n4 0 0\n0 4 0\n4 4 0\nNi O\n1 1\ndirect\n0 0 0\n.5 .5 .5\n"

REFUSED = {
    "unknown builder": ("build honeycom --formula Li2MnO3 -o x.cif", "did you mean honeycomb"),
    "builders are listed": ("build nothing -o x.cif", "There are crystal, honeycomb"),
    "crystal as builder": ("build LiCoO2", "crystal --name LiCoO2"),
    "missing formula": ("build honeycomb -o x.cif", "--formula"),
    "unknown suffix": ("build crystal --name NiO -o x.foo", "names no format"),
    "unknown format": ("build crystal --name NiO -o x.cif --format foo", "unknown format 'foo'"),
    "unknown picture": ("build crystal --name NiO -o x.cif --draw x.bmp", ".png and .svg"),
    "unknown layer": (
        "build crystal --name LiCoO2 -o x.cif --draw x.png --draw-layer 9",
        "allowed: 1 to 3",
    ),
    "unknown crystal": ("build crystal --name NaCl -o x.cif", "there are Li2MnO3"),
    "composition": (
        "build honeycomb --formula Li1.6Mn0.4O2 -o x.cif",
        "holds at most 0.333 Li per TM-layer site",
    ),
    "small cell": (
        "build honeycomb --formula Li1.2Mn0.54Ni0.13Co0.13O2 --max-atoms 12 -o x.cif",
        "the nearest that can has",
    ),
    "no formula": ("build honeycomb --formula Quatsch -o x.cif", "cannot be read"),
    "fault without honeycomb": (
        "build faulted-honeycomb --formula Li2MnO3 --stacking O1 --angles 0,120 -o x.cif",
        "no rotational faults",
    ),
    "fault angle": (
        "build faulted-honeycomb --formula Li2MnO3 --angles 0,90 -o x.cif",
        "allowed: (0, 120, 240)",
    ),
    "fault text": (
        "build faulted-honeycomb --formula Li2MnO3 --angles a,b -o x.cif",
        "numbers with commas",
    ),
    "order text": (
        "build random --formula LiNi0.5Mn0.5O2 --short-range-order Mn-Ni:1 -o x.cif",
        "such as Mn-Ni=-0.2",
    ),
    "order without parent": (
        "build random --formula LiNi0.5Mn0.5O2 --order 0.5 -o x.cif",
        "parent and order go together",
    ),
    "impossible order": (
        "build random --formula LiNi0.5Mn0.5O2 --short-range-order Mn-Ni=-9 -o x.cif",
        "impossible short-range order",
    ),
    "site class": ("build dopant LiCoO2 --ions Ti=1 --on tm_layer_li -o x.cif", "no site of class"),
    "dopant text": ("build dopant LiCoO2 --ions Ti --on tm -o x.cif", "such as Ti=1"),
    "dopant": ("build dopant LiCoO2 --ions Xx=1 --on tm -o x.cif", "unknown elements"),
    "too many dopants": ("build dopant LiCoO2 --ions Ti=99 --on tm -o x.cif", "do not fit"),
    "negative distance": (
        "build antisite LiCoO2 --tm Co --max-distance -1 -o x.cif",
        "must be positive",
    ),
    "negative vacuum": ("build basal-slab LiCoO2 --vacuum -3 -o x.cif", "must be positive"),
    "O class": ("build oxygen-vacancy LiCoO2 --o-class O5 -o x.cif", "no O of class O5"),
    "no such hop": ("build oxygen-vacancy LiCoO2 --near-hop-of Mn -o x.cif", "no Mn on tm_oct"),
    "hop number": (
        "build oxygen-vacancy Li2MnO3 --near-hop-of Mn --hop 99 -o x.cif",
        "hop 99 does not exist",
    ),
    "negative distance to a hop": (
        "build oxygen-vacancy Li2MnO3 --near-hop-of Mn --max-distance -2 -o x.cif",
        "must be positive",
    ),
    "several near a hop": (
        "build oxygen-vacancy Li2MnO3 --near-hop-of Mn --number 2 -o x.cif",
        "one O is taken out at a time",
    ),
    "dimer": ("build dimer LiCoO2 --length -1.4 -o x.cif", "out of bounds"),
    "size text": ("build layered --metal Co --size 2 -o x.cif", "takes 2 numbers"),
    "no source": ("build dopant missing.cif --ions Ti=1 --on tm", "neither a file nor a named"),
    "partial": ("build strain mixed.cif --in-plane 0.01 -o x.cif", "partial occupancies"),
    "left-handed": ("build dimer left.vasp -o x.cif", "left-handed"),
    "degenerate": ("build dimer flat.vasp -o x.cif", "degenerate"),
    "no folder": ("build crystal --name NiO -o nowhere/x.cif", "no folder"),
    "same file": ("build crystal --name NiO -o x.svg --format cif --draw x.svg", "cannot be both"),
    "existing": ("build crystal --name NiO -o mixed.cif", "exists; choose another name or give"),
    "existing picture": ("build crystal --name NiO -o x.cif --draw old.png", "old.png exists"),
    "quota": ("enumerate Li2MnO3 --keep-li-layer 7 -o x.jsonl", "allowed are 0 to 6"),
    "total": ("enumerate Li2MnO3 --keep 9 -o x.jsonl", "allowed are 0 to 8"),
    "impossible total": ("enumerate Li2MnO3 --keep-li-layer 1 --keep 8", "adds up to 8"),
    "negative quota": ("enumerate Li2MnO3 --keep-li-layer -1 -o x.jsonl", "such as 4-8"),
    "no such layer": ("enumerate LiCoO2 --keep-tm-layer 1 -o x.jsonl", "no Li in the TM layer"),
    "no lithium": ("enumerate NiO -o x.jsonl", "holds no Li"),
    "pattern format": ("enumerate Li2MnO3 -o x.cif", "no format of patterns"),
    "limit": (
        "enumerate Li2MnO3 --limit 20 -o x.jsonl",
        "88 distinct patterns are more than the limit of 20",
    ),
    "no limit": ("enumerate Li2MnO3 --limit 0 -o x.jsonl", "at least 1"),
    "no charge": (
        "enumerate Li2MnO3 --keep 3 --energies --charges Li=a -o x.jsonl",
        "elements with numbers",
    ),
    "existing patterns": ("enumerate Li2MnO3 --keep 8 -o old.jsonl", "old.jsonl exists"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_and_nothing_written(case: str) -> None:
    Path("mixed.cif").write_text(MIXED)
    Path("left.vasp").write_text(LEFT_HANDED)
    Path("flat.vasp").write_text(FLAT)
    for name in ("old.png", "old.jsonl"):
        Path(name).write_text("mine")
    command, message = REFUSED[case]
    assert message in " ".join(refused(*command.split()).split())


def test_limit_says_how_to_sample() -> None:
    text = refused("enumerate", "Li2MnO3", "--limit", "20", "-o", "x.jsonl")
    assert "--sample 100 --how uniform" in text
    assert "ewald" in text


def test_force_overwrites() -> None:
    Path("x.cif").write_text("old")
    lrlo("build", "crystal", "--name", "NiO", "-o", "x.cif", "--force")
    assert Structure.from_file("x.cif").reduced_formula == "NiO"


def records(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_counts_come_first() -> None:
    """Li2MnO3: 2^6 patterns of the Li layer times 2^2 of the TM layer."""
    lines = [line.split() for line in lrlo("enumerate", "Li2MnO3").splitlines()]
    table = [line for line in lines if len(line) == 4 and line[0].isdigit()]
    assert len(table) == 7 * 3
    assert sum(int(row[2]) for row in table) == 256
    assert ["256", "88"] in lines


def test_patterns_are_streamed_with_degeneracies() -> None:
    text = lrlo("enumerate", "Li2MnO3", "--keep", "4", "-o", "patterns.jsonl", "--energies")
    patterns = records("patterns.jsonl")
    assert f"wrote {len(patterns)} of {len(patterns)}" in text
    # 70 ways to keep 4 of 8 Li; every pattern stands for its class
    assert sum(p["degeneracy"] for p in patterns) == 70
    host = read_built("Li2MnO3")
    assert host.occupation is not None
    lithium = set(host.occupation.sites_of("Li"))
    for pattern in patterns:
        kept = {site for sites in pattern["kept_sites"].values() for site in sites}
        assert kept | set(pattern["removed_sites"]) == lithium
        assert len(kept) == 4
        symbols = {host.structure[atom].specie.symbol for atom in pattern["removed_atoms"]}
        assert symbols == {"Li"}
        assert pattern["ewald_energy"] < 0


def test_lowest_in_ewald_energy_are_the_lowest_of_all() -> None:
    layers = ("--keep-li-layer", "3", "--keep-tm-layer", "1")
    text = lrlo("enumerate", "Li2MnO3", *layers, "-o", "all.jsonl", "--energies")
    assert "Ewald energies with Li +1, Mn +4, O -2; the charge of removed Li in equal" in text
    lrlo("enumerate", "Li2MnO3", *layers, "--sample", "3", "--how", "ewald", "-o", "low.jsonl")
    every = sorted(pattern["ewald_energy"] for pattern in records("all.jsonl"))
    lowest = [pattern["ewald_energy"] for pattern in records("low.jsonl")]
    assert lowest == pytest.approx(every[:3], abs=1e-6)


def test_patterns_of_crystals_without_layers_and_of_slabs() -> None:
    formula = ("--formula", "LiMn0.5Ti0.5O2", "--size", "1")
    lrlo("build", "disordered-rock-salt", *formula, "-o", "a.json")
    assert "cation sublattice" in lrlo("enumerate", "a.json", "--keep", "1", "-o", "a.jsonl")
    lrlo("build", "layered", "--metal", "Co", "--size", "2,1", "-o", "bulk.json")
    lrlo("build", "basal-slab", "bulk.json", "--layers", "2", "-o", "slab.json")
    lrlo("enumerate", "slab.json", "--keep-li-layer", "2", "-o", "slab.jsonl")
    assert sum(pattern["degeneracy"] for pattern in records("slab.jsonl")) == 6


def test_uniform_sample_is_seeded_and_distinct() -> None:
    command = ("enumerate", "Li2MnO3", "--keep-li-layer", "3", "--keep-tm-layer", "1")
    for name, seed in (("a.jsonl", "1"), ("b.jsonl", "1"), ("c.jsonl", "2")):
        lrlo(*command, "--sample", "5", "--seed", seed, "-o", name)
    assert Path("a.jsonl").read_text() == Path("b.jsonl").read_text()
    assert Path("a.jsonl").read_text() != Path("c.jsonl").read_text()
    assert len({tuple(p["removed_sites"]) for p in records("a.jsonl")}) == 5


def test_patterns_as_structures() -> None:
    lrlo("enumerate", "LiCoO2", "--keep", "1", "-o", "patterns.xyz")
    text = Path("patterns.xyz").read_text()
    assert text.count("Lattice=") == 1  # the three Li of LiCoO2 are the same
    assert "degeneracy=3" in text
    built = read_built("patterns.xyz")
    assert built.structure.composition.get_el_amt_dict() == {"Li": 1, "Co": 3, "O": 6}
