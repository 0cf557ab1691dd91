"""What is said in a conversation: messages made of typed parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]
ImageDetail = Literal["auto", "low", "high"]


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image by `url` or as base64 `data` with its `media_type` (exactly one of the two)."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: ImageDetail | None = None


@dataclass(frozen=True, slots=True)
class DocumentPart:
    """A document by `url` or as base64 `data` with its `media_type` (exactly one of the two)."""

    url: str | None = None
    data: str | None = None
    media_type: str = "application/pdf"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """A model's own reasoning, kept because some vendors want it back unchanged in the next turn.

    `signature` is the vendor's seal over `text`; `redacted` is the sealed form of reasoning that was not shown.
    """

    text: str = ""
    signature: str | None = None
    redacted: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A model's request to call a tool. `arguments` is the JSON text as the model wrote it; `signature` is Gemini's seal."""

    id: str
    name: str
    arguments: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Tool results are messages of role `tool`, one or more results each."""

    role: Role
    parts: tuple[Part, ...] = field(default=())
    name: str | None = None

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
