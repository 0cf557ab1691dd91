"""Lines of batches that wait for a person, or do steps: each is a run of its own, and the batch is over when they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.jobs import JobQueue
from tests.support.approving import APP, World, decide, pending_of, shop_config
from tests.support.loopback import Loopback
from tests.support.serving import Serving, serving, upstream

JSONL = {**APP, "content-type": "application/x-ndjson"}
NATIVE: dict[str, Any] = {"custom_id": "native", "input": "Emma", "recipe": "helper"}
CHAT: dict[str, Any] = {
    "custom_id": "chat",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "helper", "messages": [{"role": "user", "content": "Emma"}]},
}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def service(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, world: World) -> AsyncIterator[Serving]:
    await state.commands.flushall()
    steps = {"one": {"transform": {"value": "done"}}}
    async with Loopback(world) as both:
        config = {**upstream(both.url), **shop_config(both), "workflows": {"plain": {"steps": steps}}}
        async with serving(tmp_path, valkey.url, config) as made:
            yield made


async def uploaded(service: Serving, *rows: Any) -> str:
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    answer = await service.client.post("/v1/batches", content=content, headers=JSONL)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


async def counted(service: Serving, where: str, **counts: int) -> Any:
    """The batch, once it counts so many lines."""
    async with asyncio.timeout(15):
        while not counts.items() <= (batch := (await service.client.get(where, headers=APP)).json())["counts"].items():
            await asyncio.sleep(0.02)
    return batch


async def rows_of(service: Serving, where: str, **query: str) -> dict[str, Any]:
    text = (await service.client.get(f"{where}/results", headers=APP, params=query)).text
    return {row["custom_id"]: row for row in map(json.loads, text.splitlines())}


async def approvals_of(service: Serving, run_id: str) -> list[Any]:
    async with asyncio.timeout(10):
        while not (waiting := await pending_of(service.client, run_id)):
            await asyncio.sleep(0.02)
    return waiting


async def test_a_line_waits_for_a_person_without_holding_a_worker_and_its_result_is_the_lines(
    service: Serving, world: World
) -> None:
    where = await uploaded(service, NATIVE, CHAT)
    batch = await counted(service, where, waiting=2)
    assert (batch["status"], batch["counts"]["left"]) == ("running", 2)
    rows = await rows_of(service, where)
    for row in rows.values():
        await approvals_of(service, row["id"])
    async with asyncio.timeout(10):
        while {row["response"]["body"]["status"] for row in (await rows_of(service, where)).values()} != {"needs_approval"}:
            await asyncio.sleep(0.02)
    assert {row["response"]["status_code"] for row in rows.values()} == {202}
    assert await rows_of(service, where, only="succeeded") == {}
    assert world.ordered == []
    for row in rows.values():
        await decide(service.client, (await approvals_of(service, row["id"]))[0]["id"])
    batch = await counted(service, where, succeeded=2)
    assert (batch["counts"]["waiting"], batch["counts"]["left"]) == (0, 0)
    async with asyncio.timeout(10):
        while (await service.client.get(where, headers=APP)).json()["status"] != "completed":
            await asyncio.sleep(0.02)
    after = await rows_of(service, where)
    assert {name: row["id"] for name, row in after.items()} == {name: row["id"] for name, row in rows.items()}
    assert after["native"]["response"]["body"]["status"] == "succeeded"
    assert after["chat"]["response"]["body"]["object"] == "chat.completion"
    assert world.ordered == ["Emma", "Emma"]
    runs = [(await service.client.get(f"/v1/orchestrations/{row['id']}", headers=APP)).json() for row in rows.values()]
    assert batch["usage"]["output_tokens"] == sum(run["usage"]["output_tokens"] for run in runs)


async def test_a_batch_that_is_cancelled_ends_the_runs_of_its_lines_that_wait(service: Serving, world: World) -> None:
    where = await uploaded(service, NATIVE)
    await counted(service, where, waiting=1)
    (row,) = (await rows_of(service, where)).values()
    await approvals_of(service, row["id"])
    await service.client.post(f"{where}/cancel", headers=APP)
    async with asyncio.timeout(10):
        while (batch := (await service.client.get(where, headers=APP)).json())["status"] != "cancelled":
            await asyncio.sleep(0.02)
    assert (batch["counts"]["waiting"], batch["counts"]["left"]) == (0, 1)
    run = (await service.client.get(f"/v1/orchestrations/{row['id']}", headers=APP)).json()
    assert (run["status"], world.ordered) == ("cancelled", [])


async def test_a_line_whose_run_was_deleted_fails(service: Serving, state: StateClient) -> None:
    where = await uploaded(service, NATIVE)
    await counted(service, where, waiting=1)
    (row,) = (await rows_of(service, where)).values()
    await approvals_of(service, row["id"])
    assert (await service.client.delete(f"/v1/orchestrations/{row['id']}", headers=APP)).status_code == 204
    await JobQueue(state).hurry(f"{where.rpartition('/')[2]}:0:0")  # the time has come to look at the part again
    await counted(service, where, failed=1)
    assert (await rows_of(service, where))["native"]["error"]["code"] == "gone"


async def test_lines_that_are_workflows_are_runs_of_their_own(service: Serving) -> None:
    line = {"custom_id": "steps", "input": "go", "strategy": "workflow", "options": {"workflow": "plain"}}
    where = await uploaded(service, line)
    await counted(service, where, succeeded=1)
    (row,) = (await rows_of(service, where)).values()
    kept = (await service.client.get(f"/v1/orchestrations/{row['id']}", headers=APP)).json()
    assert (kept["status"], kept["strategy"]) == ("succeeded", "workflow")


async def test_a_line_belongs_to_no_conversation(service: Serving) -> None:
    body = {**CHAT["body"], "quorum": {"conversation_id": "shopping"}}
    content = json.dumps({**CHAT, "body": body}).encode()
    answer = await service.client.post("/v1/batches", content=content, headers=JSONL)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "quorum.conversation_id")
