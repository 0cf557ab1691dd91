"""What a link's condition may ask of a request."""

from __future__ import annotations

from typing import Any, Final, cast

from app.core.messages import DocumentPart, ImagePart, Message, TextPart, ToolCallPart, ToolResultPart
from app.core.runs import RunRequest

BYTES_A_TOKEN: Final = 4
"""A rule of thumb for English: OpenAI's help page "What are tokens and how to count them". Other scripts take more bytes."""
TEXT_CHARACTERS: Final = 20_000

KNOWN: Final = frozenset(
    {
        "tokens",
        "messages",
        "text",
        "images",
        "documents",
        "tools",
        "json",
        "max_tokens",
        "metadata",
        "tags",
        "task",
        "tenant",
        "stream",
    }
)
"""The variables of a condition; `facts` says what each is."""


def facts(request: RunRequest) -> dict[str, Any]:
    """The values of `KNOWN` for `request`.

    `tokens`: of the prompt, estimated from its bytes. `text`: the last user message, its first 20,000 characters.
    `tags`, `task`: the members of that name in `metadata`, empty where they are not a list of texts and a text.
    `max_tokens`: 0 where nobody set it.
    """
    parts = [part for message in request.messages for part in message.parts]
    asked = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
    form = request.generation.response_format
    tags, task = request.metadata.get("tags"), request.metadata.get("task")
    return {
        "tokens": prompt_tokens(request.messages),
        "messages": len(request.messages),
        "text": asked[:TEXT_CHARACTERS],
        "images": sum(isinstance(part, ImagePart) for part in parts),
        "documents": sum(isinstance(part, DocumentPart) for part in parts),
        "tools": [tool.name for tool in request.tools],
        "json": form is not None and form.type != "text",
        "max_tokens": request.generation.max_tokens or 0,
        "metadata": dict(request.metadata),
        "tags": [tag for tag in cast("list[Any]", tags) if isinstance(tag, str)] if isinstance(tags, list) else [],
        "task": task if isinstance(task, str) else "",
        "tenant": request.tenant,
        "stream": request.deltas != "none",
    }


def prompt_tokens(messages: tuple[Message, ...]) -> int:
    """About how many tokens the texts of `messages` are."""
    size = 0
    for message in messages:
        for part in message.parts:
            match part:
                case TextPart() | ToolResultPart():
                    size += len(part.text.encode("utf-8", "replace"))
                case ToolCallPart():
                    size += len(part.arguments.encode("utf-8", "replace"))
                case _:
                    pass
    return -(-size // BYTES_A_TOKEN)
