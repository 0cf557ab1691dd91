"""OpenAI's chat completions, from the server's side (OpenAI API reference, "Chat" and "Streaming events")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.core.chat import ChatRequest, ChatResponse, Choice, Generation, NamedTool, ResponseFormat, ToolChoice, ToolDefinition
from app.core.messages import DocumentPart, ImagePart, Message, Part, TextPart, ToolCallPart, ToolResultPart
from app.core.model_events import Delta, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta
from app.core.usage import Usage
from app.providers.mock.answering import CREATED
from app.providers.mock.personas import Persona
from app.providers.mock.server.wire import (
    BadRequest,
    Frames,
    Json,
    Problem,
    data,
    member,
    objects,
    split_data_url,
    strings,
    whole_number,
)

_ERROR_TYPES = {
    "auth": "invalid_request_error",
    "not_found": "invalid_request_error",
    "invalid_request": "invalid_request_error",
    "context_length": "invalid_request_error",
    "content_filtered": "invalid_request_error",
    "quota_exhausted": "insufficient_quota",
    "request_too_large": "tokens",
    "rate_limited": "requests",
}
"""Failure class: the error's `type`; others are `server_error` (OpenAI guide "Error codes")."""


class OpenAIChat:
    """The dialect `POST /v1/chat/completions`."""

    def parse(self, body: Json, path: Mapping[str, str]) -> ChatRequest:
        model = body.get("model")
        if not isinstance(model, str):
            raise BadRequest("you must provide a model parameter")
        messages = objects(body.get("messages"), "'messages'")
        if not messages:
            raise BadRequest("Invalid 'messages': empty array. Expected an array with minimum length 1.")
        options = member(body, "stream_options")
        return ChatRequest(
            model=model,
            messages=tuple(map(_message, messages)),
            generation=_generation(body),
            tools=tuple(_tool(tool) for tool in objects(body.get("tools") or [], "'tools'")),
            tool_choice=_tool_choice(body.get("tool_choice")),
            incremental=bool(body.get("stream")),
            extra={"include_usage": bool(options.get("include_usage"))},
        )

    def whole(self, request: ChatRequest, response: ChatResponse) -> Any:
        return {
            "id": response.id,
            "object": "chat.completion",
            "created": response.created,
            "model": response.model,
            "choices": [
                {"index": choice.index, "message": _answer(choice), "logprobs": None, "finish_reason": _finish(choice)}
                for choice in response.choices
            ],
            "usage": _usage(response.usage),
        }

    def frames(self, request: ChatRequest, response: ChatResponse, pieces: Sequence[Delta]) -> Frames:
        with_usage = bool(request.extra and request.extra.get("include_usage"))
        more: dict[str, Any] = {"usage": None} if with_usage else {}
        base: dict[str, Any] = {
            "id": response.id,
            "object": "chat.completion.chunk",
            "created": response.created,
            "model": response.model,
        }

        def chunk(index: int, delta: Json, finish: str | None = None) -> bytes:
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            return data({**base, "choices": [choice], **more})

        head = b"".join(chunk(choice.index, {"role": "assistant", "content": ""}) for choice in response.choices)
        tail = [chunk(choice.index, {}, _finish(choice)) for choice in response.choices]
        if with_usage:
            tail.append(data({**base, "choices": [], "usage": _usage(response.usage)}))
        return Frames(head, [chunk(piece.choice, _delta(piece)) for piece in pieces], b"".join(tail) + b"data: [DONE]\n\n")

    def error(self, problem: Problem) -> tuple[int, Json]:
        kind = _ERROR_TYPES.get(problem.failure, "server_error")
        return problem.status, {"error": {"message": problem.message, "type": kind, "param": None, "code": problem.code}}

    def error_frame(self, problem: Problem) -> bytes:
        return data(self.error(problem)[1])

    def error_headers(self, problem: Problem) -> dict[str, str]:
        headers = {"x-request-id": "req_mock"}
        return headers if problem.retry_after is None else headers | {"retry-after": f"{problem.retry_after:g}"}

    def models(self, personas: Sequence[Persona]) -> Any:
        rows = [{"id": persona.name, "object": "model", "created": CREATED, "owned_by": "mock"} for persona in personas]
        return {"object": "list", "data": rows}


