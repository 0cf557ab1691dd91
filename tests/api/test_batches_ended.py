"""What comes after the end of a batch: another round of what failed, and who is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import JOBS
from tests.api.test_batches import DIRECT, over, prompts, results, uploaded
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.serving import AT_ONCE, Serving, serving, until, upstream


@pytest.fixture(autouse=True)
async def empty(state: StateClient) -> None:
    await state.commands.flushall()


def telling(listener: Loopback, **more: Any) -> dict[str, Any]:
    """A configuration of webhooks to `listener`."""
    host = listener.url.removeprefix("http://")
    return {"webhooks": {"secret": "x" * 24, "hosts": [host], "private_hosts": [host], "first_delay_s": 0.02, **more}}


async def test_a_retry_of_nothing_leaves_it_as_it_was(service: Serving, state: StateClient) -> None:
    batch_id = await uploaded(service.client, prompts(70, **DIRECT))
    before = await over(service.client, batch_id)
    answer = await service.client.post(f"/v1/batches/{batch_id}/retry")
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["counts"]) == ("completed", before["counts"])
    assert answer.json()["finished_at"] is not None
    for key in await state.commands.keys("*batch_*"):
        assert await state.commands.ttl(key) > 0, key


async def test_a_retry_that_was_asked_for_twice_is_one_round(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    """The second is prepared while the first has ended already."""
    failing = Loopback(as_json({"error": {"message": "no"}}, 500))
    async with failing as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        batch_id = await uploaded(service.client, prompts(70, strategy="direct", models=["m"]))
        await over(service.client, batch_id)
        batches = service.app.state.services.jobs.batches
        store, prepared = batches._store, asyncio.Event()
        go_again = store.go_again

        async def late(*args: Any) -> None:
            if prepared.is_set():
                await over(service.client, batch_id)
            prepared.set()
            await go_again(*args)

        store.go_again = late
        both = [asyncio.create_task(service.client.post(f"/v1/batches/{batch_id}/retry")) for _ in range(2)]
        answers = await asyncio.gather(*both)
        assert {answer.status_code for answer in answers} <= {202, 409}
        batch = await over(service.client, batch_id)
        assert (batch["retries"], batch["counts"]["failed"], batch["counts"]["left"]) == (1, 70, 0)


async def test_the_end_of_each_round_is_an_event_of_its_own(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    well = False

    def answer(request: Received) -> Answer:
        return as_json(completion()) if well else as_json({"error": {"message": "no"}}, 500)

    async with Loopback(Answer()) as listener, Loopback(answer) as provider:
        config = {**upstream(provider.url), **telling(listener)}
        async with serving(tmp_path, valkey.url, config) as service:
            rows = prompts(3, strategy="direct", models=["m"])
            batch_id = await uploaded(service.client, rows, webhook=listener.url)
            await until(lambda: len(listener.received) == 1, within_s=10)
            well = True
            await service.client.post(f"/v1/batches/{batch_id}/retry")
            await until(lambda: len(listener.received) == 2, within_s=10)
            first, second = (event.headers["webhook-id"] for event in listener.received)
            assert first == f"evt_{batch_id}"
            assert second == f"evt_{batch_id}_1"
            assert listener.received[1].json["id"] == second
            assert [event.json["data"]["counts"]["failed"] for event in listener.received] == [3, 0]


async def test_an_end_that_is_none_any_more_is_not_told(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    """Its lines are run again while its first end waits to be delivered."""
    go, well = asyncio.Event(), False

    def answer(request: Received) -> Answer:
        made = as_json(completion()) if well else as_json({"error": {"message": "no"}}, 500)
        made.wait_for = go if well else None
        return made

    def hook(request: Received) -> Answer:
        return Answer(status=200 if go.is_set() else 500)

    async with Loopback(hook) as listener, Loopback(answer) as provider:
        config = {**upstream(provider.url), **telling(listener, first_delay_s=0.5)}
        async with serving(tmp_path, valkey.url, config) as service:
            rows = prompts(3, strategy="direct", models=["m"])
            batch_id = await uploaded(service.client, rows, webhook=listener.url)
            await until(lambda: len(listener.received) == 1, within_s=10)
            well = True
            await service.client.post(f"/v1/batches/{batch_id}/retry")
            await until(lambda: len(provider.received) == 6, within_s=10)
            await asyncio.sleep(1.5)  # the delivery that was to be repeated is due
            go.set()
            await until(lambda: listener.received[-1].headers["webhook-id"] == f"evt_{batch_id}_1", within_s=10)
            assert {event.json["type"] for event in listener.received} == {"batch.completed"}


async def test_lines_that_cannot_be_read_any_more_are_given_up_once(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    """Another QUORUM_SECRET, say."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    config = {"providers": {"mock": AT_ONCE}}
    async with serving(tmp_path / "a", valkey.url, {**config, "jobs": {"embedded": False}}, secret="a" * 32) as one:
        batch_id = await uploaded(one.client, prompts(3, **DIRECT))
        async with serving(tmp_path / "b", valkey.url, config, secret="b" * 32) as other:
            await over(other.client, batch_id)
            async with asyncio.timeout(5):
                while await state.commands.exists(f"{JOBS}leases"):
                    await asyncio.sleep(0.02)
            assert not await state.commands.exists(f"{JOBS}delayed")
            letters = (await other.client.get("/v1/dead-letters")).json()["data"]
            assert [(letter["id"], letter["kind"]) for letter in letters] == [(batch_id, "batch")]
            refused = await other.client.post(f"/v1/batches/{batch_id}/retry")
            assert (refused.status_code, (await over(other.client, batch_id))["retries"]) == (409, 0)


async def test_lines_and_results_are_kept_from_its_end_on_however_long_it_took(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    keep_s, go = 60, asyncio.Event()

    def answer(request: Received) -> Answer:
        made = as_json(completion())
        made.wait_for = go if request.json["messages"][0]["content"] == "Say 99" else None
        return made

    async def lives_s() -> list[int]:
        keys = [key async for key in state.commands.scan_iter(f"*{batch_id}*:batch*")]
        assert len(keys) >= 3
        return [await state.commands.ttl(key) for key in keys]

    async with Loopback(answer) as provider:
        config = {**upstream(provider.url), "batches": {"keep_s": keep_s}, "jobs": {"max_wait_s": 1_000}}
        async with serving(tmp_path, valkey.url, config) as service:
            batch_id = await uploaded(service.client, prompts(100, strategy="direct", models=["m"]))
            await until(lambda: len(provider.received) == 100, within_s=20)
            async with asyncio.timeout(10):
                while len(await results(service.client, batch_id)) < 99:
                    await asyncio.sleep(0.02)
            assert min(await lives_s()) > 1_000, "a batch lives for as long as it may wait for its turn, and then some"
            go.set()
            await over(service.client, batch_id)
            async with asyncio.timeout(10):
                while not all(keep_s - 20 < left <= keep_s for left in await lives_s()):
                    await asyncio.sleep(0.02)
            assert (await service.client.post(f"/v1/batches/{batch_id}/retry")).status_code == 202
