import numpy as np
import pytest
from numpy.typing import NDArray
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Lattice, Structure

from lrlo.structures.enumeration import Sublattices, class_chunks, sublattices
from lrlo.structures.ewald import (
    Compensation,
    EwaldEnergy,
    annealed_classes,
    ewald_energy,
    lowest_classes,
)
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import empty_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.symmetry import site_permutations

CHARGES = {"Li": 1.0, "Co": 3.0, "O": -2.0}


def case(*repeats: int) -> tuple[Sublattices, EwaldEnergy]:
    """Li of O3 LiCoO2, one per primitive cell, and the energy of its patterns."""
    frame = layered_frame(Stacking.O3, np.diag(repeats))
    li = frame.sites(SiteKind.LI_OCT)
    cations = {int(site): "Li" for site in li}
    cations |= {int(site): "Co" for site in frame.sites(SiteKind.TM_OCT)}
    occupation = empty_frame(frame).with_species(cations)
    lattice = sublattices(site_permutations(occupation), {"Li layer": li})
    atoms = list(occupation.occupied())
    ions = [atoms.index(site) for site in lattice.all_sites]
    structure = occupation.to_structure()
    return lattice, ewald_energy(structure, CHARGES, ions, Compensation.TRANSITION_METALS)


def all_energies(
    lattice: Sublattices, energy: EwaldEnergy, quotas: dict[str, int]
) -> NDArray[np.float64]:
    return np.concatenate([energy.energies(c.kept) for c in class_chunks(lattice, quotas)])


def li_of(model: PristineModel) -> tuple[Structure, list[int]]:
    structure = model.occupation.to_structure()
    return structure, [i for i, site in enumerate(structure) if site.specie.symbol == "Li"]


@pytest.mark.parametrize("compensation", list(Compensation))
def test_energies_are_pymatgens_of_one_structure_at_a_time(
    paper: PristineModel, compensation: Compensation
) -> None:
    structure, ions = li_of(paper)
    charges = paper.composition.oxidation_states
    energy = ewald_energy(structure, charges, ions, compensation)
    kept = np.random.default_rng(3).random((6, len(ions))) < 0.5
    kept[0] = True
    energies = energy.energies(kept)
    for pattern, found in zip(kept, energies, strict=True):
        removed = [ion for ion, stays in zip(ions, pattern, strict=True) if not stays]
        values = np.array([float(charges[site.specie.symbol]) for site in structure])
        values[removed] = 0.0
        if compensation is Compensation.TRANSITION_METALS:
            metals = [
                i for i, site in enumerate(structure) if site.specie.symbol in ("Ni", "Mn", "Co")
            ]
            values[metals] -= values.sum() / len(metals)
            assert values.sum() == pytest.approx(0.0, abs=1e-9)
        alone = structure.copy()
        alone.add_oxidation_state_by_site(values.tolist())
        alone.remove_sites(removed)
        assert found == pytest.approx(EwaldSummation(alone).total_energy, abs=1e-6)
    assert np.ptp(energies) > 1.0


