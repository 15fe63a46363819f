"""Metropolis sampling against an exact sum, with relaxed energies replaced by a known model."""

from pathlib import Path

import numpy as np
import pytest
from jobflow import Flow

from lrlo.structures.frame import SiteKind
from lrlo.structures.hops import PathClass, all_hops
from lrlo.structures.layered_oxide import build_pristine
from lrlo.structures.occupation import Occupation
from lrlo.workflows import relax as relax_module
from lrlo.workflows.backend import LevelOfTheory
from lrlo.workflows.evaluation import Evaluation
from lrlo.workflows.local_run import run_flow
from lrlo.workflows.migration import MigrationDocument, MigrationMaker
from lrlo.workflows.relax import RelaxDocument, RelaxMaker
from lrlo.workflows.store import open_store

from .test_barriers import relaxed
from .test_task import Listener

KT = 0.05  # eV
TEMPERATURE = KT / 8.617333262e-5


class SiteEnergyBackend:
    """Energy of a structure is that of the TM-layer site without TM; no forces."""

    level_of_theory = LevelOfTheory(backend="test", model="site energies", version="1")
    capabilities = frozenset()

    def __init__(self, energies: dict[int, float], occupation: Occupation) -> None:
        self._energies = energies
        self._frame = occupation.frame

    def evaluate(self, structures, *, stress=False, magmoms=False):
        results = []
        for atoms in structures:
            frac = atoms.get_scaled_positions()
            tm = frac[[s in ("Mn",) for s in atoms.get_chemical_symbols()]]
            empty = [site for site in self._energies if not self._taken(tm, site)]
            assert len(empty) == 1
            energy = self._energies[empty[0]]
            results.append(Evaluation(energy=energy, forces=np.zeros((len(atoms), 3))))
        return results

    def _taken(self, tm: np.ndarray, site: int) -> bool:
        difference = tm - self._frame.frac_coords[site]
        difference -= np.round(difference)
        return bool(np.linalg.norm(difference @ self._frame.lattice, axis=1).min() < 0.5)


@pytest.fixture(scope="module")
def vacancy() -> Occupation:
    """LiMnO2 without Li and with one Mn gone: a vacancy that wanders over one layer."""
    occupation = build_pristine("LiMnO2", min_atoms=36, max_atoms=36).occupation
    changes: dict[int, str | None] = dict.fromkeys(occupation.sites_of("Li"), None)
    changes[occupation.sites_of("Mn", SiteKind.TM_OCT)[0]] = None
    return occupation.with_species(changes)


def sample(vacancy: Occupation, backend, tmp_path: Path, monkeypatch, **settings):
    monkeypatch.setattr(relax_module, "load_backend", lambda spec: backend)
    start = relaxed(vacancy)
    start = start.model_copy(
        update={
            "structure": vacancy.to_structure(),
            "energy": backend.evaluate([relax_module.to_atoms(vacancy.to_structure())])[0].energy,
        }
    )
    maker = MigrationMaker(relax=RelaxMaker(), movers=("Mn",), **settings)
    job = maker.make(start)
    store = open_store(tmp_path / "store.sqlite")
    report = run_flow(Flow([job]), store, tmp_path, Listener())
    assert report.failures == []
    return MigrationDocument.model_validate(store.get_output(job.uuid, load=True))


def test_chain_visits_states_with_boltzmann_weights(
    vacancy: Occupation, tmp_path: Path, monkeypatch
) -> None:
    sites = [int(s) for s in vacancy.frame.sites(SiteKind.TM_OCT)]
    energies = {site: 0.06 * (i % 3) for i, site in enumerate(sites)}
    backend = SiteEnergyBackend(energies, vacancy)
    document = sample(
        vacancy, backend, tmp_path, monkeypatch, n_steps=120, temperature=TEMPERATURE, seed=5
    )
    assert len(document.moves) == 120
    energy, visited = document.initial_energy, []
    for move in document.moves:
        energy += move.energy_change if move.accepted else 0.0
        visited.append(energy)
    weights = np.exp(-np.array(list(energies.values())) / KT)
    exact = float((weights * list(energies.values())).sum() / weights.sum())
    assert np.mean(visited) == pytest.approx(exact, abs=0.015)
    assert document.current.energy == pytest.approx(energy)


