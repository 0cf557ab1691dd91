"""Calls that are not what they were when a person was asked: edited, forbidden meanwhile, gone, or leading elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.approving import ASK, URL, World, acts_on, decide, ended, paused, reconfigured, running
from tests.support.loopback import Answer, Received, as_json
from tests.support.serving import Serving

pytestmark = pytest.mark.usefixtures("state")


class Shop(World):
    """Orders need no title."""

    def __call__(self, request: Received) -> Answer:
        if request.path == "/orders":
            self.ordered.append((request.json or {}).get("title", "anything"))
            return as_json({"order": 7})
        return super().__call__(request)


@pytest.fixture
def world() -> World:
    return Shop()


@pytest.fixture
async def service(service: Serving) -> Serving:
    await reconfigured(service, _without_a_title)
    return service


def _without_a_title(config: Any) -> None:
    config["tools"]["http"]["order"]["input"] = {"type": "object", "properties": {"title": {"type": "string"}}}


async def test_a_call_is_made_without_arguments_where_none_were_put_in_place_of_its_own(service: Serving, world: World) -> None:
    result = await paused(service)
    approval = result["approvals"][0]
    assert (await decide(service.client, approval["id"], decision="edit", arguments={})).status_code == 200
    end = await ended(service.client, result["id"])
    assert (end["tool_calls"][0]["status"], end["tool_calls"][0]["edited"]) == ("succeeded", {})
    assert world.ordered == ["anything"]


async def test_the_trail_has_the_hash_of_the_call_that_was_approved(service: Serving) -> None:
    result = await paused(service)
    approval = result["approvals"][0]
    await decide(service.client, approval["id"], decision="edit", arguments={"title": "Nana"})
    await ended(service.client, result["id"])
    hashes = {(one["action"], one["decision"]): one["details"].get("hash") for one in await acts_on(service, result["id"])}
    assert hashes["approval.request", "requested"] == approval["hash"]
    assert hashes["approval.decide", "begun"] not in (None, approval["hash"])


def _denied(config: Any) -> None:
    config["tools"]["permissions"].append({"name": "no", "effect": "deny", "tools": ["order"]})


def _not_offered(config: Any) -> None:
    config["recipes"]["helper"]["options"] = {"tools": ["look"]}


def _gone(config: Any) -> None:
    del config["tools"]["http"]["order"]
    for rule in config["tools"]["permissions"]:  # a rule that names a tool which is not there would be a fault
        rule["tools"] = [name for name in rule["tools"] if name != "order"]


@pytest.mark.parametrize("change", [_denied, _not_offered, _gone])
@pytest.mark.parametrize("on_tool_error", ["tell", "fail"])
async def test_a_call_whose_tool_was_taken_away_is_refused_though_it_was_approved(
    service: Serving, world: World, change: Callable[[Any], None], on_tool_error: str
) -> None:
    result = await paused(service, {**ASK, "options": {"on_tool_error": on_tool_error}} if on_tool_error == "fail" else ASK)
    await reconfigured(service, change)
    approval = result["approvals"][0]["id"]
    assert (await decide(service.client, approval)).status_code == 200
    end = await ended(service.client, result["id"])
    (call,) = end["tool_calls"]
    assert (call["status"], call["error"]["code"], call["side_effect"]) == ("refused", "tool_forbidden", "write")
    assert (end["status"], (end["error"] or {}).get("code")) == (
        ("failed", "tool_forbidden") if on_tool_error == "fail" else ("succeeded", None)
    )
    assert [(one["id"], one["status"]) for one in end["approvals"]] == [(approval, "approved")]
    assert world.ordered == []
    if change is _denied:
        last = (await acts_on(service, result["id"]))[-1]
        assert (last["action"], last["decision"], last["details"]["rule"]) == ("tool.permission", "denied", "no")


async def test_without_keys_everybody_is_one_and_may_decide(tmp_path: Path, valkey: EmbeddedValkey, world: World) -> None:
    async with running(tmp_path, valkey, world, keys=[], approvals={"by_asker": False}) as service:
        result = (await service.client.post(URL, json=ASK)).json()
        approval = result["approvals"][0]["id"]
        decided = await service.client.post(f"/v1/approvals/{approval}", json={"decision": "deny"})
        assert (decided.status_code, decided.json()["status"]) == (200, "denied"), decided.text
