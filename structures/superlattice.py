"""Li/TM superlattices of the transition-metal layer."""

from collections.abc import Sequence
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, milp

from .frame import Frame, Sharing, SiteKind
from .stacking import LAYER_SEQUENCES, LETTER_POSITIONS, third_letter


class Superlattice(StrEnum):
    """Ordering of Li in the TM layer.

    The Li fraction is per TM-layer site, with every site of the superlattice taken; the O classes
    are those of the full superlattice with a TM on every other TM-layer site. Less Li than that
    takes a well-spread subset of the same sites. In all but ``random`` no two Li of the TM layer
    are first neighbours, so that each Li makes six O4 and there is no O5.

    ``honeycomb``: sqrt(3) a x sqrt(3) a, Li 1/3, O4 only (Li2MnO3).
    ``ribbon``: rows of Li at a distance of sqrt(3) a, 5/2 a apart, so that every close-packed row
    that crosses them reads Li-TM-TM-TM-TM; Li 1/5, O4 : O3 = 6 : 4. The composition is that of
    ribbon-ordered Na0.6[Li0.2Mn0.8]O2 (House et al., Nature 577, 502 (2020)). Among the two kinds
    of 1/5 stripes of a triangular lattice it is the one without Li-Li first neighbours.
    ``mesh``: 2a x 2a, Li 1/4, TM on a kagome net, O4 : O3 = 6 : 2. "Mesh" has no crystallographic
    definition that is agreed on; this is the project's (the net of the dense layer of spinel).
    ``capped-honeycomb``: the honeycomb with a dopant in the Li layer above its Li, which pins it
    (Luo et al., Nature Energy 8, 1078 (2023)); with a TM cap on every Li all O are O3.
    ``li-poor-honeycomb``: honeycomb centres of which no two are first neighbours (sqrt(3) a); at
    most 3a x 3a, Li 1/9, O4 : O3 = 1 : 2.
    ``random``: Li shares the TM layer with the other cations without order (another model: about
    14 % of O4 + O5 is O5 before any charge at Li 0.14).
    """

    HONEYCOMB = "honeycomb"
    RIBBON = "ribbon"
    MESH = "mesh"
    CAPPED_HONEYCOMB = "capped-honeycomb"
    LI_POOR_HONEYCOMB = "li-poor-honeycomb"
    RANDOM = "random"


_HONEYCOMB_REPEAT = ((2, 1), (1, 2))

#: In-plane repeat of the sites that Li may take, rows in (a1, a2). Li-poor honeycombs choose
#: among all centres of the honeycomb.
_SITE_REPEATS = MappingProxyType(
    {
        Superlattice.HONEYCOMB: _HONEYCOMB_REPEAT,
        Superlattice.RIBBON: ((1, -1), (0, 5)),
        Superlattice.MESH: ((2, 0), (0, 2)),
        Superlattice.CAPPED_HONEYCOMB: _HONEYCOMB_REPEAT,
        Superlattice.LI_POOR_HONEYCOMB: _HONEYCOMB_REPEAT,
        Superlattice.RANDOM: ((1, 0), (0, 1)),
    }
)

#: In-plane repeat of the superlattice with as much Li as it can hold.
_REPEATS = MappingProxyType(
    {**_SITE_REPEATS, Superlattice.LI_POOR_HONEYCOMB: ((3, 0), (0, 3))},
)


def repeat_vectors(superlattice: Superlattice) -> NDArray[np.int64]:
    """Repeat of the superlattice in primitive vectors (a1, a2, repeat), shape (3, 3).

    Examples
    --------
    >>> repeat_vectors(Superlattice.RIBBON).tolist()
    [[1, -1, 0], [0, 5, 0], [0, 0, 1]]
    """
    repeat = np.eye(3, dtype=np.int64)
    repeat[:2, :2] = _REPEATS[superlattice]
    return repeat


def max_lithium_fraction(superlattice: Superlattice) -> float:
    """Largest share of TM-layer sites that Li can take.

    Examples
    --------
    >>> max_lithium_fraction(Superlattice.MESH)
    0.25
    """
    return 1 / round(abs(np.linalg.det(_REPEATS[superlattice])))


def superlattice_sites(frame: Frame, superlattice: Superlattice) -> NDArray[np.int64]:
    """TM-layer octahedra that Li may take in a superlattice, ascending.

    The sites are stacked along the frame's repeat vector, which gives a honeycomb in O3 the C2/m
    order of Li2MnO3.

    Raises
    ------
    ValueError
        If the frame has no layers, or the supercell is not commensurate with the superlattice.

    Examples
    --------
    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.stacking import Stacking
    >>> frame = layered_frame(Stacking.O3, np.diag([4, 2, 1]))
    >>> len(superlattice_sites(frame, Superlattice.MESH)), len(frame.sites(SiteKind.TM_OCT))
    (2, 8)
    """
    if not frame.n_layers:
        raise ValueError(f"a frame of {frame.label} has no TM layers for a {superlattice.value}")
    to_repeat = np.linalg.inv(_SITE_REPEATS[superlattice])

    def on_superlattice(vectors: NDArray[np.int64]) -> NDArray[np.bool_]:
        multiples = vectors @ to_repeat
        return np.all(np.abs(multiples - np.round(multiples)) < 1e-6, axis=1)

    if not on_superlattice(np.array(frame.matrix)[:, :2]).all():
        repeat = repeat_vectors(superlattice).tolist()
        raise ValueError(
            f"supercell {[list(r) for r in frame.matrix]} is not commensurate with the "
            f"{_ordering(superlattice)}; use a multiple of {repeat}"
        )
    sites = frame.sites(SiteKind.TM_OCT)
    return sites[on_superlattice(frame.in_plane[sites])]


