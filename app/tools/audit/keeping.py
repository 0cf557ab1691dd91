"""How long records are kept, and the ends of chains in the log."""

from __future__ import annotations

import time
from typing import Any, Final

import orjson
import structlog

from app.config.audit import AuditConfig
from app.core.clock import Clock
from app.core.errors import StateUnavailable
from app.observability import metrics
from app.state.audit import AuditStore
from app.state.flusher import Flusher
from app.tools.audit.chain import Link, checkpoint, head, public_keys, signature_holds
from app.tools.audit.trail import AuditTrail
from app.tools.audit.verifying import Verifier

EVERY_S: Final = 60.0
"""Between two looks at what is too old."""
HEADS_S: Final = 1.0
_CHUNK: Final = 250
_MOST: Final = 10_000
"""Records of a tenant that go at a time."""

_log = structlog.get_logger("quorum.audit")


class AuditKeeping:
    """Removes what is older, or more, than is to be kept, and writes the signed ends of chains to the log.

    Parameters:
        config: in force now; may be replaced.
    """

    def __init__(self, store: AuditStore, trail: AuditTrail, clock: Clock, config: AuditConfig) -> None:
        self.config = config
        self._store = store
        self._trail = trail
        self._clock = clock
        self._told_at = time.monotonic()
        self._closing = False
        self._trimmer = Flusher("audit keeping", self.trim_all, every_s=EVERY_S)
        self._teller = Flusher("audit heads", self.tell_heads, every_s=HEADS_S)

    def start(self) -> None:
        self._trimmer.start()
        self._teller.start()

    async def close(self) -> None:
        """End, and write the ends of chains to the log a last time."""
        self._closing = True
        await self._trimmer.close()
        await self._teller.close()

    async def trim_all(self) -> None:
        """Trim the chain of every tenant."""
        if self._closing:  # the last flush of all; others do it
            return
        try:
            for tenant in await self._store.tenants():
                await self.trim(tenant)
        except StateUnavailable:
            return

    async def trim(self, tenant: str) -> int:
        """Remove the oldest records, as many as are too many or too old; how many went. The last one stays.

        They are checked before: a checkpoint must not stand for what somebody else has written. Where one is broken, all stay.
        """
        end = await self._store.end(tenant)
        below = end.seq - self.config.keep_records
        oldest_ms = end.now_ms - self.config.keep_s * 1000
        keys = public_keys((self._trail.key.public, *self.config.public_keys))
        verifier = Verifier(keys, tenant=tenant, signatures=False)
        held = await self._store.checkpoint(tenant)
        verifier.begin(orjson.loads(held) if held else None)
        last: Any = None
        rows = await self._store.newer(tenant, verifier.last.seq, 1)
        while rows and verifier.records < _MOST and verifier.fault is None:
            for seq, line in rows:
                verifier.add(line, place=seq)
                if verifier.fault is not None:
                    break
                record = orjson.loads(line)
                if seq >= end.seq or (seq > below and record["time_ms"] >= oldest_ms):
                    return await self._remove(tenant, last, keys)
                last = record
            rows = await self._store.newer(tenant, verifier.last.seq, _CHUNK)
        if verifier.fault is not None:
            metrics.AUDIT_FAULTS.labels(verifier.fault.kind).inc()
            _log.error("an audit chain is broken, so nothing of it is removed", tenant=tenant, fault=verifier.fault.message)
            return 0
        return await self._remove(tenant, last, keys)

    async def tell_heads(self) -> None:
        """Write the end of each chain that this process has appended to since, signed, to the log."""
        every_s = self.config.log_head_s
        due = self._closing or time.monotonic() - self._told_at >= every_s
        if not every_s or not due:
            return
        self._told_at = time.monotonic()
        for tenant, link in self._trail.heads().items():
            _log.info("audit head", head=head(self._trail.key, tenant, link, at_ms=int(self._clock.now() * 1000)))

    async def _remove(self, tenant: str, last: Any, keys: dict[str, str]) -> int:
        """Remove the records up to `last`, whose signature stands for all before it."""
        if last is None:
            return 0
        public = keys.get(last["key"])
        if public is None or not signature_holds(last, public):
            metrics.AUDIT_FAULTS.labels("forged").inc()
            _log.error("an audit record has no signature of ours, so nothing is removed", tenant=tenant, seq=last["seq"])
            return 0
        link = Link(last["seq"], last["hash"], last["time_ms"])
        return await self._store.trim(tenant, link.seq, checkpoint(self._trail.key, tenant, link))
