"""What several answers say together: one class for each way to count. Pure; the judge, who must be asked, is in `judge`.

An aggregator is made for one run. It is asked after every answer whether more are needed, and at the end for the outcome.
Installed packages bring their own under the entry-point group `quorum.aggregators`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from app.core.chat import JsonObject
from app.core.embeddings import Vector
from app.core.runs import Consensus
from app.orchestration.calls import CandidateCall
from app.orchestration.consensus.options import ConsensusOptions
from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.bundle import (
    Replicate,
    cluster_outcome,
    disputed_labels,
    fields_outcome,
    numeric_outcome,
    vote_consensus,
)
from app.orchestration.evidence.cluster import EMBEDDING_THRESHOLD, LEXICAL_THRESHOLD, Cluster, clusters
from app.orchestration.evidence.confidence import Calibrators, Confidence
from app.orchestration.evidence.extraction import Extracted
from app.orchestration.evidence.fields import field_consensus
from app.orchestration.evidence.numbers import number_label
from app.orchestration.evidence.numeric import NumericConsensus, numeric_consensus, settled
from app.orchestration.evidence.similarity import Distances, cosine_distances, label_distances, lexical_distances
from app.orchestration.evidence.stopping import NEW_LABEL, enough
from app.orchestration.evidence.vote import Decision, decide
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.taught import OPAQUE, Said, Taught

LEAST_FOR_INTERVAL = 3
"""Numbers, below which an interval says nothing."""
TOLERANCE = 0.01
"""Numbers this near, relative to the value, are the same answer."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer, and what was read in it. One that failed was read as nothing."""

    call: CandidateCall
    read: Extracted

    @property
    def member(self) -> str:
        return self.call.profile_name

    def ballot(self, label: str | None) -> Ballot:
        return Ballot(self.member, label, self.call.candidate.replicate, self.read.stated)

    def replicate(self) -> Replicate:
        return Replicate(self.call.candidate.id, self.member, self.read, self.call.candidate.usage)


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome. `stands` is the answer whose text is the run's; None where `value` itself is, since no answer says it.

    `interval` is that of a number; `json` is the value where it is JSON that was asked for; `taught` is for those who learn.
    """

    consensus: Consensus
    confidence: Confidence
    value: Any
    stands: Heard | None
    disagreements: tuple[JsonObject, ...]
    distances: Distances
    interval: tuple[float, float] | None = None
    json: Any = None
    taught: Taught | None = None

    @property
    def text(self) -> str:
        """The value as an answer."""
        if isinstance(self.value, float):
            return number_label(self.value)
        return self.value if isinstance(self.value, str) else json.dumps(self.value, ensure_ascii=False)


class Aggregator(ABC):
    """Counts the answers of one run.

    Parameters:
        options: those of the run.
        weights: what each member's word weighs.
        calibrators: make a probability of what the count shows.
        panel: how many models are asked.
        category: the task's.
    """

    name: ClassVar[str]

    def __init__(
        self,
        options: ConsensusOptions,
        weights: PanelWeights,
        calibrators: Calibrators,
        *,
        panel: int,
        category: str | None = None,
    ) -> None:
        self.options = options
        self.weights = weights
        self.calibrators = calibrators
        self.panel = panel
        self.category = category

    @abstractmethod
    def found(self, heard: Sequence[Heard]) -> Found:
        """What `heard` say together; at least one of them could be read."""

    def labels(self, heard: Sequence[Heard]) -> list[str | None]:
        """What each is counted by while answers come: alike where they say the same."""
        return [one.read.label for one in heard]

    def enough(self, heard: Sequence[Heard], remaining: Mapping[str, int]) -> bool:
        """Whether to stop asking, with `remaining` answers to come of each member."""
        if self.options.stop == "never":
            return not any(remaining.values())
        return self._settled(heard, self.labels(heard), remaining)

    def wanted(self, heard: Sequence[Heard], waiting: Sequence[str]) -> int:
        """How many of `waiting` (members, in order, once a replicate) to ask next: the fewest that may settle it."""
        if self.options.stop == "never":
            return len(waiting)
        labels = self.labels(heard)
        leader = self.decision(heard, labels).winner or NEW_LABEL
        for count in range(1, len(waiting)):
            asked = [Ballot(member, leader, 1_000 + place) for place, member in enumerate(waiting[:count])]
            ballots = [*(one.ballot(label) for one, label in zip(heard, labels, strict=True)), *asked]
            if self._enough(ballots, _counted(waiting[count:])):
                return count
        return len(waiting)

    def decision(self, heard: Sequence[Heard], labels: Sequence[str | None]) -> Decision:
        """The vote over `labels`. Who has failed has no vote; who could not be read has one, for nothing."""
        ballots = [one.ballot(label) for one, label in zip(heard, labels, strict=True) if one.call.response is not None]
        return decide(ballots, self.weights, category=self.category, by_stated=self.options.stated_confidence)

    def confidence(self, decision: Decision) -> Confidence:
        return self.calibrators.confidence(decision, self.panel, self.category)

    def standing(self, heard: Sequence[Heard]) -> Heard:
        """Who of `heard`, who all say the same, speaks for them: the member whose word weighs most, the first of equals."""
        return max(heard, key=lambda one: self.weights.voice(one.member, self.category))

    def taught(self, heard: Sequence[Heard], labels: Sequence[str | None], decision: Decision) -> Taught:
        """What was counted, for those who learn from it."""
        said = tuple(
            Said(one.call.candidate.id, one.member, label)
            for one, label in zip(heard, labels, strict=True)
            if one.call.response is not None
        )
        winner = decision.winner
        return Taught(said, self.panel, winner, decision.probability if winner else None, self.options.kind)

    def _settled(self, heard: Sequence[Heard], labels: Sequence[str | None], remaining: Mapping[str, int]) -> bool:
        return self._enough([one.ballot(label) for one, label in zip(heard, labels, strict=True)], remaining)

    def _enough(self, ballots: Sequence[Ballot], remaining: Mapping[str, int]) -> bool:
        rule, right = self.options.stop, None
        if rule == "confident":
            decision = decide(ballots, self.weights, category=self.category)
            right = self.confidence(decision).probability
        return enough(ballots, remaining, self.weights, rule=rule, right=right, category=self.category)


class Vote(Aggregator):
    """Labels, each member's weighed; the heaviest wins."""

    name: ClassVar[str] = "vote"

    def found(self, heard: Sequence[Heard]) -> Found:
        labels = self.labels(heard)
        decision = self.decision(heard, labels)
        confidence = self.confidence(decision)
        values = {one.read.label: one.read.data for one in reversed(heard) if one.read.label is not None}
        outcome = vote_consensus(decision, confidence, review_below=self.options.review_below)
        winner = decision.standings[0].label
        stands = self.standing([one for one in heard if one.read.label == winner])
        return Found(
            replace(outcome, winner=values[winner]),
            confidence,
            values[winner],
            stands,
            disputed_labels([one.replicate() for one in heard]),
            label_distances(labels),
            json=stands.read.data if self.options.extract.type == "json" else None,
            taught=self.taught(heard, labels, decision),
        )


