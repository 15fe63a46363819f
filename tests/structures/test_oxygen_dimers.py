import numpy as np
import pytest

from lrlo.structures.assignment import assign
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.oxygen_dimers import form_dimer, neighbouring_oxygen
from lrlo.structures.oxygen_environment import OxygenClass
from lrlo.structures.stacking import Stacking


@pytest.fixture(scope="module")
def charged(li2mno3: PristineModel) -> Occupation:
    """Li2MnO3 with the Li of one honeycomb centre gone."""
    occupation = li2mno3.occupation
    return occupation.with_species({occupation.sites_of("Li", SiteKind.TM_OCT)[0]: None})


def atoms_of(occupation: Occupation, sites: tuple[int, int]) -> tuple[int, int]:
    order = occupation.occupied()
    return order.index(sites[0]), order.index(sites[1])


def test_neighbours_of_close_packed_oxygen_are_twelve() -> None:
    """Six in the plane, three across the slab, three across the gap; each pair counts once."""
    frame = layered_frame(Stacking.O3, np.diag([3, 3, 3]))
    pairs = neighbouring_oxygen(empty_frame(frame))
    a, lateral = frame.a, frame.a / np.sqrt(3)
    expected = {
        round(a, 3): 6,
        round(float(np.hypot(lateral, frame.tm_slab)), 3): 3,
        round(float(np.hypot(lateral, frame.li_gap)), 3): 3,
    }
    n_oxygen = len(frame.sites(SiteKind.ANION))
    found: dict[float, float] = {}
    for pair in pairs:
        key = round(pair.distance, 3)
        found[key] = found.get(key, 0) + 2 * pair.degeneracy / n_oxygen
    assert found == expected


def test_pairs_around_a_vacancy_come_first(charged: Occupation) -> None:
    pairs = neighbouring_oxygen(charged)
    centre = charged.sites_of(None, SiteKind.TM_OCT)[0]
    around = [p for p in pairs if p.vacancies]
    assert pairs[: len(around)] == tuple(around)
    assert sum(p.degeneracy for p in around) == 12  # edges of an octahedron
    assert {p.vacancies for p in around} == {(centre,)}
    assert all(p.o_classes == (OxygenClass.O4, OxygenClass.O4) for p in around)
    # The site is 2/m: no orbit is larger than four.
    assert all(p.degeneracy in (1, 2, 4) for p in around)


def test_length_midpoint_and_everything_else_stay(charged: Occupation) -> None:
    structure = charged.to_structure()
    structure.perturb(0.1, seed=1)
    atoms = atoms_of(charged, neighbouring_oxygen(charged)[0].sites)
    dimer = form_dimer(structure, atoms, 1.32)
    assert dimer.length == pytest.approx(1.32, abs=1e-9)
    assert dimer.structure.get_distance(*atoms) == pytest.approx(1.32, abs=1e-9)
    shift = dimer.structure.cart_coords - structure.cart_coords
    np.testing.assert_allclose(shift.sum(axis=0), 0, atol=1e-9)  # the midpoint stays
    moved = np.linalg.norm(shift, axis=1)
    assert set(np.flatnonzero(moved > 1e-9).tolist()) == set(atoms)
    np.testing.assert_allclose(moved[list(atoms)], dimer.moved, atol=1e-9)
    before = structure.get_distance(*atoms)
    assert dimer.moved == pytest.approx((before - 1.32) / 2)
    assert structure.get_distance(*atoms) == before  # the input is not touched


