"""The provider of kind `mock`: personas that answer in this process, without a key and without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest
from app.core.embeddings import EmbeddingRequest, EmbeddingResponse
from app.core.errors import FailureClass, ProviderError
from app.core.model_events import ModelEvent, ResponseFinished, ResponseStarted
from app.core.usage import Usage
from app.providers.base import Availability
from app.providers.mock.answering import respond
from app.providers.mock.embedding import DIMENSIONS, embedded
from app.providers.mock.faults import Fault, Knobs
from app.providers.mock.options import Cast, cast_of
from app.providers.mock.pacing import chunked, pace
from app.providers.mock.personas import Persona
from app.providers.mock.playbook import Declined, Playbook, check_takes
from app.providers.mock.tokens import count


def mock_provider(name: str, config: LLMProvider) -> MockProvider:
    """The provider that a configuration describes.

    Raises:
        ConfigError: its options are wrong.
    """
    return MockProvider(name, cast_of(name, config.options))


class MockProvider:
    """Answers as its personas do; the model's name is the persona's."""

    kind = "mock"
    embeds = True

    def __init__(self, name: str, cast: Cast | None = None) -> None:
        self.name = name
        self.cast = cast or Cast()
        self._playbook = Playbook(self.cast)

    @property
    def personas(self) -> Mapping[str, Persona]:
        return self.cast.personas

    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        """Answer as the persona named by `request.model`; see `Provider.stream`."""
        await asyncio.sleep(0)
        try:
            persona = self._playbook.persona(request.model)
            knobs = self._playbook.knobs(persona, request, {})
            check_takes(persona, request)
        except Declined as no:
            raise self._error(no.failure, no.message, request.model, no.status, code=no.code) from None
        response = respond(persona, request, knobs)
        fault = knobs.fault if knobs.fault and knobs.fault.form not in ("refusal", "garble") else None
        pieces = chunked(response, chars=persona.chunk_chars, chunks=knobs.chunks)
        latency_s, gap_s = pace(persona, knobs, self.cast.latency_scale)
        if not request.incremental:
            await _pause(latency_s + gap_s * len(pieces))
            if fault:
                await self._fail(fault, knobs, request)
            yield ResponseFinished(response)
            return
        await _pause(latency_s)
        if fault and not knobs.after:
            await self._fail(fault, knobs, request)
        yield ResponseStarted(response.id, response.model, response.created)
        for number, piece in enumerate(pieces, 1):
            if number > 1:
                await _pause(gap_s)
            yield piece
            if fault and number == knobs.after:
                await self._fail(fault, knobs, request)
        if fault:
            await self._fail(fault, knobs, request)
        yield ResponseFinished(response)

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResponse:
        """Embed as the persona named by `request.model`, after its latency."""
        try:
            persona = self._playbook.persona(request.model)
            knobs = self._playbook.knobs(persona, request, {})
        except Declined as no:
            raise self._error(no.failure, no.message, request.model, no.status, code=no.code) from None
        latency_s, _ = pace(persona, knobs, self.cast.latency_scale)
        await _pause(latency_s)
        if knobs.fault and knobs.fault.form not in ("refusal", "garble"):
            await self._fail(knobs.fault, knobs, request)
        size = request.dimensions or DIMENSIONS
        usage = Usage(sum(map(count, request.texts)), 0)
        return EmbeddingResponse("", request.model, (), usage, vectors=tuple(embedded(text, size) for text in request.texts))

    async def check(self) -> Availability:
        """Always there."""
        return Availability(self.name, available=True, latency_ms=0.0, models=tuple(self.personas))

    async def aclose(self) -> None:
        """Nothing is held open."""

    async def _fail(self, fault: Fault, knobs: Knobs, request: ChatRequest) -> None:
        if fault.form == "hang":
            await asyncio.Event().wait()
        raise self._error(fault.failure, fault.message, request.model, fault.status, knobs.retry_after, fault.code)

    def _error(
        self,
        failure: FailureClass,
        message: str,
        model: str,
        status: int | None,
        retry_after: float | None = None,
        code: str | None = None,
    ) -> ProviderError:
        return ProviderError(
            f"provider {self.name!r} ({model}): {message}",
            failure=failure,
            provider=self.name,
            model=model,
            status=status,
            retry_after=retry_after,
            provider_code=code,
        )


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
