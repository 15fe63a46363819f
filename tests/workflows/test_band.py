from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.mep.neb import NEB
from ase.optimize import FIRE

from lrlo.workflows import band as band_driver
from lrlo.workflows.backend import AseBackend
from lrlo.workflows.band import BandSettings, choose_n_images, optimise_band
from lrlo.workflows.checkpoint import EvaluationJournal
from lrlo.workflows.evaluation import Evaluation
from lrlo.workflows.initial_path import initial_path
from lrlo.workflows.journaled_backend import JournaledBackend
from lrlo.workflows.nudged_forces import band_forces, energy_weighted_springs

EMT_BACKEND = AseBackend("ase.calculators.emt:EMT", {})


def ase_band(images: list[Atoms], climb: bool) -> NEB:
    band = NEB([image.copy() for image in images], k=1.0, climb=climb, method="improvedtangent")
    for image in band.images:
        image.calc = EMT()
    return band


def test_barrier_and_cost_against_ase_with_fire(copper: list[Atoms]) -> None:
    band = optimise_band(copper, EMT_BACKEND.evaluate, BandSettings(fmax=0.05))
    reference = ase_band(copper, climb=True)
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 5

    optimiser = FIRE(reference, logfile=None)
    optimiser.attach(count)
    optimiser.run(fmax=0.01, steps=500)
    height = max(image.get_potential_energy() for image in reference.images)
    assert band.converged
    assert band.energies.max() == pytest.approx(height, abs=0.005)
    assert 0.5 < band.energies.max() - band.energies[0] < 1.0  # physical: experiment 0.7 eV
    assert band.n_force_calls < calls / 6
    assert band.climbing_image == 3


def test_nudged_forces_against_ase(copper: list[Atoms]) -> None:
    random = np.random.default_rng(2)
    images = []
    for number, image in enumerate(copper):
        moved = image.copy()
        if 0 < number < 6:
            moved.positions += random.normal(0, 0.05, moved.positions.shape)
        moved.calc = SinglePointCalculator(
            moved,
            energy=float(random.normal()),
            forces=random.normal(0, 1, moved.positions.shape),
        )
        images.append(moved)
    energies = np.array([image.get_potential_energy() for image in images])
    springs = random.uniform(0.5, 5, 6)
    for climb in (False, True):
        reference = NEB(images, k=list(springs), climb=climb, method="improvedtangent")
        expected = reference.get_forces().reshape(5, -1, 3)
        ours = band_forces(
            np.array([image.positions for image in images]),
            energies,
            np.array([image.get_forces() for image in images]),
            springs=springs,
            climbing_image=int(1 + np.argmax(energies[1:-1])) if climb else None,
        )
        np.testing.assert_allclose(ours.driving, expected, atol=1e-10)


def test_residual_leaves_springs_out(copper: list[Atoms]) -> None:
    positions = np.array([image.positions for image in copper])
    forces = np.zeros_like(positions)
    uneven = positions.copy()
    uneven[1] = 0.9 * positions[0] + 0.1 * positions[2]
    result = band_forces(uneven, np.arange(7.0), forces, springs=np.ones(6), climbing_image=None)
    assert result.residuals.max() == 0
    assert np.abs(result.driving).max() > 0.01


def test_springs_grow_with_the_energy_from_a_tenth_to_all() -> None:
    springs = energy_weighted_springs(np.array([1.0, 1.0, 1.5, 2.0, 1.2, 0.0]), stiffest=4.0)
    np.testing.assert_allclose(springs, 0.4 + 3.6 * np.array([0.5, 0.75, 1.0, 1.0, 0.6]))
    np.testing.assert_allclose(energy_weighted_springs(np.zeros(4), 2.0), 0.2)


def test_images_gather_near_the_saddle(copper: list[Atoms]) -> None:
    band = optimise_band(copper, EMT_BACKEND.evaluate, BandSettings(fmax=0.02))
    steps = np.diff(band.arc_lengths)
    assert steps[2] < steps[1] < steps[0]
    assert steps[3] < steps[4] < steps[5]


def test_the_centroid_stays_where_forces_cannot_move_it(copper: list[Atoms]) -> None:
    """A hop displaces the centroid; the structure translates back, which is a shorter path."""
    band = optimise_band(copper, EMT_BACKEND.evaluate, BandSettings(fmax=0.05))
    centroids = band.positions.mean(axis=1)
    assert np.linalg.norm(copper[-1].positions.mean(axis=0) - centroids[0]) > 0.05
    np.testing.assert_allclose(centroids, centroids[:1].repeat(7, axis=0), atol=1e-6)


