"""The nudged elastic band driver."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS
from ase.optimize.ode import ode12r
from ase.optimize.sciopt import OptimizerConvergenceError
from numpy.typing import NDArray

from .band_proposal import highest_interior, propose
from .band_symmetry import BandMirror, find_band_mirror, mirrored_band
from .evaluation import Evaluation
from .linear_algebra import in_one_thread
from .nudged_forces import BandForces, band_forces, energy_weighted_springs
from .progress import report_step
from .surrogate import Surrogate

Evaluate = Callable[[list[Atoms]], list[Evaluation]]


@dataclass(frozen=True)
class BandSettings:
    """How a band is optimised.

    Attributes
    ----------
    n_images
        Interior images; None chooses them from the hop's length.
    image_spacing
        Aimed distance between images along the mover's path when `n_images` is None, Å.
    spring
        Spring constant at the highest image, eV/Å^2; at the lowest it is a tenth of this, so that
        images gather near the saddle.
    climb
        Whether the highest image climbs.
    climb_below
        Projected force below which the highest image starts to climb, eV/Å.
    fmax
        Largest projected force of a converged band, eV/Å. The climbing image, whose energy is the
        barrier, goes on to half of it where it can.
    max_steps
        Most optimisation steps.
    """

    n_images: int | None = None
    image_spacing: float = 0.6
    spring: float = 5.0
    climb: bool = True
    climb_below: float = 0.3
    fmax: float = 0.05
    max_steps: int = 200


@dataclass(frozen=True)
class Band:
    """An optimised band, end states included.

    Attributes
    ----------
    positions
        Shape (n_images + 2, n_atoms, 3), Å, not wrapped.
    energies
        Shape (n_images + 2,), eV.
    arc_lengths
        Path length in configuration space up to every image, shape (n_images + 2,), Å.
    tangential_forces
        Force along the path, shape (n_images + 2,), eV/Å.
    climbing_image
        Index of the climbing image; None if no image climbed.
    converged
        Whether `residual` came below the threshold.
    residual
        Largest projected force over the band, eV/Å.
    n_steps
        Steps of the optimiser, rejected ones included.
    n_force_calls
        Structures evaluated, end states included.
    history
        Largest projected force after every evaluation of the band, and when an image starts to
        climb, eV/Å.
    """

    positions: NDArray[np.float64]
    energies: NDArray[np.float64]
    arc_lengths: NDArray[np.float64]
    tangential_forces: NDArray[np.float64]
    climbing_image: int | None
    converged: bool
    residual: float
    n_steps: int
    n_force_calls: int
    history: tuple[float, ...]


def choose_n_images(path_length: float, settings: BandSettings) -> int:
    """Interior images for a mover's path length (Å): three to nine, about one per spacing."""
    if settings.n_images is not None:
        return settings.n_images
    return int(np.clip(round(path_length / settings.image_spacing) - 1, 3, 9))


@dataclass(frozen=True)
class _BandState:
    """A band that has been evaluated; arrays include the end states."""

    positions: NDArray[np.float64]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    nudged: BandForces

    @property
    def residual(self) -> float:
        return float(self.nudged.residuals.max())

    @property
    def flat(self) -> NDArray[np.float64]:
        """Interior positions in one row, as optimisers want them."""
        return self.positions[1:-1].ravel()


#: The climbing image converges to this part of the threshold: its energy is the barrier.
_SADDLE_SHARE = 0.5
#: A band on the surrogate is to have this part of the threshold.
_SURROGATE_SHARE = 0.2
#: The surrogate follows forces to this part of the threshold, but not to less than this, eV/Å.
_NOISE_SHARE, _LEAST_NOISE = 0.04, 1e-4
#: Steps without a better band after which the surrogate is given up.
_PATIENCE = 15
#: End states of a symmetric band have the same energy to this, eV.
_SAME_ENERGY = 0.002
#: Steps of the climbing image alone, and how often the band follows it.
_MOST_SADDLE_STEPS, _MOST_REFINEMENTS = 60, 3


