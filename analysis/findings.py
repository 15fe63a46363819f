"""Findings of a study in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ase.units import kB

from .barrier import PathStatus
from .documents import BarrierDocument, StateDocument
from .presentation import by_replicate, counted, percent, status_name

#: Barriers and fractions closer than this count as equal, eV and share.
EQUAL_BARRIER, EQUAL_FRACTION = 0.01, 1e-6
QUESTIONS = (
    "O4/(O4+O5) by state",
    "Does O4/(O4+O5) fall with voltage?",
    "Does it recover on discharge?",
    "Does the lowest converged Mn in-plane barrier fall between the charged states?",
)


@dataclass(frozen=True)
class Finding:
    """A question of the study with what was found.

    Attributes
    ----------
    question
        The question.
    answers
        Sentences, at least one per replicate.
    """

    question: str
    answers: list[str]


def findings(states: Sequence[StateDocument], barriers: Sequence[BarrierDocument]) -> list[Finding]:
    """What the study found, in words and as found.

    Parameters
    ----------
    states, barriers
        Results; either may be empty.
    """
    replicates = by_replicate(states)
    answers: dict[str, list[str]] = {question: [] for question in QUESTIONS}
    for replicate, members in replicates.items():
        own = [b for b in barriers if (b.context.study_key, b.context.replicate) == replicate]
        found = (
            fractions_by_state(members),
            fraction_trend(members),
            fraction_recovery(members),
            barrier_trend(members, own),
        )
        head = f"{_capital(replicate[1])}: " if len(replicates) > 1 else ""
        for question, sentences in zip(QUESTIONS, found, strict=True):
            answers[question] += [head + sentence for sentence in sentences]
    for variant in dict.fromkeys(s.context.variant for s in states):
        members = [s for s in states if s.context.variant == variant]
        if len(by_replicate(members)) > 1:
            head = f"{_capital(variant)}, mean" if variant else "Mean"
            answers[QUESTIONS[0]].append(f"{head}: {mean_fractions(members)}.")
    nothing = ["Cannot be said: no state has been computed."]
    return [Finding(question, sentences or nothing) for question, sentences in answers.items()]


def charge_series(states: Sequence[StateDocument]) -> list[StateDocument]:
    """States taken from the pristine host, in the order of charging (rising voltage).

    Parameters
    ----------
    states
        States of one replicate.
    """
    return sorted(
        (s for s in states if s.after is None), key=lambda s: (-s.li_content, s.voltage or 0.0)
    )


def same_cell(first: StateDocument, second: StateDocument) -> bool:
    """Whether two states are one and the same relaxed cell.

    Parameters
    ----------
    first, second
        States to compare.
    """
    return first.energy == second.energy and first.structure == second.structure


def fractions_by_state(states: Sequence[StateDocument]) -> list[str]:
    """O4/(O4+O5) of every state of one replicate, and how many TM moves led there.

    Parameters
    ----------
    states
        States of one replicate.
    """
    parts = [f"{s.label} {percent(s.coordination.o4_fraction)}" for s in states]
    moves = [move for s in states for move in s.moves]
    accepted = sum(move.accepted for move in moves)
    summary = (
        f"{', '.join(parts)}. {accepted} of {counted(len(moves), 'TM move')} tried were accepted."
    )
    return [summary, *(sentence for s in states if (sentence := cost_of_moving(s)))]


def cost_of_moving(state: StateDocument) -> str:
    """Why TM moved or stayed in a charged state, in one sentence; empty if not sampled.

    Parameters
    ----------
    state
        State whose Metropolis chain is described.
    """
    if state.temperature is None:
        return ""
    if not state.moves:
        return f"{state.label}: no TM could move ({state.migration_stopped})."
    failed = {
        "did not converge": sum(move.outcome == "unconverged" for move in state.moves),
        "left the frame": sum(move.outcome == "off_frame" for move in state.moves),
        "went back": sum(move.outcome == "returned" for move in state.moves),
    }
    n_failed = sum(failed.values())
    remark = ", ".join(f"{n} {what}" for what, n in failed.items() if n)
    # The energies of the others are of no minimum, of another frame, or of no move.
    relaxed = [move for move in state.moves if move.outcome in ("moved", "rearranged")]
    if not relaxed:
        return (
            f"{state.label}: none of {counted(n_failed, 'move')} tried has an energy to compare "
            f"({remark}; all rejected)."
        )
    cheapest = min(relaxed, key=lambda move: move.energy_change)
    tried = f"{counted(len(state.moves), 'move')} tried"
    if n_failed:
        tried = f"{counted(len(relaxed), 'move')} that relaxed"
        remark = (
            f" Of {counted(len(state.moves), 'move')} tried, {remark}: rejected, and not compared."
        )
    return (
        f"{state.label}: the least costly of {tried} ({cheapest.mover}, "
        f"site {cheapest.start} to {cheapest.end}) changes the relaxed energy by "
        f"{cheapest.energy_change:+.2f} eV, "
        f"{cheapest.energy_change / (kB * state.temperature):.1f} kT at {state.temperature:g} K."
        f"{remark}"
    )


def mean_fractions(states: Sequence[StateDocument]) -> str:
    """Mean O4/(O4+O5) over the replicates of every state, in words.

    Parameters
    ----------
    states
        States of all replicates of a variant.
    """
    parts = []
    for label in dict.fromkeys(s.label for s in states):
        found = [s.coordination.o4_fraction for s in states if s.label == label]
        known = [fraction for fraction in found if fraction is not None]
        mean = sum(known) / len(known) if known else None
        parts.append(f"{label} {percent(mean)} (n = {len(known)})")
    return ", ".join(parts)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def fraction_trend(states: Sequence[StateDocument]) -> list[str]:
    """Whether O4/(O4+O5) falls along the charge of one replicate.

    Parameters
    ----------
    states
        States of one replicate.
    """
    series = charge_series(states)
    known = [s for s in series if s.coordination.o4_fraction is not None]
    distinct = [s for i, s in enumerate(known) if not any(same_cell(s, t) for t in known[:i])]
    remarks = [_same_cell_remark(a, b) for a, b in pairwise(series) if same_cell(a, b)]
    if len(distinct) < 2:
        reason = f"fewer than two different charge states with O4 or O5 ({len(distinct)})"
        return [" ".join([f"Cannot be said: {reason}.", *remarks])]
    values = [s.coordination.o4_fraction or 0.0 for s in distinct]
    course = " → ".join(f"{percent(v)} ({s.label})" for v, s in zip(values, distinct, strict=True))
    changes = [b - a for a, b in pairwise(values)]
    if all(abs(change) <= EQUAL_FRACTION for change in changes):
        verdict = "No, it stays the same"
    elif all(change < -EQUAL_FRACTION for change in changes):
        verdict = "Yes, it falls"
    elif all(change <= EQUAL_FRACTION for change in changes):
        verdict = "In part, it falls or stays the same"
    elif all(change >= -EQUAL_FRACTION for change in changes):
        verdict = "No, it rises"
    else:
        verdict = "Not steadily"
    return [" ".join([f"{verdict}: {course}.", *remarks])]


def fraction_recovery(states: Sequence[StateDocument]) -> list[str]:
    """Whether O4/(O4+O5) comes back where Li was put back, for one replicate.

    Parameters
    ----------
    states
        States of one replicate.
    """
    series = charge_series(states)
    answers = []
    for state in states:
        origin = next((s for s in states if s.label == state.after), None)
        if origin is None or state.li_content <= origin.li_content:
            continue
        now, then = state.coordination.o4_fraction, origin.coordination.o4_fraction
        start = series[0].coordination.o4_fraction if series and series[0] is not origin else None
        if now is None or then is None or start is None:
            answers.append(f"Cannot be said for {state.label}: no O4 or O5 to compare.")
            continue
        if then >= start - EQUAL_FRACTION and now >= then - EQUAL_FRACTION:
            verdict = f"There was nothing to recover at {origin.label}"
        elif now < then - EQUAL_FRACTION:
            verdict = "No, it falls further"
        elif now <= then + EQUAL_FRACTION:
            verdict = "No, it stays down"
        else:
            verdict = "Yes, fully" if now >= start - EQUAL_FRACTION else "Only in part"
        course = (
            f"{percent(start)} ({series[0].label}), {percent(then)} ({origin.label}), "
            f"{percent(now)} ({state.label})"
        )
        sampled = "" if state.moves else " No TM moves were tried on discharge."
        answers.append(f"{verdict}: {course}.{sampled}")
    return answers or ["Cannot be said: no state was discharged from another one."]


def barrier_trend(
    states: Sequence[StateDocument], barriers: Sequence[BarrierDocument]
) -> list[str]:
    """How the lowest converged Mn in-plane barrier changes along the charge of one replicate.

    Parameters
    ----------
    states, barriers
        Results of one replicate.
    """
    hops: dict[str, list[BarrierDocument]] = {}
    for barrier in barriers:
        if barrier.path_class == "in_plane" and (not barrier.hop or barrier.hop.mover == "Mn"):
            hops.setdefault(barrier.state, []).append(barrier)
    series = [s for s in charge_series(states) if s.label in hops]
    if len(series) < 2:
        return [
            "Cannot be said: Mn in-plane hops were looked for in "
            f"{len(series) or 'no'} charged state{'' if len(series) == 1 else 's'}; "
            "a comparison needs two."
        ]
    return [_barrier_pair(a, b, hops) for a, b in pairwise(series)]


def _barrier_pair(
    first: StateDocument, second: StateDocument, hops: dict[str, list[BarrierDocument]]
) -> str:
    if same_cell(first, second):
        return f"Cannot be said. {_same_cell_remark(first, second)}"
    low, high = (_lowest_converged(hops[state.label]) for state in (first, second))
    if low is None or high is None:
        parts = [
            f"{state.label} has no converged Mn in-plane barrier ({_outcomes(hops[state.label])})"
            if value is None
            else f"the lowest at {state.label} is {value:.2f} eV"
            for state, value in ((first, low), (second, high))
        ]
        return f"Cannot be said from {first.label} to {second.label}: {'; '.join(parts)}."
    if abs(high - low) <= EQUAL_BARRIER:
        verdict = f"No, unchanged within {EQUAL_BARRIER:g} eV"
    else:
        verdict = "Yes, it falls" if high < low else "No, it rises"
    return f"{verdict}: {low:.2f} eV ({first.label}) → {high:.2f} eV ({second.label})."


def _lowest_converged(hops: Sequence[BarrierDocument]) -> float | None:
    converged = (b.barrier for b in hops if b.status is PathStatus.CONVERGED)
    return min((barrier.forward for barrier in converged if barrier), default=None)


def _outcomes(hops: Sequence[BarrierDocument]) -> str:
    """What became of the hops, with the reason where there was no candidate."""
    return ", ".join(
        sorted({status_name(b) if b.hop else f"{status_name(b)}: {b.detail}" for b in hops})
    )


def _same_cell_remark(first: StateDocument, second: StateDocument) -> str:
    why = "" if None in (first.voltage, second.voltage) else ", the content for both voltages"
    return (
        f"{first.label} and {second.label} are the same cell ({first.li_content:.2f} Li per f.u."
        f"{why}), so comparing them says nothing."
    )
