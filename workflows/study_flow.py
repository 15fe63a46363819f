"""The whole path of a study: build, delithiate, migrate, compute barriers, record."""

from dataclasses import dataclass, replace

from ase.build import bulk
from jobflow import Flow, Job, OutputReference
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from ..analysis.documents import StudyContext
from ..structures.frame import SiteKind
from ..structures.layered_oxide import PristineModel, build_pristine
from .backend import BackendError, load_backend, versioned
from .barriers import BarrierMaker, HopContext
from .lithiation import LithiationMaker, LithiationTarget, even_contents
from .migration import MigrationMaker
from .neb import NebMaker
from .relax import RelaxMaker
from .states import (
    RefillMaker,
    SettleMaker,
    StatePlace,
    choose_cell,
    lithiation_target,
    record_state,
)
from .static import StaticMaker
from .study import StateSettings, Study, StudyError


@dataclass(frozen=True)
class StudyModel:
    """A study with its pristine supercell, one per seed.

    Attributes
    ----------
    study
        The study.
    pristine
        Pristine model.
    context
        Where results belong.
    targets
        Li content of every state that is known without a computed curve, None for the others.
    """

    study: Study
    pristine: PristineModel
    context: StudyContext
    targets: tuple[LithiationTarget | None, ...]

    @property
    def n_lithium(self) -> int:
        """Li in the pristine cell."""
        return self.pristine.occupation.count()["Li"]

    @property
    def n_tm_lithium(self) -> int:
        """Li in the TM layers of the pristine cell."""
        return self.pristine.occupation.count(SiteKind.TM_OCT)["Li"]

    @property
    def charge_targets(self) -> list[LithiationTarget]:
        """Li contents to compute on the pristine host."""
        states = zip(self.study.states, self.targets, strict=True)
        wanted = [t for state, t in states if state.after is None and t is not None]
        if self.charge_voltages:
            contents = even_contents(0, self.n_lithium, self.study.lithiation.n_contents)
            wanted += [LithiationTarget(n_li=n) for n in contents]
        unique = {(t.n_li, t.quota): t for t in wanted}
        return [unique[key] for key in sorted(unique, key=lambda k: (k[0], k[1] or ()))]

    @property
    def charge_voltages(self) -> list[float]:
        """Voltages whose Li content the pristine host's curve must tell."""
        return [
            state.voltage
            for state, target in zip(self.study.states, self.targets, strict=True)
            if state.voltage is not None and target is None and state.after is None
        ]


def model_study(study: Study) -> list[StudyModel]:
    """Build the pristine supercells of a study; computes no energy.

    Raises
    ------
    CompositionError
        If no supercell within the limits holds the composition.
    StudyError
        If a state asks for more Li than the cell holds, or for a voltage outside the user's
        table.
    """
    return [_model_seed(study, seed) for seed in study.structure.seeds]


def _model_seed(study: Study, seed: int) -> StudyModel:
    settings = study.structure
    pristine = build_pristine(
        study.composition,
        stacking=settings.stacking,
        superlattice=settings.superlattice,
        min_atoms=settings.min_atoms,
        max_atoms=settings.max_atoms,
        seed=seed,
        oxidation_states=settings.oxidation_states,
    )
    composition = pristine.composition
    n_lithium = pristine.occupation.count()["Li"]
    n_tm_lithium = composition.tm_layer_counts.get("Li", 0)
    targets = []
    for state in study.states:
        try:
            target = lithiation_target(
                state, composition.n_formula_units, n_tm_lithium, study.lithiation.table
            )
        except ValueError as error:
            raise StudyError(str(error)) from error
        if target is not None and target.n_li > n_lithium:
            raise StudyError(
                f"states: {state.label!r} asks for {target.n_li} Li, but the pristine cell holds "
                f"{n_lithium} ({n_lithium / composition.n_formula_units:.3f} per formula unit)"
            )
        targets.append(target)
    context = StudyContext(
        study=study.name,
        study_key=study.key,
        composition=study.composition,
        target=dict(composition.target),
        realised=dict(composition.realised),
        charge_imbalance=composition.charge_imbalance,
        n_formula_units=composition.n_formula_units,
        stacking=settings.stacking.value,
        superlattice=settings.superlattice.value,
        seed=seed,
        sqs_objective=pristine.order.objective,
        image_distance=pristine.image_distance,
    )
    return StudyModel(study, pristine, context, tuple(targets))


