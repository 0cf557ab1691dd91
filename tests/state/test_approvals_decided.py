"""The store of approvals: each is decided once, in time, by its tenant; nothing of it outlives a run that is deleted."""

from __future__ import annotations

import time
from typing import Any

import pytest

from app.core.approvals import Approval, approval_id, binding
from app.core.errors import Gone
from app.orchestration.approving.entries import Decision, DecisionKind, Entry, expired
from app.state.approvals import ApprovalStore, Ready
from app.state.client import StateClient

RUN = "run_000000000000000000000001"
CALL: dict[str, Any] = {"tool": "order", "version": "1.0.0", "arguments": {"title": "Emma"}, "run_id": RUN}
BOUND = binding(**CALL)
ID = approval_id("call_1", BOUND)
READY = Ready("a", RUN, "digest")


@pytest.fixture
def store(state: StateClient) -> ApprovalStore:
    return ApprovalStore(state)


async def ask(store: ApprovalStore) -> bool:
    """Ask for the approval of `CALL`. Whether it is new."""
    approval = Approval(ID, RUN, "call_1", 1, "order", "1.0.0", "write", BOUND, CALL["arguments"])
    entry = Entry(approval, digest="digest").as_json()
    asked = await store.ask("a", RUN, (ID, entry), expired(time.time()).as_json(), expire_s=60, keep_s=60)
    return asked.new


async def decide(store: ApprovalStore, decision: DecisionKind = "approve", operation: str = "1", ready: Ready = READY) -> str:
    made = Decision(decision, time.time(), "boss", hash=BOUND, operation=operation)
    outcome, _, _ = await store.decide(ready, ID, made.as_json(), operation)
    return outcome


async def use(store: ApprovalStore, operation: str, tenant: str = "a") -> str:
    return await store.use(tenant, ID, BOUND, operation, keep_s=60)


async def test_it_is_decided_once_and_a_decision_told_again_is_the_same(store: ApprovalStore) -> None:
    await ask(store)
    assert [await decide(store, operation=one) for one in ("1", "1", "2")] == ["ok", "ok", "decided"]
    assert await decide(store, "deny", "3") == "decided"


async def test_it_is_not_decided_when_its_time_is_over(store: ApprovalStore, state: StateClient) -> None:
    await ask(store)
    await state.commands.hset("quorum:{approvals:a}:expiries", ID, 1)
    assert await decide(store) == "expired"
    assert await use(store, "1") == "unbound"


async def test_another_tenant_can_neither_decide_nor_use_it(store: ApprovalStore) -> None:
    await ask(store)
    assert await decide(store, ready=Ready("b", RUN, "digest")) == "missing"
    await decide(store)
    assert await use(store, "1", tenant="b") == "unbound"
    assert await use(store, "1") == "ok"


async def test_what_was_used_stays_used_though_its_run_was_deleted(store: ApprovalStore, state: StateClient) -> None:
    await ask(store)
    await decide(store)
    assert await use(store, "1") == "ok"
    await store.forget("a", RUN)
    assert await use(store, "2") == "unbound"
    assert await state.commands.hget("quorum:{approvals:a}:used", ID) == b"1"


async def test_of_a_run_that_was_deleted_nothing_is_left_and_nothing_more_is_asked(store: ApprovalStore) -> None:
    assert await ask(store)
    await decide(store)
    await store.forget("a", RUN)
    with pytest.raises(Gone):
        await ask(store)
    assert await decide(store, operation="2") == "missing"
    assert await store.get("a", ID) is None
    assert await store.page("a", ["pending", "decided"], None, 9) == []
    assert await store.ready() == []
