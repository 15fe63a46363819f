"""Bonding of a structure by oxygen class, from its electronic states."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element, Structure

from ..structures.composition import ANIONS
from ..structures.frame import Frame
from ..structures.occupation import is_transition_metal
from ..structures.oxygen_environment import OxygenClass
from .bonding_documents import (
    BondingCurves,
    BondingResult,
    ClassBonding,
    ClassRatios,
    EnergyWindow,
    GapDescriptors,
    IcohpScale,
    OxygenBonding,
    ScfReport,
    Statistic,
    TmOxygenBond,
)
from .dimer_orbitals import oxygen_dimers
from .level_of_theory import LevelOfTheory
from .orbital_populations import (
    SHELL_LETTERS,
    ElectronicStates,
    Operator,
    atom_pair_sums,
    check_sum_rules,
    directed_populations,
    gross_populations,
    integrated_populations,
    orbital_pair_weights,
)
from .oxygen_bonds import BondedOxygen, bonded_oxygens

#: Share of the occupied O 2p weight that lies above the band top.
BAND_TOP_SHARE = 0.05
#: Curves: energies from the valence-band maximum and standard deviation of the Gaussians, eV.
CURVE_ENERGIES = (-13.0, 5.0, 0.02)
CURVE_WIDTH = 0.1
#: Classes that have a row whether or not they have members.
EXPECTED_CLASSES = (OxygenClass.O3, OxygenClass.O4, OxygenClass.O5, OxygenClass.O6)
#: Empty states farther above the valence-band maximum belong to no Hubbard band, eV. Nearly
#: dependent basis functions put a little d weight on states hundreds of eV up.
HUBBARD_REACH = 10.0
#: Electrons or states in a band that count as none.
_NOTHING = 1e-6
#: Electronic temperature above which the occupations are marked, K: 0.05 eV, which is usual.
WARM = 600.0


@dataclass(frozen=True)
class BondingSolution:
    """What a source of electronic states hands over.

    Attributes
    ----------
    states
        The states.
    scf
        How they came about.
    icohp_scale
        Whose numbers their ICOHP may be compared with.
    level_of_theory
        Source and version.
    """

    states: ElectronicStates
    scf: ScfReport
    icohp_scale: IcohpScale
    level_of_theory: LevelOfTheory


def analyse_bonding(
    solution: BondingSolution,
    structure: Structure,
    frame: Frame | None,
    window: EnergyWindow,
    wall_time: float = 0.0,
) -> BondingResult:
    """Everything about the bonding of a structure that its electronic states tell.

    Parameters
    ----------
    solution
        States of the structure.
    structure
        The structure, atoms in the order of the orbitals' labels.
    frame
        Frame of its cell; None to take oxygen classes from a distance cutoff.
    window
        Window of the O 2p weight.
    wall_time
        Seconds that the states took, kept with the result.
    """
    bonding = _Bonding(solution.states, structure, bonded_oxygens(structure, frame), window)
    oxygens, bonds = bonding.oxygen_rows(), bonding.bond_rows()
    classes = class_rows(oxygens, bonds)
    sum_rules = check_sum_rules(solution.states)
    n_oxygen = sum(site.specie.symbol in ANIONS for site in structure)
    return BondingResult(
        structure=structure,
        frame=frame,
        window=window,
        valence_band_maximum=solution.states.valence_band_maximum,
        gap=solution.states.gap,
        oxygens=oxygens,
        bonds=bonds,
        classes=classes,
        ratios=o5_to_o4(classes),
        # Without spin polarisation the d bands are not split, and so no Hubbard bands.
        gaps=bonding.gap_rows() if solution.scf.final.spin_polarised else [],
        dimers=oxygen_dimers(solution.states, structure),
        total_moment=bonding.total_moment,
        tm_moments=bonding.tm_moments,
        semicore_left_out=bonding.semicore_shells,
        sum_rules=sum_rules,
        marks=[
            *sum_rules.violations,
            *_marks(solution, frame, n_oxygen - len(oxygens)),
        ],
        scf=solution.scf,
        curves=bonding.curves(),
        icohp_scale=solution.icohp_scale,
        wall_time=wall_time,
        level_of_theory=solution.level_of_theory,
    )


def _marks(solution: BondingSolution, frame: Frame | None, n_strays: int) -> list[str]:
    """What must be known before the numbers are used, sum rules apart."""
    final, gap = solution.scf.final, solution.states.gap
    marks = []
    if gap is not None and gap <= 0:
        marks.append(
            f"no gap: empty states begin {-gap:.2f} eV below the highest occupied one, which is "
            "the zero of energy"
        )
    if not final.spin_polarised:
        marks.append("not spin-polarised: there are no moments, and d bands are not split")
    if final.electronic_temperature > WARM:
        marks.append(
            f"occupations at an electronic temperature of {final.electronic_temperature:g} K"
        )
    if frame is None:
        marks.append("no frame: oxygen classes count TM within a distance cutoff")
    if n_strays:
        marks.append(f"{n_strays} O that no site of the frame explains are left out")
    return marks


@dataclass(frozen=True)
class _Bonding:
    """Electronic states of a structure together with its oxygens."""

    states: ElectronicStates
    structure: Structure
    oxygens: Sequence[BondedOxygen]
    window: EnergyWindow

    @cached_property
    def symbols(self) -> list[str]:
        return [site.specie.symbol for site in self.structure]

    @cached_property
    def gross(self) -> NDArray[np.float64]:
        return gross_populations(self.states)

    @cached_property
    def semicore(self) -> list[int]:
        """Orbitals of TM shells below the valence."""
        return [
            index
            for index, orbital in enumerate(self.states.orbitals)
            if is_transition_metal(self.symbols[orbital.atom])
            and orbital.n < valence_n(self.symbols[orbital.atom], orbital.l)
        ]

    @property
    def semicore_shells(self) -> list[str]:
        labels = (self.states.orbitals[index] for index in self.semicore)
        return sorted({f"{self.symbols[label.atom]} {label.shell}" for label in labels})

    def d_orbitals(self, atoms: Sequence[int] | int) -> NDArray[np.int64]:
        """Valence d orbitals of some TM of one element."""
        first = atoms if isinstance(atoms, int) else atoms[0]
        return self.states.select(atoms, f"{valence_n(self.symbols[first], 2)}d")

    def o2p(self, atom: int) -> NDArray[np.float64]:
        """O 2p weight of every state."""
        return self.gross[:, :, self.states.select(atom, "2p")].sum(axis=2)

    def nonbonding(self, oxygen: BondedOxygen) -> NDArray[np.float64]:
        """Weight of every state along the non-bonding directions of an oxygen."""
        p = self.states.select(oxygen.atom, "2p").tolist()
        return directed_populations(self.states, p, oxygen.nonbonding_directions)

    @cached_property
    def moments(self) -> NDArray[np.float64] | None:
        """Moment of every orbital from gross populations, Bohr magneton."""
        if len(self.gross) == 1:
            return None
        filled = np.einsum(
            "skin,skn,k->si", self.gross, self.states.occupations, self.states.k_weights
        )
        return filled[0] - filled[1]

    @property
    def total_moment(self) -> float | None:
        return None if self.moments is None else float(self.moments.sum())

    @property
    def tm_moments(self) -> dict[str, Statistic]:
        """Size of the TM moments by element, Bohr magneton."""
        if self.moments is None:
            return {}
        found = {}
        for element, atoms in self.tm_atoms.items():
            sums = [abs(float(self.moments[self.states.select(atom)].sum())) for atom in atoms]
            if (size := statistic(sums)) is not None:
                found[element] = size
        return found

    def centre(self, weights: NDArray[np.float64]) -> float | None:
        """Mean energy of a weight over the occupied states, eV from the maximum."""
        return self._mean_energy(weights * self.states.occupations)

    def empty_centre(self, weights: NDArray[np.float64]) -> float | None:
        """Mean energy of a weight over the empty states up to 10 eV, eV from the maximum."""
        near = self.states.energies < self.states.valence_band_maximum + HUBBARD_REACH
        return self._mean_energy(weights * (self.states.capacity - self.states.occupations) * near)

    def _mean_energy(self, amounts: NDArray[np.float64]) -> float | None:
        """Mean energy of some amounts, eV from the maximum; None if there is nothing."""
        weighted = amounts * self.states.k_weights[None, :, None]
        energies = self.states.energies - self.states.valence_band_maximum
        total = weighted.sum()
        return float((weighted * energies).sum() / total) if total > _NOTHING else None

    def top(self, weights: NDArray[np.float64]) -> float:
        """Energy above which 5 % of the occupied weight lies, eV from the maximum."""
        amounts = weights * self.states.occupations * self.states.k_weights[None, :, None]
        order = np.argsort(-self.states.energies, axis=None)
        above = np.cumsum(amounts.ravel()[order])
        reached = int(np.argmax(above >= BAND_TOP_SHARE * amounts.sum()))
        energy = self.states.energies.ravel()[order][reached]
        return float(energy - self.states.valence_band_maximum)

    def in_window(self, weights: NDArray[np.float64]) -> float:
        top = self.states.valence_band_maximum
        return self.states.states_between(weights, top + self.window.low, top + self.window.high)

    def oxygen_rows(self) -> list[OxygenBonding]:
        rows = []
        for oxygen in self.oxygens:
            total, free = self.o2p(oxygen.atom), self.nonbonding(oxygen)
            n_free = len(oxygen.nonbonding_directions)
            window_free = self.in_window(free)
            window_total = self.in_window(total)
            on_atom = self.states.select(oxygen.atom)
            rows.append(
                OxygenBonding(
                    atom=oxygen.atom,
                    o_class=oxygen.o_class,
                    n_tm=oxygen.n_tm,
                    tm_species=tuple(sorted(self.symbols[tm.atom] for tm in oxygen.neighbours)),
                    n_nonbonding=n_free,
                    window_weight=window_total,
                    window_nonbonding=window_free,
                    window_hybridised=window_total - window_free,
                    band_centre=self.centre(total),
                    band_top=self.top(total),
                    nonbonding_centre=self.centre(free) if n_free else None,
                    moment=None if self.moments is None else float(self.moments[on_atom].sum()),
                )
            )
        return rows

    def bond_rows(self) -> list[TmOxygenBond]:
        n_atoms = len(self.structure)
        icohp = integrated_populations(self.states, Operator.HAMILTONIAN)
        icoop = integrated_populations(self.states, Operator.OVERLAP)
        energy = atom_pair_sums(icohp, self.states.orbitals, n_atoms, self.semicore)
        overlap = atom_pair_sums(icoop, self.states.orbitals, n_atoms, self.semicore)
        rows = []
        for oxygen in self.oxygens:
            p = self.states.select(oxygen.atom, "2p")
            for tm in oxygen.neighbours:
                d, n = self.d_orbitals(tm.atom), len(tm.vectors)
                rows.append(
                    TmOxygenBond(
                        tm=tm.atom,
                        oxygen=oxygen.atom,
                        element=self.symbols[tm.atom],
                        o_class=oxygen.o_class,
                        length=tm.length,
                        n_images=n,
                        minus_icohp=-float(energy[tm.atom, oxygen.atom]) / n,
                        minus_icohp_dp=-2 * float(icohp[np.ix_(d, p)].sum()) / n,
                        icoop=float(overlap[tm.atom, oxygen.atom]) / n,
                    )
                )
        return rows

    def gap_rows(self) -> list[GapDescriptors]:
        free = [self.nonbonding(o) for o in self.oxygens if len(o.nonbonding_directions)]
        oxygen = self.centre(np.sum(free, axis=0)) if free else None
        rows = []
        for element, atoms in self.tm_atoms.items():
            d = self.gross[:, :, self.d_orbitals(atoms)].sum(axis=2)
            upper, lower = self.empty_centre(d), self.centre(d)
            rows.append(
                GapDescriptors(
                    element=element,
                    upper_hubbard_band=upper,
                    lower_hubbard_band=lower,
                    nonbonding_o2p=oxygen,
                    charge_transfer_gap=_difference(upper, oxygen),
                    mott_gap=_difference(upper, lower),
                )
            )
        return rows

    @cached_property
    def tm_atoms(self) -> dict[str, list[int]]:
        elements = sorted({s for s in self.symbols if is_transition_metal(s)})
        return {e: [i for i, s in enumerate(self.symbols) if s == e] for e in elements}

    def curves(self) -> BondingCurves:
        grid = np.arange(*CURVE_ENERGIES)

        def curve(weights: NDArray[np.float64], n_members: int) -> list[float]:
            absolute = grid + self.states.valence_band_maximum
            values = self.states.curve(weights, absolute, CURVE_WIDTH) / n_members
            return np.round(values, 6).tolist()

        members: dict[OxygenClass, list[BondedOxygen]] = {}
        for oxygen in self.oxygens:
            members.setdefault(oxygen.o_class, []).append(oxygen)
        minus_cohp = {}
        for o_class, group in members.items():
            n_bonds = sum(len(tm.vectors) for oxygen in group for tm in oxygen.neighbours)
            if n_bonds:
                minus_cohp[o_class] = curve(-self.cohp(group), n_bonds)
        return BondingCurves(
            energies=np.round(grid, 6).tolist(),
            width=CURVE_WIDTH,
            o2p={c: curve(_sum(self.o2p(o.atom) for o in g), len(g)) for c, g in members.items()},
            o2p_nonbonding={
                c: curve(_sum(self.nonbonding(o) for o in g), len(g)) for c, g in members.items()
            },
            tm_d={
                element: curve(self.gross[:, :, self.d_orbitals(atoms)].sum(axis=2), len(atoms))
                for element, atoms in self.tm_atoms.items()
            },
            minus_cohp=minus_cohp,
        )

    def cohp(self, oxygens: Iterable[BondedOxygen]) -> NDArray[np.float64]:
        """COHP of all TM-O bonds of some oxygens in every state, semicore left out."""
        left_out = set(self.semicore)
        return _sum(
            orbital_pair_weights(
                self.states,
                Operator.HAMILTONIAN,
                [i for i in self.states.select(tm.atom).tolist() if i not in left_out],
                self.states.select(oxygen.atom).tolist(),
            )
            for oxygen in oxygens
            for tm in oxygen.neighbours
        )


def class_rows(
    oxygens: Sequence[OxygenBonding], bonds: Sequence[TmOxygenBond]
) -> list[ClassBonding]:
    """One row per oxygen class, O3 to O6 in any case; a class with no member has an empty row.

    Parameters
    ----------
    oxygens, bonds
        Rows of a structure.
    """
    present = {oxygen.o_class for oxygen in oxygens}
    return [
        _class_row(
            o_class,
            [oxygen for oxygen in oxygens if oxygen.o_class is o_class],
            [bond for bond in bonds if bond.o_class is o_class],
        )
        for o_class in sorted(present.union(EXPECTED_CLASSES))
    ]


def _class_row(
    o_class: OxygenClass, oxygens: list[OxygenBonding], bonds: list[TmOxygenBond]
) -> ClassBonding:
    moments = [abs(o.moment) for o in oxygens if o.moment is not None]
    # A pair of atoms that meets twice is two bonds with the same numbers.
    single = [bond for bond in bonds for _ in range(bond.n_images)]
    return ClassBonding(
        o_class=o_class,
        n_oxygen=len(oxygens),
        n_bonds=len(single),
        window_weight=statistic([o.window_weight for o in oxygens]),
        window_nonbonding=statistic(_known(o.window_nonbonding for o in oxygens)),
        window_hybridised=statistic(_known(o.window_hybridised for o in oxygens)),
        band_centre=statistic(_known(o.band_centre for o in oxygens)),
        band_top=statistic([o.band_top for o in oxygens]),
        moment=statistic(moments),
        minus_icohp=statistic([b.minus_icohp for b in single]),
        minus_icohp_dp=statistic([b.minus_icohp_dp for b in single]),
        length=statistic([b.length for b in single]),
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def statistic(values: Sequence[float]) -> Statistic | None:
    """Mean, standard deviation and number of some values; None for no values."""
    if not values:
        return None
    return Statistic(mean=float(np.mean(values)), spread=float(np.std(values)), count=len(values))


def o5_to_o4(classes: Sequence[ClassBonding]) -> ClassRatios:
    """Means of O5 over those of O4; None where a class has no member."""
    rows = {row.o_class: row for row in classes}
    o5, o4 = rows.get(OxygenClass.O5), rows.get(OxygenClass.O4)

    def ratio(value: Callable[[ClassBonding], Statistic | None]) -> float | None:
        above, below = (value(row) if row else None for row in (o5, o4))
        return above.mean / below.mean if above and below and below.mean else None

    return ClassRatios(
        window_weight=ratio(lambda row: row.window_weight),
        window_nonbonding=ratio(lambda row: row.window_nonbonding),
        minus_icohp=ratio(lambda row: row.minus_icohp),
        minus_icohp_dp=ratio(lambda row: row.minus_icohp_dp),
    )


def valence_n(element: str, angular_momentum: int) -> int:
    """Principal quantum number of a TM's valence shell: 3d, 4s and 4p for the first row."""
    return Element(element).row - (SHELL_LETTERS[angular_momentum] == "d")


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _sum(weights: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.sum(list(weights), axis=0)
