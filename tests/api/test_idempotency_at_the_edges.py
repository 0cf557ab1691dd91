"""What an idempotency key promises where clients, bodies and the store misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.idempotency import Asked, Begun, IdempotencyRecords, RequestId
from tests.support.frames import frames
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.lossy_proxy import lossy_proxy
from tests.support.openai_wire import completion, stream
from tests.support.replicas import replicas
from tests.support.serving import serving, until, upstream
from tests.support.valkey import running_valkey, server_pid

CHATS, RUNS = "/v1/chat/completions", "/v1/orchestrations"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
KEY = {"idempotency-key": "k"}


async def test_json_that_says_the_same_is_the_same_request(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    async with (
        Loopback(as_json(completion())) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url)) as service,
    ):
        first = await service.client.post(CHATS, json=CHAT, headers=KEY)
        content = b'{"messages" : [{"content":"Hi","role":"user"}],\n"model":"m"}'
        again = await service.client.post(CHATS, content=content, headers=KEY | {"content-type": "application/json"})
        assert (again.status_code, again.content) == (200, first.content)
        other = await service.client.post(CHATS, json={**CHAT, "seed": 1}, headers=KEY)
        assert other.status_code == 422
        assert len(provider.received) == 1


SAME = [
    ({"temperature": 1}, {"temperature": 1.0}),
    ({"temperature": 0}, {"temperature": -0.0}),
    ({"metadata": {"a": "1"}, "top_p": 0.5}, {"top_p": 0.50, "metadata": {"a": "1"}}),
]
DIFFERENT = [({"seed": 1}, {"seed": 2}), ({"n": 1}, {"n": True}), ({"temperature": 1}, {"temperature": 1.5})]


@pytest.mark.parametrize(("first", "second"), [*SAME, *DIFFERENT], ids=str)
async def test_numbers_are_compared_by_what_they_say(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, first: dict[str, Any], second: dict[str, Any]
) -> None:
    async with (
        Loopback(as_json(completion())) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url)) as service,
    ):
        assert (await service.client.post(CHATS, json=CHAT | first, headers=KEY)).status_code == 200
        again = await service.client.post(CHATS, json=CHAT | second, headers=KEY)
    assert again.status_code == (200 if (first, second) in SAME else 422)


async def test_a_content_type_with_a_parameter_is_the_same_request(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    kinds = ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8"]
    async with (
        Loopback(as_json(completion())) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url)) as service,
    ):
        body = orjson.dumps(CHAT)
        answers = [await service.client.post(CHATS, content=body, headers=KEY | {"content-type": kind}) for kind in kinds]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len(provider.received) == 1


@pytest.mark.parametrize("deadline", ["abc", "0", "-1", "1.5", "99999999", "3600001", ""])
async def test_a_deadline_that_is_none_is_refused_as_it_is_without_a_key(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, deadline: str
) -> None:
    async with (
        Loopback(as_json(completion())) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url)) as service,
    ):
        sent = {"X-Quorum-Deadline-Ms": deadline}
        plain = await service.client.post(CHATS, json=CHAT, headers=sent)
        keyed = await service.client.post(CHATS, json=CHAT, headers=sent | KEY)
        assert plain.status_code == keyed.status_code == 400
        assert keyed.json()["error"] == plain.json()["error"]
        assert not provider.received
        mended = await service.client.post(CHATS, json=CHAT, headers=KEY | {"X-Quorum-Deadline-Ms": "3600000"})
        assert mended.status_code == 200


@pytest.mark.parametrize("wish", ["wait=999999", "wait=99999999999999999999999999", "respond-async, wait = 100000"])
async def test_whoever_would_wait_for_longer_than_is_allowed_waits_for_as_long_as_that(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, wish: str
) -> None:
    go = asyncio.Event()
    async with (
        Loopback(lambda _: replace(as_json(completion()), wait_for=go)) as provider,
        serving(tmp_path, valkey.url, {**upstream(provider.url), "idempotency": {"max_wait_s": 1}}) as service,
    ):
        asking = asyncio.create_task(service.client.post(CHATS, json=CHAT, headers=KEY))
        await until(lambda: provider.received)
        began = asyncio.get_running_loop().time()
        refused = await service.client.post(CHATS, json=CHAT, headers=KEY | {"Prefer": wish})
        assert refused.status_code == 409
        assert asyncio.get_running_loop().time() - began >= 0.95
        waiting = asyncio.create_task(service.client.post(CHATS, json=CHAT, headers=KEY | {"Prefer": wish}))
        await asyncio.sleep(0.1)
        go.set()
        assert (await waiting).content == (await asking).content


async def test_on_disconnect_cancel_and_a_key_exclude_each_other(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    async with (
        Loopback(as_json(completion())) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url)) as service,
    ):
        asked = {"input": "Hi", "strategy": "direct", "models": ["m"], "on_disconnect": "cancel"}
        refused = await service.client.post(RUNS, json={**asked, "stream": True}, headers=KEY)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "on_disconnect"
        taken = await service.client.post(RUNS, json={**asked, "on_disconnect": "continue"}, headers=KEY)
        assert taken.status_code == 200


async def test_what_was_refused_because_the_store_was_away_does_not_go_on_later(tmp_path: Path) -> None:
    with running_valkey() as store:
        state = StateClient(store.url)
        async with (
            Loopback(as_json(completion())) as provider,
            serving(tmp_path, store.url, upstream(provider.url)) as service,
        ):
            await service.client.post(CHATS, json=CHAT, headers={"idempotency-key": "before"})
            pid = server_pid(store.data_dir)
            assert pid
            os.kill(pid, signal.SIGSTOP)
            refused = await service.client.post(CHATS, json=CHAT, headers=KEY)
            assert refused.status_code == 503
            os.kill(pid, signal.SIGCONT)  # now it does what it was asked before
            assert await state.ping()
            async with asyncio.timeout(12):  # a lease lasts 15 s
                while len([name async for name in state.commands.scan_iter("quorum:*:idempotent")]) > 1:
                    await asyncio.sleep(0.05)
            assert len(provider.received) == 1
            assert (await service.client.post(CHATS, json=CHAT, headers=KEY)).status_code == 200
            assert len(provider.received) == 2
        await state.close()


async def test_a_lost_reply_is_asked_for_again(valkey: EmbeddedValkey, state: StateClient) -> None:
    async with lossy_proxy(valkey.url, seed=3) as proxy:
        client = StateClient(proxy.url)
        records = IdempotencyRecords(client)
        await records.begin(RequestId("t", "warm"), operation="w", keep_s=60, asked=Asked("f", "", ""))
        proxy.share, lost, begun = 0.2, proxy.lost, 0
        for number in range(40):
            try:
                found = await records.begin(
                    RequestId("t", f"d{number}"), operation=f"op{number}", keep_s=60, asked=Asked("f", "", "")
                )
            except Exception:  # lost twice in a row
                continue
            assert isinstance(found, Begun)
            assert found.epoch == 1
            begun += 1
        print(f"{proxy.lost - lost} replies lost, {begun} of 40 begun, none twice")
        assert proxy.lost > lost
        assert begun >= 30
        await client.close()


async def test_the_contract_names_what_keys_answer(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with serving(tmp_path, valkey.url) as service:
        paths = (await service.client.get("/openapi.json")).json()["paths"]
    posts = {path: methods["post"] for path, methods in paths.items() if "post" in methods}
    assert len(posts) >= 8
    for path, operation in posts.items():
        assert "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}, path
        assert {"409", "422"} <= operation["responses"].keys(), path


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", [CHATS, RUNS])
async def test_what_a_dead_process_had_ended_is_answered_and_not_asked_again(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, path: str, streamed: bool
) -> None:
    """It dies between the end of the run and that of the request."""
    go = asyncio.Event()

    def says(request: Received) -> Answer:
        found = sse(stream("one ", "two")) if request.json.get("stream") else as_json(completion("one two"))
        return replace(found, wait_for=go)

    if path == RUNS:
        asked = {"input": "Hi", "strategy": "simple", "models": ["m", "m2"], "lead_model": "m", "stream": streamed}
    else:
        asked = {**CHAT, "model": "quorum/simple", "stream": streamed}
    async with (
        Loopback(says) as provider,
        replicas(tmp_path, valkey.url, upstream(provider.url), secret="one secret of both") as (a, b),
    ):
        asking = asyncio.create_task(a.client.post(path, json=asked, headers=KEY))
        await until(lambda: len(provider.received) == 2)
        [record] = [name async for name in state.commands.scan_iter("quorum:*:idempotent")]
        request = await state.commands.hget(record, "request")
        go.set()
        first = await asking
        calls = len(provider.received)
        run = f"{RUNS}/{first.headers['x-quorum-run-id']}"
        async with asyncio.timeout(5):  # the log follows within 50 ms
            while (await b.client.get(run)).json()["status"] == "running":
                await asyncio.sleep(0.02)
        running = {"state": "running", "lease_until": "1", "operation": "another", "request": request or b""}
        await state.commands.hset(record, mapping=running)
        again = await b.client.post(path, json=asked, headers=KEY)
        assert again.status_code == 200
        assert again.headers["x-quorum-run-id"] == first.headers["x-quorum-run-id"]
        assert len(provider.received) == calls
        if streamed and path == CHATS:
            assert said(again.text) == said(first.text)
        else:
            assert again.content == first.content


def said(text: str) -> str:
    """The answer of a stream in OpenAI's dialect."""
    chunks = [frame.json for frame in frames(text) if frame.fields["data"] != "[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
