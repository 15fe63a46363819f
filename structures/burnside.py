"""How many patterns are distinct under symmetry, counted before any of them is made.

Burnside's lemma: the number of classes is the mean over the operations g of the number of
patterns that g leaves as they are. A pattern stays as it is where every cycle of g is either
kept or removed as a whole, so that the cycle lengths of g give that number (Pólya, Acta Math.
68, 145 (1937)), sublattice by sublattice. All counts are exact integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, prod

import numpy as np
from numpy.typing import NDArray

#: Cycles of an operation on one sublattice, as (length, number of cycles of this length).
CycleType = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class CycleIndex:
    """Cycle lengths of all operations of a permutation group, sublattice by sublattice.

    Attributes
    ----------
    types
        ``types[t][s]`` are the cycles that operations of type t have on sublattice s.
    numbers
        Operations of every type.
    type_of
        Type of every operation, shape (n_operations,).
    """

    types: tuple[tuple[CycleType, ...], ...]
    numbers: tuple[int, ...]
    type_of: NDArray[np.int64]

    def n_fixed(self, quotas: Sequence[int]) -> tuple[int, ...]:
        """Patterns that one operation of every type leaves as they are.

        Parameters
        ----------
        quotas
            Sites kept in every sublattice.
        """
        return tuple(
            prod(_ways(cycles, quota)[quota] for cycles, quota in zip(kind, quotas, strict=True))
            for kind in self.types
        )

    def n_classes(self, quotas: Sequence[int]) -> int:
        """Classes of patterns with these quotas (Burnside's lemma).

        Raises
        ------
        ValueError
            If the mean is no whole number: the operations are not a group.
        """
        total = sum(n * f for n, f in zip(self.numbers, self.n_fixed(quotas), strict=True))
        classes, remainder = divmod(total, len(self.type_of))
        if remainder:
            raise ValueError("the permutations are not a group: Burnside's mean is not whole")
        return classes


def cycle_index(permutations: NDArray[np.int64], sizes: Sequence[int]) -> CycleIndex:
    """Cycle index of a permutation group that keeps every sublattice.

    Parameters
    ----------
    permutations
        ``permutations[g, i]`` is where operation g moves site i, shape (n_operations, n_sites);
        the sites of a sublattice stand next to each other.
    sizes
        Sites of every sublattice, in their order; they add up to n_sites.

    Examples
    --------
    Necklaces of four beads, two of them black: neighbours or opposite.

    >>> import numpy as np
    >>> turns = np.array([[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]])
    >>> cycle_index(turns, [4]).n_classes([2])
    2
    """
    lengths = _cycle_lengths(permutations)
    ends = np.cumsum(sizes)
    ordered = [
        np.sort(lengths[:, start:end], axis=1)
        for start, end in zip(ends - sizes, ends, strict=True)
    ]
    rows, type_of, numbers = np.unique(
        np.concatenate(ordered, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    types = tuple(
        tuple(_cycle_type(row[end - size : end]) for size, end in zip(sizes, ends, strict=True))
        for row in rows
    )
    return CycleIndex(types, tuple(int(n) for n in numbers), type_of.reshape(-1))


def draw_fixed_pattern(
    permutation: NDArray[np.int64],
    sizes: Sequence[int],
    quotas: Sequence[int],
    random: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw one of the patterns that an operation leaves as they are, all equally likely.

    Parameters
    ----------
    permutation
        Where the operation moves every site, shape (n_sites,).
    sizes, quotas
        Sites of every sublattice, and how many of them are kept.
    random
        Source of random numbers.

    Returns
    -------
    kept
        Which sites are kept, shape (n_sites,).
    """
    kept = np.zeros(len(permutation), dtype=bool)
    start = 0
    for size, quota in zip(sizes, quotas, strict=True):
        cycles: dict[int, list[list[int]]] = {}
        for cycle in _cycles(permutation, range(start, start + size)):
            cycles.setdefault(len(cycle), []).append(cycle)
        kind = tuple((length, len(cycles[length])) for length in sorted(cycles))
        left = quota
        for position in range(len(kind) - 1, -1, -1):
            length, number = kind[position]
            before = _ways(kind[:position], quota)
            most = min(number, left // length)
            weights = [comb(number, m) * before[left - m * length] for m in range(most + 1)]
            total = sum(weights)
            taken = int(random.choice(most + 1, p=[weight / total for weight in weights]))
            for index in random.choice(number, taken, replace=False):
                kept[cycles[length][index]] = True
            left -= taken * length
        start += size
    return kept


@lru_cache(maxsize=4096)
def _ways(cycles: CycleType, quota: int) -> tuple[int, ...]:
    """Choices of cycles that hold 0, 1, … quota sites."""
    ways = [1] + [0] * quota
    for length, number in cycles:
        ways = [
            sum(
                comb(number, taken) * ways[total - taken * length]
                for taken in range(min(number, total // length) + 1)
            )
            for total in range(quota + 1)
        ]
    return tuple(ways)


def _cycle_lengths(permutations: NDArray[np.int64]) -> NDArray[np.int64]:
    """Length of the cycle that every site is in, shape (n_operations, n_sites)."""
    start = np.broadcast_to(np.arange(permutations.shape[1]), permutations.shape)
    lengths = np.zeros(permutations.shape, dtype=np.int64)
    moved = start
    for length in range(1, permutations.shape[1] + 1):
        moved = np.take_along_axis(permutations, moved, axis=1)
        lengths[(lengths == 0) & (moved == start)] = length
        if lengths.all():
            break
    return lengths


def _cycle_type(lengths: NDArray[np.int64]) -> CycleType:
    values, counts = np.unique(lengths, return_counts=True)
    return tuple((int(v), int(n) // int(v)) for v, n in zip(values, counts, strict=True))


def _cycles(permutation: NDArray[np.int64], sites: range) -> list[list[int]]:
    """Cycles of an operation among `sites`."""
    cycles, seen = [], set()
    for first in sites:
        if first in seen:
            continue
        cycle, site = [], first
        while site not in seen:
            seen.add(site)
            cycle.append(site)
            site = int(permutation[site])
        cycles.append(cycle)
    return cycles
