"""Calls that are not what they were when a person was asked: edited, forbidden meanwhile, gone, or leading elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.state.embedded import EmbeddedValkey
from tests.api.test_approvals import ASK, URL, paused, running
from tests.support.approving import APP, BOSS, ROOT, World, decide, ended
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
async def service(tmp_path: Path, valkey: EmbeddedValkey, world: World) -> AsyncIterator[Serving]:
    async with running(tmp_path, valkey, world) as made:
        config = config_of(made)
        config["tools"]["http"]["order"]["input"] = {"type": "object", "properties": {"title": {"type": "string"}}}
        await reconfigured(made, config)
        yield made


def config_of(service: Serving) -> Any:
    return yaml.safe_load(service.config.read_text())


async def reconfigured(service: Serving, config: Any) -> None:
    service.configure(config)
    answer = await service.client.post("/v1/admin/reload", headers=ROOT)
    assert answer.status_code == 200, answer.text


async def acts_on(service: Serving, run_id: str) -> list[Any]:
    """What the audit trail has of a run, the oldest first."""
    listed = await service.client.get("/v1/audit", params={"run_id": run_id}, headers=ROOT)
    return listed.json()["data"][::-1]


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