@pytest.mark.parametrize("direction", [(0, 0, 1), (0, 0, -3), (1, 1, 0.5)])
def test_direction(charged: Occupation, direction: tuple[float, float, float]) -> None:
    structure = charged.to_structure()
    atoms = atoms_of(charged, neighbouring_oxygen(charged)[0].sites)
    dimer = form_dimer(structure, atoms, 1.45, direction)
    distance, image = structure[atoms[0]].distance_and_image(structure[atoms[1]])
    first, second = (dimer.structure[atom].coords for atom in atoms)
    vector = second + image @ structure.lattice.matrix - first
    unit = np.array(direction) / np.linalg.norm(direction)
    assert abs(vector @ unit) == pytest.approx(1.45)
    assert np.linalg.norm(vector) == pytest.approx(1.45)
    old = structure[atoms[1]].coords + image @ structure.lattice.matrix - structure[atoms[0]].coords
    assert vector @ old >= 0  # not turned round
    np.testing.assert_allclose(vector / 2 + first, old / 2 + structure[atoms[0]].coords)
    assert distance == pytest.approx(np.linalg.norm(old))


def test_bonds_kept_and_lost_are_counted(charged: Occupation) -> None:
    """An O beside one vacancy has two Mn and three Li; with an empty centre all are within 2.2."""
    structure = charged.to_structure()
    for pair in neighbouring_oxygen(charged)[:4]:
        atoms = atoms_of(charged, pair.sites)
        dimer = form_dimer(structure, atoms, 1.25)
        for atom, kept, lost in zip(atoms, dimer.kept, dimer.lost, strict=True):
            assert len(kept) + len(lost) == 5
            for cation in kept:
                assert dimer.structure.get_distance(atom, cation) <= 2.6
            for cation in lost:
                assert dimer.structure.get_distance(atom, cation) > 2.6
                assert structure.get_distance(atom, cation) <= 2.6
    assert any(any(dimer.lost) for dimer in [form_dimer(structure, atoms, 1.25)])


def test_dimer_across_the_cell_boundary_is_not_torn(charged: Occupation) -> None:
    structure = charged.to_structure()
    sites = next(
        pair.sites
        for pair in neighbouring_oxygen(charged)
        if np.abs(np.subtract(*(charged.frame.frac_coords[s] for s in pair.sites))).max() > 0.5
    )
    atoms = atoms_of(charged, sites)
    dimer = form_dimer(structure, atoms, 1.4)
    assert dimer.moved < 1.0
    # Half an O-O distance from its site, an O is still explained.
    assert assign(dimer.structure, charged.frame).occupation == charged


@pytest.mark.parametrize(
    ("atoms", "length", "direction", "message"),
    [
        ("pair", 0.9, None, r"0.9 Å is out of bounds; allowed 1.15 to 2.0"),
        ("pair", 0.0, None, "out of bounds"),
        ("pair", -1.3, None, "out of bounds"),
        ("pair", 2.4, None, "out of bounds"),
        ("pair", float("nan"), None, "out of bounds"),
        ("pair", 1.3, (0, 0, 0), "three finite components"),
        ("pair", 1.3, (1, 0), "three finite components"),
        ("pair", 1.3, (0, float("inf"), 0), "three finite components"),
        ("same", 1.3, None, "no neighbours"),
        ("far", 1.3, None, "no neighbours"),
        ("cation", 1.3, None, "is not an O"),
        ("absent", 1.3, None, "is not an O"),
    ],
)
def test_bad_requests(charged: Occupation, atoms, length, direction, message) -> None:
    structure = charged.to_structure()
    pair = atoms_of(charged, neighbouring_oxygen(charged)[0].sites)
    oxygen = [i for i, site in enumerate(structure) if site.specie.symbol == "O"]
    far = max(oxygen, key=lambda i: structure.get_distance(pair[0], i))
    manganese = next(i for i, site in enumerate(structure) if site.specie.symbol == "Mn")
    chosen = {
        "pair": pair,
        "same": (pair[0], pair[0]),
        "far": (pair[0], far),
        "cation": (pair[0], manganese),
        "absent": (pair[0], len(structure)),
    }[atoms]
    with pytest.raises(ValueError, match=message):
        form_dimer(structure, chosen, length, direction)


def test_bad_search_distance(charged: Occupation) -> None:
    with pytest.raises(ValueError, match="max_distance must be positive"):
        neighbouring_oxygen(charged, -1.0)
