"""Energies of many fixed structures in one task."""

from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

from jobflow import Job, Maker
from pydantic import BaseModel
from pymatgen.core import Structure

from ..analysis.level_of_theory import LevelOfTheory
from .backend import BackendSpec, load_backend
from .progress import report_step
from .relax import to_atoms
from .task import task

_BATCH = 8


class StaticDocument(BaseModel):
    """Energies of fixed structures.

    Attributes
    ----------
    energies
        Total energy of every structure, eV, in the order given.
    n_force_calls
        Structures evaluated.
    wall_time
        Seconds.
    level_of_theory
        Model and version.
    """

    kind: Literal["static"] = "static"

    energies: list[float]
    n_force_calls: int
    wall_time: float
    level_of_theory: LevelOfTheory


@dataclass
class StaticMaker(Maker):
    """Energies of fixed structures, to rank candidates before any is relaxed."""

    name: str = "static"
    backend: BackendSpec = field(default_factory=BackendSpec)

    @task(output_schema=StaticDocument)
    def make(self, structures: list[Structure]) -> Job:
        """Evaluate structures as they are."""
        backend = load_backend(self.backend)
        start = perf_counter()
        energies: list[float] = []
        for first in range(0, len(structures), _BATCH):
            batch = [to_atoms(structure) for structure in structures[first : first + _BATCH]]
            energies += [result.energy for result in backend.evaluate(batch)]
            report_step(f"{len(energies)} of {len(structures)} structures")
        document = StaticDocument(
            energies=energies,
            n_force_calls=len(structures),
            wall_time=perf_counter() - start,
            level_of_theory=backend.level_of_theory,
        )
        return document  # type: ignore[return-value]  # the decorator makes it a job
