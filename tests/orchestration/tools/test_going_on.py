"""A run that was paused, or whose process has died, finds its place again by what its log shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.core.messages import ReasoningPart
from app.core.run_events import HelperFinished
from app.core.runs import HelperCall, OrchestrationOutput
from app.core.usage import Usage
from app.orchestration.tools.orchestrator import ToolOrchestrator
from tests.orchestration.scripted import Reply, Scripted, failure
from tests.orchestration.tools.acting import ALL, act, asks, call, context_of, script, toolbox
from tests.orchestration.tools.test_loop import add


def known(result: OrchestrationOutput) -> dict[str, Any]:
    """What the log of a run that came so far shows: its first answer, and its calls of tools."""
    first = next(one for one in result.candidates if one.status == "succeeded")
    return {"finished": [first], "returned": {one.id: one for one in result.tool_calls}}


async def test_reasoning_that_a_vendor_has_sealed_goes_back_to_it_unchanged(tmp_path: Path) -> None:
    thought = (ReasoningPart("Let me add.", signature="sealed"), ReasoningPart(redacted="hidden"))
    asked = Reply(tool_calls=(call("add", a=2, b=3),), finish_reason="tool_calls", reasoning=thought)
    box = toolbox(tmp_path, add)
    before = await act(Scripted("a", candidate=script(asked, "It is 5.")), box)
    model = Scripted("a", "It is 5.")
    ran = await act(model, box, **known(before.result))
    (request,) = model.asked
    said = next(message for message in request.messages if message.role == "assistant")
    assert said.parts[:2] == thought
    assert ran.result.output.text == "It is 5."


async def test_a_model_that_had_failed_is_not_asked_again_before_the_one_that_had_answered(tmp_path: Path) -> None:
    box = toolbox(tmp_path, add)
    models = [Scripted("a", failure("a")), Scripted("b", candidate=script(asks(call("add", a=2, b=3)), "It is 5."))]
    before = await act(models, box)
    again = [Scripted("a", "I am back."), Scripted("b", "It is 5.")]
    ran = await act(again, box, **known(before.result))
    assert (ran.result.output.text, len(again[0].asked), len(again[1].asked)) == ("It is 5.", 0, 1)


async def test_what_tools_had_asked_models_is_in_the_result_though_they_are_not_run_again(tmp_path: Path) -> None:
    box = toolbox(tmp_path, add)
    before = await act(Scripted("a", candidate=script(asks(call("add", a=2, b=3)), "It is 5.")), box)
    replicate = HelperCall("replicate", "m", "p", "succeeded", Usage(100, 10), cost_usd=0.5)
    ran = await act(Scripted("a", "It is 5."), box, before=replace(before.result, calls=(replicate,)), **known(before.result))
    assert [event.call for event in ran.of(HelperFinished)] == [replicate]
    assert ran.result.usage.total_tokens == 120


@pytest.mark.parametrize(
    ("rules", "options", "pauses"),
    [
        ([ALL], {}, False),
        ([ALL, {"effect": "approve", "tools": ["order"]}], {}, True),
        ([ALL], {"approval": "writes"}, True),
        ([ALL], {"approval": "all"}, True),
        ([ALL], {"approval": "all", "tools": []}, False),
    ],
)
def test_a_run_is_kept_from_its_beginning_on_only_where_it_may_have_to_wait(
    tmp_path: Path, rules: Any, options: Any, pauses: bool
) -> None:
    request, context = context_of([Scripted("a")], toolbox(tmp_path, add, permissions=rules), **options)
    strategy = ToolOrchestrator()
    strategy.check(request, context)
    assert strategy.may_pause(context) is pauses