def test_no_structure_is_evaluated_twice(copper: list[Atoms]) -> None:
    seen: set[bytes] = set()

    def evaluate(structures: list[Atoms]) -> list[Evaluation]:
        for atoms in structures:
            key = atoms.positions.tobytes()
            assert key not in seen
            seen.add(key)
        return EMT_BACKEND.evaluate(structures)

    band = optimise_band(copper, evaluate, BandSettings(fmax=0.05))
    assert len(seen) == band.n_force_calls


class KilledError(Exception):
    """Stands for a process that ends."""


class Dying:
    """Backend that counts what it computes, and ends after some calls."""

    level_of_theory = EMT_BACKEND.level_of_theory
    capabilities = EMT_BACKEND.capabilities

    def __init__(self, calls_left: int = 10**6) -> None:
        self.calls_left = calls_left
        self.n_structures = 0

    def evaluate(self, structures, *, stress=False, magmoms=False):
        if self.calls_left == 0:
            raise KilledError
        self.calls_left -= 1
        self.n_structures += len(structures)
        return EMT_BACKEND.evaluate(structures)


@pytest.mark.parametrize("calls_before", [1, 2, 3, 5])
def test_killed_band_goes_on_exactly_where_it_was(
    copper: list[Atoms], tmp_path: Path, calls_before: int
) -> None:
    settings = BandSettings(fmax=1e-4)
    whole = optimise_band(copper, EMT_BACKEND.evaluate, settings)
    path = tmp_path / "band.journal"
    first = Dying(calls_before)
    killed = JournaledBackend(first, EvaluationJournal(path))
    with pytest.raises(KilledError):
        optimise_band(copper, killed.evaluate, settings)
    with path.open("ab") as file:
        file.write(b"\x93NUMPY half a record")  # killed while it wrote
    second, journal = Dying(), EvaluationJournal(path)
    goes_on = JournaledBackend(second, journal)
    resumed = optimise_band(copper, goes_on.evaluate, settings)
    assert journal.n_replayed == calls_before
    assert first.n_structures + second.n_structures == whole.n_force_calls
    np.testing.assert_array_equal(resumed.energies, whole.energies)
    np.testing.assert_array_equal(resumed.positions, whole.positions)
    assert resumed.history == whole.history


