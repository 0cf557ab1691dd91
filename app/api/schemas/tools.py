"""Bodies and answers about tools."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from app.api.schemas.messages import Body
from app.core.tools import SideEffect, ToolSource


class ToolCallRequestBody(Body):
    """What a tool is called with."""

    arguments: dict[str, Any] = Field(default_factory=dict, description="They must fit the tool's `input_schema`.")


class ToolPermission(TypedDict):
    """Whether the key that asks may have the tool run, by which `rule`. `depends`: that is decided by the arguments."""

    effect: Literal["allow", "approve", "deny", "depends"]
    rule: str | None
    reason: str


class ToolEntry(TypedDict):
    """A version of a tool. `documentation` is what a model is told of it, `max_calls` how often it may be called in one run,
    `unavailable` why it cannot be called now."""

    name: str
    object: Literal["tool"]
    version: str
    versions: list[str]
    description: str
    documentation: str
    source: ToolSource
    side_effect: SideEffect
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    timeout_s: float
    cost_usd: float
    max_calls: int | None
    scopes: list[str]
    deprecated: str | None
    unavailable: str | None
    permission: ToolPermission


class ToolList(TypedDict):
    object: Literal["list"]
    data: list[ToolEntry]
    next_cursor: str | None


class ToolAnswer(TypedDict):
    """What a call came to. `result` is data, bounded; `truncated` says that it was longer. `warnings` tell of deprecation."""

    object: Literal["tool.result"]
    tool: str
    version: str
    result: Any
    truncated: bool
    latency_ms: float
    cost_usd: float
    warnings: list[str]
    request_id: str
    created_at: int
