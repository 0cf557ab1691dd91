"""Runs with tools that write, and processes that die around them: each effect takes place at most once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.book_shop import order_tool
from tests.support.clients import http_client
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import HEAD, chunk, completion, stream
from tests.support.processes import processes
from tests.support.service import Service, workers_of
from tests.support.serving import until

pytestmark = pytest.mark.timeout(180)

WORKERS = 2


def tools(shop: Loopback) -> dict[str, Any]:
    panel = {"strategy": "consensus", "models": ["m", "m2", "m3"], "options": {"tools": ["order"]}}
    recipes = {"helper": {"strategy": "tools", "models": ["m"]}, "planned": {"strategy": "reliable"}, "panel": panel}
    use = {"tool": "order", "arguments": {"title": "{text}"}}
    rule = {"name": "orders", "use": use, "fallbacks": [{"recipe": "helper"}]}
    models = {name: {"provider": "up", "model": name} for name in ("m", "m2", "m3")}
    return {"models": models, "tools": order_tool(shop), "recipes": recipes, "planner": {"rules": [rule]}}


def calls_of(title: str) -> list[Any]:
    arguments = json.dumps({"title": title})
    return [{"index": 0, "id": f"call-{title}", "type": "function", "function": {"name": "order", "arguments": arguments}}]


def order_of(title: str) -> Answer:
    message = {"role": "assistant", "content": None, "tool_calls": calls_of(title)}
    used = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return as_json({**HEAD, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": used})


def said(request: Received) -> Answer:
    """The model orders what it was asked to, and then says what the tool had said."""
    messages, streamed = request.json["messages"], request.json.get("stream")
    if messages[-1]["role"] == "user":
        title = messages[0]["content"]
        asking = chunk({"tool_calls": calls_of(title)}) + chunk({}, "tool_calls") + b"data: [DONE]\n\n"
        return sse(asking) if streamed else order_of(title)
    return sse(stream(messages[-1]["content"])) if streamed else as_json(completion(messages[-1]["content"]))


FULL = (pytest.mark.full, pytest.mark.timeout(1800))


@pytest.mark.parametrize(
    ("recipe", "told", "kills"),
    [
        ("helper", 200, 3),
        ("planned", 409, 3),
        ("panel", 200, 3),
        pytest.param("helper", 200, 100, marks=FULL),
        pytest.param("panel", 200, 100, marks=FULL),
    ],
    ids=["by a model", "directly", "by a panel", "by a model, full", "by a panel, full"],
)
async def test_a_run_whose_process_is_killed_around_a_write_makes_it_at_most_once(
    tmp_path: Path, recipe: str, told: int, kills: int
) -> None:
    """`told` is the status of an answer that says that an effect is not known: a model is told so, and answers."""
    rng = random.Random(7)
    ordered: list[str] = []

    def answer(request: Received) -> Answer:
        if request.path != "/orders":
            return said(request)
        ordered.append(request.json["title"])
        return Answer(body=b'{"order": 7}', delay_s=rng.uniform(0, 0.4))

    async with (
        Loopback(answer) as world,
        processes(tmp_path, world, 2, tools(world), workers=WORKERS) as (first, second),
        httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_keepalive_connections=0)) as client,
    ):

        async def ask(url: str, title: str) -> httpx.Response:
            streamed = recipe != "planned" and int(title[-1]) % 2 == 1
            body = {"model": recipe, "messages": [{"role": "user", "content": title}], "stream": streamed}
            headers = {"Idempotency-Key": title, "Prefer": "wait=60"}
            return await client.post(f"{url}/v1/chat/completions", json=body, headers=headers)

        async def begin(number: int, title: str) -> None:
            await asyncio.sleep(number * 0.03)
            await ask(first.url, title)

        titles: list[str] = []
        begun = 0
        for kill in range(kills):
            victims = await until_served(first)
            books = [f"book-{kill}-{number}" for number in range(8)]
            asked = [asyncio.ensure_future(begin(number, title)) for number, title in enumerate(books)]
            await until(lambda books=books: len(set(ordered) & set(books)) >= 4, within_s=30)
            await asyncio.sleep(rng.uniform(0, 0.05))
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            await asyncio.gather(*asked, return_exceptions=True)
            begun += len(set(ordered) & set(books))
            titles += books
        killed_at = time.monotonic()
        answers: dict[str, httpx.Response] = {}
        for start in range(0, len(titles), 50):
            some = titles[start : start + 50]
            answers |= zip(some, await asyncio.gather(*(ask(second.url, title) for title in some)), strict=True)
        told_s = time.monotonic() - killed_at
    uncertain = {title for title, one in answers.items() if "effect_uncertain" in one.text}
    statuses = {title: told if title in uncertain else 200 for title in titles}
    assert {title: one.status_code for title, one in answers.items()} == statuses
    assert len(ordered) == len(set(ordered))
    assert uncertain | set(ordered) == set(titles)
    assert len(uncertain) >= kills
    print(
        f"{kills} kills, {len(titles)} runs of {recipe!r}, {begun} writes begun before their process was killed, "
        f"{len(ordered)} effects, 0 made twice, {len(uncertain)} uncertain, all told within {told_s:.1f} s"
    )


async def until_served(server: Service) -> list[int]:
    """The workers that serve, once all do."""

    async def up() -> bool:
        try:
            async with http_client(timeout_s=1) as client:
                return (await client.get(f"{server.url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async with asyncio.timeout(30):
        while not (await up() and len(workers_of(server.process.pid)) == WORKERS):
            await asyncio.sleep(0.02)
    return workers_of(server.process.pid)
