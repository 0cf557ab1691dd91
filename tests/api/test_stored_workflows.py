"""Workflows that tenants store: versions, pages, bounds, and what a change costs the processes that follow."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.serving import Serving, serving

STORED = "/v1/workflows"


@pytest.fixture
async def stored(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> AsyncIterator[Serving]:
    """A service whose store is empty before and afterwards."""
    await state.commands.flushall()
    async with serving(tmp_path, valkey.url) as service:
        yield service


def saying(name: str, text: str = "hello") -> dict[str, Any]:
    return {"name": name, "steps": {"say": {"transform": {"value": text}}}, "returns": "${steps.say.output}"}


def calling(name: str, other: str) -> dict[str, Any]:
    return {"name": name, "steps": {"call": {"workflow": {"name": other}}}, "returns": "${steps.call.output}"}


async def store(service: Serving, definition: dict[str, Any]) -> dict[str, Any]:
    said = await service.client.post(STORED, json=definition)
    assert said.status_code == 201, said.text
    return said.json()


async def run(service: Serving, name: str) -> str:
    said = await service.client.post(f"{STORED}/{name}/runs", json={})
    assert said.status_code == 200, said.text
    return said.json()["output"]["text"]


async def test_a_number_never_means_another_definition_also_after_it_was_removed(stored: Serving) -> None:
    for text in ("one", "two"):
        await store(stored, saying("it", text))
    assert (await stored.client.delete(f"{STORED}/it")).status_code == 204
    again = await store(stored, saying("it", "three"))
    assert (again["version"], again["versions"]) == (3, [3])
    assert (await stored.client.get(f"{STORED}/it@1")).status_code == 404
    assert await run(stored, "it@3") == "three"
    assert (await store(stored, saying("other")))["version"] == 1


async def test_the_list_is_short_rows_page_by_page(stored: Serving) -> None:
    names = [f"w{number:02}" for number in range(25)]
    for name in reversed(names):
        await store(stored, {**saying(name), "description": f"Says hello, {name}."})
    found: list[dict[str, Any]] = []
    cursor, pages = "", 0
    while cursor is not None:
        page = (await stored.client.get(STORED, params={"cursor": cursor, "limit": 10})).json()
        assert len(page["data"]) <= 10
        found += page["data"]
        cursor, pages = page["next_cursor"], pages + 1
    assert ([one["name"] for one in found], pages) == (names, 3)
    assert found[3] == {
        "name": "w03",
        "object": "workflow",
        "version": 1,
        "versions": [1],
        "source": "stored",
        "stored": True,
        "created_at": found[3]["created_at"],
        "description": "Says hello, w03.",
    }
    whole = (await stored.client.get(f"{STORED}/w03")).json()
    assert whole["diagram"].startswith("flowchart")
    assert whole["definition"]["steps"]
    said = await stored.client.get(STORED, params={"cursor": "nonsense"})
    assert (said.status_code, said.json()["error"]["param"]) == (400, "cursor")


async def test_the_longest_name_stands_in_a_cursor(stored: Serving) -> None:
    names = [letter * 64 for letter in "ab"]
    for name in names:
        await store(stored, saying(name))
    first = (await stored.client.get(STORED, params={"limit": 1})).json()
    rest = (await stored.client.get(STORED, params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert [one["name"] for one in (*first["data"], *rest["data"])] == names


async def test_a_change_costs_what_has_changed_and_not_what_there_is(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    await state.commands.flushall()
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(serving(tmp_path, valkey.url)) for _ in range(2)]
        for number in range(30):
            await store(here, saying(f"big{number}", f"{number}" + "x" * 40_000))
        await seen(there, "big29")
        before = await sent(state)
        await store(here, saying("small"))
        await seen(there, "small")
        moved = await sent(state) - before
        assert len(await run(there, "big7")) == 40_001
    print(f"30 workflows of 40 kB are stored; storing a small one moved {moved / 1e3:.0f} kB to two processes")
    assert moved < 300_000


async def seen(service: Serving, name: str) -> None:
    """Waits until a process knows a workflow."""
    end = time.monotonic() + 10
    while (await service.client.get(f"{STORED}/{name}/diagram")).status_code == 404:
        assert time.monotonic() < end, f"{name} is not seen"


async def sent(state: StateClient) -> int:
    """Bytes that the store has sent in its life."""
    return int((await state.commands.info("stats"))["total_net_output_bytes"])


async def test_what_a_tenant_stores_is_bounded_in_bytes_and_what_is_removed_is_free_again(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    await state.commands.flushall()
    config = {"providers": {"mock": {"kind": "mock"}}, "workflow_limits": {"max_total_bytes": 100_000, "max_versions": 3}}
    async with serving(tmp_path, valkey.url, config) as service:
        for name in "abc":
            await store(service, saying(name, "x" * 30_000))
        said = await service.client.post(STORED, json=saying("d", "x" * 30_000))
        assert (said.status_code, said.json()["error"]["code"]) == (429, "limit_exceeded")
        assert "workflow_limits.max_total_bytes is 100000" in said.json()["detail"]
        assert (await service.client.get(f"{STORED}/d")).status_code == 404
        await service.client.delete(f"{STORED}/a")
        await store(service, saying("d", "x" * 30_000))
        await service.client.delete(f"{STORED}/b")
        await service.client.delete(f"{STORED}/c")
        for _ in range(9):  # the oldest versions go first, and with them what they took
            last = await store(service, saying("d", "x" * 30_000))
        assert last["versions"] == [8, 9, 10]
