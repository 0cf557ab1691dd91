"""A provider on loopback that answers with the very bytes a test gives it, cut where the test says."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Received:
    """A request as it came. `closed` is set when the client has closed the connection it came on."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """What to answer.

    `cuts` are byte offsets at which the body is cut into separate writes; `stop_after` breaks the connection after so many
    bytes of the body; `hold_after` keeps it open and silent from there on; `delay_s` waits before the headers, and so
    does `wait_for`.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    body: bytes = b"{}"
    cuts: Sequence[int] = ()
    stop_after: int | None = None
    hold_after: int | None = None
    delay_s: float = 0.0
    gap_s: float = 0.0
    wait_for: asyncio.Event | None = None


def sse(text: str | bytes, **more: Any) -> Answer:
    """An event stream."""
    body = text.encode() if isinstance(text, str) else text
    return Answer(headers={"content-type": "text/event-stream"}, body=body, **more)


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, {"content-type": "application/json", **headers}, json.dumps(value).encode())


class Loopback:
    """`async with Loopback(answer) as provider`: `provider.url` is its base URL, `provider.received` what it was asked.

    `answer` is one answer for all, a list taken in order (the last one stays), or a function of the request.
    """

    def __init__(self, answer: Answer | Sequence[Answer] | Callable[[Received], Answer]) -> None:
        self._answer = answer
        self.received: list[Received] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    @property
    def open(self) -> int:
        """Connections open now."""
        return len(self._writers)

    async def __aenter__(self) -> Loopback:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()

    def _choose(self, request: Received) -> Answer:
        if isinstance(self._answer, Answer):
            return self._answer
        if callable(self._answer):
            return self._answer(request)
        return self._answer[min(len(self.received), len(self._answer)) - 1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return False
        first, *lines = head.rstrip().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = first.split(" ", 2)
        request = Received(method, path, headers, body)
        self.received.append(request)
        answer = self._choose(request)
        gone = asyncio.ensure_future(_until_closed(reader, request))
        try:
            return await self._reply(answer, writer, gone)
        finally:
            if not gone.done():
                gone.cancel()

    async def _reply(self, answer: Answer, writer: asyncio.StreamWriter, gone: asyncio.Future[None]) -> bool:
        if answer.wait_for:
            await answer.wait_for.wait()
        if answer.delay_s:
            await asyncio.wait([gone], timeout=answer.delay_s)
        lines = [f"HTTP/1.1 {answer.status} X", *(f"{k}: {v}" for k, v in answer.headers.items()), "transfer-encoding: chunked"]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        end = next((x for x in (answer.stop_after, answer.hold_after) if x is not None), len(answer.body))
        edges = [0, *sorted(cut for cut in answer.cuts if 0 < cut < end), end]
        for start, stop in itertools.pairwise(edges):
            if part := answer.body[start:stop]:
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                await writer.drain()
                await asyncio.sleep(answer.gap_s)
        if answer.hold_after is not None:
            await gone
        if answer.stop_after is not None or answer.hold_after is not None:
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


async def _until_closed(reader: asyncio.StreamReader, request: Received) -> None:
    """Wait for the client to close. A pipelined request is none: our clients do not pipeline."""
    while not reader.at_eof():
        if reader._buffer or reader._exception:  # type: ignore[attr-defined]
            return
        await asyncio.sleep(0.005)
    request.closed.set()
