"""Requests with one key over several server processes: run once, taken over from the dead, kept from who has lost them."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clients import http_client
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.processes import processes
from tests.support.replicas import Reading, logged
from tests.support.serving import until

pytestmark = pytest.mark.timeout(180)

TAKEN_WITHIN_S = 20.0
PANEL: dict[str, Any] = {"strategy": "simple", "models": ["m", "m2"], "lead_model": "m"}


def asked_for(request: Received) -> str:
    """The prompt's first word, which the tests make the key."""
    return str(request.json["messages"][-1]["content"]).split()[0]


def panel_answer(killed: asyncio.Event) -> Callable[[Received], Answer]:
    """`m` at once, as the lead who is shown both answers; `m2` not before somebody is killed, and after two seconds then."""

    def answer(request: Received) -> Answer:
        if request.json.get("stream"):
            found = sse(stream(f"{request.json['model']} says", " yes"))
        else:
            found = as_json(completion(f"{request.json['model']} says yes"))
        if request.json["model"] != "m2":
            return found
        return replace(found, delay_s=2.0) if killed.is_set() else replace(found, wait_for=killed)

    return answer


@pytest.mark.timeout(180)
async def test_one_call_for_one_key_however_many_ask_at_once(tmp_path: Path) -> None:
    """Reliability test 1, over two servers of two workers each."""
    keys, each = 20, 200
    answer = replace(as_json(completion("once")), delay_s=0.05)
    async with Loopback(answer) as provider, processes(tmp_path, provider, workers=2) as servers:
        turns = asyncio.Semaphore(64)
        async with http_client() as client:

            async def ask(number: int) -> tuple[str, int, bytes]:
                key = f"key-{number % keys}"
                body = {"model": "m", "messages": [{"role": "user", "content": key}]}
                url = f"{servers[number % len(servers)].url}/v1/chat/completions"
                async with turns:
                    done = await client.post(url, json=body, headers={"Idempotency-Key": key})
                return key, done.status_code, done.content

            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(ask(number)) for number in range(keys * each)]
    answers = [one.result() for one in asked]
    statuses = Counter(status for _, status, _ in answers)
    assert statuses.keys() <= {200, 409}
    bodies = {key: {content for k, status, content in answers if k == key and status == 200} for key, _, _ in answers}
    assert {len(found) for found in bodies.values()} == {1}
    calls = Counter(request.json["messages"][0]["content"] for request in provider.received)
    print(f"idem-race: {len(answers)} requests, {keys} keys, {len(provider.received)} calls, {dict(statuses)}")
    assert set(calls.values()) == {1}
    assert len(calls) == keys


async def taken_over(tmp_path: Path, requests: int, seed: int) -> tuple[float, Counter[str]]:
    """Kill a server that runs `requests` panels, each begun at another moment; the other goes on with all of them.

    Gives the seconds until the last was answered, and how often each was asked of the model that had answered by then.
    """
    rng = random.Random(seed)
    gone = asyncio.Event()
    async with Loopback(panel_answer(gone)) as provider, processes(tmp_path, provider) as (owner, other):
        async with (
            http_client(owner.url) as a,
            http_client(other.url) as b,
        ):

            async def ask(client: httpx.AsyncClient, key: str, delay_s: float, **headers: str) -> httpx.Response | None:
                await asyncio.sleep(delay_s)
                try:
                    body = {"input": f"{key} ?", **PANEL}
                    return await client.post("/v1/orchestrations", json=body, headers={"Idempotency-Key": key, **headers})
                except httpx.HTTPError:
                    return None

            delays = {f"key-{number}": rng.uniform(0, 1.2) for number in range(requests)}
            asking = [asyncio.create_task(ask(a, key, delay)) for key, delay in delays.items()]
            await logged(b, "candidate.finished", requests, PANEL["strategy"])
            owner.signal(signal.SIGKILL)
            killed = time.monotonic()
            gone.set()
            assert await asyncio.gather(*asking) == [None] * requests
            found = await asyncio.gather(*(ask(b, key, 0, Prefer="wait=40") for key in delays))
            took = time.monotonic() - killed
            again = await asyncio.gather(*(ask(b, key, 0) for key in delays))
        for first, second in zip(found, again, strict=True):
            assert first is not None
            assert second is not None
            assert first.status_code == 200, first.text
            assert first.content == second.content
            result = first.json()
            assert result["status"] == "succeeded"
            assert [candidate["status"] for candidate in result["candidates"]] == ["succeeded", "succeeded"]
        answers = [request for request in provider.received if request.json["model"] == "m" and _is_question(request)]
        return took, Counter(asked_for(request) for request in answers)


