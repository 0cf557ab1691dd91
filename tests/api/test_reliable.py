"""reliable over HTTP: what is estimated is what runs, in every dialect, streamed or not, with rules of a configuration."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.state.embedded import EmbeddedValkey
from tests.api.test_every_strategy import fold, untimed
from tests.api.test_native_stream import streamed
from tests.support.bundling import PER_CALL, VERDICT, house
from tests.support.loopback import Answer, Loopback, as_json
from tests.support.serving import AT_ONCE, Serving, serving, until

pytestmark = pytest.mark.usefixtures("state")  # what is done here is in the audit trail, which others read

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
BREAKER = {"retry": {"enabled": False}, "pace": {"enabled": False}, "breaker": {"min_calls": 1}}
SUMS = {
    "name": "sums",
    "priority": 10,
    "match": {"types": ["sum"], "attributes": {"sum": {"matches": r"^[\d+*/ -]+$"}}},
    "use": {"tool": "calculator", "arguments": {"expression": "{attributes.sum}"}},
    "fallbacks": [{"recipe": "panel"}],
}
STOCK = {"name": "stock", "match": {"types": ["stock"]}, "use": {"tool": "stock"}, "fallbacks": [{"recipe": "quick"}]}
ORDERS = {"name": "orders", "match": {"types": ["order"]}, "use": {"tool": "order"}, "fallbacks": [{"recipe": "quick"}]}
PANEL = {"name": "panels", "match": {"keywords": ["panel"]}, "use": {"recipe": "panel"}, "fallbacks": [{"recipe": "quick"}]}
ACTING = {"name": "acting", "match": {"keywords": ["calculator"]}, "use": {"strategy": "tools", "models": ["careful"]}}


def planned(**more: Any) -> dict[str, Any]:
    return {
        "providers": {"mock": AT_ONCE, "weak": {**AT_ONCE, "reliability": BREAKER}},
        "models": {
            "fast": {"provider": "mock", "model": "mock-swift"},
            "careful": {"provider": "mock", "model": "mock-careful"},
            "frail": {"provider": "weak", "model": "mock-terse"},
        },
        "recipes": {
            "panel": {"strategy": "simple", "models": ["fast", "careful"]},
            "quick": {"strategy": "direct", "models": ["fast"]},
            "planned": {"strategy": "reliable"},
        },
        "planner": {"rules": [SUMS, STOCK, ORDERS, PANEL, ACTING], "otherwise": {"recipe": "quick"}},
        **more,
    }


@asynccontextmanager
async def running(
    tmp_path: Path, valkey: EmbeddedValkey, answer: Answer, **more: Any
) -> AsyncIterator[tuple[Serving, Loopback]]:
    """A service with the rules above, and with tools `stock`, which reads, and `order`, which writes, at a shop."""
    async with Loopback(answer) as shop:
        host = shop.url.removeprefix("http://")
        tool = {"description": "At the shop.", "url": f"{shop.url}/x"}
        tools = {
            "hosts": [host],
            "private_hosts": [host],
            "http": {"stock": {**tool, "cost_usd": 0.02}, "order": {**tool, "method": "POST", "body": {}}},
            "permissions": [{"effect": "allow", "tools": ["stock", "order"]}],
        }
        async with serving(tmp_path, valkey.url, planned(tools=tools, **more)) as service:
            yield service, shop


async def ask(service: Serving, text: str = "Hi", *, headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    body = {"input": text, "recipe": "planned", **more}
    return (await service.client.post("/v1/orchestrations", json=body, headers=headers or {})).json()


CASES: list[dict[str, Any]] = [
    {},
    {"options": {"type": "sum", "attributes": {"sum": "17 * 23"}}},
    {"options": {"type": "sum", "attributes": {"sum": "17 *"}}},
    {"options": {"type": "sum", "attributes": {"sum": "17 *"}, "allow_fallback": False}},
    {"options": {"type": "stock"}},
    {"options": {"type": "order"}},
    {"input": "Ask the panel."},
    {"input": "Ask the panel. [[mock: fault=overloaded]]"},
    {"input": "Ask the calculator: what is 17 * 23?"},
    {"input": "Who? [[mock: fault=overloaded]]"},
]
"""The ways that a run with rules goes; the shop fails."""


async def test_events_folded_are_the_json_and_the_log_tells_the_same(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with running(tmp_path, valkey, as_json({"error": "closed"}, 500)) as (service, _):
        for case in CASES:
            body = {"input": "Hi", "recipe": "planned", **case}
            answer = (await service.client.post("/v1/orchestrations", json=body)).json()
            frames = await streamed(service, body)
            folded = fold(frames)
            assert folded == {**frames[-1].json["result"]}
            assert untimed(folded) == untimed(answer.get("result", answer)), case
            kept = await service.client.get(f"/v1/orchestrations/{folded['id']}")
            assert kept.json()["plan"] == folded["plan"]
            told = await service.client.get(f"/v1/orchestrations/{folded['id']}/events")
            assert told.text.count("event: plan.made") == 1


async def test_the_estimate_says_what_would_run_and_why_and_calls_nothing(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with running(tmp_path, valkey, as_json({"left": 3})) as (service, shop):
        for options in ({"type": "stock"}, {"type": "sum", "attributes": {"sum": "1+1"}}, {}):
            body = {"input": "Hi", "recipe": "planned", "options": options}
            estimate = (await service.client.post("/v1/orchestrations/estimate", json=body)).json()
            assert shop.received == []
            result = await ask(service, options=options)
            shop.received.clear()
            told = ("strategy", "models", "recipe", "tool", "rule", "rules", "fallbacks", "options", "reason")
            assert {key: estimate["plan"][key] for key in told} == {key: result["plan"][key] for key in told}
        looks = {look["rule"]: look for look in estimate["plan"]["rules"]}
        assert looks["sums"] == {
            "rule": "sums",
            "outcome": "not_matched",
            "reason": "the type 'chat' is none of its types",
            "target": "tool calculator",
        }


async def test_the_estimate_of_a_tool_is_what_the_tool_takes(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with running(tmp_path, valkey, as_json({"left": 3})) as (service, _):
        body = {"input": "Hi", "recipe": "planned", "options": {"type": "stock"}}
        await ask(service, options={"type": "stock"})  # so that its time is known
        estimate = (await service.client.post("/v1/orchestrations/estimate", json=body)).json()
        for said in (
            estimate["plan"]["estimated_cost_usd"],
            estimate["expected"]["cost_usd"],
            estimate["worst_case"]["cost_usd"],
        ):
            assert said == 0.02
        assert 0 < estimate["expected"]["seconds"] == estimate["plan"]["estimated_seconds"]
        assert (estimate["calls"], estimate["expected"]["tokens"], estimate["admission"]["admitted"]) == ([], 0, True)


async def test_a_tool_is_followed_from_the_request_to_the_service_that_it_asks(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with running(tmp_path, valkey, as_json({"left": 3})) as (service, shop):
        headers = {"X-Request-ID": "req-7", "traceparent": TRACEPARENT}
        result = await ask(service, options={"tool_name": "stock"}, headers=headers)
        assert (result["output"]["text"], result["output"]["json"]) == ('{"left":3}', {"left": 3})
        assert (result["request_id"], result["trace_id"]) == ("req-7", "a" * 32)
        [asked] = shop.received
        assert asked.headers["x-request-id"] == "req-7"
        assert asked.headers["x-quorum-run-id"] == result["id"]
        assert asked.headers["traceparent"] == TRACEPARENT
        trail: list[Any] = []
        async with asyncio.timeout(10):
            while not trail:
                trail = (await service.client.get("/v1/audit", params={"run_id": result["id"]})).json()["data"]
        assert [(one["action"], one["request_id"], one["trace_id"]) for one in trail] == [("tool.execute", "req-7", "a" * 32)]


async def test_clients_of_openai_get_the_tools_result_as_the_answer(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with running(tmp_path, valkey, as_json({"left": 3})) as (service, _):
        options = {"tool_name": "calculator", "tool_options": {"expression": "6*7"}}
        for model in ("planned", "quorum/reliable"):
            body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "quorum": {"options": options}}
            answer = (await service.client.post("/v1/chat/completions", json=body)).json()
            assert answer["choices"][0]["message"]["content"] == "42"
            assert answer["quorum"]["strategy"] == "reliable"
        stream = await service.client.post("/v1/chat/completions", json={**body, "stream": True})
        chunks = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: {")]
        assert "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"]) == "42"
        assert stream.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"tool_name": "nothing"}, 400, "invalid_request"),
        ({"tool_name": "stock", "tool_options": {"x": 1}, "allow_fallback": False}, 502, "tool_failed"),
        ({"tool_name": "http_fetch", "tool_options": {"url": "http://a.example/"}}, 403, "tool_forbidden"),
        ({"tool_name": "calculator", "tool_options": {"expression": "("}}, 400, "invalid_request"),
        ({"attributes": []}, 400, "invalid_request"),
    ],
)
async def test_what_fails_has_its_own_status(
    tmp_path: Path, valkey: EmbeddedValkey, options: dict[str, Any], status: int, code: str
) -> None:
    async with running(tmp_path, valkey, as_json({}, 500)) as (service, _):
        answer = await service.client.post(
            "/v1/orchestrations", json={"input": "x", "strategy": "reliable", "options": options}
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


async def test_a_rule_whose_models_breaker_has_opened_is_passed_over(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    frail = {"name": "frail", "use": {"strategy": "direct", "models": ["frail"]}}
    config = {"planner": {"rules": [frail], "otherwise": {"recipe": "quick"}}}
    async with running(tmp_path, valkey, as_json({}), **config) as (service, _):
        assert (await ask(service))["plan"]["rule"] == "frail"
        await ask(service, "Hi [[mock: fault=server_error]]")
        await until(lambda: any(one.circuit.state == "open" for one in service.app.state.services.breakers.all()))
        result = await ask(service)
        assert (result["status"], result["plan"]["rule"], result["plan"]["recipe"]) == ("succeeded", None, "quick")
        assert "it fits, but the circuit breaker of its model is open for" in result["plan"]["rules"][0]["reason"]


async def test_a_tool_that_writes_runs_once_under_an_idempotency_key(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with running(tmp_path, valkey, as_json({"order": 7})) as (service, shop):
        key = {"Idempotency-Key": "one-order"}
        first, again = [await ask(service, options={"type": "order"}, headers=key) for _ in range(2)]
        assert first["id"] == again["id"]
        assert first["plan"]["rule"] == "orders"
        assert len(shop.received) == 1


async def test_what_goes_in_the_place_of_a_tool_is_held_to_the_limits_of_its_tenant(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    keys = [{"name": "ann", "key": "sk-ann-0123456789", "tenant": "a", "scopes": ["run"]}]
    ann = {"Authorization": "Bearer sk-ann-0123456789"}
    for tokens, status in ((5_000, "succeeded"), (50, None)):
        limits = {"keys": keys, "tenants": {"a": {"tokens_per_minute": tokens}}, "limits": {"default_max_tokens": 1_000}}
        async with running(tmp_path, valkey, as_json({}, 500), **limits) as (service, _):
            result = await ask(service, options={"type": "stock"}, headers=ann)
            assert result.get("status") == (status or 429), result
            assert (result.get("result") or result)["warnings"] == [
                "tool stock@1.0.0 failed (tool_failed); recipe quick goes in its place"
            ]


async def test_an_orchestration_as_a_tool_is_run_directly_and_books_what_it_took(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    options = {"tool_name": "verdict", "tool_options": {"question": "Buy now!"}}
    async with house(tmp_path, valkey) as made:
        result = await made.run(strategy="reliable", models=[], options=options)
    assert result["output"]["json"]["summary"]["consensus"] == {"label": "spam"}
    assert (len(result["calls"]), result["usage"]["input_tokens"]) == (5, 15)
    assert result["cost_usd"] == pytest.approx(5 * PER_CALL / 1_000)


async def test_in_a_tool_that_plans_its_rules_call_neither_itself_nor_what_writes(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    verdict = {name: value for name, value in VERDICT.items() if name not in ("strategy", "models")}
    rules = [
        {"name": "verdict", "use": {"tool": "verdict", "arguments": {"question": "{text}"}}},
        {"name": "judge", "use": {"strategy": "direct", "models": ["judge"]}},
    ]
    config = {"recipes": {"planned": {"strategy": "reliable"}}, "planner": {"rules": rules}}
    async with house(tmp_path, valkey, {"verdict": {**verdict, "recipe": "planned"}}, **config) as made:
        result = await made.run(strategy=None, recipe="planned", models=[], input="Buy now!")
        assert len(made.asked("judge")) == 5
    assert result["plan"]["tool"] == "verdict@1.0.0"
    assert result["output"]["json"]["summary"]["consensus"] == {"label": "spam"}


async def test_a_reload_puts_other_rules_in_force(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with running(tmp_path, valkey, as_json({})) as (service, _):
        service.configure({**planned(), "planner": {"rules": [{"name": "new", "use": {"recipe": "quick"}}]}})
        assert (await service.client.post("/v1/admin/reload")).status_code == 200
        assert (await ask(service))["plan"]["rule"] == "new"


async def test_what_was_planned_is_a_turn_of_its_conversation(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with running(tmp_path, valkey, as_json({"left": 3})) as (service, _):
        asked = {"conversation_id": "shop"}
        await ask(service, "How many are left?", options={"type": "stock"}, **asked)
        await ask(service, "Ask the calculator: what is 17 * 23?", **asked)
        await ask(service, "Thanks.", **asked)
        turns = (await service.client.get("/v1/conversations/shop")).json()["data"]
    assert [len(turn["messages"]) for turn in turns] == [2, 4, 2]
    assert turns[0]["messages"][1]["content"] == '{"left":3}'
