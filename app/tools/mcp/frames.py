"""What workers and the relay say to each other: JSON objects, each behind its length, over a unix socket of this user's own.

A worker sends                                                The relay sends
`{op: want, servers: {name: config}}`, all it wants           `{on: server, name, state, error, tools}`, at each change
`{op: call, id, server, tool, arguments, ...}`                `{on: answer, id, ...}`, one for each call
`{op: cancel, id}`, for an answer that nobody waits for       nothing
`{op: leave}`, before it goes                                 `{on: left, ends}`: whether the relay ends with it
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any, Final, Literal, cast

import orjson

PROTOCOL: Final = 1
"""In the socket's name, so that workers of another version start a relay of their own."""
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
ServerState = Literal["starting", "ready", "away"]
Failure = Literal["failed", "timeout", "away", "unknown"]
"""Of a call: the tool said so, took too long, was never sent, or nobody knows what became of it."""

_LENGTH: Final = struct.Struct(">I")


def packed(frame: dict[str, Any]) -> bytes:
    """`frame` as it goes over the socket."""
    body = orjson.dumps(frame)
    return _LENGTH.pack(len(body)) + body


async def read(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next frame, None at the end of the connection."""
    try:
        size = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))[0]
        if size > MAX_FRAME_BYTES:
            return None
        return cast("dict[str, Any]", orjson.loads(await reader.readexactly(size)))
    except (asyncio.IncompleteReadError, ConnectionError, orjson.JSONDecodeError):
        return None
