"""Approvals, and processes that die around them: a run goes on wherever somebody is; an effect takes place at most once."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.state.embedded import EmbeddedValkey
from tests.support.approving import APP, World, decide, ended, pending_of, shop_config
from tests.support.clients import http_client
from tests.support.loopback import Answer, Loopback, Received
from tests.support.replicas import Reading
from tests.support.service import Service, service
from tests.support.serving import upstream
from tests.support.valkey import running_valkey

pytestmark = pytest.mark.timeout(240)
URL = "/v1/orchestrations"
PANEL = {"strategy": "simple", "models": ["m", "m2"], "options": {"tools": ["order"]}}


class Replicas:
    """Server processes over one store, started one after the other."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._store: EmbeddedValkey = self._stack.enter_context(running_valkey())
        self._count = 0

    def start(self, config: Mapping[str, Any]) -> Service:
        self._count += 1
        place = self._directory / f"server-{self._count}"
        place.mkdir()
        (place / "quorum.yaml").write_text(yaml.safe_dump(config))
        options = {"redis_url": self._store.url, "config": place / "quorum.yaml", "log_level": "error", "secret": "x" * 32}
        return self._stack.enter_context(service(place, factory="app.main:create_app", ready=False, **options))

    async def ready(self, *services: Service) -> None:
        for one in services:
            await asyncio.to_thread(one.wait_ready)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    made = Replicas(tmp_path)
    yield made
    made.close()


