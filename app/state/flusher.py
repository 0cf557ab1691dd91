"""What a process tells Redis in batches: one task that flushes every so often, or at once when it is urgent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

FLUSH_S: Final = 0.25

log = logging.getLogger(__name__)


class Flusher:
    """Calls `flush` every `every_s` seconds, and soon after `hurry`, never twice at a time."""

    def __init__(self, name: str, flush: Callable[[], Awaitable[None]], *, every_s: float = FLUSH_S) -> None:
        self._name = name
        self._flush = flush
        self._every_s = every_s
        self._urgent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"flusher {self._name}")

    def hurry(self) -> None:
        self._urgent.set()

    async def close(self) -> None:
        """Flush a last time, and end."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        await self._once()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._urgent.wait()
            except TimeoutError:
                pass
            self._urgent.clear()
            await self._once()

    async def _once(self) -> None:
        try:
            await self._flush()
        except Exception:  # the boundary: the next flush must come
            log.exception("a flush of %s failed", self._name)
