"""Who may do what: every route against every key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from app.core.clock import SystemClock
from app.main import ROUTERS
from app.state.api_keys import ApiKeys
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.secrets import load_secret
from tests.support.serving import AT_ONCE, Serving, serving

FREE = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")}
SCOPES = {
    ("POST", "/v1/chat/completions"): "run",
    ("POST", "/v1/embeddings"): "run",
    ("POST", "/v1/orchestrations"): "run",
    ("GET", "/v1/orchestrations"): "read",
    ("GET", "/v1/orchestrations/{id}"): "read",
    ("GET", "/v1/orchestrations/{id}/events"): "read",
    ("GET", "/v1/orchestrations/{id}/deliveries"): "read",
    ("GET", "/v1/dead-letters"): "read",
    ("POST", "/v1/batches"): "run",
    ("GET", "/v1/batches"): "read",
    ("GET", "/v1/batches/{id}"): "read",
    ("GET", "/v1/batches/{id}/results"): "read",
    ("GET", "/v1/batches/{id}/deliveries"): "read",
    ("POST", "/v1/batches/{id}/cancel"): "run",
    ("POST", "/v1/batches/{id}/retry"): "run",
    ("POST", "/v1/orchestrations/{id}/cancel"): "run",
    ("POST", "/v1/orchestrations/{id}/signals"): "run",
    ("DELETE", "/v1/orchestrations/{id}"): "run",
    ("GET", "/v1/conversations/{id}"): "read",
    ("DELETE", "/v1/conversations/{id}"): "run",
    ("POST", "/v1/orchestrations/estimate"): "run",
    ("POST", "/v1/feedback"): "feedback",
    ("GET", "/v1/stats"): "read",
    ("GET", "/v1/reviews"): "read or review",
    ("GET", "/v1/reviews/{id}"): "read or review",
    ("POST", "/v1/reviews/{id}"): "review",
    ("GET", "/v1/approvals"): "read or review",
    ("GET", "/v1/approvals/{id}"): "read or review",
    ("POST", "/v1/approvals/{id}"): "review",
    ("GET", "/v1/tools"): "tools",
    ("GET", "/v1/tools/{name}"): "tools",
    ("POST", "/v1/tools/{name}/execute"): "tools",
    ("GET", "/v1/models"): "read",
    ("GET", "/v1/models/{name:path}"): "read",
    ("GET", "/v1/strategies"): "read",
    ("GET", "/v1/providers"): "read",
    ("POST", "/v1/providers"): "admin",
    ("DELETE", "/v1/providers/{name}"): "admin",
    ("POST", "/v1/providers/{name}/check"): "admin",
    ("GET", "/v1/workflows"): "read",
    ("POST", "/v1/workflows"): "admin",
    ("GET", "/v1/workflows/{name}"): "read",
    ("DELETE", "/v1/workflows/{name}"): "admin",
    ("GET", "/v1/workflows/{name}/diagram"): "read",
    ("POST", "/v1/workflows/{name}/runs"): "run",
    ("POST", "/v1/admin/reload"): "admin",
    ("GET", "/v1/audit"): "admin",
    ("GET", "/v1/audit/head"): "admin",
    ("GET", "/v1/audit/export"): "admin",
    ("GET", "/v1/breakers"): "read",
    ("POST", "/v1/breakers/{breaker_id:path}/reset"): "admin",
}
ROLES = ("run", "read", "feedback", "review", "tools", "admin")
KEYS = {role: f"sk-only-{role}-0123456789" for role in ROLES}
CONFIG = {
    "providers": {"mock": AT_ONCE},
    "keys": [{"name": role, "key": key, "scopes": [role]} for role, key in KEYS.items()],
}
RUN = {"input": "Hi", "strategy": "direct"}


@pytest.fixture
async def guarded(tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[Serving]:
    async with serving(tmp_path, valkey.url, CONFIG) as service:
        yield service


async def ask(service: Serving, route: tuple[str, str], **headers: str) -> int:
    """The status of an empty request to a route."""
    method, path = route
    path = path.replace("{name:path}", "mock/mock-terse").replace("{name}", "nobody")
    return (await service.client.request(method, path, headers=headers)).status_code


async def test_every_route_is_in_the_table(guarded: Serving) -> None:
    routes = {
        (m, route.path) for router in ROUTERS for route in router.routes if isinstance(route, APIRoute) for m in route.methods
    }
    assert routes == FREE | SCOPES.keys()
    pages = {route.path for route in guarded.app.routes if isinstance(route, Route) and not isinstance(route, APIRoute)}
    assert pages == {"/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/openapi.json"}


async def test_every_route_against_every_role(guarded: Serving) -> None:
    for route, scope in SCOPES.items():
        for role, key in KEYS.items():
            status = await ask(guarded, route, authorization=f"Bearer {key}")
            allowed = role in (*scope.split(" or "), "admin")
            assert (status not in (401, 403)) is allowed, f"{role} at {route}: {status}"
    print(f"{len(SCOPES)} routes x {len(KEYS)} roles: each let in where it may, and nowhere else")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {KEYS['admin']}"},
        {"authorization": KEYS["admin"]},
        {"authorization": f"Bearer {KEYS['admin']}x"},
        {"authorization": f"Bearer {KEYS['admin'].upper()}"},
        {"authorization": "Bearer wrong", "x-api-key": KEYS["admin"]},
        {"x-api-key": "wrong"},
        {"authorization": "Bearer k\u00e9y".encode("latin-1").decode("latin-1")},
    ],
)
async def test_nobody_gets_in_without_a_key(guarded: Serving, headers: dict[str, str]) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    for method, path in SCOPES:
        answer = await guarded.client.request(method, path.replace("{name:path}", "x").replace("{name}", "x"), headers=encoded)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["x-should-retry"] == "false"
        assert answer.json()["error"]["type"] == "authentication_error"


async def test_a_key_without_the_scope_is_told_which_it_lacks(guarded: Serving) -> None:
    answer = await guarded.client.post("/v1/orchestrations", json=RUN, headers={"authorization": f"Bearer {KEYS['read']}"})
    assert answer.status_code == 403
    assert answer.json()["detail"] == "the key 'read' lacks the scope 'run'; it has read"
    assert KEYS["read"] not in answer.text


async def test_a_key_without_either_scope_is_told_both(guarded: Serving) -> None:
    answer = await guarded.client.get("/v1/reviews", headers={"authorization": f"Bearer {KEYS['run']}"})
    assert answer.json()["detail"] == "the key 'run' lacks the scope 'read' or 'review'; it has run"


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
async def test_a_key_comes_in_either_header(guarded: Serving, header: str) -> None:
    value = KEYS["run"] if header == "x-api-key" else f"bearer  {KEYS['run']}"
    answer = await guarded.client.post("/v1/orchestrations", json=RUN, headers={header: value})
    assert answer.status_code == 200


async def test_free_routes_need_no_key(guarded: Serving) -> None:
    for _, path in (*FREE, ("GET", "/docs"), ("GET", "/openapi.json")):
        assert (await guarded.client.get(path)).status_code == 200, path


async def test_a_stored_key_works_within_a_second_and_stops_within_a_second(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    keys = ApiKeys(state, load_secret(None, tmp_path), SystemClock())
    async with serving(tmp_path, valkey.url) as service:

        async def becomes(status: int, key: str) -> None:
            async with asyncio.timeout(1.0):
                while await ask(service, ("GET", "/v1/models"), authorization=f"Bearer {key}") != status:
                    await asyncio.sleep(0.01)

        assert await ask(service, ("GET", "/v1/models")) == 200
        stored, key = await keys.create(name="reader", tenant="default", scopes=("read",))
        await becomes(200, key)
        assert await ask(service, ("GET", "/v1/models")) == 401
        assert await ask(service, ("POST", "/v1/admin/reload"), authorization=f"Bearer {key}") == 403
        await keys.revoke(stored.id)
        await becomes(401, key)
        assert await ask(service, ("GET", "/v1/models")) == 401, "revoking the last key must not open the service"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8000"}, 200),
        ({"host": "127.0.0.1"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "quorum.test"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "localhost@evil.example"}, 403),
        ({"host": "evil.example:80#localhost"}, 403),
        ({"host": ""}, 403),
        ({"host": "[::1"}, 403),
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
    ],
)
async def test_without_keys_only_this_machine_is_answered(
    tmp_path: Path, valkey: EmbeddedValkey, headers: dict[str, str], status: int
) -> None:
    async with serving(tmp_path, valkey.url, allowed_hosts=("quorum.test",)) as service:
        for method, path in SCOPES:
            if method == "GET" or status == 403:
                absent = "{id}" in path or path.startswith(
                    ("/v1/tools/{name}", "/v1/workflows/{name}")
                )  # nobody's run, no such tool
                there = 404 if absent and status == 200 else status
                assert await ask(service, (method, path), **headers) == there
        if status == 200:
            assert await ask(service, ("POST", "/v1/orchestrations"), **headers) == 400


async def test_an_insecure_service_answers_everybody(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with serving(tmp_path, valkey.url, insecure=True) as service:
        assert await ask(service, ("GET", "/v1/models"), host="evil.example", origin="https://evil.example") == 200
