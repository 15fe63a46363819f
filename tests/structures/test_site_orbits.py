import itertools
from math import comb

import numpy as np
import pytest

from lrlo.structures.frame import SiteKind
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.site_orbits import distinct_sets
from lrlo.structures.symmetry import site_permutations


def necklace_turns(n: int) -> np.ndarray:
    return np.array([np.roll(np.arange(n), shift) for shift in range(n)])


def necklaces(n: int, k: int) -> int:
    """Binary necklaces of n beads with k of one colour, by Burnside's lemma."""
    fixed = 0
    for shift in range(n):
        cycles = np.gcd(n, shift) if shift else n
        length = n // cycles
        fixed += comb(cycles, k // length) if k % length == 0 else 0
    return fixed // n


@pytest.mark.parametrize("size", range(11))
def test_necklaces(size: int) -> None:
    orbits = distinct_sets(necklace_turns(10), range(10), size)
    assert len(orbits) == necklaces(10, size)
    assert sum(orbit.degeneracy for orbit in orbits) == comb(10, size)


def test_orbits_are_those_of_exhaustive_enumeration(li2mno3: PristineModel) -> None:
    occupation = li2mno3.occupation
    permutations = site_permutations(occupation)
    sites = occupation.frame.sites(SiteKind.TM_OCT)[:]
    chosen = [int(s) for s in sites if occupation.species[s] == "Mn"][:12]
    for size in (1, 2, 3):
        classes: dict[tuple[int, ...], int] = {}
        for subset in itertools.combinations(chosen, size):
            first = min(map(tuple, np.sort(permutations[:, subset], axis=1).tolist()))
            classes[first] = classes.get(first, 0) + 1
        orbits = distinct_sets(permutations, chosen, size)
        assert {orbit.sites: orbit.degeneracy for orbit in orbits} == classes


def test_stabiliser_keeps_the_set() -> None:
    turns = necklace_turns(6)
    opposite = next(o for o in distinct_sets(turns, range(6), 2) if o.degeneracy == 3)
    assert len(opposite.permutations) == 2
    for permutation in opposite.permutations:
        assert set(permutation[list(opposite.sites)]) == set(opposite.sites)


def test_operations_that_leave_the_candidates_are_left_out() -> None:
    """Of six beads only three neighbouring ones count: no turn keeps them."""
    orbits = distinct_sets(necklace_turns(6), [0, 1, 2], 1)
    assert [(orbit.sites, orbit.degeneracy) for orbit in orbits] == [
        ((0,), 1),
        ((1,), 1),
        ((2,), 1),
    ]


def test_bad_requests() -> None:
    turns = necklace_turns(6)
    with pytest.raises(ValueError, match="cannot choose 7 of 6"):
        distinct_sets(turns, range(6), 7)
    with pytest.raises(ValueError, match="cannot choose -1 of 6"):
        distinct_sets(turns, range(6), -1)
    # 70 ways, 10 distinct under eight turns: refused before any is made.
    with pytest.raises(ValueError, match=r"10 symmetry-distinct ways \(70 in all\) exceed"):
        distinct_sets(necklace_turns(8), range(8), 4, max_distinct=9)
    assert len(distinct_sets(necklace_turns(8), range(8), 4, max_distinct=10)) == 10
