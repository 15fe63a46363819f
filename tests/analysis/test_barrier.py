import numpy as np
import pytest

from lrlo.analysis.barrier import (
    PathStatus,
    band_barrier,
    band_status,
    fitted_path,
    fitted_saddle,
    intermediate_minimum,
)


def test_barriers_of_one_path_belong_together() -> None:
    barrier = band_barrier(range(5), [-5.0, -4.6, -4.2, -4.5, -4.8], [0, -0.4, 0, 0.3, 0])
    assert barrier.forward == pytest.approx(0.8)
    assert barrier.reverse == pytest.approx(0.6)
    assert barrier.reaction_energy == pytest.approx(barrier.forward - barrier.reverse)
    assert barrier.max_minus_min == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("energies", "converged", "status"),
    [
        ([0, 0.3, 0.6, 0.3, 0.1], True, PathStatus.CONVERGED),
        ([0, 0.3, 0.6, 0.3, 0.1], False, PathStatus.UNCONVERGED),
        ([0, 0.2, 0.4, 0.6, 0.8], True, PathStatus.NO_INTERIOR_SADDLE),
        ([0, -0.2, -0.4], True, PathStatus.NO_INTERIOR_SADDLE),
        ([0, 0.2, 0.4], False, PathStatus.UNCONVERGED),
        ([0, 0.5, 0.2, 0.6, 0.1], True, PathStatus.SEVERAL_SADDLES),
        ([0, 0.5, 0.48, 0.5, 0], True, PathStatus.CONVERGED),  # a shallow dip is no minimum
    ],
)
def test_status(energies: list[float], converged: bool, status: PathStatus) -> None:
    assert band_status(energies, converged=converged) is status


def test_deepest_intermediate_minimum() -> None:
    assert intermediate_minimum([0, 0.5, 0.3, 0.6, 0.1, 0.7, 0]) == 4
    assert intermediate_minimum([0, 1, 0]) is None


def test_curve_goes_through_images_with_their_slopes() -> None:
    s = np.linspace(0, 3, 7)
    fine = np.linspace(0, 3, 301)
    curve = fitted_path(s, np.sin(s), -np.cos(s))
    np.testing.assert_allclose(curve(fine), np.sin(fine), atol=5e-4)


def test_saddle_between_images_is_found() -> None:
    """Uneven spacing: path length counts, not the number of the image."""
    s = np.array([0, 0.4, 1.0, 1.4, 2.0, 2.6, np.pi])
    place, height = fitted_saddle(s, -np.cos(2 * s), -2 * np.sin(2 * s))
    assert place == pytest.approx(np.pi / 2, abs=0.01)
    assert height == pytest.approx(1, abs=0.01)
    barrier = band_barrier(s, -np.cos(2 * s), -2 * np.sin(2 * s))
    assert barrier.forward == barrier.reverse == pytest.approx(2, abs=0.01)
    assert barrier.max_minus_min == pytest.approx(1 - np.cos(2.8))


def test_a_climbing_image_is_the_saddle() -> None:
    """What is left of its force along the path would raise the curve beside it."""
    band = (range(5), [0, 0.4, 1.0, 0.4, 0], [0, -0.7, 0.1, 0.7, 0])
    assert band_barrier(*band, climbing_image=2).forward == 1.0
    assert band_barrier(*band).forward > 1.001


def test_noise_at_an_end_state_is_no_saddle() -> None:
    """End states are relaxed to a threshold only: a slope there does not raise a monotone band."""
    barrier = band_barrier([0, 1, 2], [0, 0.3, 0.8], [-0.1, -0.4, 0.05])
    assert barrier.forward == 0.8
