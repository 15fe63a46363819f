"""Point defects: changed sites with their charge bookkeeping and degeneracy."""

from collections.abc import Mapping
from dataclasses import dataclass

from .composition import OXIDATION_STATES
from .occupation import Occupation


@dataclass(frozen=True)
class ChargeBalance:
    """Formal charge of a cell before and after a change. Reported, never corrected.

    Attributes
    ----------
    before, after
        Sum of the stated oxidation states over the cell, e.
    oxidation_states
        Oxidation states that the sums were made with.
    """

    before: float
    after: float
    oxidation_states: Mapping[str, float]

    @property
    def change(self) -> float:
        """Formal charge brought in by the change, e."""
        return self.after - self.before


@dataclass(frozen=True)
class Defect:
    """A change of some sites of an occupation.

    Attributes
    ----------
    occupation
        Occupation with the change made.
    changes
        New species of the changed sites, ``{site: species}``; None marks a vacancy.
    charge
        Formal charge before and after.
    degeneracy
        Number of changes that are the same by symmetry, this one included; 1 where symmetry was
        not used.
    """

    occupation: Occupation
    changes: Mapping[int, str | None]
    charge: ChargeBalance
    degeneracy: int = 1


def make_defect(
    occupation: Occupation,
    changes: Mapping[int, str | None],
    oxidation_states: Mapping[str, float] | None = None,
    degeneracy: int = 1,
) -> Defect:
    """Change some sites of an occupation and keep the books of the formal charge.

    Parameters
    ----------
    occupation
        Occupation before the change.
    changes
        New species of the changed sites, ``{site: species}``; None leaves a vacancy.
    oxidation_states
        Replaces or extends :data:`lrlo.structures.composition.OXIDATION_STATES`.
    degeneracy
        Number of changes that are the same by symmetry.

    Raises
    ------
    ValueError
        If a species has no known oxidation state.

    Examples
    --------
    One Li taken out leaves a formal charge of -1:

    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> pristine = build_pristine("Li2MnO3", min_atoms=12, max_atoms=24).occupation
    >>> make_defect(pristine, {pristine.sites_of("Li")[0]: None}).charge.change
    -1.0
    """
    after = occupation.with_species(changes)
    counts = (occupation.count(), after.count())
    states = {**OXIDATION_STATES, **(oxidation_states or {})}
    present = sorted({*counts[0], *counts[1]})
    if missing := [symbol for symbol in present if symbol not in states]:
        raise ValueError(
            f"no oxidation state known for {', '.join(missing)}; give it in oxidation_states"
        )
    before, now = (float(sum(states[s] * n for s, n in count.items())) for count in counts)
    charge = ChargeBalance(before, now, {symbol: states[symbol] for symbol in present})
    return Defect(after, dict(changes), charge, degeneracy)
