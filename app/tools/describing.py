"""What a model is told of tools."""

from __future__ import annotations

from typing import Any, Final

from app.core.chat import ToolDefinition
from app.core.tools import ToolSpec

_EFFECTS: Final = {
    "pure": "Computes its result from its arguments alone.",
    "read": "Looks something up; changes nothing.",
    "write": "Changes something outside of this conversation: call it once, and only when that is wanted.",
}
_MAX_DESCRIPTION: Final = 4_000


def definition(spec: ToolSpec) -> ToolDefinition:
    """The tool as a function that a model may ask for."""
    return ToolDefinition(spec.name, describe(spec), dict(spec.input_schema))


def describe(spec: ToolSpec) -> str:
    """What it does, what it gives, what calling it does to the world, and whether another should be used."""
    lines = [spec.description.strip(), _EFFECTS[spec.side_effect]]
    if spec.output_schema is not None:
        lines.append(f"Returns {_shape(spec.output_schema)}.")
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
