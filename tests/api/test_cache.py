"""Answers given again, and asked for once by all who ask at the same time, over all replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.frames import frames
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.replicas import replicas
from tests.support.serving import Serving, serving, until, upstream

KEYS = [
    {"name": "one", "key": "sk-one-0123456789abc", "tenant": "a"},
    {"name": "two", "key": "sk-two-0123456789abc", "tenant": "b"},
]
NATIVE: dict[str, Any] = {"input": "Hi", "strategy": "direct", "models": ["m"], "cache": "use"}
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "quorum": {"cache": "use"}}
PANEL: dict[str, Any] = {"input": "Hi", "strategy": "simple", "models": ["m", "m2"], "lead_model": "m", "cache": "use"}


def answer(request: Received) -> Answer:
    return sse(stream("one ", "two")) if request.json.get("stream") else as_json(completion("one two"))


@pytest.fixture
async def provider() -> AsyncIterator[Loopback]:
    async with Loopback(answer) as running:
        yield running


@pytest.fixture
async def service(tmp_path: Path, valkey: EmbeddedValkey, provider: Loopback, state: StateClient) -> AsyncIterator[Serving]:
    config = upstream(provider.url)
    for model in config["models"].values():
        model["price"] = {"input": 1.0, "output": 1.0}
    config["recipes"] = {"kept": {"strategy": "direct", "models": ["m"], "cache": "use"}}
    async with serving(tmp_path, valkey.url, config) as running:
        yield running


async def test_a_hit_costs_nothing_and_says_so(service: Serving, provider: Loopback) -> None:
    first = await service.client.post("/v1/orchestrations", json=NATIVE)
    again = await service.client.post("/v1/orchestrations", json=NATIVE)
    assert len(provider.received) == 1
    assert (first.headers["x-quorum-cache"], again.headers["x-quorum-cache"]) == ("miss", "hit")
    one, two = first.json(), again.json()
    assert one["output"]["text"] == two["output"]["text"] == "one two"
    assert one["cost_usd"] > 0
    assert two["cost_usd"] == 0
    assert two["usage"]["input_tokens"] == two["usage"]["output_tokens"] == 0
    assert [candidate["cached"] for candidate in (one["candidates"][0], two["candidates"][0])] == [False, True]
    assert two["candidates"][0]["attempts"] == []


async def test_without_being_asked_nothing_is_kept(service: Serving, provider: Loopback) -> None:
    for body in ({**NATIVE, "cache": "off"}, {k: v for k, v in NATIVE.items() if k != "cache"}):
        for _ in range(2):
            done = await service.client.post("/v1/orchestrations", json=body)
            assert "x-quorum-cache" not in done.headers
    assert len(provider.received) == 4


async def test_who_asks_anew_does_not_share_a_look_at_what_is_kept(service: Serving, provider: Loopback) -> None:
    for turn in range(10):
        body = {**NATIVE, "input": f"Hi {turn}"}
        await service.client.post("/v1/orchestrations", json=body)
        looking = [service.client.post("/v1/orchestrations", json=body) for _ in range(6)]
        asking = service.client.post("/v1/orchestrations", json={**body, "cache": "refresh"})
        found = [one.json()["candidates"][0]["cached"] for one in await asyncio.gather(*looking, asking)]
        assert found == [*[True] * 6, False]
        assert len(provider.received) == 2 * (turn + 1)


@pytest.mark.parametrize("fails", [False, True])
async def test_who_asks_anew_waits_for_another_replica_but_not_for_what_was_kept_before(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, fails: bool
) -> None:
    texts = iter(["old", "new", "newer"])

    def slow(request: Received) -> Answer:
        text = next(texts)
        if text == "new" and fails:
            return as_json({"error": {"message": "no"}}, 400)
        return replace(as_json(completion(text)), delay_s=0.0 if text == "old" else 0.5)

    async with Loopback(slow) as upstreams, replicas(tmp_path, valkey.url, upstream(upstreams.url)) as (one, two):
        await one.client.post("/v1/orchestrations", json=NATIVE)
        anew = {**NATIVE, "cache": "refresh"}
        first = asyncio.create_task(one.client.post("/v1/orchestrations", json=anew))
        await until(lambda: len(upstreams.received) == 2)
        second = await two.client.post("/v1/orchestrations", json=anew)
        assert (await first).status_code == (400 if fails else 200)
        assert second.json()["output"]["text"] == ("newer" if fails else "new")
        assert len(upstreams.received) == (3 if fails else 2)


async def test_refresh_asks_again_and_replaces(service: Serving, provider: Loopback) -> None:
    texts = iter(["old", "new"])
    provider._answer = lambda _: as_json(completion(next(texts)))
    for mode, text in (("use", "old"), ("use", "old"), ("refresh", "new"), ("use", "new")):
        done = (await service.client.post("/v1/orchestrations", json={**NATIVE, "cache": mode})).json()
        assert done["output"]["text"] == text


async def test_a_recipe_may_want_it(service: Serving, provider: Loopback) -> None:
    body = {"model": "kept", "messages": [{"role": "user", "content": "Hi"}]}
    words = [(await service.client.post("/v1/chat/completions", json=body)).json()["quorum"]["cache"] for _ in range(2)]
    assert words == ["miss", "hit"]
    off = {**body, "quorum": {"cache": "off"}}
    assert (await service.client.post("/v1/chat/completions", json=off)).json()["quorum"]["cache"] == "miss"
    assert len(provider.received) == 2


@pytest.mark.parametrize("streamed_first", [True, False])
async def test_a_hit_is_a_well_formed_stream(service: Serving, provider: Loopback, streamed_first: bool) -> None:
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
        ask = {"model": "m", "messages": CHAT["messages"], "extra_body": {"quorum": {"cache": "use"}}}
        texts: list[str] = []
        for streamed in (streamed_first, not streamed_first, True):
            if not streamed:
                texts.append((await client.chat.completions.create(**ask)).choices[0].message.content)
                continue
            chunks = [chunk async for chunk in await client.chat.completions.create(**ask, stream=True)]
            texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
            assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert texts == ["one two"] * 3
    assert len(provider.received) == 1
    native = await service.client.post("/v1/orchestrations", json={**NATIVE, "stream": True})
    events = frames(native.text)
    assert "".join(e.json["text"] for e in events if e.fields["event"] == "output.delta") == "one two"
    assert events[-1].json["result"]["candidates"][0]["cached"] is True


async def test_a_panel_is_kept_call_by_call(service: Serving, provider: Loopback) -> None:
    await service.client.post("/v1/orchestrations", json={**NATIVE, "input": "Hi"})
    partial = await service.client.post("/v1/orchestrations", json=PANEL)
    whole = await service.client.post("/v1/orchestrations", json=PANEL)
    assert (partial.headers["x-quorum-cache"], whole.headers["x-quorum-cache"]) == ("partial", "hit")
    assert len(provider.received) == 1 + 2  # m was there; m2 and the lead were asked
    assert whole.json()["cost_usd"] == 0


async def test_what_failed_is_asked_again(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    answers = [as_json({"error": {"message": "broken"}}, status=500), as_json(completion("fine"))]
    async with (
        Loopback(lambda _: answers.pop(0)) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url)) as service,
    ):
        assert (await service.client.post("/v1/orchestrations", json=NATIVE)).status_code == 502
        assert (await service.client.post("/v1/orchestrations", json=NATIVE)).status_code == 200


async def test_no_tenant_gets_what_another_asked(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    """Reliability test 17: the same prompt, one after the other and at the same time."""
    slow = replace(as_json(completion("mine")), delay_s=0.1)
    async with (
        Loopback(slow) as provider,
        serving(tmp_path, valkey.url, {**upstream(provider.url), "keys": KEYS}) as service,
    ):

        async def ask(key: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "same"}
            return await service.client.post("/v1/orchestrations", json=NATIVE, headers=headers)

        both = await asyncio.gather(*(ask(key["key"]) for key in KEYS))
        assert [done.headers["x-quorum-cache"] for done in both] == ["miss", "miss"]
        assert len(provider.received) == 2
        for done, stranger in zip(both, reversed(KEYS), strict=True):
            path = f"/v1/orchestrations/{done.json()['id']}"
            found = await service.client.get(path, headers={"Authorization": f"Bearer {stranger['key']}"})
            assert found.status_code in (403, 404)
    print("tenant-iso: 2 tenants, the same prompt, key and run: 0 hits, 0 reads")


async def test_who_asks_the_same_at_once_shares_one_call(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    slow = replace(as_json(completion("once")), delay_s=0.3)
    async with Loopback(slow) as provider, replicas(tmp_path, valkey.url, upstream(provider.url)) as services:
        asked = [services[number % 2].client.post("/v1/orchestrations", json=NATIVE) for number in range(40)]
        results = [done.json() for done in await asyncio.gather(*asked)]
        assert len(provider.received) == 1
        print(f"coalescing: {len(results)} requests over 2 replicas, {len(provider.received)} call")
    assert {result["output"]["text"] for result in results} == {"once"}
    assert sum(not result["candidates"][0]["cached"] for result in results) == 1
    assert sum(result["usage"]["input_tokens"] > 0 for result in results) == 1


async def test_a_leader_who_leaves_does_not_fail_the_others(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    go = asyncio.Event()
    held = replace(as_json(completion("kept on")), wait_for=go)
    async with Loopback(held) as provider, replicas(tmp_path, valkey.url, upstream(provider.url)) as (a, b):
        leader = asyncio.create_task(a.client.post("/v1/orchestrations", json=NATIVE))
        await until(lambda: provider.received)
        followers = [asyncio.create_task(one.client.post("/v1/orchestrations", json=NATIVE)) for one in (a, b)]
        await asyncio.sleep(0.3)
        leader.cancel()
        await asyncio.sleep(0.5)
        go.set()
        for done in await asyncio.gather(*followers):
            assert done.json()["output"]["text"] == "kept on"
        assert len(provider.received) == 1


async def test_a_leader_who_leaves_hands_the_bill_to_one_who_stays(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    """All that the call uses is booked, once, and the run that it is booked for says so."""
    await state.commands.flushall()
    go = asyncio.Event()
    held = replace(as_json(completion("for one")), wait_for=go)
    config = {"tenants": {"default": {"budget": {"tokens_per_day": 50_000}}}}
    asked: dict[str, Any] = {**NATIVE, "generation": {"max_tokens": 1_000}}
    async with Loopback(held) as provider, serving(tmp_path, valkey.url, upstream(provider.url) | config) as service:

        async def left() -> int:
            found = await service.client.post("/v1/orchestrations/estimate", json=asked)
            return found.json()["admission"]["limits"][0]["remaining"]

        whole = await left()
        leader = asyncio.create_task(service.client.post("/v1/orchestrations", json=asked))
        await until(lambda: provider.received)
        reserved = whole - await left()
        followers = [asyncio.create_task(service.client.post("/v1/orchestrations", json=asked)) for _ in range(2)]
        async with asyncio.timeout(5):
            while whole - await left() < 3 * reserved:
                await asyncio.sleep(0.01)
        leader.cancel()
        async with asyncio.timeout(5):
            while whole - await left() > 2 * reserved:
                await asyncio.sleep(0.01)
        assert whole - await left() == 2 * reserved  # the leader has used nothing
        go.set()
        results = [done.json() for done in await asyncio.gather(*followers)]
        assert len(provider.received) == 1
        used = [result["usage"]["input_tokens"] + result["usage"]["output_tokens"] for result in results]
        assert sorted(bool(tokens) for tokens in used) == [False, True]
        assert {bool(tokens): result["candidates"][0]["cached"] for tokens, result in zip(used, results, strict=True)} == {
            True: False,
            False: True,
        }
        assert sorted(len(result["candidates"][0]["attempts"]) for result in results) == [0, 1]
        assert whole - await left() == sum(used)
        print(f"coalescing: the leader left, {sum(used)} tokens were used, {whole - await left()} booked")


async def test_when_all_have_left_the_call_is_ended_and_the_next_one_asks_anew(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    go = asyncio.Event()
    held = replace(as_json(completion("anew")), wait_for=go)
    async with Loopback(held) as provider, replicas(tmp_path, valkey.url, upstream(provider.url)) as (a, b):
        leader = asyncio.create_task(a.client.post("/v1/orchestrations", json=NATIVE))
        await until(lambda: provider.received)
        leader.cancel()
        await asyncio.sleep(0.3)
        go.set()
        done = await b.client.post("/v1/orchestrations", json=NATIVE)
        assert done.json()["output"]["text"] == "anew"
        assert len(provider.received) == 2


async def test_a_deadline_is_the_askers_own(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    slow = replace(as_json(completion("late")), delay_s=0.6)
    async with Loopback(slow) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        hurried = {**NATIVE, "budget": {"seconds": 0.2}}
        first, second = await asyncio.gather(
            service.client.post("/v1/orchestrations", json=hurried), service.client.post("/v1/orchestrations", json=NATIVE)
        )
        assert first.status_code == 504
        assert second.json()["output"]["text"] == "late"
        assert len(provider.received) == 1


async def test_without_the_store_all_is_asked(tmp_path: Path) -> None:
    async with Loopback(answer) as provider:
        config = {**upstream(provider.url), "keys": KEYS}
        async with serving(tmp_path, "redis://127.0.0.1:1", config) as service:
            service.client.headers["Authorization"] = f"Bearer {KEYS[0]['key']}"
            for _ in range(2):
                assert (await service.client.post("/v1/orchestrations", json=NATIVE)).status_code == 200
        assert len(provider.received) == 2
