"""Streams of the Messages API (doc page "Streaming messages")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from app.core.chat import ChatResponse
from app.core.model_events import ModelEvent, ReasoningDelta, RefusalDelta, ResponseStarted, TextDelta, ToolCallDelta
from app.providers.anthropic import failure
from app.providers.anthropic.response import finished, refusal, response, usage
from app.providers.http_provider import DialectError, Failure, StreamDecoder

_NOTHING: tuple[ModelEvent, ...] = ()


class AnthropicStream(StreamDecoder):
    """One stream. It is whole with `message_stop`; usage counts are cumulative, so that later ones replace earlier ones."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._headers = headers
        self._started: ResponseStarted | None = None
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None
        self._tools: dict[int, int] = {}  # block index -> number of the tool call
        self._unsaid: dict[int, str] = {}  # block index -> arguments to give if none are streamed

    def feed(self, name: bytes, data: bytes) -> Sequence[ModelEvent]:
        if name == b"error":
            raise failure.of_event(_json_or_text(data))
        event = orjson.loads(data)
        kind = event["type"]
        if kind == "content_block_delta":
            delta = event["delta"]
            if delta["type"] == "text_delta":
                text = delta["text"]
                return (TextDelta(text),) if text else _NOTHING
            return self._delta(event["index"], delta)
        return self._other(kind, event)

    def finish(self) -> ChatResponse:
        if not self.done:
            raise DialectError(Failure("incomplete", "the stream ended before message_stop"))
        if self._started is None:
            raise DialectError(Failure("server_error", "the stream has no message_start"))
        choice = finished(self.builder.choice(), self._stop_reason)
        return response(self._started.id, self._started.model, choice, usage(self._usage), self._headers)

    def _delta(self, index: int, delta: Any) -> Sequence[ModelEvent]:
        match delta["type"]:
            case "input_json_delta":
                if index not in self._tools or not delta["partial_json"]:
                    return _NOTHING
                self._unsaid.pop(index, None)
                return (ToolCallDelta(self._tools[index], delta["partial_json"]),)
            case "thinking_delta":
                return (ReasoningDelta(delta["thinking"]),) if delta["thinking"] else _NOTHING
            case "signature_delta":
                return (ReasoningDelta("", signature=delta["signature"]),) if delta["signature"] else _NOTHING
            case _:
                return _NOTHING  # citations, and what the vendor adds

    def _other(self, kind: str, event: Any) -> Sequence[ModelEvent]:
        match kind:
            case "content_block_start":
                return self._block(event["index"], event["content_block"])
            case "content_block_stop":
                return self._arguments(event["index"])
            case "message_start":
                message = event["message"]
                self._count(message.get("usage"))
                self._started = ResponseStarted(message["id"], message["model"])
                return (self._started,)
            case "message_delta":
                return self._message(event)
            case "message_stop":
                self.done = True
                return [event for index in list(self._unsaid) for event in self._arguments(index)]
            case "error":
                raise failure.of_event(event)
            case _:
                return _NOTHING  # ping, and what the vendor adds

    def _block(self, index: int, block: Any) -> Sequence[ModelEvent]:
        match block["type"]:
            case "text":
                return (TextDelta(block["text"]),) if block.get("text") else _NOTHING
            case "thinking":
                text, signature = block.get("thinking") or "", block.get("signature") or None
                return (ReasoningDelta(text, signature=signature),) if text or signature else _NOTHING
            case "redacted_thinking":
                return (ReasoningDelta("", redacted=block["data"]),)
            case "tool_use":
                number = self._tools[index] = len(self._tools)
                self._unsaid[index] = orjson.dumps(block.get("input") or {}).decode()
                return (ToolCallDelta(number, "", block["id"], block["name"]),)
            case _:
                return _NOTHING

    def _arguments(self, index: int) -> Sequence[ModelEvent]:
        arguments = self._unsaid.pop(index, None)
        return _NOTHING if arguments is None else (ToolCallDelta(self._tools[index], arguments),)

    def _message(self, event: Any) -> Sequence[ModelEvent]:
        delta = event["delta"]
        self._stop_reason = delta.get("stop_reason") or self._stop_reason
        self._count(event.get("usage"))
        text = refusal(delta.get("stop_details"))
        return (RefusalDelta(text),) if text else _NOTHING

    def _count(self, counts: Mapping[str, Any] | None) -> None:
        self._usage.update({kind: count for kind, count in (counts or {}).items() if count is not None})


def _json_or_text(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        return data
