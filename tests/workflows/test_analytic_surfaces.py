"""The band driver on surfaces whose saddles are known."""

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, root

from lrlo.workflows.backend import AseBackend
from lrlo.workflows.band import Band, BandSettings, Evaluate, optimise_band
from lrlo.workflows.evaluation import Evaluation

Surface = Callable[[float, float], float]
SETTINGS = BandSettings(n_images=7, fmax=0.02, spring=1.0)


def mueller_brown(x: float, y: float) -> float:
    """Müller and Brown, Theor. Chim. Acta 53, 75 (1979), in hundredths of their unit."""
    parameters = (
        (-200, -1, 0, -10, 1, 0),
        (-100, -1, 0, -10, 0, 0.5),
        (-170, -6.5, 11, -6.5, -0.5, 1.5),
        (15, 0.7, 0.6, 0.7, -1, 1),
    )
    return 0.01 * sum(
        height * np.exp(a * (x - x0) ** 2 + b * (x - x0) * (y - y0) + c * (y - y0) ** 2)
        for height, a, b, c, x0, y0 in parameters
    )


def leps(x: float, y: float) -> float:
    """Collinear exchange of atom B between A and C, with r_AB = x and r_BC = y (LEPS I).

    Jónsson, Mills and Jacobsen, in "Classical and Quantum Dynamics in Condensed Phase Simulations"
    (1998), appendix A.1.
    """
    widths = np.array([4.746, 4.746, 3.445])
    overlap = 1 + np.array([0.05, 0.30, 0.05])
    decay = np.exp(-1.942 * (np.array([x, y, x + y]) - 0.742))
    coulomb = widths / 2 * (1.5 * decay**2 - decay) / overlap
    exchange = widths / 4 * (decay**2 - 6 * decay) / overlap
    squared = (exchange**2).sum() - (
        exchange[0] * exchange[1] + exchange[1] * exchange[2] + exchange[0] * exchange[2]
    )
    return float(coulomb.sum() - np.sqrt(squared))


def gradient(surface: Surface, point: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = point
    step = 1e-5
    return np.array(
        [
            (surface(x + step, y) - surface(x - step, y)) / (2 * step),
            (surface(x, y + step) - surface(x, y - step)) / (2 * step),
        ]
    )


def evaluator(surface: Surface) -> Evaluate:
    """One atom whose x and y are the coordinates of the surface."""

    def evaluate(structures: list[Atoms]) -> list[Evaluation]:
        results = []
        for atoms in structures:
            point = atoms.positions[0, :2]
            forces = np.zeros((1, 3))
            forces[0, :2] = -gradient(surface, point)
            results.append(Evaluation(energy=surface(*point), forces=forces))
        return results

    return evaluate


def straight(start: tuple[float, float], end: tuple[float, float]) -> list[Atoms]:
    points = np.linspace((*start, 0.0), (*end, 0.0), SETTINGS.n_images + 2)
    return [Atoms("H", positions=[point]) for point in points]


def stationary(surface: Surface, guess: tuple[float, float]) -> tuple[float, float]:
    found = root(lambda point: gradient(surface, point), guess, tol=1e-10)
    assert found.success
    return float(found.x[0]), float(found.x[1])


def converged(surface: Surface, start: tuple[float, float], end: tuple[float, float]) -> Band:
    band = optimise_band(straight(start, end), evaluator(surface), SETTINGS)
    assert band.converged
    return band


def test_mueller_brown_saddle_between_neighbouring_minima() -> None:
    start = stationary(mueller_brown, (-0.05, 0.467))
    end = stationary(mueller_brown, (0.623, 0.028))
    assert mueller_brown(*end) == pytest.approx(-1.0817, abs=1e-4)  # the published minimum
    band = converged(mueller_brown, start, end)
    assert band.energies.max() == pytest.approx(-0.7225, abs=1e-3)
    saddle = band.positions[band.climbing_image or 0, 0, :2]
    np.testing.assert_allclose(saddle, (0.212, 0.293), atol=0.01)


def test_mueller_brown_over_both_saddles() -> None:
    start = stationary(mueller_brown, (-0.558, 1.442))
    end = stationary(mueller_brown, (0.623, 0.028))
    band = converged(mueller_brown, start, end)
    assert band.energies.max() == pytest.approx(-0.4066, abs=1e-3)
    np.testing.assert_allclose(
        band.positions[band.climbing_image or 0, 0, :2], (-0.822, 0.624), atol=0.01
    )


def test_leps_saddle() -> None:
    start, end = (0.742, 2.2), (2.2, 0.742)  # on the way out: apart there is no minimum

    def valley(shift: float) -> float:
        """Lowest energy where r_AB - r_BC is given: the saddle is the highest of these."""
        found = minimize_scalar(
            lambda total: leps((total + shift) / 2, (total - shift) / 2),
            bounds=(abs(shift) + 1.2, abs(shift) + 3.0),
            method="bounded",
        )
        return float(found.fun)

    top = minimize_scalar(lambda shift: -valley(shift), bounds=(-0.8, 0.8), method="bounded")
    band = converged(leps, start, end)
    assert band.energies.max() == pytest.approx(-top.fun, abs=2e-3)
    place = band.positions[band.climbing_image or 0, 0, :2]
    assert place[0] - place[1] == pytest.approx(top.x, abs=0.02)


def test_reversed_band_gives_the_reverse_barrier() -> None:
    start = stationary(mueller_brown, (-0.05, 0.467))
    end = stationary(mueller_brown, (0.623, 0.028))
    there, back = converged(mueller_brown, start, end), converged(mueller_brown, end, start)
    forward = there.energies.max() - there.energies[0]
    assert forward == pytest.approx(back.energies.max() - back.energies[-1], abs=1e-3)
    reverse = there.energies.max() - there.energies[-1]
    assert reverse == pytest.approx(back.energies.max() - back.energies[0], abs=1e-3)
    saddles = [band.positions[band.climbing_image or 0, 0] for band in (there, back)]
    np.testing.assert_allclose(*saddles, atol=0.01)


def test_order_and_origin_of_atoms_change_nothing(copper: list[Atoms]) -> None:
    """Another order of the atoms and another origin of the cell give the same band."""
    order = np.random.default_rng(4).permutation(len(copper[0]))
    moved = [image[order] for image in copper]
    for image in moved:
        image.positions += (0.4, 1.3, -0.7)
    settings = BandSettings(n_images=5)
    backend = AseBackend("ase.calculators.emt:EMT", {})
    first = optimise_band(copper, backend.evaluate, settings)
    second = optimise_band(moved, backend.evaluate, settings)
    np.testing.assert_allclose(second.energies, first.energies, atol=1e-6)
    assert second.n_force_calls == first.n_force_calls
