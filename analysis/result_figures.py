"""The obvious figure of every kind of result that can be asked for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from .bonding_figures import MixedLevelsError, bond_strength_figure, labelled_results
from .figures import barrier_figure, lattice_figure, o4_fraction_figure, voltage_figure
from .query import DocumentStore, FilterError, find_barriers, find_bonding, find_states


def _bonds(documents: list) -> Figure:
    try:
        return bond_strength_figure(labelled_results(documents))
    except MixedLevelsError as error:
        raise FilterError(f"{error}; choose one with backend or model") from None


#: How the results of a table are found and drawn.
FIGURES: Mapping[str, tuple[Callable[..., list], Callable[[list], Figure]]] = {
    "barriers": (find_barriers, barrier_figure),
    "coordination": (find_states, o4_fraction_figure),
    "bonding": (find_bonding, _bonds),
    "states": (find_states, voltage_figure),
    "structures": (find_states, lattice_figure),
}


def draw_results(stores: Sequence[DocumentStore], what: str, **filters: Any) -> Figure:
    """Figure of some results.

    Barriers by state and path class, oxygen classes by state, bond length against -ICOHP, voltage
    against Li content, or lattice parameters against Li content.

    Parameters
    ----------
    stores
        Connected stores.
    what
        Name in :data:`FIGURES`.
    **filters
        See :func:`lrlo.analysis.query.allowed_filters`.

    Raises
    ------
    FilterError
        For a kind of result without a figure, a filter that it does not have, or bonding of
        several levels of theory, which share no figure.
    """
    if what not in FIGURES:
        raise FilterError(f"{what} have no figure; allowed: {', '.join(FIGURES)}")
    find, draw = FIGURES[what]
    return draw([result for store in stores for result in find(store, **filters)])
