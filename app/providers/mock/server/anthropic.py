"""Anthropic's messages, from the server's side (Anthropic API reference, "Messages", "Streaming Messages", "Errors")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from app.core.chat import ChatRequest, ChatResponse, Choice, Generation, NamedTool, ResponseFormat, ToolChoice, ToolDefinition
from app.core.messages import DocumentPart, ImagePart, Message, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from app.core.model_events import Delta, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta
from app.core.usage import Usage
from app.providers.mock.personas import Persona
from app.providers.mock.server.wire import (
    BadRequest,
    Frames,
    Json,
    Problem,
    event,
    member,
    objects,
    parsed_object,
    strings,
    whole_number,
)

_ERROR_TYPES = {
    "auth": "authentication_error",
    "not_found": "not_found_error",
    "rate_limited": "rate_limit_error",
    "quota_exhausted": "rate_limit_error",
    "request_too_large": "request_too_large",
    "overloaded": "overloaded_error",
    "invalid_request": "invalid_request_error",
    "context_length": "invalid_request_error",
    "content_filtered": "invalid_request_error",
}
"""Failure class: the error's `type`; others are `api_error`."""

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class AnthropicMessages:
    """The dialect `POST /v1/messages`."""

    def parse(self, body: Json, path: Mapping[str, str]) -> ChatRequest:
        if not isinstance(body.get("model"), str):
            raise BadRequest("model: Field required")
        if body.get("max_tokens") is None:
            raise BadRequest("max_tokens: Field required")
        messages = objects(body.get("messages"), "messages")
        if not messages:
            raise BadRequest("messages: at least one message is required")
        system = [Message("system", _parts(body["system"]))] if body.get("system") else []
        return ChatRequest(
            model=body["model"],
            messages=(*system, *(part for message in messages for part in _messages(message))),
            generation=_generation(body),
            tools=tuple(_tool(tool) for tool in objects(body.get("tools") or [], "tools")),
            tool_choice=_tool_choice(body.get("tool_choice")),
            incremental=bool(body.get("stream")),
        )

    def whole(self, request: ChatRequest, response: ChatResponse) -> Any:
        choice = response.choices[0]
        return _message(response) | {"content": _content(choice), **_stop(request, choice), "usage": _usage(response.usage)}

    def frames(self, request: ChatRequest, response: ChatResponse, pieces: Sequence[Delta]) -> Frames:
        usage = _usage(response.usage)
        start: dict[str, Any] = _message(response) | {
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage | {"output_tokens": 1},
        }
        head = event("message_start", {"type": "message_start", "message": start}) + event("ping", {"type": "ping"})
        deltas, last = _blocks(pieces)
        stop = {"type": "message_delta", "delta": _stop(request, response.choices[0]), "usage": usage}
        tail = last + event("message_delta", stop) + event("message_stop", {"type": "message_stop"})
        return Frames(head, deltas, tail)

    def error(self, problem: Problem) -> tuple[int, Json]:
        kind = _ERROR_TYPES.get(problem.failure, "api_error")
        return problem.status, {"type": "error", "error": {"type": kind, "message": problem.message}, "request_id": "req_mock"}

    def error_frame(self, problem: Problem) -> bytes:
        return event("error", self.error(problem)[1])

    def error_headers(self, problem: Problem) -> dict[str, str]:
        again = problem.failure in ("rate_limited", "overloaded", "server_error")
        headers = {"request-id": "req_mock", "x-should-retry": "true" if again else "false"}
        return headers if problem.retry_after is None else headers | {"retry-after": f"{problem.retry_after:g}"}

    def models(self, personas: Sequence[Persona]) -> Any:
        rows = [
            {"type": "model", "id": persona.name, "display_name": persona.name, "created_at": "2023-11-14T22:13:20Z"}
            for persona in personas
        ]
        return {"data": rows, "has_more": False, "first_id": rows[0]["id"], "last_id": rows[-1]["id"]}


def _messages(message: Json) -> Iterator[Message]:
    """One message as ours: tool results, which Anthropic puts into user messages, become messages of role `tool`."""
    role = message.get("role")
    if role not in ("user", "assistant"):
        raise BadRequest(f"messages: role {role!r} is not 'user' or 'assistant'")
    parts = _parts(message.get("content"))
    results = tuple(part for part in parts if isinstance(part, ToolResultPart))
    if results:
        yield Message("tool", results)
    rest = tuple(part for part in parts if not isinstance(part, ToolResultPart))
    if rest:
        yield Message(role, rest)


def _parts(content: Any) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_part(block) for block in objects(content, "content"))


