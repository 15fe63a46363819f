"""Builder of disordered rock salts: all cations on one sublattice."""

from collections.abc import Mapping

from .composition import RealisedComposition, parse_composition
from .correlation_target import CorrelationTarget
from .frame import Frame, SiteKind
from .layered_oxide import PristineModel
from .occupation import empty_frame
from .rock_salt import rock_salt_frame
from .sqs import RANDOM, anneal_quasirandom
from .supercell import choose_rock_salt_supercell, image_distance


def build_rock_salt(
    formula: str,
    *,
    min_atoms: int = 48,
    max_atoms: int = 72,
    seed: int = 0,
    oxidation_states: Mapping[str, float] | None = None,
    target: CorrelationTarget = RANDOM,
) -> PristineModel:
    """Build the fully lithiated disordered rock salt of a composition.

    Parameters
    ----------
    formula
        Composition, such as ``Li1.2Mn0.4Ti0.4O2``.
    min_atoms, max_atoms
        Limits of the size of the cell.
    seed
        Seed of the SQS.
    oxidation_states
        Replaces or extends the oxidation states of the charge balance.
    target
        Correlations of the cations.

    Raises
    ------
    CompositionError
        If the composition cannot be read, or no supercell within the limits holds it.
    ValueError
        If the cell cannot have the target.

    Examples
    --------
    >>> model = build_rock_salt("Li1.2Mn0.4Ti0.4O2", min_atoms=40, max_atoms=40)
    >>> sorted(model.occupation.count().items())
    [('Li', 12), ('Mn', 4), ('O', 20), ('Ti', 4)]
    """
    choice = choose_rock_salt_supercell(
        parse_composition(formula),
        min_atoms=min_atoms,
        max_atoms=max_atoms,
        oxidation_states=oxidation_states,
    )
    return fill_rock_salt(rock_salt_frame(choice.matrix), choice.composition, seed, target)


def fill_rock_salt(
    frame: Frame,
    composition: RealisedComposition,
    seed: int,
    target: CorrelationTarget = RANDOM,
) -> PristineModel:
    """Place the cations of a composition on the octahedra of a rock salt frame.

    Parameters
    ----------
    frame
        Rock salt frame with two octahedra per formula unit.
    composition
        What the frame holds.
    seed
        Seed of the SQS.
    target
        Correlations of the cations.

    Raises
    ------
    ValueError
        If the frame has no such octahedra, the composition does not fill them, or the cell cannot
        have the target.
    """
    sites = frame.sites(SiteKind.CATION_OCT).tolist()
    counts = dict(composition.tm_layer_counts)
    counts["Li"] = counts.get("Li", 0) + composition.n_formula_units
    order = anneal_quasirandom(frame, sites, counts, seed=seed, target=target)
    return PristineModel(
        occupation=empty_frame(frame).with_species(dict(zip(sites, order.species, strict=True))),
        composition=composition,
        order=order,
        image_distance=image_distance(frame.lattice),
        seed=seed,
    )
