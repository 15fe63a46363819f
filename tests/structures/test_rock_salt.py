import json
from collections import Counter

import numpy as np
import pytest
from monty.json import MontyDecoder, MontyEncoder
from pydantic import TypeAdapter
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from lrlo.structures.assignment import assign
from lrlo.structures.frame import Frame, Sharing, SiteKind, layered_frame
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.oxygen_environment import oxygen_environments, tm_coordination
from lrlo.structures.rock_salt import CUBIC_CELL, rock_salt_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.symmetry import site_permutations


def full(frame: Frame, species: str) -> Occupation:
    sites = frame.sites(SiteKind.CATION_OCT).tolist()
    return empty_frame(frame).with_species(dict.fromkeys(sites, species))


@pytest.fixture(scope="module")
def cube() -> Frame:
    return rock_salt_frame(np.diag([2, 2, 2]) @ CUBIC_CELL)


def test_cell_and_site_counts(cube: Frame) -> None:
    np.testing.assert_allclose(cube.lattice, 8.3 * np.eye(3), atol=1e-12)
    assert Counter(cube.kinds) == {
        SiteKind.ANION: 32,
        SiteKind.CATION_OCT: 32,
        SiteKind.TET: 64,
    }


def test_space_group_and_wyckoff_positions() -> None:
    structure = full(rock_salt_frame(CUBIC_CELL), "Mn").to_structure()
    analyzer = SpacegroupAnalyzer(structure)
    assert analyzer.get_space_group_symbol() == "Fm-3m"
    assert Counter(analyzer.get_symmetry_dataset().wyckoffs) == {"a": 4, "b": 4}


def test_sharing_counted_by_hand(cube: Frame) -> None:
    for site in cube.sites(SiteKind.CATION_OCT).tolist():
        edges = cube.neighbours(site, Sharing.EDGE)
        assert Counter(cube.kinds[n.site] for n in edges) == {SiteKind.CATION_OCT: 12}
        faces = cube.neighbours(site, Sharing.FACE)
        assert Counter(cube.kinds[n.site] for n in faces) == {SiteKind.TET: 8}
        # Opposite octahedra of an anion touch in that corner only.
        assert len(cube.neighbours(site, Sharing.CORNER, SiteKind.CATION_OCT)) == 6
    for site in cube.sites(SiteKind.TET).tolist():
        assert len(cube.neighbours(site, Sharing.FACE, SiteKind.CATION_OCT)) == 4
        assert len(cube.neighbours(site, Sharing.EDGE, SiteKind.TET)) == 6
    assert not any(cube.neighbours(s, Sharing.RECTANGULAR_FACE) for s in range(len(cube)))
    assert {len(around) for around in cube.cations_of_anion.values()} == {6}


def test_layered_o3_with_equal_spacings_has_the_same_polyhedra() -> None:
    a = 4.15 / np.sqrt(2)
    plane = a * np.sqrt(2 / 3)
    layered = layered_frame(Stacking.O3, np.diag([3, 3, 1]), a=a, tm_slab=plane, li_gap=plane)
    cubic = rock_salt_frame(np.diag([3, 3, 2]))

    def shape(frame: Frame) -> Counter[tuple[int, ...]]:
        return Counter(
            tuple(len(frame.neighbours(s, sharing)) for sharing in Sharing)
            for s in range(len(frame))
        )

    assert shape(layered) == shape(cubic)


def test_layered_crystal_read_on_the_rock_salt_frame(licoo2: PristineModel) -> None:
    """LiCoO2 is rock salt with its cations ordered in planes: every O keeps three Co."""
    # In-plane vectors and repeat of O3 in the vectors of the face-centred lattice.
    o3 = np.array([[0, -1, 1], [1, 0, -1], [1, 1, 0]])
    matrix = np.array(licoo2.occupation.frame.matrix) @ o3
    frame = rock_salt_frame(matrix, cubic_lattice_parameter=4.1)
    read = assign(licoo2.occupation.to_structure(), frame)
    assert read.unexplained == ()
    assert read.occupation.count(SiteKind.CATION_OCT) == {"Li": 18, "Co": 18}
    environments = oxygen_environments(read.occupation)
    assert Counter((e.n_tm, e.n_li) for e in environments) == {(3, 3): 36}


