"""Named crystals of the field with their published cells."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from pymatgen.core import Lattice, Structure

from .frame import Frame, SiteKind, layered_frame
from .occupation import Occupation, empty_frame
from .rock_salt import CUBIC_CELL, rock_salt_frame
from .spinel import SPINEL_CUBE
from .stacking import Stacking
from .stacking_faults import honeycomb_colours
from .superlattice import Superlattice, lithium_sites, spread_subset

Matrix = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]

#: Share of the distance between TM layers that the TM slab takes in the frame of a crystal.
_SLAB_SHARE = 0.45


@dataclass(frozen=True)
class WyckoffSite:
    """An occupied Wyckoff position.

    Attributes
    ----------
    species
        Element symbol.
    wyckoff
        Multiplicity and letter.
    position
        Fractional coordinates of one representative.
    """

    species: str
    wyckoff: str
    position: tuple[float, float, float]


@dataclass(frozen=True)
class PublishedCrystal:
    """A crystal as published: cell, space group and occupied positions.

    Attributes
    ----------
    name
        Name in :data:`CRYSTALS`.
    space_group, symbol
        Number and symbol; the positions are in the setting that the symbol stands for.
    lattice
        a, b, c, alpha, beta, gamma of the conventional cell, Å and degrees.
    sites
        Occupied Wyckoff positions.
    stacking
        Oxygen stacking of the frame; None for the rock salt frame.
    matrix
        Supercell of the frame that the conventional cell is.
    reference
        Where the cell was published, and what was rounded or idealised.
    """

    name: str
    space_group: int
    symbol: str
    lattice: tuple[float, float, float, float, float, float]
    sites: tuple[WyckoffSite, ...]
    stacking: Stacking | None
    matrix: Matrix
    reference: str

    def structure(self) -> Structure:
        """The conventional cell."""
        return Structure.from_spacegroup(
            self.symbol,
            Lattice.from_parameters(*self.lattice),
            [site.species for site in self.sites],
            [site.position for site in self.sites],
        )

    def frame(self) -> Frame:
        """Frame that the crystal assigns to, with the mean distances of its cell."""
        lattice = np.array(Lattice.from_parameters(*self.lattice).matrix)
        volume = abs(np.linalg.det(lattice))
        size = round(abs(np.linalg.det(self.matrix)))
        if self.stacking is None:
            edge = (4 * volume / size) ** (1 / 3)
            return rock_salt_frame(np.array(self.matrix), cubic_lattice_parameter=edge)
        in_plane = np.linalg.solve(np.array(self.matrix, dtype=float), lattice)[:2]
        area = float(np.linalg.norm(np.cross(*in_plane)))
        spacing = volume / size / area
        return layered_frame(
            self.stacking,
            np.array(self.matrix),
            a=np.sqrt(area / np.sqrt(0.75)),
            tm_slab=_SLAB_SHARE * spacing,
            li_gap=(1 - _SLAB_SHARE) * spacing,
        )


@dataclass(frozen=True)
class OrderedCrystal:
    """One ordered realisation of a crystal with mixed or partial occupancies.

    Attributes
    ----------
    name
        Name in :data:`CRYSTALS`.
    space_group, symbol
        Number and symbol of the average structure, with one species on the TM layers.
    lattice
        In-plane lattice parameter and height of the stacking repeat along c of the average
        hexagonal cell, Å.
    tm_slab
        Distance of the anion planes around a TM layer, Å.
    stacking
        Oxygen stacking.
    matrix
        Supercell of the realisation.
    tm_layer
        Ions on the TM layers of the supercell.
    vacancies
        Empty sites of the Li layers.
    reference
        Where the crystal was published, what was rounded or estimated, and the rule of order.
    """

    name: str
    space_group: int
    symbol: str
    lattice: tuple[float, float]
    tm_slab: float
    stacking: Stacking
    matrix: Matrix
    tm_layer: Mapping[str, int]
    vacancies: int
    reference: str

    def structure(self) -> Structure:
        """The ordered supercell, ions on ideal positions."""
        return self.occupation().to_structure()

    def frame(self) -> Frame:
        """Frame of the supercell."""
        spacing = self.lattice[1] / _LAYERS_PER_CELL[self.stacking]
        return layered_frame(
            self.stacking,
            np.array(self.matrix),
            a=self.lattice[0],
            tm_slab=self.tm_slab,
            li_gap=spacing - self.tm_slab,
        )

    def occupation(self) -> Occupation:
        """Species on the sites of the frame.

        With Li in the TM layer: Li on honeycomb centres, spread out; then every other species but
        the last spread over what is left, in the order of `tm_layer`; the last fills up. Without:
        the species take the three sublattices of the sqrt(3) x sqrt(3) cell, which turn by 120
        degrees from layer to layer. Vacancies are spread over the Li layers.
        """
        frame = self.frame()
        tm_oct = frame.sites(SiteKind.TM_OCT)
        if "Li" in self.tm_layer:
            on_tm_layer = _spread_order(frame, self.tm_layer)
        else:
            angles = (0, 120, 240)
            names = tuple(self.tm_layer)
            colours = honeycomb_colours(frame, angles)
            on_tm_layer = {int(s): names[c] for s, c in zip(tm_oct, colours, strict=True)}
        li_oct = frame.sites(SiteKind.LI_OCT)
        empty = set(spread_subset(frame, li_oct, self.vacancies, seed=0))
        on_li_layer = {int(site): "Li" for site in li_oct if int(site) not in empty}
        return empty_frame(frame).with_species(on_tm_layer | on_li_layer)


#: TM layers in the hexagonal cell.
_LAYERS_PER_CELL = MappingProxyType({Stacking.O3: 3, Stacking.O2: 2})

_HEXAGONAL: Matrix = ((1, 0, 0), (0, 1, 0), (1, -1, 3))
#: a along the shift of the stacking, b across: the C2/m cell of Li2MnO3, and that of LiMnO2.
_MONOCLINIC_HONEYCOMB: Matrix = ((1, -1, 0), (3, 3, 0), (0, 0, 1))
_MONOCLINIC: Matrix = ((1, -1, 0), (1, 1, 0), (0, 0, 1))
_TWO_LAYER_HONEYCOMB: Matrix = ((-1, 1, 0), (-3, -3, 0), (1, -1, 2))

_PUBLISHED = (
    PublishedCrystal(
        name="Li2MnO3",
        space_group=12,
        symbol="C2/m",
        lattice=(4.937, 8.532, 5.030, 90.0, 109.46, 90.0),
        sites=(
            WyckoffSite("Li", "2b", (0.0, 0.5, 0.0)),
            WyckoffSite("Li", "2c", (0.0, 0.0, 0.5)),
            WyckoffSite("Li", "4h", (0.0, 0.661, 0.5)),
            WyckoffSite("Mn", "4g", (0.0, 0.167, 0.0)),
            WyckoffSite("O", "4i", (0.219, 0.0, 0.227)),
            WyckoffSite("O", "8j", (0.254, 0.321, 0.223)),
        ),
        stacking=Stacking.O3,
        matrix=_MONOCLINIC_HONEYCOMB,
        reference="Strobel, Lambert-Andron, J. Solid State Chem. 75, 90 (1988); positions rounded "
        "to three decimals",
    ),
    PublishedCrystal(
        name="LiCoO2",
        space_group=166,
        symbol="R-3m",
        lattice=(2.816, 2.816, 14.054, 90.0, 90.0, 120.0),
        sites=(
            WyckoffSite("Li", "3a", (0.0, 0.0, 0.0)),
            WyckoffSite("Co", "3b", (0.0, 0.0, 0.5)),
            WyckoffSite("O", "6c", (0.0, 0.0, 0.2395)),
        ),
        stacking=Stacking.O3,
        matrix=_HEXAGONAL,
        reference="Akimoto, Gotoh, Oosawa, J. Solid State Chem. 141, 298 (1998); rounded to three "
        "decimals of a Å",
    ),
    PublishedCrystal(
        name="LiNiO2",
        space_group=166,
        symbol="R-3m",
        lattice=(2.878, 2.878, 14.19, 90.0, 90.0, 120.0),
        sites=(
            WyckoffSite("Li", "3a", (0.0, 0.0, 0.0)),
            WyckoffSite("Ni", "3b", (0.0, 0.0, 0.5)),
            WyckoffSite("O", "6c", (0.0, 0.0, 0.242)),
        ),
        stacking=Stacking.O3,
        matrix=_HEXAGONAL,
        reference="cell of Dyer, Borie, Smith, J. Am. Chem. Soc. 76, 1499 (1954); z(O) rounded "
        "from later Rietveld refinements; ideal stoichiometry, no Ni in the Li layer, no local "
        "Jahn-Teller distortion",
    ),
    PublishedCrystal(
        name="LiMnO2-C2/m",
        space_group=12,
        symbol="C2/m",
        lattice=(5.439, 2.809, 5.388, 90.0, 116.01, 90.0),
        sites=(
            WyckoffSite("Mn", "2a", (0.0, 0.0, 0.0)),
            WyckoffSite("Li", "2d", (0.0, 0.5, 0.5)),
            WyckoffSite("O", "4i", (0.272, 0.0, 0.771)),
        ),
        stacking=Stacking.O3,
        matrix=_MONOCLINIC,
        reference="Armstrong, Bruce, Nature 381, 499 (1996); rounded to three decimals",
    ),
    PublishedCrystal(
        name="LiMnO2-Pmmn",
        space_group=59,
        symbol="Pmmn",
        lattice=(2.805, 4.572, 5.757, 90.0, 90.0, 90.0),
        sites=(
            WyckoffSite("Li", "2a", (0.0, 0.0, 0.125)),
            WyckoffSite("Mn", "2a", (0.0, 0.0, 0.635)),
            WyckoffSite("O", "2b", (0.0, 0.5, 0.144)),
            WyckoffSite("O", "2b", (0.0, 0.5, 0.602)),
        ),
        stacking=None,
        matrix=((0, 0, 1), (1, 1, -1), (-2, 2, 0)),
        reference="cell of Hoppe, Brachtel, Jansen, Z. Anorg. Allg. Chem. 417, 1 (1975), there "
        "with b and c exchanged (Pmnm); positions rounded to three decimals; origin choice 1. "
        "Corrugated layers, so no layered frame",
    ),
    PublishedCrystal(
        name="Li2RuO3",
        space_group=15,
        symbol="C2/c",
        lattice=(4.92, 8.77, 9.88, 90.0, 100.1, 90.0),
        sites=(
            WyckoffSite("Li", "4d", (0.25, 0.25, 0.5)),
            WyckoffSite("Li", "4e", (0.0, 1 / 12, 0.25)),
            WyckoffSite("Li", "8f", (0.25, 1 / 12, 0.0)),
            WyckoffSite("Ru", "4e", (0.0, 5 / 12, 0.25)),
            WyckoffSite("Ru", "4e", (0.0, 3 / 4, 0.25)),
            WyckoffSite("O", "8f", (0.134, 3 / 12, 0.134)),
            WyckoffSite("O", "8f", (0.134, 7 / 12, 0.134)),
            WyckoffSite("O", "8f", (0.134, 11 / 12, 0.134)),
        ),
        stacking=Stacking.O3,
        matrix=_TWO_LAYER_HONEYCOMB,
        reference="C2/c of James, Goodenough, J. Solid State Chem. 74, 287 (1988), cell rounded to "
        "0.01 Å; positions idealised on the close packing. Without the Ru-Ru dimers of P2_1/m "
        "below 540 K (Miura et al., J. Phys. Soc. Jpn. 76, 033705 (2007))",
    ),
    PublishedCrystal(
        name="Li2IrO3",
        space_group=12,
        symbol="C2/m",
        lattice=(5.163, 8.929, 5.122, 90.0, 109.76, 90.0),
        sites=(
            WyckoffSite("Li", "2a", (0.0, 0.0, 0.0)),
            WyckoffSite("Li", "2d", (0.0, 0.5, 0.5)),
            WyckoffSite("Li", "4h", (0.0, 0.17, 0.5)),
            WyckoffSite("Ir", "4g", (0.0, 0.333, 0.0)),
            WyckoffSite("O", "4i", (0.27, 0.0, 0.77)),
            WyckoffSite("O", "8j", (0.25, 0.32, 0.77)),
        ),
        stacking=Stacking.O3,
        matrix=_MONOCLINIC_HONEYCOMB,
        reference="alpha phase, O'Malley, Verweij, Woodward, J. Solid State Chem. 181, 1803 "
        "(2008); positions rounded to two decimals",
    ),
    PublishedCrystal(
        name="LiMn2O4",
        space_group=227,
        symbol="Fd-3m",
        lattice=(8.24, 8.24, 8.24, 90.0, 90.0, 90.0),
        sites=(
            WyckoffSite("Li", "8a", (0.0, 0.0, 0.0)),
            WyckoffSite("Mn", "16d", (0.625, 0.625, 0.625)),
            WyckoffSite("O", "32e", (0.388, 0.388, 0.388)),
        ),
        stacking=Stacking.O3,
        matrix=SPINEL_CUBE,
        reference="Thackeray, David, Bruce, Goodenough, Mater. Res. Bull. 18, 461 (1983); rounded; "
        "origin choice 1",
    ),
    PublishedCrystal(
        name="Co3O4",
        space_group=227,
        symbol="Fd-3m",
        lattice=(8.08, 8.08, 8.08, 90.0, 90.0, 90.0),
        sites=(
            WyckoffSite("Co", "8a", (0.0, 0.0, 0.0)),
            WyckoffSite("Co", "16d", (0.625, 0.625, 0.625)),
            WyckoffSite("O", "32e", (0.388, 0.388, 0.388)),
        ),
        stacking=Stacking.O3,
        matrix=SPINEL_CUBE,
        reference="Smith, Hobson, Acta Crystallogr. B 29, 362 (1973); rounded; origin choice 1",
    ),
    PublishedCrystal(
        name="NiO",
        space_group=225,
        symbol="Fm-3m",
        lattice=(4.177, 4.177, 4.177, 90.0, 90.0, 90.0),
        sites=(
            WyckoffSite("Ni", "4a", (0.0, 0.0, 0.0)),
            WyckoffSite("O", "4b", (0.5, 0.5, 0.5)),
        ),
        stacking=None,
        matrix=tuple(tuple(int(x) for x in row) for row in CUBIC_CELL),  # type: ignore[arg-type]
        reference="Bartel, Morosin, Phys. Rev. B 3, 1039 (1971); without the small rhombohedral "
        "distortion below the Néel temperature",
    ),
)

_ORDERED = (
    OrderedCrystal(
        name="LiNi1/3Co1/3Mn1/3O2",
        space_group=166,
        symbol="R-3m",
        lattice=(2.862, 14.227),
        tm_slab=2.12,
        stacking=Stacking.O3,
        matrix=((2, 1, 0), (-1, 1, 0), (1, -1, 3)),
        tm_layer=MappingProxyType({"Ni": 3, "Co": 3, "Mn": 3}),
        vacancies=0,
        reference="cell of Yabuuchi, Ohzuku, J. Power Sources 119-121, 171 (2003), slab from "
        "z(O) = 0.241, rounded; sqrt(3) x sqrt(3) order in P3_112 as proposed by Koyama et al., "
        "J. Power Sources 119-121, 644 (2003)",
    ),
    OrderedCrystal(
        name="O2-Li0.83[Li0.2Ni0.2Mn0.6]O2",
        space_group=186,
        symbol="P6_3mc",
        lattice=(2.86, 9.65),
        tm_slab=2.15,
        stacking=Stacking.O2,
        matrix=((5, 4, 0), (0, 3, 0), (0, 0, 1)),
        tm_layer=MappingProxyType({"Li": 6, "Ni": 6, "Mn": 18}),
        vacancies=5,
        reference="Eum et al., Nat. Mater. 19, 419 (2020), 0.83 read as 25/30. Cell estimated, not "
        "refined: a and layer distance of O3 Li1.2Ni0.2Mn0.6O2, the distance widened by the 1.6 % "
        "that O2 adds in LiCoO2",
    ),
    OrderedCrystal(
        name="O2-Li1.25Co0.25Mn0.5O2",
        space_group=186,
        symbol="P6_3mc",
        lattice=(2.84, 9.62),
        tm_slab=2.13,
        stacking=Stacking.O2,
        matrix=((4, 2, 0), (2, 4, 0), (0, 0, 1)),
        tm_layer=MappingProxyType({"Li": 6, "Co": 6, "Mn": 12}),
        vacancies=0,
        reference="Zuo et al., Adv. Mater. 30, 1707255 (2018). Cell estimated, not refined: from "
        "O3 oxides of like composition, the layer distance widened by the 1.6 % that O2 adds in "
        "LiCoO2",
    ),
)

#: All named crystals.
CRYSTALS: Mapping[str, PublishedCrystal | OrderedCrystal] = MappingProxyType(
    {crystal.name: crystal for crystal in (*_PUBLISHED, *_ORDERED)}
)


def named_crystal(name: str) -> PublishedCrystal | OrderedCrystal:
    """Look up a named crystal.

    Raises
    ------
    KeyError
        If there is none of that name; the message lists them.

    Examples
    --------
    >>> crystal = named_crystal("Li2MnO3")
    >>> crystal.symbol, crystal.structure().reduced_formula
    ('C2/m', 'Li2MnO3')
    """
    try:
        return CRYSTALS[name]
    except KeyError:
        raise KeyError(f"no crystal is named {name!r}; there are {', '.join(CRYSTALS)}") from None


def build_crystal(name: str) -> Structure:
    """Build a named crystal, in its conventional cell or the stated supercell.

    Raises
    ------
    KeyError
        If there is none of that name; the message lists them.

    Examples
    --------
    >>> build_crystal("LiCoO2").formula
    'Li3 Co3 O6'
    """
    return named_crystal(name).structure()


def _spread_order(frame: Frame, tm_layer: Mapping[str, int]) -> dict[int, str]:
    """Li on honeycomb centres, then every species but the last spread over the sites left."""
    species = dict(tm_layer)
    lithium = lithium_sites(frame, Superlattice.HONEYCOMB, species.pop("Li"), seed=0)
    placed = dict.fromkeys(lithium, "Li")
    *minor, last = species
    for name in minor:
        left = [int(site) for site in frame.sites(SiteKind.TM_OCT) if int(site) not in placed]
        placed |= dict.fromkeys(spread_subset(frame, left, species[name], seed=0), name)
    return {int(site): placed.get(int(site), last) for site in frame.sites(SiteKind.TM_OCT)}
