"""The pristine supercells of a study: built and checked before any energy is computed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import TypeVar

from pymatgen.core import Structure

from ..analysis.documents import StudyContext, StudyStrain
from ..structures.antisites import antisite_pairs
from ..structures.assignment import AssignmentError
from ..structures.composition import (
    ANIONS,
    OXIDATION_STATES,
    CompositionError,
    RealisedComposition,
    compare,
    compare_cations,
    parse_composition,
)
from ..structures.defects import ChargeBalance, Defect, make_defect
from ..structures.domains import build_two_phase
from ..structures.dopants import random_dopants
from ..structures.frame import TM_LAYER, SiteKind
from ..structures.hops import hops_without_lithium
from ..structures.layered_oxide import PristineModel, build_pristine
from ..structures.occupation import Occupation
from ..structures.oxygen_dimers import form_dimer, neighbouring_oxygen
from ..structures.oxygen_vacancies import oxygen_vacancies, oxygen_vacancies_near
from ..structures.rock_salt_oxide import build_rock_salt
from ..structures.sqs import QuasirandomOrder
from ..structures.stacking import Stacking
from ..structures.stacking_faults import build_faulted_honeycomb, draw_fault_angles
from ..structures.structure_files import StructureFileError, read_built
from ..structures.supercell import NoSupercellError, TooMuchLithiumError, image_distance
from ..structures.vacancies import sublattice_kinds
from ..structures.vacancy_motifs import tri_vacancies
from ..structures.vacuum import vacuum_width
from .lithiation import LithiationTarget, even_contents
from .states import lithiation_target
from .structure_settings import (
    AntisiteSettings,
    DefectSettings,
    DimerSettings,
    DopantSettings,
    HostFrame,
    OxygenVacancySettings,
    StrainSettings,
    StructureSettings,
    TriVacancySettings,
    Variant,
    describe_defect,
    describe_order,
)
from .study import Study, StudyError

_Choice = TypeVar("_Choice")


@dataclass(frozen=True)
class Host:
    """The fully lithiated supercell of one variant and seed.

    Attributes
    ----------
    occupation
        Species on the sites of the frame, defects included.
    structure
        Its ions on ideal positions, but for oxygen dimers.
    composition
        Target, realised, deviation and charge balance before defects.
    charge
        Formal charge before and after defects.
    order
        SQS result for the species of the TM layer.
    """

    occupation: Occupation
    structure: Structure
    composition: RealisedComposition
    charge: ChargeBalance
    order: QuasirandomOrder

    @property
    def image_distance(self) -> float:
        """Shortest distance between an ion and its periodic image in the ideal cell, Å."""
        return image_distance(self.occupation.frame.lattice)

    @property
    def vacuum(self) -> float | None:
        """Width of the vacuum beside a slab, Å; None in a crystal."""
        return vacuum_width(self.structure)


@dataclass(frozen=True)
class StudyModel:
    """A study with one of its supercells.

    Attributes
    ----------
    study
        The study.
    variant
        The variant that the supercell is of.
    host
        Fully lithiated supercell.
    context
        Where results belong.
    targets
        Li content of every state that is known without a computed curve, None for the others.
    """

    study: Study
    variant: Variant
    host: Host
    context: StudyContext
    targets: tuple[LithiationTarget | None, ...]

    @property
    def label(self) -> str:
        """Variant and seed, where the study has more than one."""
        several = len(self.variant.structure.seeds) > 1
        seed = f"seed {self.context.seed}" if several else ""
        return ", ".join(part for part in (self.variant.label, seed) if part)

    @property
    def n_lithium(self) -> int:
        """Li in the host."""
        return self.host.occupation.count()["Li"]

    @property
    def n_shared_lithium(self) -> int:
        """Li of the host among the TM: in the TM layers, or all of it without layers."""
        *_, kinds = sublattice_kinds(self.host.occupation.frame).values()
        return self.host.occupation.count(*kinds)["Li"]

    @property
    def n_divisions(self) -> int:
        """Ways to divide Li over the sublattices of the host, at most."""
        _, *others = sublattice_kinds(self.host.occupation.frame).values()
        return prod(self.host.occupation.count(*kinds)["Li"] + 1 for kinds in others)

    @property
    def charge_targets(self) -> list[LithiationTarget]:
        """Li contents to compute on the host."""
        states = zip(self.study.states, self.targets, strict=True)
        wanted = [t for state, t in states if state.after is None and t is not None]
        if self.charge_voltages:
            contents = even_contents(0, self.n_lithium, self.study.lithiation.n_contents)
            wanted += [LithiationTarget(n_li=n) for n in contents]
        unique = {(t.n_li, tuple((t.quota or {}).values())): t for t in wanted}
        return [unique[key] for key in sorted(unique)]

    @property
    def charge_voltages(self) -> list[float]:
        """Voltages whose Li content the host's curve must tell."""
        return [
            state.voltage
            for state, target in zip(self.study.states, self.targets, strict=True)
            if state.voltage is not None and target is None and state.after is None
        ]


