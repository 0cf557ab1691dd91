"""What several answers say together, for labels, numbers and JSON: one class for each way to count. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, ClassVar

from app.orchestration.consensus.aggregator import TO_COME, Aggregator, Found, Heard, counted, fewest, readable
from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.bundle import disputed_labels, fields_outcome, numeric_outcome, vote_consensus
from app.orchestration.evidence.confidence import Confidence
from app.orchestration.evidence.fields import Field, FieldConsensus, field_consensus, fields_settled
from app.orchestration.evidence.numbers import number_label
from app.orchestration.evidence.numeric import NumericConsensus, numeric_consensus, settled
from app.orchestration.evidence.similarity import label_distances
from app.orchestration.evidence.vote import Decision, decide, judged_by, led_by
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.taught import Taught

LEAST_FOR_INTERVAL = 3
"""Models with a number, below which an interval says nothing."""
TOLERANCE = 0.01
"""Numbers this near, relative to the value, are the same answer."""


class Vote(Aggregator):
    """Labels, each member's weighed; the heaviest wins."""

    name: ClassVar[str] = "vote"
    calibrated: ClassVar[bool] = True

    def found(self, heard: Sequence[Heard]) -> Found:
        labels = self.labels(heard)
        decision = self.decision(heard, labels)
        confidence = self.confidence(decision)
        values = {one.read.label: one.read.data for one in reversed(heard) if one.read.label is not None}
        winner = decision.standings[0].label
        stands = self.standing([one for one in heard if one.read.label == winner])
        return Found(
            vote_consensus(decision, confidence, values=values, review_below=self.options.review_below),
            confidence,
            values[winner],
            stands,
            disputed_labels([one.replicate() for one in heard]),
            label_distances(labels),
            json=stands.read.data if self.options.extract.type == "json" else None,
            taught=self.taught(heard, labels, decision),
        )


class Numeric(Aggregator):
    """Numbers: the weighted median or the trimmed mean, its interval, the outliers."""

    name: ClassVar[str] = "numeric"

    def enough(self, heard: Sequence[Heard], remaining: Mapping[str, int]) -> bool:
        if self.options.stop == "never" or not any(remaining.values()):
            return not any(remaining.values())
        return _models(heard) >= LEAST_FOR_INTERVAL and settled(self._numbers(heard), self.options.epsilon or 0.0)

    def wanted(self, heard: Sequence[Heard], waiting: Sequence[str]) -> int:
        if self.options.stop == "never":
            return len(waiting)
        return min(len(waiting), max(1, LEAST_FOR_INTERVAL - _models(heard)))

    def found(self, heard: Sequence[Heard]) -> Found:
        read = readable(heard)
        numbers = self._numbers(heard)
        near = TOLERANCE * max(abs(numbers.value), 1e-12)
        middle = number_label(numbers.value)
        own = {id(one): middle if abs(one.read.data - numbers.value) <= near else one.read.label for one in read}
        labels = [own.get(id(one)) for one in heard]
        decision = led_by(self.decision(heard, labels), middle)
        values = {one.read.label or "": one.read.data for one in read} | {middle: numbers.value}
        confidence = self.confidence(decision)
        exact = [one for one in read if one.read.data == numbers.value]
        replicates = [one.replicate() for one in read]
        return Found(
            numeric_outcome(numbers, replicates, decision, values, confidence, review_below=self.options.review_below),
            confidence,
            numbers.value,
            self.standing(exact) if exact else None,
            disputed_labels([one.replicate() for one in heard]),
            label_distances([one.read.label for one in heard]),
            (numbers.low, numbers.high),
            numbers.coverage,
            taught=replace(self.taught(heard, labels, decision), near=(numbers.value, near)),
        )

    def _numbers(self, heard: Sequence[Heard]) -> NumericConsensus:
        own = [(one, voice) for one, voice in zip(heard, self.voices(heard), strict=True) if one.read.label is not None]
        return numeric_consensus(
            [float(one.read.data) for one, _ in own],
            weights=[voice for _, voice in own],
            members=[one.member for one, _ in own],
            estimator=self.options.estimator or "median",
            tolerance=TOLERANCE,
        )


