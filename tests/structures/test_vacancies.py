import tracemalloc
from math import comb

import numpy as np
import pytest
from pymatgen.analysis.ewald import EwaldSummation

from lrlo.structures.ewald import Compensation, ewald_energy
from lrlo.structures.frame import SiteKind
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import empty_frame
from lrlo.structures.rock_salt import CUBIC_CELL, rock_salt_frame
from lrlo.structures.vacancies import (
    Search,
    TooManyPatternsError,
    distinct_patterns,
    lithium_sublattices,
    lowest_by_energy,
    lowest_by_ewald,
    lowest_patterns,
    sample_patterns,
    sublattice_kinds,
)


def layers(model: PristineModel) -> dict[str, dict[int, int]]:
    occupation = model.occupation
    atom = {site: i for i, site in enumerate(occupation.occupied())}
    return {
        name: {site: atom[site] for site in occupation.sites_of("Li", *kinds)}
        for name, kinds in sublattice_kinds(occupation.frame).items()
    }


def quota(li_layer: int, tm_layer: int) -> dict[str, int]:
    return {"Li layer": li_layer, "TM layer": tm_layer}


def test_energies_are_those_of_one_structure_at_a_time(paper: PristineModel) -> None:
    lithium = layers(paper)
    charges = paper.composition.oxidation_states
    structure = paper.occupation.to_structure()
    sample = lowest_patterns(structure, charges, lithium, quota(13, 1), n_patterns=5, seed=0)
    all_sites = {**lithium["Li layer"], **lithium["TM layer"]}
    for pattern in sample.patterns:
        kept = set(pattern.kept)
        charged = structure.copy()
        values = np.array([float(charges[s.specie.symbol]) for s in charged])
        removed = [atom for site, atom in all_sites.items() if site not in kept]
        values[removed] = 0.0
        tm = [i for i, s in enumerate(charged) if s.specie.symbol in ("Ni", "Mn", "Co")]
        values[tm] -= values.sum() / len(tm)
        charged.add_oxidation_state_by_site(values.tolist())
        charged.remove_sites(removed)
        assert pattern.ewald_energy == pytest.approx(EwaldSummation(charged).total_energy, abs=1e-3)


def test_all_patterns_are_counted_and_the_lowest_come_first(paper: PristineModel) -> None:
    lithium = layers(paper)
    sample = lowest_patterns(
        paper.occupation.to_structure(),
        paper.composition.oxidation_states,
        lithium,
        quota(12, 1),
        n_patterns=100,
        seed=0,
    )
    assert sample.n_total == sample.n_seen == comb(15, 12) * 2
    energies = [pattern.ewald_energy for pattern in sample.patterns]
    assert energies == sorted(energies)
    assert len({p.kept for p in sample.patterns}) == 100
    assert all(len(lithium["Li layer"].keys() & set(p.kept)) == 12 for p in sample.patterns)
    assert all(len(lithium["TM layer"].keys() & set(p.kept)) == 1 for p in sample.patterns)


def test_large_numbers_are_sampled_with_the_seed(paper: PristineModel) -> None:
    lithium = layers(paper)

    def sample(seed: int):
        return lowest_patterns(
            paper.occupation.to_structure(),
            paper.composition.oxidation_states,
            lithium,
            quota(7, 1),
            n_patterns=3,
            seed=seed,
            max_seen=200,
        )

    assert sample(1).n_seen <= 200 < sample(1).n_total
    assert sample(1) == sample(1)


def test_quota_beyond_the_layer_is_refused(paper: PristineModel) -> None:
    lithium = layers(paper)
    with pytest.raises(ValueError, match="cannot keep 3 Li on 2 sites of the TM layer"):
        lowest_patterns(
            paper.occupation.to_structure(),
            paper.composition.oxidation_states,
            lithium,
            quota(5, 3),
            n_patterns=1,
            seed=0,
        )


