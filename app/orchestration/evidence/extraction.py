"""What an answer says, read from its text: one of some choices, a number, JSON, or text by a pattern. Pure.

Each kind has an instruction for the prompt and a parser that does not rely on it being followed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, assert_never, cast

from app.core import json_schemas, patterns
from app.orchestration.evidence.labels import among, normalised
from app.orchestration.evidence.loose_json import held_json, loose_json, loose_member
from app.orchestration.evidence.numbers import READ_CHARACTERS, Number, number, number_label, numbers, plain
from app.orchestration.evidence.stated import stated_confidence, without_confidence

_MEMBERS: Final = ("final_answer", "answer", "final", "result", "choice", "label", "solution", "value")
NO_NUMBER: Final = "says no number"
_BOXED = re.compile(r"\\{1,2}boxed\s{0,2}\{{1,2}([^{}]{0,400}(?:\{[^{}]{0,100}\}[^{}]{0,100}){0,4})\}{1,2}")
_HASHES = re.compile(r"^#{4}\s{0,4}(.{1,400})$", re.MULTILINE)
_CUE = re.compile(
    r"(?:(?:final|correct|best|right)\s{1,3})?(?:answer|option|choice)(?:\s{1,3}(?:choice|option))?"
    r"[\"'*_`)]{0,4}(?:\s{1,3}(?:is|are|would be|should be|must be)|\s{0,3}[:=])[\s:*_`]{0,8}"
    r"(?:option|choice|answer)?[\s:]{0,3}([^\n]{1,400})"
    r"|^A:\s{0,4}([^\n]{1,400})$",
    re.IGNORECASE | re.MULTILINE,
)
_BRACKETED = re.compile(r"\[\[?\s{0,2}([^\[\]\n]{1,80})\s{0,2}\]\]?")
_BOLD = re.compile(r"\*\*\s{0,2}([^*\n]{1,80})\s{0,2}\*\*")
_RESULT = re.compile(
    r"((?:[^\d,;:(—–]|\d,(?=\d)){0,80}\d(?:[^,;:(—–]|\d,(?=\d)){0,120}?)(?<!which)(?<!that)(?<!this)(?<!it)\s"
    r"(?:is|are|equals?|makes|gives|≈)\s((?:about\s|approximately\s|exactly\s)?[^\w\s]{0,3}\d.{0,200})",
    re.IGNORECASE,
)
_STATEMENT_END = re.compile(r"(?<=[^\d])\.(?:\s|$)|(?<=\d)\.(?:\s{1,3}[A-Z]|$)|\s[—;]\s")


@dataclass(frozen=True, slots=True)
class Choices:
    """One of `labels`; `texts` say what they stand for (`{"A": "Paris"}`), so that a text counts as its label."""

    labels: tuple[str, ...]
    texts: Mapping[str, str] | None = None
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class NumberAnswer:
    """A number, told in `unit` where the answer's own unit allows it."""

    unit: str = ""
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """A JSON value that follows `schema`, where one is given."""

    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """The text, or what the first group (the match without one) of `pattern`, in RE2's syntax, finds in it."""

    pattern: str | None = None


AnswerKind = Choices | NumberAnswer | JsonAnswer | TextAnswer


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was read. `label` is what votes are counted by; None, with the reason in `errors`, where nothing was found."""

    data: Any = None
    label: str | None = None
    errors: tuple[str, ...] = ()
    stated: float | None = None

    @property
    def valid(self) -> bool:
        return not self.errors


def instruction(kind: AnswerKind, *, confidence: bool = False) -> str:
    """What is added to the prompt, so that the answer can be read; "" where nothing is needed."""
    sure = (
        "\nThen, on a line of its own, write `Confidence:` and how likely your answer is right, from 0 to 100 %."
        if confidence
        else ""
    )
    match kind:
        case Choices(labels=labels):
            listed = ", ".join(json.dumps(label, ensure_ascii=False) for label in labels)
            return f"End with a line `Answer: X`, where X is exactly one of {listed} and nothing else.{sure}"
        case NumberAnswer(unit=unit):
            told = f", in {unit}" if unit else ""
            return f"End with a line `Answer: X`, where X is one number{told}, in digits, without words.{sure}"
        case JsonAnswer(schema=schema):
            follows = f" that follows this JSON schema:\n{json.dumps(schema, ensure_ascii=False)}" if schema else "."
            return f"Answer with one JSON value and nothing else{follows}"
        case TextAnswer():
            return sure.strip()
        case _:
            assert_never(kind)


def extract(text: str, kind: AnswerKind, *, stated: bool = False) -> Extracted:
    """What `text` says as a `kind`, the first of these that can be read: the caller's pattern, a JSON member (`answer` or
    alike), `\\boxed{}`, `[bracketed]`, `#### x`, "the answer is x", and what the kind allows beside (a last number, a lone
    choice).

    Args:
        text: The answer.
        kind: What it should hold.
        stated: Whether to read as well how sure it says it is.

    Raises:
        InvalidRequest: the pattern or the schema is none.
    """
    found = _extract(_answering(text, kind, stated), kind)
    return replace(found, stated=stated_confidence(text, loose_json(text) if "{" in text else None)) if stated else found


def _answering(text: str, kind: AnswerKind, stated: bool) -> str:
    """What of `text` answers: all but how sure it says it is. The caller's pattern sees all of it, and so does JSON."""
    if isinstance(kind, JsonAnswer) or kind.pattern is not None:
        return text
    bare = without_confidence(text, lines_only=isinstance(kind, TextAnswer))
    return bare if stated or bare.strip() else text


