"""Being told when one of many moments has come, by one timer for all of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from heapq import heappop, heappush, nsmallest
from typing import Final

MOST: Final = 100_000
"""Moments that are remembered, the soonest ones: who waits for others looks by itself now and then."""
LATE_S: Final = 0.02
"""So much after a moment it is told: the store has its own clock, in whole milliseconds."""


class Alarm:
    """Sets `rung` when a moment has come. Who waits for it clears it."""

    def __init__(self, rung: asyncio.Event) -> None:
        self.rung = rung
        self._moments: list[float] = []
        self._timer: asyncio.TimerHandle | None = None

    def ring_in(self, after_s: float) -> None:
        """Ring after so many seconds."""
        heappush(self._moments, asyncio.get_running_loop().time() + after_s + LATE_S)
        if len(self._moments) > MOST:
            self._moments = nsmallest(MOST // 2, self._moments)
        self._set()

    async def wait(self, most_s: float) -> None:
        """Until it rings, or `most_s` seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self.rung.wait()
        self.rung.clear()

    def close(self) -> None:
        """Ring no more."""
        self._moments.clear()
        self._set()

    def _set(self) -> None:
        soonest = self._moments[0] if self._moments else None
        if self._timer is not None and (soonest is None or soonest < self._timer.when()):
            self._timer.cancel()
            self._timer = None
        if soonest is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(soonest, self._ring)

    def _ring(self) -> None:
        self._timer, now = None, asyncio.get_running_loop().time()
        while self._moments and self._moments[0] <= now:
            heappop(self._moments)
        self.rung.set()
        self._set()
