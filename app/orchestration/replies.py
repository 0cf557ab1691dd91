"""What a model that was asked for a JSON object has replied, whatever else it has written around it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, cast

_FLAT_OBJECT = re.compile(r"\{[^{}]*\}")
READ_CHARACTERS: Final = 20_000
"""How much of a reply is read, from its end: what a model writes has no bound."""


def stated(reply: str, member: str) -> Iterator[Any]:
    """The values of `member`: that of the reply as a whole, then those of the flat objects in it, the last one first."""
    reply = reply[-READ_CHARACTERS:]
    for fragment in (reply, *reversed(_FLAT_OBJECT.findall(reply))):
        try:
            value = json.loads(fragment)
        except (ValueError, RecursionError):  # prose, or nested beyond reason
            continue
        if isinstance(value, dict) and member in value:
            yield cast("dict[str, Any]", value)[member]
