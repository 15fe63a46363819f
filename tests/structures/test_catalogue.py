"""The catalogue is complete and documented, and every builder makes what its name says."""

import doctest
import importlib
import inspect
import pkgutil
from collections import Counter
from typing import Any

import pytest

import lrlo.structures
from lrlo.structures.built_structure import BuiltStructure
from lrlo.structures.catalogue import BUILDERS, find_builder
from lrlo.structures.catalogue_crystals import crystal, layered
from lrlo.structures.frame import SiteKind
from lrlo.structures.site_classes import SiteClass
from lrlo.structures.stacking import Stacking

MODULES = [name for _, name, _ in pkgutil.iter_modules(lrlo.structures.__path__)]

#: Smallest sensible parameters of every builder, and the atoms that come out.
SMALL: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "crystal": ({"name": "LiCoO2"}, {"Li": 3, "Co": 3, "O": 6}),
    "honeycomb": ({"formula": "Li2MnO3", "max_atoms": 24}, {"Li": 8, "Mn": 4, "O": 12}),
    "ribbon": ({"formula": "Li1.2Mn0.8O2", "max_atoms": 40}, {"Li": 12, "Mn": 8, "O": 20}),
    "mesh": ({"formula": "Li1.25Mn0.75O2", "max_atoms": 32}, {"Li": 10, "Mn": 6, "O": 16}),
    "capped-honeycomb": (
        {"formula": "Li1.1667Mn0.75Ni0.0833O2", "max_atoms": 48, "cap": "Ni"},
        {"Li": 14, "Mn": 9, "Ni": 1, "O": 24},
    ),
    "li-poor-honeycomb": (
        {"formula": "Li1.1111Mn0.8889O2", "max_atoms": 36},
        {"Li": 10, "Mn": 8, "O": 18},
    ),
    "random": ({"formula": "Li1.25Mn0.75O2", "max_atoms": 32}, {"Li": 10, "Mn": 6, "O": 16}),
    "faulted-honeycomb": (
        {"formula": "Li2MnO3", "angles": (0, 120)},
        {"Li": 8, "Mn": 4, "O": 12},
    ),
    "two-phase": (
        {"poor_phase": "LiCoO2", "x": 0.5, "rich_rows": 3},
        {"Li": 18, "Mn": 6, "Co": 6, "O": 30},
    ),
    "layered": ({"metal": "Co", "size": (1, 1)}, {"Li": 3, "Co": 3, "O": 6}),
    "spinel": ({"metal": "Mn"}, {"Li": 8, "Mn": 16, "O": 32}),
    "oxide-spinel": ({"metal": "Co"}, {"Co": 24, "O": 32}),
    "monoxide": ({"metal": "Ni"}, {"Ni": 32, "O": 32}),
    "disordered-rock-salt": (
        {"formula": "LiMn0.5Ti0.5O2", "size": 1},
        {"Li": 2, "Ti": 1, "Mn": 1, "O": 4},
    ),
    "basal-slab": ({"layers": 2}, {"Li": 8, "Co": 8, "O": 16}),
    "edge-slab": ({"rows": 6}, {"Li": 36, "Co": 36, "O": 72}),
    "dopant": ({"ions": {"Ti": 1}, "on": SiteClass.TM}, {"Li": 12, "Co": 11, "Ti": 1, "O": 24}),
    "antisite": ({"tm": "Co"}, {"Li": 12, "Co": 12, "O": 24}),
    "oxygen-vacancy": ({}, {"Li": 12, "Co": 12, "O": 23}),
    "tri-vacancy": ({"in_tm_layer": 0}, {"Li": 9, "Co": 12, "O": 24}),
    "dimer": ({}, {"Li": 12, "Co": 12, "O": 24}),
    "strain": ({"in_plane": (0.02,)}, {"Li": 12, "Co": 12, "O": 24}),
    "glide": ({"images": 3}, {"Li": 12, "Co": 12, "O": 24}),
}


@pytest.fixture(scope="module")
def host() -> BuiltStructure:
    return layered("Co")


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_documentation_run(name: str) -> None:
    module = importlib.import_module(f"lrlo.structures.{name}")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=flags)
    assert result.failed == 0


def documented_with_example(function: Any) -> bool:
    return ">>>" in (inspect.getdoc(function) or "")


@pytest.mark.parametrize("name", BUILDERS)
def test_builder_is_documented(name: str) -> None:
    builder = BUILDERS[name]
    assert documented_with_example(builder.documented)
    assert "\n" not in builder.summary
    assert builder.summary
    assert all(parameter.description for parameter in builder.parameters)


@pytest.mark.parametrize("name", BUILDERS)
def test_builder_makes_what_it_says(name: str, host: BuiltStructure) -> None:
    arguments, atoms = SMALL[name]
    if BUILDERS[name].needs_host:
        arguments = {"host": host, **arguments}
    built = BUILDERS[name].build(**arguments)
    assert Counter(built.structure.composition.get_el_amt_dict()) == Counter(atoms)
    shortest = built.structure.distance_matrix + 99 * (built.structure.distance_matrix < 1e-9)
    # Nothing closer than the dimer, and no empty cell.
    assert shortest.min() > (1.4 if name == "dimer" else 1.6)
    if built.assignment is not None:
        assert not built.assignment.unexplained
        assert sum(built.o_classes.values()) == atoms["O"]


def test_every_builder_is_tried() -> None:
    assert set(SMALL) == set(BUILDERS)


@pytest.mark.parametrize("stacking", Stacking)
def test_layered_cells_are_upright(stacking: Stacking) -> None:
    built = layered("Co", stacking=stacking, size=(1, 1))
    lattice = built.structure.lattice
    assert lattice.alpha == pytest.approx(90)
    assert lattice.beta == pytest.approx(90)
    assert lattice.gamma == pytest.approx(120)
    assert built.charge == pytest.approx(0)


