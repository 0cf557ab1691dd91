"""What a run of `parallel` teaches: who said what, and what was taken. Pure.

| the answers                               | are told as             | `label` states a right one | are a vote         |
|-------------------------------------------|-------------------------|----------------------------|--------------------|
| choices of the prompt, or plain numbers   | what they say           | yes                        | where two answered |
| short answers of other words              | who agrees with whom    | no                         | where two answered |
| texts, JSON, calls of tools               | who says the very same  | no                         | no                 |
"""

from __future__ import annotations

from collections.abc import Sequence

from app.orchestration.evidence.extraction import AnswerKind, Choices, JsonAnswer, NumberAnswer, extract
from app.orchestration.learning.taught import Said as Told
from app.orchestration.learning.taught import Taught, opaque
from app.orchestration.parallel.scoring import Said, Scorer


def taught_by(
    candidates: Sequence[str], answers: Sequence[Said], taken: int, scorer: Scorer, kind: Choices | JsonAnswer | None
) -> Taught:
    """What is to be learned from `answers`.

    Parameters:
        candidates: whose each answer is, by its id.
        taken: the place of the one that was taken.
        kind: what was asked for.
    """
    worded = all(one.comparable and not one.acts for one in answers) and answers[taken].label is not None
    reader = _reader(answers, kind) if worded else None
    labels = [_label(one, worded=worded, read=reader is not None) for one in answers]
    said = tuple(Told(name, one.member, label) for name, one, label in zip(candidates, answers, labels, strict=True))
    votes = worded and len(answers) > 1
    decision = scorer.decision(answers)
    probability = decision.probability if votes and decision.winner == answers[taken].label else None
    return Taught(said, scorer.panel, labels[taken], probability, reader, votes=votes)


def _reader(answers: Sequence[Said], kind: Choices | JsonAnswer | None) -> AnswerKind | None:
    if isinstance(kind, Choices):
        return kind
    plain = all(one.label is not None and extract(one.label, NumberAnswer()).label == one.label for one in answers)
    return NumberAnswer() if plain else None


def _label(one: Said, *, worded: bool, read: bool) -> str | None:
    if worded:
        return one.label if read or one.label is None else opaque(one.label)
    return opaque(one.text) if one.text else None
