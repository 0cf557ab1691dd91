"""What references lead to in a workflow under way."""

from __future__ import annotations

from app.config.workflows import WorkflowConfig
from app.workflows.levels import Level, Values


def test_what_a_step_has_come_to_is_seen_beside_how_the_others_stand():
    step = {"transform": {"value": 1}}
    level = Level("w", 1, WorkflowConfig.model_validate({"steps": {"a": step, "b": step}}), {})
    level.standing["a"] = "succeeded"
    values = Values(level, dict).with_result("b", {"status": "succeeded", "output": 2})
    assert values.find(("workflow", "steps")) == {"a": "succeeded", "b": "succeeded"}
    assert values.find(("steps", "b", "output")) == 2
    assert (level.standing["b"], level.results) == ("waiting", {})
