"""What was learned, by scope and version; which version is in force; and who trains."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from app.state.client import StateClient, reaching_state
from app.state.feed import Feed
from app.state.keys import LEARNED, TRAINED, TRAINING_LEASE, learning_keys

LEASE_S: Final = 30.0
"""A process that has not renewed it for so long does not train any more."""


class LessonStore:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._put = state.script("put_lessons")
        self._tell = state.script("put_record")
        self._lease = state.script("renew_lease")

    async def put(self, scope: str, version: str, lessons: bytes, *, keep: int) -> None:
        """Keep `lessons`, and put them in force everywhere. The newest `keep` stay, and what was in force till now."""
        keys, before = learning_keys(scope), (await self.in_force()).get(scope, "")
        with reaching_state():
            await self._put(keys=[keys.lessons, keys.versions], args=[version, lessons, keep, before])
        await self.use(scope, version)

    async def use(self, scope: str, version: str) -> None:
        """Put a version in force everywhere, within a second."""
        with reaching_state():
            await self._tell(keys=[LEARNED.records, LEARNED.version], args=[scope, version, LEARNED.channel, "1"])

    async def in_force(self) -> dict[str, str]:
        """By scope: the version."""
        with reaching_state():
            found: Any = await self._state.commands.hgetall(LEARNED.records)
        return {scope.decode(): version.decode() for scope, version in found.items()}

    async def get(self, scope: str, version: str) -> bytes | None:
        with reaching_state():
            found: Any = await self._state.commands.hget(learning_keys(scope).lessons, version)
        return found

    async def versions(self, scope: str) -> list[tuple[str, float]]:
        """What is kept of a scope, the newest first, each with when it was learned, in seconds since the epoch."""
        with reaching_state():
            found: Any = await self._state.commands.zrange(learning_keys(scope).versions, 0, -1, desc=True, withscores=True)
        return [(version.decode(), score / 1000) for version, score in found]

    def feed(self, load: Callable[[], Awaitable[None]]) -> Feed:
        """Calls `load` whenever another version is put in force somewhere."""
        return Feed(self._state, LEARNED, load)

    async def due(self) -> bool:
        """Whether nobody has trained lately (`trained`) and nobody does now."""
        with reaching_state():
            return not await self._state.commands.exists(TRAINED, TRAINING_LEASE)

    async def take(self, owner: str) -> bool:
        """Take the lease to train. It lasts `LEASE_S`."""
        with reaching_state():
            return bool(await self._state.commands.set(TRAINING_LEASE, owner, nx=True, px=int(LEASE_S * 1000)))

    async def renew(self, owner: str) -> bool:
        """Whether `owner` has the lease still, which lasts on."""
        with reaching_state():
            return bool(await self._lease(keys=[TRAINING_LEASE], args=[owner, int(LEASE_S * 1000)]))

    async def give_back(self, owner: str) -> None:
        with reaching_state():
            await self._lease(keys=[TRAINING_LEASE], args=[owner, 0])

    async def trained(self, for_s: int) -> None:
        """Nothing is due for the next `for_s`."""
        with reaching_state():
            await self._state.commands.set(TRAINED, "1", px=for_s * 1000)
