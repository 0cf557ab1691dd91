"""Approvals do not outlive their run: what nobody waits for any more is withdrawn, and nobody waits where the process stops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.state.client import StateClient
from app.state.keys import audit_keys
from tests.support.approving import (
    APP,
    ASK,
    BOSS,
    URL,
    acts_on,
    decide,
    ended,
    paused,
    pending_of,
    reconfigured,
)
from tests.support.serving import Serving

pytestmark = pytest.mark.usefixtures("state")


async def status_of(service: Serving, approval_id: str) -> str:
    return (await service.client.get(f"/v1/approvals/{approval_id}", headers=BOSS)).json()["status"]


async def becomes(service: Serving, approval_id: str, status: str) -> None:
    async with asyncio.timeout(10):
        while await status_of(service, approval_id) != status:
            await asyncio.sleep(0.05)


async def test_what_could_not_be_recorded_as_asked_for_is_withdrawn(service: Serving, state: StateClient) -> None:
    first = await paused(service)
    chain, aside = audit_keys("a").records, "quorum:{audit:a}:aside"
    await state.commands.rename(chain, aside)
    await state.commands.set(chain, "broken")
    try:
        answer = await service.client.post(URL, json={**ASK, "input": "Nana"}, headers=APP, timeout=60)
    finally:
        await state.commands.rename(aside, chain)
    result: Any = answer.json()
    assert (answer.status_code, result["tool_calls"][0]["error"]["code"]) == (200, "state_unavailable"), answer.text
    (approval,) = result["approvals"]
    assert approval["status"] == "withdrawn"
    await becomes(service, approval["id"], "withdrawn")
    assert [one["run_id"] for one in await pending_of(service.client)] == [first["id"]]


async def test_a_withdrawal_is_in_the_audit_trail(service: Serving) -> None:
    result = await paused(service)
    assert (await service.client.post(f"{URL}/{result['id']}/cancel", headers=APP)).status_code == 200
    async with asyncio.timeout(10):
        while (last := (await acts_on(service, result["id"]))[-1])["decision"] != "withdrawn":
            await asyncio.sleep(0.05)
    assert (last["action"], last["subject"]) == ("approval.decide", {"kind": "approval", "id": result["approvals"][0]["id"]})
    assert last["details"] == {"tool": "order@1.0.0"}


async def test_a_run_that_can_never_go_on_has_the_decision_that_was_taken(service: Serving) -> None:
    result = await paused(service)
    await reconfigured(service, lambda config: config.update(recipes={}))
    approval = result["approvals"][0]["id"]
    await decide(service.client, approval, approver="ann@example.com")
    end = await ended(service.client, result["id"])
    assert end["status"] == "failed"
    assert [(one["status"], one["by"]) for one in end["approvals"]] == [("approved", "ann@example.com")]
    assert await status_of(service, approval) == "approved"


@pytest.mark.parametrize("way", ["stream", "events", "keyed"])
async def test_who_reads_a_run_that_waits_is_sent_elsewhere_when_the_process_stops(service: Serving, way: str) -> None:
    if way == "events":
        result = await paused(service)
        reading = service.client.stream("GET", f"{URL}/{result['id']}/events", headers=APP)
    else:
        key = {"Idempotency-Key": "emma"} if way == "keyed" else {}
        reading = service.client.stream("POST", URL, json={**ASK, "stream": True}, headers={**APP, **key})
    text = ""
    async with asyncio.timeout(15), reading as answer:
        async for piece in answer.aiter_text():
            text += piece
            if "event: run.paused" in text and not service.app.state.draining.begun:
                service.app.state.draining.begin()
    assert "read on with Last-Event-ID" in text
    assert "run.finished" not in text
