"""Answers from the store: of requests that have been answered, or are being answered by another process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Send

from app.api.idempotency.execution import Head, Lost, unpacked_head
from app.core.streams import in_time
from app.state.idempotency import IdempotencyRecords, RequestId

WAIT_S: Final = 0.5
"""How long one waits for a piece before one looks whether the request is still being answered."""

Allowed = Callable[[str], None]
"""Raises where the reader's key lacks a scope."""


class Replay:
    """Sends the stored answer of `request`.

    Parameters:
        allowed: told the scope that the answer needs before anything of it is sent.
        stalled_s: until a reader who does not read is given up.
        more: further headers.
    """

    def __init__(
        self, records: IdempotencyRecords, request: RequestId, allowed: Allowed, stalled_s: float, *more: tuple[bytes, bytes]
    ) -> None:
        self._records = records
        self._request = request
        self._allowed = allowed
        self._stalled_s = stalled_s
        self._more = more
        self._epoch = 0
        self._after = 0
        self.begun = False

    async def answered(self, send: Send, packed_head: bytes, scope: str) -> None:
        """The answer, which is there as a whole.

        Raises:
            Lost: it has expired meanwhile.
        """
        self._allowed(scope)
        pieces = await self._records.pieces(self._request, 0)
        head = unpacked_head(packed_head)
        await send(self._head(head))
        self.begun = True
        while pieces:
            self._after = pieces[-1][0]
            following = await self._records.pieces(self._request, self._after) if _streamed(head) else []
            await self._send_on(send, b"".join(piece for _, piece in pieces), more=bool(following))
            pieces = following
            if not pieces:
                return
        await self._send_on(send, b"", more=False)

    async def follow(self, send: Send, until: float) -> bool:
        """The answer as another process stores it. False where none had begun at `until`, on the event loop's clock, or the
        request was given up.

        Raises:
            Lost: it was given up, or taken over, after something had been sent.
        """
        loop = asyncio.get_running_loop()
        while True:
            state, epoch, head, scope = await self._records.standing(self._request)
            if not state or (self.begun and epoch != self._epoch):
                if self.begun:
                    raise Lost
                return False
            if head and not self.begun:
                self._allowed(scope)
                await send(self._head(unpacked_head(head)))
                self.begun, self._epoch = True, epoch
            if self.begun:
                await self._drain(send)
                if state == "done":
                    await self._drain(send)
                    await self._send_on(send, b"", more=False)
                    return True
            elif loop.time() >= until:
                return False
            await in_time(self._next(send), WAIT_S + 1, TimeoutError)

    async def _drain(self, send: Send) -> None:
        while pieces := await self._records.pieces(self._request, self._after):
            self._after = pieces[-1][0]
            await self._send_on(send, b"".join(piece for _, piece in pieces), more=True)

    async def _next(self, send: Send) -> None:
        pieces = await self._records.pieces(self._request, self._after, wait_s=WAIT_S)
        if pieces and self.begun:
            self._after = pieces[-1][0]
            await self._send_on(send, b"".join(piece for _, piece in pieces), more=True)

    def _head(self, head: Head) -> dict[str, object]:
        return dict(head.message((b"idempotent-replayed", b"true"), *self._more))

    def _send_on(self, send: Send, body: bytes, *, more: bool) -> Awaitable[None]:
        return in_time(send({"type": "http.response.body", "body": body, "more_body": more}), self._stalled_s, TimeoutError)


def _streamed(head: Head) -> bool:
    return any(name == "content-type" and value.startswith("text/event-stream") for name, value in head.headers)
