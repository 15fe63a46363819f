"""LOBSTER's files: a real excerpt, and files of states whose analysis is known."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from lrlo.analysis.bonding import BondingSolution, analyse_bonding
from lrlo.analysis.bonding_documents import BondingResult, EnergyWindow, IcohpScale
from lrlo.analysis.bonding_figures import cohp_figure, pdos_figure
from lrlo.analysis.bonding_lobster import (
    LobsterError,
    _Densities,
    _Files,
    read_bond_populations,
    read_lobster,
)
from lrlo.analysis.level_of_theory import LevelOfTheory
from lrlo.structures.oxygen_environment import OxygenClass
from lrlo.workflows.tight_binding import TightBinding

from ..workflows.test_tight_binding import LI2MNO3, high_spin
from .lobster_files import write_lobster_files

KF = Path(__file__).parents[1] / "workflows/references/lobster/COHPCAR.lobster.KF"
VASP = LevelOfTheory(backend="vasp", model="PBE+U", version="6")


def test_real_file_of_kf() -> None:
    """Pairs of orbitals add up to the bond of the file; shells are what they are called."""
    energies, (bond,) = read_bond_populations(KF)
    assert energies.tolist() == [-11.25, -7.5, -3.75, 0.0]
    assert (bond.atoms, bond.length) == ((0, 1), pytest.approx(2.711992))
    assert set(bond.icohp) == {(f, k) for f in ("2s", "2p") for k in ("3s", "3p", "4s")}
    assert bond.icohp["2s", "4s"][-1] == pytest.approx(-0.25008)
    assert bond.icohp["2p", "4s"][-1] == pytest.approx(-0.04815 - 0.07219 - 0.02410)
    # Rounding of 20 numbers to 1e-5.
    assert sum(v[-1] for v in bond.icohp.values()) == pytest.approx(-0.40075, abs=1e-4)


def test_semicore_of_a_metal_is_left_out() -> None:
    """The same numbers with Mn in the place of K: 3s and 3p are semicore there."""
    energies, populations = read_bond_populations(KF)
    structure = Structure(Lattice.cubic(5.42), ["O", "Mn"], [[0, 0, 0], [0.5, 0, 0]])
    shells = [
        {"2s": np.ones((1, 4)), "2p": np.ones((1, 4))},
        {"3s": np.ones((1, 4)), "3p": np.ones((1, 4)), "4s": np.ones((1, 4))},
    ]
    densities = _Densities(energies, np.ones((1, 4)), shells)
    files = _Files(structure, densities, energies, populations, None, EnergyWindow())
    assert files.semicore_shells == ["Mn 3p", "Mn 3s"]
    (summed,) = files.valence_sum(populations, "icohp")[-1:]
    assert summed == pytest.approx(-0.25008 - 0.04815 - 0.07219 - 0.02410)


@pytest.fixture(scope="module")
def solution() -> BondingSolution:
    return TightBinding().solve(LI2MNO3, high_spin(LI2MNO3))


@pytest.fixture(scope="module")
def direct(solution: BondingSolution) -> BondingResult:
    return analyse_bonding(solution, LI2MNO3, None, EnergyWindow())


@pytest.fixture(scope="module")
def folder(solution: BondingSolution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lobster")
    write_lobster_files(solution, folder)
    return folder


@pytest.fixture(scope="module")
def read(folder: Path, solution: BondingSolution) -> BondingResult:
    return read_lobster(
        folder, LI2MNO3, None, EnergyWindow(), scf=solution.scf, level_of_theory=VASP
    )


def test_files_give_the_document_of_the_states(direct: BondingResult, read: BondingResult) -> None:
    assert read.icohp_scale is IcohpScale.DFT
    assert read.level_of_theory == VASP
    assert read.sum_rules.violations == []
    assert read.sum_rules.n_electrons == pytest.approx(direct.sum_rules.n_electrons, abs=0.01)
    assert direct.gap is not None
    assert read.gap == pytest.approx(direct.gap, abs=0.25)  # edges of a broadened density
    assert read.valence_band_maximum == pytest.approx(-0.3, abs=0.15)
    assert read.total_moment == pytest.approx(direct.total_moment, abs=0.01)
    assert read.tm_moments["Mn"].mean == pytest.approx(direct.tm_moments["Mn"].mean, abs=0.01)
    assert Counter(o.o_class for o in read.oxygens) == {OxygenClass.O4: 6}
    for ours, theirs in zip(direct.bonds, read.bonds, strict=True):
        assert (ours.tm, ours.oxygen, ours.n_images) == (theirs.tm, theirs.oxygen, theirs.n_images)
        assert theirs.minus_icohp == pytest.approx(ours.minus_icohp, abs=2e-3)
        assert theirs.minus_icohp_dp == pytest.approx(ours.minus_icohp_dp, abs=2e-3)
        assert theirs.icoop is None
    for mine, other in zip(direct.oxygens, read.oxygens, strict=True):
        assert other.window_weight == pytest.approx(mine.window_weight, rel=0.1)
        assert other.band_centre is not None
        assert mine.band_centre is not None
        edge = read.valence_band_maximum + 0.3
        assert other.band_centre + edge == pytest.approx(mine.band_centre, abs=0.02)
        assert (other.window_nonbonding, other.nonbonding_centre) == (None, None)
    (gap,), (reference,) = read.gaps, direct.gaps
    assert gap.lower_hubbard_band == pytest.approx(reference.lower_hubbard_band, abs=0.2)
    assert gap.charge_transfer_gap is None
    assert BondingResult.model_validate(read.model_dump()) == read
    for draw in (pdos_figure, cohp_figure):
        assert draw({"pristine": read}).axes


def test_what_is_wrong_with_files(folder: Path, solution: BondingSolution, tmp_path: Path) -> None:
    def attempt(place: Path, structure: Structure = LI2MNO3) -> None:
        read_lobster(place, structure, None, EnergyWindow(), scf=solution.scf, level_of_theory=VASP)

    with pytest.raises(LobsterError, match=r"no COHPCAR\.lobster; LOBSTER did not finish"):
        attempt(tmp_path)
    with pytest.raises(LobsterError, match="12 atoms, the structure 24"):
        attempt(folder, LI2MNO3 * (2, 1, 1))
    lines = (folder / "COHPCAR.lobster").read_text().splitlines()
    moved = LI2MNO3.copy()
    moved.perturb(0.2, seed=1)
    with pytest.raises(LobsterError, match="is it of this structure"):
        attempt(folder, moved)
    total = [line for line in lines[2:] if line.startswith(("Average", "No.")) and "[" not in line]
    number = lines[1].split()
    head = [lines[0], " ".join([str(len(total)), "1", "1", *number[3:]]), *total]
    (tmp_path / "COHPCAR.lobster").write_text(
        "\n".join([*head, " ".join(["0.0"] * (1 + 2 * len(total)))]) + "\n"
    )
    with pytest.raises(LobsterError, match="orbitalwise"):
        attempt(tmp_path)
