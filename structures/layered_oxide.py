"""Builder of the pristine LRLO supercell: frame, superlattice, SQS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .composition import CompositionError, RealisedComposition, parse_composition
from .correlation_target import CorrelationTarget
from .frame import SiteKind, layered_frame, lithium_layer_sites
from .occupation import Occupation, empty_frame
from .sqs import RANDOM, QuasirandomOrder, anneal_quasirandom
from .stacking import Stacking
from .supercell import choose_supercell
from .superlattice import (
    Superlattice,
    cap_sites,
    honeycomb_centres,
    lithium_sites,
    spread_subset,
)


@dataclass(frozen=True)
class PristineModel:
    """A pristine supercell and how it was made.

    Attributes
    ----------
    occupation
        Species on the sites of the frame.
    composition
        Target, realised, deviation and charge balance.
    order
        SQS result for the species of the TM layer.
    image_distance
        Shortest distance between an ion and its periodic image in the ideal cell, Å.
    seed
        Seed of the superlattice and the SQS.
    """

    occupation: Occupation
    composition: RealisedComposition
    order: QuasirandomOrder
    image_distance: float
    seed: int


def build_pristine(
    formula: str,
    *,
    stacking: Stacking = Stacking.O3,
    superlattice: Superlattice = Superlattice.HONEYCOMB,
    min_atoms: int = 48,
    max_atoms: int = 72,
    seed: int = 0,
    oxidation_states: Mapping[str, float] | None = None,
    cap: str | None = None,
    target: CorrelationTarget = RANDOM,
) -> PristineModel:
    """Build the fully lithiated supercell of a composition.

    Li of the TM layer takes the superlattice's sites; the other cations of the TM layer are
    placed on the rest as an SQS; the Li layer is full of Li. In a capped honeycomb all ions of
    the species `cap` sit in the Li layer above Li of the TM layer instead, and the Li that they
    displace joins the honeycomb: the composition is that of the formula.

    With another target than random the cations are placed to have that order instead. Where the
    superlattice is ``random``, Li of the TM layer is one of them; without a target it is drawn.

    Parameters
    ----------
    formula
        Composition, such as ``Li1.2Ni0.2Mn0.6O2``.
    stacking
        Oxygen stacking.
    superlattice
        Ordering of Li in the TM layer.
    min_atoms, max_atoms
        Limits of the size of the cell.
    seed
        Seed of the superlattice and the SQS.
    oxidation_states
        Replaces or extends the oxidation states of the charge balance.
    cap
        Species that caps the honeycomb; for ``capped-honeycomb`` only, and needed there.
    target
        Correlations of the cations beside the superlattice.

    Raises
    ------
    CompositionError
        If the composition cannot be read, or no supercell within the limits holds it, or the
        honeycomb cannot hold the Li that the caps displace.
    ValueError
        If the cell cannot have the target.

    Examples
    --------
    >>> model = build_pristine("Li2MnO3", min_atoms=24, max_atoms=24)
    >>> sorted(model.occupation.count().items())
    [('Li', 8), ('Mn', 4), ('O', 12)]
    """
    wanted = parse_composition(formula)
    if (superlattice is Superlattice.CAPPED_HONEYCOMB) != (cap is not None):
        raise CompositionError(
            f"a {superlattice.value} superlattice with cap {cap!r}: the cap names the species "
            "above the Li of a capped-honeycomb, and of no other superlattice"
        )
    if cap is not None and cap not in wanted.tm_layer:
        raise CompositionError(
            f"cap {cap!r} is not a cation of {formula!r}; allowed: {', '.join(wanted.tm_layer)}"
        )
    choice = choose_supercell(
        wanted,
        stacking,
        superlattice,
        min_atoms=min_atoms,
        max_atoms=max_atoms,
        oxidation_states=oxidation_states,
    )
    frame = layered_frame(stacking, choice.matrix)
    composition = choice.composition
    n_caps = 0 if cap is None else composition.tm_layer_counts[cap]
    if cap is not None:
        composition = _with_caps(composition, cap, len(honeycomb_centres(frame)))
    counts = dict(composition.tm_layer_counts)
    lithium: tuple[int, ...] = ()
    if superlattice is not Superlattice.RANDOM or target == RANDOM:
        lithium = lithium_sites(frame, superlattice, counts.pop("Li", 0), seed)
    rest = [int(site) for site in frame.sites(SiteKind.TM_OCT) if site not in set(lithium)]
    order = anneal_quasirandom(frame, rest, counts, seed=seed, target=target)
    occupation = empty_frame(frame).with_species(
        dict.fromkeys((int(site) for site in lithium_layer_sites(frame)), "Li")
        | dict.fromkeys(lithium, "Li")
        | dict(zip(rest, order.species, strict=True))
    )
    if cap is not None:
        occupation = cap_honeycomb(occupation, cap, spread_subset(frame, lithium, n_caps, seed))
    return PristineModel(
        occupation=occupation,
        composition=composition,
        order=order,
        image_distance=choice.image_distance,
        seed=seed,
    )


def cap_honeycomb(
    occupation: Occupation, species: str, centres: Sequence[int] | None = None
) -> Occupation:
    """Put a dopant into the Li layer above honeycomb centres, in place of the ion there.

    The composition changes with every cap; :func:`build_pristine` keeps that of a formula.

    Parameters
    ----------
    occupation
        Layered oxide with Li on honeycomb centres of the TM layer.
    species
        Element symbol of the dopant.
    centres
        Centres to cap; every Li of the TM layer if not given.

    Raises
    ------
    ValueError
        If there is no such centre, or one of them does not hold Li.

    Examples
    --------
    >>> pristine = build_pristine("Li2MnO3", min_atoms=24, max_atoms=24).occupation
    >>> sorted(cap_honeycomb(pristine, "Ni").count(SiteKind.LI_OCT).items())
    [('Li', 4), ('Ni', 2)]
    """
    lithium = occupation.sites_of("Li", SiteKind.TM_OCT)
    chosen = lithium if centres is None else tuple(int(site) for site in centres)
    others = sorted(set(chosen) - set(lithium))
    if others or not lithium:
        raise ValueError(
            f"sites {others} hold no Li of the TM layer; it sits on {list(lithium)}"
            if others
            else "the TM layer holds no Li, so there is no honeycomb to cap"
        )
    return occupation.with_species(dict.fromkeys(cap_sites(occupation.frame, chosen), species))


def _with_caps(composition: RealisedComposition, cap: str, n_centres: int) -> RealisedComposition:
    """The same ions with the caps moved to the Li layer, and their Li to the TM layer."""
    counts = dict(composition.tm_layer_counts)
    n_caps = counts.pop(cap)
    lithium = counts.get("Li", 0) + n_caps
    if lithium > n_centres:
        room = max(n_centres - counts.get("Li", 0), 0)
        raise CompositionError(
            f"{n_caps} {cap} caps displace as many Li into the TM layer, which makes {lithium} on "
            f"{n_centres} honeycomb centres; at most {room} {cap} in "
            f"{composition.n_formula_units} formula units fit: use less {cap} or less Li"
        )
    return replace(composition, tm_layer_counts={**counts, "Li": lithium})
