"""Machines whose clocks are an hour wrong, ahead or behind: what waits, expires and is due is so by the clock of Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from app.state.embedded import EmbeddedValkey
from tests.support.approving import APP, ASK, URL, World, decide, ended, paused, pending_of, running
from tests.support.clocks import SkewedClock
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.serving import serving, upstream
from tests.support.valkey import running_valkey

HOUR = 3600.0
EARLY_S = 0.1
"""By so much clocks may differ that are read at different places."""
LATE_S = 15.0
"""A busy machine, and that what waits is looked after every 4 s."""

both_ways = pytest.mark.parametrize("skew_s", [-HOUR, HOUR], ids=["behind", "ahead"])
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def store() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def over(client: httpx.AsyncClient, run_id: str, within_s: float = 40, **headers: str) -> dict[str, Any]:
    """A run once it is neither at work nor waiting."""
    async with asyncio.timeout(within_s):
        while True:
            found = (await client.get(f"{URL}/{run_id}", headers=headers)).json()
            if found["status"] not in ("queued", "running", "needs_approval"):
                return found
            await asyncio.sleep(0.05)


@both_ways
async def test_a_paused_run_waits_in_the_queue_once_until_its_approval_has_expired(
    tmp_path: Path, store: EmbeddedValkey, skew_s: float
) -> None:
    world_, waits_s = World(), 6
    approvals = {"expire_s": waits_s}
    async with running(tmp_path, store, world_, clock=SkewedClock(skew_s), approvals=approvals) as service:
        before = count("quorum_jobs_total", kind="run", outcome="later")
        began = time.monotonic()
        run_id = (await service.client.post(URL, json={**ASK, "background": True}, headers=APP)).json()["id"]
        found = await over(service.client, run_id, **APP)
        took_s = time.monotonic() - began
        claims = count("quorum_jobs_total", kind="run", outcome="later") - before
    print(
        f"{skew_s:+.0f} s: a run that was paused for {waits_s} s ended after {took_s:.1f} s; it was put back {claims:.0f} times"
    )
    assert (found["error"] or found["tool_calls"][0]["error"])["code"] == "approval_expired"
    assert waits_s - EARLY_S < took_s < waits_s + LATE_S
    assert 1 <= claims <= 2
    assert world_.ordered == []


@both_ways
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}], ids=["without a key", "with a key"])
async def test_who_is_asked_has_the_time_that_was_promised(
    tmp_path: Path, store: EmbeddedValkey, skew_s: float, headers: dict[str, str]
) -> None:
    world_ = World()
    taken = count("quorum_takeovers_total")
    async with running(tmp_path, store, world_, clock=SkewedClock(skew_s), approvals={"expire_s": 60}) as service:
        waiting = await paused(service, ASK, **headers)
        (approval,) = waiting["approvals"]
        assert abs(approval["expires_at"] - time.time() - 60) < 10
        await asyncio.sleep(5)  # a sweep must have come, and left it alone
        assert count("quorum_takeovers_total") == taken
        assert [one["id"] for one in await pending_of(service.client, waiting["id"])] == [approval["id"]]
        assert (await decide(service.client, approval["id"])).status_code == 200
        assert (await ended(service.client, waiting["id"]))["status"] == "succeeded"
    assert world_.ordered == ["Emma"]


SECRET = "x" * 32
MOCK = {"providers": {"mock": {"kind": "mock"}}}
DONE = {"transform": {"value": "done"}, "after": ["wait"]}


ERRAND = {"input": "x", "strategy": "workflow", "options": {"workflow": "errand"}}


async def halted(client: httpx.AsyncClient, run_id: str) -> None:
    async with asyncio.timeout(20):
        while (await client.get(f"{URL}/{run_id}")).json()["status"] != "needs_approval":
            await asyncio.sleep(0.02)


@both_ways
@pytest.mark.parametrize("background", [False, True], ids=["asked for", "in the background"])
async def test_a_timer_that_one_machine_sets_is_over_for_another_when_it_is(
    tmp_path: Path, store: EmbeddedValkey, skew_s: float, background: bool
) -> None:
    waits_s = 4
    config = {**MOCK, "workflows": {"errand": {"steps": {"wait": {"wait": {"seconds": waits_s}}, "then": DONE}}}}
    async with serving(tmp_path, store.url, config, clock=SkewedClock(skew_s), secret=SECRET) as first:
        began = time.monotonic()
        run_id = (await first.client.post(URL, json={**ERRAND, "background": background})).json()["id"]
        await halted(first.client, run_id)
    async with serving(tmp_path, store.url, config, clock=SkewedClock(-skew_s), secret=SECRET) as second:
        found = await over(second.client, run_id)
        took_s = time.monotonic() - began
    print(f"{skew_s:+.0f} s, then {-skew_s:+.0f} s: a timer of {waits_s} s was over after {took_s:.1f} s")
    assert found["status"] == "succeeded"
    assert waits_s - EARLY_S < took_s < waits_s + LATE_S


@both_ways
async def test_a_run_that_is_woken_by_a_signal_does_not_take_its_timer_for_over(
    tmp_path: Path, store: EmbeddedValkey, skew_s: float
) -> None:
    waits_s = 8
    steps = {"go": {"wait": {"signal": "go"}}, "wait": {"wait": {"seconds": waits_s}}, "then": DONE}
    config = {**MOCK, "workflows": {"errand": {"steps": steps}}}
    async with serving(tmp_path, store.url, config, clock=SkewedClock(skew_s), secret=SECRET) as first:
        began = time.monotonic()
        run_id = (await first.client.post(URL, json=ERRAND)).json()["id"]
        await halted(first.client, run_id)
    async with serving(tmp_path, store.url, config, clock=SkewedClock(-skew_s), secret=SECRET) as second:
        assert (await second.client.post(f"{URL}/{run_id}/signals", json={"name": "go"})).status_code == 200
        assert (await over(second.client, run_id))["status"] == "succeeded"
        took_s = time.monotonic() - began
    assert waits_s - EARLY_S < took_s < waits_s + LATE_S


@both_ways
async def test_a_moment_that_is_waited_for_is_one_of_redis(tmp_path: Path, store: EmbeddedValkey, skew_s: float) -> None:
    until = time.time() + 3
    step = {"wait": {"until": datetime.fromtimestamp(until, UTC).isoformat()}}
    config = {**MOCK, "workflows": {"errand": {"steps": {"wait": step, "then": DONE}}}}
    async with serving(tmp_path, store.url, config, clock=SkewedClock(skew_s)) as service:
        run_id = (await service.client.post(URL, json=ERRAND)).json()["id"]
        assert (await over(service.client, run_id))["status"] == "succeeded"
    assert -EARLY_S < time.time() - until < LATE_S


@both_ways
async def test_a_deadline_passes_in_the_queue_as_fast_as_anywhere(tmp_path: Path, store: EmbeddedValkey, skew_s: float) -> None:
    never = Answer(wait_for=asyncio.Event())

    def answer(request: Received) -> Answer:
        return never if request.json["model"] == "m2" else as_json(completion("yes"))

    async with Loopback(answer) as provider:
        config = upstream(provider.url)
        nobody = {**config, "jobs": {"embedded": False}}
        servers, workers = tmp_path / "server", tmp_path / "worker"
        for place in (servers, workers):
            place.mkdir()
        async with (
            serving(servers, store.url, nobody, clock=SkewedClock(skew_s), secret=SECRET) as server,
            serving(workers, store.url, config, clock=SkewedClock(-skew_s), secret=SECRET),
        ):
            ids: list[str] = []
            for model, deadline_ms in (("m", 60_000), ("m2", 2_000)):
                body = {"input": "Hi", "strategy": "direct", "models": [model], "background": True}
                sent = {"X-Quorum-Deadline-Ms": str(deadline_ms)}
                ids.append((await server.client.post(URL, json=body, headers=sent)).json()["id"])
            ends = [await over(server.client, run_id) for run_id in ids]
    assert [end["status"] for end in ends] == ["succeeded", "failed"]
    assert ends[1]["error"]["code"] == "deadline_exceeded"


async def test_a_machine_that_is_ahead_drops_nobodys_runs_from_the_list(tmp_path: Path, store: EmbeddedValkey) -> None:
    config = {**MOCK, "runs": {"keep_s": 600}}
    body = {"input": "Hi", "strategy": "direct", "models": ["mock/mock-terse"], "stream": True}
    async with (
        serving(tmp_path, store.url, config, clock=SkewedClock(0), secret=SECRET) as right,
        serving(tmp_path, store.url, config, clock=SkewedClock(HOUR), secret=SECRET) as ahead,
    ):
        for service in (right, ahead):
            assert "run.finished" in (await service.client.post(URL, json=body)).text
            async with asyncio.timeout(10):
                while service is right and not (await right.client.get(URL)).json()["data"]:
                    await asyncio.sleep(0.02)
        async with asyncio.timeout(10):
            while len(listed := (await right.client.get(URL)).json()["data"]) < 2:
                await asyncio.sleep(0.02)
    assert abs(listed[0]["created_at"] - listed[1]["created_at"]) < 30
