"""An occupation of a frame: which species sits on which site."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

from monty.json import MSONable
from pymatgen.core import Element, Structure

from .frame import Frame, SiteKind


@cache
def is_transition_metal(species: str | None) -> bool:
    """Whether a species counts as TM in oxygen coordination (science: any TM, in either layer)."""
    return species is not None and Element(species).is_transition_metal


@dataclass(frozen=True)
class Occupation(MSONable):
    """Species on every site of a frame; None marks an empty site.

    Attributes
    ----------
    frame
        The ideal sites.
    species
        Element symbol or None for every site, length ``len(frame)``.

    Raises
    ------
    ValueError
        If the number of species is not the number of sites.
    """

    frame: Frame
    species: tuple[str | None, ...]

    def __post_init__(self) -> None:
        if len(self.species) != len(self.frame):
            raise ValueError(f"{len(self.species)} species given for {len(self.frame)} sites")

    def as_dict(self) -> dict[str, Any]:
        """MSON dictionary: the frame's parameters and the species by site."""
        return {
            "@module": type(self).__module__,
            "@class": type(self).__name__,
            "frame": self.frame.as_dict(),
            "species": list(self.species),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`as_dict`."""
        frame = data["frame"]
        return cls(
            frame=frame if isinstance(frame, Frame) else Frame.from_dict(frame),
            species=tuple(data["species"]),
        )

    def with_species(self, changes: Mapping[int, str | None]) -> Self:
        """Copy with some sites changed, ``{site: species or None}``."""
        species = list(self.species)
        for site, new in changes.items():
            species[site] = new
        return replace(self, species=tuple(species))

    def sites_of(self, species: str | None, *kinds: SiteKind) -> tuple[int, ...]:
        """Sites of the given kinds (all kinds if none given) that hold `species`."""
        return tuple(
            site
            for site, present in enumerate(self.species)
            if present == species and (not kinds or self.frame.kinds[site] in kinds)
        )

    def occupied(self) -> tuple[int, ...]:
        """Sites that hold an ion, ascending; the atom order of :meth:`to_structure`."""
        return tuple(site for site, species in enumerate(self.species) if species is not None)

    def count(self, *kinds: SiteKind) -> Counter[str]:
        """Number of ions of every species on the sites of the given kinds."""
        return Counter(
            species
            for site, species in enumerate(self.species)
            if species is not None and (not kinds or self.frame.kinds[site] in kinds)
        )

    def is_enclosed(self, site: int) -> bool:
        """Whether at least half of the anions around a cation site are there.

        Beside a slab the sites of the frame go on into the vacuum, where none is enclosed.
        """
        corners = self.frame.vertices[site]
        return 2 * sum(self.species[corner.site] is not None for corner in corners) >= len(corners)

    def to_structure(self, sites: Iterable[int] | None = None) -> Structure:
        """Ions on their ideal positions; `sites` selects and orders them (default: occupied)."""
        chosen = self.occupied() if sites is None else tuple(sites)
        return Structure(
            self.frame.lattice,
            [str(self.species[site]) for site in chosen],
            self.frame.frac_coords[list(chosen)],
        )


def empty_frame(frame: Frame, anion: str = "O") -> Occupation:
    """Occupation with the anion sublattice full and every cation site empty."""
    return Occupation(
        frame, tuple(anion if kind is SiteKind.ANION else None for kind in frame.kinds)
    )
