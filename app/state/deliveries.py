"""What became of each delivery of a webhook: a list for each thing whose end is told."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from typing import Final, cast

from app.state.client import StateClient, reaching_state
from app.state.keys import deliveries_key

_KEEP_S: Final = 604_800
_MOST: Final = 50


class Deliveries:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state

    async def add(self, tenant: str, subject: str, line: bytes) -> None:
        """Note a delivery: JSON. Kept for a week."""
        key = deliveries_key(tenant, subject)
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            pipe.rpush(key, line)
            pipe.ltrim(key, -_MOST, -1)
            pipe.expire(key, _KEEP_S)
            await pipe.execute()

    async def all(self, tenant: str, subject: str) -> list[bytes]:
        """The deliveries, the oldest first."""
        with reaching_state():
            return cast("list[bytes]", await self._state.commands.lrange(deliveries_key(tenant, subject), 0, -1))
