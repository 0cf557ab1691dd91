"""The outermost middleware, in plain ASGI: request ids, header bounds, counting, and the last net for errors."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import problem
from app.api.sse import break_off
from app.core.errors import InvalidRequest, report
from app.core.lifecycle import Draining, stopping
from app.core.streams import Abandoned
from app.observability.counting import http_answered

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context, level 1
_CLOSE = (b"connection", b"close")
_log = structlog.get_logger("quorum.http")


class Edge:
    """Stands around the whole application.

    Puts `request_id`, `traceparent` and `keyed` (whether there is an idempotency key) into the scope.

    Parameters:
        max_header_bytes: gives the longest header value that is taken, by the configuration in force.
        draining: tells that the process stops, and cuts what is left.
        keyed: puts around the application what requests with an idempotency key go through.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_header_bytes: Callable[[], int],
        draining: Draining,
        keyed: Callable[[ASGIApp], ASGIApp] | None = None,
    ) -> None:
        self._draining = draining
        self._app = app
        self._keyed = keyed(app) if keyed else app
        self._max_header_bytes = max_header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        longest = self._read_headers(scope)
        request_id: str = scope["request_id"]
        header = (b"x-request-id", request_id.encode())

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], header]
                if self._draining.begun:  # so that nobody's next request finds the connection closed
                    message["headers"].append(_CLOSE)
            await send(message)

        try:
            most = self._max_header_bytes()
            if longest > most:
                text = f"a header of {longest} bytes; at most {most} are taken"
                await problem(report(InvalidRequest(text, code="headers_too_large")), request_id)(scope, receive, answer)
            else:
                app = self._keyed if scope["keyed"] and scope["method"] == "POST" else self._app
                await app(scope, receive, answer)
        except (ClientDisconnect, Abandoned):
            status = status or 499
        except asyncio.CancelledError:
            if not self._draining.was_cut():
                raise
            if status:
                break_off(scope)
            else:
                await problem(report(stopping()), request_id)(scope, receive, answer)
        except Exception as error:  # the boundary of the process: whatever it is, the client gets an answer and we a log
            _log.exception("request failed", request_id=request_id, path=scope["path"], error_type=type(error).__name__)
            if status:
                raise
            await problem(report(error), request_id)(scope, receive, answer)
        finally:
            count, observe = http_answered(_route(scope), scope["method"], status)
            count()
            observe(time.perf_counter() - started)

    def _read_headers(self, scope: Scope) -> int:
        """Note what we need of the headers; give the length of the longest value."""
        request_id: str | None = None
        traceparent: str | None = None
        longest = 0
        scope["keyed"] = False
        for name, value in scope["headers"]:
            if len(value) > longest:
                longest = len(value)
            if name == b"x-request-id":
                request_id = value.decode("ascii") if _REQUEST_ID.fullmatch(value) else None
            elif name == b"idempotency-key":
                scope["keyed"] = True
            elif name == b"traceparent":
                traceparent = value.decode("ascii") if _TRACEPARENT.fullmatch(value) else None
        scope["request_id"] = request_id or f"req_{os.urandom(12).hex()}"
        scope["traceparent"] = traceparent
        return longest


def _route(scope: Scope) -> str:
    """The route's template: bounded, unlike paths."""
    route = scope.get("route")
    return getattr(route, "path", "other")
