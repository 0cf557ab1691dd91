"""The review queue of each tenant, in one slot: its entries, what was decided of them, and both indices by time."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from app.state.client import StateClient, reaching_state
from app.state.keys import REVIEWING, ReviewKeys, review_keys

Queue = Literal["pending", "decided"]
Position = tuple[int, str]
"""Where a review stands: the microsecond when it came, and its id."""
_SAME_TIME: Final = 16
"""Reviews that may have come in one microsecond."""


@dataclass(frozen=True, slots=True)
class StoredReview:
    """An entry and its decision, as JSON; `decision` is None while it is pending."""

    entry: bytes
    decision: bytes | None


@dataclass(frozen=True, slots=True)
class Depth:
    """How many reviews of all tenants are pending, and when the oldest came, in seconds since the epoch."""

    pending: int
    oldest: float | None


class ReviewStore:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._put = state.script("review_put")
        self._decide = state.script("review_decide")

    async def put(self, tenant: str, entries: Sequence[tuple[str, int, bytes]], *, max_kept: int, keep_s: int) -> None:
        """Queue `entries`: the id, the microsecond when it came, the JSON. May be sent again."""
        rows = [part for entry in entries for part in entry]
        with reaching_state():
            await self._put(keys=_all(review_keys(tenant)), args=[max_kept, keep_s * 1000, *rows])
            await self._state.commands.sadd(REVIEWING, tenant)

    async def get(self, tenant: str, review_id: str) -> StoredReview | None:
        return (await self._read(review_keys(tenant), [review_id]))[0]

    async def page(
        self, tenant: str, queues: Sequence[Queue], below: Position | None, most: int
    ) -> list[tuple[Position, StoredReview | None]]:
        """Up to `most` reviews that came before `below`, the newest first; None in place of one that has gone meanwhile."""
        keys = review_keys(tenant)
        highest = "+inf" if below is None else below[0]
        found: list[list[Position]] = []
        for queue in queues:
            with reaching_state():
                rows: Any = await self._state.commands.zrange(
                    getattr(keys, queue),
                    highest,
                    "-inf",
                    desc=True,
                    byscore=True,
                    offset=0,
                    num=most + _SAME_TIME,
                    withscores=True,
                )
            found.append(sorted(((int(score), name.decode()) for name, score in rows), reverse=True))
        merged = [place for place in heapq.merge(*found, reverse=True) if below is None or place < below][:most]
        stored = await self._read(keys, [review_id for _, review_id in merged])
        return list(zip(merged, stored, strict=True))

    async def decide(
        self, tenant: str, review_id: str, decision: bytes, operation: str
    ) -> tuple[Literal["missing", "decided", "ok"], StoredReview | None]:
        """Decide a review that is pending. Told again with the same `operation` it is `ok` again."""
        with reaching_state():
            reply: Any = await self._decide(keys=_all(review_keys(tenant)), args=[review_id, decision, operation])
        return reply[0].decode(), StoredReview(reply[1], reply[2]) if len(reply) > 1 else None

    async def forget(self, tenant: str, review_id: str) -> bool:
        """Remove a review. Whether there was one."""
        keys = review_keys(tenant)
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            pipe.hdel(keys.entries, review_id)
            pipe.hdel(keys.decisions, review_id)
            pipe.zrem(keys.pending, review_id)
            pipe.zrem(keys.decided, review_id)
            replies = cast("list[int]", await pipe.execute())
        return replies[0] > 0

    async def depth(self) -> Depth:
        """How long the queue is, over all tenants."""
        with reaching_state():
            tenants: Any = await self._state.commands.smembers(REVIEWING)
            if not tenants:
                return Depth(0, None)
            pipe = self._state.commands.pipeline(transaction=False)
            for tenant in tenants:
                key = review_keys(tenant.decode()).pending
                pipe.zcard(key)
                pipe.zrange(key, 0, 0, withscores=True)
            replies: list[Any] = await pipe.execute()
        firsts = [found[0][1] / 1_000_000 for found in replies[1::2] if found]
        return Depth(sum(replies[::2]), min(firsts, default=None))

    async def _read(self, keys: ReviewKeys, ids: Sequence[str]) -> list[StoredReview | None]:
        if not ids:
            return []
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            pipe.hmget(keys.entries, list(ids))
            pipe.hmget(keys.decisions, list(ids))
            entries, decisions = cast("tuple[list[bytes | None], list[bytes | None]]", await pipe.execute())
        return [
            None if entry is None else StoredReview(entry, decision) for entry, decision in zip(entries, decisions, strict=True)
        ]


def _all(keys: ReviewKeys) -> list[str]:
    return [keys.entries, keys.decisions, keys.pending, keys.decided]
