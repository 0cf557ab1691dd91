"""The time that all processes share: that of Redis, as far as a process can tell it."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)
import contextlib
from typing import Any, Final

from app.core.clock import Clock
from app.core.errors import StateUnavailable
from app.state.client import StateClient, reaching_state
from app.state.flusher import Flusher

LOOK_S: Final = 5.0
"""How often Redis is asked: machines' clocks drift by up to 0.1 ms a second, and a Redis may be replaced by another one."""
UNKNOWN_S: Final = 0.5
"""The same until it has answered once."""


class SharedClock:
    """A `Clock` whose `now` is the time of Redis, so that processes agree on it however wrong the clocks of their machines are.

    It is reckoned from the machine's monotonic clock, and set right every `LOOK_S` seconds. While Redis is away it goes on from
    what was known; before Redis has ever answered it is the machine's own.
    """

    def __init__(self, state: StateClient, machine: Clock) -> None:
        self.monotonic = machine.monotonic
        self._machine = machine
        self._state = state
        self._ahead_s: float | None = None
        """The time of Redis less the monotonic clock."""
        self._looked = 0.0
        self._flusher = Flusher("shared clock", self._look_again, every_s=UNKNOWN_S)

    def now(self) -> float:
        return self._machine.now() if self._ahead_s is None else self.monotonic() + self._ahead_s

    async def start(self) -> None:
        with contextlib.suppress(StateUnavailable):
            await self.look()
        self._flusher.start()

    async def close(self) -> None:
        await self._flusher.close()

    async def look(self) -> None:
        """Ask Redis what time it is.

        When it answered lies between sending and receiving; as far as the reckoning says otherwise, it is set right.

        Raises:
            StateUnavailable: Redis is away.
        """
        sent = self.monotonic()
        with reaching_state():
            told: Any = await self._state.commands.time()
        got = self.monotonic()
        seconds, microseconds = told
        at = seconds + microseconds / 1_000_000
        least, most = at - got, at - sent
        self._ahead_s = (least + most) / 2 if self._ahead_s is None else min(max(self._ahead_s, least), most)
        self._looked = got

    async def _look_again(self) -> None:
        if self._ahead_s is None or self.monotonic() - self._looked >= LOOK_S:
            with contextlib.suppress(StateUnavailable):
                await self.look()