def _part(block: Json) -> Part:
    source = member(block, "source")
    match block.get("type"):
        case "text":
            return TextPart(str(block.get("text", "")))
        case "image":
            return ImagePart(url=source.get("url"), data=source.get("data"), media_type=source.get("media_type"))
        case "document":
            media_type = source.get("media_type") or "application/pdf"
            return DocumentPart(source.get("url"), source.get("data"), media_type, block.get("title"))
        case "tool_use":
            return ToolCallPart(
                str(block.get("id", "")), str(block.get("name", "")), orjson.dumps(block.get("input") or {}).decode()
            )
        case "tool_result":
            inner = _parts(block.get("content") or "")
            kept = tuple(part for part in inner if isinstance(part, TextPart | ImagePart))
            return ToolResultPart(str(block.get("tool_use_id", "")), kept, is_error=bool(block.get("is_error")))
        case "thinking":
            return ReasoningPart(str(block.get("thinking", "")), block.get("signature"))
        case "redacted_thinking":
            return ReasoningPart(redacted=block.get("data"))
        case other:
            raise BadRequest(f"content: no block of type {other!r}")


def _generation(body: Json) -> Generation:
    form = member(member(body, "output_config"), "format") or member(body, "output_format")
    thinking = member(body, "thinking").get("type") in ("enabled", "adaptive")
    single = member(body, "tool_choice").get("disable_parallel_tool_use")
    return Generation(
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        max_tokens=whole_number(body["max_tokens"], "max_tokens"),
        stop=strings(body.get("stop_sequences"), "stop_sequences"),
        response_format=ResponseFormat("json_schema", schema=form.get("schema")) if form.get("type") == "json_schema" else None,
        reasoning_effort=None if thinking else "none",
        parallel_tool_calls=False if single else None,
    )


def _tool(tool: Json) -> ToolDefinition:
    return ToolDefinition(
        str(tool.get("name", "")), tool.get("description"), member(tool, "input_schema") or {"type": "object"}
    )


def _tool_choice(choice: Any) -> ToolChoice:
    match choice:
        case {"type": "tool", "name": str(name)}:
            return NamedTool(name)
        case {"type": "any"}:
            return "required"
        case {"type": "none"}:
            return "none"
        case _:
            return "auto"


def _message(response: ChatResponse) -> dict[str, Any]:
    return {"id": f"msg_{response.id}", "type": "message", "role": "assistant", "model": response.model}


def _content(choice: Choice) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": part.text, "signature": part.signature or ""} for part in choice.reasoning_parts
    ]
    if text := choice.text or choice.refusal:
        blocks.append({"type": "text", "text": text})
    return blocks + [
        {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": parsed_object(call.arguments)}
        for call in choice.tool_calls
    ]


def _stop(request: ChatRequest, choice: Choice) -> dict[str, Any]:
    if choice.native_finish_reason == "stop_sequence":
        return {"stop_reason": "stop_sequence", "stop_sequence": request.generation.stop[0]}
    return {"stop_reason": _STOP_REASONS[choice.finish_reason], "stop_sequence": None}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": usage.output_tokens,
    }


def _blocks(pieces: Sequence[Delta]) -> tuple[list[bytes], bytes]:
    """The deltas with the starts and stops of the blocks they are in, and the stop of the last block."""
    frames: list[bytes] = []
    number, open_block = -1, None
    for piece in pieces:
        block, start, deltas = _delta(piece)
        frame = b""
        if block != open_block:
            frame = _stop_block(number)
            number, open_block = number + 1, block
            frame += event("content_block_start", {"type": "content_block_start", "index": number, "content_block": start})
        for delta in deltas:
            frame += event("content_block_delta", {"type": "content_block_delta", "index": number, "delta": delta})
        frames.append(frame)
    return frames, _stop_block(number)


def _stop_block(number: int) -> bytes:
    return event("content_block_stop", {"type": "content_block_stop", "index": number}) if number >= 0 else b""


def _delta(piece: Delta) -> tuple[object, Json, list[Json]]:
    """What block a piece belongs to, how such a block starts, and the deltas that the piece becomes."""
    match piece:
        case TextDelta(text) | RefusalDelta(text):
            return "text", {"type": "text", "text": ""}, [{"type": "text_delta", "text": text}]
        case ReasoningDelta(text, _, signature):
            seal: list[Json] = [{"type": "signature_delta", "signature": signature}] if signature else []
            thinking: list[Json] = [{"type": "thinking_delta", "thinking": text}, *seal]
            return "thinking", {"type": "thinking", "thinking": "", "signature": ""}, thinking
        case ToolCallDelta(index, arguments, id_, name):
            start: Json = {"type": "tool_use", "id": f"toolu_{id_}", "name": name, "input": {}}
            return index, start, [{"type": "input_json_delta", "partial_json": arguments}]
