"""JSON as models write it: in a code fence, after a preamble, with raw newlines, a trailing comma, or cut off. Pure."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final, cast

from app.orchestration.evidence.numbers import READ_CHARACTERS

_FENCE = re.compile(r"```(?:json|JSON)?\s*\n?(.{0,20000}?)```", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_BAD_ESCAPE = re.compile(r"\\(?![\"\\/bfnrtu])")
_EMPTY = re.compile(r"(?:^|:)[ \t]{0,8}(\[[ \t]{0,8}\]|\{[ \t]{0,8}\})[ \t]{0,8}\.?$", re.MULTILINE)
"""An empty value that is said and not mentioned: alone on its line, or after a colon at its end."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_DIGITS: Final = 4_000
"""Of an integer that is read at all: Python converts no more than 4,300 (CVE-2020-10735)."""
_MOST_STARTS: Final = 20
"""How many opening brackets of a text are tried, and ..."""
_MOST_MENDED: Final = 3
"""... at how many of them repairs are, so that a text of nothing else stays cheap."""
MOST_DEPTH: Final = 100
"""How deep a value may be: what writes it for clients and for the run log goes 254 deep, and puts it into other values."""
INTEGERS: Final = (-(2**63), 2**64 - 1)
"""Those that can be written as JSON here; most readers elsewhere take no larger ones either."""


@dataclass(frozen=True, slots=True)
class HeldJson:
    """JSON that a text holds. `fault` says why it is no value that can be passed on; None where it can."""

    value: Any
    fault: str | None = None


def held_json(text: str) -> HeldJson | None:
    """The JSON value that `text` holds, repaired where that is safe; None where there is none.

    Objects and arrays are found wherever they are; an empty one where it is said, not mentioned (`int[] a`); a text, a number,
    true, false or null only where it is all there is, or all there is in a code fence.

    Repairs: fences and prose around it, raw control characters in strings, unknown escapes, trailing commas, and brackets and
    quotes that a cut left open. Nothing is guessed inside a value.
    """
    text = text[-READ_CHARACTERS:]
    fences: list[str] = _FENCE.findall(text)[::-1]
    found = _whole(text)
    for read, fragments in ((_first, (*fences, text)), (_whole, fences)):
        for fragment in fragments:
            found = found or read(fragment)
    if found is not None:
        return HeldJson(found.value, _fault(found.value))
    empty = _EMPTY.findall(text)
    return HeldJson([] if empty[-1].startswith("[") else {}) if empty else None


def loose_json(text: str) -> Any | None:
    """The JSON object or array that `text` holds, as `held_json` finds it; None where it holds none that can be passed on."""
    found = held_json(text)
    if found is None or found.fault is not None:
        return None
    value: object = found.value
    return cast("Any", value) if isinstance(value, (dict, list)) else None


def loose_member(text: str, names: tuple[str, ...]) -> str | None:
    """The text of the last member called one of `names` in JSON too broken to read: `"answer": 18` gives `18`."""
    pattern = "|".join(re.escape(name) for name in names)
    found = re.findall(
        rf"[\"'](?:{pattern})[\"']\s{{0,4}}:\s{{0,4}}(\"(?:[^\"\\]|\\.){{0,2000}}\"?|[^,}}\n]{{1,2000}})",
        text[-READ_CHARACTERS:],
        re.IGNORECASE,
    )
    return cast("str", found[-1]).strip().strip('"') if found else None


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


_DECODER: Final = json.JSONDecoder(strict=False, parse_int=_integer)


def _whole(text: str) -> HeldJson | None:
    """The value that `text` is, of any kind."""
    try:
        return HeldJson(_DECODER.decode(text.strip()))
    except (ValueError, RecursionError):
        return None


def _first(text: str) -> HeldJson | None:
    starts = [at for at, character in enumerate(text) if character in "{["][:_MOST_STARTS]
    for number, start in enumerate(starts):
        value = _decoded(text[start:])
        if value is None and number < _MOST_MENDED:
            mended = _TRAILING_COMMA.sub(r"\1", _BAD_ESCAPE.sub(r"\\\\", text[start:]))
            value = _decoded(mended) or _decoded(closed(mended))
        if value:
            return HeldJson(value)
    return None


def _decoded(text: str) -> Any | None:
    try:
        value, _ = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return cast("Any", value) if isinstance(value, (dict, list)) else None


def _fault(value: Any) -> str | None:
    """Why `value` cannot be written as JSON that everybody reads. A loop: how deep it is, is one of the questions."""
    level = [value]
    for _ in range(MOST_DEPTH):
        following: list[Any] = []
        for one in level:
            fault = _leaf_fault(one)
            if fault is not None:
                return fault
            if isinstance(one, dict):
                members = cast("dict[str, Any]", one)
                following += members
                following += members.values()
            elif isinstance(one, list):
                following += cast("list[Any]", one)
        if not following:
            return None
        level = following
    return f"JSON more than {MOST_DEPTH} deep"


def _leaf_fault(value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that JSON has not (NaN, Infinity, or too large)"
    if isinstance(value, int) and not INTEGERS[0] <= value <= INTEGERS[1]:
        return "an integer beyond 64 bits"
    if isinstance(value, str) and _SURROGATE.search(value):
        return "half a character (a lone surrogate)"
    return None


def closed(text: str) -> str:
    """`text` with the string and the brackets that it leaves open closed, and a comma or colon before the end left out."""
    opened: list[str] = []
    quoted = escaped = False
    for character in text:
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        elif character in "{[":
            opened.append("}" if character == "{" else "]")
        elif character in "}]" and opened:
            opened.pop()
    text = text[: len(text) - 1] if escaped else text
    text = text + '"' if quoted else text.rstrip().rstrip(",")
    if text.rstrip().endswith(":"):
        text += " null"
    return text + "".join(reversed(opened))
