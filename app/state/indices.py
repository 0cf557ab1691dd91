"""Queues of what a person is to decide, read from the newest on over several indices by time."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.state.client import StateClient, reaching_state

Position = tuple[int, str]
"""Where an entry stands: the microsecond when it came, and its id."""
_SAME_TIME: Final = 16
"""Entries that may have come in one microsecond."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How many entries of all tenants are pending, and when the oldest came, in seconds since the epoch."""

    pending: int
    oldest: float | None


async def newest(state: StateClient, indices: Sequence[str], below: Position | None, most: int) -> list[Position]:
    """Up to `most` entries of `indices` (sorted sets) that came before `below`, the newest first.

    Raises:
        StateUnavailable: Redis is away.
    """
    highest = "+inf" if below is None else below[0]
    found: list[list[Position]] = []
    for index in indices:
        with reaching_state():
            rows: Any = await state.commands.zrange(
                index, highest, "-inf", desc=True, byscore=True, offset=0, num=most + _SAME_TIME, withscores=True
            )
        found.append(sorted(((int(score), name.decode()) for name, score in rows), reverse=True))
    return [place for place in heapq.merge(*found, reverse=True) if below is None or place < below][:most]


async def depth_of(state: StateClient, indices: Sequence[str]) -> Depth:
    """How much is pending in `indices`.

    Raises:
        StateUnavailable: Redis is away.
    """
    if not indices:
        return Depth(0, None)
    with reaching_state():
        pipe = state.commands.pipeline(transaction=False)
        for index in indices:
            pipe.zcard(index)
            pipe.zrange(index, 0, 0, withscores=True)
        replies: list[Any] = await pipe.execute()
    firsts = [found[0][1] / 1_000_000 for found in replies[1::2] if found]
    return Depth(sum(replies[::2]), min(firsts, default=None))