def test_madelung_energy_of_rock_salt() -> None:
    """-1.747565 e^2 / (4 pi epsilon_0 r) per ion pair (Madelung constant of NaCl)."""
    structure = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.0), ["Li", "F"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    energy = ewald_energy(structure, {"Li": 1, "F": -1}, range(4), Compensation.BACKGROUND)
    all_kept = energy.energies(np.ones((1, 4), dtype=bool))[0]
    assert all_kept / 4 == pytest.approx(-1.747565 * 14.399645 / 2.0, rel=1e-5)


def test_lowest_classes_are_those_of_a_full_enumeration() -> None:
    for repeats, kept in (((4, 2, 2), 8), ((5, 2, 2), 6)):
        lattice, energy = case(*repeats)
        quotas = {"Li layer": kept}
        for wanted in (1, 10):
            ranked = lowest_classes(lattice, quotas, energy, wanted)
            expected = np.sort(all_energies(lattice, energy, quotas))[:wanted]
            assert ranked.energies == pytest.approx(expected, abs=1e-9)
            assert len({row.tobytes() for row in ranked.classes.kept}) == wanted


def test_two_sublattices(li2mno3: PristineModel) -> None:
    occupation = li2mno3.occupation
    lattice = sublattices(
        site_permutations(occupation),
        {
            "Li layer": occupation.sites_of("Li", SiteKind.LI_OCT),
            "TM layer": occupation.sites_of("Li", SiteKind.TM_OCT),
        },
    )
    atoms = list(occupation.occupied())
    energy = ewald_energy(
        occupation.to_structure(),
        {"Li": 1, "Mn": 4, "O": -2},
        [atoms.index(site) for site in lattice.all_sites],
        Compensation.BACKGROUND,
    )
    for quotas in ({"Li layer": 14, "TM layer": 3}, {"Li layer": 3, "TM layer": 0}):
        ranked = lowest_classes(lattice, quotas, energy, 20)
        assert ranked.energies == pytest.approx(
            np.sort(all_energies(lattice, energy, quotas))[:20], abs=1e-9
        )
        assert (ranked.classes.kept[:, :18].sum(axis=1) == quotas["Li layer"]).all()
        annealed = annealed_classes(lattice, quotas, energy, 1, seed=0, n_runs=2, n_steps=5000)
        assert annealed.energies == pytest.approx(ranked.energies[:1], abs=1e-9)
        assert (annealed.classes.kept == ranked.classes.kept[:1]).all()


def test_all_classes_are_kept_where_energies_are_equal() -> None:
    """Half filled, a pattern has the energy of its complement, distinct or not."""
    lattice, energy = case(4, 2, 2)
    quotas = {"Li layer": 8}
    n_classes = lattice.n_classes(quotas)
    ranked = lowest_classes(lattice, quotas, energy, 2 * n_classes)
    assert len(ranked.energies) == n_classes == 283
    assert len(np.unique(ranked.energies.round(6))) < 150
    complements = energy.energies(~ranked.classes.kept)
    assert complements == pytest.approx(ranked.energies, abs=1e-6)
    assert ranked.classes.degeneracies.sum() == lattice.n_patterns(quotas)
    assert (np.diff(ranked.energies) > -1e-6).all()


def test_symmetry_does_not_change_what_is_lowest() -> None:
    lattice, energy = case(3, 2, 2)
    quotas = {"Li layer": 5}
    trivial = sublattices(np.arange(12)[None], {"Li layer": range(12)})
    ranked = lowest_classes(lattice, quotas, energy, 5)
    patterns = lowest_classes(trivial, quotas, energy, int(ranked.classes.degeneracies.sum()))
    assert patterns.energies == pytest.approx(
        np.repeat(ranked.energies, ranked.classes.degeneracies), abs=1e-9
    )


def test_annealing_finds_the_exact_ground_state_and_repeats() -> None:
    lattice, energy = case(3, 4, 2)
    quotas = {"Li layer": 12}
    exact = lowest_classes(lattice, quotas, energy, 1)
    runs = [annealed_classes(lattice, quotas, energy, 5, seed=2) for _ in range(2)]
    assert runs[0].energies[0] == pytest.approx(exact.energies[0], abs=1e-9)
    assert (runs[0].classes.kept[0] == exact.classes.kept[0]).all()
    assert runs[0].classes.degeneracies[0] == exact.classes.degeneracies[0]
    assert len({row.tobytes() for row in runs[0].classes.kept}) == 5
    assert (runs[0].classes.kept == runs[1].classes.kept).all()


@pytest.mark.parametrize("kept", [0, 12])
def test_one_pattern_only(kept: int) -> None:
    lattice, energy = case(3, 2, 2)
    for ranked in (
        lowest_classes(lattice, {"Li layer": kept}, energy, 3),
        annealed_classes(lattice, {"Li layer": kept}, energy, 3, seed=0),
    ):
        assert ranked.classes.degeneracies.tolist() == [1]
        assert ranked.energies == pytest.approx(energy.energies(np.full((1, 12), bool(kept))))


def test_bad_ions_and_charges() -> None:
    structure = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.0), ["Li", "F"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    charges = {"Li": 1.0, "F": -1.0}
    for given, ions, compensation, message in (
        ({"Li": 1.0}, [0], Compensation.BACKGROUND, "no charge given for F"),
        (charges, [8], Compensation.BACKGROUND, "ions are numbered 0 to 7"),
        (charges, [-1], Compensation.BACKGROUND, "ions are numbered 0 to 7"),
        (charges, [1, 1], Compensation.BACKGROUND, "an ion is given twice"),
        (charges, [1], Compensation.TRANSITION_METALS, "no transition metal"),
    ):
        with pytest.raises(ValueError, match=message):
            ewald_energy(structure, given, ions, compensation)


def test_bad_searches() -> None:
    lattice, energy = case(3, 2, 2)
    quotas = {"Li layer": 6}
    for search in (
        lambda lattice, n: lowest_classes(lattice, quotas, energy, n),
        lambda lattice, n: annealed_classes(lattice, quotas, energy, n, seed=0),
    ):
        with pytest.raises(ValueError, match="at least one class has to be asked for, got 0"):
            search(lattice, 0)
        with pytest.raises(ValueError, match="the energy is for 12 sites, the sublattices have 6"):
            search(sublattices(np.arange(6)[None], {"Li layer": range(6)}), 1)
        shuffled = np.roll(np.arange(12), 1)
        turns = [np.arange(12)]
        while len(turns) < 12:
            turns.append(turns[-1][shuffled])
        with pytest.raises(ValueError, match="symmetry operations change the energy"):
            search(sublattices(np.array(turns), {"Li layer": range(12)}), 1)
    with pytest.raises(ValueError, match="got 0 runs of 10 steps"):
        annealed_classes(lattice, quotas, energy, 1, seed=0, n_runs=0, n_steps=10)
