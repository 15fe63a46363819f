"""Findings say what the documents say, and when nothing can be said."""

import pytest

from lrlo.analysis.barrier import PathStatus
from lrlo.analysis.documents import BarrierDocument
from lrlo.analysis.findings import (
    barrier_trend,
    cost_of_moving,
    findings,
    fraction_recovery,
    fraction_trend,
)

from .documents import CONTEXT, barrier_of, migrated_state, study


@pytest.mark.parametrize(
    ("fractions", "verdict"),
    [
        ((1.0, 0.9, 0.8), "Yes, it falls: 100 % (pristine) → 90 % (4.5 V) → 80 % (4.8 V)."),
        ((1.0, 1.0, 1.0), "No, it stays the same"),
        ((1.0, 0.9, 0.9), "In part, it falls or stays the same"),
        ((0.8, 0.8, 0.9), "No, it rises"),
        ((1.0, 0.8, 0.9), "Not steadily"),
        ((1.0,), "Cannot be said"),
        ((None, None, 1.0), "Cannot be said"),
    ],
)
def test_trend_with_voltage(fractions: tuple, verdict: str) -> None:
    assert fraction_trend(study(*fractions))[0].startswith(verdict)


@pytest.mark.parametrize(
    ("fractions", "verdict"),
    [
        ((1.0, 0.9, 0.8, 0.8), "No, it stays down: 100 % (pristine), 80 % (4.8 V), 80 % (2.0 V)"),
        ((1.0, 0.9, 0.8, 0.7), "No, it falls further"),
        ((1.0, 0.9, 0.8, 0.9), "Only in part"),
        ((1.0, 0.9, 0.8, 1.0), "Yes, fully"),
        ((1.0, 1.0, 1.0, 1.0), "There was nothing to recover at 4.8 V"),
        ((1.0, 0.9, 0.8), "Cannot be said"),
        ((1.0, 0.9, None, 0.9), "Cannot be said"),
    ],
)
def test_recovery(fractions: tuple, verdict: str) -> None:
    answer = fraction_recovery(study(*fractions))[0]
    assert answer.startswith(verdict)
    assert ("No TM moves were tried on discharge" in answer) == (not verdict.startswith("Cannot"))


def at(state: str, status: PathStatus | None, forward: float = 1.0) -> BarrierDocument:
    return barrier_of(status, forward, state=state)


@pytest.mark.parametrize(
    ("later", "verdict"),
    [
        (at("4.8 V", PathStatus.CONVERGED, 0.6), "Yes, it falls: 0.80 eV (4.5 V) → 0.60 eV"),
        (at("4.8 V", PathStatus.CONVERGED, 0.9), "No, it rises: 0.80 eV"),
        (at("4.8 V", PathStatus.CONVERGED, 0.805), "No, unchanged within 0.01 eV"),
        (at("4.8 V", PathStatus.UNCONVERGED, 0.6), "Cannot be said from 4.5 V to 4.8 V"),
        (at("4.8 V", PathStatus.NO_INTERIOR_SADDLE, 0.6), "Cannot be said from 4.5 V to 4.8 V"),
        (at("4.5 V", PathStatus.CONVERGED, 0.9), "Cannot be said: Mn in-plane hops were"),
    ],
)
def test_barrier_trend(later: BarrierDocument, verdict: str) -> None:
    first = [at("4.5 V", PathStatus.CONVERGED, 0.9), at("4.5 V", PathStatus.CONVERGED, 0.8)]
    answers = barrier_trend(study(1.0, 0.9, 0.8), [*first, later])
    assert len(answers) == 1
    assert answers[0].startswith(verdict)


def test_one_cell_under_two_voltages_is_not_compared() -> None:
    states = study(1.0, 0.9, 0.8)
    same = {name: getattr(states[1], name) for name in ("li_content", "energy", "structure")}
    states[2] = states[2].model_copy(update=same)
    hops = [at("4.5 V", PathStatus.CONVERGED, 0.9), at("4.8 V", PathStatus.CONVERGED, 0.6)]
    assert "are the same cell" in barrier_trend(states, hops)[0]
    assert "are the same cell" in fraction_trend(states)[0]


def test_replicates_are_told_apart() -> None:
    other = CONTEXT.model_copy(update={"seed": 11})
    states = [*study(1.0, 0.9), *(s.model_copy(update={"context": other}) for s in study(0.9, 1.0))]
    trend = findings(states, [])[1].answers
    assert findings(states, [])[0].answers[-1] == (
        "Mean: pristine 95 % (n = 2), 4.5 V 95 % (n = 2)."
    )
    assert [answer.split(",")[0] for answer in trend] == ["Seed 3: Yes", "Seed 11: No"]


def test_both_sides_of_a_missing_comparison_are_told() -> None:
    none = barrier_of(None, state="4.5 V", detail="no vacancy on tm_oct")
    later = [at("4.8 V", PathStatus.CONVERGED, 2.1), at("4.8 V", PathStatus.CONVERGED, 2.0)]
    assert barrier_trend(study(1.0, 0.9, 0.8), [none, *later]) == [
        "Cannot be said from 4.5 V to 4.8 V: 4.5 V has no converged Mn in-plane barrier "
        "(no candidate: no vacancy on tm_oct); the lowest at 4.8 V is 2.00 eV."
    ]


def test_recovery_needs_the_charge_it_is_measured_against() -> None:
    _, _, charged, discharged = study(1.0, 0.9, 0.8, 0.9)
    part = [charged.model_copy(update={"after": "4.5 V"}), discharged]
    assert fraction_recovery(part)[0].startswith("Cannot be said for 2.0 V")


def test_moves_without_an_energy_are_counted_and_not_compared() -> None:
    state = migrated_state()
    (move,) = state.moves
    failed = [
        move.model_copy(update={"outcome": outcome, "energy_change": -5.0, "accepted": False})
        for outcome in ("unconverged", "unconverged", "off_frame", "returned")
    ]
    assert cost_of_moving(state).startswith("4.8 V: the least costly of 1 move tried (Mn")
    answer = cost_of_moving(state.model_copy(update={"moves": [move, *failed]}))
    assert "least costly of 1 move that relaxed" in answer
    assert "-0.10 eV" in answer
    assert answer.endswith(
        "Of 5 moves tried, 2 did not converge, 1 left the frame, 1 went back: rejected, and not "
        "compared."
    )
    assert cost_of_moving(state.model_copy(update={"moves": failed})) == (
        "4.8 V: none of 4 moves tried has an energy to compare (2 did not converge, 1 left the "
        "frame, 1 went back; all rejected)."
    )
