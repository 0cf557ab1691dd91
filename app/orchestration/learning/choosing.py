"""Chooses settings from judged questions: which cheap models a cascade asks first, how sure a parallel panel must be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Final

from app.orchestration.evidence.confidence import Calibrators
from app.orchestration.evidence.vote import unanimous
from app.orchestration.evidence.waiting import Arrival, Waited, wait_for
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.observations import Observation

SURE_AT: Final = (0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Cascade:
    """Ask `cheap`; where they all say the same, that is the answer, else `strong` is asked and its answer counts."""

    cheap: tuple[str, ...]
    strong: str


@dataclass(frozen=True, slots=True)
class CascadeOutcome:
    """How a cascade did: the share of right answers, and the share of questions that reached the strong model."""

    accuracy: float
    reached: float


def run_cascade(one: Observation, cascade: Cascade) -> tuple[str | None, bool]:
    """The answer to a question, and whether it reached the strong model."""
    ballots = one.ballots(cascade.cheap)
    if unanimous(ballots, least=len(cascade.cheap)):
        return ballots[0].label, False
    strong = one.answers.get(cascade.strong)
    return (strong.label if strong else None), True


def judge_cascade(observations: Sequence[Observation], cascade: Cascade) -> CascadeOutcome:
    """How `cascade` would have done.

    Raises:
        ValueError: there are no observations.
    """
    if not observations:
        raise ValueError("a cascade is judged on at least one question")
    outcomes = [run_cascade(one, cascade) for one in observations]
    right = sum(one.judged(label) is True for one, (label, _) in zip(observations, outcomes, strict=True))
    return CascadeOutcome(right / len(outcomes), sum(reached for _, reached in outcomes) / len(outcomes))


def choose_cascade(
    observations: Sequence[Observation], *, cheap: Sequence[str], strong: Sequence[str], most_reached: float, size: int = 2
) -> Cascade | None:
    """The most accurate cascade of `size` of the `cheap` models before one of the `strong` that sends at most `most_reached` of
    the questions on; the one that sends fewer, of two. None where all send more."""
    best: tuple[float, float, Cascade] | None = None
    for first in combinations(cheap, size):
        for last in strong:
            cascade = Cascade(first, last)
            found = judge_cascade(observations, cascade)
            if found.reached <= most_reached and (best is None or (found.accuracy, -found.reached) > best[:2]):
                best = (found.accuracy, -found.reached, cascade)
    return best[2] if best else None


@dataclass(frozen=True, slots=True)
class WaitingOutcome:
    """How waiting until `sure_at`, or for `patience_s`, did: mean seconds, the share of right answers, answers waited for."""

    sure_at: float
    patience_s: float | None
    seconds: float
    accuracy: float
    answers: float


def run_waiting(
    one: Observation, weights: PanelWeights, calibrators: Calibrators, sure_at: float, patience_s: float | None = None
) -> Waited:
    """What a panel asked all at once decides on a question; answers whose latency is not known are left out."""
    arrivals = [
        Arrival(ballot, latency) for ballot in one.ballots() if (latency := one.answers[ballot.member].latency_s) is not None
    ]
    return wait_for(arrivals, weights, calibrators, sure_at=sure_at, patience_s=patience_s, category=one.category)


def judge_waiting(
    observations: Sequence[Observation],
    weights: PanelWeights,
    calibrators: Calibrators,
    *,
    levels: Sequence[float] = SURE_AT,
    patiences: Sequence[float | None] = (None,),
) -> tuple[WaitingOutcome, ...]:
    """The trade of time for accuracy: how each level of sureness with each patience would have done.

    Raises:
        ValueError: there are no observations.
    """
    if not observations:
        raise ValueError("waiting is judged on at least one question")
    found: list[WaitingOutcome] = []
    count = len(observations)
    for level, patience in product(levels, patiences):
        waited = [run_waiting(one, weights, calibrators, level, patience) for one in observations]
        right = sum(one.judged(at.decision.winner) is True for one, at in zip(observations, waited, strict=True))
        seconds, answers = sum(at.seconds for at in waited), sum(at.answers for at in waited)
        found.append(WaitingOutcome(level, patience, seconds / count, right / count, answers / count))
    return tuple(found)


def choose_waiting(outcomes: Sequence[WaitingOutcome], *, most_seconds: float) -> WaitingOutcome:
    """The way that was most accurate within `most_seconds` on average; the quickest where none was."""
    within = [one for one in outcomes if one.seconds <= most_seconds]
    if not within:
        return min(outcomes, key=lambda one: one.seconds)
    return max(within, key=lambda one: (one.accuracy, -one.seconds))