class Fields(Aggregator):
    """JSON objects, member by member. What a model's word weighs is the same in every field."""

    name: ClassVar[str] = "fields"

    def enough(self, heard: Sequence[Heard], remaining: Mapping[str, int]) -> bool:
        if self.options.stop == "never" or not any(remaining.values()):
            return not any(remaining.values())
        return self._fixed(heard, [], remaining)

    def wanted(self, heard: Sequence[Heard], waiting: Sequence[str]) -> int:
        read = readable(heard)
        if self.options.stop == "never":
            return len(waiting)
        if not read:
            return super().wanted(heard, waiting)
        said = self._consensus(heard).value
        return fewest(
            len(waiting), lambda count: self._fixed(heard, [(name, said) for name in waiting[:count]], counted(waiting[count:]))
        )

    def found(self, heard: Sequence[Heard]) -> Found:
        read = readable(heard)
        fields = self._consensus(heard)
        votes = self._votes(heard, fields.fields)
        confidence = self._sureness(heard, fields.fields, votes)
        exact = [one for one in read if one.read.data == fields.value]
        return Found(
            fields_outcome(fields, votes, confidence, review_below=self.options.review_below),
            confidence,
            fields.value,
            self.standing(exact) if exact else None,
            tuple(fields.disagreements),
            label_distances([one.read.label for one in heard]),
            json=fields.value,
            taught=self._by_whole(heard, fields.value),
        )

    def _consensus(self, heard: Sequence[Heard]) -> FieldConsensus:
        own = [(one, voice) for one, voice in zip(heard, self.voices(heard), strict=True) if one.read.label is not None]
        times = counted(one.member for one, _ in own)
        votes = [1 / times[one.member] for one, _ in own]
        return field_consensus([one.read.data for one, _ in own], [voice for _, voice in own], votes)

    def _by_whole(self, heard: Sequence[Heard], value: Any) -> Taught:
        """Members are counted, so objects as wholes are no votes; but each can be told to be right or not."""
        labels = [one.read.label for one in heard]
        winner = json.dumps(value, sort_keys=True, ensure_ascii=False)
        return replace(self.taught(heard, labels, self.decision(heard, labels)), winner=winner, votes=False)

    def _ballots(self, heard: Sequence[Heard], labels: Sequence[str | None]) -> list[Ballot]:
        """`labels` are those of the answers that could be read; the others are counted for nothing."""
        own = iter(labels)
        return [one.ballot(next(own) if one.read.label is not None else None) for one in heard if one.call.response is not None]

    def _count(self, heard: Sequence[Heard], labels: Sequence[str]) -> Decision:
        ballots, members = self._ballots(heard, labels), {one.member for one in heard}
        by_stated = self.options.stated_confidence
        found = decide(ballots, _voiced(self.weights, members, self.category), by_stated=by_stated)
        if self.known is None:
            return found
        return judged_by(found, decide(ballots, _voiced(self.known, members, self.category), by_stated=by_stated))

    def _votes(self, heard: Sequence[Heard], fields: Sequence[Field]) -> list[Decision]:
        """The vote over each field. Where the same answers say the same it is the same vote."""
        known: dict[tuple[tuple[str, ...], str], Decision] = {}
        for field in fields:
            said = (field.labels, field.winner)
            if said not in known:
                known[said] = led_by(self._count(heard, field.labels), field.winner)
        return [known[field.labels, field.winner] for field in fields]

    def _sureness(self, heard: Sequence[Heard], fields: Sequence[Field], votes: Sequence[Decision]) -> Confidence:
        """How likely all of it is right. Fields that divide the panel alike are right or wrong together, and count once."""
        divided = {
            tuple(label == field.winner for label in field.labels): vote for field, vote in zip(fields, votes, strict=True)
        }
        decisions = list(divided.values()) or [self._count(heard, ["{}"] * len(readable(heard)))]
        found = [self.confidence(decision) for decision in decisions]
        return Confidence(
            prod(one.probability for one in found), prod(one.low for one in found), prod(one.high for one in found)
        )

    def _fixed(self, heard: Sequence[Heard], more: Sequence[tuple[str, Any]], remaining: Mapping[str, int]) -> bool:
        """Whether nothing further changes a field, once `more` (members and values) are there too."""
        members = {*(one.member for one in heard), *(member for member, _ in more), *remaining}
        weights = _voiced(self.weights, members, self.category)
        by_stated = self.options.stated_confidence
        read = len(readable(heard))

        def won(labels: Sequence[str | None]) -> str | None:
            new = [
                Ballot(member, label, TO_COME + at)
                for at, ((member, _), label) in enumerate(zip(more, labels[read:], strict=True))
            ]
            ballots = [*self._ballots(heard, labels[:read]), *new]
            if not self._enough(ballots, remaining, weights):
                return None
            return decide(ballots, weights, category=self.category, by_stated=by_stated).winner

        return fields_settled([*(one.read.data for one in readable(heard)), *(value for _, value in more)], won)


def _voiced(weights: PanelWeights, members: Iterable[str], category: str | None) -> PanelWeights:
    """`weights` without what they say of labels: what a member's word weighs whatever it says."""
    voices = {member: max(0.0, weights.voice(member, category)) for member in members}
    return PanelWeights(voices, weights.none, weights.absent, reliability=weights.reliability)


def _models(heard: Sequence[Heard]) -> int:
    """How many models have said something readable."""
    return len({one.member for one in readable(heard)})
