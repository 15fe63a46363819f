"""Bonding of a structure from LOBSTER's COHPCAR.lobster and DOSCAR.lobster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.integrate import trapezoid

from ..structures.composition import ANIONS
from ..structures.frame import Frame
from ..structures.occupation import is_transition_metal
from .bonding import (
    BAND_TOP_SHARE,
    CURVE_ENERGIES,
    HUBBARD_REACH,
    class_rows,
    o5_to_o4,
    statistic,
    valence_n,
)
from .bonding_documents import (
    BondingCurves,
    BondingResult,
    EnergyWindow,
    GapDescriptors,
    IcohpScale,
    OxygenBonding,
    ScfReport,
    Statistic,
    TmOxygenBond,
)
from .level_of_theory import LevelOfTheory
from .orbital_populations import SHELL_LETTERS, SumRules
from .oxygen_bonds import BondedOxygen, TmNeighbour, bonded_oxygens

#: Share of the highest density of states within 5 eV below the Fermi level that still counts as a
#: band, and how far below it a band is looked for.
_BAND_EDGE, _BAND_REACH = 0.01, 5.0
#: LOBSTER leaves a percent of the charge between the atoms; more is marked.
PROJECTION_TOLERANCE = 0.02
_SAME_LENGTH = 0.01  # Å


class LobsterError(ValueError):
    """LOBSTER's files are missing, or lack what the analysis needs."""


@dataclass(frozen=True)
class BondPopulation:
    """COHP of one bond between two atoms, spins summed.

    Attributes
    ----------
    atoms
        Indices in the structure.
    length
        Bond length, Å.
    cohp, icohp
        By pair of shells, in the order of `atoms`, such as ``("3d", "2p")``: eV per eV and eV at
        the energies of the file.
    """

    atoms: tuple[int, int]
    length: float
    cohp: Mapping[tuple[str, str], NDArray[np.float64]]
    icohp: Mapping[tuple[str, str], NDArray[np.float64]]


def read_bond_populations(
    path: Path,
) -> tuple[NDArray[np.float64], list[BondPopulation]]:
    """Energies (eV from the Fermi level) and all bonds of an orbital-wise COHPCAR.lobster.

    Raises
    ------
    LobsterError
        If the file has no orbital pairs.
    """
    from pymatgen.io.lobster import Cohpcar

    read = Cohpcar(filename=str(path))
    if not read.orb_res_cohp:
        raise LobsterError(
            f"{path.name} has no pairs of orbitals, which the semicore and the d-p part need; "
            "write 'cohpGenerator from 0.1 to 6.0 orbitalwise' into lobsterin"
        )
    bonds = []
    for pairs in read.orb_res_cohp.values():
        cohp: dict[tuple[str, str], NDArray[np.float64]] = {}
        icohp: dict[tuple[str, str], NDArray[np.float64]] = {}
        entry: dict[str, Any] = {}
        for entry in pairs.values():
            first, second = entry["orbitals"]
            shells = (_shell(first), _shell(second))
            cohp[shells] = cohp.get(shells, 0) + sum(entry["COHP"].values())
            icohp[shells] = icohp.get(shells, 0) + sum(entry["ICOHP"].values())
        first_atom, second_atom = entry["sites"]
        bonds.append(BondPopulation((first_atom, second_atom), entry["length"], cohp, icohp))
    return np.array(read.energies), bonds


def _shell(orbital: tuple[int, Any]) -> str:
    """Shell of an orbital as pymatgen gives it: (3, Orbital.dxy) is 3d."""
    return f"{orbital[0]}{orbital[1].name[0]}"


