"""Records acts: what is told is linked to the end of its tenant's chain and appended, together with what was told meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Final, NoReturn

import structlog

from app.config.audit import AuditConfig
from app.core.audit import SERVICE, Act, Decision
from app.core.errors import StateUnavailable
from app.observability import metrics
from app.state.audit import AuditStore, End
from app.state.flusher import Flusher
from app.state.secrets import Secret
from app.tools.audit.bounds import bounded_details, bounded_text
from app.tools.audit.chain import USE, Link, SigningKey, canonical, chained, public_keys

WAIT_S: Final = 1.0
"""How long an act waits for its record; then the store is taken to be away."""
AT_ONCE: Final = 64
"""Records appended by one command."""
MOST_WAITING: Final = 10_000
"""Records that wait for the store; beyond them the oldest go to the log."""
_TURNS: Final = 50
"""How often an end that others have moved is tried anew before others of this process get their turn."""
_LATE_MS: Final = 1_000

_log = structlog.get_logger("quorum.audit")


@dataclass(slots=True, eq=False)
class _Waiting:
    """A record that is not in its chain yet. `told` is done when it is, or when it could not be got there at once."""

    members: dict[str, Any]
    act: Act
    decision: Decision
    since: float
    told: asyncio.Future[None] | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class _Batch:
    """Records as they were sent. Until the store has said what became of them they can only be sent again, as they are."""

    after: Link
    last: Link
    lines: list[bytes]
    records: list[_Waiting]


@dataclass(slots=True)
class _Chain:
    """What this process knows of a tenant's chain. `ahead_ms` is the server's time less the monotonic clock's."""

    waiting: deque[_Waiting] = field(default_factory=deque[_Waiting])
    sent: _Batch | None = None
    end: Link | None = None
    seen: Link = field(default_factory=Link)
    ahead_ms: float = 0.0
    logged: Link = field(default_factory=Link)
    trouble: str = ""
    strange: str = ""

    @property
    def unstored(self) -> list[_Waiting]:
        return [*(self.sent.records if self.sent else ()), *self.waiting]


