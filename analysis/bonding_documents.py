"""What a bonding analysis stores: oxygens, TM-O bonds, classes, gaps, O-O pairs, curves."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator
from pymatgen.core import Structure

from ..structures.frame import Frame
from ..structures.oxygen_environment import OxygenClass
from .documents import StudyContext
from .level_of_theory import LevelOfTheory
from .orbital_populations import SumRules


class IcohpScale(StrEnum):
    """Whose numbers an ICOHP may be compared with.

    ``tight binding``: semi-empirical, about three times the DFT values; ``DFT``: a DFT
    Hamiltonian in a local basis, as LOBSTER gives it.
    """

    TIGHT_BINDING = "tight binding"
    DFT = "DFT"


class EnergyWindow(BaseModel):
    """Energies against the valence-band maximum between which O 2p weight is counted, eV."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float = -2.0
    high: float = 0.0

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} eV from the valence-band maximum"


class Statistic(BaseModel):
    """Mean, spread (standard deviation of the members) and number of members."""

    model_config = ConfigDict(frozen=True)

    mean: float
    spread: float
    count: int


class OxygenBonding(BaseModel):
    """Electronic structure of one oxygen. Energies count from the valence-band maximum.

    Attributes
    ----------
    atom
        Index in the structure.
    o_class, n_tm
        Class, and TM neighbours.
    tm_species
        Elements bonded.
    n_nonbonding
        2p orbitals that point at no TM: one of O4, two of O5.
    window_weight
        States of O 2p in the window, both spins.
    window_nonbonding, window_hybridised
        The part of it along the non-bonding directions, and the rest; None if the source only has
        populations along x, y and z.
    band_centre
        Mean energy of the occupied O 2p states, eV; None if there are none.
    band_top
        Energy above which 5 % of the occupied O 2p weight lies, eV.
    nonbonding_centre
        Mean energy of the occupied non-bonding O 2p states, eV; None if there are none.
    moment
        Magnetic moment from gross populations, Bohr magneton; None if not spin-polarised.
    """

    model_config = ConfigDict(frozen=True)

    atom: int
    o_class: OxygenClass
    n_tm: int
    tm_species: tuple[str, ...]
    n_nonbonding: int
    window_weight: float
    window_nonbonding: float | None
    window_hybridised: float | None
    band_centre: float | None
    band_top: float
    nonbonding_centre: float | None
    moment: float | None


class TmOxygenBond(BaseModel):
    """One TM-O bond.

    Attributes
    ----------
    tm, oxygen
        Indices in the structure.
    element
        Element of the TM.
    o_class
        Class of the oxygen.
    length
        Bond length, Å.
    n_images
        Bonds between the two atoms: more than one in cells so small that they meet twice. The
        numbers below are per bond.
    minus_icohp
        -ICOHP to the highest occupied state, spins summed, TM semicore left out, eV; positive
        for bonding.
    minus_icohp_dp
        Its part between TM d and O 2p, eV.
    icoop
        Integrated overlap population, electrons; None if the source has none.
    """

    model_config = ConfigDict(frozen=True)

    tm: int
    oxygen: int
    element: str
    o_class: OxygenClass
    length: float
    n_images: int
    minus_icohp: float
    minus_icohp_dp: float
    icoop: float | None


class ClassBonding(BaseModel):
    """All oxygens of one class and their bonds; statistics are None where there is no member.

    Attributes
    ----------
    o_class
        Class.
    n_oxygen, n_bonds
        Members, and their TM-O bonds.
    window_weight, window_nonbonding, window_hybridised, band_centre, band_top, moment
        Over the oxygens, as in :class:`OxygenBonding`; of the moment the size.
    minus_icohp, minus_icohp_dp, length
        Over the bonds, as in :class:`TmOxygenBond`.
    """

    model_config = ConfigDict(frozen=True)

    o_class: OxygenClass
    n_oxygen: int
    n_bonds: int
    window_weight: Statistic | None
    window_nonbonding: Statistic | None
    window_hybridised: Statistic | None
    band_centre: Statistic | None
    band_top: Statistic | None
    moment: Statistic | None
    minus_icohp: Statistic | None
    minus_icohp_dp: Statistic | None
    length: Statistic | None


