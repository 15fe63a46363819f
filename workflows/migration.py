"""Metropolis sampling of TM moves into vacancies of their sublattice, with relaxed energies."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from ase.units import kB
from jobflow import Flow, Job, Maker, Response
from pydantic import BaseModel

from ..analysis.coordination import summarise_coordination
from ..analysis.documents import MoveOutcome, TmMove
from ..structures.assignment import assign
from ..structures.hops import Hop, all_hops, hop_images, sharing_class
from ..structures.occupation import Occupation, is_transition_metal
from .relax import RelaxDocument, RelaxMaker
from .task import step


class MigrationDocument(BaseModel):
    """A Metropolis chain.

    Attributes
    ----------
    temperature
        Temperature of the acceptance, K.
    seed
        Seed of proposals and acceptance.
    n_steps
        Steps asked for.
    moves
        Steps made.
    o4_fractions
        O4/(O4+O5) at the start and after every step.
    initial_energy
        Energy before the first move, eV.
    current
        Structure at the end of the chain.
    stopped
        Why the chain ended.
    """

    kind: Literal["migration"] = "migration"

    temperature: float
    seed: int
    n_steps: int
    moves: list[TmMove]
    o4_fractions: list[float | None]
    initial_energy: float
    current: RelaxDocument
    stopped: str = ""

    @property
    def n_accepted(self) -> int:
        """Moves that were kept."""
        return sum(move.accepted for move in self.moves)


@dataclass
class MigrationMaker(Maker):
    """Sample TM moves into vacancies of their own layer, or of their own sublattice without layers.

    A step proposes one of the possible first-neighbour moves, relaxes it in the fixed cell and
    keeps it with the probability ``min(1, n_before / n_after exp(-dE / kT))`` of Metropolis and
    Hastings, n being the numbers of possible moves. Nothing is assumed about the answer.

    Attributes
    ----------
    relax
        Maker that relaxes trial structures.
    n_steps, temperature, movers, seed
        See :class:`lrlo.workflows.study.MigrationSettings`.
    """

    name: str = "migration"
    relax: RelaxMaker = field(default_factory=RelaxMaker)
    n_steps: int = 40
    temperature: float = 300.0
    movers: tuple[str, ...] = ("Mn",)
    seed: int = 0

    @step()
    def make(self, charged: RelaxDocument) -> Job:
        """Start a chain at a relaxed charged structure."""
        chain = MigrationDocument(
            temperature=self.temperature,
            seed=self.seed,
            n_steps=self.n_steps,
            moves=[],
            o4_fractions=[summarise_coordination(charged.occupation).o4_fraction],
            initial_energy=charged.energy,
            current=charged,
        )
        return self._propose(chain)

    @step()
    def advance(self, chain: MigrationDocument, hop: Hop, trial: RelaxDocument) -> Job:
        """Accept or reject a relaxed trial and propose the next one."""
        before = chain.current.occupation
        change = trial.energy - chain.current.energy
        number = len(chain.moves) + 1
        drawn = np.random.default_rng([self.seed, number, 1]).random()
        outcome: MoveOutcome = "off_frame"
        accepted = False
        if trial.is_on_frame:
            after = trial.occupation
            outcome = _outcome(before, after, hop) if trial.converged else "unconverged"
            n_before, n_after = len(self._moves(before)), max(len(self._moves(after)), 1)
            chance = n_before / n_after * np.exp(min(-change / (kB * self.temperature), 50.0))
            possible = outcome in ("moved", "rearranged")
            accepted = possible and bool(drawn < chance)
        move = TmMove(
            step=number,
            mover=hop.mover,
            start=hop.start,
            end=hop.end.site,
            energy_change=change,
            accepted=accepted,
            outcome=outcome,
        )
        current = trial if accepted else chain.current
        fraction = summarise_coordination(current.occupation).o4_fraction
        return self._propose(
            chain.model_copy(
                update={
                    "moves": [*chain.moves, move],
                    "o4_fractions": [*chain.o4_fractions, fraction],
                    "current": current,
                }
            )
        )

    def _moves(self, occupation: Occupation) -> list[Hop]:
        """One hop for every TM and every vacancy of its sublattice next to it."""
        pairs: dict[tuple[int, int], Hop] = {}
        for hop in all_hops(occupation, self.movers, sharing_class(occupation.frame)):
            pairs.setdefault((hop.start, hop.end.site), hop)
        return [pairs[key] for key in sorted(pairs)]

    def _propose(self, chain: MigrationDocument):  # type: ignore[no-untyped-def]
        if len(chain.moves) >= self.n_steps:
            return chain.model_copy(update={"stopped": "all steps made"})
        structure, frame = chain.current.structure, chain.current.frame
        assert frame is not None  # charged structures come from a frame
        assignment = assign(structure, frame)
        moves = self._moves(assignment.occupation)
        if not moves:
            place = "in the TM layers" if frame.n_layers else "to move to"
            reason = f"no vacancy next to {' or '.join(self.movers)} {place}"
            return chain.model_copy(update={"stopped": reason})
        number = len(chain.moves) + 1
        hop = moves[int(np.random.default_rng([self.seed, number, 0]).integers(len(moves)))]
        trial = self.relax.make(hop_images(structure, assignment, hop)[-1], frame)
        trial.name = f"TM move {number} of {self.n_steps}: {hop.label}"
        following = self.advance(chain, hop, trial.output)
        return Response(replace=Flow([trial, following], output=following.output))


def _outcome(before: Occupation, after: Occupation, hop: Hop) -> MoveOutcome:
    def tm_sites(occupation: Occupation) -> dict[int, str]:
        return {
            site: species
            for site, species in enumerate(occupation.species)
            if species is not None and is_transition_metal(species)
        }

    now = tm_sites(after)
    if now == tm_sites(before):
        return "returned"
    moved = tm_sites(before.with_species({hop.start: None, hop.end.site: hop.mover}))
    return "moved" if now == moved else "rearranged"
