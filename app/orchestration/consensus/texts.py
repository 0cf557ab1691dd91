"""Whole texts: in clusters of those that say the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from app.core.chat import JsonObject
from app.core.embeddings import Vector
from app.orchestration.consensus.aggregator import Aggregator, Found, Heard, readable
from app.orchestration.consensus.options import ConsensusOptions
from app.orchestration.evidence.bundle import cluster_outcome
from app.orchestration.evidence.cluster import EMBEDDING_THRESHOLD, LEXICAL_THRESHOLD, clusters
from app.orchestration.evidence.confidence import Calibrators
from app.orchestration.evidence.similarity import Distances, Words, cosine_distances, words_apart, words_of
from app.orchestration.evidence.vote import Decision, led_by
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.taught import OPAQUE, Taught


class Texts(Aggregator):
    """Texts in clusters of those that say the same; the heaviest wins, and the one nearest to its others stands for it."""

    name: ClassVar[str] = "cluster"
    vectors: Mapping[str, Vector] | None = None
    """By candidate, where an embedding model was asked; without them texts are compared by their words."""
    chosen: Heard | None = None
    """The answer that wins, and its cluster with it, where a judge has chosen one."""

    def __init__(
        self,
        options: ConsensusOptions,
        weights: PanelWeights,
        calibrators: Calibrators,
        *,
        panel: int,
        category: str | None = None,
    ) -> None:
        super().__init__(options, weights, calibrators, panel=panel, category=category)
        self._words: dict[str, Words] = {}
        self._apart: dict[tuple[str, str], float] = {}

    def labels(self, heard: Sequence[Heard]) -> list[str | None]:
        return _labels(heard, self._clustered(heard)[0])

    def take_in(self, one: Heard) -> None:
        if self.vectors is None and one.read.label is not None:
            self._row(one)

    def found(self, heard: Sequence[Heard]) -> Found:
        groups, distances = self._clustered(heard)
        labels = _labels(heard, groups)
        decision = self.decision(heard, labels)
        if self.chosen is not None:
            mine = next(name for name, own in groups.items() if self.chosen in own)
            decision = led_by(decision, mine)
        first = decision.standings[0].label
        winner = self.chosen or next(one for one in groups[first] if one.call.candidate.id == first)
        confidence = self.confidence(decision)
        return Found(
            cluster_outcome(
                {name: [one.replicate() for one in own] for name, own in groups.items()},
                decision,
                confidence,
                method=self.name if self.chosen is not None else Texts.name,
                winner=winner.call.candidate.id,
                review_below=self.options.review_below,
            ),
            confidence,
            winner.call.candidate.id,
            winner,
            tuple(_disputed(groups, decision)),
            _among_all(distances, heard),
            taught=self.taught(heard, labels, decision),
        )

    def taught(self, heard: Sequence[Heard], labels: Sequence[str | None], decision: Decision) -> Taught:
        opaque = [label and f"{OPAQUE}{label}" for label in labels]
        counted = super().taught(heard, opaque, decision)
        return replace(counted, winner=f"{OPAQUE}{decision.winner}", reader=None)

    def _clustered(self, heard: Sequence[Heard]) -> tuple[dict[str, list[Heard]], Distances]:
        """The clusters of the readable ones, by the candidate that stands for each, and how far apart the texts are."""
        voices = self.voices(heard)
        weights = [voice for one, voice in zip(heard, voices, strict=True) if one.read.label is not None]
        read = readable(heard)
        if self.vectors is None:
            distances, threshold = self._by_words(read), LEXICAL_THRESHOLD
        else:
            vectors = self.vectors
            distances = cosine_distances([vectors[one.call.candidate.id] for one in read])
            threshold = EMBEDDING_THRESHOLD
        found = clusters(distances, threshold=threshold, weights=weights)
        return {read[one.medoid].call.candidate.id: [read[place] for place in one.places] for one in found}, distances

    def _by_words(self, read: Sequence[Heard]) -> Distances:
        for one in read:
            self._row(one)
        names = [one.call.candidate.id for one in read]
        return tuple(tuple(0.0 if one == other else self._apart[one, other] for other in names) for one in names)

    def _row(self, one: Heard) -> None:
        """Compare the text with those that were taken in before it, unless it was."""
        name = one.call.candidate.id
        if name in self._words:
            return
        words = words_of(str(one.read.data))
        for other, theirs in self._words.items():
            self._apart[name, other] = self._apart[other, name] = words_apart(words, theirs)
        self._words[name] = words


def _labels(heard: Sequence[Heard], groups: Mapping[str, Sequence[Heard]]) -> list[str | None]:
    """For each of `heard`, the name of its cluster."""
    names = {id(one): name for name, own in groups.items() for one in own}
    return [names.get(id(one)) for one in heard]


def _among_all(distances: Distances, heard: Sequence[Heard]) -> Distances:
    """The distances of the readable ones as those of `heard`; who could not be read has nothing in common with anybody."""
    if len(distances) == len(heard):
        return distances
    rows = iter(distances)
    count = len(heard)
    there = [one.read.label is not None for one in heard]
    found: list[tuple[float, ...]] = []
    for place in range(count):
        own = iter(next(rows)) if there[place] else None
        row = [next(own) if own and there[other] else 1.0 for other in range(count)]
        row[place] = 0.0
        found.append(tuple(row))
    return tuple(found)


def _disputed(groups: Mapping[str, Sequence[Heard]], decision: Decision) -> list[JsonObject]:
    """What is disputed: the texts that stand for the clusters, where there are several."""
    if len(groups) < 2:
        return []
    texts = {one.call.candidate.id: str(one.read.data)[:500] for own in groups.values() for one in own}
    return [{"field": "answer", "values": [texts[standing.label] for standing in decision.standings]}]
