"""Li/TM superlattices of the transition-metal layer."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from .frame import Frame, SiteKind


class Superlattice(StrEnum):
    """Ordering of Li in the TM layer.

    ``honeycomb``: Li only on centres of the sqrt(3) x sqrt(3) honeycomb, a well-spread subset of
    them where the composition has less Li than centres, so that no two Li are first neighbours.
    ``random``: Li shares the TM layer with the other cations without order (another model: about
    14 % of O4 + O5 is O5 before any charge at Li 0.14).
    """

    HONEYCOMB = "honeycomb"
    RANDOM = "random"


def repeat_vectors(superlattice: Superlattice) -> NDArray[np.int64]:
    """Repeat of the superlattice in primitive vectors (a1, a2, repeat), shape (3, 3)."""
    if superlattice is Superlattice.HONEYCOMB:
        return np.array([[2, 1, 0], [1, 2, 0], [0, 0, 1]])
    return np.eye(3, dtype=np.int64)


def max_lithium_fraction(superlattice: Superlattice) -> float:
    """Largest share of TM-layer sites that Li can take."""
    return 1 / 3 if superlattice is Superlattice.HONEYCOMB else 1.0


def honeycomb_centres(frame: Frame) -> NDArray[np.int64]:
    """TM-layer octahedra that are centres of the sqrt(3) x sqrt(3) honeycomb.

    Centres are stacked along the frame's repeat vector, which for O3 gives the C2/m order of
    Li2MnO3.

    Raises
    ------
    ValueError
        If the supercell is not commensurate with the honeycomb.
    """
    if any((row[0] + row[1]) % 3 for row in frame.matrix):
        raise ValueError(
            f"supercell {[list(r) for r in frame.matrix]} is not commensurate with the honeycomb"
        )
    sites = frame.sites(SiteKind.TM_OCT)
    return sites[frame.in_plane[sites].sum(axis=1) % 3 == 0]


def lithium_sites(
    frame: Frame, superlattice: Superlattice, n_lithium: int, seed: int
) -> tuple[int, ...]:
    """TM-layer sites that Li takes in a superlattice.

    A subset of honeycomb centres is spread out by minimising the sum of inverse fourth powers of
    Li-Li distances with seeded random swaps: short distances weigh most, and cells that hold all
    centres give the full honeycomb.

    Raises
    ------
    ValueError
        If there are fewer sites than Li ions.
    """
    random = np.random.default_rng(seed)
    if superlattice is Superlattice.RANDOM:
        sites = frame.sites(SiteKind.TM_OCT)
        return tuple(sorted(int(s) for s in random.choice(sites, n_lithium, replace=False)))
    centres = honeycomb_centres(frame)
    if n_lithium > len(centres):
        raise ValueError(f"{n_lithium} Li do not fit on {len(centres)} honeycomb centres")
    if n_lithium in (0, len(centres)):
        return tuple(int(s) for s in centres[:n_lithium])
    repulsion = _repulsion(frame, centres)
    chosen = _spread(repulsion, n_lithium, random)
    return tuple(sorted(int(s) for s in centres[chosen]))


def _repulsion(frame: Frame, sites: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum over periodic images of distance**-4 between sites, shape (n, n)."""
    grid = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3)
    frac = frame.frac_coords[sites]
    difference = frac[:, None, None] - frac[None, :, None] + grid
    distance = np.linalg.norm(difference @ frame.lattice, axis=-1)
    distance[distance < 1e-6] = np.inf
    return (distance**-4.0).sum(axis=-1)


def _spread(
    repulsion: NDArray[np.float64], n_chosen: int, random: np.random.Generator, n_starts: int = 8
) -> NDArray[np.int64]:
    """Subset with the smallest total repulsion found by swaps from several random starts."""
    n = len(repulsion)
    best: tuple[float, NDArray[np.int64]] | None = None
    for _ in range(n_starts):
        chosen = random.permutation(n)[:n_chosen]
        while True:
            outside = np.setdiff1d(np.arange(n), chosen)
            field = repulsion[:, chosen].sum(axis=1)
            # Energy change of swapping member i for outsider j; images of i leave with i.
            gain = (
                field[outside][None]
                - repulsion[np.ix_(chosen, outside)]
                - field[chosen][:, None]
                + np.diag(repulsion)[chosen][:, None]
            )
            i, j = np.unravel_index(gain.argmin(), gain.shape)
            if gain[i, j] > -1e-12:
                break
            chosen = chosen.copy()
            chosen[i] = outside[j]
        energy = float(repulsion[np.ix_(chosen, chosen)].sum())
        if best is None or energy < best[0] - 1e-12:
            best = energy, np.sort(chosen)
    assert best is not None
    return best[1]
