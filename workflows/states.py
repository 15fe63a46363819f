"""States of charge: which cell a voltage means, and the document of the finished state."""

from dataclasses import dataclass, field

import numpy as np
from jobflow import Flow, Job, Maker, Response
from pydantic import BaseModel
from pymatgen.core import Structure

from ..analysis.coordination import frame_free_class_fractions, summarise_coordination
from ..analysis.documents import StateDocument, StudyContext
from ..analysis.oxidation import oxidation_states
from ..analysis.oxygen_pairs import find_oxygen_pairs
from ..analysis.voltage import VoltageCurve, lithium_at_voltage
from ..structures.assignment import SitePositions
from ..structures.frame import (
    LI_LAYER,
    TETRAHEDRA,
    TM_LAYER,
    Sharing,
    SiteKind,
    lithium_layer_sites,
)
from ..structures.layer_geometry import layer_geometry
from ..structures.occupation import Occupation
from ..structures.strain import layer_strain, strain_structure
from .lithiation import LithiationDocument, LithiationMaker, LithiationTarget, even_contents
from .migration import MigrationDocument
from .relax import RelaxDocument, RelaxMaker
from .study import StateSettings
from .task import step


class ChosenCell(BaseModel):
    """Relaxed cell of a state before TM move.

    Attributes
    ----------
    relaxed
        The cell.
    source
        How its Li content was found.
    curve
        Voltage curve that it was taken from.
    """

    relaxed: RelaxDocument
    source: str
    curve: VoltageCurve


class StatePlace(BaseModel):
    """Where a state stands in its study."""

    context: StudyContext
    settings: StateSettings
    order: int


def lithiation_target(
    state: StateSettings,
    host: Occupation,
    n_formula_units: int,
    table: list[tuple[float, float]] | None,
) -> LithiationTarget | None:
    """Li content of a state when it is known without a computed curve, else None.

    Parameters
    ----------
    state
        The state as the user wrote it.
    host
        The full host.
    n_formula_units
        Formula units in the cell.
    table
        The user's own curve, rows of voltage and Li per formula unit.

    Raises
    ------
    ValueError
        If the voltage lies outside the user's table, or layers are meant that the host lacks.
    """
    if state.li_layer is not None and state.tm_layer is not None:
        if not host.frame.n_layers:
            raise ValueError(
                f"state {state.label!r} gives li_layer and tm_layer, but a frame of "
                f"{host.frame.label} has no layers; give li_content or a voltage"
            )
        n_tm_lithium = host.count(*TM_LAYER)["Li"]
        quota = {
            "Li layer": round(state.li_layer * n_formula_units),
            "TM layer": round(state.tm_layer * n_tm_lithium),
        }
        return LithiationTarget(n_li=sum(quota.values()), quota=quota)
    content = state.li_content
    if state.voltage is not None and table is not None:
        voltages, contents = zip(*table, strict=True)
        if not voltages[0] <= state.voltage <= voltages[-1]:
            raise ValueError(
                f"state {state.label!r}: {state.voltage:g} V is outside lithiation.table, which "
                f"runs from {voltages[0]:g} to {voltages[-1]:g} V"
            )
        content = float(np.interp(state.voltage, voltages, contents))
    if content is None:
        return None
    return LithiationTarget(n_li=round(content * n_formula_units))


@step(output_schema=ChosenCell)
def choose_cell(
    lithiation: LithiationDocument, state: StateSettings, target: LithiationTarget | None
) -> ChosenCell:
    """The cell that a state means on a host's curve.

    Raises
    ------
    VoltageOutsideCurveError
        If the voltage is above the highest plateau of the curve.
    """
    if target is not None:
        source = "given Li content" if state.voltage is None else "user's voltage table"
    elif state.voltage is None:
        target = LithiationTarget(n_li=lithiation.curve.points[-1].n_li)
        source = "fully lithiated host"
    else:
        target = LithiationTarget(n_li=lithium_at_voltage(lithiation.curve, state.voltage))
        source = "computed voltage curve"
        if lithiation.curve.steps and state.voltage < lithiation.curve.steps[-1].voltage:
            source += " (below its lowest plateau: the host is full)"
    cell = lithiation.lowest(target)
    return ChosenCell(relaxed=cell.relaxed, source=source, curve=lithiation.curve)


def refilled(migrated: RelaxDocument) -> Structure:
    """Migrated structure with Li on every site that is left for it.

    These are the octahedra, and in P3 the prisms that Li fills in the pristine crystal. Other
    cations stay where they are. Li on tetrahedra gives way to Li on octahedra; a site that shares
    a face with another cation's tetrahedron, or with a taken prism, stays empty.
    """
    assignment = migrated.assignment
    occupation, frame = assignment.occupation, assignment.frame
    on_tetrahedra = set(occupation.sites_of("Li", *TETRAHEDRA))

    def is_left(site: int) -> bool:
        tetrahedra = frame.neighbours(site, Sharing.FACE, *TETRAHEDRA)
        prisms = frame.neighbours(site, Sharing.RECTANGULAR_FACE)
        return (
            occupation.species[site] is None
            and occupation.is_enclosed(site)
            and all(occupation.species[n.site] in (None, "Li") for n in tetrahedra)
            and all(occupation.species[n.site] is None for n in prisms)
        )

    others = frame.sites(SiteKind.TM_OCT, SiteKind.CATION_OCT)
    places = {*lithium_layer_sites(frame).tolist(), *others.tolist()}
    left = [site for site in sorted(places) if is_left(site)]
    positions = SitePositions(migrated.structure, assignment)
    structure = positions.without(on_tetrahedra)
    for site in left:
        structure.append("Li", positions.frac_coords(site) % 1.0)
    return structure


