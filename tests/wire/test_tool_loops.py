"""Recorded tool loops of real providers, run by `tools` to the answers that were recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.config.spec import LLMProvider, QuorumSpec
from app.config.tools import ToolsConfig
from app.core.clock import SystemClock
from app.core.messages import user
from app.core.runs import OrchestrationConfig, OrchestrationOutput, RunRequest
from app.core.tools import ToolCaller, ToolSpec
from app.orchestration.local import LocalRuntime
from app.tools.toolbox import Toolbox
from tests.support.loopback import Loopback
from tests.wire.exchanges import Exchange, answer, scenarios, skip

pytestmark = skip


_SCHEMAS = ("parameters", "input_schema", "parameters_json_schema")


def _plain(schema: Any) -> Any:
    """A recorded schema as JSON Schema: Gemini's own says OBJECT for object, and one recorder wrote `strict` into it."""
    if isinstance(schema, dict):
        return {
            name: value.lower() if name == "type" and isinstance(value, str) else _plain(value)
            for name, value in schema.items()
            if name != "strict"
        }
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema


class Recorded:
    """A tool of a recorded request; it says which of its calls this was."""

    unavailable = None

    def __init__(self, definition: dict[str, Any]) -> None:
        function = definition.get("function", definition)
        schema = next((function[name] for name in _SCHEMAS if name in function), {})
        self.spec = ToolSpec(function["name"], function.get("description") or "A tool.", {"type": "object", **_plain(schema)})
        self.called: list[dict[str, Any]] = []

    async def run(self, arguments: dict[str, Any], caller: ToolCaller) -> Any:
        self.called.append(arguments)
        return f"result {len(self.called)}"


def loops() -> Iterator[Any]:
    """Each recorded loop: the steps from a user's question to the answer."""
    for scenario in scenarios():
        steps: list[Exchange] = []
        number = 0
        for step in scenario.steps:
            steps.append(step)
            if step.status == 200 and not asks_for_tools(step):
                if any(one.status == 200 and asks_for_tools(one) for one in steps):
                    number += 1
                    yield pytest.param(tuple(steps), id=f"{scenario.id}-{number}")
                steps = []


def asks_for_tools(step: Exchange) -> bool:
    said = step.content
    return any(word in said for word in (b'"tool_calls":[', b'"tool_calls": [', b'"tool_use"', b'"functionCall"'))


def tools_of(step: Exchange) -> list[Recorded]:
    found = step.request["body"].get("tools") or []
    flat = [one for tool in found for one in tool.get("functionDeclarations", [tool])]
    return [Recorded(one) for one in flat]


def text_of(step: Exchange) -> str:
    """What is said in an answer, read as plainly as can be: the texts in its JSON, in their order."""
    if step.sse is None:
        bodies = [json.loads(step.content)]
    else:
        lines = [line.removeprefix(b"data:").strip() for line in step.sse.splitlines() if line.startswith(b"data:")]
        bodies = [json.loads(line) for line in lines if line.startswith(b"{")]
    return "".join(said for body in bodies for said in _texts(body))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict) and not value.get("thought"):
        for name, member in value.items():
            if name in ("text", "content") and isinstance(member, str):
                yield member
            elif name not in ("usage", "usageMetadata"):
                yield from _texts(member)


FOUND = list(loops())


def test_loops_of_every_dialect_are_recorded() -> None:
    kinds = {param.values[0][0].provider for param in FOUND}
    assert kinds == {"openai", "openai_compatible", "anthropic", "gemini"}


@pytest.mark.parametrize("steps", FOUND)
async def test_a_recorded_loop_runs_to_its_recorded_answer(steps: tuple[Exchange, ...], tmp_path: Path) -> None:
    first, last = steps[0], steps[-1]
    tools = tools_of(first)
    async with Loopback([answer(step) for step in steps]) as provider:
        url = provider.url + {"gemini": "/v1beta", "anthropic": ""}.get(first.provider, "/v1")
        config = LLMProvider.model_validate({"kind": first.provider, "base_url": url, "api_key": "key"})
        permissions = [{"effect": "allow", "tools": ["*"]}]
        box = Toolbox(
            ToolsConfig.model_validate({"permissions": permissions, "builtins": []}),
            SystemClock(),
            tmp_path,
            more=lambda: tools,
        )
        async with LocalRuntime(QuorumSpec(providers={"p": config}), tools=box) as runtime:
            asked = OrchestrationConfig("tools", (f"p/{first.model}",))
            request = RunRequest(asked, (user("Do it."),), deltas="all" if last.sse is not None else "none")
            result = await runtime.engine.begin(request).result()
    assert result.status == "succeeded", result.error
    assert result.output.text == text_of(last)
    assert len(provider.received) == len(steps)
    assert_every_call_is_answered(result, provider, tools)


def assert_every_call_is_answered(result: OrchestrationOutput, provider: Loopback, tools: list[Recorded]) -> None:
    """No call is lost or doubled: each was run once, and each result stands in the last request once."""
    assert result.tool_calls
    assert [one.status for one in result.tool_calls] == ["succeeded"] * len(result.tool_calls)
    assert sum(len(tool.called) for tool in tools) == len(result.tool_calls)
    sent = provider.received[-1].body.decode()
    for one in result.tool_calls:
        assert one.result in sent