class ClassRatios(BaseModel):
    """Mean of O5 over mean of O4; None where a class has no member.

    Attributes
    ----------
    window_weight, window_nonbonding
        Of O 2p states in the window, all and non-bonding.
    minus_icohp, minus_icohp_dp
        Of -ICOHP per bond, all and d-p.
    """

    model_config = ConfigDict(frozen=True)

    window_weight: float | None
    window_nonbonding: float | None
    minus_icohp: float | None
    minus_icohp_dp: float | None


class GapDescriptors(BaseModel):
    """Which gap is the smaller one, from band centres (Zaanen, Sawatzky, Allen, PRL 55, 418).

    Differences between centres of the computed bands. They are descriptors of the band
    structure and are not the U parameter of DFT+U, nor the on-site repulsion of a model.

    Attributes
    ----------
    element
        TM element.
    upper_hubbard_band, lower_hubbard_band
        Mean energies of its empty (up to 10 eV) and of its occupied d states, eV from the
        valence-band maximum; None where there are none.
    nonbonding_o2p
        Mean energy of the occupied non-bonding O 2p states, eV; None if no O has any.
    charge_transfer_gap
        `upper_hubbard_band` minus `nonbonding_o2p`, eV; None where one of them is.
    mott_gap
        `upper_hubbard_band` minus `lower_hubbard_band`, eV; None where one of them is.
    """

    model_config = ConfigDict(frozen=True)

    element: str
    upper_hubbard_band: float | None
    lower_hubbard_band: float | None
    nonbonding_o2p: float | None
    charge_transfer_gap: float | None
    mott_gap: float | None

    @property
    def smaller_gap(self) -> str:
        """``charge transfer``, ``Mott``, or empty if one of the two gaps is missing."""
        if self.charge_transfer_gap is None or self.mott_gap is None:
            return ""
        return "charge transfer" if self.charge_transfer_gap < self.mott_gap else "Mott"


