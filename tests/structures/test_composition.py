import pytest

from lrlo.structures.composition import CompositionError, parse_composition, realise


def test_li2mno3_is_scaled_to_two_oxygen() -> None:
    target = parse_composition("Li2MnO3")
    assert target.tm_layer == pytest.approx({"Li": 1 / 3, "Mn": 2 / 3})


def test_realised_counts_fill_the_layer_and_deviations_cancel() -> None:
    target = parse_composition("Li1.14Ni0.26Mn0.55Co0.05O2")
    for n in range(12, 60):
        realised = realise(target, n)
        assert sum(realised.tm_layer_counts.values()) == n
        assert sum(realised.deviation.values()) == pytest.approx(0, abs=1e-9)
        for symbol, count in realised.tm_layer_counts.items():
            assert abs(count - target.tm_layer[symbol] * n) < 1


def test_charge_balance_is_reported_not_corrected() -> None:
    target = parse_composition("Li1.14Ni0.26Mn0.55Co0.05O2")
    balanced = realise(target, 15)
    assert balanced.tm_layer_counts == {"Li": 2, "Ni": 4, "Mn": 8, "Co": 1}
    assert balanced.charge_imbalance == 0
    # Li 14 + 2, Ni 3 x 2, Mn 8 x 4, Co 3 against 28 O: 57 - 56
    assert realise(target, 14).charge_imbalance == pytest.approx(1)


def test_oxidation_states_can_be_given() -> None:
    target = parse_composition("LiMnO2")
    assert realise(target, 4).charge_imbalance == pytest.approx(4)
    assert realise(target, 4, {"Mn": 3}).charge_imbalance == 0


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("Li1.2Qq0.8O2", "Qq"),
        ("not a formula!", "cannot be read"),
        ("LiMn", "no anion"),
        ("Li1.5Mn1.0O2", "2.500 cations"),
        ("Li0.5Mn1.5O2", "Li layer"),
        ("Li1.1Al0.9O2", "no transition metal"),
        ("Li1.2Mn-0.2O2", "cannot be read"),
    ],
)
def test_bad_compositions(formula: str, message: str) -> None:
    with pytest.raises(CompositionError, match=message):
        parse_composition(formula)


def test_unknown_oxidation_state_is_asked_for() -> None:
    with pytest.raises(CompositionError, match="Re"):
        realise(parse_composition("LiReO2"), 4)
