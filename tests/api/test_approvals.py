"""Calls of tools that a person must agree to: the run waits, and goes on once somebody has decided, or nobody in time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from app.orchestration.approving.entries import Decision
from app.state.approvals import ApprovalStore, Ready
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.api.test_every_strategy import fold
from tests.support.approving import APP, BOSS, OTHER, ROOT, World, decide, ended, pending_of, shop_config
from tests.support.frames import frames
from tests.support.loopback import Loopback
from tests.support.replicas import Reading
from tests.support.serving import Serving, serving, upstream
from tests.support.valkey import running_valkey, server_pid

pytestmark = pytest.mark.usefixtures("state")
ASK = {"input": "Emma", "recipe": "helper"}
CHAT: Any = {"model": "helper", "messages": [{"role": "user", "content": "Emma"}]}
URL = "/v1/orchestrations"


@asynccontextmanager
async def running(path: Path, valkey: EmbeddedValkey, world: World, **config: Any) -> AsyncIterator[Serving]:
    async with (
        Loopback(world) as both,
        serving(path, valkey.url, {**upstream(both.url), **shop_config(both, **config)}) as service,
    ):
        yield service


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def service(tmp_path: Path, valkey: EmbeddedValkey, world: World) -> AsyncIterator[Serving]:
    async with running(tmp_path, valkey, world) as made:
        yield made


async def paused(service: Serving, body: Any = ASK, **headers: str) -> Any:
    """The result of a run that waits."""
    answer = await service.client.post(URL, json=body, headers={**APP, **headers})
    assert answer.status_code == 202, answer.text
    result = answer.json()
    assert result["status"] == "needs_approval"
    assert answer.headers["location"] == f"{URL}/{result['id']}"
    return result


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


async def test_a_stream_stays_open_and_goes_on_after_the_decision(service: Serving, world: World) -> None:
    reading = Reading()
    asked = asyncio.create_task(reading.begin(service.client, {**ASK, "stream": True}, **APP))
    async with asyncio.timeout(10):
        while not any(frame.fields["event"] == "run.paused" for frame in reading.frames):
            await asyncio.sleep(0.02)
    (approval,) = await pending_of(service.client, reading.run_id)
    shown = next(frame.json for frame in reading.frames if frame.fields["event"] == "approval.requested")
    assert shown["approval"]["id"] == approval["id"]
    kept = (await service.client.get(f"{URL}/{reading.run_id}", headers=APP)).json()
    assert (kept["status"], fold(reading.frames)) == ("needs_approval", kept)
    assert (await decide(service.client, approval["id"])).status_code == 200
    await asyncio.wait_for(asked, 10)
    kinds = [frame.fields["event"] for frame in reading.frames]
    assert kinds[kinds.index("run.paused") :][:4] == ["run.paused", "run.resumed", "run.restarted", "run.started"]
    assert "approval.decided" in kinds
    assert kinds[-1] == "run.finished"
    numbers = [int(frame.fields["id"]) for frame in reading.frames]
    assert numbers == list(range(1, len(numbers) + 1))
    assert fold(reading.frames) == reading.frames[-1].json["result"]
    late = Reading()
    late.run_id = reading.run_id
    await late.go_on(service.client, **APP)
    assert late.text == reading.text
    assert world.ordered == ["Emma"]


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


async def test_a_keyed_request_gets_the_pause_and_then_the_result(service: Serving, world: World) -> None:
    key = {"Idempotency-Key": "emma"}
    result = await paused(service, **key)
    again = await service.client.post(URL, json=ASK, headers={**APP, **key})
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (202, result, "true")
    await decide(service.client, result["approvals"][0]["id"])
    final = await service.client.post(URL, json=ASK, headers={**APP, **key, "Prefer": "wait=20"})
    assert (final.status_code, final.json()["status"], final.json()["id"]) == (200, "succeeded", result["id"])
    replayed = await service.client.post(URL, json=ASK, headers={**APP, **key})
    assert replayed.content == final.content
    assert (world.ordered, len(world.asked)) == (["Emma"], 2)


async def test_a_keyed_stream_stays_open_and_is_replayed_while_it_waits(service: Serving, world: World) -> None:
    body, key = {**ASK, "stream": True}, {"Idempotency-Key": "emma"}
    readers = [Reading(), Reading()]
    tasks = []
    for reading in readers:
        tasks.append(asyncio.create_task(reading.begin(service.client, body, **APP, **key)))
        async with asyncio.timeout(10):
            while not any(frame.fields["event"] == "run.paused" for frame in reading.frames):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
    (approval,) = await pending_of(service.client)
    await decide(service.client, approval["id"])
    await asyncio.wait_for(asyncio.gather(*tasks), 15)
    assert readers[0].text == readers[1].text
    assert readers[0].frames[-1].fields["event"] == "run.finished"
    assert world.ordered == ["Emma"]


async def test_a_keyed_request_whose_run_was_cancelled_is_answered_so(service: Serving) -> None:
    key = {"Idempotency-Key": "emma"}
    result = await paused(service, **key)
    await service.client.post(f"{URL}/{result['id']}/cancel", headers=APP)
    final = await service.client.post(URL, json=ASK, headers={**APP, **key, "Prefer": "wait=20"})
    assert (final.status_code, final.json()["status"], final.json()["id"]) == (200, "cancelled", result["id"])


@pytest.mark.parametrize("streamed", [False, True])
async def test_openais_sdk_is_told_what_it_waits_for_and_gets_the_answer_under_the_same_key(
    service: Serving, world: World, streamed: bool
) -> None:
    key = {"Idempotency-Key": "emma"}
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="sk-app-0123456789") as client:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.chat.completions.create(**CHAT, stream=streamed, extra_headers=key)
        assert refused.value.code == "approval_needed"
        run_id = refused.value.response.headers["x-quorum-run-id"]
        (approval,) = await pending_of(service.client, run_id)
        assert run_id in refused.value.message
        assert approval["id"] in refused.value.message
        await decide(service.client, approval["id"])
        await ended(service.client, run_id)
        answer = await client.chat.completions.create(**CHAT, stream=streamed, extra_headers={**key, "Prefer": "wait=20"})
        if streamed:
            text = "".join([one.choices[0].delta.content or "" async for one in answer if one.choices])
        else:
            text = answer.choices[0].message.content
        assert json.loads(text) == {"result": {"order": 7}}
    assert world.ordered == ["Emma"]


async def test_a_chat_without_a_key_goes_on_behind_its_error(service: Serving, world: World) -> None:
    answer = await service.client.post("/v1/chat/completions", json=CHAT, headers=APP)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "approval_needed")
    run_id = answer.json()["run_id"]
    assert answer.headers["location"] == f"{URL}/{run_id}"
    (approval,) = await pending_of(service.client, run_id)
    await decide(service.client, approval["id"])
    assert (await ended(service.client, run_id))["status"] == "succeeded"
    assert world.ordered == ["Emma"]


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
    config = yaml.safe_load(service.config.read_text())
    service.configure({**config, "recipes": {}})
    assert (await service.client.post("/v1/admin/reload", headers=ROOT)).status_code == 200
    assert (await decide(service.client, result["approvals"][0]["id"])).status_code == 200
    end = await ended(service.client, result["id"])
    assert (end["status"], end["error"]["code"]) == ("failed", "not_found")
    assert world.ordered == []


async def test_an_approval_does_not_hold_for_another_version_of_the_tool(service: Serving, world: World) -> None:
    result = await paused(service)
    config = yaml.safe_load(service.config.read_text())
    config["tools"]["http"]["order@1.1"] = config["tools"]["http"].pop("order")
    service.configure(config)
    assert (await service.client.post("/v1/admin/reload", headers=ROOT)).status_code == 200
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
    listed = await service.client.get("/v1/audit", params={"run_id": result["id"]}, headers=ROOT)
    told = [(one["action"], one["decision"]) for one in listed.json()["data"]][::-1]
    assert [one for one in told if one[0] != "tool.permission"] == [
        ("approval.request", "requested"),
        ("approval.decide", "begun"),
        ("approval.decide", "approved"),
        ("tool.execute", "begun"),
        ("tool.execute", "done"),
    ]


async def test_the_key_that_asked_may_be_kept_from_deciding(tmp_path: Path, valkey: EmbeddedValkey, world: World) -> None:
    async with running(tmp_path, valkey, world, approvals={"by_asker": False}) as service:
        asked = await service.client.post(URL, json=ASK, headers=ROOT)
        approval = asked.json()["approvals"][0]["id"]
        refused = await service.client.post(f"/v1/approvals/{approval}", json={"decision": "approve"}, headers=ROOT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        assert (await decide(service.client, approval)).status_code == 200


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
