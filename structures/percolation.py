"""Channels for Li through the tetrahedra of a frame, and whether they percolate.

Li hops between two octahedra through a tetrahedron that shares a face with both. The TM on the
other octahedra that share a face with it make it a 0-TM, 1-TM or 2-TM channel: Lee et al.,
Science 343, 519 (2014); Urban, Lee, Ceder, Adv. Energy Mater. 4, 1400478 (2014). Every cation
other than Li counts as TM here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .frame import OCTAHEDRA, TETRAHEDRA, Neighbour, Sharing
from .occupation import Occupation

#: Inverse exponent of the correlation length in three dimensions: the mean Li content at which a
#: cell of edge L first percolates differs from the limit by a term in L**-1.141. Wang et al.,
#: Phys. Rev. E 87, 052107 (2013).
_INVERSE_NU = 1.141
#: A lattice image (i, j, k) is kept as the one integer (i * base + j) * base + k.
_BASE = 2**20
_PLACES = np.array([_BASE**2, _BASE, 1])


@dataclass(frozen=True)
class AccessibleLithium:
    """Li on the networks that percolate through a periodic cell.

    Attributes
    ----------
    max_tm
        Most TM next to a channel of the network: 0 for 0-TM channels only.
    n_lithium, n_accessible
        Li on octahedra, and those of them on a percolating network.
    dimensions
        Dimensions in which the widest network percolates, 0 to 3.
    """

    max_tm: int
    n_lithium: int
    n_accessible: int
    dimensions: int

    @property
    def fraction(self) -> float:
        """Accessible share of the Li; 0 without Li."""
        return self.n_accessible / self.n_lithium if self.n_lithium else 0.0


@dataclass(frozen=True)
class PercolationThreshold:
    """Li content at which a random rock salt percolates.

    Attributes
    ----------
    lithium
        Li per formula unit Li(1+x)M(1-x)O2 in the limit of large cells.
    error
        Its standard error from the scatter of the runs.
    max_tm
        Most TM next to a channel.
    sizes
        Edges of the cubic cells, in lattice parameters (four cations each).
    by_size, errors
        Mean Li content at which cells of every size first percolate, and its standard error.
    n_runs, seed
        Runs for every size, and the seed of them all.
    """

    lithium: float
    error: float
    max_tm: int
    sizes: tuple[int, ...]
    by_size: tuple[float, ...]
    errors: tuple[float, ...]
    n_runs: int
    seed: int


def count_channels(occupation: Occupation) -> Counter[int]:
    """Number of 0-TM, 1-TM and 2-TM channels, ``{TM next to it: channels}``.

    A channel is an empty tetrahedron that shares faces with two or more octahedra that hold Li
    or nothing.

    Examples
    --------
    The tetrahedra between the Li of ordered LiCoO2 have one Co next to them:

    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> count_channels(build_pristine("LiCoO2", min_atoms=12, max_atoms=12).occupation)
    Counter({1: 6})
    """
    return Counter(n_tm for n_tm, _ in _channels(occupation))


def accessible_lithium(occupation: Occupation, max_tm: int = 0) -> AccessibleLithium:
    """Li on networks of channels that percolate through the periodic cell.

    A network percolates where a path along it leads from an octahedron to a periodic image of
    the same octahedron; octahedra without Li carry it too.

    Parameters
    ----------
    occupation
        Occupation of any frame with tetrahedra.
    max_tm
        Most TM next to a channel of the network, 0 to 2.

    Raises
    ------
    ValueError
        If `max_tm` is not 0, 1 or 2.

    Examples
    --------
    LiCoO2 has no 0-TM channel; over 1-TM channels all Li moves in two dimensions:

    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> occupation = build_pristine("LiCoO2", min_atoms=72, max_atoms=72).occupation
    >>> [(a.fraction, a.dimensions) for a in (accessible_lithium(occupation, n) for n in (0, 1))]
    [(0.0, 0), (1.0, 2)]
    """
    _check_max_tm(max_tm)
    links = [
        (first.site, second.site, *np.subtract(second.image, first.image))
        for n_tm, octahedra in _channels(occupation)
        if n_tm <= max_tm
        for first, second in pairwise(octahedra)
    ]
    table = np.array(links, dtype=np.int64).reshape(-1, 5)
    roots, loops = _connect(len(occupation.frame), table[:, :2], _packed(table[:, 2:]))
    wraps: dict[int, list[NDArray[np.int64]]] = {}
    for link in np.flatnonzero(loops):
        wraps.setdefault(int(roots[table[link, 0]]), []).append(_unpacked(int(loops[link])))
    lithium = occupation.sites_of("Li", *OCTAHEDRA)
    return AccessibleLithium(
        max_tm=max_tm,
        n_lithium=len(lithium),
        n_accessible=sum(int(roots[site]) in wraps for site in lithium),
        dimensions=max((int(np.linalg.matrix_rank(v)) for v in wraps.values()), default=0),
    )


def percolation_threshold(
    max_tm: int = 0,
    *,
    sizes: Sequence[int] = (8, 12, 16, 24),
    n_runs: int = 200,
    seed: int = 0,
) -> PercolationThreshold:
    """Li content at which the channels of a random rock salt percolate, by Monte Carlo.

    Cations of a cubic cell turn into Li one by one in random order until the channels connect an
    octahedron with its own periodic image (Newman and Ziff, Phys. Rev. Lett. 85, 4104 (2000)).
    The mean Li content of that moment is extrapolated to large cells.

    Parameters
    ----------
    max_tm
        Most TM next to a channel, 0 to 2. With 2 it is site percolation on the face-centred cubic
        lattice.
    sizes
        Edges of the cubic cells, in lattice parameters; two different ones at least.
    n_runs
        Runs for every size.
    seed
        Seed of all runs.

    Raises
    ------
    ValueError
        If `max_tm` is not 0, 1 or 2, a size is below 2, there are fewer than two sizes, or fewer
        than two runs.

    Examples
    --------
    >>> threshold = percolation_threshold(0, sizes=(6, 8, 12), n_runs=100, seed=1)
    >>> abs(threshold.lithium - 1.09) < 0.03
    True
    """
    _check_max_tm(max_tm)
    if len(set(sizes)) < 2 or min(sizes) < 2:
        raise ValueError(f"extrapolation needs two or more different sizes from 2 on, got {sizes}")
    if n_runs < 2:
        raise ValueError(f"n_runs must be at least 2, got {n_runs}")
    means, errors = [], []
    for size in sizes:
        members, images = rock_salt_tetrahedra(size)
        n_sites, steps = 4 * size**3, _packed(images)
        around = np.argsort(members, axis=None, kind="stable").reshape(n_sites, 8) // 4
        random = np.random.default_rng([seed, size])
        lithium = [
            2 * _first_wrap(random.permutation(n_sites), members, steps, around, max_tm) / n_sites
            for _ in range(n_runs)
        ]
        means.append(float(np.mean(lithium)))
        errors.append(float(np.std(lithium, ddof=1) / np.sqrt(n_runs)))
    (_, limit), covariance = np.polyfit(
        np.array(sizes, dtype=float) ** -_INVERSE_NU,
        means,
        1,
        w=1 / np.array(errors),
        cov="unscaled",
    )
    return PercolationThreshold(
        lithium=float(limit),
        error=float(np.sqrt(covariance[1, 1])),
        max_tm=max_tm,
        sizes=tuple(sizes),
        by_size=tuple(means),
        errors=tuple(errors),
        n_runs=n_runs,
        seed=seed,
    )


def rock_salt_tetrahedra(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Octahedra around every tetrahedron of a cubic rock salt cell.

    Parameters
    ----------
    size
        Edge of the cell in lattice parameters.

    Returns
    -------
    members
        The four octahedra of every tetrahedron, shape (8 size**3, 4).
    images
        Lattice images that they lie in, shape (8 size**3, 4, 3).
    """
    edge = 2 * size  # cations sit where the half-integer coordinates add up to an even number
    grid = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    cations = grid[grid.sum(axis=1) % 2 == 0]
    corner = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]])
    positions = np.concatenate([cations[:, None] + corner, cations[:, None] - corner])
    images, (x, y, z) = positions // edge, np.moveaxis(positions % edge, -1, 0)
    return (x * edge + y) * size + z // 2, images


