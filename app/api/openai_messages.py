"""Our messages in OpenAI's shape, as `schemas/messages.py` reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from app.core.messages import (
    DocumentPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)


def openai_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Each of `messages`; one with several tool results becomes as many."""
    return [shown for message in messages for shown in _shown(message)]


def _shown(message: Message) -> Iterator[dict[str, Any]]:
    if message.role == "tool":
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                name = {"name": part.name} if part.name else {}
                yield {"role": "tool", "tool_call_id": part.call_id, **name, "content": _content(part.content)}
        return
    calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
    reasoning = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
    said = [part for part in message.parts if not isinstance(part, (ToolCallPart, ReasoningPart))]
    shown: dict[str, Any] = {"role": message.role, "content": _content(said) if said or not calls else None}
    if message.name:
        shown["name"] = message.name
    if reasoning:
        shown["reasoning_content"] = reasoning
    if calls:
        shown["tool_calls"] = [_call(call) for call in calls]
    yield shown


def _call(call: ToolCallPart) -> dict[str, Any]:
    sealed = {"signature": call.signature} if call.signature else {}
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
        **sealed,
    }


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if all(isinstance(part, TextPart) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, TextPart))
    return [shown for part in parts if (shown := _part(part))]


def _part(part: Part) -> dict[str, Any] | None:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"
            return {"type": "image_url", "image_url": {"url": url, **({"detail": part.detail} if part.detail else {})}}
        case DocumentPart():
            where = {"url": part.url} if part.url else {"data": part.data}
            return {"type": "document", "document": {**where, "media_type": part.media_type, "name": part.name}}
        case ReasoningPart() | ToolCallPart() | ToolResultPart():
            return None
