"""The audit trail over HTTP: what is done is in it, of the caller's tenant only, filtered, exported, signed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import audit_keys
from app.tools.audit.chain import public_keys
from app.tools.audit.verifying import Verifier
from tests.api.test_reviews import ASKED, queued, ran, review_of
from tests.support.serving import Serving, serving
from tests.support.valkey import running_valkey

KEYS = [
    {"name": name, "key": f"sk-{name}-0123456789", "tenant": tenant, "scopes": scopes}
    for name, tenant, scopes in [
        ("ann", "a", ["run", "read", "review", "admin"]),
        ("bob", "b", ["admin"]),
        ("reader", "a", ["run", "read", "review", "feedback", "tools"]),
    ]
]
QUICK = {"kind": "mock", "options": {"latency_scale": 0}}
MOCK = {"name": "my-mock", "kind": "mock", "api_key": "sk-canary-0123456789"}


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}-0123456789"}


@pytest.fixture
async def shared(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> AsyncIterator[Serving]:
    """A service of two tenants."""
    async with serving(tmp_path, valkey.url, {"providers": {"mock": QUICK}, "keys": KEYS}) as running:
        yield running


async def trail(service: Serving, name: str = "ann", **query: Any) -> list[dict[str, Any]]:
    answer = await service.client.get("/v1/audit", params=query, headers=key(name))
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def told(records: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The oldest first."""
    return [(record["action"], record["decision"], record["subject"]["id"]) for record in reversed(records)]


async def register(service: Serving, name: str = "my-mock", *, by: str = "ann") -> httpx.Response:
    return await service.client.post("/v1/providers", json={**MOCK, "name": name}, headers=key(by))


async def remove(service: Serving, name: str = "my-mock", *, by: str = "ann") -> httpx.Response:
    return await service.client.delete(f"/v1/providers/{name}", headers=key(by))


