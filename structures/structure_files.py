"""Structures in files: CIF, POSCAR, extended XYZ and pymatgen's JSON, with their frames."""

import json
import warnings
from enum import StrEnum
from io import StringIO
from pathlib import Path

import numpy as np
from ase.io import read as read_ase
from ase.io import write as write_ase
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifParser, CifWriter
from pymatgen.io.vasp import Poscar

from .built_structure import BuiltStructure, from_structure
from .crystals import CRYSTALS, named_crystal
from .frame import Frame
from .frame_search import find_frame

#: Key that the frame of a structure is kept under in JSON and in extended XYZ.
FRAME_KEY = "lrlo_frame"
#: Per-atom column with the site of the frame.
SITE_KEY = "lrlo_site"
_FLAT = 1e-6


class StructureFileError(ValueError):
    """A file that cannot be read or written as a structure."""


class StructureFormat(StrEnum):
    """File formats of structures.

    ``cif`` and ``poscar`` hold the atoms only; ``extxyz`` and ``json`` (pymatgen's ``Structure``)
    hold the frame, too, and ``extxyz`` more than one structure.
    """

    CIF = "cif"
    POSCAR = "poscar"
    EXTXYZ = "extxyz"
    JSON = "json"


_SUFFIXES = {
    ".cif": StructureFormat.CIF,
    ".poscar": StructureFormat.POSCAR,
    ".vasp": StructureFormat.POSCAR,
    ".xyz": StructureFormat.EXTXYZ,
    ".extxyz": StructureFormat.EXTXYZ,
    ".json": StructureFormat.JSON,
}
#: Files that VASP knows by their name.
_NAMES = ("POSCAR", "CONTCAR")


def format_of(path: Path, name: str | None = None) -> StructureFormat:
    """Format by name, else by the suffix of a path.

    Raises
    ------
    StructureFileError
        If the format is unknown.

    Examples
    --------
    >>> format_of(Path("cell.vasp")).value, format_of(Path("POSCAR_start")).value
    ('poscar', 'poscar')
    """
    if name is not None:
        if name not in list(StructureFormat):
            raise StructureFileError(
                f"unknown format {name!r}; allowed: {', '.join(StructureFormat)}"
            )
        return StructureFormat(name)
    if path.suffix.lower() in _SUFFIXES:
        return _SUFFIXES[path.suffix.lower()]
    if path.name.startswith(_NAMES):
        return StructureFormat.POSCAR
    raise StructureFileError(
        f"the suffix of {path.name!r} names no format of structures; use {', '.join(_SUFFIXES)} or "
        f"a name that begins with POSCAR, or state the format: {', '.join(StructureFormat)}"
    )


def structure_text(built: BuiltStructure, file_format: StructureFormat) -> str:
    """Text of a file with a structure, atoms sorted by element.

    All structures of a path go into one extended XYZ file.

    Parameters
    ----------
    built
        Structure to write.
    file_format
        Format of the file.

    Raises
    ------
    StructureFileError
        If a path of several structures is asked for in a format that holds one.

    Examples
    --------
    >>> from lrlo.structures.crystals import named_crystal
    >>> crystal = named_crystal("NiO")
    >>> built = from_structure(crystal.structure(), crystal.frame())
    >>> structure_text(built, StructureFormat.POSCAR).splitlines()[5:7]
    ['Ni O', '4 4']
    """
    if built.path and file_format is not StructureFormat.EXTXYZ:
        raise StructureFileError(
            f"a path of {len(built.path)} structures does not go into one {file_format.value} "
            "file; write extended XYZ (.xyz), or choose one of them by its number"
        )
    if file_format is StructureFormat.EXTXYZ:
        # The inner structures of a path lie between two frames.
        steps = [BuiltStructure(structure) for structure in built.path] or [built]
        return "".join(frame_structure_text(step) for step in steps)
    if file_format is StructureFormat.CIF:
        structure = built.structure.get_sorted_structure()
        return str(CifWriter(structure, significant_figures=10))
    structure = _with_sites(built).get_sorted_structure()
    if file_format is StructureFormat.POSCAR:
        return Poscar(structure, comment=structure.formula).get_str(significant_figures=12)
    if built.frame is not None:
        structure.properties[FRAME_KEY] = built.frame.as_dict()
    return json.dumps(structure.as_dict(), indent=1) + "\n"


def frame_structure_text(built: BuiltStructure, **facts: float | int | str) -> str:
    """One structure in extended XYZ, atoms sorted by element, with its frame and facts on it.

    Parameters
    ----------
    built
        Structure to write.
    facts
        Values for the comment line.

    Examples
    --------
    >>> text = frame_structure_text(read_built("NiO"), degeneracy=2)
    >>> text.splitlines()[0], "degeneracy=2" in text
    ('8', True)
    """
    structure = _with_sites(built).get_sorted_structure()
    sites = structure.site_properties.get(SITE_KEY)
    if sites is not None:
        structure.remove_site_property(SITE_KEY)
    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    atoms.calc = None
    atoms.info = {**facts}
    if built.frame is not None and sites is not None:
        atoms.set_array(SITE_KEY, np.array(sites, dtype=int))
        atoms.info[FRAME_KEY] = json.dumps(built.frame.as_dict())
    text = StringIO()
    write_ase(text, atoms, format="extxyz")
    return text.getvalue()


