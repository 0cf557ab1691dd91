"""The store freezes while somebody goes on with a run that was approved: that does not end it, and it goes on afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.approving import APP, BOSS, ROOT, World, asks_for, decide, shop_config
from tests.support.loopback import Answer, Loopback, Received
from tests.support.lossy_proxy import LossyProxy, lossy_proxy
from tests.support.serving import Serving, serving, upstream

pytestmark = pytest.mark.timeout(120)
URL = "/v1/orchestrations"
ASK = {"input": "Emma", "recipe": "helper"}
BRIEFLY_S, LONGER_S = 0.3, 0.7
"""Until after one command was given up, and until after what is done next, or sent again, was given up too."""
ASKED_LATE_S = 2.6
"""Longer than a deletion waits for the end of a run."""
COMMANDS = 10
"""Of those that name the run, from the decision on: to when its call is about to be made."""


def places(path: Path, numbers: Iterable[int]) -> list[Path]:
    """Directories for so many services."""
    made = [path / str(number) for number in numbers]
    for place in made:
        place.mkdir()
    return made


async def over(service: Serving, run_id: str) -> Any:
    """The result of a run, once it is over; while the store is away one asks again."""
    async with asyncio.timeout(30):
        while True:
            answer = await service.client.get(f"{URL}/{run_id}", headers=APP)
            if answer.status_code == 200 and answer.json()["status"] not in ("running", "needs_approval"):
                return answer.json()
            await asyncio.sleep(0.05)


async def gone_on(
    path: Path, valkey: EmbeddedValkey, number: int, frozen_s: float, headers: dict[str, str], *, goes: bool = True
) -> tuple[Any, list[str], float]:
    """The result of a run that was approved, what was ordered, and how long that took, where the store freezes at the
    `number`-th command that names it. Where it no longer `goes`, its recipe is taken away before."""
    world = World()
    async with Loopback(world) as both, lossy_proxy(valkey.url) as proxy:
        config = {**upstream(both.url), **shop_config(both)}
        async with serving(path, f"{proxy.url}/{number}", config) as service:
            answer = await service.client.post(URL, json=ASK, headers={**APP, **headers})
            assert answer.status_code == 202, answer.text
            result: Any = answer.json()
            if not goes:
                service.configure({**config, "recipes": {}})
                assert (await service.client.post("/v1/admin/reload", headers=ROOT)).status_code == 200
            began = time.monotonic()
            proxy.freeze_at(result["id"].encode(), number, frozen_s)
            while (decided := await decide(service.client, result["approvals"][0]["id"])).status_code == 503:
                pass
            assert decided.status_code in (200, 409)  # 409 where it was decided, and the answer was lost
            await frozen(proxy, world)
            return await over(service, result["id"]), world.ordered, time.monotonic() - began


async def frozen(proxy: LossyProxy, world: World) -> None:
    """Wait for the store to freeze, or to have no cause to: who looks at the run meanwhile names it too."""
    async with asyncio.timeout(20):
        while not (proxy.frozen or world.ordered):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("frozen_s", "key"), [(BRIEFLY_S, {}), (LONGER_S, {}), (BRIEFLY_S, {"Idempotency-Key": "emma"})])
async def test_a_run_goes_on_though_the_store_freezes_at_any_command_after_the_decision(
    tmp_path: Path, valkey: EmbeddedValkey, frozen_s: float, key: dict[str, str]
) -> None:
    found = enumerate(places(tmp_path, range(COMMANDS)))
    told = await asyncio.gather(*(gone_on(place, valkey, number, frozen_s, key) for number, place in found))
    for end, ordered, _ in told:
        (call,) = end["tool_calls"]
        assert end["status"] == "succeeded", end["error"]
        assert [one["status"] for one in end["approvals"]] == ["approved"]
        made = (call["status"], ordered) == ("succeeded", ["Emma"])
        assert made or (call["error"]["code"], ordered) == ("state_unavailable", [])
    made = sum(bool(ordered) for _, ordered, _ in told)
    longest = max(took_s for *_, took_s in told)
    print(
        f"{COMMANDS} freezes of {frozen_s} s after a decision: 0 runs lost, {made} calls made, all told within {longest:.1f} s"
    )


async def test_a_run_that_can_never_go_on_fails_though_the_store_freezes_meanwhile(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    numbers = range(2, 6)
    found = zip(numbers, places(tmp_path, numbers), strict=True)
    told = await asyncio.gather(*(gone_on(place, valkey, number, LONGER_S, {}, goes=False) for number, place in found))
    assert [(end["status"], end["error"]["code"]) for end, *_ in told] == [("failed", "not_found")] * len(numbers)
    assert [ordered for _, ordered, _ in told] == [[]] * len(numbers)


class Twice(World):
    """What was ordered is ordered again for Nana."""

    def __call__(self, request: Received) -> Answer:
        if request.path != "/orders" and len(request.json["messages"]) == 3:
            return asks_for(("order", "Nana"))
        return super().__call__(request)


async def test_a_run_that_is_deleted_while_it_asks_leaves_nothing(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    world = Twice()
    first, second = places(tmp_path, range(2))
    async with Loopback(world) as both, lossy_proxy(valkey.url) as proxy:
        config = {**upstream(both.url), **shop_config(both)}
        async with serving(first, proxy.url, config) as one, serving(second, valkey.url, config) as other:
            result = (await one.client.post(URL, json=ASK, headers=APP)).json()
            proxy.freeze_at(b'"arguments":{"title":"Nana"}', 0, ASKED_LATE_S)
            assert (await decide(one.client, result["approvals"][0]["id"])).status_code == 200
            async with asyncio.timeout(10):
                while not proxy.frozen:
                    await asyncio.sleep(0.01)
            assert (await other.client.delete(f"{URL}/{result['id']}", headers=APP)).status_code == 204
            await proxy.thawed()
            async with asyncio.timeout(10):
                while one.app.state.services.host.find("a", result["id"]) is not None:
                    await asyncio.sleep(0.01)
            listed = await other.client.get("/v1/approvals", params={"run_id": result["id"]}, headers=BOSS)
            assert listed.json()["data"] == []
    assert world.ordered == ["Emma"]
