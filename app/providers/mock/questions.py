"""What a question asks for, which answer counts as right, and which one a mistaken model gives.

A mock model knows sums, primes and capitals. For other closed questions (choices, yes or no) the right answer is drawn from the
question itself, so that all accurate personas agree on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from app.providers.mock import arithmetic

QuestionKind = Literal["number", "choice", "yes_no", "name", "open"]


@dataclass(frozen=True, slots=True)
class Question:
    """`right` and `wrong` are empty for an open question."""

    kind: QuestionKind
    text: str
    right: str = ""
    wrong: str = ""


CAPITALS: Mapping[str, tuple[str, str]] = {
    "australia": ("Canberra", "Sydney"),
    "brazil": ("Brasília", "Rio de Janeiro"),
    "canada": ("Ottawa", "Toronto"),
    "china": ("Beijing", "Shanghai"),
    "egypt": ("Cairo", "Alexandria"),
    "france": ("Paris", "Lyon"),
    "germany": ("Berlin", "Bonn"),
    "india": ("New Delhi", "Mumbai"),
    "italy": ("Rome", "Milan"),
    "japan": ("Tokyo", "Kyoto"),
    "kenya": ("Nairobi", "Mombasa"),
    "morocco": ("Rabat", "Casablanca"),
    "new zealand": ("Wellington", "Auckland"),
    "nigeria": ("Abuja", "Lagos"),
    "spain": ("Madrid", "Barcelona"),
    "switzerland": ("Bern", "Zurich"),
    "turkey": ("Ankara", "Istanbul"),
    "the united kingdom": ("London", "Manchester"),
    "the united states": ("Washington, D.C.", "New York"),
    "vietnam": ("Hanoi", "Ho Chi Minh City"),
}
"""Country: its capital, and the city people take for it."""

_READ = 4_000
"""Characters of either end of a long prompt that a question is looked for in."""

_CAPITAL = re.compile(r"capital(?: city)? of ((?:the )?[a-z]+(?: (?:zealand|kingdom|states))?)", re.IGNORECASE)
_OPTION = re.compile(r"^[ \t]{0,8}\(?([A-Z])[).:][ \t]{0,8}(.*)$", re.MULTILINE)
_YES_NO = re.compile(
    r"\b(?:yes or no|yes/no|true or false)\b|^(?:is|are|was|were|do|does|did|can|could|should|will|would|has|have)\b.*\?\s*$",
    re.IGNORECASE | re.MULTILINE,
)


def draw(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` alone."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def pick(items: Sequence[str], *parts: object) -> str:
    """One of `items`, by `draw`."""
    return items[int(draw(*parts) * len(items))]


def read_question(text: str) -> Question:
    """The question that a prompt asks. Of a long prompt the beginning and the end are read."""
    if len(text) > 2 * _READ:
        text = f"{text[:_READ]}\n{text[-_READ:]}"
    options = dict(_OPTION.findall(text))
    if len(options) >= 2 and "A" in options and "B" in options:
        return _choice(text, options)
    if found := _CAPITAL.search(text):
        right, wrong = CAPITALS.get(found[1].lower(), ("", ""))
        if right:
            return Question("name", text, right, wrong)
    prime = arithmetic.is_prime_question(text)
    if prime is not None:
        return _yes_no(text, prime)
    sum_ = arithmetic.expression(text)
    result = arithmetic.value(sum_) if sum_ else None
    if result is not None:
        return Question("number", text, arithmetic.shown(result), arithmetic.shown(_near_miss(result, text)))
    if _YES_NO.search(text):
        return _yes_no(text, draw("yes", text) < 0.5)
    return Question("open", text)


def _choice(text: str, options: Mapping[str, str]) -> Question:
    letters = sorted(options)
    known = read_question(text[: text.find("\n")] if "\n" in text else "")
    by_value = [letter for letter in letters if known.right and options[letter].strip().rstrip(".") == known.right]
    right = by_value[0] if by_value else pick(letters, "choice", text)
    others = [letter for letter in letters if letter != right]
    return Question("choice", text, right, pick(others, "wrong", text))


def _yes_no(text: str, yes: bool) -> Question:
    return Question("yes_no", text, *(("yes", "no") if yes else ("no", "yes")))


def _near_miss(result: arithmetic.Number, text: str) -> arithmetic.Number:
    """What a slip gives: off by a few units, or by ten."""
    slip = (1, 2, 9, 10, -1, -2, -10)[int(draw("slip", text) * 7)]
    return round(result + slip, 6)


_WORD = re.compile(r"[^\W\d_][\w'’-]{3,}")
_COMMON_WORDS = """
    about after also because been being between both could does each explain from give have into just like list make
    more most much name only other over please same should some such tell than that their them then there these they
    this those through very want were what when where which while will with would write your
"""
_COMMON = frozenset(_COMMON_WORDS.split())
_FILLERS = ("the goal", "the cost", "the context")


def keywords(text: str, n: int = 3) -> tuple[str, ...]:
    """The first `n` telling words of a text, filled up where it has fewer."""
    found = dict.fromkeys(word for word in _WORD.findall(text[:2_000]) if word.lower() not in _COMMON)
    return (*found, *_FILLERS)[:n] if len(found) < n else tuple(found)[:n]
