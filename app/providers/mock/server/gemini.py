"""Gemini's generateContent, from the server's side (Gemini API reference, "Generating content"; google.rpc.Status)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from app.core.chat import (
    ChatRequest,
    ChatResponse,
    Choice,
    Generation,
    JsonObject,
    NamedTool,
    ResponseFormat,
    ToolChoice,
    ToolDefinition,
)
from app.core.messages import DocumentPart, ImagePart, Message, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from app.core.model_events import Delta, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta
from app.core.usage import Usage
from app.providers.mock.personas import Persona
from app.providers.mock.server.wire import (
    BadRequest,
    Frames,
    Json,
    Problem,
    member,
    objects,
    parsed_object,
    strings,
    whole_number,
)

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
"""HTTP status: google.rpc.Code; others are INTERNAL."""

_FINISH_REASONS = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


class GeminiContent:
    """The dialect `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`."""

    def parse(self, body: Json, path: Mapping[str, str]) -> ChatRequest:
        body = cast(Json, _camel(body))
        contents = objects(body.get("contents"), "contents")
        if not contents:
            raise BadRequest("* GenerateContentRequest.contents: contents is not specified")
        instruction = member(body, "systemInstruction")
        system = [Message("system", _parts(instruction))] if instruction else []
        tools = objects(body.get("tools") or [], "tools")
        return ChatRequest(
            model=path["model"],
            messages=(*system, *(_message(content) for content in contents)),
            generation=_generation(member(body, "generationConfig")),
            tools=tuple(
                _tool(tool)
                for group in tools
                for tool in objects(group.get("functionDeclarations") or [], "functionDeclarations")
            ),
            tool_choice=_tool_choice(member(member(body, "toolConfig"), "functionCallingConfig")),
            incremental=path["method"] == "streamGenerateContent",
            extra={"sse": path.get("alt") == "sse"},
        )

    def whole(self, request: ChatRequest, response: ChatResponse) -> Any:
        candidates = [_candidate(choice.index, _content(choice), _finish(choice)) for choice in response.choices]
        return _body(response, candidates)

    def frames(self, request: ChatRequest, response: ChatResponse, pieces: Sequence[Delta]) -> Frames:
        """Events end in CRLF CRLF. Tool calls come whole, each in the chunk of its first piece, as Gemini sends them."""
        calls = {(choice.index, n): call for choice in response.choices for n, call in enumerate(choice.tool_calls)}
        chunks = [
            _body(response, [_candidate(piece.choice, parts)])
            for piece in pieces
            if (parts := _piece(piece, calls)) is not None
        ]
        end = _body(response, [_candidate(choice.index, [{"text": ""}], _finish(choice)) for choice in response.choices])
        if request.extra and request.extra.get("sse"):
            return Frames(b"", [_data(chunk) for chunk in chunks], _data(end))
        return Frames(b"[", [orjson.dumps(chunk) + b",\r\n" for chunk in chunks], orjson.dumps(end) + b"]")

    def error(self, problem: Problem) -> tuple[int, Json]:
        details: list[Json] = []
        code = problem.status
        if problem.failure == "auth" and code == 401:  # Gemini answers a bad key with 400
            code = 400
            details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"})
        if problem.retry_after is not None:
            delay = f"{problem.retry_after:g}s"
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
        error = {"code": code, "message": problem.message, "status": _STATUSES.get(code, "INTERNAL"), "details": details}
        return code, {"error": error}

    def error_frame(self, problem: Problem) -> bytes:
        return _data(self.error(problem)[1])

    def error_headers(self, problem: Problem) -> dict[str, str]:
        return {}

    def models(self, personas: Sequence[Persona]) -> Any:
        return {
            "models": [
                {
                    "name": f"models/{persona.name}",
                    "displayName": persona.name,
                    "inputTokenLimit": persona.context_window,
                    "outputTokenLimit": persona.max_output_tokens,
                    "supportedGenerationMethods": ["generateContent"],
                }
                for persona in personas
            ]
        }


_CALLERS_OWN = frozenset(("args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"))
"""Members whose content has names of the caller's."""

_SNAKE = re.compile(r"_([a-z])")


def _camel(node: Any) -> Any:
    """The body with its members' names in lowerCamelCase; both are allowed and the SDKs mix them ("ProtoJSON Format")."""
    if isinstance(node, list):
        return [_camel(item) for item in cast(list[Any], node)]
    if not isinstance(node, Mapping):
        return node
    named = ((_SNAKE.sub(lambda found: found[1].upper(), key), value) for key, value in cast(Json, node).items())
    return {key: value if key in _CALLERS_OWN else _camel(value) for key, value in named}


def _data(value: Any) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\r\n\r\n"


def _message(content: Json) -> Message:
    role = content.get("role", "user")
    if role not in ("user", "model", "function"):
        raise BadRequest("Please use a valid role: user, model.")
    parts = _parts(content)
    if any(isinstance(part, ToolResultPart) for part in parts):
        return Message("tool", parts)
    return Message("assistant" if role == "model" else "user", parts)


