"""What the answers of a bundle say together, and when enough of them are there. Pure.

Without a schema answers are texts, and counted in clusters. With one they are JSON: numbers by their median, everything else by
a vote, of each member of an object by itself.

A vote is stable within epsilon when the chance that its leader is not what the orchestration says most often is at most
epsilon: with `first` and `second` answers for the two most frequent, that is the probability that p < 1/2 where
p ~ Beta(first + 1, second + 1). Source: Aggarwal et al., "Let's Sample Step by Step: Adaptive-Consistency for Efficient
Reasoning and Coding with LLMs" (EMNLP 2023), the Beta stopping criterion. Unanimous answers come to 2^-(n+1): 4 of them are
stable within 0.05, 6 within 0.01. It is 0 where those that are left could not change the leader, whatever they were.

A median is stable within epsilon when its interval reaches at most epsilon of it to both sides (`numeric.settled`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.core.chat import JsonObject
from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.bundle import Replicate
from app.orchestration.evidence.cluster import LEXICAL_THRESHOLD, clusters
from app.orchestration.evidence.confidence import Calibrators, Confidence
from app.orchestration.evidence.fields import field_consensus, json_label
from app.orchestration.evidence.numbers import number_label
from app.orchestration.evidence.numeric import NumericConsensus, numeric_consensus, settled
from app.orchestration.evidence.similarity import Distances, label_distances, lexical_distances
from app.orchestration.evidence.vote import decide, led_by
from app.orchestration.evidence.weights import PanelWeights

LEAST_NUMBERS: Final = 3
"""Numbers below which an interval says nothing."""
TOLERANCE: Final = 0.01
"""Numbers this near to the median, relative to it, are for it."""
_MEDIAN: Final = "the median"
_UNTRIED: Final = Calibrators()


@dataclass(frozen=True, slots=True)
class Vote:
    """What each answer says in one matter, as it is counted, and what leads."""

    labels: tuple[str, ...]
    leader: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What the answers that count say together. `distances` are between those, in their order."""

    consensus: Any
    votes: tuple[Vote, ...]
    disagreements: tuple[JsonObject, ...]
    distances: Distances
    number: NumericConsensus | None = None


def counting(replicates: Sequence[Replicate]) -> list[Replicate]:
    """Those whose answer was read and fits."""
    return [one for one in replicates if one.read.valid]


def summed_up(replicates: Sequence[Replicate], *, as_json: bool) -> Summary | None:
    """What `replicates` say together; None where no answer counts."""
    values = [one.read.data for one in counting(replicates)]
    if not values:
        return None
    if not as_json:
        return _of_texts(values)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return _of_numbers([float(value) for value in values], values)
    return _of_values(values)


def _of_texts(texts: Sequence[str]) -> Summary:
    distances = lexical_distances(texts)
    found = clusters(distances, threshold=LEXICAL_THRESHOLD)
    labels = {place: str(cluster.medoid) for cluster in found for place in cluster.places}
    vote = Vote(tuple(labels[place] for place in range(len(texts))), str(found[0].medoid))
    stand = [texts[cluster.medoid] for cluster in found]
    return Summary(stand[0], (vote,), _disputed(stand), distances)


def _of_numbers(values: Sequence[float], said: Sequence[Any]) -> Summary:
    number = numeric_consensus(values, tolerance=TOLERANCE)
    reach = TOLERANCE * max(abs(number.value), 1e-12)
    labels = tuple(_MEDIAN if abs(value - number.value) <= reach else number_label(value) for value in values)
    distances = label_distances([number_label(value) for value in values])
    return Summary(number.value, (Vote(labels, _MEDIAN),), _disputed(said), distances, number)


def _of_values(values: Sequence[Any]) -> Summary:
    found = field_consensus(values)
    votes = tuple(dict.fromkeys(Vote(field.labels, field.winner) for field in found.fields))
    alike = (Vote(("{}",) * len(values), "{}"),)  # objects and lists without anything in them
    distances = label_distances([json_label(value) for value in values])
    return Summary(found.value, votes or alike, found.disagreements, distances)


def _disputed(values: Sequence[Any]) -> tuple[JsonObject, ...]:
    return ({"field": "answer", "values": list(values)},) if any(value != values[0] for value in values) else ()


def sureness(summary: Summary, replicates: Sequence[Replicate], weights: PanelWeights) -> Confidence:
    """How likely all of it is right. Answers of one model count for little more than one of them (`ballots`); votes that divide
    the answers alike are right or wrong together, and count once."""
    answered = counting(replicates)
    members = {one.model for one in answered}
    found: dict[tuple[bool, ...], Confidence] = {}
    for vote in summary.votes:
        divided = tuple(label == vote.leader for label in vote.labels)
        if divided not in found:
            ballots = [
                Ballot(one.model, label, place) for place, (one, label) in enumerate(zip(answered, vote.labels, strict=True))
            ]
            found[divided] = _UNTRIED.confidence(led_by(decide(ballots, weights), vote.leader), len(members))
    all_of = found.values()
    return Confidence(
        math.prod(one.probability for one in all_of),
        math.prod(one.low for one in all_of),
        math.prod(one.high for one in all_of),
    )


def stable(summary: Summary | None, left: int, epsilon: float) -> bool:
    """Whether `left` further answers would not change the summary, by more than `epsilon`, as the module says."""
    if summary is None:
        return False
    if summary.number is not None:
        return len(summary.votes[0].labels) >= LEAST_NUMBERS and settled(summary.number, epsilon)
    return all(_chance(*_first_two(vote), left) <= epsilon for vote in summary.votes)


def wanted(summary: Summary | None, left: int, epsilon: float) -> int:
    """How many of the `left` answers to ask for next: the fewest that may make the summary stable."""
    if summary is not None and summary.number is not None:
        return min(left, max(1, LEAST_NUMBERS - len(summary.votes[0].labels)))
    counts = [_first_two(vote) for vote in summary.votes] if summary is not None else [(0, 0)]
    for more in range(1, left):
        if all(_chance(first + more, second, left - more) <= epsilon for first, second in counts):
            return more
    return left


def _first_two(vote: Vote) -> tuple[int, int]:
    """How many are for the leader, and for the most frequent of the others."""
    counts = Counter(vote.labels)
    first = counts.pop(vote.leader, 0)
    return first, max(counts.values(), default=0)


def _chance(first: int, second: int, left: int) -> float:
    """The chance that the leader is not what is said most often. A Beta of whole numbers at 1/2 is a sum of binomials."""
    if first > second + left:
        return 0.0
    tosses = first + second + 1
    return sum(math.comb(tosses, heads) for heads in range(first + 1, tosses + 1)) / 2**tosses