def _is_question(request: Received) -> bool:
    return len(request.json["messages"]) == 1 and str(request.json["messages"][0]["content"]).endswith("?")


async def test_a_killed_process_is_taken_over_and_nothing_finished_is_asked_again(tmp_path: Path) -> None:
    """Reliability test 2."""
    took, asked = await taken_over(tmp_path, 20, seed=7)
    print(f"idem-kill: 20 requests of a killed process answered by another after {took:.1f} s, finished ones asked again: 0")
    assert took < TAKEN_WITHIN_S + 2.5  # the slow model's own two seconds
    assert set(asked.values()) == {1}
    assert len(asked) == 20


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_a_hundred_kills(tmp_path: Path) -> None:
    for seed in range(5):
        place = tmp_path / str(seed)
        place.mkdir()
        took, asked = await taken_over(place, 100, seed)
        assert took < TAKEN_WITHIN_S + 2.5
        assert set(asked.values()) == {1}


async def test_who_hangs_past_his_lease_writes_nothing_more(tmp_path: Path) -> None:
    """Reliability test 3."""
    texts = iter(f"answer {number}" for number in range(10))

    def answer(request: Received) -> Answer:
        return replace(as_json(completion(next(texts))), delay_s=1.0)

    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"Idempotency-Key": "zombie"}
    async with (
        Loopback(answer) as provider,
        processes(tmp_path, provider) as (owner, other),
        http_client(owner.url) as a,
        http_client(other.url) as b,
    ):
        asking = asyncio.create_task(a.post("/v1/chat/completions", json=body, headers=headers))
        await until(lambda: provider.received)
        owner.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        taken = await b.post("/v1/chat/completions", json=body, headers=headers | {"Prefer": "wait=40"})
        took = time.monotonic() - stopped
        assert taken.status_code == 200
        owner.signal(signal.SIGCONT)
        late = await asking
        assert late.status_code == 502
        assert late.json()["error"]["code"] == "owner_lost"
        for client in (a, b):
            kept = await client.post("/v1/chat/completions", json=body, headers=headers)
            assert kept.content == taken.content
    print(f"idem-zombie: taken over after {took:.1f} s, 0 writes of the old owner accepted")
    assert took < TAKEN_WITHIN_S + 1.5


async def test_a_stream_whose_process_is_killed_starts_over_at_another_for_whoever_listens(tmp_path: Path) -> None:
    gone = asyncio.Event()
    async with (
        Loopback(panel_answer(gone)) as provider,
        processes(tmp_path, provider) as (owner, other),
        http_client(owner.url) as a,
        http_client(other.url) as b,
    ):
        reading, listener, again = Reading(), Reading(), Reading()
        body = {"input": "key ?", **PANEL, "stream": True}
        asking = asyncio.create_task(reading.begin(a, body, **{"Idempotency-Key": "key"}))
        await until(lambda: "candidate.finished" in reading.text)
        listener.run_id = again.run_id = reading.run_id
        listening = asyncio.create_task(listener.go_on(b))
        await until(lambda: "candidate.finished" in listener.text)
        owner.signal(signal.SIGKILL)
        gone.set()
        await listening
        with pytest.raises(httpx.HTTPError):
            await asking
        # the log tells the run's end a moment before the answer of the key is stored
        await again.begin(b, body, **{"Idempotency-Key": "key", "Prefer": "wait=10"})
    assert again.text == listener.text
    assert listener.text.startswith(reading.text)
    events = [frame.fields["event"] for frame in listener.frames]
    assert events.count("run.restarted") == 1
    assert events[-1] == "run.finished"
    numbers = [int(frame.fields["id"]) for frame in listener.frames]
    assert numbers == sorted(set(numbers))
    asked = Counter(request.json["model"] for request in provider.received if _is_question(request))
    assert asked == {"m": 1, "m2": 2}
