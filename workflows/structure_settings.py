"""The parts of a study file that say which structure is studied, and in which variants."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pymatgen.core import Element

from ..structures.composition import parse_cations, parse_composition
from ..structures.correlation_target import CorrelationTarget, NeighbourOrder, OrderTowards
from ..structures.hops import PathClass
from ..structures.oxygen_environment import OxygenClass
from ..structures.site_classes import SiteClass
from ..structures.sqs import RANDOM
from ..structures.stacking_faults import FAULT_ANGLES
from ..structures.strain import MAX_STRAIN, layer_strain
from ..structures.structure_files import read_built
from ..structures.superlattice import Superlattice

#: What ``tm_order`` may be.
_ORDERS = "allowed: sqs, {short_range_order: {Mn-Ni: [-0.2, 0.1]}} or {parent: FILE, order: 0.5}"


#: Keys of ``structure`` that go with a file, and those of a TM layer.
_BESIDE_FILES = frozenset({"file", "oxidation_states", "seed"})
_OF_LAYERS = frozenset({"superlattice", "cap", "faults", "domains"})


class Section(BaseModel):
    """A section of the study file: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class HostFrame(StrEnum):
    """Frame of the pristine supercell: a layered stacking, or the disordered rock salt."""

    O3 = "O3"
    O2 = "O2"
    O1 = "O1"
    P3 = "P3"
    H1_3 = "H1-3"
    ROCK_SALT = "disordered-rock-salt"


class FaultSettings(Section):
    """Rotational stacking faults of the honeycomb.

    Attributes
    ----------
    angles
        Direction of every interface between TM layers, degrees: 0, 120 or 240.
    n_layers, density
        Instead: the number of TM layers and the share of interfaces at 120 or 240 degrees, drawn
        with the seed.
    in_plane
        Repeats of the honeycomb along its two in-plane vectors.
    """

    angles: list[int] | None = Field(default=None, min_length=2, max_length=60)
    n_layers: int | None = Field(default=None, ge=2, le=60)
    density: float | None = Field(default=None, ge=0, le=1)
    in_plane: tuple[int, int] = (2, 1)

    @field_validator("angles")
    @classmethod
    def _possible_angles(cls, angles: list[int] | None) -> list[int] | None:
        unknown = sorted(set(angles or []) - set(FAULT_ANGLES))
        if unknown:
            raise ValueError(f"fault angles {unknown} are not possible; allowed: {FAULT_ANGLES}")
        return angles

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "FaultSettings":
        drawn = self.n_layers is not None and self.density is not None
        if (self.angles is not None) == (self.n_layers is not None or self.density is not None):
            raise ValueError("give either angles, or n_layers and density")
        if self.angles is None and not drawn:
            raise ValueError("n_layers and density are given together")
        return self


class DomainSettings(Section):
    """Coherent domains of Li2MnO3 and LiMO2, whose shares follow from the composition.

    Attributes
    ----------
    rich_rows
        Close-packed rows across the Li2MnO3 domain.
    rich_metal
        Metal of the Li2MnO3 domain.
    columns
        Honeycomb periods along the domain walls.
    n_repeats
        Repeats of the stacking.
    """

    rich_rows: int = Field(ge=1, le=60)
    rich_metal: str = "Mn"
    columns: int = Field(default=1, ge=1, le=20)
    n_repeats: int = Field(default=1, ge=1, le=20)


class ShortRangeSettings(Section):
    """Warren-Cowley parameters of the cations that the superlattice leaves.

    Attributes
    ----------
    short_range_order
        Parameters of every pair by shell, the nearest first, ``{Mn-Ni: [-0.2, 0.1]}``; negative
        where the pair is preferred. What is not given is random.
    """

    short_range_order: dict[str, list[float]]

    @field_validator("short_range_order")
    @classmethod
    def _possible(cls, alphas: dict[str, list[float]]) -> dict[str, list[float]]:
        neighbour_order(alphas)
        return alphas

    @property
    def target(self) -> CorrelationTarget:
        """Correlations asked for."""
        return neighbour_order(self.short_range_order)


class ParentSettings(Section):
    """Cations between random and the order of a parent crystal.

    Attributes
    ----------
    parent
        File (CIF, POSCAR, extended XYZ, JSON) or named crystal, of the cell's composition.
    order
        0 is random, 1 the parent.
    """

    parent: str
    order: float = Field(ge=0, le=1)

    @property
    def target(self) -> CorrelationTarget:
        """Correlations asked for; ValueError if the parent cannot be read."""
        parent = read_built(self.parent).occupation
        assert parent is not None  # what is read has a frame
        return OrderTowards(parent, self.order)


