"""Reading a request body within bounds, and waiting for a result only as long as somebody wants it."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from app.api.errors import validation_fault
from app.api.services import Services
from app.api.sse import WATCH_AFTER_S, client_gone
from app.core.errors import InvalidRequest
from app.core.lifecycle import BODY
from app.core.streams import in_time, supervise

T = TypeVar("T")
B = TypeVar("B", bound=BaseModel)

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


async def read_json(request: Request, model: type[B], services: Services) -> B:
    """The body as `model`.

    Raises:
        InvalidRequest: not JSON, not this shape, too deep, too large, too slow.
    """
    kind = request.headers.get("content-type", "application/json")
    if "json" not in kind:
        message = f"the body is {kind[:100]!r}; send JSON with Content-Type: application/json"
        raise InvalidRequest(message, code="unsupported_media_type")
    limits = services.engine.spec.limits
    content = await read_body(request, limits.max_body_bytes, services.settings.body_s)
    check_depth(content, limits.max_json_depth)
    request.scope[BODY] = content
    if not content:
        raise InvalidRequest("the body is empty; send a JSON object")
    try:
        # orjson refuses NaN, lone surrogates and bad UTF-8, which pydantic's own parser takes or replaces.
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        raise validation_fault(error, parsed) from None


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """The raw body.

    Raises:
        InvalidRequest: more than `most` bytes, or not here within `seconds`.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > most:
        raise _too_large(most)

    def too_slow() -> InvalidRequest:
        return InvalidRequest(f"the body did not arrive within {seconds:g} s", code="body_timeout")

    return await in_time(_gather(request, most), seconds, too_slow)


async def _gather(request: Request, most: int) -> bytes:
    receive = request.receive
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(most: int) -> InvalidRequest:
    return InvalidRequest(f"the body is larger than {most} bytes, the limit of this service", code="too_large")


def check_depth(content: bytes, most: int) -> None:
    """Refuse JSON that nests deeper than `most`, without building it.

    Raises:
        InvalidRequest: it does.
    """
    if content.count(b"{") + content.count(b"[") <= most:
        return
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", content)):
        if bracket[0] in b"{[":
            depth += 1
            if depth > most:
                raise InvalidRequest(f"the body nests deeper than {most} levels, the limit of this service")
        else:
            depth -= 1


async def wanted(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and cancel it when the client leaves.

    Raises:
        Abandoned: the client has left.
    """
    return await supervise(work, lambda: client_gone(request.receive), after_s=WATCH_AFTER_S)
