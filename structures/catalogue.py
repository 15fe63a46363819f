"""What can be built: every builder with its name, one line, and its parameters."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, get_type_hints

from . import catalogue_crystals as crystals
from . import catalogue_defects as defects
from .built_structure import BuiltStructure
from .crystals import CRYSTALS
from .superlattice import Superlattice


class BuilderGroup(StrEnum):
    """What a builder makes."""

    CRYSTALS = "crystals"
    SUPERLATTICES = "superlattices of the TM layer"
    FAULTS = "stacking faults and domains"
    REFERENCES = "references"
    SLABS = "slabs of a host"
    DEFECTS = "defects and perturbations of a host"


@dataclass(frozen=True)
class Parameter:
    """A parameter of a builder.

    Attributes
    ----------
    name
        Keyword of the builder's function.
    annotation
        Type.
    default
        Value if not given; :attr:`inspect.Parameter.empty` if it has to be given.
    description
        What it means, from the function's documentation.
    """

    name: str
    annotation: Any
    default: Any
    description: str

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Builder:
    """An entry of the catalogue.

    Attributes
    ----------
    name
        Name of the builder.
    group
        What it makes.
    summary
        One line on it.
    build
        Function that builds; takes the parameters as keywords.
    """

    name: str
    group: BuilderGroup
    summary: str
    build: Callable[..., BuiltStructure]

    @property
    def documented(self) -> Callable[..., BuiltStructure]:
        """The function with the documentation."""
        return self.build.func if isinstance(self.build, partial) else self.build

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of the function, without those that the name fixes."""
        fixed = self.build.keywords if isinstance(self.build, partial) else {}
        hints = get_type_hints(self.documented)
        texts = _descriptions(self.documented)
        return tuple(
            Parameter(name, hints[name], parameter.default, texts[name])
            for name, parameter in inspect.signature(self.documented).parameters.items()
            if name not in fixed
        )

    @property
    def needs_host(self) -> bool:
        """Whether it works on a structure that is there already."""
        return any(parameter.name == "host" for parameter in self.parameters)


def _superlattice(superlattice: Superlattice, summary: str) -> Builder:
    fixed: dict[str, Any] = {"superlattice": superlattice}
    if superlattice is not Superlattice.CAPPED_HONEYCOMB:
        fixed["cap"] = None
    return Builder(
        superlattice.value,
        BuilderGroup.SUPERLATTICES,
        summary,
        partial(crystals.ordered_oxide, **fixed),
    )


_BUILDERS = (
    Builder(
        "crystal",
        BuilderGroup.CRYSTALS,
        "A named crystal in its published cell, such as Li2MnO3",
        crystals.crystal,
    ),
    _superlattice(
        Superlattice.HONEYCOMB, "Li on sqrt(3) x sqrt(3) centres, TM an SQS (up to 1/3 Li)"
    ),
    _superlattice(Superlattice.RIBBON, "Li in rows, TM ribbons four wide (up to 1/5 Li)"),
    _superlattice(Superlattice.MESH, "Li on 2 x 2 sites, TM a kagome net (up to 1/4 Li)"),
    _superlattice(
        Superlattice.CAPPED_HONEYCOMB, "Honeycomb with a dopant in the Li layer above its Li"
    ),
    _superlattice(
        Superlattice.LI_POOR_HONEYCOMB,
        "Honeycomb centres, no two next to each other (up to 1/9 Li)",
    ),
    _superlattice(Superlattice.RANDOM, "Li drawn at random among all TM-layer sites"),
    Builder(
        "faulted-honeycomb",
        BuilderGroup.FAULTS,
        "Honeycomb with rotational stacking faults of 0, 120, 240 degrees",
        crystals.faulted_honeycomb,
    ),
    Builder(
        "two-phase",
        BuilderGroup.FAULTS,
        "Coherent domains of Li2MnO3 and LiMO2 in every TM layer",
        crystals.two_phase,
    ),
    Builder(
        "layered",
        BuilderGroup.REFERENCES,
        "LiMO2 of any stacking: O3, O2, O1, P3, H1-3",
        crystals.layered,
    ),
    Builder("spinel", BuilderGroup.REFERENCES, "Spinel LiM2O4 on the same anions", crystals.spinel),
    Builder(
        "oxide-spinel",
        BuilderGroup.REFERENCES,
        "Spinel M3O4 on the same anions",
        crystals.oxide_spinel,
    ),
    Builder(
        "monoxide",
        BuilderGroup.REFERENCES,
        "Rock salt MO on the same anions",
        crystals.monoxide,
    ),
    Builder(
        "disordered-rock-salt",
        BuilderGroup.REFERENCES,
        "All cations an SQS on one sublattice (Fm-3m)",
        crystals.disordered_rock_salt,
    ),
    Builder("basal-slab", BuilderGroup.SLABS, "Slab of the (001) face", crystals.basal),
    Builder(
        "edge-slab", BuilderGroup.SLABS, "Slab of the {010} face, where Li leaves", crystals.edge
    ),
    Builder("dopant", BuilderGroup.DEFECTS, "Dopants on a class of sites", defects.dopant),
    Builder(
        "antisite",
        BuilderGroup.DEFECTS,
        "Li and a TM of different layers exchanged",
        defects.antisite,
    ),
    Builder(
        "oxygen-vacancy",
        BuilderGroup.DEFECTS,
        "Oxygen taken out, by its class or its distance to a hop",
        defects.oxygen_vacancy,
    ),
    Builder(
        "tri-vacancy",
        BuilderGroup.DEFECTS,
        "Three Li octahedra that touch one another, emptied",
        defects.tri_vacancy,
    ),
    Builder("dimer", BuilderGroup.DEFECTS, "Two neighbouring O brought together", defects.dimer),
    Builder(
        "strain",
        BuilderGroup.DEFECTS,
        "Strain in the layers and along their normal",
        defects.strain,
    ),
    Builder("glide", BuilderGroup.DEFECTS, "Path of gliding layers from O3 to O1", defects.glide),
)

#: All builders by name.
BUILDERS: Mapping[str, Builder] = MappingProxyType({b.name: b for b in _BUILDERS})


def find_builder(name: str) -> Builder:
    """Look up a builder.

    Raises
    ------
    ValueError
        If there is none of that name; the message names the nearest and lists all.

    Examples
    --------
    >>> find_builder("honeycomb").parameters[0].name
    'formula'
    >>> [builder.name for builder in BUILDERS.values() if builder.group is BuilderGroup.SLABS]
    ['basal-slab', 'edge-slab']
    """
    if name in BUILDERS:
        return BUILDERS[name]
    lowered = name.lower()
    near = get_close_matches(lowered, BUILDERS, n=3) or [b for b in BUILDERS if lowered in b]
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    if name in CRYSTALS:
        guess = f"the crystal of that name is built with: crystal --name {name}. "
    raise ValueError(f"no builder is named {name!r}; {guess}There are {', '.join(BUILDERS)}")


def _descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """Text on every parameter, from the numpydoc section of a function."""
    document = inspect.getdoc(function) or ""
    section = re.search(r"Parameters\n-+\n(.*?)(?:\n\n\w[^\n]*\n-+\n|\Z)", document, re.DOTALL)
    texts: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", section.group(1) if section else ""):
        names, _, text = block.partition("\n")
        texts |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return texts
