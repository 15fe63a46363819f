import tracemalloc
from itertools import combinations, permutations, product
from math import comb

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare

from lrlo.structures.enumeration import (
    PatternClasses,
    Sublattices,
    class_chunks,
    draw_classes,
    sublattices,
)
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.symmetry import site_permutations


def lithium_oxide(*repeats: int) -> Occupation:
    """O3 LiCoO2, one Li per primitive cell."""
    frame = layered_frame(Stacking.O3, np.diag(repeats))
    cations = {int(site): "Li" for site in frame.sites(SiteKind.LI_OCT)}
    cations |= {int(site): "Co" for site in frame.sites(SiteKind.TM_OCT)}
    return empty_frame(frame).with_species(cations)


def crystal(*repeats: int) -> Sublattices:
    occupation = lithium_oxide(*repeats)
    return sublattices(
        site_permutations(occupation), {"Li layer": occupation.sites_of("Li", SiteKind.LI_OCT)}
    )


def layers(model: PristineModel) -> Sublattices:
    occupation = model.occupation
    return sublattices(
        site_permutations(occupation),
        {
            "Li layer": occupation.sites_of("Li", SiteKind.LI_OCT),
            "TM layer": occupation.sites_of("Li", SiteKind.TM_OCT),
        },
    )


def ring(n: int, reflections: bool = False) -> Sublattices:
    turns = [np.roll(np.arange(n), shift) for shift in range(n)]
    return sublattices(
        np.array(turns + [turn[::-1] for turn in turns] if reflections else turns),
        {"ring": range(n)},
    )


def edges(n_vertices: int) -> Sublattices:
    """Edges of the complete graph under all relabellings of its vertices."""
    pairs = list(combinations(range(n_vertices), 2))
    index = {pair: i for i, pair in enumerate(pairs)}
    table = [
        [index[min(p[i], p[j]), max(p[i], p[j])] for i, j in pairs]
        for p in permutations(range(n_vertices))
    ]
    return sublattices(np.array(table), {"edges": range(len(pairs))})


def everything(
    lattice: Sublattices, quotas: dict[str, int], chunk_size: int = 65_536
) -> PatternClasses:
    chunks = list(class_chunks(lattice, quotas, chunk_size))
    return PatternClasses(
        np.concatenate([chunk.kept for chunk in chunks]),
        np.concatenate([chunk.degeneracies for chunk in chunks]),
    )


def orbits(lattice: Sublattices, quotas: dict[str, int]) -> dict[frozenset[int], int]:
    """Every orbit by its first pattern, with its size; all patterns are looked at."""
    starts = np.cumsum([0, *lattice.sizes])
    choices = [
        combinations(range(start, start + size), quota)
        for start, size, quota in zip(starts, lattice.sizes, quotas.values(), strict=False)
    ]
    sizes: dict[frozenset[int], int] = {}
    seen: set[frozenset[int]] = set()
    for parts in product(*choices):
        pattern = frozenset(site for part in parts for site in part)
        if pattern not in seen:
            images = {frozenset(row) for row in lattice.permutations[:, sorted(pattern)].tolist()}
            seen |= images
            sizes[pattern] = len(images)
    return sizes


def rows(classes: PatternClasses) -> list[frozenset[int]]:
    return [frozenset(np.flatnonzero(row).tolist()) for row in classes.kept]


@pytest.mark.parametrize(
    ("n", "kept", "necklaces", "bracelets"), [(6, 3, 4, 3), (12, 6, 80, 50), (13, 4, 55, 35)]
)
def test_necklaces_and_bracelets(n: int, kept: int, necklaces: int, bracelets: int) -> None:
    for lattice, count in ((ring(n), necklaces), (ring(n, reflections=True), bracelets)):
        assert lattice.n_classes({"ring": kept}) == count
        classes = everything(lattice, {"ring": kept})
        assert len(classes.kept) == count
        assert classes.degeneracies.sum() == comb(n, kept)


def test_graphs_of_six_vertices() -> None:
    """Graphs up to isomorphism by number of edges (OEIS A008406)."""
    lattice = edges(6)
    counts = [lattice.n_classes({"edges": m}) for m in range(16)]
    assert counts == [1, 1, 2, 5, 9, 15, 21, 24, 24, 21, 15, 9, 5, 2, 1, 1]
    assert [len(everything(lattice, {"edges": m}).kept) for m in range(16)] == counts


