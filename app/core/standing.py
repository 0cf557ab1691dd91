"""How models have been doing lately, as strategies ask for it. Who counts is for the container to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from app.core.models import ModelProfile


@dataclass(frozen=True, slots=True)
class Standing:
    """`success` is the share of its calls that a model is expected to answer, 0 to 1; `open_s` the seconds for which its
    circuit breaker refuses calls, 0 where it does not. `under_way` counts the calls to it now, and `full` says that one more
    would have to wait for another to end."""

    success: float
    open_s: float = 0.0
    under_way: int = 0
    full: bool = False


class Standings(Protocol):
    """Who knows how models are doing."""

    def of(self, profile: ModelProfile) -> Standing:
        """How `profile` is doing."""
        ...

    def record(self, profile: ModelProfile, *, ok: bool) -> None:
        """A call to `profile` has been answered, or not."""
        ...