async def test_what_admins_do_is_recorded_before_and_after(shared: Serving):
    headers = {"x-request-id": "my-request", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01", **key("ann")}
    assert (await shared.client.post("/v1/providers", json=MOCK, headers=headers)).status_code == 201
    assert (await remove(shared)).status_code == 204
    assert (await shared.client.post("/v1/admin/reload", headers=key("ann"))).status_code == 200
    breaker = (await shared.client.get("/v1/breakers", headers=key("ann"))).json()["data"][0]["id"]
    assert (await shared.client.post(f"/v1/breakers/{breaker}/reset", headers=key("ann"))).status_code == 200

    records = await trail(shared)
    assert told(records) == [
        ("provider.register", "begun", "my-mock"),
        ("provider.register", "done", "my-mock"),
        ("provider.remove", "begun", "my-mock"),
        ("provider.remove", "done", "my-mock"),
        ("config.reload", "begun", str(shared.config)),
        ("config.reload", "done", str(shared.config)),
        ("breaker.reset", "begun", breaker),
        ("breaker.reset", "done", breaker),
    ]
    first = records[-1]
    assert first["actor"] == {"kind": "key", "id": "config:ann", "name": "ann", "address": "127.0.0.1"}
    assert (first["tenant"], first["request_id"], first["trace_id"]) == ("a", "my-request", "a" * 32)
    assert first["details"] == {"kind": "mock", "vendor": None, "host": None, "has_key": True}
    assert "canary" not in str(records)


async def test_a_key_that_asks_for_what_it_may_not_do_is_recorded_once_a_minute_at_each_route(shared: Serving):
    for path in ("/v1/audit", "/v1/audit", "/v1/audit/head", "/v1/audit"):
        assert (await shared.client.get(path, headers=key("reader"))).status_code == 403
    asked = await shared.client.post("/v1/tools/clock/execute", json={"arguments": {}}, headers=key("ann"))
    assert asked.status_code == 200  # of an admin, who may do everything
    assert (await shared.client.get("/v1/audit", headers={"Authorization": "Bearer sk-nobody"})).status_code == 401
    assert (await shared.client.get("/v1/audit")).status_code == 401
    records = await eventually(shared, 2, action="route.permission")
    assert told(records) == [
        ("route.permission", "denied", "GET /v1/audit"),
        ("route.permission", "denied", "GET /v1/audit/head"),
    ]
    assert {record["actor"]["name"] for record in records} == {"reader"}
    assert records[0]["details"] == {"scope": "admin", "left_out": 0}
    assert records[0]["request_id"].startswith("req_")
    assert await trail(shared, "bob", action="route.permission") == []


async def eventually(service: Serving, count: int, **query: Any) -> list[dict[str, Any]]:
    """Records that nobody waits for, once there are `count`."""
    async with asyncio.timeout(5):
        while len(records := await trail(service, **query)) < count:
            await asyncio.sleep(0.01)
    return records


async def test_what_failed_is_recorded_as_such(shared: Serving):
    shared.configure("providers: {mock: {kind: nonsense}}")
    assert (await shared.client.post("/v1/admin/reload", headers=key("ann"))).status_code == 400
    assert (await shared.client.post("/v1/breakers/nothing/reset", headers=key("ann"))).status_code == 404

    records = await trail(shared, decision="failed")
    assert told(records) == [("config.reload", "failed", str(shared.config)), ("breaker.reset", "failed", "nothing")]
    assert [record["details"]["error"] for record in records] == ["not_found", "config_invalid"]


async def test_a_review_and_a_deletion_are_recorded_with_their_run(shared: Serving):
    run = await ran(shared)
    await queued(shared, run)
    body = {"decision": "edit", "text": "a secret answer", "reviewer": "Ada"}
    assert (await shared.client.post("/v1/reviews/latest", json=body, headers=key("reader"))).status_code == 200
    assert (await shared.client.post(f"/v1/reviews/{review_of(run)}", json=body, headers=key("reader"))).status_code == 409
    assert (await shared.client.delete(f"/v1/orchestrations/{run['id']}", headers=key("ann"))).status_code == 204

    records = await trail(shared, run_id=run["id"])
    assert told(records) == [
        ("review.decide", "begun", review_of(run)),
        ("review.decide", "done", review_of(run)),
        ("review.decide", "begun", review_of(run)),
        ("review.decide", "failed", review_of(run)),
        ("run.delete", "begun", run["id"]),
        ("run.delete", "done", run["id"]),
    ]
    details = records[-1]["details"]
    assert (details["decision"], details["reviewer"]) == ("edit", "Ada")
    assert "secret answer" not in str(records)
    assert str(ASKED["input"]) not in str(records)


async def test_a_plain_run_is_not_recorded_and_costs_nothing(shared: Serving, state: StateClient):
    for _ in range(3):
        await ran(shared, options={"extract": {"type": "number"}})
    assert await trail(shared) == []
    assert not await state.commands.exists(audit_keys("a").records)


async def test_filters_and_pages(shared: Serving):
    for number in range(6):
        await register(shared, f"p-{number}")
    for number in range(6):
        await remove(shared, f"p-{number}")

    assert len(await trail(shared, limit=100)) == 24
    assert len(await trail(shared, action="provider.remove", limit=100)) == 12
    assert told(await trail(shared, action="provider.remove", decision="done", subject="p-3")) == [
        ("provider.remove", "done", "p-3")
    ]
    assert len(await trail(shared, subject="provider:p-3")) == 4
    assert await trail(shared, subject="tool:p-3") == []
    assert len(await trail(shared, actor="ann", limit=100)) == len(await trail(shared, actor="config:ann", limit=100)) == 24
    assert await trail(shared, actor="bob") == []
    some = (await trail(shared, limit=100))[7]
    assert len(await trail(shared, operation=some["operation"])) == 2
    assert {record["request_id"] for record in await trail(shared, request_id=some["request_id"])} == {some["request_id"]}

    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = await shared.client.get(
            "/v1/audit", params={"limit": 5, "cursor": cursor, "decision": "done"}, headers=key("ann")
        )
        seen += [record["seq"] for record in answer.json()["data"]]
        cursor = answer.json()["next_cursor"]
    assert seen == list(range(24, 0, -2))


async def test_times(shared: Serving):
    await register(shared)
    await asyncio.sleep(0.01)
    records = await trail(shared)
    moment = datetime.fromtimestamp(records[0]["time_ms"] / 1000, UTC) + timedelta(milliseconds=5)
    await asyncio.sleep(0.01)
    await remove(shared)

    assert told(await trail(shared, to=moment.isoformat()))[-1][0] == "provider.register"
    assert {action for action, *_ in told(await trail(shared, **{"from": moment.isoformat()}))} == {"provider.remove"}
    assert {action for action, *_ in told(await trail(shared, **{"from": moment.replace(tzinfo=None).isoformat()}))} == {
        "provider.remove"
    }
    assert await trail(shared, **{"from": "2100-01-01"}) == await trail(shared, to="2000-01-01") == []


@pytest.mark.parametrize(
    "query",
    [
        {"action": "x"},
        {"decision": "x"},
        {"cursor": "x"},
        {"cursor": "0"},
        {"from": "x"},
        {"limit": 0},
        {"actor": ""},
        {"acton": "x"},
    ],
)
async def test_a_wrong_filter_is_refused(shared: Serving, query: dict[str, Any]):
    answer = await shared.client.get("/v1/audit", params=query, headers=key("ann"))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(query))


