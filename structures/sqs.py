"""Special quasirandom structures: species placed so that pairs look random."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .frame import Frame


@dataclass(frozen=True)
class PairShells:
    """Neighbour pairs between chosen sites, sorted into shells of equal distance.

    Attributes
    ----------
    distances
        Distance of every shell, Å, shape (n_shells,).
    counts
        ``counts[k, i, j]`` is how many periodic images of site j lie in shell k around site i,
        shape (n_shells, n_sites, n_sites).
    """

    distances: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class QuasirandomOrder:
    """Result of an annealing run.

    Attributes
    ----------
    species
        Species on every site, in the order of the sites given.
    objective
        Weighted sum over shells of squared pair-probability errors; 0 is a perfect SQS.
    short_range_order
        Warren-Cowley parameter by shell and species pair, ``{"Ni-Mn": (alpha_1, alpha_2, …)}``;
        0 is random, negative means the pair is preferred.
    shell_distances
        Distance of every shell, Å.
    """

    species: tuple[str, ...]
    objective: float
    short_range_order: Mapping[str, tuple[float, ...]]
    shell_distances: tuple[float, ...]


def pair_shells(frame: Frame, sites: Sequence[int], cutoff: float) -> PairShells:
    """Neighbour shells of the ideal frame between `sites`, images counted one by one.

    Parameters
    ----------
    frame
        Frame that the sites belong to.
    sites
        Site indices, length n_sites.
    cutoff
        Largest pair distance, Å.
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(frame.lattice), axis=0)
    ranges = (np.arange(-n, n + 1) for n in np.ceil(cutoff / heights).astype(int) + 1)
    images = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    frac = frame.frac_coords[list(sites)]
    difference = frac[None, :, None] - frac[:, None, None] + images
    distance = np.linalg.norm(difference @ frame.lattice, axis=-1).round(3)
    shells = np.unique(distance[(distance > 0.1) & (distance <= cutoff)])
    counts = np.array([(distance == shell).sum(axis=-1) for shell in shells])
    return PairShells(shells, counts)


def anneal_quasirandom(
    frame: Frame,
    sites: Sequence[int],
    counts: Mapping[str, int],
    *,
    seed: int,
    cutoff: float = 6.5,
    n_steps: int = 20_000,
) -> QuasirandomOrder:
    """Place species on `sites` so that pair probabilities match those of a random alloy.

    Minimises ``sum_k w_k sum_ab (P_k(a, b) - c_a c_b)^2`` by simulated annealing of swaps, with
    P_k the share of pairs of shell k that are (a, b) and w_k the inverse of the shell's distance
    relative to the first (Zunger et al., Phys. Rev. Lett. 65, 353 (1990), pairs only).

    Parameters
    ----------
    frame
        Frame that the sites belong to.
    sites
        Sites to fill.
    counts
        Ions of every species; they add up to the number of sites.
    seed
        Seed of the random numbers.
    cutoff
        Largest pair distance, Å.
    n_steps
        Swaps tried.

    Raises
    ------
    ValueError
        If the counts do not add up to the number of sites.
    """
    if sum(counts.values()) != len(sites):
        raise ValueError(f"{dict(counts)} does not fill {len(sites)} sites")
    random = np.random.default_rng(seed)
    names = sorted(symbol for symbol, n in counts.items() if n)
    labels = random.permutation(np.repeat(np.arange(len(names)), [counts[s] for s in names]))
    shells = pair_shells(frame, sites, cutoff)
    if len(names) > 1 and len(shells.distances):
        labels = _anneal(labels, shells, len(names), n_steps, random)
    probabilities = _pair_probabilities(labels, shells, len(names))
    shares = np.bincount(labels, minlength=len(names)) / len(sites)
    random_pairs = np.outer(shares, shares)
    order = {
        f"{first}-{names[j]}": tuple(
            float(1 - probabilities[k, i, j] / random_pairs[i, j])
            for k in range(len(shells.distances))
        )
        for i, first in enumerate(names)
        for j in range(i, len(names))
    }
    return QuasirandomOrder(
        species=tuple(names[label] for label in labels),
        objective=_objective(probabilities, random_pairs, shells),
        short_range_order=order,
        shell_distances=tuple(float(d) for d in shells.distances),
    )


def _pair_probabilities(
    labels: NDArray[np.int64], shells: PairShells, n_species: int
) -> NDArray[np.float64]:
    """Share of the pairs of every shell that are (a, b), shape (n_shells, n, n)."""
    one_hot = np.eye(n_species)[labels]
    pairs = np.einsum("ia,kij,jb->kab", one_hot, shells.counts, one_hot, optimize=True)
    totals = shells.counts.sum(axis=(1, 2))
    return pairs / np.maximum(totals, 1)[:, None, None]


def _objective(
    probabilities: NDArray[np.float64], random_pairs: NDArray[np.float64], shells: PairShells
) -> float:
    weights = shells.distances[:1] / shells.distances
    return float((weights[:, None, None] * (probabilities - random_pairs) ** 2).sum())


def _anneal(
    labels: NDArray[np.int64],
    shells: PairShells,
    n_species: int,
    n_steps: int,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    n_sites = len(labels)
    one_hot = np.eye(n_species)[labels]
    counts = shells.counts.astype(float)
    totals = np.maximum(counts.sum(axis=(1, 2)), 1)[:, None, None]
    shares = one_hot.mean(axis=0)
    random_pairs = np.outer(shares, shares)
    pairs = np.einsum("ia,kij,jb->kab", one_hot, counts, one_hot, optimize=True)
    energy = _objective(pairs / totals, random_pairs, shells)
    labels = labels.copy()
    best_labels, best_energy = labels.copy(), energy
    temperature_start, temperature_end = max(energy, 1e-6) * 0.1, max(energy, 1e-6) * 1e-5
    for step in range(n_steps):
        i, j = random.integers(n_sites, size=2)
        if labels[i] == labels[j]:
            continue
        change = np.zeros_like(one_hot[0])
        change[labels[j]], change[labels[i]] = 1.0, -1.0  # of site i; site j gets the opposite
        # Site rows of the pair table before and after the swap; images of i and j included.
        field = np.einsum("kj,jb->kb", counts[:, i] - counts[:, j], one_hot)
        cross = np.einsum("a,kb->kab", change, field)
        self_term = (counts[:, i, i] + counts[:, j, j] - 2 * counts[:, i, j])[:, None, None]
        new_pairs = pairs + cross + cross.transpose(0, 2, 1) + self_term * np.outer(change, change)
        new_energy = _objective(new_pairs / totals, random_pairs, shells)
        temperature = temperature_start * (temperature_end / temperature_start) ** (step / n_steps)
        if new_energy <= energy or random.random() < np.exp((energy - new_energy) / temperature):
            one_hot[i] += change
            one_hot[j] -= change
            labels[i], labels[j] = labels[j], labels[i]
            pairs, energy = new_pairs, new_energy
            if energy < best_energy - 1e-12:
                best_labels, best_energy = labels.copy(), energy
    return best_labels
