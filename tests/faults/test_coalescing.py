"""One call for all who ask the same over several server processes, also where the process that asks is killed."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clients import http_client
from tests.support.loopback import Loopback, as_json
from tests.support.openai_wire import completion
from tests.support.processes import processes
from tests.support.serving import until

pytestmark = pytest.mark.timeout(180)

BODY: dict[str, Any] = {"input": "Hi", "strategy": "direct", "models": ["m"], "cache": "use"}


async def test_followers_of_a_killed_process_ask_for_themselves(tmp_path: Path) -> None:
    answer = replace(as_json(completion("once")), delay_s=1.0)
    async with (
        Loopback(answer) as provider,
        processes(tmp_path, provider) as (leader, other),
        http_client(leader.url) as a,
        http_client(other.url) as b,
    ):
        leading = asyncio.create_task(a.post("/v1/orchestrations", json=BODY))
        await until(lambda: provider.received)
        following = [asyncio.create_task(b.post("/v1/orchestrations", json=BODY)) for _ in range(20)]
        await asyncio.sleep(0.3)
        leader.signal(signal.SIGKILL)
        killed = time.monotonic()
        results = [done.json() for done in await asyncio.gather(*following)]
        took = time.monotonic() - killed
        with pytest.raises(httpx.HTTPError):
            await leading
    assert {result["output"]["text"] for result in results} == {"once"}
    assert len(provider.received) == 2
    print(f"coalescing: 20 followers of a killed process answered by 1 more call after {took:.1f} s")
    assert took < 8.0
