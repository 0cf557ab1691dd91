"""Calls of tools that a person must agree to: the run waits, and goes on once somebody has decided, or nobody in time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
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
from tests.support.frames import frames
from tests.support.serving import Serving
from tests.support.valkey import running_valkey, server_pid

pytestmark = pytest.mark.usefixtures("state")


async def test_a_call_is_made_once_it_is_approved_and_not_before(service: Serving, world: World) -> None:
    result = await paused(service)
    (approval,) = result["approvals"]
    assert (approval["tool"], approval["version"], approval["arguments"]) == ("order", "1.0.0", {"title": "Emma"})
    assert (approval["status"], len(approval["hash"]), approval["expires_at"] > approval["created_at"]) == ("pending", 64, True)
    assert result["tool_calls"][0]["status"] == "needs_approval"
    (listed,) = await pending_of(service.client, result["id"])
    assert (listed["id"], listed["asked_by"], listed["recipe"]) == (approval["id"], "app", "helper")
    assert "somebody should look" in listed["reason"]
    kept = (await service.client.get(f"{URL}/{result['id']}", headers=APP)).json()
    assert (kept["status"], kept["approvals"]) == ("needs_approval", result["approvals"])
    assert world.ordered == []
    decided = await decide(service.client, approval["id"], approver="ann@example.com", hash=approval["hash"])
    assert (decided.status_code, decided.json()["status"]) == (200, "approved")
    end = await ended(service.client, result["id"])
    assert end["status"] == "succeeded"
    assert json.loads(end["output"]["text"]) == {"result": {"order": 7}}
    assert (end["approvals"][0]["status"], end["approvals"][0]["by"]) == ("approved", "ann@example.com")
    assert world.ordered == ["Emma"]
    assert len(world.asked) == 2  # what the model had said was not asked for again
    assert end["usage"]["input_tokens"] + end["usage"]["output_tokens"] == 10


async def test_a_denied_call_is_not_made_and_the_model_is_told_why(service: Serving, world: World) -> None:
    result = await paused(service)
    await decide(service.client, result["approvals"][0]["id"], decision="deny", reason="too dear")
    end = await ended(service.client, result["id"])
    assert world.ordered == []
    assert "too dear" in end["output"]["text"]
    assert (end["tool_calls"][0]["status"], end["tool_calls"][0]["error"]["code"]) == ("refused", "approval_denied")


async def test_a_call_is_made_with_the_arguments_that_were_put_in_place_of_its_own(service: Serving, world: World) -> None:
    result = await paused(service)
    approval = result["approvals"][0]["id"]
    wrong = await decide(service.client, approval, decision="edit", arguments={"title": 7})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "arguments.title")
    assert (await decide(service.client, approval, decision="edit", arguments={"title": "Nana"})).status_code == 200
    end = await ended(service.client, result["id"])
    assert world.ordered == ["Nana"]
    assert json.loads(end["output"]["text"])["approved_with_arguments"] == {"title": "Nana"}
    assert (end["tool_calls"][0]["arguments"], end["tool_calls"][0]["edited"]) == ('{"title": "Emma"}', {"title": "Nana"})


async def test_reads_of_the_same_step_are_made_and_the_run_waits_for_all_that_need_somebody(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    world = World(("order", "Emma"), ("look", "Emma"), ("order", "Nana"))
    async with running(tmp_path, valkey, world) as service:
        result = await paused(service)
        assert (world.looked, world.ordered) == (["Emma"], [])
        first, second = await pending_of(service.client, result["id"])
        await decide(service.client, first["id"])
        assert (await service.client.get(f"{URL}/{result['id']}", headers=APP)).json()["status"] == "needs_approval"
        assert world.ordered == []
        await decide(service.client, second["id"], decision="deny")
        end = await ended(service.client, result["id"])
        assert sorted(call["status"] for call in end["tool_calls"]) == ["refused", "succeeded", "succeeded"]
        assert world.ordered == [first["arguments"]["title"]]
        assert world.looked == ["Emma"]


async def test_a_paused_run_is_cancelled_and_what_it_asked_for_withdrawn(service: Serving, world: World) -> None:
    result = await paused(service)
    cancelled = await service.client.post(f"{URL}/{result['id']}/cancel", headers=APP)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert cancelled.json()["tool_calls"][0]["status"] == "cancelled"
    approval = (await service.client.get(f"/v1/approvals/{result['approvals'][0]['id']}", headers=BOSS)).json()
    assert approval["status"] == "withdrawn"
    assert (await decide(service.client, approval["id"])).status_code == 409
    events = await service.client.get(f"{URL}/{result['id']}/events", headers=APP)
    assert frames(events.text)[-1].fields["event"] == "run.finished"
    assert world.ordered == []


async def test_a_paused_run_is_deleted(service: Serving, world: World) -> None:
    result = await paused(service)
    assert (await service.client.delete(f"{URL}/{result['id']}", headers=APP)).status_code == 204
    assert (await service.client.get(f"{URL}/{result['id']}", headers=APP)).status_code == 404
    assert (await service.client.get("/v1/approvals", headers=BOSS)).json()["data"] == []
    await asyncio.sleep(0.3)
    assert (world.ordered, len(world.asked)) == ([], 1)


async def test_the_option_asks_for_more_than_the_rules_do(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    world = World(("look", "Emma"))
    async with running(tmp_path, valkey, world) as service:
        plain = await service.client.post(URL, json=ASK, headers=APP)
        assert (plain.status_code, world.looked) == (200, ["Emma"])
        result = await paused(service, {**ASK, "options": {"approval": "all"}})
        assert world.looked == ["Emma"]
        await decide(service.client, result["approvals"][0]["id"])
        await ended(service.client, result["id"])
        assert world.looked == ["Emma", "Emma"]


async def test_the_time_and_the_money_of_a_run_do_not_run_while_it_waits(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    world = World()
    priced = {"provider": "up", "model": "m", "price": {"input": 1000, "output": 1000}}
    limits = {"tenants": {"a": {"budget": {"tokens_per_day": 1_000_000, "usd_per_day": 10}}}, "models": {"m": priced}}
    async with running(tmp_path, valkey, world, **limits, limits={"default_max_tokens": 100}) as service:
        result = await paused(service, {**ASK, "budget": {"seconds": 1.0}})
        assert await used_of(state, "tokens_per_day") == 5
        await asyncio.sleep(1.2)
        await decide(service.client, result["approvals"][0]["id"])
        end = await ended(service.client, result["id"])
        assert (end["status"], end["cost_usd"]) == ("succeeded", pytest.approx(0.26))
        async with asyncio.timeout(5):
            while (await used_of(state, "tokens_per_day"), await used_of(state, "usd_per_day")) != (10, 260_000_000):
                await asyncio.sleep(0.02)


async def used_of(state: StateClient, kind: str) -> int:
    """What is booked of a limit."""
    (key,) = [key async for key in state.commands.scan_iter(f"*used:{kind}*")]
    return int(await state.commands.hget(key, "used"))


async def test_limits_that_are_reached_hold_up_a_run_that_goes_on_and_do_not_end_it(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    world = World()
    async with running(tmp_path, valkey, world, tenants={"a": {"concurrent_runs": 1}}) as service:
        result = await paused(service)
        other = await paused(service, {**ASK, "input": "Nana"})  # a run that waits is none of those at once
        for one in (result, other):
            await decide(service.client, one["approvals"][0]["id"])
        for one in (result, other):
            assert (await ended(service.client, one["id"]))["status"] == "succeeded"
        assert sorted(world.ordered) == ["Emma", "Nana"]


async def test_a_run_that_can_never_go_on_fails_and_says_why(service: Serving, world: World) -> None:
    result = await paused(service)
    await reconfigured(service, lambda config: config.update(recipes={}))
    assert (await decide(service.client, result["approvals"][0]["id"])).status_code == 200
    end = await ended(service.client, result["id"])
    assert (end["status"], end["error"]["code"]) == ("failed", "not_found")
    assert world.ordered == []


async def test_without_the_store_nothing_is_asked_and_nothing_is_made(tmp_path: Path) -> None:
    world = World()
    with running_valkey() as store:
        pid = server_pid(store.data_dir)
        assert pid
        async with running(tmp_path, store, world) as service:
            url = f"{service.url}{URL}"
            assert (await service.client.post(url, json=ASK, headers=APP)).status_code == 202
            world.before = lambda: os.kill(pid, signal.SIGSTOP)
            try:
                answer = await service.client.post(url, json=ASK, headers=APP, timeout=60)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert answer.status_code == 200, answer.text
            (call,) = answer.json()["tool_calls"]
            assert (call["status"], call["error"]["code"]) == ("failed", "state_unavailable")
            assert world.ordered == []


async def test_a_call_that_is_denied_fails_a_run_that_is_to_fail_where_a_tool_does(service: Serving, world: World) -> None:
    body, key = {**ASK, "options": {"on_tool_error": "fail"}}, {"Idempotency-Key": "emma"}
    result = await paused(service, body, **key)
    await decide(service.client, result["approvals"][0]["id"], decision="deny")
    assert (await ended(service.client, result["id"]))["error"]["code"] == "approval_denied"
    answers = [await service.client.post(URL, json=body, headers={**APP, **key, "Prefer": "wait=20"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].content == answers[1].content
    assert (world.ordered, len(world.asked)) == ([], 1)


async def test_a_background_run_waits_for_a_person_and_goes_on_in_the_queue(service: Serving, world: World) -> None:
    answer = await service.client.post(URL, json={**ASK, "background": True}, headers=APP)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    async with asyncio.timeout(10):
        while not (waiting := await pending_of(service.client, answer.json()["id"])):
            await asyncio.sleep(0.02)
    assert world.ordered == []
    await decide(service.client, waiting[0]["id"])
    end = await ended(service.client, answer.json()["id"])
    assert (end["status"], world.ordered, len(world.asked)) == ("succeeded", ["Emma"], 2)
