"""A `ChatRequest` as a chat completions body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from app.core.chat import ChatRequest, Generation, NamedTool, ResponseFormat, ToolChoice, ToolDefinition
from app.core.messages import DocumentPart, ImagePart, Message, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from app.providers.vendors import Vendor

Json = dict[str, Any]


def encode_request(request: ChatRequest, vendor: Vendor) -> Json:
    """The body for `vendor`: what the request leaves open is left out."""
    body: Json = {"model": request.model, "messages": list(_messages(request.messages, vendor))}
    body.update(_generation(request.generation, vendor))
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice != "auto":
            body["tool_choice"] = _tool_choice(request.tool_choice)
        if request.generation.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.generation.parallel_tool_calls
    if request.incremental:
        body["stream"] = True
        if vendor.stream_usage:
            body["stream_options"] = {"include_usage": True}
    if request.extra:
        body.update(request.extra)
    return body


def _generation(generation: Generation, vendor: Vendor) -> Json:
    settings: Json = {
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        vendor.max_tokens_field: generation.max_tokens,
        "stop": list(generation.stop) or None,
        vendor.seed_field: generation.seed,
        "n": generation.n if generation.n > 1 else None,
        "presence_penalty": generation.presence_penalty,
        "frequency_penalty": generation.frequency_penalty,
        "response_format": _response_format(generation.response_format),
        "logprobs": generation.logprobs or None,
        "top_logprobs": generation.top_logprobs,
        "reasoning_effort": generation.reasoning_effort,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _response_format(wanted: ResponseFormat | None) -> Json | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "json_object"}
    schema: Json = {"name": wanted.name, "schema": wanted.schema or {}}
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    if wanted.description is not None:
        schema["description"] = wanted.description
    return {"type": "json_schema", "json_schema": schema}


def _tool(tool: ToolDefinition) -> Json:
    function: Json = {"name": tool.name, "parameters": tool.parameters}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> str | Json:
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _messages(messages: Iterable[Message], vendor: Vendor) -> Iterator[Json]:
    """The messages in order. Images that tools returned follow the last of the tool messages, which carry text alone."""
    images: list[Json] = []
    for message in messages:
        if message.role == "tool":
            for part in message.parts:
                if isinstance(part, ToolResultPart):
                    yield {"role": "tool", "tool_call_id": part.call_id, "content": part.text}
                    images.extend(_result_images(part))
            continue
        if images:
            yield {"role": "user", "content": images}
            images = []
        yield _assistant(message, vendor) if message.role == "assistant" else _spoken(message)
    if images:
        yield {"role": "user", "content": images}


def _result_images(result: ToolResultPart) -> list[Json]:
    images = [_image(part) for part in result.content if isinstance(part, ImagePart)]
    if not images:
        return []
    return [{"type": "text", "text": f"What the tool call {result.call_id} returned besides its text:"}, *images]


def _spoken(message: Message) -> Json:
    """A system or user message: a plain string when it is text alone, which every vendor takes."""
    spoken: Json = {"role": message.role}
    if message.name is not None:
        spoken["name"] = message.name
    if all(isinstance(part, TextPart) for part in message.parts):
        spoken["content"] = message.text
    else:
        spoken["content"] = [content for part in message.parts if (content := _content(part)) is not None]
    return spoken


def _content(part: Part) -> Json | None:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return _image(part)
        case DocumentPart():
            return _document(part)
        case _:
            return None


def _assistant(message: Message, vendor: Vendor) -> Json:
    calls = [_tool_call(part) for part in message.parts if isinstance(part, ToolCallPart)]
    spoken: Json = {"role": "assistant", "content": message.text or (None if calls else "")}
    if message.name is not None:
        spoken["name"] = message.name
    if calls:
        spoken["tool_calls"] = calls
    if vendor.reasoning_field is not None:
        reasoning = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
        if reasoning:
            spoken[vendor.reasoning_field] = reasoning
    return spoken


def _tool_call(part: ToolCallPart) -> Json:
    return {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments or "{}"}}


def _image(part: ImagePart) -> Json:
    image: Json = {"url": part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"}
    if part.detail is not None:
        image["detail"] = part.detail
    return {"type": "image_url", "image_url": image}


def _document(part: DocumentPart) -> Json:
    """A `file` part. Only OpenRouter takes a URL in `file_data`; profiles say who takes documents at all."""
    name = part.name or f"document.{part.media_type.rpartition('/')[2]}"
    return {"type": "file", "file": {"filename": name, "file_data": part.url or f"data:{part.media_type};base64,{part.data}"}}
