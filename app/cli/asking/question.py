"""What is asked, before it is known where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and how to have it answered; what is None or empty is left to the recipe and the defaults."""

    text: str
    system: str | None = None
    strategy: str | None = None
    recipe: str | None = None
    models: tuple[str, ...] = ()
    lead_model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    temperature: float | None = None
    max_tokens: int | None = None
    conversation_id: str | None = None


def parse_options(given: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs, where a value is JSON, or else the text that it is.

    Raises:
        ValueError: one has no `=`, or no name before it.
    """
    options: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{pair!r} is not of the form key=value, as in layers=2")
        try:
            options[name.strip()] = orjson.loads(value)
        except orjson.JSONDecodeError:
            options[name.strip()] = value
    return options
