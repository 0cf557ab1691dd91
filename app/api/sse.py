"""Event streams as HTTP answers: one writer for the native and the OpenAI dialect.

The writer pulls run events, has them encoded, and writes what is ready at once. It holds the headers until the first event
that commits the stream, so that a failure before it is answered with its own status; it sends comments while nothing comes;
it cuts a reader who does not read, and cancels the run of one who has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.errors import problem
from app.core.errors import ErrorReport, OrchestratorError, report
from app.core.lifecycle import ABORT, FAILED, INTERRUPT, TICKET, Draining, stopping
from app.core.streams import Abandoned, Batches, batches, in_time, supervise
from app.observability.metrics import OPEN_STREAMS

WATCH_AFTER_S = 0.2
"""Seconds after which we begin to look whether the client is still there."""
COMMENT = b": keep-alive\n\n"
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
_BROKEN = ErrorReport("OutputReset", "orchestration_failed", "the answer had to start over after some of it was sent")

T = TypeVar("T")
E = TypeVar("E", contravariant=True)


class ReaderStalled(Exception):
    """The client does not read."""


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """Seconds: between keep-alive comments; that the send buffer may stay full before the reader counts as gone; until the
    headers are sent at the latest."""

    keep_alive_s: float = 15.0
    stalled_s: float = 30.0
    hold_headers_s: float = 10.0


class Encoder(Protocol[E]):
    """A dialect of event streams, for run events or for those of a log."""

    dialect: str
    broken: bool
    """Whether the reader has been told of a failure that ends the stream, though the run goes on."""

    def encode(self, event: E) -> bytes:
        """The frames of an event; empty where the dialect has no word for it."""
        ...

    def commits(self, event: E) -> bool:
        """Whether the stream has begun with this event, so that a later failure cannot be an HTTP status any more."""
        ...

    def failure(self, event: E) -> ErrorReport | None:
        """What is answered in place of a stream that has not begun, None where the event is no failure."""
        ...

    def interrupt(self, error: ErrorReport) -> bytes:
        """The last frame of a stream that breaks off before its end, because of `error`."""
        ...


class EventStream(Response, Generic[T]):
    """Answers a request with the events of a run.

    Parameters:
        events: the run. Closed when the answer is over, for whatever reason.
        encoder: the dialect.
        request_id: for the problem document of a run that fails before it commits.
        headers: more response headers.
        draining: tells that the process stops, and cuts what is left. Events that raise `stopping()` break off as well.
    """

    def __init__(
        self,
        events: AsyncIterator[T],
        encoder: Encoder[T],
        *,
        request_id: str,
        times: StreamTimes,
        headers: Mapping[str, str] | None = None,
        draining: Draining | None = None,
    ) -> None:
        self._draining = draining or Draining()
        self.status_code = 200
        self.background = None
        self.body = b""
        self._events = batches(events)
        self._encoder = encoder
        self._request_id = request_id
        self._times = times
        self._more_headers = [(key.lower().encode(), value.encode()) for key, value in (headers or {}).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gauge = OPEN_STREAMS.labels(self._encoder.dialect)
        gauge.inc()
        writer = _Writer(send, [*_HEADERS, *self._more_headers], self._times)
        if TICKET in scope:
            scope[INTERRUPT] = self._encoder.interrupt
        try:
            await supervise(self._write(writer, scope, receive, send), lambda: client_gone(receive), after_s=WATCH_AFTER_S)
        except Abandoned:
            return
        except OrchestratorError as error:
            if error.code != stopping().code:
                raise
            await self._break_off(writer, scope, receive, send)
        except (ReaderStalled, asyncio.CancelledError):
            if self._draining.was_cut():
                await self._break_off(writer, scope, receive, send)
                return
            if not writer.cut():
                raise
            if break_off(scope):
                await client_gone(receive)
        finally:
            writer.stop()
            await self._events.aclose()
            gauge.dec()

    async def _write(self, writer: _Writer, scope: Scope, receive: Receive, send: Send) -> None:
        encode, commits, failure = self._encoder.encode, self._encoder.commits, self._encoder.failure
        events: Batches[T] = self._events
        keyed = TICKET in scope
        async for batch in events:
            if not writer.opened:
                for event in batch:
                    if error := failure(event):
                        writer.stop()
                        await self._refuse(error, scope, receive, send)
                        return
                    if commits(event):
                        await writer.open()
                        break
            await writer.write(b"".join([encode(event) for event in batch]))
            if keyed and (error := failure(batch[-1])):
                scope[FAILED] = error
            if self._encoder.broken:
                scope[FAILED] = _BROKEN
                break
        await writer.open()
        await writer.write(b"", last=True)

    async def _break_off(self, writer: _Writer, scope: Scope, receive: Receive, send: Send) -> None:
        """The process stops, and the run goes on without this reader."""
        error = report(stopping())
        if writer.opened:
            await writer.write(self._encoder.interrupt(error), last=True)
        else:
            await self._refuse(error, scope, receive, send)

    async def _refuse(self, error: ErrorReport, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem(error, self._request_id)
        for key, value in self._more_headers:
            response.raw_headers.append((key, value))
        await response(scope, receive, send)


class _Writer:
    """Writes frames, in time; opens the answer late, and holds what is written before; keeps it alive.

    `stalled` turns true when the client has not read for too long.
    """

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]], times: StreamTimes) -> None:
        self.opened = False
        self.stalled = False
        self._send = send
        self._headers = headers
        self._times = times
        self._held: list[bytes] = []
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._written = self._loop.time()
        self._aside: asyncio.Task[None] | None = None
        self._cancelled = False
        self._timer = self._loop.call_later(times.hold_headers_s, self._beside, self.open)

    def _beside(self, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._aside = self._loop.create_task(action())

    async def open(self) -> None:
        """Send the headers and what was held, if that has not been done."""
        if self.opened:
            return
        self.opened = True
        self._timer.cancel()
        self._timer = self._loop.call_later(self._times.keep_alive_s, self._idle)
        await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await self.write(b"".join(self._held))

    def _idle(self) -> None:
        """Comment when nothing was written for a while; look again when the next comment may be due."""
        wait_s = self._times.keep_alive_s
        quiet = self._loop.time() - self._written
        if quiet >= wait_s:
            if self._aside is None or self._aside.done():
                self._beside(self._comment)
            quiet = 0.0
        self._timer = self._loop.call_later(wait_s - quiet, self._idle)

    async def _comment(self) -> None:
        with suppress(ReaderStalled):
            await self.write(COMMENT)
        if self.stalled and self._task and not self._cancelled:
            self._cancelled = self._task.cancel()

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Raises ReaderStalled: the client has not read for too long."""
        if not self.opened:
            self._held.append(data)
        elif data or last:
            self._written = self._loop.time()
            sent = self._send({"type": "http.response.body", "body": data, "more_body": not last})
            await in_time(sent, self._times.stalled_s, self._stall)

    def _stall(self) -> ReaderStalled:
        self.stalled = True
        return ReaderStalled()

    def cut(self) -> bool:
        """Whether the answer is over because the reader stalled, and for no other reason."""
        if self._cancelled and self._task:
            return self._task.uncancel() == 0
        return self.stalled

    def stop(self) -> None:
        self._timer.cancel()
        if self._aside and not self._aside.done():
            self._aside.cancel()


def break_off(scope: Scope) -> bool:
    """Break the connection at once, if the server can, so that nobody takes a part of an answer for the whole."""
    abort = scope.get("extensions", {}).get(ABORT)
    if abort:
        abort["call"]()
    return bool(abort)


async def client_gone(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    with suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
