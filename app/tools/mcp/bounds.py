"""How much a server may say at once: the library gathers a program's line, and a JSON answer, however long they become."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from itertools import count
from typing import Final, cast

import httpx2
from anyio import EndOfStream

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""As of an HTTP tool's answer."""
_UTF_8: Final = codecs.lookup("utf-8")
_numbers: Final = count(1)


@contextmanager
def bounded_lines(most_bytes: int, too_long: Callable[[], None]) -> Generator[str]:
    """The name of an encoding for what a program says: UTF-8 that ends with the first line that has more than `most_bytes`, or
    a read's worth more. It then calls `too_long`, once."""

    class Decoder(codecs.IncrementalDecoder):
        def __init__(self, errors: str = "strict") -> None:
            super().__init__(errors)
            self._inner = codecs.getincrementaldecoder("utf-8")(errors)
            self._line = 0
            self._over = False

        def decode(self, data: bytes, final: bool = False) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
            if self._over:
                raise EndOfStream
            end = data.rfind(b"\n")
            self._line = self._line + len(data) if end < 0 else len(data) - end - 1
            if self._line > most_bytes:
                self._over = True
                too_long()
                raise EndOfStream
            return self._inner.decode(data, final)

    name = f"utf_8_lines_{next(_numbers)}"
    info = codecs.CodecInfo(_UTF_8.encode, _UTF_8.decode, incrementaldecoder=Decoder, name=name)

    def search(wanted: str) -> codecs.CodecInfo | None:
        return info if wanted == name else None

    codecs.register(search)
    try:
        yield name
    finally:
        codecs.unregister(search)


async def bounded_body(response: httpx2.Response) -> None:
    """Sees to it that an answer is not read beyond the bound, nor unpacked: that was not asked for. The library bounds the
    events of a stream itself."""
    packed = response.headers.get("content-encoding", "identity") != "identity"
    events = response.headers.get("content-type", "").lower().startswith("text/event-stream")
    if packed or not events:
        response.stream = _Bounded(cast("httpx2.AsyncByteStream", response.stream), packed=packed)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, *, packed: bool) -> None:
        self._inner, self._packed = inner, packed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._packed:
            raise httpx2.StreamError("it answers compressed, which was not asked for")
        left = MAX_MESSAGE_BYTES
        async for chunk in self._inner:
            left -= len(chunk)
            if left < 0:
                raise httpx2.StreamError(f"its answer has more than {MAX_MESSAGE_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
