"""One request that runs apart from its connection: what it answers is kept, whoever is there to read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog
from starlette.types import ASGIApp, Message, Send

from app.api.errors import row_of
from app.api.idempotency.request import KeyedRequest
from app.api.sse import COMMENT
from app.core.clock import Clock
from app.core.errors import ErrorReport, OrchestratorError, QuorumError
from app.core.lifecycle import AGAIN, FAILED, PAUSED, PRINCIPAL, REQUIRED, TICKET, UNREPEATABLE, Pause, Ticket
from app.core.streams import in_time
from app.state.idempotency import Asked, Begun, Write

NEVER_KEPT: Final = frozenset({401, 403, 408, 409, 413, 429})
"""Client errors that say nothing of the request itself. 5xx are not kept either: the next try may fare better."""
KEPT_HEADERS: Final = frozenset({"content-type", "location", "cache-control", "x-accel-buffering", "x-should-retry"})
"""What is answered again besides our own `x-quorum-...`; dates, request ids and the state of limits are fresh."""

_log = structlog.get_logger("quorum.idempotency")


class Lost(Exception):
    """Another process has taken the request over."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer."""

    status: int
    headers: tuple[tuple[str, str], ...]

    def packed(self) -> bytes:
        """As it is stored: without what is fresh each time."""
        kept = [pair for pair in self.headers if pair[0] in KEPT_HEADERS or pair[0].startswith("x-quorum-")]
        return orjson.dumps([self.status, kept])

    def message(self, *more: tuple[bytes, bytes]) -> Message:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        return {"type": "http.response.start", "status": self.status, "headers": [*headers, *more]}


def unpacked_head(packed: bytes) -> Head:
    """The inverse of `Head.packed`."""
    status, headers = orjson.loads(packed)
    return Head(status, tuple((name, value) for name, value in headers))


def keeps(head: Head, failed: ErrorReport | None) -> bool:
    """Whether an answer is the request's answer for good: a result, or a failure that would come again.

    A client error is that only where a run had begun: without its id the request was refused before any call was made.
    """
    status = head.status if failed is None else row_of(failed).status
    if status < 400:
        return True
    began = any(name == "x-quorum-run-id" for name, _ in head.headers)
    return status < 500 and status not in NEVER_KEPT and began


