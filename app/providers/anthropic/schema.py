"""JSON schemas as Anthropic's structured outputs and strict tools take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson

_UNSUPPORTED = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
)
"""Constraints that the vendor refuses with 400 (doc page "Structured outputs", JSON Schema limitations)."""

_OF_SCHEMAS = ("properties", "$defs", "definitions", "patternProperties")
_IN_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")


def supported(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `schema` in the subset that the vendor enforces.

    Objects that do not say otherwise are closed, which the vendor demands, and constraints it cannot enforce are told to the
    model in the description, as the official SDKs do.
    """
    copy = {name: _member(name, value) for name, value in schema.items()}
    if (copy.get("type") == "object" or isinstance(copy.get("properties"), dict)) and "additionalProperties" not in copy:
        copy["additionalProperties"] = False
    told = {name: copy.pop(name) for name in _UNSUPPORTED if name in copy}
    if isinstance(copy.get("minItems"), int) and copy["minItems"] > 1:
        told["minItems"] = copy.pop("minItems")
    if told:
        constraints = orjson.dumps(told).decode()
        copy["description"] = f"{copy['description']}\n\n{constraints}" if copy.get("description") else constraints
    return copy


def _member(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        schemas = cast("Mapping[str, Any]", value)
        if name in _OF_SCHEMAS:
            return {key: _schema(inner) for key, inner in schemas.items()}
        return supported(schemas) if name in {"items", "additionalProperties", "not"} else schemas
    if isinstance(value, list) and name in _IN_LISTS:
        return [_schema(inner) for inner in cast("list[Any]", value)]
    return cast("Any", value)


def _schema(value: Any) -> Any:
    return supported(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value