def _extract(text: str, kind: AnswerKind) -> Extracted:
    match kind:
        case Choices():
            return _choice(text, kind)
        case NumberAnswer():
            return _number(text, kind)
        case JsonAnswer():
            return _json(text, kind)
        case TextAnswer(pattern=pattern):
            found = text.strip() if pattern is None else _by_pattern(text, pattern)
            if not found:
                return Extracted(errors=("nothing matches the pattern" if pattern else "the answer is empty",))
            return Extracted(found, normalised(found))
        case _:
            assert_never(kind)


def _choice(text: str, kind: Choices) -> Extracted:
    data = loose_json(text) if "{" in text else None
    for said in _said(text, kind.pattern, data):
        label = _chosen(said, kind)
        if label is not None:
            return Extracted(label, label)
    if kind.pattern is None:
        label = _mentioned(text, kind.labels) or _chosen(text[:READ_CHARACTERS], kind)
        if label is not None:
            return Extracted(label, label)
    return Extracted(errors=(f"says none of {', '.join(map(repr, kind.labels[:12]))}",))


def _chosen(said: str, kind: Choices) -> str | None:
    label = among(said, kind.labels)
    if label is not None:
        return label
    if kind.texts:
        said_text = normalised(said)
        for label, text in kind.texts.items():
            if normalised(text) == said_text:
                return label
    first = re.match(r"[\s\"'*_`(\[{$]{0,6}([\w'-]{1,60})(?![\w'-])", said)
    return among(first[1], kind.labels) if first and _may_begin(first[1], kind.labels) else None


def _may_begin(word: str, labels: Sequence[str]) -> bool:
    """Whether a word at the head of a sentence is a choice: a lower-case letter is a word of its own (`a cat`)."""
    return len(word) > 1 or word.isupper() or word.isdigit() or word in labels


def _mentioned(text: str, labels: Sequence[str]) -> str | None:
    """The choice that stands last in the text as a word of its own, letter for letter where it is one letter."""
    text = text[-READ_CHARACTERS:]
    best: tuple[int, str] | None = None
    for label in labels:
        single = len(label) == 1
        pattern = rf"(?<![\w'-]){re.escape(label)}(?![\w'-])"
        if single and label.isalpha():
            pattern = rf"(?:\({re.escape(label)}\)|(?<![\w'’.-]){re.escape(label)}(?=[).:]|\s{{0,4}}$))"
        for found in re.finditer(pattern, text, 0 if single else re.IGNORECASE):
            if best is None or found.start() > best[0]:
                best = (found.start(), label)
    return best[1] if best else None


def _number(text: str, kind: NumberAnswer) -> Extracted:
    data = loose_json(text) if "{" in text else None
    for said in _said(plain(text), kind.pattern, data):
        found = numbers(plain(said)) or [one for one in (number(said),) if one is not None]
        if found:
            return _told(found[-1] if "=" in said else _result(said) or found[0], kind.unit)
    if kind.pattern is None and _member(data) is None:
        found = number(text)
        if found is not None:
            return _told(found, kind.unit)
    return Extracted(errors=(NO_NUMBER,))


def _result(said: str) -> Number | None:
    """The number that a sentence comes to, where it counts others before: `the sum of 3 and 4 is 7`."""
    stated = _RESULT.fullmatch(said)
    found = numbers(stated[2]) if stated and numbers(stated[1]) else ()
    return found[0] if found else None


def _told(found: Number, unit: str) -> Extracted:
    value = found.told_in(unit).value
    return Extracted(value, number_label(value)) if math.isfinite(value) else Extracted(errors=(NO_NUMBER,))


def _json(text: str, kind: JsonAnswer) -> Extracted:
    held = held_json(text)
    if held is None:
        return Extracted(errors=("holds no JSON",))
    if held.fault is not None:
        return Extracted(errors=(f"holds {held.fault}",))
    data = held.value
    if kind.schema is not None:
        fault = json_schemas.compiled(kind.schema).fault(data)
        if fault is not None:
            return Extracted(data, errors=(f"does not follow the schema: {fault[:300]}",))
    return Extracted(data, json.dumps(data, sort_keys=True, ensure_ascii=False))


def _member(data: Any) -> str | None:
    """What the member of `data` says that is called `answer` or alike: an answer that has one means it, number or not."""
    if isinstance(data, dict):
        members = {name.casefold(): value for name, value in cast("dict[str, Any]", data).items()}
        for name in _MEMBERS:
            value = members.get(name)
            if isinstance(value, (str, int, float)):
                return str(value)
    return None


def _by_pattern(text: str, pattern: str) -> str | None:
    found = patterns.compiled(pattern).search(text)
    if found is None:
        return None
    return found.group(1) if patterns.compiled(pattern).groups else found.group()


def _said(text: str, pattern: str | None, data: Any) -> Iterator[str]:
    """The places of `text` that may state its answer, the surest first; with a pattern, what that finds and nothing else."""
    if pattern is not None:
        found = _by_pattern(text, pattern)
        if found:
            yield found
        return
    text = text[-READ_CHARACTERS:]
    member = _member(data)
    if member is not None:
        yield member
    elif "{" in text:
        member = loose_member(text, _MEMBERS)
        if member:
            yield member
    for found in (_BOXED, _BRACKETED, _HASHES):
        yield from reversed(found.findall(text))
    for cue in reversed(list(_CUE.finditer(text))):
        said = (cue[1] or cue[2]).strip()
        yield _STATEMENT_END.split(said, maxsplit=1)[0]
    yield from reversed(_BOLD.findall(text))
