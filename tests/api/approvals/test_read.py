"""What readers of a run that waits for a person are given, in each dialect, and who asks again under the same key."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from app.state.client import StateClient
from tests.api.test_every_strategy import fold
from tests.support.approving import (
    APP,
    ASK,
    URL,
    World,
    decide,
    ended,
    paused,
    pending_of,
)
from tests.support.replicas import Reading
from tests.support.serving import Serving

pytestmark = pytest.mark.usefixtures("state")
CHAT: Any = {"model": "helper", "messages": [{"role": "user", "content": "Emma"}]}


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


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "emma"}])
async def test_the_log_of_a_run_has_its_end_before_its_request_is_over(
    service: Serving, state: StateClient, key: dict[str, str]
) -> None:
    result = await paused(service, **key)
    async with state.commands.monitor() as monitor:
        await decide(service.client, result["approvals"][0]["id"])
        told: list[str] = []
        async with asyncio.timeout(15):
            while not told or ":idempotent" not in told[-1]:
                command = (await monitor.next_command())["command"]
                if (result["id"] in command and "succeeded" in command and "finished_at" in command) or (
                    ":idempotent" in command and ("done" in command or "dropped" in command) and command.startswith("HSET")
                ):
                    told.append(command)
    assert len(told) > 1
    assert result["id"] in told[0]
