from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from app.config.tools import ToolsConfig
from app.core.clock import SystemClock
from app.core.errors import Forbidden, InvalidRequest
from app.core.tools import ToolCaller, ToolSpec
from app.tools.execution import arguments_of
from app.tools.toolbox import Toolbox
from tests.tools.conftest import ME, MakeToolbox


class Brought:
    """A tool of another part: it answers with a number, an error, or its caller."""

    unavailable: str | None = None
    spec = ToolSpec("brought", "Does.", {"type": "object"}, side_effect="write", source="orchestration", cost_usd=0.5)

    def __init__(self) -> None:
        self.calls: list[ToolCaller] = []

    async def run(self, arguments: dict[str, Any], caller: ToolCaller) -> Any:
        self.calls.append(caller)
        if arguments.get("breaks"):
            raise KeyError("lost")
        return {"is": arguments.get("n")}


def box_of(tool: Brought, tmp_path: Path, effect: str) -> Toolbox:
    rules = {"permissions": [{"effect": effect, "sources": ["orchestration"]}]}
    return Toolbox(ToolsConfig.model_validate(rules), SystemClock(), tmp_path, more=lambda: [tool])


async def test_others_bring_tools_of_their_own(tmp_path: Path) -> None:
    tool = Brought()
    box = box_of(tool, tmp_path, "allow")
    result = await box.execute("brought@1", {"n": 3}, ME)
    assert (result.value, result.text, result.cost_usd, result.version) == ({"is": 3}, '{"is":3}', 0.5, "1.0.0")
    assert tool.calls == [ME]
    box.configure(box.config)
    assert (await box.execute("brought", {}, ME)).error is None


async def test_what_needs_an_approval_is_prepared_and_not_executed(tmp_path: Path) -> None:
    tool = Brought()
    box = box_of(tool, tmp_path, "approve")
    prepared = await box.prepare("brought", {"n": 1}, ME)
    assert prepared.decision.effect == "approve"
    with pytest.raises(Forbidden) as refused:
        await box.execute("brought", {"n": 1}, ME)
    assert refused.value.code == "approval_needed"
    assert tool.calls == []
    assert (await box.run(prepared)).value == {"is": 1}  # once somebody has agreed


async def test_a_tool_that_breaks_does_not_break_its_caller(tmp_path: Path) -> None:
    result = await box_of(Brought(), tmp_path, "allow").execute("brought", {"breaks": True}, ME)
    assert result.error is not None
    assert (result.error.code, result.value) == ("tool_failed", None)
    assert "KeyError" in result.text


async def test_a_tool_that_is_away_is_not_called(tmp_path: Path) -> None:
    tool = Brought()
    tool.unavailable = "it sleeps"
    result = await box_of(tool, tmp_path, "allow").execute("brought", {}, ME)
    assert result.error is not None
    assert (result.error.code, result.error.retry_after, tool.calls) == ("tool_unavailable", 1.0, [])


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": NaN}', "7"])
def test_arguments_that_a_model_wrote_are_an_object(text: str) -> None:
    with pytest.raises(InvalidRequest):
        arguments_of(text)
    assert arguments_of(' {"a": 1}') == {"a": 1}
    assert arguments_of("") == {}


async def test_arguments_that_nest_without_end_are_refused(toolbox: MakeToolbox) -> None:
    deep: Any = {}
    for _ in range(2_000):
        deep = {"a": deep}
    with pytest.raises(InvalidRequest, match="nest too deep"):
        await toolbox().execute("json_query", {"data": deep, "expression": "data"}, ME)


@pytest.mark.alone
async def test_a_call_costs_little_beside_its_own_work(toolbox: MakeToolbox) -> None:
    box, calls = toolbox(), 5_000
    for _ in range(100):
        await box.execute("calculator", {"expression": "17 * 23"}, ME)
    began = time.perf_counter()
    for _ in range(calls):
        await box.execute("calculator", {"expression": "17 * 23"}, ME)
    each_us = (time.perf_counter() - began) / calls * 1e6
    print(f"{each_us:.0f} µs for a whole call of the calculator")
    assert each_us < 200
