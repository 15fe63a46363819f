"""Compositions of layered oxides, made to fit a supercell and reported as realised."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from pymatgen.core import Composition, Element

#: Oxidation states of the fully lithiated oxide, used for the charge balance unless given.
#: Ni(II), Mn(IV), Co(III): see e.g. Lu and Dahn, J. Electrochem. Soc. 149, A815 (2002).
OXIDATION_STATES: Mapping[str, int] = MappingProxyType(
    {
        **{"Li": 1, "Na": 1, "O": -2, "S": -2, "F": -1},
        **{"Mg": 2, "Ni": 2, "Zn": 2, "Cu": 2, "Al": 3, "Co": 3, "Cr": 3, "Fe": 3, "V": 3},
        **{"Ga": 3, "Sc": 3, "Y": 3, "La": 3, "Mn": 4, "Ti": 4, "Zr": 4, "Sn": 4, "Ru": 4},
        **{"Ir": 4, "Mo": 6, "W": 6, "Te": 6, "Nb": 5, "Ta": 5, "Sb": 5},
    }
)

#: Species that the anion sublattice may hold; formulas are written for oxides, F and S are dopants.
ANIONS = ("O", "F", "S")
_SITE_SUM_TOLERANCE = 0.02


class CompositionError(ValueError):
    """The composition does not describe a layered oxide that the frame can hold."""


@dataclass(frozen=True)
class TargetComposition:
    """Cations per formula unit (two anions), as the user asked for them.

    Attributes
    ----------
    formula
        The text that was parsed.
    tm_layer
        Fraction of TM-layer sites of every species, Li included; sums to 1.
    """

    formula: str
    tm_layer: Mapping[str, float]


@dataclass(frozen=True)
class RealisedComposition:
    """What a supercell of whole atoms makes of a target composition.

    Attributes
    ----------
    target
        Cations per formula unit asked for (Li of both layers together).
    realised
        Cations per formula unit of the supercell.
    deviation
        Realised minus target.
    tm_layer_counts
        Ions on the TM layer of the supercell; empty where there is none.
    n_formula_units
        Formula units (two anions each) in the supercell.
    charge_imbalance
        Sum of the stated oxidation states over the supercell, e. Reported, never corrected.
    oxidation_states
        Oxidation states that the sum was made with.
    """

    target: Mapping[str, float]
    realised: Mapping[str, float]
    deviation: Mapping[str, float]
    tm_layer_counts: Mapping[str, int]
    n_formula_units: int
    charge_imbalance: float
    oxidation_states: Mapping[str, float]

    @property
    def total_deviation(self) -> float:
        """Sum over species of the absolute deviation per formula unit."""
        return sum(abs(value) for value in self.deviation.values())


def parse_cations(formula: str) -> Mapping[str, float]:
    """Cations per formula unit (two anions) of an oxide, whatever its structure.

    Raises
    ------
    CompositionError
        For an unreadable formula, an unknown element, a missing or another anion than O, or a
        missing transition metal.

    Examples
    --------
    >>> dict(parse_cations("LiMn2O4"))
    {'Li': 0.5, 'Mn': 1.0}
    """
    try:
        amounts = Composition(formula, strict=True).get_el_amt_dict()
    except (ValueError, KeyError) as error:
        raise CompositionError(
            f"composition {formula!r} cannot be read ({error}); write element symbols with "
            "amounts, such as Li1.14Ni0.26Mn0.55Co0.05O2"
        ) from error
    unknown = [symbol for symbol in amounts if not Element.is_valid_symbol(symbol)]
    if unknown:
        raise CompositionError(f"composition {formula!r} has unknown elements: {unknown}")
    others = [anion for anion in ANIONS if anion != "O" and anion in amounts]
    if others:
        raise CompositionError(
            f"composition {formula!r} has {', '.join(others)}; write the oxide, and put other "
            "anions in as dopants on the site class 'anion'"
        )
    n_anions = amounts.get("O", 0.0)
    if n_anions <= 0:
        raise CompositionError(f"composition {formula!r} has no anion; allowed: O")
    cations = {
        symbol: 2 * amount / n_anions
        for symbol, amount in amounts.items()
        if symbol != "O" and amount > 0
    }
    if not any(Element(symbol).is_transition_metal for symbol in cations):
        raise CompositionError(f"composition {formula!r} has no transition metal")
    return MappingProxyType(cations)


def parse_composition(formula: str) -> TargetComposition:
    """Read a formula such as ``Li1.14Ni0.26Mn0.55Co0.05O2``.

    The formula is scaled to two anions. Its cations then have to fill the two octahedral sites
    per formula unit: the Li layer with Li, the TM layer with the rest.

    Raises
    ------
    CompositionError
        For an unreadable formula, an unknown element, a missing anion or transition metal, or
        cations that do not add up to two.

    Examples
    --------
    >>> round(parse_composition("Li2MnO3").tm_layer["Mn"], 6)
    0.666667
    """
    cations = parse_cations(formula)
    total = sum(cations.values())
    if abs(total - 2) > _SITE_SUM_TOLERANCE:
        raise CompositionError(
            f"composition {formula!r} has {total:.3f} cations per two anions, but a layered oxide "
            "has 2.000 octahedral sites (one in the Li layer, one in the TM layer)"
        )
    tm_layer = {symbol: amount * 2 / total for symbol, amount in cations.items()}
    tm_layer["Li"] = tm_layer.get("Li", 0.0) - 1.0
    if tm_layer["Li"] < -1e-6:
        raise CompositionError(
            f"composition {formula!r} has {tm_layer['Li'] + 1:.3f} Li per two anions; the Li layer "
            "of the fully lithiated oxide needs 1.000"
        )
    if tm_layer["Li"] < 1e-6:
        del tm_layer["Li"]
    return TargetComposition(formula=formula, tm_layer=MappingProxyType(tm_layer))


def realise(
    target: TargetComposition,
    n_formula_units: int,
    oxidation_states: Mapping[str, float] | None = None,
) -> RealisedComposition:
    """Whole atoms for a supercell, by the largest-remainder method.

    Parameters
    ----------
    target
        Composition asked for.
    n_formula_units
        Formula units in the supercell, equal to its TM-layer sites.
    oxidation_states
        Replaces or extends :data:`OXIDATION_STATES`.

    Raises
    ------
    CompositionError
        If a species has no known oxidation state.
    """
    quotas = {symbol: share * n_formula_units for symbol, share in target.tm_layer.items()}
    counts = {symbol: int(quota + 1e-9) for symbol, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda s: (counts[s] - quotas[s], s))
    for symbol in by_remainder[: n_formula_units - sum(counts.values())]:
        counts[symbol] += 1
    return compare(target, counts, oxidation_states)


def compare(
    target: TargetComposition,
    tm_layer_counts: Mapping[str, int],
    oxidation_states: Mapping[str, float] | None = None,
) -> RealisedComposition:
    """What the ions of a TM layer, with Li in the Li layer, make of a target composition.

    Parameters
    ----------
    target
        Composition asked for.
    tm_layer_counts
        Ions on the TM layer; their sum is the number of formula units.
    oxidation_states
        Replaces or extends :data:`OXIDATION_STATES`.

    Raises
    ------
    CompositionError
        If a species has no known oxidation state.

    Examples
    --------
    >>> compare(parse_composition("Li1.2Mn0.8O2"), {"Li": 1, "Mn": 5}).deviation["Li"]
    -0.033333333333333215
    """
    n_formula_units = sum(tm_layer_counts.values())

    def with_li_layer(tm_layer: Mapping[str, float], filled: float) -> dict[str, float]:
        return {**tm_layer, "Li": tm_layer.get("Li", 0.0) + filled}

    return replace(
        compare_cations(
            with_li_layer(target.tm_layer, 1.0),
            with_li_layer(tm_layer_counts, n_formula_units),
            n_formula_units,
            oxidation_states,
        ),
        tm_layer_counts=dict(tm_layer_counts),
    )


def compare_cations(
    wanted: Mapping[str, float],
    counts: Mapping[str, float],
    n_formula_units: int,
    oxidation_states: Mapping[str, float] | None = None,
) -> RealisedComposition:
    """What the cations of a cell make of those asked for, wherever they sit.

    Parameters
    ----------
    wanted
        Cations per formula unit asked for.
    counts
        Cations of the cell.
    n_formula_units
        Formula units (two anions) in the cell.
    oxidation_states
        Replaces or extends :data:`OXIDATION_STATES`.

    Raises
    ------
    CompositionError
        If a species has no known oxidation state.

    Examples
    --------
    >>> spinel = compare_cations(parse_cations("LiMn2O4"), {"Li": 8, "Mn": 16}, 16)
    >>> spinel.total_deviation, spinel.charge_imbalance
    (0.0, 8.0)
    """
    unknown = [s for s in oxidation_states or {} if not Element.is_valid_symbol(s)]
    if unknown:
        raise CompositionError(f"oxidation states of unknown elements {', '.join(unknown)}")
    states = {**OXIDATION_STATES, **(oxidation_states or {})}
    missing = [symbol for symbol in {**wanted, **counts} if symbol not in states]
    if missing:
        raise CompositionError(
            f"no oxidation state known for {', '.join(missing)}; state them (oxidation_states)"
        )
    realised = {symbol: n / n_formula_units for symbol, n in counts.items()}
    charge = sum(states[symbol] * amount for symbol, amount in realised.items()) + 2 * states["O"]
    return RealisedComposition(
        target=dict(wanted),
        realised=realised,
        deviation={s: realised.get(s, 0.0) - wanted.get(s, 0.0) for s in {**wanted, **realised}},
        tm_layer_counts={},
        n_formula_units=n_formula_units,
        charge_imbalance=round(charge * n_formula_units, 9),
        oxidation_states={symbol: states[symbol] for symbol in (*wanted, "O")},
    )
