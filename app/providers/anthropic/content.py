"""Conversations as Anthropic takes them: a system prompt, and user and assistant turns made of content blocks."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any, assert_never, cast

import orjson

from app.core.errors import CapabilityMissing, InvalidRequest
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
from app.providers.anthropic.ids import CallIds

Block = dict[str, Any]
Turn = dict[str, Any]

_IMAGE_PREFIXES = {"iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}
"""How the base64 of each image format that Anthropic takes begins (doc page "Vision")."""


def conversation(messages: Sequence[Message]) -> tuple[list[Block], list[Turn]]:
    """The system prompt's blocks, and the turns.

    System messages, wherever they stand, go to the system prompt in their order. Neighbours of one role become one turn. Where
    nothing but system messages was said, they are the user's turn, since Anthropic wants one.

    Raises:
        CapabilityMissing: a part that Anthropic does not take.
        InvalidRequest: a part that cannot be read.
    """
    system: list[Block] = []
    turns: list[Turn] = []
    ids = CallIds()
    for message in messages:
        if message.role == "system":
            system += _system_blocks(message)
            continue
        role = "assistant" if message.role == "assistant" else "user"
        continued = bool(turns) and turns[-1]["role"] == role
        if role == "assistant" and not continued:
            ids.next_turn()
        if blocks := _blocks(message.parts, role, ids):
            if continued:
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": role, "content": blocks})
    for turn in turns:
        turn["content"].sort(key=_rank_in_user_turn if turn["role"] == "user" else _rank_in_assistant_turn)
    if not turns and system:
        return [], [{"role": "user", "content": system}]
    _trim_end(turns)
    return system, turns


def _rank_in_user_turn(block: Block) -> int:
    """Tool results come first (doc page "Handle tool calls")."""
    return 0 if block["type"] == "tool_result" else 1


def _rank_in_assistant_turn(block: Block) -> int:
    """Thinking comes first and tool calls last (doc page "Extended thinking", preserving thinking blocks)."""
    return {"thinking": 0, "redacted_thinking": 0, "tool_use": 2}.get(block["type"], 1)


def _trim_end(turns: list[Turn]) -> None:
    """A final assistant turn is a beginning to continue; it must not end in white space (doc page "Prefill")."""
    if not turns or turns[-1]["role"] != "assistant":
        return
    last = turns[-1]["content"][-1]
    if last["type"] == "text":
        last["text"] = last["text"].rstrip()


def _system_blocks(message: Message) -> Iterable[Block]:
    for part in message.parts:
        if not isinstance(part, TextPart):
            raise CapabilityMissing("Anthropic takes only text in system messages; put images and documents in a user message")
        if part.text.strip():
            yield _text(part.text)


def _blocks(parts: Sequence[Part], role: str, ids: CallIds) -> list[Block]:
    found = (_block(part, role, ids) for part in parts)
    return [block for block in found if block is not None]


def _block(part: Part, role: str, ids: CallIds) -> Block | None:
    match part:
        case TextPart():
            return _text(part.text) if part.text.strip() else None  # blank text blocks are refused
        case ImagePart():
            return _image(part)
        case DocumentPart():
            return _document(part)
        case ReasoningPart():
            return _reasoning(part) if role == "assistant" else None
        case ToolCallPart():
            return {"type": "tool_use", "id": ids.call(part.id), "name": part.name, "input": _input(part.arguments)}
        case ToolResultPart():
            return _tool_result(part, ids)
        case _:
            assert_never(part)


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _reasoning(part: ReasoningPart) -> Block | None:
    """Sealed reasoning goes back unchanged; what bears no seal would be refused, and is not needed."""
    if part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}
    if part.signature is not None:
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    return None


def _input(arguments: str) -> dict[str, Any]:
    """Anthropic takes an object only; what a model of another vendor wrote instead is kept as text inside one."""
    if not arguments.strip():
        return {}
    try:
        value = orjson.loads(arguments)
    except ValueError:
        value = None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"arguments": arguments}


def _tool_result(part: ToolResultPart, ids: CallIds) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": ids.result(part.call_id)}
    content = [
        _image(item) if isinstance(item, ImagePart) else _text(item.text)
        for item in part.content
        if isinstance(item, ImagePart) or item.text.strip()
    ]
    if content:
        block["content"] = content
    if part.is_error:
        block["is_error"] = True
    return block


def _image(part: ImagePart) -> Block:
    media_type, data = part.media_type, part.data
    if part.url is not None and part.url.startswith("data:"):
        media_type, data = _data_url(part.url)
    if data is not None:
        media_type = media_type or next((kind for start, kind in _IMAGE_PREFIXES.items() if data.startswith(start)), None)
        if media_type is None:
            raise InvalidRequest("an image without media_type; say image/png, image/jpeg, image/gif or image/webp")
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
    if part.url is None:
        raise InvalidRequest("an image needs a url, or data with its media_type")
    return {"type": "image", "source": {"type": "url", "url": part.url}}


def _document(part: DocumentPart) -> Block:
    media_type, data = part.media_type, part.data
    if part.url is not None and part.url.startswith("data:"):
        media_type, data = _data_url(part.url)
    if data is not None:
        source = _document_source(media_type, data)
    elif part.url is not None:
        source = {"type": "url", "url": part.url}
    else:
        raise InvalidRequest("a document needs a url, or data with its media_type")
    title = {} if part.name is None else {"title": part.name}
    return {"type": "document", "source": source, **title}


def _document_source(media_type: str, data: str) -> Block:
    if media_type == "application/pdf":
        return {"type": "base64", "media_type": media_type, "data": data}
    if not media_type.startswith("text/"):
        raise CapabilityMissing(f"Anthropic takes documents of type application/pdf and text, not {media_type!r}")
    try:
        text = base64.b64decode(data, validate=True).decode(errors="replace")
    except binascii.Error:
        raise InvalidRequest("a document's data is not base64") from None
    return {"type": "text", "media_type": "text/plain", "data": text}


def _data_url(url: str) -> tuple[str, str]:
    head, comma, data = url.removeprefix("data:").partition(",")
    media_type, *attributes = head.split(";")
    if not comma or "base64" not in attributes:
        raise InvalidRequest("a data URL must be of the form data:image/png;base64,...")
    return media_type, data
