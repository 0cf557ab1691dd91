"""Tools over HTTP: what there is, who may use it, running one, and at most once where it writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, as_json
from tests.support.ports import free_port
from tests.support.serving import AT_ONCE, Serving, serving

pytestmark = pytest.mark.usefixtures("state")  # what is done here is in the audit trail, which others read
KEYS = [
    {"name": name, "key": f"sk-{name}-0123456789", "tenant": tenant, "scopes": scopes}
    for name, tenant, scopes in [
        ("ann", "a", ["run", "tools"]),
        ("bob", "b", ["tools"]),
        ("reader", "a", ["read", "run"]),
        ("boss", "a", ["admin"]),
    ]
]
ORDER = {
    "description": "Orders a book.",
    "method": "POST",
    "body": {"title": "{title}"},
    "input": {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    },
}


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}-0123456789"}


def config(shop: Loopback, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    host = shop.url.removeprefix("http://")
    tools = {
        "hosts": [host],
        "private_hosts": [host],
        "http": {"order": {**ORDER, "url": f"{shop.url}/orders"}, "order@2": {**ORDER, "url": f"{shop.url}/v2/orders"}},
        "permissions": list(rules),
        **more,
    }
    return {"providers": {"mock": AT_ONCE}, "keys": KEYS, "tools": tools}


ALLOW = {"effect": "allow", "name": "shop", "tenants": ["a"], "tools": ["order"]}


@pytest.fixture
async def shop() -> AsyncIterator[Loopback]:
    async with Loopback(as_json({"id": 7})) as service:
        yield service


async def execute(service: Serving, tool: str, arguments: Any, name: str = "ann", **headers: str) -> httpx.Response:
    body = {"arguments": arguments}
    return await service.client.post(f"/v1/tools/{tool}/execute", json=body, headers={**key(name), **headers})


async def test_what_a_tool_costs_is_taken_from_its_callers_budget_of_the_day(
    tmp_path: Path, valkey: EmbeddedValkey, shop: Loopback
) -> None:
    made = config(shop, {**ALLOW, "tools": ["order", "clock"]})
    made["tools"]["http"]["order"]["cost_usd"] = made["tools"]["http"]["order@2"]["cost_usd"] = 0.01
    made["tenants"] = {"a": {"budget": {"usd_per_day": 0.025}}}
    async with serving(tmp_path, valkey.url, made) as service:
        answers = [await execute(service, "order", {"title": "Emma"}) for _ in range(3)]
        keyed = [await execute(service, "order", {"title": "Emma"}, **{"Idempotency-Key": "later"}) for _ in range(2)]
        free = await execute(service, "clock", {})
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["code"] == "budget_exceeded"
    assert '"tenant.usd_per_day";r=5000' in answers[1].headers["ratelimit"]
    assert len(shop.received) == 2
    assert [one.status_code for one in keyed] == [429, 429]
    assert "idempotent-replayed" not in keyed[1].headers  # what was not called is not kept under the key
    assert free.status_code == 200


async def test_a_tool_that_was_never_reached_costs_its_caller_nothing(
    tmp_path: Path, valkey: EmbeddedValkey, shop: Loopback
) -> None:
    made = config(shop, ALLOW) | {"tenants": {"a": {"budget": {"usd_per_day": 0.025}}}}
    nowhere = f"127.0.0.1:{free_port()}"
    made["tools"]["hosts"] = made["tools"]["private_hosts"] = [nowhere]
    made["tools"]["http"] = {"order": {**ORDER, "url": f"http://{nowhere}/orders", "cost_usd": 0.01}}
    async with serving(tmp_path, valkey.url, made) as service:
        answers = [await execute(service, "order", {"title": "Emma"}) for _ in range(4)]
    assert [(one.status_code, one.json()["error"]["code"]) for one in answers] == [(503, "tool_unavailable")] * 4


async def test_calls_of_tools_count_as_requests(tmp_path: Path, valkey: EmbeddedValkey, shop: Loopback) -> None:
    made = config(shop, ALLOW) | {"tenants": {"a": {"requests_per_minute": 2}}}
    async with serving(tmp_path, valkey.url, made) as service:
        answers = [await execute(service, "calculator", {"expression": "1 + 1"}) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["code"] == "limit_exceeded"
    assert int(answers[2].headers["retry-after"]) > 0


async def test_tools_are_listed_with_what_this_key_may_do(tmp_path: Path, valkey: EmbeddedValkey, shop: Loopback) -> None:
    rules = (ALLOW, {"effect": "deny", "name": "dear", "tools": ["order@2"], "when": 'arguments.title == "gold"'})
    async with serving(tmp_path, valkey.url, config(shop, *rules)) as service:
        listed = (await service.client.get("/v1/tools", headers=key("ann"))).json()
        others = (await service.client.get("/v1/tools", headers=key("bob"))).json()
        one = (await service.client.get("/v1/tools/order@1", headers=key("ann"))).json()
        refused = await service.client.get("/v1/tools", headers=key("reader"))
        missing = await service.client.get("/v1/tools/ordr", headers=key("ann"))
    entries = {f"{entry['name']}@{entry['version']}": entry for entry in listed["data"]}
    assert list(entries) == [
        "calculator@1.0.0",
        "clock@1.0.0",
        "http_fetch@1.0.0",
        "json_query@1.0.0",
        "order@2.0.0",
        "order@1.0.0",
    ]
    assert {name: entry["permission"]["effect"] for name, entry in entries.items()} == {
        "calculator@1.0.0": "allow",
        "clock@1.0.0": "allow",
        "http_fetch@1.0.0": "deny",
        "json_query@1.0.0": "allow",
        "order@2.0.0": "depends",
        "order@1.0.0": "allow",
    }
    assert {entry["permission"]["effect"] for entry in others["data"] if entry["name"] == "order"} == {"deny"}
    assert one["versions"] == ["2.0.0", "1.0.0"]
    assert (one["version"], one["side_effect"], one["input_schema"]["required"]) == ("1.0.0", "write", ["title"])
    assert "call it once" in one["documentation"]
    assert (refused.status_code, missing.status_code) == (403, 404)
    assert "did you mean 'order'" in missing.json()["detail"]


async def test_a_tool_is_run_and_its_request_can_be_followed(tmp_path: Path, valkey: EmbeddedValkey, shop: Loopback) -> None:
    traceparent = f"00-{'c' * 32}-{'d' * 16}-01"
    async with serving(tmp_path, valkey.url, config(shop, ALLOW)) as service:
        answer = await execute(service, "order@1", {"title": "Emma"}, **{"X-Request-ID": "abc", "traceparent": traceparent})
        built_in = await execute(service, "calculator", {"expression": "6*7"}, "bob")
        large = await execute(service, "calculator", {"expression": "2**100"}, "bob")
        metrics = (await service.client.get("/metrics")).text
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["object"], told["tool"], told["version"], told["result"]) == ("tool.result", "order", "1.0.0", {"id": 7})
    assert (told["request_id"], told["truncated"], told["warnings"]) == ("abc", False, [])
    [asked] = shop.received
    assert (asked.path, asked.json) == ("/orders", {"title": "Emma"})
    assert (asked.headers["x-request-id"], asked.headers["traceparent"]) == ("abc", traceparent)
    assert built_in.json()["result"] == 42
    assert large.json()["result"] == str(2**100)  # what JSON's readers may not hold is a text
    assert 'quorum_tool_calls_total{outcome="ok",tool="order"}' in metrics


@pytest.mark.parametrize(
    ("tool", "arguments", "name", "status", "code", "param"),
    [
        ("order", {}, "ann", 400, "invalid_request", "arguments"),
        ("order", {"title": 1}, "ann", 400, "invalid_request", "arguments.title"),
        ("order", [], "ann", 400, "invalid_request", "arguments"),
        ("order", {"title": "x" * 200_000}, "ann", 400, "invalid_request", "arguments"),
        ("order@3", {"title": "Emma"}, "ann", 404, "not_found", "name"),
        ("order", {"title": "Emma"}, "bob", 403, "tool_forbidden", "name"),
        ("order", {"title": "Emma"}, "reader", 403, "forbidden", None),
        ("order", {"title": "gold"}, "ann", 403, "approval_needed", "name"),
        ("calculator", {"expression": "1/0"}, "ann", 400, "invalid_request", "arguments"),
        ("http_fetch", {"url": "http://169.254.169.254/"}, "boss", 403, "forbidden", "arguments"),
    ],
)
async def test_what_is_refused_says_why(
    tmp_path: Path,
    valkey: EmbeddedValkey,
    shop: Loopback,
    tool: str,
    arguments: Any,
    name: str,
    status: int,
    code: str,
    param: str | None,
) -> None:
    approve = {"effect": "approve", "tools": ["order"], "when": 'arguments.title == "gold"', "reason": "it is dear"}
    fetch = {"effect": "allow", "tools": ["http_fetch"]}
    async with serving(tmp_path, valkey.url, config(shop, ALLOW, approve, fetch)) as service:
        answer = await execute(service, tool, arguments, name)
    problem = answer.json()
    assert (answer.status_code, problem["error"]["code"], problem["error"]["param"]) == (status, code, param), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert shop.received == []


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (Answer(500, body=b"no"), 502, "tool_failed"),
        (Answer(hold_after=0), 504, "tool_timeout"),
    ],
)
async def test_a_tool_that_fails_is_answered_with_its_failure(
    tmp_path: Path, valkey: EmbeddedValkey, answer: Answer, status: int, code: str
) -> None:
    async with Loopback(answer) as shop:
        told = config(shop, ALLOW)
        for tool in told["tools"]["http"].values():
            tool["timeout_s"] = 0.2
        async with serving(tmp_path, valkey.url, told) as service:
            failed = await execute(service, "order", {"title": "Emma"})
    assert (failed.status_code, failed.json()["error"]["code"]) == (status, code)


async def test_a_deprecated_version_warns(tmp_path: Path, valkey: EmbeddedValkey, shop: Loopback) -> None:
    told = config(shop, ALLOW)
    told["tools"]["http"]["order"]["deprecated"] = "use order@2"
    async with serving(tmp_path, valkey.url, told) as service:
        warned = (await execute(service, "order@1", {"title": "Emma"})).json()
        fine = (await execute(service, "order", {"title": "Emma"})).json()
    assert warned["warnings"] == ["the tool 'order@1.0.0' is deprecated: use order@2"]
    assert (fine["version"], fine["warnings"]) == ("2.0.0", [])


async def test_a_keyed_write_is_made_once_also_where_it_fails(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    async with Loopback([Answer(500, body=b"no"), as_json({"id": 8})]) as shop:
        async with serving(tmp_path, valkey.url, config(shop, ALLOW)) as service:
            first = await execute(service, "order", {"title": "Emma"}, **{"Idempotency-Key": "k1"})
            again = await execute(service, "order", {"title": "Emma"}, **{"Idempotency-Key": "k1"})
            other = await execute(service, "order", {"title": "Emma"}, **{"Idempotency-Key": "k2"})
            changed = await execute(service, "order", {"title": "Persuasion"}, **{"Idempotency-Key": "k1"})
        assert [first.status_code, again.status_code, other.status_code, changed.status_code] == [502, 502, 200, 422]
        assert again.content == first.content
        assert again.headers["idempotent-replayed"] == "true"
        assert len(shop.received) == 2


async def test_calls_are_in_the_audit_trail(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    async with (
        Loopback([as_json({"id": 7}), Answer(500, body=b"no")]) as shop,
        serving(tmp_path, valkey.url, config(shop, ALLOW)) as service,
    ):
        await execute(service, "order@1", {"title": "Emma"}, **{"X-Request-ID": "first"})
        await execute(service, "order@1", {"title": "Emma"})
        await execute(service, "calculator", {"expression": "1/0"})
        await execute(service, "http_fetch", {"url": "http://a.test"})
        records: list[dict[str, Any]] = []
        async with asyncio.timeout(10):
            while len(records) < 6:
                answer = await service.client.get("/v1/audit", params={"limit": 50}, headers=key("boss"))
                records = [one for one in answer.json()["data"][::-1] if one["action"].startswith("tool.")]
    assert [(one["action"], one["subject"]["id"], one["decision"]) for one in records] == [
        ("tool.execute", "order@1.0.0", "begun"),
        ("tool.execute", "order@1.0.0", "done"),
        ("tool.execute", "order@1.0.0", "begun"),
        ("tool.execute", "order@1.0.0", "uncertain"),
        ("tool.execute", "calculator@1.0.0", "failed"),
        ("tool.permission", "http_fetch@1.0.0", "denied"),
    ]
    assert records[0]["operation"] == records[1]["operation"]
    assert records[0]["details"]["arguments"] == records[2]["details"]["arguments"]
    assert (records[0]["request_id"], records[0]["actor"]["name"], records[0]["details"]["rule"]) == ("first", "ann", "shop")
    assert "Emma" not in str(records)


async def test_a_reload_puts_other_tools_and_rules_in_force(tmp_path: Path, valkey: EmbeddedValkey, shop: Loopback) -> None:
    async with serving(tmp_path, valkey.url, config(shop)) as service:
        assert (await execute(service, "order", {"title": "Emma"})).status_code == 403
        service.configure(config(shop, ALLOW, builtins=["clock"]))
        assert (await service.client.post("/v1/admin/reload", headers=key("boss"))).status_code == 200
        assert (await execute(service, "order", {"title": "Emma"})).status_code == 200
        assert (await execute(service, "calculator", {"expression": "1"})).status_code == 404
        service.configure(config(shop, python=["no.such.module:tool"]))
        bad = await service.client.post("/v1/admin/reload", headers=key("boss"))
        assert bad.status_code == 400
        assert "the module 'no.such.module' cannot be imported" in bad.text
        assert (await execute(service, "order", {"title": "Emma"})).status_code == 200