def test_every_orbit_comes_once_with_its_size_and_its_first_pattern(
    li2mno3: PristineModel,
) -> None:
    lattice = layers(li2mno3)
    assert lattice.sizes == (18, 6)
    for quotas in (
        {"Li layer": 2, "TM layer": 3},
        {"Li layer": 0, "TM layer": 2},
        {"Li layer": 16, "TM layer": 0},
        {"Li layer": 15, "TM layer": 6},
    ):
        classes = everything(lattice, quotas)
        found = dict(zip(rows(classes), classes.degeneracies.tolist(), strict=True))
        assert found == orbits(lattice, quotas)


def test_patterns_have_their_quotas_in_lexicographic_order(li2mno3: PristineModel) -> None:
    lattice = layers(li2mno3)
    kept = everything(lattice, {"Li layer": 4, "TM layer": 2}).kept
    assert (kept[:, :18].sum(axis=1) == 4).all()
    assert (kept[:, 18:].sum(axis=1) == 2).all()
    order = [row.tobytes() for row in kept]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == len(order)


def test_crystal_with_48_operations() -> None:
    lattice = crystal(3, 4, 2)
    assert lattice.n_operations == 48
    classes = everything(lattice, {"Li layer": 12})
    assert len(classes.kept) == lattice.n_classes({"Li layer": 12}) == 56_988
    assert classes.degeneracies.sum() == comb(24, 12)
    assert set(classes.degeneracies.tolist()) <= {n for n in range(1, 49) if 48 % n == 0}


@pytest.mark.parametrize("kept", [1, 3, 77])
def test_more_than_64_sites(kept: int) -> None:
    """Incongruent triangles with corners of a regular n-gon: n^2 / 12, rounded."""
    expected = {1: 1, 3: round(80**2 / 12), 77: round(80**2 / 12)}[kept]
    lattice = ring(80, reflections=True)
    assert lattice.n_classes({"ring": kept}) == expected
    assert len(everything(lattice, {"ring": kept}).kept) == expected


def test_a_crystal_of_108_li() -> None:
    lattice = crystal(6, 6, 3)
    classes = everything(lattice, {"Li layer": 3})
    assert len(classes.kept) == lattice.n_classes({"Li layer": 3})
    assert classes.degeneracies.sum() == comb(108, 3)


def test_counts_are_exact_integers_of_any_size() -> None:
    lattice = crystal(6, 6, 3)
    total = sum(lattice.n_classes({"Li layer": n}) for n in range(109))
    n_cycles = []
    for permutation in lattice.permutations.tolist():
        seen: set[int] = set()
        n_cycles.append(0)
        for site in range(108):
            n_cycles[-1] += site not in seen
            while site not in seen:
                seen.add(site)
                site = permutation[site]
    assert total * lattice.n_operations == sum(2**n for n in n_cycles)
    assert lattice.n_classes({"Li layer": 54}) > comb(108, 54) // lattice.n_operations


def test_without_symmetry_every_pattern_is_its_own_class() -> None:
    lattice = sublattices(np.arange(8)[None], {"a": [7, 1, 3], "b": [0, 2]})
    classes = everything(lattice, {"a": 2, "b": 1})
    assert len(classes.kept) == lattice.n_patterns({"a": 2, "b": 1}) == 6
    assert (classes.degeneracies == 1).all()
    kept_sites = [frozenset(lattice.all_sites[row].tolist()) for row in classes.kept]
    assert set(kept_sites) == {
        frozenset([*pair, site]) for pair in combinations([7, 1, 3], 2) for site in (0, 2)
    }


@pytest.mark.parametrize("kept", [0, 12])
def test_nothing_or_everything_kept(kept: int) -> None:
    classes = everything(crystal(3, 2, 2), {"Li layer": kept})
    assert classes.degeneracies.tolist() == [1]
    assert (classes.kept == bool(kept)).all()


@pytest.mark.parametrize("chunk_size", [1, 7, 4799, 4800])
def test_chunks_join_to_the_whole(chunk_size: int) -> None:
    lattice = crystal(5, 2, 2)
    quotas = {"Li layer": 10}
    chunks = list(class_chunks(lattice, quotas, chunk_size))
    assert all(len(chunk.kept) <= chunk_size for chunk in chunks)
    whole = everything(lattice, quotas)
    assert np.array_equal(np.concatenate([chunk.kept for chunk in chunks]), whole.kept)


def test_memory_does_not_grow_with_the_number_of_classes() -> None:
    lattice = crystal(7, 2, 2)
    next(class_chunks(lattice, {"Li layer": 14}, 1000))  # compiled
    tracemalloc.start()
    count = 0
    for chunk in class_chunks(lattice, {"Li layer": 14}, 1000):
        count += len(chunk.kept)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 718_731
    assert peak < 500_000  # bytes; one row alone of every class would take 20 million