def test_same_seed_same_chain(vacancy: Occupation, tmp_path: Path, monkeypatch) -> None:
    sites = [int(s) for s in vacancy.frame.sites(SiteKind.TM_OCT)]
    backend = SiteEnergyBackend(dict.fromkeys(sites, 0.0), vacancy)
    chains = [
        sample(vacancy, backend, tmp_path / str(i), monkeypatch, n_steps=8, seed=seed)
        for i, seed in enumerate((1, 1, 2))
    ]
    assert chains[0].moves == chains[1].moves
    assert chains[0].moves != chains[2].moves
    assert all(move.accepted for move in chains[0].moves)  # no energy change


def test_no_vacancy_says_so(vacancy: Occupation, tmp_path: Path, monkeypatch) -> None:
    full = vacancy.with_species({vacancy.sites_of(None, SiteKind.TM_OCT)[0]: "Ni"})
    assert all_hops(full, ["Mn"], PathClass.IN_PLANE) == ()
    monkeypatch.setattr(relax_module, "load_backend", lambda spec: None)
    job = MigrationMaker(movers=("Mn",)).make(relaxed(full))
    store = open_store(tmp_path / "store.sqlite")
    run_flow(Flow([job]), store, tmp_path, Listener())
    document = MigrationDocument.model_validate(store.get_output(job.uuid, load=True))
    assert document.moves == []
    assert document.stopped == "no vacancy next to Mn in the TM layers"


def test_trial_off_the_frame_is_rejected(vacancy: Occupation) -> None:
    current, trial = relaxed(vacancy), relaxed(vacancy)
    trial.structure.scale_lattice(2 * trial.structure.volume)
    chain = MigrationDocument(
        temperature=300,
        seed=0,
        n_steps=1,
        moves=[],
        o4_fractions=[0.0],
        initial_energy=0.0,
        current=current,
    )
    hop = all_hops(vacancy, ["Mn"], PathClass.IN_PLANE)[0]
    after = MigrationMaker.advance.original(MigrationMaker(n_steps=1), chain, hop, trial)
    assert after.moves[0].outcome == "off_frame"
    assert not after.moves[0].accepted
    assert after.current == current


def test_trial_that_did_not_converge_is_rejected_and_says_so(vacancy: Occupation) -> None:
    current = relaxed(vacancy)
    hop = all_hops(vacancy, ["Mn"], PathClass.IN_PLANE)[0]
    moved = vacancy.with_species({hop.start: None, hop.end.site: "Mn"})
    trial = relaxed(moved).model_copy(update={"converged": False, "energy": current.energy - 9})
    chain = MigrationDocument(
        temperature=300,
        seed=0,
        n_steps=1,
        moves=[],
        o4_fractions=[0.0],
        initial_energy=0.0,
        current=current,
    )
    advance = MigrationMaker.advance.original
    after = advance(MigrationMaker(n_steps=1), chain, hop, trial)
    assert after.moves[0].outcome == "unconverged"
    assert not after.moves[0].accepted
    assert after.current == current
    converged = trial.model_copy(update={"converged": True})
    kept = advance(MigrationMaker(n_steps=1), chain, hop, converged)
    assert (kept.moves[0].outcome, kept.moves[0].accepted) == ("moved", True)


def test_relax_document_without_frame_has_no_sites(vacancy: Occupation) -> None:
    document: RelaxDocument = relaxed(vacancy).model_copy(update={"frame": None})
    with pytest.raises(ValueError, match="without a frame"):
        _ = document.assignment
