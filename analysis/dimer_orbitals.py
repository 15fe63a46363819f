"""States of close O-O pairs, projected on the molecular orbitals of the pair's own frame."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from .bonding_documents import DimerOrbital, OxygenDimer
from .orbital_populations import ElectronicStates, Orbital
from .oxygen_pairs import find_oxygen_pairs

_KINDS: tuple[tuple[Literal["σ", "π", "π*", "σ*"], bool, int], ...] = (
    # Kind, along the axis?, sign of the second atom's orbital. Two p orbitals that point the same
    # way along the axis have a negative overlap: their difference is the bonding one.
    ("σ", True, -1),
    ("π", False, 1),
    ("π*", False, -1),
    ("σ*", True, 1),
)


def oxygen_dimers(states: ElectronicStates, structure: Structure) -> list[OxygenDimer]:
    """Occupation and energy of σ, π, π* and σ* of every O-O pair below 2.0 Å, shortest first.

    Parameters
    ----------
    states
        States of the structure. Coefficients at k are those of Bloch sums with phases of the
        lattice translation.
    structure
        The structure.
    """
    return [_project(states, structure, pair.atoms) for pair in find_oxygen_pairs(structure).pairs]


def _project(states: ElectronicStates, structure: Structure, atoms: tuple[int, int]) -> OxygenDimer:
    first, second = atoms
    distance, image = structure[first].distance_and_image(structure[second])
    step = structure.frac_coords[second] + image - structure.frac_coords[first]
    axis = structure.lattice.get_cartesian_coords(step) / distance
    _, _, frame = np.linalg.svd(axis[None])  # the axis, then two directions at right angles to it
    orbitals = []
    for kind, along, sign in _KINDS:
        directions = frame[:1] if along else frame[1:]
        results = [
            _molecular_orbital(states, atoms, image, direction, sign) for direction in directions
        ]
        orbitals.append(
            DimerOrbital(
                kind=kind,
                energy=float(np.mean([energy for energy, _ in results]))
                - states.valence_band_maximum,
                electrons=sum(electrons for _, electrons in results),
            )
        )
    sigma, pi, pi_star, sigma_star = (orbital.electrons for orbital in orbitals)
    return OxygenDimer(
        atoms=atoms,
        distance=float(distance),
        orbitals=tuple(orbitals),
        bond_order=(sigma + pi - pi_star - sigma_star) / 2,
    )


def _molecular_orbital(
    states: ElectronicStates,
    atoms: tuple[int, int],
    image: NDArray[np.int64],
    direction: NDArray[np.float64],
    sign: int,
) -> tuple[float, float]:
    """Energy (eV) and electrons of p(first) + sign p(second), normalised.

    The part that overlaps with the 2s orbitals of the pair is taken out first: the filled 2s
    shell of one O reaches over the 2p of the other and would count as electrons in σ*.
    """
    vector = np.zeros((len(states.k_points), len(states.orbitals)), dtype=complex)
    phases = np.exp(-2j * np.pi * states.k_points @ image)
    for index, orbital in enumerate(states.orbitals):
        if _is_2p(orbital) and orbital.atom in atoms:
            component = direction[(1, 2, 0)[orbital.m + 1]]
            vector[:, index] = component if orbital.atom == atoms[0] else sign * component * phases
    vector -= _part_in_2s(states, atoms, vector)
    duals = np.einsum("kij,kj->ki", states.overlap, vector)
    vector_norms = np.einsum("ki,ki->k", vector.conj(), duals).real
    amplitudes = np.einsum("ki,skin->skn", duals.conj(), states.coefficients)
    weights = np.abs(amplitudes) ** 2 / vector_norms[None, :, None]
    share = states.capacity / 2
    energy = float(np.einsum("skn,skn,k", weights, states.energies, states.k_weights) * share)
    return energy, states.total(weights)


def _part_in_2s(
    states: ElectronicStates, atoms: tuple[int, int], vector: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """Projection of a function on the 2s orbitals of the pair, shape (n_k, n_orbital)."""
    inner = states.select(atoms, "2s")
    within = states.overlap[:, inner][..., inner]
    overlaps = np.einsum("kij,kj->ki", states.overlap[:, inner], vector)
    part = np.zeros_like(vector)
    part[:, inner] = np.linalg.solve(within, overlaps[..., None])[..., 0]
    return part


def _is_2p(orbital: Orbital) -> bool:
    return (orbital.n, orbital.l, orbital.zeta) == (2, 1, 1)
