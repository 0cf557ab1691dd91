"""What a prompt says in words of the form of its answer: a last line `Answer: X`, a confidence, JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final, cast

import orjson

from app.core.chat import JsonObject
from app.providers.mock.questions import Question, draw, pick

_READ: Final = 20_000
"""Characters of a prompt's end that instructions are looked for in."""
_SENTENCE: Final = r"[^.?!\n]{0,200}"
_LINE = re.compile(_SENTENCE + r"\bline:? {0,2}[`\"']?Answer: X\b([^\n]*)", re.IGNORECASE)
_ONE_OF = re.compile(r"\bone of (.+?)(?: and nothing else\b|\.\s*$|$)", re.IGNORECASE)
_CONFIDENCE = re.compile(_SENTENCE + r"\bwrite [`\"']?Confidence:[^\n]*", re.IGNORECASE)
_SCHEMA = re.compile(_SENTENCE + r"\bfollows? (?:this|the) JSON schema:\s{0,9}", re.IGNORECASE)
_JSON = re.compile(_SENTENCE + r"\bwith one JSON (?:value|object)\b[^\n]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Instructed:
    """A prompt, apart from what it says of the form.

    `line` is whether the answer is to end with a line `Answer: X`, where X is one of `labels` or, as `number` tells, a number;
    with `confidence` another line follows. `schema` is that of the JSON that is asked for: {} where any will do.
    """

    question: str
    line: bool = False
    labels: tuple[str, ...] = ()
    number: bool = False
    confidence: bool = False
    schema: JsonObject | None = None

    def fitted(self, question: Question) -> Question:
        """`question` with answers that the line may have. Where nobody knows the right one, accurate personas agree on it."""
        if self.labels:
            return _of_labels(question, self.labels)
        if self.number and question.kind != "number":
            right = int(draw("number", question.text) * 100)
            return replace(question, right=str(right), wrong=str(right + 1 + int(draw("slip", question.text) * 9)))
        return question

    def ended(self, text: str, value: str, confidence: float) -> str:
        """`text` with the lines that are asked for at its end. A text that is the value and no more is that line alone."""
        if not self.line or not value:
            return text
        lines = [] if text.strip().casefold() == value.casefold() else [text, ""]
        lines.append(f"Answer: {value}")
        if self.confidence:
            lines.append(f"Confidence: {confidence:.0%}")
        return "\n".join(lines)


def read_instructions(prompt: str) -> Instructed:
    """What is asked of the form of the answer to `prompt`."""
    before, text = prompt[:-_READ], prompt[-_READ:]
    found = Instructed("")
    if line := _last(_LINE, text):
        labels = _labels(line[1])
        found = replace(found, line=True, labels=labels, number=" number" in line[1] and not labels)
        text = text[: line.start()] + text[line.end() :]
        if sure := _last(_CONFIDENCE, text):
            found = replace(found, confidence=True)
            text = text[: sure.start()] + text[sure.end() :]
        return replace(found, question=(before + text).strip() or prompt)
    if told := _last(_SCHEMA, text):
        schema, end = _json(text, told.end())
        found = replace(found, schema=schema)
        text = text[: told.start()] + text[end:] if schema is not None else text
    if wanted := _last(_JSON, text):
        found = replace(found, schema=found.schema or {})
        text = text[: wanted.start()] + text[wanted.end() :]
    return replace(found, question=(before + text).strip() or prompt)


def _json(text: str, start: int) -> tuple[JsonObject | None, int]:
    """The object that begins at `start`, and where it ends."""
    try:
        value, end = JSONDecoder().raw_decode(text, start)
    except (JSONDecodeError, RecursionError):
        return None, start
    return (cast(JsonObject, value), end) if isinstance(value, dict) else (None, start)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter([*pattern.finditer(text)][::-1]), None)


def _labels(said: str) -> tuple[str, ...]:
    """The labels that stand in `said` as `one of "a", "b"`."""
    found = _ONE_OF.search(said)
    if found is None:
        return ()
    try:
        values: Any = orjson.loads(f"[{found[1]}]")
    except ValueError:
        values = re.split(r",\s*(?:or\s+)?|\s+or\s+", found[1])
    return tuple(str(value).strip() for value in values if str(value).strip())


def _of_labels(question: Question, labels: Sequence[str]) -> Question:
    by_name = {label.casefold(): label for label in labels}
    right = by_name.get(question.right.casefold()) or pick(labels, "choice", question.text)
    others = [label for label in labels if label != right] or [right]
    wrong = by_name.get(question.wrong.casefold())
    return replace(question, right=right, wrong=wrong if wrong in others else pick(others, "wrong", question.text))
