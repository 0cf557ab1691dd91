"""Decisions on calls that wait: who takes them, once, in time, for which call; the list, and the trail."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from app.orchestration.approving.entries import Decision
from app.state.approvals import ApprovalStore, Ready
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.approving import (
    APP,
    ASK,
    BOSS,
    OTHER,
    ROOT,
    URL,
    World,
    acts_on,
    decide,
    ended,
    paused,
    pending_of,
    reconfigured,
    running,
)
from tests.support.serving import Serving

pytestmark = pytest.mark.usefixtures("state")


async def test_of_two_decisions_at_once_one_holds(service: Serving, world: World) -> None:
    result = await paused(service)
    approval = result["approvals"][0]["id"]
    decisions = await asyncio.gather(
        *(decide(service.client, approval, decision=("approve", "deny")[number % 2]) for number in range(8))
    )
    assert sorted(one.status_code for one in decisions) == [200, *[409] * 7]
    kept = next(one for one in decisions if one.status_code == 200).json()["status"]
    await ended(service.client, result["id"])
    assert len(world.ordered) == (kept == "approved")


async def test_nobody_decides_in_time_and_the_run_goes_on_told_so(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    world = World()
    async with running(tmp_path, valkey, world, approvals={"expire_s": 1}) as service:
        result = await paused(service)
        end = await ended(service.client, result["id"])
        assert (end["tool_calls"][0]["error"]["code"], end["approvals"][0]["status"]) == ("approval_expired", "expired")
        late = await decide(service.client, result["approvals"][0]["id"])
        assert late.status_code == 409
        assert world.ordered == []


async def test_who_is_too_late_is_told_so(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    world = World()
    async with running(tmp_path, valkey, world) as service:
        result = await paused(service)
        (expiries,) = [key async for key in state.commands.scan_iter("*:expiries")]
        await state.commands.hset(expiries, result["approvals"][0]["id"], 1)
        late = await decide(service.client, result["approvals"][0]["id"])
        assert (late.status_code, late.json()["error"]["code"]) == (409, "conflict")
        assert "has expired" in late.json()["detail"]
        assert world.ordered == []


async def test_deciding_needs_its_scope_and_the_tenant(service: Serving, world: World) -> None:
    result = await paused(service)
    path = f"/v1/approvals/{result['approvals'][0]['id']}"
    for headers, status in ((APP, 403), (OTHER, 404), ({}, 401)):
        answer = await service.client.post(path, json={"decision": "approve"}, headers=headers)
        assert answer.status_code == status, answer.text
    assert (await service.client.get(path, headers=OTHER)).status_code == 404
    assert (await service.client.get("/v1/approvals", headers=OTHER)).json()["data"] == []
    assert (await service.client.get(path, headers=APP)).status_code == 200
    other = await decide(service.client, result["approvals"][0]["id"], hash="0" * 64)
    assert (other.status_code, other.json()["error"]["param"]) == (409, "hash")
    assert world.ordered == []


async def test_the_key_that_asked_may_be_kept_from_deciding(tmp_path: Path, valkey: EmbeddedValkey, world: World) -> None:
    async with running(tmp_path, valkey, world, approvals={"by_asker": False}) as service:
        asked = await service.client.post(URL, json=ASK, headers=ROOT)
        approval = asked.json()["approvals"][0]["id"]
        refused = await service.client.post(f"/v1/approvals/{approval}", json={"decision": "approve"}, headers=ROOT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        assert (await decide(service.client, approval)).status_code == 200


async def test_a_list_is_filtered_and_paged(service: Serving) -> None:
    runs = [await paused(service, {**ASK, "input": title}) for title in ("Emma", "Nana", "Ulysses")]
    seen, cursor = [], ""
    while cursor is not None:
        page = await service.client.get("/v1/approvals", params={"limit": 2, "cursor": cursor, "tool": "order"}, headers=BOSS)
        seen += [one["run_id"] for one in page.json()["data"]]
        cursor = page.json()["next_cursor"]
    assert seen == [run["id"] for run in reversed(runs)]
    latest = (await service.client.get("/v1/approvals/latest", headers=BOSS)).json()
    assert latest["run_id"] == runs[-1]["id"]
    await decide(service.client, latest["id"], decision="deny")
    denied = (await service.client.get("/v1/approvals", params={"status": "denied"}, headers=BOSS)).json()["data"]
    assert [one["id"] for one in denied] == [latest["id"]]
    assert len(await pending_of(service.client)) == 2
    assert (await service.client.get("/v1/approvals", params={"tool": "look"}, headers=BOSS)).json()["data"] == []


def _newer(config: Any) -> None:
    config["tools"]["http"]["order@1.1"] = config["tools"]["http"].pop("order")


async def test_an_approval_does_not_hold_for_another_version_of_the_tool(service: Serving, world: World) -> None:
    result = await paused(service)
    await reconfigured(service, _newer)
    await decide(service.client, result["approvals"][0]["id"])
    async with asyncio.timeout(10):
        while not (waiting := await pending_of(service.client, result["id"])):
            await asyncio.sleep(0.05)
    assert (waiting[0]["version"], world.ordered) == ("1.1.0", [])
    await decide(service.client, waiting[0]["id"])
    assert (await ended(service.client, result["id"]))["status"] == "succeeded"
    assert world.ordered == ["Emma"]


async def test_what_was_asked_decided_and_done_is_in_the_audit_trail(service: Serving) -> None:
    result = await paused(service)
    await decide(service.client, result["approvals"][0]["id"], reason="fine")
    await ended(service.client, result["id"])
    told = [(one["action"], one["decision"]) for one in await acts_on(service, result["id"])]
    assert [one for one in told if one[0] != "tool.permission"] == [
        ("approval.request", "requested"),
        ("approval.decide", "begun"),
        ("approval.decide", "approved"),
        ("tool.execute", "begun"),
        ("tool.execute", "done"),
    ]


async def test_a_run_goes_on_though_who_decided_died_before_he_could_say_so(
    service: Serving, world: World, state: StateClient
) -> None:
    result = await paused(service)
    approval = result["approvals"][0]
    (run,) = [key async for key in state.commands.scan_iter("*:entries")]
    entry = json.loads(await state.commands.hget(run, approval["id"]))
    decision = Decision("approve", time.time(), "boss", hash=approval["hash"], operation="1")
    ready = Ready("a", result["id"], entry["digest"])
    outcome, _, goes_on = await ApprovalStore(state).decide(ready, approval["id"], decision.as_json(), "1")
    assert (outcome, goes_on) == ("ok", True)
    assert (await ended(service.client, result["id"], within_s=15))["status"] == "succeeded"
    assert world.ordered == ["Emma"]
    assert await ApprovalStore(state).ready() == []
