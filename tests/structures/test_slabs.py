import doctest

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.core.surface import SlabGenerator

from lrlo.structures import slabs
from lrlo.structures.assignment import assign
from lrlo.structures.crystals import build_crystal
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.hops import Hop, PathClass, all_hops, surroundings
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation
from lrlo.structures.rock_salt import rock_salt_frame
from lrlo.structures.slabs import BasalTermination, Slab, basal_slab, edge_slab
from lrlo.structures.spinel import layered_reference, metal_monoxide
from lrlo.structures.stacking import Stacking
from lrlo.structures.stacking_faults import build_faulted_honeycomb
from lrlo.structures.vacuum import sites_in_vacuum, vacuum_width

CENTROSYMMETRIC = [Stacking.O3, Stacking.O1, Stacking.H1_3]


def cobalt_oxide(stacking: Stacking = Stacking.O3) -> Occupation:
    return layered_reference(layered_frame(stacking, np.diag([2, 1, 1])), "Co")


def li2mno3() -> Occupation:
    """C2/m cell, two layers."""
    return build_faulted_honeycomb("Li2MnO3", (0, 0), in_plane=(2, 1)).occupation


def check_geometry(slab: Slab) -> None:
    structure = slab.structure
    lattice = structure.lattice
    assert lattice.alpha == pytest.approx(90)
    assert lattice.beta == pytest.approx(90)
    heights = structure.cart_coords[:, 2]
    assert np.ptp(heights) == pytest.approx(slab.thickness)
    assert lattice.c == pytest.approx(slab.thickness + slab.vacuum)
    distances = np.array(structure.distance_matrix)
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 1.9


def profile(slab: Slab) -> list[tuple[float, str]]:
    """Height above the lowest ion, and species, of every ion."""
    heights = slab.structure.cart_coords[:, 2]
    species = [site.specie.symbol for site in slab.structure]
    return sorted(zip((heights - heights.min()).round(3) + 0.0, species, strict=True))


@pytest.mark.parametrize("stacking", CENTROSYMMETRIC)
@pytest.mark.parametrize("n_layers", [2, 4])
def test_half_lithium_faces(stacking: Stacking, n_layers: int) -> None:
    slab = basal_slab(cobalt_oxide(stacking), n_layers)
    check_geometry(slab)
    counts = slab.structure.composition.get_el_amt_dict()
    assert counts == {"Li": 2 * n_layers, "Co": 2 * n_layers, "O": 4 * n_layers}
    assert slab.stoichiometric
    assert slab.symmetric
    assert not slab.polar
    assert slab.charge == 0


@pytest.mark.parametrize(
    ("termination", "lithium", "stoichiometric", "symmetric", "charge"),
    [
        (BasalTermination.HALF_LITHIUM, 6, True, True, 0),
        (BasalTermination.LITHIUM, 8, False, True, 2),
        (BasalTermination.OXYGEN, 4, False, True, -2),
        (BasalTermination.LITHIUM_OXYGEN, 6, True, False, 0),
    ],
)
def test_basal_terminations(
    termination: BasalTermination,
    lithium: int,
    stoichiometric: bool,
    symmetric: bool,
    charge: float,
) -> None:
    slab = basal_slab(cobalt_oxide(), 3, termination=termination)
    check_geometry(slab)
    assert slab.structure.composition["Li"] == lithium
    assert slab.structure.composition["Co"] == 6
    assert (slab.stoichiometric, slab.symmetric) == (stoichiometric, symmetric)
    assert slab.charge == charge
    assert slab.polar == (not symmetric)


def test_dipole_of_the_polar_face_by_hand() -> None:
    """n layers, each a dipole of charges +1 (Li) and -1 (CoO2) half a layer spacing apart."""
    bulk = cobalt_oxide()
    frame = bulk.frame
    area = np.sqrt(0.75) * frame.a**2
    for n in (1, 3):
        slab = basal_slab(bulk, n, termination=BasalTermination.LITHIUM_OXYGEN)
        assert slab.dipole == pytest.approx(-n * (frame.tm_slab + frame.li_gap) / 2 / area)


def test_basal_faces_of_the_honeycomb() -> None:
    slab = basal_slab(li2mno3(), 4)
    check_geometry(slab)
    assert slab.stoichiometric
    assert slab.symmetric
    assert not slab.polar


