"""NEB tasks: one band between two relaxed end states."""

from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

import numpy as np
from ase import Atoms
from jobflow import Job, Maker
from pydantic import BaseModel, ConfigDict
from pymatgen.core import Structure

from ..analysis.barrier import (
    Barrier,
    PathStatus,
    band_barrier,
    band_status,
    intermediate_minimum,
)
from ..analysis.level_of_theory import LevelOfTheory
from .backend import BackendSpec, load_backend
from .band import BandSettings, choose_n_images, optimise_band
from .initial_path import initial_path
from .journaled_backend import journaled
from .relax import to_atoms
from .task import task


class NebDocument(BaseModel):
    """An optimised band.

    Attributes
    ----------
    status
        Outcome; only ``converged`` is a barrier without a mark.
    barrier
        Energies of the path, eV; to be read together with `status`.
    energies
        Energy of every image relative to the first, eV.
    arc_lengths
        Path length in configuration space up to every image, Å.
    tangential_forces
        Force along the path at every image, eV/Å.
    saddle
        Highest image.
    intermediate
        Image at the intermediate minimum of a path with several saddles.
    trajectory
        All images; kept in the additional store ``data``.
    n_images
        Interior images.
    residual, fmax
        Largest projected force and its threshold, eV/Å.
    n_steps, n_force_calls
        Optimisation steps and structures evaluated.
    history
        Largest projected force after every evaluation of the band, eV/Å.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["neb"] = "neb"

    status: PathStatus
    barrier: Barrier
    energies: list[float]
    arc_lengths: list[float]
    tangential_forces: list[float]
    saddle: Structure
    intermediate: Structure | None
    trajectory: list[Structure]
    n_images: int
    climbing_image: int | None
    residual: float
    fmax: float
    n_steps: int
    n_force_calls: int
    history: list[float]
    wall_time: float
    level_of_theory: LevelOfTheory


@dataclass
class NebMaker(Maker):
    """Optimise a band between two relaxed structures of the same cell.

    Attributes
    ----------
    backend
        Backend to use.
    settings
        How the band is optimised.
    """

    name: str = "neb"
    backend: BackendSpec = field(default_factory=BackendSpec)
    settings: BandSettings = field(default_factory=BandSettings)

    @task(output_schema=NebDocument, data=["trajectory"])
    def make(
        self,
        initial: Structure,
        final: Structure,
        mover: int,
        via: list[float] | None = None,
    ) -> Job:
        """Optimise a band.

        Parameters
        ----------
        initial, final
            Relaxed end states, same cell, same atoms in the same order.
        mover
            Index of the hopping atom.
        via
            Fractional position of the mover at the waypoint, in the images of `initial`; None
            for a straight path.
        """
        backend = load_backend(self.backend)
        start = perf_counter()
        first, last = to_atoms(initial), to_atoms(final)
        waypoint = None
        stations = [initial.frac_coords[mover]]
        if via is not None:
            waypoint = _half_way(initial, final)
            waypoint.positions[mover] = initial.lattice.get_cartesian_coords(via)
            stations.append(np.array(via))
        end = final.frac_coords[mover]
        stations.append(end - np.round(end - stations[-1]))
        legs = np.diff(stations, axis=0) @ initial.lattice.matrix
        n_images = choose_n_images(float(np.linalg.norm(legs, axis=1).sum()), self.settings)
        band = optimise_band(
            initial_path(first, last, n_images, waypoint),
            journaled(backend).evaluate,
            self.settings,
        )
        trajectory = [
            Structure(initial.lattice, initial.species, image, coords_are_cartesian=True)
            for image in band.positions
        ]
        energies = band.energies.tolist()
        split = intermediate_minimum(energies)
        document = NebDocument(
            status=band_status(energies, converged=band.converged),
            barrier=band_barrier(energies),
            energies=(band.energies - band.energies[0]).tolist(),
            arc_lengths=band.arc_lengths.tolist(),
            tangential_forces=band.tangential_forces.tolist(),
            saddle=trajectory[int(np.argmax(band.energies))],
            intermediate=None if split is None else trajectory[split],
            trajectory=trajectory,
            n_images=n_images,
            climbing_image=band.climbing_image,
            residual=band.residual,
            fmax=self.settings.fmax,
            n_steps=band.n_steps,
            n_force_calls=band.n_force_calls,
            history=list(band.history),
            wall_time=perf_counter() - start,
            level_of_theory=backend.level_of_theory,
        )
        return document  # type: ignore[return-value]  # the decorator makes it a job


def _half_way(initial: Structure, final: Structure) -> Atoms:
    """Atoms half way between two structures, each along its shortest displacement."""
    step = final.frac_coords - initial.frac_coords
    step -= np.round(step)
    atoms = to_atoms(initial)
    atoms.positions = initial.lattice.get_cartesian_coords(initial.frac_coords + step / 2)
    return atoms
