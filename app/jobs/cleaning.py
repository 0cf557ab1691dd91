"""Clean-up that is done every so often, once for all processes: what dead workers have left behind in the queue's stream."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from typing import Any, Final

import structlog
from redis.exceptions import ResponseError

from app.core.errors import StateUnavailable
from app.state.client import StateClient, reaching_state
from app.state.flusher import Flusher
from app.state.jobs import JobQueue
from app.state.keys import JOB_STREAM

EVERY_S: Final = 600.0
LOOK_S: Final = 60.0
"""How often each process looks whether it is due."""
TAKEN_S: Final = 30.0
"""How long a process may take for it. One that is killed meanwhile has not done it, and the next that looks does."""
IDLE_MS: Final = 3_600_000
"""A reader of the stream that has not read for so long is dead: a living one reads every two seconds."""

_log = structlog.get_logger("quorum.jobs")


class Cleaning:
    """Removes dead readers of the stream of announcements."""

    def __init__(self, state: StateClient, queue: JobQueue, *, every_s: float = EVERY_S, idle_ms: int = IDLE_MS) -> None:
        self._state = state
        self._queue = queue
        self._every_s = every_s
        self._idle_ms = idle_ms
        self._looker = Flusher("clean-up", self._look, every_s=min(LOOK_S, every_s))

    def start(self) -> None:
        self._looker.start()

    async def close(self) -> None:
        await self._looker.close()

    async def _look(self) -> None:
        await self.look()

    async def look(self) -> int:
        """Clean up where that is due and nobody else does; how many readers have gone."""
        try:
            if not await self._queue.once("clean-up", TAKEN_S):
                return 0
            gone = await self._clean()
            await self._queue.did("clean-up", self._every_s)
        except StateUnavailable:
            return 0
        return gone

    async def _clean(self) -> int:
        gone = 0
        with reaching_state():
            try:
                groups: Any = await self._state.commands.xinfo_groups(JOB_STREAM)
            except ResponseError:  # nothing was ever announced
                return 0
            for group in groups:
                readers: Any = await self._state.commands.xinfo_consumers(JOB_STREAM, group["name"])
                for reader in readers:
                    if reader["idle"] > self._idle_ms:
                        await self._state.commands.xgroup_delconsumer(JOB_STREAM, group["name"], reader["name"])
                        gone += 1
        if gone:
            _log.info("readers of the queue that had died are removed", readers=gone)
        return gone
