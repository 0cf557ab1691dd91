"""When enough members were asked: nothing further can change the outcome, or hardly. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from app.orchestration.evidence.ballots import Ballot, effective
from app.orchestration.evidence.vote import Decision, decide
from app.orchestration.evidence.weights import PRIOR_RELIABILITY, PanelWeights

StopRule = Literal["never", "decided", "confident"]
CHANGE: Final = 0.02
"""The chance that further answers change the outcome, below which `confident` stops."""
NEW_LABEL: Final = "\0"
"""Stands for any label that nobody gave and the weights do not know."""


def asking_order(members: Sequence[str], weights: PanelWeights, *, category: str | None = None) -> tuple[str, ...]:
    """The members, the one whose word weighs most first: the fewest calls settle a vote in that order."""
    return tuple(sorted(members, key=lambda member: -weights.voice(member, category)))


def enough(
    ballots: Sequence[Ballot],
    remaining: Mapping[str, int],
    weights: PanelWeights,
    *,
    rule: StopRule,
    change: float = CHANGE,
    right: float | None = None,
    category: str | None = None,
) -> bool:
    """Whether to stop asking.

    Args:
        ballots: The answers so far; a call that failed is a ballot without a label here, for it was asked.
        remaining: How many answers each member has still to give.
        weights: What each member's word weighs.
        rule: `never`; `decided`, when no further answers can change the winner, whatever they are; `confident`, also when the
            chance that they would is at most `change`.
        change: That chance, 0 to 1.
        right: How likely the leader is right now, calibrated, where that is known.
        category: The task's.
    """
    left = {member: count for member, count in remaining.items() if count > 0}
    if not left:
        return True
    if rule == "never" or not any(ballot.label is not None for ballot in ballots):
        return False
    decision = decide(ballots, weights, category=category)
    if is_decided(ballots, decision, left, weights, category=category):
        return True
    return rule == "confident" and chance_of_change(decision, left, weights, right=right, category=category) <= change


def is_decided(
    ballots: Sequence[Ballot],
    decision: Decision,
    remaining: Mapping[str, int],
    weights: PanelWeights,
    *,
    category: str | None = None,
) -> bool:
    """Whether no answers of `remaining` can give another winner than `decision`'s: for each rival, and for a label that nobody
    gave yet, everything still to come is counted for it or against the winner, whichever does more harm."""
    leader = decision.winner
    if leader is None:
        return False
    given: dict[str, dict[str, int]] = {}
    asked: dict[str, int] = {}
    for ballot in ballots:
        asked[ballot.member] = asked.get(ballot.member, 0) + 1
        if ballot.label is not None:
            labels = given.setdefault(ballot.member, {})
            labels[ballot.label] = labels.get(ballot.label, 0) + 1
    rivals = {*(standing.label for standing in decision.standings[1:]), *weights.classes, NEW_LABEL} - {leader}
    for rival in rivals:
        lead = weights.bias_of(leader) - weights.bias_of(rival)
        for member in {*asked, *remaining}:
            more = remaining.get(member, 0)
            whole = asked.get(member, 0) + more
            for_leader, for_rival = weights.of(member, leader, category), weights.of(member, rival, category)
            seen = given.get(member, {})
            worst = more * min(0.0, for_leader, -for_rival)
            standing = seen.get(leader, 0) * for_leader - seen.get(rival, 0) * for_rival
            lead += effective(whole) / whole * (standing + worst)
        if lead <= 1e-6:
            return False
    return True


def chance_of_change(
    decision: Decision,
    remaining: Mapping[str, int],
    weights: PanelWeights,
    *,
    right: float | None = None,
    category: str | None = None,
) -> float:
    """About how likely the answers still to come are to give another winner.

    Two cases are weighed by how likely the leader is right: where it is, each member to come says so as often as it is right,
    and half of what it gets wrong falls on one rival; where it is not, they say the rival as often as they are right. So
    members are right or wrong together as they are with the leader. The rival is the one that does most harm, and within a case
    the sum of what is to come is taken as normal. An estimate: it is checked on data, not proven.

    Args:
        right: How likely the leader is right, calibrated; the vote's own probability where that is not known.
    """
    if decision.winner is None:
        return 1.0
    leader = decision.standings[0]
    certain = decision.probability if right is None else right
    rivals = {standing.label: standing.score for standing in decision.standings[1:]}
    rivals |= {label: weights.bias_of(label) for label in (*weights.classes, NEW_LABEL) if label not in (*rivals, leader.label)}

    def overtaken(*, leads_rightly: bool) -> float:
        return max(
            _overturned(
                leader.label, rival, leader.score - score, remaining, weights, leads_rightly=leads_rightly, category=category
            )
            for rival, score in rivals.items()
        )

    return certain * overtaken(leads_rightly=True) + (1 - certain) * overtaken(leads_rightly=False)


def _overturned(
    leader: str,
    rival: str,
    lead: float,
    remaining: Mapping[str, int],
    weights: PanelWeights,
    *,
    leads_rightly: bool,
    category: str | None,
) -> float:
    """How likely `rival` overtakes `leader`, who is `lead` before it, where the leader is right, or where the rival is."""
    mean, variance = lead, 0.0
    for member, count in remaining.items():
        skill = weights.reliability.get(member, PRIOR_RELIABILITY)
        for_leader, for_rival = (skill, (1 - skill) / 2) if leads_rightly else ((1 - skill) / 2, skill)
        voice = effective(count)
        gain, loss = voice * weights.of(member, leader, category), voice * weights.of(member, rival, category)
        expected = for_leader * gain - for_rival * loss
        mean += expected
        variance += for_leader * gain**2 + for_rival * loss**2 - expected**2
    if variance <= 1e-12:
        return 0.0 if mean > 0 else 1.0
    return 0.5 * math.erfc(mean / math.sqrt(2 * variance))