@dataclass
class _BandEvaluator:
    """Evaluates every band that the optimiser asks for once."""

    template: Atoms
    ends: NDArray[np.float64]
    evaluate: Evaluate
    settings: BandSettings
    mirror: BandMirror | None = None
    climbing_image: int | None = None
    n_force_calls: int = 0
    history: list[float] = field(default_factory=list)
    state: _BandState | None = None

    def __post_init__(self) -> None:
        self._end_values = self._evaluate(self.ends)

    @property
    def ends_differ_by(self) -> float:
        """Energy difference of the end states, eV."""
        return float(abs(np.diff(self._end_values[:, 0])[0]))

    def __call__(self, flat: NDArray[np.float64]) -> NDArray[np.float64]:
        """Driving force on flattened interior positions; becomes the current state."""
        interior = flat.reshape(-1, len(self.template), 3)
        positions = np.concatenate([self.ends[:1], interior, self.ends[1:]])
        return self.stand_at(positions).nudged.driving.ravel()

    def stand_at(self, positions: NDArray[np.float64]) -> _BandState:
        """Make a band the current state; images that have not moved are not evaluated again."""
        before = self.state
        interior = range(1, len(positions) - 1)
        if before is None:
            energies, forces = np.zeros(len(positions)), np.zeros(positions.shape)
            energies[[0, -1]] = self._end_values[:, 0]
            forces[[0, -1]] = self._end_values[:, 1:].reshape(self.ends.shape)
            moved = list(interior)
        else:
            energies, forces = before.energies.copy(), before.forces.copy()
            moved = [i for i in interior if not np.array_equal(positions[i], before.positions[i])]
        last = len(positions) - 1
        mirrored = [i for i in moved if 2 * i > last] if self.mirror else []
        evaluated = [i for i in moved if i not in mirrored]
        if evaluated:
            rows = self._evaluate(positions[evaluated])
            energies[evaluated] = rows[:, 0]
            forces[evaluated] = rows[:, 1:].reshape(-1, *positions.shape[1:])
        for i in mirrored:
            assert self.mirror is not None
            energies[i] = energies[last - i]
            forces[i] = self.mirror.of_vectors(forces[last - i])
        springs = energy_weighted_springs(energies, self.settings.spring)
        nudged = band_forces(positions, energies, forces, springs, self.climbing_image)
        self.state = _BandState(positions, energies, forces, nudged)
        if moved:
            self.history.append(self.state.residual)
            report_step(
                f"band step {len(self.history)}, largest force {self.state.residual:.2f} eV/Å"
            )
        return self.state

    def _evaluate(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energy and forces of structures in one row each, shape (n, 1 + 3 n_atoms)."""
        self.n_force_calls += len(positions)
        structures = []
        for image in positions:
            atoms = self.template.copy()
            atoms.positions = image
            structures.append(atoms)
        results = self.evaluate(structures)
        return np.array([[r.energy, *np.ravel(r.forces)] for r in results], dtype=float)


def optimise_band(
    images: Sequence[Atoms],
    evaluate: Evaluate,
    settings: BandSettings,
) -> Band:
    """Relax a band to the minimum-energy path, the highest image to the saddle.

    Every evaluation teaches a surrogate (:class:`lrlo.workflows.surrogate.Surrogate`), on which
    the band is relaxed; images whose forces are above the threshold go where it says. Should that
    lead nowhere, ODE12r (Makri, Ortner and Kermode, J. Chem. Phys. 150, 094109 (2019)) moves the
    whole band from the best one seen, and then the climbing image goes on alone. The band returned
    is marked as unconverged if it is. Of a band that is symmetric about its middle one half is
    evaluated. Rigid translations of a periodic structure are no part of a path: all images get
    the centroid of the first.

    Parameters
    ----------
    images
        Initial path with end states, at least three images, as ``initial_path`` makes it.
    evaluate
        Energies and forces of many structures.
    settings
        Thresholds and springs.

    Raises
    ------
    ValueError
        If there is no interior image.
    """
    if len(images) < 3:
        raise ValueError(f"a band needs at least one interior image, got {len(images)} images")
    path = [image.copy() for image in images]
    if path[0].pbc.any():
        for image in path[1:]:
            image.positions -= (image.positions - path[0].positions).mean(axis=0)
    positions = np.array([image.positions for image in path])
    evaluator = _BandEvaluator(
        template=path[0].copy(),
        ends=positions[[0, -1]],
        evaluate=evaluate,
        settings=settings,
    )
    mirror = find_band_mirror(path)
    if mirror is not None and evaluator.ends_differ_by < _SAME_ENERGY:
        evaluator.mirror = mirror
        positions = mirrored_band(positions, mirror)
    evaluator.stand_at(positions)
    state = _follow_surrogate(evaluator)
    if state.residual > settings.fmax:
        state = _follow_forces(evaluator)
    if evaluator.climbing_image is not None:
        state = _approach_saddle(evaluator, state)
    steps = np.linalg.norm(np.diff(state.positions, axis=0), axis=(1, 2))
    return Band(
        positions=state.positions,
        energies=state.energies,
        arc_lengths=np.append(0.0, np.cumsum(steps)),
        tangential_forces=np.array([0.0, *state.nudged.tangential, 0.0]),
        climbing_image=evaluator.climbing_image,
        converged=state.residual <= settings.fmax,
        residual=state.residual,
        n_steps=len(evaluator.history),
        n_force_calls=evaluator.n_force_calls,
        history=tuple(evaluator.history),
    )


def _start_climbing(evaluator: _BandEvaluator, state: _BandState) -> _BandState:
    """Let the highest image climb, if it is none of the end states."""
    highest = highest_interior(state.energies)
    if not evaluator.settings.climb or highest == evaluator.climbing_image:
        return state
    evaluator.climbing_image = highest
    if highest is not None and 2 * highest != len(state.energies) - 1:
        evaluator.mirror = None  # it climbs on one side only
    state = evaluator.stand_at(state.positions)
    evaluator.history.append(state.residual)
    return state


def _follow_surrogate(evaluator: _BandEvaluator) -> _BandState:
    """Move images to where a surrogate of the energy surface wants them, until all are settled.

    Returns the best state, which the evaluator then stands at.
    """
    settings, state = evaluator.settings, evaluator.state
    assert state is not None
    noise = max(settings.fmax * _NOISE_SHARE, _LEAST_NOISE)
    surrogate = Surrogate(evaluator.template, noise)
    surrogate.learn(state.positions, state.energies, state.forces)
    climbs = False
    best, best_excess, last_gain = state, np.inf, 0
    while len(evaluator.history) < settings.max_steps:
        climbs |= settings.climb and state.residual < max(settings.climb_below, settings.fmax)
        if climbs:
            climbing_image = evaluator.climbing_image
            state = _start_climbing(evaluator, state)
            if evaluator.climbing_image != climbing_image:
                best_excess = np.inf  # what was found best had other forces
        excess = _excess(state, settings.fmax, evaluator.climbing_image)
        if excess.max() < best_excess:
            best, best_excess, last_gain = state, excess.max(), len(evaluator.history)
        is_moving = excess > 1
        if evaluator.mirror is not None:
            is_moving |= is_moving[::-1]
        moving = 1 + np.flatnonzero(is_moving)
        if not moving.size or len(evaluator.history) - last_gain > _PATIENCE:
            break
        goal = propose(
            surrogate,
            state.positions,
            state.energies,
            spring=settings.spring,
            climb=climbs,
            fmax=settings.fmax * _SURROGATE_SHARE,
        )
        if evaluator.mirror is not None:
            goal = mirrored_band(goal, evaluator.mirror)
        positions = state.positions.copy()
        positions[moving] = goal[moving]
        if np.array_equal(positions, state.positions):
            break  # the surrogate is no smooth surface
        state = evaluator.stand_at(positions)
        surrogate.learn(positions[moving], state.energies[moving], state.forces[moving])
    evaluator.state = best
    return best


def _excess(state: _BandState, fmax: float, climbing_image: int | None) -> NDArray[np.float64]:
    """Largest force of every interior image over its threshold."""
    thresholds = np.full(len(state.nudged.residuals), fmax)
    if climbing_image is not None:
        thresholds[climbing_image - 1] *= _SADDLE_SHARE
    excess: NDArray[np.float64] = state.nudged.residuals / thresholds
    return excess


def _follow_forces(evaluator: _BandEvaluator) -> _BandState:
    """Relax the whole band by its forces."""
    settings, state = evaluator.settings, evaluator.state
    assert state is not None
    if evaluator.climbing_image is None:
        below = settings.climb_below if settings.climb else settings.fmax
        state = _start_climbing(evaluator, _descend(evaluator, state.flat, below))
    return _descend(evaluator, state.flat, settings.fmax)


def _descend(evaluator: _BandEvaluator, start: NDArray[np.float64], fmax: float) -> _BandState:
    """Run ODE12r until the projected forces are below `fmax` or the steps are used up.

    Returns the best accepted state, which the evaluator then stands at.
    """
    evaluator(start)
    assert evaluator.state is not None
    best = evaluator.state
    steps_left = evaluator.settings.max_steps - len(evaluator.history)

    def current() -> _BandState:
        assert evaluator.state is not None
        return evaluator.state

    def remember(_: NDArray[np.float64]) -> None:
        nonlocal best
        if current().residual < best.residual:
            best = current()

    if steps_left > 0:
        # If the optimiser gives up, the best band is returned and marked as unconverged.
        with suppress(OptimizerConvergenceError):
            ode12r(
                evaluator,
                start,
                verbose=0,
                steps=steps_left,
                callback=remember,
                converged=lambda forces, flat: current().residual <= fmax,
            )
    evaluator.state = best
    return best


class _ClimbingForce(Calculator):
    """The climbing image of a band, with the force that drives it up to the saddle."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, evaluator: _BandEvaluator, index: int) -> None:
        super().__init__()
        self._evaluator = evaluator
        self._index = index

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Evaluate the image where it is now."""
        super().calculate(atoms, properties, system_changes)
        assert self._evaluator.state is not None
        positions = self._evaluator.state.positions.copy()
        positions[self._index] = self.atoms.positions
        state = self._evaluator.stand_at(positions)
        energy = float(state.energies[self._index])
        self.results = {"energy": energy, "forces": state.nudged.driving[self._index - 1]}


def _approach_saddle(evaluator: _BandEvaluator, state: _BandState) -> _BandState:
    """Bring a converged band's climbing image closer to the saddle, the band following if it must.

    Returns the last band that is converged.
    """
    fmax, index = evaluator.settings.fmax, evaluator.climbing_image
    assert index is not None
    for _ in range(_MOST_REFINEMENTS):
        saddle_residual = state.nudged.residuals[index - 1]
        if state.residual > fmax or saddle_residual <= fmax * _SADDLE_SHARE:
            break
        evaluator.state = state
        if not _climb_alone(evaluator, index, fmax * _SADDLE_SHARE):
            break
        followed = evaluator.state
        if followed.residual > fmax:
            followed = _descend(evaluator, followed.flat, fmax)
        if followed.residual > fmax:
            break
        state = followed
    return state


def _climb_alone(evaluator: _BandEvaluator, index: int, fmax: float) -> bool:
    """Move the climbing image alone: one evaluation a step, not a band's. Says if it got there.

    Its neighbours, which give the tangent, stay. BFGS, as in ASE, on the climbing force.
    """
    assert evaluator.state is not None
    image = evaluator.template.copy()
    image.positions = evaluator.state.positions[index]
    image.calc = _ClimbingForce(evaluator, index)
    steps_left = evaluator.settings.max_steps - len(evaluator.history)
    steps = min(_MOST_SADDLE_STEPS, steps_left)
    optimise = in_one_thread(BFGS(image, logfile=None).run)
    return steps > 0 and bool(optimise(fmax=fmax, steps=steps))
