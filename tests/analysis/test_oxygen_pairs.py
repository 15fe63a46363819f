import pytest
from pymatgen.core import Structure

from lrlo.analysis.oxidation import oxidation_states
from lrlo.analysis.oxygen_pairs import PairThresholds, find_oxygen_pairs


def dimer(length: float, mn_distance: float) -> Structure:
    """An O-O pair in a 12 Å box with a Mn at some distance of the first O."""
    positions = [[3, 6, 6], [3 + length, 6, 6], [3 - mn_distance, 6, 6]]
    return Structure(
        [[12, 0, 0], [0, 12, 0], [0, 0, 12]], ["O", "O", "Mn"], positions, coords_are_cartesian=True
    )


@pytest.mark.parametrize(
    ("length", "label"),
    [(1.21, "O2"), (1.33, "superoxide"), (1.45, "peroxide"), (1.9, "close")],
)
def test_labels_at_the_reference_lengths(length: float, label: str) -> None:
    pairs = find_oxygen_pairs(dimer(length, 1.9), [0.5, -0.4, 3.0]).pairs
    assert len(pairs) == 1
    assert pairs[0].label == label
    assert pairs[0].distance == pytest.approx(length)
    assert pairs[0].moments == (0.5, -0.4)
    assert pairs[0].bonds_tm == (True, False)
    assert not pairs[0].trapped


def test_molecule_without_tm_is_trapped() -> None:
    result = find_oxygen_pairs(dimer(1.21, 4.0))
    assert result.n_trapped == 1
    assert result.pairs[0].moments is None


def test_lattice_oxygen_is_no_pair_and_thresholds_are_recorded() -> None:
    assert find_oxygen_pairs(dimer(2.6, 1.9)).pairs == ()
    thresholds = PairThresholds(peroxide=1.95)
    result = find_oxygen_pairs(dimer(1.9, 1.9), thresholds=thresholds)
    assert result.pairs[0].label == "peroxide"
    assert result.thresholds == thresholds


def test_oxidation_states_from_typical_moments() -> None:
    species = ["Mn", "Mn", "Mn", "Ni", "Ni", "Ni", "Co", "O"]
    moments = [3.1, 3.9, -4.6, 1.7, 1.0, 0.1, 0.05, 0.3]
    by_element = {state.element: state for state in oxidation_states(species, moments)}
    assert by_element["Mn"].counts == {2: 1, 3: 1, 4: 1}
    assert by_element["Ni"].counts == {2: 1, 3: 1, 4: 1}
    assert by_element["Co"].mean_state == 3
    assert set(by_element) == {"Mn", "Ni", "Co"}
