"""Rows, statistics and marks; tables and figures say what the results say."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from pymatgen.core import Lattice, Structure

from lrlo.analysis.bonding import (
    BondingSolution,
    analyse_bonding,
    class_rows,
    o5_to_o4,
    statistic,
)
from lrlo.analysis.bonding_documents import BondingResult, EnergyWindow, IcohpScale
from lrlo.analysis.bonding_figures import (
    MixedLevelsError,
    bond_strength_figure,
    cohp_figure,
    labelled_results,
    pdos_figure,
)
from lrlo.analysis.bonding_tables import (
    bond_rows,
    bonding_class_rows,
    bonding_rows,
    gap_rows,
    oxygen_rows,
    substitution_rows,
    write_bonding_tables,
)
from lrlo.analysis.competitive_bonding import SubstitutionError, substitution_effect
from lrlo.analysis.level_of_theory import LevelOfTheory
from lrlo.analysis.orbital_populations import ElectronicStates, Orbital
from lrlo.analysis.tables import to_csv
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation
from lrlo.structures.oxygen_environment import OxygenClass

from .bonding_results import TIGHT_BINDING, bond_row, document_of, oxygen_row, result_on
from .documents import CONTEXT, texts


def test_mean_spread_and_count() -> None:
    found = statistic([1.0, 3.0])
    assert found is not None
    assert (found.mean, found.spread, found.count) == (2.0, 1.0, 2)
    assert statistic([]) is None


def test_class_without_members_is_empty_not_zero() -> None:
    rows = class_rows(
        [oxygen_row(0, 2, 2.0), oxygen_row(1, 2, 3.0), oxygen_row(2, 1, 4.0)],
        [bond_row(9, 0, "O4", 2.4), bond_row(9, 2, "O5", 3.3, n_images=2)],
    )
    assert [row.o_class for row in rows] == list(OxygenClass)[3:]
    o3, o4, o5, o6 = rows
    assert (o3.n_oxygen, o3.n_bonds, o3.window_weight, o3.minus_icohp) == (0, 0, None, None)
    assert (o6.n_oxygen, o6.length) == (0, None)
    assert o4.window_weight is not None
    assert (o4.window_weight.mean, o4.window_weight.spread, o4.n_bonds) == (2.5, 0.5, 1)
    assert o5.minus_icohp is not None
    assert (o5.n_bonds, o5.minus_icohp.count, o5.minus_icohp.mean) == (2, 2, 3.3)
    ratios = o5_to_o4(rows)
    assert ratios.window_weight == pytest.approx(1.6)
    assert ratios.minus_icohp == pytest.approx(3.3 / 2.4)
    assert o5_to_o4(class_rows([oxygen_row(0, 2, 2.0)], [])).window_weight is None
    # A class beyond the four has a row where it has members.
    assert class_rows([oxygen_row(0, 5, 1.0)], [])[0].o_class is OxygenClass.O1


def metal_and_oxygen(semicore: bool) -> tuple[ElectronicStates, Structure]:
    """Mn and O 2 Å apart along x: d(x2-y2) and p(x) with one electron pair, p(y) and p(z) full.

    With `semicore`, a full Mn 3p(x) hops to O 2p(x), too.
    """
    labels = [Orbital(0, 3, 2, 2), *(Orbital(1, 2, 1, m) for m in (-1, 0, 1))]
    if semicore:
        labels.append(Orbital(0, 3, 1, 1))
    n = len(labels)
    hamiltonian = np.diag([-1.0, -2.0, -3.0, -2.5, -40.0][:n])
    hamiltonian[0, 3] = hamiltonian[3, 0] = -0.8
    if semicore:
        hamiltonian[4, 3] = hamiltonian[3, 4] = -0.5
    energies, vectors = np.linalg.eigh(hamiltonian)
    occupations = np.full(n, 2.0)
    occupations[-1] = 0  # the antibonding d-p state
    states = ElectronicStates(
        energies=energies[None, None], coefficients=vectors[None, None],
        hamiltonian=hamiltonian[None, None], overlap=np.eye(n)[None], k_points=np.zeros((1, 3)),
        k_weights=np.ones(1), occupations=occupations[None, None], orbitals=tuple(labels),
        n_electrons=2.0 * (n - 1),
    )  # fmt: skip
    return states, Structure(Lattice.cubic(9), ["Mn", "O"], [[0, 0, 0], [2 / 9, 0, 0]])


def analysed(states: ElectronicStates, structure: Structure, **scf: object) -> BondingResult:
    template = result_on_pair(structure)
    attempt = template.scf.final.model_copy(update=scf)
    solution = BondingSolution(
        states=states,
        scf=template.scf.model_copy(update={"attempts": (attempt,)}),
        icohp_scale=IcohpScale.DFT,
        level_of_theory=TIGHT_BINDING,
    )
    return analyse_bonding(solution, structure, None, EnergyWindow())


def result_on_pair(structure: Structure) -> BondingResult:
    from .bonding_results import result_of

    return result_of([oxygen_row(1, 1, 1.0)], [bond_row(0, 1, "O5", 1.0)], structure, None)


def test_diatomic_by_hand() -> None:
    """Two-level d-p bond at -1 and -2.5 eV with hopping -0.8 eV, two lone pairs."""
    states, structure = metal_and_oxygen(semicore=False)
    result = analysed(states, structure)
    half = np.hypot(0.75, 0.8)
    bonding, antibonding = -1.75 - half, -1.75 + half
    share_p = 0.5 * (1 + 0.75 / half)  # of p(x) in the bonding state
    assert result.valence_band_maximum == pytest.approx(-2.0)
    assert result.gap == pytest.approx(antibonding + 2.0)
    (oxygen,) = result.oxygens
    assert (oxygen.o_class, oxygen.n_nonbonding) == (OxygenClass.O5, 2)
    # In [-2, 0] eV lie p(y) at 0, p(z) at -1 and the bonding state at -0.85.
    assert -2 < bonding + 2 < 0
    assert oxygen.window_nonbonding == pytest.approx(4.0)
    assert oxygen.window_hybridised == pytest.approx(2 * share_p)
    assert oxygen.nonbonding_centre == pytest.approx(-0.5)
    assert oxygen.band_top == pytest.approx(0.0)
    centre = (2 * 0 + 2 * -1 + 2 * share_p * (bonding + 2)) / (4 + 2 * share_p)
    assert oxygen.band_centre == pytest.approx(centre)
    (bond,) = result.bonds
    # 2 electrons x 2 c_d c_p H_dp, with c_d c_p = 0.8 / (2 half)
    assert bond.minus_icohp == pytest.approx(2 * 2 * 0.8 * 0.4 / half)
    assert bond.minus_icohp_dp == pytest.approx(bond.minus_icohp)
    assert bond.length == pytest.approx(2.0)
    (gap,) = result.gaps
    assert gap.upper_hubbard_band == pytest.approx(antibonding + 2)
    assert gap.lower_hubbard_band == pytest.approx(bonding + 2)
    assert gap.mott_gap == pytest.approx(2 * half)
    assert gap.charge_transfer_gap == pytest.approx(antibonding + 2 + 0.5)
    assert gap.smaller_gap == "charge transfer"
    assert result.sum_rules.violations == []
    assert result.curves is not None
    area = np.trapezoid(result.curves.o2p[OxygenClass.O5], result.curves.energies)
    assert area == pytest.approx(6, abs=1e-4)  # three p orbitals, both spins
    assert result.marks == ["no frame: oxygen classes count TM within a distance cutoff"]


def test_semicore_is_left_out_by_label() -> None:
    states, structure = metal_and_oxygen(semicore=True)
    result = analysed(states, structure)
    assert result.semicore_left_out == ["Mn 3p"]
    (bond,) = result.bonds
    assert bond.minus_icohp == pytest.approx(bond.minus_icohp_dp)
    assert result.sum_rules.violations == []  # the rules count everything
    assert result.curves is not None
    energies = np.array(result.curves.energies)
    occupied = np.array(result.curves.minus_cohp[OxygenClass.O5])[energies < 0.4]
    # The deep states lie below the grid; the rest of the curve integrates to -ICOHP.
    assert np.trapezoid(occupied, energies[energies < 0.4]) == pytest.approx(
        bond.minus_icohp, abs=0.01
    )


def test_marks_say_what_is_wrong() -> None:
    states, structure = metal_and_oxygen(semicore=False)
    bad = analysed(
        ElectronicStates(**{**vars(states), "n_electrons": 7.0}),
        structure,
        spin_polarised=False,
        electronic_temperature=3000.0,
    )
    assert any("overlap populations add up to 6.0" in mark for mark in bad.marks)
    assert any("not spin-polarised" in mark for mark in bad.marks)
    assert any("3000 K" in mark for mark in bad.marks)
    upside_down = states.occupations[..., ::-1].copy()
    metal = analysed(ElectronicStates(**{**vars(states), "occupations": upside_down}), structure)
    assert any(mark.startswith("no gap: empty states begin") for mark in metal.marks)


def test_band_without_states_has_no_centre() -> None:
    """A full d shell has no upper Hubbard band and so neither of the gaps."""
    states, structure = metal_and_oxygen(semicore=False)
    full = np.full_like(states.occupations, 2.0)
    result = analysed(
        ElectronicStates(**{**vars(states), "occupations": full, "n_electrons": 8.0}), structure
    )
    (gap,) = result.gaps
    assert gap.upper_hubbard_band is gap.charge_transfer_gap is gap.mott_gap is None
    assert gap.lower_hubbard_band is not None
    assert gap.smaller_gap == ""
    assert result.gap is None


@pytest.fixture(scope="module")
def swapped(li2mno3: PristineModel) -> Occupation:
    """Li2MnO3 with one Mn taken out: its six O become O5."""
    return li2mno3.occupation.with_species({li2mno3.occupation.sites_of("Mn")[0]: "Li"})


@pytest.fixture(scope="module")
def result(swapped: Occupation) -> BondingResult:
    return result_on(swapped)


def test_tables_have_every_class_bond_and_oxygen(result: BondingResult) -> None:
    document = document_of(result)
    rows = {row["class"]: row for row in bonding_class_rows([document])}
    assert list(rows) == ["O3", "O4", "O5", "O6"]
    assert rows["O5"]["O"] == 6
    assert rows["O5"]["-ICOHP (eV per bond)"] == 3.0
    assert rows["O3"]["O"] == 0
    assert rows["O3"]["-ICOHP (eV per bond)"] is None
    assert rows["O4"]["ICOHP scale"] == "tight binding"
    assert rows["O4"]["left out of ICOHP"].startswith("nothing")
    empty = next(csv.DictReader(io.StringIO(to_csv(bonding_class_rows([document])))))
    assert empty["-ICOHP (eV per bond)"] == ""
    (summary,) = bonding_rows([document])
    assert summary["O5:O4 O 2p in window"] == 1.5
    assert summary["O5:O4 -ICOHP"] == 1.5
    assert summary["sum rules"] == "hold"
    assert len(bond_rows([document])) == len(result.bonds)
    assert len(oxygen_rows([document])) == len(result.oxygens)
    (gap,) = gap_rows([document])
    assert gap["smaller gap"] == "charge transfer"
    assert not any("U" in name.split() for name in gap)  # never to be taken for that of DFT+U
    for table in (bonding_rows, bonding_class_rows, bond_rows, oxygen_rows, gap_rows):
        assert all("GFN1-xTB" in row["level of theory"] for row in table([document]))


def test_tables_are_written(result: BondingResult, tmp_path: Path) -> None:
    paths = write_bonding_tables(tmp_path / "tables", [document_of(result)])
    names = {path.name for path in paths}
    assert {"bonding.csv", "bonding_classes.csv", "bonding_bonds.json"} <= names
    assert "bonding_dimers.csv" not in names  # no O-O pair
    rows = json.loads((tmp_path / "tables/bonding_classes.json").read_text())
    assert rows[0]["-ICOHP (eV per bond)"] is None


def test_figures_draw_every_class_and_bond(result: BondingResult) -> None:
    results = {"4.8 V": result}
    pdos = pdos_figure(results)
    assert "O5 (6 O)" in texts(pdos)
    assert "O5:O4 = 1.50" in texts(pdos)
    window = [p for p in pdos.axes[0].patches if p.get_width() == 2]
    assert [p.get_x() for p in window] == [-2]
    cohp = cohp_figure(results)
    assert "O5–TM: 3.00 eV" in texts(cohp)
    assert "about three times" in texts(cohp)
    lines = bond_strength_figure(results).axes[0].lines
    points = [point for line in lines for point in zip(*line.get_data(), strict=True)]
    assert sorted(points) == sorted((b.length, b.minus_icohp) for b in result.bonds)
    semicore = result.model_copy(update={"semicore_left_out": ["Mn 3p"]})
    assert "Mn 3p" in texts(cohp_figure({"a": semicore}))


@pytest.mark.parametrize("draw", [pdos_figure, cohp_figure, bond_strength_figure])
def test_levels_of_theory_never_share_a_figure(draw, result: BondingResult) -> None:
    other = LevelOfTheory(backend="vasp", model="PBE+U", version="LOBSTER")
    with pytest.raises(MixedLevelsError, match=r"GFN1-xTB.*PBE"):
        draw({"a": result, "b": result.model_copy(update={"level_of_theory": other})})
    assert isinstance(draw({}), Figure)
    draw({"50 $ of $x^": result, "_b": result, "c": result, "d": result}).savefig(
        "/dev/null", format="svg"
    )


def test_results_are_labelled_in_study_order(result: BondingResult) -> None:
    later, first = document_of(result, "4.8 V", 2), document_of(result)
    assert list(labelled_results([later, first])) == ["pristine", "4.8 V"]
    other = first.model_copy(update={"context": CONTEXT.model_copy(update={"seed": 4})})
    assert list(labelled_results([first, other])) == ["pristine, seed 3", "pristine, seed 4"]


def test_results_without_loaded_curves_are_read_and_not_drawn(result: BondingResult) -> None:
    stored = result.model_dump(mode="json", exclude={"structure", "frame"})
    reference = {"@class": "BondingCurves", "@module": "lrlo", "blob_uuid": "x", "store": "data"}
    read = BondingResult.model_validate(
        {**stored, "structure": result.structure, "frame": result.frame, "curves": reference}
    )
    assert read.curves is None
    assert "No bonding" in texts(pdos_figure({"a": read}))


def strengthened(result: BondingResult, oxygens: set[int], change: float) -> BondingResult:
    bonds = [
        b.model_copy(update={"minus_icohp": b.minus_icohp + change * (b.oxygen in oxygens)})
        for b in result.bonds
    ]
    return result.model_copy(update={"bonds": bonds})


def test_substitution_effect_finds_the_bonds_next_to_the_dopant(li2mno3: PristineModel) -> None:
    host = li2mno3.occupation
    site = host.sites_of("Mn")[0]
    doped = host.with_species({site: "Ti"})
    frame = host.frame
    atoms = {s: i for i, s in enumerate(host.occupied())}
    near = {atoms[o] for o, around in frame.cations_of_anion.items() if site in around}
    before = result_on(host)
    effect = substitution_effect(before, strengthened(result_on(doped), near, 0.25))
    assert (effect.site, effect.host, effect.dopant) == (site, "Mn", "Ti")
    assert effect.electronegativity_change == pytest.approx(1.54 - 1.55)
    near_change, far_change = effect.change_next_to_dopant, effect.change_elsewhere
    assert near_change is not None
    assert far_change is not None
    # Each of the six O has one other Mn; all bonds but the dopant's own are compared.
    assert (near_change.count, near_change.mean) == (6, pytest.approx(0.25))
    assert far_change.count == 6 * host.count()["Mn"] - 6 - 6
    assert far_change.mean == 0
    assert effect.dopant_bonds is not None
    assert effect.dopant_bonds.mean == pytest.approx(2.25)
    rows = substitution_rows([effect])
    assert [row["bond"] for row in rows[:6]] == ["stronger"] * 6
    assert rows[0]["substitution"] == f"Mn -> Ti on site {site}"


def test_cells_that_are_no_substitution(li2mno3: PristineModel, paper: PristineModel) -> None:
    host = li2mno3.occupation
    mn = host.sites_of("Mn")
    before = result_on(host)
    wrong = {
        "differ on 0 sites": before,
        "differ on 2 sites": result_on(host.with_species({mn[0]: "Ti", mn[1]: "Ti"})),
        "vacancy": result_on(host.with_species({mn[0]: None})),
        "different frames": result_on(paper.occupation),
        "without a frame": before.model_copy(update={"frame": None}),
        "level of theory": before.model_copy(
            update={"level_of_theory": LevelOfTheory(backend="x", model="y", version="")}
        ),
    }
    for message, after in wrong.items():
        with pytest.raises(SubstitutionError, match=message):
            substitution_effect(before, after)
