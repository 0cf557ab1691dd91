"""For every strategy: what a reader of the events adds up, without the result in their last one, is the JSON answer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, get_args

import orjson
import pytest
from pydantic import TypeAdapter

from app.core.run_events import RunEvent, RunFailed, RunFinished
from app.core.run_fold import RunFold
from app.core.run_json import plain
from app.orchestration.strategies import BUILT_IN
from tests.api.test_native_stream import same, streamed
from tests.support.frames import Frame
from tests.support.serving import Serving

QUESTION = "What is 17 * 23?"
CASCADE = [
    {"model": "mock/mock-terse", "when": "tokens > 1000"},
    {"model": "mock/mock-swift", "check": {"judge": {"model": "mock/mock-careful", "threshold": 1}}},
    {"model": "mock/mock-careful", "response": [{"do": "extract", "pattern": r"\d+"}], "check": {"pattern": "391"}},
]
AGREEING = {
    "model": "mock/mock-swift",
    "check": {"agree": {"model": "mock/mock-terse", "extract": {"type": "number"}}},
}
BY_QUALITY: dict[str, Any] = {"weights": {"quality": 1}, "explore": 0}
"""What `adaptive` weighs, without the time that calls took, which differs from run to run. It has few models to choose from,
since earlier runs have taught it who answers."""
CALCULATED = f"{QUESTION} Use the calculator."
ACTING: dict[str, dict[str, Any]] = {
    "reading": {"options": {"tools": ["calculator"]}},
    "cut short": {"options": {"tools": ["calc*"], "max_steps": 2}},
    "alone": {"options": {"tools": ["calculator"]}, "models": ["mock/mock-swift"]},
}
"""Panels whose members act with tools. Those that wait for a person are in `approvals/test_of_panels`."""
BROWSER: dict[str, Any] = {"type": "function", "function": {"name": "browser", "description": "Opens a page."}}
CASES: dict[str, list[dict[str, Any]]] = {
    "direct": [{}, {"input": "Who? [[mock: fault=overloaded]]"}, {"input": "Who? [[mock: fault=midstream-error:2]]"}],
    "simple": [
        {},
        {"options": {"analysis": "critique"}},
        {"options": {"analysis": "peer_ranking"}, "generation": {"seed": 7}},
        {"options": {"layers": 2}},
        {"models": ["mock/mock-terse"]},
        {"input": "Who? [[mock: fault=server_error model=mock-swift]]"},
        {"input": "Who? [[mock: fault=server_error]]"},
        {"input": "Who? [[mock: stage=lead fault=server_error]]"},
    ],
    "fallback": [
        {},
        {"metadata": {"team": "red"}, "options": {"dynamic": True}},
        {"input": f"{QUESTION} [[mock: fault=overloaded model=mock-swift]]"},
        {"input": f"{QUESTION} [[mock: fault=overloaded]]"},
        {"input": f"{QUESTION} [[mock: fault=invalid_request]]"},
        {"options": {"chain": CASCADE}},
        {"options": {"chain": CASCADE[:2]}},
        {"options": {"chain": [AGREEING, {"model": "mock/mock-careful"}]}},
        {"options": {"chain": [{"model": "mock/mock-swift", "on": ["refusal"]}, {"model": "mock/mock-careful"}]}},
        {"input": "Who? [[mock: fault=refusal model=mock-swift]]"},
    ],
    "consensus": [
        {},
        {"options": {"extract": {"type": "number"}, "k": 2, "seeds": [1, 2]}},
        {"options": {"extract": {"type": "number"}, "aggregator": "numeric", "review_below": 0.99}},
        {"options": {"extract": {"type": "choice", "choices": ["391", "400"]}, "stop": "decided"}},
        {"options": {"extract": {"type": "json"}, "instruct": False}},
        {"options": {"aggregator": "judge"}},
        {"input": "Who? [[mock: fault=server_error model=mock-swift]]"},
        {"input": "Who? [[mock: fault=server_error]]"},
        {"input": "Who? [[mock: fault=refusal]]"},
    ],
    "parallel": [
        {"options": {"min_responses": 3}},
        {"options": {"min_responses": 3, "select": "judge"}, "lead_model": "mock/mock-careful"},
        {"options": {"min_responses": 3, "select": "longest", "quality_threshold": 1}},
        {"options": {"hedge_after": 60}, "models": ["mock/mock-swift"]},
        {"options": {"hedge_after": 60}, "input": "Who? [[mock: fault=refusal]]"},
        {"options": {"min_responses": 2}, "input": "Who? [[mock: fault=server_error model=mock-swift]]"},
        {"input": "Who? [[mock: fault=server_error]]"},
        {"input": "Who? [[mock: fault=refusal]]"},
    ],
    "adaptive": [
        {"options": {**BY_QUALITY, "pin": ["mock/mock-swift", "mock/mock-careful", "mock/mock-terse"]}},
        {"options": {**BY_QUALITY, "pin": ["mock/mock-careful"]}, "input": "Who was it?"},
        {"options": BY_QUALITY, "input": "Who? [[mock: fault=server_error]]", "models": ["mock/mock-swift"]},
    ],
    "tools": [
        {},
        {"input": f"{QUESTION} Use the calculator."},
        {"input": f"{QUESTION} Use the calculator.", "options": {"on_tool_error": "fail"}},
        {"input": "What is 17 and 23 in each calculator?", "options": {"tools": ["calculator"], "max_steps": 2}},
        {"input": "Look it up.", "tools": [BROWSER], "options": {"tools": []}, "models": ["mock/mock-swift"]},
        {"input": "Use both the calculator and the browser: 17 * 23", "tools": [BROWSER]},
        {"input": "Who? [[mock: fault=overloaded model=mock-swift]]"},
        {"input": "Who? [[mock: fault=overloaded]]"},
    ],
    "reliable": [
        {},
        {"models": ["mock/mock-careful"], "options": {"type": "sum"}},
        {"options": {"tool_name": "calculator", "tool_options": {"expression": "17 * 23"}}},
        {"options": {"tool_name": "calculator", "tool_options": {"expression": "17 *"}}},
        {"options": {"tool_name": "http_fetch", "tool_options": {"url": "http://127.0.0.1/"}}},
        {"input": "Who? [[mock: fault=overloaded]]"},
    ],
}
"""By strategy, what is asked of it: at least one run for each way that its code goes. They end alike streamed and not."""


def test_no_strategy_is_left_out() -> None:
    assert set(CASES) == {strategy.name for strategy in BUILT_IN}


@pytest.mark.parametrize(
    ("strategy", "more"),
    [pytest.param(name, case, id=f"{name}-{number}") for name, cases in CASES.items() for number, case in enumerate(cases)],
)
async def test_the_events_folded_without_the_result_are_the_json(service: Serving, strategy: str, more: dict[str, Any]) -> None:
    body = {"input": QUESTION, "strategy": strategy, **more}
    answer = (await service.client.post("/v1/orchestrations", json=body)).json()
    frames = await streamed(service, body)
    folded = fold(frames)
    assert folded == {**frames[-1].json["result"]}
    if "midstream" not in body["input"]:  # which a caller who does not stream does not see begin
        assert untimed(folded) == untimed(answer.get("result", answer))


@pytest.mark.usefixtures("state")  # so that what is learned of the models here is not known to others
@pytest.mark.parametrize("strategy", ["simple", "parallel", "consensus"])
@pytest.mark.parametrize("more", [pytest.param(case, id=name) for name, case in ACTING.items()])
async def test_so_they_are_where_members_act_with_tools(service: Serving, strategy: str, more: dict[str, Any]) -> None:
    body = {"input": CALCULATED, "strategy": strategy, **more}
    answer = (await service.client.post("/v1/orchestrations", json=body)).json()
    frames = await streamed(service, body)
    folded = fold(frames)
    assert folded == {**frames[-1].json["result"]}
    if strategy != "parallel" or "models" in more:  # where nobody is first by chance
        assert untimed(folded) == untimed(answer.get("result", answer))


def untimed(result: dict[str, Any]) -> dict[str, Any]:
    """`result` without what differs from run to run, as what a plan weighs and expects: the first run has measured it."""
    found = same(result)
    for several in ("candidates", "tool_calls"):  # members act side by side
        found[several] = [same(one) for one in sorted(result[several], key=lambda one: (one.get("candidate_id"), one["id"]))]
    if found["plan"]:
        expected = {member: None for member in found["plan"] if member.startswith("estimated_")}
        found["plan"] |= {"alternatives": [], "prospects": {}, "reason": "", **expected}
    return found


def fold(frames: list[Frame]) -> dict[str, Any]:
    """What the events add up to, as JSON."""
    adding = RunFold(frames[0].json["run_id"])
    for frame in frames:
        members = frame.json
        if frame.fields["event"] in ("run.finished", "run.failed"):
            members = {**members, "result": None}
        event = adapters()[frame.fields["event"]].validate_python(members)
        adding.add(replace(event, result=None) if isinstance(event, (RunFinished, RunFailed)) else event)
    return orjson.loads(orjson.dumps(adding.result(), default=plain))


@cache
def adapters() -> dict[str, TypeAdapter[Any]]:
    return {event.type: TypeAdapter(event) for event in get_args(RunEvent)}