@dataclass
class RefillMaker(Maker):
    """Put Li back into a migrated structure and compute the curve on the way.

    The host is the migrated structure with Li on every empty octahedron that is left; TM stay
    where they are. Its own voltage curve, between the Li content reached and the full host, tells
    how much Li comes back.

    Attributes
    ----------
    relax
        Maker that relaxes the host with its cell.
    lithiation
        Maker of the curve.
    n_contents
        Li contents on the curve, both ends included.
    """

    name: str = "refill"
    relax: RelaxMaker = field(default_factory=lambda: RelaxMaker(relax_cell=True))
    lithiation: LithiationMaker = field(default_factory=LithiationMaker)
    n_contents: int = 4

    @step()
    def make(
        self,
        migrated: RelaxDocument,
        lithium: RelaxDocument,
        target: LithiationTarget | None,
        voltages: list[float],
    ) -> Job:
        """Fill the empty sites, relax, and compute the curve of the new host."""
        structure = refilled(migrated)
        n_low, n_high = (_count_lithium(s) for s in (migrated.structure, structure))
        host = self.relax.make(structure, migrated.frame)
        host.name = f"relax the migrated host with {n_high - n_low} Li put back"
        contents = even_contents(n_low, n_high, self.n_contents)
        targets = [LithiationTarget(n_li=n) for n in contents] if target is None else [target]
        curve = self.lithiation.make(host.output, lithium, targets, voltages, n_low)
        return Response(replace=Flow([host, curve], output=curve.output))  # type: ignore[return-value]


@dataclass
class StrainMaker(Maker):
    """Strain a relaxed host and relax its ions in the strained cell.

    Attributes
    ----------
    relax
        Maker that relaxes in a fixed cell.
    in_plane, out_of_plane
        See :class:`lrlo.workflows.structure_settings.StrainSettings`.
    """

    name: str = "strain"
    relax: RelaxMaker = field(default_factory=RelaxMaker)
    in_plane: float | tuple[float, float, float] = 0.0
    out_of_plane: float = 0.0

    @step()
    def make(self, host: RelaxDocument) -> Job:
        """Strained host."""
        assert host.frame is not None  # hosts come from a frame
        strain = layer_strain(self.in_plane, self.out_of_plane)
        job = self.relax.make(strain_structure(host.structure, strain), host.frame)
        job.name = "relax the strained host"
        return Response(replace=Flow([job], output=job.output))  # type: ignore[return-value]


@dataclass
class SettleMaker(Maker):
    """Relax a migrated structure with its cell, unless nothing moved."""

    name: str = "settle"
    relax: RelaxMaker = field(default_factory=lambda: RelaxMaker(relax_cell=True))

    @step()
    def make(self, migrated: MigrationDocument) -> Job:
        """Relaxed structure of a state after its Metropolis chain."""
        if not migrated.n_accepted:
            return migrated.current  # type: ignore[return-value]
        job = self.relax.make(migrated.current.structure, migrated.current.frame)
        job.name = "relax the migrated structure"
        return Response(replace=Flow([job], output=job.output))  # type: ignore[return-value]


@step(output_schema=StateDocument)
def record_state(
    place: StatePlace,
    chosen: ChosenCell,
    final: RelaxDocument,
    migration: MigrationDocument | None,
) -> StateDocument:
    """Document of a finished state."""
    assignment = final.assignment
    occupation = assignment.occupation
    frame = occupation.frame
    structure = final.structure
    n_formula_units = place.context.n_formula_units
    lattice = structure.lattice
    slab = place.context.vacuum is not None
    # Layers and volume of a slab are those of its cell, which is held fixed, vacuum included.
    geometry = layer_geometry(structure, assignment) if frame.n_layers and not slab else None
    volume = structure.volume / n_formula_units if geometry is None else geometry.volume

    def per_octahedron(*kinds: SiteKind) -> float | None:
        return occupation.count(*kinds)["Li"] / n_formula_units if frame.n_layers else None

    return StateDocument(
        context=place.context,
        label=place.settings.label,
        after=place.settings.after,
        order=place.order,
        voltage=place.settings.voltage,
        li_source=chosen.source,
        li_content=occupation.count()["Li"] / n_formula_units,
        li_layer=per_octahedron(*LI_LAYER),
        tm_layer=per_octahedron(*TM_LAYER),
        structure=structure,
        frame=frame,
        energy=final.energy,
        converged=final.converged,
        lattice=dict(
            zip(
                ("a", "b", "c", "alpha", "beta", "gamma"),
                (float(x) for x in lattice.parameters),
                strict=True,
            )
        ),
        layer_spacing=None if geometry is None else geometry.spacing,
        in_plane_area=None if geometry is None else geometry.in_plane_area,
        volume=None if slab else volume,
        coordination=summarise_coordination(occupation, len(assignment.unexplained)),
        before_migration=summarise_coordination(chosen.relaxed.occupation),
        frame_free_classes=frame_free_class_fractions(structure),
        oxygen_pairs=find_oxygen_pairs(structure, final.magmoms),
        oxidation=None
        if final.magmoms is None
        else list(oxidation_states([s.specie.symbol for s in structure], final.magmoms)),
        moves=migration.moves if migration else [],
        temperature=migration.temperature if migration else None,
        migration_seed=migration.seed if migration else None,
        migration_stopped=migration.stopped if migration else "not sampled",
        o4_chain=migration.o4_fractions if migration else [],
        curve=chosen.curve,
        level_of_theory=final.level_of_theory,
    )


def _count_lithium(structure: Structure) -> int:
    return sum(site.specie.symbol == "Li" for site in structure)