def test_oxygen_classes_and_tm_coordination(cube: Frame) -> None:
    sites = cube.sites(SiteKind.CATION_OCT).tolist()
    full_cell = full(cube, "Mn")
    assert {env.o_class.value for env in oxygen_environments(full_cell)} == {"O0"}
    assert {tm_coordination(full_cell, site) for site in sites} == {12}
    lithium = full_cell.with_species({sites[0]: "Li"})
    assert Counter(e.o_class.value for e in oxygen_environments(lithium)) == {"O0": 26, "O1": 6}
    # Mn on a tetrahedron touches four anions and is no neighbour in the sense of the class.
    tetrahedron = cube.neighbours(sites[0], Sharing.FACE, SiteKind.TET)[0].site
    moved = full_cell.with_species({sites[0]: None, tetrahedron: "Mn"})
    environments = oxygen_environments(moved)
    assert sum(env.n_tm_tet for env in environments) == 4
    assert sum(env.n_vac for env in environments) == 6


def test_random_mixing_has_the_binomial_classes(cube: Frame) -> None:
    frame = rock_salt_frame(np.diag([6, 6, 6]) @ CUBIC_CELL)
    random = np.random.default_rng(3)
    sites = frame.sites(SiteKind.CATION_OCT)
    species = random.choice(["Li", "Mn"], len(sites), p=[0.6, 0.4])
    mixed = empty_frame(frame).with_species(
        dict(zip(sites.tolist(), species.tolist(), strict=True))
    )
    counts = Counter(env.n_tm for env in oxygen_environments(mixed))
    for n in range(7):
        ways = [1, 6, 15, 20, 15, 6, 1][n]
        share = ways * 0.4**n * 0.6 ** (6 - n)
        error = np.sqrt(share / len(sites))
        assert counts[n] / len(sites) == pytest.approx(share, abs=5 * error)


def test_assignment_under_strain_drift_rotation_and_other_vectors(cube: Frame) -> None:
    random = np.random.default_rng(5)
    sites = cube.sites(SiteKind.CATION_OCT).tolist()
    species = random.choice(["Li", "Mn", "Ti", None], len(sites), p=[0.5, 0.25, 0.15, 0.1])
    occupation = empty_frame(cube).with_species(dict(zip(sites, species.tolist(), strict=True)))
    structure = occupation.to_structure()
    structure.perturb(0.15, seed=1)
    deformation = np.array([[1.03, 0.02, 0], [0, 0.98, 0.01], [0, 0, 1.01]])
    changed = Structure(
        structure.lattice.matrix @ deformation,
        structure.species,
        structure.frac_coords + np.array([0.03, 0.02, -0.02]),
    )
    assert assign(changed, cube).occupation == occupation
    reduced = changed.get_reduced_structure("niggli")
    read = assign(reduced, cube)
    assert read.unexplained == ()
    decorations = {
        tuple(np.array(occupation.species, dtype=object)[permutation])
        for permutation in site_permutations(empty_frame(cube))
    }
    assert read.occupation.species in decorations


def test_symmetry_of_the_frame() -> None:
    cube = rock_salt_frame(CUBIC_CELL)
    permutations = site_permutations(full(cube, "Mn"))
    assert permutations.shape == (192, len(cube))  # 48 rotations times 4 translations
    one = full(cube, "Mn").with_species({int(cube.sites(SiteKind.CATION_OCT)[0]): "Li"})
    assert len(site_permutations(one)) == 48


def test_frame_survives_serialisation() -> None:
    frame = rock_salt_frame(np.diag([1, 2, 1]), cubic_lattice_parameter=4.2)
    adapter = TypeAdapter(Frame)
    for again in (
        Frame.from_dict(frame.as_dict()),
        json.loads(json.dumps(frame, cls=MontyEncoder), cls=MontyDecoder),
        adapter.validate_python(json.loads(json.dumps(adapter.dump_python(frame)))),
        Occupation.from_dict(full(frame, "Mn").as_dict()).frame,
    ):
        assert again == frame
        assert again.prototype == frame.prototype
    assert rock_salt_frame(np.diag([1, 2, 1])) != frame


def test_what_a_frame_without_layers_has_not(cube: Frame) -> None:
    assert cube.n_layers == 0
    assert cube.label == "disordered rock salt"
    assert cube.a == pytest.approx(4.15 / np.sqrt(2))
    for name in ("stacking", "tm_slab", "li_gap"):
        with pytest.raises(ValueError, match=r"no layers.*frame\.label"):
            getattr(cube, name)


@pytest.mark.parametrize("length", [0.0, -4.0, np.inf])
def test_bad_lattice_parameter(length: float) -> None:
    with pytest.raises(ValueError, match="cubic_lattice_parameter is a length"):
        rock_salt_frame(CUBIC_CELL, cubic_lattice_parameter=length)


def test_left_handed_matrix() -> None:
    with pytest.raises(ValueError, match="left-handed"):
        rock_salt_frame(-CUBIC_CELL)