def neighbour_order(alphas: Mapping[str, Sequence[float]]) -> NeighbourOrder:
    """Short-range order as a target; ValueError if it is none.

    Parameters
    ----------
    alphas
        Warren-Cowley parameters of pairs of elements, by shell.
    """
    order = NeighbourOrder({pair: tuple(values) for pair, values in alphas.items()})
    known_elements([symbol for pair in alphas for symbol in pair.split("-")])
    return order


class StructureSettings(Section):
    """How the pristine supercell is built.

    Attributes
    ----------
    stacking
        Oxygen stacking, or ``disordered-rock-salt``: all cations on one sublattice, no layers.
    superlattice
        Li order of the TM layer; of no meaning without layers.
    cap
        Species above the Li of a ``capped-honeycomb``.
    faults, domains
        Stacking faults of the honeycomb, or Li2MnO3 and LiMO2 domains; the cell then has the size
        that they ask for, not that of `min_atoms` and `max_atoms`.
    tm_order
        How the other species of the TM layer are placed: ``sqs``, at random; or a short-range
        order; or a share of the order of a parent crystal. Where the superlattice is ``random``,
        Li of the TM layer is ordered with them, unless they are an ``sqs``.
    file
        Instead of all this: a structure, fully lithiated, as ``lrlo build`` writes it or from
        elsewhere (CIF, POSCAR, extended XYZ, JSON), or a named crystal. Layered oxides, spinels
        and rock salts, with or without Li.
    min_atoms, max_atoms
        Size limits of the pristine supercell.
    seed
        Seed of superlattice and SQS; a list makes one replicate per seed, each another one.
    oxidation_states
        Replace or extend the default oxidation states of the charge balance.
    """

    stacking: HostFrame = HostFrame.O3
    superlattice: Superlattice = Superlattice.HONEYCOMB
    cap: str | None = None
    faults: FaultSettings | None = None
    domains: DomainSettings | None = None
    tm_order: Literal["sqs"] | ShortRangeSettings | ParentSettings = "sqs"
    file: str | None = None
    min_atoms: int = Field(default=48, ge=12)
    max_atoms: int = Field(default=72, ge=12, le=2000)
    seed: int | list[int] = 7
    oxidation_states: dict[str, float] = {}

    @field_validator("tm_order", mode="before")
    @classmethod
    def _read_order(cls, order: Any) -> Any:
        """A section told by its key, so that mistakes in it are named one by one."""
        if not isinstance(order, dict):
            if order != "sqs" and not isinstance(order, Section):
                raise ValueError(_ORDERS)
            return order
        if ("short_range_order" in order) == ("parent" in order):
            raise ValueError(_ORDERS)
        section = ShortRangeSettings if "short_range_order" in order else ParentSettings
        return section.model_validate(order)

    @field_validator("oxidation_states")
    @classmethod
    def _states_of_elements(cls, states: dict[str, float]) -> dict[str, float]:
        known_elements(list(states))
        return states

    @field_validator("seed")
    @classmethod
    def _seeds_of_replicates(cls, seed: int | list[int]) -> int | list[int]:
        seeds = seed if isinstance(seed, list) else [seed]
        if not seeds:
            raise ValueError("the list of seeds is empty; give one seed for every replicate")
        twice = sorted({each for each in seeds if seeds.count(each) > 1})
        if twice:
            raise ValueError(
                f"seeds are given more than once: {', '.join(map(str, twice))}; equal seeds make "
                "equal replicates"
            )
        if min(seeds) < 0:
            raise ValueError(f"a seed is a whole number from 0; got {min(seeds)}")
        return seed

    @model_validator(mode="after")
    def _fits_together(self) -> "StructureSettings":
        if self.min_atoms > self.max_atoms:
            raise ValueError(
                f"min_atoms ({self.min_atoms}) must not exceed max_atoms ({self.max_atoms})"
            )
        if (self.cap is not None) != (self.superlattice is Superlattice.CAPPED_HONEYCOMB):
            raise ValueError("cap goes with superlattice: capped-honeycomb, and is needed there")
        if self.faults is not None and self.domains is not None:
            raise ValueError("give faults or domains, not both")
        others = self.model_fields_set - _BESIDE_FILES
        if self.file is not None and others:
            raise ValueError(f"file says what {', '.join(sorted(others))} would; leave them out")
        layered = self.model_fields_set & _OF_LAYERS
        if self.stacking is HostFrame.ROCK_SALT and layered:
            raise ValueError(
                f"{', '.join(sorted(layered))} is of a TM layer, which the disordered rock salt "
                "has not; leave it out"
            )
        special = self.faults or self.domains
        if special is not None and self.superlattice is not Superlattice.HONEYCOMB:
            raise ValueError("faults and domains are those of superlattice: honeycomb")
        if special is not None and self.tm_order != "sqs":
            raise ValueError("faults and domains take tm_order: sqs")
        return self

    def changed(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Keys of this section with those of a variant instead.

        What a key of the variant makes meaningless is left out: beside a file all but the seed
        and the oxidation states, in a rock salt the orders of a TM layer.
        """
        own = self.model_dump(exclude_unset=True)
        if "file" in changes:
            own = {key: own[key] for key in own if key in _BESIDE_FILES}
        elif changes.get("stacking") == HostFrame.ROCK_SALT:
            own = {key: own[key] for key in own if key not in _OF_LAYERS}
        return {**own, **changes}

    @property
    def order_target(self) -> CorrelationTarget:
        """Correlations of the cations; ValueError if they cannot be read."""
        return RANDOM if self.tm_order == "sqs" else self.tm_order.target

    @property
    def seeds(self) -> list[int]:
        """The seeds as a list."""
        return self.seed if isinstance(self.seed, list) else [self.seed]


class DopantSettings(Section):
    """Foreign ions on a class of sites, in one layer (from 0) or all, at random with the seed."""

    dopant: str
    count: int = Field(default=1, ge=1)
    site_class: SiteClass = SiteClass.TM
    replaces: str | None = None
    layer: int | None = Field(default=None, ge=0)

    @field_validator("dopant", "replaces")
    @classmethod
    def _element(cls, symbol: str | None) -> str | None:
        return symbol if symbol is None else known_elements([symbol])[0]


class AntisiteSettings(Section):
    """A TM exchanged with Li of the Li layer: the symmetry-distinct pair of that number."""

    antisite: str
    max_distance: float = Field(default=3.2, gt=0, le=20)
    choice: int = Field(default=0, ge=0)


class NearHopSettings(Section):
    """A hop that an O vacancy is to lie near to; Li in its way counts as gone, and stays.

    Attributes
    ----------
    mover
        Element that hops.
    path_class
        Path class of the hop.
    hop
        Number of the symmetry-distinct hop, counted from 1, the least hindered; as ``--hop`` of
        ``lrlo build oxygen-vacancy``.
    max_distance
        Largest distance of the O from the path of the hop, Å.
    """

    mover: str = "Mn"
    path_class: PathClass = PathClass.IN_PLANE
    hop: int = Field(default=1, ge=1)
    max_distance: float = Field(default=3.0, gt=0, le=20)

    @field_validator("mover")
    @classmethod
    def _element(cls, symbol: str) -> str:
        return known_elements([symbol])[0]


class OxygenVacancySettings(Section):
    """Missing O: the symmetry-distinct set of that number, the most frequent first.

    One O near a hop: the symmetry-distinct one of that number, the nearest first.
    """

    oxygen_vacancies: int = Field(ge=1, le=8)
    o_class: OxygenClass | None = None
    near_hop: NearHopSettings | None = None
    choice: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_near_a_hop(self) -> "OxygenVacancySettings":
        if self.near_hop is not None and self.oxygen_vacancies != 1:
            raise ValueError("near_hop places one O; give an entry for each of several")
        return self


class TriVacancySettings(Section):
    """Li taken out of three octahedra that touch, `n_tm_layer` of them in a TM layer."""

    tri_vacancy: Literal[True]
    n_tm_layer: int | None = Field(default=None, ge=0, le=3)
    choice: int = Field(default=0, ge=0)


class DimerSettings(Section):
    """Two neighbouring O brought to a length (Å); the pair around most vacancies is number 0.

    Along a Cartesian direction of the frame, or along the pair as it is.
    """

    oxygen_dimer: float = Field(ge=1.15, le=2.0)
    choice: int = Field(default=0, ge=0)
    direction: tuple[float, float, float] | None = None


_DEFECTS: dict[str, type[Section]] = {
    "dopant": DopantSettings,
    "antisite": AntisiteSettings,
    "oxygen_vacancies": OxygenVacancySettings,
    "tri_vacancy": TriVacancySettings,
    "oxygen_dimer": DimerSettings,
}
DefectSettings = (
    DopantSettings | AntisiteSettings | OxygenVacancySettings | TriVacancySettings | DimerSettings
)


def read_defect(entry: Any) -> Any:
    """One entry of ``defects``, told by the key that names its kind.

    Raises
    ------
    ValueError
        If it names no kind of defect, or more than one.
    """
    if isinstance(entry, Section):  # read before
        return entry
    named = [key for key in _DEFECTS if isinstance(entry, dict) and key in entry]
    if len(named) != 1:
        raise ValueError(
            f"an entry of defects has one of the keys {', '.join(_DEFECTS)}; got {entry!r}"
        )
    return _DEFECTS[named[0]].model_validate(entry)


def describe_defect(defect: Section) -> str:
    """A defect in one line: its settings that differ from their defaults."""
    given, whole = defect.model_dump(mode="json", exclude_defaults=True), defect.model_dump()
    return ", ".join(f"{name} {_words(whole[name])}" for name in given)


def _words(value: Any) -> str:
    """A value without the brackets of its notation; what holds others in round ones."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_words(each)}" for name, each in value.items()) + ")"
    if isinstance(value, list | tuple):
        return " ".join(map(_words, value))
    return str(value)


