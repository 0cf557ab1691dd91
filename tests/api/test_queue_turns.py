"""Who waits for whom in the queue, and who does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.core.errors import StateUnavailable
from app.orchestration.engine import Run
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.api.test_background import ended, queued
from tests.api.test_batches import DIRECT, JSONL, jsonl, over, prompts
from tests.api.test_batches_ended import telling
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.replicas import slowly
from tests.support.serving import AT_ONCE, serving, until, upstream


@pytest.fixture(autouse=True)
async def empty(state: StateClient) -> None:
    await state.commands.flushall()


async def test_the_end_of_a_run_is_told_before_those_that_wait_have_begun(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    answer, go = slowly(3, 0.02), asyncio.Event()
    answer.wait_for = go
    async with Loopback(Answer()) as listener, Loopback(answer) as provider:
        config = {**upstream(provider.url), **telling(listener), "jobs": {"concurrency": 1}}
        async with serving(tmp_path, valkey.url, config) as service:
            first = await queued(service.client, webhook=listener.url)
            for _ in range(30):
                await queued(service.client)
            go.set()
            await until(lambda: listener.received, within_s=20)
            assert listener.received[0].json["data"]["id"] == first
            assert len(provider.received) < 15


async def test_lines_that_wait_for_a_limit_keep_nobody_else_waiting(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    keys = [{"name": name, "key": f"sk-{name}-0123456789abcdef", "tenant": name} for name in ("one", "two")]
    config = {
        "providers": {"mock": AT_ONCE},
        "keys": keys,
        "tenants": {"one": {"requests_per_minute": 2}},
        "jobs": {"concurrency": 16},
    }
    async with serving(tmp_path, valkey.url, config) as service:
        one, two = ({"authorization": f"Bearer {key['key']}"} for key in keys)
        made = await service.client.post("/v1/batches", content=jsonl(prompts(64, **DIRECT)), headers={**JSONL, **one})
        where = made.headers["location"]
        async with asyncio.timeout(10):
            while (await service.client.get(where, headers=one)).json()["counts"]["succeeded"] < 2:
                await asyncio.sleep(0.05)
        service.client.headers.update(two)
        result = await ended(service.client, await queued(service.client, models=["mock/mock-terse"]), within_s=8)
        assert result["status"] == "succeeded"
        waiting = (await service.client.get(where, headers=one)).json()
        assert (waiting["counts"]["failed"], waiting["status"]) == (0, "running")


async def test_a_line_that_cannot_be_admitted_now_costs_none_that_is_under_way(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    """The store is away for a moment, say."""
    go, refused = asyncio.Event(), asyncio.Event()

    def answer(request: Received) -> Answer:
        made = as_json(completion())
        made.wait_for = go
        return made

    async with Loopback(answer) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        engine = service.app.state.services.engine
        admit = engine.admit

        async def away(run: Run) -> None:
            if provider.received or refused.is_set():
                return await admit(run)
            if "Say 1" in str(run.request.messages):
                await until(lambda: provider.received)
                refused.set()
                raise StateUnavailable("away")
            return await admit(run)

        engine.admit = away
        rows = prompts(2, strategy="direct", models=["m"])
        made = await service.client.post("/v1/batches", content=jsonl(rows), headers=JSONL)
        await until(refused.is_set)
        go.set()
        assert (await over(service.client, made.json()["id"]))["counts"]["succeeded"] == 2
        assert len(provider.received) == 2
