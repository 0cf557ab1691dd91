"""How "read your configuration anew" reaches every process within a second."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.state.client import StateClient, reaching_state
from app.state.feed import Feed
from app.state.keys import CONFIGURATION


class ReloadFeed:
    """Calls `reload` whenever some process has announced a change since this one started."""

    def __init__(self, state: StateClient, reload: Callable[[], Awaitable[object]]) -> None:
        self._state = state
        self._reload = reload
        self._feed = Feed(state, CONFIGURATION, self._changed)
        self._started = False

    async def start(self) -> None:
        """What was announced before the start is in force already: it was read a moment ago."""
        await self._feed.start()
        self._started = True

    async def close(self) -> None:
        await self._feed.close()

    async def announce(self) -> None:
        """Tell every process. Raises StateUnavailable."""
        with reaching_state():
            version = await self._state.commands.incr(CONFIGURATION.version)
            await self._state.commands.publish(CONFIGURATION.channel, str(version))

    async def _changed(self) -> None:
        if self._started:
            await self._reload()
