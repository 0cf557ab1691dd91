"""What a provider of OpenAI's dialect says on the wire."""

from __future__ import annotations

import json
from typing import Any

HEAD = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}


def completion(text: str = "Hello there") -> dict[str, Any]:
    """A whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {**HEAD, "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    """One frame of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({**HEAD, "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


def stream(*pieces: str) -> bytes:
    """A whole stream of these pieces of text."""
    said = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in pieces)]
    return b"".join((*said, chunk({}, "stop"), b"data: [DONE]\n\n"))
