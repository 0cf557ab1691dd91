"""Limits and budgets as a client meets them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.orchestration.strategies import BUILT_IN
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.frames import frames
from tests.support.loopback import Answer, Loopback, as_json
from tests.support.serving import AT_ONCE, Serving, serving, until, upstream
from tests.support.valkey import running_valkey, server_pid

KEYS = {name: f"sk-{name}-0123456789abc" for name in ("one", "two", "limited", "other")}
CONFIG: dict[str, Any] = {
    "providers": {"mock": AT_ONCE},
    "tenants": {"acme": {"budget": {"tokens_per_day": 5_000, "usd_per_day": 1}, "concurrent_runs": 9}},
    "keys": [
        {"name": "one", "key": KEYS["one"], "tenant": "acme"},
        {"name": "two", "key": KEYS["two"], "tenant": "acme"},
        {"name": "limited", "key": KEYS["limited"], "tenant": "acme", "requests_per_minute": 2},
        {"name": "other", "key": KEYS["other"], "tenant": "other"},
    ],
}
RUN: dict[str, Any] = {
    "input": "Name three uses of a quorum.",
    "strategy": "simple",
    "models": ["mock/mock-swift", "mock/mock-terse"],
    "generation": {"max_tokens": 100},
}
LARGE = RUN | {"generation": {"max_tokens": 1_000}}


@pytest.fixture
async def limited(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> AsyncIterator[Serving]:
    await state.commands.flushall()
    async with serving(tmp_path, valkey.url, CONFIG) as service:
        yield service


async def post(service: Serving, body: dict[str, Any], key: str = "one", path: str = "/v1/orchestrations") -> httpx.Response:
    return await service.client.post(path, json=body, headers={"authorization": f"Bearer {KEYS[key]}"})


async def left(service: Serving, kind: str, key: str = "one") -> float:
    found = (await post(service, RUN, key, "/v1/orchestrations/estimate")).json()["admission"]["limits"]
    return next(limit["remaining"] for limit in found if limit["limit"] == kind)


async def test_what_a_run_used_is_taken_from_its_tenant_whichever_key_asked(limited: Serving) -> None:
    first = await post(limited, RUN)
    used = first.json()["usage"]["input_tokens"] + first.json()["usage"]["output_tokens"]
    assert await left(limited, "tokens_per_day", "two") == 5_000 - used
    assert await left(limited, "usd_per_day", "two") == pytest.approx(1 - first.json()["cost_usd"], abs=1e-8)
    assert await left(limited, "concurrent_runs", "two") == 9


async def test_a_stream_is_settled_when_its_reader_has_its_end(limited: Serving) -> None:
    for path, body in (
        ("/v1/orchestrations", RUN | {"stream": True}),
        ("/v1/chat/completions", {"model": "mock/mock-terse", "messages": [{"role": "user", "content": "Hi"}], "stream": True}),
    ):
        before = await left(limited, "tokens_per_day")
        answer = await post(limited, body, path=path)
        assert "tenant.tokens_per_day" in answer.headers["ratelimit"]
        worst = (await post(limited, RUN, path="/v1/orchestrations/estimate")).json()["worst_case"]["tokens"]
        assert 0 < before - await left(limited, "tokens_per_day") < worst / 2


async def test_answers_say_how_the_limits_stand(limited: Serving) -> None:
    headers = (await post(limited, RUN, "limited")).headers
    assert headers["ratelimit-policy"] == (
        '"tenant.usd_per_day";q=1000000;w=86400;qu="microdollar", "tenant.tokens_per_day";q=5000;w=86400;qu="token", '
        '"key.requests_per_minute";q=2;w=60, "tenant.concurrent_runs";q=9;qu="concurrent-requests"'
    )
    assert '"key.requests_per_minute";r=1;t=30, "tenant.concurrent_runs";r=8' in headers["ratelimit"]


async def test_where_no_limit_applies_nothing_is_said_and_the_store_is_not_asked(limited: Serving, state: StateClient) -> None:
    assert "ratelimit" not in (await post(limited, RUN, "other")).headers
    assert await state.commands.keys("*tenant:other*") == []


async def test_a_run_beyond_the_days_budget_is_refused_before_anything_is_called(limited: Serving) -> None:
    refused = await post(limited, LARGE)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "budget_exceeded"
    assert refused.headers["x-should-retry"] == "false"
    assert '"tenant.tokens_per_day";r=5000' in refused.headers["ratelimit"]
    assert await left(limited, "tokens_per_day") == 5_000


async def test_a_key_that_asks_too_often_is_told_when_to_come_again_and_others_go_on(limited: Serving) -> None:
    statuses = [(await post(limited, RUN, "limited")).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = await post(limited, RUN, "limited")
    assert (refused.json()["error"]["code"], refused.headers["x-should-retry"]) == ("limit_exceeded", "true")
    assert 25 <= int(refused.headers["retry-after"]) <= 30
    assert (await post(limited, RUN, "two")).status_code == 200


async def test_an_estimate_is_the_plan_at_its_worst_and_calls_nothing(limited: Serving, state: StateClient) -> None:
    found = (await post(limited, RUN, path="/v1/orchestrations/estimate")).json()
    assert (found["object"], found["plan"]["models"]) == ("estimate", RUN["models"])
    assert [call["role"] for call in found["calls"]] == ["candidate", "candidate", "synthesis"]
    assert found["worst_case"]["tokens"] == sum(call["input_tokens"] + call["output_tokens"] for call in found["calls"])
    assert 0 < found["expected"]["cost_usd"] <= found["worst_case"]["cost_usd"]
    assert found["plan"]["estimated_cost_usd"] == found["expected"]["cost_usd"]
    assert found["admission"]["admitted"]
    assert await state.commands.keys("*tenant:acme*") == []
    result = (await post(limited, RUN)).json()
    assert result["usage"]["input_tokens"] + result["usage"]["output_tokens"] <= found["worst_case"]["tokens"]
    assert (await post(limited, RUN, path="/v1/orchestrations/estimate")).json()["plan"]["estimated_seconds"] > 0


@pytest.mark.parametrize(
    ("body", "code"),
    [(LARGE, "budget_exceeded"), (RUN | {"budget": {"tokens": 300}}, "budget_exceeded")],
    ids=["of the day", "of the request"],
)
async def test_an_estimate_says_why_a_run_would_not_be_admitted(limited: Serving, body: Any, code: str) -> None:
    admission = (await post(limited, body, path="/v1/orchestrations/estimate")).json()["admission"]
    assert (admission["admitted"], admission["error"]["code"]) == (False, code)


@pytest.mark.parametrize("strategy", sorted(strategy.name for strategy in BUILT_IN))
async def test_every_strategy_states_a_plan_that_its_runs_keep_to(limited: Serving, strategy: str) -> None:
    asked = RUN | {"strategy": strategy, "models": RUN["models"][:1] if strategy == "direct" else RUN["models"]}
    if strategy == "adaptive":  # which learns from each run, and chooses anew
        asked |= {"options": {"explore": 0, "pin": RUN["models"][:1]}}
    found = (await post(limited, asked, "other", "/v1/orchestrations/estimate")).json()
    ran = (await post(limited, asked | {"budget": {"tokens": found["worst_case"]["tokens"]}}, "other")).json()
    assert (ran["strategy"], ran["status"]) == (strategy, "succeeded")
    picked = strategy in ("adaptive", "reliable")
    assert found["plan"]["strategy"] == (ran["plan"]["strategy"] if picked else strategy)
    assert found["calls"]
    assert ran["usage"]["input_tokens"] + ran["usage"]["output_tokens"] <= found["worst_case"]["tokens"]


BAD: list[dict[str, Any]] = [
    {"strategy": "nope"},
    {"models": ["nope"]},
    {"models": ["mock/mock-swift"] * 200},
    {"input": []},
    {"options": {"nope": 1}},
    {"strategy": "fallback", "options": {"chain": [{"model": "nope"}]}},
    {"strategy": "direct", "models": RUN["models"]},
    {"recipe": "nope"},
    {"generation": {"max_tokens": 10_000_000}},
    {"budget": {"tokens": 0}},
    {"on_budget": "nope"},
    {"nope": 1},
]


@pytest.mark.parametrize("member", BAD, ids=str)
async def test_what_a_run_refuses_an_estimate_refuses_with_the_same_words(limited: Serving, member: dict[str, Any]) -> None:
    ran = await post(limited, RUN | member, "other")
    found = await post(limited, RUN | member, "other", "/v1/orchestrations/estimate")
    assert ran.status_code in (400, 404)
    assert (found.status_code, found.json()["error"]) == (ran.status_code, ran.json()["error"])


@pytest.mark.parametrize("member", [{"tokens": 300}, {"cost_usd": 0.00001}])
async def test_a_requests_own_budget_holds_in_both_dialects(limited: Serving, member: dict[str, Any]) -> None:
    native = await post(limited, RUN | {"budget": member}, "other")
    chat = {
        "model": "quorum/simple",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 100,
        "quorum": {"budget": member},
    }
    other = await post(limited, chat, "other", "/v1/chat/completions")
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in (native, other)] == [
        (429, "budget_exceeded")
    ] * 2
    assert native.json()["error"]["param"] == f"budget.{next(iter(member))}"


async def test_with_the_best_so_far_a_days_rest_is_used_up(limited: Serving) -> None:
    body = LARGE | {"on_budget": "best_so_far"}
    answer = await post(limited, body)
    assert answer.status_code == 200
    assert answer.json()["output"]["text"]
    assert (await post(limited, LARGE)).status_code == 429


async def test_dollars_cannot_bound_a_model_without_a_price(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    config = upstream("http://127.0.0.1:1/v1") | {"tenants": {"default": {"budget": {"usd_per_day": 1}}}}
    async with serving(tmp_path, valkey.url, config) as service:
        answer = await service.client.post("/v1/orchestrations", json={"input": "Hi", "strategy": "direct", "models": ["m"]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "models")
    assert "the price of 'm' is not known; state the price" in answer.json()["detail"]


async def test_a_client_that_leaves_gives_back_what_it_did_not_use(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with Loopback(Answer(hold_after=0)) as provider:
        config = upstream(provider.url) | {"tenants": {"default": {"budget": {"tokens_per_day": 10_000}, "concurrent_runs": 1}}}
        async with serving(tmp_path, valkey.url, config) as service:
            body = {"input": "x" * 400, "strategy": "direct", "models": ["m"]}
            asking = asyncio.create_task(service.client.post("/v1/orchestrations", json=body))
            await until(lambda: provider.received)
            busy = await service.client.post("/v1/orchestrations", json=body)
            assert busy.json()["detail"] == "the tenant may have 1 runs at once, and has"
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

            async def standing() -> dict[str, float]:
                found = (await service.client.post("/v1/orchestrations/estimate", json=body)).json()["admission"]["limits"]
                return {limit["limit"]: limit["remaining"] for limit in found}

            async with asyncio.timeout(5):
                while (now := await standing())["concurrent_runs"] < 1:
                    await asyncio.sleep(0.01)
            assert now["tokens_per_day"] == 10_000 - (400 + 64 + 16) // 4  # the prompt was sent


@pytest.mark.parametrize("path", ["/v1/orchestrations", "/v1/chat/completions"])
async def test_a_run_that_fails_says_how_the_limits_stand_too(tmp_path: Path, valkey: EmbeddedValkey, path: str) -> None:
    busy = as_json({"error": {"message": "busy"}}, 503)
    async with Loopback(lambda _: busy) as provider:
        config = upstream(provider.url) | {"tenants": {"default": {"requests_per_minute": 50}}}
        async with serving(tmp_path, valkey.url, config) as service:
            told = {"input": "x", "strategy": "direct", "models": ["m"]}
            chat = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
            failed = await service.client.post(path, json=told if "orch" in path else chat)
    assert failed.status_code == 503
    assert failed.headers["ratelimit-policy"] == '"tenant.requests_per_minute";q=50;w=60'
    assert failed.headers["x-quorum-run-id"] == failed.json()["run_id"]


@pytest.mark.parametrize("watched", [False, True], ids=["json", "stream"])
async def test_a_run_that_its_deadline_cuts_tells_and_books_the_prompt(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient, watched: bool
) -> None:
    await state.commands.flushall()
    async with Loopback(Answer(hold_after=0)) as provider:
        config = upstream(provider.url) | {"tenants": {"default": {"budget": {"tokens_per_day": 10_000}}}}
        async with serving(tmp_path, valkey.url, config) as service:
            body = {"input": "x" * 400, "strategy": "direct", "models": ["m"], "budget": {"seconds": 0.3}, "stream": watched}
            answer = await service.client.post("/v1/orchestrations", json=body)
            found = await service.client.post("/v1/orchestrations/estimate", json={**body, "stream": False})
    result = frames(answer.text)[-1].json["result"] if watched else answer.json()["result"]
    assert result["error"]["code"] == "deadline_exceeded"
    prompt = (400 + 64 + 16) // 4
    assert result["usage"]["input_tokens"] == prompt
    assert len(result["candidates"][0]["attempts"]) == 1
    assert found.json()["admission"]["limits"][0]["remaining"] == 10_000 - prompt


async def test_without_the_store_limits_are_local_and_daily_budgets_refuse(tmp_path: Path) -> None:
    config = {
        "providers": {"mock": AT_ONCE},
        "keys": [
            {"name": "one", "key": KEYS["one"], "requests_per_minute": 2},
            {"name": "two", "key": KEYS["two"], "budget": {"tokens_per_day": 100_000}},
        ],
    }
    with running_valkey() as valkey:
        async with serving(tmp_path, valkey.url, config) as service:
            pid = server_pid(valkey.data_dir)
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            assert [(await post(service, RUN, "one")).status_code for _ in range(3)] == [200, 200, 429]
            refused = await post(service, RUN, "two")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "state_unavailable")
            os.kill(pid, signal.SIGCONT)
            async with asyncio.timeout(5):
                while (await post(service, RUN, "two")).status_code != 200:
                    await asyncio.sleep(0.05)


async def test_completions_say_their_limits_too(limited: Serving) -> None:
    body = {"model": "mock/mock-terse", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}
    answer = await post(limited, body, path="/v1/chat/completions")
    assert answer.status_code == 200
    assert '"tenant.concurrent_runs";r=8' in answer.headers["ratelimit"]