def _parts(content: Json) -> tuple[Part, ...]:
    return tuple(_part(part) for part in objects(content.get("parts") or [], "parts"))


def _part(part: Json) -> Part:
    match part:
        case {"text": str(text), "thought": True}:
            return ReasoningPart(text, part.get("thoughtSignature"))
        case {"text": str(text)}:
            return TextPart(text)
        case {"inlineData": {"data": str(payload), "mimeType": str(media_type)}}:
            return _file(media_type, payload=payload)
        case {"fileData": {"fileUri": str(url)} as file}:
            return _file(str(cast(Json, file).get("mimeType", "image/*")), url=url)
        case {"functionCall": {"name": str(name)} as call}:
            called = cast(Json, call)
            return ToolCallPart(str(called.get("id") or name), name, orjson.dumps(member(called, "args")).decode())
        case {"functionResponse": {"name": str(name)} as result}:
            returned = cast(Json, result)
            output = member(returned, "response")
            shown = output.get("result", output.get("output", output))
            text = shown if isinstance(shown, str) else orjson.dumps(shown).decode()
            return ToolResultPart(str(returned.get("id") or name), (TextPart(text),), name)
        case _:
            raise BadRequest(f"Invalid JSON payload received. Unknown part {', '.join(part)!r}.")


def _file(media_type: str, *, url: str | None = None, payload: str | None = None) -> Part:
    kind = ImagePart if media_type.startswith("image/") else DocumentPart
    return kind(url=url, data=payload, media_type=media_type)


def _generation(config: Json) -> Generation:
    effort = member(config, "thinkingConfig").get("includeThoughts")
    return Generation(
        temperature=config.get("temperature"),
        top_p=config.get("topP"),
        max_tokens=whole_number(config.get("maxOutputTokens"), "max_output_tokens"),
        stop=strings(config.get("stopSequences"), "stop_sequences"),
        seed=config.get("seed"),
        n=whole_number(config.get("candidateCount"), "candidate_count") or 1,
        response_format=_format(config),
        reasoning_effort=None if effort else "none",
    )


def _format(config: Json) -> ResponseFormat | None:
    if config.get("responseMimeType") != "application/json":
        return None
    schema = member(config, "responseJsonSchema", "responseSchema")
    return ResponseFormat("json_schema", schema=_lowered(schema)) if schema else ResponseFormat("json_object")


def _tool(tool: Json) -> ToolDefinition:
    parameters = member(tool, "parametersJsonSchema") or _lowered(member(tool, "parameters") or {"type": "object"})
    return ToolDefinition(str(tool.get("name", "")), tool.get("description"), parameters)


def _lowered(schema: Any) -> JsonObject:
    """Gemini's own schemas (`STRING`, `nullable`, counts as text) as JSON schemas."""
    return cast(JsonObject, _lower(schema))


def _lower(node: Any, key: str = "") -> Any:
    if isinstance(node, Mapping):
        return {name: _lower(value, name) for name, value in cast(Json, node).items()}
    if isinstance(node, list):
        return [_lower(item) for item in cast(list[Any], node)]
    if key == "type" and isinstance(node, str):
        return node.lower()
    return int(node) if key in ("minItems", "maxItems", "minLength", "maxLength") else node


def _tool_choice(config: Json) -> ToolChoice:
    names = strings(config.get("allowedFunctionNames"), "allowed_function_names")
    match config.get("mode"):
        case "NONE":
            return "none"
        case "ANY":
            return NamedTool(names[0]) if len(names) == 1 else "required"
        case _:
            return "auto"


def _candidate(index: int, parts: list[dict[str, Any]], finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
    return candidate | {"finishReason": finish} if finish else candidate


def _body(response: ChatResponse, candidates: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "candidates": candidates,
        "usageMetadata": _usage(response.usage),
        "modelVersion": response.model,
        "responseId": response.id,
    }


def _content(choice: Choice) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": choice.reasoning, "thought": True}] if choice.reasoning else []
    if choice.text:
        parts.append({"text": choice.text})
    return parts + [_call(call) for call in choice.tool_calls]


def _call(call: ToolCallPart) -> dict[str, Any]:
    return {"functionCall": {"id": call.id, "name": call.name, "args": parsed_object(call.arguments)}}


def _piece(piece: Delta, calls: Mapping[tuple[int, int], ToolCallPart]) -> list[dict[str, Any]] | None:
    match piece:
        case TextDelta(text):
            return [{"text": text}]
        case ReasoningDelta(text):
            return [{"text": text, "thought": True}]
        case RefusalDelta():
            return None
        case ToolCallDelta(index):
            return [_call(calls[piece.choice, index])] if piece.id else None


def _finish(choice: Choice) -> str:
    return _FINISH_REASONS[choice.finish_reason]


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "thoughtsTokenCount": usage.reasoning_tokens,
        "totalTokenCount": usage.total_tokens,
    }
