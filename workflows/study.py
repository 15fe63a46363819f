"""The study file: what a user writes, checked before anything runs."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ..analysis.bonding_documents import EnergyWindow
from ..structures.composition import parse_cations
from ..structures.frame import Frame
from ..structures.hops import PathClass, sharing_class
from .backend import AVAILABLE, PLANNED, BackendSpec, Capability
from .band import BandSettings
from .bonding import SOURCES, BondingSourceSpec
from .structure_settings import (
    DefectSettings,
    Section,
    StrainSettings,
    StructureSettings,
    Variant,
    known_elements,
    read_defects,
)
from .task import content_key
from .yaml_text import parse_yaml


class StudyError(ValueError):
    """The study file cannot be used as it is; the message says which key and why."""


class StateSettings(Section):
    """One state of charge.

    Attributes
    ----------
    label
        Name of the state.
    voltage
        V against Li/Li+; the Li content follows from the computed curve (or the study's table).
    li_content
        Li per formula unit (two O) instead of a voltage.
    li_layer, tm_layer
        Share of Li-layer sites, and of TM-layer Li sites, that keep Li; instead of a voltage.
    after
        Label of the state whose structure, migrated as it is, this state starts from.
    """

    label: str = Field(min_length=1)
    voltage: float | None = Field(default=None, ge=1.5, le=6.0)
    li_content: float | None = Field(default=None, ge=0.0, le=2.0)
    li_layer: float | None = Field(default=None, ge=0.0, le=1.0)
    tm_layer: float | None = Field(default=None, ge=0.0, le=1.0)
    after: str | None = None

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "StateSettings":
        if (self.li_layer is None) != (self.tm_layer is None):
            raise ValueError("li_layer and tm_layer are given together or not at all")
        ways = [
            name
            for name in ("voltage", "li_content", "li_layer")
            if getattr(self, name) is not None
        ]
        if len(ways) > 1:
            raise ValueError(
                f"give only one of voltage, li_content, li_layer + tm_layer; got {ways}"
            )
        if self.after is not None and not ways:
            raise ValueError("a state that comes after another one needs a voltage or a Li content")
        return self

    @property
    def is_pristine(self) -> bool:
        """Whether the state is the fully lithiated one, as built."""
        return self.voltage is None and self.li_content is None and self.li_layer is None


class LithiationSettings(Section):
    """How the voltage curve is computed.

    Attributes
    ----------
    n_contents
        Li contents on the charge curve before it is refined around the voltages asked for, both
        ends included.
    n_contents_after
        Li contents on the curve of a state that comes after another one.
    patterns_per_split
        Patterns per division of Li over the two layers, lowest Ewald energy first, whose energy
        the backend computes unrelaxed.
    relaxed_per_content
        Divisions, lowest unrelaxed energy first, whose best pattern is relaxed.
    table
        The user's own curve, ``[[voltage, Li per formula unit], …]``, used instead of a computed
        one (linear in between). Voltages ascend, and Li contents do not rise with them.
    """

    n_contents: int = Field(default=7, ge=2, le=200)
    n_contents_after: int = Field(default=3, ge=2, le=200)
    patterns_per_split: int = Field(default=8, ge=1, le=1000)
    relaxed_per_content: int = Field(default=3, ge=1, le=20)
    table: list[tuple[float, float]] | None = None

    @field_validator("table")
    @classmethod
    def _table_in_order(
        cls, table: list[tuple[float, float]] | None
    ) -> list[tuple[float, float]] | None:
        if table is not None:
            if len(table) < 2:
                raise ValueError("a voltage table needs at least two rows")
            if any(above <= below for (below, _), (above, _) in pairwise(table)):
                raise ValueError("the rows of a voltage table ascend in voltage, each given once")
            if any(not 0 <= content <= 2 for _, content in table):
                raise ValueError("Li contents of a voltage table lie between 0 and 2")
            for (low, before), (high, after) in pairwise(table):
                if after > before:
                    raise ValueError(
                        "the Li content of a voltage table must not rise with voltage: it rises "
                        f"from {before:g} at {low:g} V to {after:g} at {high:g} V"
                    )
        return table


class MigrationSettings(Section):
    """How TM moves into TM-layer vacancies are sampled.

    Attributes
    ----------
    n_steps
        Metropolis steps per charged state; 0 keeps the TM where they are.
    temperature
        Temperature of the acceptance, K.
    movers
        Elements that may move.
    seed
        Seed of the moves; the structure's seed if not given.
    """

    n_steps: int = Field(default=40, ge=0, le=2000)
    temperature: float = Field(default=300.0, gt=0)
    movers: list[str] = ["Mn", "Ni", "Co"]
    seed: int | None = None

    @field_validator("movers")
    @classmethod
    def _elements(cls, movers: list[str]) -> list[str]:
        return known_elements(movers)


class HopSettings(Section):
    """Which barriers are computed in every charged state.

    Attributes
    ----------
    movers
        Elements that hop.
    classes
        Path classes; if not given those of TM that a frame has: ``in_plane`` and
        ``out_of_plane``, or ``tm_hop`` without layers.
    per_class
        Events computed per path class and state, lowest screened energy first.
    screened
        Symmetry-distinct events per path class, least hindered first, whose unrelaxed end state
        is evaluated to choose among them.
    states
        Labels of the states to look at; all charged ones if not given.
    """

    movers: list[str] = ["Mn"]
    classes: list[PathClass] = [PathClass.IN_PLANE, PathClass.OUT_OF_PLANE]
    per_class: int = Field(default=2, ge=1, le=1000)
    screened: int = Field(default=100, ge=1)
    states: list[str] | None = None

    @field_validator("movers")
    @classmethod
    def _elements(cls, movers: list[str]) -> list[str]:
        return known_elements(movers)

    def classes_on(self, frame: Frame) -> tuple[PathClass, ...]:
        """Path classes that are looked for on a frame."""
        if frame.n_layers or "classes" in self.model_fields_set:
            return tuple(self.classes)
        return (sharing_class(frame),)


class RelaxSettings(Section):
    """Thresholds of relaxations."""

    fmax: float = Field(default=0.05, gt=0, le=1.0)
    max_steps: int = Field(default=200, ge=1)


def read_backend(backend: Any) -> Any:
    """Mapping of a backend from how study files write it: a name, or an ASE calculator.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    """
    if isinstance(backend, str):
        if backend not in AVAILABLE or backend == "ase":
            planned = " (planned, not in this version)" if backend in PLANNED else ""
            raise ValueError(
                f"unknown backend{planned}; allowed: emulator, gpaw, or "
                "{calculator: 'module:Class', kwargs: {...}} of an installed ASE calculator"
            )
        return {"name": backend}
    if isinstance(backend, Mapping) and "name" not in backend:
        return {"name": "ase", **backend}
    return backend


class NebSettings(Section):
    """Thresholds of bands; see :class:`lrlo.workflows.band.BandSettings`.

    Attributes
    ----------
    preconverge
        Cheaper backend that optimises every band first, written as ``backend`` is.
    """

    n_images: int | None = Field(default=None, ge=1, le=51)
    image_spacing: float = Field(default=0.6, gt=0.05)
    spring: float = Field(default=5.0, gt=0)
    climb: bool = True
    fmax: float = Field(default=0.05, gt=0, le=1.0)
    max_steps: int = Field(default=200, ge=1)
    preconverge: BackendSpec | None = None

    @field_validator("preconverge", mode="before")
    @classmethod
    def _backend_by_name(cls, backend: Any) -> Any:
        return read_backend(backend)

    @property
    def band_settings(self) -> BandSettings:
        """Settings of the driver."""
        return BandSettings(**self.model_dump(exclude={"preconverge"}))


class BondingSettings(Section):
    """Whether the bonding of every state is analysed, and where its electronic states come from.

    Attributes
    ----------
    pdos, cohp
        O 2p states, and TM-O bonds; either asks for the analysis, which has both.
    source
        Source of the electronic states; that of the backend if not given.
    window
        Window of the O 2p weight.
    """

    pdos: bool = False
    cohp: bool = False
    source: BondingSourceSpec | None = None
    window: EnergyWindow = EnergyWindow()

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: BondingSourceSpec | None) -> BondingSourceSpec | None:
        if source is not None and source.name not in SOURCES:
            raise ValueError(f"unknown source {source.name!r}; allowed: {', '.join(SOURCES)}")
        return source

    @property
    def wanted(self) -> bool:
        """Whether bonding is analysed at all."""
        return self.pdos or self.cohp


class VariantSettings(Section):
    """What one variant changes; all else is as in the rest of the study.

    Attributes
    ----------
    label
        Name of the variant.
    composition, defects, strain
        Instead of those of the study.
    structure
        Keys of ``structure`` instead of those of the study.
    """

    label: str = Field(min_length=1)
    composition: str | None = None
    structure: dict[str, Any] = {}
    defects: list[DefectSettings] | None = None
    strain: StrainSettings | None = None

    @field_validator("defects", mode="before")
    @classmethod
    def _read_defects(cls, defects: Any) -> Any:
        return read_defects(defects)


class Study(Section):
    """A whole study.

    Attributes
    ----------
    name
        Name of the study and of its folder.
    composition
        Formula of the fully lithiated oxide, before defects.
    structure, defects, strain
        The structure that is studied.
    variants
        Structures to compare, each by what it changes; the study's own alone if there are none.
    states, lithiation, migration, hops, relax, neb, bonding
        Sections of the file.
    backend
        ``emulator``, or ``{calculator: "module:Class", kwargs: {…}}`` of an installed ASE
        calculator.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
    composition: str
    structure: StructureSettings = StructureSettings()
    defects: list[DefectSettings] = []
    strain: StrainSettings | None = None
    variants: list[VariantSettings] = []
    states: list[StateSettings] = Field(min_length=1)
    lithiation: LithiationSettings = LithiationSettings()
    migration: MigrationSettings = MigrationSettings()
    hops: HopSettings | None = HopSettings()
    relax: RelaxSettings = RelaxSettings()
    neb: NebSettings = NebSettings()
    bonding: BondingSettings = BondingSettings()
    backend: BackendSpec = BackendSpec()

    @field_validator("composition")
    @classmethod
    def _readable_composition(cls, composition: str) -> str:
        parse_cations(composition)
        return composition

    @field_validator("defects", mode="before")
    @classmethod
    def _read_defects(cls, defects: Any) -> Any:
        return read_defects(defects)

    @field_validator("backend", mode="before")
    @classmethod
    def _backend_by_name(cls, backend: Any) -> Any:
        return read_backend(backend)

    @model_validator(mode="after")
    def _preconverges_with_another_backend(self) -> "Study":
        if self.neb.preconverge == self.backend:
            raise ValueError(
                "neb.preconverge: is the study's own backend; name a cheaper one or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _states_refer_to_each_other(self) -> "Study":
        labels: list[str] = []
        for state in self.states:
            if state.label in labels:
                raise ValueError(f"states: two states are labelled {state.label!r}")
            if state.after is not None and state.after not in labels:
                raise ValueError(
                    f"states: {state.label!r} comes after {state.after!r}, which is no earlier "
                    f"state; allowed: {', '.join(labels) or 'none yet'}"
                )
            labels.append(state.label)
        unknown = [
            label for label in (self.hops.states or [] if self.hops else []) if label not in labels
        ]
        if unknown:
            raise ValueError(f"hops.states: unknown states {unknown}; allowed: {', '.join(labels)}")
        return self

    @model_validator(mode="after")
    def _own_structure_is_valid(self) -> "Study":
        if not self.variants:
            try:
                _ = self.structures[0].cations
            except ValueError as error:
                raise ValueError(f"composition: {error}") from error
        return self

    @model_validator(mode="after")
    def _variants_are_valid(self) -> "Study":
        labels = [variant.label for variant in self.variants]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"variants: labels appear more than once: {', '.join(twice)}")
        for index, variant in enumerate(self.variants):
            try:
                _ = self._variant(variant).cations
            except ValidationError as error:
                problem = _explain(error.errors()[0], Variant)
                raise ValueError(f"variants.{index}.{problem}") from error
            except ValueError as error:
                raise ValueError(f"variants.{index}.composition: {error}") from error
        return self

    def _variant(self, changes: VariantSettings) -> Variant:
        own = {name: getattr(self, name) for name in ("composition", "defects", "strain")}
        given = {name: getattr(changes, name) for name in changes.model_fields_set}
        structure = self.structure.changed(changes.structure)
        return Variant.model_validate({**own, **given, "structure": structure})

    @property
    def structures(self) -> list[Variant]:
        """The structures of the study: one per variant, or the study's own with an empty label."""
        if self.variants:
            return [self._variant(variant) for variant in self.variants]
        own = {name: getattr(self, name) for name in Variant.model_fields if name != "label"}
        return [Variant(**own)]

    @property
    def required_capabilities(self) -> frozenset[Capability]:
        """What the backend must be able to do."""
        required = {Capability.RELAX, Capability.STATIC, Capability.STRESS}
        if self.hops is not None:
            required.add(Capability.NEB)
        if self.bonding.wanted and self.bonding.source is None:
            required.add(Capability.BONDING)
        return frozenset(required)

    @property
    def key(self) -> str:
        """Short hash of everything but the name."""
        return content_key(self.model_dump(mode="json", exclude={"name"}))[:12]


def read_study(path: str | Path) -> Study:
    """Read and check a study file.

    Raises
    ------
    StudyError
        If the file is missing, is not UTF-8 or not YAML, has a key twice, or says something that
        is not allowed. The message
        names the key, the value and what is allowed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise StudyError(
            f"{path} is not UTF-8 text (byte 0x{error.object[error.start]:02x} in line {line}); "
            "save it as UTF-8"
        ) from error
    try:
        data = parse_yaml(text)
    except yaml.YAMLError as error:
        raise StudyError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise StudyError(f"{path} does not hold a mapping of keys; 'lrlo new' writes an example")
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(problem, Study)}" for problem in error.errors())
        raise StudyError(f"{path} is not a valid study:\n{problems}") from error


def _explain(problem: Mapping[str, Any], root: type[BaseModel]) -> str:
    """One line about a key below `root`: key, value, what is wrong and allowed."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location) or "study"
    message = str(problem["msg"]).removeprefix("Value error, ")
    value = problem.get("input")
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed here: {', '.join(_allowed_keys(root, location[:-1]))}"
    if problem["type"] == "missing":
        return f"{key}: this key is needed"
    if isinstance(value, (str, int, float, bool)):
        return f"{key}: {message} (got {value!r})"
    return f"{key}: {message}"


def _allowed_keys(root: type[BaseModel], location: list[str]) -> list[str]:
    """Keys of the section at a location below `root`, of every section that may stand there."""
    models = [root]
    for part in location:
        if not part.isdigit():
            models = [
                section
                for model in models
                if part in model.model_fields
                for section in _sections(model.model_fields[part].annotation)
            ]
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Sections that an annotation names, in unions and lists, too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]
