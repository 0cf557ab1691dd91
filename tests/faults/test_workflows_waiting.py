"""Workflows that wait while all processes that knew of them are killed: they go on elsewhere, and nothing is done twice."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.test_workflows import call, tool
from tests.support.loopback import Answer, Loopback, Received
from tests.support.processes import processes
from tests.support.serving import until

pytestmark = pytest.mark.timeout(180)


def configuration(shop: Loopback) -> dict[str, Any]:
    host = shop.url.removeprefix("http://")
    inputs = {"trip": {"type": "string"}}
    before = {"flight": {**call("flight"), "undo": call("no-flight", idempotent=True)}}
    after = {"hotel": {**call("hotel"), "after": ["wait"]}}
    waits = {"told": {"signal": "go"}, "timed": {"seconds": 6}, "late": {"signal": "go", "within_s": 6}}
    return {
        "tools": {
            "hosts": [host],
            "private_hosts": [host],
            "builtins": [],
            "http": {name: tool(shop, name) for name in ("flight", "hotel", "no-flight")},
            "permissions": [{"effect": "allow", "tools": ["*"]}],
        },
        "workflows": {
            name: {"inputs": inputs, "steps": {**before, "wait": {"wait": wait, "after": ["flight"]}, **after}}
            for name, wait in waits.items()
        },
    }


@pytest.mark.parametrize("keyed", [True, False], ids=["with a key", "without a key"])
async def test_runs_that_wait_go_on_where_their_process_was_killed(tmp_path: Path, keyed: bool) -> None:
    did: list[str] = []

    def answer(request: Received) -> Answer:
        did.append(f"{request.path.strip('/')} {request.json['trip']}")
        return Answer(body=b"{}")

    async with (
        Loopback(answer) as world,
        processes(tmp_path, world, 2, configuration(world)) as (first, second),
        httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client,
    ):
        runs: dict[str, str] = {}
        for name in ("told", "timed", "late"):
            headers = {"Idempotency-Key": name} if keyed else {}
            path = f"{first.url}/v1/workflows/{name}/runs"
            said = await client.post(path, json={"inputs": {"trip": name}}, headers=headers)
            assert (said.status_code, said.json()["status"]) == (202, "needs_approval"), said.text
            runs[name] = said.json()["id"]
        first.signal(signal.SIGKILL)
        await asyncio.to_thread(first.process.wait, 30)
        assert did == ["flight told", "flight timed", "flight late"]
        began = time.monotonic()
        sent = await client.post(f"{second.url}/v1/orchestrations/{runs['told']}/signals", json={"name": "go"})
        assert sent.status_code == 200, sent.text
        ends: dict[str, str] = {}
        async with asyncio.timeout(60):
            while len(ends) < len(runs):
                for name, run_id in runs.items():
                    found = (await client.get(f"{second.url}/v1/orchestrations/{run_id}")).json()
                    if found["status"] not in ("running", "needs_approval"):
                        ends.setdefault(name, found["status"])
                await asyncio.sleep(0.1)
        took_s = time.monotonic() - began
    assert ends == {"told": "succeeded", "timed": "succeeded", "late": "failed"}
    assert sorted(did) == ["flight late", "flight timed", "flight told", "hotel timed", "hotel told", "no-flight late"]
    print(f"3 runs that waited {'with' if keyed else 'without'} keys, their process killed: all ended within {took_s:.1f} s")


async def test_a_run_goes_on_elsewhere_when_its_process_stops_and_its_client_is_told_where(tmp_path: Path) -> None:
    did: list[str] = []
    go = asyncio.Event()

    def answer(request: Received) -> Answer:
        did.append(request.path.strip("/"))
        return Answer(body=b"{}", wait_for=go if len(did) == 2 else None)

    async with Loopback(answer) as world:
        config = configuration(world)
        look = {"tool": {**call("hotel")["tool"], "idempotent": True}, "after": ["flight"]}
        config["workflows"] = {
            "trip": {"inputs": {"trip": {"type": "string"}}, "steps": {"flight": call("flight"), "look": look}}
        }
        async with (
            processes(tmp_path, world, 2, config, grace_s=0, drain_s=1) as (first, second),
            httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client,
        ):
            path = f"{first.url}/v1/workflows/trip/runs"
            asking = asyncio.create_task(client.post(path, json={"inputs": {"trip": "a"}}))
            await until(lambda: len(did) == 2, within_s=10)
            first.signal(signal.SIGTERM)
            said = await asking
            assert (said.status_code, said.json()["status"]) == (202, "running"), said.text
            go.set()
            async with asyncio.timeout(40):
                while True:
                    found = (await client.get(second.url + said.headers["location"])).json()
                    if found["status"] != "running":
                        break
                    await asyncio.sleep(0.1)
            assert (found["status"], did) == ("succeeded", ["flight", "hotel", "hotel"])
