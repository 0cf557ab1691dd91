"""A chat completions stream: one `data:` event a chunk, then `[DONE]`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson

from app.core.chat import ChatResponse
from app.core.model_events import ModelEvent, ReasoningDelta, RefusalDelta, ResponseStarted, TextDelta, ToolCallDelta
from app.core.usage import NO_USAGE
from app.providers.http_provider import DialectError, Failure, StreamDecoder
from app.providers.openai.decoding import (
    arguments_of,
    check_finish,
    content_of,
    count_of,
    finish_reason,
    logprobs_of,
    made_up_id,
    reasoning_of,
    string_of,
    usage_of,
)
from app.providers.openai.errors import failure_of_body

_DONE = b"[DONE]"


class OpenAIStreamDecoder(StreamDecoder):
    """Decodes one stream.

    Parameters:
        done_marker: the vendor ends each whole stream with `[DONE]`; otherwise finished choices are enough.
        provider_request_id: what the headers said.
    """

    def __init__(self, *, done_marker: bool, provider_request_id: str | None) -> None:
        super().__init__()
        self._done_marker = done_marker
        self._provider_request_id = provider_request_id
        self._started = False
        self._id = ""
        self._model = ""
        self._created = 0
        self._usage = NO_USAGE
        self._native: dict[int, str | None] = {}
        self._calls: dict[int, _ToolCalls] = {}

    def feed(self, name: bytes, data: bytes) -> Sequence[ModelEvent]:
        try:
            chunk = orjson.loads(data)
        except ValueError:
            if name == b"error":
                raise DialectError(failure_of_body(data)) from None
            if data.strip() != _DONE:
                raise DialectError(Failure("server_error", "an event of the stream is not JSON")) from None
            self.done = True
            return ()
        # The straight path of a chunk that is a piece of text and nothing else, as nearly all are.
        if self._started and len(choices := chunk.get("choices") or ()) == 1:
            choice = choices[0]
            delta = choice.get("delta")
            if (
                delta
                and len(delta) == 1
                and (text := delta.get("content"))
                and type(text) is str
                and not choice.get("finish_reason")
                and not choice.get("logprobs")
                and not chunk.get("usage")
                and "error" not in chunk
                and type(index := choice.get("index") or 0) is int
            ):
                return (TextDelta(text, index),)
        return self._any_chunk(name, chunk)

    def _any_chunk(self, name: bytes, chunk: dict[str, Any]) -> list[ModelEvent]:
        if name == b"error" or chunk.get("error"):
            raise DialectError(failure_of_body(chunk))
        choices: list[dict[str, Any]] = chunk.get("choices") or []
        events: list[ModelEvent] = []
        if not self._started and (choices or chunk.get("id")):
            # Azure begins with a chunk about the prompt that has neither id nor choices.
            self._started = True
            self._id, self._model = string_of(chunk.get("id")), string_of(chunk.get("model"))
            self._created = count_of(chunk.get("created"))
            events.append(ResponseStarted(self._id, self._model, self._created))
        for choice in choices:
            events.extend(self._choice(choice))
        # In a chunk of its own, in the last chunk of the choices, in each chunk, inside a choice (Moonshot) or aside (Groq).
        aside: dict[str, Any] = chunk.get("x_groq") or {}
        usage = chunk.get("usage") or aside.get("usage") or next((u for c in choices if (u := c.get("usage"))), None)
        if usage:
            self._usage = usage_of(usage)
        if aside.get("error"):
            raise DialectError(failure_of_body(aside))
        return events

    def _choice(self, choice: dict[str, Any]) -> Iterator[ModelEvent]:
        index = count_of(choice.get("index"))
        delta: dict[str, Any] = choice.get("delta") or choice.get("message") or {}
        native = string_of(choice.get("finish_reason")) or None
        check_finish(native, choice)
        if native or index not in self._native:
            self._native[index] = native
        text, thoughts = content_of(delta.get("content"))
        if reasoning := reasoning_of(delta) or thoughts:
            yield ReasoningDelta(reasoning, index)
        logprobs = logprobs_of(choice)
        if text or logprobs:
            yield TextDelta(text, index, logprobs)
        if refusal := string_of(delta.get("refusal")):
            yield RefusalDelta(refusal, index)
        calls = delta.get("tool_calls") or ()
        if not calls and (legacy := delta.get("function_call")):
            calls = ({"index": 0, "function": legacy},)
        for call in calls:
            yield self._calls.setdefault(index, _ToolCalls(self._id, index)).piece(call)

    def finish(self) -> ChatResponse:
        natives = {index: self._native.get(index) for index in sorted({*self.builder.indexes(), *self._native})}
        if not self.done and (self._done_marker or not all(natives.values())):
            raise DialectError(Failure("incomplete", "the stream ended before the answer was whole"))
        if not natives:
            raise DialectError(Failure("incomplete", "the stream held no answer"))
        choices = (
            replace(
                built := self.builder.choice(index),
                finish_reason=finish_reason(native, called=bool(built.tool_calls)),
                native_finish_reason=native,
            )
            for index, native in natives.items()
        )
        return ChatResponse(
            id=self._id,
            model=self._model,
            choices=tuple(choices),
            usage=self._usage,
            created=self._created,
            provider_request_id=self._provider_request_id,
        )


class _ToolCalls:
    """The tool calls of one choice while they come, for vendors that leave out or repeat indexes, ids and names.

    A piece starts a new call when it brings an id that is new together with a name, or, without ids and indexes, a name after
    a call whose arguments are complete. Any other piece belongs to the call of its index, of its id, or to the last one.
    """

    def __init__(self, response_id: str, choice: int) -> None:
        self._response_id = response_id
        self._choice = choice
        self._ids: list[str] = []
        self._names: list[str] = []
        self._arguments: list[str] = []
        self._position: dict[int, int] = {}

    def piece(self, call: dict[str, Any]) -> ToolCallDelta:
        function: dict[str, Any] = call.get("function") or {}
        id_, name = string_of(call.get("id")) or None, string_of(function.get("name")) or None
        arguments = arguments_of(function.get("arguments"))
        position = self._place(call.get("index"), id_, name)
        if position < len(self._ids):
            self._arguments[position] += arguments
            return ToolCallDelta(position, arguments, choice=self._choice)
        self._ids.append(id_ or made_up_id(self._response_id, position))
        self._names.append(name or "")
        self._arguments.append(arguments)
        return ToolCallDelta(position, arguments, self._ids[position], name, self._choice)

    def _place(self, index: int | None, id_: str | None, name: str | None) -> int:
        """The position of the call that the piece belongs to; the number of calls so far for a new one."""
        new, last = len(self._ids), len(self._ids) - 1
        if id_ in self._ids:
            known = self._ids.index(id_)
        elif index is not None:
            known = self._position.get(index, new)
            if known < new and id_ and name:
                known = new
        elif last < 0 or id_:
            known = new
        else:
            known = new if name and (name != self._names[last] or _is_json(self._arguments[last])) else last
        if index is not None:
            self._position[index] = known
        return known


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except ValueError:
        return False
    return True
