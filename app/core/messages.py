"""What is said in a conversation: messages made of typed parts."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Literal

from app.core.values import value

Role = Literal["system", "user", "assistant", "tool"]
ImageDetail = Literal["auto", "low", "high"]
Speaker = tuple[str, str]
"""The provider and the family of a model."""


@value
class TextPart:
    text: str


@value
class ImagePart:
    """An image by `url` or as base64 `data` with its `media_type` (exactly one of the two)."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: ImageDetail | None = None


@value
class DocumentPart:
    """A document by `url` or as base64 `data` with its `media_type` (exactly one of the two)."""

    url: str | None = None
    data: str | None = None
    media_type: str = "application/pdf"
    name: str | None = None


@value
class ReasoningPart:
    """A model's own reasoning, kept because some vendors want it back unchanged in the next turn.

    `signature` is the vendor's seal over `text`; `redacted` is the sealed form of reasoning that was not shown.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None


@value
class ToolCallPart:
    """A model's request to call a tool. `arguments` is the JSON text as the model wrote it; `signature` is Gemini's seal."""

    id: str
    name: str
    arguments: str
    signature: str | None = None


@value
class ToolResultPart:
    """What a tool returned for the call `call_id`. `name` is the tool's, which Gemini asks for."""

    call_id: str
    content: tuple[TextPart | ImagePart, ...]
    name: str | None = None
    is_error: bool = False

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


Part = TextPart | ImagePart | DocumentPart | ReasoningPart | ToolCallPart | ToolResultPart


@value
class Message:
    """One turn. Tool results are messages of role `tool`, one or more results each.

    `speaker` is there where a message comes from a stored conversation: the provider and the family of the model that said it.
    Nobody else may be shown its vendor's seals.
    """

    role: Role
    parts: tuple[Part, ...] = field(default=())
    name: str | None = None
    speaker: Speaker | None = None

    @property
    def text(self) -> str:
        """The text parts, joined."""
        if len(self.parts) == 1 and isinstance(self.parts[0], TextPart):
            return self.parts[0].text
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


def system(text: str) -> Message:
    return Message("system", (TextPart(text),))


def user(text: str) -> Message:
    return Message("user", (TextPart(text),))


def assistant(text: str) -> Message:
    return Message("assistant", (TextPart(text),))


def unsealed(message: Message) -> Message:
    """`message` without what only the vendor that made it may be shown: its seals, and the reasoning under them."""
    parts: list[Part] = [
        replace(part, signature=None) if isinstance(part, ToolCallPart) else part
        for part in message.parts
        if not isinstance(part, ReasoningPart)
    ]
    return replace(message, parts=tuple(parts))


def shown_to(messages: tuple[Message, ...], speaker: Speaker) -> tuple[Message, ...]:
    """`messages` as a model may be shown them: seals of other vendors' models are left out, and who spoke is not told."""
    return tuple([_shown(message, speaker) for message in messages])


def _shown(message: Message, speaker: Speaker) -> Message:
    if message.speaker is None:
        return message
    own = replace(message, speaker=None)
    return own if message.speaker == speaker else unsealed(own)
