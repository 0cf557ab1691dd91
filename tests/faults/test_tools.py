"""Tools that write, and processes that die around them: the effect takes place at most once, and nobody claims to know more."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.loopback import Answer, Loopback
from tests.support.processes import processes

pytestmark = pytest.mark.timeout(180)
URL = "/v1/tools/order/execute"
BODY = {"arguments": {"title": "Emma"}}


def tools(shop: Loopback) -> dict[str, Any]:
    host = shop.url.removeprefix("http://")
    order = {
        "description": "Orders a book.",
        "method": "POST",
        "url": f"{shop.url}/orders",
        "body": {"title": "{title}"},
        "input": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
    }
    allow = {"effect": "allow", "tools": ["order"]}
    return {"tools": {"hosts": [host], "private_hosts": [host], "http": {"order": order}, "permissions": [allow]}}


async def test_a_keyed_write_whose_process_was_killed_is_not_made_again(tmp_path: Path) -> None:
    release = asyncio.Event()
    keys = [f"k{number}" for number in range(5)]
    async with (
        Loopback(Answer(wait_for=release)) as shop,
        processes(tmp_path, shop, 2, tools(shop)) as (first, second),
        httpx.AsyncClient(timeout=90) as client,
    ):
        asked = [
            asyncio.ensure_future(client.post(first.url + URL, json=BODY, headers={"Idempotency-Key": key})) for key in keys
        ]
        async with asyncio.timeout(30):
            while len(shop.received) < len(keys):
                await asyncio.sleep(0.01)
        first.signal(signal.SIGKILL)
        killed_at = time.monotonic()
        for one in asked:
            with pytest.raises(httpx.HTTPError):
                await one
        release.set()
        for _ in range(2):
            for key in keys:
                sent = {"Idempotency-Key": key, "Prefer": "wait=60"}
                answer = await client.post(second.url + URL, json=BODY, headers=sent)
                assert (answer.status_code, answer.json()["error"]["code"]) == (409, "effect_uncertain"), answer.text
        told_s = time.monotonic() - killed_at
        print(f"{len(keys)} writes of a dead process, {len(shop.received)} effects, all told within {told_s:.1f} s")
        assert len(shop.received) == len(keys)
        fresh = await client.post(second.url + URL, json=BODY, headers={"Idempotency-Key": "another"})
        assert fresh.status_code == 200
