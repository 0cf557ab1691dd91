"""Answers about the audit trail. Records are given as they are kept, byte for byte, so that whoever has them can check them."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from app.core.audit import Action, ActorKind, Decision


class AuditActor(TypedDict):
    """Who did it: the id and the name of an API key, a user of a machine, or the service. `address` is the connection's."""

    kind: ActorKind
    id: str
    name: str
    address: str | None


class AuditSubject(TypedDict):
    kind: str
    id: str


class AuditRecord(TypedDict):
    """`operation` is the same in a record that says `begun` and in its outcome's. Times are ms since the epoch; `late_ms` is
    how long the record waited for the store. `key` names the public key that `signature`, over `hash`, is checked with."""

    object: Literal["audit.record"]
    seq: int
    tenant: str
    time_ms: int
    actor: AuditActor
    action: Action
    subject: AuditSubject
    decision: Decision
    operation: str
    details: dict[str, Any]
    run_id: str | None
    request_id: str | None
    trace_id: str | None
    late_ms: int
    previous: str
    hash: str
    key: str
    signature: str
    v: Literal[1]


class AuditList(TypedDict):
    object: Literal["list"]
    data: list[AuditRecord]
    next_cursor: str | None


class AuditHead(TypedDict):
    """The end of a chain, signed: the number, hash and time of its last record. `first_seq` is where an export begins."""

    object: Literal["audit.head"]
    tenant: str
    seq: int
    last_hash: str
    time_ms: int
    signed_at_ms: int
    first_seq: int | None
    public_key: str
    hash: str
    key: str
    signature: str
    v: Literal[1]
