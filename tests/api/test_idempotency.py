"""Idempotency keys over HTTP: the cases of draft-ietf-httpapi-idempotency-key-header, both dialects, streamed and not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.replicas import replicas
from tests.support.serving import Serving, serving, until, upstream

KEYS = [
    {"name": "runner", "key": "sk-runner-0123456789", "tenant": "a"},
    {"name": "second", "key": "sk-second-0123456789", "tenant": "a"},
    {"name": "reader", "key": "sk-reader-0123456789", "tenant": "a", "scopes": ["read"]},
    {"name": "stranger", "key": "sk-strange-0123456789", "tenant": "b"},
]
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
PANEL: dict[str, Any] = {"input": "Hi", "strategy": "simple", "models": ["m", "m2"], "lead_model": "m"}
CASES = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/chat/completions", {**CHAT, "model": "quorum/simple", "stream": True}),
    ("/v1/orchestrations", PANEL),
    ("/v1/orchestrations", {**PANEL, "stream": True}),
    ("/v1/orchestrations", {"input": "Hi", "strategy": "direct", "models": ["m"], "stream": True}),
]


def answer(request: Received) -> Answer:
    return sse(stream("one ", "two")) if request.json.get("stream") else as_json(completion("one two"))


def held(go: asyncio.Event) -> Callable[[Received], Answer]:
    """Answers whose headers wait for `go`."""
    return lambda request: replace(answer(request), wait_for=go)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {next(key['key'] for key in KEYS if key['name'] == name)}"}


@pytest.fixture
async def provider() -> AsyncIterator[Loopback]:
    async with Loopback(answer) as running:
        yield running


@pytest.fixture
async def service(tmp_path: Path, valkey: EmbeddedValkey, provider: Loopback, state: StateClient) -> AsyncIterator[Serving]:
    async with serving(tmp_path, valkey.url, {**upstream(provider.url), "keys": KEYS}) as running:
        running.client.headers.update(bearer("runner"))
        yield running


@pytest.mark.parametrize(("path", "body"), CASES, ids=lambda value: str(value)[:60])
async def test_it_is_run_once_and_answered_again(service: Serving, provider: Loopback, path: str, body: dict[str, Any]) -> None:
    first = await service.client.post(path, json=body, headers={"Idempotency-Key": "k"})
    calls = len(provider.received)
    again = await service.client.post(path, json=body, headers={"Idempotency-Key": '"k"'})
    assert first.status_code == again.status_code == 200
    assert first.content == again.content != b""
    assert len(provider.received) == calls > 0
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    for name in ("content-type", "x-quorum-run-id"):
        assert first.headers[name] == again.headers[name]
    assert first.headers["x-request-id"] != again.headers["x-request-id"]


async def test_keys_are_per_tenant_and_route(service: Serving, provider: Loopback) -> None:
    headers = {"Idempotency-Key": "k"}
    for who in ("runner", "second", "stranger"):
        assert (await service.client.post("/v1/chat/completions", json=CHAT, headers=headers | bearer(who))).status_code == 200
    assert len(provider.received) == 2  # once a tenant
    await service.client.post(
        "/v1/orchestrations", json={"input": "Hi", "strategy": "direct", "models": ["m"]}, headers=headers
    )
    assert len(provider.received) == 3


async def test_a_key_that_may_not_run_may_not_read_what_was_run(service: Serving) -> None:
    headers = {"Idempotency-Key": "k"}
    await service.client.post("/v1/chat/completions", json=CHAT, headers=headers)
    refused = await service.client.post("/v1/chat/completions", json=CHAT, headers=headers | bearer("reader"))
    assert refused.status_code == 403
    unknown = await service.client.post("/v1/chat/completions", json=CHAT, headers=headers | {"Authorization": "Bearer no"})
    assert unknown.status_code == 401


async def test_another_body_is_refused(service: Serving) -> None:
    headers = {"Idempotency-Key": "k"}
    await service.client.post("/v1/chat/completions", json=CHAT, headers=headers)
    other = await service.client.post("/v1/chat/completions", json={**CHAT, "seed": 1}, headers=headers)
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_mismatch"
    assert other.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("key", ["", '"', '"a', '""', "k" * 256])
async def test_what_is_no_key_is_refused(service: Serving, provider: Loopback, key: str) -> None:
    refused = await service.client.post("/v1/chat/completions", json=CHAT, headers={"Idempotency-Key": key})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "Idempotency-Key"
    assert not provider.received


async def test_two_keys_are_refused(service: Serving) -> None:
    sent = [("Idempotency-Key", "a"), ("Idempotency-Key", "b"), *bearer("runner").items()]
    async with httpx.AsyncClient(base_url=service.url) as client:
        assert (await client.post("/v1/chat/completions", json=CHAT, headers=sent)).status_code == 400


async def test_what_is_under_way_is_waited_for_or_asked_again(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    go = asyncio.Event()

    async with Loopback(held(go)) as provider, replicas(tmp_path, valkey.url, upstream(provider.url)) as (a, b):
        for body in (CHAT, {**CHAT, "stream": True}):
            headers = {"Idempotency-Key": f"k{len(provider.received)}"}
            go.clear()
            first = asyncio.create_task(a.client.post("/v1/chat/completions", json=body, headers=headers))
            known = len(provider.received)
            await until(lambda known=known: len(provider.received) > known)
            for replica in (a, b):
                busy = await replica.client.post("/v1/chat/completions", json=body, headers=headers)
                assert busy.status_code == 409
                assert busy.json()["error"]["code"] == "idempotency_in_progress"
                assert busy.headers["retry-after"] == "1"
                assert busy.headers["x-should-retry"] == "true"
                patient = headers | {"Prefer": "wait=0"}
                assert (await replica.client.post("/v1/chat/completions", json=body, headers=patient)).status_code == 409
            patient = headers | {"Prefer": "wait"}
            waiting = [
                asyncio.create_task(replica.client.post("/v1/chat/completions", json=body, headers=patient))
                for replica in (a, b)
            ]
            await asyncio.sleep(0.1)
            go.set()
            whole = await first
            for joined in await asyncio.gather(*waiting):
                assert joined.status_code == 200
                assert joined.content == whole.content
                assert joined.headers["idempotent-replayed"] == "true"
                assert joined.headers["preference-applied"] == "wait"
            assert len(provider.received) == known + 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_who_leaves_finds_its_answer(tmp_path: Path, valkey: EmbeddedValkey, streamed: bool) -> None:
    go = asyncio.Event()
    body = {**CHAT, "stream": streamed}
    async with Loopback(held(go)) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        headers = {"Idempotency-Key": f"left-{streamed}"}
        with pytest.raises(httpx.ReadTimeout):
            await service.client.post("/v1/chat/completions", json=body, headers=headers, timeout=0.2)
        go.set()
        found = await service.client.post("/v1/chat/completions", json=body, headers=headers | {"Prefer": "wait"})
        assert found.status_code == 200
        assert "two" in found.text
        assert len(provider.received) == 1


NOT_KEPT = [
    (as_json({"error": {"message": "slow down"}}, status=429), 429),
    (as_json({"error": {"message": "broken"}}, status=500), 502),
    (as_json({"error": {"message": "busy"}}, status=503), 503),
]


@pytest.mark.parametrize(("failure", "status"), NOT_KEPT)
async def test_what_may_pass_is_not_kept(tmp_path: Path, valkey: EmbeddedValkey, failure: Answer, status: int) -> None:
    answers = [failure, as_json(completion("better"))]
    async with (
        Loopback(lambda _: answers.pop(0)) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url)) as service,
    ):
        headers = {"Idempotency-Key": f"passes-{status}"}
        assert (await service.client.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code == status
        assert (await service.client.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code == 200


async def test_a_stream_that_failed_is_not_kept(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    answers = [sse(stream("one ", "two"), stop_after=len(stream("one ")) - 60), sse(stream("one ", "two"))]
    async with (
        Loopback(lambda _: answers.pop(0)) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url)) as service,
    ):
        headers, body = {"Idempotency-Key": "cut"}, {**CHAT, "stream": True}
        assert "error" in (await service.client.post("/v1/chat/completions", json=body, headers=headers)).text
        assert "[DONE]" in (await service.client.post("/v1/chat/completions", json=body, headers=headers)).text


async def test_a_failure_that_would_come_again_is_kept(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    refusal = as_json({"error": {"message": "too long", "code": "context_length_exceeded"}}, status=400)
    async with Loopback(lambda _: refusal) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        headers = {"Idempotency-Key": "long"}
        first = await service.client.post("/v1/chat/completions", json=CHAT, headers=headers)
        again = await service.client.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert first.status_code == again.status_code == 400
        assert first.content == again.content
        assert len(provider.received) == 1


async def test_what_was_refused_before_a_call_may_be_mended(service: Serving) -> None:
    headers = {"Idempotency-Key": "mended"}
    bad = await service.client.post("/v1/chat/completions", json={**CHAT, "model": "none"}, headers=headers)
    assert bad.status_code == 404
    assert (await service.client.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code == 200


async def test_it_works_on_every_post(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    body = {"name": "extra", "kind": "mock"}
    async with serving(tmp_path, valkey.url) as service:
        first = await service.client.post("/v1/providers", json=body, headers={"Idempotency-Key": "p"})
        again = await service.client.post("/v1/providers", json=body, headers={"Idempotency-Key": "p"})
        assert first.status_code == again.status_code == 201
        assert first.content == again.content
        assert first.headers.get("location") == again.headers.get("location")
        assert (await service.client.post("/v1/providers", json=body)).status_code == 409


async def test_without_the_store_nothing_is_run(tmp_path: Path) -> None:
    async with Loopback(answer) as provider:
        async with serving(tmp_path, "redis://127.0.0.1:1", {**upstream(provider.url), "keys": KEYS}) as service:
            service.client.headers.update(bearer("runner"))
            refused = await service.client.post("/v1/chat/completions", json=CHAT, headers={"Idempotency-Key": "k"})
            plain = await service.client.post("/v1/chat/completions", json=CHAT)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert plain.status_code == 200
        assert len(provider.received) == 1


async def test_an_answer_too_long_to_keep_is_given_all_the_same(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    config = {**upstream(""), "idempotency": {"max_answer_bytes": 1024}}
    async with Loopback(lambda _: as_json(completion("x" * 2000))) as provider:
        config["providers"]["up"]["base_url"] = provider.url
        async with serving(tmp_path, valkey.url, config) as service:
            for _ in range(2):
                answered = await service.client.post("/v1/chat/completions", json=CHAT, headers={"Idempotency-Key": "long"})
                assert answered.status_code == 200
                assert len(answered.text) > 2000
        assert len(provider.received) == 2


async def test_the_official_sdk(service: Serving, provider: Loopback) -> None:
    key = KEYS[0]["key"]
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=key, default_headers={"Idempotency-Key": "sdk"}) as client:
        whole = [await client.chat.completions.create(**CHAT) for _ in range(2)]
        assert whole[0].id == whole[1].id
        texts = []
        for _ in range(2):
            chunks = await client.chat.completions.create(**CHAT, stream=True, extra_headers={"Idempotency-Key": "sdk-stream"})
            texts.append("".join([chunk.choices[0].delta.content or "" async for chunk in chunks]))
    assert texts == ["one two", "one two"]
    assert len(provider.received) == 2
