"""Relaxation of one structure, checked against its frame."""

from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from jobflow import Job, Maker
from pydantic import BaseModel, ConfigDict
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from ..analysis.level_of_theory import LevelOfTheory
from ..structures.alignment import AssignmentError
from ..structures.assignment import Assignment, assign
from ..structures.frame import Frame
from ..structures.occupation import Occupation
from .backend import (
    Backend,
    BackendCalculator,
    BackendError,
    BackendSpec,
    Capability,
    load_backend,
)
from .journaled_backend import journaled
from .linear_algebra import in_one_thread
from .progress import report_step
from .task import task

#: Atoms closer than this have collapsed into a hole of the potential, Å.
COLLAPSE_DISTANCE = 0.8


class RelaxDocument(BaseModel):
    """A relaxed structure.

    Attributes
    ----------
    structure
        Relaxed structure.
    frame
        Frame of the cell; None for structures without one (metallic Li).
    energy
        Total energy, eV.
    magmoms
        Magnetic moments, Bohr magneton; None if the backend gives none.
    max_force
        Largest force at the end, eV/Å.
    converged
        Whether forces (and stress, if the cell was free) came below the threshold.
    n_force_calls
        Structures evaluated.
    relaxed_cell
        Whether the cell was free.
    wall_time
        Seconds, for estimates.
    level_of_theory
        Model and version.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["relax"] = "relax"

    structure: Structure
    frame: Frame | None
    energy: float
    magmoms: list[float] | None
    max_force: float
    converged: bool
    n_force_calls: int
    relaxed_cell: bool
    wall_time: float
    level_of_theory: LevelOfTheory

    @property
    def assignment(self) -> Assignment:
        """Atoms mapped to sites.

        Raises
        ------
        ValueError
            If the structure has no frame.
        """
        if self.frame is None:
            raise ValueError("this structure was relaxed without a frame")
        return assign(self.structure, self.frame)

    @property
    def occupation(self) -> Occupation:
        """Species on the sites of the frame, read from the relaxed structure."""
        return self.assignment.occupation

    @property
    def is_on_frame(self) -> bool:
        """Whether the anions still stand where the frame has them."""
        try:
            _ = self.assignment
        except AssignmentError:
            return False
        return True


@dataclass
class RelaxMaker(Maker):
    """Relax a structure with a backend.

    Attributes
    ----------
    backend
        Backend to use.
    relax_cell
        Whether the cell is free, too.
    fmax
        Largest force of a converged structure, eV/Å.
    max_steps
        Most optimisation steps; a structure that needs more is marked unconverged.
    """

    name: str = "relax"
    backend: BackendSpec = field(default_factory=BackendSpec)
    relax_cell: bool = False
    fmax: float = 0.05
    max_steps: int = 200

    @task(output_schema=RelaxDocument)
    def make(self, structure: Structure, frame: Frame | None = None) -> Job:
        """Relax a structure.

        Parameters
        ----------
        structure
            Structure to relax.
        frame
            Frame of the cell, kept with the result.
        """
        backend = load_backend(self.backend)
        start = perf_counter()
        atoms = to_atoms(structure)
        calculator = BackendCalculator(journaled(backend))
        atoms.calc = calculator
        optimiser = BFGS(
            FrechetCellFilter(atoms) if self.relax_cell else atoms,  # type: ignore[arg-type]
            logfile=None,
        )

        def tell() -> None:
            force = np.linalg.norm(atoms.get_forces(), axis=1).max()
            report_step(f"step {optimiser.nsteps}, largest force {force:.2f} eV/Å")
            refuse_collapse(atoms)

        optimiser.attach(tell)
        converged = in_one_thread(optimiser.run)(fmax=self.fmax, steps=self.max_steps)
        document = RelaxDocument(
            structure=AseAtomsAdaptor.get_structure(atoms),
            frame=frame,
            energy=float(atoms.get_potential_energy()),
            magmoms=final_magmoms(backend, atoms),
            max_force=float(np.linalg.norm(atoms.get_forces(), axis=1).max()),
            converged=bool(converged),
            n_force_calls=calculator.n_evaluations,
            relaxed_cell=self.relax_cell,
            wall_time=perf_counter() - start,
            level_of_theory=backend.level_of_theory,
        )
        return document  # type: ignore[return-value]  # the decorator makes it a job


def to_atoms(structure: Structure) -> Atoms:
    """Plain ASE atoms of a structure, positions not wrapped into the cell."""
    return Atoms(
        numbers=[site.specie.Z for site in structure],
        positions=structure.cart_coords,
        cell=structure.lattice.matrix,
        pbc=True,
    )


def final_magmoms(backend: Backend, atoms: Atoms) -> list[float] | None:
    """Magnetic moments of a finished structure, None if the backend has none."""
    if Capability.MAGMOMS not in backend.capabilities:
        return None
    moments = backend.evaluate([atoms], magmoms=True)[0].magmoms
    return None if moments is None else [float(m) for m in moments]


def refuse_collapse(atoms: Atoms) -> None:
    """Stop when atoms fall into each other, a known hole of ML potentials.

    Raises
    ------
    BackendError
        If two atoms are closer than ``COLLAPSE_DISTANCE``.
    """
    if len(atoms) < 2:
        return
    frac = atoms.get_scaled_positions(wrap=False)
    difference = frac[:, None] - frac[None]
    difference -= np.round(difference)
    distance = np.linalg.norm(difference @ atoms.cell.array, axis=-1)
    np.fill_diagonal(distance, np.inf)
    if distance.min() < COLLAPSE_DISTANCE:
        i, j = np.unravel_index(distance.argmin(), distance.shape)
        raise BackendError(
            f"atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) came within "
            f"{distance.min():.2f} Å: the potential has collapsed on this structure"
        )
