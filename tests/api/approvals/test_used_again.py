"""An approval holds once, for one call: what is decided again, used again, or does not fit any more is refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.core.approvals import binding
from app.orchestration.approving.entries import Decision
from app.state.approvals import ApprovalStore, Ready
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import approval_keys
from tests.support.approving import (
    APP,
    ASK,
    BOSS,
    URL,
    World,
    decide,
    ended,
    paused,
    pending_of,
    reconfigured,
    running,
)
from tests.support.serving import Serving

pytestmark = pytest.mark.usefixtures("state")


@pytest.mark.parametrize(
    "again", [{}, {"decision": "deny"}, {"decision": "edit", "arguments": {"title": "Nana"}}], ids=["same", "deny", "edit"]
)
@pytest.mark.parametrize("over", [False, True])
async def test_what_was_decided_is_not_decided_again(service: Serving, world: World, again: Any, over: bool) -> None:
    result = await paused(service)
    approval = result["approvals"][0]["id"]
    assert (await decide(service.client, approval, approver="ann")).status_code == 200
    if over:
        await ended(service.client, result["id"])
    refused = await decide(service.client, approval, **again)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert "decided already: 'approve' by 'ann'" in refused.json()["detail"]
    assert (await ended(service.client, result["id"]))["approvals"][0]["status"] == "approved"
    assert world.ordered == ["Emma"]


async def test_a_decision_that_is_sent_again_under_its_key_is_answered_again(service: Serving, world: World) -> None:
    result = await paused(service)
    path, headers = f"/v1/approvals/{result['approvals'][0]['id']}", {**BOSS, "Idempotency-Key": "yes"}
    first, second = [await service.client.post(path, json={"decision": "approve"}, headers=headers) for _ in range(2)]
    assert (first.status_code, second.status_code, second.content) == (200, 200, first.content)
    other = await service.client.post(path, json={"decision": "deny"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    await ended(service.client, result["id"])
    assert world.ordered == ["Emma"]


async def test_the_approval_of_a_run_is_not_that_of_another_that_asks_for_the_same(service: Serving, world: World) -> None:
    one, other = await paused(service), await paused(service)
    assert one["approvals"][0]["hash"] != other["approvals"][0]["hash"]
    wrong = await decide(service.client, other["approvals"][0]["id"], hash=one["approvals"][0]["hash"])
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (409, "hash")
    await decide(service.client, one["approvals"][0]["id"])
    await ended(service.client, one["id"])
    assert world.ordered == ["Emma"]
    assert [waiting["id"] for waiting in await pending_of(service.client)] == [other["approvals"][0]["id"]]
    assert (await service.client.get(f"{URL}/{other['id']}", headers=APP)).json()["status"] == "needs_approval"


def _at_most(characters: int) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        config["tools"]["http"]["order"]["input"]["properties"]["title"]["maxLength"] = characters

    return change


async def test_arguments_that_were_put_in_place_and_fit_the_tool_no_more_are_not_used(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    world = World(("order", "Emma"), ("order", "Nana"))
    async with running(tmp_path, valkey, world) as service:
        result = await paused(service)
        first, second = await pending_of(service.client, result["id"])
        edit: Any = {"decision": "edit", "arguments": {"title": "Ulysses"}}
        assert (await decide(service.client, first["id"], **edit)).status_code == 200
        await reconfigured(service, _at_most(4))
        late = await decide(service.client, second["id"], **edit)
        assert (late.status_code, late.json()["error"]["param"]) == (400, "arguments.title")
        assert (await decide(service.client, second["id"])).status_code == 200
        end = await ended(service.client, result["id"])
    statuses = {json.loads(call["arguments"])["title"]: call["status"] for call in end["tool_calls"]}
    (kept,) = world.ordered
    assert statuses == {kept: "succeeded", first["arguments"]["title"]: "invalid"}


async def test_arguments_that_were_approved_and_fit_the_tool_no_more_are_not_used(service: Serving, world: World) -> None:
    result = await paused(service)
    await reconfigured(service, _at_most(3))
    assert (await decide(service.client, result["approvals"][0]["id"])).status_code == 200
    end = await ended(service.client, result["id"])
    assert (end["tool_calls"][0]["status"], world.ordered) == ("invalid", [])


async def test_an_approval_that_was_used_makes_no_second_call_and_a_person_is_to_look(
    service: Serving, world: World, state: StateClient
) -> None:
    result = await paused(service)
    approval = result["approvals"][0]["id"]
    await state.commands.hset(approval_keys("a").used, approval, "by a process that has died")
    await decide(service.client, approval)
    end = await ended(service.client, result["id"])
    assert (end["tool_calls"][0]["error"]["code"], world.ordered) == ("effect_uncertain", [])
    assert end["status"] == "needs_review"
    async with asyncio.timeout(10):
        while not (found := (await service.client.get("/v1/reviews", headers=BOSS)).json()["data"]):
            await asyncio.sleep(0.02)
    (review,) = found
    assert review["run_id"] == end["id"]
    whole = (await service.client.get(f"/v1/reviews/{review['id']}", headers=BOSS)).json()
    call = {"tool": "order", "version": "1.0.0", "arguments": '{"title": "Emma"}'}
    assert [{name: one[name] for name in call} for one in whole["uncertain"]] == [call]


@pytest.mark.parametrize(
    "other",
    [{"tool": "look"}, {"version": "1.0.1"}, {"arguments": {"title": "Nana"}}, {"run_id": "run_000000000000000000000001"}],
    ids=lambda other: next(iter(other)),
)
async def test_a_decision_that_was_taken_for_another_call_is_refused(
    service: Serving, world: World, state: StateClient, other: dict[str, Any]
) -> None:
    result = await paused(service)
    approval = result["approvals"][0]
    members = {name: approval[name] for name in ("tool", "version", "arguments", "run_id")}
    assert binding(**members) == approval["hash"]
    store = ApprovalStore(state)
    stored = await store.get("a", approval["id"])
    assert stored is not None
    decision = Decision("approve", time.time(), "boss", hash=binding(**{**members, **other}), operation="1")
    ready = Ready("a", result["id"], json.loads(stored.entry)["digest"])
    assert (await store.decide(ready, approval["id"], decision.as_json(), "1"))[0] == "ok"
    end = await ended(service.client, result["id"])
    assert (end["tool_calls"][0]["error"]["code"], world.ordered) == ("approval_denied", [])


async def test_nobody_can_decide_on_what_was_withdrawn_or_is_not_there(service: Serving, world: World) -> None:
    result = await paused(service)
    approval = result["approvals"][0]["id"]
    await service.client.post(f"{URL}/{result['id']}/cancel", headers=APP)
    withdrawn = await decide(service.client, approval)
    assert (withdrawn.status_code, withdrawn.json()["error"]["code"]) == (409, "conflict")
    await service.client.delete(f"{URL}/{result['id']}", headers=APP)
    for unknown in (approval, "apr_" + "0" * 24, result["id"]):
        assert (await decide(service.client, unknown)).status_code == 404
    answer = await service.client.post(URL, json=ASK, headers=APP)
    assert (answer.status_code, world.ordered) == (202, [])
