"""A provider that costs next to nothing: raw HTTP/1.1 with answers made beforehand.

`/instant/...` answers at once (with `"stream": true` all chunks in one write), `/slow/...` after `SLOW_S`, `/varied/...`
too, with a page of its own for each of the models `bench-1` to `bench-20`. `/paced/...` streams `PACED_PER_S` tokens a second
for as long as the client stays, each with the time at which it was sent: `@<monotonic ns>;`.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from typing import Any, cast

import orjson
import uvloop

CHUNKS = 201
"""In a streamed answer: the role, 199 words, the end."""
SLOW_S = 0.2
VARIED = 20
VARIED_WORDS = 200
PACED_PER_S = 20
WORD = " word"
ANSWER = "Sunlight is scattered by the molecules of the air, and blue light more than red, so blue reaches us from all sides."

_USAGE = {"prompt_tokens": 12, "completion_tokens": 24, "total_tokens": 36}
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAMED = re.compile(rb'"stream": ?true')
_MODEL = re.compile(rb'"model": ?"bench-(\d+)"')


def _whole(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    body = orjson.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "bench",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _USAGE,
        }
    )
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _page(number: int) -> str:
    """One of three pages, with every fifth word another one: so there are three clusters to be found."""
    base, own = random.Random(number % 3), random.Random(number)
    return " ".join("".join((base if at % 5 else own).choices("abcdefghij", k=3)) for at in range(VARIED_WORDS))


def _event(delta: dict[str, Any], finish: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "bench",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    return b"data: " + orjson.dumps(chunk if usage is None else {**chunk, "usage": usage}) + b"\n\n"


def _part(data: bytes) -> bytes:
    """One chunk of the chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_FIRST = _part(_event({"role": "assistant", "content": ""}))
_WHOLE = _whole(ANSWER)
_PAGES = [_whole(_page(number)) for number in range(VARIED)]
_AT_ONCE = b"".join(
    (
        _HEAD,
        _FIRST,
        *(_part(_event({"content": WORD})) for _ in range(CHUNKS - 2)),
        _part(_event({}, "stop", _USAGE) + b"data: [DONE]\n\n"),
        b"0\r\n\r\n",
    )
)


class Upstream(asyncio.Protocol):
    """One connection. Requests come one after the other, as HTTP clients send them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._received, 0, head + 2)
        end = head + 4 + (int(length[1]) if length else 0)
        if len(self._received) >= end:
            request, self._received = self._received[:end], self._received[end:]
            self._answer(request, head)

    def _answer(self, request: bytes, head: int) -> None:
        if request.startswith(b"POST /instant/"):
            self._transport.write(_AT_ONCE if _STREAMED.search(request, head) else _WHOLE)
        elif request.startswith(b"POST /slow/"):
            self._timer = self._loop.call_later(SLOW_S, self._transport.write, _WHOLE)
        elif request.startswith(b"POST /varied/"):
            model = _MODEL.search(request, head)
            page = _PAGES[int(model[1]) % VARIED] if model else _WHOLE
            self._timer = self._loop.call_later(SLOW_S, self._transport.write, page)
        elif request.startswith(b"POST /paced/"):
            self._transport.write(_HEAD + _FIRST)
            self._say(self._loop.time() + random.random() / PACED_PER_S)
        else:
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    def _say(self, when: float) -> None:
        """Send a token at `when`, and so on. The first is at a random phase, so that streams do not speak in chorus."""

        def say() -> None:
            self._transport.write(_part(_event({"content": f"@{time.monotonic_ns()};"})))
            self._say(when + 1 / PACED_PER_S)

        self._timer = self._loop.call_at(when, say)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(loop), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