def describe_order(order: str | Section) -> str:
    """How the cations beside the superlattice are placed, in one line."""
    return order if isinstance(order, str) else describe_defect(order)


def read_defects(entries: Any) -> Any:
    """The list under ``defects``; what is no list is left to pydantic to refuse."""
    return [read_defect(entry) for entry in entries] if isinstance(entries, list) else entries


class StrainSettings(Section):
    """Homogeneous strain of the relaxed pristine cell, tensile positive; the cell then stays.

    Attributes
    ----------
    in_plane
        Biaxial strain of the layers, or its components xx, yy, xy in the axes of the frame.
    out_of_plane
        Strain along the layer normal.
    """

    in_plane: float | tuple[float, float, float] = 0.0
    out_of_plane: float = Field(default=0.0, ge=-MAX_STRAIN, le=MAX_STRAIN)

    @field_validator("in_plane", mode="before")
    @classmethod
    def _number_or_components(cls, in_plane: Any) -> Any:
        components = in_plane if isinstance(in_plane, list | tuple) else [in_plane]
        if len(components) not in (1, 3) or not all(
            isinstance(component, float | int) for component in components
        ):
            raise ValueError("allowed: one number, or the three components xx, yy, xy")
        layer_strain(in_plane if len(components) == 3 else components[0])
        return in_plane if len(components) == 3 else components[0]

    @property
    def biaxial(self) -> float:
        """Mean strain of the layers."""
        if isinstance(self.in_plane, tuple):
            return (self.in_plane[0] + self.in_plane[1]) / 2
        return self.in_plane