def check_capabilities(study: Study) -> None:
    """Refuse a study that asks for what its backend lacks, before anything starts.

    Raises
    ------
    BackendError
        Naming what is lacking and what the backend can do.
    """
    backend = load_backend(study.backend)
    lacking = study.required_capabilities - backend.capabilities
    if lacking:
        raise BackendError(
            f"the study asks for {', '.join(sorted(c.value for c in lacking))}, which the backend "
            f"{backend.level_of_theory.backend} lacks (it has "
            f"{', '.join(sorted(c.value for c in backend.capabilities))}); "
            "remove it from the study or choose another backend"
        )


def study_flow(models: list[StudyModel]) -> Flow:
    """Flow of a study.

    For every seed: relax the pristine host and bcc Li; compute the voltage curve of the host;
    for every state take the cell that its voltage means, compute barriers in it, sample TM moves,
    relax what came out and record the state. A state that comes after another one starts from
    that one's migrated structure with Li put back.
    """
    backend = versioned(models[0].study.backend)
    models = [
        replace(model, study=model.study.model_copy(update={"backend": backend}))
        for model in models
    ]
    lithium = _relax(models[0].study, cell=True).make(lithium_metal())
    lithium.name = "relax bcc Li"
    return Flow(
        [lithium, *(_seed_flow(model, lithium) for model in models)], name=models[0].study.name
    )


def lithium_metal() -> Structure:
    """Cubic cell of bcc Li, the reference of voltages."""
    return AseAtomsAdaptor.get_structure(bulk("Li", "bcc", a=3.44, cubic=True).repeat(2))


def _seed_flow(model: StudyModel, lithium: Job) -> Flow:
    study = model.study
    relax_cell, relax_fixed = _relax(study, cell=True), _relax(study, cell=False)
    lithiation = LithiationMaker(
        static=StaticMaker(backend=study.backend),
        relax=relax_cell,
        charges=dict(model.pristine.composition.oxidation_states),
        patterns_per_split=study.lithiation.patterns_per_split,
        relaxed_per_content=study.lithiation.relaxed_per_content,
        seed=model.context.seed,
    )
    seed = study.migration.seed
    migration = MigrationMaker(
        relax=relax_fixed,
        n_steps=study.migration.n_steps,
        temperature=study.migration.temperature,
        movers=tuple(study.migration.movers),
        seed=model.context.seed if seed is None else seed,
    )
    occupation = model.pristine.occupation
    host = relax_cell.make(occupation.to_structure(), occupation.frame)
    host.name = f"relax the pristine host ({len(occupation.occupied())} atoms)"
    charge = lithiation.make(
        host.output, lithium.output, model.charge_targets, model.charge_voltages
    )
    jobs: list[Flow | Job] = [host, charge]
    finals: dict[str, OutputReference] = {}
    for order, (state, target) in enumerate(zip(study.states, model.targets, strict=True)):
        curve = charge
        if state.after is not None:
            refill = RefillMaker(
                relax=relax_cell,
                lithiation=lithiation,
                n_contents=study.lithiation.n_contents_after,
            )
            curve = refill.make(
                finals[state.after],
                lithium.output,
                target,
                [state.voltage] if state.voltage is not None and target is None else [],
            )
            jobs.append(curve)
        chosen = choose_cell(curve.output, state, target)
        jobs.append(chosen)
        final, sampled = chosen.output.relaxed, None
        if state.after is None and not state.is_pristine:
            chain = migration.make(chosen.output.relaxed)
            settled = SettleMaker(relax=relax_cell).make(chain.output)
            jobs += [chain, settled]
            final, sampled = settled.output, chain.output
        place = StatePlace(context=model.context, settings=state, order=order)
        record = record_state(place, chosen.output, final, sampled)
        record.name = f"record state {state.label}"
        jobs.append(record)
        finals[state.label] = final
        if study.hops is not None and wants_hops(study, state):
            barriers = BarrierMaker(
                static=StaticMaker(backend=study.backend),
                relax=relax_fixed,
                neb=NebMaker(backend=study.backend, settings=study.neb.band_settings),
                movers=tuple(study.hops.movers),
                classes=tuple(study.hops.classes),
                per_class=study.hops.per_class,
                screened=study.hops.screened,
            )
            where = HopContext(
                context=model.context, state=state.label, order=order, voltage=state.voltage
            )
            jobs.append(barriers.make(chosen.output.relaxed, where))
    return Flow(jobs, name=f"{study.name}, seed {model.context.seed}")


def _relax(study: Study, *, cell: bool) -> RelaxMaker:
    return RelaxMaker(
        backend=study.backend,
        relax_cell=cell,
        fmax=study.relax.fmax,
        max_steps=study.relax.max_steps,
    )


def wants_hops(study: Study, state: StateSettings) -> bool:
    """Whether barriers are computed in a state: those listed, or every charged one."""
    if study.hops is None:
        return False
    if study.hops.states is not None:
        return state.label in study.hops.states
    return not state.is_pristine and state.after is None
