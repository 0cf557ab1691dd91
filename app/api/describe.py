"""What the OpenAPI document says of routes that read their body and write their answer themselves.

They do so because validating a body twice, or an answer at all, would cost as much as the route; so the framework does not know
their shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from app.api.schemas.answers import Problem

_REF = "#/components/schemas/{model}"
_SHAPES: dict[str, Any] = {}


def described(
    answer: Any = None,
    *,
    body: Any = None,
    examples: Mapping[str, Any] | None = None,
    stream: str | None = None,
    lines: str | None = None,
    status: int = 200,
) -> dict[str, Any]:
    """The `openapi_extra` of a route.

    Parameters:
        answer: the type of its answer, None for no content.
        body: the type of its body.
        examples: of the body, name -> `{"summary": ..., "value": ...}`; the first is what Swagger UI offers.
        stream: what the events are, where the route can answer with them.
        lines: what each line of JSON is, where the answer is such lines.
        status: of a good answer.
    """
    content: dict[str, Any] = {}
    if answer is not None:
        content["application/json"] = {"schema": _shape(answer)}
    if stream:
        content["text/event-stream"] = {"schema": {"type": "string", "description": stream}}
    if lines:
        content["application/x-ndjson"] = {"schema": {"type": "string", "description": lines}}
    problem = described_problem("What was wrong, and what would be right.")
    extra: dict[str, Any] = {
        "responses": {
            str(status): {"description": "The answer.", **({"content": content} if content else {})},
            "default": problem,
        }
    }
    if body is not None:
        media = {"schema": _shape(body), "examples": dict(examples or {})}
        extra["requestBody"] = {"required": True, "content": {"application/json": media}}
    return extra


def described_problem(when: str) -> dict[str, Any]:
    """A response that is a problem document."""
    return {"description": when, "content": {"application/problem+json": {"schema": _shape(Problem)}}}


def _shape(kind: Any) -> dict[str, Any]:
    _SHAPES[kind.__name__] = kind
    return {"$ref": _REF.format(model=kind.__name__)}


def shapes() -> dict[str, Any]:
    """The schemas of everything described and of what it refers to, for `components`. Made when asked for: it takes a while."""
    schemas: dict[str, Any] = {}
    for name, kind in _SHAPES.items():
        mode = "validation" if name.endswith("Body") else "serialization"
        schema = TypeAdapter(kind).json_schema(ref_template=_REF, mode=mode)
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    return schemas
