"""Bounds that a structure must keep for its energy to mean something.

ML potentials have holes: far from what they learned, atoms fall together or fly apart while the
energy drops. What leaves the bounds is named and never shown as a result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from pymatgen.core import Structure

from ..structures.occupation import is_transition_metal


@dataclass(frozen=True)
class PhysicalBounds:
    """Limits, wide enough for every saddle of an oxide.

    Attributes
    ----------
    closest, farthest
        Distance of an atom to its nearest neighbour in units of the sum of their covalent radii
        (Cordero et al., Dalton Trans. 2832 (2008)): collapsed below, dissociated above. Mn-O of an
        oxide is 0.9, Li-O 1.1 and the O-O of a peroxide 1.1.
    drop, rise
        Energy per atom below the lower and above the higher end state of a path, eV.
    tm_moment, other_moment
        Largest moment of a transition metal and of any other atom, Bohr magneton.
    """

    closest: float = 0.6
    farthest: float = 1.8
    drop: float = 0.1
    rise: float = 0.5
    tm_moment: float = 5.5
    other_moment: float = 1.5


BOUNDS = PhysicalBounds()


def distance_problem(structure: Structure, bounds: PhysicalBounds = BOUNDS) -> str:
    """What is collapsed or dissociated in a structure; empty if nothing is."""
    symbols = [site.specie.symbol for site in structure]
    if len(symbols) < 2:
        return ""
    radii = np.array([covalent_radii[atomic_numbers[symbol]] for symbol in symbols])
    distances = structure.distance_matrix
    scaled = distances / (radii[:, None] + radii)
    np.fill_diagonal(scaled, np.inf)
    first, second = np.unravel_index(int(np.argmin(scaled)), scaled.shape)
    if scaled[first, second] < bounds.closest:
        pair = f"{symbols[first]} {first} and {symbols[second]} {second}"
        return f"collapsed: {pair} are {distances[first, second]:.2f} Å apart"
    alone = int(np.argmax(scaled.min(axis=1)))
    nearest = int(np.argmin(scaled[alone]))
    if scaled[alone, nearest] > bounds.farthest:
        return (
            f"dissociated: {symbols[alone]} {alone} is {distances[alone, nearest]:.2f} Å from its "
            f"nearest neighbour, {symbols[nearest]} {nearest}"
        )
    return ""


def energy_problem(energies: Sequence[float], n_atoms: int, bounds: PhysicalBounds = BOUNDS) -> str:
    """Which image of a path is too low or too high; empty if none is.

    Parameters
    ----------
    energies
        Energies of all images, end states included, eV.
    n_atoms
        Atoms of an image.
    """
    values = np.asarray(energies, dtype=float) / n_atoms
    ends = values[[0, -1]]
    lowest, highest = int(values.argmin()), int(values.argmax())
    if values[lowest] < ends.min() - bounds.drop:
        depth = ends.min() - values[lowest]
        return f"a hole: image {lowest} is {depth:.2f} eV per atom below both end states"
    if values[highest] > ends.max() + bounds.rise:
        height = values[highest] - ends.max()
        return f"image {highest} is {height:.2f} eV per atom above both end states"
    return ""


def moment_problem(
    structure: Structure, magmoms: Sequence[float], bounds: PhysicalBounds = BOUNDS
) -> str:
    """Which atom has an impossible moment (Bohr magneton); empty if none has."""
    for number, (site, moment) in enumerate(zip(structure, magmoms, strict=True)):
        symbol = site.specie.symbol
        most = bounds.tm_moment if is_transition_metal(symbol) else bounds.other_moment
        if abs(moment) > most:
            return f"{symbol} {number} has a moment of {moment:.1f} Bohr magneton"
    return ""