@pytest.mark.parametrize("stacking", [*CENTROSYMMETRIC, Stacking.O2])
@pytest.mark.parametrize("n_rows", [3, 4])
def test_edge_faces(stacking: Stacking, n_rows: int) -> None:
    slab = edge_slab(cobalt_oxide(stacking), n_rows)
    check_geometry(slab)
    assert slab.stoichiometric
    assert slab.symmetric
    assert not slab.polar
    assert slab.charge == 0


def test_edge_face_of_the_honeycomb() -> None:
    for n_rows in (3, 6):
        slab = edge_slab(li2mno3(), n_rows)
        check_geometry(slab)
        assert (slab.stoichiometric, slab.symmetric, slab.polar) == (True, True, False)


def test_equal_faces_are_equal_upside_down() -> None:
    slabs_with_equal_faces = [
        edge_slab(cobalt_oxide(), 4),
        edge_slab(cobalt_oxide(Stacking.O2), 3),
        basal_slab(cobalt_oxide(), 3),
        basal_slab(li2mno3(), 2),
    ]
    polar = basal_slab(cobalt_oxide(), 3, termination=BasalTermination.LITHIUM_OXYGEN)
    for slab in (*slabs_with_equal_faces, polar):
        top = slab.thickness
        turned = sorted((round(top - height, 3) + 0.0, symbol) for height, symbol in profile(slab))
        assert (
            [s for _, s in turned] == [s for _, s in profile(slab)]
            and np.allclose([h for h, _ in turned], [h for h, _ in profile(slab)], atol=2e-3)
        ) == slab.symmetric


def test_edge_slab_is_that_of_the_stock_tool() -> None:
    """Oracle: pymatgen's slab of the same face, cut from the conventional cell."""
    bulk = build_crystal("LiCoO2")
    (stock,) = SlabGenerator(bulk, (0, 1, 0), 10, 15, center_slab=True).get_slabs()
    a, c = bulk.lattice.a, bulk.lattice.c
    slab_height = 2 * (0.2395 - 1 / 6) * c
    frame = layered_frame(
        Stacking.O3, np.eye(3, dtype=int), a=a, tm_slab=slab_height, li_gap=c / 3 - slab_height
    )
    ours = edge_slab(layered_reference(frame, "Co"), 5, vacuum=15)
    assert (stock.is_symmetric(), stock.composition) == (True, ours.structure.composition)
    in_plane = stock.lattice.matrix[:2]
    normal = np.cross(*in_plane) / np.linalg.norm(np.cross(*in_plane))
    straight = Structure(
        Lattice([*in_plane, ours.structure.lattice.c * normal]),
        stock.species,
        stock.cart_coords,
        coords_are_cartesian=True,
    )
    matcher = StructureMatcher(ltol=1e-3, stol=1e-3, angle_tol=0.1, scale=False)
    assert matcher.fit(ours.structure, straight)


def test_slab_of_a_random_alloy_says_that_its_faces_differ(paper: PristineModel) -> None:
    slab = edge_slab(paper.occupation, 15)
    assert slab.stoichiometric
    assert not slab.symmetric


@pytest.mark.parametrize("stacking", [Stacking.O2, Stacking.P3])
def test_stackings_without_inversion_have_unequal_basal_faces(stacking: Stacking) -> None:
    slab = basal_slab(cobalt_oxide(stacking), 2)
    assert slab.stoichiometric
    assert not slab.symmetric