def honeycomb_centres(frame: Frame) -> NDArray[np.int64]:
    """TM-layer octahedra that are centres of the sqrt(3) x sqrt(3) honeycomb.

    Raises
    ------
    ValueError
        If the supercell is not commensurate with the honeycomb.

    Examples
    --------
    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.stacking import Stacking
    >>> frame = layered_frame(Stacking.O3, repeat_vectors(Superlattice.HONEYCOMB))
    >>> len(honeycomb_centres(frame))
    1
    """
    return superlattice_sites(frame, Superlattice.HONEYCOMB)


def lithium_sites(
    frame: Frame, superlattice: Superlattice, n_lithium: int, seed: int
) -> tuple[int, ...]:
    """TM-layer sites that Li takes in a superlattice.

    Less Li than the superlattice has sites is spread over them (see :func:`spread_subset`).

    Parameters
    ----------
    frame
        Frame that is commensurate with the superlattice.
    superlattice
        Ordering of Li.
    n_lithium
        Li ions in the TM layers of the whole frame.
    seed
        Seed of the random starts.

    Raises
    ------
    ValueError
        If the superlattice cannot hold that many Li; the message names the nearest number.

    Examples
    --------
    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.stacking import Stacking
    >>> frame = layered_frame(Stacking.O3, np.diag([6, 6, 1]))
    >>> len(lithium_sites(frame, Superlattice.LI_POOR_HONEYCOMB, 4, seed=0))
    4
    """
    sites = superlattice_sites(frame, superlattice)
    if superlattice is Superlattice.LI_POOR_HONEYCOMB:
        return _separated_subset(frame, sites, n_lithium, seed)
    if not 0 <= n_lithium <= len(sites):
        raise ValueError(
            f"{n_lithium} Li do not fit on {len(sites)} sites of the {_ordering(superlattice)}; "
            f"the nearest number that does is {min(max(n_lithium, 0), len(sites))}"
        )
    if superlattice is Superlattice.RANDOM:
        random = np.random.default_rng(seed)
        return tuple(sorted(int(s) for s in random.choice(sites, n_lithium, replace=False)))
    return spread_subset(frame, sites, n_lithium, seed)


def spread_subset(
    frame: Frame, sites: Sequence[int] | NDArray[np.int64], n_chosen: int, seed: int
) -> tuple[int, ...]:
    """Sites of a list that lie far from each other, ascending.

    Minimises the sum of inverse fourth powers of the distances with random starts and swaps:
    short distances weigh most.

    Raises
    ------
    ValueError
        If more sites are asked for than there are.

    Examples
    --------
    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.stacking import Stacking
    >>> frame = layered_frame(Stacking.O3, np.diag([4, 1, 1]))
    >>> row = frame.sites(SiteKind.LI_OCT)
    >>> chosen = spread_subset(frame, row, 2, seed=0)
    >>> int(abs(frame.in_plane[chosen[0]] - frame.in_plane[chosen[1]]).sum())
    2
    """
    candidates = np.sort(np.asarray(sites, dtype=np.int64))
    if not 0 <= n_chosen <= len(candidates):
        raise ValueError(f"{n_chosen} sites asked for, {len(candidates)} given")
    if n_chosen in (0, len(candidates)):
        return tuple(int(s) for s in candidates[:n_chosen])
    random = np.random.default_rng(seed)
    chosen = _spread(_repulsion(frame, candidates), n_chosen, random)
    return tuple(sorted(int(s) for s in candidates[chosen]))


def cap_sites(frame: Frame, centres: Sequence[int]) -> tuple[int, ...]:
    """Octahedron of the Li layer above every honeycomb centre, in the order of `centres`.

    It shares a face with the centre where the stacking has one (O1), an edge otherwise. Of the
    three that share an edge the one is taken that lies against the shift to the next TM layer: in
    O3 that is the Li site on the mirror plane, 2c of C2/m, so that caps keep the symmetry of
    Li2MnO3.

    Raises
    ------
    ValueError
        If the stacking has no Li octahedra.

    Examples
    --------
    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.stacking import Stacking
    >>> frame = layered_frame(Stacking.O3, repeat_vectors(Superlattice.HONEYCOMB))
    >>> cap, = cap_sites(frame, honeycomb_centres(frame))
    >>> frame.kinds[cap].value
    'li_oct'
    """
    shifts = layer_shifts(frame)
    caps = []
    for centre in centres:
        shift = shifts[frame.layers[centre] % len(shifts)]
        above: list[tuple[float, float, int]] = []
        for sharing in (Sharing.FACE, Sharing.EDGE):
            for neighbour in frame.neighbours(int(centre), sharing, SiteKind.LI_OCT):
                frac = frame.frac_coords[neighbour.site] + neighbour.image
                vector = (frac - frame.frac_coords[centre]) @ frame.lattice
                if vector[2] > 0:
                    angle = np.arctan2(vector[1], vector[0])
                    above.append((round(vector[:2] @ shift, 3), angle, neighbour.site))
            if above:
                break
        else:
            raise ValueError(f"{frame.stacking.value} has no Li octahedra to cap a honeycomb with")
        caps.append(min(above)[2])
    return tuple(caps)