def test_sublattices_are_the_layers_that_hold_li(
    li2mno3: PristineModel, licoo2: PristineModel
) -> None:
    both = lithium_sublattices(li2mno3.occupation)
    assert {name: len(sites) for name, sites in both.sites.items()} == {
        "Li layer": 18,
        "TM layer": 6,
    }
    assert list(lithium_sublattices(licoo2.occupation).sites) == ["Li layer"]
    rock_salt = empty_frame(rock_salt_frame(CUBIC_CELL))
    cations = rock_salt.frame.sites(SiteKind.CATION_OCT)
    mixed = rock_salt.with_species(
        dict(zip(cations.tolist(), ["Li", "Li", "Li", "Mn"], strict=True))
    )
    lattice = lithium_sublattices(mixed)
    assert lattice.n_classes({"cation sublattice": 2}) == 1  # the three Li are equivalent
    assert lattice.n_patterns({"cation sublattice": 2}) == 3
    with pytest.raises(ValueError, match="holds no Li"):
        lithium_sublattices(empty_frame(licoo2.occupation.frame))


def test_distinct_patterns_are_occupations_of_the_crystal(li2mno3: PristineModel) -> None:
    occupation = li2mno3.occupation
    lattice = lithium_sublattices(occupation)
    quotas = {"Li layer": 16, "TM layer": 5}
    patterns = list(distinct_patterns(lattice, quotas, limit=1000))
    assert len(patterns) == lattice.n_classes(quotas)
    assert sum(pattern.degeneracy for pattern in patterns) == comb(18, 2) * 6
    for pattern in patterns:
        delithiated = occupation.with_species(dict.fromkeys(pattern.removed))
        assert delithiated.sites_of("Li", SiteKind.LI_OCT) == pattern.kept["Li layer"]
        assert delithiated.sites_of("Li", SiteKind.TM_OCT) == pattern.kept["TM layer"]
        assert delithiated.count()["Mn"] == 12


def test_too_many_patterns_are_refused_with_the_count(li2mno3: PristineModel) -> None:
    lattice = lithium_sublattices(li2mno3.occupation)
    quotas = {"Li layer": 9, "TM layer": 3}
    n_classes = lattice.n_classes(quotas)
    with pytest.raises(TooManyPatternsError, match="sample_patterns") as refused:
        distinct_patterns(lattice, quotas, limit=n_classes - 1)  # refused before the first one
    assert refused.value.n_classes == n_classes
    assert refused.value.n_patterns == comb(18, 9) * comb(6, 3)
    assert f"{n_classes:,} distinct patterns" in str(refused.value)
    assert next(distinct_patterns(lattice, quotas, limit=n_classes)).degeneracy > 0


def test_the_stream_of_patterns_needs_no_memory(li2mno3: PristineModel) -> None:
    lattice = lithium_sublattices(li2mno3.occupation)
    quotas = {"Li layer": 6, "TM layer": 3}
    next(distinct_patterns(lattice, quotas, limit=10**6))
    tracemalloc.start()
    count = 0
    for _ in distinct_patterns(lattice, quotas, limit=10**6):
        count += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == lattice.n_classes(quotas) > 5_000
    assert peak < 2_500_000, count  # bytes, for 1024 patterns at a time


def test_samples_are_distinct_and_seeded(li2mno3: PristineModel) -> None:
    lattice = lithium_sublattices(li2mno3.occupation)
    quotas = {"Li layer": 9, "TM layer": 3}
    sample = sample_patterns(lattice, quotas, 50, seed=4)
    assert sample.search is Search.SAMPLE
    assert (sample.n_seen, sample.n_classes) == (50, lattice.n_classes(quotas))
    assert len({pattern.removed for pattern in sample.patterns}) == 50
    assert sample == sample_patterns(lattice, quotas, 50, seed=4)
    assert sample != sample_patterns(lattice, quotas, 50, seed=5)


def test_a_sample_of_all_classes_is_all_of_them(li2mno3: PristineModel) -> None:
    lattice = lithium_sublattices(li2mno3.occupation)
    quotas = {"Li layer": 16, "TM layer": 6}
    everything = list(distinct_patterns(lattice, quotas, limit=100))
    sample = sample_patterns(lattice, quotas, len(everything), seed=0)
    assert sorted(p.removed for p in sample.patterns) == sorted(p.removed for p in everything)
    assert sum(p.degeneracy for p in sample.patterns) == comb(18, 2)
    with pytest.raises(ValueError, match=r"cannot draw \d+ of \d+ distinct patterns"):
        sample_patterns(lattice, quotas, len(everything) + 1, seed=0)


