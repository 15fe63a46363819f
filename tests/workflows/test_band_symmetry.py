"""Bands that are the same from both ends are computed by half, and nothing else is."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from lrlo.workflows import band
from lrlo.workflows.backend import AseBackend
from lrlo.workflows.band import BandSettings, optimise_band
from lrlo.workflows.band_symmetry import find_band_mirror, mirrored_band
from lrlo.workflows.initial_path import initial_path

EMT = AseBackend("ase.calculators.emt:EMT", {})
ARGON = AseBackend(
    "ase.calculators.lj:LennardJones", {"sigma": 3.4, "epsilon": 0.01, "rc": 8.0, "smooth": True}
)


def hexagonal_path() -> list[Atoms]:
    """Vacancy of hcp argon that hops within a layer: an oblique cell, as layered oxides have."""
    crystal = bulk("Ar", "hcp", a=3.75, c=6.12).repeat((3, 3, 2))
    start = crystal.copy()
    del start[0]
    layer = np.flatnonzero(np.abs(start.positions[:, 2] - crystal.positions[0, 2]) < 0.1)
    distances = [crystal.get_distance(0, i + 1, mic=True) for i in layer]
    mover = int(layer[np.argmin(distances)])
    end = start.copy()
    end.positions[mover] += crystal.get_distance(mover + 1, 0, mic=True, vector=True)
    return initial_path(start, end, 5)


@pytest.mark.parametrize("n_images", [3, 5, 7])
def test_half_a_band_gives_the_whole(
    copper: list[Atoms], n_images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = initial_path(copper[0], copper[-1], n_images)
    settings = BandSettings(fmax=0.05)
    by_half = optimise_band(path, EMT.evaluate, settings)
    monkeypatch.setattr(band, "find_band_mirror", lambda images: None)
    whole = optimise_band(path, EMT.evaluate, settings)
    np.testing.assert_allclose(by_half.energies, whole.energies, atol=1e-6)
    np.testing.assert_allclose(by_half.positions, whole.positions, atol=1e-4)
    assert len(by_half.history) == len(whole.history)
    assert by_half.n_force_calls <= 0.75 * whole.n_force_calls


def test_forces_of_a_mirrored_image_are_those_computed() -> None:
    path = hexagonal_path()
    mirror = find_band_mirror(path)
    assert mirror is not None
    assert not np.allclose(mirror.rotation, np.eye(3))
    rattled = np.array([image.positions for image in path])
    rattled[1:-1] += np.random.default_rng(2).normal(0, 0.05, rattled[1:-1].shape)
    positions = mirrored_band(rattled, mirror)
    np.testing.assert_array_equal(positions[:3], rattled[:3])
    images = [path[0].copy() for _ in positions]
    for image, place in zip(images, positions, strict=True):
        image.positions = place
    found = ARGON.evaluate(images)
    for there, back in ((1, 5), (2, 4)):
        assert found[back].energy == pytest.approx(found[there].energy, abs=1e-10)
        expected = mirror.of_vectors(found[there].forces)
        np.testing.assert_allclose(found[back].forces, expected, atol=1e-9)
        assert np.abs(found[back].forces - found[there].forces).max() > 0.01  # not by chance
    middle = found[3].forces
    np.testing.assert_allclose(mirror.of_vectors(middle), middle, atol=1e-9)


def test_a_neighbour_out_of_place_or_of_another_element_ends_the_symmetry(
    copper: list[Atoms],
) -> None:
    assert find_band_mirror(copper) is not None
    displaced = [image.copy() for image in copper]
    for image in displaced:
        image.positions[20] += (0.2, 0, 0)
    assert find_band_mirror(displaced) is None
    substituted = [image.copy() for image in copper]
    for image in substituted:
        image.symbols[20] = "Ni"
    assert find_band_mirror(substituted) is None


def test_end_states_of_different_energy_are_no_mirror_images(copper: list[Atoms]) -> None:
    """Energies decide, where positions are the same within the tolerance."""

    def tilted(structures: list[Atoms]) -> list:
        first = copper[0].positions
        return [
            type(result)(
                result.energy + 0.01 * np.abs(atoms.positions - first).max(), result.forces
            )
            for atoms, result in zip(structures, EMT.evaluate(structures), strict=True)
        ]

    plain = optimise_band(copper, EMT.evaluate, BandSettings(fmax=0.3, climb=False))
    told_apart = optimise_band(copper, tilted, BandSettings(fmax=0.3, climb=False))
    assert told_apart.n_force_calls > plain.n_force_calls
