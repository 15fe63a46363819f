"""The whole path of a study: build, delithiate, migrate, compute barriers, record."""

from dataclasses import replace

from ase.build import bulk
from jobflow import Flow, Job, OutputReference
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from .backend import BackendError, Capability, load_backend, versioned
from .barriers import BarrierMaker, HopContext
from .bonding import (
    BondingMaker,
    default_source,
    load_source,
    record_bonding,
    versioned_source,
)
from .lithiation import LithiationMaker
from .migration import MigrationMaker
from .neb import NebMaker
from .relax import RelaxMaker
from .states import RefillMaker, SettleMaker, StatePlace, StrainMaker, choose_cell, record_state
from .static import StaticMaker
from .study import StateSettings, Study
from .study_model import StudyModel


def check_capabilities(study: Study) -> None:
    """Refuse a study that asks for what its backend or source of bonding lacks, before it starts.

    Raises
    ------
    BackendError
        Naming what is lacking and what the backend can do, or a wrong setting of the source.
    """
    if study.bonding.source is not None:
        load_source(study.bonding.source)
    backend = load_backend(study.backend)
    lacking = study.required_capabilities - backend.capabilities
    no_bonding = Capability.BONDING in lacking
    no_stress = Capability.STRESS in lacking and study.backend.name == "gpaw"
    if lacking:
        raise BackendError(
            f"the study asks for {', '.join(sorted(c.value for c in lacking))}, which the backend "
            f"{backend.level_of_theory.backend} lacks (it has "
            f"{', '.join(sorted(c.value for c in backend.capabilities))}); "
            "remove it from the study or choose another backend"
            + ("; bonding.source: {name: tight_binding} serves any" if no_bonding else "")
            + ("; cells are relaxed with kwargs: {mode: pw}" if no_stress else "")
        )


def study_flow(models: list[StudyModel]) -> Flow:
    """Flow of a study.

    Relax bcc Li; then, for every variant and seed: relax the host, strain it where that is asked
    for (its cell then stays, as that of a slab always does); compute the voltage curve of the host;
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
        [lithium, *(_host_flow(model, lithium) for model in models)], name=models[0].study.name
    )


def lithium_metal() -> Structure:
    """Cubic cell of bcc Li, the reference of voltages."""
    return AseAtomsAdaptor.get_structure(bulk("Li", "bcc", a=3.44, cubic=True).repeat(2))


def _host_flow(model: StudyModel, lithium: Job) -> Flow:
    study, strain = model.study, model.variant.strain
    relax_fixed = _relax(study, cell=False)
    is_slab = model.context.vacuum is not None
    relax_cell = relax_fixed if strain is not None or is_slab else _relax(study, cell=True)
    lithiation = LithiationMaker(
        static=StaticMaker(backend=study.backend),
        relax=relax_cell,
        charges=dict(model.host.charge.oxidation_states),
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
    n_atoms = len(model.host.structure)
    host = _relax(study, cell=not is_slab).make(model.host.structure, model.host.occupation.frame)
    host.name = f"relax the pristine host ({n_atoms} atoms)"
    jobs: list[Flow | Job] = [host]
    if strain is not None:
        host = StrainMaker(relax=relax_fixed, **strain.model_dump()).make(host.output)
        jobs.append(host)
    charge = lithiation.make(
        host.output, lithium.output, model.charge_targets, model.charge_voltages
    )
    jobs.append(charge)
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
        where = HopContext(
            context=model.context, state=state.label, order=order, voltage=state.voltage
        )
        if study.bonding.wanted:
            source = versioned_source(study.bonding.source or default_source(study.backend))
            bonding = BondingMaker(source=source, window=study.bonding.window).make(
                final.structure, final.frame, final.magmoms
            )
            bonding.name = f"bonding of state {state.label}"
            jobs += [bonding, record_bonding(bonding.output, where)]
        if study.hops is not None and wants_hops(study, state):
            barriers = BarrierMaker(
                static=StaticMaker(backend=study.backend),
                relax=relax_fixed,
                neb=NebMaker(
                    backend=study.backend,
                    settings=study.neb.band_settings,
                    preconverge=study.neb.preconverge and versioned(study.neb.preconverge),
                ),
                movers=tuple(study.hops.movers),
                classes=study.hops.classes_on(model.host.occupation.frame),
                per_class=study.hops.per_class,
                screened=study.hops.screened,
            )
            jobs.append(barriers.make(chosen.output.relaxed, where))
    return Flow(jobs, name=f"{study.name} {model.label}".rstrip())


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