def test_lowest_by_ewald_is_exact_or_says_that_it_is_annealed(licoo2: PristineModel) -> None:
    occupation = licoo2.occupation
    lattice = lithium_sublattices(occupation)
    quotas = {"Li layer": 9}
    found = [
        lowest_by_ewald(
            occupation,
            lattice,
            quotas,
            licoo2.composition.oxidation_states,
            compensation=Compensation.TRANSITION_METALS,
            n_patterns=3,
            seed=1,
            limit=limit,
        )
        for limit in (10**8, 10)
    ]
    assert [selection.search for selection in found] == [Search.EXHAUSTIVE, Search.ANNEALING]
    assert [selection.n_seen for selection in found] == [lattice.n_classes(quotas), None]
    assert found[0].compensation is Compensation.TRANSITION_METALS
    lowest = [selection.patterns[0].energy for selection in found]
    assert lowest[1] == pytest.approx(lowest[0], abs=1e-6)
    # the same energy as the ranking of all patterns, symmetry not used
    atom = {site: i for i, site in enumerate(occupation.occupied())}
    patterns = lowest_patterns(
        occupation.to_structure(),
        licoo2.composition.oxidation_states,
        {"Li layer": {site: atom[site] for site in lattice.sites["Li layer"]}},
        {"Li layer": 9},
        n_patterns=1,
        seed=0,
        max_seen=50_000,
    ).patterns
    assert found[0].patterns[0].energy == pytest.approx(patterns[0].ewald_energy, abs=1e-6)


def test_lowest_by_any_energy(licoo2: PristineModel) -> None:
    occupation = licoo2.occupation
    lattice = lithium_sublattices(occupation)
    quotas = {"Li layer": 9}
    charges = licoo2.composition.oxidation_states
    atoms = list(occupation.occupied())
    ions = [atoms.index(site) for site in lattice.all_sites]
    ewald = ewald_energy(occupation.to_structure(), charges, ions, Compensation.BACKGROUND)
    exact, sample = (
        lowest_by_energy(lattice, quotas, ewald.energies, n_patterns=4, seed=1, limit=limit)
        for limit in (10**6, 100)
    )
    assert exact.search is Search.EXHAUSTIVE
    assert exact.n_seen == exact.n_classes == lattice.n_classes(quotas)
    reference = lowest_by_ewald(
        occupation,
        lattice,
        quotas,
        charges,
        compensation=Compensation.BACKGROUND,
        n_patterns=4,
        seed=1,
    )
    energies = [pattern.energy for pattern in exact.patterns]
    assert energies == pytest.approx([pattern.energy for pattern in reference.patterns])
    assert (sample.search, sample.n_seen) == (Search.SAMPLE, 100)
    assert len(sample.patterns) == 4
    assert sample.patterns[0].energy >= exact.patterns[0].energy - 1e-9


def test_bad_requests(licoo2: PristineModel) -> None:
    lattice = lithium_sublattices(licoo2.occupation)
    quotas = {"Li layer": 9}

    def count(kept: np.ndarray) -> np.ndarray:
        return kept.sum(axis=1).astype(float)

    for ask, message in (
        (lambda: distinct_patterns(lattice, quotas, limit=0), "limit is at least 1, got 0"),
        (lambda: sample_patterns(lattice, quotas, 0, seed=0), "n_patterns is at least 1"),
        (
            lambda: lowest_by_energy(lattice, quotas, count, n_patterns=1, seed=0, limit=-1),
            "limit is at least 1, got -1",
        ),
        (
            lambda: lowest_by_energy(
                lattice, quotas, lambda kept: count(kept)[:-1], n_patterns=1, seed=0, limit=9
            ),
            "has to return 9 finite numbers",
        ),
        (
            lambda: lowest_by_energy(
                lattice, quotas, lambda kept: count(kept) * np.nan, n_patterns=1, seed=0, limit=9
            ),
            "has to return 9 finite numbers",
        ),
        (
            lambda: lowest_by_ewald(
                licoo2.occupation.with_species({lattice.sites["Li layer"][0]: None}),
                lattice,
                quotas,
                licoo2.composition.oxidation_states,
                compensation=Compensation.BACKGROUND,
                n_patterns=1,
                seed=0,
            ),
            "has no ion on sites",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            ask()