async def paused(client: httpx.AsyncClient, url: str, title: str, recipe: str = "helper", **headers: str) -> tuple[str, str]:
    """The ids of a run that waits, and of what it waits for."""
    answer = await client.post(f"{url}{URL}", json={"input": title, "recipe": recipe}, headers={**APP, **headers})
    assert answer.status_code == 202, answer.text
    result = answer.json()
    return result["id"], result["approvals"][0]["id"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_an_approval_granted_on_one_replica_resumes_the_run_on_another_after_both_were_restarted(
    replicas: Replicas, how: signal.Signals
) -> None:
    world = World()
    async with Loopback(world) as both, http_client() as client:
        config = {**upstream(both.url), **shop_config(both)}
        old = replicas.start(config), replicas.start(config)
        await replicas.ready(*old)
        plain = await paused(client, old[0].url, "Emma")
        keyed = await paused(client, old[1].url, "Nana", **{"Idempotency-Key": "nana"})
        for one in old:
            one.signal(how)
            await asyncio.to_thread(one.process.wait, 30)
        new = replicas.start(config), replicas.start(config)
        await replicas.ready(*new)
        assert world.ordered == []
        waiting = {one["id"] for one in await pending_of(client, url=new[1].url)}
        assert waiting == {plain[1], keyed[1]}
        reading = Reading()
        reading.run_id = plain[0]
        async with http_client(new[0].url) as reader:
            read = asyncio.create_task(reading.go_on(reader, **APP))
            began = time.monotonic()
            for _, approval in (plain, keyed):
                assert (await decide(client, approval, url=new[1].url)).status_code == 200
            for run_id, _ in (plain, keyed):
                assert (await ended(client, run_id, url=new[0].url))["status"] == "succeeded"
            took_s = time.monotonic() - began
            await asyncio.wait_for(read, 20)
        assert reading.frames[-1].fields["event"] == "run.finished"
        body, headers = {"input": "Nana", "recipe": "helper"}, {**APP, "Idempotency-Key": "nana", "Prefer": "wait=20"}
        final = await client.post(f"{new[0].url}{URL}", json=body, headers=headers)
        assert (final.status_code, final.json()["status"]) == (200, "succeeded")
        assert sorted(world.ordered) == ["Emma", "Nana"]
        assert len(world.asked) == 4  # twice each: what the models had said before was not asked for again
    print(f"2 runs of two replicas that were restarted ({how.name}): both ended {took_s:.2f} s after they were approved")


@pytest.mark.parametrize("recipe", ["helper", "panel"])
async def test_a_write_is_never_made_before_its_approval_and_at_most_once_after_it(replicas: Replicas, recipe: str) -> None:
    rng = random.Random(11)
    titles = [f"book-{number}" for number in range(20)]
    world = World(order=lambda: Answer(body=b'{"order": 7}', delay_s=rng.uniform(0, 0.4)))
    async with Loopback(world) as both, http_client(timeout_s=120) as client:
        config = {**upstream(both.url), **shop_config(both)}
        config["recipes"]["panel"] = PANEL
        first, second = replicas.start(config), replicas.start(config)
        await replicas.ready(first, second)
        waiting = await asyncio.gather(
            *(
                paused(client, first.url, title, recipe, **({"Idempotency-Key": title} if number % 2 else {}))
                for number, title in enumerate(titles)
            )
        )
        assert world.ordered == []

        async def approve(number: int, approval: str) -> bool:
            await asyncio.sleep(number * 0.03)
            try:
                return (await decide(client, approval, url=first.url)).status_code == 200
            except httpx.HTTPError:
                return False

        approving = [asyncio.ensure_future(approve(number, one[1])) for number, one in enumerate(waiting)]
        async with asyncio.timeout(60):
            while len(world.ordered) < len(titles) // 2:
                await asyncio.sleep(0.002)
        first.signal(signal.SIGKILL)
        killed_at = time.monotonic()
        approved = await asyncio.gather(*approving)
        begun = set(world.ordered)
        for (_, approval), done in zip(waiting, approved, strict=True):
            if not done:  # the answer was lost with the process: it may have been decided all the same
                assert (await decide(client, approval, url=second.url)).status_code in (200, 409)
        ends = [await ended(client, run_id, url=second.url, within_s=90) for run_id, _ in waiting]
        told_s = time.monotonic() - killed_at
    uncertain = {
        title
        for title, end in zip(titles, ends, strict=True)
        if (end["tool_calls"][0]["error"] or {}).get("code") == "effect_uncertain"
    }
    statuses = {title: end["status"] for title, end in zip(titles, ends, strict=True)}
    assert statuses == {title: "needs_review" if title in uncertain else "succeeded" for title in titles}
    assert len(world.ordered) == len(set(world.ordered))
    assert uncertain | set(world.ordered) == set(titles)
    assert uncertain
    print(
        f"{len(titles)} approved writes of {recipe}, "
        f"{len(begun)} begun by the process that was killed, {len(world.ordered)} effects, "
        f"{len(uncertain)} uncertain, all told within {told_s:.1f} s"
    )


class Slow(World):
    """Looking for a book takes longer than anybody waits."""

    def __call__(self, request: Received) -> Answer:
        if request.path.startswith("/books/"):
            return Answer(body=b"{}", delay_s=60)
        return super().__call__(request)


async def test_what_a_run_asked_for_that_has_lost_its_process_is_withdrawn(replicas: Replicas) -> None:
    world = Slow(("order", "Emma"), ("look", "Emma"))
    async with Loopback(world) as both, http_client() as client:
        config = {**upstream(both.url), **shop_config(both)}
        first, second = replicas.start(config), replicas.start(config)
        await replicas.ready(first, second)
        body = {"input": "Emma", "recipe": "helper"}
        asking = asyncio.create_task(client.post(f"{first.url}{URL}", json=body, headers=APP))
        async with asyncio.timeout(20):
            while not (waiting := await pending_of(client, url=second.url)):
                await asyncio.sleep(0.05)
        first.signal(signal.SIGKILL)
        killed_at = time.monotonic()
        await asyncio.wait([asking], timeout=10)
        end = await ended(client, waiting[0]["run_id"], url=second.url, within_s=60)
        assert (end["status"], end["error"]["code"]) == ("failed", "owner_lost")
        async with asyncio.timeout(10):
            while await pending_of(client, url=second.url):
                await asyncio.sleep(0.05)
        told_s = time.monotonic() - killed_at
        assert (await decide(client, waiting[0]["id"], url=second.url)).status_code == 409
        assert world.ordered == []
    print(f"1 approval of a run that had lost its process, withdrawn {told_s:.1f} s after that was killed")