class Numeric(Aggregator):
    """Numbers: the weighted median, its interval, the outliers."""

    name: ClassVar[str] = "numeric"

    def enough(self, heard: Sequence[Heard], remaining: Mapping[str, int]) -> bool:
        if self.options.stop == "never" or not any(remaining.values()):
            return not any(remaining.values())
        read = _readable(heard)
        return len(read) >= LEAST_FOR_INTERVAL and settled(self._numbers(read), self.options.epsilon or 0.0)

    def wanted(self, heard: Sequence[Heard], waiting: Sequence[str]) -> int:
        if self.options.stop == "never":
            return len(waiting)
        return min(len(waiting), max(1, LEAST_FOR_INTERVAL - len(_readable(heard))))

    def found(self, heard: Sequence[Heard]) -> Found:
        read = _readable(heard)
        numbers = self._numbers(read)
        near = TOLERANCE * max(abs(numbers.value), 1e-12)
        middle = number_label(numbers.value)
        labels = [middle if abs(one.read.data - numbers.value) <= near else one.read.label for one in read]
        decision = self.decision(read, labels)
        confidence = self.confidence(decision)
        exact = [one for one in read if one.read.data == numbers.value]
        return Found(
            numeric_outcome(numbers, [one.replicate() for one in read], confidence, review_below=self.options.review_below),
            confidence,
            numbers.value,
            self.standing(exact) if exact else None,
            disputed_labels([one.replicate() for one in heard]),
            label_distances([one.read.label for one in heard]),
            (numbers.low, numbers.high),
            taught=replace(self.taught(read, labels, decision), winner=middle, near=(numbers.value, near)),
        )

    def _numbers(self, read: Sequence[Heard]) -> NumericConsensus:
        weights = [self.weights.voice(one.member, self.category) for one in read]
        values = [float(one.read.data) for one in read]
        return numeric_consensus(values, weights=weights if any(weights) else None, tolerance=TOLERANCE)


