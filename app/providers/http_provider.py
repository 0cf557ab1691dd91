"""One provider for all HTTP dialects: what differs between vendors is a `Dialect`, what is the same is here."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import httpx
import orjson

from app.core.chat import ChatRequest, ChatResponse
from app.core.embeddings import EmbeddingRequest, EmbeddingResponse
from app.core.errors import FailureClass, ProviderError
from app.core.model_events import ModelEvent, ResponseBuilder, ResponseFinished, ResponseStarted, unfold
from app.providers.base import Availability
from app.providers.http import HttpClient, plain_headers
from app.providers.sse import SseDecoder, SseTooLarge

T = TypeVar("T")
_DRAIN_S = 0.1
"""How long a finished stream may take to close: waiting keeps the connection, not waiting costs one."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What an error answer means."""

    failure: FailureClass
    message: str
    retry_after: float | None = None
    should_retry: bool | None = None
    code: str | None = None
    param: str | None = None


class DialectError(Exception):
    """A body or an event that says it is an error, or that cannot be read."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class StreamDecoder(ABC):
    """Makes model events of one stream's server-sent events.

    `done` turns true with the vendor's terminal marker. `builder` holds what has come so far; the provider fills it.
    """

    def __init__(self) -> None:
        self.builder = ResponseBuilder()
        self.done = False

    @abstractmethod
    def feed(self, name: bytes, data: bytes) -> Sequence[ModelEvent]:
        """The events (never `ResponseFinished`) that one server-sent event stands for.

        Raises:
            DialectError: it is an error event, or unreadable.
        """

    @abstractmethod
    def finish(self) -> ChatResponse:
        """The whole response, asked for when `done`, or when the stream ended.

        Raises:
            DialectError: the stream ended without its terminal marker (`incomplete`).
        """


class Dialect(Protocol):
    """A wire format: pure functions between our types and a vendor's bytes."""

    def url(self, request: ChatRequest) -> httpx.URL:
        """Where `request` goes; the path may depend on its model and on `incremental`."""
        ...

    def headers(self) -> Mapping[str, str]:
        """The credential and the version headers."""
        ...

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The request body."""
        ...

    def decode(self, body: Any, headers: Mapping[str, str]) -> ChatResponse:
        """The response of a whole body.

        Raises:
            DialectError: the body is an error, or has not the vendor's shape.
        """
        ...

    def decoder(self, request: ChatRequest, headers: Mapping[str, str]) -> StreamDecoder: ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer with an error status means; `body` may be JSON, plain text, or nothing."""
        ...

    def models_url(self) -> httpx.URL:
        """Where the vendor lists its models, for the availability check."""
        ...

    def model_names(self, body: Any) -> tuple[str, ...]:
        """The names in such a list."""
        ...


class EmbeddingDialect(Protocol):
    """The wire format of embeddings, where a vendor has them."""

    def embeddings_url(self, request: EmbeddingRequest) -> httpx.URL: ...

    def encode_embeddings(self, request: EmbeddingRequest) -> dict[str, Any]: ...

    def decode_embeddings(self, body: Any, request: EmbeddingRequest) -> EmbeddingResponse:
        """The vectors in the order of the texts.

        Raises:
            DialectError: the body is an error, or has not the vendor's shape.
        """
        ...


