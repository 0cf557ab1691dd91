"""Hedges against a provider with a long tail: who answers late is not waited for, within the share that is allowed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.serving import serving, upstream

SLOW_S = 3.0
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def config(url: str, **hedge: Any) -> dict[str, Any]:
    found = upstream(url)
    found["providers"]["up"]["reliability"] = {"retry": {"enabled": False}, "hedge": {"enabled": True, **hedge}}
    for model in found["models"].values():
        model["price"] = {"input": 1000.0, "output": 1000.0}
    return found


def late(*numbers: int) -> Callable[[Received], Answer]:
    """Answers at once, but for the calls with these numbers."""
    calls = iter(range(1_000_000))

    def answer(request: Received) -> Answer:
        found = sse(stream("one ", "two")) if request.json.get("stream") else as_json(completion("one two"))
        return replace(found, delay_s=SLOW_S if next(calls) in numbers else 0.01)

    return answer


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_late_answer_is_not_waited_for(tmp_path: Path, valkey: EmbeddedValkey, streamed: bool) -> None:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": streamed}
    native = {"input": "hi", "strategy": "direct", "models": ["m"]}
    async with (
        Loopback(late(40)) as provider,
        serving(tmp_path, valkey.url, config(provider.url, min_calls=40)) as service,
    ):
        for _ in range(40):
            assert (await service.client.post("/v1/chat/completions", json=body)).status_code == 200
        assert len(provider.received) == 40
        began = time.monotonic()
        if streamed:
            done = await service.client.post("/v1/chat/completions", json=body)
            assert "[DONE]" in done.text
        else:
            result = (await service.client.post("/v1/orchestrations", json=native)).json()
            [candidate] = result["candidates"]
            assert {attempt["outcome"] for attempt in candidate["attempts"]} == {"ok", "cancelled"}
            assert result["wasted_cost_usd"] == candidate["wasted_cost_usd"] > 0
            assert result["cost_usd"] == candidate["cost_usd"] + candidate["wasted_cost_usd"]
        took = time.monotonic() - began
        assert took < SLOW_S / 2
        assert len(provider.received) == 42
        metrics = (await service.client.get("/metrics")).text
        print(f"hedge: {took * 1000:.0f} ms instead of {SLOW_S:g} s")
    assert 'quorum_hedges_total{model="m",outcome="won",provider="up"}' in metrics


@pytest.mark.parametrize(
    "limit", [{"budget": {"tokens_per_day": 500_000}}, {"tokens_per_minute": 500_000}], ids=["day", "minute"]
)
async def test_who_is_under_a_limit_is_hedged_too_and_the_hedge_is_booked(
    tmp_path: Path, valkey: EmbeddedValkey, limit: dict[str, Any]
) -> None:
    """A hedge reserves for itself: the reservation of the run is its plan's worst case, which holds no second call."""
    native = {"input": "hi", "strategy": "direct", "models": ["m"], "generation": {"max_tokens": 1_000}}
    async with (
        Loopback(late(40)) as provider,
        serving(tmp_path, valkey.url, {**config(provider.url, min_calls=40), "tenants": {"default": limit}}) as service,
    ):

        async def left() -> int:
            found = await service.client.post("/v1/orchestrations/estimate", json=native)
            return found.json()["admission"]["limits"][0]["remaining"]

        for _ in range(40):
            assert (await service.client.post("/v1/orchestrations", json=native)).status_code == 200
        before = await left()
        result = (await service.client.post("/v1/orchestrations", json=native)).json()
        assert len(provider.received) == 42
        used = result["usage"]["input_tokens"] + result["usage"]["output_tokens"]
        prompt = (2 + 64 + 16) // 4
        assert result["wasted_cost_usd"] == pytest.approx(prompt * 0.001)
        if "budget" in limit:
            async with asyncio.timeout(5):
                while await left() != before - used - prompt:
                    await asyncio.sleep(0.01)


async def test_who_has_nothing_left_for_a_hedge_takes_none_from_others(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    native = {"input": "hi", "strategy": "direct", "models": ["m"], "generation": {"max_tokens": 1_000}}
    keys = [
        {"name": "poor", "key": "sk-poor-0123456789ab", "tokens_per_minute": 1_500},
        {"name": "rich", "key": "sk-rich-0123456789ab"},
    ]
    poor, rich = ({"authorization": f"Bearer {key['key']}"} for key in keys)
    slow = replace(as_json(completion("x")), delay_s=0.3)
    answers: list[Answer] = [as_json(completion("x"))] * 20
    async with (
        Loopback(lambda _: answers.pop() if answers else slow) as provider,
        serving(tmp_path, valkey.url, {**config(provider.url), "keys": keys}) as service,
    ):
        for _ in range(20):
            await service.client.post("/v1/orchestrations", json=native, headers=rich)
        assert (await service.client.post("/v1/orchestrations", json=native, headers=poor)).status_code == 200
        assert len(provider.received) == 21
        await service.client.post("/v1/orchestrations", json=native, headers=rich)  # has the one that was saved up
        assert len(provider.received) == 23


async def test_calls_with_tools_and_calls_beyond_the_share_are_not_hedged(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    slow = replace(as_json(completion("x")), delay_s=0.3)
    answers: list[Answer] = [as_json(completion("x"))] * 20
    async with (
        Loopback(lambda _: answers.pop() if answers else slow) as provider,
        serving(tmp_path, valkey.url, config(provider.url)) as service,
    ):
        for _ in range(20):
            await service.client.post("/v1/chat/completions", json=body)
        await service.client.post("/v1/chat/completions", json={**body, "tools": [TOOL]})
        assert len(provider.received) == 21
        for _ in range(3):  # one hedge was saved up
            await service.client.post("/v1/chat/completions", json=body)
        assert len(provider.received) == 25


async def test_a_failure_is_not_hedged(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    answers: list[Answer] = [as_json(completion("x"))] * 25
    broken = as_json({"error": {"message": "broken"}}, status=400)
    async with (
        Loopback(lambda _: answers.pop() if answers else broken) as provider,
        serving(tmp_path, valkey.url, config(provider.url, min_calls=25)) as service,
    ):
        for _ in range(25):
            await service.client.post("/v1/chat/completions", json=body)
        assert (await service.client.post("/v1/chat/completions", json=body)).status_code == 400
        assert len(provider.received) == 26
