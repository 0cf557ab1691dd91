"""How a process hears that runs of its own are to be cancelled. What is lost here it finds in the record at its next write."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from redis.asyncio.client import PubSub

from app.core.errors import StateUnavailable
from app.state.client import StateClient, reaching_state
from app.state.keys import RUN_OWNERS

_AGAIN_S: Final = 0.5


class RunOrders:
    """A subscription to the orders for one owner."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._pushes: PubSub | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, owner: str, cancel: Callable[[str, str], None]) -> None:
        """Call `cancel` with tenant and run id of every run of `owner` that is to end."""
        self._task = asyncio.create_task(self._listen(RUN_OWNERS + owner, cancel), name="run orders")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._unsubscribe()

    async def _listen(self, channel: str, cancel: Callable[[str, str], None]) -> None:
        while True:
            try:
                with reaching_state():
                    if self._pushes is None:
                        self._pushes = await self._state.subscribe(channel)
                    message = cast("dict[str, bytes] | None", await self._pushes.get_message(timeout=30))
            except StateUnavailable:
                await self._unsubscribe()
                await asyncio.sleep(_AGAIN_S)
                continue
            if message:
                tenant, _, run_id = message["data"].decode().rpartition(":")
                cancel(tenant, run_id)

    async def _unsubscribe(self) -> None:
        if self._pushes is not None:
            pushes, self._pushes = self._pushes, None
            await pushes.aclose()
