import numpy as np
import pytest
import spglib

from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.layered_oxide import PristineModel
from lrlo.structures.occupation import Occupation, empty_frame
from lrlo.structures.rock_salt import rock_salt_frame
from lrlo.structures.stacking import Stacking
from lrlo.structures.symmetry import site_permutations


def spglib_permutations(occupation: Occupation) -> set[tuple[int, ...]]:
    """The same group, found by spglib in the decorated supercell instead of the prototype."""
    frame = occupation.frame
    labels: dict[tuple[str, str | None], int] = {}
    numbers = [
        labels.setdefault(key, len(labels) + 1)
        for key in zip(frame.kinds, occupation.species, strict=True)
    ]
    found = spglib.get_symmetry((frame.lattice, frame.frac_coords, numbers), symprec=1e-3)
    permutations = set()
    for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
        moved = frame.frac_coords @ rotation.T + translation
        difference = moved[:, None] - frame.frac_coords
        difference -= np.round(difference)
        distance = np.linalg.norm(difference @ frame.lattice, axis=-1)
        assert distance.min(axis=1).max() < 1e-3
        permutations.add(tuple(distance.argmin(axis=1).tolist()))
    return permutations


MATRICES = ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[2, 1, 0], [-1, 1, 0], [0, 0, 1]],
            [[2, 0, 0], [0, 2, 0], [1, 0, 2]], [[3, 0, 1], [0, 1, 0], [0, -1, 2]])  # fmt: skip


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("kind", [*Stacking, "rock salt"])
def test_group_is_that_of_spglib(kind: str, matrix: list[list[int]]) -> None:
    frame = (
        rock_salt_frame(np.array(matrix))
        if kind == "rock salt"
        else layered_frame(Stacking(kind), np.array(matrix))
    )
    octahedra = frame.sites(SiteKind.TM_OCT, SiteKind.CATION_OCT).tolist()
    occupations = [
        empty_frame(frame),
        empty_frame(frame).with_species(dict.fromkeys(octahedra[::2], "Mn")),
        empty_frame(frame).with_species({octahedra[0]: "Mn", octahedra[-1]: "Ni"}),
    ]
    for occupation in occupations:
        permutations = site_permutations(occupation)
        assert {tuple(p) for p in permutations.tolist()} == spglib_permutations(occupation)


def test_permutations_are_a_group_that_keeps_the_decoration(li2mno3: PristineModel) -> None:
    occupation = li2mno3.occupation
    permutations = site_permutations(occupation)
    species = np.array(occupation.species, dtype=object)
    group = {tuple(p) for p in permutations.tolist()}
    assert tuple(range(len(species))) in group
    assert len(group) == len(permutations)
    for permutation in permutations:
        assert sorted(permutation) == list(range(len(species)))
        assert np.all(species[permutation] == species)
        assert tuple(np.argsort(permutation).tolist()) in group
    random = np.random.default_rng(0)
    for _ in range(20):
        first, second = permutations[random.integers(len(permutations), size=2)]
        assert tuple(first[second].tolist()) in group


def test_ten_thousand_disordered_atoms() -> None:
    frame = layered_frame(Stacking.O3, np.diag([16, 16, 10]))
    sites = frame.sites(SiteKind.TM_OCT)
    species = np.random.default_rng(1).choice(["Mn", "Ni", "Li"], len(sites))
    disordered = empty_frame(frame).with_species(
        dict(zip(sites.tolist(), species.tolist(), strict=True))
    )
    np.testing.assert_array_equal(site_permutations(disordered), [np.arange(len(frame))])
    one = empty_frame(frame).with_species({int(sites[7]): "Mn"})
    # The site symmetry of a TM in R-3m, less the threefold axis that a 16 x 16 x 10 cell of the
    # rhombohedral lattice does not have.
    assert len(site_permutations(one)) == 4