def test_superlattices_have_their_oxygen_classes() -> None:
    """Full superlattices with one TM: the ratios follow from counting neighbours of Li."""
    expected = {
        "honeycomb": {"O4": 12},
        "ribbon": {"O3": 8, "O4": 12},
        "mesh": {"O3": 4, "O4": 12},
        "li-poor-honeycomb": {"O3": 12, "O4": 6},
    }
    for name, classes in expected.items():
        assert BUILDERS[name].build(**SMALL[name][0]).o_classes == classes


def test_defects_of_relaxed_hosts_move_nothing_else() -> None:
    """The published cell of Li2MnO3 is no ideal frame; a dopant leaves its atoms where they are."""
    published = crystal("Li2MnO3")
    doped = BUILDERS["dopant"].build(published, ions={"Ti": 1}, on=SiteClass.TM)
    distances = published.structure.lattice.get_all_distances(
        doped.structure.frac_coords, published.structure.frac_coords
    )
    assert distances.min(axis=1).max() < 1e-9
    (site,) = doped.changed
    assert doped.frame is not None
    assert doped.frame.kinds[site] is SiteKind.TM_OCT


def test_strain_acts_in_the_axes_of_the_frame(host: BuiltStructure) -> None:
    """However the host is turned in space, its layers get the in-plane strain."""
    turned = BuiltStructure(host.structure.copy(), host.assignment)
    # The same crystal with the normal of the layers along x.
    rotation = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    turned.structure.lattice = type(turned.structure.lattice)(
        host.structure.lattice.matrix @ rotation
    )
    for start in (host, turned):
        strained = BUILDERS["strain"].build(start, in_plane=(0.03,), out_of_plane=-0.02)
        a, b, c = strained.structure.lattice.abc
        assert a == pytest.approx(1.03 * host.structure.lattice.a)
        assert b == pytest.approx(1.03 * host.structure.lattice.b)
        assert c == pytest.approx(0.98 * host.structure.lattice.c)


def test_choice_goes_through_the_distinct_placements() -> None:
    published = crystal("Li2MnO3")
    equivalent = []
    for choice in (1, 2):
        built = BUILDERS["oxygen-vacancy"].build(published, choice=choice)
        equivalent.append(int(built.remarks["placement"].split()[-2]))
    assert sorted(equivalent) == [4, 8]  # 4i and 8j of C2/m
    with pytest.raises(ValueError, match="there are 2 symmetry-distinct"):
        BUILDERS["oxygen-vacancy"].build(published, choice=3)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("crystal", {"name": "LiFePO4"}, "there are Li2MnO3"),
        ("faulted-honeycomb", {"formula": "Li2MnO3"}, "either angles"),
        (
            "faulted-honeycomb",
            {"formula": "Li2MnO3", "angles": (0, 120), "stacking": Stacking.O1},
            "no rotational faults",
        ),
        ("faulted-honeycomb", {"formula": "Li1.8MnO3", "angles": (0, 60)}, "cations|not possible"),
        ("honeycomb", {"formula": "Li2MnO3", "max_atoms": 8}, "the nearest that can has"),
        ("random", {"formula": "LiNi0.5Mn0.5O2", "order": 0.5}, "go together"),
        (
            "random",
            {"formula": "LiCoO2", "max_atoms": 24, "short_range_order": {"Co-Ni": (0.1,)}},
            "needs two species",
        ),
        (
            "disordered-rock-salt",
            {"formula": "LiMn0.5Ti0.5O2", "short_range_order": {"Li-Mn": (-9.0,)}},
            "lies between",
        ),
        ("layered", {"metal": "Co", "size": (0, 1)}, "at least 1"),
        ("spinel", {"metal": "Mn", "edge": -8.0}, "positive"),
        ("disordered-rock-salt", {"formula": "Li2MnO3", "size": 0}, "at least 1"),
        (
            "disordered-rock-salt",
            {"formula": "Li1.25Mn0.25Ti0.5O2", "size": 1},
            "too small to hold Mn",
        ),
        (
            "faulted-honeycomb",
            {"formula": "Li1.2Mn0.7Ni0.05Co0.05O2", "angles": (0, 120)},
            "too small to hold",
        ),
    ],
)
def test_bad_parameters_are_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BUILDERS[name].build(**arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("basal-slab", {"vacuum": -3.0}, "vacuum"),
        ("edge-slab", {"rows": 0}, "at least 1"),
        ("dopant", {"ions": {"Ti": 1}, "on": SiteClass.TM_LAYER_LI}, "no site of class"),
        ("dopant", {"ions": {"Ti": 99}, "on": SiteClass.TM}, "do not fit"),
        ("antisite", {"tm": "Co", "max_distance": -1.0}, "must be positive"),
        ("antisite", {"tm": "Ni"}, "no Ni"),
        ("dimer", {"length": 0.3}, "out of bounds"),
        ("strain", {"in_plane": (0.1, 0.1)}, "one number or xx,yy,xy"),
        ("strain", {"out_of_plane": 0.5}, "exceeds"),
        ("glide", {"images": 4}, "odd"),
        ("glide", {"images": 3, "image": 5}, "images 1 to 3"),
    ],
)
def test_bad_defects_are_refused(
    name: str, arguments: dict[str, Any], message: str, host: BuiltStructure
) -> None:
    with pytest.raises(ValueError, match=message):
        BUILDERS[name].build(host, **arguments)


def test_unknown_builder_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"did you mean honeycomb.*There are crystal, honeycomb"):
        find_builder("honeycom")
    with pytest.raises(ValueError, match="crystal --name LiCoO2"):
        find_builder("LiCoO2")
