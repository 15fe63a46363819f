import pytest

from lrlo.analysis.voltage import (
    LithiationPoint,
    VoltageOutsideCurveError,
    average_voltage,
    lithium_at_voltage,
    voltage_curve,
)

MU = -1.9


def point(n_li: int, energy: float) -> LithiationPoint:
    return LithiationPoint(n_li=n_li, energy=energy)


def curve_with_steps(*voltages: float):
    """Curve whose step from n to n + 1 Li has the given voltage, from the full host down."""
    energies, energy = [point(0, 0.0)], 0.0
    for n, voltage in enumerate(voltages, start=1):
        energy += MU - voltage
        energies.append(point(n, energy))
    return voltage_curve(energies, MU)


def test_average_voltage_by_hand() -> None:
    # E(x1) - E(x2) = -23.6 eV for 4 Li of -1.9 eV each: (23.6 - 7.6) / 4 = 4 V
    assert average_voltage(point(0, 0.0), point(4, -23.6), MU) == pytest.approx(4.0)
    with pytest.raises(ValueError, match="both points"):
        average_voltage(point(1, 0.0), point(1, 1.0), MU)


def test_plateaus_fall_with_lithium() -> None:
    curve = curve_with_steps(4.8, 4.4, 4.0, 3.6)
    assert [step.voltage for step in curve.steps] == pytest.approx([4.8, 4.4, 4.0, 3.6])
    assert [(s.n_li_low, s.n_li_high) for s in curve.steps] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_unstable_contents_are_left_out_of_the_hull() -> None:
    curve = curve_with_steps(4.0, 4.4)  # one Li is unstable against none and two
    assert [(s.n_li_low, s.n_li_high) for s in curve.steps] == [(0, 2)]
    assert curve.steps[0].voltage == pytest.approx(4.2)
    assert len(curve.points) == 3


@pytest.mark.parametrize(
    ("voltage", "n_li"), [(2.0, 4), (3.7, 3), (4.2, 2), (4.5, 1), (4.8 - 1e-9, 1)]
)
def test_lithium_at_voltage(voltage: float, n_li: int) -> None:
    curve = curve_with_steps(4.8, 4.4, 4.0, 3.6)
    assert lithium_at_voltage(curve, voltage) == n_li
    # the grand potential agrees
    best = min(curve.points, key=lambda p: p.energy - p.n_li * (MU - voltage))
    assert best.n_li == n_li


def test_voltage_above_the_curve_is_refused_with_the_limit() -> None:
    with pytest.raises(VoltageOutsideCurveError, match=r"4\.9 V is above .* 4\.80 V"):
        lithium_at_voltage(curve_with_steps(4.8, 4.4), 4.9)


def test_lowest_of_several_candidates_counts() -> None:
    curve = voltage_curve([point(0, 0.0), point(1, -5.0), point(1, -6.0)], MU)
    assert curve.points[1].energy == -6.0
