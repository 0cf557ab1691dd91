"""How runs of workflows end before their time: cancelled, left, out of budget, with a store that is away."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.state.embedded import EmbeddedValkey
from tests.api.test_workflows import World, ask, do, value, world
from tests.support.serving import until
from tests.support.valkey import running_valkey, server_pid

BOOKING = {
    "steps": {
        "flight": {**do("flight"), "undo": do("no flight")},
        "hotel": {**do("hotel"), "undo": do("no ${steps.hotel.output.id}"), "after": ["flight"]},
        "wait": {**do("wait", "look"), "after": ["hotel"]},
        "never": {**do("never"), "after": ["wait"]},
    }
}
UNDONE = ["flight", "hotel", "wait", "no id-hotel", "no flight"]


@pytest.fixture
def store() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


async def ended(client: httpx.AsyncClient, run_id: str, within_s: float = 20) -> dict[str, Any]:
    """A run once it is over."""
    async with asyncio.timeout(within_s):
        while True:
            found = (await client.get(f"/v1/orchestrations/{run_id}")).json()
            if found["status"] not in ("running", "needs_approval"):
                return found
            await asyncio.sleep(0.05)


async def listed(client: httpx.AsyncClient) -> str:
    """The id of the newest run."""
    return (await client.get("/v1/orchestrations")).json()["data"][0]["id"]


async def approving(there: World, tool: str, what: str) -> None:
    """Have a person asked about a call."""
    config = yaml.safe_load(there.service.config.read_text())
    rule = {"effect": "approve", "tools": [tool], "when": f"arguments.what == '{what}'", "reason": "it is big"}
    config["tools"]["permissions"].append(rule)
    there.service.configure(config)
    assert (await there.service.client.post("/v1/admin/reload")).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}], ids=["without a key", "with a key"])
async def test_a_run_that_is_cancelled_takes_back_what_it_did(
    tmp_path: Path, valkey: EmbeddedValkey, headers: dict[str, str]
) -> None:
    async with world(tmp_path, valkey, flow=BOOKING) as there:
        there.slow["wait"] = 60
        client = there.service.client
        asking = asyncio.create_task(client.post("/v1/workflows/flow/runs", json={}, headers=headers))
        await until(lambda: "wait" in there.did)
        run_id = await listed(client)
        assert (await client.post(f"/v1/orchestrations/{run_id}/cancel")).status_code in (200, 202)
        assert (await ended(client, run_id))["status"] == "cancelled"
        assert (await asking).json()["status"] == "cancelled"
        assert there.did == UNDONE


async def test_a_write_under_way_ends_and_is_taken_back_before_a_run_is_cancelled(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    inner = {"steps": {"a": {**do("a"), "undo": do("no a")}, "b": {**do("b"), "undo": do("no b"), "after": ["a"]}}}
    outer = {"steps": {"in": {"workflow": {"name": "inner"}}, "c": {**do("c"), "after": ["in"]}}}
    async with world(tmp_path, valkey, inner=inner, outer=outer) as there:
        there.slow["a"] = 0.5
        asking = asyncio.create_task(there.run("outer"))
        await until(lambda: "a" in there.did)
        client = there.service.client
        run_id = await listed(client)
        await client.post(f"/v1/orchestrations/{run_id}/cancel")
        assert (await asking)["status"] == "cancelled"
        assert there.did == ["a", "no a"]


async def test_a_run_whose_client_leaves_is_taken_back(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with world(tmp_path, valkey, flow=BOOKING) as there:
        there.slow["wait"] = 60
        client = there.service.client
        asking = asyncio.create_task(client.post("/v1/workflows/flow/runs", json={}))
        await until(lambda: "wait" in there.did)
        asking.cancel()
        run_id = await listed(client)
        assert (await ended(client, run_id))["status"] == "cancelled"
        assert there.did == UNDONE


@pytest.mark.parametrize(("tool", "what"), [("look", "wait"), ("do", "never")], ids=["reading", "writing"])
async def test_a_paused_run_that_is_cancelled_takes_back_what_it_did(
    tmp_path: Path, valkey: EmbeddedValkey, tool: str, what: str
) -> None:
    """A write that a person was asked about was not made: there is no doubt of it."""
    async with world(tmp_path, valkey, flow=BOOKING) as there:
        await approving(there, tool, what)
        client = there.service.client
        waiting = await there.run("flow")
        assert waiting["status"] == "needs_approval"
        before = ["flight", "hotel", *(["wait"] if what == "never" else [])]
        assert there.did == before
        assert (await client.post(f"/v1/orchestrations/{waiting['id']}/cancel")).status_code in (200, 202)
        found = await ended(client, waiting["id"])
        assert (found["status"], there.did) == ("cancelled", [*before, "no id-hotel", "no flight"])
        approvals = (await client.get("/v1/approvals")).json()["data"]
        assert [one["status"] for one in approvals if one["run_id"] == waiting["id"]] in (["withdrawn"], ["pending"])


async def test_a_run_is_deleted_only_once_it_has_taken_back_what_it_did(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with world(tmp_path, valkey, flow=BOOKING) as there:
        there.slow["wait"], there.slow["no flight"] = 60, 3
        client = there.service.client
        asking = asyncio.create_task(there.run("flow"))
        await until(lambda: "wait" in there.did)
        run_id = await listed(client)
        said = await client.delete(f"/v1/orchestrations/{run_id}")
        assert (said.status_code, "still takes back" in said.json()["detail"]) == (409, True)
        assert (await asking)["status"] == "cancelled"
        assert (await client.delete(f"/v1/orchestrations/{run_id}")).status_code == 204
        assert there.did == UNDONE


async def test_a_run_without_a_budget_left_is_taken_back_beyond_it(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    steps = {
        "a": {**do("a"), "undo": ask("what was a?")},
        "b": {**ask("b"), "after": ["a"]},
        "c": {**ask("c " * 4_000), "after": ["b"]},
    }
    async with world(tmp_path, valkey, flow={"steps": steps}) as there:
        said = await there.run("flow", budget={"tokens": 6_000})
        assert (said["status"], said["error"]["code"]) == (429, "budget_exceeded")
        assert there.asked == ["b", "what was a?"]


async def test_a_run_waits_for_a_store_that_is_away_and_is_taken_back_when_it_is_there_again(
    tmp_path: Path, store: EmbeddedValkey
) -> None:
    """Longer than any lease, so that somebody else may have taken the run over by then."""
    away_s = 17.0
    steps = {"a": {**do("a"), "undo": do("no a")}, "b": {**do("b"), "after": ["a"]}, "v": value(1)}
    async with world(tmp_path, store, flow={"steps": steps}) as there:
        there.slow["a"], there.broken["b"] = 0.5, 1
        asking = asyncio.create_task(there.run("flow"))
        await until(lambda: "a" in there.did)
        pid = server_pid(store.data_dir)
        assert pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(away_s)  # that is how long it is away
            assert (there.did, asking.done()) == (["a"], False)
        finally:
            os.kill(pid, signal.SIGCONT)
        back = time.monotonic()
        found = await asking
        took_s = time.monotonic() - back
        assert (found["status"], found["error"]["code"], there.did) == (502, "tool_failed", ["a", "b", "no a"])
        print(
            f"the store was away for {away_s:g} s: the run went on and was taken back {took_s:.1f} s after it was there again"
        )


async def removed(there: World) -> None:
    assert (await there.service.client.delete("/v1/workflows/mine")).status_code == 204


async def asking_for_more(there: World) -> None:
    """Another version, with an input that the run does not have."""
    body = {"name": "mine", "inputs": {"more": {"type": "string"}}, "steps": {"other": do("other")}}
    assert (await there.service.client.post("/v1/workflows", json=body)).status_code == 201


async def faulty(there: World) -> None:
    """By the configuration that is in force then."""
    config = yaml.safe_load(there.service.config.read_text())
    del config["workflows"]["inner"]
    there.service.configure(config)
    assert (await there.service.client.post("/v1/admin/reload")).status_code == 200


@pytest.mark.parametrize("change", [removed, asking_for_more, faulty])
@pytest.mark.parametrize("decision", ["approve", "cancel"])
@pytest.mark.parametrize("background", [False, True], ids=["waited for", "in the background"])
async def test_a_paused_run_goes_on_or_is_taken_back_by_the_definition_that_it_began_with(
    tmp_path: Path, valkey: EmbeddedValkey, change: Any, decision: str, background: bool
) -> None:
    inner = {"steps": {"in": do("in", "look")}}
    steps = {**BOOKING["steps"], "inner": {"workflow": {"name": "inner"}}}
    async with world(tmp_path, valkey, inner=inner) as there:
        client = there.service.client
        stored = await client.post("/v1/workflows", json={"name": "mine", "steps": steps})
        assert stored.status_code == 201, stored.text
        try:
            await approving(there, "look", "wait")
            run_id = (await there.run("mine", background=background))["id"]
            where = f"/v1/orchestrations/{run_id}"
            async with asyncio.timeout(10):
                while (await client.get(where)).json()["status"] != "needs_approval":
                    await asyncio.sleep(0.02)
            waiting = (await client.get(where)).json()
            assert sorted(there.did) == ["flight", "hotel", "in"]
            await change(there)
            if decision == "approve":
                path = f"/v1/approvals/{waiting['approvals'][0]['id']}"
                assert (await client.post(path, json={"decision": "approve"})).status_code == 200
            else:
                assert (await client.post(f"{where}/cancel")).status_code in (200, 202)
            found = await ended(client, run_id)
            if decision == "approve":
                assert (found["status"], sorted(there.did[3:])) == ("succeeded", ["never", "wait"]), found
                assert found["plan"]["options"]["version"] == stored.json()["version"]
            else:
                assert (found["status"], there.did[3:]) == ("cancelled", ["no id-hotel", "no flight"]), found
        finally:
            await client.delete("/v1/workflows/mine")


async def without_recipe(there: World) -> None:
    config = yaml.safe_load(there.service.config.read_text())
    del config["recipes"]
    there.service.configure(config)
    assert (await there.service.client.post("/v1/admin/reload")).status_code == 200


@pytest.mark.parametrize("wakes", ["approve", "cancel"])
@pytest.mark.parametrize("how", ["waited for", "with a key", "in the background", "chat"])
async def test_a_paused_run_whose_recipe_is_removed_is_taken_back_and_says_so(
    tmp_path: Path, valkey: EmbeddedValkey, how: str, wakes: str
) -> None:
    each = {
        "map": {"over": ["x", "y"], "do": do("${item}"), "concurrency": 1},
        "undo": do("no items ${inputs.input}"),
        "after": ["hotel"],
    }
    rest = {"wait": {**do("wait", "look"), "after": ["hotel"]}}
    flow = {"inputs": {"input": {"type": "string"}}, "steps": {**BOOKING["steps"], **rest, "each": each}}
    async with world(tmp_path, valkey, flow=flow) as there:
        config = yaml.safe_load(there.service.config.read_text())
        recipes = {"book": {"strategy": "workflow", "options": {"workflow": "flow"}}}
        there.service.configure({**config, "recipes": recipes})
        client = there.service.client
        assert (await client.post("/v1/admin/reload")).status_code == 200
        await approving(there, "do", "y")
        headers = {"Idempotency-Key": f"{how} {wakes}"} if how == "with a key" else {}
        if how == "chat":
            chat = {"model": "book", "messages": [{"role": "user", "content": "all"}]}
            said = await client.post("/v1/chat/completions", json=chat)
        else:
            body = {"recipe": "book", "input": "all", "background": how == "in the background"}
            said = await client.post("/v1/orchestrations", json=body, headers=headers)
        where = said.headers["location"]
        async with asyncio.timeout(10):
            while (waiting := (await client.get(where)).json())["status"] != "needs_approval":
                await asyncio.sleep(0.02)
        assert sorted(there.did) == ["flight", "hotel", "never", "wait", "x"]
        there.did.clear()
        await without_recipe(there)
        if wakes == "approve":
            path = f"/v1/approvals/{waiting['approvals'][0]['id']}"
            assert (await client.post(path, json={"decision": "approve"})).status_code == 200
        else:
            assert (await client.post(f"{where}/cancel")).status_code in (200, 202)
        found = await ended(client, waiting["id"])
        assert there.did == ["no items all", "no id-hotel", "no flight"]
        assert (found["status"], "'book'" in found["error"]["message"]) == ("failed", True), found["error"]
