"""Every kind of fault is told with its place, before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from app.assembly.configuration import all_strategies, checks_of
from app.config.spec import OrchestratorConfig
from app.config.workflows import WorkflowConfig
from app.core.tools import ToolSpec
from app.workflows.checking import faults_of_all
from app.workflows.known import Known

TOOLS = {
    "mail": ToolSpec(
        "mail",
        "Sends.",
        {
            "type": "object",
            "properties": {"to": {"type": "string"}, "copies": {"type": "integer"}},
            "required": ["to"],
            "additionalProperties": False,
        },
        output_schema={"type": "object", "properties": {"id": {"type": "string"}}, "additionalProperties": False},
        side_effect="write",
    )
}
OTHER = WorkflowConfig.model_validate(
    {"inputs": {"n": {"type": "integer"}}, "steps": {"a": {"transform": {"value": 1}}}, "returns": {"x": 1}}
)
POSTS = WorkflowConfig.model_validate({"steps": {"p": {"tool": {"name": "mail", "arguments": {"to": "x"}}}}})
INPUTS = {"text": {"type": "string"}, "n": {"type": "integer"}, "list": {"type": "array", "items": {"type": "number"}}}


def recipe_faults(config: OrchestratorConfig) -> list[Any]:
    check = checks_of(all_strategies()).recipe
    assert check is not None
    return check(config)


def faults(steps: dict[str, Any], **more: Any) -> dict[str, str]:
    """The faults of a workflow of these steps, by their places."""
    config = WorkflowConfig.model_validate({"inputs": INPUTS, "steps": steps, **more})
    known = Known(
        {"it": config, "other": OTHER, "posts": POSTS},
        frozenset({"panel", "flow"}),
        recipe_faults,
        lambda name: None if name == "m" else f"{name!r} is not a model",
        TOOLS.get,
        middleware=frozenset({"log"}),
        workflow_recipes=frozenset({"flow"}),
    )
    found = faults_of_all({"it": config}, known)
    return {".".join(map(str, fault.path[1:])): fault.message for fault in found}


def mail(**arguments: Any) -> dict[str, Any]:
    return {"tool": {"name": "mail", "arguments": arguments}}


def ask(**more: Any) -> dict[str, Any]:
    return {"orchestration": {"strategy": "direct", "input": "hm", **more}}


VALUE = {"transform": {"value": "x"}}


@pytest.mark.parametrize(
    ("steps", "place", "said"),
    [
        ({"a": {}}, "steps.a", "does nothing"),
        ({"a": {**VALUE, **mail(to="x")}}, "steps.a", "one of them"),
        ({"a": {"transform": {"value": "${steps.b.output}"}}}, "steps.a.transform.value", "'b', which is no step"),
        ({"a": VALUE, "b": {"transform": {"value": "${steps.a.outptu}"}}}, "steps.b.transform.value", "did you mean 'output'"),
        (
            {"a": ask(), "b": {"transform": {"value": "${steps.a.output.txt}"}}},
            "steps.b.transform.value",
            "did you mean 'text'",
        ),
        ({"a": {"transform": {"value": "${inputs.m}"}}}, "steps.a.transform.value", "no input"),
        ({"a": {"transform": {"value": "${item}"}}}, "steps.a.transform.value", "inside of a map"),
        ({"a": {"transform": {"value": "${nothing"}}}, "steps.a.transform.value", "without its '}'"),
        ({"a": {**VALUE, "after": ["z"]}}, "steps.a.after.0", "no step"),
        ({"a": {**VALUE, "when": "${inputs.text}"}}, "steps.a.when", "string, and boolean is wanted"),
        ({"a": {**VALUE, "when": "1 +"}}, "steps.a.when", "column"),
        ({"a": {**VALUE, "pool": "p"}}, "steps.a.pool", "no pool"),
        ({"a": mail(to="${inputs.n}")}, "steps.a.tool.arguments.to", "integer, and string is wanted"),
        ({"a": mail(to="x", copies="${inputs.text}")}, "steps.a.tool.arguments.copies", "string, and integer is wanted"),
        ({"a": mail(to="x", copies="n=${inputs.n}")}, "steps.a.tool.arguments.copies", "integer is wanted"),
        ({"a": mail(copies="${inputs.n}")}, "steps.a.tool.arguments", "'to' is missing"),
        ({"a": mail(to="${inputs.text}", cc=1)}, "steps.a.tool.arguments.cc", "is not wanted"),
        ({"a": mail(to=5)}, "steps.a.tool.arguments.to", "string"),
        ({"a": {"tool": {"name": "post"}}}, "steps.a.tool.name", "no tool"),
        ({"a": mail(to="x"), "b": {"transform": {"value": "${steps.a.output.no}"}}}, "steps.b.transform.value", "'no'"),
        ({"a": {**mail(to="x"), "retry": {}}}, "steps.a.retry", "which writes"),
        ({"a": ask(models=["z"])}, "steps.a.orchestration.models.0", "not a model"),
        ({"a": ask(options={"layers": 2})}, "steps.a.orchestration.options.layers", "is no option"),
        ({"a": ask(strategy="nope")}, "steps.a.orchestration.strategy", "no strategy"),
        ({"a": ask(recipe="panel")}, "steps.a.orchestration", "either"),
        ({"a": {"orchestration": {"recipe": "pnel", "input": "x"}}}, "steps.a.orchestration.recipe", "did you mean 'panel'"),
        ({"a": ask(schema={"type": "nope"})}, "steps.a.orchestration.schema", "no JSON schema"),
        ({"a": {"workflow": {"name": "oter"}}}, "steps.a.workflow.name", "did you mean 'other'"),
        ({"a": {"workflow": {"name": "other"}}}, "steps.a.workflow.inputs", "required"),
        ({"a": {"workflow": {"name": "other", "inputs": {"n": "${inputs.text}"}}}}, "steps.a.workflow.inputs.n", "integer"),
        (
            {"a": {"workflow": {"name": "other", "inputs": {"n": 1}}}, "b": {"transform": {"value": "${steps.a.output.y}"}}},
            "steps.b.transform.value",
            "'y', which is not there",
        ),
        ({"a": {"map": {"over": "${inputs.n}", "do": VALUE}}}, "steps.a.map.over", "integer, and array is wanted"),
        ({"a": {"map": {"over": [1], "do": {"map": {"over": [1], "do": VALUE}}}}}, "steps.a.map.do.map", "another map"),
        ({"a": {"map": {"over": "${inputs.list}", "do": mail(to="${item}")}}}, "steps.a.map.do.tool.arguments.to", "number"),
        ({"a": {"switch": {"cases": [{"when": "${inputs.z}", **VALUE}]}}}, "steps.a.switch.cases.0.when", "no input"),
        ({"a": {**VALUE, "compensate": {"do": "replace"}}}, "steps.a.compensate", "either"),
        ({"a": {**VALUE, "compensate": {"do": "continue", "value": 1}}}, "steps.a.compensate.value", "is not used"),
        ({"a": {**VALUE, "undo": mail(to="${steps.b.output}")}, "b": VALUE}, "steps.a.undo", "may not be over"),
        ({"a": {**VALUE, "undo": VALUE}}, "steps.a.undo", "a tool, an orchestration or a workflow does"),
        (
            {"a": {"workflow": {"name": "it", "inputs": {"text": "", "n": 1, "list": []}}}},
            "steps.a.workflow",
            "it.steps.a -> it",
        ),
        ({"a": {"transform": {"expression": "[1].map(x, [1].map(y, y))"}}}, "steps.a.transform.expression", "loops inside"),
        ({"a": {"transform": {}}}, "steps.a.transform", "either"),
        ({"a": {"wait": {}}}, "steps.a.wait", "waits for one of"),
        ({"a": {"wait": {"signal": "s", "seconds": 1}}}, "steps.a.wait", "waits for one of"),
        ({"a": {"wait": {"seconds": "${inputs.text}"}}}, "steps.a.wait.seconds", "string, and number is wanted"),
        ({"a": {"wait": {"seconds": -1}}}, "steps.a.wait.seconds", "minimum"),
        ({"a": {"wait": {"until": "soon"}}}, "steps.a.wait.until", "no time"),
        ({"a": {"wait": {"signal": "s", "schema": {"type": "nope"}}}}, "steps.a.wait.schema", "no JSON schema"),
        ({"a": {"wait": {"seconds": 1, "within_s": 2}}}, "steps.a.wait.within_s", "is not used"),
        ({"a": {"wait": {"review": "?", "value": 5, "schema": {"type": "string"}}}}, "steps.a.wait.value", "string"),
        ({"a": {"wait": {"signal": "s"}, "retry": {}}}, "steps.a.retry", "where a step waits"),
        ({"a": {**mail(to="x"), "undo": {"wait": {"seconds": 1}}}}, "steps.a.undo", "is to change something"),
        (
            {"a": {**VALUE, "compensate": {"do": "replace", "action": {"wait": {"seconds": 1}}}}},
            "steps.a.compensate.action.wait",
            "not there to wait",
        ),
        (
            {
                "a": {"wait": {"signal": "s", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}},
                "b": {"transform": {"value": "${steps.a.output.x}"}},
            },
            "steps.b.transform.value",
            "'x', which is not there",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(steps: dict[str, Any], place: str, said: str):
    found = faults(steps)
    assert said in found.get(place, ""), found


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"returns": {"a": ["${steps.z.output}"]}}, "returns.a.0"),
        ({"middleware": ["nope"]}, "middleware.0"),
        ({"inputs": {"x": {"type": "integer", "default": "three"}}}, "inputs.x.default"),
        ({"inputs": {"x": {"type": "nope"}}}, "inputs.x"),
    ],
)
def test_a_fault_beside_the_steps_is_told_too(more: dict[str, Any], place: str):
    assert place in faults({"a": VALUE}, **more)


def test_a_definition_without_faults_has_none():
    steps = {
        "a": ask(models=["m"]),
        "b": {**mail(to="${steps.a.output.text}", copies="${inputs.n}"), "undo": mail(to="${steps.b.output.id}")},
        "c": {
            "when": "${steps.b.output.id} != '' && ${run.cost_usd ?? 0} < 1.0",
            "map": {"over": "${inputs.list}", "do": VALUE},
        },
        "d": {"workflow": {"name": "other", "inputs": {"n": "${steps.c.output[0] ?? 1}"}}, "compensate": {"do": "continue"}},
        "e": {"workflow": {"name": "it", "inputs": {"text": "", "n": 1, "list": []}, "max_depth": 2}},
    }
    assert faults(steps, returns={"x": "${steps.d.output.x}"}, middleware=["log"]) == {}


@pytest.mark.parametrize(
    ("asked", "place"), [({"strategy": "workflow", "options": {"workflow": "it"}}, "strategy"), ({"recipe": "flow"}, "recipe")]
)
def test_a_workflow_is_called_by_a_step_of_its_own(asked: dict[str, Any], place: str):
    found = faults({"a": {"orchestration": {"input": "x", **asked}}})
    assert list(found) == [f"steps.a.orchestration.{place}"]
    assert "a step of its own" in found[f"steps.a.orchestration.{place}"]


def test_a_workflow_that_writes_is_no_tool_that_reads():
    as_tool = {"description": "Posts.", "side_effect": "read"}
    found = faults({"a": {"workflow": {"name": "posts"}}}, as_tool=as_tool)
    assert found == {
        "as_tool.side_effect": "is `read`, and steps.a.posts.steps.p calls 'mail', which writes; say `write`",
    }


def test_a_workflow_that_writes_what_nobody_undoes_is_not_repeated():
    found = faults({"a": {"workflow": {"name": "posts"}, "retry": {"times": 1}}})
    assert list(found) == ["steps.a.retry"]
    assert "would call 'mail' again at posts.steps.p" in found["steps.a.retry"]
