"""Runs with tools that write, and processes that die around them: each effect takes place at most once."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import HEAD, completion
from tests.support.processes import processes

pytestmark = pytest.mark.timeout(180)


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
    tools = {"hosts": [host], "private_hosts": [host], "http": {"order": order}, "permissions": [allow], "builtins": []}
    return {"tools": tools, "recipes": {"helper": {"strategy": "tools", "models": ["m"]}}}


def order_of(title: str) -> Answer:
    call = {"id": f"call-{title}", "type": "function", "function": {"name": "order", "arguments": json.dumps({"title": title})}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    used = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return as_json({**HEAD, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": used})


def said(request: Received) -> Answer:
    """The model orders what it was asked to, and then says what the tool had said."""
    messages = request.json["messages"]
    return order_of(messages[0]["content"]) if messages[-1]["role"] == "user" else as_json(completion(messages[-1]["content"]))


async def test_a_run_whose_process_is_killed_around_a_write_makes_it_at_most_once(tmp_path: Path) -> None:
    rng = random.Random(7)
    titles = [f"book-{number}" for number in range(20)]
    ordered: list[str] = []

    def answer(request: Received) -> Answer:
        if request.path != "/orders":
            return said(request)
        ordered.append(request.json["title"])
        return Answer(body=b'{"order": 7}', delay_s=rng.uniform(0, 0.4))

    async with (
        Loopback(answer) as world,
        processes(tmp_path, world, 2, tools(world)) as (first, second),
        httpx.AsyncClient(timeout=120) as client,
    ):

        async def ask(url: str, title: str) -> httpx.Response:
            body = {"model": "helper", "messages": [{"role": "user", "content": title}]}
            headers = {"Idempotency-Key": title, "Prefer": "wait=60"}
            return await client.post(f"{url}/v1/chat/completions", json=body, headers=headers)

        async def begin(number: int, title: str) -> None:
            await asyncio.sleep(number * 0.03)
            await ask(first.url, title)

        asked = [asyncio.ensure_future(begin(number, title)) for number, title in enumerate(titles)]
        async with asyncio.timeout(60):
            while len(ordered) < len(titles) // 2:
                await asyncio.sleep(0.002)
        first.signal(signal.SIGKILL)
        killed_at = time.monotonic()
        await asyncio.gather(*asked, return_exceptions=True)
        begun = set(ordered)
        answers = {title: await ask(second.url, title) for title in titles}
        told_s = time.monotonic() - killed_at
    uncertain = {title for title, one in answers.items() if "effect_uncertain" in one.text}
    assert all(one.status_code == 200 for one in answers.values())
    assert len(ordered) == len(set(ordered))
    assert uncertain | set(ordered) == set(titles)
    assert uncertain
    print(
        f"{len(titles)} runs, {len(begun)} writes begun by the process that was killed, {len(ordered)} effects, "
        f"{len(uncertain)} uncertain, all told within {told_s:.1f} s"
    )
