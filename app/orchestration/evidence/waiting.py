"""A panel that was asked all at once: which of its answers to wait for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.confidence import Calibrators, Confidence
from app.orchestration.evidence.stopping import is_decided
from app.orchestration.evidence.vote import Decision, decide
from app.orchestration.evidence.weights import PanelWeights


@dataclass(frozen=True, slots=True)
class Arrival:
    """An answer, and how many seconds after the question it came."""

    ballot: Ballot
    latency_s: float


@dataclass(frozen=True, slots=True)
class Waited:
    """Where the waiting ended: after how many answers and seconds, with what decision."""

    decision: Decision
    confidence: Confidence
    answers: int
    seconds: float


def wait_for(
    arrivals: Sequence[Arrival],
    weights: PanelWeights,
    calibrators: Calibrators,
    *,
    sure_at: float,
    patience_s: float | None = None,
    category: str | None = None,
) -> Waited:
    """What is decided when the answers come as `arrivals` say, one a member.

    The waiting ends with the answer that makes the outcome at least `sure_at` likely, or that no later one can change, with the
    last one, or after `patience_s` when there is a winner by then. Since weights differ by label, an answer that a member gives
    to everything ends nothing.

    Raises:
        ValueError: nothing arrives.
    """
    ordered = sorted(arrivals, key=lambda arrival: arrival.latency_s)
    panel = len(ordered)
    reached: Waited | None = None
    for count, arrival in enumerate(ordered, 1):
        if reached and reached.decision.winner is not None and patience_s is not None and arrival.latency_s > patience_s:
            return Waited(reached.decision, reached.confidence, reached.answers, max(reached.seconds, patience_s))
        ballots = [one.ballot for one in ordered[:count]]
        decision = decide(ballots, weights, category=category)
        reached = Waited(decision, calibrators.confidence(decision, panel, category), count, arrival.latency_s)
        left = {one.ballot.member: 1 for one in ordered[count:]}
        if reached.confidence.probability >= sure_at or is_decided(ballots, decision, left, weights, category=category):
            return reached
    if reached is None:
        raise ValueError("nothing arrives: there is no answer to wait for")
    return reached
