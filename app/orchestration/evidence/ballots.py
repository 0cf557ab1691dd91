"""Who said what: one ballot an answer, and what a member's replicates say together. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

REPLICATE_CORRELATION: Final = 0.75
"""How alike the errors of one model's replicates are taken to be: five of them say about as much as 1.25 independent answers.

Answers sampled from one model share its mistakes; self-consistency (Wang et al., 2023, https://arxiv.org/abs/2203.11171) levels
off after a few samples. Only measured weights say more about a panel than this.
"""
STATED_RANGE: Final = (0.5, 1.5)
"""By how much an answer's own confidence makes it count, at the least and the most."""


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
    result: dict[str, dict[str, float]] = {ballot.member: {} for ballot in listed}
    for ballot, share in zip(listed, shares(listed, by_stated=by_stated), strict=True):
        if ballot.label is not None:
            given = result[ballot.member]
            given[ballot.label] = given.get(ballot.label, 0.0) + share
    return result


def shares(ballots: Sequence[Ballot], *, by_stated: bool = False) -> list[float]:
    """For each ballot, what it has of its member's voice, see `masses`."""
    counts = Counter(ballot.member for ballot in ballots)
    factor: Mapping[tuple[str, int], float] = _stated_factors(ballots) if by_stated else {}
    return [
        effective(counts[ballot.member]) / counts[ballot.member] * factor.get((ballot.member, ballot.replicate), 1.0)
        for ballot in ballots
    ]


def supporters(ballots: Iterable[Ballot]) -> dict[str, tuple[str, ...]]:
    """By label: the members that gave it, in the order of their first doing so."""
    found: dict[str, dict[str, None]] = {}
    for ballot in ballots:
        if ballot.label is not None:
            found.setdefault(ballot.label, {})[ballot.member] = None
    return {label: tuple(members) for label, members in found.items()}


def stated_bounds(ballots: Sequence[Ballot], remaining: int) -> list[tuple[float, float]]:
    """For each ballot, the least and the most that its own confidence may make it count once `remaining` further answers have
    said how sure they are, or not."""
    stated = [ballot.stated for ballot in ballots if ballot.stated is not None]
    whole = len(stated) + remaining
    lowest, highest = (sum(stated) / whole, (sum(stated) + remaining) / whole) if whole else (0.0, 0.0)
    found: list[tuple[float, float]] = []
    for ballot in ballots:
        if ballot.stated is None or not stated:
            found.append((1.0, 1.0))
        elif lowest <= 0:  # all of them say that they know nothing; then none counts less than another
            found.append((STATED_RANGE[0] if remaining else 1.0, 1.0))
        else:
            found.append((_factor(ballot.stated, highest), _factor(ballot.stated, lowest)))
    return found


def _stated_factors(ballots: Sequence[Ballot]) -> Mapping[tuple[str, int], float]:
    stated = [ballot.stated for ballot in ballots if ballot.stated is not None]
    mean = sum(stated) / len(stated) if stated else 0.0
    if mean <= 0:
        return {}
    return {(ballot.member, ballot.replicate): _factor(ballot.stated, mean) for ballot in ballots if ballot.stated is not None}


def _factor(stated: float, mean: float) -> float:
    least, most = STATED_RANGE
    return min(most, max(least, stated / mean))