def read_structure(path: Path, file_format: str | None = None) -> Structure:
    """Read an ordered structure.

    Parameters
    ----------
    path
        CIF, POSCAR, extended XYZ or JSON.
    file_format
        Name of the format; by the suffix if None.

    Raises
    ------
    StructureFileError
        If the file cannot be read, holds several structures or partial occupancies, or its cell
        is left-handed or degenerate; the message says what to do.

    Examples
    --------
    >>> read_structure(Path("missing.cif"))
    Traceback (most recent call last):
    ...
    lrlo.structures.structure_files.StructureFileError: there is no file missing.cif
    """
    if not path.is_file():
        raise StructureFileError(f"there is no file {path}")
    known = format_of(path, file_format)
    try:
        structures = _parsed(path, known)
    except StructureFileError:
        raise
    except Exception as error:  # parsers raise anything
        raise StructureFileError(f"{path} cannot be read as {known.value}: {error}") from error
    if len(structures) != 1:
        raise StructureFileError(
            f"{path} holds {len(structures)} structures; keep one, for instance with "
            f"'ase convert -n 0 {path} first.xyz'"
        )
    structure = structures[0]
    _check_occupancies(structure, path)
    structure.remove_oxidation_states()
    _check_cell(structure, path)
    return structure


def read_built(source: str) -> BuiltStructure:
    """Read a structure with its frame: a file or a named crystal.

    The frame is the one in the file; where there is none it is found from the anions (see
    :func:`~lrlo.structures.frame_search.find_frame`). Atoms are mapped on its sites.

    Parameters
    ----------
    source
        Path of a file, or name of a crystal.

    Raises
    ------
    StructureFileError
        If there is no such file or crystal, or the file cannot be read.
    AssignmentError
        If no frame explains the structure.
    ValueError
        If there are atoms that no site explains; the message lists them.

    Examples
    --------
    >>> read_built("LiCoO2").o_classes
    {'O3': 6}
    """
    if source in CRYSTALS and not Path(source).exists():
        crystal = named_crystal(source)
        return from_structure(crystal.structure(), crystal.frame())
    path = Path(source)
    if not path.exists():
        raise StructureFileError(
            f"{source!r} is neither a file nor a named crystal; the crystals are "
            f"{', '.join(CRYSTALS)}"
        )
    structure = read_structure(path)
    frame = structure.properties.pop(FRAME_KEY, None)
    if isinstance(frame, str):
        frame = json.loads(frame)
    if isinstance(frame, dict):
        frame = Frame.from_dict(frame)
    if SITE_KEY in structure.site_properties:
        structure.remove_site_property(SITE_KEY)
    return from_structure(structure, find_frame(structure) if frame is None else frame)


def _parsed(path: Path, known: StructureFormat) -> list[Structure]:
    if known is StructureFormat.CIF:
        with warnings.catch_warnings():
            # Digits that were rounded in the file are put back, which is nothing to report.
            warnings.simplefilter("ignore")
            return CifParser(path).parse_structures(primitive=False)
    if known is StructureFormat.POSCAR:
        return [Poscar.from_file(path, check_for_potcar=False).structure]
    if known is StructureFormat.JSON:
        return [Structure.from_dict(json.loads(path.read_text(encoding="utf-8")))]
    structures = []
    for atoms in read_ase(path, index=":", format="extxyz"):
        if not all(atoms.pbc):
            raise StructureFileError(f"{path} is not periodic in all directions")
        atoms.calc = None
        structure = AseAtomsAdaptor.get_structure(atoms)
        structure.properties = dict(atoms.info)
        structures.append(structure)
    return structures


def _check_occupancies(structure: Structure, path: Path) -> None:
    mixed = [f"{i} ({site.species})" for i, site in enumerate(structure) if not site.is_ordered]
    if mixed:
        raise StructureFileError(
            f"{path} has partial occupancies on {len(mixed)} sites, such as "
            f"{', '.join(mixed[:3])}. Builders need one ordered cell: build it from the formula "
            "('lrlo build honeycomb --formula …' or another order), or choose one with pymatgen's "
            "OrderDisorderedStructureTransformation"
        )


def _check_cell(structure: Structure, path: Path) -> None:
    lattice = np.array(structure.lattice.matrix)
    if not (np.all(np.isfinite(lattice)) and np.all(np.isfinite(structure.frac_coords))):
        raise StructureFileError(f"{path} has cell vectors or positions that are no numbers")
    volume = float(np.linalg.det(lattice))
    if abs(volume) <= _FLAT * np.linalg.norm(lattice, axis=1).prod():
        raise StructureFileError(
            f"the cell of {path} is degenerate: its vectors {lattice.round(3).tolist()} lie in a "
            "plane"
        )
    if volume < 0:
        raise StructureFileError(
            f"the cell of {path} is left-handed; exchange two of its vectors and the fractional "
            "coordinates along them"
        )


def _with_sites(built: BuiltStructure) -> Structure:
    """Copy whose atoms carry the sites of the frame."""
    structure = built.structure.copy()
    if built.assignment is not None:
        sites = [int(site) for site in built.assignment.sites if site is not None]
        structure.add_site_property(SITE_KEY, sites)
    return structure
