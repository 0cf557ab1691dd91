"""OpenAPI for routes that read their body themselves, because validating it twice would cost as much as the route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_REF = "#/components/schemas/{model}"
_MODELS: dict[str, type[BaseModel]] = {}


def described(body: type[BaseModel], examples: Mapping[str, Any], *, stream: str | None = None) -> dict[str, Any]:
    """The `openapi_extra` of a route with `body`.

    Parameters:
        examples: name -> `{"summary": ..., "value": ...}`; the first is what Swagger UI offers.
        stream: what the events are, where the route can answer with them.
    """
    _MODELS[body.__name__] = body
    schema = {"$ref": _REF.format(model=body.__name__)}
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if stream:
        content["text/event-stream"] = {"schema": {"type": "string", "description": stream}}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": dict(examples)}}},
        "responses": {"200": {"description": "The answer.", "content": content}},
    }


def body_schemas() -> dict[str, Any]:
    """The schemas of all described bodies and of what they refer to, for `components`."""
    schemas: dict[str, Any] = {}
    for name, model in _MODELS.items():
        schema = model.model_json_schema(ref_template=_REF)
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    return schemas
