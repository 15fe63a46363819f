import pytest

from lrlo.analysis.voltage import LithiationPoint, voltage_curve
from lrlo.structures.assignment import assign
from lrlo.structures.frame import TM_LAYER, Sharing, SiteKind
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation
from lrlo.structures.rock_salt_oxide import build_rock_salt
from lrlo.workflows.lithiation import even_contents, missing_neighbours
from lrlo.workflows.states import lithiation_target, refilled
from lrlo.workflows.study import StateSettings

from .test_barriers import relaxed


def emptied(occupation: Occupation) -> Occupation:
    return occupation.with_species(dict.fromkeys(occupation.sites_of("Li"), None))


def test_refilled_host_is_the_pristine_one_when_nothing_moved(paper: PristineModel) -> None:
    occupation = paper.occupation
    structure = refilled(relaxed(emptied(occupation)))
    assert assign(structure, occupation.frame).occupation == occupation


def test_refilled_host_keeps_migrated_tm(paper: PristineModel) -> None:
    """A Mn in the plane and a Ni in the Li layer stay; Li takes what is left, same composition."""
    bare = emptied(paper.occupation)
    centre = bare.sites_of(None, SiteKind.TM_OCT)[0]
    mn = next(
        n.site
        for n in bare.frame.neighbours(centre, Sharing.EDGE, SiteKind.TM_OCT)
        if bare.species[n.site] == "Mn"
    )
    nickel, li_site = bare.sites_of("Ni")[0], bare.sites_of(None, SiteKind.LI_OCT)[4]
    migrated = bare.with_species({mn: None, centre: "Mn", nickel: None, li_site: "Ni"})
    full = assign(refilled(relaxed(migrated)), bare.frame).occupation
    assert full.count() == paper.occupation.count()
    assert full.species[centre] == "Mn"
    assert full.species[li_site] == "Ni"
    assert full.species[mn] == full.species[nickel] == "Li"


def test_octahedra_next_to_a_tetrahedral_tm_stay_empty(paper: PristineModel) -> None:
    bare = emptied(paper.occupation)
    mn = bare.sites_of("Mn")[0]
    tetrahedron = bare.frame.neighbours(mn, Sharing.FACE, SiteKind.LI_TET)[0].site
    trapped = bare.with_species({mn: None, tetrahedron: "Mn"})
    full = assign(refilled(relaxed(trapped)), bare.frame).occupation
    faces = {n.site for n in bare.frame.neighbours(tetrahedron, Sharing.FACE)}
    blocked = {s for s in faces if bare.frame.kinds[s] in (SiteKind.LI_OCT, SiteKind.TM_OCT)}
    assert len(blocked) == 4
    assert set(full.sites_of(None, SiteKind.LI_OCT, SiteKind.TM_OCT)) == blocked


def test_tetrahedral_lithium_gives_way(paper: PristineModel) -> None:
    bare = emptied(paper.occupation)
    tetrahedron = int(bare.frame.sites(SiteKind.LI_TET)[0])
    full = assign(refilled(relaxed(bare.with_species({tetrahedron: "Li"}))), bare.frame).occupation
    assert full == paper.occupation


def test_targets_known_without_a_curve(paper: PristineModel) -> None:
    host, n = paper.occupation, paper.composition.n_formula_units
    assert host.count(*TM_LAYER)["Li"] == 2
    layers = StateSettings(label="a", li_layer=0.4, tm_layer=0.5)
    target = lithiation_target(layers, host, n, None)
    assert target is not None
    assert target.quota == {"Li layer": round(0.4 * n), "TM layer": 1}
    assert target.n_li == sum(target.quota.values())
    given = lithiation_target(StateSettings(label="a", li_content=0.4), host, n, None)
    assert given is not None
    assert (given.n_li, given.quota) == (round(0.4 * n), None)
    assert lithiation_target(StateSettings(label="a", voltage=4.5), host, n, None) is None


def test_a_crystal_without_layers_is_not_emptied_by_layers() -> None:
    host = build_rock_salt("Li1.2Mn0.4Ti0.4O2", min_atoms=40, max_atoms=40).occupation
    layers = StateSettings(label="a", li_layer=0.5, tm_layer=0.5)
    with pytest.raises(ValueError, match="disordered rock salt has no layers; give li_content"):
        lithiation_target(layers, host, 10, None)
    assert lithiation_target(StateSettings(label="a", li_content=0.5), host, 10, None) is not None


def test_curve_is_refined_around_the_stable_content() -> None:
    mu = -1.9
    points = [LithiationPoint(n_li=n, energy=n * (mu - 4.9 + 0.1 * n)) for n in (0, 4, 8, 12)]
    curve = voltage_curve(points, mu)
    # plateaus 4.5, 3.7, 2.9 V: at 4.0 V four Li are stable
    assert missing_neighbours(curve, [4.0], 0) == [3, 5]
    assert missing_neighbours(curve, [9.0], 0) == [1]  # above the curve: its lower end
    assert missing_neighbours(curve, [1.0], 0) == [11]
    assert missing_neighbours(curve, [], 0) == []


@pytest.mark.parametrize(
    ("low", "high", "n", "contents"),
    [(0, 17, 7, [0, 3, 6, 8, 11, 14, 17]), (4, 6, 5, [4, 5, 6]), (3, 3, 4, [3])],
)
def test_even_contents(low: int, high: int, n: int, contents: list[int]) -> None:
    assert even_contents(low, high, n) == contents
