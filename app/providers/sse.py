"""Server-sent events from bytes, cut anywhere (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"
_LONG = 64 * 1024
"""Bytes from which a line is gathered in pieces: joining it anew with every chunk would take quadratic time."""


class SseTooLarge(ValueError):
    """An event grew past the bound without ending."""


class SseDecoder:
    """Feed it chunks, get whole events as `(event, data)` pairs of bytes.

    Events may be separated by LF, CRLF or CR; comments and unknown fields are skipped; an event without data is no event.
    What is left without its blank line at the end of the stream is not an event either, as the standard says. Beyond the
    standard, a JSON object that stands bare in the stream is an event without a name: so Gemini says that it fails.
    """

    __slots__ = ("_first", "_limit", "_long", "_rest", "_size")

    def __init__(self, *, limit: int = 64 * 1024 * 1024) -> None:
        self._rest = b""
        self._long: list[bytes] = []
        self._size = 0
        self._first = True
        self._limit = limit

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """The events that `chunk` completes.

        Raises:
            SseTooLarge: more than the limit has come without the end of an event.
        """
        if self._size + len(chunk) > _LONG and self._goes_on(chunk):
            return []
        buffer = self._taken() + chunk if self._size else chunk
        if self._first:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                self._keep(buffer)
                return []
            self._first = False
            buffer = buffer.removeprefix(_BOM)
        if b"\r" in buffer:
            # A CR at the very end may be the first half of a CRLF: it waits for the next chunk.
            held = b"\r" if buffer.endswith(b"\r") else b""
            buffer = buffer[: len(buffer) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        blocks = buffer.split(b"\n\n")
        rest = blocks.pop()
        self._keep(rest + held)
        events: list[tuple[bytes, bytes]] = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append((b"", block[6:]))
            elif event := _parse(block):
                events.append(event)
        return events

    def end(self) -> list[tuple[bytes, bytes]]:
        """At the end of the stream: the event that its last CR ends, or the bare JSON object that it ended with, if any."""
        events = self.feed(b"\n") if self._rest.endswith(b"\r") and not self._long else []
        rest = self._taken().strip()
        return [*events, (b"", rest)] if rest.startswith(b"{") and rest.endswith(b"}") else events

    def _keep(self, rest: bytes) -> None:
        self._rest, self._size = rest, len(rest)
        if self._size > self._limit:
            raise SseTooLarge(f"an event of more than {self._limit} bytes")

    def _taken(self) -> bytes:
        """All that is kept, in one piece."""
        if self._long:
            self._rest, self._long = b"".join((self._rest, *self._long)), []
        return self._rest

    def _goes_on(self, chunk: bytes) -> bool:
        """Keep a further piece of a long line without looking at the whole of it again."""
        if self._first or b"\n" in chunk or b"\r" in chunk or self._rest.endswith(b"\r"):
            return False
        self._long.append(chunk)
        self._size += len(chunk)
        if self._size > self._limit:
            raise SseTooLarge(f"an event of more than {self._limit} bytes")
        return True


def _parse(block: bytes) -> tuple[bytes, bytes] | None:
    name = b""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    if not data and block.lstrip().startswith(b"{"):
        return b"", block.lstrip(b"\n")
    return (name, b"\n".join(data)) if data else None
