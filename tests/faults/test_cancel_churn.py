"""Reliability test 15: thousands of calls whose callers leave, and the service is as it was before."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random

import pytest

from app.state.embedded import EmbeddedValkey
from tests.faults.test_disconnect import asking, client_of, half, headers_only, silent
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.serving import Serving, serving, until, upstream

PHASES = (silent, headers_only, half)
AT_ONCE = 200
POOL = 64
"""Connections to the provider: fewer than callers, so that some leave while they wait for one."""
GOOD = 2 * POOL
AT_ONCE_OVER = {"runs": {"on_disconnect_grace_s": 0}}
"""Runs of native streams end with their last reader, as the others do."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("calls", [1_000, pytest.param(20_000, marks=pytest.mark.full)])
async def test_cancelled_calls_leave_nothing_behind(tmp_path: Path, valkey: EmbeddedValkey, calls: int) -> None:
    chance = Random(15)
    leaving = True

    def answer(request: Received) -> Answer:
        streamed = request.json.get("stream")
        if leaving:
            return chance.choice(PHASES)(request)
        text = f"echo {request.json['messages'][0]['content']}"
        return sse(stream(text)) if streamed else as_json(completion(text))

    async def leave(service: Serving, turns: asyncio.Semaphore) -> None:
        async with turns:
            request = asking(chance.choice(("openai", "native")), chance.random() < 0.5)
            async with client_of(service, request) as client:
                await asyncio.sleep(chance.random() * 0.1)
                await client.leave()

    async with (
        Loopback(answer) as provider,
        serving(tmp_path, valkey.url, {**upstream(provider.url, max_connections=POOL), **AT_ONCE_OVER}) as service,
    ):
        leaving = False
        await good_calls(service, GOOD)
        descriptors, tasks = open_descriptors(), len(asyncio.all_tasks())
        leaving = True
        turns = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(leave(service, turns) for _ in range(calls)))
        leaving = False
        await good_calls(service, GOOD)
        assert len(provider.received) >= 2 * GOOD + POOL
        await until(lambda: open_descriptors() <= descriptors + 4)
        await until(lambda: len(asyncio.all_tasks()) <= tasks + 4)
        now = open_descriptors(), len(asyncio.all_tasks())
    kept = f"descriptors {descriptors} before, {now[0]} after; tasks {tasks}, {now[1]}"
    print(f"cancel-churn: {calls} callers left, then {GOOD} answers right; {kept}")


async def good_calls(service: Serving, number: int) -> None:
    """Every caller gets the answer to its own question."""

    async def ask(question: str, streamed: bool) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": question}], "stream": streamed}
        answer = await service.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        assert f'"echo {question}"' in answer.text

    await asyncio.gather(*(ask(f"question {n}", n % 2 == 0) for n in range(number)))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
