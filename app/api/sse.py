"""Event streams as HTTP answers: one writer for the native and the OpenAI dialect.

The writer pulls run events, has them encoded, and writes what is ready at once. It holds the headers until the first event
that commits the stream, so that a failure before it is answered with its own status; it sends comments while nothing comes;
it cuts a reader who does not read, and cancels the run of one who has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.errors import problem
from app.core.run_events import RunEvent, RunFailed
from app.core.streams import Abandoned, Batches, batches, in_time, supervise
from app.observability.metrics import OPEN_STREAMS

KEEP_ALIVE_S = 15.0
HOLD_HEADERS_S = 10.0
STALLED_S = 30.0
"""Seconds that the send buffer may stay full before the reader counts as gone."""
WATCH_AFTER_S = 0.2
"""Seconds after which we begin to look whether the client is still there."""
_COMMENT = b": keep-alive\n\n"
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class ReaderStalled(Exception):
    """The client does not read."""


class Encoder(Protocol):
    """A dialect of event streams."""

    dialect: str

    def encode(self, event: RunEvent) -> bytes:
        """The frames of an event; empty where the dialect has no word for it."""
        ...

    def commits(self, event: RunEvent) -> bool:
        """Whether the stream has begun with this event, so that a later failure cannot be an HTTP status any more."""
        ...


class EventStream(Response):
    """Answers a request with the events of a run.

    Parameters:
        events: the run. Closed when the answer is over, for whatever reason.
        encoder: the dialect.
        request_id: for the problem document of a run that fails before it commits.
        headers: more response headers.
    """

    def __init__(
        self, events: AsyncIterator[RunEvent], encoder: Encoder, *, request_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self._events = batches(events)
        self._encoder = encoder
        self._request_id = request_id
        self._more_headers = [(key.lower().encode(), value.encode()) for key, value in (headers or {}).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gauge = OPEN_STREAMS.labels(self._encoder.dialect)
        gauge.inc()
        writer = _Writer(send, [*_HEADERS, *self._more_headers])
        try:
            await supervise(self._write(writer, scope, receive, send), lambda: client_gone(receive), after_s=WATCH_AFTER_S)
        except (Abandoned, ReaderStalled):
            return
        finally:
            writer.stop()
            await self._events.aclose()
            gauge.dec()

    async def _write(self, writer: _Writer, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[bytes] = []
        encode, commits = self._encoder.encode, self._encoder.commits
        events: Batches[RunEvent] = self._events
        writer.open_later(HOLD_HEADERS_S)
        async for batch in events:
            if writer.opened and not held:
                await writer.write(b"".join([encode(event) for event in batch]))
                continue
            for event in batch:
                if isinstance(event, RunFailed) and not writer.opened:
                    await self._refuse(event, scope, receive, send)
                    return
                held.append(encode(event))
                if not writer.opened and commits(event):
                    await writer.open()
            if writer.opened:
                await writer.write(b"".join(held))
                held.clear()
        await writer.open()
        await writer.write(b"".join(held), last=True)

    async def _refuse(self, event: RunFailed, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem(event.error, self._request_id)
        for key, value in self._more_headers:
            response.raw_headers.append((key, value))
        await response(scope, receive, send)


class _Writer:
    """Writes frames, in time; opens the answer late; keeps it alive."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self.opened = False
        self._send = send
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._written = self._loop.time()
        self._side: asyncio.Task[None] | None = None

    def open_later(self, seconds: float) -> None:
        """Open by itself after `seconds`, so that proxies and clients see an answer."""
        self._timer = self._loop.call_later(seconds, self._aside, self.open)

    def _aside(self, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._side = self._loop.create_task(action())

    async def open(self) -> None:
        if self.opened:
            return
        self.opened = True
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(KEEP_ALIVE_S, self._idle)
        await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})

    def _idle(self) -> None:
        """Comment when nothing was written for a while; look again when the next comment may be due."""
        quiet = self._loop.time() - self._written
        if quiet >= KEEP_ALIVE_S:
            self._aside(self._comment)
            quiet = 0.0
        self._timer = self._loop.call_later(KEEP_ALIVE_S - quiet, self._idle)

    async def _comment(self) -> None:
        await self.write(_COMMENT)

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Raises ReaderStalled: the client has not read for `STALLED_S` seconds."""
        if not data and not last:
            return
        self._written = self._loop.time()
        await in_time(self._send({"type": "http.response.body", "body": data, "more_body": not last}), STALLED_S, ReaderStalled)

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._side and not self._side.done():
            self._side.cancel()


async def client_gone(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    with suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
