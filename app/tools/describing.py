"""What a model is told of tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from app.config.tools import FamilyTuning
from app.core.chat import ToolDefinition
from app.core.tools import ToolSpec

_EFFECTS: Final = {
    "pure": "Computes its result from its arguments alone.",
    "read": "Looks something up; changes nothing.",
    "write": "Changes something outside of this conversation: call it once, and only when that is wanted.",
}
_MAX_DESCRIPTION: Final = 4_000
_WORDS: Final = frozenset({"enum", "const", "default", "examples", "description", "title"})
"""Members of a schema that hold values and words, no schemas."""


def definition(spec: ToolSpec, tuning: FamilyTuning | None = None) -> ToolDefinition:
    """The tool as a function that a model may ask for, in the words and with the strictness of the model's family."""
    own = None
    if tuning is not None:
        own = tuning.descriptions.get(spec.reference) or tuning.descriptions.get(spec.name)
    strict = tuning is not None and tuning.strict and can_be_strict(spec.input_schema)
    return ToolDefinition(spec.name, own or describe(spec), dict(spec.input_schema), True if strict else None)


def can_be_strict(schema: Any) -> bool:
    """Whether a provider can hold arguments to `schema` as they are written: every object in it names its members, requires all
    of them and takes no others (OpenAI, "Structured outputs": supported schemas)."""
    if isinstance(schema, list):
        return all(can_be_strict(item) for item in cast("list[Any]", schema))
    if not isinstance(schema, Mapping):
        return True
    members = cast("Mapping[str, Any]", schema)
    if members.get("type") == "object" or "properties" in members:
        properties: Mapping[str, Any] = members.get("properties") or {}
        if members.get("additionalProperties") is not False or set(members.get("required") or ()) != set(properties):
            return False
        return all(can_be_strict(member) for member in properties.values())
    return all(can_be_strict(member) for name, member in members.items() if name not in _WORDS)


def describe(spec: ToolSpec) -> str:
    """What it does, what it gives, what calling it does to the world, how often it may be called, and whether another should be
    used."""
    lines = [spec.description.strip(), _EFFECTS[spec.side_effect]]
    if spec.output_schema is not None:
        lines.append(f"Returns {_shape(spec.output_schema)}.")
    if spec.max_calls is not None:
        lines.append(f"May be called {'once' if spec.max_calls == 1 else f'{spec.max_calls} times at most'}.")
    if spec.deprecated is not None:
        lines.append(f"Deprecated: {spec.deprecated}")
    return "\n".join(lines)[:_MAX_DESCRIPTION]


def deprecation_warning(spec: ToolSpec) -> str | None:
    """What is told to who uses a deprecated tool."""
    return None if spec.deprecated is None else f"the tool {spec.reference!r} is deprecated: {spec.deprecated}"


def _shape(schema: Any) -> str:
    members = schema.get("properties")
    if isinstance(members, dict) and members:
        return "an object with " + ", ".join(str(name) for name in members)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    kind = schema.get("type")
    return f"a value of type {kind}" if isinstance(kind, str) else "JSON"
