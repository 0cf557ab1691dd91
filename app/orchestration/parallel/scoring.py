"""How good answers are, told without a judge: how likely each is right by what all of them say, and what its form tells. Pure.

Answers that can be compared (a choice, a number, a few words) speak for and against each other: their score is the calibrated
probability that the vote gives them, so two that agree outrank one. Longer texts speak for each other where they are alike;
that they are written differently says nothing against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from app.core.chat import Choice
from app.orchestration.evidence.asked import stated_answer
from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.cluster import LEXICAL_THRESHOLD, clusters
from app.orchestration.evidence.confidence import Calibrators
from app.orchestration.evidence.extraction import Choices, JsonAnswer, extract
from app.orchestration.evidence.similarity import lexical_distances
from app.orchestration.evidence.stopping import is_decided
from app.orchestration.evidence.vote import Decision, decide
from app.orchestration.evidence.weights import PanelWeights

REFUSED: Final = 0.05
UNREADABLE: Final = 0.4
"""An answer that does not say what was asked for, in words that can be read."""
WRONG_FORM: Final = 0.2
"""Text where JSON was asked for, or JSON that does not follow its schema."""
CUT_OFF: Final = 0.5
STUNTED: Final = 0.7
SHORT_SHARE: Final = 0.2
"""A text with less than this share of the others' usual length is taken to leave something out."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a member has answered. `label` is what it says where answers can be compared; None where it is a text of its own, or
    says nothing that was asked for. `form` is what its form leaves of its score, 0 to 1. One that `acts` wants calls of tools
    made, and its label says which."""

    member: str
    text: str
    label: str | None
    form: float
    comparable: bool
    acts: bool = False


def said(
    member: str,
    choice: Choice,
    kind: Choices | JsonAnswer | None,
    *,
    open_ended: bool = False,
    wants: str | None = None,
) -> Said:
    """An answer, read.

    Parameters:
        kind: what was asked for; None where nothing tells.
        open_ended: whether many different answers may be right, as to a request for a poem.
        wants: what calls mean that are to be made if the answer is taken.
    """
    text = choice.text.strip()
    if wants is not None:
        return Said(member, wants, wants, 1.0, comparable=True, acts=True)
    if choice.tool_calls:
        asked = "\n".join(f"{call.name} {call.arguments}" for call in choice.tool_calls)
        return Said(member, asked, None, 1.0, comparable=False)
    if choice.refusal or choice.finish_reason == "content_filter":
        return Said(member, choice.refusal or text, None, REFUSED, comparable=False)
    if not text:
        return Said(member, "", None, 0.0, comparable=False)
    form = CUT_OFF if choice.finish_reason == "length" else 1.0
    match kind:
        case Choices():
            label = extract(text, kind).label
            return Said(member, text, label, form if label is not None else form * UNREADABLE, comparable=True)
        case JsonAnswer():
            valid = extract(text, kind).valid
            return Said(member, text, None, form if valid else form * WRONG_FORM, comparable=False)
        case None:
            label = None if open_ended else stated_answer(text)
            return Said(member, text, label, form, comparable=label is not None)


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores the answers of one run.

    `panel` is how many models are asked.
    """

    weights: PanelWeights
    calibrators: Calibrators
    panel: int
    category: str

    def scores(self, answers: Sequence[Said]) -> tuple[float, ...]:
        """For each of `answers` how likely it is right, 0 to 1."""
        voting = [one for one in answers if one.comparable]
        by_label = self._by_label(voting)
        texts = [one for one in answers if not one.comparable and one.form > REFUSED]
        by_text = dict(zip(map(id, texts), self._alike(texts), strict=True))
        usual = median(len(one.text) for one in texts) if texts else 0.0

        def sure(one: Said) -> float:
            if one.comparable:
                return by_label.get(one.label, self._alone(one.member))
            stunted = len(texts) > 1 and len(one.text) < SHORT_SHARE * usual
            return by_text.get(id(one), 1.0) * (STUNTED if stunted else 1.0)

        return tuple(round(one.form * sure(one), 4) for one in answers)

    def decided(self, answers: Sequence[Said], remaining: Sequence[str]) -> bool:
        """Whether what the members of `remaining` may still say can bring no other answer to the fore."""
        if not all(one.comparable for one in answers):
            return False
        ballots = [Ballot(one.member, one.label) for one in answers]
        decision = self.decision(answers)
        left: Mapping[str, int] = dict.fromkeys(remaining, 1)
        return is_decided(ballots, decision, left, self.weights, category=self.category)

    def decision(self, answers: Sequence[Said]) -> Decision:
        """The vote of `answers`, as far as they can be compared."""
        return decide([Ballot(one.member, one.label) for one in answers], self.weights, category=self.category)

    def _by_label(self, voting: Sequence[Said]) -> dict[str | None, float]:
        """The winner's probability, calibrated; the others share the rest as the vote shares it among them."""
        decision = self.decision(voting)
        if decision.winner is None:
            return {}
        sure = self._confidence(decision, self.panel)
        rest = (1 - sure) / max(1e-9, 1 - decision.probability)
        return {
            standing.label: sure if standing.label == decision.winner else min(sure, standing.probability * rest)
            for standing in decision.standings
        }

    def _alike(self, texts: Sequence[Said]) -> list[float]:
        """For each text, how likely it is right by who says much the same."""
        found = clusters(lexical_distances([one.text for one in texts]), threshold=LEXICAL_THRESHOLD)
        sure = [0.0] * len(texts)
        for cluster in found:
            ballots = [Ballot(texts[place].member, "same") for place in cluster.places]
            probability = self._confidence(decide(ballots, self.weights, category=self.category), len(ballots))
            for place in cluster.places:
                sure[place] = probability
        return sure

    def _alone(self, member: str) -> float:
        return self._confidence(decide([Ballot(member, "own")], self.weights, category=self.category), 1)

    def _confidence(self, decision: Decision, panel: int) -> float:
        return self.calibrators.confidence(decision, panel, self.category).probability
