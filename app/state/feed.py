"""How a small shared table reaches every process within a second: pushed when it changes, polled in case the push is lost."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from redis.asyncio.client import PubSub

from app.core.errors import StateUnavailable
from app.state.client import StateClient, reaching_state
from app.state.keys import RegistryKeys

POLL_S: Final = 0.4
"""Changes reach a process whose subscription is broken within this time and a command timeout."""

log = logging.getLogger(__name__)


class Feed:
    """Calls `load` at the start and again whenever the registry's version is another one.

    `load` reads the whole table. While Redis is away, or where `load` fails, what was loaded before stays, and it is tried
    again at every poll.
    """

    def __init__(
        self, state: StateClient, registry: RegistryKeys, load: Callable[[], Awaitable[None]], *, poll_s: float = POLL_S
    ) -> None:
        self._state = state
        self._registry = registry
        self._load = load
        self._poll_s = poll_s
        self._seen: bytes | str | None = None
        self._pushes: PubSub | None = None
        self._task: asyncio.Task[None] | None = None
        self.loaded = False
        """Whether the table has been read at all."""

    async def start(self) -> None:
        """Reads the table once, where Redis answers, and follows it from then on."""
        await self._look()
        self._task = asyncio.create_task(self._follow(), name=f"feed {self._registry.channel}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._unsubscribe()

    async def _follow(self) -> None:
        while True:
            await self._wait()
            await self._look()

    async def _look(self) -> None:
        try:
            # The version first: a write between the two reads is seen at the next look.
            with reaching_state():
                version = await self._state.commands.get(self._registry.version) or b"0"
            if version != self._seen:
                await self._load()
                self._seen = version
                self.loaded = True
        except StateUnavailable:
            return
        except Exception:
            log.exception("what changed on %s could not be taken over; the old state stays", self._registry.channel)

    async def _wait(self) -> None:
        """Until a change is pushed or the poll is due."""
        try:
            with reaching_state():
                if self._pushes is None:
                    self._pushes = await self._state.subscribe(self._registry.channel)
                await self._pushes.get_message(timeout=self._poll_s)
        except StateUnavailable:
            await self._unsubscribe()
            await asyncio.sleep(self._poll_s)

    async def _unsubscribe(self) -> None:
        if self._pushes is not None:
            pushes, self._pushes = self._pushes, None
            await pushes.aclose()