def read_lobster(
    folder: Path,
    structure: Structure,
    frame: Frame | None,
    window: EnergyWindow,
    *,
    scf: ScfReport,
    level_of_theory: LevelOfTheory,
    wall_time: float = 0.0,
) -> BondingResult:
    """Everything about the bonding of a structure that LOBSTER's files tell.

    The valence-band maximum is read from the density of states. What needs populations between
    the p orbitals of one atom (the non-bonding part) or between two oxygens (O-O pairs) is not in
    the files: None and an empty list.

    Parameters
    ----------
    folder
        Holds ``COHPCAR.lobster`` (orbital-wise) and ``DOSCAR.lobster``, also as ``.gz``; with
        ``COOPCAR.lobster`` bonds have an overlap population.
    structure
        Structure, atoms in the order of the calculation.
    frame
        Frame of its cell; None to take oxygen classes from a distance cutoff.
    window
        Window of the O 2p weight.
    scf, level_of_theory, wall_time
        How the electronic structure came about, kept with the result.

    Raises
    ------
    LobsterError
        If a file is missing, belongs to another structure, or lacks orbital pairs or a bond.
    """
    energies, populations = read_bond_populations(_file(folder, "COHPCAR.lobster"))
    overlaps = None
    if _found(folder, "COOPCAR.lobster"):
        _, overlaps = read_bond_populations(_file(folder, "COOPCAR.lobster"))
    densities = _read_densities(_file(folder, "DOSCAR.lobster"), structure)
    oxygens = bonded_oxygens(structure, frame)
    files = _Files(structure, densities, energies, populations, overlaps, window)
    oxygen_rows = [files.oxygen_row(oxygen) for oxygen in oxygens]
    bonds = [files.bond_row(oxygen, tm) for oxygen in oxygens for tm in oxygen.neighbours]
    classes = class_rows(oxygen_rows, bonds)
    n_oxygen = sum(site.specie.symbol in ANIONS for site in structure)
    marks = [*files.sum_rules.violations]
    if files.gap <= 0:
        marks.append("no gap: the density of states does not vanish at the Fermi level")
    if len(densities.total) == 1:
        marks.append("not spin-polarised: there are no moments, and d bands are not split")
    if frame is None:
        marks.append("no frame: oxygen classes count TM within a distance cutoff")
    if n_oxygen > len(oxygens):
        marks.append(f"{n_oxygen - len(oxygens)} O that no site of the frame explains are left out")
    return BondingResult(
        structure=structure,
        frame=frame,
        window=window,
        valence_band_maximum=files.valence_band_maximum,
        gap=files.gap,
        oxygens=oxygen_rows,
        bonds=bonds,
        classes=classes,
        ratios=o5_to_o4(classes),
        gaps=files.gap_rows(),
        dimers=[],
        total_moment=files.total_moment,
        tm_moments=files.tm_moments,
        semicore_left_out=files.semicore_shells,
        sum_rules=files.sum_rules,
        marks=marks,
        scf=scf,
        curves=files.curves(oxygens),
        icohp_scale=IcohpScale.DFT,
        wall_time=wall_time,
        level_of_theory=level_of_theory,
    )


@dataclass(frozen=True)
class _Densities:
    """Densities of states: energies from the Fermi level; by spin, and by atom and shell."""

    energies: NDArray[np.float64]
    total: NDArray[np.float64]  # (n_spin, n_energies)
    shells: Sequence[Mapping[str, NDArray[np.float64]]]  # per atom, (n_spin, n_energies)


def _read_densities(path: Path, structure: Structure) -> _Densities:
    from pymatgen.io.lobster import Doscar

    try:
        read = Doscar(doscar=str(path), structure_file=None, structure=structure)
    except IndexError as error:
        raise LobsterError(f"{path.name} has more atoms than the {len(structure)} given") from error
    if len(read.pdos) != len(structure):
        raise LobsterError(
            f"{path.name} has {len(read.pdos)} atoms, the structure {len(structure)}"
        )
    shells: list[dict[str, NDArray[np.float64]]] = []
    for orbitals in read.pdos:
        by_shell: dict[str, NDArray[np.float64]] = {}
        for name, spins in orbitals.items():
            shell = name.split("_")[0]
            by_shell[shell] = by_shell.get(shell, 0) + np.array(list(spins.values()))
        shells.append(by_shell)
    return _Densities(
        np.array(read.energies),
        np.array(list(read.tdensities.values())),
        shells,
    )


