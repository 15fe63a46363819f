"""Crystals, superlattices, faults, references and slabs as the catalogue offers them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .built_structure import BuiltStructure, from_occupation, from_structure
from .composition import CompositionError, RealisedComposition, parse_composition, realise
from .correlation_target import CorrelationTarget, NeighbourOrder, OrderTowards
from .crystals import CRYSTALS
from .domains import build_two_phase
from .frame import SiteKind, layered_frame
from .layered_oxide import build_pristine
from .occupation import Occupation
from .rock_salt import CUBIC_CELL, rock_salt_frame
from .rock_salt_oxide import fill_rock_salt
from .slabs import BasalTermination, Slab, basal_slab, edge_slab
from .spinel import (
    cubic_frame,
    layered_reference,
    lithium_spinel,
    metal_monoxide,
    metal_spinel,
)
from .sqs import RANDOM, QuasirandomOrder
from .stacking import LAYER_SEQUENCES, Stacking
from .stacking_faults import FaultedHoneycomb, build_faulted_honeycomb, draw_fault_angles
from .superlattice import Superlattice, max_lithium_fraction
from .vacuum import vacuum_width


def crystal(name: str) -> BuiltStructure:
    """Build a named crystal in its published cell.

    Parameters
    ----------
    name
        Name of the crystal; ``lrlo build --list`` lists them.

    Raises
    ------
    ValueError
        If there is none of that name; the message lists them.

    Examples
    --------
    >>> crystal("Li2MnO3").space_group
    'C2/m (12)'
    """
    if name not in CRYSTALS:
        raise ValueError(f"no crystal is named {name!r}; there are {', '.join(CRYSTALS)}")
    found = CRYSTALS[name]
    built = from_structure(found.structure(), found.frame())
    return BuiltStructure(
        built.structure,
        built.assignment,
        remarks={"published": f"{found.symbol} ({found.space_group}); {found.reference}"},
    )


def ordered_oxide(
    formula: str,
    *,
    superlattice: Superlattice,
    stacking: Stacking = Stacking.O3,
    max_atoms: int = 72,
    min_atoms: int | None = None,
    seed: int = 0,
    oxidation_states: Mapping[str, float] | None = None,
    cap: str | None = None,
    short_range_order: Mapping[str, tuple[float, ...]] | None = None,
    parent: BuiltStructure | None = None,
    order: float | None = None,
) -> BuiltStructure:
    """Build a layered oxide with Li of the TM layer on a superlattice, the other cations an SQS.

    Parameters
    ----------
    formula
        Composition, such as Li1.2Mn0.54Ni0.13Co0.13O2.
    superlattice
        Order of Li in the TM layer.
    stacking
        Stacking of the oxygen layers.
    max_atoms
        Largest number of atoms in the cell.
    min_atoms
        Smallest number of atoms in the cell; two thirds of the largest if not given.
    seed
        Seed of the superlattice and of the SQS.
    oxidation_states
        Oxidation states of the charge balance that differ from the stated ones, as Mn=3.5,Ni=2.
    cap
        Species that sits in the Li layer above Li of the TM layer.
    short_range_order
        Warren-Cowley parameters by shell, the nearest first, as Mn-Ni=-0.2/0.1: negative where
        the pair is preferred; what is not given is random.
    parent
        Ordered crystal that the order is taken from, together with an order.
    order
        How far the cations are ordered, from 0 (random) to 1 (as in the parent).

    Raises
    ------
    CompositionError
        If the composition cannot be read or no cell of this size holds it.
    ValueError
        If the cell cannot have the order.

    Examples
    --------
    >>> built = ordered_oxide("Li2MnO3", superlattice=Superlattice.HONEYCOMB, max_atoms=24)
    >>> built.formula, built.o_classes
    ('Li8 Mn4 O12', {'O4': 12})
    >>> paired = ordered_oxide(
    ...     "LiNi0.5Mn0.5O2",
    ...     superlattice=Superlattice.RANDOM,
    ...     max_atoms=48,
    ...     short_range_order={"Mn-Ni": (-0.25,)},
    ... )
    >>> paired.remarks["Warren-Cowley Mn-Ni, reached (asked for)"].split(",")[0]
    '-0.22 (-0.25) at 2.86 Å'
    """
    target = _target(short_range_order, parent, order)
    model = build_pristine(
        formula,
        stacking=stacking,
        superlattice=superlattice,
        min_atoms=2 * max_atoms // 3 if min_atoms is None else min_atoms,
        max_atoms=max_atoms,
        seed=seed,
        oxidation_states=oxidation_states,
        cap=cap,
        target=target,
    )
    lithium = model.composition.tm_layer_counts.get("Li", 0)
    room = round(max_lithium_fraction(superlattice) * model.composition.n_formula_units)
    return from_occupation(
        model.occupation,
        composition=model.composition,
        oxidation_states=oxidation_states,
        remarks={
            "order": f"{_lithium_order(superlattice, target)}, Li on {lithium} of at most {room} "
            "sites",
            **_quasirandom(model.order, target),
        },
    )


def faulted_honeycomb(
    formula: str,
    *,
    angles: tuple[int, ...] | None = None,
    layers: int | None = None,
    density: float | None = None,
    stacking: Stacking = Stacking.O3,
    in_plane: tuple[int, int] = (1, 1),
    seed: int = 0,
    oxidation_states: Mapping[str, float] | None = None,
) -> BuiltStructure:
    """Build a honeycomb with rotational stacking faults, by their sequence or their density.

    Parameters
    ----------
    formula
        Composition, such as Li2MnO3.
    angles
        Direction of the shift from every TM layer to the next, degrees, as 0,120,240,0.
    layers
        Number of TM layers, where the sequence is drawn at random.
    density
        Share of the interfaces shifted along 120 or 240 degrees, 0 to 1, where the sequence is
        drawn.
    stacking
        Stacking of the oxygen layers.
    in_plane
        Repeats of the honeycomb along its two in-plane vectors.
    seed
        Seed of the sequence, of the Li subset and of the SQS.
    oxidation_states
        Oxidation states of the charge balance that differ from the stated ones, as Mn=3.5,Ni=2.

    Raises
    ------
    CompositionError
        If the composition cannot be read or has more Li than honeycomb centres.
    ValueError
        If neither a sequence nor layers and density are given, or the stacking has no faults.

    Examples
    --------
    >>> built = faulted_honeycomb("Li2MnO3", angles=(0, 120, 240))
    >>> built.space_group, built.remarks["turns"]
    ('P3_112 (151)', '3 of 3 interfaces shift along another direction than the one below')
    """
    drawn = layers is not None and density is not None
    if (angles is None) != drawn or (angles is not None and (layers or density) is not None):
        raise ValueError(
            "a faulted honeycomb takes either angles, such as 0,120,240, or both layers and density"
        )
    if layers is not None and density is not None:
        angles = draw_fault_angles(layers, density, seed)
    model = build_faulted_honeycomb(
        formula,
        angles or (),
        stacking=stacking,
        in_plane=in_plane,
        seed=seed,
        oxidation_states=oxidation_states,
    )
    _check_present(model.composition, "in-plane repeats or more layers")
    return from_occupation(
        model.occupation,
        composition=model.composition,
        oxidation_states=oxidation_states,
        remarks={
            "sequence": " ".join(map(str, model.angles)),
            **_faults(model),
            **_quasirandom(model.order),
        },
    )


def _faults(model: FaultedHoneycomb) -> dict[str, str]:
    """Interfaces off 0 degrees, as drawn at a density, and the turns, which make the faults."""
    n = len(model.angles)
    turned = (
        f"{round(model.turns * n)} of {n} interfaces shift along another direction than the one "
        "below"
        if model.turns
        else "none, the perfect crystal: all interfaces shift along the same direction"
    )
    return {
        "120 or 240 degrees": f"{round(model.rotated * n)} of {n} interfaces",
        "turns": turned,
    }


def two_phase(
    poor_phase: str,
    *,
    x: float = 0.5,
    rich_rows: int = 6,
    stacking: Stacking = Stacking.O3,
    columns: int = 1,
    n_repeats: int = 1,
    rich_metal: str = "Mn",
    seed: int = 0,
    oxidation_states: Mapping[str, float] | None = None,
) -> BuiltStructure:
    """Build coherent domains of Li2MnO3 and LiMO2 side by side in every TM layer.

    Parameters
    ----------
    poor_phase
        Formula of the LiMO2 domain, such as LiNi0.5Mn0.5O2.
    x
        Share of Li2MnO3 in formula units, between 0 and 1.
    rich_rows
        Close-packed rows of the TM layer across the Li2MnO3 domain; the other domain follows.
    stacking
        Stacking of the oxygen layers.
    columns
        Honeycomb periods of 3 a along the domain walls.
    n_repeats
        Repeats of the stacking.
    rich_metal
        Metal of the Li2MnO3 domain.
    seed
        Seed of the SQS of the LiMO2 domain.
    oxidation_states
        Oxidation states of the charge balance that differ from the stated ones, as Mn=3.5,Ni=2.

    Raises
    ------
    ValueError
        If x, a width or a repeat is out of range, or the LiMO2 formula does not fit.

    Examples
    --------
    >>> built = two_phase("LiCoO2", x=0.5, rich_rows=6)
    >>> built.formula, built.remarks["x"]
    ('Li36 Mn12 Co12 O60', '0.500 (asked for: 0.5)')
    """
    model = build_two_phase(
        x,
        poor_phase,
        rich_rows=rich_rows,
        stacking=stacking,
        columns=columns,
        n_repeats=n_repeats,
        rich_metal=rich_metal,
        seed=seed,
        oxidation_states=oxidation_states,
    )
    return from_occupation(
        model.occupation,
        composition=model.composition,
        oxidation_states=oxidation_states,
        remarks={
            "x": f"{model.x:.3f} (asked for: {x:g})",
            "composition stands for": "the LiMO2 domain",
            "Li2MnO3 domain": f"{model.rich_rows} rows, {model.rich_width:.1f} Å",
            "LiMO2 domain": f"{model.poor_rows} rows, {model.poor_width:.1f} Å",
        },
    )


def layered(
    metal: str, *, stacking: Stacking = Stacking.O3, size: tuple[int, int] = (2, 2)
) -> BuiltStructure:
    """Build LiMO2 of any stacking: one metal on the TM layers, the Li layers full.

    Parameters
    ----------
    metal
        Element of the TM layers.
    stacking
        Stacking of the oxygen layers.
    size
        Repeats along the two in-plane vectors; the height is that of the hexagonal cell.

    Raises
    ------
    ValueError
        If a repeat is not positive.

    Examples
    --------
    >>> layered("Co", stacking=Stacking.O2).formula
    'Li8 Co8 O16'
    """
    if min(size) < 1:
        raise ValueError(f"{size} repeats are not possible; use at least 1 of each")
    # The hexagonal cell of a rhombohedral stacking has three of its repeats, straight above.
    shift = 3 * np.array(LAYER_SEQUENCES[stacking].repeat_shift)
    turned = np.any(shift % 3)
    wrapped = np.rint(3 * (shift / 3 - np.round(shift / 3))).astype(int)
    third = [-wrapped[0], -wrapped[1], 3] if turned else [0, 0, 1]
    matrix = np.array([[size[0], 0, 0], [0, size[1], 0], third])
    return from_occupation(layered_reference(layered_frame(stacking, matrix), metal))


def spinel(metal: str, *, lithium: str = "Li", edge: float = 8.24) -> BuiltStructure:
    """Build the spinel LiM2O4, the metal on 16d and Li on 8a of Fd-3m.

    Parameters
    ----------
    metal
        Element on the octahedra.
    lithium
        Element on the tetrahedra.
    edge
        Edge of the cubic cell, Å.

    Raises
    ------
    ValueError
        If the edge is not positive.

    Examples
    --------
    >>> spinel("Mn").space_group
    'Fd-3m (227)'
    """
    return from_occupation(lithium_spinel(cubic_frame(edge), metal, lithium))


def oxide_spinel(metal: str, *, edge: float = 8.08) -> BuiltStructure:
    """Build the spinel M3O4, the metal on 16d and 8a of Fd-3m.

    Parameters
    ----------
    metal
        Element on octahedra and tetrahedra.
    edge
        Edge of the cubic cell, Å.

    Raises
    ------
    ValueError
        If the edge is not positive.

    Examples
    --------
    >>> oxide_spinel("Co").formula
    'Co24 O32'
    """
    return from_occupation(metal_spinel(cubic_frame(edge), metal))


def monoxide(metal: str, *, edge: float = 8.35) -> BuiltStructure:
    """Build the rock salt MO on the anions of the layered oxide.

    Parameters
    ----------
    metal
        Element on all octahedra.
    edge
        Edge of the cell of 32 O, twice the usual cubic cell, Å.

    Raises
    ------
    ValueError
        If the edge is not positive.

    Examples
    --------
    >>> monoxide("Ni").space_group
    'Fm-3m (225)'
    """
    return from_occupation(metal_monoxide(cubic_frame(edge), metal))


def disordered_rock_salt(
    formula: str,
    *,
    size: int = 2,
    edge: float = 4.15,
    seed: int = 0,
    oxidation_states: Mapping[str, float] | None = None,
    short_range_order: Mapping[str, tuple[float, ...]] | None = None,
    parent: BuiltStructure | None = None,
    order: float | None = None,
) -> BuiltStructure:
    """Build a disordered rock salt, all cations an SQS on one sublattice.

    Parameters
    ----------
    formula
        Composition, such as Li1.2Mn0.4Ti0.4O2.
    size
        Cubic cells along every edge.
    edge
        Edge of the cubic cell, Å.
    seed
        Seed of the SQS.
    oxidation_states
        Oxidation states of the charge balance that differ from the stated ones, as Mn=3.5,Ni=2.
    short_range_order
        Warren-Cowley parameters by shell, the nearest first, as Mn-Ni=-0.2/0.1: negative where
        the pair is preferred; what is not given is random.
    parent
        Ordered crystal that the order is taken from, together with an order.
    order
        How far the cations are ordered, from 0 (random) to 1 (as in the parent).

    Raises
    ------
    CompositionError
        If the composition cannot be read.
    ValueError
        If the size or the edge is not positive, or the cell cannot have the order.

    Examples
    --------
    >>> disordered_rock_salt("Li1.25Mn0.25Ti0.5O2", edge=4.15).formula
    'Li20 Ti8 Mn4 O32'
    """
    if size < 1:
        raise ValueError(f"{size} cubic cells are not possible; use at least 1")
    frame = rock_salt_frame(size * CUBIC_CELL, cubic_lattice_parameter=edge)
    n_formula_units = len(frame.sites(SiteKind.CATION_OCT)) // 2
    composition = realise(parse_composition(formula), n_formula_units, oxidation_states)
    _check_present(composition, "size")
    target = _target(short_range_order, parent, order)
    model = fill_rock_salt(frame, composition, seed, target)
    return from_occupation(
        model.occupation,
        composition=composition,
        oxidation_states=oxidation_states,
        remarks=_quasirandom(model.order, target),
    )


def basal(
    host: BuiltStructure,
    *,
    layers: int = 3,
    termination: BasalTermination = BasalTermination.HALF_LITHIUM,
    vacuum: float = 15.0,
) -> BuiltStructure:
    """Cut a slab of the basal face (001), ions on ideal positions.

    Parameters
    ----------
    host
        Layered crystal to cut.
    layers
        TM layers of the slab.
    termination
        What the faces end with.
    vacuum
        Distance to the next slab, Å.

    Raises
    ------
    ValueError
        If the host has no layers, a number is not positive, or half a Li layer is no whole number.

    Examples
    --------
    >>> basal(layered("Co"), layers=2).remarks["stoichiometric, symmetric, polar"]
    'yes, yes, no'
    """
    return _slab(basal_slab(_occupation(host), layers, termination=termination, vacuum=vacuum))


def edge(host: BuiltStructure, *, rows: int = 6, vacuum: float = 15.0) -> BuiltStructure:
    """Cut a slab of the edge face (010), where Li leaves, ions on ideal positions.

    Parameters
    ----------
    host
        Layered crystal to cut.
    rows
        Close-packed rows of the TM layer across the slab.
    vacuum
        Distance to the next slab, Å.

    Raises
    ------
    ValueError
        If the host has no layers, a number is not positive, or the rows are no whole periods.

    Examples
    --------
    >>> edge(layered("Co", size=(1, 1)), rows=6).formula
    'Li18 Co18 O36'
    """
    return _slab(edge_slab(_occupation(host), rows, vacuum=vacuum))


def _occupation(host: BuiltStructure) -> Occupation:
    if host.occupation is None:
        raise ValueError("a crystal without a frame has no sites to cut or to order by")
    return host.occupation


def _slab(slab: Slab) -> BuiltStructure:
    answers = (slab.stoichiometric, slab.symmetric, slab.polar)
    built = from_occupation(slab.occupation)
    return replace(
        built,
        remarks={
            "face": f"({slab.face}), {slab.termination}",
            "thickness": f"{slab.thickness:.2f} Å, vacuum {vacuum_width(built.structure):.2f} Å "
            f"(whole lattice planes, at least {slab.vacuum:g} Å)",
            "stoichiometric, symmetric, polar": ", ".join("yes" if a else "no" for a in answers),
            "dipole per area": f"{slab.dipole:.4f} e/Å",
        },
    )


def _check_present(composition: RealisedComposition, larger: str) -> None:
    """Refuse a cell that is too small to hold every species of its formula."""
    absent = [
        symbol
        for symbol, amount in composition.target.items()
        if amount > 0 and not composition.realised.get(symbol)
    ]
    if absent:
        raise CompositionError(
            f"a cell of {composition.n_formula_units} formula units is too small to hold "
            f"{', '.join(absent)}; use a larger {larger}"
        )


def _lithium_order(superlattice: Superlattice, target: CorrelationTarget) -> str:
    together = superlattice is Superlattice.RANDOM and target != RANDOM
    return "Li and TM ordered together" if together else superlattice.value


def _target(
    short_range_order: Mapping[str, tuple[float, ...]] | None,
    parent: BuiltStructure | None,
    order: float | None,
) -> CorrelationTarget:
    """What the correlations of the cations should be; random if nothing is asked for."""
    if (parent is None) != (order is None):
        raise ValueError(
            "parent and order go together: an ordered crystal, and how far from random (0) to it "
            "(1) the cations are ordered"
        )
    if parent is not None and order is not None:
        if short_range_order is not None:
            raise ValueError("give a short-range order or an ordered parent, not both")
        return OrderTowards(_occupation(parent), order)
    return RANDOM if short_range_order is None else NeighbourOrder(short_range_order)


def _signed(number: float) -> str:
    """Two decimals and a sign, which zero has no other than plus."""
    return f"{round(number, 2) + 0.0:+.2f}"


def _quasirandom(order: QuasirandomOrder, target: CorrelationTarget = RANDOM) -> dict[str, str]:
    if len(set(order.species)) < 2:
        return {}
    if target == RANDOM:
        return {"SQS objective": f"{order.objective:.2g} (0 is random to the last shell)"}
    shells = {
        f"Warren-Cowley {pair}, reached (asked for)": ", ".join(
            f"{_signed(alpha)} ({_signed(asked)}) at {distance:.2f} Å"
            for alpha, asked, distance in zip(
                alphas, order.target_order[pair], order.shell_distances, strict=True
            )
        )
        for pair, alphas in order.short_range_order.items()
        if len(set(pair.split("-"))) > 1
    }
    return {"SQS objective": f"{order.objective:.2g} (0 is the order asked for)", **shells}