class DimerOrbital(BaseModel):
    """Molecular orbitals of one kind on an O-O pair.

    Attributes
    ----------
    kind
        σ, π, π* or σ*: combinations of the 2p orbitals in the frame of the pair, at right angles
        to its 2s orbitals.
    energy
        Expectation value of the Hamiltonian, eV from the valence-band maximum.
    electrons
        Electrons in them, both spins: at most 2 (σ, σ*) or 4 (π, π*).
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["σ", "π", "π*", "σ*"]
    energy: float
    electrons: float


class OxygenDimer(BaseModel):
    """States of a close O-O pair.

    Attributes
    ----------
    atoms
        Indices in the structure.
    distance
        O-O distance, Å.
    orbitals
        σ, π, π* and σ*, in this order.
    bond_order
        Half the difference of electrons in bonding and antibonding orbitals: O2 2, superoxide
        1.5, peroxide 1, two lattice oxygens 0.
    """

    model_config = ConfigDict(frozen=True)

    atoms: tuple[int, int]
    distance: float
    orbitals: tuple[DimerOrbital, ...]
    bond_order: float


class BondingCurves(BaseModel):
    """Curves by class against energy, spins summed, states broadened by Gaussians.

    Attributes
    ----------
    energies
        eV from the valence-band maximum.
    width
        Standard deviation of the Gaussians, eV.
    o2p, o2p_nonbonding
        PDOS of O 2p and of its non-bonding part by class, mean per O, states per eV.
    tm_d
        PDOS of TM d by element, mean per TM, states per eV.
    minus_cohp
        -COHP by class, mean per TM-O bond, per eV of energy (eV/eV).
    """

    model_config = ConfigDict(frozen=True)

    energies: list[float]
    width: float
    o2p: dict[OxygenClass, list[float]]
    o2p_nonbonding: dict[OxygenClass, list[float]]
    tm_d: dict[str, list[float]]
    minus_cohp: dict[OxygenClass, list[float]]


class ScfAttempt(BaseModel):
    """One try of the self-consistent cycle.

    Attributes
    ----------
    settings
        What it was tried with, in words.
    spin_polarised
        Whether the spins could differ.
    electronic_temperature
        Temperature of the occupations, K.
    converged
        Whether it converged.
    n_iterations
        Iterations made.
    last_iterations
        Last lines of its log.
    """

    model_config = ConfigDict(frozen=True)

    settings: str
    spin_polarised: bool
    electronic_temperature: float
    converged: bool
    n_iterations: int
    last_iterations: tuple[str, ...]


class ScfReport(BaseModel):
    """How the electronic structure came about: every try, the last one converged.

    Attributes
    ----------
    attempts
        Tries in order.
    n_unpaired
        Unpaired electrons of the cell, fixed; None if not spin-polarised or free.
    moments_from
        Where that number was taken from.
    """

    model_config = ConfigDict(frozen=True)

    attempts: tuple[ScfAttempt, ...]
    n_unpaired: int | None
    moments_from: str

    @property
    def final(self) -> ScfAttempt:
        """The try that the numbers come from."""
        return self.attempts[-1]


class BondingResult(BaseModel):
    """Bonding of one structure.

    Attributes
    ----------
    structure, frame
        What was analysed; the frame is None where classes come from a distance cutoff.
    window
        Window of the O 2p weight.
    valence_band_maximum
        Energy of the highest state that is at least half full, on the source's own scale, eV;
        the zero of all other energies.
    gap
        Energy of the lowest empty state above it, eV; not positive where bands or spins overlap.
    oxygens, bonds, classes, ratios, gaps, dimers
        The results. ``classes`` has O3 to O6 in any case; there are no ``gaps`` without spin
        polarisation, since d bands are then not split.
    total_moment
        Bohr magneton per cell; None if not spin-polarised.
    tm_moments
        Size of the TM moments by element, from gross populations, Bohr magneton; empty if not
        spin-polarised.
    semicore_left_out
        TM shells left out of -ICOHP, such as Mn 3p; empty if the source has none.
    sum_rules
        Whether energy and electrons add up.
    marks
        What must be known before the numbers are used; empty for a sound insulator.
    scf
        How the electronic structure came about.
    curves
        Curves; kept in the additional store, None where it was not loaded.
    icohp_scale
        Whose numbers an ICOHP of this source may be compared with.
    wall_time
        Seconds.
    level_of_theory
        Source and version.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["bonding_result"] = "bonding_result"

    structure: Structure
    frame: Frame | None
    window: EnergyWindow
    valence_band_maximum: float
    gap: float | None
    oxygens: list[OxygenBonding]
    bonds: list[TmOxygenBond]
    classes: list[ClassBonding]
    ratios: ClassRatios
    gaps: list[GapDescriptors]
    dimers: list[OxygenDimer]
    total_moment: float | None
    tm_moments: dict[str, Statistic] = {}
    semicore_left_out: list[str]
    sum_rules: SumRules
    marks: list[str]
    scf: ScfReport
    curves: BondingCurves | None
    icohp_scale: IcohpScale
    wall_time: float
    level_of_theory: LevelOfTheory

    @field_validator("curves", mode="before")
    @classmethod
    def _none_if_elsewhere(cls, curves: Any) -> Any:
        """Queries that do not load large data get a reference instead of the curves."""
        return None if isinstance(curves, dict) and "blob_uuid" in curves else curves

    def of_class(self, o_class: OxygenClass) -> ClassBonding:
        """Row of a class; an empty one for a class that the structure lacks."""
        return next(
            (row for row in self.classes if row.o_class is o_class),
            ClassBonding(
                o_class=o_class,
                n_oxygen=0,
                n_bonds=0,
                window_weight=None,
                window_nonbonding=None,
                window_hybridised=None,
                band_centre=None,
                band_top=None,
                moment=None,
                minus_icohp=None,
                minus_icohp_dp=None,
                length=None,
            ),
        )


class BondingDocument(BaseModel):
    """Bonding of one state of a study.

    Attributes
    ----------
    context, state, order, voltage, li_content
        Where the result belongs.
    result
        The bonding of the state's structure.
    level_of_theory
        Source and version of the result.
    """

    kind: Literal["bonding"] = "bonding"

    context: StudyContext
    state: str
    order: int
    voltage: float | None
    li_content: float
    result: BondingResult
    level_of_theory: LevelOfTheory
