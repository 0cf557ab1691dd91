"""Lines of a batch as they come over HTTP: never more of them in memory than one, and what is stored at a time."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final, cast

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from app.api.body import check_depth
from app.api.lines import NATIVE, URLS
from app.core.errors import InvalidRequest
from app.core.jobs import QueuedRequest
from app.core.principal import Principal
from app.core.streams import in_time
from app.jobs.batch_lines import Dialects
from app.jobs.batch_upload import Line

LONGEST_NAME: Final = 512
_TARGETS: Final = 1_000
"""Kinds of lines (endpoint, model, recipe and so on) that are remembered of a batch."""


async def body_lines(request: Request, *, most_bytes: int, most_line: int, idle_s: float) -> AsyncGenerator[bytes]:
    """The lines of a body, without empty ones.

    Parameters:
        most_bytes, most_line: of the body, and of a line.
        idle_s: how long a piece of it may take.

    Raises:
        InvalidRequest: too large, a line too long, or too slow.
    """
    rest, size = bytearray(), 0

    def too_slow() -> InvalidRequest:
        return InvalidRequest(f"nothing of the body came for {idle_s:g} s", code="body_timeout")

    while True:
        message = await in_time(request.receive(), idle_s, too_slow)
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > most_bytes:
            raise InvalidRequest(f"the body is larger than {most_bytes} bytes (batches.max_bytes)", code="too_large")
        rest += piece
        if b"\n" in piece:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in whole:
                if line.strip():
                    yield line
        if len(rest) > most_line:
            raise InvalidRequest(f"a line is longer than {most_line} bytes, the limit of this service", code="too_large")
        if not message.get("more_body", False):
            if rest.strip():
                yield bytes(rest)
            return


async def parsed(lines: AsyncIterator[bytes], most_depth: int) -> AsyncGenerator[Any]:
    """Each line as JSON.

    Raises:
        InvalidRequest: one is none; names its number.
    """
    number = 0
    async for line in lines:
        number += 1
        try:
            check_depth(line, most_depth)
            yield orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"line {number} is not valid JSON: {error}") from None
        except InvalidRequest as error:
            raise InvalidRequest(f"line {number}: {error.message}", code=error.code) from None


class LineReader:
    """Reads the lines of one batch, and knows whom each will ask.

    Of each kind of line the first is prepared as it would be run, so that a model that is not there is noticed now.

    Parameters:
        defaults: members for lines in our own dialect that leave them out.
    """

    def __init__(self, dialects: Dialects, who: Principal, defaults: Mapping[str, Any]) -> None:
        self._dialects = dialects
        self._who = who
        self._defaults = defaults
        self._known: dict[bytes, tuple[str, ...]] = {}
        self._number = 0

    def read(self, given: Any) -> tuple[Line, tuple[str, ...]]:
        """The next line, and the providers that it asks.

        Raises:
            InvalidRequest: it cannot be one; names its number.
        """
        self._number += 1
        try:
            line, body = self._line(given)
            return line, self._providers(line, body)
        except InvalidRequest as error:
            message = f"line {self._number}: {error.message}"
            raise InvalidRequest(message, code=error.code, param=error.param) from None

    def _line(self, given: Any) -> tuple[Line, dict[str, Any]]:
        if not isinstance(given, dict):
            raise InvalidRequest("it is no JSON object")
        members = cast("dict[str, Any]", given)
        name = members.pop("custom_id", None)
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            raise InvalidRequest(f"custom_id wants a text of 1 to {LONGEST_NAME} characters", param="custom_id")
        if "body" not in members and "url" not in members:
            body = {**self._defaults, **members}
            return Line(name, NATIVE, orjson.dumps(body)), body
        url, body, method = members.pop("url", None), members.pop("body", None), members.pop("method", "POST")
        if url not in URLS:
            raise InvalidRequest(f"url is {str(url)[:100]!r}; it may be one of {', '.join(URLS)}", param="url")
        if method != "POST":
            raise InvalidRequest(f"method is {str(method)[:20]!r}; only POST is known", param="method")
        if not isinstance(body, dict):
            raise InvalidRequest("body wants a JSON object", param="body")
        if members:
            unknown = next(iter(members))
            raise InvalidRequest(f"{unknown!r} is not known beside custom_id, method, url and body", param=unknown)
        known = cast("dict[str, Any]", body)
        if url == NATIVE:
            known = {**self._defaults, **known}
        return Line(name, url, orjson.dumps(known)), known

    def _providers(self, line: Line, body: Mapping[str, Any]) -> tuple[str, ...]:
        said = [body.get(name) for name in ("model", "models", "recipe", "strategy", "lead_model", "options")]
        kind = hashlib.sha256(orjson.dumps([line.url, said])).digest()  # it may be as long as a line
        found = self._known.get(kind)
        if found is None:
            run = self._dialects.prepare(QueuedRequest(line.url, line.body, self._who), None).run
            found = tuple(dict.fromkeys(model.profile.provider for model in run.context.models))
            if len(self._known) < _TARGETS:
                self._known[kind] = found
        return found
