"""Requests with a key while the store is frozen, and when it has lost all it held."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import IDEMPOTENT_LEASES
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.replicas import replicas, slowly
from tests.support.serving import Serving, until, upstream
from tests.support.valkey import running_valkey, server_pid

CHATS, RUNS = "/v1/chat/completions", "/v1/orchestrations"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
PANEL: dict[str, Any] = {"input": "Hi", "strategy": "simple", "models": ["m", "m2"], "lead_model": "m"}
KEY = {"Idempotency-Key": "k"}
RECORDED_AGAIN_S = 7.0
"""Within a heartbeat of the owner."""


@pytest.fixture
def store() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture
async def state(store: EmbeddedValkey) -> AsyncIterator[StateClient]:
    client = StateClient(store.url)
    yield client
    await client.close()


@contextmanager
def frozen(store: EmbeddedValkey) -> Iterator[None]:
    pid = server_pid(store.data_dir)
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def held(go: asyncio.Event) -> Any:
    """Answers that wait for `go`; each is another one."""
    numbers = iter(range(1000))

    def answer(request: Received) -> Answer:
        text = f"answer {next(numbers)}"
        found = sse(stream(text, " whole")) if request.json.get("stream") else as_json(completion(text))
        return replace(found, wait_for=go)

    return answer


def errors_of_the_server(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in caplog.records if record.name.startswith("uvicorn")]
    return [record.getMessage() for record in records if record.levelno >= logging.ERROR]


async def answered(service: Serving, path: str, body: dict[str, Any]) -> httpx.Response:
    """What the key is answered with, once that is settled."""
    async with asyncio.timeout(20):
        while True:
            found = await service.client.post(path, json=body, headers=KEY | {"Prefer": "wait"})
            if found.status_code not in (409, 503):
                return found
            await asyncio.sleep(0.05)


async def test_a_request_that_ends_while_the_store_is_frozen_is_not_run_again(tmp_path: Path, store: EmbeddedValkey) -> None:
    """Its retries of that time, here and elsewhere, do not undo it."""
    go = asyncio.Event()
    async with Loopback(held(go)) as provider, replicas(tmp_path, store.url, upstream(provider.url)) as (a, b):
        asking = asyncio.create_task(a.client.post(CHATS, json=CHAT, headers=KEY))
        await until(lambda: provider.received)
        with frozen(store):
            assert (await a.client.post(CHATS, json=CHAT, headers=KEY)).status_code == 409
            assert (await b.client.post(CHATS, json=CHAT, headers=KEY)).status_code == 503
            go.set()
            first = await asking
            assert first.status_code == 200
            for replica in (a, b):
                assert (await replica.client.post(CHATS, json=CHAT, headers=KEY)).status_code == 503
        for replica in (a, b):
            again = await answered(replica, CHATS, CHAT)
            assert again.content == first.content
        await asyncio.sleep(1.0)  # what was late has been told by now
        assert (await answered(b, CHATS, CHAT)).content == first.content
    print(f"idem-freeze: asked 4 times while the store was frozen: {len(provider.received)} call")
    assert len(provider.received) == 1


async def test_a_request_that_ended_without_the_store_is_told_before_it_is_asked_for(
    tmp_path: Path, store: EmbeddedValkey, state: StateClient
) -> None:
    """Though its lease has passed, so that whoever asks for it would begin it again."""
    go = asyncio.Event()
    async with Loopback(held(go)) as provider, replicas(tmp_path, store.url, upstream(provider.url), count=1) as (a,):
        asking = asyncio.create_task(a.client.post(CHATS, json=CHAT, headers=KEY))
        await until(lambda: provider.received)
        await state.commands.hset(await record_of(state), "lease_until", "1")
        await asyncio.to_thread(store.stop)
        go.set()
        first = await asking
        assert first.status_code == 200
        await asyncio.to_thread(store.start)
        assert (await answered(a, CHATS, CHAT)).content == first.content
    assert len(provider.received) == 1


async def test_who_waits_elsewhere_survives_a_short_freeze(
    tmp_path: Path, store: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    body = {**CHAT, "stream": True}
    async with Loopback(slowly(60, 0.1)) as provider, replicas(tmp_path, store.url, upstream(provider.url)) as (a, b):
        asking = asyncio.create_task(a.client.post(CHATS, json=body, headers=KEY))
        await until(lambda: provider.received)
        following = asyncio.create_task(b.client.post(CHATS, json=body, headers=KEY | {"Prefer": "wait"}))
        await asyncio.sleep(1.0)
        with frozen(store):
            await asyncio.sleep(3.0)
        whole, followed = await asyncio.gather(asking, following)
    print("idem-follow: 60 pieces read elsewhere, 3 s of them with a frozen store")
    assert whole.text.endswith("data: [DONE]\n\n")
    assert followed.content == whole.content
    assert followed.headers["idempotent-replayed"] == "true"
    assert errors_of_the_server(caplog) == []


async def test_an_answer_that_is_given_up_breaks_off_where_it_is_waited_for(
    tmp_path: Path, store: EmbeddedValkey, state: StateClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection breaks, and the server knows it."""
    body, got = {**CHAT, "stream": True}, b""
    async with Loopback(slowly(30, 0.1)) as provider, replicas(tmp_path, store.url, upstream(provider.url)) as (a, b):
        asking = asyncio.create_task(a.client.post(CHATS, json=body, headers=KEY))
        await until(lambda: provider.received)
        with pytest.raises(httpx.RemoteProtocolError):
            async with b.client.stream("POST", CHATS, json=body, headers=KEY | {"Prefer": "wait"}) as reading:
                async for piece in reading.aiter_bytes():
                    if not got:
                        await state.commands.hset(await record_of(state), "epoch", "9")
                    got += piece
        assert got
        assert (await asking).status_code == 200
    assert errors_of_the_server(caplog) == []


