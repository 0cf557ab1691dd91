"""An approval is used once, for the very call that it was given for (audit-tamper: approvals reused)."""

from __future__ import annotations

import asyncio
from collections import Counter

import orjson
import pytest

from app.core.approvals import binding
from app.state.approvals import ApprovalStore, Ready
from app.state.client import StateClient

RUN = Ready("a", "run_1", "digest")
CALL = {"tool": "order", "version": "1.0.0", "arguments": {"title": "Emma", "amount": 1}, "run_id": "run_1"}
HASH = binding(**CALL)
OTHERS = [
    {**CALL, "tool": "refund"},
    {**CALL, "version": "1.0.1"},
    {**CALL, "arguments": {"title": "Emma", "amount": 1_000}},
    {**CALL, "arguments": {"title": "Emma", "amount": 1, "express": True}},
    {**CALL, "arguments": {"title": "Emma"}},
    {**CALL, "run_id": "run_2"},
]
ASKERS = 50


@pytest.fixture
async def approvals(state: StateClient) -> ApprovalStore:
    store = ApprovalStore(state)
    for number in ("apr_1", "apr_2", "apr_3"):
        await store.ask("a", "run_1", (number, b"{}"), b'{"decision":"expire"}', expire_s=60, keep_s=600)
    return store


async def decide(store: ApprovalStore, name: str, decision: str) -> None:
    told = await store.decide(RUN, name, orjson.dumps({"decision": decision, "hash": HASH}), "op")
    assert told[0] == "ok"


async def test_of_many_who_use_it_at_once_one_does(approvals: ApprovalStore) -> None:
    await decide(approvals, "apr_1", "approve")
    uses = [approvals.use("a", "apr_1", HASH, f"op{number}", keep_s=60) for number in range(ASKERS)]
    said = await asyncio.gather(*uses)
    assert Counter(said) == {"ok": 1, "used": ASKERS - 1}
    first = said.index("ok")
    assert await approvals.use("a", "apr_1", HASH, f"op{first}", keep_s=60) == "ok"  # its reply was lost
    await approvals.forget("a", "run_1")
    assert await approvals.use("a", "apr_1", HASH, "later", keep_s=60) == "unbound"
    print(f"audit-tamper: an approval used {ASKERS} times at once: 1 taken, {ASKERS - 1} refused")


async def test_it_holds_for_no_other_call_and_not_where_it_was_not_given(approvals: ApprovalStore) -> None:
    await decide(approvals, "apr_1", "approve")
    await decide(approvals, "apr_2", "deny")
    tries = [
        *(("a", "apr_1", binding(**other)) for other in OTHERS),
        ("b", "apr_1", HASH),
        ("a", "apr_2", HASH),
        ("a", "apr_3", HASH),
        ("a", "apr_4", HASH),
    ]
    assert [await approvals.use(*one, "op", keep_s=60) for one in tries] == ["unbound"] * len(tries)
    assert await approvals.use("a", "apr_1", HASH, "op", keep_s=60) == "ok"
    print(f"audit-tamper: approvals for {len(tries)} other calls, tenants and states: {len(tries)} refused")


async def test_the_hash_is_the_same_however_the_arguments_are_written() -> None:
    assert binding(**{**CALL, "arguments": {"amount": 1, "title": "Emma"}}) == HASH
    assert len({binding(**other) for other in [CALL, *OTHERS]}) == len(OTHERS) + 1
