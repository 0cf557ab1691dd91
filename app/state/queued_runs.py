"""Runs that wait for a worker: their records, each with the request that is to be run, sealed."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.state.client import StateClient, reaching_state
from app.state.keys import run_index, run_keys

_UNTIL_KEPT_MS: Final = 60_000
"""A record whose process died before its job was in the queue goes by itself: nobody was told of it."""


class QueuedRuns:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._queue = state.script("run_queue")

    async def put(self, tenant: str, run_id: str, fields: Mapping[str, str | bytes], sealed: str) -> None:
        """Store a run that waits; `keep` keeps it. One that is there stays as it is."""
        told = [part for item in fields.items() for part in item]
        args = [_UNTIL_KEPT_MS, "queue", "1", "sealed", sealed, *told]
        with reaching_state():
            await self._queue(keys=[run_keys(tenant, run_id).record], args=args)

    async def keep(self, tenant: str, run_id: str, created_us: int, keep_s: int) -> None:
        """The run is in the queue: keep its record, and list it."""
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            pipe.pexpire(run_keys(tenant, run_id).record, keep_s * 1000)
            pipe.zadd(run_index(tenant), {run_id: created_us}, nx=True)
            pipe.expire(run_index(tenant), keep_s)
            await pipe.execute()

    async def sealed(self, tenant: str, run_id: str) -> tuple[str, str] | None:
        """The run's status and its request, sealed; None where nothing is stored of it."""
        with reaching_state():
            found: Any = await self._state.commands.hmget(run_keys(tenant, run_id).record, "status", "sealed")
        if found[0] is None or found[0] == b"deleted" or found[1] is None:
            return None
        return found[0].decode(), found[1].decode()
