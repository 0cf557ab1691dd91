"""How sure an answer says it is itself. Pure."""

from __future__ import annotations

import re
from typing import Any, Final, cast

from app.orchestration.evidence.numbers import READ_CHARACTERS

_MEMBERS: Final = ("confidence", "certainty", "probability", "confidence_score")
_WORDS: Final = {
    "very high": 0.95, "very likely": 0.9, "certain": 0.97, "high": 0.85, "likely": 0.75, "medium": 0.6, "moderate": 0.6,
    "low": 0.35, "unlikely": 0.25, "very low": 0.15, "unsure": 0.4,
}  # fmt: skip
"""What the words are taken for; an answer's own confidence is a hint that measured reliability outweighs."""
_WRITTEN = re.compile(
    r"(?:confidence|certainty|confident|certain|sure)(?:\s(?:level|score))?(?:\sin\sth(?:is|e)\sanswer)?[\"'*]{0,3}\s{0,3}(?:is|of|:|=)?"
    r"\s{0,3}[\"'*(]{0,3}(?:about|around|approximately|~)?"
    r"\s{0,2}(?P<number>\d{1,3}(?:\.\d{1,6})?)\s{0,2}(?P<unit>%|/\s{0,2}100?)?",
    re.IGNORECASE,
)
_BEFORE = re.compile(r"(?P<number>\d{1,3}(?:\.\d{1,3})?)\s{0,2}%\s{1,3}(?:confident|certain|sure|confidence)", re.IGNORECASE)
_WORDED = re.compile(
    r"confidence(?:\s(?:level|score))?[\"'*]{0,3}\s{0,3}(?:is|:|=)"
    r"\s{0,3}[\"'*]{0,3}(very high|very low|high|medium|moderate|low)",
    re.IGNORECASE,
)
_VALUE = (
    r"[\s*_]{0,4}(?:about|around|approximately|roughly|~)?\s{0,2}"
    r"(?:\d{1,3}(?:\.\d{1,6})?\s{0,2}(?:%|percent|/\s{0,2}100?(?!\d))?(?!\w)|(?:very\s)?(?:high|low|likely|unlikely)\b|medium\b|moderate\b|certain\b)"
)
_NAME = r"(?:confidence|certainty)(?:\s(?:level|score))?(?:\sin\sth(?:is|e)\sanswer)?[*_]{0,3}\s{0,3}"
_ASIDE = re.compile(
    rf"(?<![\"'\w])(?:{_NAME}[:=]|my\s{_NAME}is){_VALUE}|(?<![\w.])\d{{1,3}}(?:\.\d{{1,3}})?\s{{0,2}}%\s{{1,3}}(?:confident|certain|sure)\b",
    re.IGNORECASE,
)
_LINE = re.compile(
    rf"^[ \t>*_#-]{{0,8}}(?:(?:my|overall|final)\s)?{_NAME}(?:[:=]|is\b){_VALUE}[ \t.)*_]{{0,8}}$\n?",
    re.IGNORECASE | re.MULTILINE,
)


def without_confidence(text: str, *, lines_only: bool = False) -> str:
    """`text` without the lines that say how sure it is, and without such words in its sentences unless `lines_only`: their
    numbers are no answers. Members of JSON stay."""
    if "%" not in text and "onfidence" not in text and "ertainty" not in text:
        return text
    text = _LINE.sub("", text)
    return text if lines_only else _ASIDE.sub("", text)


def stated_confidence(text: str, data: Any = None) -> float | None:
    """The probability, 0 to 1, that the answer gives itself, in the JSON `data` that was read from it or in its prose."""
    if isinstance(data, dict):
        members = cast("dict[str, Any]", data)
        for name in _MEMBERS:
            value = _share(members.get(name))
            if value is not None:
                return value
    text = text[-READ_CHARACTERS:]
    found = [*_BEFORE.finditer(text), *_WRITTEN.finditer(text)]
    if found:
        last = max(found, key=lambda match: match.start())
        unit = (last.groupdict().get("unit") or ("%" if last.re is _BEFORE else "")).replace(" ", "")
        value = float(last["number"])
        return _within(value / 10 if unit == "/10" else value / 100 if unit or value > 1 else value)
    worded = _WORDED.findall(text)
    return _WORDS[cast("str", worded[-1]).casefold()] if worded else None


def _share(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in _WORDS:
            return _WORDS[word]
        percent = word.endswith("%")
        try:
            value = float(word.rstrip("% ")) / (100 if percent else 1)
        except ValueError:
            return None
    return _within(value / 100 if value > 1 else value) if isinstance(value, (int, float)) else None


def _within(value: float) -> float | None:
    return value if 0 <= value <= 1 else None
