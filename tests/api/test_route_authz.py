"""Every route, asked by every role of another tenant for what is not its own: nothing is told, and nothing is changed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.state.embedded import EmbeddedValkey
from tests.api.test_access import ROLES, SCOPES
from tests.support.approving import World, shop_config
from tests.support.loopback import Loopback, as_json
from tests.support.serving import AT_ONCE, Serving, serving, upstream

pytestmark = pytest.mark.usefixtures("state")
CANARY = "canary4711"
"""In all that the first tenant says."""
TALK, FLOW = "their-talk", "their-flow"
TENANTS = ("a", "b")
KEYS = {(tenant, role): f"sk-{tenant}-{role}-0123456789" for tenant in TENANTS for role in ROLES}
ROUTES_OF_ALL = ("/v1/providers", "/v1/breakers", "/v1/admin", "/v1/models", "/v1/tools")
"""What is the installation's, and no tenant's."""


@dataclass(frozen=True)
class House:
    """A service with what the first tenant has left in it: a run, that of a panel, and what else it has, by routes."""

    service: Serving
    run: str
    panel: str
    ids: dict[str, str]

    async def ask(self, tenant: str, role: str, method: str, path: str) -> httpx.Response:
        """A route, for what belongs to the first tenant, with a body that it takes."""
        body: Any = None
        if method == "POST":
            body = BODIES.get(path, {})
            body = body | {"run_id": self.panel} if path == "/v1/feedback" else body
        for begin, name in self.ids.items():
            if path.startswith(begin):
                path = path.replace("{id}", name).replace("{name}", name)
        path = path.replace("{name:path}", "mock/mock-terse").replace("{breaker_id:path}", "nobody").replace("{name}", "nobody")
        return await self.service.client.request(method, path, json=body, headers=key(tenant, role))


BODIES: dict[str, Any] = {
    "/v1/approvals/{id}": {"decision": "approve"},
    "/v1/reviews/{id}": {"decision": "accept"},
    "/v1/feedback": {"score": 1},
    "/v1/batches": {"items": [{"input": "Hi", "strategy": "direct", "models": ["mock/mock-terse"]}]},
    "/v1/workflows/{name}/runs": {"inputs": {}},
    "/v1/orchestrations/{id}/signals": {"name": "paid", "payload": {}},
    "/v1/orchestrations": {"input": "What did the others say?", "strategy": "direct", "models": ["mock/mock-terse"]},
    "/v1/orchestrations/estimate": {"input": "Hi", "strategy": "direct", "models": ["mock/mock-terse"]},
    "/v1/chat/completions": {"model": "mock/mock-terse", "messages": [{"role": "user", "content": "Hi"}]},
}


def key(tenant: str, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[tenant, role]}"}


@pytest.fixture
async def house(tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[House]:
    shop = World()
    async with Loopback(lambda asked: as_json({}) if asked.path == "/told" else shop(asked)) as world:
        up, host = upstream(world.url), world.url.removeprefix("http://")
        keys = [
            {"name": f"{tenant}-{role}", "key": text, "tenant": tenant, "scopes": [role]}
            for (tenant, role), text in KEYS.items()
        ]
        hooks = {"secret": "x" * 24, "hosts": [host], "private_hosts": [host]}
        providers = {**up["providers"], "mock": AT_ONCE}
        config = {**up, **shop_config(world), "keys": keys, "providers": providers, "webhooks": hooks}
        async with serving(tmp_path, valkey.url, config) as service:
            yield await lived_in(service, f"{world.url}/told")


async def lived_in(service: Serving, webhook: str) -> House:
    async def post(path: str, role: str, body: Any, status: int) -> Any:
        answer = await service.client.post(path, json=body, headers=key("a", role))
        assert answer.status_code == status, answer.text
        return answer

    direct = {"input": f"My secret is {CANARY}.", "strategy": "direct", "models": ["mock/mock-terse"]}
    behind = {"background": True, "webhook": webhook}
    run = (await post("/v1/orchestrations", "run", {**direct, **behind, "conversation_id": TALK}, 202)).json()["id"]
    lines = {"items": [{**direct, "custom_id": CANARY}], "webhook": webhook}
    batch = (await post("/v1/batches", "run", lines, 202)).json()["id"]
    unsure = {
        "input": f"What is 17 * 23, {CANARY}?",
        "strategy": "consensus",
        "models": ["mock/mock-swift", "mock/mock-careful"],
        "options": {"extract": {"type": "number"}, "review_below": 1},
    }
    panel = (await post("/v1/orchestrations", "run", unsure, 200)).json()["id"]
    waiting = (await post("/v1/orchestrations", "run", {"input": CANARY, "recipe": "helper"}, 202)).json()
    step = {"transform": {"value": "${inputs.text}"}}
    workflow = {"name": FLOW, "inputs": {"text": {"type": "string", "default": CANARY}}, "steps": {"say": step}}
    await post("/v1/workflows", "admin", {**workflow, "returns": "${steps.say.output}"}, 201)
    await post("/v1/feedback", "feedback", {"run_id": panel, "score": 1}, 201)
    async with asyncio.timeout(20):
        for begin, name in (("/v1/orchestrations/", run), ("/v1/batches/", batch)):
            while not (await service.client.get(f"{begin}{name}/deliveries", headers=key("a", "read"))).json()["data"]:
                await asyncio.sleep(0.05)
    ids = {
        "/v1/orchestrations/": run,
        "/v1/batches/": batch,
        "/v1/conversations/": TALK,
        "/v1/reviews/": panel.replace("run_", "rev_"),
        "/v1/approvals/": waiting["approvals"][0]["id"],
        "/v1/workflows/": FLOW,
    }
    return House(service, run, panel, ids)


def is_anothers(route: tuple[str, str]) -> bool:
    """Whether a route names something that belongs to a tenant."""
    return route[1] == "/v1/feedback" or ("{" in route[1] and not route[1].startswith(ROUTES_OF_ALL))


async def test_what_belongs_to_a_tenant_is_neither_told_nor_changed_to_or_by_another(house: House) -> None:
    statuses: Counter[int] = Counter()
    for route, scope in SCOPES.items():
        for role in ROLES:
            answer = await house.ask("b", role, *route)
            statuses[answer.status_code] += 1
            said = f"{role} of another tenant at {route}: {answer.status_code} {answer.text[:300]}"
            assert answer.status_code < 500, said
            if role not in (*scope.split(" or "), "admin"):
                assert answer.status_code == 403, said
            elif is_anothers(route):
                assert answer.status_code == 404, said
            assert CANARY not in answer.text, said
            assert '"a-' not in answer.text, said  # as the keys of the other tenant begin
            if answer.status_code != 404 and not route[1].startswith("/v1/audit"):  # which repeat the names that were asked for
                assert not any(name in answer.text for name in house.ids.values()), said
    for begin, name in house.ids.items():
        kept = await house.service.client.get(f"{begin}{name}", headers=key("a", "admin"))
        assert kept.status_code == 200, f"{begin}{name}: {kept.text}"
        assert kept.json().get("status", "pending") in ("pending", "succeeded", "completed"), kept.text
    requests = sum(statuses.values())
    print(
        f"{len(SCOPES)} routes x {len(ROLES)} roles of another tenant: {requests} requests, {statuses[403]} refused, "
        f"{statuses[404]} told that there is nothing, 0 leaks"
    )


async def test_its_own_tenant_reads_all_of_it(house: House) -> None:
    """So that the test above has asked for what is there."""
    for route in SCOPES:
        if route[0] == "GET" and is_anothers(route):
            answer = await house.ask("a", "admin", *route)
            assert answer.status_code == 200, f"{route}: {answer.text}"
            told = (CANARY, FLOW, house.run, house.ids["/v1/batches/"], '"outcome":"delivered"')
            assert any(text in answer.text for text in told), route