@dataclass(slots=True)
class HttpProvider:
    """A provider that speaks `dialect` over `http`."""

    name: str
    kind: str
    dialect: Dialect
    http: HttpClient
    extra_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    check_s: float = 10.0
    _headers: Mapping[str, str] = field(init=False)

    @property
    def embeds(self) -> bool:
        """Whether there is `embed`."""
        return hasattr(self.dialect, "encode_embeddings")

    def __post_init__(self) -> None:
        base = {"accept-encoding": "identity", "content-type": "application/json", "user-agent": "quorum"}
        given = (*self.dialect.headers().items(), *self.extra_headers.items())
        self._headers = base | {name.lower(): value for name, value in given}

    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        headers = self._traced(request)
        content = _json(self.dialect.encode(request))
        response = await self.http.send("POST", self.dialect.url(request), headers, content)
        answered = plain_headers(response)
        try:
            if response.status_code >= 400:
                failure = self.dialect.failure(response.status_code, answered, await self.http.read(response))
                raise self._error(failure, request, response.status_code, answered)
            try:
                if not request.incremental:
                    yield ResponseFinished(await self._whole(response, answered))
                elif "event-stream" not in answered.get("content-type", "event-stream"):
                    for event in unfold(await self._whole(response, answered)):
                        yield event
                else:
                    async with aclosing(self._events(request, response, answered)) as events:
                        async for event in events:
                            yield event
            except DialectError as error:
                raise self._error(error.failure, request, response.status_code, answered) from None
        finally:
            await response.aclose()

    async def embed(self, request: EmbeddingRequest) -> EmbeddingResponse:
        """See `Embedder.embed`."""
        dialect = cast("EmbeddingDialect", self.dialect)
        content = _json(dialect.encode_embeddings(request))
        response = await self.http.send("POST", dialect.embeddings_url(request), self._traced(request), content)
        answered = plain_headers(response)
        try:
            if response.status_code >= 400:
                failure = self.dialect.failure(response.status_code, answered, await self.http.read(response))
                raise self._error(failure, request, response.status_code, answered)
            body = await self.http.read(response)
            try:
                return _shaped(body, lambda parsed: dialect.decode_embeddings(parsed, request))
            except DialectError as error:
                raise self._error(error.failure, request, response.status_code, answered) from None
        finally:
            await response.aclose()

    def _traced(self, request: ChatRequest) -> Mapping[str, str]:
        if not request.context.traceparent:
            return self._headers
        return {**self._headers, "traceparent": request.context.traceparent}

    async def _whole(self, response: httpx.Response, headers: Mapping[str, str]) -> ChatResponse:
        return _shaped(await self.http.read(response), lambda parsed: self.dialect.decode(parsed, headers))

    async def _events(
        self, request: ChatRequest, response: httpx.Response, headers: Mapping[str, str]
    ) -> AsyncGenerator[ModelEvent]:
        decoder = self.dialect.decoder(request, headers)
        split = SseDecoder()
        async with aclosing(self.http.chunks(response)) as chunks:
            try:
                async for chunk in chunks:
                    for event in _decoded(decoder, split.feed(chunk)):
                        yield event
                    if decoder.done:
                        break
                else:
                    for event in _decoded(decoder, split.end()):
                        yield event
                whole = decoder.finish()
            except SseTooLarge as error:
                raise DialectError(Failure("server_error", str(error))) from None
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                what = f"the stream has an unknown shape ({type(error).__name__})"
                raise DialectError(Failure("server_error", what)) from error
            yield ResponseFinished(whole)
            await self.http.drain(chunks, _DRAIN_S)

    def _error(self, failure: Failure, request: ChatRequest, status: int, headers: Mapping[str, str]) -> ProviderError:
        return ProviderError(
            f"provider {self.name!r} ({request.model}): {failure.message}",
            failure=failure.failure,
            provider=self.name,
            model=request.model,
            status=status,
            retry_after=failure.retry_after,
            should_retry=failure.should_retry,
            provider_code=failure.code,
            provider_request_id=headers.get("x-request-id") or headers.get("request-id"),
            param=failure.param,
        )

    async def check(self) -> Availability:
        started = time.monotonic()
        try:
            models = await self.http.within(self.check_s, self._list_models())
        except ProviderError as error:
            return Availability(self.name, available=False, error=error.message)
        return Availability(self.name, available=True, latency_ms=(time.monotonic() - started) * 1000, models=models)

    async def _list_models(self) -> tuple[str, ...]:
        response = await self.http.send("GET", self.dialect.models_url(), self._headers)
        try:
            body = await self.http.read(response)
            if response.status_code >= 400:
                failure = self.dialect.failure(response.status_code, plain_headers(response), body)
                raise ProviderError(
                    f"provider {self.name!r}: {failure.message}",
                    failure=failure.failure,
                    provider=self.name,
                    status=response.status_code,
                )
            try:
                return self.dialect.model_names(orjson.loads(body))
            except (KeyError, TypeError, ValueError, AttributeError):
                return ()
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self.http.aclose()


def _json(value: dict[str, Any]) -> bytes:
    """`value` as JSON in no more memory than it needs: the bytes of orjson keep the 4 KB they were written in."""
    return bytes(memoryview(orjson.dumps(value, default=dict)))


def _shaped(body: bytes, decode: Callable[[Any], T]) -> T:
    """What `decode` makes of a JSON body.

    Raises:
        DialectError: it is none, or not of the vendor's shape.
    """
    try:
        parsed = orjson.loads(body)
    except ValueError:
        raise DialectError(Failure("server_error", "the answer is not JSON")) from None
    try:
        return decode(parsed)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DialectError(Failure("server_error", f"the answer has an unknown shape ({type(error).__name__})")) from error


def _decoded(decoder: StreamDecoder, messages: Sequence[tuple[bytes, bytes]]) -> Iterator[ModelEvent]:
    """The events of `messages`, gathered in the decoder's builder as they go by."""
    feed, add = decoder.feed, decoder.builder.add
    for name, data in messages:
        for event in feed(name, data):
            if not isinstance(event, (ResponseStarted, ResponseFinished)):
                add(event)
            yield event
