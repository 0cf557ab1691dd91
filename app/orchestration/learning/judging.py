"""What people say of answers, and what follows from it for those who gave them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import orjson

from app.core.errors import InvalidRequest
from app.orchestration.evidence.extraction import AnswerKind, Choices, JsonAnswer, NumberAnswer, TextAnswer, extract
from app.orchestration.evidence.labels import normalised
from app.orchestration.evidence.numbers import number, number_label
from app.orchestration.learning.observations import Answer, Observation
from app.orchestration.learning.taught import OPAQUE, Noted, kept_label

GOOD: Final = 0.5
"""A score from here on says that the answer was right."""
RUN: Final = ""
"""What is judged: the run itself, else one of its candidates."""

Source = Literal["feedback", "review"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judgement: a `score` from 0 to 1, the `label` of the right answer, or the candidate that is `preferred`.

    `target` is the candidate that was judged, `RUN` for the run. `label` is as labels are kept.
    """

    at: float
    target: str = RUN
    score: float | None = None
    label: str | None = None
    preferred: str | None = None
    comment: str | None = None
    by: str = ""
    source: Source = "feedback"

    def as_json(self) -> bytes:
        return orjson.dumps(self)


Judgements = Mapping[str, Judgement]
"""By target: a later judgement of the same replaces an earlier one."""


def read_judgements(stored: bytes | None) -> dict[str, Judgement]:
    """What is stored of a run: by target the JSON of a judgement, as text; of nothing, nothing.

    Raises:
        ValueError: it is not of that shape.
    """
    try:
        value: dict[str, Any] = orjson.loads(stored) if stored else {}
        return {target: Judgement(**orjson.loads(one)) for target, one in value.items()}
    except (TypeError, AttributeError) as fault:
        raise ValueError(f"a stored judgement cannot be read: {fault!r}") from fault


def label_of(text: str, run: Noted) -> str:
    """The label of a right answer, read as the run's answers were.

    Raises:
        InvalidRequest: nothing can be read in it, or the run's answers were texts that have no label.
    """
    reader, near = run.taught.reader, run.taught.near
    if reader is None:
        message = f"the answers of {run.run_id} are texts without labels; give `score`, or the candidate that is `preferred`"
        raise InvalidRequest(message, param="label")
    if near is not None:
        found = number(text)
        if found is not None and abs(found.value - near[0]) <= near[1]:
            return number_label(near[0])
    for kind in (reader, _without_pattern(reader)):
        read = extract(text, kind)
        if read.label is not None:
            return kept_label(read.label, reader)
    if isinstance(reader, TextAnswer):
        return kept_label(normalised(text), reader)
    raise InvalidRequest(f"{text[:50]!r} {'; '.join(read.errors) or 'cannot be read'}", param="label")


def _without_pattern(reader: AnswerKind) -> AnswerKind:
    return reader if isinstance(reader, JsonAnswer) else replace(reader, pattern=None)


def verdicts(run: Noted, judgements: Judgements) -> tuple[frozenset[str], frozenset[str]]:
    """The labels of `run` that are right, and those that are wrong, as far as `judgements` tell. A review stands over the
    feedback on the same label."""
    right, wrong = _told(run, [one for one in judgements.values() if one.source == "feedback"])
    reviewed, rejected = _told(run, [one for one in judgements.values() if one.source == "review"])
    return (right - rejected) | reviewed, (wrong - reviewed) | rejected


def _told(run: Noted, judgements: Iterable[Judgement]) -> tuple[frozenset[str], frozenset[str]]:
    own = {said.candidate: said.label for said in run.taught.said}
    right: set[str] = set()
    wrong: set[str] = set()
    for one in judgements:
        label = one.label if one.label is not None else own.get(one.preferred) if one.preferred else None
        if label is not None:
            right.add(label)
        if one.score is not None:
            judged = run.taught.winner if one.target == RUN else own.get(one.target)
            if judged is not None:
                (right if one.score >= GOOD else wrong).add(judged)
    return frozenset(right), frozenset(wrong - right)


def outcome(run: Noted, judgements: Judgements) -> bool | None:
    """Whether the run's own answer was right; None where that is not known."""
    said = judgements.get(RUN)
    if said is not None and said.score is not None:
        return said.score >= GOOD
    right, wrong = verdicts(run, judgements)
    if run.taught.winner is None:
        return None
    chosen = _exclusive(run) or any(one.preferred for one in judgements.values())
    return Observation({}, right if chosen else right & {run.taught.winner}, wrong).judged(run.taught.winner)


def credit_of(run: Noted, judgements: Judgements) -> dict[str, float]:
    """By member: how good its answers were, 0 to 1, where that is known.

    Who said what is right was right; who said something else was wrong where answers exclude each other. A score counts for
    those who said just that.
    """
    right, wrong = verdicts(run, judgements)
    own = {said.candidate: said.label for said in run.taught.said}
    scores = {
        (run.taught.winner if one.target == RUN else own.get(one.target)): one.score
        for one in judgements.values()
        if one.score is not None
    }
    found: dict[str, list[float]] = {}
    for said in run.taught.said:
        credit: float | None = None
        if said.label in scores:
            credit = scores[said.label]
        elif said.label in right:
            credit = 1.0
        elif said.label in wrong or (right and (said.label is None or _exclusive(run))):
            credit = 0.0
        if credit is not None:
            found.setdefault(said.member, []).append(credit)
    return {member: sum(all_of) / len(all_of) for member, all_of in found.items()}


def contests(run: Noted, judgements: Judgements) -> dict[str, bool]:
    """By member: whether it won, where somebody has said which candidate is preferred."""
    preferred = next((one.preferred for one in judgements.values() if one.preferred), None)
    winner = run.member_of(preferred) if preferred else None
    return {} if winner is None else {said.member: said.member == winner for said in run.taught.said}


def observation(run: Noted, judgements: Judgements) -> Observation:
    """The run as the fits take it. Labels of texts are told apart from those of other runs."""
    answers: dict[str, list[str | None]] = {}
    for said in run.taught.said:
        answers.setdefault(said.member, []).append(_own(said.label, run))
    right, wrong = verdicts(run, judgements)
    return Observation(
        {
            member: Answer(labels[0], tuple(labels[1:]), *run.took.get(member, (None, None)))
            for member, labels in answers.items()
        },
        frozenset(_own(label, run) for label in right),
        frozenset(_own(label, run) for label in wrong),
        run.category,
    )


def _own(label: str | None, run: Noted) -> Any:
    if label is None or not label.startswith(OPAQUE):
        return label
    return f"{OPAQUE}{run.run_id}:{label}"


def _exclusive(run: Noted) -> bool:
    """Whether an answer that says something else than a right one is wrong: not so of texts."""
    return isinstance(run.taught.reader, (Choices, NumberAnswer, JsonAnswer, TextAnswer))
