import numpy as np
import pytest

from lrlo.analysis.barrier import (
    PathStatus,
    band_barrier,
    band_status,
    fitted_profile,
    intermediate_minimum,
)


def test_barriers_of_one_path_belong_together() -> None:
    barrier = band_barrier([-5.0, -4.6, -4.2, -4.5, -4.8])
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


def test_profile_goes_through_images_with_their_slopes() -> None:
    s = np.linspace(0, 3, 7)
    length, energy = fitted_profile(s, np.sin(s), -np.cos(s), n_points=50)
    np.testing.assert_allclose(energy, np.sin(length), atol=5e-4)
    # the maximum lies between images; the fit finds it, the images alone do not
    assert energy.max() == pytest.approx(1, abs=2e-4)
