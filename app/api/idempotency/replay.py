"""Answers from the store: of requests that have been answered, or are being answered by another process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Send

from app.api.idempotency.execution import Head, Lost, unpacked_head
from app.core.errors import StateUnavailable
from app.core.streams import in_time
from app.state.idempotency import IdempotencyRecords, RequestId

WAIT_S: Final = 0.5
"""How long one waits for a piece before one looks whether the request is still being answered."""
PATIENCE_S: Final = 10.0
"""How long a store may be away, or not know of the request since it was emptied, until one no longer waits for it: who runs
the request records it again within `HEARTBEAT_S`."""
_AGAIN_S: Final = 0.25

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
        self._epoch: int = 0
        self._after = 0
        self.begun = False

    async def answered(self, send: Send, packed_head: bytes, scope: str) -> bool:
        """The answer, which is there as a whole, for now where its run is paused. False where it is not there any more.

        Raises:
            Lost: it went away after something had been sent.
        """
        self._allowed(scope)
        pieces = await self._records.pieces(self._request, 0)
        if not pieces and (await self._records.standing(self._request))[0] not in ("done", "paused"):
            return False
        head = unpacked_head(packed_head)
        await send(self._head(head))
        self.begun = True
        while pieces:
            self._after = pieces[-1][0]
            following = await self._stored() if _streamed(head) else []
            await self._send_on(send, _joined(pieces), more=bool(following))
            pieces = following
            if not pieces:
                return True
        await self._send_on(send, b"", more=False)
        return True

    async def follow(self, send: Send, until: float) -> bool:
        """The answer as another process stores it. False where none had begun at `until`, on the event loop's clock, or the
        request was given up.

        Raises:
            Lost: it was given up, or taken over, after something had been sent; or the store is away for too long.
            StateUnavailable: the store is away, and nothing was sent.
        """
        loop = asyncio.get_running_loop()
        seen, wait_s = loop.time(), 0.0
        while True:
            away: StateUnavailable | None = None
            found = ""
            try:
                found = await self._advance(send, wait_s)
            except StateUnavailable as error:
                away = error
            now = loop.time()
            if found == "done":
                return True
            if found == "running":
                seen, wait_s = now, WAIT_S
            if found not in ("", "running") or now - seen > PATIENCE_S or (now >= until and not self.begun):
                if self.begun:
                    raise Lost
                if away:
                    raise away
                return False
            if not found:
                await asyncio.sleep(_AGAIN_S)

    async def _advance(self, send: Send, wait_s: float) -> str:
        """Wait for pieces, and send on what there is. The request's state; `given up` where its answer will not go on."""
        pieces = await self._next(wait_s)
        state, epoch, head, scope = await self._records.standing(self._request)  # after them: they are of this epoch at most
        if state not in ("running", "done", "paused") or (state == "paused" and not self.begun):
            return state
        if self.begun and epoch != self._epoch:
            return "given up"
        if self.begun and pieces:
            self._after = pieces[-1][0]
            await self._send_on(send, _joined(pieces), more=True)
        elif head and not self.begun:
            self._allowed(scope)
            await send(self._head(unpacked_head(head)))
            self.begun, self._epoch = True, epoch
        if state in ("done", "paused"):
            while pieces := await self._stored():
                self._after = pieces[-1][0]
                await self._send_on(send, _joined(pieces), more=True)
            await self._send_on(send, b"", more=False)
            return "done"
        return state

    async def _next(self, wait_s: float) -> list[tuple[int, bytes]]:
        def frozen() -> StateUnavailable:
            return StateUnavailable("the state store does not answer; try again shortly")

        return await in_time(self._records.pieces(self._request, self._after, wait_s=wait_s), wait_s + 1, frozen)

    async def _stored(self) -> list[tuple[int, bytes]]:
        """The pieces that follow, of an answer of which something was sent."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_S
        while True:
            try:
                return await self._records.pieces(self._request, self._after)
            except StateUnavailable as error:
                if loop.time() >= until:
                    raise Lost from error
            await asyncio.sleep(_AGAIN_S)

    def _head(self, head: Head) -> dict[str, object]:
        return dict(head.message((b"idempotent-replayed", b"true"), *self._more))

    def _send_on(self, send: Send, body: bytes, *, more: bool) -> Awaitable[None]:
        return in_time(send({"type": "http.response.body", "body": body, "more_body": more}), self._stalled_s, TimeoutError)


def _streamed(head: Head) -> bool:
    return any(name == "content-type" and value.startswith("text/event-stream") for name, value in head.headers)


def _joined(pieces: list[tuple[int, bytes]]) -> bytes:
    return b"".join(piece for _, piece in pieces)
