"""Variants of a study that differ by a dopant, compared state by state."""

import csv
from pathlib import Path

import pytest

from lrlo.analysis.bonding_documents import BondingDocument
from lrlo.analysis.bonding_tables import dopant_rows, write_bonding_tables
from lrlo.analysis.competitive_bonding import DopantComparisons, compare_dopants
from lrlo.structures.layered_oxide import build_pristine
from lrlo.structures.occupation import Occupation

from .bonding_results import document_of, result_on


@pytest.fixture(scope="module")
def host() -> Occupation:
    return build_pristine("Li2MnO3", min_atoms=24, max_atoms=24).occupation


def variant(
    occupation: Occupation,
    label: str,
    dopants: list[str],
    *,
    near_change: float = 0.0,
    state: str = "pristine",
    **changes: object,
) -> BondingDocument:
    """Document of a variant whose bonds at the O of doped sites are changed."""
    result = result_on(occupation)
    atoms = {site: atom for atom, site in enumerate(occupation.occupied())}
    sites = {site for dopant in dopants for site in occupation.sites_of(dopant)}
    around = occupation.frame.cations_of_anion.items()
    near = {atoms[oxygen] for oxygen, cations in around if sites & set(cations)}
    bonds = [
        b.model_copy(update={"minus_icohp": b.minus_icohp + near_change * (b.oxygen in near)})
        for b in result.bonds
    ]
    document = document_of(result.model_copy(update={"bonds": bonds}), state)
    context = document.context.model_copy(update={"variant": label, "dopants": dopants, **changes})
    return document.model_copy(update={"context": context})


def test_variants_with_a_dopant_are_compared_with_the_one_without(
    host: Occupation, tmp_path: Path
) -> None:
    site = host.sites_of("Mn")[0]
    documents = [
        variant(host, "undoped", []),
        variant(host.with_species({site: "Ti"}), "Ti", ["Ti"], near_change=0.3),
        variant(host.with_species({site: "Ru"}), "Ru", ["Ru"], near_change=-0.2),
    ]
    found = compare_dopants(documents)
    assert found.left_out == ()
    assert [c.after.context.variant for c in found.made] == ["Ti", "Ru"]
    rows = dopant_rows(found.made)
    titanium = next(r for r in rows if r["variants"] == "undoped -> Ti" and "next" in r["bonds"])
    assert titanium["substitution"] == f"Mn -> Ti on site {site}"
    assert titanium["bonds"] == "Mn–O next to it"
    assert (titanium["number"], titanium["stronger"]) == (6, 6)
    assert titanium["change of -ICOHP (eV)"] == pytest.approx(0.3)
    ruthenium = next(r for r in rows if r["variants"] == "undoped -> Ru" and "next" in r["bonds"])
    assert ruthenium["electronegativity change"] == pytest.approx(2.2 - 1.55)
    assert ruthenium["stronger"] == 0
    assert {r["change of -ICOHP (eV)"] for r in rows if r["bonds"] == "Mn–O elsewhere"} == {0}
    write_bonding_tables(tmp_path, documents)
    with (tmp_path / "bonding_substitutions.csv").open(encoding="utf-8-sig") as file:
        bonds = list(csv.DictReader(file))
    assert {row["variants"] for row in bonds} == {"undoped -> Ti", "undoped -> Ru"}
    assert (tmp_path / "bonding_dopants.json").exists()


def test_doped_variants_alone_are_compared_with_the_first(host: Occupation) -> None:
    site = host.sites_of("Mn")[0]
    documents = [
        variant(host.with_species({site: "Ti"}), "Ti", ["Ti"]),
        variant(host.with_species({site: "Ru"}), "Ru", ["Ru"]),
    ]
    (made,) = compare_dopants(documents).made
    assert (made.effect.host, made.effect.dopant) == ("Ti", "Ru")


def test_only_like_is_compared_with_like(host: Occupation) -> None:
    first, second = host.sites_of("Mn")[:2]
    undoped = variant(host, "undoped", [])
    doped = host.with_species({first: "Ti"})
    assert compare_dopants([undoped]) == DopantComparisons()
    others = [
        variant(doped, "Ti", ["Ti"], state="4.8 V"),
        variant(doped, "Ti", ["Ti"], seed=99),
        variant(doped, "Ti", ["Ti"], stacking="O2"),
    ]
    assert compare_dopants([undoped, *others]) == DopantComparisons()
    twice = variant(host.with_species({first: "Ti", second: "Ti"}), "2 Ti", ["Ti"])
    found = compare_dopants([undoped, twice])
    assert found.made == ()
    (sentence,) = found.left_out
    assert "undoped" in sentence
    assert "differ on 2 sites" in sentence