def test_impossible_requests() -> None:
    bulk = cobalt_oxide()
    with pytest.raises(ValueError, match="at least 1"):
        basal_slab(bulk, 0)
    with pytest.raises(ValueError, match="at least 1"):
        edge_slab(bulk, -2)
    for vacuum in (0.0, -5.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be positive and finite"):
            edge_slab(bulk, 3, vacuum=vacuum)
    with pytest.raises(ValueError, match="'water' is not a valid BasalTermination"):
        basal_slab(bulk, 3, termination="water")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no oxidation state known for"):
        basal_slab(bulk.with_species({bulk.sites_of("Co")[0]: "Pt"}), 2)
    odd = layered_reference(layered_frame(Stacking.O3, np.eye(3, dtype=int)), "Co")
    with pytest.raises(ValueError, match="even number of Li per layer"):
        basal_slab(odd, 3)
    wide = layered_reference(
        layered_frame(Stacking.O3, np.array([[1, 0, 0], [0, 4, 0], [1, -1, 3]])), "Co"
    )
    with pytest.raises(ValueError, match=r"use a multiple of 4, such as 8"):
        edge_slab(wide, 6)
    with pytest.raises(ValueError, match="faces to cut"):
        edge_slab(metal_monoxide(rock_salt_frame(np.diag([2, 2, 2])), "Ni"), 3)


@pytest.mark.parametrize("stacking", list(Stacking))
def test_slabs_on_the_sites_of_a_frame(stacking: Stacking) -> None:
    """The same slab in a cell of whole lattice planes: atoms are found on the sites again."""
    bulk = cobalt_oxide(stacking)
    for slab in (basal_slab(bulk, 2), edge_slab(bulk, 6, vacuum=12.0)):
        structure = slab.occupation.to_structure()
        assert structure.composition == slab.structure.composition
        vacuum = vacuum_width(structure)
        assert vacuum is not None
        spacing = slab.occupation.frame.tm_slab + slab.occupation.frame.li_gap
        repeat = spacing * slab.occupation.frame.prototype.n_layers
        assert slab.vacuum - 1e-6 < vacuum < slab.vacuum + repeat
        near = [np.sort(s.distance_matrix, axis=1)[:, 1:7] for s in (structure, slab.structure)]
        assert np.sort(near[0], axis=0) == pytest.approx(np.sort(near[1], axis=0), abs=1e-6)
        structure.perturb(0.05, seed=1)
        assert assign(structure, slab.occupation.frame).occupation == slab.occupation


def test_no_ion_hops_off_a_slab() -> None:
    """Sites in the vacuum are no vacancies; those of the slab are."""
    occupation = edge_slab(cobalt_oxide(), 6).occupation
    charged = occupation.with_species(dict.fromkeys(occupation.sites_of("Li")))
    in_vacuum = charged.sites_of(None, SiteKind.TM_OCT)
    assert in_vacuum
    assert not all(charged.is_enclosed(site) for site in in_vacuum)
    frame = charged.frame
    for path_class in (PathClass.IN_PLANE, PathClass.OUT_OF_PLANE):
        for hop in all_hops(charged, ["Co"], path_class):
            corners = [charged.species[v.site] for v in frame.vertices[hop.end.site]]
            assert corners.count("O") >= 3
            around = surroundings(charged, hop)
            assert around.vacancy_cluster_size <= len(charged.sites_of("Co")) * 2


def test_missing_oxygen_of_a_slab_is_none_of_the_vacuum() -> None:
    """Neither before hops at its faces, nor where an O of a face is really missing."""
    occupation = edge_slab(cobalt_oxide(), 6).occupation
    charged = occupation.with_species(dict.fromkeys(occupation.sites_of("Li")))
    empty = set(charged.sites_of(None, SiteKind.ANION))
    vacuum = sites_in_vacuum(charged)
    assert empty
    assert empty <= vacuum
    assert not vacuum & set(charged.occupied())
    assert sites_in_vacuum(cobalt_oxide()) == frozenset()
    hops = all_hops(charged, ["Co"], PathClass.IN_PLANE)
    frame = charged.frame

    def anions(hop: Hop) -> set[int]:
        passed = [hop.start, hop.end.site, *([hop.via.site] if hop.via else [])]
        return {corner.site for site in passed for corner in frame.vertices[site]}

    assert any(empty & anions(hop) for hop in hops)
    assert {surroundings(charged, hop).n_oxygen_vacancies for hop in hops} == {0}
    hop = next(hop for hop in hops if empty & anions(hop))
    missing = min(anions(hop) - empty)
    assert surroundings(charged.with_species({missing: None}), hop).n_oxygen_vacancies == 1


def test_vacuum_tells_slabs_from_crystals() -> None:
    bulk = cobalt_oxide()
    assert vacuum_width(bulk.to_structure()) is None
    slab = basal_slab(bulk, 2)
    assert vacuum_width(slab.structure) == pytest.approx(slab.vacuum)


def test_migrated_ions_go_with_the_slab() -> None:
    """A Co that sits in the Li layer stays there."""
    bulk = cobalt_oxide()
    cobalt, lithium = bulk.sites_of("Co")[0], bulk.sites_of("Li", SiteKind.LI_OCT)[0]
    moved = bulk.with_species({cobalt: None, lithium: "Co"})
    slab = basal_slab(moved, 4, termination=BasalTermination.OXYGEN)
    assert slab.structure.composition.get_el_amt_dict() == {"Li": 3, "Co": 4 + 3, "O": 16}


def test_examples() -> None:
    assert doctest.testmod(slabs).failed == 0
