"""Sentinel and Cluster: the promises that need the store hold on them too, also while a primary is killed under load."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis

from app.state.client import StateClient
from tests.support.loopback import Loopback, as_json
from tests.support.openai_wire import completion
from tests.support.redis_shapes import PATIENT_MS, URL_VARIABLE, RedisServers, cluster_of_six, sentinel_trio
from tests.support.serving import serving, upstream

ROOT = Path(__file__).parents[2]
Shape = Callable[..., AbstractContextManager[RedisServers]]
SHAPES = pytest.mark.parametrize("shape", [sentinel_trio, cluster_of_six], ids=["sentinel", "cluster"])
PROMISES = {
    "idempotency": [
        "tests/api/test_idempotency.py",
        "tests/api/test_idempotency_of_deleted_runs.py",
        "tests/state/test_idempotency_races.py",
    ],
    "breakers": ["tests/faults/test_breakers.py", "-k", "not frozen"],
    "budgets": ["tests/api/test_budgets.py", "-k", "not without_the_store"],
    "resume": ["tests/api/test_runs.py", "tests/state/test_run_records.py"],
    "cache": ["tests/api/test_cache.py"],
    "audit": ["tests/api/test_audit.py", "tests/tools/audit/test_trail.py", "tests/tools/audit/test_keeping.py"],
    "keys and providers": ["tests/state/test_dynamic_providers.py"],
    "feedback and statistics": ["tests/api/test_feedback.py", "-k", "not without_the_store"],
    "training and reload": ["tests/jobs", "tests/orchestration/learning/test_learning.py"],
    "reviews": ["tests/api/test_reviews.py", "-k", "not without_the_store"],
    "queue": ["tests/state/test_jobs.py", "-k", "not nothing_is_left"],
    "background runs": ["tests/api/test_background.py"],
    "clock": ["tests/state/test_shared_clock.py"],
    "batches": ["tests/api/test_batches.py", "-k", "not refused_whole"],
}
"""Without those that list all keys, which on a Cluster are on several servers."""
BACK_WITHIN_S = 5.0
PROMOTED_WITHIN_S = 8.0
"""The servers need that to notice and to agree: ours is what comes after."""
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def subscribed(state: StateClient) -> None:
    await (await state.subscribe("news")).aclose()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("promise", PROMISES)
@SHAPES
def test_the_promises_hold(shape: Shape, promise: str) -> None:
    with shape(PATIENT_MS) as servers:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not full", *PROMISES[promise]],
            cwd=ROOT,
            env={**os.environ, URL_VARIABLE: servers.url},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{promise}:\n{done.stdout[-6000:]}"
        print(f"{promise}: {done.stdout.strip().splitlines()[-1]}")


@SHAPES
@pytest.mark.parametrize("connecting", [StateClient.ping, subscribed], ids=["a command", "a subscription"])
async def test_who_is_cancelled_while_connecting_ends(
    shape: Shape, connecting: Callable[[StateClient], Awaitable[object]]
) -> None:
    """Whenever that comes: else a task that is to end at shutdown would go on for good."""
    with shape(PATIENT_MS) as servers:
        connected = False
        for turns in range(400):
            state = StateClient(servers.url)
            task = asyncio.ensure_future(connecting(state))
            for _ in range(turns):
                await asyncio.sleep(0)
            connected = task.done()
            task.cancel()
            await asyncio.wait([task])
            assert connected or task.cancelled(), f"the cancellation after {turns} turns of the loop was lost"
            await state.close()
            if connected:
                break
        assert connected


@SHAPES
async def test_a_primary_is_killed_under_load(tmp_path: Path, shape: Shape) -> None:
    """Plain requests go on all the while; what needs the store is refused with 503 until another is primary."""
    config = {**upstream(""), "keys": [{"name": "runner", "key": "sk-runner-0123456789"}]}
    with shape() as servers:
        async with Loopback(as_json(completion("fine"))) as provider:
            config["providers"]["up"]["base_url"] = provider.url
            async with serving(tmp_path, servers.url, config) as service:
                service.client.headers["Authorization"] = "Bearer sk-runner-0123456789"
                numbers = iter(range(1_000_000))

                async def keyed() -> int:
                    headers = {"Idempotency-Key": f"key-{next(numbers)}"}
                    return (await service.client.post("/v1/chat/completions", json=BODY, headers=headers)).status_code

                assert [await keyed() for _ in range(20)] == [200] * 20
                killed = time.monotonic()
                for port in primaries(servers)[:1]:
                    await asyncio.to_thread(servers.kill, port)
                good, longest, refused = 0, 0.0, 0
                while good < 50:
                    began = time.monotonic()
                    plain = await service.client.post("/v1/chat/completions", json=BODY)
                    longest = max(longest, time.monotonic() - began)
                    assert plain.status_code == 200
                    status = await keyed()
                    assert status in (200, 503)
                    good, refused = (good + 1, refused) if status == 200 else (0, refused + 1)
                    assert time.monotonic() - killed < PROMOTED_WITHIN_S + BACK_WITHIN_S
                took = time.monotonic() - killed
                figures = f"back after {took:.1f} s, {refused} refused, plain at most {longest * 1000:.0f} ms"
                print(f"{shape.__name__}, a primary killed: {figures}")
                assert longest < 0.5


def primaries(servers: RedisServers) -> list[int]:
    """The ports of those that have replicas."""
    found: list[int] = []
    for port in servers.processes:
        facts: Any = redis.Redis(port=port, decode_responses=True).info("replication") if not sentinel(port) else {}
        if facts.get("role") == "master" and facts["connected_slaves"]:
            found.append(port)
    return found


def sentinel(port: int) -> bool:
    facts: Any = redis.Redis(port=port, decode_responses=True).info("server")
    return facts["redis_mode"] == "sentinel"
