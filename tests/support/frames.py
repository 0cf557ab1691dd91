"""Server-sent events as they stand on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Frame:
    """One block of lines: its fields, and its comments under the name ``""``."""

    fields: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.fields["data"])


def frames(text: str | bytes) -> list[Frame]:
    """All blocks of a whole stream. Every one must be ended by an empty line."""
    text = text.decode() if isinstance(text, bytes) else text
    *blocks, rest = text.split("\n\n")
    assert rest == "", f"the stream ends inside a frame: {rest!r}"
    found: list[Frame] = []
    for block in blocks:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        found.append(Frame(fields))
    return found
