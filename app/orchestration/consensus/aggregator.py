"""What counts the answers of a run: an answer as it was read, the outcome, and what all ways to count have in common. Pure.

An aggregator is made for one run. It is asked after every answer whether more are needed, and at the end for the outcome.
Installed packages bring their own under the entry-point group `quorum.aggregators`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from app.core.chat import JsonObject
from app.core.runs import Consensus
from app.orchestration.calls import CandidateCall
from app.orchestration.consensus.options import ConsensusOptions
from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.bundle import (
    Replicate,
)
from app.orchestration.evidence.confidence import Calibrators, Confidence
from app.orchestration.evidence.extraction import Extracted
from app.orchestration.evidence.numbers import number_label
from app.orchestration.evidence.similarity import Distances
from app.orchestration.evidence.stopping import NEW_LABEL, enough
from app.orchestration.evidence.vote import Decision, decide, judged_by
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.taught import Said, Taught


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
    known: PanelWeights | None = None
    """What was learned of the members, where `weights` are others; calibrators were fitted with these."""

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
        return self._decide(ballots, by_stated=self.options.stated_confidence)

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
            right = self.confidence(self._decide(ballots)).probability
        return enough(ballots, remaining, self.weights, rule=rule, right=right, category=self.category)

    def _decide(self, ballots: Sequence[Ballot], *, by_stated: bool = False) -> Decision:
        found = decide(ballots, self.weights, category=self.category, by_stated=by_stated)
        if self.known is None:
            return found
        return judged_by(found, decide(ballots, self.known, category=self.category, by_stated=by_stated))


def _counted(members: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for member in members:
        found[member] = found.get(member, 0) + 1
    return found
