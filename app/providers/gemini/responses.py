"""From Gemini's answers to ours. A whole answer is read as a stream of one chunk, so both are read by the same lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

import orjson

from app.core.chat import ChatResponse, Choice, FinishReason, JsonObject
from app.core.model_events import Delta, ModelEvent, ReasoningDelta, ResponseFinished, ResponseStarted, TextDelta, ToolCallDelta
from app.core.usage import NO_USAGE, Usage
from app.providers.gemini.errors import failure_of
from app.providers.http_provider import DialectError, Failure, StreamDecoder

_FINISH: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "OTHER": "content_filter",  # "Troubleshooting guide": the terms of service, or otherwise unsupported
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
"""`Candidate.finishReason` ("Gemini API: FinishReason", "Vertex AI: FinishReason"). An unknown one counts as a stop."""

_BROKEN = {
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE",
}
"""The model wrote something that is no answer. What it can be shown of (a call of an undeclared function) is given out as a
tool call, whose result can tell the model so; with nothing to show, the call has failed."""

_UNFINISHED = {None, "", "FINISH_REASON_UNSPECIFIED"}


class GeminiDecoder(StreamDecoder):
    """Reads the chunks of one response.

    A chunk with a finish reason is not always the last: older models set one on each, and usage may follow. So `done` stays
    false, the stream is read to its end, and it is whole when every choice has finished by then.

    Parameters:
        model: the model asked for, for when the answer names none.
        choices: how many were asked for.
        whole: the answer came in one piece and needs no marker of its end.
    """

    def __init__(self, headers: Mapping[str, str], *, model: str = "", choices: int = 1, whole: bool = False) -> None:
        super().__init__()
        self._headers = headers
        self._choices = choices
        self._whole = whole
        self._started = False
        self._id = ""
        self._model = model
        self._created = 0
        self._usage = NO_USAGE
        self._blocked: str | None = None
        self._reasons: dict[int, str | None] = {}  # choice -> its finish reason, None while it goes on
        self._remarks: dict[int, str] = {}
        self._calls: dict[int, int] = {}  # choice -> tool calls so far
        self._call_ids: set[str] = set()

    def feed(self, name: bytes, data: bytes) -> Sequence[ModelEvent]:
        try:
            chunk = orjson.loads(data)
        except ValueError:
            raise DialectError(Failure("server_error", "an event of the stream is not JSON")) from None
        return self.take(chunk)

    def take(self, chunk: Any) -> list[ModelEvent]:
        """The events of one chunk, a `GenerateContentResponse`.

        Raises:
            DialectError: the chunk is an error.
        """
        if (error := chunk.get("error")) is not None:
            raise DialectError(failure_of(error, self._headers))
        events: list[ModelEvent] = []
        if not self._started:
            self._start(chunk)
            events.append(ResponseStarted(self._id, self._model, self._created))
        if usage := chunk.get("usageMetadata"):
            self._usage = _usage(usage)
        if feedback := chunk.get("promptFeedback"):
            self._blocked = feedback.get("blockReason") or self._blocked
        for position, candidate in enumerate(chunk.get("candidates") or ()):
            events.extend(self._candidate(candidate.get("index", position), candidate))
        return events

    def _start(self, chunk: Any) -> None:
        self._started = True
        self._id = chunk.get("responseId") or ""
        self._model = chunk.get("modelVersion") or self._model
        with suppress(TypeError, ValueError):
            self._created = int(datetime.fromisoformat(chunk.get("createTime")).timestamp())

    def _candidate(self, index: int, candidate: Any) -> Iterator[Delta]:
        reason = candidate.get("finishReason")
        if reason not in _UNFINISHED:
            self._reasons[index] = reason
            self._remarks[index] = candidate.get("finishMessage") or ""
        else:
            self._reasons.setdefault(index, None)
        if logprobs := candidate.get("logprobsResult"):
            yield TextDelta("", index, _logprobs(logprobs))
        content = candidate.get("content")
        for part in (content.get("parts") or ()) if content else ():
            yield from self._part(index, part)

    def _part(self, index: int, part: Any) -> Iterator[Delta]:
        text, signature = part.get("text") or "", part.get("thoughtSignature")
        if (call := part.get("functionCall")) is not None:
            number = self._calls.get(index, 0)
            self._calls[index] = number + 1
            arguments = orjson.dumps(call.get("args") or {}).decode()
            yield ToolCallDelta(number, arguments, self._call_id(call, index, number), call["name"], index, signature)
        elif part.get("thought"):
            if text or signature:
                yield ReasoningDelta(text, index, signature)
        else:
            if text:
                yield TextDelta(text, index)
            if signature:
                yield ReasoningDelta("", index, signature)

    def _call_id(self, call: Any, index: int, number: int) -> str:
        """The vendor's id where there is one, else one made of the response's: ids must differ within a conversation."""
        name = call.get("id") or "_".join(filter(None, ("call", self._id, str(index) if index else "", str(number))))
        while name in self._call_ids:
            name += "x"
        self._call_ids.add(name)
        return name

    def finish(self) -> ChatResponse:
        return ChatResponse(
            id=self._id,
            model=self._model,
            choices=self._finished_choices(),
            usage=self._usage,
            created=self._created,
            provider_request_id=self._id or None,
        )

    def _finished_choices(self) -> tuple[Choice, ...]:
        reasons = self._reasons
        if self._blocked:
            return tuple(self._choice(index) for index in sorted(reasons) or (0,))
        finished = all(reasons.values()) and len(reasons) >= self._choices
        if not reasons or not (finished or self._whole):
            raise DialectError(Failure("incomplete", "the answer ended without a finish reason"))
        if all(self._is_broken(index) for index in reasons):
            index, reason = next(iter(reasons.items()))
            remark = self._remarks[index] or "the model's answer cannot be used"
            raise DialectError(Failure("invalid_output", f"{reason}: {remark}", code=reason))
        return tuple(self._choice(index) for index in sorted(reasons))

    def _is_broken(self, index: int) -> bool:
        return self._reasons[index] in _BROKEN and index not in self._calls

    def _choice(self, index: int) -> Choice:
        native = self._reasons.get(index) or self._blocked
        reason = _FINISH.get(native or "", "content_filter" if self._blocked else "stop")
        if reason == "stop" and index in self._calls:
            reason = "tool_calls"
        return replace(self.builder.choice(index), finish_reason=reason, native_finish_reason=native)


def decode_response(body: Any, headers: Mapping[str, str]) -> ChatResponse:
    """The response of a whole body: one object, or the list of chunks that streaming without `alt=sse` gives.

    Raises:
        DialectError: the body is an error or holds no answer.
    """
    listed = isinstance(body, list)
    decoder = GeminiDecoder(headers, whole=not listed)
    for chunk in cast("list[Any]", body) if listed else (body,):
        for event in decoder.take(chunk):
            if not isinstance(event, (ResponseStarted, ResponseFinished)):
                decoder.builder.add(event)
    return decoder.finish()


def _usage(usage: Any) -> Usage:
    """`UsageMetadata` in our meaning: its prompt holds the cached tokens, its candidates not the thoughts."""
    thoughts = usage.get("thoughtsTokenCount") or 0
    return Usage(
        input_tokens=(usage.get("promptTokenCount") or 0) + (usage.get("toolUsePromptTokenCount") or 0),
        output_tokens=(usage.get("candidatesTokenCount") or 0) + thoughts,
        cached_input_tokens=usage.get("cachedContentTokenCount") or 0,
        reasoning_tokens=thoughts,
    )


def _logprobs(result: Any) -> JsonObject:
    """`LogprobsResult` in OpenAI's shape."""
    tops = result.get("topCandidates") or ()
    rows = [_token(row) for row in result.get("chosenCandidates") or ()]
    for position, row in enumerate(rows):
        others = tops[position].get("candidates") or () if position < len(tops) else ()
        row["top_logprobs"] = [_token(other) for other in others]
    return {"content": rows}


def _token(row: Any) -> dict[str, Any]:
    token = row.get("token") or ""
    return {"token": token, "logprob": row.get("logProbability") or 0.0, "bytes": list(token.encode())}
