"""A bound on the calls under way at once, and on the time that a call waits for its turn."""

from __future__ import annotations

import asyncio

from app.config.spec import BulkheadConfig
from app.core.streams import in_time


class Full(Exception):
    """No turn came in time."""


class Bulkhead:
    """Places for `most` calls of one worker; a call waits at most `max_wait_s` for one."""

    def __init__(self, what: str, most: int, max_wait_s: float) -> None:
        self.what, self.most, self.max_wait_s = what, most, max_wait_s
        self._places = asyncio.Semaphore(most)

    @property
    def full(self) -> bool:
        """Whether the next call must wait."""
        return self._places.locked()

    async def enter(self, at_most_s: float) -> None:
        """Take a place, which `leave` gives back.

        Raises:
            Full: none came free within `max_wait_s`, or `at_most_s`.
        """
        if self._places.locked():
            wait_s = min(self.max_wait_s, at_most_s)
            if wait_s <= 0:
                raise Full
            await in_time(self._places.acquire(), wait_s, Full)
        else:
            await self._places.acquire()

    def leave(self) -> None:
        self._places.release()


class Bulkheads:
    """The bulkheads of a process by what they bound, so that all calls to it share one."""

    def __init__(self) -> None:
        self._made: dict[str, Bulkhead] = {}

    def of(self, what: str, config: BulkheadConfig) -> Bulkhead | None:
        """The one of `what` as configured; None where there is no bound. With other settings a new one takes its place."""
        if config.max_concurrent is None:
            self._made.pop(what, None)
            return None
        made = self._made.get(what)
        if made is None or (made.most, made.max_wait_s) != (config.max_concurrent, config.max_wait_s):
            made = self._made[what] = Bulkhead(what, config.max_concurrent, config.max_wait_s)
        return made
