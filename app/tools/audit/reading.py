"""Reading a tenant's trail: a page of what a filter takes, the signed end, and the whole as an export."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from app.core.audit import Action, Decision
from app.core.chat import JsonObject
from app.core.clock import Clock
from app.core.errors import ConflictError, InvalidRequest, NotFound
from app.state.audit import AuditStore
from app.tools.audit.chain import Link, SigningKey, canonical, head
from app.tools.audit.verifying import Verifier

_CHUNK: Final = 250
"""Records read at once: some 200 KB, well within the time for a command."""
_MOST_LOOKED_AT: Final = 5_000
"""Records that one page of a filtered list looks at."""
_CURSOR = re.compile(r"[1-9]\d{0,15}")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records; None takes all. `actor` is an id or a name, `subject` an id, or a kind and an id with a colon between.

    Times in ms since the epoch: `since_ms` is the first that is taken, `before_ms` the first that is not any more.
    """

    action: Action | None = None
    decision: Decision | None = None
    actor: str | None = None
    subject: str | None = None
    run_id: str | None = None
    request_id: str | None = None
    operation: str | None = None
    since_ms: int | None = None
    before_ms: int | None = None

    def takes(self, record: JsonObject) -> bool:
        actor, subject = record["actor"], record["subject"]
        return (
            all(wanted in (None, record[name]) for name, wanted in self._exact())
            and self.actor in (None, actor["id"], actor["name"])
            and self.subject in (None, subject["id"], f"{subject['kind']}:{subject['id']}")
        )

    def _exact(self) -> tuple[tuple[str, str | None], ...]:
        return (
            ("action", self.action),
            ("decision", self.decision),
            ("run_id", self.run_id),
            ("request_id", self.request_id),
            ("operation", self.operation),
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Records as they are kept, the newest first, and where the next page begins, None where there is none."""

    records: list[bytes]
    next_cursor: str | None


class TrailReader:
    """Reads the chains of all tenants. Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, store: AuditStore, key: SigningKey, clock: Clock) -> None:
        self._store = store
        self._key = key
        self._clock = clock

    async def page(self, tenant: str, wanted: Filter, *, cursor: str | None, limit: int) -> Page:
        """Up to `limit` records. With a filter a page may hold fewer although another one follows.

        Raises:
            InvalidRequest: the cursor is none of ours.
        """
        below = _position(cursor)
        if below is None and wanted.before_ms is not None:
            below = await self._first_at(tenant, wanted.before_ms)
        found: list[bytes] = []
        looked_at = 0
        while looked_at < _MOST_LOOKED_AT:
            rows = await self._store.older(tenant, below, _CHUNK)
            for below, line in rows:
                record = _read(line)
                if record is None:
                    continue
                if wanted.since_ms is not None and record["time_ms"] < wanted.since_ms:
                    return Page(found, None)
                if wanted.takes(record):
                    found.append(line)
                    if len(found) == limit:
                        return Page(found, str(below))
            looked_at += len(rows)
            if len(rows) < _CHUNK:
                return Page(found, None)
        return Page(found, str(below))

    async def head(self, tenant: str) -> dict[str, Any]:
        """The signed end of the chain, to be kept elsewhere: what is cut off before it can be told by it.

        Of a chain without records it is the number 0.
        """
        end = await self._store.end(tenant)
        return self._signed(tenant, Link(end.seq, end.hash, end.time_ms))

    async def export(
        self, tenant: str, *, since_ms: int | None = None, before_ms: int | None = None, broken_too: bool = False
    ) -> AsyncGenerator[bytes]:
        """The records of a time as lines, many at once, and as the last line a signed head: their first and their last.

        Parameters:
            broken_too: export what is there of a chain that is broken, without a head.

        Raises:
            NotFound: there are some, but none of that time.
            ConflictError: the chain is broken, so that no head can be signed for it.
        """
        end = await self._store.end(tenant)
        above = 0 if since_ms is None else await self._first_at(tenant, since_ms) - 1
        last = end.seq if before_ms is None else await self._first_at(tenant, before_ms) - 1
        verifier = Verifier({}, tenant=tenant, signatures=False)
        if since_ms is None:
            held = await self._store.checkpoint(tenant)
            verifier.begin(orjson.loads(held) if held else None, signed=False)
        first: int | None = None
        while above < last:
            rows = await self._store.newer(tenant, above, min(_CHUNK, last - above))
            for above, line in rows:
                first = above if first is None else first
                verifier.add(line, place=above)
            if verifier.fault is not None and not broken_too:
                message = f"the chain of {tenant!r} is broken: {verifier.fault.message}; `quorum audit verify` tells more"
                raise ConflictError(message, code="audit_broken")
            if not rows:
                break
            yield b"".join(line + b"\n" for _, line in rows)
        if first is None and end.seq:
            raise NotFound("nothing was recorded in that time", param="from")
        if verifier.fault is None:
            yield canonical(self._signed(tenant, verifier.last, first)) + b"\n"

    def _signed(self, tenant: str, last: Link, first: int | None = None) -> dict[str, Any]:
        return head(self._key, tenant, last, at_ms=int(self._clock.now() * 1000), first_seq=first)

    async def _first_at(self, tenant: str, time_ms: int) -> int:
        """The number of the first record of that time or later; of none, the one after the last. Times never go back."""
        oldest = await self._store.newer(tenant, 0, 1)
        low = oldest[0][0] if oldest else 1
        high = (await self._store.end(tenant)).seq + 1
        while low < high:
            middle = (low + high) // 2
            rows = await self._store.newer(tenant, middle - 1, 1)
            record = _read(rows[0][1]) if rows else None
            if record is not None and record["time_ms"] < time_ms:
                low = middle + 1
            else:
                high = middle
        return low


def _read(line: bytes) -> JsonObject | None:
    """A record; None for what is none any more, which verifying tells."""
    try:
        found: Any = orjson.loads(line)
        record = cast("JsonObject", found)
        return record if isinstance(record["time_ms"], int) and record["actor"]["id"] and record["subject"]["kind"] else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def _position(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not _CURSOR.fullmatch(cursor):
        raise InvalidRequest(f"{cursor[:50]!r} is no cursor; use the `next_cursor` of the page before", param="cursor")
    return int(cursor)
