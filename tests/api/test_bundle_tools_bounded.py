"""Orchestrations as tools are bounded: by money, tokens, time, the limits of who calls, and who leaves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.bundling import HEADERS, PER_CALL, VERDICT, bundle, house, label
from tests.support.loopback import Answer
from tests.support.openai_wire import completion
from tests.support.serving import until

pytestmark = pytest.mark.usefixtures("state")  # what is done here is in the audit trail, which others read


@pytest.mark.parametrize(
    ("budgets", "asked"),
    [
        ({"budget": {"cost_usd": 1.0}}, 0),
        ({"budget": {"tokens": 900}, "replicate_budget": {"tokens": 500}}, 2),
        ({"replicate_budget": {"tokens": 50}}, 0),
    ],
)
async def test_budgets_hold_for_each_replicate_and_for_all(
    tmp_path: Path, valkey: EmbeddedValkey, budgets: dict[str, Any], asked: int
) -> None:
    """At once as well: what is under way counts at its worst."""
    text = {"description": "Asks.", "strategy": "direct", "models": ["judge"], "k": 5, "seeds": [1, 2, 3, 4, 5], **budgets}
    limits = {"limits": {"default_max_tokens": 300 if "tokens" in str(budgets) else 2_000}}
    async with house(tmp_path, valkey, {"verdict": text}, **limits) as made:
        release = asyncio.Event()
        made.says = lambda _: Answer(body=json.dumps(completion("Yes.")).encode(), wait_for=release)
        asking = asyncio.create_task(made.execute())
        if asked:
            await until(lambda: len(made.held) == asked)
        release.set()
        answer = await asking
        assert len(made.seeds) == asked
    if asked:
        summary = answer.json()["result"]["summary"]
        assert (summary["valid"], summary["failed"]) == (asked, 5 - asked)
    else:
        assert answer.status_code == 502
        assert "budget" in answer.json()["error"]["message"]


async def test_a_bound_in_dollars_wants_known_prices(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey, bundle(models=["up/nobody-knows"], budget={"cost_usd": 1})) as made:
        answer = await made.execute()
        assert made.vendor.received == []
    assert "the price of 'up/nobody-knows' is not known" in answer.json()["error"]["message"]


async def test_time_is_bounded_and_what_there_is_by_then_is_given(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey, bundle(budget={"seconds": 0.4})) as made:
        made.says = lambda seed: Answer(hold_after=0) if seed < 14 else label("spam")
        found = await made.evidence()
    assert [one["quality"]["valid"] for one in found["replicates"]] == [False, False, False, True, True]
    assert found["replicates"][0]["error"] == "deadline_exceeded"


async def test_the_limits_of_the_caller_hold_for_a_bundle(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    limits = {"tenants": {"a": {"budget": {"tokens_per_day": 3_000}}}, "limits": {"default_max_tokens": 300}}
    text = {"description": "Asks.", "strategy": "direct", "models": ["judge"], "k": 9, "seeds": list(range(9))}
    async with house(tmp_path, valkey, {"verdict": text}, **limits) as made:
        release = asyncio.Event()
        made.says = lambda _: Answer(body=json.dumps(completion("Yes.")).encode(), wait_for=release)
        asking = asyncio.create_task(made.execute())
        await until(lambda: made.held)
        release.set()
        summary = (await asking).json()["result"]["summary"]
        asked = len(made.seeds)
        assert 3 <= asked < 9
        assert (summary["valid"], summary["failed"]) == (asked, 9 - asked)

        async def remaining() -> float:
            body = {"input": "Hi", "strategy": "direct", "models": ["judge"]}
            found = (await made.service.client.post("/v1/orchestrations/estimate", json=body, headers=HEADERS)).json()
            return next(one["remaining"] for one in found["admission"]["limits"] if one["limit"] == "tokens_per_day")

        async with asyncio.timeout(5):
            while await remaining() != 3_000 - asked * PER_CALL:
                print(await remaining(), asked)
                await asyncio.sleep(0.01)


async def test_too_many_requests_are_refused_as_runs_are(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    async with house(tmp_path, valkey, tenants={"a": {"requests_per_minute": 1}}) as made:
        answers = [await made.execute() for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 429]
    assert answers[1].json()["error"]["code"] == "limit_exceeded"


async def test_who_leaves_ends_the_replicates(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey) as made:
        made.says = lambda _: Answer(hold_after=0)
        with pytest.raises(httpx.ReadTimeout):
            await made.service.client.post(
                "/v1/tools/verdict/execute", json={"arguments": {"question": "?"}}, headers=HEADERS, timeout=0.5
            )
        async with asyncio.timeout(5):
            for one in list(made.held):
                await one.closed.wait()
        made.held.clear()
        made.calls = [{"arguments": {"question": "Buy now!"}}]
        body = {"input": "Is it spam?", "strategy": "tools", "models": ["boss"]}
        with pytest.raises(httpx.ReadTimeout):
            await made.service.client.post("/v1/orchestrations", json=body, headers=HEADERS, timeout=0.5)
        async with asyncio.timeout(5):
            for one in list(made.held):
                await one.closed.wait()
        assert len(made.held) == 5


async def test_a_deadline_and_a_timeout_end_the_replicates_and_what_they_used_is_booked(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    async with house(tmp_path, valkey, bundle(timeout_s=0.4)) as made:
        made.says = lambda seed: Answer(hold_after=0) if seed > 12 else label("spam")
        direct = await made.execute()
        made.calls = [{"arguments": {"question": "Buy now!"}}]
        result = await made.run()
        for one in made.held:
            await one.closed.wait()
    assert (direct.status_code, direct.json()["error"]["code"]) == (504, "tool_timeout")
    (call,) = result["tool_calls"]
    assert call["error"]["code"] == "tool_timeout"
    assert result["output"]["text"] == "So be it."
    assert sorted(one["status"] for one in result["calls"]) == ["cancelled"] * 3 + ["succeeded"] * 2
    assert result["wasted_cost_usd"] > 0


async def test_what_tools_inside_cost_is_booked_outside(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    deep = {"description": "Asks on.", "strategy": "tools", "models": ["boss"], "k": 2, "cost_usd": 1}
    bundles = {"deep": deep, "verdict": {**VERDICT, "k": 1, "seeds": [11], "cost_usd": 0.25}}
    async with house(tmp_path, valkey, bundles) as made:
        made.calls = [{"name": "verdict", "arguments": {"question": "?"}}]
        direct = (await made.execute(tool="deep")).json()
        made.calls = [{"name": "deep", "arguments": {"question": "?"}}, {"name": "verdict", "arguments": {"question": "?"}}]
        result = await made.run()
    assert direct["cost_usd"] == pytest.approx(1 + 2 * 0.25 + 6 * PER_CALL / 1_000)
    deep_call, verdict_call = result["tool_calls"]
    assert (deep_call["cost_usd"], verdict_call["cost_usd"]) == (pytest.approx(1 + 2 * 0.25), 0.25)
    assert result["cost_usd"] == pytest.approx(1 + 3 * 0.25 + (2 + 6 + 1) * PER_CALL / 1_000)
