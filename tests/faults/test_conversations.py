"""Conversations while processes die and requests race: every turn that was told is in there once, in its place."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clients import http_client
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.processes import processes

pytestmark = pytest.mark.timeout(180)


def answer(request: Received) -> Answer:
    """Says what it was asked last, and how much was said before: no two answers are alike, were they asked twice."""
    messages = request.json["messages"]
    said = f"{len(messages)} messages, the last {messages[-1]['content']!r}, {random.random()}"
    return replace(as_json(completion(said)), delay_s=random.uniform(0, 0.5))


async def turns(client: httpx.AsyncClient, conversation: str) -> list[Any]:
    answer = await client.get(f"/v1/conversations/{conversation}", params={"limit": 100})
    return answer.json()["data"] if answer.status_code == 200 else []


async def test_a_turn_that_was_told_is_kept_once_when_its_process_is_killed(tmp_path: Path) -> None:
    rng = random.Random(11)
    names = [f"talk-{number}" for number in range(24)]
    async with (
        Loopback(answer) as provider,
        processes(tmp_path, provider) as (owner, other),
        http_client(owner.url) as first,
        http_client(other.url) as second,
    ):

        async def ask(client: httpx.AsyncClient, name: str, said: str, **headers: str) -> httpx.Response | None:
            if client is first and said == "two":
                await asyncio.sleep(rng.uniform(0, 0.8))
            models, strategy = (["m"], "direct") if name[-1] in "02468" else (["m", "m2"], "simple")
            body = {"input": said, "strategy": strategy, "models": models, "conversation_id": name}
            try:
                return await client.post("/v1/orchestrations", json=body, headers=headers)
            except httpx.HTTPError:
                return None

        await asyncio.gather(*(ask(first, name, "one") for name in names))
        asking = [asyncio.create_task(ask(first, name, "two", **{"Idempotency-Key": name})) for name in names]
        await asyncio.sleep(0.9)
        owner.signal(signal.SIGKILL)
        killed = time.monotonic()
        told = await asyncio.gather(*asking)
        keyed = [{"Idempotency-Key": name, "Prefer": "wait=50"} for name in names]
        found = await asyncio.gather(*(ask(second, name, "two", **key) for name, key in zip(names, keyed, strict=True)))
        took = time.monotonic() - killed
        kept = [await turns(second, name) for name in names]
    for one, two, said in zip(told, found, kept, strict=True):
        assert two is not None
        assert two.status_code == 200, two.text
        assert one is None or one.content == two.content
        assert [turn["messages"][0]["content"] for turn in said] == ["one", "two"]
        assert said[1]["run_id"] == two.json()["id"]
        assert said[1]["messages"][-1]["content"] == two.json()["output"]["text"]
    lost = sum(one is None for one in told)
    print(f"{len(names)} turns, {lost} lost their process, each told and kept once {took:.0f} s after its death")


async def test_many_at_once_in_one_conversation_take_their_turns_one_after_the_other(tmp_path: Path) -> None:
    asked = 60
    async with (
        Loopback(answer) as provider,
        processes(tmp_path, provider) as servers,
        http_client() as client,
    ):

        async def ask(number: int) -> tuple[int, int]:
            """How often it was sent away, and the status at the end."""
            body = {"input": f"No. {number}", "strategy": "direct", "models": ["m"], "conversation_id": "one"}
            url = f"{servers[number % 2].url}/v1/orchestrations"
            for tried in range(20):
                found = await client.post(url, json=body)
                if found.status_code != 409:
                    return tried, found.status_code
                await asyncio.sleep(0.05)
            return 20, 409

        answers = await asyncio.gather(*map(ask, range(asked)))
        page = (await client.get(f"{servers[0].url}/v1/conversations/one", params={"limit": 100})).json()
    taken = [status for _, status in answers].count(200)
    assert {status for _, status in answers} <= {200, 409}
    assert page["turns"] == taken == len(provider.received)
    said = [turn["messages"][1]["content"].partition(" ")[0] for turn in page["data"]]
    assert said == [str(1 + 2 * number) for number in range(taken)]
    busy = sum(tried for tried, _ in answers)
    print(f"{asked} at once over 2 processes: {taken} turns in order, sent away {busy} times, none of those called a model")
