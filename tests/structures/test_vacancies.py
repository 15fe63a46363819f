from math import comb

import numpy as np
import pytest
from pymatgen.analysis.ewald import EwaldSummation

from lrlo.structures.frame import SiteKind
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.vacancies import lowest_patterns


def layers(model: PristineModel) -> tuple[dict[int, int], dict[int, int]]:
    occupation = model.occupation
    atom = {site: i for i, site in enumerate(occupation.occupied())}
    return tuple(
        {site: atom[site] for site in occupation.sites_of("Li", kind)}
        for kind in (SiteKind.LI_OCT, SiteKind.TM_OCT)
    )


def test_energies_are_those_of_one_structure_at_a_time(paper: PristineModel) -> None:
    li_layer, tm_layer = layers(paper)
    charges = paper.composition.oxidation_states
    structure = paper.occupation.to_structure()
    sample = lowest_patterns(structure, charges, li_layer, tm_layer, (13, 1), n_patterns=5, seed=0)
    all_sites = {**li_layer, **tm_layer}
    for pattern in sample.patterns:
        kept = {*pattern.li_layer, *pattern.tm_layer}
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
    li_layer, tm_layer = layers(paper)
    sample = lowest_patterns(
        paper.occupation.to_structure(),
        paper.composition.oxidation_states,
        li_layer,
        tm_layer,
        (12, 1),
        n_patterns=100,
        seed=0,
    )
    assert sample.n_total == sample.n_seen == comb(15, 12) * 2
    energies = [pattern.ewald_energy for pattern in sample.patterns]
    assert energies == sorted(energies)
    assert len({(p.li_layer, p.tm_layer) for p in sample.patterns}) == 100
    assert all(len(p.li_layer) == 12 and len(p.tm_layer) == 1 for p in sample.patterns)


def test_large_numbers_are_sampled_with_the_seed(paper: PristineModel) -> None:
    li_layer, tm_layer = layers(paper)

    def sample(seed: int):
        return lowest_patterns(
            paper.occupation.to_structure(),
            paper.composition.oxidation_states,
            li_layer,
            tm_layer,
            (7, 1),
            n_patterns=3,
            seed=seed,
            max_seen=200,
        )

    assert sample(1).n_seen <= 200 < sample(1).n_total
    assert sample(1) == sample(1)


def test_quota_beyond_the_layer_is_refused(paper: PristineModel) -> None:
    li_layer, tm_layer = layers(paper)
    with pytest.raises(ValueError, match="cannot keep 3 Li on 2 sites of the TM layer"):
        lowest_patterns(
            paper.occupation.to_structure(),
            paper.composition.oxidation_states,
            li_layer,
            tm_layer,
            (5, 3),
            n_patterns=1,
            seed=0,
        )
