"""Workflows whose processes die: each finishes, no effect is made twice, and no undo is missed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.test_tool_runs import until_served
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.processes import processes
from tests.support.serving import until

pytestmark = pytest.mark.timeout(240)

WORKERS = 2
FULL = (pytest.mark.full, pytest.mark.timeout(1800))


def tool(shop: Loopback, name: str) -> dict[str, Any]:
    return {
        "description": f"Does {name}.",
        "method": "POST",
        "url": f"{shop.url}/{name}",
        "body": {"trip": "{trip}", "edition": "{edition}"},
        "side_effect": "read" if name == "guide" else "write",
        "input": {
            "type": "object",
            "properties": {"trip": {"type": "string"}, "edition": {"type": "integer"}},
            "required": ["trip"],
        },
    }


def call(name: str, **more: Any) -> dict[str, Any]:
    return {"tool": {"name": name, "arguments": {"trip": "${inputs.trip}"}, **more}}


def configuration(shop: Loopback) -> dict[str, Any]:
    host = shop.url.removeprefix("http://")
    names = ("flight", "hotel", "check", "guide", "no-flight", "no-hotel")
    tools = {
        "hosts": [host],
        "private_hosts": [host],
        "builtins": [],
        "http": {name: tool(shop, name) for name in names},
        "permissions": [{"effect": "allow", "tools": ["*"]}],
    }
    inputs = {"trip": {"type": "string"}}
    stay = {"inputs": inputs, "steps": {"room": {**call("hotel"), "undo": call("no-hotel", idempotent=True)}}}
    back = {"inputs": inputs, "steps": {"seat": call("no-flight", idempotent=True)}}
    return {"tools": tools, "workflows": {"stay": stay, "back": back}}


def trip_of(edition: int) -> dict[str, Any]:
    """The definition as it stands after so many edits: it tells its edition at its first step and at its end."""
    inputs = {"trip": {"type": "string"}}
    flight = {"tool": {"name": "flight", "arguments": {"trip": "${inputs.trip}", "edition": edition}}}
    steps = {
        "flight": {**flight, "undo": {"workflow": {"name": "back", "inputs": {"trip": "${inputs.trip}"}}}},
        "guide": {**call("guide"), "compensate": {"do": "replace", "value": "nobody"}},
        "ask": {"orchestration": {"strategy": "direct", "models": ["m"], "input": "A hotel for ${inputs.trip}?"}},
        "sights": {"map": {"over": [1, 2, 3], "do": {"transform": {"value": "${inputs.trip} ${item}"}}}},
        "hotel": {"workflow": {"name": "stay", "inputs": {"trip": "${inputs.trip}"}}, "after": ["flight", "ask", "sights"]},
        "check": {**call("check", idempotent=True), "after": ["hotel"], "retry": {"times": 2, "wait_s": 0.1}},
    }
    outputs = {name: f"${{steps.{name}.output}}" for name in ("hotel", "sights", "guide")}
    return {"name": "trip", "inputs": inputs, "steps": steps, "returns": {**outputs, "edition": edition}}


@pytest.mark.parametrize("kills", [4, pytest.param(25, marks=FULL)], ids=["", "full"])
@pytest.mark.parametrize("keyed", [True, False], ids=["with keys", "without keys"])
async def test_workflows_whose_processes_are_killed_finish_and_are_undone_where_they_fail(
    tmp_path: Path, kills: int, keyed: bool
) -> None:
    """Without a key nobody asks again: the runs that were begun go on by themselves."""
    rng = random.Random(11)
    did: list[tuple[str, str]] = []
    began_with: dict[str, int] = {}

    def answer(request: Received) -> Answer:
        name = request.path.strip("/")
        if name.startswith("chat") or name.startswith("v1"):
            return as_json(completion("the one by the sea"))
        trip = request.json["trip"]
        first_time = (name, trip) not in did
        did.append((name, trip))
        delay_s = rng.uniform(0, 0.15)
        if name == "flight":
            began_with[trip] = request.json["edition"]
        if name == "guide" or (name == "check" and first_time):
            return Answer(status=503, body=b'{"error": "not now"}', delay_s=delay_s)
        if name == "check" and trip.endswith("bad"):
            return Answer(status=409, body=b'{"error": "no visa"}', delay_s=delay_s)
        return Answer(body=b'{"done": true}', delay_s=delay_s)

    async with (
        Loopback(answer) as world,
        processes(tmp_path, world, 2, configuration(world), workers=WORKERS) as (first, second),
        httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_keepalive_connections=0)) as client,
    ):

        async def run(url: str, trip: str) -> httpx.Response:
            headers = {"Idempotency-Key": trip, "Prefer": "wait=60"} if keyed else {}
            body = {"inputs": {"trip": trip}, "metadata": {"trip": trip}}
            return await client.post(f"{url}/v1/workflows/trip/runs", json=body, headers=headers)

        async def kept() -> dict[str, dict[str, Any]]:
            """The runs that nobody waits for, by their trips, once all are over."""
            while True:
                found: list[dict[str, Any]] = []
                page: dict[str, Any] = {"next_cursor": ""}
                while page["next_cursor"] is not None:
                    params = {"limit": 100, "cursor": page["next_cursor"]}
                    page = (await client.get(f"{second.url}/v1/orchestrations", params=params)).json()
                    found += page["data"]
                if all(one["status"] != "running" for one in found):
                    break
                await asyncio.sleep(0.2)
            ids = {one["request"]["metadata"]["trip"]: one["id"] for one in found}
            return {trip: (await client.get(f"{second.url}/v1/orchestrations/{run_id}")).json() for trip, run_id in ids.items()}

        async def begin(number: int, trip: str) -> None:
            await asyncio.sleep(number * 0.04)
            await run(first.url, trip)

        async def edit(url: str, edition: int) -> None:
            said = await client.post(f"{url}/v1/workflows", json=trip_of(edition))
            assert said.status_code == 201, said.text

        trips: list[str] = []
        await until_served(first)
        await edit(first.url, 0)
        for kill in range(kills):
            victims = await until_served(first)
            some = [f"trip-{kill}-{number}-{'bad' if number % 2 else 'good'}" for number in range(8)]
            asked = [asyncio.ensure_future(begin(number, trip)) for number, trip in enumerate(some)]
            least = rng.randint(4, 14)
            await until(lambda some=some, least=least: sum(trip in some for _, trip in did) >= least, within_s=30)
            await asyncio.sleep(rng.uniform(0, 0.1))
            await edit(second.url, kill + 1)
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            await asyncio.gather(*asked, return_exceptions=True)
            trips += some
        killed_at = time.monotonic()
        results: dict[str, dict[str, Any]] = {} if keyed else await kept()
        for start in range(0, len(trips), 40):
            some = trips[start : start + 40] if keyed else []
            for trip, said in zip(some, await asyncio.gather(*(run(second.url, trip) for trip in some)), strict=True):
                assert said.status_code in (200, 502), said.text
                results[trip] = said.json() if said.status_code == 200 else {"status": "failed"}
        told_s = time.monotonic() - killed_at
    done = Counter(did)
    assert set(results) >= {trip for _, trip in did}
    for trip, result in results.items():
        outcome = result["status"]
        twice = [name for name in ("flight", "hotel") if done[name, trip] > 1]
        assert twice == [], trip
        if outcome == "needs_review":
            assert result["output"]["json"]["error"] == "effect_uncertain"
            assert not done["no-flight", trip]
        elif outcome == "failed":
            assert trip.endswith("bad")
            order = list(dict.fromkeys(name for name, of in did if of == trip and name.startswith("no-")))
            assert order == ["no-hotel", "no-flight"], trip
        else:
            assert trip.endswith("good")
            assert (result["output"]["json"]["edition"], result["output"]["json"]["guide"]) == (began_with[trip], "nobody"), (
                trip
            )
            assert done["check", trip] >= 2
            assert result["output"]["json"]["sights"] == [f"{trip} {number}" for number in (1, 2, 3)]
            assert (done["flight", trip], done["hotel", trip], done["no-hotel", trip]) == (1, 1, 0), trip
    outcomes = Counter("undone" if one["status"] == "failed" else one["status"] for one in results.values())
    print(
        f"{kills} kills of {WORKERS} workers, {len(results)} workflow runs {'with' if keyed else 'without'} keys, "
        f"each with a try that fails, a compensation and an edited definition, "
        f"all ended within {told_s:.1f} s: {dict(outcomes)}; "
        f"{sum(done[name, trip] for trip in trips for name in ('flight', 'hotel'))} effects, 0 made twice, 0 undos missed"
    )


@pytest.mark.parametrize("keyed", [True, False], ids=["with a key", "without a key"])
async def test_a_run_that_is_cancelled_after_a_kill_in_the_middle_of_a_write_goes_to_review(
    tmp_path: Path, keyed: bool
) -> None:
    """Nobody knows whether the write took effect, so nothing is undone as if it had not; a write that has answered is none."""
    did: list[str] = []

    def answer(request: Received) -> Answer:
        name = request.path.strip("/")
        did.append(name)
        if name == "check":
            return Answer(status=409, body=b'{"error": "no visa"}')
        return Answer(body=b"{}", delay_s=60 if name == "hotel" else 0)

    async with Loopback(answer) as world:
        config = configuration(world)
        steps = {
            "flight": {**call("flight"), "undo": call("no-flight", idempotent=True)},
            "check": {**call("check"), "after": ["flight"], "compensate": {"do": "continue"}},
            "hotel": {**call("hotel"), "after": ["check"]},
        }
        config["workflows"] = {"trip": {"inputs": {"trip": {"type": "string"}}, "steps": steps}}
        async with (
            processes(tmp_path, world, 2, config) as (first, second),
            httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client,
        ):
            headers = {"Idempotency-Key": "trip"} if keyed else {}
            path = f"{first.url}/v1/workflows/trip/runs"
            asking = asyncio.create_task(client.post(path, json={"inputs": {"trip": "a"}}, headers=headers))
            await until(lambda: "hotel" in did, within_s=20)
            first.signal(signal.SIGKILL)
            killed_at = time.monotonic()
            await asyncio.gather(asking, return_exceptions=True)
            run_id = (await client.get(f"{second.url}/v1/orchestrations")).json()["data"][0]["id"]
            where = f"{second.url}/v1/orchestrations/{run_id}"
            await client.post(f"{where}/cancel")
            async with asyncio.timeout(60):
                while (found := (await client.get(where)).json())["status"] == "running":
                    await asyncio.sleep(0.1)
            took_s = time.monotonic() - killed_at
            reviews = (await client.get(f"{second.url}/v1/reviews")).json()["data"]
    assert (found["status"], did) == ("needs_review", ["flight", "check", "hotel"]), found
    assert found["output"]["json"] == {"step": "hotel", "error": "effect_uncertain"}
    (told,) = [one for one in found["warnings"] if "nothing was undone" in one]
    assert all(word in told for word in ("'hotel'", "took effect is not known", "cancelled")), told
    assert [one["run_id"] for one in reviews] == [run_id]
    print(f"cancelled after its process was killed in a write: sent to review {took_s:.1f} s after the kill")
