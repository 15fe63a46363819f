"""What a study would run, and what that would cost, before anything runs."""

from dataclasses import dataclass
from time import perf_counter

from .backend import load_backend
from .band import choose_n_images
from .bonding import default_source, load_source
from .relax import to_atoms
from .study_flow import wants_hops
from .study_model import StudyModel

#: Typical numbers of force calls, measured with the emulator on cells of 40 to 60 atoms: they
#: are for estimates of time only. The settings' own limits bound them.
CALLS_PER_RELAXATION = 50
CALLS_PER_IMAGE = 22
#: Length of a TM hop through its tetrahedron, Å, in units of the in-plane lattice parameter.
_HOP_LENGTH = 1.22


@dataclass(frozen=True)
class PlannedWork:
    """Tasks of one kind within a stage.

    Attributes
    ----------
    stage
        What they are for.
    kind
        ``relax``, ``static`` or ``neb``.
    n_tasks
        Number of tasks, estimated; split bands and migrated structures add to them.
    n_atoms
        Atoms per structure, at most.
    n_force_calls
        Estimated structures to evaluate, over all tasks.
    seconds
        Estimated time besides force calls, over all tasks, s.
    """

    stage: str
    kind: str
    n_tasks: int
    n_atoms: int
    n_force_calls: int
    seconds: float = 0.0


@dataclass(frozen=True)
class StudyPlan:
    """Planned work and how long it takes.

    Attributes
    ----------
    work
        Planned work by stage.
    seconds_per_call
        Measured time of one evaluation of the pristine cell on this machine, s.
    """

    work: tuple[PlannedWork, ...]
    seconds_per_call: float

    @property
    def n_tasks(self) -> int:
        """Tasks in all, estimated."""
        return sum(item.n_tasks for item in self.work)

    @property
    def n_force_calls(self) -> int:
        """Evaluations in all, estimated."""
        return sum(item.n_force_calls for item in self.work)

    @property
    def seconds(self) -> float:
        """Estimated time in all, s; cost grows linearly with atoms."""
        largest = max(item.n_atoms for item in self.work)
        weighted = sum(item.n_force_calls * item.n_atoms / largest for item in self.work)
        return weighted * self.seconds_per_call + sum(item.seconds for item in self.work)


def plan_study(models: list[StudyModel]) -> StudyPlan:
    """Plan a study: exact where it is known before the run, an upper bound where it is not.

    Evaluates the pristine cell twice to measure the speed of the backend here.
    """
    work = [item for model in models for item in _plan_model(model)]
    atoms = to_atoms(models[0].host.structure)
    backend = load_backend(models[0].study.backend)
    backend.evaluate([atoms], stress=True)  # first calls are slower
    start = perf_counter()
    backend.evaluate([atoms], stress=True)
    return StudyPlan(tuple(work), perf_counter() - start)


def _plan_model(model: StudyModel) -> list[PlannedWork]:
    study = model.study
    where = f" ({model.label})" if model.label else ""
    n_atoms = len(model.host.structure)
    per_relaxation = min(CALLS_PER_RELAXATION, study.relax.max_steps)

    def relaxations(stage: str, n_tasks: int) -> PlannedWork:
        return PlannedWork(stage + where, "relax", n_tasks, n_atoms, n_tasks * per_relaxation)

    work = [relaxations("pristine host and bcc Li", 2)]
    removed = [t for t in model.charge_targets if t.n_li < model.n_lithium]
    # Refinement computes up to two neighbours of the stable Li content of every voltage.
    n_contents = min(len(removed) + 2 * len(model.charge_voltages), model.n_lithium)
    work += _curve(model, "voltage curve" + where, n_contents, n_atoms)
    hop_length = _HOP_LENGTH * model.host.occupation.frame.a
    n_images = choose_n_images(hop_length, study.neb.band_settings)
    per_band = n_images * min(CALLS_PER_IMAGE, study.neb.max_steps)
    if study.bonding.wanted:
        n_states = len(study.states)
        source = load_source(study.bonding.source or default_source(study.backend))
        cost = source.estimate(model.host.structure)
        stage = f"bonding{where}" if cost else f"bonding, time unknown{where}"
        seconds = n_states * cost.seconds if cost else 0.0
        work.append(PlannedWork(stage, "bonding", n_states, n_atoms, 0, seconds))
    for state in study.states:
        if state.is_pristine:
            continue
        if state.after is not None:
            work.append(relaxations(f"{state.label}: host with Li put back", 1))
            known = model.targets[study.states.index(state)] is not None
            n_contents = 1 if known else study.lithiation.n_contents_after - 1
            work += _curve(model, f"{state.label}: voltage curve{where}", n_contents, n_atoms)
        elif study.migration.n_steps:
            # Repeated moves are computed once: about six moves per vacancy among the TM.
            n_moves = min(study.migration.n_steps, 6 * max(model.n_shared_lithium, 1))
            work.append(relaxations(f"{state.label}: TM moves", n_moves + 1))
        if study.hops is not None and wants_hops(study, state):
            n_classes = len(study.hops.classes_on(model.host.occupation.frame))
            n_hops = n_classes * study.hops.per_class
            n_screened = n_classes * study.hops.screened
            screening = f"{state.label}: screening{where}"
            work.append(PlannedWork(screening, "static", n_classes, n_atoms, n_screened))
            work.append(relaxations(f"{state.label}: end states", n_hops))
            calls = n_hops * per_band
            work.append(PlannedWork(f"{state.label}: bands{where}", "neb", n_hops, n_atoms, calls))
    return work


def _curve(model: StudyModel, stage: str, n_contents: int, n_atoms: int) -> list[PlannedWork]:
    settings = model.study.lithiation
    n_divisions = model.n_divisions
    n_relaxed = n_contents * min(n_divisions, settings.relaxed_per_content)
    n_static = n_contents * n_divisions * settings.patterns_per_split
    calls = n_relaxed * min(CALLS_PER_RELAXATION, model.study.relax.max_steps)
    return [
        PlannedWork(stage, "static", n_contents, n_atoms, n_static),
        PlannedWork(stage, "relax", n_relaxed, n_atoms, calls),
    ]