async def record_of(state: StateClient) -> str:
    [name] = [name async for name in state.commands.scan_iter("quorum:*:idempotent")]
    return name.decode()


async def emptied(state: StateClient) -> None:
    """Empty the store, and wait until what is under way is recorded again."""
    before = await state.commands.hgetall(await record_of(state))
    await state.commands.flushall()
    began = time.monotonic()
    async with asyncio.timeout(RECORDED_AGAIN_S):
        while not [name async for name in state.commands.scan_iter("quorum:*:idempotent")]:
            await asyncio.sleep(0.02)
    print(f"idem-emptied: recorded again after {time.monotonic() - began:.1f} s")
    after = await state.commands.hgetall(await record_of(state))
    for name in (b"state", b"fingerprint", b"operation", b"epoch", b"run_id"):
        assert after[name] == before[name]
    assert after[b"request"]


@pytest.mark.parametrize(("path", "body"), [(CHATS, CHAT), (RUNS, PANEL), (RUNS, {**PANEL, "stream": True})], ids=str)
async def test_a_store_that_was_emptied_is_told_again_what_is_under_way(
    tmp_path: Path, store: EmbeddedValkey, state: StateClient, path: str, body: dict[str, Any]
) -> None:
    go = asyncio.Event()
    async with Loopback(held(go)) as provider, replicas(tmp_path, store.url, upstream(provider.url)) as (a, b):
        asking = asyncio.create_task(a.client.post(path, json=body, headers=KEY))
        await until(lambda: provider.received)
        waiting = asyncio.create_task(b.client.post(path, json=body, headers=KEY | {"Prefer": "wait=60"}))
        await asyncio.sleep(0.3)
        await emptied(state)
        assert (await b.client.post(path, json=body, headers=KEY)).status_code == 409
        go.set()
        first, waited = await asyncio.gather(asking, waiting)
        calls = len(provider.received)
        assert first.status_code == 200
        assert waited.content == first.content
        for replica in (a, b):
            again = await replica.client.post(path, json=body, headers=KEY)
            assert (again.status_code, again.content) == (200, first.content)
            assert again.headers["idempotent-replayed"] == "true"
        assert len(provider.received) == calls


async def test_a_stream_is_whole_again_in_a_store_that_was_emptied(
    tmp_path: Path, store: EmbeddedValkey, state: StateClient
) -> None:
    body = {**CHAT, "stream": True}
    async with Loopback(slowly(20, 0.1)) as provider, replicas(tmp_path, store.url, upstream(provider.url)) as (a, b):
        asking = asyncio.create_task(a.client.post(CHATS, json=body, headers=KEY))
        await until(lambda: provider.received)
        await asyncio.sleep(0.8)
        await emptied(state)
        whole = await asking
        again = await b.client.post(CHATS, json=body, headers=KEY)
    assert whole.text.endswith("data: [DONE]\n\n")
    assert again.content == whole.content
    assert len(provider.received) == 1


async def test_what_was_recorded_again_can_be_taken_over(tmp_path: Path, store: EmbeddedValkey, state: StateClient) -> None:
    go = asyncio.Event()
    async with (
        Loopback(held(go)) as provider,
        replicas(tmp_path, store.url, upstream(provider.url), secret="one secret of both") as (a, b),
    ):
        asking = asyncio.create_task(a.client.post(CHATS, json=CHAT, headers=KEY))
        await until(lambda: provider.received)
        await emptied(state)
        await state.commands.hset(await record_of(state), "lease_until", "1")
        await state.commands.zadd(IDEMPOTENT_LEASES, dict.fromkeys(await state.commands.zrange(IDEMPOTENT_LEASES, 0, -1), 1))
        await until(lambda: len(provider.received) == 2, within_s=8)
        go.set()
        taken = await answered(b, CHATS, CHAT)
        assert taken.status_code == 200
        assert (await asking).json()["error"]["code"] == "owner_lost"


async def test_a_key_that_was_begun_anew_in_an_emptied_store_is_the_others(
    tmp_path: Path, store: EmbeddedValkey, state: StateClient
) -> None:
    go = asyncio.Event()
    async with Loopback(held(go)) as provider, replicas(tmp_path, store.url, upstream(provider.url)) as (a, b):
        asking = asyncio.create_task(a.client.post(CHATS, json=CHAT, headers=KEY))
        await until(lambda: provider.received)
        await state.commands.flushall()
        anew = asyncio.create_task(b.client.post(CHATS, json=CHAT, headers=KEY))
        await until(lambda: len(provider.received) == 2)
        go.set()
        assert (await asking).json()["error"]["code"] == "owner_lost"
        found = await anew
        assert found.status_code == 200
        assert (await answered(a, CHATS, CHAT)).content == found.content
