"""Whether a call has reached an MCP server at a URL: what was never sent has certainly had no effect.

The library tells of both alike, as a call that was answered with an error. It sends each request in the context of who made the
call, so what became of that is noted there.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import httpx2

_CALL: Final = b'"tools/call"'
"""In the body of the request that is the call itself; others may be made on its behalf, as lists of tools."""


@dataclass(slots=True)
class Reached:
    """Of one call: whether any of it may have been `sent`; why a connection was `refused`, where one was."""

    sent: bool = False
    refused: str | None = None


REACHED: Final[ContextVar[Reached | None]] = ContextVar("reached", default=None)


class ReachingClient(httpx2.AsyncClient):
    """A client that notes for the call that it sends for (`REACHED`) whether that was sent."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        reached = REACHED.get()
        if reached is None or _CALL not in request.content:
            return await super().send(request, **options)
        try:
            response = await super().send(request, **options)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            reached.refused = f"{type(error).__name__}: {error}"
            raise
        except BaseException:
            reached.sent = True
            raise
        reached.sent = True
        return response