def model_study(study: Study) -> list[StudyModel]:
    """Build the supercells of a study, one per variant and seed; computes no energy.

    Raises
    ------
    CompositionError
        If no supercell within the limits holds the composition.
    StudyError
        If a state asks for more Li than the cell holds, or for a voltage outside the user's
        table, a defect cannot be made, or no structure holds an element that is to hop.
    """
    models = [
        _model(study, variant, seed)
        for variant in study.structures
        for seed in variant.structure.seeds
    ]
    if study.hops is not None and "movers" in study.hops.model_fields_set:
        held = {symbol for model in models for symbol in model.host.occupation.count()}
        there = sorted(held.difference(ANIONS))
        absent = [symbol for symbol in study.hops.movers if symbol not in there]
        if absent:
            raise StudyError(
                f"hops.movers: {', '.join(absent)} in no structure of the study; there are "
                f"{', '.join(there)}"
            )
    return models


def build_host(variant: Variant, seed: int) -> Host:
    """Build the fully lithiated supercell of a variant, defects included.

    Raises
    ------
    CompositionError
        If no supercell within the limits holds the composition.
    StudyError
        If a defect cannot be made in it.
    """
    occupation, composition, order = _pristine(variant, seed)
    states = {**OXIDATION_STATES, **variant.structure.oxidation_states}
    before = make_defect(occupation, {}, states).charge.before
    for index, settings in enumerate(variant.defects):
        if isinstance(settings, DimerSettings):
            continue
        try:
            occupation = _defect(occupation, settings, states, seed + index).occupation
        except ValueError as error:
            raise StudyError(f"defects.{index}: {error}") from error
    structure = occupation.to_structure()
    for index, settings in enumerate(variant.defects):
        if isinstance(settings, DimerSettings):
            try:
                pairs = neighbouring_oxygen(occupation)
                sites = _chosen(pairs, settings.choice, "pairs of neighbouring O").sites
                first, second = (occupation.occupied().index(site) for site in sites)
                dimer = form_dimer(
                    structure, (first, second), settings.oxygen_dimer, settings.direction
                )
            except ValueError as error:
                raise StudyError(f"defects.{index}: {error}") from error
            structure = dimer.structure
    after = make_defect(occupation, {}, states).charge
    charge = ChargeBalance(before, after.after, after.oxidation_states)
    return Host(occupation, structure, composition, charge, order)


def _pristine(
    variant: Variant, seed: int
) -> tuple[Occupation, RealisedComposition, QuasirandomOrder]:
    settings = variant.structure
    if settings.file is not None:
        return _from_file(variant, settings.file)
    if settings.stacking is HostFrame.ROCK_SALT:
        return _built(
            settings,
            partial(build_rock_salt, variant.composition),
            seed,
        )
    stacking = Stacking(settings.stacking)
    if settings.faults is not None:
        faults = settings.faults
        angles = faults.angles
        if angles is None:
            assert faults.n_layers is not None  # the schema allows no third way
            assert faults.density is not None
            angles = list(draw_fault_angles(faults.n_layers, faults.density, seed))
        faulted = build_faulted_honeycomb(
            variant.composition,
            angles,
            stacking=stacking,
            in_plane=faults.in_plane,
            seed=seed,
            oxidation_states=settings.oxidation_states,
        )
        return faulted.occupation, faulted.composition, faulted.order
    if settings.domains is not None:
        x, poor_phase = two_phases(variant.composition, settings.domains.rich_metal)
        two_phase = build_two_phase(
            x,
            poor_phase,
            rich_rows=settings.domains.rich_rows,
            stacking=stacking,
            columns=settings.domains.columns,
            n_repeats=settings.domains.n_repeats,
            rich_metal=settings.domains.rich_metal,
            seed=seed,
            oxidation_states=settings.oxidation_states,
        )
        whole = compare(
            parse_composition(variant.composition),
            two_phase.occupation.count(*TM_LAYER),
            settings.oxidation_states,
        )
        return two_phase.occupation, whole, two_phase.order
    return _built(
        settings,
        partial(
            build_pristine,
            variant.composition,
            stacking=stacking,
            superlattice=settings.superlattice,
            cap=settings.cap,
        ),
        seed,
    )