class Execution:
    """A request being run by this process.

    Parameters:
        request: what to run.
        begun: by which operation, under which run id.
        finish: stores the answer; raises Lost where another process has taken over.
        notify: called when there is something to store.
    """

    def __init__(
        self,
        request: KeyedRequest,
        begun: Begun,
        *,
        keep_s: int,
        most_bytes: int,
        clock: Clock,
        finish: Callable[[Execution], Any],
        notify: Callable[[], None],
    ) -> None:
        self.request = request
        self.ticket = Ticket(begun.run_id, begun.epoch, request.id.digest, request.own)
        self.head: Head | None = None
        self.over = False
        self.lost = False
        self.released = False
        self.scope: dict[str, Any] = {}
        self._operation = begun.operation
        self._keep_s = keep_s
        self._most_bytes = most_bytes
        self._clock = clock
        self._finish = finish
        self._notify = notify
        self._pieces: list[bytes] = []
        self._live: list[bytes] = []
        self._size = 0
        self._stored = 0
        self._streamed = False
        self._error: Exception | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self.task: asyncio.Task[None] | None = None
        self._delivered = False

    # ---- running

    def start(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        """Run it. It goes on whoever leaves."""
        self.scope = scope
        scope[TICKET] = self.ticket
        scope[PRINCIPAL] = self.request.principal
        self.task = asyncio.get_running_loop().create_task(self._run(app, scope), name=f"request {self.ticket.run_id}")

    def stop(self, *, released: bool) -> None:
        """Stop it here: another process has it, or (`released`) is to have it."""
        if not self.over:
            self.lost, self.released = True, released
            if self.task is not None:
                self.task.cancel()

    async def _run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        try:
            try:
                await app(scope, self._receive, self._send)
            except Exception as error:  # the boundary: whoever waits must hear of it
                _log.exception("a request broke", run_id=self.ticket.run_id, error_type=type(error).__name__)
                self._error = error
            await self._finish(self)
        except (Lost, asyncio.CancelledError):
            self.lost = True
        finally:
            self.over = True
            self._wake()

    async def _receive(self) -> Message:
        if self._delivered:
            await asyncio.get_running_loop().create_future()  # this client never leaves
        self._delivered = True
        return {"type": "http.request", "body": self.request.body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"])
            self.head = Head(message["status"], headers)
            return
        piece, more = message.get("body", b""), message.get("more_body", False)
        self._streamed = self._streamed or more
        if not piece:
            return
        self._live.append(piece)
        if piece != COMMENT:
            self._size += len(piece)
            self._pieces.append(piece)
        if self._streamed:
            self._wake()
            self._notify()

    # ---- what is stored

    def next_write(self, *, last: bool = False, again: Asked | None = None) -> Write:
        """What the store lacks; with `again` all of it. Short of its end, a whole answer waits for it; only streams are
        stored as they come."""
        hurdle = bool(self.scope.get(AGAIN))
        going = (self._streamed or last) and not (hurdle or self.request.own)
        stored = 0 if again else self._stored
        pieces = self._pieces[stored:] if going else []
        kept = (
            not self.request.own and self.head and not self._error and (self.scope.get(UNREPEATABLE) or self._fits(self.head))
        )
        return Write(
            self.request.id,
            self._operation,
            self.ticket.epoch,
            self._keep_s,
            self.head.packed() if going and self.head else b"",
            self.scope.get(REQUIRED, ""),
            stored + 1,
            pieces,
            "" if not last or hurdle else "pause" if self.paused else "keep" if kept else "drop",
            wait_s=max(0.0, self.paused.expires_at - self._clock.now()) if self.paused else 0.0,
            release=self.released or (last and hurdle),
            again=again,
        )

    @property
    def refusal(self) -> QuorumError | None:
        """Why a run that was begun elsewhere cannot be gone on with here or anywhere; None where it was, or may be later."""
        head, scope = self.head, self.scope
        if self.ticket.epoch == 1 or self.paused or scope.get(AGAIN) or head is None or head.status < 400:
            return None
        try:
            error = orjson.loads(b"".join(self._pieces))["error"]
            return OrchestratorError(str(error["message"]), code=str(error["code"]))
        except (orjson.JSONDecodeError, LookupError, TypeError):
            return OrchestratorError(f"it could not be gone on with: {head.status}")

    @property
    def paused(self) -> Pause | None:
        """How its run is paused, if it is. Then nobody has it once it is over here."""
        return self.scope.get(PAUSED)

    def _fits(self, head: Head) -> bool:
        return self._size <= self._most_bytes and keeps(head, self.scope.get(FAILED))

    def written(self, write: Write) -> None:
        """The store has taken `write`."""
        self._stored = max(self._stored, write.first - 1 + len(write.pieces))

    @property
    def due(self) -> bool:
        """Whether the store lacks something of a stream."""
        return self._streamed and not self.over and len(self._pieces) > self._stored

    # ---- who reads it

    async def relay(self, send: Send, stalled_s: float, *more: tuple[bytes, bytes]) -> None:
        """Send the answer from its beginning on, as it comes, with `more` headers. The native stream of a run that is paused is
        left open: there will be more of it.

        Raises:
            Lost: it will not be answered here.
        """
        position = 0
        while not (self.over or (self._streamed and self._live)):
            await self._changed()
        if self.head is None or (self.lost and not self._streamed):
            raise self._error or Lost
        await send(self.head.message(*more))
        while True:
            pieces, over = self._live[position:], self.over
            position += len(pieces)
            if over and self.lost:
                raise Lost
            if over and self._error:
                raise self._error
            if pieces or over:
                last = over and not (self.paused and self.paused.native)
                message = {"type": "http.response.body", "body": b"".join(pieces), "more_body": not last}
                await in_time(send(message), stalled_s, TimeoutError)
            if over:
                return
            if position == len(self._live) and not self.over:
                await self._changed()

    async def begins(self, until: float) -> bool:
        """Whether there is something of the answer by `until`, on the event loop's clock."""

        async def something() -> bool:
            while not (self.over or (self._streamed and self._live)):
                await self._changed()
            return not (self.lost and not self._streamed)

        try:
            return await in_time(something(), max(0.0, until - asyncio.get_running_loop().time()), TimeoutError)
        except TimeoutError:
            return False

    async def _changed(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
