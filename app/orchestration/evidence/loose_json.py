"""JSON as models write it: in a code fence, after a preamble, with raw newlines, a trailing comma, or cut off. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Final, cast

from app.orchestration.evidence.numbers import READ_CHARACTERS

_FENCE = re.compile(r"```(?:json|JSON)?\s*\n?(.{0,20000}?)```", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_BAD_ESCAPE = re.compile(r"\\(?![\"\\/bfnrtu])")
_DECODER: Final = json.JSONDecoder(strict=False)
_MOST_STARTS: Final = 20
"""How many opening brackets of a text are tried, and ..."""
_MOST_MENDED: Final = 3
"""... at how many of them repairs are, so that a text of nothing else stays cheap."""


def loose_json(text: str) -> Any | None:
    """The JSON object or array that `text` holds, repaired where that is safe; None where there is none.

    Repairs: fences and prose around it, raw control characters in strings, unknown escapes, trailing commas, and brackets and
    quotes that a cut left open. Nothing is guessed inside a value.
    """
    text = text[-READ_CHARACTERS:]
    for fragment in (*reversed(_FENCE.findall(text)), text):
        found = _first(fragment)
        if found is not None:
            return found
    return None


def loose_member(text: str, names: tuple[str, ...]) -> str | None:
    """The text of the last member called one of `names` in JSON too broken to read: `"answer": 18` gives `18`."""
    pattern = "|".join(re.escape(name) for name in names)
    found = re.findall(
        rf"[\"'](?:{pattern})[\"']\s{{0,4}}:\s{{0,4}}(\"(?:[^\"\\]|\\.){{0,2000}}\"?|[^,}}\n]{{1,2000}})",
        text[-READ_CHARACTERS:],
        re.IGNORECASE,
    )
    return cast("str", found[-1]).strip().strip('"') if found else None


def _first(text: str) -> Any | None:
    starts = [at for at, character in enumerate(text) if character in "{["][:_MOST_STARTS]
    for number, start in enumerate(starts):
        value = _decoded(text[start:])
        if value is None and number < _MOST_MENDED:
            mended = _TRAILING_COMMA.sub(r"\1", _BAD_ESCAPE.sub(r"\\\\", text[start:]))
            value = _decoded(mended) or _decoded(closed(mended))
        if value:
            return value
    return None


def _decoded(text: str) -> Any | None:
    try:
        value, _ = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return cast("Any", value) if isinstance(value, (dict, list)) else None


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
