"""Bonding results of a small cell with numbers set by hand, shared by the tests."""

from pymatgen.core import Structure

from lrlo.analysis.bonding import class_rows, o5_to_o4
from lrlo.analysis.bonding_documents import (
    BondingCurves,
    BondingDocument,
    BondingResult,
    EnergyWindow,
    GapDescriptors,
    IcohpScale,
    OxygenBonding,
    ScfAttempt,
    ScfReport,
    TmOxygenBond,
)
from lrlo.analysis.level_of_theory import LevelOfTheory
from lrlo.analysis.orbital_populations import SumRules
from lrlo.analysis.oxygen_bonds import BondedOxygen, bonded_oxygens
from lrlo.structures.frame import Frame
from lrlo.structures.occupation import Occupation
from lrlo.structures.oxygen_environment import OxygenClass

from .documents import CONTEXT

TIGHT_BINDING = LevelOfTheory(backend="emulator", model="GFN1-xTB", version="(tblite 1)")


def oxygen_row(atom: int, n_tm: int, weight: float, **changes: object) -> OxygenBonding:
    values: dict = {
        **{"atom": atom, "o_class": f"O{6 - n_tm}", "n_tm": n_tm, "tm_species": ("Mn",) * n_tm},
        **{"n_nonbonding": max(3 - n_tm, 0), "window_weight": weight},
        **{"window_nonbonding": weight / 2, "window_hybridised": weight / 2},
        **{"band_centre": -2.0, "band_top": -0.1, "nonbonding_centre": -1.0, "moment": -0.1},
    }
    return OxygenBonding(**{**values, **changes})


def bond_row(
    tm: int, oxygen: int, o_class: str, strength: float, **changes: object
) -> TmOxygenBond:
    values: dict = {
        **{"tm": tm, "oxygen": oxygen, "element": "Mn", "o_class": o_class, "length": 1.9},
        **{"n_images": 1, "minus_icohp": strength, "minus_icohp_dp": strength / 2, "icoop": 0.2},
    }
    return TmOxygenBond(**{**values, **changes})


def result_of(
    oxygens: list[OxygenBonding],
    bonds: list[TmOxygenBond],
    structure: Structure,
    frame: Frame | None,
    **changes: object,
) -> BondingResult:
    classes = class_rows(oxygens, bonds)
    present = [row.o_class for row in classes if row.n_oxygen]
    curve = {o_class: [0.0, 1.0, 0.5, 0.0] for o_class in present}
    values: dict = {
        **{"structure": structure, "frame": frame, "window": EnergyWindow()},
        **{"valence_band_maximum": -15.0, "gap": 0.8, "oxygens": oxygens, "bonds": bonds},
        **{"classes": classes, "ratios": o5_to_o4(classes)},
        "gaps": [
            GapDescriptors(
                element="Mn",
                upper_hubbard_band=2.0,
                lower_hubbard_band=-2.5,
                nonbonding_o2p=-1.2,
                charge_transfer_gap=3.2,
                mott_gap=4.5,
            )
        ],
        **{"dimers": [], "total_moment": 12.0, "semicore_left_out": [], "marks": []},
        "sum_rules": SumRules(
            band_energy=-1.0, pair_energy=-1.0, n_electrons=4, overlap_population=4.0
        ),
        "scf": ScfReport(
            attempts=(
                ScfAttempt(
                    settings="300 K",
                    spin_polarised=True,
                    electronic_temperature=300.0,
                    converged=True,
                    n_iterations=30,
                    last_iterations=("30 -1.0",),
                ),
            ),
            n_unpaired=12,
            moments_from="given",
        ),
        "curves": BondingCurves(
            energies=[-3.0, -1.0, 0.0, 1.0],
            width=0.1,
            o2p=curve,
            o2p_nonbonding={c: [v / 2 for v in values] for c, values in curve.items()},
            tm_d={"Mn": [0.0, 1.0, 0.0, 1.0]},
            minus_cohp=curve,
        ),
        **{"icohp_scale": IcohpScale.TIGHT_BINDING, "wall_time": 1.0},
        "level_of_theory": TIGHT_BINDING,
    }
    return BondingResult(**{**values, **changes})


def result_on(occupation: Occupation, **changes: object) -> BondingResult:
    """Result of an ideal structure: -ICOHP 2 eV, plus 1 eV where the O has one TM only."""
    structure = occupation.to_structure()
    found: list[BondedOxygen] = bonded_oxygens(structure, occupation.frame)
    bonds = [
        bond_row(
            tm.atom,
            o.atom,
            o.o_class,
            3.0 if o.o_class is OxygenClass.O5 else 2.0,
            element=structure[tm.atom].specie.symbol,
            length=tm.length,
        )
        for o in found
        for tm in o.neighbours
    ]
    oxygens = [oxygen_row(o.atom, o.n_tm, 4.0 - o.n_tm) for o in found]
    return result_of(oxygens, bonds, structure, occupation.frame, **changes)


def document_of(result: BondingResult, state: str = "pristine", order: int = 0) -> BondingDocument:
    return BondingDocument(
        context=CONTEXT,
        state=state,
        order=order,
        voltage=None,
        li_content=1.2,
        result=result,
        level_of_theory=result.level_of_theory,
    )
