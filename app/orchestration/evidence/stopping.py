"""When enough members were asked: nothing further can change the outcome, or hardly. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from app.orchestration.evidence.ballots import STATED_RANGE, Ballot, effective, stated_bounds
from app.orchestration.evidence.vote import Decision, decide
from app.orchestration.evidence.weights import PRIOR_RELIABILITY, PanelWeights

StopRule = Literal["never", "decided", "confident"]
CHANGE: Final = 0.02
"""The chance that further answers change the outcome, below which `confident` stops."""
NEW_LABEL: Final = "\0"
"""Stands for any label that nobody gave and the weights do not know."""
LEAST_LEAD: Final = 1e-6
"""Leads below this may be rounding."""


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
    by_stated: bool = False,
) -> bool:
    """Whether to stop asking.

    Args:
        ballots: The answers so far, as `decide` takes them: calls that failed are left out.
        remaining: How many answers each member has still to give; any of them may fail, or say nothing readable.
        weights: What each member's word weighs.
        rule: `never`; `decided`, when no further answers can change the winner, whatever they are; `confident`, also when the
            chance that they would is at most `change`.
        change: That chance, 0 to 1.
        right: How likely the leader is right now, calibrated, where that is known.
        category: The task's.
        by_stated: Whether an answer's own confidence counts, see `ballots.masses`.
    """
    left = {member: count for member, count in remaining.items() if count > 0}
    if not left:
        return True
    if rule == "never" or not any(ballot.label is not None for ballot in ballots):
        return False
    decision = decide(ballots, weights, category=category, by_stated=by_stated)
    if is_decided(ballots, decision, left, weights, category=category, by_stated=by_stated):
        return True
    return rule == "confident" and chance_of_change(decision, left, weights, right=right, category=category) <= change


def is_decided(
    ballots: Sequence[Ballot],
    decision: Decision,
    remaining: Mapping[str, int],
    weights: PanelWeights,
    *,
    category: str | None = None,
    by_stated: bool = False,
) -> bool:
    """Whether no answers of `remaining` can give another winner than `decision`'s: for each rival, and for a label that nobody
    gave yet, everything still to come is counted for it or against the winner, whichever does more harm.

    Of each member the calls to come may all fail, which leaves its voice to those that it has given, or all answer, which
    thins it; what lies between does less harm than one of the two, for a member's part in the lead goes one way in how many
    answer. Where an answer's own confidence counts, each answer counts by what it may come to under any further ones.
    """
    leader = decision.winner
    if leader is None:
        return False
    most = STATED_RANGE[1] if by_stated else 1.0
    counts = Counter(ballot.member for ballot in ballots)
    least, greatest = _bounds(ballots, sum(remaining.values()), by_stated=by_stated)
    rivals = {*(standing.label for standing in decision.standings[1:]), *weights.classes, NEW_LABEL} - {leader}
    for rival in rivals:
        lead = weights.bias_of(leader) - weights.bias_of(rival)
        for member in {*counts, *remaining}:
            for_leader, for_rival = weights.of(member, leader, category), weights.of(member, rival, category)
            mine = (least if for_leader > 0 else greatest).get((member, leader), 0.0)
            theirs = (greatest if for_rival > 0 else least).get((member, rival), 0.0)
            standing = mine * for_leader - theirs * for_rival
            count, more = counts[member], remaining.get(member, 0)
            worst = standing + more * most * min(0.0, for_leader, -for_rival)
            lead += min(_per_answer(count) * standing, _per_answer(count + more) * worst)
        if lead <= LEAST_LEAD:
            return False
    return True


def _bounds(
    ballots: Sequence[Ballot], remaining: int, *, by_stated: bool
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]:
    """By member and label: how many answers it has given for it, each counted at the least and at the most."""
    bounds = stated_bounds(ballots, remaining) if by_stated else [(1.0, 1.0)] * len(ballots)
    least: dict[tuple[str, str], float] = {}
    greatest: dict[tuple[str, str], float] = {}
    for ballot, (low, high) in zip(ballots, bounds, strict=True):
        if ballot.label is not None:
            said = ballot.member, ballot.label
            least[said] = least.get(said, 0.0) + low
            greatest[said] = greatest.get(said, 0.0) + high
    return least, greatest


def _per_answer(count: int) -> float:
    """What each of a member's `count` answers has of its voice."""
    return effective(count) / count if count else 0.0


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
