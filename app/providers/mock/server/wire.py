"""What the mock server's dialects have in common: a request read, an answer written out, an error given its shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import orjson

from app.core.chat import ChatRequest, ChatResponse
from app.core.errors import FailureClass
from app.core.model_events import Delta
from app.providers.mock.personas import Persona

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Frames:
    """A streamed answer as the writes it is made of: what opens it, one write a delta, what ends it."""

    head: bytes
    deltas: Sequence[bytes]
    tail: bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure to be told in a dialect's own shape. `retry_after` in seconds."""

    failure: FailureClass
    status: int
    message: str
    code: str | None = None
    retry_after: float | None = None


class BadRequest(Exception):
    """A body that is not what the dialect wants; the message names the member."""


class Dialect(Protocol):
    """One vendor's wire format, from the server's side."""

    def parse(self, body: Json, path: Mapping[str, str]) -> ChatRequest:
        """The request. What the encoder must know besides is in its `extra`.

        Raises:
            BadRequest: a member is missing or has a wrong type.
        """
        ...

    def whole(self, request: ChatRequest, response: ChatResponse) -> Any:
        """The body of an answer in one piece."""
        ...

    def frames(self, request: ChatRequest, response: ChatResponse, pieces: Sequence[Delta]) -> Frames:
        """The answer as server-sent events."""
        ...

    def error(self, problem: Problem) -> tuple[int, Json]:
        """The status and the body of an error answer."""
        ...

    def error_frame(self, problem: Problem) -> bytes:
        """An error in the middle of a stream."""
        ...

    def error_headers(self, problem: Problem) -> dict[str, str]:
        """What an error answer has in its headers besides the content type."""
        ...

    def models(self, personas: Sequence[Persona]) -> Any:
        """The list of models."""
        ...


def data(value: Any) -> bytes:
    """A server-sent event without a name."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def event(name: str, value: Any) -> bytes:
    """A server-sent event with a name."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"


def member(body: Json, *names: str) -> Json:
    """The object under the first of `names` that is there, an empty one where none is.

    Raises:
        BadRequest: it is no object.
    """
    for name in names:
        value = body.get(name)
        if isinstance(value, dict):
            return cast(Json, value)
        if value is not None:
            raise BadRequest(f"'{name}' must be an object")
    return {}


def strings(value: Any, what: str) -> tuple[str, ...]:
    """One string or a list of them.

    Raises:
        BadRequest: it is neither.
    """
    items = cast(list[Any], value) if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(item, str) for item in items):
        raise BadRequest(f"{what} must be a string or a list of strings")
    return tuple(items)


def objects(value: Any, what: str) -> list[dict[str, Any]]:
    """`value` as a list of JSON objects.

    Raises:
        BadRequest: it is none.
    """
    items = cast(list[Any], value) if isinstance(value, list) else None
    if items is None or not all(isinstance(item, dict) for item in items):
        raise BadRequest(f"{what} must be a list of objects")
    return items


def parsed_object(text: str) -> Json:
    """The JSON object in a text, as tool arguments are; an empty one where it is none."""
    try:
        value = orjson.loads(text or "{}")
    except ValueError:
        return {}
    return cast(Json, value) if isinstance(value, dict) else {}


def split_data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a `data:` URL (RFC 2397); None for another URL."""
    if not url.startswith("data:"):
        return None
    head, _, payload = url[5:].partition(",")
    return head.removesuffix(";base64"), payload


def whole_number(value: Any, what: str) -> int | None:
    """A limit as a whole number.

    Raises:
        BadRequest: it is something else.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise BadRequest(f"{what} must be a whole number")
