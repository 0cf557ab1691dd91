"""Counting beside the event loop: short answers here, long ones in a thread, so that other runs go on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from app.orchestration.consensus.aggregator import Heard

P = ParamSpec("P")
T = TypeVar("T")

LARGE_CHARACTERS: Final = 50_000
"""What all answers have together, from which on counting them takes more than a few milliseconds. Twenty answers of 300 words
have less: for them a thread would cost more than it saves."""
EACH: Final = 8
"""Answers after each of which a partial summary is told."""


class Counting:
    """Calls an aggregator's methods one after the other, each where it disturbs nobody."""

    def __init__(self) -> None:
        self._characters = 0

    def grown(self, one: Heard) -> None:
        """An answer more is there to be counted."""
        self._characters += len(one.call.choice.text) if one.call.response is not None else 0

    async def of(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `method` says. Cancelled, it runs to its end in its thread, and nobody hears of it."""
        if self._characters < LARGE_CHARACTERS:
            return method(*args, **kwargs)
        return await asyncio.to_thread(method, *args, **kwargs)


def worth_telling(count: int) -> bool:
    """Whether to tell watchers what `count` answers say together: after each of the first, then less and less often, for each
    telling repeats all of them."""
    return count <= EACH or count % (2 ** (count.bit_length() - EACH.bit_length() + 1)) == 0
