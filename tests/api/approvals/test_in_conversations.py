"""Runs that wait for a person in a conversation keep nobody out of it; one that others have overtaken makes no more calls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.approving import APP, World, decide, ended
from tests.support.loopback import Answer, Received, as_json
from tests.support.openai_wire import completion
from tests.support.serving import Serving

pytestmark = pytest.mark.usefixtures("state")
URL = "/v1/orchestrations"
ASK = {"input": "Emma", "recipe": "helper", "conversation_id": "shopping"}
HELLO = {"input": "Hello", "strategy": "direct", "models": ["m2"], "conversation_id": "shopping"}


class Clerk(World):
    """As the shop, where `m2` only talks."""

    def __call__(self, request: Received) -> Answer:
        if not request.path.startswith(("/orders", "/books")) and request.json["model"] == "m2":
            return as_json(completion("Good day."))
        return super().__call__(request)


@pytest.fixture
def world() -> World:
    return Clerk()


async def asked(service: Serving, body: Any, status: int, **headers: str) -> Any:
    answer = await service.client.post(URL, json=body, headers={**APP, **headers})
    assert answer.status_code == status, answer.text
    return answer.json()


async def turns(service: Serving, name: str = "shopping") -> list[Any]:
    found = await service.client.get(f"/v1/conversations/{name}", headers=APP)
    return found.json()["data"] if found.status_code == 200 else []


@pytest.mark.parametrize("name", ["shopping", "new"])
@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "emma"}], ids=["plain", "keyed"])
async def test_its_turn_is_added_once_when_it_has_ended(service: Serving, world: World, key: dict[str, str], name: str) -> None:
    if name == "shopping":
        await asked(service, HELLO, 200)
    result = await asked(service, {**ASK, "conversation_id": name}, 202, **key)
    own = result["conversation_id"]
    assert len(await turns(service, own)) == (name == "shopping")
    await decide(service.client, result["approvals"][0]["id"])
    assert (await ended(service.client, result["id"]))["status"] == "succeeded"
    if key:
        final = await service.client.post(
            URL, json={**ASK, "conversation_id": name}, headers={**APP, **key, "Prefer": "wait=20"}
        )
        assert (final.status_code, final.json()["id"]) == (200, result["id"])
    last = [turn for turn in await turns(service, own) if turn["run_id"] == result["id"]]
    assert [[message["role"] for message in turn["messages"]] for turn in last] == [["user", "assistant", "tool", "assistant"]]
    again = {**HELLO, "conversation_id": own}
    assert (await asked(service, again, 200))["output"]["text"]  # nobody is kept out


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "emma"}], ids=["plain", "keyed"])
async def test_where_the_conversation_has_gone_on_meanwhile_the_call_is_not_made(
    service: Serving, world: World, key: dict[str, str]
) -> None:
    result = await asked(service, ASK, 202, **key)
    other = await asked(service, HELLO, 200)  # who waits keeps nobody out
    await decide(service.client, result["approvals"][0]["id"])
    end = await ended(service.client, result["id"])
    assert (end["status"], end["error"]["code"]) == ("failed", "conversation_changed")
    assert [turn["run_id"] for turn in await turns(service)] == [other["id"]]
    assert world.ordered == []
    if key:
        final = await service.client.post(URL, json=ASK, headers={**APP, **key, "Prefer": "wait=20"})
        assert (final.status_code, final.json()["error"]["code"]) == (409, "conversation_changed")


async def test_where_the_conversation_was_deleted_meanwhile_the_call_is_not_made(service: Serving, world: World) -> None:
    await asked(service, HELLO, 200)
    result = await asked(service, ASK, 202)
    assert (await service.client.delete("/v1/conversations/shopping", headers=APP)).status_code == 204
    await decide(service.client, result["approvals"][0]["id"])
    assert (await ended(service.client, result["id"]))["error"]["code"] == "conversation_changed"
    assert (world.ordered, await turns(service)) == ([], [])


async def test_one_that_is_cancelled_while_it_waits_leaves_no_turn(service: Serving) -> None:
    result = await asked(service, ASK, 202)
    assert (await service.client.post(f"{URL}/{result['id']}/cancel", headers=APP)).status_code == 200
    assert await turns(service) == []
    assert (await asked(service, HELLO, 200))["status"] == "succeeded"
