import doctest

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from lrlo.structures import spinel
from lrlo.structures.frame import OCTAHEDRA, Frame, Sharing, SiteKind, layered_frame
from lrlo.structures.rock_salt import CUBIC_CELL, rock_salt_frame
from lrlo.structures.spinel import (
    SPINEL_REPEAT,
    cubic_frame,
    layered_reference,
    lithium_spinel,
    metal_monoxide,
    metal_spinel,
    spinel_sites,
)
from lrlo.structures.stacking import Stacking

EDGE = 8.24


@pytest.fixture(
    scope="module",
    params=[
        None,
        SPINEL_REPEAT,
        ((4, 0, 0), (0, 2, 0), (1, 1, 1)),
        ((2, 0, 0), (0, 2, 0), (0, 0, 2)),
    ],
)
def frame(request: pytest.FixtureRequest) -> Frame:
    """Cube, primitive cell, an odd one, and one along the hexagonal axes."""
    return cubic_frame(EDGE, None if request.param is None else np.array(request.param))


def oracle(species: list[str], positions: list[float]) -> Structure:
    """Published Wyckoff positions with ideal anions, origin choice 1 of Fd-3m."""
    coords = [[x] * 3 for x in positions]
    return Structure.from_spacegroup("Fd-3m", Lattice.cubic(EDGE), species, coords)


def test_references_are_the_crystals() -> None:
    cube = cubic_frame(EDGE)
    matcher = StructureMatcher(1e-4, 1e-4, 1e-3, primitive_cell=False, scale=False)

    def same(first: Structure, second: Structure) -> bool:
        return matcher.fit(*(SpacegroupAnalyzer(s).find_primitive() for s in (first, second)))

    lithium = oracle(["Li", "Mn", "O"], [0, 5 / 8, 3 / 8])
    assert same(lithium_spinel(cube, "Mn").to_structure(), lithium)
    metal = lithium.copy()
    metal.replace_species({"Li": "Mn"})
    assert same(metal_spinel(cube, "Mn").to_structure(), metal)
    rock_salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(EDGE / 2), ["Ni", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    assert same(metal_monoxide(cube, "Ni").to_structure(), rock_salt)


def test_space_groups_and_formulas_on_the_same_anions(frame: Frame) -> None:
    expected = {
        "LiMnO2": (layered_reference(frame, "Mn"), 166),
        "LiMn2O4": (lithium_spinel(frame, "Mn"), 227),
        "Mn3O4": (metal_spinel(frame, "Mn"), 227),
        "MnO": (metal_monoxide(frame, "Mn"), 225),
    }
    anions = set(frame.sites(SiteKind.ANION).tolist())
    for formula, (occupation, number) in expected.items():
        structure = occupation.to_structure()
        assert structure.reduced_formula == formula
        assert structure.get_space_group_info(symprec=1e-3)[1] == number
        assert set(occupation.sites_of("O")) == anions


def test_counts_and_environments(frame: Frame) -> None:
    sites = spinel_sites(frame)
    n = len(frame.sites(SiteKind.TM_OCT))
    kinds = [frame.kinds[site] for site in sites.octahedra]
    assert kinds.count(SiteKind.TM_OCT) == 3 * n // 4
    assert kinds.count(SiteKind.LI_OCT) == n // 4
    assert len(sites.empty_octahedra) == n
    assert len(sites.tetrahedra) == n // 2
    taken = set(sites.octahedra)
    for site in sites.octahedra:  # pyrochlore net: six 16d and six 16c around every 16d
        around = [m.site in taken for m in frame.neighbours(site, Sharing.EDGE, *OCTAHEDRA)]
        assert (len(around), sum(around)) == (12, 6)
    for site in sites.tetrahedra:  # 8a shares its four faces with 16c
        faces = frame.neighbours(site, Sharing.FACE, *OCTAHEDRA)
        assert [m.site in taken for m in faces] == [False] * 4


def test_spinel_in_a_layered_oxide_that_is_not_cubic() -> None:
    """With the slabs and gaps of a layered oxide the same sites make a distorted spinel."""
    frame = layered_frame(Stacking.O3, np.array(SPINEL_REPEAT))
    structure = lithium_spinel(frame, "Mn").to_structure()
    assert structure.reduced_formula == "LiMn2O4"
    assert structure.get_space_group_info(symprec=1e-3)[1] == 166


def test_monoxide_on_the_rock_salt_frame() -> None:
    frame = rock_salt_frame(CUBIC_CELL, cubic_lattice_parameter=4.177)
    structure = metal_monoxide(frame, "Ni").to_structure()
    assert structure.get_space_group_info() == ("Fm-3m", 225)
    assert structure.volume == pytest.approx(4.177**3)


@pytest.mark.parametrize(
    ("frame_without", "message"),
    [
        (layered_frame(Stacking.O2, np.diag([2, 2, 1])), "is O2"),
        (layered_frame(Stacking.O3, np.diag([2, 2, 1])), "no multiple of the spinel repeat"),
        (layered_frame(Stacking.O3, np.diag([3, 3, 1])), "no multiple of the spinel repeat"),
        (rock_salt_frame(np.diag([2, 2, 2])), "disordered rock salt"),
    ],
)
def test_frames_that_hold_no_spinel(frame_without: Frame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lithium_spinel(frame_without, "Mn")


def test_other_bad_input() -> None:
    with pytest.raises(ValueError, match="cubic close-packed"):
        metal_monoxide(layered_frame(Stacking.O1, np.diag([1, 1, 1])), "Ni")
    with pytest.raises(ValueError, match="no layers"):
        layered_reference(rock_salt_frame(np.diag([2, 2, 2])), "Co")
    for edge in (0.0, -8.2, float("nan")):
        with pytest.raises(ValueError, match="positive length"):
            cubic_frame(edge)


def test_examples() -> None:
    assert doctest.testmod(spinel).failed == 0
