"""Runs as resources: followed, resumed, listed, cancelled and deleted, on whichever replica they run."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import run_keys
from tests.support.frames import frames
from tests.support.loopback import Loopback
from tests.support.replicas import ASK, Reading, replicas, result_of, slowly
from tests.support.serving import AT_ONCE, Serving, serving, until, upstream

GRACE_S = 0.4
TENANTS = {
    "providers": {"mock": AT_ONCE},
    "keys": [
        {"name": name, "key": f"sk-{name}-0123456789abcdef", "tenant": name, "scopes": ["run", "read"]}
        for name in ("one", "other")
    ],
}
PATHS = [("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("DELETE", "")]


def brief(url: str, **runs: Any) -> dict[str, Any]:
    return {**upstream(url), "runs": {"on_disconnect_grace_s": GRACE_S, **runs}}


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer sk-{name}-0123456789abcdef"}


async def ran(client: httpx.AsyncClient, **more: Any) -> Reading:
    """A run of the mock provider, read to its end."""
    reading = Reading()
    await reading.begin(client, {"input": "Hi", "strategy": "direct", "stream": True, **more})
    return reading


@pytest.mark.parametrize("drops", [100, pytest.param(1000, marks=[pytest.mark.full, pytest.mark.timeout(600)])])
async def test_who_drops_and_goes_on_elsewhere_has_every_event_once(tmp_path: Path, valkey: EmbeddedValkey, drops: int) -> None:
    """Reliability test 11."""
    rng, done, runs, began = random.Random(11), 0, 0, time.monotonic()
    async with Loopback(slowly(250, 0.004)) as provider, replicas(tmp_path, valkey.url, upstream(provider.url)) as services:
        while done < drops:
            reading, turn = Reading(), rng.randrange(2)
            await reading.begin(services[turn].client, most=rng.randrange(1, 12))
            while not reading.ended:
                done, turn = done + 1, 1 - turn
                await reading.go_on(services[turn].client, most=rng.randrange(1, 24))
            whole = Reading()
            whole.run_id, runs = reading.run_id, runs + 1
            await whole.go_on(services[0].client)
            assert reading.text == whole.text
            assert [int(frame.fields["id"]) for frame in reading.frames] == list(range(1, len(reading.frames) + 1))
            assert reading.answer == result_of(reading.frames)["output"]["text"] == "".join(f"w{n} " for n in range(250))
        assert len(provider.received) == runs
    print(f"sse-resume: {done} drops over 2 replicas in {runs} runs, 0 differences, {time.monotonic() - began:.1f} s")


async def test_a_run_without_any_reader_is_cancelled_after_its_grace(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    """Reliability test 12, for native streams."""
    async with (
        Loopback(slowly(5000, 0.01)) as provider,
        replicas(tmp_path, valkey.url, brief(provider.url)) as (here, there),
    ):
        reading = Reading()
        await reading.begin(here.client, most=5)
        left = time.monotonic()
        await until(lambda: provider.open == 0, within_s=GRACE_S + 1)
        took = time.monotonic() - left
        assert took + 0.05 >= GRACE_S
        print(f"disconnect: upstream closed {took:.2f} s after the last reader left, with a grace of {GRACE_S} s")
        await reading.go_on(there.client)
        assert [frame.fields["event"] for frame in reading.frames[-2:]] == ["warning", "run.finished"]
        result = result_of(reading.frames)
        assert result["status"] == "cancelled"
        assert result["output"]["text"] == reading.answer != ""
        assert result["output"]["finish_reason"] is None
        assert result["candidates"][0]["status"] == "cancelled"
        assert result["candidates"][0]["text"] == reading.answer
        assert (await there.client.get(f"/v1/orchestrations/{reading.run_id}")).json() == result


async def test_a_reader_on_another_replica_keeps_a_run_alive(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with (
        Loopback(slowly(300, 0.01)) as provider,
        replicas(tmp_path, valkey.url, brief(provider.url, on_disconnect_grace_s=1.2)) as (here, there),
    ):
        reading = Reading()
        await reading.begin(here.client, most=3)
        await reading.go_on(there.client)
        assert result_of(reading.frames)["status"] == "succeeded"
        assert reading.answer.endswith("w299 ")


async def test_a_run_that_is_to_continue_ends_without_readers(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with (
        Loopback(slowly(60, 0.01)) as provider,
        replicas(tmp_path, valkey.url, brief(provider.url, on_disconnect_grace_s=0.05)) as (here, there),
    ):
        reading = Reading()
        await reading.begin(here.client, {**ASK, "on_disconnect": "continue"}, most=3)
        await until_ended(there, reading.run_id)
        await reading.go_on(there.client)
        assert result_of(reading.frames)["status"] == "succeeded"
        assert reading.answer.endswith("w59 ")


async def until_ended(service: Serving, run_id: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while (found := (await service.client.get(f"/v1/orchestrations/{run_id}")).json())["status"] == "running":
            await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize("where", [0, 1], ids=["here", "elsewhere"])
async def test_a_run_is_cancelled_from_any_replica(tmp_path: Path, valkey: EmbeddedValkey, where: int) -> None:
    async with Loopback(slowly(5000, 0.01)) as provider, replicas(tmp_path, valkey.url, upstream(provider.url)) as services:
        reading, follower = Reading(), Reading()
        asking = asyncio.create_task(reading.begin(services[0].client))
        await until(lambda: reading.text.count("output.delta") > 3)
        follower.run_id = reading.run_id
        following = asyncio.create_task(follower.go_on(services[1].client))
        asked = time.monotonic()
        answer = await services[where].client.post(f"/v1/orchestrations/{reading.run_id}/cancel")
        await until(lambda: provider.open == 0, within_s=1)
        print(f"cancel from replica {where}: upstream closed within {time.monotonic() - asked:.2f} s")
        await asyncio.wait_for(asyncio.gather(asking, following), 5)
        assert answer.status_code == 200
        assert answer.json()["status"] == "cancelled"
        assert reading.text == follower.text
        assert reading.frames[-1].fields["event"] == "run.finished"
        assert result_of(reading.frames) == answer.json()
        again = await services[1 - where].client.post(f"/v1/orchestrations/{reading.run_id}/cancel")
        assert (again.status_code, again.json()) == (200, answer.json())


async def test_a_run_is_deleted_while_it_runs(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with Loopback(slowly(5000, 0.01)) as provider, replicas(tmp_path, valkey.url, upstream(provider.url)) as services:
        reading = Reading()
        asking = asyncio.create_task(reading.begin(services[0].client))
        await until(lambda: reading.text.count("output.delta") > 3)
        path = f"/v1/orchestrations/{reading.run_id}"
        assert (await services[1].client.delete(path)).status_code == 204
        await asyncio.wait_for(asking, 5)
        await until(lambda: provider.open == 0, within_s=1)
        assert result_of(reading.frames)["status"] == "cancelled"
        for method, more in PATHS:
            assert (await services[1].client.request(method, path + more)).status_code == 404
        listed = (await services[1].client.get("/v1/orchestrations")).json()["data"]
        assert reading.run_id not in [run["id"] for run in listed]


async def test_nobody_reads_or_ends_the_run_of_another_tenant(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    """Reliability test 17, for runs."""
    async with replicas(tmp_path, valkey.url, TENANTS) as services:
        reading = Reading()
        await reading.begin(services[0].client, {"input": "Hi", "strategy": "direct", "stream": True}, **key("one"))
        path = f"/v1/orchestrations/{reading.run_id}"
        for service in services:
            for method, more in PATHS:
                answer = await service.client.request(method, path + more, headers=key("other"))
                assert answer.status_code == 404
            listed = await service.client.get("/v1/orchestrations", headers=key("other"))
            assert listed.json()["data"] == []
            assert (await service.client.get(path, headers=key("one"))).json()["status"] == "succeeded"


async def test_who_is_too_far_behind_gets_a_resync(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    config = {**upstream(""), "runs": {"max_events": 40}}
    async with Loopback(slowly(150, 0.002)) as provider:
        config["providers"]["up"]["base_url"] = provider.url
        async with replicas(tmp_path, valkey.url, config) as (here, there):
            whole, late = Reading(), Reading()
            await whole.begin(here.client)
            late.run_id = whole.run_id
            await until_ended(there, whole.run_id)
            await late.go_on(there.client)
            first, *rest = late.frames
            assert first.fields["event"] == "resync"
            known = int(first.fields["id"])
            assert 0 < len(rest) < len(whole.frames) - 1
            assert [frame.fields for frame in rest] == [f.fields for f in whole.frames if int(f.fields["id"]) > known]
            so_far = first.json["result"]
            assert so_far["output"]["text"] + late_text(rest) == whole.answer
            assert so_far["candidates"][0]["text"].startswith(so_far["output"]["text"])


async def test_a_log_that_was_emptied_begins_again_with_a_resync(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    async with Loopback(slowly(200, 0.01)) as provider, replicas(tmp_path, valkey.url, upstream(provider.url)) as (here, there):
        reading, late = Reading(), Reading()
        asking = asyncio.create_task(reading.begin(here.client))
        await until(lambda: reading.text.count("output.delta") > 20)
        await state.commands.flushall()
        async with asyncio.timeout(5):
            while not await state.commands.exists(run_keys("default", reading.run_id).events):
                await asyncio.sleep(0.01)
        late.run_id = reading.run_id
        await late.go_on(there.client)
        await asking
        assert late.frames[0].fields["event"] == "resync"
        assert late.frames[0].json["result"]["output"]["text"] + late_text(late.frames[1:]) == reading.answer
        assert result_of(late.frames) == result_of(reading.frames)


def late_text(found: list[Any]) -> str:
    return "".join(frame.json["text"] for frame in found if frame.fields["event"] == "output.delta")


async def test_runs_are_listed_newest_first_by_pages_and_filters(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    await state.commands.flushall()
    async with serving(tmp_path, valkey.url) as service:
        made = [(await ran(service.client, metadata={"n": n})).run_id for n in range(5)]
        simple = (await ran(service.client, strategy="simple")).run_id
        await until_ended(service, simple)
        client, seen, cursor = service.client, list[str](), None
        for _ in range(4):
            query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            page = (await client.get("/v1/orchestrations", params=query)).json()
            seen += [run["id"] for run in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == [simple, *reversed(made)]
        only = (await client.get("/v1/orchestrations", params={"strategy": "simple"})).json()["data"]
        assert [run["id"] for run in only] == [simple]
        assert (await client.get("/v1/orchestrations", params={"status": "failed"})).json()["data"] == []
        assert (await client.get("/v1/orchestrations/latest")).json()["id"] == simple
        one = (await client.get("/v1/orchestrations", params={"limit": 6})).json()["data"][-1]
        assert one["request"]["metadata"] == {"n": 0}
        assert "Hi" not in str(one)
        await client.post("/v1/orchestrations", json={"input": "Hi", "strategy": "direct"})
        assert len((await client.get("/v1/orchestrations")).json()["data"]) == 6


async def test_events_that_have_expired_are_gone_and_the_result_is_not(service: Serving, state: StateClient) -> None:
    reading = await ran(service.client)
    path = f"/v1/orchestrations/{reading.run_id}"
    await until_stored(service, state, reading.run_id)
    await state.commands.delete(run_keys("default", reading.run_id).events)
    answer = await service.client.get(f"{path}/events")
    assert answer.status_code == 410
    assert answer.json()["error"]["code"] == "gone"
    assert (await service.client.get(path)).json() == result_of(reading.frames)
    assert await state.commands.ttl(run_keys("default", reading.run_id).record) > 86_000


async def until_stored(service: Serving, state: StateClient, run_id: str) -> None:
    async with asyncio.timeout(5):
        while await state.commands.hget(run_keys("default", run_id).record, "status") != b"succeeded":
            await asyncio.sleep(0.01)
    await until(lambda: service.app.state.services.host.find("default", run_id) is None)


@pytest.mark.parametrize("where", [0, 1], ids=["here", "elsewhere"])
async def test_who_asks_for_more_than_there_will_be_gets_the_end(tmp_path: Path, valkey: EmbeddedValkey, where: int) -> None:
    async with (
        Loopback(slowly(50, 0.01)) as provider,
        replicas(tmp_path, valkey.url, brief(provider.url)) as services,
    ):
        reading = Reading()
        await reading.begin(services[0].client, {**ASK, "on_disconnect": "continue"}, most=3)
        path = f"/v1/orchestrations/{reading.run_id}/events"
        for _ in ("while it runs", "afterwards"):
            answer = await services[where].client.get(path, headers={"last-event-id": "9999"})
            assert [frame.fields["event"] for frame in frames(answer.text)] == ["run.finished"]


async def test_who_has_the_last_event_is_told_that_nothing_comes(service: Serving, state: StateClient) -> None:
    reading = await ran(service.client)
    path = f"/v1/orchestrations/{reading.run_id}/events"
    for _ in range(2):
        answer = await service.client.get(path, headers={"last-event-id": reading.last})
        assert (answer.status_code, answer.content) == (204, b"")
        await until_stored(service, state, reading.run_id)
    ahead = await service.client.get(path, params={"after": 10**6})
    assert ahead.text.startswith("event: run.finished\n")


@pytest.mark.parametrize(
    ("path", "headers", "status", "param"),
    [
        ("/run_nobody", {}, 404, "id"),
        ("/run_aaaaaaaaaaaaaaaaaaaaaaaa", {}, 404, "id"),
        ("/run_aaaaaaaaaaaaaaaaaaaaaaaa/events", {}, 404, "id"),
        ("/run_aaaaaaaaaaaaaaaaaaaaaaaa/events", {"last-event-id": "x"}, 400, "Last-Event-ID"),
        ("/run_aaaaaaaaaaaaaaaaaaaaaaaa/events?after=-1", {}, 400, "after"),
        ("?limit=0", {}, 400, "limit"),
        ("?cursor=there", {}, 400, "cursor"),
        ("?status=odd", {}, 400, "status"),
    ],
)
async def test_bad_input_is_named(service: Serving, path: str, headers: dict[str, str], status: int, param: str) -> None:
    answer = await service.client.get(f"/v1/orchestrations{path}", headers=headers)
    assert answer.status_code == status, answer.text
    assert param in answer.json()["error"]["param"]


async def test_what_is_not_streamed_cannot_continue(service: Serving) -> None:
    body = {"input": "Hi", "strategy": "direct", "on_disconnect": "continue"}
    answer = await service.client.post("/v1/orchestrations", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "on_disconnect"
