from itertools import combinations

import numpy as np
import pytest
from ase import Atoms
from icet import ClusterSpace

from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.sqs import anneal_quasirandom, pair_shells
from lrlo.structures.stacking import Stacking

FRAME = layered_frame(Stacking.O3, np.diag([3, 3, 2]))
SITES = [int(site) for site in FRAME.sites(SiteKind.TM_OCT)]


def test_shells_have_the_coordination_of_the_lattice() -> None:
    shells = pair_shells(FRAME, SITES, cutoff=5.1)
    # six first neighbours in the plane at a, six next at sqrt(3) a (4.95 Å), the first between
    # layers (5.03 Å) in between
    assert shells.distances[0] == pytest.approx(FRAME.a, abs=1e-3)
    assert np.all(shells.counts[0].sum(axis=1) == 6)
    assert np.all(shells.counts[1].sum(axis=1) == 6)


def test_short_range_order_agrees_with_icet() -> None:
    """Pair correlations of a binary layer against icet's cluster vector."""
    counts = {"Ni": 9, "Mn": 9}
    order = anneal_quasirandom(FRAME, SITES, counts, seed=3, cutoff=5.0, n_steps=50)
    primitive = layered_frame(Stacking.O3, np.eye(3, dtype=int))
    site = primitive.sites(SiteKind.TM_OCT)
    cell = Atoms(
        "Ni", scaled_positions=primitive.frac_coords[site], cell=primitive.lattice, pbc=True
    )
    space = ClusterSpace(cell, cutoffs=[5.0], chemical_symbols=["Mn", "Ni"])
    atoms = Atoms(
        list(order.species), scaled_positions=FRAME.frac_coords[SITES], cell=FRAME.lattice, pbc=True
    )
    pairs = {
        round(2 * record["radius"], 3): value
        for record, value in zip(space.as_list, space.get_cluster_vector(atoms), strict=True)
        if record["order"] == 2
    }
    for distance, alpha in zip(
        order.shell_distances, order.short_range_order["Mn-Ni"], strict=True
    ):
        # For a 50:50 binary with spins +-1 the correlation is the Warren-Cowley parameter.
        assert pairs[round(distance, 3)] == pytest.approx(alpha, abs=1e-9)


def test_annealing_finds_the_optimum_of_a_small_layer() -> None:
    sites = SITES[:8]
    found = anneal_quasirandom(FRAME, sites, {"Ni": 3, "Mn": 5}, seed=0, n_steps=4000)
    best = min(
        anneal_quasirandom(
            FRAME, [sites[i] for i in order], {"Ni": 3, "Mn": 5}, seed=0, n_steps=0
        ).objective
        for order in _orders(8, 3)
    )
    assert found.objective <= best + 1e-12


def _orders(n: int, k: int) -> list[list[int]]:
    """Site orders that put the first species on every subset in turn, for a fixed permutation."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], [n - k, k]))
    ones, zeros = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    orders = []
    for subset in combinations(range(n), k):
        rest = [i for i in range(n) if i not in subset]
        order = np.empty(n, dtype=int)
        order[ones], order[zeros] = subset, rest
        orders.append(order.tolist())
    return orders


def test_counts_are_kept_and_must_fill_the_sites() -> None:
    order = anneal_quasirandom(FRAME, SITES, {"Ni": 5, "Mn": 12, "Co": 1}, seed=1, n_steps=500)
    assert sorted(order.species) == ["Co"] + ["Mn"] * 12 + ["Ni"] * 5
    with pytest.raises(ValueError, match="does not fill"):
        anneal_quasirandom(FRAME, SITES, {"Ni": 5}, seed=1)
