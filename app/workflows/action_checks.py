"""Whether an action of a definition can be done: what it names is there, and what it gives fits. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, cast

from app.config.document import Fault
from app.config.explaining import close_to, listed
from app.config.spec import OrchestratorConfig
from app.config.workflows import (
    WorkflowAction,
    WorkflowCall,
    WorkflowConfig,
    WorkflowMap,
    WorkflowOrchestration,
    WorkflowTool,
    WorkflowTransform,
    WorkflowWait,
)
from app.core.chat import JsonObject
from app.core.errors import InvalidRequest
from app.core.json_schemas import compiled as compiled_schema
from app.workflows.binding import bound_expression
from app.workflows.graph import Place, read_by, values_of
from app.workflows.references import malformed, whole
from app.workflows.scope import Scope, reference_fault, references_of
from app.workflows.types import NoSuchMember, misfit, type_of

AS_ORCHESTRATION: Final = "a workflow in a workflow is a step of its own: write `workflow: {name: ...}`, not an orchestration"
"""As an orchestration it would keep no journal, undo nothing with the others, and could run inside of itself for ever."""
USED_BY: Final = {
    "signal": {"json_schema", "within_s"},
    "review": {"value", "json_schema"},
    "seconds": set[str](),
    "until": set[str](),
}
"""What may be waited for, and which members say more of it."""
LONGEST_S: Final = 2_592_000


def without_default(schema: JsonObject) -> dict[str, Any]:
    return {member: value for member, value in schema.items() if member != "default"}


def schema_of_inputs(config: WorkflowConfig) -> JsonObject:
    """The inputs of a workflow as one JSON schema, as tools have it."""
    return {
        "type": "object",
        "properties": {name: without_default(schema) for name, schema in config.inputs.items()},
        "required": [name for name, schema in config.inputs.items() if "default" not in schema],
        "additionalProperties": False,
    }


class ActionCheck:
    """The faults of one action, without those inside of it."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def faults(self, action: WorkflowAction, place: Place) -> Iterator[Fault]:
        yield from self._references(action, place)
        if action.orchestration is not None:
            yield from self._orchestration(action.orchestration, (*place, "orchestration"))
        if action.tool is not None:
            yield from self._tool(action.tool, (*place, "tool"))
        if action.transform is not None:
            yield from self._transform(action.transform, (*place, "transform"))
        if action.workflow is not None:
            yield from self._workflow(action.workflow, (*place, "workflow"))
        if action.map is not None:
            yield from self._map(action.map, (*place, "map"))
        if action.wait is not None:
            yield from self._wait(action.wait, (*place, "wait"))

    def _references(self, action: WorkflowAction, place: Place) -> Iterator[Fault]:
        transform = action.transform
        broken = [Fault((*place, *where), said) for at, value in values_of(action) for where, said in malformed(value, at)]
        if transform is not None and transform.expression is not None:
            try:
                bound_expression(transform.expression)
            except InvalidRequest as error:
                broken.append(Fault((*place, "transform", "expression"), error.message))
        yield from broken
        if broken or action.switch is not None:  # whose conditions are checked where conditions are
            return
        for inner, reference in read_by(action):
            wrong = reference_fault(reference, self._scope)
            if wrong is not None:
                yield Fault((*place, *inner), wrong)

    # ---- orchestrations

    def _orchestration(self, asked: WorkflowOrchestration, place: Place) -> Iterator[Fault]:
        known = self._scope.known
        if (asked.strategy is None) == (asked.recipe is None):
            yield Fault(place, "needs either 'strategy' or 'recipe'")
            return
        for member in ("strategy", "recipe", "lead_model"):
            yield from self._fits(getattr(asked, member), {"type": ["string", "null"]}, (*place, member))
        if asked.recipe is not None and "${" not in asked.recipe and asked.recipe not in known.recipes:
            hint = close_to(asked.recipe, known.recipes) or f"; there are {listed(known.recipes) or 'none'}"
            yield Fault((*place, "recipe"), f"{asked.recipe!r} is no recipe{hint}")
        if asked.strategy == "workflow" or asked.recipe in known.workflow_recipes:
            yield Fault((*place, "strategy" if asked.recipe is None else "recipe"), AS_ORCHESTRATION)
            return
        for number, model in enumerate(asked.models):
            yield from self._model(model, (*place, "models", number))
        if asked.lead_model is not None:
            yield from self._model(asked.lead_model, (*place, "lead_model"))
        if asked.json_schema is not None:
            try:
                compiled_schema(asked.json_schema)
            except InvalidRequest as error:
                yield Fault((*place, "schema"), error.message)
        if asked.strategy is not None and "${" not in asked.strategy and not references_of(asked.options):
            config = OrchestratorConfig(strategy=asked.strategy, models=asked.models, options=asked.options)
            yield from (Fault((*place, *inner), message) for inner, message in known.orchestration(config))

    def _model(self, name: str, place: Place) -> Iterator[Fault]:
        wrong = None if "${" in name else self._scope.known.model(name)
        if wrong is not None:
            yield Fault(place, wrong)

    # ---- tools and workflows

    def _tool(self, call: WorkflowTool, place: Place) -> Iterator[Fault]:
        known = self._scope.known
        if known.tool is None or known.unseen(call.name):
            return
        spec = known.tool(call.name)
        if spec is None:
            yield Fault((*place, "name"), f"{call.name!r} is no tool of the service")
            return
        yield from self._fits(call.arguments, spec.input_schema, (*place, "arguments"))

    def _workflow(self, call: WorkflowCall, place: Place) -> Iterator[Fault]:
        known = self._scope.known
        config = known.workflow(call.name)
        if config is None:
            name, _, version = call.name.partition("@")
            if known.workflow(name) is not None:
                yield Fault((*place, "name"), f"the workflow {name!r} has no version {version!r} that is kept")
                return
            hint = close_to(name, known.workflows) or f"; there are {listed(known.workflows) or 'none'}"
            yield Fault((*place, "name"), f"{call.name!r} is no workflow{hint}")
            return
        yield from self._fits(call.inputs, schema_of_inputs(config), (*place, "inputs"))

    # ---- values

    def _transform(self, transform: WorkflowTransform, place: Place) -> Iterator[Fault]:
        given = transform.model_fields_set & {"expression", "value"}
        if len(given) != 1:
            yield Fault(place, "needs either 'expression' or 'value'")

    def _map(self, mapped: WorkflowMap, place: Place) -> Iterator[Fault]:
        yield from self._fits(mapped.over, {"type": "array"}, (*place, "over"))

    def _wait(self, wait: WorkflowWait, place: Place) -> Iterator[Fault]:
        kinds = [kind for kind in USED_BY if getattr(wait, kind) is not None]
        if len(kinds) != 1:
            yield Fault(place, f"waits for one of {listed(USED_BY)}")
            return
        given = wait.model_fields_set & {"value", "json_schema", "within_s"}
        for member in sorted(given - USED_BY[kinds[0]]):
            name = "schema" if member == "json_schema" else member
            yield Fault((*place, name), f"is not used where a {kinds[0]} is waited for; leave it out")
        yield from self._fits(wait.seconds, {"type": "number", "minimum": 0, "maximum": LONGEST_S}, (*place, "seconds"))
        yield from self._fits(wait.until, {"type": ["number", "string"]}, (*place, "until"))
        if isinstance(wait.until, str) and not references_of(wait.until):
            try:
                datetime.fromisoformat(wait.until)
            except ValueError:
                yield Fault((*place, "until"), f"{wait.until!r} is no time; write it as 2026-11-21T18:00:00Z")
        if wait.json_schema is not None:
            try:
                compiled_schema(wait.json_schema)
            except InvalidRequest as error:
                yield Fault((*place, "schema"), error.message)
                return
            if wait.value is not None:
                yield from self._fits(wait.value, wait.json_schema, (*place, "value"))

    def _fits(self, value: Any, schema: JsonObject, place: Place) -> Iterator[Fault]:
        """The faults of `value`, which may hold references, as something that is to fit `schema`."""
        if value is None:
            return
        if not references_of(value):
            try:
                found = compiled_schema(schema).first_fault(value)
            except InvalidRequest:  # a part of a schema that refers to the rest of it
                return
            if found is not None:
                yield Fault((*place, *found.path), found.message)
        elif isinstance(value, str):
            yield from self._text_fits(value, schema, place)
        elif isinstance(value, Mapping):
            yield from self._members_fit(cast("Mapping[str, Any]", value), schema, place)
        elif isinstance(value, list | tuple):
            items = schema.get("items")
            wrong = misfit({"type": "array"}, schema)
            if wrong is not None:
                yield Fault(place, wrong)
            for number, item in enumerate(cast("list[Any]", value)):
                if isinstance(items, Mapping):
                    yield from self._fits(item, cast("JsonObject", items), (*place, number))

    def _text_fits(self, text: str, schema: JsonObject, place: Place) -> Iterator[Fault]:
        alone = whole(text)
        if alone is None:
            wrong = misfit(type_of(text), schema)
            if wrong is not None:
                yield Fault(place, f"a text with references in it {wrong}")
        elif alone.plain is not None:
            try:
                wrong = misfit(self._scope.schema(alone.plain), schema)
            except NoSuchMember:  # which is told where references are checked
                return
            if wrong is not None:
                yield Fault(place, f"${{{alone.text}}} {wrong}")

    def _members_fit(self, value: Mapping[str, Any], schema: JsonObject, place: Place) -> Iterator[Fault]:
        wrong = misfit({"type": "object"}, schema)
        if wrong is not None:
            yield Fault(place, wrong)
            return
        members = cast("Mapping[str, Any]", schema.get("properties") or {})
        for name in cast("list[str]", schema.get("required") or []):
            if name not in value:
                yield Fault(place, f"{name!r} is missing")
        for name, member in value.items():
            inner = members.get(name)
            if isinstance(inner, Mapping):
                yield from self._fits(member, cast("JsonObject", inner), (*place, name))
            elif schema.get("additionalProperties") is False and name not in members:
                hint = close_to(name, members) or f"; there are {listed(members) or 'none'}"
                yield Fault((*place, name), f"is not wanted{hint}")