@dataclass(frozen=True)
class _Files:
    """What LOBSTER's files say about a structure."""

    structure: Structure
    densities: _Densities
    energies: NDArray[np.float64]
    populations: Sequence[BondPopulation]
    overlaps: Sequence[BondPopulation] | None
    window: EnergyWindow

    @cached_property
    def symbols(self) -> list[str]:
        return [site.specie.symbol for site in self.structure]

    @cached_property
    def edges(self) -> tuple[float, float]:
        """Highest occupied and lowest empty energy with a density of states, eV."""
        energies, total = self.densities.energies, self.densities.total.sum(axis=0)
        near = (energies <= 0) & (energies >= -_BAND_REACH)
        band = total > _BAND_EDGE * total[near].max()
        step = energies[1] - energies[0]
        below, above = energies[band & (energies <= step / 2)], energies[band & (energies > 0)]
        return float(below.max()), float(above.min()) if above.size else np.inf

    @property
    def valence_band_maximum(self) -> float:
        return self.edges[0]

    @property
    def gap(self) -> float:
        """Distance of the edges, 0 where bands reach across the Fermi level, eV."""
        step = self.densities.energies[1] - self.densities.energies[0]
        distance = self.edges[1] - self.edges[0]
        return float(distance) if distance > 2.5 * step else 0.0

    @cached_property
    def from_top(self) -> NDArray[np.float64]:
        """Energies of the densities from the valence-band maximum, eV."""
        return self.densities.energies - self.valence_band_maximum

    @property
    def occupied(self) -> NDArray[np.bool_]:
        return self.densities.energies <= 1e-6

    def shell(self, atom: int, shell: str) -> NDArray[np.float64]:
        """Density of a shell, spins summed; zeros where the basis has none."""
        zeros = np.zeros_like(self.densities.total)
        return self.densities.shells[atom].get(shell, zeros).sum(axis=0)

    def integral(self, density: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
        return float(trapezoid(np.where(where, density, 0.0), self.densities.energies))

    def centre(self, density: NDArray[np.float64], where: NDArray[np.bool_]) -> float | None:
        total = self.integral(density, where)
        return self.integral(density * self.from_top, where) / total if total > 1e-6 else None

    def moment(self, atom: int) -> float | None:
        if len(self.densities.total) == 1:
            return None
        both = np.sum(list(self.densities.shells[atom].values()), axis=0)
        return self.integral(both[0] - both[1], self.occupied)

    @property
    def total_moment(self) -> float | None:
        if len(self.densities.total) == 1:
            return None
        up, down = self.densities.total
        return self.integral(up - down, self.occupied)

    @property
    def tm_moments(self) -> dict[str, Statistic]:
        found = {}
        for element, atoms in self.tm_atoms.items():
            sizes = [abs(m) for atom in atoms if (m := self.moment(atom)) is not None]
            if (size := statistic(sizes)) is not None:
                found[element] = size
        return found

    @cached_property
    def tm_atoms(self) -> dict[str, list[int]]:
        elements = sorted({s for s in self.symbols if is_transition_metal(s)})
        return {e: [i for i, s in enumerate(self.symbols) if s == e] for e in elements}

    @property
    def semicore_shells(self) -> list[str]:
        return sorted(
            {
                f"{self.symbols[atom]} {shell}"
                for atoms in self.tm_atoms.values()
                for atom in atoms
                for shell in self.densities.shells[atom]
                if self.is_semicore(atom, shell)
            }
        )

    def is_semicore(self, atom: int, shell: str) -> bool:
        """Whether a shell lies below the valence of a TM."""
        symbol = self.symbols[atom]
        if not is_transition_metal(symbol):
            return False
        return int(shell[0]) < valence_n(symbol, SHELL_LETTERS.index(shell[1]))

    @cached_property
    def sum_rules(self) -> SumRules:
        """Whether the atoms' densities add up to the total, in energy and in electrons."""
        total = self.densities.total.sum(axis=0)
        parts = np.sum(
            [d.sum(axis=0) for atom in self.densities.shells for d in atom.values()], axis=0
        )
        return SumRules(
            band_energy=self.integral(total * self.densities.energies, self.occupied),
            pair_energy=self.integral(parts * self.densities.energies, self.occupied),
            n_electrons=self.integral(total, self.occupied),
            overlap_population=self.integral(parts, self.occupied),
            tolerance=PROJECTION_TOLERANCE,
        )

    def oxygen_row(self, oxygen: BondedOxygen) -> OxygenBonding:
        p = self.shell(oxygen.atom, "2p")
        low, high = self.window.low - 1e-9, self.window.high + 1e-9
        in_window = (self.from_top >= low) & (self.from_top <= high)
        filled = np.cumsum(np.where(self.occupied, p, 0.0)[::-1])
        top = int(np.argmax(filled >= BAND_TOP_SHARE * filled[-1]))
        return OxygenBonding(
            atom=oxygen.atom,
            o_class=oxygen.o_class,
            n_tm=oxygen.n_tm,
            tm_species=tuple(sorted(self.symbols[tm.atom] for tm in oxygen.neighbours)),
            n_nonbonding=len(oxygen.nonbonding_directions),
            window_weight=self.integral(p, in_window),
            window_nonbonding=None,
            window_hybridised=None,
            band_centre=self.centre(p, self.occupied),
            band_top=float(self.from_top[::-1][top]),
            nonbonding_centre=None,
            moment=self.moment(oxygen.atom),
        )

    def matching(
        self, populations: Sequence[BondPopulation], oxygen: int, tm: TmNeighbour
    ) -> list[BondPopulation]:
        """The entries of a bond, one per periodic image."""
        longest = np.linalg.norm(tm.vectors, axis=1).max() + _SAME_LENGTH
        found = [
            population
            for population in populations
            if set(population.atoms) == {oxygen, tm.atom} and population.length <= longest
        ]
        if len(found) != len(tm.vectors):
            raise LobsterError(
                f"COHPCAR.lobster has {len(found)} bonds between "
                f"{self.symbols[tm.atom]} {tm.atom} and O {oxygen} up to {longest:.2f} Å, the "
                f"structure {len(tm.vectors)}; is it of this structure, and does cohpGenerator "
                "reach so far?"
            )
        return found

    def valence_sum(
        self, entries: Sequence[BondPopulation], kind: str, shells: tuple[str, str] | None = None
    ) -> NDArray[np.float64]:
        """Sum over the images of a bond, TM semicore left out, or of one pair of shells only."""
        total = np.zeros_like(self.energies)
        for entry in entries:
            first, second = entry.atoms
            for names, values in getattr(entry, kind).items():
                if shells is not None and set(names) != set(shells):
                    continue
                if self.is_semicore(first, names[0]) or self.is_semicore(second, names[1]):
                    continue
                total = total + values
        return total

    def bond_row(self, oxygen: BondedOxygen, tm: TmNeighbour) -> TmOxygenBond:
        entries = self.matching(self.populations, oxygen.atom, tm)
        symbol, n = self.symbols[tm.atom], len(tm.vectors)
        filled = int(np.searchsorted(self.energies, 1e-6)) - 1  # the Fermi level
        d_p = (f"{valence_n(symbol, 2)}d", "2p")
        icoop = None
        if self.overlaps is not None:
            overlaps = self.matching(self.overlaps, oxygen.atom, tm)
            icoop = float(self.valence_sum(overlaps, "icohp")[filled]) / n
        return TmOxygenBond(
            tm=tm.atom,
            oxygen=oxygen.atom,
            element=symbol,
            o_class=oxygen.o_class,
            length=tm.length,
            n_images=n,
            minus_icohp=-float(self.valence_sum(entries, "icohp")[filled]) / n,
            minus_icohp_dp=-float(self.valence_sum(entries, "icohp", d_p)[filled]) / n,
            icoop=icoop,
        )

    def gap_rows(self) -> list[GapDescriptors]:
        rows = []
        reach = (self.from_top <= HUBBARD_REACH) & ~self.occupied
        for element, atoms in self.tm_atoms.items():
            d = np.sum([self.shell(a, f"{valence_n(element, 2)}d") for a in atoms], axis=0)
            upper, lower = self.centre(d, reach), self.centre(d, self.occupied)
            both = upper is not None and lower is not None
            rows.append(
                GapDescriptors(
                    element=element,
                    upper_hubbard_band=upper,
                    lower_hubbard_band=lower,
                    nonbonding_o2p=None,
                    charge_transfer_gap=None,
                    mott_gap=upper - lower if both else None,  # type: ignore[operator]
                )
            )
        return rows

    def curves(self, oxygens: Sequence[BondedOxygen]) -> BondingCurves:
        grid = np.arange(*CURVE_ENERGIES)

        def curve(energies: NDArray[np.float64], values: NDArray[np.float64]) -> list[float]:
            drawn = np.interp(grid, energies, values, left=0.0, right=0.0)
            return np.round(drawn, 6).tolist()

        o2p, minus_cohp = {}, {}
        for o_class in sorted({oxygen.o_class for oxygen in oxygens}):
            group = [oxygen for oxygen in oxygens if oxygen.o_class is o_class]
            mean = np.mean([self.shell(oxygen.atom, "2p") for oxygen in group], axis=0)
            o2p[o_class] = curve(self.from_top, mean)
            bonds = [(oxygen, tm) for oxygen in group for tm in oxygen.neighbours]
            if bonds:
                total = np.sum(
                    [
                        self.valence_sum(self.matching(self.populations, o.atom, tm), "cohp")
                        for o, tm in bonds
                    ],
                    axis=0,
                )
                n_bonds = sum(len(tm.vectors) for _, tm in bonds)
                minus_cohp[o_class] = curve(
                    self.energies - self.valence_band_maximum, -total / n_bonds
                )
        tm_d = {
            element: curve(
                self.from_top,
                np.mean([self.shell(a, f"{valence_n(element, 2)}d") for a in atoms], axis=0),
            )
            for element, atoms in self.tm_atoms.items()
        }
        return BondingCurves(
            energies=np.round(grid, 6).tolist(),
            width=float(self.energies[1] - self.energies[0]),
            o2p=o2p,
            o2p_nonbonding={},
            tm_d=tm_d,
            minus_cohp=minus_cohp,
        )


def _found(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.exists()), None)


def _file(folder: Path, name: str) -> Path:
    found = _found(folder, name)
    if found is None:
        raise LobsterError(
            f"{folder} holds no {name}; LOBSTER did not finish, or was told to skip it (lobsterout "
            "says why)"
        )
    return found