def _built(
    settings: StructureSettings, build: Callable[..., PristineModel], seed: int
) -> tuple[Occupation, RealisedComposition, QuasirandomOrder]:
    """Host of a builder; its errors name the keys of the study file."""
    try:
        pristine = build(
            min_atoms=settings.min_atoms,
            max_atoms=settings.max_atoms,
            seed=seed,
            oxidation_states=settings.oxidation_states,
            target=settings.order_target,
        )
    except NoSupercellError as error:
        raise StudyError(
            f"structure.max_atoms: {error}; raise it to {error.nearest} or more"
        ) from error
    except TooMuchLithiumError as error:
        raise StudyError(f"structure.superlattice: {error}") from error
    except CompositionError:
        raise
    except ValueError as error:
        raise StudyError(f"structure.tm_order: {error}") from error
    return pristine.occupation, pristine.composition, pristine.order


def _from_file(
    variant: Variant, source: str
) -> tuple[Occupation, RealisedComposition, QuasirandomOrder]:
    """Host of a structure file: its ions on their sites, with no order that was searched for."""
    try:
        occupation = read_built(source).occupation
    except (StructureFileError, AssignmentError, ValueError) as error:
        raise StudyError(f"structure.file: {error}") from error
    assert occupation is not None  # what is read has a frame
    frame = occupation.frame
    counts = {s: n for s, n in occupation.count().items() if s not in ANIONS}
    composition = replace(
        compare_cations(
            variant.cations,
            counts,
            _n_formula_units(occupation),
            variant.structure.oxidation_states,
        ),
        tm_layer_counts=dict(occupation.count(*TM_LAYER)) if frame.n_layers else {},
    )
    return occupation, composition, QuasirandomOrder((), 0.0, {}, ())


def _n_formula_units(occupation: Occupation) -> int:
    """Formula units (two anions): by sites, so that O vacancies do not count; of a slab by ions."""
    if vacuum_width(occupation.to_structure()) is None:
        return len(occupation.frame.sites(SiteKind.ANION)) // 2
    return occupation.count(SiteKind.ANION).total() // 2


def two_phases(formula: str, rich_metal: str) -> tuple[float, str]:
    """Share x of Li2MnO3 and formula of the LiMO2 that make up a composition.

    All Li of the TM layer goes to Li2MnO3, with two metal ions each: the Li fraction of the TM
    layer is x / (2 + x).

    Raises
    ------
    CompositionError
        If the composition has no Li in the TM layer, too little of the metal for it, or nothing
        left for LiMO2.

    Examples
    --------
    >>> two_phases("Li1.2Mn0.4Co0.4O2", "Mn")
    (0.5, 'LiCo1O2')
    """
    layer = dict(parse_composition(formula).tm_layer)
    lithium = layer.pop("Li", 0.0)
    metal = layer.get(rich_metal, 0.0) - 2 * lithium
    poor_share = 1 - 3 * lithium
    if lithium <= 0 or metal < -1e-6 or poor_share <= 1e-6:
        raise CompositionError(
            f"{formula!r} cannot be split into Li2{rich_metal}O3 and LiMO2: its TM layer has "
            f"{lithium:.3f} Li, {layer.get(rich_metal, 0.0):.3f} {rich_metal} and "
            f"{poor_share:.3f} left; use more {rich_metal}, or Li between 1 and 1.33"
        )
    poor = {**layer, rich_metal: max(metal, 0.0)}
    amounts = {symbol: round(n / poor_share, 6) for symbol, n in poor.items() if n > 1e-6}
    rest = "".join(f"{symbol}{amount:g}" for symbol, amount in sorted(amounts.items()))
    return round(2 * lithium / (1 - lithium), 9), f"Li{rest}O2"


