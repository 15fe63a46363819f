"""LOBSTER's files: a real excerpt, and files of states whose analysis is known."""

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from scipy.special import erf

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
from lrlo.analysis.orbital_populations import (
    Operator,
    Orbital,
    gross_populations,
    orbital_pair_weights,
)
from lrlo.analysis.oxygen_bonds import bonded_oxygens
from lrlo.structures.oxygen_environment import OxygenClass
from lrlo.workflows.tight_binding import TightBinding

from ..workflows.test_tight_binding import LI2MNO3, high_spin

KF = Path(__file__).parents[1] / "workflows/references/lobster/COHPCAR.lobster.KF"
VASP = LevelOfTheory(backend="vasp", model="PBE+U", version="6")
GRID, WIDTH = np.arange(-22, 8, 0.02), 0.04
NAMES = {"s": [""], "p": ["_y", "_z", "_x"], "d": ["_xy", "_yz", "_z^2", "_xz", "_x^2-y^2"]}


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


def name(orbital: Orbital) -> str:
    return f"{orbital.shell}{NAMES[orbital.shell[1]][orbital.m + orbital.l]}"


@pytest.fixture(scope="module")
def folder(solution: BondingSolution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as LOBSTER writes them, of GFN1 states: the Fermi level is in the gap."""
    folder = tmp_path_factory.mktemp("lobster")
    states = solution.states
    fermi = states.valence_band_maximum + 0.3
    levels = states.energies[:, 0] - fermi

    def curves(weights: np.ndarray) -> np.ndarray:
        """Density and its integral for every spin, from weights per state."""
        x = (GRID[None, :, None] - levels[:, None, :]) / (WIDTH * np.sqrt(2))
        peaks = np.exp(-(x**2)) / (WIDTH * np.sqrt(2 * np.pi))
        steps = (1 + erf(x)) / 2
        return np.stack([(f * weights[:, 0][:, None, :]).sum(-1) for f in (peaks, steps)], axis=1)

    gross = gross_populations(states)
    rows = [np.zeros((2, 2, len(GRID)))]
    header = ["Average"]
    for oxygen in bonded_oxygens(LI2MNO3):
        for tm in oxygen.neighbours:
            n = len(tm.vectors)
            for vector in tm.vectors:
                number = len([line for line in header if "[" not in line])
                label = f"No.{number}:Mn{tm.atom + 1}{{}}->O{oxygen.atom + 1}{{}}"
                end = f"({np.linalg.norm(vector):.10f})"
                pairs = [
                    (int(i), int(j))
                    for i in states.select(tm.atom)
                    for j in states.select(oxygen.atom)
                ]
                parts = [
                    curves(orbital_pair_weights(states, Operator.HAMILTONIAN, [i], [j])) / n
                    for i, j in pairs
                ]
                header.append(label.format("", "") + end)
                rows.append(np.sum(parts, axis=0))
                for (i, j), part in zip(pairs, parts, strict=True):
                    first, second = (name(states.orbitals[k]) for k in (i, j))
                    header.append(label.format(f"[{first}]", f"[{second}]") + end)
                    rows.append(part)
    table = np.array(rows)  # entry, spin, kind, energy
    numbers = table.transpose(3, 1, 0, 2).reshape(len(GRID), -1)
    lines = [
        "ESCALE ; pCOHP file generated by LOBSTER. Energy is shifted such that the Fermi level "
        "lies at 0 eV.",
        f"{len(rows)} 2 {len(GRID)} {GRID[0]:.5f} {GRID[-1]:.5f} {fermi:.5f}",
        *header,
        *(" ".join(f"{v:.5f}" for v in (e, *row)) for e, row in zip(GRID, numbers, strict=True)),
    ]
    (folder / "COHPCAR.lobster").write_text("\n".join(lines) + "\n")

    total = curves(gross.sum(axis=2))
    start = f"{GRID[-1]:.5f} {GRID[0]:.5f} {len(GRID)} 0.0 1.0"
    dos = ["12 12 0 0", "0 0 0 0 0", "0", "CAR", " ".join(["0"] * 17 + ["0.0"]), start]
    dos += [f"{e:.5f} " + " ".join(f"{v:.6f}" for v in total[:, :, k].T.ravel())
            for k, e in enumerate(GRID)]  # fmt: skip
    for atom, site in enumerate(LI2MNO3):
        indices = states.select(atom).tolist()
        names = " ".join(name(states.orbitals[i]) for i in indices)
        dos.append(f"{start}; Z= {site.specie.Z} ; {names}")
        parts = np.array([curves(gross[:, :, i])[:, 0] for i in indices])
        dos += [f"{e:.5f} " + " ".join(f"{v:.6f}" for v in parts[:, :, k].ravel())
                for k, e in enumerate(GRID)]  # fmt: skip
    with gzip.open(folder / "DOSCAR.lobster.gz", "wt") as file:
        file.write("\n".join(dos) + "\n\n")
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
    moved.perturb(0.2)
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
