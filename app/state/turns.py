"""What runs said with tools of the service before they handed calls to their clients: kept until those come back."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from typing import cast

from app.state.client import StateClient, reaching_state
from app.state.keys import turns_key


class TurnStore:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state

    async def put(self, tenant: str, run_id: str, turns: bytes, *, keep_s: int) -> None:
        """Keep what a run said. May be sent again."""
        with reaching_state():
            await self._state.commands.set(turns_key(tenant, run_id), turns, ex=keep_s)

    async def get(self, tenant: str, run_id: str) -> bytes | None:
        """What a run of this tenant said; None where it is not kept."""
        with reaching_state():
            return cast("bytes | None", await self._state.commands.get(turns_key(tenant, run_id)))

    async def delete(self, tenant: str, run_id: str) -> bool:
        """Remove what a run of this tenant said. Whether there was something."""
        with reaching_state():
            return bool(await self._state.commands.delete(turns_key(tenant, run_id)))
