"""The vote over labels: scores, probabilities, the winner, what was said against it, and when there is none. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.orchestration.evidence.ballots import Ballot, masses, supporters
from app.orchestration.evidence.weights import PanelWeights


@dataclass(frozen=True, slots=True)
class Standing:
    """One label: its score, its `probability` of being right under the weights, its share of the votes, and whose they are."""

    label: str
    score: float
    probability: float
    share: float
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of a vote, the best label first.

    `agreement` is the winner's share of the readable votes, one a member; `present` are the members that answered, readably or
    not. `probability` is the winner's under the weights, not yet calibrated.
    """

    standings: tuple[Standing, ...]
    present: tuple[str, ...]
    none_probability: float

    @property
    def winner(self) -> str | None:
        return self.standings[0].label if self.standings else None

    @property
    def probability(self) -> float:
        return self.standings[0].probability if self.standings else 0.0

    @property
    def agreement(self) -> float:
        return self.standings[0].share if self.standings else 0.0

    @property
    def margin(self) -> float:
        """How far the winner's score is before the next one's, or before a label that nobody gave."""
        if not self.standings:
            return 0.0
        return self.standings[0].score - (self.standings[1].score if len(self.standings) > 1 else 0.0)


def decide(
    ballots: Sequence[Ballot],
    weights: PanelWeights,
    *,
    category: str | None = None,
    by_stated: bool = False,
) -> Decision:
    """The vote of `ballots` under `weights`.

    Ties go to the label with more votes, then to the one whose members are more reliable together, then to the one whose first
    ballot came first, so that the outcome does not depend on anything else. With no readable ballot there is no winner.

    Args:
        ballots: The answers, one a replicate, in the panel's order. Failed calls are left out.
        weights: What each member's word weighs.
        category: The task's, where the weights know it.
        by_stated: Whether an answer's own confidence counts, see `masses`.
    """
    given = masses(ballots, by_stated=by_stated)
    scores: dict[str, float] = {}
    votes: dict[str, float] = {}
    for member, labels in given.items():
        total = sum(labels.values())
        for label, mass in labels.items():
            if label not in scores:
                scores[label], votes[label] = weights.bias_of(label), 0.0
            scores[label] += mass * weights.of(member, label, category)
            votes[label] += mass / total
    none = weights.none_score(given)
    highest = max([none, *scores.values()])
    none_odds = math.exp(none - highest)
    odds = {label: math.exp(score - highest) for label, score in scores.items()}
    whole = none_odds + sum(odds.values())
    cast = sum(votes.values())
    who = supporters(ballots)
    known = {label: sum(weights.reliability.get(member, 0.0) for member in members) for label, members in who.items()}
    order = sorted(who, key=lambda label: (-round(scores[label], 9), -round(votes[label], 9), -round(known[label], 9)))
    return Decision(
        tuple(Standing(label, scores[label], odds[label] / whole, votes[label] / cast, who[label]) for label in order),
        tuple(given),
        none_odds / whole,
    )


def judged_by(found: Decision, known: Decision) -> Decision:
    """`found`, with the probabilities that its labels have in `known`: the vote of the same ballots under weights that were
    learned. Those say how likely a label is right, whatever weights decided which one wins."""
    likely = {standing.label: standing.probability for standing in known.standings}
    standings = tuple(replace(standing, probability=likely[standing.label]) for standing in found.standings)
    return replace(found, standings=standings, none_probability=known.none_probability)


def led_by(decision: Decision, label: str) -> Decision:
    """`decision` with `label` as what won, whatever came of the votes: a median, or what a judge chose.

    A label that nobody gave has no share, and is as likely as that none of the given ones is right.
    """
    named = [standing for standing in decision.standings if standing.label == label]
    first = named[0] if named else Standing(label, 0.0, decision.none_probability, 0.0, ())
    return replace(decision, standings=(first, *(one for one in decision.standings if one.label != label)))


def unanimous(ballots: Sequence[Ballot], *, least: int = 2) -> bool:
    """Whether at least `least` members answered, all readably, and all the same: the check of a cascade."""
    labels = {ballot.label for ballot in ballots}
    return len({ballot.member for ballot in ballots}) >= least and len(labels) == 1 and None not in labels
