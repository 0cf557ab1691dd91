"""What counts the answers of a run: an answer as it was read, the outcome, and what all ways to count have in common. Pure.

An aggregator is made for one run. It is asked after every answer whether more are needed, and at the end for the outcome.
Installed packages bring their own under the entry-point group `quorum.aggregators`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from app.core.chat import JsonObject
from app.core.runs import Consensus
from app.orchestration.calls import Member
from app.orchestration.consensus.options import ConsensusOptions
from app.orchestration.evidence.ballots import Ballot, shares
from app.orchestration.evidence.bundle import INTERVAL_COVERAGE, Replicate
from app.orchestration.evidence.confidence import Calibrators, Confidence
from app.orchestration.evidence.extraction import Extracted
from app.orchestration.evidence.numbers import number_label
from app.orchestration.evidence.similarity import Distances
from app.orchestration.evidence.stopping import NEW_LABEL, enough
from app.orchestration.evidence.vote import Decision, decide, judged_by
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.taught import Said, Taught

UNTRIED: Final = Calibrators()
"""What is said of outcomes that no calibrator was fitted to."""
TO_COME: Final = 1_000
"""Numbers replicates that were not asked yet."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer, and what was read in it. One that failed was read as nothing."""

    call: Member
    read: Extracted

    @property
    def member(self) -> str:
        return self.call.profile_name

    def ballot(self, label: str | None) -> Ballot:
        return Ballot(self.member, label, self.call.candidate.replicate, self.read.stated)

    def replicate(self) -> Replicate:
        return Replicate(self.call.candidate.id, self.member, self.read, self.call.usage)


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome. `stands` is the answer whose text is the run's; None where `value` itself is, since no answer says it.

    `interval` is that of a number, which holds it with a chance of `coverage`; `json` is the value where it is JSON that was
    asked for; `taught` is for those who learn.
    """

    consensus: Consensus
    confidence: Confidence
    value: Any
    stands: Heard | None
    disagreements: tuple[JsonObject, ...]
    distances: Distances
    interval: tuple[float, float] | None = None
    coverage: float = INTERVAL_COVERAGE
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
    calibrated: ClassVar[bool] = False
    """Whether its outcomes are votes over labels, as calibrators learn from. Others are as sure as their votes by themselves,
    with an interval as wide as that is untried."""
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

    def take_in(self, one: Heard) -> None:  # noqa: B027 - few have anything to make ready
        """An answer has come: what of it is compared with the others can be made ready, once. Called in the order of coming,
        and never beside another method; `found` may be called without."""

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
        ballots = _answered(heard, labels)

        def settles(count: int) -> bool:
            more = [Ballot(member, leader, TO_COME + place) for place, member in enumerate(waiting[:count])]
            return self._enough([*ballots, *more], counted(waiting[count:]))

        return fewest(len(waiting), settles)

    def decision(self, heard: Sequence[Heard], labels: Sequence[str | None]) -> Decision:
        """The vote over `labels`. Who has failed has no vote; who could not be read has one, for nothing."""
        return self._decide(_answered(heard, labels))

    def confidence(self, decision: Decision) -> Confidence:
        known = self.calibrators if self.calibrated else UNTRIED
        return known.confidence(decision, self.panel, self.category)

    def voices(self, heard: Sequence[Heard]) -> list[float]:
        """What each of `heard` weighs where answers are weighed and not voted on: its part of its model's voice, which its
        replicates share; 0 where it failed. Where that is nothing for all of them, they weigh alike."""
        ballots = _answered(heard, [one.read.label for one in heard])
        parts = iter(shares(ballots, by_stated=self.options.stated_confidence))
        own = [next(parts) if one.call.response is not None else 0.0 for one in heard]
        weighed = [part * max(0.0, self.weights.voice(one.member, self.category)) for part, one in zip(own, heard, strict=True)]
        readable = any(weight for weight, one in zip(weighed, heard, strict=True) if one.read.label is not None)
        return weighed if readable else own

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
        sure = decision.probability if winner and self.calibrated else None
        return Taught(said, self.panel, winner, sure, self.options.kind)

    def _settled(self, heard: Sequence[Heard], labels: Sequence[str | None], remaining: Mapping[str, int]) -> bool:
        return self._enough(_answered(heard, labels), remaining)

    def _enough(self, ballots: Sequence[Ballot], remaining: Mapping[str, int], weights: PanelWeights | None = None) -> bool:
        """`weights` are those of the run where None."""
        rule, right = self.options.stop, None
        if rule == "confident":
            right = self.confidence(self._decide(ballots, weights)).probability
        by_stated = self.options.stated_confidence
        weights = weights or self.weights
        return enough(ballots, remaining, weights, rule=rule, right=right, category=self.category, by_stated=by_stated)

    def _decide(self, ballots: Sequence[Ballot], weights: PanelWeights | None = None) -> Decision:
        category, by_stated = self.category, self.options.stated_confidence
        found = decide(ballots, weights or self.weights, category=category, by_stated=by_stated)
        if self.known is None or weights is not None:
            return found
        return judged_by(found, decide(ballots, self.known, category=category, by_stated=by_stated))


def readable(heard: Sequence[Heard]) -> list[Heard]:
    """Those of `heard` that say something."""
    return [one for one in heard if one.read.label is not None]


def counted(members: Iterable[str]) -> dict[str, int]:
    """How often each is there."""
    return dict(Counter(members))


def fewest(most: int, settles: Callable[[int], bool]) -> int:
    """The fewest, from 1 to `most`, that settle it, where more settle it too; `most` where no fewer do."""
    return bisect_left(range(1, most), True, key=settles) + 1 if most else 0


def _answered(heard: Sequence[Heard], labels: Sequence[str | None]) -> list[Ballot]:
    return [one.ballot(label) for one, label in zip(heard, labels, strict=True) if one.call.response is not None]
