"""The load: raw HTTP/1.1 connections that ask again and again, or open streams and hold them.

`python -m bench.load` is one process of it: its argument is an `Order` as JSON, its output a `Report`. The clock of
all processes is the machine's monotonic one, so an order says when to measure, and a stream's chunk can say when it was sent.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Literal, cast

import orjson
import uvloop

CALM_S = 1.0
"""Between the opening of the last stream and the measurement."""
KEY = b"a-key-of-this-request-of-32-char"
"""Wherever it stands in a request, 32 other characters stand in each one that is sent."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200"
_LAST = b"\r\n0\r\n\r\n"
_DONE = b"data: [DONE]"
_SENT = re.compile(rb"@(\d+);")


@dataclass(frozen=True, slots=True)
class Order:
    """What to do. Times are monotonic seconds; what ends between `begin` and `end` is counted."""

    kind: Literal["calls", "streams"]
    port: int
    body: str
    connections: int
    begin: float
    end: float
    keyed: bool = False

    def request(self) -> bytes:
        """One request. With `keyed` it has `KEY` as its idempotency key; its body may have it too."""
        body = self.body.encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\ncontent-type: application/json\r\n"
        key = b"idempotency-key: %b\r\n" % KEY if self.keyed else b""
        return head.encode() + key + b"content-length: %d\r\n\r\n" % len(body) + body


@dataclass(slots=True)
class Report:
    """What came of it: milliseconds of each call, or milliseconds that each chunk came after it was sent."""

    times_ms: list[float] = field(default_factory=list)
    error: str | None = None


class _Connection(asyncio.Protocol):
    def __init__(self, order: Order, report: Report, over: asyncio.Event) -> None:
        self._order, self._report, self._over = order, report, over
        self._request = order.request()
        self._differs = KEY in self._request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.is_set():
            self._fail("the connection was closed")

    def _ask(self) -> None:
        self._received = b""
        self._need: int | None = None
        self._asked = time.monotonic()
        request = self._request.replace(KEY, os.urandom(16).hex().encode()) if self._differs else self._request
        self._transport.write(request)

    def _fail(self, what: str) -> None:
        self._report.error = self._report.error or what
        self._over.set()


class _Calls(_Connection):
    """Asks again as soon as it has the whole answer."""

    def data_received(self, data: bytes) -> None:
        self._received = received = self._received + data if self._received else data
        if self._need is None and not self._begun(received):
            return
        if len(received) >= self._need if self._need else received.endswith(_LAST):
            if not self._need and _DONE not in received:
                self._fail(received[-500:].decode(errors="replace"))
                return
            now = time.monotonic()
            if self._order.begin <= now < self._order.end:
                self._report.times_ms.append((now - self._asked) * 1000)
            self._ask()

    def _begun(self, received: bytes) -> bool:
        """Whether the head is there. `_need` is then the bytes of the answer, or 0 for a chunked one."""
        head = received.find(b"\r\n\r\n")
        if head < 0:
            return False
        if not received.startswith(_OK):
            self._fail(received[:500].decode(errors="replace"))
            return False
        length = _LENGTH.search(received, 0, head + 2)
        self._need = head + 4 + int(length[1]) if length else 0
        return True


class _Streams(_Connection):
    """Holds one stream and reads in each chunk when it was sent."""

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._need is None:
            self._need = 0
            if not data.startswith(_OK):
                self._fail(data[:500].decode(errors="replace"))
        if self._order.begin * 1e9 <= now < self._order.end * 1e9:
            self._report.times_ms += [(now - int(sent)) / 1e6 for sent in _SENT.findall(data)]


async def run(order: Order) -> Report:
    """Opens the connections, measures, and closes them."""
    loop = asyncio.get_running_loop()
    report, over = Report(), asyncio.Event()
    kind = _Calls if order.kind == "calls" else _Streams
    opening_s = max(0.0, order.begin - time.monotonic() - CALM_S) if order.kind == "streams" else 0.0
    timer = loop.call_later(order.end - time.monotonic(), over.set)
    transports: list[asyncio.BaseTransport] = []
    try:
        for _ in range(order.connections):
            transport, _ = await loop.create_connection(lambda: kind(order, report, over), "127.0.0.1", order.port)
            transports.append(transport)
            await asyncio.sleep(opening_s / order.connections)
        await over.wait()
    except OSError as error:
        report.error = str(error)
    timer.cancel()
    for transport in transports:
        transport.close()
    return report


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(asdict(uvloop.run(run(Order(**orjson.loads(sys.argv[1])))))))
