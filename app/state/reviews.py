"""The review queue of each tenant, in one slot: its entries, what was decided of them, and both indices by time."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from app.state.client import StateClient, reaching_state
from app.state.indices import Depth, Position, depth_of, newest
from app.state.keys import REVIEWING, ReviewKeys, review_keys

Queue = Literal["pending", "decided"]


@dataclass(frozen=True, slots=True)
class StoredReview:
    """An entry and its decision, as JSON; `decision` is None while it is pending."""

    entry: bytes
    decision: bytes | None


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
        merged = await newest(self._state, [getattr(keys, queue) for queue in queues], below, most)
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
        return await depth_of(self._state, [review_keys(tenant.decode()).pending for tenant in tenants])

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