class Variant(Section):
    """One structure of a study.

    Attributes
    ----------
    label
        Name of the variant; empty in a study without variants.
    composition
        Formula of the fully lithiated oxide, before defects.
    structure
        How the pristine supercell is built.
    defects
        Changes of the pristine supercell, in this order.
    strain
        Strain of the relaxed pristine cell; None leaves cells free.
    """

    label: str = Field(default="", max_length=40, pattern=r"^[^/\\]*$")
    composition: str
    structure: StructureSettings = StructureSettings()
    defects: list[DefectSettings] = []
    strain: StrainSettings | None = None

    @field_validator("defects", mode="before")
    @classmethod
    def _read_defects(cls, defects: Any) -> Any:
        return read_defects(defects)

    @property
    def cations(self) -> Mapping[str, float]:
        """Cations per two O asked for; CompositionError if the formula cannot be that of the host.

        Any oxide may come from a file; what is built has two octahedra per two O.
        """
        cations = parse_cations(self.composition)
        if self.structure.file is None:
            parse_composition(self.composition)
        return cations

    @property
    def dopants(self) -> list[str]:
        """Elements brought in as dopants, sorted."""
        return sorted({d.dopant for d in self.defects if isinstance(d, DopantSettings)})


def known_elements(symbols: list[str]) -> list[str]:
    """The symbols, if all of them are elements.

    Raises
    ------
    ValueError
        Naming those that are not.
    """
    unknown = [symbol for symbol in symbols if not Element.is_valid_symbol(symbol)]
    if unknown:
        raise ValueError(f"unknown elements {unknown}")
    return symbols
