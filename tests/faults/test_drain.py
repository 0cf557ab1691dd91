"""Processes that are told to stop under load: what can end ends, what cannot is told so or goes on elsewhere."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.support.clients import http_client
from tests.support.frames import frames
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.processes import processes
from tests.support.replicas import Reading, logged, slowly
from tests.support.service import Service, processes_of
from tests.support.serving import until

pytestmark = pytest.mark.timeout(180)

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "m", "messages": HI}
GRACE_S = 2.0
"""Longer than the balancer takes to see who is ready, also on a busy machine: that is what the grace period is for."""
PANEL: dict[str, Any] = {"input": "hi", "strategy": "simple", "models": ["m", "m2"], "lead_model": "m"}


WORDS = slowly(3_000, 0.02)


def endless(request: Received) -> Answer:
    """Words for a minute for who streams; silence for who does not."""
    if request.json.get("stream") and request.json["messages"][-1]["content"] != "silence":
        return WORDS
    return replace(as_json(completion("too late")), delay_s=300)


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def end_of(server: Service) -> int:
    return await asyncio.to_thread(server.end)


async def test_who_still_waits_at_the_end_is_told(tmp_path: Path) -> None:
    """Every kind of reader at once: each gets an error that says why, or a stream that goes on at another replica."""
    drain_s = 1.5
    async with (
        Loopback(endless) as provider,
        processes(tmp_path, provider, drain_s=drain_s) as (server, other),
        http_client(server.url) as client,
        http_client(other.url) as elsewhere,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as sdk,
    ):
        native, follower, keyed = Reading(), Reading(), Reading()

        async def openai_stream(**headers: str) -> str:
            heard = ""
            with pytest.raises(openai.APIError) as told:
                async for chunk in await sdk.chat.completions.create(
                    model="m", messages=HI, stream=True, extra_headers=headers
                ):
                    heard += chunk.choices[0].delta.content or ""
            assert heard.startswith("w0 w1 ")
            return str(told.value.code)

        async def status(work: Awaitable[httpx.Response]) -> tuple[int, str]:
            answer = await work
            assert answer.headers["x-should-retry"] == "true"
            assert answer.headers["retry-after"]
            return answer.status_code, answer.json()["error"]["code"]

        async def slow_body() -> str:
            reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999\r\n\r\n"
            writer.write(head + b'{"model": "m", ')
            answer = (await reader.read()).decode()
            writer.close()
            return answer

        silence = {"model": "m", "messages": [{"role": "user", "content": "silence"}]}
        path = "/v1/chat/completions"
        readers = [
            asyncio.create_task(native.begin(client)),
            asyncio.create_task(keyed.begin(client, {**PANEL, "stream": True}, **{"Idempotency-Key": "native"})),
        ]
        await until(lambda: native.text.count("output.delta") > 3 and keyed.text.count("candidate.delta") > 3)
        follower.run_id = native.run_id
        readers.append(asyncio.create_task(follower.go_on(client)))
        streams = [asyncio.create_task(openai_stream()), asyncio.create_task(openai_stream(**{"Idempotency-Key": "stream"}))]
        plain = [
            asyncio.create_task(status(client.post(path, json=CHAT))),
            asyncio.create_task(status(client.post(path, json={**silence, "stream": True}))),
            asyncio.create_task(status(client.post("/v1/orchestrations", json=PANEL))),
            asyncio.create_task(status(client.post(path, json=CHAT, headers={"Idempotency-Key": "json"}))),
            asyncio.create_task(status(client.post("/v1/orchestrations", json=PANEL, headers={"Idempotency-Key": "panel"}))),
        ]
        halfway = asyncio.create_task(slow_body())
        await until(lambda: len(provider.received) >= 11)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert await asyncio.gather(*streams) == ["draining", "draining"]
        assert await asyncio.gather(*plain) == [(503, "draining")] * len(plain)
        assert (await halfway).startswith("HTTP/1.1 503 ")
        await asyncio.gather(*readers)
        took = time.monotonic() - began
        assert await end_of(server) == 0
        assert took < drain_s + 1.5
        for reading in (native, follower):
            assert reading.frames[-1].fields["event"] == "run.failed"
            assert reading.frames[-1].json["error"]["code"] == "draining"
            assert reading.frames[-1].json["result"]["output"]["text"].startswith("w0 w1 ")
        assert "Traceback" not in server.said

        calls = len(provider.received)  # what had a key goes on elsewhere
        await until(lambda: len(provider.received) - calls >= 6, within_s=20)
        taken = time.monotonic() - began - took
        events = [frame.fields["event"] for frame in keyed.frames]
        assert "run.failed" not in events
        assert "run.finished" not in events
        before = len(keyed.frames)

        async def go_on() -> None:
            await keyed.go_on(elsewhere)

        going = asyncio.create_task(go_on())
        await until(lambda: "run.restarted" in keyed.text)
        going.cancel()
        numbers = [int(frame.fields["id"]) for frame in keyed.frames]
        assert numbers == sorted(set(numbers))
        waited = len(plain) + len(streams) + len(readers) + 1
        print(
            f"drain: {waited} requests at the end of {drain_s:g} s: all told after {took:.1f} s; "
            f"keyed ones gone on with elsewhere {taken:.1f} s later (resumed after event {before})"
        )


class Balancer:
    """Sends to servers that say they are ready, as seen every 100 ms."""

    def __init__(self, servers: list[Service]) -> None:
        self.servers = servers
        self.ready: list[Service] = list(servers)
        self._turns = itertools.count()

    def next(self) -> str:
        return self.ready[next(self._turns) % len(self.ready)].url

    async def watch(self) -> None:
        async with http_client(timeout_s=1) as client:
            while True:
                seen = await asyncio.gather(*(self._is_ready(client, one) for one in self.servers))
                self.ready = list(itertools.compress(self.servers, seen)) or self.ready
                await asyncio.sleep(0.1)

    async def _is_ready(self, client: httpx.AsyncClient, server: Service) -> bool:
        try:
            return (await client.get(f"{server.url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False


async def rolled(tmp_path: Path, seconds_each: float, at_once: int) -> tuple[Counter[str], list[str], float]:
    """Three servers under load, of which two are stopped one after the other.

    Gives how many requests of each kind were answered, what was lost, and the longest stop in seconds.
    """

    def answer(request: Received) -> Answer:
        return slowly(40, 0.02) if request.json.get("stream") else replace(as_json(completion("yes")), delay_s=0.05)

    whole = "".join(f"w{number} " for number in range(40))
    done: Counter[str] = Counter()
    lost: list[str] = []
    async with (
        Loopback(answer) as provider,
        processes(tmp_path, provider, count=3, grace_s=GRACE_S, drain_s=10) as servers,
        http_client(timeout_s=30) as client,
    ):
        balancer = Balancer(servers)

        async def json_answer(_: int) -> None:
            found = await client.post(f"{balancer.next()}/v1/chat/completions", json=CHAT)
            assert found.json()["choices"][0]["message"]["content"] == "yes"

        async def keyed_panel(number: int) -> None:
            headers = {"Idempotency-Key": f"panel-{number}"}
            found = await client.post(f"{balancer.next()}/v1/orchestrations", json=PANEL, headers=headers)
            assert found.json()["output"]["text"] == "yes"

        async def openai_stream(_: int) -> None:
            found = await client.post(f"{balancer.next()}/v1/chat/completions", json={**CHAT, "stream": True})
            sent = [frame.fields["data"] for frame in frames(found.text) if "data" in frame.fields]
            assert sent[-1] == "[DONE]"
            heard = [json.loads(data)["choices"] for data in sent[:-1]]
            assert "".join(c[0]["delta"].get("content") or "" for c in heard if c) == whole

        async def native_stream(_: int) -> None:
            reading = Reading()
            async with http_client(balancer.next(), timeout_s=30) as own:
                await reading.begin(own)
            assert reading.ended
            assert reading.answer == whole

        kinds: list[Callable[[int], Awaitable[None]]] = [json_answer, keyed_panel, openai_stream, native_stream]
        numbers = itertools.count()
        stop = asyncio.Event()

        async def ask(kind: Callable[[int], Awaitable[None]]) -> None:
            while not stop.is_set():
                try:
                    await kind(next(numbers))
                    done[kind.__name__] += 1
                except (httpx.HTTPError, AssertionError, KeyError) as error:
                    lost.append(f"{kind.__name__}: {error!r}")

        watching = asyncio.create_task(balancer.watch())
        asking = [asyncio.create_task(ask(kind)) for kind in kinds for _ in range(at_once)]
        longest = 0.0
        for server in servers[:2]:
            await asyncio.sleep(seconds_each)
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            assert await end_of(server) == 0
            longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(seconds_each)
        stop.set()
        await asyncio.gather(*asking)
        watching.cancel()
    return done, lost, longest


def tell(done: Counter[str], lost: list[str], longest: float) -> None:
    print(f"drain: 2 of 3 servers stopped under load: {sum(done.values())} answers, {len(lost)} lost, {longest:.1f} s to stop")


async def test_nothing_is_lost_when_servers_are_stopped_one_after_the_other(tmp_path: Path) -> None:
    """Reliability test 22."""
    done, lost, longest = await rolled(tmp_path, seconds_each=1.5, at_once=5)
    tell(done, lost, longest)
    assert lost == []
    assert min(done.values()) >= 10
    assert longest < 10


@pytest.mark.full
@pytest.mark.timeout(180)
async def test_nothing_is_lost_over_a_longer_time_and_with_more_load(tmp_path: Path) -> None:
    done, lost, longest = await rolled(tmp_path, seconds_each=15, at_once=25)
    tell(done, lost, longest)
    assert lost == []
    assert longest < 12


async def test_a_killed_worker_is_replaced_and_its_keyed_requests_are_gone_on_with(tmp_path: Path) -> None:
    """`--workers 2`: the sibling or the successor goes on; whoever listens to a run without a key hears its end."""

    words, gone = slowly(2_000, 0.02), asyncio.Event()

    def answer(request: Received) -> Answer:
        if request.json.get("stream"):
            return words
        found = as_json(completion(f"{request.json['model']} says yes"))
        if request.json["model"] != "m2":
            return found
        return replace(found, delay_s=2.0) if gone.is_set() else replace(found, wait_for=gone)

    count = 24
    async with Loopback(answer) as provider, processes(tmp_path, provider, count=1, workers=2) as (server,):
        place = tmp_path / "server-0"
        workers = processes_of(place) - {server.process.pid}
        assert len(workers) == 2

        def client() -> httpx.AsyncClient:
            """A connection of its own each: one that is shared would be one worker's."""
            return httpx.AsyncClient(base_url=server.url, timeout=60)

        async def panel(number: int, **headers: str) -> httpx.Response | None:
            body = {**PANEL, "input": f"key-{number} ?"}
            async with client() as own:
                try:
                    return await own.post(
                        "/v1/orchestrations", json=body, headers={"Idempotency-Key": f"key-{number}", **headers}
                    )
                except httpx.HTTPError:
                    return None

        async def listen(reading: Reading) -> None:
            """Until its run has ended, or, cut off, what the log says of it elsewhere."""
            async with client() as own:
                try:
                    await reading.begin(own)
                except httpx.HTTPError:
                    async with client() as again:
                        await reading.go_on(again)

        listeners = [Reading() for _ in range(12)]
        listening = {asyncio.create_task(listen(reading)): reading for reading in listeners}
        asking = [asyncio.create_task(panel(number)) for number in range(count)]
        await until(lambda: len(provider.received) >= 2 * count + len(listeners), within_s=30)
        await until(lambda: all("output.delta" in reading.text for reading in listeners), within_s=30)
        async with client() as own:
            await logged(own, "candidate.finished", count, PANEL["strategy"])
        victim = max(workers, key=open_files)  # connections go to whoever takes them first, so one may have nearly all
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        gone.set()
        broken = sum(found is None for found in await asyncio.gather(*asking))
        again = await asyncio.gather(*(panel(number, Prefer="wait=40") for number in range(count)))
        took = time.monotonic() - killed
        assert [found.status_code if found else 0 for found in again] == [200] * count
        assert broken > 0
        ended, going = await asyncio.wait(listening, timeout=20 - took)
        for task in going:
            task.cancel()
        told = [listening[task].frames[-1] for task in ended]
        assert {(frame.fields["event"], frame.json["error"]["code"]) for frame in told} == {("run.failed", "owner_lost")}
        now = processes_of(place) - {server.process.pid}
        assert len(now) == 2
        assert victim not in now
        questions = [
            str(request.json["messages"][0]["content"]) for request in provider.received if request.json["model"] == "m"
        ]
        asked = Counter(question for question in questions if question.endswith("?"))
        assert asked == {f"key-{number} ?": 1 for number in range(count)}
        print(
            f"worker killed: {broken} of {count} keyed requests gone on with after {took:.1f} s, none asked again; "
            f"{len(ended)} of {len(listeners)} listeners told"
        )
