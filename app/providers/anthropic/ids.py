"""Tool call ids that Anthropic accepts, for conversations that another provider began."""

from __future__ import annotations

import re
from collections import deque

_FORBIDDEN = re.compile(r"[^a-zA-Z0-9_-]")
"""Anthropic's ids match `^[a-zA-Z0-9_-]+$` and are unique in a conversation; Gemini's and others' need not be."""


class CallIds:
    """Gives each call of a conversation its id, and each result the id of its call. Ids that are fine stay as they are."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._waiting: dict[str, deque[str]] = {}
        self._answered: dict[str, str] = {}

    def next_turn(self) -> None:
        """The assistant speaks anew: the results that follow belong to its calls, not to earlier ones."""
        self._waiting.clear()

    def call(self, original: str) -> str:
        wanted = _safe(original)
        given, number = wanted, 1
        while given in self._taken:
            number += 1
            given = f"{wanted}_{number}"
        self._taken.add(given)
        self._waiting.setdefault(original, deque()).append(given)
        return given

    def result(self, original: str) -> str:
        """Calls of one turn that share an id are answered in their order."""
        if waiting := self._waiting.get(original):
            self._answered[original] = waiting.popleft()
        return self._answered.get(original) or _safe(original)


def _safe(original: str) -> str:
    return _FORBIDDEN.sub("_", original) or "call"
