"""What the fits learn from: questions with each member's answer, and what is known of which answers are right. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from app.orchestration.evidence.ballots import Ballot


@dataclass(frozen=True, slots=True)
class Answer:
    """A member's answer: its label (None where it could not be read), those of its further replicates, and what it took."""

    label: str | None
    replicates: tuple[str | None, ...] = ()
    latency_s: float | None = None
    cost_usd: float | None = None

    @property
    def labels(self) -> tuple[str | None, ...]:
        return (self.label, *self.replicates)


@dataclass(frozen=True, slots=True)
class Observation:
    """One question to a panel, and its judgement.

    `right` are the labels known to be right, `wrong` those known to be wrong. With a gold answer every label is one or the
    other; with feedback on the outcome alone the others stay open, and the fits count them so.
    """

    answers: Mapping[str, Answer]
    right: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()
    category: str | None = None

    def ballots(self, members: Sequence[str] | None = None) -> list[Ballot]:
        """The ballots of `members` (of all that answered), in their order."""
        asked = [member for member in members or self.answers if member in self.answers]
        return [
            Ballot(member, label, replicate) for member in asked for replicate, label in enumerate(self.answers[member].labels)
        ]

    def judged(self, label: str | None) -> bool | None:
        """Whether `label` is right; None where that is not known. No label is no right answer."""
        if label is None or label in self.wrong:
            return False
        return True if label in self.right else False if self.right else None

    def only(self, members: Sequence[str]) -> Observation:
        """The same question as it stood when only `members` had answered."""
        kept = {member: self.answers[member] for member in members if member in self.answers}
        return Observation(kept, self.right, self.wrong, self.category)


def members_of(observations: Sequence[Observation]) -> tuple[str, ...]:
    """Every member that answered any of them, in the order of their first answers."""
    return tuple(dict.fromkeys(member for observation in observations for member in observation.answers))


def arrival_order(observation: Observation) -> tuple[str, ...] | None:
    """The members by when their answers came; None where a latency is not known."""
    latencies = {member: answer.latency_s for member, answer in observation.answers.items()}
    known = {member: latency for member, latency in latencies.items() if latency is not None}
    return tuple(sorted(known, key=lambda member: known[member])) if len(known) == len(latencies) else None


def partial(observation: Observation, random: Random) -> Observation:
    """The question as it stood before all had answered: half the time those who came first, where the latencies are known, else
    any, as when others are asked first or fail."""
    order = arrival_order(observation)
    if order is None or random.random() < 0.5:
        order = random.sample(list(observation.answers), len(observation.answers))
    return observation.only(order[: random.randrange(1, len(order))]) if len(order) > 1 else observation


def halves(count: int, seed: int, share: float = 0.5) -> tuple[list[int], list[int]]:
    """A seeded split of `count` rows: the places of the first `share` of a shuffle, and those of the rest."""
    places = list(range(count))
    Random(seed).shuffle(places)  # noqa: S311 - a split that can be repeated, not a secret
    cut = int(count * share)
    return places[:cut], places[cut:]


def folds(count: int, parts: int) -> list[tuple[list[int], list[int]]]:
    """Cross-validation: for each part, the places to fit on and the places left out. Every place is left out once."""
    return [
        ([place for place in range(count) if place % parts != part], list(range(part, count, parts)))
        for part in range(min(parts, count))
    ]
