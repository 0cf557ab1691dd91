"""Whether an answer is right, by the gold answers of its question. Pure.

Answers are read as the strategy `consensus` reads them: the same extraction, the same normalisation of labels and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never, cast, get_args

from app.core import patterns
from app.orchestration.evidence.extraction import Choices, JsonAnswer, NumberAnswer, TextAnswer, extract
from app.orchestration.evidence.labels import among, normalised
from app.orchestration.evidence.numbers import number

GradeKind = Literal["choice", "number", "exact", "contains", "regex", "json", "score"]
GRADES: tuple[GradeKind, ...] = get_args(GradeKind)

_YES_NO = ("yes", "no")
_OPTION = re.compile(r"^\s{0,4}\(?([A-Z])[.):]\s", re.MULTILINE)
_SAID_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Grading:
    """How the answers to a question are graded.

    `choices` are those of `choice`, `texts` what they stand for; `pattern` (RE2) finds what is compared in the answer.
    """

    kind: GradeKind
    choices: tuple[str, ...] = ()
    texts: Mapping[str, str] | None = None
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Graded:
    """`score` is from 0 (wrong) to 1 (right); `said` is what was read, None where nothing could be."""

    score: float
    said: str | None


def grading_of(
    gold: Sequence[Any],
    text: str,
    *,
    kind: GradeKind | None = None,
    choices: Sequence[str] | Mapping[str, str] | None = None,
    pattern: str | None = None,
) -> Grading:
    """The grading of a question with the text `text`; without a `kind` by the shape of its gold answers.

    Choices are those that are given, else yes and no, else the letters that begin lines of the question.

    Raises:
        ValueError: there are no choices for `choice`, or none of the gold answers is one.
    """
    labels = tuple(choices) if choices else _implied(gold, text)
    texts = dict(choices) if isinstance(choices, Mapping) else None
    kind = kind or _kind(gold, labels)
    if kind != "choice":
        return Grading(kind, pattern=pattern)
    if not labels:
        raise ValueError("there are no choices; give `choices`, or --choices")
    if not any(among(str(one), labels) for one in gold):
        raise ValueError(f"the answer {gold[0]!r} is none of the choices {', '.join(labels)}")
    return Grading(kind, labels, texts, pattern)


def _implied(gold: Sequence[Any], text: str) -> tuple[str, ...]:
    said = [_scalar(one) for one in gold]
    if said and all(one.casefold() in ("yes", "no", "true", "false") for one in said):
        return _YES_NO
    if said and all(re.fullmatch("[A-Z]", one) for one in said):
        return tuple(dict.fromkeys(_OPTION.findall(text)))
    return ()


def _kind(gold: Sequence[Any], labels: Sequence[str]) -> GradeKind:
    if not gold:
        return "score"
    if labels:
        return "choice"
    if any(isinstance(one, (dict, list)) for one in gold):
        return "json"
    found = [number(_scalar(one)) for one in gold]
    numeric = all(one is not None and normalised(_scalar(said)) == one.label for one, said in zip(found, gold, strict=True))
    return "number" if numeric else "exact"


def graded(text: str, gold: Sequence[Any], how: Grading) -> Graded:
    """`text` against the gold answers, any of which is right.

    Raises:
        InvalidRequest: a pattern is none.
    """
    match how.kind:
        case "score":
            return _score(text)
        case "contains":
            inside = f" {normalised(text)} "
            return _told(any(normalised(_scalar(one)) in inside for one in gold), text)
        case "regex":
            return _told(any(patterns.compiled(_scalar(one)).search(text) is not None for one in gold), text)
        case "json":
            read = extract(text, JsonAnswer())
            return _told(read.label is not None and any(_same(read.data, one) for one in gold), read.label)
        case "choice" | "number" | "exact":
            said = _label(text, how)
            return _told(said is not None and said in gold_labels(gold, how), said)
        case _:
            assert_never(how.kind)


def gold_labels(gold: Sequence[Any], how: Grading) -> tuple[str, ...]:
    """The gold answers as labels, as votes are counted by them."""
    said = [_scalar(one) for one in gold]
    match how.kind:
        case "choice":
            return tuple(label for one in said if (label := among(one, how.choices)) is not None)
        case "number":
            return tuple(found.label for one in said if (found := number(one)) is not None)
        case _:
            return tuple(normalised(one) for one in said)


def _label(text: str, how: Grading) -> str | None:
    match how.kind:
        case "choice":
            return extract(text, Choices(how.choices, how.texts, how.pattern)).label
        case "number":
            return extract(text, NumberAnswer(pattern=how.pattern)).label
        case _:
            return extract(text, TextAnswer(how.pattern)).label


def _score(text: str) -> Graded:
    """A score that the answer itself is: true or false, or a number from 0 to 1."""
    said = text.strip().casefold()
    if said in ("true", "false"):
        return Graded(float(said == "true"), said)
    try:
        value = float(said)
    except ValueError:
        return Graded(0.0, None)
    return Graded(value, said) if 0 <= value <= 1 else Graded(0.0, None)


def _told(right: bool, said: str | None) -> Graded:
    return Graded(float(right), None if said is None else said[:_SAID_CHARACTERS])


def _scalar(value: Any) -> str:
    """A gold answer as text; true and false as JSON has them."""
    return str(value).casefold() if isinstance(value, bool) else str(value)


def _same(said: Any, gold: Any) -> bool:
    """Whether two JSON values say the same: members in any order, scalars as labels."""
    if isinstance(gold, dict):
        members = cast("dict[str, Any]", gold)
        return (
            isinstance(said, dict)
            and set(cast("dict[str, Any]", said)) == set(members)
            and all(_same(said[name], value) for name, value in members.items())
        )
    if isinstance(gold, list):
        items = cast("list[Any]", gold)
        return (
            isinstance(said, list)
            and len(cast("list[Any]", said)) == len(items)
            and all(_same(one, other) for one, other in zip(cast("list[Any]", said), items, strict=True))
        )
    return not isinstance(said, (dict, list)) and normalised(_scalar(said)) == normalised(_scalar(gold))
