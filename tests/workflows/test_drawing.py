"""A definition's own words stay words in its diagram."""

from __future__ import annotations

from app.config.workflows import WorkflowConfig
from app.workflows.drawing import drawn


def test_no_text_of_a_definition_ends_its_label_or_is_a_directive():
    when = "'%%{init: {}}%%\"]&lt;' !=\r\n 'x' //\u2028click s0 call alert()"
    step = {"transform": {"value": 1}}
    said = drawn(WorkflowConfig.model_validate({"steps": {"a": step, "b": {**step, "after": ["a"], "when": when}}}))
    assert len(said.splitlines()) == 4
    assert "%%" not in said
    assert said.splitlines()[-1].count('"') == 2
    assert "&lt;" not in said
