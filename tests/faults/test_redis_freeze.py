"""Reliability test 13: Redis is frozen under load, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.loopback import Loopback, as_json
from tests.support.openai_wire import completion
from tests.support.serving import Serving, serving, upstream
from tests.support.valkey import running_valkey, server_pid

KEYS = [
    {"name": "plain", "key": "sk-plain-0123456789"},
    {"name": "limited", "key": "sk-limited-012345678", "tenant": "b", "requests_per_minute": 100_000},
    {"name": "daily", "key": "sk-daily-0123456789", "tenant": "c", "budget": {"usd_per_day": 100}},
]
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
SLOWER_S = 0.3
BACK_WITHIN_S = 5.0


async def asked(service: Serving, key: str, **headers: str) -> tuple[int, float]:
    """The status, and the seconds it took."""
    began = time.monotonic()
    sent = {"Authorization": f"Bearer {key}", **headers}
    status = (await service.client.post("/v1/chat/completions", json=BODY, headers=sent)).status_code
    return status, time.monotonic() - began


async def frozen(tmp_path: Path, seconds: float) -> None:
    with running_valkey() as store:
        pid = server_pid(store.data_dir)
        assert pid
        async with Loopback(as_json(completion("fine"))) as provider:
            config = {**upstream(provider.url), "keys": KEYS}
            config["models"]["m"]["price"] = {"input": 1.0, "output": 1.0}
            async with serving(tmp_path, store.url, config) as service:
                for key in KEYS:
                    assert (await asked(service, key["key"]))[0] == 200
                before = p99(await under_load(service, 1.0))
                os.kill(pid, signal.SIGSTOP)
                try:
                    took = await under_load(service, seconds)
                    assert (await asked(service, KEYS[2]["key"]))[0] == 503
                    assert (await asked(service, KEYS[0]["key"], **{"Idempotency-Key": "k"}))[0] == 503
                    ready = await service.client.get("/readyz")
                    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
                finally:
                    os.kill(pid, signal.SIGCONT)
                back = time.monotonic()
                while (await asked(service, KEYS[2]["key"]))[0] != 200:
                    assert time.monotonic() - back < BACK_WITHIN_S
                    await asyncio.sleep(0.05)
                assert (await asked(service, KEYS[0]["key"], **{"Idempotency-Key": "again"}))[0] == 200
                back_s = time.monotonic() - back
        now = p99(took)
        figures = f"p99 {before * 1000:.0f} ms before, {now * 1000:.0f} ms while frozen; back after {back_s:.1f} s"
        print(f"redis-freeze: {seconds:g} s, {len(took)} requests, all answered: {figures}")
        assert now < before + SLOWER_S


def p99(times: list[float]) -> float:
    return sorted(times)[int(0.99 * len(times))]


async def under_load(service: Serving, seconds: float) -> list[float]:
    """Requests of eight clients at a time, with limits and without: how long each took. All must be answered."""
    until, took = time.monotonic() + seconds, list[float]()

    async def client(number: int) -> None:
        while time.monotonic() < until:
            status, time_s = await asked(service, KEYS[number % 2]["key"])
            assert status == 200
            took.append(time_s)
            await asyncio.sleep(0.01)

    await asyncio.gather(*map(client, range(8)))
    return took


async def test_a_frozen_store_under_load(tmp_path: Path) -> None:
    await frozen(tmp_path, 5.0)


@pytest.mark.full
@pytest.mark.timeout(180)
async def test_a_store_that_is_frozen_for_a_minute(tmp_path: Path) -> None:
    await frozen(tmp_path, 60.0)
