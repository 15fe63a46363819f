"""Classes of occupied sites that defects are put on."""

from enum import StrEnum
from types import MappingProxyType

from .frame import SiteKind
from .occupation import Occupation


class SiteClass(StrEnum):
    """Occupied sites that a dopant may take.

    ``tm``: cations other than Li in the TM layers, and in disordered rock salt all of them;
    ``tm_layer_li``: Li in the TM layers; ``li_layer``: Li in the Li layers; ``li``: Li of
    disordered rock salt; ``anion``: the anion sublattice.
    """

    TM = "tm"
    TM_LAYER_LI = "tm_layer_li"
    LI_LAYER = "li_layer"
    LI = "li"
    ANION = "anion"


def sites_of_class(
    occupation: Occupation,
    site_class: SiteClass,
    *,
    layer: int | None = None,
    species: str | None = None,
) -> tuple[int, ...]:
    """Sites of a class, ascending.

    Parameters
    ----------
    occupation
        Occupation to look in.
    site_class
        Class of sites.
    layer
        Only the sites of this layer, counted from 0; all layers if None. Layer n of the Li
        layers lies above layer n of the TM layers; anions count with their TM layer.
    species
        Only the sites that hold this species; all of the class if None.

    Raises
    ------
    ValueError
        If the occupation has no such site; the message lists what it has.

    Examples
    --------
    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> pristine = build_pristine("Li2MnO3", min_atoms=24, max_atoms=24).occupation
    >>> len(sites_of_class(pristine, SiteClass.TM_LAYER_LI))
    2
    """
    present = {name: _members(occupation, name) for name in SiteClass}
    sites = present[site_class]
    if not sites:
        having = ", ".join(f"{name.value} ({len(s)})" for name, s in present.items() if s)
        raise ValueError(
            f"no site of class {site_class.value} in this {occupation.frame.label} cell; "
            f"it has {having}"
        )
    if layer is not None:
        layers = sorted({int(occupation.frame.layers[site]) for site in sites} - {-1})
        if layer not in layers:
            raise ValueError(
                f"no site of class {site_class.value} in layer {layer}; it has layers "
                f"{', '.join(map(str, layers)) or 'none'}"
            )
        sites = tuple(site for site in sites if occupation.frame.layers[site] == layer)
    if species is not None:
        held = sorted({str(occupation.species[site]) for site in sites})
        if species not in held:
            raise ValueError(
                f"no {species} on sites of class {site_class.value}; they hold {', '.join(held)}"
            )
        sites = tuple(site for site in sites if occupation.species[site] == species)
    return sites


#: Kinds of the sites of every class, and whether they hold Li.
_DEFINITIONS = MappingProxyType(
    {
        SiteClass.TM: ((SiteKind.TM_OCT, SiteKind.CATION_OCT), False),
        SiteClass.TM_LAYER_LI: ((SiteKind.TM_OCT,), True),
        SiteClass.LI_LAYER: ((SiteKind.LI_OCT, SiteKind.LI_PRISM), True),
        SiteClass.LI: ((SiteKind.CATION_OCT,), True),
        SiteClass.ANION: ((SiteKind.ANION,), False),
    }
)


def _members(occupation: Occupation, site_class: SiteClass) -> tuple[int, ...]:
    kinds, lithium = _DEFINITIONS[site_class]
    return tuple(
        site
        for site in occupation.frame.sites(*kinds).tolist()
        if occupation.species[site] is not None and (occupation.species[site] == "Li") is lithium
    )
