"""Responses of the Messages API, whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from app.core.chat import ChatResponse, Choice, FinishReason
from app.core.model_events import Delta, ReasoningDelta, RefusalDelta, ResponseBuilder, TextDelta, ToolCallDelta
from app.core.usage import Usage
from app.providers.anthropic import failure

_FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Doc page "Handling stop reasons"."""


def decode(body: Any, headers: Mapping[str, str]) -> ChatResponse:
    """The response of a whole body.

    Raises:
        DialectError: the body is an error.
        KeyError, TypeError: it has not the vendor's shape.
    """
    if body.get("type") == "error":
        raise failure.of_event(body)
    builder = ResponseBuilder()
    for delta in _deltas(body):
        builder.add(delta)
    choice = finished(builder.choice(), body.get("stop_reason"))
    return response(body["id"], body["model"], choice, usage(body.get("usage") or {}), headers)


def response(name: str, model: str, choice: Choice, used: Usage, headers: Mapping[str, str]) -> ChatResponse:
    return ChatResponse(name, model, (choice,), used, provider_request_id=headers.get("request-id"))


def finished(choice: Choice, native: str | None) -> Choice:
    """`choice` with its finish reason."""
    return replace(choice, finish_reason=_FINISH_REASONS.get(native or "", "stop"), native_finish_reason=native)


def refusal(stop_details: Any) -> str:
    """Why the vendor's classifiers refused, where it says so."""
    return (stop_details.get("explanation") or "") if stop_details else ""


def usage(counts: Mapping[str, Any]) -> Usage:
    """The vendor's `input_tokens` leaves out what was read from and written to the cache; ours counts the whole prompt."""
    details: Mapping[str, Any] = counts.get("output_tokens_details") or {}
    read = counts.get("cache_read_input_tokens") or 0
    written = counts.get("cache_creation_input_tokens") or 0
    return Usage(
        input_tokens=(counts.get("input_tokens") or 0) + read + written,
        output_tokens=counts.get("output_tokens") or 0,
        cached_input_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=details.get("thinking_tokens") or 0,
    )


def _deltas(body: Any) -> Iterator[Delta]:
    tools = 0
    for block in body["content"]:
        match block["type"]:
            case "text":
                yield TextDelta(block["text"])
            case "thinking":
                yield ReasoningDelta(block["thinking"], signature=block.get("signature") or None)
            case "redacted_thinking":
                yield ReasoningDelta("", redacted=block["data"])
            case "tool_use":
                yield ToolCallDelta(tools, orjson.dumps(block["input"]).decode(), block["id"], block["name"])
                tools += 1
            case _:
                pass  # server tools are run by the vendor; their traces are no part of the answer
    if text := refusal(body.get("stop_details")):
        yield RefusalDelta(text)
