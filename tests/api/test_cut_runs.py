"""What a run has used that is ended in the middle: the same in its result, in what is booked, and in the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.api.test_every_strategy import fold
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.replicas import Reading, result_of, slowly
from tests.support.serving import Serving, serving, until, upstream

A_DAY = 100_000
PRICE = 1000.0
"""Dollars a million tokens: a thousandth of one a token."""
STUCK = slowly(5000, 0.01)


def answers(stuck: Callable[[int, str], bool]) -> Callable[[Received], Answer]:
    """Whole ones at once, but for calls that get `STUCK`, by their number and model."""
    numbers = iter(range(1_000))

    def answer(request: Received) -> Answer:
        if stuck(next(numbers), request.json["model"]):
            return STUCK if request.json.get("stream") else Answer(hold_after=0)
        return sse(stream("one ", "two")) if request.json.get("stream") else as_json(completion("one two"))

    return answer


def config(url: str) -> dict[str, Any]:
    found = upstream(url) | {"tenants": {"default": {"budget": {"tokens_per_day": A_DAY}}}}
    for model in found["models"].values():
        model["price"] = {"input": PRICE, "output": PRICE}
    return found


def tokens(result: dict[str, Any]) -> int:
    return result["usage"]["input_tokens"] + result["usage"]["output_tokens"]


async def booked(service: Serving, body: dict[str, Any]) -> int:
    found = await service.client.post("/v1/orchestrations/estimate", json={**body, "stream": False})
    return A_DAY - found.json()["admission"]["limits"][0]["remaining"]


async def counted(service: Serving, metric: str) -> float:
    lines = (await service.client.get("/metrics")).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(metric + "{"))


class Counted:
    """How far the counters of tokens and dollars have gone since."""

    NAMES = ("quorum_tokens_total", "quorum_cost_usd_total", "quorum_wasted_cost_usd_total")

    def __init__(self, service: Serving) -> None:
        self._service = service
        self._before: list[float] = []

    async def begin(self) -> None:
        self._before = [await counted(self._service, name) for name in self.NAMES]

    async def since(self) -> list[float]:
        return [await counted(self._service, name) - was for name, was in zip(self.NAMES, self._before, strict=True)]


@pytest.mark.parametrize(
    ("strategy", "stuck", "wasted"),
    [
        ("direct", lambda number, model: True, "candidates"),
        ("simple", lambda number, model: model == "m2", "candidates"),
        ("simple", lambda number, model: number == 2, "calls"),
    ],
    ids=["direct", "simple, a candidate", "simple, the synthesis"],
)
async def test_a_run_that_is_cancelled_tells_what_it_used(
    tmp_path: Path,
    valkey: EmbeddedValkey,
    state: StateClient,
    strategy: str,
    stuck: Callable[[int, str], bool],
    wasted: str,
) -> None:
    await state.commands.flushall()
    models = ["m"] if strategy == "direct" else ["m", "m2"]
    body = {"input": "x" * 400, "strategy": strategy, "models": models, "stream": True, "generation": {"max_tokens": 50}}
    async with Loopback(answers(stuck)) as provider, serving(tmp_path, valkey.url, config(provider.url)) as service:
        moved = Counted(service)
        await moved.begin()
        reading = Reading()
        asking = asyncio.create_task(reading.begin(service.client, body))
        await until(lambda: reading.text.count("w3 ") > 0)
        await service.client.post(f"/v1/orchestrations/{reading.run_id}/cancel")
        await asyncio.wait_for(asking, 5)
        result = result_of(reading.frames)
        assert (await service.client.get(f"/v1/orchestrations/{reading.run_id}")).json() == result
        assert fold(reading.frames) == result
        assert await booked(service, body) == tokens(result) > 100
        (cut,) = [one for one in (*result["candidates"], *result["calls"]) if one["status"] == "cancelled"]
        assert cut in result[wasted]
        assert cut["usage"]["input_tokens"] >= 100
        assert cut["usage"]["output_tokens"] > 0
        assert [attempt["outcome"] for attempt in cut["attempts"]] == ["cancelled"]
        assert result["wasted_cost_usd"] == pytest.approx(cut["cost_usd"])
        assert result["cost_usd"] == pytest.approx(tokens(result) * PRICE / 1e6)
        used, dollars, thrown_away = await moved.since()
        assert (used, dollars, thrown_away) == pytest.approx((tokens(result), result["cost_usd"], result["wasted_cost_usd"]))
        print(f"cancel of {strategy}: {tokens(result)} tokens told, booked and counted")


@pytest.mark.parametrize("watched", [False, True], ids=["json", "stream"])
async def test_a_run_whose_client_leaves_is_counted_with_what_it_used(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, watched: bool
) -> None:
    await state.commands.flushall()
    chat = {"model": "m", "messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 50, "stream": watched}
    native = {"input": "x" * 400, "strategy": "direct", "models": ["m"], "generation": {"max_tokens": 50}}
    async with (
        Loopback(answers(lambda number, model: True)) as provider,
        serving(tmp_path, valkey.url, config(provider.url)) as service,
    ):
        moved = Counted(service)
        await moved.begin()
        reserved = (await service.client.post("/v1/orchestrations/estimate", json=native)).json()["worst_case"]["tokens"]
        asking = asyncio.create_task(service.client.post("/v1/chat/completions", json=chat))
        await until(lambda: provider.received)
        async with asyncio.timeout(5):
            while await booked(service, native) < reserved:
                await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(5):
            while not (await moved.since())[0] or await booked(service, native) >= reserved:
                await asyncio.sleep(0.01)
        used, dollars, thrown_away = await moved.since()
        assert used == await booked(service, native) >= 100
        assert (dollars, thrown_away) == pytest.approx((used * PRICE / 1e6, used * PRICE / 1e6))
