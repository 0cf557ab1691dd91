"""How an answer goes out: at its pace, and broken where a fault says so. The client may leave at any moment."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import Receive, Send

from app.providers.mock.faults import Fault
from app.providers.mock.server.wire import Frames, Problem

_NOT_JSON = b"<!doctype html><title>502 Bad Gateway</title>"
_NOT_JSON_FRAME = b"data: {not json\n\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that will be written for a request, and when.

    `body` is the whole answer of a unary call, `frames` the streamed one. `fault` strikes after `after` deltas (a unary answer
    has one moment only); `problem_body`, `problem_frame` and `problem_headers` tell it in the dialect's shape.
    """

    latency_s: float
    gap_s: float
    body: bytes = b""
    frames: Frames | None = None
    content_type: str = "application/json"
    fault: Fault | None = None
    after: int = 0
    problem: Problem | None = None
    problem_body: bytes = b""
    problem_frame: bytes = b""
    problem_headers: tuple[tuple[bytes, bytes], ...] = ()


class _Gone(Exception):
    """The client has left, or its connection was broken on purpose."""


class Delivery:
    """One answer on its way to one client."""

    def __init__(self, answer: Answer, receive: Receive, send: Send) -> None:
        self.answer = answer
        self._receive = receive
        self._send = send
        self._gone: asyncio.Future[None] | None = None

    async def run(self) -> None:
        answer = self.answer
        try:
            await self._pause(answer.latency_s)
            if answer.frames is None:
                await self._pause(answer.gap_s)
                await self._unary()
            else:
                await self._stream(answer.frames)
        except _Gone:
            return
        finally:
            if self._gone is not None:
                self._gone.cancel()

    async def _unary(self) -> None:
        answer = self.answer
        match answer.fault.form if answer.fault else None:
            case "error" if answer.problem:
                await self._whole(answer.problem.status, answer.problem_body, *answer.problem_headers)
            case "hang":
                await self._pause(None)
            case "reset":
                await self._abort()
            case "cut":
                await self._whole(200, answer.body[: len(answer.body) // 2])
            case "garbage":
                await self._whole(200, _NOT_JSON)
            case _:
                await self._whole(200, answer.body)

    async def _stream(self, frames: Frames) -> None:
        answer = self.answer
        if answer.fault and not answer.after and answer.fault.form in ("error", "reset", "hang"):
            await self._unary()
            return
        await self._start(200, answer.content_type)
        await self._write(frames.head)
        end = answer.after if answer.fault else len(frames.deltas)
        for number, frame in enumerate(frames.deltas[:end]):
            if number:
                await self._pause(answer.gap_s)
            await self._write(frame)
        if answer.fault:
            await self._break(answer.fault)
        else:
            await self._write(frames.tail)
        await self._write(b"", more=False)

    async def _break(self, fault: Fault) -> None:
        """End a stream that has begun."""
        match fault.form:
            case "hang":
                await self._pause(None)
            case "reset":
                await self._abort()
            case "garbage":
                await self._write(_NOT_JSON_FRAME)
            case "error":
                await self._write(self.answer.problem_frame)
            case _:
                pass

    async def _whole(self, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        await self._start(status, "application/json", *headers, size=len(body))
        await self._write(body, more=False)

    async def _start(self, status: int, content_type: str, *headers: tuple[bytes, bytes], size: int | None = None) -> None:
        lines = [(b"content-type", content_type.encode()), *headers]
        if size is not None:
            lines.append((b"content-length", b"%d" % size))
        await self._send({"type": "http.response.start", "status": status, "headers": lines})

    async def _write(self, body: bytes, *, more: bool = True) -> None:
        if body or not more:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _pause(self, seconds: float | None) -> None:
        """Wait so long (None: for ever), or until the client leaves."""
        if seconds == 0:
            return
        if self._gone is None:
            self._gone = asyncio.ensure_future(self._left())
        done, _ = await asyncio.wait((self._gone,), timeout=seconds)
        if done:
            raise _Gone

    async def _left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _abort(self) -> None:
        """Break the connection. ASGI has no word for it; the server's transport is asked (uvicorn's `receive` knows it)."""
        transport = getattr(getattr(self._receive, "__self__", None), "transport", None)
        if isinstance(transport, asyncio.Transport):
            transport.abort()
            await self._pause(None)
        raise ConnectionError("the mock was asked to break this connection")
