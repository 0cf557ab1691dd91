"""What is known of values before anything runs: JSON schemas of what references lead to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from app.config.workflows import WorkflowWait
from app.core.chat import JsonObject
from app.workflows.references import Path

ANY: Final[JsonObject] = {}
_TEXT: Final[JsonObject] = {"type": "string"}
_NUMBER: Final[JsonObject] = {"type": "number"}
_MAYBE_NUMBER: Final[JsonObject] = {"type": ["number", "null"]}
_MAYBE_TEXT: Final[JsonObject] = {"type": ["string", "null"]}
_WHOLE: Final[JsonObject] = {"type": "integer"}

RUN: Final[JsonObject] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"id": _TEXT, "cost_usd": _MAYBE_NUMBER, "tokens": _WHOLE, "seconds": _NUMBER, "steps_done": _WHOLE},
}
"""`${run...}`: what the run is and has used so far."""
WORKFLOW: Final[JsonObject] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"name": _TEXT, "version": _WHOLE, "depth": _WHOLE, "steps": ANY, "outer": ANY},
}
"""`${workflow...}`: the workflow itself. `steps` says of each step how it stands now, `outer` is the same of the workflow that
this one is a step of, with its `inputs`."""


def step_result(output: JsonObject) -> JsonObject:
    """`${steps.name...}` of a step with such an output."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "status": _TEXT,
            "output": output,
            "confidence": _MAYBE_NUMBER,
            "agreement": _MAYBE_NUMBER,
            "case": {"type": ["integer", "string", "null"]},
            "cost_usd": _MAYBE_NUMBER,
            "tokens": _WHOLE,
            "latency_ms": _NUMBER,
            "tries": _WHOLE,
            "error": {"type": ["object", "null"]},
        },
    }


def answer(schema: JsonObject | None) -> JsonObject:
    """The output of an orchestration."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "text": _TEXT,
            "json": ANY if schema is None else schema,
            "source_model": _MAYBE_TEXT,
            "finish_reason": _MAYBE_TEXT,
            "strategy": _TEXT,
            "status": _TEXT,
        },
    }


def waited(wait: WorkflowWait) -> JsonObject:
    """The output of a step that waits."""
    schema = wait.json_schema or ANY
    if wait.signal is not None:
        return schema
    if wait.review is None:
        return {"type": "object", "additionalProperties": False, "properties": {"until": _NUMBER}}
    said = {"value": schema, "decision": _TEXT, "by": _MAYBE_TEXT, "comment": _MAYBE_TEXT}
    return {"type": "object", "additionalProperties": False, "properties": said}


class NoSuchMember(LookupError):
    """A path leads to what cannot be there. `step` is where it goes wrong, `known` what there is."""

    def __init__(self, step: str | int, known: tuple[str, ...]) -> None:
        super().__init__(str(step))
        self.step, self.known = step, known


def reached(schema: JsonObject, path: Path) -> JsonObject:
    """The schema of what `path` leads to in a value that fits `schema`; ANY where that is not known.

    Raises:
        NoSuchMember: nothing can be there.
    """
    for step in path:
        types = types_of(schema)
        if isinstance(step, int):
            if types is not None and "array" not in types:
                raise NoSuchMember(step, ())
            items = schema.get("items")
            schema = cast("JsonObject", items) if isinstance(items, Mapping) else ANY
            continue
        if types is not None and "object" not in types:
            raise NoSuchMember(step, ())
        members = cast("Mapping[str, Any]", schema.get("properties") or {})
        if step in members:
            found = members[step]
            schema = cast("JsonObject", found) if isinstance(found, Mapping) else ANY
        elif schema.get("additionalProperties") is False:
            raise NoSuchMember(step, tuple(members))
        else:
            return ANY
    return schema


def types_of(schema: JsonObject) -> frozenset[str] | None:
    """The JSON types that a value may have; None where that is not said."""
    said = schema.get("type")
    if isinstance(said, str):
        return frozenset({said})
    if isinstance(said, list):
        return frozenset(str(one) for one in cast("list[Any]", said))
    return None


def misfit(given: JsonObject, wanted: JsonObject) -> str | None:
    """Why a value of the schema `given` can never fit `wanted`, in words; None where it may."""
    from_, to = types_of(given), types_of(wanted)
    if from_ is None or to is None:
        return None
    possible = from_ - {"null"} or from_
    accepted = to | ({"integer"} if "number" in to else frozenset[str]())
    if possible & accepted or ("number" in possible and "integer" in accepted):
        return None
    return f"is {_listed(possible)}, and {_listed(to)} is wanted"


def type_of(value: Any) -> JsonObject:
    """The schema of a value without references in it."""
    match value:
        case None:
            return {"type": "null"}
        case bool():
            return {"type": "boolean"}
        case int():
            return _WHOLE
        case float():
            return _NUMBER
        case str():
            return _TEXT
        case list() | tuple():
            return {"type": "array"}
        case _:
            return {"type": "object"}


def _listed(types: frozenset[str]) -> str:
    return " or ".join(sorted(types))
