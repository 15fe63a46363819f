import numpy as np
import pytest

from lrlo.structures.composition import parse_composition
from lrlo.structures.frame import SiteKind, layered_frame
from lrlo.structures.stacking import LAYER_SEQUENCES, Stacking
from lrlo.structures.supercell import (
    NoSupercellError,
    choose_rock_salt_supercell,
    choose_supercell,
    most_compact,
)
from lrlo.structures.superlattice import Superlattice, honeycomb_centres


@pytest.mark.parametrize("stacking", list(Stacking))
def test_supercell_of_every_stacking_is_right_handed_and_has_the_size(stacking: Stacking) -> None:
    target = parse_composition("Li2MnO3")
    choice = choose_supercell(target, stacking, Superlattice.HONEYCOMB, min_atoms=24, max_atoms=72)
    frame = layered_frame(stacking, choice.matrix)  # refuses a left-handed matrix
    n = len(frame.sites(SiteKind.TM_OCT))
    assert n == choice.composition.n_formula_units
    assert 24 <= 4 * n <= 72
    assert n % len(LAYER_SEQUENCES[stacking].slabs) == 0
    assert 3 * len(honeycomb_centres(frame)) == n
    lengths = np.linalg.norm(frame.lattice, axis=1)
    assert lengths.min() == pytest.approx(choice.image_distance, abs=1e-6)


def test_most_compact_cell_is_no_shorter_than_any_diagonal_one() -> None:
    for n_formula_units in (4, 8, 12):
        matrix, distance, compactness = most_compact(
            Stacking.O3, Superlattice.RANDOM, n_formula_units
        )
        assert round(np.linalg.det(matrix)) == n_formula_units
        assert 0 < compactness <= 2 ** (1 / 6) + 1e-9
        for i in range(1, n_formula_units + 1):
            for j in range(1, n_formula_units + 1):
                k, rest = divmod(n_formula_units, i * j)
                if not rest and k:
                    diagonal = layered_frame(Stacking.O3, np.diag([i, j, k]))
                    shortest = np.linalg.norm(diagonal.lattice, axis=1).min()
                    assert distance >= shortest - 1e-6


def test_too_few_atoms_for_the_honeycomb() -> None:
    with pytest.raises(NoSupercellError, match="the nearest that can has 12 atoms") as error:
        choose_supercell(
            parse_composition("Li2MnO3"),
            Stacking.O3,
            Superlattice.HONEYCOMB,
            min_atoms=4,
            max_atoms=8,
        )
    assert error.value.nearest == 12


def test_nearest_cell_lies_above_the_limits() -> None:
    """Between two multiples of the superlattice the next larger one is named."""
    with pytest.raises(NoSupercellError) as error:
        choose_supercell(
            parse_composition("Li2MnO3"),
            Stacking.O3,
            Superlattice.HONEYCOMB,
            min_atoms=16,
            max_atoms=20,
        )
    assert error.value.nearest == 24


def test_rock_salt_cells_hold_every_species() -> None:
    choice = choose_rock_salt_supercell(
        parse_composition("Li1.2Mn0.4Ti0.4O2"), min_atoms=36, max_atoms=64
    )
    assert round(np.linalg.det(choice.matrix)) == 2 * choice.composition.n_formula_units
    assert choice.composition.total_deviation < 1e-6
    with pytest.raises(NoSupercellError) as error:
        choose_rock_salt_supercell(
            parse_composition("Li1.2Mn0.7Ti0.1O2"), min_atoms=12, max_atoms=16
        )
    assert error.value.nearest > 16
