"""Chat messages as they come over HTTP, in OpenAI's shape, and their conversion to ours.

Beyond OpenAI's parts a `document` part is taken: `{"type": "document", "document": {"url" | "data", "media_type", "name"}}`.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.core.chat import JsonObject, NamedTool, ResponseFormat, ToolChoice, ToolDefinition
from app.core.errors import InvalidRequest
from app.core.messages import (
    DocumentPart,
    ImageDetail,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from app.core.shapes import check_schema

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=-]+)*;base64,", re.ASCII)


class Body(BaseModel):
    """A request body: unknown members are refused, and so are texts where numbers belong."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TextBody(Body):
    type: Literal["text"]
    text: str


class RefusalBody(Body):
    type: Literal["refusal"]
    refusal: str


class ImageUrlBody(Body):
    url: str = Field(min_length=1)
    detail: ImageDetail | None = None


class ImageBody(Body):
    type: Literal["image_url"]
    image_url: ImageUrlBody


class FileMember(Body):
    file_data: str = Field(description="A data URL with the document in base64.")
    filename: str | None = None


class FileBody(Body):
    type: Literal["file"]
    file: FileMember


class DocumentMember(Body):
    url: str | None = None
    data: str | None = Field(default=None, description="The document in base64.")
    media_type: str = "application/pdf"
    name: str | None = None


class DocumentBody(Body):
    type: Literal["document"]
    document: DocumentMember


PartBody = Annotated[TextBody | ImageBody | FileBody | DocumentBody | RefusalBody, Field(discriminator="type")]


class FunctionCallBody(Body):
    name: str = Field(min_length=1)
    arguments: str = "{}"


class ToolCallBody(Body):
    id: str = Field(min_length=1)
    type: Literal["function"] = "function"
    function: FunctionCallBody
    signature: str | None = Field(default=None, description="Gemini's seal, given back as it came.")
    index: int | None = None


class MessageBody(BaseModel):
    """One message. Members that SDKs copy from a response into the next request are taken and ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[PartBody] | None = None
    name: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None

    def to_core(self) -> Message:
        """Raises InvalidRequest: content and role do not fit."""
        role: Role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str) and role in ("system", "user"):
            return Message(role, (TextPart(self.content),), self.name)
        if role == "tool":
            return self._tool_result()
        parts: list[Part] = []
        if self.reasoning_content:
            parts.append(ReasoningPart(self.reasoning_content))
        if isinstance(self.content, str):
            parts.append(TextPart(self.content))
        elif self.content:
            parts.extend(_part(part) for part in self.content)
        if self.refusal:
            parts.append(TextPart(self.refusal))
        parts.extend(
            ToolCallPart(call.id, call.function.name, call.function.arguments, call.signature) for call in self.tool_calls or ()
        )
        if not parts and role != "assistant":
            raise InvalidRequest(f"a message of role {self.role!r} has no content", param="messages")
        return Message(role, tuple(parts), self.name)

    def _tool_result(self) -> Message:
        if not self.tool_call_id:
            raise InvalidRequest("a message of role 'tool' needs a tool_call_id", param="messages")
        content = self.content if isinstance(self.content, list) else [TextBody(type="text", text=self.content or "")]
        parts = tuple(_part(part) for part in content)
        kept = tuple(part for part in parts if isinstance(part, (TextPart, ImagePart)))
        if len(kept) < len(parts):
            raise InvalidRequest("a tool result holds text and images only", param="messages")
        return Message("tool", (ToolResultPart(self.tool_call_id, kept, self.name),))


def _part(body: PartBody) -> TextPart | ImagePart | DocumentPart:
    match body:
        case TextBody():
            return TextPart(body.text)
        case RefusalBody():
            return TextPart(body.refusal)
        case ImageBody():
            return _image(body.image_url)
        case FileBody():
            media_type, data = _data_url(body.file.file_data, "file.file_data")
            return DocumentPart(data=data, media_type=media_type or "application/pdf", name=body.file.filename)
        case DocumentBody():
            document = body.document
            if (document.url is None) == (document.data is None):
                raise InvalidRequest("a document has either `url` or `data`", param="messages")
            if document.data is not None:
                _check_base64(document.data, "document.data")
            return DocumentPart(document.url, document.data, document.media_type, document.name)


def _image(image: ImageUrlBody) -> ImagePart:
    if image.url.startswith("data:"):
        media_type, data = _data_url(image.url, "image_url.url")
        return ImagePart(data=data, media_type=media_type or "image/png", detail=image.detail)
    if not image.url.startswith(("https://", "http://", "gs://")):
        raise InvalidRequest("image_url.url must be an http(s) URL or a data URL in base64", param="messages")
    return ImagePart(url=image.url, detail=image.detail)


def _data_url(url: str, member: str) -> tuple[str | None, str]:
    found = _DATA_URL.match(url)
    if not found:
        raise InvalidRequest(f"{member} must be a data URL in base64: data:<type>;base64,<data>", param="messages")
    data = url[found.end() :]
    _check_base64(data, member)
    return found[1], data


def _check_base64(data: str, member: str) -> None:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{member} is not valid base64", param="messages") from None


class FunctionBody(Body):
    name: str = Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(Body):
    type: Literal["function"]
    function: FunctionBody

    def to_core(self) -> ToolDefinition:
        function = self.function
        schema: JsonObject = function.parameters or {"type": "object", "properties": {}}
        return ToolDefinition(function.name, function.description, schema, function.strict)


class NamedFunction(Body):
    name: str


class NamedToolBody(Body):
    type: Literal["function"]
    function: NamedFunction


ToolChoiceBody = Literal["auto", "none", "required"] | NamedToolBody


def tool_choice(body: ToolChoiceBody | None) -> ToolChoice:
    """Whether there is such a tool is judged where the run's strategy is known."""
    if body is None:
        return "auto"
    return body if isinstance(body, str) else NamedTool(body.function.name)


class JsonSchemaBody(Body):
    name: str = Field(default="answer", pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None
    description: str | None = None


class ResponseFormatBody(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaBody | None = None

    def to_core(self) -> ResponseFormat:
        """Raises InvalidRequest: json_schema without a schema, or with one that is none."""
        if self.type != "json_schema":
            return ResponseFormat(self.type)
        if self.json_schema is None or self.json_schema.schema_ is None:
            raise InvalidRequest("response_format json_schema needs json_schema.schema", param="response_format")
        schema = self.json_schema
        check_schema(self.json_schema.schema_, param="response_format.json_schema.schema")
        return ResponseFormat("json_schema", schema.name, schema.schema_, schema.strict, schema.description)
