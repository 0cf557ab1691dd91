"""Conversations, each in one slot: its record, its turns in their order, and which run is taking one now.

A run that takes a turn holds a lease, which keeps others out. Its turn is appended where it still holds it, or where nobody has
appended since; so a run whose lease has passed can neither overtake another nor be appended twice.
"""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from app.state.client import StateClient, reaching_state
from app.state.keys import conversation_keys

LEASE_S: Final = 15.0
"""A run that has not been heard of for so long does not keep others out any more."""
_ANSWERS: Final = b"+"
_ASKS: Final = b"-"


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as it is stored: JSON. One that `answers` begins with results of calls of the turn before it, which is kept for as
    long as it is."""

    said: bytes
    answers: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A conversation as it stands: how many turns it ever had, how many of those were dropped, the JSON of what the system
    says, and the turns that are kept, the oldest first."""

    version: int
    dropped: int
    system: bytes | None
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Busy:
    """Another run is taking its turn; its lease ends in `left_s` seconds, unless it is renewed."""

    left_s: float


@dataclass(frozen=True, slots=True)
class Holder:
    """Who takes a turn: a run, and which of its tries."""

    tenant: str
    conversation_id: str
    run_id: str
    token: str

    @property
    def member(self) -> str:
        return f"{self.run_id} {self.token}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is kept of a conversation: the newest turns, up to so many and so many bytes, for so long since its last use."""

    max_turns: int
    max_bytes: int
    keep_s: int


@dataclass(frozen=True, slots=True)
class Facts:
    """A conversation and some of its turns. Times are Unix times in seconds; `first` is the number of the first of `turns`,
    `version` that of the last one there is."""

    version: int
    dropped: int
    size_bytes: int
    created_at: int
    used_at: int
    expires_in_s: float
    system: bytes | None
    first: int
    turns: tuple[Turn, ...]


class ConversationStore:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._open = state.script("conversation_open")
        self._append = state.script("conversation_append")
        self._lease = state.script("renew_lease")
        self._page = state.script("conversation_page")
        self._delete = state.script("conversation_delete")

    async def open(self, holder: Holder, *, keep_s: int) -> Found | Busy:
        """Take a turn: read the conversation, and keep other runs out of it for `LEASE_S`."""
        return await self._read(holder.tenant, holder.conversation_id, [holder.member, int(LEASE_S * 1000), keep_s * 1000])

    async def look(self, tenant: str, conversation_id: str) -> Found:
        """Read the conversation, whoever is taking a turn."""
        found = await self._read(tenant, conversation_id, ["", 0, 0])
        assert isinstance(found, Found)  # noqa: S101 - who only reads is not kept out
        return found

    async def _read(self, tenant: str, conversation_id: str, args: Sequence[Any]) -> Found | Busy:
        keys = conversation_keys(tenant, conversation_id)
        with reaching_state():
            reply: Any = await self._open(keys=[keys.record, keys.turns, keys.lease], args=args)
        if reply[0] >= 0:
            return Busy(reply[0] / 1000)
        return Found(reply[1], reply[2], reply[3] or None, _turns(reply[4]))

    async def append(
        self, holder: Holder, seen: int, turn: Turn, *, system: bytes | None, bounds: Bounds
    ) -> int | Literal["changed"]:
        """Append the turn of a run, and end its hold: how many turns were dropped to make room. May be sent again.

        `changed` where the conversation went on without it, or was deleted.

        Parameters:
            seen: the version that the run was answered from.
            system: what the system says from now on; None leaves it.
        """
        keys = conversation_keys(holder.tenant, holder.conversation_id)
        said = (_ANSWERS if turn.answers else _ASKS) + turn.said
        args = [holder.member, seen, said, system or b"", bounds.max_turns, bounds.max_bytes, bounds.keep_s * 1000]
        with reaching_state():
            dropped: Any = await self._append(keys=[keys.record, keys.turns, keys.lease], args=args)
        return "changed" if dropped < 0 else int(dropped)

    async def renew(self, holder: Holder) -> None:
        await self._leased(holder, int(LEASE_S * 1000))

    async def release(self, holder: Holder) -> None:
        """Let others in. Harmless where that was done."""
        await self._leased(holder, 0)

    async def _leased(self, holder: Holder, lease_ms: int) -> None:
        key = conversation_keys(holder.tenant, holder.conversation_id).lease
        with reaching_state():
            await self._lease(keys=[key], args=[holder.member, lease_ms])

    async def page(self, tenant: str, conversation_id: str, after: int, most: int) -> Facts | None:
        """A conversation and up to `most` of the turns that follow number `after`; None where there is none."""
        keys = conversation_keys(tenant, conversation_id)
        with reaching_state():
            reply: Any = await self._page(keys=[keys.record, keys.turns], args=[after, most])
        if reply[0] is None:
            return None
        version, dropped, size, created, used = (int(value) for value in reply[:5])
        return Facts(
            version, dropped, size, created, used, reply[6] / 1000, reply[5], max(after, dropped) + 1, _turns(reply[7])
        )

    async def delete(self, tenant: str, conversation_id: str) -> bool:
        """Remove a conversation. A run that is taking its turn will find it changed. Whether there was one."""
        keys = conversation_keys(tenant, conversation_id)
        with reaching_state():
            return bool(await self._delete(keys=[keys.record, keys.turns, keys.lease], args=[]))


def _turns(rows: Sequence[bytes]) -> tuple[Turn, ...]:
    return tuple(Turn(row[1:], row[:1] == _ANSWERS) for row in rows)
