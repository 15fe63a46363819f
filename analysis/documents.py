"""What a study stores for queries: one document per state and per hop."""

from typing import Literal

from pydantic import BaseModel, ConfigDict
from pymatgen.core import Structure

from ..structures.frame import Frame
from ..structures.hops import Hop, HopSurroundings
from .barrier import Barrier, PathStatus
from .coordination import CoordinationSummary
from .level_of_theory import LevelOfTheory
from .oxidation import OxidationStates
from .oxygen_pairs import OxygenPairs
from .voltage import VoltageCurve


class StudyStrain(BaseModel):
    """Homogeneous strain of the relaxed pristine cell, tensile positive.

    Attributes
    ----------
    in_plane, out_of_plane
        Mean strain of the layers, and strain along their normal.
    components
        Components xx, yy, xy in the layers; None for a biaxial strain.
    """

    model_config = ConfigDict(frozen=True)

    in_plane: float
    out_of_plane: float
    components: tuple[float, float, float] | None = None


class StudyContext(BaseModel):
    """Where a result belongs.

    Attributes
    ----------
    study, study_key
        Name of the study, and hash of its content.
    variant
        Label of the variant; empty in a study without variants.
    composition
        Formula asked for, before defects.
    target, realised
        Cations per formula unit asked for, and in the supercell.
    charge_imbalance
        Sum of the stated oxidation states over the supercell, defects included, e.
    n_formula_units
        Formula units (two O) in the supercell.
    stacking, superlattice, tm_order
        Model of the pristine structure: its frame, the order of Li in the TM layer (empty without
        layers) or the file it is from, and the order of the other cations (empty for a file).
    dopants, defects
        Elements put in as dopants, and every defect in words.
    strain
        Strain that cells are held at; None where there is none.
    vacuum
        Width of the vacuum of a slab, whose cell is held fixed, Å; None in a crystal.
    seed
        Seed of superlattice and SQS.
    sqs_objective
        Sum of the correlation errors of that order; 0 is perfect.
    image_distance
        Shortest distance between an ion and its image in the ideal cell, Å.
    """

    model_config = ConfigDict(frozen=True)

    study: str
    study_key: str
    variant: str = ""
    composition: str
    target: dict[str, float]
    realised: dict[str, float]
    charge_imbalance: float
    n_formula_units: int
    stacking: str
    superlattice: str
    tm_order: str = "sqs"
    dopants: list[str] = []
    defects: list[str] = []
    strain: StudyStrain | None = None
    vacuum: float | None = None
    seed: int
    sqs_objective: float
    image_distance: float

    @property
    def replicate(self) -> str:
        """Variant and seed: what tells the supercells of a study apart."""
        return f"{self.variant}, seed {self.seed}" if self.variant else f"seed {self.seed}"


MoveOutcome = Literal["moved", "returned", "rearranged", "off_frame", "unconverged"]


class TmMove(BaseModel):
    """One Metropolis step.

    Attributes
    ----------
    step
        Number of the step, from 1.
    mover, start, end
        Element and sites of the move tried.
    energy_change
        Relaxed energy after minus before, eV.
    accepted
        Whether the move was kept.
    outcome
        What relaxation made of it: ``moved``, ``returned`` (the mover went back),
        ``rearranged`` (TM sit on other sites than proposed), ``off_frame`` (the anions left
        their sites) or ``unconverged`` (the relaxation did not converge). The last two are never
        kept, and their energy changes mean nothing.
    """

    step: int
    mover: str
    start: int
    end: int
    energy_change: float
    accepted: bool
    outcome: MoveOutcome


class StateDocument(BaseModel):
    """One state of charge.

    Attributes
    ----------
    context
        Study and model.
    label, after
        Label of the state, and of the state that it comes after.
    order
        Position of the state in the study file, from 0.
    voltage
        V against Li/Li+ asked for, if any.
    li_source
        How the Li content was found.
    li_content
        Li per formula unit.
    li_layer, tm_layer
        Li per octahedron of the Li layers (Li on tetrahedra of the gap included), and of the TM
        layers; None in a frame without layers.
    structure, frame
        Relaxed structure and its frame.
    energy
        Energy of the cell, eV.
    converged
        Whether its relaxation converged.
    lattice
        a, b, c of the supercell (Å), its angles (degrees).
    layer_spacing, in_plane_area, volume
        Mean distance between TM layers (Å), and area and volume per formula unit (Å^2, Å^3);
        spacing and area are None in a frame without layers, all three in a slab.
    coordination, before_migration
        Oxygen classes and TM-TM coordination, after and before TM moved.
    frame_free_classes
        Class fractions from TM within 2.6 Å of every O, without the frame: a cross-check that
        tells when the frame is lost.
    oxygen_pairs
        Close O-O pairs.
    oxidation
        Oxidation states from moments; None if the backend gives no moments.
    moves, temperature, migration_seed, migration_stopped
        Metropolis chain that led here.
    o4_chain
        O4/(O4+O5) along the chain.
    curve
        Voltage curve of the host that the state was taken from.
    level_of_theory
        Model and version.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["state"] = "state"

    context: StudyContext
    label: str
    after: str | None
    order: int
    voltage: float | None
    li_source: str
    li_content: float
    li_layer: float | None
    tm_layer: float | None
    structure: Structure
    frame: Frame
    energy: float
    converged: bool
    lattice: dict[str, float]
    layer_spacing: float | None
    in_plane_area: float | None
    volume: float | None
    coordination: CoordinationSummary
    before_migration: CoordinationSummary
    frame_free_classes: dict[str, float] = {}
    oxygen_pairs: OxygenPairs
    oxidation: list[OxidationStates] | None
    moves: list[TmMove]
    temperature: float | None
    migration_seed: int | None
    migration_stopped: str
    o4_chain: list[float | None]
    curve: VoltageCurve
    level_of_theory: LevelOfTheory


class PathSegment(BaseModel):
    """One band of a path, from a minimum to the next.

    Attributes
    ----------
    status
        Outcome of the band.
    barrier
        Energies of the band, eV.
    arc_lengths, energies, tangential_forces
        Profile: path length (Å), energy relative to the initial state of the whole path (eV),
        force along the path (eV/Å).
    residual
        Largest projected force, eV/Å.
    """

    model_config = ConfigDict(frozen=True)

    status: PathStatus
    barrier: Barrier
    arc_lengths: list[float]
    energies: list[float]
    tangential_forces: list[float]
    residual: float


class BarrierDocument(BaseModel):
    """One hop in one state, or the finding that there is none.

    Attributes
    ----------
    context, state, order, voltage, li_content
        Where the hop belongs.
    path_class
        Path class looked for.
    hop, surroundings
        The event; None if there was no candidate.
    status
        Outcome; None if there was no candidate.
    detail
        What was found, in words.
    barrier
        Energies of the whole path; None unless the path is converged, a monotone band
        (``no_interior_saddle``) or several converged segments (``several_saddles``).
    segments
        Bands of the path.
    followers
        Other ions that change sites between the end states.
    n_images, n_force_calls, wall_time
        Cost of the bands and of the end state: images, structures evaluated, seconds.
    level_of_theory
        Model and version.
    """

    kind: Literal["barrier"] = "barrier"

    context: StudyContext
    state: str
    order: int
    voltage: float | None
    li_content: float
    path_class: str
    hop: Hop | None
    surroundings: HopSurroundings | None
    status: PathStatus | None
    detail: str
    barrier: Barrier | None
    segments: list[PathSegment]
    followers: list[str]
    n_images: int
    n_force_calls: int
    wall_time: float
    level_of_theory: LevelOfTheory
