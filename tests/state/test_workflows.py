"""What tenants store of workflows, and how processes follow it."""

from __future__ import annotations

import pytest

from app.state.client import StateClient
from app.state.keys import WORKFLOW_CHANGES, WORKFLOWS, workflow_keys
from app.state.workflows import Bounds, Changed, TooMuch, Versions, WorkflowFeed, WorkflowStore

ROOM = Bounds(names=10_000, versions=20, total_bytes=1_000_000_000)


class Follower:
    """A process that follows what is stored."""

    def __init__(self, state: StateClient) -> None:
        self.there: dict[tuple[str, str], Versions] = {}
        self.told: list[Changed] = []
        self.feed = WorkflowFeed(state, WorkflowStore(state), self.held, self.change)

    def held(self, tenant: str, name: str) -> Versions:
        return self.there.get((tenant, name), ())

    def change(self, changed: Changed) -> None:
        self.told.append(changed)
        self.there = {**({} if changed.whole else self.there), **changed.workflows}

    @property
    def numbers(self) -> dict[str, list[int]]:
        """The versions by `tenant:name`, of those that are there."""
        return {f"{tenant}:{name}": [one.version for one in of] for (tenant, name), of in sorted(self.there.items()) if of}


async def put(state: StateClient, name: str, text: str = "x", tenant: str = "a", bounds: Bounds = ROOM) -> int | TooMuch:
    return await WorkflowStore(state).put(tenant, name, {"text": text}, 7, f"It is {text[:10]}.", bounds)


async def test_a_process_is_told_everything_once_and_then_what_changes(state: StateClient) -> None:
    for tenant in ("a", "b"):
        for text in ("one", "two"):
            await put(state, "it", text, tenant)
    follower = Follower(state)
    await follower.feed.load()
    assert follower.numbers == {"a:it": [1, 2], "b:it": [1, 2]}
    newest = follower.there["b", "it"][-1]
    assert (newest.definition(), newest.created_at, newest.description) == ({"text": "two"}, 7, "It is two.")

    first = follower.there["a", "it"][0]
    await put(state, "it", "three", "a")
    await WorkflowStore(state).remove("b", "it")
    await follower.feed.load()
    assert follower.numbers == {"a:it": [1, 2, 3]}
    assert (follower.told[-1].whole, set(follower.told[-1].workflows)) == (False, {("a", "it"), ("b", "it")})
    assert follower.there["a", "it"][0] is first  # and was not read again


async def test_many_changes_are_read_in_parts(state: StateClient) -> None:
    follower = Follower(state)
    await put(state, "first")
    await follower.feed.load()
    for number in range(1_003):
        await put(state, f"w{number}")
    await follower.feed.load()
    assert not follower.told[-1].whole
    assert len(follower.numbers) == 1_004
    afresh = Follower(state)
    await afresh.feed.load()
    assert afresh.there == follower.there


@pytest.mark.parametrize("lost", ["all of it", "the last writes", "the changes"])
async def test_a_store_that_is_not_what_it_was_is_read_whole(state: StateClient, lost: str) -> None:
    follower = Follower(state)
    await put(state, "old")
    await follower.feed.load()
    if lost == "all of it":
        await state.commands.flushall()
    if lost == "the last writes":  # as where a replica that lagged is the primary now
        keys = workflow_keys("a")
        await state.commands.delete(keys.names, keys.records, WORKFLOW_CHANGES)
        await state.commands.decr(WORKFLOWS.version)
    if lost == "the changes":
        await put(state, "old", "another")
        await state.commands.xtrim(WORKFLOW_CHANGES, maxlen=1, approximate=False)
    await put(state, "new")
    await put(state, "newer")
    await state.commands.xtrim(WORKFLOW_CHANGES, maxlen=1 if lost == "the changes" else 2, approximate=False)
    await follower.feed.load()
    assert follower.told[-1].whole
    assert follower.numbers == {"a:new": [1], "a:newer": [1]} | ({"a:old": [1, 2]} if lost == "the changes" else {})


async def test_numbers_go_on_after_a_name_was_removed_also_where_it_was_forgotten(state: StateClient) -> None:
    store = WorkflowStore(state, numbers_kept=3)
    for _ in range(5):
        await put(state, "often")
    await put(state, "stays")
    assert await store.remove("a", "often")
    assert await put(state, "often") == 6
    assert await store.remove("a", "often")
    for name in "bcd":
        await put(state, name)
        await store.remove("a", name)
    assert await state.commands.hlen(workflow_keys("a").numbers) == 2  # that of the one that is there, and where others begin
    assert await put(state, "often") == 7
    assert await put(state, "stays") == 2
    assert await put(state, "often", tenant="b") == 1
    assert not await store.remove("a", "nobody")


async def test_names_and_bytes_are_bounded_and_the_oldest_versions_go_first(state: StateClient) -> None:
    size = len(b'{"text":""}') + 100
    bounds = Bounds(names=2, versions=2, total_bytes=3 * size)
    assert [await put(state, "it", "x" * 100, bounds=bounds) for _ in range(3)] == [1, 2, 3]
    assert await put(state, "other", "x" * 100, bounds=bounds) == 1
    assert await put(state, "third", "x", bounds=bounds) == TooMuch("names", 2)
    assert await put(state, "other", "x" * 100, bounds=bounds) == TooMuch("bytes", 3 * size)
    assert await put(state, "it", "x" * 100, bounds=bounds) == 4
    follower = Follower(state)
    await follower.feed.load()
    assert follower.numbers == {"a:it": [3, 4], "a:other": [1]}
    assert await state.commands.hgetall(WORKFLOWS.records) == {b"a": str(3 * size).encode()}
    for name in ("it", "other"):
        await WorkflowStore(state).remove("a", name)
    assert await state.commands.hgetall(WORKFLOWS.records) == {b"a": b"0"}
