"""Files give back the structure and its frame, and bad files are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from lrlo.structures.built_structure import BuiltStructure, from_occupation, from_structure
from lrlo.structures.catalogue_crystals import layered
from lrlo.structures.catalogue_defects import glide
from lrlo.structures.crystals import CRYSTALS, named_crystal
from lrlo.structures.frame_search import find_frame
from lrlo.structures.layered_oxide import PristineModel, build_pristine
from lrlo.structures.stacking import Stacking
from lrlo.structures.structure_files import (
    StructureFileError,
    StructureFormat,
    format_of,
    read_built,
    read_structure,
    structure_text,
)


@pytest.fixture(scope="module")
def oxide(paper: PristineModel) -> BuiltStructure:
    return from_occupation(paper.occupation)


@pytest.mark.parametrize("suffix", [".cif", ".vasp", ".xyz", ".json"])
def test_file_gives_back_the_structure(oxide: BuiltStructure, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cell{suffix}"
    path.write_text(structure_text(oxide, format_of(path)))
    again = read_built(str(path))
    assert StructureMatcher(primitive_cell=False, scale=False).fit(oxide.structure, again.structure)
    assert again.o_classes == oxide.o_classes
    assert again.frame is not None
    assert again.frame.label == "O3"
    if suffix in (".xyz", ".json"):
        assert again.frame == oxide.frame


def test_json_is_a_pymatgen_structure(oxide: BuiltStructure) -> None:
    data = json.loads(structure_text(oxide, StructureFormat.JSON))
    assert Structure.from_dict(data).composition == oxide.structure.composition


def test_poscar_groups_its_species(oxide: BuiltStructure) -> None:
    symbols = structure_text(oxide, StructureFormat.POSCAR).splitlines()[5].split()
    assert len(symbols) == len(set(symbols))


def test_path_goes_into_one_extended_xyz_only(tmp_path: Path) -> None:
    path = glide(layered("Co", size=(1, 1)), images=3)
    text = structure_text(path, StructureFormat.EXTXYZ)
    assert text.count("Lattice=") == 3
    with pytest.raises(StructureFileError, match="choose one of them"):
        structure_text(path, StructureFormat.CIF)
    several = tmp_path / "path.xyz"
    several.write_text(text)
    with pytest.raises(StructureFileError, match="holds 3 structures"):
        read_structure(several)


@pytest.mark.parametrize("name", ["LiMnO2-C2/m", "Li2RuO3", "LiMn2O4", "NiO"])
def test_frame_is_found_for_published_cells(name: str) -> None:
    crystal = named_crystal(name)
    structure = crystal.structure()
    found = from_structure(structure, find_frame(structure))
    assert found.o_classes == from_structure(structure, crystal.frame()).o_classes
    assert found.assignment is not None
    assert found.assignment.displacements.max() < 0.3


@pytest.mark.parametrize("stacking", Stacking)
def test_frame_is_found_for_every_stacking(stacking: Stacking) -> None:
    """In a reduced cell, with atoms displaced as relaxation displaces them."""
    occupation = build_pristine(
        "Li1.2Ni0.2Mn0.6O2", stacking=stacking, min_atoms=48, max_atoms=130, seed=1
    ).occupation
    structure = occupation.to_structure().get_reduced_structure()
    random = np.random.default_rng(5)
    for atom in range(len(structure)):
        structure.translate_sites([atom], random.normal(0, 0.08, 3), frac_coords=False)
    found = from_structure(structure, find_frame(structure))
    assert found.frame is not None
    assert found.frame.stacking is stacking
    assert found.o_classes == from_occupation(occupation).o_classes


def test_changes_leave_all_other_atoms_in_place() -> None:
    crystal = named_crystal("Li2MnO3")
    host = from_structure(crystal.structure(), crystal.frame())
    assert host.occupation is not None
    lithium = host.occupation.sites_of("Li")
    changed = host.with_changes({lithium[0]: None, lithium[1]: "Ni"})
    assert changed.occupation == host.occupation.with_species({lithium[0]: None, lithium[1]: "Ni"})
    assert len(changed.structure) == len(host.structure) - 1
    distances = host.structure.lattice.get_all_distances(
        changed.structure.frac_coords, host.structure.frac_coords
    )
    assert distances.min(axis=1).max() < 1e-9
    refilled = changed.with_changes({lithium[0]: "Li"})
    assert refilled.occupation == host.occupation.with_species({lithium[1]: "Ni"})
    # the ion that comes back starts at the centroid of its six O, near where it was
    assert len(refilled.structure) == len(host.structure)
    distances = host.structure.lattice.get_all_distances(
        refilled.structure.frac_coords, host.structure.frac_coords
    )
    assert distances.min(axis=1).max() < 0.3


def test_partial_occupancies_are_refused(tmp_path: Path) -> None:
    structure = CRYSTALS["LiNiO2"].structure()
    structure[0] = {"Li": 0.9, "Ni": 0.1}
    path = tmp_path / "mixed.cif"
    structure.to(str(path))
    with pytest.raises(StructureFileError, match=r"partial occupancies.*lrlo build"):
        read_structure(path)


def poscar(folder: Path, lattice: list[list[float]]) -> Path:
    path = folder / "POSCAR"
    rows = "\n".join(" ".join(map(str, row)) for row in lattice)
    path.write_text(f"test\n1.0\n{rows}\nNi O\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n")
    return path


def test_left_handed_and_flat_cells_are_refused(tmp_path: Path) -> None:
    edge = 2.9
    left = poscar(tmp_path, [[0, edge, 0], [edge, 0, 0], [0, 0, edge]])
    with pytest.raises(StructureFileError, match="left-handed; exchange two"):
        read_structure(left)
    flat = poscar(tmp_path, [[edge, 0, 0], [0, edge, 0], [edge, edge, 0]])
    with pytest.raises(StructureFileError, match="degenerate"):
        read_structure(flat)


def test_atoms_without_a_site_are_listed(tmp_path: Path) -> None:
    """A Li on top of a Co and an O on top of an O, where every site near is taken."""
    host = layered("Co")
    assert host.frame is not None
    structure = host.structure.copy(properties={"lrlo_frame": host.frame.as_dict()})
    n_atoms = len(structure)
    for added, on_top_of in (("Li", "Co"), ("O", "O")):
        atom = next(i for i, site in enumerate(structure) if site.specie.symbol == on_top_of)
        position = structure[atom].frac_coords + np.array([0, 0, 0.02])
        structure.append(added, position, validate_proximity=False)
    path = tmp_path / "extra.json"
    path.write_text(json.dumps(structure.as_dict()))
    message = rf"2 of {n_atoms + 2} atoms .* O3 frame: atom {n_atoms} \(Li.*{n_atoms + 1} \(O"
    with pytest.raises(ValueError, match=message):
        read_built(str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cell.cif", "no cif", "cannot be read as cif"),
        ("cell.json", "{", "cannot be read as json"),
        ("cell.png", "", "names no format"),
        ("cell.xyz", "1\n\nLi 0 0 0\n", "not periodic"),
    ],
)
def test_unreadable_files_are_refused(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(StructureFileError, match=message):
        read_structure(path)


def test_structures_that_no_frame_explains_are_refused() -> None:
    simple_cubic = Structure(Lattice.cubic(2.7), ["Mn", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with pytest.raises(ValueError, match="no frame explains"):
        find_frame(simple_cubic)
    molecule = Structure(Lattice.cubic(12), ["Mn", "O"], [[0, 0, 0], [0.2, 0, 0]])
    with pytest.raises(ValueError, match=r"12.0 Å of vacuum.*lrlo build basal-slab"):
        find_frame(molecule)
    metal = Structure(Lattice.cubic(3), ["Mn"], [[0, 0, 0]])
    with pytest.raises(ValueError, match="no O"):
        find_frame(metal)


def test_unknown_format_is_refused() -> None:
    with pytest.raises(StructureFileError, match="allowed: cif, poscar, extxyz, json"):
        format_of(Path("cell.cif"), "gromacs")
