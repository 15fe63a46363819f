"""Homogeneous strain of layered oxides. Tensile strain is positive."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymatgen.core import Lattice, Structure

from .frame import Frame
from .layered_prototype import LayeredPrototype
from .prototype import Prototype
from .rock_salt import RockSaltPrototype

#: Largest principal strain; relaxation may add to it before the assignment to sites gives up.
MAX_STRAIN = 0.15


def layer_strain(
    in_plane: float | Sequence[float] | Sequence[Sequence[float]] | NDArray[np.float64],
    out_of_plane: float = 0.0,
) -> NDArray[np.float64]:
    """Strain tensor of a layered crystal, in-plane and out-of-plane given apart.

    Parameters
    ----------
    in_plane
        Biaxial strain of the layers, or their strain tensor in the Cartesian x and y of the
        frame, as components xx, yy, xy or of shape (2, 2). Tensile positive: 0.02 makes `a` 2 %
        longer.
    out_of_plane
        Strain along the layer normal, the Cartesian z of the frame. Tensile positive. It is not
        derived from the in-plane strain; give the Poisson contraction if it is wanted.

    Returns
    -------
    strain
        Symmetric tensor, shape (3, 3).

    Raises
    ------
    ValueError
        If the tensor is not symmetric or finite, or a principal strain exceeds 0.15.

    Examples
    --------
    >>> layer_strain(0.02, -0.01).diagonal().tolist()
    [0.02, 0.02, -0.01]
    >>> layer_strain([0.01, -0.01, 0.005])[:2, :2].tolist()
    [[0.01, 0.005], [0.005, -0.01]]
    """
    layers = np.asarray(in_plane, dtype=np.float64)
    if layers.shape == (3,):
        xx, yy, xy = layers
        layers = np.array([[xx, xy], [xy, yy]])
    if layers.shape not in ((), (2, 2)):
        raise ValueError(
            f"in-plane strain is a number, xx, yy, xy or a (2, 2) tensor, not {layers.shape}"
        )
    strain = np.zeros((3, 3))
    strain[:2, :2] = layers * np.eye(2) if layers.ndim == 0 else layers
    strain[2, 2] = out_of_plane
    return _checked(strain)


def strain_structure(structure: Structure, strain: ArrayLike) -> Structure:
    """Apply a homogeneous strain to a structure; fractional positions stay.

    Parameters
    ----------
    structure
        Structure to strain.
    strain
        Symmetric tensor in Cartesian axes, shape (3, 3), tensile positive; cell vectors v become
        (1 + strain) v. See :func:`layer_strain`.

    Raises
    ------
    ValueError
        If the tensor is not symmetric or finite, a principal strain exceeds 0.15, or the cell is
        left-handed.

    Examples
    --------
    >>> from lrlo.structures.layered_oxide import build_pristine
    >>> structure = build_pristine("LiCoO2", min_atoms=12, max_atoms=12).occupation.to_structure()
    >>> stretched = strain_structure(structure, layer_strain(0.0, 0.03))
    >>> round(stretched.volume / structure.volume, 6)
    1.03
    """
    lattice = np.array(structure.lattice.matrix)
    if np.linalg.det(lattice) <= 0:
        raise ValueError("the cell is left-handed; exchange two of its vectors (and coordinates)")
    strained = structure.copy()
    strained.lattice = Lattice(lattice @ (np.eye(3) + _checked(np.asarray(strain, np.float64))))
    return strained


def strain_frame(frame: Frame, strain: ArrayLike) -> Frame:
    """Apply a homogeneous strain to a frame.

    A frame keeps the form of its prototype: layered stackings take biaxial strain in their layers
    and strain along the normal, rock salt the same strain in all directions. Under any other
    strain leave the frame as it is, since the assignment of atoms to sites removes strain.

    Parameters
    ----------
    frame
        Frame to strain.
    strain
        Symmetric tensor, shape (3, 3), tensile positive, see :func:`layer_strain`.

    Raises
    ------
    ValueError
        If the strain is out of bounds or does not keep the form of the prototype.

    Examples
    --------
    >>> from lrlo.structures.frame import layered_frame
    >>> from lrlo.structures.stacking import Stacking
    >>> frame = layered_frame(Stacking.O3, np.eye(3, dtype=int), a=2.8)
    >>> round(strain_frame(frame, layer_strain(0.05)).a, 3)
    2.94
    """
    tensor = _checked(np.asarray(strain, dtype=np.float64))
    in_plane, normal = float(tensor[0, 0]), float(tensor[2, 2])
    if not np.allclose(tensor, np.diag([in_plane, in_plane, normal]), atol=1e-12):
        raise ValueError(
            "a frame takes strain along its axes only, the same in x and y; strain the structure "
            "instead, the assignment to the unstrained frame removes it"
        )
    return Frame.supercell(_strained(frame.prototype, in_plane, normal), np.array(frame.matrix))


def _strained(prototype: Prototype, in_plane: float, normal: float) -> Prototype:
    if isinstance(prototype, LayeredPrototype):
        return replace(
            prototype,
            a=prototype.a * (1 + in_plane),
            tm_slab=prototype.tm_slab * (1 + normal),
            li_gap=prototype.li_gap * (1 + normal),
        )
    if isinstance(prototype, RockSaltPrototype) and abs(in_plane - normal) < 1e-12:
        return replace(
            prototype, cubic_lattice_parameter=prototype.cubic_lattice_parameter * (1 + normal)
        )
    raise ValueError(
        f"a frame of {prototype.label} takes the same strain in all directions only; strain the "
        "structure instead, the assignment to the unstrained frame removes it"
    )


def _checked(strain: NDArray[np.float64]) -> NDArray[np.float64]:
    if strain.shape != (3, 3) or not np.all(np.isfinite(strain)):
        raise ValueError(f"a strain is a finite tensor of shape (3, 3), got {strain.tolist()}")
    if not np.allclose(strain, strain.T, atol=1e-9):
        raise ValueError("the strain is not symmetric: its antisymmetric part is a rotation")
    largest = float(np.abs(np.linalg.eigvalsh(strain)).max())
    if largest > MAX_STRAIN:
        raise ValueError(f"a principal strain of {largest:.3f} exceeds {MAX_STRAIN}")
    return strain
