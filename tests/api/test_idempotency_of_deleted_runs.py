"""A run that is deleted leaves nothing, also not as the answer to the key of its request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.frames import frames
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.replicas import replicas, slowly
from tests.support.serving import Serving, until, upstream

RUNS = "/v1/orchestrations"
ALONE = {"input": "Hi", "strategy": "direct", "models": ["m"], "stream": True}
PANEL = {"input": "Hi", "strategy": "simple", "models": ["m", "m2"], "lead_model": "m"}
KEY = {"Idempotency-Key": "k"}


def answer(request: Received) -> Answer:
    return sse(stream("secret ", "words")) if request.json.get("stream") else as_json(completion("secret words"))


@asynccontextmanager
async def two(tmp_path: Path, valkey: EmbeddedValkey, provider: Loopback) -> AsyncIterator[list[Serving]]:
    async with replicas(tmp_path, valkey.url, upstream(provider.url), secret="one secret of both") as found:
        yield found


async def stored(state: StateClient) -> bytes:
    """All that the store holds, run together."""
    found = b""
    async for name in state.commands.scan_iter("quorum:*"):
        match await state.commands.type(name):
            case b"hash":
                found += repr(await state.commands.hgetall(name)).encode()
            case b"stream":
                found += repr(await state.commands.xrange(name)).encode()
            case _:
                found += name
    return found


@pytest.mark.parametrize("body", [ALONE, PANEL, {**PANEL, "stream": True}], ids=str)
async def test_its_key_answers_no_more(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, body: dict[str, Any]
) -> None:
    async with Loopback(answer) as provider, two(tmp_path, valkey, provider) as (a, b):
        first = await a.client.post(RUNS, json=body, headers=KEY)
        assert first.status_code == 200
        assert (await b.client.post(RUNS, json=body, headers=KEY)).content == first.content
        calls = len(provider.received)
        async with asyncio.timeout(5):  # the log follows within 50 ms
            while b"succeeded" not in await stored(state):
                await asyncio.sleep(0.02)
        assert b"secret" in await stored(state)
        assert (await b.client.delete(f"{RUNS}/{first.headers['x-quorum-run-id']}")).status_code == 204
        assert b"secret" not in await stored(state)
        for replica in (a, b):
            gone = await replica.client.post(RUNS, json=body, headers=KEY)
            assert gone.status_code == 410
            assert gone.json()["error"]["code"] == "gone"
        assert len(provider.received) == calls


async def test_one_that_is_deleted_while_it_runs_ends_for_its_reader_and_is_kept_nowhere(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    async with Loopback(slowly(100, 0.1)) as provider, two(tmp_path, valkey, provider) as (a, b):
        asking = asyncio.create_task(a.client.post(RUNS, json=ALONE, headers=KEY))
        await until(lambda: provider.received)
        listed: list[Any] = []
        async with asyncio.timeout(5):
            while not listed:
                listed = (await b.client.get(RUNS)).json()["data"]
        assert (await b.client.delete(f"{RUNS}/{listed[0]['id']}")).status_code == 204
        read = await asking
        assert frames(read.text)[-1].json["status"] == "cancelled"
        assert (await a.client.post(RUNS, json=ALONE, headers=KEY)).status_code == 410
        assert b"w0 " not in await stored(state)


async def test_the_answer_of_a_later_run_with_the_key_stays(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    """The first one failed, so that its key was asked again."""
    answers = [as_json({"error": {"message": "broken"}}, status=500), sse(stream("better"))]
    async with Loopback(lambda _: answers.pop(0)) as provider, two(tmp_path, valkey, provider) as (a, b):
        failed = await a.client.post(RUNS, json=ALONE, headers=KEY)
        assert frames(failed.text)[-1].fields["event"] == "run.failed"
        better = await a.client.post(RUNS, json=ALONE, headers=KEY)
        assert better.status_code == 200
        assert (await b.client.delete(f"{RUNS}/{failed.headers['x-quorum-run-id']}")).status_code == 204
        assert (await b.client.post(RUNS, json=ALONE, headers=KEY)).content == better.content