def layer_shifts(frame: Frame) -> NDArray[np.float64]:
    """Lateral vectors from a superlattice site to that of the TM layer above, for every slab.

    Shape (n_slabs of the repeat, 2), Å.
    """
    sequence = LAYER_SEQUENCES[frame.stacking]
    letters = [LETTER_POSITIONS[third_letter(*slab)] for slab in sequence.slabs]
    repeat = np.array(sequence.repeat_shift)
    letters.append(tuple(np.array(letters[0]) + repeat - np.round(repeat)))
    return frame.a * np.diff(letters, axis=0) @ np.array([[1.0, 0.0], [-0.5, np.sqrt(0.75)]])


def _ordering(superlattice: Superlattice) -> str:
    """Name of a superlattice in a message."""
    return superlattice.value.replace("-", " ")


def _separated_subset(
    frame: Frame, centres: NDArray[np.int64], n_chosen: int, seed: int
) -> tuple[int, ...]:
    """Spread subset of honeycomb centres of which no two are first neighbours.

    An integer programme decides whether the subset exists and gives the first one; swaps that
    keep it free of first neighbours spread it out.
    """
    vectors = _image_vectors(frame, centres)
    in_layer = np.abs(vectors[..., 2]) < 0.1
    distance = np.linalg.norm(vectors, axis=-1)
    near = (in_layer & (distance > 0.1) & (distance < 1.01 * np.sqrt(3) * frame.a)).any(axis=-1)
    size = np.ones((1, len(centres)))

    def solve(weights: NDArray[np.float64], least: int, most: int) -> NDArray[np.int64] | None:
        """Subset of `least` to `most` centres with the smallest weight, None if there is none."""
        # x_i + x_j <= 1 for neighbours; 2 x_i <= 1 for a centre next to its own image.
        rows = [np.eye(len(near))[i] + np.eye(len(near))[j] for i, j in np.argwhere(np.triu(near))]
        constraints = [LinearConstraint(size, least, most)]
        if rows:
            constraints.append(LinearConstraint(np.array(rows), -np.inf, 1))
        result = milp(weights, constraints=constraints, integrality=size[0], bounds=(0, 1))
        return np.flatnonzero(result.x > 0.5) if result.success else None

    random = np.random.default_rng(seed)
    chosen = solve(random.random(len(centres)), n_chosen, n_chosen)
    if chosen is None:
        largest = solve(-size[0], 0, len(centres))
        most = 0 if largest is None else len(largest)
        raise ValueError(
            f"{n_chosen} Li do not fit on {len(centres)} honeycomb centres without first "
            f"neighbours; the nearest number that does is {min(max(n_chosen, 0), most)}"
        )
    if 0 < len(chosen) < len(centres):
        chosen = _descend(_repulsion(frame, centres) + 1e6 * near, chosen)
    return tuple(sorted(int(s) for s in centres[chosen]))


def _image_vectors(frame: Frame, sites: NDArray[np.int64]) -> NDArray[np.float64]:
    """Vectors between sites, periodic images included, shape (n, n, n_images, 3), Å."""
    grid = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3)
    frac = frame.frac_coords[sites]
    difference = frac[:, None, None] - frac[None, :, None] + grid
    return difference @ frame.lattice


def _repulsion(frame: Frame, sites: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum over periodic images of distance**-4 between sites, shape (n, n)."""
    distance = np.linalg.norm(_image_vectors(frame, sites), axis=-1)
    distance[distance < 1e-6] = np.inf
    return (distance**-4.0).sum(axis=-1)


def _spread(
    repulsion: NDArray[np.float64], n_chosen: int, random: np.random.Generator, n_starts: int = 8
) -> NDArray[np.int64]:
    """Subset with the smallest total repulsion found by swaps from several random starts."""
    n = len(repulsion)
    best: tuple[float, NDArray[np.int64]] | None = None
    for _ in range(n_starts):
        chosen = _descend(repulsion, random.permutation(n)[:n_chosen])
        energy = float(repulsion[np.ix_(chosen, chosen)].sum())
        if best is None or energy < best[0] - 1e-12:
            best = energy, np.sort(chosen)
    assert best is not None
    return best[1]


def _descend(repulsion: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Swap members of a subset for outsiders, best swap first, until none lowers the repulsion."""
    while True:
        outside = np.setdiff1d(np.arange(len(repulsion)), chosen)
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
            return chosen
        chosen = chosen.copy()
        chosen[i] = outside[j]
