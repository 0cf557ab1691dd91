"""The audit trail of each tenant, in one slot: a stream of records, each with the hash of the one before it."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from app.state.client import StateClient, reaching_state
from app.state.keys import AUDITED, audit_keys

CLOCK_TOLERANCE_MS: Final = 1_000
"""How far the time that a record claims may be from the server's."""


@dataclass(frozen=True, slots=True)
class End:
    """How a chain ends: the number, hash and time of its last record, and the id of the key that signed it.

    `now_ms` is what the server's clock said, in ms.
    """

    outcome: Literal["ok", "moved", "late", "broken", "head"]
    seq: int
    hash: str
    time_ms: int
    now_ms: int
    key: str


class AuditStore:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._append = state.script("audit_append")
        self._trim = state.script("audit_trim")
        self._known: set[str] = set()

    async def end(self, tenant: str) -> End:
        """How the chain of `tenant` ends."""
        return await self._run(tenant, [])

    async def append(self, tenant: str, after_seq: int, after_hash: str, time_ms: int, records: Sequence[bytes]) -> End:
        """Append `records`, all with the time `time_ms`, where the chain ends with the record given. May be sent again."""
        if after_seq == 0 or tenant not in self._known:
            with reaching_state():
                await self._state.commands.sadd(AUDITED, tenant)
            self._known.add(tenant)
        return await self._run(tenant, [after_seq, after_hash, CLOCK_TOLERANCE_MS, time_ms, *records])

    async def older(self, tenant: str, below: int | None, most: int) -> list[tuple[int, bytes]]:
        """Up to `most` records with a number under `below`, the newest first, each with the number it is kept under."""
        highest = "+" if below is None else f"({below}-0"
        with reaching_state():
            found: Any = await self._state.commands.xrevrange(audit_keys(tenant).records, highest, "-", count=most)
        return _read(found)

    async def newer(self, tenant: str, above: int, most: int) -> list[tuple[int, bytes]]:
        """The same, the oldest first, with a number over `above`."""
        with reaching_state():
            found: Any = await self._state.commands.xrange(audit_keys(tenant).records, f"({above}-0", "+", count=most)
        return _read(found)

    async def checkpoint(self, tenant: str) -> bytes | None:
        """What stands for the records that are not kept any more."""
        with reaching_state():
            found: Any = await self._state.commands.get(audit_keys(tenant).checkpoint)
        return found

    async def trim(self, tenant: str, through: int, checkpoint: bytes) -> int:
        """Remove the records up to the number `through`; how many went."""
        keys = audit_keys(tenant)
        with reaching_state():
            return await self._trim(keys=[keys.records, keys.checkpoint], args=[through, checkpoint])

    async def tenants(self) -> list[str]:
        with reaching_state():
            found: Any = await self._state.commands.smembers(AUDITED)
        return sorted(tenant.decode() for tenant in found)

    async def _run(self, tenant: str, args: Sequence[Any]) -> End:
        keys = audit_keys(tenant)
        with reaching_state():
            reply: Any = await self._append(keys=[keys.records, keys.checkpoint], args=args)
        return End(
            reply[0].decode(), int(reply[1]), reply[2].decode(), int(reply[3]), int(reply[4]), reply[5].decode(errors="replace")
        )


def _read(found: Any) -> list[tuple[int, bytes]]:
    """Numbers and records. What is no record of ours is there with its bytes, for those who verify to find."""
    return [(int(entry.partition(b"-")[0]), fields.get(b"record", b"")) for entry, fields in found]
