"""Tables of bonding as rows: states, classes, oxygens, TM-O bonds, gaps, O-O pairs, dopants."""

from collections.abc import Sequence
from pathlib import Path

from .bonding import statistic
from .bonding_documents import BondingDocument, Statistic
from .competitive_bonding import DopantComparison, SubstitutionEffect, compare_dopants
from .tables import Row, to_csv, to_json


def bonding_rows(documents: Sequence[BondingDocument]) -> list[Row]:
    """One row per state: gap, ratios of O5 to O4, sum rules, marks."""
    return [
        {
            **_place(document),
            "gap (eV)": _rounded(result.gap),
            "moment (μB)": _rounded(result.total_moment, 2),
            **{f"{e} moment (μB)": _rounded(m.mean, 2) for e, m in result.tm_moments.items()},
            "O5:O4 O 2p in window": _rounded(result.ratios.window_weight, 2),
            "O5:O4 non-bonding O 2p": _rounded(result.ratios.window_nonbonding, 2),
            "O5:O4 -ICOHP": _rounded(result.ratios.minus_icohp, 2),
            "O5:O4 d-p part": _rounded(result.ratios.minus_icohp_dp, 2),
            "window": str(result.window),
            "O-O pairs": len(result.dimers),
            "sum rules": "hold" if not result.sum_rules.violations else "violated",
            "SCF": result.scf.final.settings,
            "SCF tries": len(result.scf.attempts),
            "marks": "; ".join(result.marks),
            **_level(document),
        }
        for document in documents
        for result in (document.result,)
    ]


def bonding_class_rows(documents: Sequence[BondingDocument]) -> list[Row]:
    """One row per state and oxygen class; a class with no member has no numbers."""
    return [
        {
            **_place(document),
            "class": row.o_class.value,
            "O": row.n_oxygen,
            "TM-O bonds": row.n_bonds,
            **_statistic("O 2p in window (states per O)", row.window_weight),
            **_statistic("non-bonding part", row.window_nonbonding),
            **_statistic("hybridised part", row.window_hybridised),
            **_statistic("O 2p centre (eV)", row.band_centre),
            **_statistic("O 2p top (eV)", row.band_top),
            **_statistic("O moment (μB)", row.moment),
            **_statistic("-ICOHP (eV per bond)", row.minus_icohp),
            **_statistic("d-p part (eV)", row.minus_icohp_dp),
            **_statistic("bond length (Å)", row.length),
            **_scale(document),
            **_level(document),
        }
        for document in documents
        for row in document.result.classes
    ]


def oxygen_rows(documents: Sequence[BondingDocument]) -> list[Row]:
    """One row per oxygen."""
    return [
        {
            **_place(document),
            "O": oxygen.atom,
            "class": oxygen.o_class.value,
            "n_tm": oxygen.n_tm,
            "TM": " ".join(oxygen.tm_species),
            "O 2p in window (states)": _rounded(oxygen.window_weight),
            "non-bonding part": _rounded(oxygen.window_nonbonding),
            "hybridised part": _rounded(oxygen.window_hybridised),
            "O 2p centre (eV)": _rounded(oxygen.band_centre),
            "O 2p top (eV)": _rounded(oxygen.band_top),
            "non-bonding centre (eV)": _rounded(oxygen.nonbonding_centre),
            "moment (μB)": _rounded(oxygen.moment),
            **_level(document),
        }
        for document in documents
        for oxygen in document.result.oxygens
    ]


def bond_rows(documents: Sequence[BondingDocument]) -> list[Row]:
    """One row per TM-O bond."""
    return [
        {
            **_place(document),
            "TM": bond.tm,
            "element": bond.element,
            "O": bond.oxygen,
            "class": bond.o_class.value,
            "length (Å)": _rounded(bond.length),
            "-ICOHP (eV)": _rounded(bond.minus_icohp),
            "d-p part (eV)": _rounded(bond.minus_icohp_dp),
            "ICOOP": _rounded(bond.icoop, 4),
            "times in the cell": bond.n_images,
            **_scale(document),
            **_level(document),
        }
        for document in documents
        for bond in document.result.bonds
    ]


def gap_rows(documents: Sequence[BondingDocument]) -> list[Row]:
    """One row per state and TM element: charge-transfer and Mott gaps from band centres."""
    return [
        {
            **_place(document),
            "element": gap.element,
            "upper Hubbard band (eV)": _rounded(gap.upper_hubbard_band, 2),
            "lower Hubbard band (eV)": _rounded(gap.lower_hubbard_band, 2),
            "non-bonding O 2p (eV)": _rounded(gap.nonbonding_o2p, 2),
            "charge-transfer gap (eV)": _rounded(gap.charge_transfer_gap, 2),
            "Mott gap (eV)": _rounded(gap.mott_gap, 2),
            "smaller gap": gap.smaller_gap,
            **_level(document),
        }
        for document in documents
        for gap in document.result.gaps
    ]


