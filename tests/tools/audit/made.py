"""Chains for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from app.core.audit import Act, Actor
from app.state.audit import AuditStore
from app.state.secrets import Secret
from app.tools.audit.chain import USE, Link, SigningKey, canonical, chained, key_id

KEY = SigningKey(Secret("0123456789abcdef" * 2).key_for(USE))
OTHER = SigningKey(Secret("another secret, as long").key_for(USE))
KEYS = {key_id(KEY.public): KEY.public}


def act(subject: str = "mail.send@1", tenant: str = "a", **more: Any) -> Act:
    actor = Actor("key", "key_1", "ann", "192.0.2.7")
    return Act(tenant=tenant, actor=actor, action="tool.execute", subject_kind="tool", subject=subject, **more)


def members(subject: str = "mail.send@1", tenant: str = "a") -> dict[str, Any]:
    return {
        "tenant": tenant,
        "actor": {"kind": "key", "id": "key_1", "name": "ann", "address": None},
        "action": "tool.execute",
        "subject": {"kind": "tool", "id": subject},
        "decision": "done",
        "operation": "",
        "details": {},
    }


def chain(count: int, *, key: SigningKey = KEY, tenant: str = "a", after: Link | None = None) -> list[bytes]:
    """`count` records, a second between them."""
    lines: list[bytes] = []
    last = after or Link()
    for number in range(count):
        line, last = chained(key, last, members(f"tool-{number}", tenant), 1_700_000_000_000 + 1_000 * last.seq)
        lines.append(line)
    return lines


def changed(line: bytes, **values: Any) -> bytes:
    return canonical({**orjson.loads(line), **values})


def rewritten(lines: list[bytes], key: SigningKey, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> list[bytes]:
    """A chain as somebody would make it anew who has another key: right in itself."""
    last, found = Link(), list[bytes]()
    for line in lines:
        record = change(orjson.loads(line))
        line, last = chained(key, last, {k: record[k] for k in record if k not in ("hash", "signature")}, record["time_ms"])
        found.append(line)
    return found


async def kept(store: AuditStore, tenant: str = "a") -> list[dict[str, Any]]:
    """What is in the chain, the oldest first."""
    return [orjson.loads(line) for _, line in await store.newer(tenant, 0, 10_000)]
