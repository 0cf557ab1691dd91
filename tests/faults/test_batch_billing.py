"""What the lines of a batch used is booked to their tenant once, wherever in between the worker that had them is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import JOBS, batch_keys, limit_use
from tests.api.test_batches import over, prompts, uploaded
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.lossy_proxy import lossy_proxy
from tests.support.openai_wire import completion
from tests.support.serving import serving, until, upstream
from tests.support.valkey import running_valkey
from tests.support.workers import worker

LINES = 60
TOKENS = 5
"""What each answer states that it used."""
BUDGET = {"tenants": {"default": {"budget": {"tokens_per_day": 1_000_000}}}}
FROZEN_S = 3_600
"""Until the end of the test, if nobody thaws it."""


@pytest.fixture
def store() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


async def booked(state: StateClient) -> int:
    """Tokens of the tenant's day."""
    used = await state.commands.hget(limit_use("default", "tenant", "tokens_per_day"), "used")
    return int(used or 0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("before", ["settle", "batch_done"], ids=["its use is booked", "its result is stored"])
async def test_a_worker_that_is_killed_before_either_of_a_lines_writes_books_no_line_twice(
    tmp_path: Path, store: EmbeddedValkey, before: str
) -> None:
    state = StateClient(store.url)
    sha = state.script(before).sha.encode()
    async with Loopback(lambda request: as_json(completion())) as provider, lossy_proxy(store.url) as proxy:
        config = {**upstream(provider.url), **BUDGET}
        dark = {**config, "jobs": {"embedded": False}}
        async with serving(tmp_path, store.url, dark, secret="x" * 32) as server:
            with ExitStack() as workers:
                first = await asyncio.to_thread(workers.enter_context, worker(tmp_path / "one", proxy.url, config))
                proxy.freeze_at(sha, 5, FROZEN_S)
                batch_id = await uploaded(server.client, prompts(LINES, strategy="direct", models=["m"]))
                await until(lambda: proxy.frozen, within_s=20)
                first.kill()
                left = (await server.client.get(f"/v1/batches/{batch_id}")).json()["counts"]["left"]
                await state.commands.zadd(f"{JOBS}leases", {f"{batch_id}:0:0": 1})
                await asyncio.to_thread(workers.enter_context, worker(tmp_path / "two", store.url, config))
                batch = await over(server.client, batch_id)
        calls = len(provider.received)
    used = await booked(state)
    await state.close()
    assert batch["counts"] == {"total": LINES, "succeeded": LINES, "failed": 0, "left": 0, "waiting": 0}
    assert batch["usage"] == {"input_tokens": 3 * LINES, "output_tokens": 2 * LINES}
    assert 0 < left <= LINES
    assert used == TOKENS * LINES
    print(
        f"a worker killed before {before}: {LINES} lines ({left} left then), {calls} calls, "
        f"{used} tokens booked of {TOKENS * LINES}"
    )


@pytest.mark.timeout(120)
async def test_a_worker_that_was_only_thought_to_be_dead_and_its_successor_book_no_line_twice(
    tmp_path: Path, store: EmbeddedValkey
) -> None:
    """The first had asked two lines when it lost its store. Its successor asks one of them; then the first can write again,
    and does, before the successor comes to the other."""
    state, lines, held, go = StateClient(store.url), 12, asyncio.Event(), asyncio.Event()

    def answer(request: Received) -> Answer:
        return as_json(completion()) if not held.is_set() else Answer(wait_for=go, body=as_json(completion()).body)

    async with Loopback(answer) as provider, lossy_proxy(store.url) as proxy:
        config = {**upstream(provider.url), **BUDGET, "batches": {"concurrency": 2}}
        dark, narrow = ({**config, "jobs": jobs} for jobs in ({"embedded": False}, {"concurrency": 1}))
        async with serving(tmp_path, store.url, dark, secret="x" * 32) as server:
            with ExitStack() as workers:
                await asyncio.to_thread(workers.enter_context, worker(tmp_path / "one", proxy.url, config))
                proxy.freeze_at(state.script("batch_done").sha.encode(), 2, FROZEN_S)
                batch_id = await uploaded(server.client, prompts(lines, strategy="direct", models=["m"]))
                await until(lambda: proxy.frozen, within_s=20)
                results = batch_keys("default", batch_id).results(0)
                asked = len(provider.received)
                held.set()
                await state.commands.zadd(f"{JOBS}leases", {f"{batch_id}:0:0": 1})
                await asyncio.to_thread(workers.enter_context, worker(tmp_path / "two", store.url, narrow))
                await until(lambda: len(provider.received) > asked, within_s=20)
                before = await state.commands.hlen(results)
                proxy.thaw()
                async with asyncio.timeout(20):
                    while await state.commands.hlen(results) <= before:
                        await asyncio.sleep(0.02)
                go.set()
                batch = await over(server.client, batch_id)
        calls = len(provider.received)
    used = await booked(state)
    await state.close()
    assert batch["counts"]["succeeded"] == lines
    assert before < asked, "the first could write after its successor had begun"
    assert used == TOKENS * lines
    print(f"two workers with one part: {calls} calls for {lines} lines, {used} tokens booked of {TOKENS * lines}")
