"""Coherent two-phase cells: Li2MnO3 and LiMO2 domains side by side in every TM layer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .composition import (
    CompositionError,
    RealisedComposition,
    TargetComposition,
    parse_composition,
    realise,
)
from .frame import SiteKind, layered_frame, lithium_layer_sites
from .occupation import Occupation, empty_frame
from .sqs import QuasirandomOrder, anneal_quasirandom
from .stacking import Stacking


@dataclass(frozen=True)
class TwoPhaseModel:
    """A coherent two-phase cell, x Li2MnO3 (1 - x) LiMO2.

    The domains are stripes along a1 that run through the whole cell and share the close-packed
    planes: (001) of the monoclinic Li2MnO3 is (003) of the hexagonal LiMO2.

    Attributes
    ----------
    occupation
        Species on the sites of the frame.
    rich_sites, poor_sites
        TM-layer octahedra of the Li2MnO3 and of the LiMO2 domain.
    rich_rows, poor_rows
        Close-packed rows of the TM layer across each domain.
    target_x, x
        Share of Li2MnO3 asked for, and that of the cell, in formula units.
    composition
        Whole-atom composition of the LiMO2 domain against the formula asked for.
    order
        SQS result for the species of the LiMO2 domain.
    """

    occupation: Occupation
    rich_sites: tuple[int, ...]
    poor_sites: tuple[int, ...]
    rich_rows: int
    poor_rows: int
    target_x: float
    x: float
    composition: RealisedComposition
    order: QuasirandomOrder

    @property
    def rich_width(self) -> float:
        """Width of the Li2MnO3 domain across its walls, Å."""
        return self.rich_rows * np.sqrt(0.75) * self.occupation.frame.a

    @property
    def poor_width(self) -> float:
        """Width of the LiMO2 domain across its walls, Å."""
        return self.poor_rows * np.sqrt(0.75) * self.occupation.frame.a


def build_two_phase(
    x: float,
    poor_phase: str,
    *,
    rich_rows: int,
    stacking: Stacking = Stacking.O3,
    columns: int = 1,
    n_repeats: int = 1,
    rich_metal: str = "Mn",
    seed: int = 0,
    oxidation_states: Mapping[str, float] | None = None,
) -> TwoPhaseModel:
    """Build a coherent two-phase cell, x Li2MnO3 (1 - x) LiMO2.

    The width of the Li2MnO3 domain is given; that of the LiMO2 domain follows from x to the
    nearest whole row, and the result reports the x that comes out. This is the two-phase model
    (Yu et al., Angew. Chem. Int. Ed. 52, 5969 (2013)); the literature has the solid solution too
    (Jarvis et al., Chem. Mater. 23, 3614 (2011)), which ``build_pristine`` makes.

    Parameters
    ----------
    x
        Share of Li2MnO3 in formula units, between 0 and 1.
    poor_phase
        Formula of the LiMO2 domain, such as ``LiNi0.5Mn0.5O2``.
    rich_rows
        Close-packed rows across the Li2MnO3 domain, at least 1.
    stacking
        Oxygen stacking.
    columns
        Honeycomb periods of 3 a1 along the domain walls.
    n_repeats
        Repeats of the stacking.
    rich_metal
        Metal of the Li2MnO3 domain.
    seed
        Seed of the SQS of the LiMO2 domain.
    oxidation_states
        Replaces or extends the oxidation states of the charge balance.

    Raises
    ------
    ValueError
        If x, a width or a repeat is out of range.
    CompositionError
        If the LiMO2 formula has Li in its TM layer or its domain is too small for it, or no whole
        number of rows comes near x.

    Examples
    --------
    >>> model = build_two_phase(0.5, "LiCoO2", rich_rows=6)
    >>> model.x, model.poor_rows, sorted(model.occupation.count().items())
    (0.5, 4, [('Co', 12), ('Li', 36), ('Mn', 12), ('O', 60)])
    """
    poor_rows = _poor_rows(x, rich_rows)
    if columns < 1 or n_repeats < 1:
        raise ValueError(f"columns ({columns}) and n_repeats ({n_repeats}) must be at least 1")
    target = _lithium_free(poor_phase)
    rows = rich_rows + poor_rows
    # The lean of half a period per row keeps the in-plane cell near a rectangle.
    matrix = np.array([[3 * columns, 0, 0], [rows // 2, rows, 0], [0, 0, n_repeats]])
    frame = layered_frame(stacking, matrix)
    sites = frame.sites(SiteKind.TM_OCT)
    in_rich = frame.in_plane[sites][:, 1] < rich_rows
    rich, poor = sites[in_rich], sites[~in_rich]
    composition = realise(target, len(poor), oxidation_states)
    counts = composition.tm_layer_counts
    absent = [symbol for symbol in target.tm_layer if not counts.get(symbol)]
    if absent:
        raise CompositionError(
            f"the LiMO2 domain of {len(poor)} sites is too small for {absent} of {poor_phase!r}; "
            "use more rows, columns or repeats"
        )
    centres = rich[frame.in_plane[rich].sum(axis=1) % 3 == 0]
    order = anneal_quasirandom(frame, [int(site) for site in poor], counts, seed=seed)
    occupation = empty_frame(frame).with_species(
        {int(site): rich_metal for site in rich}
        | {int(site): "Li" for site in (*lithium_layer_sites(frame), *centres)}
        | dict(zip((int(site) for site in poor), order.species, strict=True))
    )
    return TwoPhaseModel(
        occupation=occupation,
        rich_sites=tuple(int(site) for site in rich),
        poor_sites=tuple(int(site) for site in poor),
        rich_rows=rich_rows,
        poor_rows=poor_rows,
        target_x=x,
        x=_share(rich_rows, poor_rows),
        composition=composition,
        order=order,
    )


def _lithium_free(poor_phase: str) -> TargetComposition:
    """TM layer of a LiMO2 formula; amounts rounded to few digits may leave a trace of Li."""
    target = parse_composition(poor_phase)
    if target.tm_layer.get("Li", 0.0) > 0.01:
        raise CompositionError(
            f"{poor_phase!r} has Li in its TM layer; the LiMO2 domain has one Li per two O, such "
            "as LiNi0.5Mn0.5O2"
        )
    metals = {symbol: share for symbol, share in target.tm_layer.items() if symbol != "Li"}
    total = sum(metals.values())
    return TargetComposition(poor_phase, {symbol: n / total for symbol, n in metals.items()})


def _share(rich_rows: int, poor_rows: int) -> float:
    """Formula units of Li2MnO3 over all: 2 of 3 sites of a rich row are one each."""
    return 2 * rich_rows / (2 * rich_rows + 3 * poor_rows)


def _poor_rows(x: float, rich_rows: int) -> int:
    """Rows of LiMO2 that bring the share of Li2MnO3 nearest to x."""
    if rich_rows < 1:
        raise ValueError(f"a domain of {rich_rows} rows is not possible; use at least 1 row")
    if not 0 < x < 1:
        raise ValueError(
            f"x = {x} leaves one phase only; a two-phase cell needs 0 < x < 1 "
            "(Li2MnO3 alone is a honeycomb, LiMO2 alone a layered oxide)"
        )
    exact = 2 * rich_rows * (1 - x) / (3 * x)
    rows = min((int(exact), int(exact) + 1), key=lambda n: abs(_share(rich_rows, n) - x))
    if rows < 1:
        raise CompositionError(
            f"x = {x} leaves {exact:.2f} rows for LiMO2 beside {rich_rows} rows of Li2MnO3; the "
            f"nearest that fits is x = {_share(rich_rows, 1):.3f}: use more rich_rows or less x"
        )
    return rows
