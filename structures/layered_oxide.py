"""Builder of the pristine LRLO supercell: frame, superlattice, SQS."""

from collections.abc import Mapping
from dataclasses import dataclass

from .composition import RealisedComposition, parse_composition
from .frame import SiteKind, layered_frame
from .occupation import Occupation, empty_frame
from .sqs import QuasirandomOrder, anneal_quasirandom
from .stacking import Stacking
from .supercell import choose_supercell
from .superlattice import Superlattice, lithium_sites


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
) -> PristineModel:
    """Build the fully lithiated supercell of a composition.

    Li of the TM layer takes the superlattice's sites; the other cations of the TM layer are
    placed on the rest as an SQS; the Li layer is full of Li.

    Raises
    ------
    CompositionError
        If the composition cannot be read, or no supercell within the limits holds it.

    Examples
    --------
    >>> model = build_pristine("Li2MnO3", min_atoms=12, max_atoms=24)
    >>> sorted(model.occupation.count().items())
    [('Li', 8), ('Mn', 4), ('O', 12)]
    """
    target = parse_composition(formula)
    choice = choose_supercell(
        target,
        stacking,
        superlattice,
        min_atoms=min_atoms,
        max_atoms=max_atoms,
        oxidation_states=oxidation_states,
    )
    frame = layered_frame(stacking, choice.matrix)
    counts = dict(choice.composition.tm_layer_counts)
    lithium = lithium_sites(frame, superlattice, counts.pop("Li", 0), seed)
    rest = [int(site) for site in frame.sites(SiteKind.TM_OCT) if site not in set(lithium)]
    order = anneal_quasirandom(frame, rest, counts, seed=seed)
    occupation = empty_frame(frame).with_species(
        dict.fromkeys((int(site) for site in frame.sites(SiteKind.LI_OCT)), "Li")
        | dict.fromkeys(lithium, "Li")
        | dict(zip(rest, order.species, strict=True))
    )
    return PristineModel(
        occupation=occupation,
        composition=choice.composition,
        order=order,
        image_distance=choice.image_distance,
        seed=seed,
    )
