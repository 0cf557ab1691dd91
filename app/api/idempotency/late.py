"""What could not be told to a Redis that is away: the ends of requests, and that some were refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, Final

import structlog

from app.api.idempotency.execution import Execution
from app.observability.metrics import UNTOLD
from app.state.idempotency import RequestId, Write

MOST_ENDS: Final = 1_000
MOST_DROPS: Final = 10_000
"""A drop is small, an end holds its answer."""
_AT_ONCE: Final = 64

_log = structlog.get_logger("quorum.idempotency")


class Late:
    """What Redis is to be told when it is back. Beyond its bounds the oldest of a kind are forgotten, which is counted.

    `ends` are requests that have ended here with an answer that is to be kept, `drops` the records that may have begun and
    that nobody is to go on with. Each names the operation that it is about, so that it cannot hit what is of another.
    """

    def __init__(self, most_ends: int = MOST_ENDS, most_drops: int = MOST_DROPS) -> None:
        self.ends: dict[RequestId, Execution] = {}
        self.drops: dict[str, Write] = {}
        self._most_ends = most_ends
        self._most_drops = most_drops
        self._warned: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self.ends or self.drops)

    def ended(self, execution: Execution) -> None:
        """Remember the end of `execution`."""
        last = execution.next_write(last=True)
        if last.end == "drop":
            self.dropped(last)
            return
        self.ends[execution.request.id] = execution
        self._bound(self.ends, self._most_ends, "answer")

    def dropped(self, write: Write) -> None:
        """Remember the drop `write`."""
        self.drops[write.operation] = write
        self._bound(self.drops, self._most_drops, "drop")

    def _bound(self, held: dict[Any, Any], most: int, what: str) -> None:
        if len(held) <= most:
            return
        del held[next(iter(held))]
        UNTOLD.labels(what).inc()
        if what not in self._warned:
            self._warned.add(what)
            _log.warning("more ends of requests than are held for a store that is away", kind=what, held=most)

    async def tell_end(self, request: RequestId, tell: Callable[[Execution], Awaitable[object]]) -> None:
        """Tell the end of `request`, if it is late.

        Raises:
            StateUnavailable: Redis is still away.
        """
        execution = self.ends.get(request)
        if execution is not None:
            await tell(execution)
            if self.ends.get(request) is execution:
                del self.ends[request]

    async def tell(
        self, tell: Callable[[Execution], Awaitable[object]], write: Callable[[list[Write]], Awaitable[object]]
    ) -> None:
        """Tell all: answers first, with `tell`, then drops, with `write`.

        Raises:
            StateUnavailable: Redis is still away; what it was not told stays.
        """
        while self.ends:
            await self.tell_end(next(iter(self.ends)), tell)
        while self.drops:
            some = list(islice(self.drops.values(), _AT_ONCE))
            await write(some)
            for drop in some:
                self.drops.pop(drop.operation, None)
        self._warned.clear()
