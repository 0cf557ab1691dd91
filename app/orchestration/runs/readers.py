"""Who reads a run in this process: woken when there is more, and missed where nobody reads for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

_FIRST_READER_S: Final = 5.0
"""How long the first reader may take, however short the grace period is."""


class Readers:
    """The readers of one run.

    Parameters:
        over: set when the run is over, and nobody is missed any more.
        grace_s: for how long the run may be without readers, in seconds; None where it may be for good.
        unread: called when that has passed.
    """

    def __init__(self, over: asyncio.Event, grace_s: float | None, unread: Callable[[], None]) -> None:
        self._over, self._grace_s, self._unread = over, grace_s, unread
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._elsewhere = -1e9
        if grace_s is not None:
            self._watch(max(grace_s, _FIRST_READER_S))

    @contextmanager
    def reading(self) -> Generator[None]:
        """Be one of them."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            if not self._count and self._grace_s is not None:
                self._watch(self._grace_s)

    async def more(self) -> None:
        """Until there is something to read, or nothing more will come."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(waiter)
        await waiter

    def wake(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)

    def elsewhere(self, seconds_ago: float) -> None:
        """Somebody has read it at another process."""
        self._elsewhere = self._loop.time() - seconds_ago

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _watch(self, after_s: float) -> None:
        """Look after `after_s` seconds whether somebody reads."""
        if not self._over.is_set():
            self.close()
            self._timer = self._loop.call_later(after_s, self._look)

    def _look(self) -> None:
        if self._count or self._grace_s is None:
            return
        left_s = self._elsewhere + self._grace_s - self._loop.time()
        if left_s > 0:
            self._watch(left_s)
        else:
            self._unread()
