"""Rotational stacking faults of the honeycomb: the order of Li from one TM layer to the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .composition import CompositionError, RealisedComposition, parse_composition, realise
from .frame import Frame, SiteKind, layered_frame, lithium_layer_sites, primitive_lattice
from .occupation import Occupation, empty_frame
from .sqs import QuasirandomOrder, anneal_quasirandom
from .stacking import LAYER_SEQUENCES, Stacking
from .superlattice import layer_shifts, spread_subset

#: Directions in which the honeycomb can shift from one TM layer to the next, degrees.
FAULT_ANGLES = (0, 120, 240)


@dataclass(frozen=True)
class FaultedHoneycomb:
    """A layered oxide whose honeycomb is stacked along a stated sequence of directions.

    Attributes
    ----------
    occupation
        Species on the sites of the frame.
    composition
        Target, realised, deviation and charge balance.
    order
        SQS result for the species of the TM layer other than Li.
    angles
        Direction of the shift from TM layer k to k + 1, one for every interface, degrees,
        counter-clockwise seen from above against the shift of the perfect crystal. The last
        interface joins the top layer to the periodic image of the bottom layer.
    """

    occupation: Occupation
    composition: RealisedComposition
    order: QuasirandomOrder
    angles: tuple[int, ...]

    @property
    def rotated(self) -> float:
        """Share of the interfaces shifted along 120 or 240 degrees, as drawn at a density.

        It counts against 0 degrees and not against the neighbours: with one direction everywhere
        the crystal is perfect, whichever it is.
        """
        return sum(angle != 0 for angle in self.angles) / len(self.angles)

    @property
    def turns(self) -> float:
        """Share of the interfaces whose direction differs from that of the interface below.

        0 is the perfect crystal; an interface turned alone makes two turns.
        """
        below = (self.angles[-1], *self.angles[:-1])
        return sum(a != b for a, b in zip(self.angles, below, strict=True)) / len(self.angles)


def draw_fault_angles(n_layers: int, density: float, seed: int) -> tuple[int, ...]:
    """Random sequence of directions, a stated share of them not 0 degrees.

    The nearest whole number of interfaces is rotated; which ones, and whether by 120 or 240
    degrees, is drawn with equal probability, as in the recursive models that powder patterns of
    Li2MnO3 are fitted with (Bréger et al., J. Solid State Chem. 178, 2575 (2005)).

    Parameters
    ----------
    n_layers
        TM layers of the cell, equal to its interfaces.
    density
        Share of the interfaces that are rotated, 0 to 1. At 1 the directions are 120 and 240
        degrees at random.
    seed
        Seed of the random numbers.

    Raises
    ------
    ValueError
        If the density is outside [0, 1] or there are fewer than two layers.

    Examples
    --------
    >>> angles = draw_fault_angles(8, 0.25, seed=1)
    >>> len(angles), sum(angle != 0 for angle in angles)
    (8, 2)
    """
    if not 0 <= density <= 1:
        raise ValueError(f"a fault density of {density} is not possible; allowed: 0 to 1")
    _check_layers(n_layers)
    random = np.random.default_rng(seed)
    angles = np.zeros(n_layers, dtype=np.int64)
    faulted = random.choice(n_layers, round(density * n_layers), replace=False)
    angles[faulted] = random.choice(FAULT_ANGLES[1:], len(faulted))
    return tuple(int(angle) for angle in angles)


def faulted_frame(
    stacking: Stacking, angles: Sequence[int], in_plane: tuple[int, int] = (1, 1)
) -> Frame:
    """Frame with as many TM layers as directions, whose third vector closes the sequence.

    Parameters
    ----------
    stacking
        Oxygen stacking.
    angles
        Direction of the shift at every interface, degrees.
    in_plane
        Repeats of the honeycomb along its two in-plane vectors (2, 1) and (1, 2).

    Raises
    ------
    ValueError
        If an angle is not 0, 120 or 240, or the number of layers does not fit the stacking.

    Examples
    --------
    >>> faulted_frame(Stacking.O3, (0, 120, 240)).n_layers
    3
    """
    if min(in_plane) < 1:
        raise ValueError(f"{in_plane} repeats of the honeycomb; at least 1 of each is needed")
    slabs = len(LAYER_SEQUENCES[stacking].slabs)
    _check_layers(len(angles))
    if len(angles) % slabs:
        raise ValueError(
            f"{len(angles)} layers do not make whole repeats of {stacking.value}; "
            f"give a multiple of {slabs} angles"
        )
    honeycomb = np.array([[2, 1, 0], [1, 2, 0], [0, 0, 1]])
    matrix = np.diag([*in_plane, len(angles) // slabs]) @ honeycomb
    single = layered_frame(stacking, np.diag([1, 1, len(angles) // slabs]))
    colour = sum(_colour_steps(single, angles)) % 3
    matrix[2] = _shortest_closure(stacking, matrix, colour)
    return layered_frame(stacking, matrix)


def honeycomb_colours(frame: Frame, angles: Sequence[int]) -> NDArray[np.int64]:
    """Which of the three sqrt(3) x sqrt(3) sublattices every ``tm_oct`` belongs to.

    From one TM layer to the next the sublattices shift by one third of their period. Three shifts
    are equivalent by rotation: for Li on one sublattice, the same shift at every interface of O3
    is the C2/m crystal, two in turn C2/c, three in turn P3_112 (Bréger et al., J. Solid State
    Chem. 178, 2575 (2005)).

    Parameters
    ----------
    frame
        Frame whose first two vectors lie in the layers; :func:`faulted_frame` makes one that
        closes any sequence.
    angles
        Direction of the shift from every TM layer to the one above, degrees.

    Returns
    -------
    colours
        0 (the centres of the honeycomb), 1 or 2 for every site of ``frame.sites(TM_OCT)``.

    Raises
    ------
    ValueError
        If the frame has no honeycomb, or too few layers, or the sequence does not close on it.

    Examples
    --------
    >>> frame = faulted_frame(Stacking.O3, (0, 120))
    >>> np.bincount(honeycomb_colours(frame, (0, 120))).tolist()
    [2, 2, 2]
    """
    matrix = np.array(frame.matrix)
    if not frame.n_layers:
        raise ValueError(f"a frame of {frame.label} has no TM layers, hence no honeycomb")
    if matrix[:2, 2].any():
        raise ValueError(
            f"the first two vectors of supercell {matrix.tolist()} must lie in the layers "
            "(third component 0) to stack the honeycomb layer by layer"
        )
    if (matrix[:2, :2].sum(axis=1) % 3).any():
        raise ValueError(
            f"supercell {matrix.tolist()} has no honeycomb: its in-plane vectors are not "
            "commensurate with it; use multiples of (2, 1) and (1, 2)"
        )
    _check_layers(frame.n_layers)
    if len(angles) != frame.n_layers:
        raise ValueError(
            f"{len(angles)} angles for {frame.n_layers} interfaces; a cell of {frame.n_layers} TM "
            "layers has one interface above each of them"
        )
    steps = _colour_steps(frame, angles)
    if sum(steps) % 3 != matrix[2, :2].sum() % 3:
        raise ValueError(
            f"the sequence {tuple(angles)} does not return to the bottom layer of supercell "
            f"{matrix.tolist()}; change one angle or use faulted_frame, which closes any sequence"
        )
    origins = np.concatenate([[0], np.cumsum(steps)[:-1]])
    sites = frame.sites(SiteKind.TM_OCT)
    return (frame.in_plane[sites].sum(axis=1) - origins[frame.layers[sites]]) % 3


def build_faulted_honeycomb(
    formula: str,
    angles: Sequence[int],
    *,
    stacking: Stacking = Stacking.O3,
    in_plane: tuple[int, int] = (1, 1),
    seed: int = 0,
    oxidation_states: Mapping[str, float] | None = None,
) -> FaultedHoneycomb:
    """Build a layered oxide with rotational stacking faults of the honeycomb.

    Parameters
    ----------
    formula
        Composition, such as ``Li2MnO3``; less Li than honeycomb centres takes a spread subset.
    angles
        Direction of the shift at every interface, degrees (see :class:`FaultedHoneycomb`); their
        number is the number of TM layers. :func:`draw_fault_angles` draws them at a density.
    stacking
        Oxygen stacking.
    in_plane
        Repeats of the honeycomb along its two in-plane vectors.
    seed
        Seed of the Li subset and the SQS.
    oxidation_states
        Replaces or extends the oxidation states of the charge balance.

    Raises
    ------
    CompositionError
        If the composition cannot be read, or has more Li than honeycomb centres.
    ValueError
        If the stacking has no rotational faults or the angles do not describe any.

    Examples
    --------
    >>> model = build_faulted_honeycomb("Li2MnO3", (0, 120, 240))
    >>> model.occupation.to_structure().get_space_group_info(symprec=0.01)[0]
    'P3_112'
    """
    frame = faulted_frame(stacking, angles, in_plane)
    sites = frame.sites(SiteKind.TM_OCT)
    centres = sites[honeycomb_colours(frame, angles) == 0]
    composition = realise(parse_composition(formula), len(sites), oxidation_states)
    counts = dict(composition.tm_layer_counts)
    absent = [symbol for symbol, n in counts.items() if not n]
    if absent:
        raise CompositionError(
            f"a cell of {len(sites)} formula units is too small to hold {', '.join(absent)}; use "
            "more layers, or more honeycombs in the plane"
        )
    n_lithium = counts.pop("Li", 0)
    if n_lithium > len(centres):
        raise CompositionError(
            f"{formula!r} puts {n_lithium} Li into TM layers with {len(centres)} honeycomb "
            f"centres; the nearest that fits is {len(centres)}: use less Li"
        )
    lithium = spread_subset(frame, centres, n_lithium, seed)
    rest = np.setdiff1d(sites, lithium)
    order = anneal_quasirandom(frame, [int(site) for site in rest], counts, seed=seed)
    occupation = empty_frame(frame).with_species(
        {int(site): "Li" for site in (*lithium_layer_sites(frame), *lithium)}
        | dict(zip((int(site) for site in rest), order.species, strict=True))
    )
    return FaultedHoneycomb(occupation, composition, order, tuple(int(a) for a in angles))


def _check_layers(n_layers: int) -> None:
    if n_layers < 2:
        raise ValueError(
            f"a cell with {n_layers} TM layer has no stacking to fault; use at least 2 layers"
        )


def _colour_steps(frame: Frame, angles: Sequence[int]) -> list[int]:
    """How far the label (i + j) mod 3 of the centres moves at every interface.

    Turning the shift s from one layer to the next by 120 degrees adds an in-plane vector to it.
    """
    unknown = sorted(set(angles) - set(FAULT_ANGLES))
    if unknown:
        raise ValueError(f"fault angles {unknown} are not possible; allowed: {FAULT_ANGLES}")
    basis = frame.a * np.array([[1.0, 0.0], [-0.5, np.sqrt(0.75)]])
    turn = np.array([[0, 1], [-1, -1]])  # a1 -> a2 -> -(a1 + a2)
    shifts = layer_shifts(frame) @ np.linalg.inv(basis)
    if np.any(np.linalg.norm(shifts, axis=1) < 1e-6):
        raise ValueError(
            f"TM layers of {frame.stacking.value} lie right above each other: turning the "
            "honeycomb does not move it, so there are no rotational faults; use O3 or O2"
        )
    steps = []
    for layer, angle in enumerate(angles):
        shift = shifts[layer % len(shifts)]
        turned = shift @ np.linalg.matrix_power(turn, FAULT_ANGLES.index(angle))
        steps.append(int(np.round(turned - shift).sum()) % 3)
    return steps


def _shortest_closure(
    stacking: Stacking, matrix: NDArray[np.int64], colour: int
) -> NDArray[np.int64]:
    """Third supercell vector of a given label colour with the smallest lateral part."""
    primitive = primitive_lattice(stacking)
    reach = 2 * int(np.abs(matrix).max()) + 2
    candidates = [
        np.array([i, j, matrix[2, 2]])
        for i in range(-reach, reach + 1)
        for j in range(-reach, reach + 1)
        if (i + j - colour) % 3 == 0
    ]
    return min(candidates, key=lambda v: round(float(np.linalg.norm((v @ primitive)[:2])), 6))
