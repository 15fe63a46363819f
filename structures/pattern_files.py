"""Li/vacancy patterns in files: JSON lines, or structures in extended XYZ."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from .built_structure import BuiltStructure
from .structure_files import StructureFileError, frame_structure_text
from .vacancies import VacancyPattern


class PatternFormat(StrEnum):
    """File formats of patterns.

    ``jsonl``: one JSON object a line, with the sites of the frame that keep and lose their ion,
    the atoms of the host that are removed, the degeneracy and, if known, the energy. ``extxyz``:
    the structures.
    """

    JSONL = "jsonl"
    EXTXYZ = "extxyz"


_SUFFIXES = {
    ".jsonl": PatternFormat.JSONL,
    ".xyz": PatternFormat.EXTXYZ,
    ".extxyz": PatternFormat.EXTXYZ,
}


def pattern_format_of(path: Path, name: str | None = None) -> PatternFormat:
    """Format by name, else by the suffix of a path.

    Raises
    ------
    StructureFileError
        If the format is unknown.

    Examples
    --------
    >>> pattern_format_of(Path("patterns.jsonl")).value
    'jsonl'
    """
    if name is None:
        name = _SUFFIXES.get(path.suffix.lower(), path.suffix or path.name)
    if name not in list(PatternFormat):
        raise StructureFileError(
            f"{name!r} is no format of patterns; allowed: jsonl (.jsonl) and extxyz (.xyz, .extxyz)"
        )
    return PatternFormat(name)


def pattern_record(
    host: BuiltStructure, pattern: VacancyPattern, file_format: PatternFormat
) -> str:
    """Text of one pattern.

    Parameters
    ----------
    host
        Structure with an ion on every site of the pattern.
    pattern
        Pattern of sites kept and removed.
    file_format
        Format of the file.

    Examples
    --------
    >>> from lrlo.structures.structure_files import read_built
    >>> host = read_built("LiCoO2")
    >>> kept, removed = host.occupation.sites_of("Li")[:2], host.occupation.sites_of("Li")[2:]
    >>> pattern = VacancyPattern({"Li layer": kept}, removed, degeneracy=3)
    >>> json.loads(pattern_record(host, pattern, PatternFormat.JSONL))["n_kept"]
    {'Li layer': 2}
    """
    if file_format is PatternFormat.EXTXYZ:
        facts: dict[str, float | int] = {"degeneracy": pattern.degeneracy}
        facts |= {f"kept_{_key(name)}": len(sites) for name, sites in pattern.kept.items()}
        if pattern.energy is not None:
            facts["ewald_energy"] = pattern.energy
        return frame_structure_text(host.with_changes(dict.fromkeys(pattern.removed)), **facts)
    assert host.assignment is not None
    record: Mapping[str, object] = {
        "n_kept": {name: len(sites) for name, sites in pattern.kept.items()},
        "degeneracy": pattern.degeneracy,
        **({} if pattern.energy is None else {"ewald_energy": pattern.energy}),
        "kept_sites": {name: list(sites) for name, sites in pattern.kept.items()},
        "removed_sites": list(pattern.removed),
        "removed_atoms": sorted(host.assignment.atom_on(site) for site in pattern.removed),
    }
    return json.dumps(record) + "\n"


def _key(name: str) -> str:
    return name.lower().replace(" ", "_")
