"""The frame of a structure of unknown origin, from the translations of its anions."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure
from pymatgen.util.coord import pbc_shortest_vectors

from .alignment import AssignmentError
from .assignment import Assignment, assign
from .composition import ANIONS
from .frame import LI_LAYER, Frame, layered_frame
from .occupation import is_transition_metal
from .rock_salt import rock_salt_frame
from .stacking import LAYER_SEQUENCES, Stacking
from .vacuum import vacuum_width

#: Root mean square distance of shifted anions from anions that still makes a translation, in
#: distances of close-packed neighbours. Wrong shifts miss by 0.4 and more.
_TRANSLATION = 0.22
#: Longest repeat of a stacking, in distances of close-packed neighbours.
_LONGEST = 3.9
#: Anions that translations are tried on.
_PROBES = 24
_SLAB_SHARE = 0.45
#: Above this share of TM outside the TM layers a cell counts as rock salt (a spinel has 0.25).
_DISORDER = 0.3


def find_frame(structure: Structure) -> Frame:
    """Frame whose sites explain a structure best.

    Translations that carry the anions onto each other give the layers and the repeat of every
    stacking that they allow; the atoms are then assigned to each, and the frame is taken that
    leaves the fewest unexplained, then has the most TM in its TM layers, then the smallest
    displacements. Cubic close-packed anions with TM spread over all layers make rock salt.

    Parameters
    ----------
    structure
        Ideal or relaxed, ordered structure without vacuum.

    Raises
    ------
    AssignmentError
        If the structure has no anions, has vacuum, or no frame explains it.

    Examples
    --------
    >>> from lrlo.structures.crystals import build_crystal
    >>> find_frame(build_crystal("Li2MnO3")).label
    'O3'
    >>> find_frame(build_crystal("O2-Li1.25Co0.25Mn0.5O2")).label
    'O2'
    """
    frac = np.array([site.frac_coords for site in structure if site.specie.symbol in ANIONS])
    if not len(frac):
        raise AssignmentError("the structure has no O, so that no frame can be found for it")
    vacuum = vacuum_width(structure)
    if vacuum is not None:
        raise AssignmentError(
            f"the structure has {vacuum:.1f} Å of vacuum: the frame of a slab cannot be found from "
            "its atoms. Build the slab with 'lrlo build basal-slab' or 'edge-slab' and write JSON "
            "or extended XYZ, which keep its frame"
        )
    lattice = np.array(structure.lattice.matrix)
    volume = abs(float(np.linalg.det(lattice)))
    neighbour = (np.sqrt(2) * volume / len(frac)) ** (1 / 3)
    translations = _translations(frac, lattice, neighbour)
    layered = _assigned(structure, _layered_frames(translations, lattice, len(frac), neighbour))
    best = min(layered, key=_misfit, default=None)
    if best is not None and _outside_layers(best) <= _DISORDER:
        return best.frame
    cubic = _assigned(structure, _rock_salt_frames(translations, lattice, len(frac), neighbour))
    best = min(cubic, key=_misfit, default=best)
    if best is None:
        stackings = ", ".join(stacking.value for stacking in Stacking)
        raise AssignmentError(
            f"no frame explains the structure: its O are not stacked as in {stackings} or rock "
            "salt; missing layers and cells with many missing O cannot be mapped"
        )
    return best.frame


def _translations(
    frac: NDArray[np.float64], lattice: NDArray[np.float64], neighbour: float
) -> NDArray[np.float64]:
    """Vectors that carry the anions onto anions, refined, shape (n, 3), Å."""
    reach = _LONGEST * neighbour
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    ranges = [range(-n, n + 1) for n in np.ceil(reach / heights).astype(int) + 1]
    grid = np.array(list(product(*ranges)))
    vectors = (frac - frac[0] + grid[:, None]).reshape(-1, 3)
    lengths = np.linalg.norm(vectors @ lattice, axis=1)
    vectors = vectors[(lengths > 0.5 * neighbour) & (lengths < reach)]
    probes = frac[np.linspace(0, len(frac) - 1, min(_PROBES, len(frac))).astype(int)]
    # Some anions may be missing or displaced: the best of the probes decide.
    n_judged = max(1, int(0.8 * len(probes)))
    found = []
    for vector in vectors:
        steps, squares = pbc_shortest_vectors(
            Lattice(lattice), probes + vector, frac, return_d2=True
        )
        nearest = squares.argmin(axis=1)
        offsets = steps[np.arange(len(probes)), nearest]
        judged = np.argsort(squares.min(axis=1))[:n_judged]
        mean = offsets[judged].mean(axis=0)
        deviation = ((offsets[judged] - mean) ** 2).sum(axis=1).mean()
        if np.sqrt(deviation) < _TRANSLATION * neighbour:
            found.append(vector @ lattice + mean)
    return np.array(found).reshape(-1, 3)


def _layered_frames(
    translations: NDArray[np.float64], lattice: NDArray[np.float64], n_anions: int, neighbour: float
) -> Iterator[Frame]:
    """One frame for every stacking and every orientation of its layers."""
    volume = abs(float(np.linalg.det(lattice)))
    short = _of_length(translations, neighbour)
    seen: list[tuple[Stacking, NDArray[np.float64]]] = []
    for a1, a2 in product(short, repeat=2):
        if not -0.75 < _cosine(a1, a2) < -0.25:
            continue
        normal = np.cross(a1, a2)
        area = float(np.linalg.norm(normal))
        normal /= area
        spacing = 2 * volume / n_anions / area
        for stacking, sequence in LAYER_SEQUENCES.items():
            if any(s is stacking and abs(n @ normal) > 0.9 for s, n in seen):
                continue
            height = len(sequence.slabs) * spacing
            for repeat in translations[np.abs(translations @ normal - height) < 0.2 * spacing]:
                lateral = np.linalg.lstsq(np.array([a1, a2]).T, repeat - height * normal)[0]
                shift = np.array(sequence.repeat_shift)
                # Of the equivalent repeats the shortest, which the prototype has.
                if np.abs(lateral - shift + np.round(shift)).max() > 0.15:
                    continue
                matrix = _supercell(lattice, np.array([a1, a2, repeat]))
                if matrix is None or round(np.linalg.det(matrix)) * 2 * len(
                    sequence.slabs
                ) not in range(n_anions, int(1.1 * n_anions) + 1):
                    continue
                seen.append((stacking, normal))
                yield layered_frame(
                    stacking,
                    matrix,
                    a=np.sqrt(area / np.sqrt(0.75)),
                    tm_slab=_SLAB_SHARE * spacing,
                    li_gap=(1 - _SLAB_SHARE) * spacing,
                )
                break


def _rock_salt_frames(
    translations: NDArray[np.float64], lattice: NDArray[np.float64], n_anions: int, neighbour: float
) -> Iterator[Frame]:
    """The rock salt frame, if the anions are cubic close-packed."""
    short = _of_length(translations, neighbour)
    for first, second, third in product(short, repeat=3):
        pairs = ((first, second), (first, third), (second, third))
        if any(not 0.25 < _cosine(*pair) < 0.75 for pair in pairs):
            continue
        matrix = _supercell(lattice, np.array([first, second, third]))
        if matrix is not None and round(np.linalg.det(matrix)) >= n_anions:
            edge = (4 * abs(float(np.linalg.det(lattice))) / np.linalg.det(matrix)) ** (1 / 3)
            yield rock_salt_frame(matrix, cubic_lattice_parameter=float(edge))
            return


def _supercell(
    lattice: NDArray[np.float64], primitive: NDArray[np.float64]
) -> NDArray[np.int64] | None:
    """Cell vectors in primitive vectors; None if they are no right-handed whole numbers."""
    exact = lattice @ np.linalg.inv(primitive)
    matrix = np.rint(exact).astype(np.int64)
    if np.abs(exact - matrix).max() > 0.3 or round(np.linalg.det(matrix)) < 1:
        return None
    return matrix


def _assigned(structure: Structure, frames: Iterator[Frame]) -> list[Assignment]:
    """Assignments to the frames that the cell fits."""
    assignments = []
    for frame in frames:
        try:
            assignments.append(assign(structure, frame))
        except AssignmentError:
            continue
    return [a for a in assignments if len(a.unexplained) < len(structure) / 4]


def _misfit(assignment: Assignment) -> tuple[int, float, float]:
    """Atoms left over, TM outside the TM layers, and displacement: the less the better."""
    return (
        len(assignment.unexplained),
        round(_outside_layers(assignment), 1),
        float((assignment.displacements**2).mean()),
    )


def _outside_layers(assignment: Assignment) -> float:
    """Share of the TM that lie in Li layers."""
    frame = assignment.frame
    kinds = [
        frame.kinds[site]
        for site, species in zip(assignment.sites, assignment.species, strict=True)
        if site is not None and is_transition_metal(species)
    ]
    return sum(kind in LI_LAYER for kind in kinds) / max(len(kinds), 1)


def _of_length(vectors: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    """Vectors as long as close-packed neighbours are apart."""
    return vectors[np.abs(np.linalg.norm(vectors, axis=1) / length - 1) < 0.25]


def _cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