def dimer_rows(documents: Sequence[BondingDocument]) -> list[Row]:
    """One row per close O-O pair: electrons and energies of σ, π, π* and σ*."""
    return [
        {
            **_place(document),
            "O": " ".join(map(str, dimer.atoms)),
            "distance (Å)": _rounded(dimer.distance),
            "bond order": _rounded(dimer.bond_order, 2),
            **{f"{o.kind} electrons": _rounded(o.electrons, 2) for o in dimer.orbitals},
            **{f"{o.kind} energy (eV)": _rounded(o.energy, 2) for o in dimer.orbitals},
            **_level(document),
        }
        for document in documents
        for dimer in document.result.dimers
    ]


def substitution_rows(effects: Sequence[SubstitutionEffect]) -> list[Row]:
    """One row per TM-O bond of every compared pair of cells, largest strengthening first."""
    return [
        {
            "substitution": f"{effect.host} -> {effect.dopant} on site {effect.site}",
            "electronegativity change": _rounded(effect.electronegativity_change, 2),
            "TM site": bond.tm_site,
            "element": bond.element,
            "O site": bond.oxygen_site,
            "next to dopant": bond.next_to_dopant,
            "length (Å)": _rounded(bond.length),
            "change (Å)": _rounded(bond.length_change),
            "-ICOHP (eV)": _rounded(bond.minus_icohp),
            "change (eV)": _rounded(bond.minus_icohp_change),
            "change of d-p part (eV)": _rounded(bond.minus_icohp_dp_change),
            "bond": "stronger" if bond.minus_icohp_change > 0 else "weaker",
            "level of theory": str(effect.level_of_theory),
        }
        for effect in effects
        for bond in effect.bonds
    ]


def dopant_rows(comparisons: Sequence[DopantComparison]) -> list[Row]:
    """One row per substitution, TM element and nearness: which bonds strengthen, and how much."""
    rows = []
    for comparison in comparisons:
        effect = comparison.effect
        for element in sorted({bond.element for bond in effect.bonds}):
            for near in (True, False):
                members = [
                    b for b in effect.bonds if (b.element, b.next_to_dopant) == (element, near)
                ]
                changes = [bond.minus_icohp_change for bond in members]
                lengths = statistic([bond.length_change for bond in members])
                if lengths is None:
                    continue
                rows.append(
                    {
                        **_compared(comparison),
                        "substitution": f"{effect.host} -> {effect.dopant} on site {effect.site}",
                        "electronegativity change": _rounded(effect.electronegativity_change, 2),
                        "bonds": f"{element}–O {'next to it' if near else 'elsewhere'}",
                        "number": len(members),
                        "stronger": sum(change > 0 for change in changes),
                        **_statistic("change of -ICOHP (eV)", statistic(changes)),
                        "change of length (Å)": _rounded(lengths.mean),
                        **_scale(comparison.after),
                        **_level(comparison.after),
                    }
                )
    return rows


def _compared(comparison: DopantComparison) -> Row:
    before, after = comparison.before.context, comparison.after.context
    return {
        "study": after.study,
        "variants": f"{before.variant} -> {after.variant}",
        "seed": after.seed,
        "state": comparison.after.state,
    }


def write_bonding_tables(
    folder: Path,
    documents: Sequence[BondingDocument],
) -> list[Path]:
    """Write all tables of bonding as CSV and JSON files; those without rows are left out.

    Variants that differ by a dopant are compared (:func:`compare_dopants`).

    Returns
    -------
    paths
        Files written.
    """
    comparisons = compare_dopants(documents).made
    tables = {
        "bonding": bonding_rows(documents),
        "bonding_classes": bonding_class_rows(documents),
        "bonding_oxygens": oxygen_rows(documents),
        "bonding_bonds": bond_rows(documents),
        "bonding_gaps": gap_rows(documents),
        "bonding_dimers": dimer_rows(documents),
        "bonding_dopants": dopant_rows(comparisons),
        "bonding_substitutions": [
            {**_compared(comparison), **row}
            for comparison in comparisons
            for row in substitution_rows([comparison.effect])
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in tables.items():
        if not rows:
            continue
        for suffix, text in ((".csv", to_csv(rows)), (".json", to_json(rows))):
            path = folder / f"{name}{suffix}"
            path.write_text(text, encoding="utf-8")
            paths.append(path)
    return paths


def _place(document: BondingDocument) -> Row:
    return {
        "study": document.context.study,
        "variant": document.context.variant,
        "seed": document.context.seed,
        "state": document.state,
        "Li per f.u.": _rounded(document.li_content),
    }


def _scale(document: BondingDocument) -> Row:
    """What an ICOHP may be compared with, and what it leaves out."""
    left_out = document.result.semicore_left_out
    return {
        "ICOHP scale": document.result.icohp_scale.value,
        "left out of ICOHP": ", ".join(left_out) or "nothing (no semicore in the basis)",
    }


def _level(document: BondingDocument) -> Row:
    return {"level of theory": str(document.level_of_theory)}


def _statistic(name: str, value: Statistic | None) -> Row:
    return {
        name: _rounded(value.mean if value else None),
        f"{name}, spread": _rounded(value.spread if value else None),
    }


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
