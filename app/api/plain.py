"""Routes whose handler takes the request and gives the response, with nothing between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class PlainRoute(APIRoute):
    """A route in the OpenAPI document whose one parameter is the request: no dependencies are solved or closed for it.

    What the framework does for each request, to find that there is nothing to solve and nothing to close, costs an eighth of a
    forwarded call. Its errors are answered by the application's own handlers, which stand around all routes.
    """

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = _called(endpoint)


def _called(endpoint: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    return app
