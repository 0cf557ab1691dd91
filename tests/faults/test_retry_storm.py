"""Reliability test 7: a provider that answers 503 to everything gets few calls more than it was sent requests."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Loopback, as_json
from tests.support.serving import serving, upstream

REQUESTS = 400
AT_ONCE = 20
OVERLOADED = {"error": {"message": "overloaded", "type": "server_error"}}


async def test_few_calls_more_than_requests(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    """Without the breaker, which would end the storm at its twentieth call."""
    settings = {"breaker": {"enabled": False}, "pace": {"enabled": False}}
    async with (
        Loopback(as_json(OVERLOADED, 503)) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url, reliability=settings)) as service,
    ):
        statuses: Counter[int] = Counter()

        async def client(count: int) -> None:
            for _ in range(count):
                body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
                statuses[(await service.client.post("/v1/chat/completions", json=body)).status_code] += 1

        began = time.monotonic()
        await asyncio.gather(*(client(REQUESTS // AT_ONCE) for _ in range(AT_ONCE)))
        seconds = time.monotonic() - began
        calls = len(provider.received)
        bound = 1.2 * REQUESTS + 10 * (1 + seconds)
        print(f"retry-storm: {REQUESTS} requests made {calls} calls in {seconds:.1f} s; at most {bound:.0f} were allowed")
        assert statuses == {503: REQUESTS}
        assert REQUESTS < calls <= bound


async def test_the_breaker_ends_a_storm(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with (
        Loopback(as_json(OVERLOADED, 503)) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url, reliability={"retry": {"enabled": False}})) as service,
    ):
        body = {"input": "Hi", "strategy": "direct", "models": ["m"]}
        failures: Counter[str] = Counter()
        for _ in range(20):
            answer = (await service.client.post("/v1/orchestrations", json=body)).json()
            failures[answer["provider"]["failure"]] += 1
        async with asyncio.timeout(1):
            while not failures["breaker_open"]:
                answer = await service.client.post("/v1/orchestrations", json=body)
                failures[answer.json()["provider"]["failure"]] += 1
        calls = len(provider.received)
        for _ in range(50):
            answer = await service.client.post("/v1/orchestrations", json=body)
        print(f"breaker: {calls} calls until it opened, none of 50 afterwards")
        assert len(provider.received) == calls
        assert answer.status_code == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 12
        (candidate,) = answer.json()["result"]["candidates"]
        assert [attempt["error"]["failure"] for attempt in candidate["attempts"]] == ["breaker_open"]