def _defect(
    occupation: Occupation, settings: DefectSettings, states: Mapping[str, float], seed: int
) -> Defect:
    if isinstance(settings, DopantSettings):
        return random_dopants(
            occupation,
            {settings.dopant: settings.count},
            settings.site_class,
            seed=seed,
            layer=settings.layer,
            replaces=settings.replaces,
            oxidation_states=states,
        )
    if isinstance(settings, AntisiteSettings):
        pairs = antisite_pairs(
            occupation,
            settings.antisite,
            max_distance=settings.max_distance,
            oxidation_states=states,
        )
        return _chosen(pairs, settings.choice, "antisite pairs").defect
    if isinstance(settings, OxygenVacancySettings) and settings.near_hop is not None:
        near = settings.near_hop
        hops = hops_without_lithium(occupation, near.mover, near.path_class)
        around = oxygen_vacancies_near(
            occupation,
            _chosen(
                hops,
                near.hop,
                f"{near.path_class.value} hops of {near.mover}",
                key="near_hop.hop",
                first=1,
            ),
            max_distance=near.max_distance,
            o_class=settings.o_class,
            oxidation_states=states,
        )
        return _chosen(around, settings.choice, "O near the hop").defect
    if isinstance(settings, OxygenVacancySettings):
        sets = oxygen_vacancies(
            occupation,
            settings.oxygen_vacancies,
            o_class=settings.o_class,
            oxidation_states=states,
        )
        return _chosen(sets, settings.choice, "sets of O vacancies").defect
    assert isinstance(settings, TriVacancySettings)
    motifs = tri_vacancies(occupation, settings.n_tm_layer, oxidation_states=states)
    return _chosen(motifs, settings.choice, "tri-vacancies").defect


def _chosen(
    possible: Sequence[_Choice], number: int, what: str, *, key: str = "choice", first: int = 0
) -> _Choice:
    """The one of that number, counted from `first`; `key` is where the study file gives it."""
    if number - first >= len(possible):
        raise ValueError(
            f"{key} {number} of {len(possible)} symmetry-distinct {what}; allowed: {first} to "
            f"{len(possible) - 1 + first}"
        )
    return possible[number - first]


def _model(study: Study, variant: Variant, seed: int) -> StudyModel:
    host = build_host(variant, seed)
    frame = host.occupation.frame
    if variant.strain is not None and not frame.n_layers:
        raise StudyError(
            f"strain: in_plane and out_of_plane are of layers, which a frame of {frame.label} has "
            "not; leave strain out"
        )
    if variant.strain is not None and host.vacuum is not None:
        raise StudyError("strain: the cell of a slab is held as it is; leave strain out")
    n_formula_units = host.composition.n_formula_units
    n_lithium = host.occupation.count()["Li"]
    targets = []
    for state in study.states:
        try:
            target = lithiation_target(
                state,
                host.occupation,
                n_formula_units,
                study.lithiation.table,
            )
        except ValueError as error:
            raise StudyError(str(error)) from error
        if target is not None and target.n_li > n_lithium:
            raise StudyError(
                f"states: {state.label!r} asks for {target.n_li} Li, but the pristine cell holds "
                f"{n_lithium} ({n_lithium / n_formula_units:.3f} per formula unit)"
            )
        targets.append(target)
    return StudyModel(study, variant, host, _context(study, variant, host, seed), tuple(targets))


def _context(study: Study, variant: Variant, host: Host, seed: int) -> StudyContext:
    composition = host.composition
    strain = variant.strain
    return StudyContext(
        study=study.name,
        study_key=study.key,
        variant=variant.label,
        composition=variant.composition,
        target=dict(composition.target),
        realised=dict(composition.realised),
        charge_imbalance=host.charge.after,
        n_formula_units=composition.n_formula_units,
        stacking=host.occupation.frame.label,
        superlattice=_order_of_layers(variant.structure),
        tm_order="" if variant.structure.file else describe_order(variant.structure.tm_order),
        dopants=variant.dopants,
        defects=[describe_defect(defect) for defect in variant.defects],
        strain=_strain(strain) if strain else None,
        vacuum=host.vacuum,
        seed=seed,
        sqs_objective=host.order.objective,
        image_distance=host.image_distance,
    )


def _strain(settings: StrainSettings) -> StudyStrain:
    return StudyStrain(
        in_plane=settings.biaxial,
        out_of_plane=settings.out_of_plane,
        components=settings.in_plane if isinstance(settings.in_plane, tuple) else None,
    )


def _order_of_layers(settings: StructureSettings) -> str:
    """Where the order of the TM layer comes from; empty where there is no TM layer."""
    if settings.file is not None:
        return settings.file
    return "" if settings.stacking is HostFrame.ROCK_SALT else settings.superlattice.value
