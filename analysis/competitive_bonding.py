"""Which TM-O bonds strengthen when one cation is replaced: bonding results compared in pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from pymatgen.core import Element

from ..structures.assignment import Assignment, assign
from .bonding import statistic
from .bonding_documents import BondingDocument, BondingResult, Statistic, TmOxygenBond
from .level_of_theory import LevelOfTheory


class SubstitutionError(ValueError):
    """Two bonding results do not differ by one substituted cation."""


class BondChange(BaseModel):
    """A TM-O bond with and without the substitution.

    Attributes
    ----------
    tm_site, oxygen_site
        Sites of the frame.
    element
        Element of the TM.
    next_to_dopant
        Whether its oxygen is a neighbour of the substituted site.
    length, length_change
        Length before, and after minus before, Å.
    minus_icohp, minus_icohp_change, minus_icohp_dp_change
        -ICOHP before, after minus before, and the change of its d-p part, eV; a positive change
        means that the bond became stronger.
    """

    model_config = ConfigDict(frozen=True)

    tm_site: int
    oxygen_site: int
    element: str
    next_to_dopant: bool
    length: float
    length_change: float
    minus_icohp: float
    minus_icohp_change: float
    minus_icohp_dp_change: float


class SubstitutionEffect(BaseModel):
    """Effect of one substituted cation on the TM-O bonds of the others.

    Attributes
    ----------
    site
        Substituted site of the frame.
    host, dopant
        Element before and after.
    electronegativity_change
        Pauling electronegativity of the dopant minus that of the host.
    bonds
        Bonds of all other TM, largest strengthening first.
    host_bonds, dopant_bonds
        -ICOHP of the site's own bonds before and after, eV; None if it is no TM.
    level_of_theory
        Source and version of both results.
    """

    model_config = ConfigDict(frozen=True)

    site: int
    host: str
    dopant: str
    electronegativity_change: float
    bonds: list[BondChange]
    host_bonds: Statistic | None
    dopant_bonds: Statistic | None
    level_of_theory: LevelOfTheory

    @property
    def change_next_to_dopant(self) -> Statistic | None:
        """Change of -ICOHP of the bonds whose oxygen the dopant shares, eV."""
        return statistic([b.minus_icohp_change for b in self.bonds if b.next_to_dopant])

    @property
    def change_elsewhere(self) -> Statistic | None:
        """Change of -ICOHP of all other bonds, eV."""
        return statistic([b.minus_icohp_change for b in self.bonds if not b.next_to_dopant])


@dataclass(frozen=True)
class DopantComparison:
    """One state of a study with and without a dopant.

    Attributes
    ----------
    before, after
        Documents of the undoped and of the doped variant; where every variant is doped, of the
        first one and of another.
    effect
        What the substitution does to the bonds.
    """

    before: BondingDocument
    after: BondingDocument
    effect: SubstitutionEffect


@dataclass(frozen=True)
class DopantComparisons:
    """All comparisons of a study, and why others could not be made.

    Attributes
    ----------
    made
        In the order of the documents.
    left_out
        A sentence for each pair that differs by more than one cation.
    """

    made: tuple[DopantComparison, ...] = ()
    left_out: tuple[str, ...] = ()


def compare_dopants(documents: Sequence[BondingDocument]) -> DopantComparisons:
    """Compare the variants of a study that differ by a dopant, state by state and seed by seed.

    Cells that lost different Li, or that went different ways otherwise, cannot be compared bond by
    bond; they are named in ``left_out``.

    Parameters
    ----------
    documents
        Bonding of any states; studies without dopants give no comparison.
    """
    groups: dict[tuple[object, ...], list[BondingDocument]] = {}
    for document in documents:
        context = document.context
        alike = (context.study_key, context.seed, context.composition, context.stacking)
        place = (context.superlattice, context.tm_order, str(context.strain), document.state)
        groups.setdefault((*alike, *place, str(document.level_of_theory)), []).append(document)
    made, left_out = [], []
    for group in groups.values():
        doped = [document for document in group if document.context.dopants]
        hosts = [document for document in group if not document.context.dopants] or doped[:1]
        for before in hosts:
            for after in doped:
                if after is before:
                    continue
                try:
                    effect = substitution_effect(before.result, after.result)
                except ValueError as error:
                    names = f"{before.context.replicate} and {after.context.replicate}"
                    left_out.append(f"{names}, state {before.state}: {error}")
                else:
                    made.append(DopantComparison(before, after, effect))
    return DopantComparisons(tuple(made), tuple(left_out))


def substitution_effect(before: BondingResult, after: BondingResult) -> SubstitutionEffect:
    """Compare the bonds of two cells that differ by the species on one site.

    In the picture of competitive bonding a cation that binds the shared oxygen less lets the
    other TM-O bonds of that oxygen strengthen, and one that binds it more weakens them.

    Parameters
    ----------
    before, after
        Results of the host and of the substituted cell, on the same frame.

    Raises
    ------
    SubstitutionError
        If a result has no frame, frames or levels of theory differ, or the cells do not differ by
        exactly one species.
    """
    if before.level_of_theory != after.level_of_theory:
        raise SubstitutionError(
            f"the results come from {before.level_of_theory} and {after.level_of_theory}; only "
            "numbers of one level of theory can be compared"
        )
    first, second = _assignment(before), _assignment(after)
    if first.frame != second.frame:
        raise SubstitutionError("the cells have different frames: build both from one supercell")
    site, host, dopant = _substituted(first, second)
    old, new = _by_sites(before, first), _by_sites(after, second)
    around = {oxygen for oxygen, sites in first.frame.cations_of_anion.items() if site in sites}
    changes = [
        BondChange(
            tm_site=tm,
            oxygen_site=oxygen,
            element=bond.element,
            next_to_dopant=oxygen in around,
            length=bond.length,
            length_change=new[tm, oxygen].length - bond.length,
            minus_icohp=bond.minus_icohp,
            minus_icohp_change=new[tm, oxygen].minus_icohp - bond.minus_icohp,
            minus_icohp_dp_change=new[tm, oxygen].minus_icohp_dp - bond.minus_icohp_dp,
        )
        for (tm, oxygen), bond in old.items()
        if tm != site and (tm, oxygen) in new
    ]
    return SubstitutionEffect(
        site=site,
        host=host,
        dopant=dopant,
        electronegativity_change=float(Element(dopant).X - Element(host).X),
        bonds=sorted(changes, key=lambda change: -change.minus_icohp_change),
        host_bonds=statistic([b.minus_icohp for (tm, _), b in old.items() if tm == site]),
        dopant_bonds=statistic([b.minus_icohp for (tm, _), b in new.items() if tm == site]),
        level_of_theory=before.level_of_theory,
    )


def _assignment(result: BondingResult) -> Assignment:
    if result.frame is None:
        raise SubstitutionError("a result without a frame cannot be compared site by site")
    return assign(result.structure, result.frame)


def _substituted(before: Assignment, after: Assignment) -> tuple[int, str, str]:
    """The one site that differs, with its species before and after."""
    pairs = zip(before.occupation.species, after.occupation.species, strict=True)
    different = [(site, old, new) for site, (old, new) in enumerate(pairs) if old != new]
    if len(different) != 1:
        raise SubstitutionError(
            f"the cells differ on {len(different)} sites; they must differ by the species on one"
        )
    site, old, new = different[0]
    if old is None or new is None:
        raise SubstitutionError(
            f"site {site} holds {old or 'nothing'} before and {new or 'nothing'} after: a vacancy "
            "is no substitution"
        )
    return site, old, new


def _by_sites(
    result: BondingResult, assignment: Assignment
) -> Mapping[tuple[int, int], TmOxygenBond]:
    """Bonds by the sites of TM and O; those of atoms off the frame are left out."""
    bonds = {}
    for bond in result.bonds:
        tm, oxygen = assignment.sites[bond.tm], assignment.sites[bond.oxygen]
        if tm is not None and oxygen is not None:
            bonds[tm, oxygen] = bond
    return bonds
