"""How long good calls take as a rule, measured in this process, as plans ask for it."""

from __future__ import annotations

from typing import Final

RECENT: Final = 0.2
"""What the newest call weighs in a running mean."""
MOST_TOOLS: Final = 1_024


class Pace:
    """How long good calls of a model or a tool take, whatever settings they are made with."""

    __slots__ = ("__weakref__", "usual_s")

    def __init__(self) -> None:
        self.usual_s: float | None = None

    def add(self, seconds: float) -> None:
        self.usual_s = seconds if self.usual_s is None else self.usual_s + RECENT * (seconds - self.usual_s)


_TOOLS: dict[str, Pace] = {}


def tool_took(tool: str, seconds: float) -> None:
    """Note how long a good call of a tool took. The tools that were not called for the longest are forgotten."""
    pace = _TOOLS.pop(tool, None) or Pace()
    pace.add(seconds)
    _TOOLS[tool] = pace
    if len(_TOOLS) > MOST_TOOLS:
        del _TOOLS[next(iter(_TOOLS))]


def usual_tool_seconds(tool: str) -> float | None:
    """How long a good call of a tool takes; None where none was made yet."""
    found = _TOOLS.get(tool)
    return None if found is None else found.usual_s