def test_a_kill_at_every_tenth_step_changes_nothing(
    copper: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One band, killed again and again: it ends as the one that was left alone.

    Without the surrogate, with which no band takes that many steps.
    """
    monkeypatch.setattr(band_driver, "_PATIENCE", -1)
    settings = BandSettings(fmax=2e-6, max_steps=400)
    whole = optimise_band(copper, EMT_BACKEND.evaluate, settings)
    assert len(whole.history) > 40
    path = tmp_path / "band.journal"
    n_structures, kills = 0, 0
    resumed = None
    while resumed is None:
        dying = Dying(10)
        backend = JournaledBackend(dying, EvaluationJournal(path))
        try:
            resumed = optimise_band(copper, backend.evaluate, settings)
        except KilledError:
            kills += 1
        n_structures += dying.n_structures
    assert kills >= 4
    assert n_structures == whole.n_force_calls
    np.testing.assert_array_equal(resumed.positions, whole.positions)
    assert resumed.history == whole.history


def test_without_a_surrogate_the_climbing_image_goes_on_alone(
    copper: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last steps cost one evaluation each, and its force is half the threshold's."""
    monkeypatch.setattr(band_driver, "_PATIENCE", -1)
    sizes: list[int] = []

    def evaluate(structures: list[Atoms]) -> list[Evaluation]:
        sizes.append(len(structures))
        return EMT_BACKEND.evaluate(structures)

    band = optimise_band(copper, evaluate, BandSettings(fmax=0.05))
    assert sizes[0] == 2
    assert set(sizes[1:]) == {3, 1}  # half of a symmetric band
    assert band.climbing_image == 3
    values = EMT_BACKEND.evaluate([_at(copper[0], positions) for positions in band.positions])
    forces = np.array([value.forces for value in values])
    nudged = band_forces(band.positions, band.energies, forces, np.ones(6), band.climbing_image)
    assert nudged.residuals.max() <= 0.05
    assert nudged.residuals[2] <= 0.025


def test_a_surrogate_that_leads_nowhere_is_given_up(
    copper: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(5)

    def lost(surrogate: object, positions: np.ndarray, *_: object, **__: object) -> np.ndarray:
        moved = positions.copy()
        moved[1:-1] += random.normal(0, 0.02, moved[1:-1].shape)
        return moved

    sound = optimise_band(copper, EMT_BACKEND.evaluate, BandSettings(fmax=0.05))
    monkeypatch.setattr(band_driver, "propose", lost)
    monkeypatch.setattr(band_driver, "_PATIENCE", 4)
    band = optimise_band(copper, EMT_BACKEND.evaluate, BandSettings(fmax=0.05))
    assert band.converged
    assert band.energies.max() == pytest.approx(sound.energies.max(), abs=0.003)
    assert band.n_force_calls > 2 * sound.n_force_calls


def test_history_keeps_what_was_evaluated(
    copper: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going back to the best band overwrites no entry of a later one."""
    settings = BandSettings(fmax=1e-6, max_steps=12)
    monkeypatch.setattr(band_driver, "_LEAST_NOISE", 0.05)
    monkeypatch.setattr(band_driver, "_PATIENCE", 2)
    seen: list[float] = []
    stand_at = band_driver._BandEvaluator.stand_at

    def noting(self: band_driver._BandEvaluator, positions: np.ndarray) -> object:
        n_before = len(self.history)
        state = stand_at(self, positions)
        seen.extend(self.history[n_before:])
        return state

    monkeypatch.setattr(band_driver._BandEvaluator, "stand_at", noting)
    band = optimise_band(copper, EMT_BACKEND.evaluate, settings)
    climbs = [entry for entry in band.history if entry not in seen]
    assert len(climbs) <= 1
    assert set(seen) <= set(band.history)


def test_a_surface_that_is_none_ends_as_unconverged(copper: list[Atoms]) -> None:
    """Forces beyond all bounds: neither the surrogate nor ODE12r can follow, and both end."""

    def evaluate(structures: list[Atoms]) -> list[Evaluation]:
        found = EMT_BACKEND.evaluate(structures)
        return [Evaluation(each.energy, 1e5 * each.forces) for each in found]

    band = optimise_band(copper, evaluate, BandSettings(fmax=0.05))
    assert not band.converged
    assert band.n_steps < 50


def _at(atoms: Atoms, positions: np.ndarray) -> Atoms:
    moved = atoms.copy()
    moved.positions = positions
    return moved


def test_journal_of_another_path_is_not_used(copper: list[Atoms], tmp_path: Path) -> None:
    path = tmp_path / "band.journal"
    EvaluationJournal(path).append(np.zeros((2, 3)), np.ones((2, 4)))
    backend = Dying()
    journaled = JournaledBackend(backend, EvaluationJournal(path))
    band = optimise_band(copper, journaled.evaluate, BandSettings())
    assert band.converged
    assert backend.n_structures == band.n_force_calls


def test_unconverged_band_says_so(copper: list[Atoms]) -> None:
    band = optimise_band(copper, EMT_BACKEND.evaluate, BandSettings(fmax=1e-4, max_steps=4))
    assert not band.converged
    assert band.residual > 1e-4
    assert band.residual in band.history


def test_path_goes_through_the_waypoint_and_over_the_cell_boundary() -> None:
    atoms = Atoms("CuAr", positions=[[0.5, 2, 2], [3, 3, 3]], cell=[6, 6, 6], pbc=True)
    final = atoms.copy()
    final.positions[0] = [5.5, 2, 2]  # one Å away through the boundary
    via = atoms.copy()
    via.positions[0] = [0.0, 2.8, 2]
    images = initial_path(atoms, final, 5, via)
    path = np.array([image.positions[0] for image in images])
    assert path[-1][0] == pytest.approx(-0.5)
    assert np.linalg.norm(path - [0.0, 2.8, 2], axis=1).min() < 0.2
    spacing = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert spacing.max() < 1.6 * spacing.min()


def test_end_states_must_match() -> None:
    with pytest.raises(ValueError, match="same atoms"):
        initial_path(Atoms("Cu"), Atoms("Ag"), 3)
    with pytest.raises(ValueError, match="interior image"):
        optimise_band([Atoms("Cu"), Atoms("Cu")], EMT_BACKEND.evaluate, BandSettings())


@pytest.mark.parametrize(("length", "n_images"), [(1.7, 3), (2.9, 4), (3.5, 5), (20.0, 9)])
def test_image_count_follows_the_hop_length(length: float, n_images: int) -> None:
    assert choose_n_images(length, BandSettings()) == n_images
    assert choose_n_images(length, BandSettings(n_images=7)) == 7
