"""Choice of a supercell: commensurate with the superlattice, compact, true to the composition."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice

from .composition import CompositionError, RealisedComposition, TargetComposition, realise
from .frame import primitive_lattice
from .rock_salt import RockSaltPrototype
from .stacking import LAYER_SEQUENCES, Stacking
from .supercell_shapes import isotropic_supercells
from .superlattice import Superlattice, max_lithium_fraction, repeat_vectors

#: A cell whose periodic images come closer than this share of the cube root of its volume is
#: flat or long for a migrating ion. The cube has 1, the fcc lattice 2**(1/6) = 1.12.
COMPACTNESS = 0.9


class TooMuchLithiumError(CompositionError):
    """The composition has more Li than the sites of its superlattice."""


class NoSupercellError(CompositionError):
    """No cell within the size limits holds the composition.

    Attributes
    ----------
    nearest
        Atoms of the smallest cell above the limits that does.
    """

    def __init__(self, message: str, nearest: int) -> None:
        super().__init__(message)
        self.nearest = nearest


@dataclass(frozen=True)
class SupercellChoice:
    """A supercell matrix and what it does to the composition.

    Attributes
    ----------
    matrix
        Supercell vectors in primitive vectors of the stacking, shape (3, 3).
    composition
        The realised composition.
    image_distance
        Shortest distance between an ion and its own periodic image, Å.
    """

    matrix: NDArray[np.int64]
    composition: RealisedComposition
    image_distance: float


def choose_supercell(
    target: TargetComposition,
    stacking: Stacking,
    superlattice: Superlattice,
    *,
    min_atoms: int,
    max_atoms: int,
    oxidation_states: Mapping[str, float] | None = None,
) -> SupercellChoice:
    """The supercell within the size limits that realises the composition best.

    Among cells of one size the most compact is taken. Sizes with a compact cell come before
    others (see :data:`COMPACTNESS`); among them the smallest total deviation decides, then the
    smallest charge imbalance, then the largest image distance.

    Raises
    ------
    TooMuchLithiumError
        If the superlattice cannot hold the Li.
    NoSupercellError
        If no cell of an allowed size realises the composition; it names the nearest that can.
    """
    lithium = target.tm_layer.get("Li", 0.0)
    limit = max_lithium_fraction(superlattice)
    if lithium > limit + 1e-6:
        raise TooMuchLithiumError(
            f"a {superlattice.value} superlattice holds at most {limit:.3f} Li per TM-layer site, "
            f"the composition asks for {lithium:.3f}; use less Li, or a superlattice with more "
            "room (random has no limit)"
        )
    step = round(abs(np.linalg.det(repeat_vectors(superlattice))))
    step *= len(LAYER_SEQUENCES[stacking].slabs)

    def shape(size: int) -> tuple[NDArray[np.int64], float, float]:
        return most_compact(stacking, superlattice, size)

    def holds(realised: RealisedComposition) -> bool:
        return _holds(realised, target, limit)

    return _best(
        target,
        step,
        shape,
        holds,
        (min_atoms, max_atoms),
        f"a {superlattice.value} {stacking.value} frame",
        oxidation_states,
    )


def choose_rock_salt_supercell(
    target: TargetComposition,
    *,
    min_atoms: int,
    max_atoms: int,
    oxidation_states: Mapping[str, float] | None = None,
) -> SupercellChoice:
    """The rock salt supercell within the size limits that realises the composition best.

    Chosen as by :func:`choose_supercell`; the matrix is in the primitive vectors of the
    face-centred lattice.

    Raises
    ------
    NoSupercellError
        If no cell of an allowed size holds every species; it names the nearest that does.

    Examples
    --------
    >>> from lrlo.structures.composition import parse_composition
    >>> oxide = parse_composition("Li1.2Mn0.4Ti0.4O2")
    >>> choice = choose_rock_salt_supercell(oxide, min_atoms=36, max_atoms=64)
    >>> choice.composition.n_formula_units, round(choice.image_distance, 2)
    (15, 8.8)
    """
    prototype = RockSaltPrototype()

    def shape(size: int) -> tuple[NDArray[np.int64], float, float]:
        (found,) = isotropic_supercells(prototype, 2 * size, limit=1)
        return found.matrix, found.image_distance, found.compactness

    def holds(realised: RealisedComposition) -> bool:
        return _holds(realised, target, 1.0)

    return _best(
        target,
        1,
        shape,
        holds,
        (min_atoms, max_atoms),
        f"a frame of {prototype.label}",
        oxidation_states,
    )


def _best(
    target: TargetComposition,
    step: int,
    shape: Callable[[int], tuple[NDArray[np.int64], float, float]],
    holds: Callable[[RealisedComposition], bool],
    limits: tuple[int, int],
    frame: str,
    oxidation_states: Mapping[str, float] | None,
) -> SupercellChoice:
    """The best of the cells whose formula units are a multiple of `step`.

    `shape` gives matrix, image distance and compactness for a number of formula units.
    """
    min_atoms, max_atoms = limits
    sizes = [n for n in range(step, max_atoms // 4 + 1, step) if 4 * n >= min_atoms]
    compact: list[SupercellChoice] = []
    other: list[SupercellChoice] = []
    for size in sizes:
        realised = realise(target, size, oxidation_states)
        if not holds(realised):
            continue
        matrix, distance, compactness = shape(size)
        choices = compact if compactness >= COMPACTNESS else other
        choices.append(SupercellChoice(matrix, realised, distance))
    candidates = compact or other
    if not candidates:
        size = max(1, -(-min_atoms // (4 * step))) * step
        while not holds(realise(target, size, oxidation_states)):
            size += step
        raise NoSupercellError(
            f"no supercell with {min_atoms} to {max_atoms} atoms holds {target.formula} on "
            f"{frame} with every species present; the nearest that can has {4 * size} atoms",
            4 * size,
        )
    return min(
        candidates,
        key=lambda c: (
            round(c.composition.total_deviation, 6),
            abs(c.composition.charge_imbalance) / c.composition.n_formula_units,
            -c.image_distance,
        ),
    )


def _holds(realised: RealisedComposition, target: TargetComposition, limit: float) -> bool:
    """Whether every species asked for is there and Li fits on the superlattice."""
    counts = realised.tm_layer_counts
    return (
        all(counts.get(symbol, 0) > 0 for symbol in target.tm_layer)
        and counts.get("Li", 0) <= limit * realised.n_formula_units + 1e-6
    )


def most_compact(
    stacking: Stacking, superlattice: Superlattice, n_formula_units: int
) -> tuple[NDArray[np.int64], float, float]:
    """The supercell of a given size whose shortest lattice vector is longest.

    Returns
    -------
    matrix
        LLL-reduced supercell vectors in primitive vectors, shape (3, 3).
    distance
        Length of the shortest lattice vector, Å.
    compactness
        `distance` over the cube root of the volume.
    """
    base = repeat_vectors(superlattice)
    primitive = primitive_lattice(stacking)
    slabs = len(LAYER_SEQUENCES[stacking].slabs)
    multiplicity = n_formula_units // slabs // round(abs(np.linalg.det(base)))
    best: tuple[float, NDArray[np.int64]] | None = None
    for hermite in _hermite_normal_forms(multiplicity):
        reduced = Lattice(hermite @ base @ primitive).get_lll_reduced_lattice().matrix
        distance = _shortest_vector(reduced)
        if best is None or distance > best[0] + 1e-6:
            best = distance, np.rint(reduced @ np.linalg.inv(primitive)).astype(np.int64)
    assert best is not None  # the diagonal form exists for every multiplicity
    distance, matrix = best
    if np.linalg.det(matrix) < 0:
        matrix = -matrix
    volume = abs(np.linalg.det(matrix @ primitive))
    return matrix, distance, distance / volume ** (1 / 3)


def _hermite_normal_forms(determinant: int) -> Iterator[NDArray[np.int64]]:
    """All integer matrices in lower-triangular Hermite normal form of a determinant."""
    for a in range(1, determinant + 1):
        if determinant % a:
            continue
        for c in range(1, determinant // a + 1):
            if (determinant // a) % c:
                continue
            f = determinant // a // c
            for b in range(c):
                for d in range(f):
                    for e in range(f):
                        yield np.array([[a, b, d], [0, c, e], [0, 0, f]])


def image_distance(lattice: NDArray[np.float64]) -> float:
    """Shortest distance between a point and its periodic image, Å.

    Parameters
    ----------
    lattice
        Cell vectors (rows), shape (3, 3), Å, of any shape.
    """
    return _shortest_vector(Lattice(lattice).get_lll_reduced_lattice().matrix)


def _shortest_vector(lattice: NDArray[np.float64]) -> float:
    """Shortest lattice vector of a reduced cell."""
    grid = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3), axis=-1).reshape(-1, 3)
    lengths = np.linalg.norm(grid @ lattice, axis=1)
    return float(lengths[lengths > 1e-6].min())