class Texts(Aggregator):
    """Texts in clusters of those that say the same; the one nearest to the others of the heaviest cluster wins."""

    name: ClassVar[str] = "cluster"
    vectors: Mapping[str, Vector] | None = None
    """By candidate, where an embedding model was asked; without them texts are compared by their words."""

    def labels(self, heard: Sequence[Heard]) -> list[str | None]:
        read = _readable(heard)
        found, _ = self.clustered(read)
        return _by_cluster(heard, read, found)

    def found(self, heard: Sequence[Heard]) -> Found:
        read = _readable(heard)
        found, distances = self.clustered(read)
        winner = read[found[0].medoid]
        labels = _by_cluster(heard, read, found)
        decision = self.decision(heard, labels)
        confidence = self.confidence(decision)
        replicates = [one.replicate() for one in read]
        return Found(
            cluster_outcome(found, replicates, confidence, review_below=self.options.review_below),
            confidence,
            winner.call.candidate.id,
            winner,
            tuple(_apart(found, read)),
            _among_all(distances, heard, read),
            taught=self.taught(heard, labels, decision),
        )

    def taught(self, heard: Sequence[Heard], labels: Sequence[str | None], decision: Decision) -> Taught:
        opaque = [label and f"{OPAQUE}{label}" for label in labels]
        counted = super().taught(heard, opaque, decision)
        return replace(counted, winner=f"{OPAQUE}{decision.winner}", reader=None)

    def clustered(self, read: Sequence[Heard]) -> tuple[tuple[Cluster, ...], Distances]:
        """The clusters, the heaviest first, and how far apart the texts are."""
        weights = [self.weights.voice(one.member, self.category) for one in read]
        if self.vectors is None:
            distances, threshold = lexical_distances([str(one.read.data) for one in read]), LEXICAL_THRESHOLD
        else:
            vectors = self.vectors
            distances = cosine_distances([vectors[one.call.candidate.id] for one in read])
            threshold = EMBEDDING_THRESHOLD
        return clusters(distances, threshold=threshold, weights=weights), distances


class Fields(Aggregator):
    """JSON objects, member by member."""

    name: ClassVar[str] = "fields"

    def found(self, heard: Sequence[Heard]) -> Found:
        read = _readable(heard)
        weights = [self.weights.voice(one.member, self.category) for one in read]
        fields = field_consensus([one.read.data for one in read], weights if any(weights) else None)
        confidence = self._sureness(read, [field.values for field in fields.fields])
        exact = [one for one in read if one.read.data == fields.value]
        return Found(
            fields_outcome(fields, confidence, review_below=self.options.review_below),
            confidence,
            fields.value,
            self.standing(exact) if exact else None,
            tuple(fields.disagreements),
            label_distances([one.read.label for one in heard]),
            json=fields.value,
            taught=self._by_whole(heard, fields.value),
        )

    def _by_whole(self, heard: Sequence[Heard], value: Any) -> Taught:
        """Members are counted, so objects as wholes are no votes; but each can be told to be right or not."""
        labels = [one.read.label for one in heard]
        winner = json.dumps(value, sort_keys=True, ensure_ascii=False)
        counted = self.taught(heard, labels, self.decision(heard, labels))
        return replace(counted, winner=winner, probability=None, votes=False)

    def _sureness(self, read: Sequence[Heard], fields: Sequence[Sequence[Any]]) -> Confidence:
        """The mean over the fields: the share of them that is probably right."""
        found = [self.confidence(self.decision(read, [repr(value) for value in values])) for values in fields]
        if not found:
            return self.confidence(self.decision(read, ["{}"] * len(read)))
        count = len(found)
        return Confidence(
            sum(one.probability for one in found) / count,
            sum(one.low for one in found) / count,
            sum(one.high for one in found) / count,
        )


def _readable(heard: Sequence[Heard]) -> list[Heard]:
    return [one for one in heard if one.read.label is not None]


def _counted(members: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for member in members:
        found[member] = found.get(member, 0) + 1
    return found


def _by_cluster(heard: Sequence[Heard], read: Sequence[Heard], found: Sequence[Cluster]) -> list[str | None]:
    """For each of `heard`, its cluster, named by the candidate that stands for it."""
    names = {id(read[place]): read[cluster.medoid].call.candidate.id for cluster in found for place in cluster.places}
    return [names.get(id(one)) for one in heard]


def _among_all(distances: Distances, heard: Sequence[Heard], read: Sequence[Heard]) -> Distances:
    """The distances of `read` as those of `heard`; who could not be read has nothing in common with anybody."""
    places = {id(one): place for place, one in enumerate(read)}

    def apart(one: Heard, other: Heard) -> float:
        if one is other:
            return 0.0
        if id(one) not in places or id(other) not in places:
            return 1.0
        return distances[places[id(one)]][places[id(other)]]

    return tuple(tuple(apart(one, other) for other in heard) for one in heard)


def _apart(found: Sequence[Cluster], read: Sequence[Heard]) -> list[JsonObject]:
    """What is disputed: the texts that stand for the clusters, where there are several."""
    if len(found) < 2:
        return []
    return [{"field": "answer", "values": [str(read[cluster.medoid].read.data)[:500] for cluster in found]}]
