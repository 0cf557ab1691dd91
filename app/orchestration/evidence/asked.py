"""What kind of answer a prompt asks for, and what a text states as its answer where nobody said how. Pure."""

from __future__ import annotations

import re
from typing import Final

from app.orchestration.evidence.extraction import Choices
from app.orchestration.evidence.labels import normalised
from app.orchestration.evidence.loose_json import loose_json

READ_CHARACTERS: Final = 8_000
"""How much of a prompt or an answer is read, from its end: what is asked for, and what is answered, is said last."""
SHORT: Final = 60
"""Characters up to which a text is an answer of its own, and not an explanation of one."""
_MEMBERS: Final = ("final_answer", "answer", "final", "result", "choice", "label")
_PAIRS: Final = (("yes", "no"), ("true", "false"))
_PAIR = re.compile(r"\b(yes|true)\b[\"'\])*`]{0,4}\s{0,2}(?:\bor\b|/|,)\s{0,2}[\"'\[(*`]{0,4}(no|false)\b", re.IGNORECASE)
_OPTION = re.compile(r"^[ \t]{0,4}\(?([A-J])[).:][ \t]{1,4}([^\n]{1,200})$", re.MULTILINE)
_STATED = (
    ("\\boxed", re.compile(r"\\boxed\{([^{}]{1,60})\}")),
    ("####", re.compile(r"^####[ \t]{0,4}([^\n]{1,60})$", re.MULTILINE)),
    ("[[", re.compile(r"\[\[([^\[\]\n]{1,60})\]\]")),
    (
        "answer",
        re.compile(
            r"answer[\"'*_`]{0,4}(?:\s{1,3}is|\s{0,3}[:=])[\s:*_`\"'$]{0,8}([^\n]{1,60}?)[*_`\"'$]{0,4}\.?\s{0,4}$",
            re.IGNORECASE | re.MULTILINE,
        ),
    ),
    ("[", re.compile(r"\[([^\[\]\n]{1,40})\]\.?\s{0,4}\Z")),
    ("[", re.compile(r"\A\s{0,4}\[([^\[\]\n]{1,40})\]")),
)
"""How an answer is set off from what explains it, the surest first, each with what a text must hold to be searched."""


def asked_kind(prompt: str) -> Choices | None:
    """The choices that `prompt` gives: yes or no, true or false, or options under letters. None where it gives none."""
    text = prompt[-READ_CHARACTERS:]
    letters: dict[str, str] = {}
    for letter, words in _OPTION.findall(text):
        if letter == chr(ord("A") + len(letters)):
            letters[letter] = words.strip()
    if len(letters) > 1:
        return Choices(tuple(letters), letters)
    found = _PAIR.search(text)
    pair = (found[1].lower(), found[2].lower()) if found else None
    return Choices(pair) if pair in _PAIRS else None


def stated_answer(text: str) -> str | None:
    """The label of what `text` states as its answer; None where it is a text of its own, which states nothing apart."""
    text = text[-READ_CHARACTERS:].strip()
    said = set_off(text)
    if said is None and len(text) <= SHORT and "\n" not in text and not text.startswith("{"):
        said = text
    return None if said is None else normalised(said) or None


def set_off(text: str) -> str | None:
    """The answer that `text` sets off from what explains it: boxed, in brackets, after "answer:", or as a member of JSON."""
    text = text[-READ_CHARACTERS:]
    data = loose_json(text) if text.startswith("{") else None
    if isinstance(data, dict):
        for name in _MEMBERS:
            value = data.get(name)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if isinstance(value, (str, int, float)) and len(str(value)) <= SHORT:
                return str(value)
        return None
    folded = text.casefold()
    for needle, pattern in _STATED:
        found = pattern.findall(text) if needle in folded else ()
        if found:
            return str(found[-1])
    return None