class AuditTrail:
    """The recorder (`core.audit.Recorder`) of a process.

    Parameters:
        config: in force now; may be replaced.
    """

    def __init__(self, store: AuditStore, secret: Secret, config: AuditConfig) -> None:
        self.config = config
        self.key = SigningKey(secret.key_for(USE))
        self._store = store
        self._hash = secret.hasher("audit-digest")
        self._chains: dict[str, _Chain] = {}
        self._flusher = Flusher("audit", self.flush)

    def start(self) -> None:
        self._flusher.start()

    async def close(self) -> None:
        """Append what waits; what the store does not take goes to the log."""
        await self._flusher.close()
        for tenant, chain in self._chains.items():
            for record in chain.unstored:
                _lost(tenant, record)
        self._chains.clear()

    async def record(
        self, act: Act, decision: Decision, details: Mapping[str, Any] | None = None, *, operation: str = ""
    ) -> None:
        record = self._told(act, decision, details, operation)
        refusing = self.config.on_failure == "refuse"
        if not await self._stored(record, else_="refused" if refusing else "waiting") and refusing:
            self._refuse(record)

    async def begin(self, act: Act, details: Mapping[str, Any] | None = None) -> str:
        operation = f"op_{token_hex(12)}"
        try:
            await self.record(act, "begun", details, operation=operation)
        except asyncio.CancelledError:
            self.note(act, "refused", {"error": "cancelled"}, operation=operation)
            raise
        return operation

    async def end(self, act: Act, operation: str, decision: Decision, details: Mapping[str, Any] | None = None) -> None:
        await self._stored(self._told(act, decision, details, operation), else_="waiting")

    def note(self, act: Act, decision: Decision, details: Mapping[str, Any] | None = None, *, operation: str = "") -> None:
        self._told(act, decision, details, operation, waited_for=False)

    def digest(self, value: Any) -> str:
        return "hmac-sha256:" + self._hash(canonical(value).decode())

    async def flush(self) -> None:
        """Append what waits, of every tenant; what the store does not take waits on."""
        for tenant, chain in list(self._chains.items()):
            if not chain.waiting and chain.sent is None:
                continue
            try:
                await self._append(tenant, chain)
                chain.trouble = ""
            except Exception as fault:  # the boundary: the next tenant's records must go on
                if str(fault) != chain.trouble:
                    chain.trouble = str(fault)
                    _log.error("audit records wait", tenant=tenant, reason=chain.trouble)
                _tell(chain.unstored, kept=False)
        self._measure()

    def heads(self) -> dict[str, Link]:
        """By tenant: the newest record that this process has appended and not given out here before."""
        grown = {name: chain for name, chain in self._chains.items() if chain.seen != chain.logged}
        for chain in grown.values():
            chain.logged = chain.seen
        return {name: chain.seen for name, chain in grown.items()}

    def _told(
        self, act: Act, decision: Decision, details: Mapping[str, Any] | None, operation: str, *, waited_for: bool = True
    ) -> _Waiting:
        told = asyncio.get_running_loop().create_future() if waited_for else None
        record = _Waiting(_members(act, decision, details or {}, operation), act, decision, time.monotonic(), told)
        waiting = self._chains.setdefault(act.tenant, _Chain()).waiting
        if len(waiting) >= MOST_WAITING:
            _lost(act.tenant, waiting.popleft())
        waiting.append(record)
        self._flusher.hurry()
        return record

    async def _stored(self, record: _Waiting, *, else_: str) -> bool:
        """Whether the record is in its chain. Otherwise it waits on, and is counted as `else_`."""
        told = record.told
        if told is None:
            return False
        try:
            async with asyncio.timeout(WAIT_S):
                await asyncio.shield(told)
        except (TimeoutError, StateUnavailable):
            metrics.AUDIT_FAILURES.labels(else_).inc()
            return False
        finally:
            record.told = None
            told.cancel()
        return True

    def _refuse(self, record: _Waiting) -> NoReturn:
        """Take the record back. If it was sent it may be there all the same: then it is said that nothing was done."""
        record.refused = True
        chain = self._chains[record.act.tenant]
        if record in chain.waiting:
            chain.waiting.remove(record)
        raise StateUnavailable(
            "this has to be recorded in the audit trail first, and the state store does not answer; try again"
        )

    async def _append(self, tenant: str, chain: _Chain) -> None:
        for _ in range(_TURNS):
            if chain.sent is None:
                if not chain.waiting:
                    return
                if chain.end is None:
                    self._learn(tenant, chain, await self._store.end(tenant))
                chain.sent = self._batch(chain, chain.end or Link())
            batch = chain.sent
            with metrics.AUDIT_APPEND_SECONDS.time():
                found = await self._store.append(tenant, batch.after.seq, batch.after.hash, batch.last.time_ms, batch.lines)
            chain.sent = None
            if found.outcome == "ok":
                self._appended(tenant, chain, batch)
            else:
                chain.waiting.extendleft(reversed([record for record in batch.records if not record.refused]))
            self._learn(tenant, chain, found)

    def _batch(self, chain: _Chain, after: Link) -> _Batch:
        """The next records, linked to `after`."""
        now = time.monotonic()
        time_ms = max(after.time_ms, int(now * 1000 + chain.ahead_ms))
        records = [chain.waiting.popleft() for _ in range(min(AT_ONCE, len(chain.waiting)))]
        lines: list[bytes] = []
        last = after
        for record in records:
            waited_ms = int((now - record.since) * 1000)
            late = {"late_ms": waited_ms} if waited_ms >= _LATE_MS else {}
            line, last = chained(self.key, last, record.members | late, time_ms)
            lines.append(line)
        return _Batch(after, last, lines, records)

    def _appended(self, tenant: str, chain: _Chain, batch: _Batch) -> None:
        chain.end = chain.seen = batch.last
        _tell(batch.records, kept=True)
        for record in batch.records:
            metrics.AUDIT_RECORDS.labels(record.act.action, record.decision).inc()
            if record.refused:
                self.note(record.act, "refused", {"error": StateUnavailable.code}, operation=record.members["operation"])

    def _learn(self, tenant: str, chain: _Chain, found: End) -> None:
        """Take over how the chain ends now; notice where it has lost what was there."""
        if found.outcome == "broken":
            metrics.AUDIT_FAULTS.labels("unreadable").inc()
            raise StateUnavailable(f"the last audit record of {tenant!r} cannot be read, so that none can follow it")
        chain.ahead_ms = found.now_ms - time.monotonic() * 1000
        chain.end = Link(found.seq, found.hash, found.time_ms)
        self._check_signer(tenant, chain, found.key)
        had = chain.seen
        if found.seq < had.seq or (found.seq == had.seq and found.hash != had.hash):
            chain.seen = chain.end
            metrics.AUDIT_FAULTS.labels("cut_back").inc()
            facts = {"had_seq": had.seq, "had_hash": had.hash, "found_seq": found.seq, "found_hash": found.hash}
            _log.error("an audit chain has lost records that were in it", tenant=tenant, **facts)
            act = Act(tenant=tenant, actor=SERVICE, action="audit.cut_back", subject_kind="chain", subject=tenant)
            self.note(act, "found", facts)

    def _check_signer(self, tenant: str, chain: _Chain, key: str) -> None:
        """Tell once where the last record has the key of another secret: of an earlier one, of a replica that is set up
        otherwise, or of nobody who should write here."""
        if key not in ("", self.key.id, chain.strange) and key not in public_keys(self.config.public_keys):
            chain.strange = key
            metrics.AUDIT_FAULTS.labels("unknown_key").inc()
            _log.warning("an audit chain goes on after a record that another secret has signed", tenant=tenant, key=key)

    def _measure(self) -> None:
        waiting = [record for chain in self._chains.values() for record in chain.unstored]
        metrics.AUDIT_WAITING.set(len(waiting))
        oldest = min((record.since for record in waiting), default=None)
        metrics.AUDIT_LAG.set(0.0 if oldest is None else time.monotonic() - oldest)


def _members(act: Act, decision: Decision, details: Mapping[str, Any], operation: str) -> dict[str, Any]:
    """A record as far as it is known before it has its place."""

    def told(text: str | None) -> str | None:
        return None if text is None else bounded_text(text)

    return {
        "tenant": act.tenant,
        "actor": {
            "kind": act.actor.kind,
            "id": bounded_text(act.actor.id),
            "name": bounded_text(act.actor.name),
            "address": told(act.actor.address),
        },
        "action": act.action,
        "subject": {"kind": act.subject_kind, "id": bounded_text(act.subject)},
        "decision": decision,
        "operation": operation,
        "details": bounded_details(details),
        "run_id": told(act.run_id),
        "request_id": told(act.request_id),
        "trace_id": told(act.trace_id),
        "late_ms": 0,
    }


def _tell(records: list[_Waiting], *, kept: bool) -> None:
    """Whoever waits for a record learns whether it is in its chain."""
    for record in records:
        if record.told is not None and not record.told.done():
            if kept:
                record.told.set_result(None)
            else:
                record.told.set_exception(StateUnavailable("the audit record is not stored"))


def _lost(tenant: str, record: _Waiting) -> None:
    metrics.AUDIT_FAILURES.labels("lost").inc()
    _log.error("an audit record never reached its chain", tenant=tenant, record=record.members)
