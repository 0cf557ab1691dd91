"""The process that goes on with an approved run is killed at any moment: the run goes on elsewhere, its write is made once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.approving import APP, BOSS, World, decide, ended, shop_config
from tests.support.loopback import Answer, Loopback, Received
from tests.support.processes import processes
from tests.support.service import Service, workers_of
from tests.support.serving import until

WORKERS = 2
AT_ONCE = 12
"""Runs that are decided on one after the other, while their processes are killed."""
ON_THEIR_WAY_S = 0.8
"""How long they take from the first decision to the last end, about."""
WITHIN_S = 20.0
"""By when a run goes on: its lease, 15 s, and a look for those that have none, every 4 s."""
SPARE_S = 5.0
"""For the rest of a run, and a machine that does other things."""


class Slow(World):
    """Orders take a while, and so does what is said of them."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(order=lambda: Answer(body=b'{"order": 7}', delay_s=rng.uniform(0, 0.3)))
        self._rng = rng

    def __call__(self, request: Received) -> Answer:
        answer = super().__call__(request)
        if request.path != "/orders" and request.json["messages"][-1]["role"] == "tool":
            answer.delay_s = self._rng.uniform(0, 0.2)
        return answer


class Runs:
    """Runs that wait, by the titles that they are to order. `told_s` is how long after the kill each had ended."""

    def __init__(self, client: httpx.AsyncClient, first: Service, second: Service) -> None:
        self.ends: dict[str, Any] = {}
        self.told_s: list[float] = []
        self._client, self._first, self._second = client, first, second

    async def paused(self, number: int, title: str) -> tuple[str, str]:
        """The ids of a run that waits, and of its approval."""
        headers = {**APP, "Idempotency-Key": title} if number % 2 else APP
        body = {"input": title, "recipe": "helper"}
        answer = await self._client.post(f"{self._second.url}/v1/orchestrations", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"], answer.json()["approvals"][0]["id"]

    async def decide(self, number: int, approval: str) -> None:
        await asyncio.sleep(number * 0.03)
        try:
            answer = await decide(self._client, approval, url=self._first.url)
        except httpx.HTTPError:  # killed before it could say so: it may be decided all the same
            answer = await decide(self._client, approval, url=self._second.url)
        assert answer.status_code in (200, 409), answer.text

    async def watch(self, title: str, run_id: str, killed_at: float) -> None:
        self.ends[title] = await ended(self._client, run_id, url=self._second.url, within_s=WITHIN_S + SPARE_S)
        self.told_s.append(time.monotonic() - killed_at)


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(3, marks=pytest.mark.timeout(240)),
        pytest.param(12, marks=(pytest.mark.full, pytest.mark.timeout(1200))),
    ],
)
async def test_a_run_that_was_approved_goes_on_elsewhere_when_its_process_is_killed(tmp_path: Path, rounds: int) -> None:
    rng = random.Random(29)
    world = Slow(rng)
    async with (
        Loopback(world) as both,
        processes(tmp_path, both, 2, shop_config(both), workers=WORKERS) as (first, second),
        httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client,
    ):
        runs = Runs(client, first, second)
        under_way = 0
        for number in range(rounds):
            titles = [f"book-{number}-{place}" for place in range(AT_ONCE)]
            victims = await served(first)
            waiting = [await runs.paused(place, title) for place, title in enumerate(titles)]
            assert not set(world.ordered) & set(titles)
            deciding = [asyncio.ensure_future(runs.decide(place, one[1])) for place, one in enumerate(waiting)]
            await killed(victims, rng)
            killed_at = time.monotonic()
            statuses = [await status_of(client, second, run_id) for run_id, _ in waiting]
            under_way += sum(status in ("running", "needs_approval") for status in statuses)
            pairs = zip(titles, waiting, strict=True)
            await asyncio.gather(*deciding, *(runs.watch(title, one[0], killed_at) for title, one in pairs))
        reviews = await until_reviewed(client, second, runs)
    uncertain = {title for title, end in runs.ends.items() if end["tool_calls"][0]["status"] == "failed"}
    assert {runs.ends[title]["tool_calls"][0]["error"]["code"] for title in uncertain} <= {"effect_uncertain"}
    assert {title: end["status"] for title, end in runs.ends.items()} == {
        title: "needs_review" if title in uncertain else "succeeded" for title in runs.ends
    }
    assert len(world.ordered) == len(set(world.ordered))
    assert uncertain | set(world.ordered) == set(runs.ends)
    assert reviews == {runs.ends[title]["id"] for title in uncertain}
    assert under_way
    print(
        f"{rounds * WORKERS} kills, {len(runs.ends)} approved runs, {under_way} under way when their process was killed: "
        f"all ended, {len(world.ordered)} effects, 0 made twice, {len(uncertain)} uncertain and to be reviewed, "
        f"the last told {max(runs.told_s):.1f} s after the kill"
    )


async def killed(victims: list[int], rng: random.Random) -> None:
    """Kill each of `victims` at some moment while runs are on their way."""
    moments = sorted(rng.uniform(0, ON_THEIR_WAY_S) for _ in victims)
    for victim, until_s, before_s in zip(victims, moments, [0, *moments], strict=False):
        await asyncio.sleep(until_s - before_s)
        os.kill(victim, signal.SIGKILL)


async def status_of(client: httpx.AsyncClient, server: Service, run_id: str) -> str:
    return (await client.get(f"{server.url}/v1/orchestrations/{run_id}", headers=APP)).json()["status"]


async def until_reviewed(client: httpx.AsyncClient, server: Service, runs: Runs) -> set[str]:
    """The runs in the review queue, once those that are to be reviewed are."""
    wanted = {end["id"] for end in runs.ends.values() if end["status"] == "needs_review"}
    async with asyncio.timeout(10):
        while True:
            found, cursor = set[str](), ""
            while cursor is not None:
                params = {"status": "pending", "limit": 100, "cursor": cursor}
                page = (await client.get(f"{server.url}/v1/reviews", params=params, headers=BOSS)).json()
                found |= {one["run_id"] for one in page["data"]}
                cursor = page["next_cursor"]
            if found >= wanted:
                return found
            await asyncio.sleep(0.05)


async def served(server: Service) -> list[int]:
    """The workers of `server`, once all serve."""
    await until(lambda: len(workers_of(server.process.pid)) == WORKERS, within_s=30)
    async with asyncio.timeout(30), httpx.AsyncClient(timeout=1) as client:
        while True:
            try:
                if (await client.get(f"{server.url}/readyz")).status_code == 200:
                    return workers_of(server.process.pid)
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.02)