def frequencies(classes: PatternClasses, draws: PatternClasses) -> NDArray[np.int64]:
    """How often every class was drawn."""
    index = {row.tobytes(): i for i, row in enumerate(classes.kept)}
    drawn = [index[row.tobytes()] for row in draws.kept]
    assert (classes.degeneracies[drawn] == draws.degeneracies).all()
    return np.bincount(drawn, minlength=len(index))


def test_classes_are_drawn_with_equal_probability(li2mno3: PristineModel) -> None:
    for lattice, quotas in (
        (crystal(3, 2, 2), {"Li layer": 6}),
        (layers(li2mno3), {"Li layer": 2, "TM layer": 1}),
    ):
        classes = everything(lattice, quotas)
        n_draws = 60 * len(classes.kept)
        draws = draw_classes(lattice, quotas, n_draws, np.random.default_rng(5))
        counts = frequencies(classes, draws)
        assert chisquare(counts).pvalue > 1e-3
        # the same number of draws tells the classes apart from patterns
        shares = classes.degeneracies / classes.degeneracies.sum()
        assert chisquare(counts, shares * n_draws).pvalue < 1e-12


def test_draws_reach_patterns_of_every_symmetry_in_large_cells() -> None:
    lattice = crystal(6, 6, 3)
    draws = draw_classes(lattice, {"Li layer": 54}, 20, np.random.default_rng(1))
    assert (draws.kept.sum(axis=1) == 54).all()
    assert (lattice.n_operations % draws.degeneracies == 0).all()


def quarter_turns() -> NDArray[np.int64]:
    return np.array([np.roll(np.arange(4), n) for n in range(4)])


@pytest.mark.parametrize(
    ("table", "sites", "message"),
    [
        (quarter_turns(), {}, "no sublattice"),
        (quarter_turns(), {"a": []}, "the a has no sites"),
        (quarter_turns(), {"a": [0, 1, 2, 4]}, "site 4 of the a does not exist; sites are 0 to 3"),
        (quarter_turns(), {"a": [0, 1, 2, 3, 1]}, "site 1 is given twice: a and a"),
        (quarter_turns(), {"a": [0, 1, 2, 3], "b": [0]}, "site 0 is given twice: a and b"),
        (quarter_turns(), {"a": [0, 1]}, "operation 1 moves sites of the a out of it"),
        (quarter_turns()[:2], {"a": range(4)}, "not a group"),
        (quarter_turns()[1:], {"a": range(4)}, "not a group"),
        (quarter_turns()[2:3], {"a": range(4)}, "not a group"),
        (np.zeros((1, 4), dtype=int), {"a": range(4)}, "holds the sites 0 to 3 once"),
        (np.arange(4), {"a": range(4)}, r"operations by sites; got shape \(4,\)"),
        (quarter_turns() + 0.5, {"a": range(4)}, "table of integers"),
    ],
)
def test_bad_sublattices(table: NDArray[np.int64], sites: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sublattices(table, sites)


@pytest.mark.parametrize(
    ("quotas", "message"),
    [
        ({"Li layer": 9}, "cannot keep 9 of the 8 sites of the Li layer; allowed are 0 to 8"),
        ({"Li layer": -1}, "cannot keep -1 of the 8 sites"),
        ({"Li layer": 2.5}, "cannot keep 2.5 of the 8 sites"),
        ({"TM layer": 1}, r"quotas are given for \['TM layer'\]"),
        ({}, r"the sublattices are \['Li layer'\]"),
    ],
)
def test_bad_quotas(quotas: dict[str, int], message: str) -> None:
    lattice = crystal(2, 2, 2)
    random = np.random.default_rng(0)
    for ask in (
        lattice.n_classes,
        lattice.n_patterns,
        lambda quotas: class_chunks(lattice, quotas),
        lambda quotas: draw_classes(lattice, quotas, 1, random),
    ):
        with pytest.raises(ValueError, match=message):
            ask(quotas)


def test_bad_numbers() -> None:
    lattice = crystal(2, 2, 2)
    with pytest.raises(ValueError, match="chunk_size is at least 1, got 0"):
        class_chunks(lattice, {"Li layer": 1}, 0)
    with pytest.raises(ValueError, match="n_draws is at least 1, got 0"):
        draw_classes(lattice, {"Li layer": 1}, 0, np.random.default_rng(0))
