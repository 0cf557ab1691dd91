"""What several answers say together: one class for each way to count. Pure; the judge, who must be asked, is in `judge`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from app.core.chat import JsonObject
from app.core.embeddings import Vector
from app.orchestration.consensus.aggregator import Aggregator, Found, Heard
from app.orchestration.evidence.bundle import (
    cluster_outcome,
    disputed_labels,
    fields_outcome,
    numeric_outcome,
    vote_consensus,
)
from app.orchestration.evidence.cluster import EMBEDDING_THRESHOLD, LEXICAL_THRESHOLD, Cluster, clusters
from app.orchestration.evidence.confidence import Confidence
from app.orchestration.evidence.fields import field_consensus
from app.orchestration.evidence.numbers import number_label
from app.orchestration.evidence.numeric import NumericConsensus, numeric_consensus, settled
from app.orchestration.evidence.similarity import Distances, cosine_distances, label_distances, lexical_distances
from app.orchestration.evidence.vote import Decision
from app.orchestration.learning.taught import OPAQUE, Taught

LEAST_FOR_INTERVAL = 3
"""Numbers, below which an interval says nothing."""
TOLERANCE = 0.01
"""Numbers this near, relative to the value, are the same answer."""


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
