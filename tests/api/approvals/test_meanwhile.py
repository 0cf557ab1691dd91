"""What has changed while a run waited for a person: its key, its recipe, or that it is wanted at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.api.idempotency.request import KeyedRequest, unpacked
from app.core.clock import SystemClock
from app.core.lifecycle import Pause
from app.core.principal import LOCAL
from app.orchestration.runs.hosted import Handing
from app.state.api_keys import ApiKeys
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.idempotency import RequestId
from app.state.keys import IDEMPOTENT_LEASES
from app.state.secrets import load_secret
from tests.support.approving import (
    APP,
    ASK,
    BOSS,
    ROOT,
    URL,
    World,
    decide,
    ended,
    paused,
    pending_of,
    reconfigured,
    running,
    shop_config,
)
from tests.support.loopback import Loopback
from tests.support.serving import Serving, serving, upstream

pytestmark = pytest.mark.usefixtures("state")
SECRET = "x" * 32


@pytest.fixture
async def service(tmp_path: Path, valkey: EmbeddedValkey, world: World) -> AsyncIterator[Serving]:
    async with running(tmp_path, valkey, world, {"secret": SecretStr(SECRET)}) as made:
        yield made


async def failed(service: Serving, run_id: str) -> str:
    """The code of the error that a run has ended with, read with a key that no test takes away."""
    async with asyncio.timeout(15):
        while True:
            found = (await service.client.get(f"{URL}/{run_id}", headers=ROOT)).json()
            if found["status"] not in ("running", "needs_approval"):
                assert found["status"] == "failed"
                return found["error"]["code"]
            await asyncio.sleep(0.05)


def removed(config: Any) -> None:
    config["keys"] = [key for key in config["keys"] if key["name"] != "app"]


def moved(config: Any) -> None:
    config["keys"][0]["tenant"] = "b"


def may_only_read(config: Any) -> None:
    config["keys"][0]["scopes"] = ["read"]


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "emma"}])
@pytest.mark.parametrize(("change", "code"), [(removed, "unauthorized"), (moved, "unauthorized"), (may_only_read, "forbidden")])
async def test_a_run_does_not_go_on_for_a_key_that_may_not_have_it_run_any_more(
    service: Serving, world: World, change: Callable[[Any], None], code: str, key: dict[str, str]
) -> None:
    result = await paused(service, **key)
    await reconfigured(service, change)
    assert (await decide(service.client, result["approvals"][0]["id"])).status_code == 200
    assert await failed(service, result["id"]) == code
    assert (world.ordered, len(world.asked)) == ([], 1)


async def test_a_run_does_not_go_on_for_a_key_that_was_revoked(service: Serving, world: World, state: StateClient) -> None:
    keys = ApiKeys(state, load_secret(SECRET, service.config.parent), SystemClock())
    made, plain = await keys.create(name="clerk", tenant="a", scopes=["run", "read"])
    clerk = {"Authorization": f"Bearer {plain}"}
    await known(service, clerk, 200)
    result = await paused(service, **clerk)
    await keys.revoke(made.id)
    await known(service, clerk, 401)
    await decide(service.client, result["approvals"][0]["id"])
    assert await failed(service, result["id"]) == "unauthorized"
    assert world.ordered == []


async def known(service: Serving, key: dict[str, str], status: int) -> None:
    """Wait until the service answers `key` with `status`."""
    async with asyncio.timeout(10):
        while (await service.client.get(URL, headers=key)).status_code != status:
            await asyncio.sleep(0.02)


async def test_a_rule_for_a_scope_holds_no_more_once_the_key_has_lost_it(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    world = World()
    async with running(tmp_path, valkey, world) as service:
        rule = {"effect": "approve", "tools": ["order"], "scopes": ["tools"]}

        def wants_a_scope(config: Any) -> None:
            config["tools"]["permissions"] = [rule]
            config["keys"][0]["scopes"] = ["run", "read", "tools"]

        await reconfigured(service, wants_a_scope)
        result = await paused(service)
        await reconfigured(service, lambda config: config["keys"][0].update(scopes=["run", "read"]))
        await decide(service.client, result["approvals"][0]["id"])
        end = await ended(service.client, result["id"])
        assert (end["tool_calls"][0]["status"], world.ordered) == ("refused", [])


async def test_a_service_without_keys_goes_on_with_its_runs(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    world = World()
    async with running(tmp_path, valkey, world, keys=[]) as service:
        result = (await service.client.post(URL, json=ASK)).json()
        approval = result["approvals"][0]["id"]
        assert (await service.client.post(f"/v1/approvals/{approval}", json={"decision": "approve"})).status_code == 200
        assert (await ended(service.client, result["id"]))["status"] == "succeeded"
        assert world.ordered == ["Emma"]


async def test_a_run_that_was_asked_for_without_keys_fails_once_there_are_some(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    world = World()
    key = {"name": "boss", "key": "sk-boss-0123456789", "tenant": "default", "scopes": ["review", "read"]}
    async with running(tmp_path, valkey, world, keys=[]) as service:
        result = (await service.client.post(URL, json=ASK)).json()
        await reconfigured(service, lambda config: config.update(keys=[key]))
        approval = result["approvals"][0]["id"]
        nobody = await service.client.post(f"/v1/approvals/{approval}", json={"decision": "approve"})
        assert (nobody.status_code, world.ordered) == (401, [])
        assert (await decide(service.client, approval)).status_code == 200
        async with asyncio.timeout(15):
            while (end := (await service.client.get(f"{URL}/{result['id']}", headers=BOSS)).json())["status"] != "failed":
                await asyncio.sleep(0.05)
        assert end["error"]["code"] == "unauthorized"
        assert "asked for without a key" in end["error"]["message"]
        assert (world.ordered, len(world.asked)) == ([], 1)


async def test_a_run_of_the_admin_key_goes_on(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    world, admin = World(), {"Authorization": "Bearer the-admin-key-0123456789"}
    async with (
        Loopback(world) as both,
        serving(
            tmp_path,
            valkey.url,
            {**upstream(both.url), **shop_config(both, keys=[])},
            admin_key=SecretStr("the-admin-key-0123456789"),
        ) as service,
    ):
        result = (await service.client.post(URL, json=ASK, headers=admin)).json()
        path = f"/v1/approvals/{result['approvals'][0]['id']}"
        assert (await service.client.post(path, json={"decision": "approve"}, headers=admin)).status_code == 200
        async with asyncio.timeout(15):
            while (await service.client.get(f"{URL}/{result['id']}", headers=admin)).json()["status"] != "succeeded":
                await asyncio.sleep(0.05)
        assert world.ordered == ["Emma"]


async def test_a_run_does_not_go_on_in_another_strategy(service: Serving, world: World) -> None:
    result = await paused(service)
    await reconfigured(service, lambda config: config["recipes"]["helper"].update(strategy="direct"))
    await decide(service.client, result["approvals"][0]["id"])
    assert await failed(service, result["id"]) == "conflict"
    assert (world.ordered, len(world.asked)) == ([], 1)


@pytest.mark.parametrize("key", [False, True])
async def test_a_run_that_is_deleted_while_it_is_decided_on_is_not_begun_again(
    tmp_path: Path, valkey: EmbeddedValkey, world: World, key: bool
) -> None:
    places = [tmp_path / name for name in ("one", "other")]
    for place in places:
        place.mkdir()
    ghosts = begun_again = 0
    async with running(places[0], valkey, world) as one, running(places[1], valkey, world) as other:
        for number in range(60):
            world.asked.clear()
            result = await paused(one, **({"Idempotency-Key": f"k{number}"} if key else {}))
            approval = result["approvals"][0]["id"]
            deciding = asyncio.create_task(decide(one.client, approval))
            await asyncio.sleep(number % 20 / 2000)  # so that they meet at every step
            deleted = await other.client.delete(f"{URL}/{result['id']}", headers=APP)
            await deciding
            assert deleted.status_code == 204
            await asyncio.sleep(0.1)  # for what must not come
            begun_again += sum(asked["messages"][-1]["role"] == "user" for asked in world.asked) > 1
            ghosts += (await one.client.get(f"/v1/approvals/{approval}", headers=BOSS)).status_code == 200
            ghosts += bool(await pending_of(one.client))
    print(f"of 60 runs deleted while they were decided on: {begun_again} begun again, {ghosts} left an approval")
    assert (begun_again, ghosts) == (0, 0)


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "emma"}])
async def test_a_run_goes_on_under_the_ids_and_the_address_of_who_asked_for_it(
    tmp_path: Path, valkey: EmbeddedValkey, world: World, key: dict[str, str]
) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    told = {"X-Request-ID": "req-of-emma", "traceparent": f"00-{trace}-b7ad6b7169203331-01", **key}
    async with (
        Loopback(world) as both,
        serving(tmp_path, valkey.url, {**upstream(both.url), **shop_config(both)}) as service,
    ):
        result = await paused(service, **told)
        assert (result["request_id"], result["trace_id"]) == ("req-of-emma", trace)
        async with asyncio.timeout(3):
            while int(SystemClock().now()) == result["created_at"]:
                await asyncio.sleep(0.05)
        await decide(service.client, result["approvals"][0]["id"])
        end = await ended(service.client, result["id"])
        same = ("request_id", "trace_id", "created_at")
        assert [end[name] for name in same] == [result[name] for name in same]
        (order,) = [one for one in both.received if one.path == "/orders"]
        assert order.headers["traceparent"].split("-")[1] == trace
        assert order.headers["x-request-id"] == "req-of-emma"
        listed = (await service.client.get("/v1/audit", params={"run_id": result["id"]}, headers=ROOT)).json()["data"]
        done = [one for one in listed if one["action"] == "tool.execute"]
        assert [(one["request_id"], one["actor"]["address"]) for one in done] == [("req-of-emma", "127.0.0.1")] * 2


def test_a_request_that_an_older_release_has_stored_is_read() -> None:
    made = KeyedRequest(RequestId("a", "d"), "", "POST", URL, b"", (), b"{}", LOCAL, None, request_id="r", address="::1")
    packed = json.loads(made.packed())
    assert unpacked(made.id, json.dumps(packed)).request_id == "r"
    for name in ("request_id", "traceparent", "address"):
        del packed[name]
    older = unpacked(made.id, json.dumps(packed))
    assert (older.request_id[:4], older.traceparent, older.address) == ("req_", None, None)


async def test_a_run_whose_process_dies_while_it_is_about_to_be_paused_is_not_left_behind(
    tmp_path: Path, valkey: EmbeddedValkey, world: World, state: StateClient
) -> None:
    places = [tmp_path / name for name in ("one", "other")]
    for place in places:
        place.mkdir()
    async with running(places[0], valkey, world) as one, running(places[1], valkey, world) as other:
        services, held = one.app.state.services, asyncio.Event()
        hold = services.holds.hold

        async def dying(request: KeyedRequest, pause: Pause) -> Handing:
            await hold(request, pause)
            held.set()
            return await asyncio.get_running_loop().create_future()

        services.holds.hold = dying
        asking = asyncio.create_task(one.client.post(URL, json=ASK, headers=APP, timeout=60))
        await asyncio.wait_for(held.wait(), 10)
        (approval,) = await pending_of(other.client)
        (record,) = [key async for key in state.commands.scan_iter("*:idempotent")]
        assert await state.commands.hget(record, "state") == b"running"
        assert (await other.client.get(f"{URL}/{approval['run_id']}", headers=APP)).json()["status"] == "running"
        await state.commands.hset(record, "lease_until", 0)
        leases: Any = await state.commands.zrange(IDEMPOTENT_LEASES, 0, -1)
        await state.commands.zadd(IDEMPOTENT_LEASES, dict.fromkeys(leases, 0))
        await decide(other.client, approval["id"])
        end = await ended(other.client, approval["run_id"])
        assert (end["status"], world.ordered) == ("succeeded", ["Emma"])
        assert (await asking).json()["error"]["code"] == "owner_lost"
        answer = await asking
        assert answer.json()["error"]["code"] == "owner_lost"
