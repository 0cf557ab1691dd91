"""The provider of kind `replay`: answers from a file of recorded answers, so that strategies can be measured without a key.

Its options: `file` (JSONL; `app.providers.recording` describes it), `fields` (other names for its members), `latency`
(`recorded`, or `none` to answer at once) and `scale`, which multiplies recorded latencies.

A request is matched with a row by the id in its body's extras (`{"id": ...}` or `{"metadata": {"id": ...}}`), else by its last
user message: the question itself, or a prompt with the question in it; then by earlier user messages. Sampling, limits and
formats are not applied: what was recorded is what comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from hashlib import blake2b
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest, ChatResponse, Choice
from app.core.errors import ConfigError, FailureClass, ProviderError
from app.core.model_events import ModelEvent, ResponseFinished, ResponseStarted, TextDelta
from app.core.models import Capabilities, ModelProfile
from app.core.usage import FlatPrice, Usage
from app.providers.base import Availability
from app.providers.recording import RecordedAnswer, Recording, Row, read_recording

_CHUNKS = 16
"""Pieces that a recorded text is streamed in; the recording says nothing of its pace."""

_BYTES_A_TOKEN = 4
"""For answers whose tokens were not recorded: OpenAI's rule of thumb ("What are tokens and how to count them?")."""

_CAPABILITIES = Capabilities(tools=False, parallel_tools=False, images=False, json_object=False, json_schema=False, stop=False)


class ReplayOptions(BaseModel):
    """`LLMProvider.options` of kind `replay`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(min_length=1)
    fields: dict[str, str] = Field(default_factory=dict[str, str])
    latency: Literal["recorded", "none"] = "recorded"
    scale: float = Field(default=1.0, ge=0, le=1_000)


def replay_provider(name: str, config: LLMProvider) -> ReplayProvider:
    """The provider that a configuration describes. The file is read with the first call.

    Raises:
        ConfigError: its options are wrong.
    """
    try:
        options = ReplayOptions.model_validate(config.options)
    except ValidationError as error:
        faults = tuple(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"provider {name!r}: options: {'; '.join(faults)}", faults=faults) from None
    return ReplayProvider(name, options)


class ReplayProvider:
    """Answers what was recorded; the model's name is the recording's."""

    kind = "replay"

    def __init__(self, name: str, options: ReplayOptions) -> None:
        self.name = name
        self.options = options
        self._recording: Recording | None = None
        self._reading = asyncio.Lock()

    async def recording(self) -> Recording:
        """The file's content, read once, in a thread.

        Raises:
            ConfigError: it cannot be read; the message says `file:line`.
        """
        if self._recording is None:
            async with self._reading:
                if self._recording is None:
                    self._recording = await asyncio.to_thread(read_recording, self.options.file, self.options.fields)
        return self._recording

    async def models(self) -> tuple[str, ...]:
        """The models that the file holds answers of. Raises as `recording`."""
        return (await self.recording()).models

    async def profiles(self) -> tuple[ModelProfile, ...]:
        """A profile for each model, with its average price where costs and tokens were recorded. Raises as `recording`."""
        return replay_profiles(self.name, await self.recording())

    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        """Answer what the model answered then; see `Provider.stream`."""
        try:
            recording = await self.recording()
        except ConfigError as error:
            raise self._error("not_found", error.message, request) from None
        row = self._row(recording, request)
        answer = row.answers.get(request.model)
        if answer is None:
            which, known = row.id or row.question[:60], ", ".join(row.answers)
            raise self._error("not_found", f"no answer of {request.model!r} to {which!r}; there are {known}", request)
        seconds = self._seconds(answer)
        response = _response(row, answer, request)
        if answer.error or not request.incremental:
            await _pause(seconds)
            if fault := answer.error:
                raise self._error(fault.failure, fault.message, request, fault.status, fault.retry_after)
            yield ResponseFinished(response)
            return
        pieces = _pieces(answer.text)
        gap = seconds / (len(pieces) + 1)
        await _pause(gap)
        yield ResponseStarted(response.id, response.model)
        for piece in pieces:
            await _pause(gap)
            yield TextDelta(piece)
        yield ResponseFinished(response)

    async def check(self) -> Availability:
        """Whether the file can be read, and whose answers it holds."""
        try:
            return Availability(self.name, available=True, latency_ms=0.0, models=await self.models())
        except ConfigError as error:
            return Availability(self.name, available=False, error=error.message)

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _row(self, recording: Recording, request: ChatRequest) -> Row:
        row_id = _row_id(request)
        if row_id is not None:
            row = recording.by_id(row_id)
            if row is None:
                raise self._error("not_found", f"no question with the id {row_id!r} in {recording.path}", request)
            return row
        for message in reversed(request.messages):
            if message.role == "user" and (row := recording.find(message.text)):
                return row
        raise self._error("not_found", f"no question of {recording.path} is in the prompt", request)

    def _seconds(self, answer: RecordedAnswer) -> float:
        if self.options.latency == "none" or answer.latency_ms is None:
            return 0.0
        return answer.latency_ms / 1000 * self.options.scale

    def _error(
        self,
        failure: FailureClass,
        message: str,
        request: ChatRequest,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> ProviderError:
        return ProviderError(
            f"provider {self.name!r} ({request.model}): {message}",
            failure=failure,
            provider=self.name,
            model=request.model,
            status=404 if failure == "not_found" and status is None else status,
            retry_after=retry_after,
        )


def replay_profiles(provider: str, recording: Recording) -> tuple[ModelProfile, ...]:
    """A profile for each model of a recording. The price is an average: recorded dollars over recorded tokens."""
    return tuple(
        ModelProfile(
            name, provider, name, _CAPABILITIES, _average_price(recording, name), family=name.partition("-")[0].lower()
        )
        for name in recording.models
    )


def _average_price(recording: Recording, model: str) -> FlatPrice | None:
    dollars, tokens = 0.0, 0
    for row in recording.rows:
        answer = row.answers.get(model)
        if answer and answer.cost_usd is not None and answer.output_tokens is not None:
            dollars += answer.cost_usd
            tokens += _usage(row, answer).total_tokens
    return FlatPrice(dollars / tokens * 1e6, dollars / tokens * 1e6) if tokens else None


def _row_id(request: ChatRequest) -> str | None:
    extra: Mapping[str, Any] = request.extra or {}
    metadata = extra.get("metadata")
    inner: Mapping[str, Any] = cast(Mapping[str, Any], metadata) if isinstance(metadata, Mapping) else {}
    found = extra.get("id", inner.get("id"))
    return None if found is None else str(found)


def _response(row: Row, answer: RecordedAnswer, request: ChatRequest) -> ChatResponse:
    digest = blake2b(f"{request.model}\x1f{row.id}\x1f{row.question}".encode(), digest_size=12).hexdigest()
    choice = Choice(text=answer.text, finish_reason=answer.finish_reason)
    return ChatResponse(f"replay-{digest}", request.model, (choice,), _usage(row, answer))


def _usage(row: Row, answer: RecordedAnswer) -> Usage:
    """The recorded tokens; what was not recorded is estimated from the bytes."""
    return Usage(
        _estimate(row.question) if answer.input_tokens is None else answer.input_tokens,
        _estimate(answer.text) if answer.output_tokens is None else answer.output_tokens,
    )


def _estimate(text: str) -> int:
    return -(-len(text.encode()) // _BYTES_A_TOKEN)


def _pieces(text: str) -> list[str]:
    """The text in at most `_CHUNKS` pieces."""
    size = max(1, -(-len(text) // _CHUNKS))
    return [text[start : start + size] for start in range(0, len(text), size)]


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
