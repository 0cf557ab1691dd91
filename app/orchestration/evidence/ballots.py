"""Who said what: one ballot an answer, and what a member's replicates say together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

REPLICATE_CORRELATION: Final = 0.75
"""How alike the errors of one model's replicates are taken to be: five of them say about as much as 1.25 independent answers.

Answers sampled from one model share its mistakes; self-consistency (Wang et al., 2023, https://arxiv.org/abs/2203.11171) levels
off after a few samples. Only measured weights say more about a panel than this.
"""
_STATED_RANGE: Final = (0.5, 1.5)


@dataclass(frozen=True, slots=True)
class Ballot:
    """One answer. `label` is None where it could not be read; `stated` is the confidence, 0 to 1, that it gave itself."""

    member: str
    label: str | None
    replicate: int = 0
    stated: float | None = None


def effective(count: int, correlation: float = REPLICATE_CORRELATION) -> float:
    """How many independent answers `count` equally correlated ones are worth (the design effect of survey sampling)."""
    return count / (1 + (count - 1) * correlation) if count else 0.0


def masses(ballots: Iterable[Ballot], *, by_stated: bool = False) -> dict[str, dict[str, float]]:
    """By member: how much it is for each label.

    A member's replicates share its voice: with k of them it has `effective(k)` in all, and gives each label its share of them.
    An unread replicate takes its share with it. With `by_stated` a replicate counts by its own confidence against the panel's
    mean, between a half and one and a half times.
    """
    listed = list(ballots)
    counts: dict[str, int] = {}
    for ballot in listed:
        counts[ballot.member] = counts.get(ballot.member, 0) + 1
    factor: Mapping[tuple[str, int], float] = _stated_factors(listed) if by_stated else {}
    result: dict[str, dict[str, float]] = {member: {} for member in counts}
    for ballot in listed:
        if ballot.label is not None:
            given = result[ballot.member]
            count = counts[ballot.member]
            share = effective(count) / count * factor.get((ballot.member, ballot.replicate), 1.0)
            given[ballot.label] = given.get(ballot.label, 0.0) + share
    return result


def supporters(ballots: Iterable[Ballot]) -> dict[str, tuple[str, ...]]:
    """By label: the members that gave it, in the order of their first doing so."""
    found: dict[str, dict[str, None]] = {}
    for ballot in ballots:
        if ballot.label is not None:
            found.setdefault(ballot.label, {})[ballot.member] = None
    return {label: tuple(members) for label, members in found.items()}


def _stated_factors(ballots: list[Ballot]) -> Mapping[tuple[str, int], float]:
    stated = [ballot.stated for ballot in ballots if ballot.stated is not None]
    mean = sum(stated) / len(stated) if stated else 0.0
    if mean <= 0:
        return {}
    least, most = _STATED_RANGE
    return {
        (ballot.member, ballot.replicate): min(most, max(least, ballot.stated / mean))
        for ballot in ballots
        if ballot.stated is not None
    }
