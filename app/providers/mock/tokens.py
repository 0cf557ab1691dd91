"""How mock models count tokens.

The estimate: one token for each four bytes of UTF-8, rounded up (OpenAI's rule of thumb for English: "What are tokens and how
to count them?", OpenAI Help Center), four for the frame of each message, 250 for an image, 1,000 for a document. What a tool's
definition takes is the estimate of its JSON. It is meant to be steady and easy to check by hand, not to equal a tokeniser's.
"""

from __future__ import annotations

import orjson

from app.core.chat import ChatRequest, Choice
from app.core.messages import DocumentPart, ImagePart, Message, ReasoningPart, TextPart, ToolCallPart, ToolResultPart

BYTES_A_TOKEN = 4
_FRAME, _IMAGE, _DOCUMENT = 4, 250, 1_000


def count(text: str) -> int:
    """The estimate for a text."""
    size = len(text) if text.isascii() else len(text.encode())
    return -(-size // BYTES_A_TOKEN)


def count_input(request: ChatRequest) -> int:
    """The estimate for a whole prompt with its tools."""
    tools = sum(count(tool.name) + count(tool.description or "") + _json(tool.parameters) for tool in request.tools)
    form = request.generation.response_format
    return sum(map(_message, request.messages)) + tools + (_json(form.schema) if form and form.schema else 0)


def count_choice(choice: Choice) -> int:
    """The estimate for what was generated, reasoning included."""
    calls = sum(count(call.name) + count(call.arguments) for call in choice.tool_calls)
    return count(choice.text) + count(choice.reasoning) + count(choice.refusal) + calls


def _json(value: object) -> int:
    return -(-len(orjson.dumps(value, default=dict)) // BYTES_A_TOKEN)


def _message(message: Message) -> int:
    total = _FRAME
    for part in message.parts:
        match part:
            case TextPart() | ReasoningPart():
                total += count(part.text)
            case ToolCallPart():
                total += count(part.name) + count(part.arguments)
            case ToolResultPart():
                total += count(part.text)
            case ImagePart():
                total += _IMAGE
            case DocumentPart():
                total += _DOCUMENT
    return total