def _check_max_tm(max_tm: int) -> None:
    if max_tm not in (0, 1, 2):
        raise ValueError(f"a channel has 0, 1 or 2 TM next to it; max_tm was {max_tm}")


def _channels(occupation: Occupation) -> Iterator[tuple[int, list[Neighbour]]]:
    """TM next to every channel, and the octahedra that it connects."""
    frame = occupation.frame
    for tetrahedron in (int(site) for site in frame.sites(*TETRAHEDRA)):
        if occupation.species[tetrahedron] is not None:
            continue
        around = frame.neighbours(tetrahedron, Sharing.FACE, *OCTAHEDRA)
        free = [n for n in around if occupation.species[n.site] in (None, "Li")]
        if len(free) >= 2:
            yield len(around) - len(free), free


def _packed(images: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lattice images (..., 3) as single integers, which add up as the images do."""
    return images @ _PLACES


def _unpacked(packed: int) -> NDArray[np.int64]:
    """Lattice image of a packed one, shape (3,)."""
    image = np.empty(3, dtype=np.int64)
    for axis in (2, 1):
        image[axis] = (packed + _BASE // 2) % _BASE - _BASE // 2
        packed = (packed - int(image[axis])) // _BASE
    image[0] = packed
    return image


@njit(nogil=True)
def _root(parents: Any, offsets: Any, site: int) -> int:
    """Root of a site's cluster; its offset becomes the image of the site seen from the root."""
    root, total = site, 0
    while parents[root] != root:
        total += offsets[root]
        root = parents[root]
    while parents[site] != root and site != root:
        above, step = parents[site], offsets[site]
        parents[site], offsets[site] = root, total
        site, total = above, total - step
    return root


@njit(nogil=True)
def _join(parents: Any, offsets: Any, sizes: Any, a: int, b: int, step: int) -> int:
    """Connect b with a, `step` images away; returns the loop that closes, 0 if none does.

    Offsets tell in which image a site lies when its cluster is walked from the root: a site that
    is reached in two images lies on a loop around the cell (Machta et al., Phys. Rev. E 54, 1332
    (1996)).
    """
    root_a, root_b = _root(parents, offsets, a), _root(parents, offsets, b)
    loop = offsets[a] + step - offsets[b]
    if root_a == root_b:
        return loop
    if sizes[root_a] < sizes[root_b]:
        root_a, root_b, loop = root_b, root_a, -loop
    parents[root_b], offsets[root_b] = root_a, loop
    sizes[root_a] += sizes[root_b]
    return 0


@njit(nogil=True)
def _connect(n_sites: int, pairs: Any, steps: Any) -> Any:
    """Roots of all sites, shape (n_sites,), and the loop that every pair closes, (n_pairs,)."""
    parents, sizes = np.arange(n_sites), np.ones(n_sites, np.int64)
    offsets, loops = np.zeros(n_sites, np.int64), np.zeros(len(pairs), np.int64)
    for i in range(len(pairs)):
        loops[i] = _join(parents, offsets, sizes, pairs[i, 0], pairs[i, 1], steps[i])
    for site in range(n_sites):
        _root(parents, offsets, site)
    return parents, loops


@njit(nogil=True)
def _first_wrap(order: Any, members: Any, images: Any, around: Any, max_tm: int) -> int:
    """Number of Li at which the channels first close a loop around the cell."""
    n_sites = len(order)
    parents, sizes = np.arange(n_sites), np.ones(n_sites, np.int64)
    offsets, counts = np.zeros(n_sites, np.int64), np.zeros(len(members), np.int64)
    lithium = np.zeros(n_sites, np.bool_)
    for number in range(n_sites):
        lithium[order[number]] = True
        for tetrahedron in around[order[number]]:
            counts[tetrahedron] += 1
            if counts[tetrahedron] < 4 - max_tm:
                continue
            first = -1
            for i in range(4):
                if not lithium[members[tetrahedron, i]]:
                    continue
                if first < 0:
                    first = i
                    continue
                step = images[tetrahedron, i] - images[tetrahedron, first]
                a, b = members[tetrahedron, first], members[tetrahedron, i]
                if _join(parents, offsets, sizes, a, b, step) != 0:
                    return number + 1
    return n_sites
