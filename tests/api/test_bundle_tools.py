"""Orchestrations as tools, over HTTP: asked directly, and by models in runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.config.spec import QuorumSpec
from app.orchestration.local import LocalRuntime
from app.orchestration.tools.orchestrator import ToolOrchestrator
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.api.test_every_strategy import fold, same
from tests.support.bundling import HEADERS, LABEL, PER_CALL, VERDICT, bundle, house, label
from tests.support.loopback import Answer
from tests.support.serving import AT_ONCE

pytestmark = pytest.mark.usefixtures("state")  # what is done here is in the audit trail, which others read


async def test_replicates_are_asked_with_their_seeds_and_come_back_as_evidence(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey) as made:
        made.says = lambda seed: label("ham" if seed == 12 else "spam")
        answer = (await made.execute()).json()
        assert made.seeds == [11, 12, 13, 14, 15]
        asked = made.asked("judge")[0]
    assert asked["messages"] == [{"role": "user", "content": "Buy now!"}]
    assert asked["response_format"]["json_schema"]["schema"] == LABEL
    found = answer["result"]
    assert found["meta"] | {"task": ""} == {
        "task": "",
        "k": 5,
        "models": ["judge"],
        "seeds": [11, 12, 13, 14, 15],
        "early_stopped": False,
    }
    assert [one["id"] for one in found["replicates"]] == ["r1", "r2", "r3", "r4", "r5"]
    second = found["replicates"][1]
    assert (second["data"], second["seed"], second["quality"]) == ({"label": "ham"}, 12, {"valid": True, "errors": []})
    summary = found["summary"]
    assert summary["consensus"] == {"label": "spam"}
    assert summary["disagreements"] == [{"field": "label", "values": ["spam", "ham", "spam", "spam", "spam"]}]
    assert (summary["valid"], summary["failed"], summary["pairwise_distance"]) == (5, 0, 0.4)
    assert summary["usage"] == {"input_tokens": 15, "output_tokens": 10}
    assert summary["cost_usd"] == pytest.approx(5 * PER_CALL / 1_000)
    assert answer["cost_usd"] == pytest.approx(5 * PER_CALL / 1_000)
    assert 0 < summary["confidence"] < 1


@pytest.mark.parametrize(
    ("epsilon", "k", "asked"),
    [(0.2, 5, 2), (0.05, 5, 3), (0.05, 10, 4), (0.001, 10, 6)],
)
async def test_no_more_are_asked_once_the_summary_is_stable(
    tmp_path: Path, valkey: EmbeddedValkey, epsilon: float, k: int, asked: int
) -> None:
    async with house(tmp_path, valkey, bundle(epsilon=epsilon, k=k)) as made:
        found = await made.evidence()
        assert len(made.seeds) == asked
    assert found["meta"]["early_stopped"] is True
    assert len(found["replicates"]) == asked


async def test_answers_that_differ_are_asked_on(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey, bundle(epsilon=0.05)) as made:
        made.says = lambda seed: label("ham" if seed % 2 else "spam")
        found = await made.evidence()
        assert made.seeds == [11, 12, 13, 14, 15]
    assert (found["summary"]["consensus"], found["meta"]["early_stopped"]) == ({"label": "ham"}, False)


async def test_an_answer_that_does_not_fit_the_schema_has_failed(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey) as made:
        made.says = lambda seed: {11: label("maybe"), 12: "I think that it is spam."}.get(seed, label("spam"))
        found = await made.evidence()
    first, second = found["replicates"][:2]
    assert first["quality"]["valid"] is False
    assert "does not follow the schema" in first["quality"]["errors"][0]
    assert "no JSON" in second["quality"]["errors"][0]
    assert (found["summary"]["valid"], found["summary"]["failed"]) == (3, 2)


async def test_some_that_fail_leave_a_part_with_the_reasons(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey) as made:
        made.says = lambda seed: Answer(status=500) if seed < 14 else label("spam")
        found = await made.evidence()
    errors = [one["quality"]["errors"] for one in found["replicates"]]
    assert [bool(one) for one in errors] == [True, True, True, False, False]
    assert found["replicates"][0]["error"] == "server_error"
    assert found["summary"]["consensus"] == {"label": "spam"}


async def test_where_all_fail_the_tool_does_and_says_why(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey) as made:
        made.says = lambda seed: Answer(status=500)
        answer = await made.execute()
        made.calls = [{"arguments": {"question": "Buy now!"}}]
        (call,) = (await made.run())["tool_calls"]
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "tool_failed")
    assert "none of its 5 replicates gave an answer that counts" in answer.json()["error"]["message"]
    assert "(5 times)" in answer.json()["error"]["message"]
    assert (call["status"], call["error"]["code"]) == ("failed", "tool_failed")


async def test_texts_are_clustered_and_numbers_have_a_median(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    texts = {"description": "Asks.", "strategy": "direct", "models": ["judge"], "seeds": [1, 2, 3]}
    numbers = {**texts, "k": 9, "seeds": list(range(9)), "schema": {"type": "number"}, "epsilon": 0.1}
    async with house(tmp_path, valkey, {"ask": texts, "guess": numbers}) as made:
        made.says = lambda seed: "It is Paris, of course." if seed < 3 else "Rome"
        text = await made.evidence(tool="ask")
        made.says = lambda seed: str(100 + seed)
        number = await made.evidence(tool="guess")
    assert text["summary"]["consensus"] == "It is Paris, of course."
    assert number["summary"]["consensus"] == 101
    assert number["summary"]["interval"] == [100, 102]
    assert (number["meta"]["early_stopped"], len(number["replicates"])) == (True, 3)


async def test_a_model_is_given_the_bundle_and_the_run_books_what_it_took(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey, bundle(epsilon=0.05, cost_usd=0.25)) as made:
        made.calls = [{"arguments": {"question": "Buy now!"}}]
        result = await made.run()
        told = json.loads(made.asked("boss")[-1]["messages"][-1]["content"])
        offered = [tool["function"] for tool in made.asked("boss")[0]["tools"] if tool["function"]["name"] == "verdict"]
    (call,) = result["tool_calls"]
    assert (call["status"], call["cost_usd"]) == ("succeeded", 0.25)
    assert told["result"]["summary"]["consensus"] == {"label": "spam"}
    assert told["result"] == call["result"]
    assert [(one["role"], one["model"]) for one in result["calls"]] == [("replicate", "judge")] * 3
    assert result["evidence"] is None
    assert result["usage"]["input_tokens"] + result["usage"]["output_tokens"] == (2 + 3) * PER_CALL
    assert result["cost_usd"] == pytest.approx((2 + 3) * PER_CALL / 1_000 + 0.25)
    assert "summary.consensus" in offered[0]["description"]


async def test_the_evidence_streams_in_the_run_and_the_events_fold_to_the_json(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey) as made:
        made.calls = [{"arguments": {"question": "Buy now!"}}, {"arguments": {"question": "Dear Ann"}}]
        answer = await made.run()
        found = await made.streamed()
    folded = fold(found)
    assert folded == found[-1].json["result"]
    assert same(folded) == same(answer)
    for call_id in ("t0", "t1"):
        phases = [one.json["phase"] for one in found if one.json.get("call_id") == call_id and "phase" in one.json]
        assert phases == ["bundle_started", *["replicate_done", "partial_summary"] * 5, "bundle_ready"]
    last = next(one.json for one in found if one.json.get("phase") == "bundle_ready" and one.json["call_id"] == "t1")
    assert same(last["evidence"]) == same(answer["tool_calls"][1]["result"])
    names = [one.fields["event"] for one in found]
    assert names.index("tool.called") < names.index("evidence.updated") < names.index("tool.returned")


async def test_a_recipe_is_asked_as_it_is(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    panel = {"strategy": "simple", "models": ["judge", "other"], "lead_model": "other", "generation": {"temperature": 0.7}}
    tool = {"description": "Asks.", "recipe": "panel", "k": 2, "prompt": "Is {text} spam?", "temperatures": [0.2]}
    tool["input"] = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    async with house(tmp_path, valkey, {"verdict": tool}, recipes={"panel": panel}) as made:
        made.says = lambda _: "Yes."
        made.calls = [{"arguments": {"text": "this"}}]
        result = await made.run()
        temperatures = {body["temperature"] for body in made.asked("judge")}
        contents = {body["messages"][0]["content"] for body in made.asked("judge")}
    assert (temperatures, contents) == ({0.2}, {"Is this spam?"})
    assert sorted(one["role"] for one in result["calls"]) == [*["replicate"] * 4, *["synthesis"] * 2]
    assert result["tool_calls"][0]["result"]["meta"]["models"] == ["judge", "other"]


async def test_it_is_a_tool_like_any_other(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    tools = {"bundles": {"verdict": VERDICT, "verdict@2": {**VERDICT, "scopes": ["tools"], "deprecated": "use verdict@3"}}}
    async with house(tmp_path, valkey, tools=tools) as made:
        listed = (await made.service.client.get("/v1/tools/verdict@1", headers=HEADERS)).json()
        denied = await made.execute(tool="verdict@1")
    assert (listed["source"], listed["side_effect"], listed["versions"]) == ("orchestration", "read", ["2.0.0", "1.0.0"])
    assert listed["unavailable"] is None
    assert listed["output_schema"]["required"] == ["meta", "replicates", "summary"]
    assert "Asks the strategy 'direct' 5 times" in listed["documentation"]
    assert (denied.status_code, denied.json()["error"]["code"]) == (403, "tool_forbidden")


async def test_arguments_are_held_to_its_schema(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with house(tmp_path, valkey) as made:
        answer = await made.service.client.post("/v1/tools/verdict/execute", json={"arguments": {"a": 1}}, headers=HEADERS)
        assert made.vendor.received == []
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "arguments")


async def test_a_bundle_is_not_offered_inside_of_itself_nor_is_what_writes(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    deep = {"description": "Asks on.", "strategy": "tools", "models": ["boss"], "k": 2}
    order = {"description": "Orders.", "method": "POST", "url": "http://localhost:1/orders"}
    tools = {
        "bundles": {"deep": deep, "verdict": {**VERDICT, "k": 1, "seeds": [11]}},
        "hosts": ["localhost:1"],
        "http": {"order": order},
        "permissions": [{"effect": "allow", "tools": ["*"]}],
    }
    async with house(tmp_path, valkey, tools=tools) as made:
        made.calls = [{"name": "verdict", "arguments": {"question": "?"}}]
        found = await made.evidence(tool="deep")
        inside = made.offered("boss")
        made.vendor.received.clear()
        await made.run()
        outside = made.offered("boss")
    assert found["summary"]["consensus"] == "So be it."
    assert outside - inside == {"deep", "order"}
    assert "verdict" in inside
    assert found["summary"]["usage"] == {"input_tokens": 6 * 3, "output_tokens": 6 * 2}
    assert found["summary"]["cost_usd"] == pytest.approx(6 * PER_CALL / 1_000)


async def test_replicates_have_answers_of_their_own_in_the_cache(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    tool = {"description": "Asks.", "recipe": "kept", "k": 3}
    recipes = {"kept": {"strategy": "direct", "models": ["judge"], "cache": "use"}}
    async with house(tmp_path, valkey, {"verdict": tool}, recipes=recipes) as made:
        said = iter(["one", "two", "three"])
        made.says = lambda _: next(said)
        found = [await made.evidence() for _ in range(2)]
        assert len(made.asked("judge")) == 3
    for one in found:
        assert {replicate["data"] for replicate in one["replicates"]} == {"one", "two", "three"}
    assert found[1]["summary"]["cost_usd"] == 0


async def test_a_run_from_python_has_bundle_tools_too() -> None:
    bundles = {"verdict": {"description": "Asks.", "strategy": "direct", "models": ["mock/mock-swift"], "k": 2}}
    told = {
        "providers": {"mock": AT_ONCE},
        "tools": {"bundles": bundles, "permissions": [{"effect": "allow", "tools": ["verdict"]}]},
    }
    async with LocalRuntime(QuorumSpec.model_validate(told)) as runtime:
        strategy = ToolOrchestrator(runtime)
        result = await strategy.process("Use the verdict: is it spam?", selected_models=["mock/mock-swift"])
    (call,) = result.tool_calls
    assert (call.name, call.status) == ("verdict", "succeeded")
    assert call.result["summary"]["valid"] == 2
