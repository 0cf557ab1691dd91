"""What may be referred to in a definition, and what is known of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from app.config.explaining import close_to, listed
from app.config.workflows import WorkflowAction, WorkflowConfig, WorkflowStep
from app.core.chat import JsonObject
from app.core.errors import InvalidRequest
from app.core.tools import ToolSpec
from app.workflows import graph
from app.workflows.graph import Place
from app.workflows.known import Known
from app.workflows.references import Path, Reference, in_value, whole
from app.workflows.types import ANY, RUN, WORKFLOW, NoSuchMember, answer, reached, step_result, type_of, waited


@dataclass(frozen=True, slots=True)
class Scope:
    """The references that a definition may make. `item` is the schema of a map's items, None outside of maps."""

    config: WorkflowConfig
    known: Known
    item: JsonObject | None = None
    _outputs: dict[str, JsonObject] = field(default_factory=dict[str, JsonObject])

    def within_map(self, step: WorkflowStep, place: Place) -> Scope:
        """The scope of what stands at `place` in `step`, which is inside of a map."""
        action: Any = step
        for member in place[: place.index("map")]:
            action = action[member] if isinstance(member, int) else getattr(action, str(member))
        over = action.map.over
        alone = None
        try:
            alone = whole(over) if isinstance(over, str) else None
        except InvalidRequest:
            return replace(self, item=ANY)
        if alone is None or alone.plain is None:
            return replace(self, item=ANY)
        try:
            items = self.schema(alone.plain).get("items")
        except NoSuchMember:
            return replace(self, item=ANY)
        return replace(self, item=cast("JsonObject", items) if isinstance(items, Mapping) else ANY)

    def tool(self, name: str) -> ToolSpec | None:
        return self.known.tool(name) if self.known.tool is not None else None

    def schema(self, path: Path) -> JsonObject:
        """What is known of the value that `path` leads to.

        Raises:
            NoSuchMember: there can be none.
        """
        root, rest = path[0], path[1:]
        match root:
            case "inputs":
                inputs: JsonObject = {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {name: _opened(schema) for name, schema in self.config.inputs.items()},
                }
                return reached(inputs, rest)
            case "steps":
                if not rest or rest[0] not in self.config.steps:
                    raise NoSuchMember(rest[0] if rest else "steps", tuple(self.config.steps))
                return reached(self._result(str(rest[0])), rest[1:])
            case "run":
                return reached(RUN, rest)
            case "workflow":
                return reached(WORKFLOW, rest)
            case "index":
                return reached({"type": "integer"}, rest)
            case _:
                return reached(self.item or ANY, rest)

    def _result(self, name: str) -> JsonObject:
        if name not in self._outputs:
            step = self.config.steps[name]
            replaced = step.compensate is not None and step.compensate.do == "replace"
            self._outputs[name] = step_result(ANY if replaced else self._output(step))
        return self._outputs[name]

    def _output(self, action: WorkflowAction) -> JsonObject:
        if action.orchestration is not None:
            return answer(action.orchestration.json_schema)
        if action.tool is not None:
            spec = self.tool(action.tool.name)
            return spec.output_schema or ANY if spec is not None else ANY
        if action.wait is not None:
            return waited(action.wait)
        if action.map is not None:
            return {"type": "array", "items": self._output(action.map.do)}
        if action.workflow is not None:
            called = self.known.workflow(action.workflow.name)
            if called is None:
                return ANY
            returned = graph.default_returns(called) if called.returns is None else called.returns
            return _made(returned)
        if action.transform is not None and action.transform.expression is None:
            return _made(action.transform.value)
        return ANY


def _opened(schema: JsonObject) -> JsonObject:
    """The schema of an input as far as it can be read without looking up what it refers to."""
    return ANY if "$ref" in schema or "anyOf" in schema or "oneOf" in schema or "allOf" in schema else schema


def _made(template: Any) -> JsonObject:
    """What is known of a value that a template makes."""
    if isinstance(template, Mapping):
        members = cast("Mapping[str, Any]", template)
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: _made(member) for name, member in members.items()},
        }
    if isinstance(template, str) and "${" in template:
        try:
            return {"type": "string"} if whole(template) is None else ANY
        except InvalidRequest:
            return ANY
    return type_of(template)


def reference_fault(reference: Reference, scope: Scope) -> str | None:
    """What is wrong with a reference; None where it may lead to something."""
    for path in reference.paths:
        if path[0] in ("item", "index") and scope.item is None:
            return f"${{{reference.text}}} is only there inside of a map"
        try:
            scope.schema(path)
        except NoSuchMember as error:
            return _unknown(reference, path, error)
    return None


def _unknown(reference: Reference, path: Path, error: NoSuchMember) -> str:
    word = str(error.step)
    known = close_to(word, error.known) or (f"; there are {listed(error.known)}" if error.known else "")
    if path[0] == "steps" and (len(path) < 2 or path[1] == error.step):
        return f"${{{reference.text}}} refers to {word!r}, which is no step{known}"
    if path[0] == "inputs" and len(path) > 1 and path[1] == error.step:
        return f"${{{reference.text}}} refers to {word!r}, which is no input{known}"
    return f"${{{reference.text}}} leads to {word!r}, which is not there{known}"


def references_of(value: Any) -> tuple[Reference, ...]:
    """The references in a JSON value; none where it is faulty, which is told elsewhere."""
    try:
        return tuple(reference for _, reference in in_value(value))
    except InvalidRequest:
        return ()
