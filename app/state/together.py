"""Commands that many ask for at the same time, sent in one pipeline: a client's own work costs more than the server's."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.state.client import StateClient

_AT_ONCE: Final = 64


@dataclass(slots=True)
class _Wanted:
    queue: Callable[[Any], None]
    replies: asyncio.Future[list[Any]]


class Together:
    """One pipeline at a time; what is asked for meanwhile goes with the next one. Nobody waits for company."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._wanted: list[_Wanted] = []
        self._sender: asyncio.Task[None] | None = None

    async def ask(self, queue: Callable[[Any], None]) -> list[Any]:
        """The replies to what `queue` puts into a pipeline, errors of single commands among them.

        Raises what redis-py raises for the whole pipeline.
        """
        loop = asyncio.get_running_loop()
        wanted = _Wanted(queue, loop.create_future())
        self._wanted.append(wanted)
        if self._sender is None:
            self._sender = loop.create_task(self._send_all(), name="commands together")
        return await wanted.replies

    async def _send_all(self) -> None:
        while self._wanted:
            some, self._wanted = self._wanted[:_AT_ONCE], self._wanted[_AT_ONCE:]
            try:
                found = await self._send(some)
            except Exception as error:  # it is theirs: each of them raises it
                for one in some:
                    if not one.replies.done():
                        one.replies.set_exception(error)
            else:
                for one, replies in zip(some, found, strict=True):
                    if not one.replies.done():
                        one.replies.set_result(replies)
        self._sender = None

    async def _send(self, some: Sequence[_Wanted]) -> list[list[Any]]:
        pipe: Any = self._state.commands.pipeline(transaction=False)
        ends: list[int] = []
        for one in some:
            one.queue(pipe)
            ends.append(len(pipe))
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return [replies[start:end] for start, end in zip([0, *ends], ends, strict=False)]
