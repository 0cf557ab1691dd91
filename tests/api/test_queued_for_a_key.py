"""What waits in the queue is run with what the key that asked allows by then, and in the conversation as it is by then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.approving import APP, KEYS, ROOT, World, decide, ended, pending_of, shop_config
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.serving import Serving, serving, upstream

URL, BATCHES = "/v1/orchestrations", "/v1/batches"
HELLO: dict[str, Any] = {"input": "Hello", "strategy": "direct", "models": ["m2"]}
ORDER: dict[str, Any] = {"input": "Emma", "recipe": "helper", "background": True}
WITHOUT_APP = [key for key in KEYS if key["name"] != "app"]
READING = [{**KEYS[0], "scopes": ["read"]}, *KEYS[1:]]
NOBODY_WORKS = {"embedded": False}


class Clerk(World):
    """As the shop, where `m2` only talks."""

    def __call__(self, request: Received) -> Answer:
        if not request.path.startswith(("/orders", "/books")) and request.json["model"] == "m2":
            return as_json(completion("Good day."))
        return super().__call__(request)


@pytest.fixture
def world() -> World:
    return Clerk()


@pytest.fixture
async def service(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, world: World) -> AsyncIterator[Serving]:
    await state.commands.flushall()
    async with (
        Loopback(world) as both,
        serving(tmp_path, valkey.url, {**upstream(both.url), **shop_config(both), "jobs": {}}) as made,
    ):
        yield made


async def changed(service: Serving, **members: Any) -> None:
    """Put `members` in the place of those of the configuration."""
    service.configure({**yaml.safe_load(service.config.read_text()), **members})
    assert (await service.client.post("/v1/admin/reload", headers=ROOT)).status_code == 200


async def accepted(service: Serving, body: Any) -> str:
    answer = await service.client.post(URL, json=body, headers=APP)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def waits_for(service: Serving, run_id: str) -> str:
    """The id of the approval that a run waits for."""
    async with asyncio.timeout(10):
        while not (waiting := await pending_of(service.client, run_id)):
            await asyncio.sleep(0.02)
    return waiting[0]["id"]


async def outcome(service: Serving, run_id: str) -> str:
    """The code of the error that a run ends with, read with a key that no test takes away."""
    async with asyncio.timeout(15):
        while (found := (await service.client.get(f"{URL}/{run_id}", headers=ROOT)).json())["status"] != "failed":
            assert found["status"] in ("queued", "running", "needs_approval")
            await asyncio.sleep(0.02)
    return found["error"]["code"]


@pytest.mark.parametrize(("keys", "code"), [(WITHOUT_APP, "unauthorized"), (READING, "forbidden")])
async def test_a_run_is_not_begun_for_a_key_that_may_not_have_it_run_any_more(
    service: Serving, world: World, keys: list[Any], code: str
) -> None:
    await changed(service, jobs=NOBODY_WORKS)
    run_id = await accepted(service, ORDER)
    await changed(service, jobs={}, keys=keys)
    assert await outcome(service, run_id) == code
    assert (world.asked, world.ordered) == ([], [])


async def test_a_run_that_waited_for_a_person_does_not_go_on_for_a_key_that_is_gone(service: Serving, world: World) -> None:
    run_id = await accepted(service, ORDER)
    approval = await waits_for(service, run_id)
    await changed(service, keys=WITHOUT_APP)
    await decide(service.client, approval)
    assert await outcome(service, run_id) == "unauthorized"
    assert (len(world.asked), world.ordered) == (1, [])


@pytest.mark.parametrize(("keys", "status", "code"), [(WITHOUT_APP, 401, "unauthorized"), (READING, 403, "forbidden")])
async def test_lines_of_a_batch_end_with_the_reason(
    service: Serving, world: World, keys: list[Any], status: int, code: str
) -> None:
    await changed(service, jobs=NOBODY_WORKS)
    rows = [{"custom_id": f"line-{number}", "input": "Emma", "recipe": "helper"} for number in range(3)]
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    answer = await service.client.post(BATCHES, content=content, headers={**APP, "content-type": "application/x-ndjson"})
    assert answer.status_code == 202, answer.text
    where = answer.headers["location"]
    await changed(service, jobs={}, keys=keys)
    async with asyncio.timeout(15):
        while (await service.client.get(where, headers=ROOT)).json()["status"] != "completed":
            await asyncio.sleep(0.02)
    lines = (await service.client.get(f"{where}/results", headers=ROOT)).text.splitlines()
    told = [(row["response"]["status_code"], row["error"]["code"]) for row in map(json.loads, lines)]
    assert told == [(status, code)] * 3
    assert world.asked == []
    assert (await service.client.post(f"{where}/retry", headers=ROOT)).status_code == 202
    async with asyncio.timeout(15):  # who asks for it again is who it is run for
        while (await service.client.get(where, headers=ROOT)).json()["counts"]["waiting"] < 3:
            await asyncio.sleep(0.02)
    assert len(world.asked) == 3


async def test_where_the_conversation_has_gone_on_while_a_run_waited_for_a_person_the_call_is_not_made(
    service: Serving, world: World
) -> None:
    run_id = await accepted(service, {**ORDER, "conversation_id": "shopping"})
    approval = await waits_for(service, run_id)
    other = await service.client.post(URL, json={**HELLO, "conversation_id": "shopping"}, headers=APP)
    assert other.status_code == 200, other.text
    await decide(service.client, approval)
    assert await outcome(service, run_id) == "conversation_changed"
    assert world.ordered == []


async def test_its_turn_is_added_once_it_was_approved(service: Serving, world: World) -> None:
    run_id = await accepted(service, {**ORDER, "conversation_id": "shopping"})
    await decide(service.client, await waits_for(service, run_id))
    assert (await ended(service.client, run_id))["status"] == "succeeded"
    found = await service.client.get("/v1/conversations/shopping", headers=APP)
    assert [turn["run_id"] for turn in found.json()["data"]] == [run_id]
    assert world.ordered == ["Emma"]
