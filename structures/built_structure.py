"""A structure as a builder leaves it: atoms on the sites of a frame, and what was realised."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from pymatgen.core import Structure

from .assignment import Assignment, SitePositions, assign
from .composition import OXIDATION_STATES, RealisedComposition
from .frame import Frame
from .occupation import Occupation
from .oxygen_environment import oxygen_environments

_SYMPREC = 0.01


@dataclass(frozen=True)
class BuiltStructure:
    """A structure and what is known of it.

    Attributes
    ----------
    structure
        The atoms.
    assignment
        The same atoms, in the same order, on the sites of their frame; None where there is no
        frame, as on the way from one stacking to another.
    composition
        Target, realised and deviation; None where no composition was asked for.
    oxidation_states
        Oxidation states that replace or extend the stated ones in the charge balance.
    path
        All structures of a path, of which `structure` is one; empty if there is no path.
    changed
        Sites of the frame that a defect is on.
    remarks
        What else the builder found, by name.
    """

    structure: Structure
    assignment: Assignment | None = None
    composition: RealisedComposition | None = None
    oxidation_states: Mapping[str, float] = field(default_factory=dict)
    path: tuple[Structure, ...] = ()
    changed: tuple[int, ...] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)

    @property
    def frame(self) -> Frame | None:
        """Frame that the atoms are assigned to."""
        return None if self.assignment is None else self.assignment.frame

    @cached_property
    def occupation(self) -> Occupation | None:
        """Species on the sites of the frame."""
        return None if self.assignment is None else self.assignment.occupation

    @property
    def formula(self) -> str:
        """Atoms of the cell, such as ``Li8 Mn4 O12``."""
        return str(self.structure.composition.formula)

    @cached_property
    def space_group(self) -> str:
        """Symbol and number of the space group (tolerance 0.01 Å), ``unknown`` if none is found."""
        try:
            symbol, number = self.structure.get_space_group_info(symprec=_SYMPREC)
        except (TypeError, ValueError):  # spglib found none
            return "unknown"
        return f"{symbol} ({number})"

    @property
    def image_distance(self) -> float:
        """Shortest distance between an atom and its own periodic image, Å."""
        return float(min(self.structure.lattice.get_niggli_reduced_lattice().abc))

    @cached_property
    def o_classes(self) -> Mapping[str, int]:
        """Number of O of every class, empty without a frame."""
        if self.occupation is None:
            return {}
        counts = Counter(e.o_class.value for e in oxygen_environments(self.occupation))
        return dict(sorted(counts.items()))

    @property
    def charge(self) -> float | None:
        """Sum of the oxidation states, e; None where one is not known."""
        states = {**OXIDATION_STATES, **self.oxidation_states}
        counts = self.structure.composition.get_el_amt_dict()
        if any(symbol not in states for symbol in counts):
            return None
        return float(sum(states[symbol] * n for symbol, n in counts.items()))

    def with_changes(self, changes: Mapping[int, str | None]) -> "BuiltStructure":
        """The same structure with other species on some sites; every other atom stays in place.

        Parameters
        ----------
        changes
            New species of the changed sites, ``{site: species}``; None takes the atom away. On a
            site that was empty the ion starts at the centroid of its anions.

        Raises
        ------
        ValueError
            If the structure has no frame.

        Examples
        --------
        >>> from lrlo.structures.layered_oxide import build_pristine
        >>> ideal = from_occupation(build_pristine("LiCoO2", min_atoms=12, max_atoms=12).occupation)
        >>> lithium = ideal.occupation.sites_of("Li")
        >>> ideal.with_changes({lithium[0]: None, lithium[1]: "Na"}).formula
        'Na1 Li1 Co3 O6'
        """
        if self.assignment is None:
            raise ValueError("a structure without a frame has no sites to change")
        assignment = self.assignment
        positions = SitePositions(self.structure, assignment)
        structure = self.structure.copy()
        sites, displacements = list(assignment.sites), assignment.displacements.tolist()
        for site, species in changes.items():
            if site in assignment.atoms and species is not None:
                structure.replace(assignment.atoms[site], species)
            elif species is not None:
                structure.append(species, positions.frac_coords(site))
                sites.append(site)
                displacements.append(0.0)
        removed = [assignment.atoms[site] for site, species in changes.items() if species is None]
        structure.remove_sites(removed)
        kept = [atom for atom in range(len(sites)) if atom not in set(removed)]
        return replace(
            self,
            structure=structure,
            changed=tuple(sorted(changes)),
            assignment=replace(
                assignment,
                sites=tuple(sites[atom] for atom in kept),
                displacements=np.array([displacements[atom] for atom in kept]),
                species=tuple(site.specie.symbol for site in structure),
            ),
        )


def from_occupation(
    occupation: Occupation,
    *,
    composition: RealisedComposition | None = None,
    oxidation_states: Mapping[str, float] | None = None,
    remarks: Mapping[str, str] | None = None,
) -> BuiltStructure:
    """Structure with every ion on its ideal site.

    Parameters
    ----------
    occupation
        Species on the sites of a frame.
    composition, oxidation_states, remarks
        See :class:`BuiltStructure`.

    Examples
    --------
    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> model = build_pristine("Li2MnO3", min_atoms=24, max_atoms=24)
    >>> built = from_occupation(model.occupation)
    >>> built.formula, built.charge, built.o_classes
    ('Li8 Mn4 O12', 0.0, {'O4': 12})
    """
    sites = occupation.occupied()
    assignment = Assignment(
        frame=occupation.frame,
        sites=sites,
        displacements=np.zeros(len(sites)),
        drift=np.zeros(3),
        strain=np.zeros((3, 3)),
        species=tuple(str(occupation.species[site]) for site in sites),
    )
    return BuiltStructure(
        structure=occupation.to_structure(),
        assignment=assignment,
        composition=composition,
        oxidation_states=oxidation_states or {},
        remarks=remarks or {},
    )


def from_structure(structure: Structure, frame: Frame) -> BuiltStructure:
    """Structure whose atoms are mapped on the sites of a frame.

    Parameters
    ----------
    structure
        Ideal or relaxed structure.
    frame
        Its frame.

    Raises
    ------
    AssignmentError
        If the cell does not fit the frame.
    ValueError
        If there are atoms that no site explains; the message lists them.

    Examples
    --------
    >>> from lrlo.structures.crystals import named_crystal
    >>> crystal = named_crystal("Li2MnO3")
    >>> from_structure(crystal.structure(), crystal.frame()).o_classes
    {'O4': 12}
    """
    assignment = assign(structure, frame)
    if lost := assignment.unexplained:
        listed = ", ".join(
            f"{atom} ({assignment.species[atom]}, {assignment.displacements[atom]:.2f} Å from the "
            "nearest site)"
            for atom in lost
        )
        raise ValueError(
            f"{len(lost)} of {len(structure)} atoms lie on no site of the {frame.label} frame: "
            f"atom {listed}; move them to a site or take them out of the file"
        )
    return BuiltStructure(structure, assignment)
