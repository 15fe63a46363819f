"""NEB tasks: what a document says of its band."""

import numpy as np
import pytest
from ase import Atoms
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from lrlo.analysis.barrier import PathStatus
from lrlo.workflows import neb
from lrlo.workflows.backend import BackendSpec
from lrlo.workflows.band import BandSettings
from lrlo.workflows.neb import NebDocument, NebMaker

EMT = BackendSpec(name="ase", calculator="ase.calculators.emt:EMT")


def ends(band: list[Atoms]) -> tuple[Structure, Structure, int]:
    """End states of a band and the atom that moves."""
    first, last = (AseAtomsAdaptor.get_structure(band[i]) for i in (0, -1))
    steps = np.linalg.norm(band[-1].positions - band[0].positions, axis=1)
    return first, last, int(steps.argmax())


def document(initial: Structure, final: Structure, mover: int, **settings: object) -> NebDocument:
    maker = NebMaker(backend=EMT, settings=BandSettings(n_images=3, **settings))
    return NebMaker.make.original(maker, initial, final, mover)


def test_document_of_a_band(copper: list[Atoms]) -> None:
    found = document(*ends(copper), fmax=0.03)
    assert found.status is PathStatus.CONVERGED
    assert found.problem == ""
    assert (found.state, found.neb_method) == ("successful", "climbing_image")
    assert 0.5 < found.barrier.forward < 1.0  # physical: experiment 0.7 eV
    assert found.forward_barrier == found.barrier.forward
    assert found.reverse_barrier == pytest.approx(found.forward_barrier, abs=0.01)
    assert len(found.images) == len(found.initial_images) == 5
    assert found.saddle == found.images[2]
    assert found.saddle_magmoms is None  # EMT has none
    kept = NebDocument.model_validate(found.model_dump())
    assert kept.forward_barrier == found.forward_barrier


def test_names_are_those_of_emmet(copper: list[Atoms]) -> None:
    emmet = pytest.importorskip("emmet.core.neb", reason="emmet-core comes with lrlo[vasp]")
    found = document(*ends(copper))
    shared = set(found.model_dump()) & set(emmet.NebResult.model_fields)
    assert shared >= {
        *("images", "initial_images", "energies", "state", "neb_method"),
        *("forward_barrier", "reverse_barrier"),
    }
    theirs = emmet.NebResult(**{name: getattr(found, name) for name in shared})
    assert theirs.num_images == 5
    assert theirs.barrier_energy_range == pytest.approx(found.barrier.max_minus_min)


def test_band_in_reverse_has_the_barriers_exchanged(copper: list[Atoms]) -> None:
    first, last, mover = ends(copper)
    uphill = last.copy()
    uphill.perturb(0.02, seed=1)  # not the same energy as the first
    there, back = document(first, uphill, mover), document(uphill, first, mover)
    assert there.barrier.reaction_energy > 0.01
    assert there.barrier.forward == pytest.approx(back.barrier.reverse, abs=0.005)
    assert there.barrier.reverse == pytest.approx(back.barrier.forward, abs=0.005)


def test_barrier_without_climbing_lies_on_the_curve(copper: list[Atoms]) -> None:
    """Four images of a symmetric path: none at the saddle, which the curve finds."""
    first, last, mover = ends(copper)
    climbing = document(first, last, mover, fmax=0.02)
    maker = NebMaker(backend=EMT, settings=BandSettings(n_images=4, climb=False, fmax=0.02))
    standard = NebMaker.make.original(maker, first, last, mover)
    assert standard.neb_method == "standard"
    highest = max(standard.energies)
    assert highest < climbing.barrier.forward - 0.03
    assert standard.barrier.forward == pytest.approx(climbing.barrier.forward, abs=0.015)


def test_unphysical_band_is_no_barrier(
    copper: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neb, "energy_problem", lambda energies, n_atoms: "a hole: image 1")
    found = document(*ends(copper))
    assert found.status is PathStatus.UNPHYSICAL
    assert found.problem == "a hole: image 1"
    assert (found.state, found.forward_barrier, found.reverse_barrier) == ("failed", None, None)


def test_collapsed_image_and_impossible_moment_are_named(copper: list[Atoms]) -> None:
    images = [AseAtomsAdaptor.get_structure(image) for image in copper]
    energies = [0.0, 0.3, 0.4, 0.5, 0.3, 0.2, 0.0]
    assert neb._band_problem(images, energies, None) == ""
    wrong = [0.0] * len(images[0])
    wrong[4] = 7.0
    assert neb._band_problem(images, energies, wrong).startswith("saddle: Cu 4 has a moment of 7.0")
    images[2].translate_sites([0], images[2].frac_coords[1] - images[2].frac_coords[0] + 0.01)
    assert neb._band_problem(images, energies, None).startswith("image 2, collapsed: Cu 0 and Cu 1")


def preconverged(copper: list[Atoms], **kwargs: float) -> NebDocument:
    """Band that Lennard-Jones copper has optimised first."""
    cheap = BackendSpec(name="ase", calculator="ase.calculators.lj:LennardJones", kwargs=kwargs)
    maker = NebMaker(backend=EMT, settings=BandSettings(n_images=5), preconverge=cheap)
    return NebMaker.make.original(maker, *ends(copper))


def test_a_cheaper_backend_first_saves_calls(copper: list[Atoms]) -> None:
    """EMT copper after Lennard-Jones copper: the same barrier for fewer calls."""
    maker = NebMaker(backend=EMT, settings=BandSettings(n_images=5))
    plain = NebMaker.make.original(maker, *ends(copper))
    found = preconverged(copper, sigma=2.33, epsilon=0.35, rc=6.0, smooth=True)
    assert plain.start == "interpolated path (IDPP)"
    assert found.start.startswith("band of ase.calculators.lj:LennardJones")
    assert found.start.endswith("force calls")
    assert found.status is PathStatus.CONVERGED
    assert found.barrier.forward == pytest.approx(plain.barrier.forward, abs=0.005)
    assert found.n_force_calls < plain.n_force_calls


def test_an_unphysical_band_of_the_cheaper_backend_is_left_out(copper: list[Atoms]) -> None:
    """Atoms far larger than copper's: images are pushed high above the end states."""
    found = preconverged(copper, sigma=6.0, epsilon=50.0, rc=12.0)
    assert "was left out: image" in found.start
    assert found.status is PathStatus.CONVERGED
