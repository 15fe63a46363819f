"""NEB tasks: one band between two relaxed end states."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

import numpy as np
from ase import Atoms
from jobflow import Job, Maker
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, computed_field
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from ..analysis.barrier import (
    SOUND,
    Barrier,
    PathStatus,
    band_barrier,
    band_status,
    intermediate_minimum,
)
from ..analysis.level_of_theory import LevelOfTheory
from ..analysis.physical_bounds import distance_problem, energy_problem, moment_problem
from .backend import BackendSpec, Capability, load_backend
from .band import BandSettings, choose_n_images, optimise_band
from .initial_path import initial_path
from .journaled_backend import journaled
from .relax import to_atoms
from .task import task

#: What a band is started from where no other backend has been there before.
INTERPOLATED = "interpolated path (IDPP)"


class NebDocument(BaseModel):
    """An optimised band.

    Names are those of emmet's ``NebResult`` where it has the same thing.

    Attributes
    ----------
    status
        Outcome; only ``converged`` is a barrier without a mark.
    problem
        What is unphysical about the band; empty if nothing is.
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
    saddle_magmoms
        Its moments, Bohr magneton; None where the backend has none.
    intermediate
        Image at the intermediate minimum of a path with several saddles.
    images, initial_images
        All images of the band, and of the path that it started from; kept in the additional store
        ``data``.
    n_images
        Interior images.
    residual, fmax
        Largest projected force and its threshold, eV/Å.
    n_steps, n_force_calls
        Optimisation steps and structures evaluated.
    start
        What the band was started from: the interpolated path, or a band of a cheaper backend with
        its level of theory and force calls.
    history
        Largest projected force after every evaluation of the band, eV/Å.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["neb"] = "neb"

    status: PathStatus
    problem: str = ""
    barrier: Barrier
    energies: list[float]
    arc_lengths: list[float]
    tangential_forces: list[float]
    saddle: Structure
    saddle_magmoms: list[float] | None = None
    intermediate: Structure | None
    images: list[Structure]
    initial_images: list[Structure]
    n_images: int
    climbing_image: int | None
    residual: float
    fmax: float
    n_steps: int
    n_force_calls: int
    start: str = INTERPOLATED
    history: list[float]
    wall_time: float
    level_of_theory: LevelOfTheory

    @computed_field  # type: ignore[prop-decorator]
    @property
    def state(self) -> Literal["successful", "failed"]:
        """Whether the band is a barrier, with or without a mark."""
        return "successful" if self.status in SOUND else "failed"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def neb_method(self) -> Literal["standard", "climbing_image"]:
        """Method of the band."""
        return "standard" if self.climbing_image is None else "climbing_image"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def forward_barrier(self) -> float | None:
        """Saddle minus initial energy, eV; None for a band that is no barrier."""
        return self.barrier.forward if self.status in SOUND else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def reverse_barrier(self) -> float | None:
        """Saddle minus final energy, eV; None for a band that is no barrier."""
        return self.barrier.reverse if self.status in SOUND else None


@dataclass
class NebMaker(Maker):
    """Optimise a band between two relaxed structures of the same cell.

    Attributes
    ----------
    backend
        Backend to use.
    settings
        How the band is optimised.
    preconverge
        Cheaper backend that optimises the band first, to save calls of `backend`.
    """

    name: str = "neb"
    backend: BackendSpec = field(default_factory=BackendSpec)
    settings: BandSettings = field(default_factory=BandSettings)
    preconverge: BackendSpec | None = None

    @task(output_schema=NebDocument, data=["images", "initial_images"])
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
        path = initial_path(first, last, n_images, waypoint)
        start_path, origin = path, INTERPOLATED
        if self.preconverge is not None:
            start_path, origin = _preconverged(path, self.preconverge, self.settings)
        band = optimise_band(start_path, journaled(backend).evaluate, self.settings)

        def structure_of(positions: NDArray[np.float64]) -> Structure:
            return Structure(initial.lattice, initial.species, positions, coords_are_cartesian=True)

        images = [structure_of(positions) for positions in band.positions]
        energies = band.energies.tolist()
        highest = int(np.argmax(band.energies))
        magmoms = None
        if Capability.MAGMOMS in backend.capabilities:
            (evaluated,) = backend.evaluate([to_atoms(images[highest])], magmoms=True)
            magmoms = None if evaluated.magmoms is None else evaluated.magmoms.tolist()
        problem = _band_problem(images, energies, magmoms)
        status = (
            PathStatus.UNPHYSICAL if problem else band_status(energies, converged=band.converged)
        )
        split = intermediate_minimum(energies) if status is PathStatus.SEVERAL_SADDLES else None
        document = NebDocument(
            status=status,
            problem=problem,
            barrier=band_barrier(
                band.arc_lengths.tolist(),
                energies,
                band.tangential_forces.tolist(),
                band.climbing_image,
            ),
            energies=(band.energies - band.energies[0]).tolist(),
            arc_lengths=band.arc_lengths.tolist(),
            tangential_forces=band.tangential_forces.tolist(),
            saddle=images[highest],
            saddle_magmoms=magmoms,
            intermediate=None if split is None else images[split],
            images=images,
            initial_images=[structure_of(image.positions) for image in start_path],
            n_images=n_images,
            climbing_image=band.climbing_image,
            residual=band.residual,
            fmax=self.settings.fmax,
            n_steps=band.n_steps,
            n_force_calls=band.n_force_calls,
            start=origin,
            history=list(band.history),
            wall_time=perf_counter() - start,
            level_of_theory=backend.level_of_theory,
        )
        return document  # type: ignore[return-value]  # the decorator makes it a job


def _preconverged(
    path: list[Atoms], spec: BackendSpec, settings: BandSettings
) -> tuple[list[Atoms], str]:
    """Band of a cheaper backend between the same end states, and where it comes from.

    It need not converge, since another backend goes on with it; where it is unphysical the path
    itself is returned.
    """
    backend = load_backend(spec)
    band = optimise_band(path, backend.evaluate, settings)
    images = [image.copy() for image in path]
    for image, positions in zip(images, band.positions, strict=True):
        image.positions = positions
    structures: list[Structure] = [AseAtomsAdaptor.get_structure(image) for image in images]
    origin = f"{backend.level_of_theory}, {band.n_force_calls} force calls"
    if problem := _band_problem(structures, band.energies.tolist(), None):
        return path, f"{INTERPOLATED}; the band of {origin}, was left out: {problem}"
    return images, f"band of {origin}"


def _band_problem(
    images: Sequence[Structure], energies: Sequence[float], saddle_magmoms: list[float] | None
) -> str:
    """What is unphysical about a band, first things first; empty if nothing is."""
    problems = (
        f"image {i}, {p}" for i, image in enumerate(images) if (p := distance_problem(image))
    )
    if found := next(problems, "") or energy_problem(energies, len(images[0])):
        return found
    if saddle_magmoms is not None:
        saddle = images[int(np.argmax(energies))]
        if found := moment_problem(saddle, saddle_magmoms):
            return f"saddle: {found}"
    return ""


def _half_way(initial: Structure, final: Structure) -> Atoms:
    """Atoms half way between two structures, each along its shortest displacement."""
    step = final.frac_coords - initial.frac_coords
    step -= np.round(step)
    atoms = to_atoms(initial)
    atoms.positions = initial.lattice.get_cartesian_coords(initial.frac_coords + step / 2)
    return atoms