@pytest.mark.parametrize("path", ["/v1/audit", "/v1/audit/head", "/v1/audit/export"])
async def test_only_admins_read_it_and_of_their_own_tenant(shared: Serving, path: str):
    await register(shared)
    assert (await shared.client.get(path, headers=key("reader"))).status_code == 403
    assert (await shared.client.get(path)).status_code == 401
    assert "my-mock" not in (await shared.client.get(path, headers=key("bob"))).text

    await remove(shared, by="bob")
    assert told(await trail(shared, "bob")) == [("provider.remove", "begun", "my-mock"), ("provider.remove", "done", "my-mock")]
    assert [record["seq"] for record in await trail(shared, "bob")] == [2, 1]
    assert len(await trail(shared, action="provider.register")) == 2
    assert await trail(shared, action="provider.remove") == []


async def test_an_export_of_times_that_are_none_is_refused(shared: Serving):
    answer = await shared.client.get("/v1/audit/export", params={"since": "2100-01-01"}, headers=key("ann"))
    assert answer.status_code == 400
    assert answer.json()["detail"] == "'since' is no filter; there are from, to"


async def export(service: Serving, name: str = "ann", **query: Any) -> list[bytes]:
    answer = await service.client.get("/v1/audit/export", params=query, headers=key(name))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/jsonl")
    return answer.content.splitlines()


async def test_an_export_is_checked_by_itself(shared: Serving):
    for _ in range(150):
        shared.app.state.services.audit.note(act_of_nobody(), "allowed")
    for _ in range(5):
        await register(shared)
        await remove(shared)

    *records, end = await export(shared)
    head = orjson.loads(end)
    assert (len(records), head["first_seq"], head["seq"]) == (170, 1, 170)
    verifier = Verifier(public_keys([head["public_key"]]), tenant="a")
    for line in records:
        verifier.add(line)
    assert verifier.finish(head) is None
    assert records[::-1][:20] == [orjson.dumps(record, option=orjson.OPT_SORT_KEYS) for record in await trail(shared)]

    half = orjson.loads(records[160])["time_ms"]
    since = datetime.fromtimestamp(half / 1000, UTC).isoformat()
    *later, end = await export(shared, **{"from": since})
    assert orjson.loads(end)["first_seq"] == orjson.loads(later[0])["seq"]
    assert all(orjson.loads(line)["time_ms"] >= half for line in later)
    assert (await shared.client.get("/v1/audit/export?from=2100-01-01", headers=key("ann"))).status_code == 404


def act_of_nobody() -> Any:
    from app.core.audit import SERVICE, Act

    return Act(tenant="a", actor=SERVICE, action="tool.permission", subject_kind="tool", subject="clock@1")


async def test_no_export_of_a_chain_that_was_changed(shared: Serving, state: StateClient):
    await register(shared)
    records = audit_keys("a").records
    await state.commands.xdel(records, "1-0")

    answer = await shared.client.get("/v1/audit/export", headers=key("ann"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "audit_broken")
    assert "record" in answer.json()["detail"]


async def test_a_head_is_signed_also_of_nothing(shared: Serving):
    assert (await shared.client.get("/v1/audit/head", headers=key("ann"))).json()["seq"] == 0
    assert [orjson.loads(line)["seq"] for line in await export(shared)] == [0]
    await register(shared)
    head = (await shared.client.get("/v1/audit/head", headers=key("ann"))).json()
    assert (head["seq"], head["last_hash"]) == (2, (await trail(shared))[0]["hash"])


@pytest.mark.parametrize("on_failure", ["refuse", "continue"])
async def test_while_the_store_is_away(tmp_path: Path, on_failure: str):
    """What an admin wants is not tried, or tried and recorded later, as the configuration says; plain calls go on."""
    config = {"providers": {"mock": QUICK}, "keys": KEYS, "audit": {"on_failure": on_failure}}
    with running_valkey() as server:
        if not hasattr(server, "data_dir"):
            pytest.skip("the store belongs to somebody else")
        async with serving(tmp_path, server.url, config) as service:
            breaker = (await service.client.get("/v1/breakers", headers=key("ann"))).json()["data"][0]["id"]
            server.stop()
            answer = await service.client.post(f"/v1/breakers/{breaker}/reset", headers=key("ann"))
            assert answer.status_code == 503
            assert ("audit trail" in answer.json()["detail"]) == (on_failure == "refuse")
            body = {"model": "mock/mock-swift", "messages": [{"role": "user", "content": "hi"}]}
            assert (await service.client.post("/v1/chat/completions", json=body, headers=key("ann"))).status_code == 200
            server.start()
            wanted = 0 if on_failure == "refuse" else 2
            async with asyncio.timeout(10):
                while (await service.client.get("/v1/audit", headers=key("ann"))).status_code != 200:
                    await asyncio.sleep(0.05)
                while len(await trail(service)) < wanted:
                    await asyncio.sleep(0.05)
            found = told(await trail(service))
            assert [decision for _, decision, _ in found] == ["begun", "uncertain"][:wanted]
