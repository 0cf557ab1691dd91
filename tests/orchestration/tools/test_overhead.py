"""What a step costs beside the model's and the tool's own time."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

import pytest

from tests.orchestration.scripted import Scripted
from tests.orchestration.tools.acting import act, asks, call, toolbox

STEPS = 30


@pytest.mark.alone
async def test_a_step_adds_less_than_two_milliseconds(tmp_path: Path) -> None:
    async def echo(number: int) -> int:
        """Gives it back."""
        return number

    tools = toolbox(tmp_path, echo)
    took: list[float] = []
    for _ in range(5):
        numbers = count()
        model = Scripted(
            "a",
            candidate=lambda request, numbers=numbers: (
                "Done." if request.tool_choice == "none" else asks(call("echo", number=next(numbers)))
            ),
        )
        began = time.perf_counter()
        ran = await act(model, tools, deltas="output", max_steps=STEPS)
        took.append((time.perf_counter() - began) / STEPS)
        assert len(ran.result.tool_calls) == STEPS - 1
    print(f"a step with a tool takes {min(took) * 1000:.2f} ms beside the model and the tool")
    assert min(took) < 0.002
