"""Defects and perturbations of a host as the catalogue offers them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from pymatgen.core import Lattice, Structure

from .antisites import antisite_pairs
from .assignment import assign, in_frame_cell
from .built_structure import BuiltStructure, from_structure
from .defects import Defect
from .dopants import distinct_dopants, random_dopants
from .frame import Frame
from .gliding import glide_o3_to_o1
from .hops import PathClass, hops_without_lithium
from .occupation import Occupation
from .oxygen_dimers import form_dimer, neighbouring_oxygen
from .oxygen_environment import OxygenClass
from .oxygen_vacancies import oxygen_vacancies, oxygen_vacancies_near
from .site_classes import SiteClass
from .strain import layer_strain, strain_structure
from .vacancy_motifs import tri_vacancies

T = TypeVar("T")


def dopant(
    host: BuiltStructure,
    *,
    ions: Mapping[str, int],
    on: SiteClass,
    replaces: str | None = None,
    layer: int | None = None,
    choice: int = 1,
    seed: int | None = None,
    oxidation_states: Mapping[str, float] | None = None,
) -> BuiltStructure:
    """Put dopants on a class of sites: one of the symmetry-distinct ways, or at random.

    Parameters
    ----------
    host
        Structure to dope.
    ions
        Number of ions of every dopant, as Ti=1 or Al=2,F=1.
    on
        Class of the sites to dope.
    replaces
        Only sites that hold this species.
    layer
        Only sites of this layer, counted from 0.
    choice
        Which of the symmetry-distinct placements, counted from 1.
    seed
        Draw a placement at random with this seed instead.
    oxidation_states
        Oxidation states of the charge balance that differ from the stated ones, as Mn=3.5,Ni=2.

    Raises
    ------
    ValueError
        If the sites do not exist or are too few, or a dopant is no element.

    Examples
    --------
    >>> from lrlo.structures.catalogue_crystals import crystal
    >>> doped = dopant(crystal("Li2MnO3"), ions={"Ti": 1}, on=SiteClass.TM)
    >>> doped.formula, doped.remarks["placement"]
    ('Li8 Ti1 Mn3 O12', '1 of 1 symmetry-distinct, 4 equivalent')
    """
    occupation = _occupation(host)
    if seed is not None:
        defect = random_dopants(
            occupation,
            ions,
            on,
            seed=seed,
            layer=layer,
            replaces=replaces,
            oxidation_states=oxidation_states,
        )
        return _changed(host, defect, f"drawn at random with seed {seed}", oxidation_states)
    placements = distinct_dopants(
        occupation,
        ions,
        on,
        layer=layer,
        replaces=replaces,
        oxidation_states=oxidation_states,
    )
    defect = _chosen(placements, choice)
    return _changed(host, defect, _place(placements, choice, defect), oxidation_states)


def antisite(
    host: BuiltStructure,
    *,
    tm: str,
    max_distance: float = 3.2,
    choice: int = 1,
    oxidation_states: Mapping[str, float] | None = None,
) -> BuiltStructure:
    """Exchange Li of the Li layer with a TM of the TM layer.

    Parameters
    ----------
    host
        Structure before the exchange.
    tm
        Element that goes to the Li layer, such as Ni.
    max_distance
        Largest distance between the two sites, Å; neighbours are about 2.9 Å apart.
    choice
        Which of the symmetry-distinct pairs, the closest first, counted from 1.
    oxidation_states
        Oxidation states of the charge balance that differ from the stated ones, as Mn=3.5,Ni=2.

    Raises
    ------
    ValueError
        If the distance is not positive, the TM layer does not hold the element, or no pair is that
        close.

    Examples
    --------
    >>> from lrlo.structures.catalogue_crystals import crystal
    >>> antisite(crystal("LiCoO2"), tm="Co").remarks["distance"]
    '2.85 Å'
    """
    pairs = antisite_pairs(
        _occupation(host), tm, max_distance=max_distance, oxidation_states=oxidation_states
    )
    pair = _chosen(pairs, choice)
    built = _changed(host, pair.defect, _place(pairs, choice, pair.defect), oxidation_states)
    return _remarked(built, {"distance": f"{pair.distance:.2f} Å"})


def oxygen_vacancy(
    host: BuiltStructure,
    *,
    number: int = 1,
    o_class: OxygenClass | None = None,
    near_hop_of: str | None = None,
    path_class: PathClass = PathClass.IN_PLANE,
    hop: int = 1,
    max_distance: float = 3.0,
    choice: int = 1,
    oxidation_states: Mapping[str, float] | None = None,
) -> BuiltStructure:
    """Take oxygen out, by its class, or one by its distance to a hop.

    Parameters
    ----------
    host
        Structure before.
    number
        Oxygen atoms to take out.
    o_class
        Class of the oxygen, such as O4; any class if not given.
    near_hop_of
        Element whose hop the oxygen is near to, such as Mn; Li in the way of the hop counts as
        gone, and stays in the structure.
    path_class
        Path class of that hop.
    hop
        Which of the symmetry-distinct hops, the least hindered first, counted from 1.
    max_distance
        Largest distance of the oxygen from the path of the hop, Å; that of the polyhedra which
        the ion passes lies within about 2.1 Å.
    choice
        Which of the symmetry-distinct sets, the most frequent first, counted from 1; near a hop
        the nearest first.
    oxidation_states
        Oxidation states of the charge balance that differ from the stated ones, as Mn=3.5,Ni=2.

    Raises
    ------
    ValueError
        If the number is not positive, there are fewer O of the class, there is no such hop, or
        no O is that close to it.

    Examples
    --------
    >>> from lrlo.structures.catalogue_crystals import crystal
    >>> missing = oxygen_vacancy(crystal("Li2MnO3"), choice=2)
    >>> missing.formula, missing.remarks["placement"]
    ('Li8 Mn4 O11', '2 of 2 symmetry-distinct, 4 equivalent')
    >>> oxygen_vacancy(crystal("Li2MnO3"), near_hop_of="Mn").remarks["distance to the hop"]
    '1.52 Å'
    """
    if near_hop_of is not None:
        return _oxygen_near_hop(
            *(host, number, o_class, near_hop_of, path_class, hop, max_distance, choice),
            oxidation_states,
        )
    sets = oxygen_vacancies(
        _occupation(host), number, o_class=o_class, oxidation_states=oxidation_states
    )
    found = _chosen(sets, choice)
    built = _changed(host, found.defect, _place(sets, choice, found.defect), oxidation_states)
    return _remarked(built, {"O classes taken out": ", ".join(c.value for c in found.o_classes)})


def _oxygen_near_hop(
    host: BuiltStructure,
    number: int,
    o_class: OxygenClass | None,
    mover: str,
    path_class: PathClass,
    hop: int,
    max_distance: float,
    choice: int,
    oxidation_states: Mapping[str, float] | None,
) -> BuiltStructure:
    if number != 1:
        raise ValueError(f"near a hop one O is taken out at a time, not {number}")
    occupation = _occupation(host)
    hops = hops_without_lithium(occupation, mover, path_class)
    chosen = _chosen(hops, hop, "hop")
    near = oxygen_vacancies_near(
        occupation,
        chosen,
        max_distance=max_distance,
        o_class=o_class,
        oxidation_states=oxidation_states,
    )
    found = _chosen(near, choice)
    built = _changed(host, found.defect, _place(near, choice, found.defect), oxidation_states)
    return _remarked(
        built,
        {
            "O classes taken out": found.o_classes[0].value,
            "hop": f"{chosen.label}, {hop} of {len(hops)} symmetry-distinct",
            "distance to the hop": f"{found.distance:.2f} Å",
        },
    )


def tri_vacancy(
    host: BuiltStructure,
    *,
    in_tm_layer: int | None = None,
    choice: int = 1,
    oxidation_states: Mapping[str, float] | None = None,
) -> BuiltStructure:
    """Empty three Li octahedra that touch one another.

    Parameters
    ----------
    host
        Structure before; its vacancies are used.
    in_tm_layer
        How many of the three lie in a TM layer, 0 to 3; any number if not given.
    choice
        Which of the symmetry-distinct motifs, the one with the fewest Li to remove first, counted
        from 1.
    oxidation_states
        Oxidation states of the charge balance that differ from the stated ones, as Mn=3.5,Ni=2.

    Raises
    ------
    ValueError
        If no three such octahedra hold only Li or nothing.

    Examples
    --------
    >>> from lrlo.structures.catalogue_crystals import crystal
    >>> tri_vacancy(crystal("Li2MnO3"), in_tm_layer=1).formula
    'Li5 Mn4 O12'
    """
    motifs = tri_vacancies(_occupation(host), in_tm_layer, oxidation_states=oxidation_states)
    motif = _chosen(motifs, choice)
    built = _changed(host, motif.defect, _place(motifs, choice, motif.defect), oxidation_states)
    return _remarked(
        built,
        {"Li taken out": str(motif.n_removed), "of the three in a TM layer": str(motif.n_tm_layer)},
    )


def dimer(
    host: BuiltStructure,
    *,
    length: float = 1.45,
    choice: int = 1,
    direction: tuple[float, float, float] | None = None,
) -> BuiltStructure:
    """Bring two neighbouring O together to a dimer; nothing else moves.

    Parameters
    ----------
    host
        Structure before.
    length
        O-O distance, Å: O2 1.21, superoxide 1.33, peroxide 1.45.
    choice
        Which of the symmetry-distinct pairs, the one around most vacancies first, counted from 1.
    direction
        Direction of the dimer in Cartesian coordinates, as 0,0,1; along the pair if not given.

    Raises
    ------
    ValueError
        If the length is out of bounds.

    Examples
    --------
    >>> from lrlo.structures.catalogue_crystals import crystal
    >>> dimer(crystal("Li2MnO3"), length=1.3).remarks["O-O distance"]
    '1.30 Å'
    """
    pairs = neighbouring_oxygen(_occupation(host))
    pair = _chosen(pairs, choice)
    assert host.assignment is not None
    atoms = (host.assignment.atom_on(pair.sites[0]), host.assignment.atom_on(pair.sites[1]))
    found = form_dimer(host.structure, atoms, length, direction)
    return replace(
        host,
        structure=found.structure,
        path=(),
        changed=pair.sites,
        remarks={
            "O-O distance": f"{found.length:.2f} Å, each O moved by {found.moved:.2f} Å"
            if direction is not None
            else f"{found.length:.2f} Å",
            "pair": f"{choice} of {len(pairs)} symmetry-distinct, {pair.degeneracy} equivalent",
            "bonds to cations lost": ", ".join(str(len(lost)) for lost in found.lost),
        },
    )


def strain(
    host: BuiltStructure, *, in_plane: tuple[float, ...] = (0.0,), out_of_plane: float = 0.0
) -> BuiltStructure:
    """Strain a layered crystal, in the layers and along their normal; tensile is positive.

    Parameters
    ----------
    host
        Structure to strain.
    in_plane
        Biaxial strain of the layers, as 0.02, or the components xx,yy,xy in the axes of the
        frame.
    out_of_plane
        Strain along the normal of the layers.

    Raises
    ------
    ValueError
        If a principal strain exceeds 0.15.

    Examples
    --------
    >>> from lrlo.structures.catalogue_crystals import layered
    >>> host = layered("Co")
    >>> round(strain(host, out_of_plane=0.03).structure.volume / host.structure.volume, 6)
    1.03
    """
    _occupation(host)
    if len(in_plane) not in (1, 3):
        raise ValueError(f"in-plane strain is one number or xx,yy,xy; got {len(in_plane)} numbers")
    xx, yy, xy = in_plane if len(in_plane) == 3 else (in_plane[0], in_plane[0], 0.0)
    tensor = layer_strain([xx, yy, xy], out_of_plane)
    structure, frame = _in_frame_axes(host)
    built = from_structure(strain_structure(structure, tensor), frame)
    return replace(
        built,
        remarks={"strain xx, yy, xy, zz": f"{xx:+g}, {yy:+g}, {xy:+g}, {out_of_plane:+g}"},
    )


def glide(
    host: BuiltStructure, *, images: int = 7, direction: int = 0, image: int | None = None
) -> BuiltStructure:
    """Glide the layers from O3 to O1: all structures of the path, or one of them.

    Parameters
    ----------
    host
        O3 structure.
    images
        Structures on the path, both ends included; odd, so that the saddle is one of them.
    direction
        Which of the three glides, 0, 1 or 2, 120 degrees apart.
    image
        Take only this structure of the path, counted from 1.

    Raises
    ------
    ValueError
        If the host is not O3, or a number is out of range.

    Examples
    --------
    >>> from lrlo.structures.catalogue_crystals import crystal
    >>> path = glide(crystal("LiCoO2"), images=5)
    >>> len(path.path), path.frame.label
    (5, 'O1')
    """
    _occupation(host)
    assert host.assignment is not None
    path = glide_o3_to_o1(host.structure, host.assignment, n_images=images, direction=direction)
    if image is not None and not 1 <= image <= images:
        raise ValueError(f"the path has images 1 to {images}, not {image}")
    if image == 1:
        return replace(host, path=(), remarks={"image": f"1 of {images}: O3"})
    last = BuiltStructure(path.structures[-1], assign(path.structures[-1], path.frame))
    length = f"{np.linalg.norm(path.shift):.3f} Å of every slab against the one below"
    if image is None:
        return replace(last, path=path.structures, remarks={"glide": length})
    remarks = {"glide": length, "image": f"{image} of {images}"}
    if image == images:
        return replace(last, remarks=remarks)
    return BuiltStructure(path.structures[image - 1], remarks=remarks)


def _occupation(host: BuiltStructure) -> Occupation:
    if host.occupation is None:
        raise ValueError("the host has no frame, so that its sites are not known")
    return host.occupation


def _chosen(found: Sequence[T], choice: int, what: str = "choice") -> T:
    if not 1 <= choice <= len(found):
        raise ValueError(
            f"{what} {choice} does not exist; there are {len(found)} symmetry-distinct ones, "
            f"counted from 1"
        )
    return found[choice - 1]


def _place(found: Sequence[object], choice: int, defect: Defect) -> str:
    return f"{choice} of {len(found)} symmetry-distinct, {defect.degeneracy} equivalent"


def _changed(
    host: BuiltStructure,
    defect: Defect,
    placement: str,
    oxidation_states: Mapping[str, float] | None,
) -> BuiltStructure:
    built = host.with_changes(defect.changes)
    return replace(
        built,
        composition=None,
        oxidation_states={**host.oxidation_states, **(oxidation_states or {})},
        path=(),
        remarks={
            "placement": placement,
            "formal charge brought in": f"{defect.charge.change:+g} e",
        },
    )


def _remarked(built: BuiltStructure, remarks: Mapping[str, str]) -> BuiltStructure:
    return replace(built, remarks={**built.remarks, **remarks})


def _in_frame_axes(host: BuiltStructure) -> tuple[Structure, Frame]:
    """The same crystal, turned so that its axes are those of the frame, and the frame."""
    assert host.assignment is not None
    structure = in_frame_cell(host.structure, host.assignment)
    frame = host.assignment.frame
    deformation = np.linalg.inv(frame.lattice) @ structure.lattice.matrix
    left, _, right = np.linalg.svd(deformation)
    turned = structure.copy()
    turned.lattice = Lattice(structure.lattice.matrix @ (left @ right).T)
    return turned, frame
