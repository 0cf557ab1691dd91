"""What Anthropic's errors mean (doc page "Errors")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from app.core.errors import FailureClass
from app.providers.failures import class_of_status, error_text, parse_json, retry_after, should_retry
from app.providers.http_provider import DialectError, Failure

_CLASS_OF_TYPE: dict[str, FailureClass] = {
    "invalid_request_error": "invalid_request",
    "authentication_error": "auth",
    "billing_error": "quota_exhausted",
    "permission_error": "auth",
    "not_found_error": "not_found",
    "request_too_large": "request_too_large",
    "rate_limit_error": "rate_limited",
    "timeout_error": "timeout",
    "api_error": "server_error",
    "overloaded_error": "overloaded",
}

_CLASS_OF_PHRASE: tuple[tuple[str, FailureClass], ...] = (
    ("prompt is too long", "context_length"),
    ("exceed context limit", "context_length"),
    ("context window", "context_length"),
    ("credit balance is too low", "quota_exhausted"),
    ("usage limits", "quota_exhausted"),
    ("blocked by content filtering", "content_filtered"),
)
"""Invalid requests that are really something else have nothing but their text to tell."""


def of_answer(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an answer with an error status means. The body's own error type goes before the status."""
    kind, message = _read(parse_json(body))
    message = message or error_text(body) or f"HTTP {status} without a word"
    failure = _class(kind, message) or class_of_status(status)
    return Failure(failure, message, retry_after=retry_after(headers), should_retry=should_retry(headers), code=kind)


def of_event(body: Any) -> DialectError:
    """What an error event of a stream, or an error in a body with status 200, means."""
    kind, message = _read(body)
    message = message or error_text(body) or "the stream ended in an error without a word"
    return DialectError(Failure(_class(kind, message) or "server_error", message, code=kind))


def _class(kind: str | None, message: str) -> FailureClass | None:
    if kind != "invalid_request_error":
        return _CLASS_OF_TYPE.get(kind or "")
    text = message.lower()
    for phrase, failure in _CLASS_OF_PHRASE:
        if phrase in text:
            return failure
    return "invalid_request"


def _read(body: Any) -> tuple[str | None, str]:
    """The type and the message of `{"type": "error", "error": {...}}`."""
    error = cast("dict[str, Any]", body).get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None, ""
    members = cast("dict[str, Any]", error)
    kind = members.get("type")
    return kind if isinstance(kind, str) else None, error_text(members)