def _message(message: Json) -> Message:
    role = message.get("role")
    parts = _parts(message.get("content"))
    match role:
        case "tool":
            texts = tuple(part for part in parts if isinstance(part, TextPart | ImagePart))
            return Message("tool", (ToolResultPart(str(message.get("tool_call_id", "")), texts),))
        case "assistant":
            calls = objects(message.get("tool_calls") or [], "'tool_calls'")
            return Message("assistant", (*parts, *(_call(call) for call in calls)))
        case "system" | "developer":
            return Message("system", parts)
        case "user":
            return Message("user", parts)
        case _:
            raise BadRequest(
                f"Invalid value: {role!r}. Supported values are: 'system', 'assistant', 'user', 'tool', 'developer'."
            )


def _call(call: Json) -> ToolCallPart:
    function = member(call, "function")
    return ToolCallPart(str(call.get("id", "")), str(function.get("name", "")), str(function.get("arguments", "")))


def _parts(content: Any) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_part(item) for item in objects(content, "'content'"))


def _part(item: Json) -> Part:
    match item.get("type"):
        case "text":
            return TextPart(str(item.get("text", "")))
        case "refusal":
            return TextPart(str(item.get("refusal", "")))
        case "image_url":
            url = str(member(item, "image_url").get("url", ""))
            inline = split_data_url(url)
            return ImagePart(data=inline[1], media_type=inline[0]) if inline else ImagePart(url=url)
        case "file":
            file = member(item, "file")
            media_type, payload = split_data_url(str(file.get("file_data", ""))) or ("application/pdf", "")
            return DocumentPart(data=payload, media_type=media_type, name=file.get("filename"))
        case other:
            raise BadRequest(f"Invalid value: {other!r}. Supported values are: 'text', 'image_url', 'file' and 'refusal'.")


def _generation(body: Json) -> Generation:
    limit = body.get("max_completion_tokens")
    return Generation(
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        max_tokens=whole_number(body.get("max_tokens") if limit is None else limit, "'max_tokens'"),
        stop=strings(body.get("stop"), "'stop'"),
        seed=body.get("seed"),
        n=whole_number(body.get("n"), "'n'") or 1,
        response_format=_format(member(body, "response_format")),
        reasoning_effort=body.get("reasoning_effort"),
        parallel_tool_calls=body.get("parallel_tool_calls"),
    )


def _format(form: Json) -> ResponseFormat | None:
    match form.get("type"):
        case None | "text":
            return None
        case "json_object":
            return ResponseFormat("json_object")
        case "json_schema":
            described = member(form, "json_schema")
            return ResponseFormat("json_schema", str(described.get("name", "answer")), member(described, "schema"))
        case other:
            raise BadRequest(f"Invalid value: {other!r}. Supported values are: 'text', 'json_object' and 'json_schema'.")


def _tool(tool: Json) -> ToolDefinition:
    function = member(tool, "function")
    parameters = member(function, "parameters") or {"type": "object", "properties": {}}
    return ToolDefinition(str(function.get("name", "")), function.get("description"), parameters)


def _tool_choice(choice: Any) -> ToolChoice:
    match choice:
        case "none" | "required":
            return choice
        case {"function": {"name": str(name)}}:
            return NamedTool(name)
        case _:
            return "auto"


def _answer(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text or None, "refusal": choice.refusal or None}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning  # as DeepSeek's API and vLLM name it
    if choice.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.tool_calls
        ]
    return message


def _finish(choice: Choice) -> str:
    """OpenAI ends a refusal of the model's own with `stop`."""
    return "stop" if choice.refusal else choice.finish_reason


def _delta(piece: Delta) -> dict[str, Any]:
    match piece:
        case TextDelta():
            return {"content": piece.text}
        case ReasoningDelta():
            return {"reasoning_content": piece.text}
        case RefusalDelta():
            return {"refusal": piece.text}
        case ToolCallDelta(index, arguments, id_, name):
            call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
            if id_:
                call |= {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
            return {"tool_calls": [call]}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
