"""What the error answers of OpenAI and of those compatible with it mean.

The status alone misleads: the same 429 says "wait a second" and "pay your bill", the same 400 "your request is wrong" and "this
model is too small for it". So the error's code counts first, then telling phrases, then the status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from app.core.errors import FailureClass
from app.providers.failures import class_of_status, error_text, parse_json, retry_after, retry_after_in_text, should_retry
from app.providers.http_provider import Failure

_NO_HEADERS: Mapping[str, str] = {}

_DECISIVE: dict[str, FailureClass] = {
    # platform.openai.com: Error codes
    "insufficient_quota": "quota_exhausted",
    "billing_not_active": "quota_exhausted",
    "billing_hard_limit_reached": "quota_exhausted",
    "context_length_exceeded": "context_length",
    "content_policy_violation": "content_filtered",
    "invalid_api_key": "auth",
    "model_not_found": "not_found",
    # learn.microsoft.com: Azure OpenAI, Content filtering
    "content_filter": "content_filtered",
    "responsibleaipolicyviolation": "content_filtered",
    "deploymentnotfound": "not_found",
    # console.groq.com: Error codes; Tool use (the model, not the caller, wrote what does not fit the schema)
    "tool_use_failed": "invalid_output",
    "json_validate_failed": "invalid_output",
}
"""Codes that mean one thing whatever the status is; compared in lower case."""

_KIND: dict[str, FailureClass] = {
    "rate_limit_exceeded": "rate_limited",
    "rate_limit_error": "rate_limited",
    "too_many_requests": "rate_limited",
    "authentication_error": "auth",
    "permission_error": "auth",
    "invalid_request_error": "invalid_request",
    "badrequesterror": "invalid_request",
    "not_found_error": "not_found",
    "notfounderror": "not_found",
    "timeout": "timeout",
    "timeout_error": "timeout",
    "overloaded_error": "overloaded",
    "service_unavailable": "overloaded",
}
"""Codes and types that count where there is no error status: in a stream, or in a body that came with 200."""


@dataclass(frozen=True, slots=True)
class _Phrase:
    """Words that mean `failure` where the status or the kind gave one of `instead_of`."""

    failure: FailureClass
    instead_of: frozenset[FailureClass]
    words: re.Pattern[str]


def _phrase(failure: FailureClass, *alternatives: str, instead_of: tuple[FailureClass, ...]) -> _Phrase:
    return _Phrase(failure, frozenset(instead_of), re.compile("|".join(alternatives), re.IGNORECASE))


_PHRASES = (
    _phrase(
        "request_too_large",
        r"request[ _]too[ _]large",
        r"too large for (the )?model",
        instead_of=("rate_limited", "request_too_large"),
    ),
    _phrase(
        "quota_exhausted",
        r"exceeded your current quota",
        r"insufficient (balance|credits?|funds|quota)",
        r"out of credits|(doesn't|does not) have any credits|credit balance is too low",
        r"(spending|monthly|billing) (hard )?limit",
        instead_of=("rate_limited", "auth", "invalid_request"),
    ),
    _phrase(
        "context_length",
        r"context[ _](length|window|size)",
        r"maximum (prompt|input|model) length|max_model_len",
        r"too many (input |prompt )?tokens|token limit|reduce the length",
        r"(prompt|input|request|message)s? (is|are|was) too long",
        r"exceed\w* the (model'?s? )?max\w* .{0,40}tokens?",
        instead_of=("invalid_request", "request_too_large", "server_error"),
    ),
    _phrase(
        "content_filtered",
        r"content (management|moderation|safety) (policy|filter|policies)|content[ _]filter",
        r"flagged|safety (system|filter)|(unsafe|sensitive) content",
        r"violates? .{0,40}polic(y|ies)",
        instead_of=("invalid_request", "auth"),
    ),
    _phrase(
        "auth",
        r"(incorrect|invalid|missing|wrong) api[ _]key",
        r"api[ _]key .{0,20}(not valid|invalid)",
        instead_of=("invalid_request",),
    ),
    _phrase(
        "not_found",
        r"model\W.{0,120}(does not exist|not found|is not available)",
        r"not a valid model|(no such|unknown) model",
        instead_of=("invalid_request",),
    ),
    _phrase(
        "overloaded",
        r"overloaded|(at|over|exceeded) capacity|temporarily unavailable|no healthy upstream",
        instead_of=("server_error",),
    ),
)
"""The vendors' own words, the first that fits counts."""

_WORTH_WAITING: frozenset[FailureClass] = frozenset({"rate_limited", "overloaded"})


def failure_of_status(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an answer with an error status means."""
    parsed = parse_json(body)
    return _failure(parsed if isinstance(parsed, dict | list) else body, status, headers)


def failure_of_body(body: Any) -> Failure:
    """What an error means that came with status 200: a whole body, or an event of a stream."""
    return _failure(body, None, _NO_HEADERS)


def _failure(body: Any, status: int | None, headers: Mapping[str, str]) -> Failure:
    error = _error_object(body)
    words = _words(error)
    message = _message(error, body)
    status = status or _status_within(error)
    if not message:
        message = (
            f"it answered with status {status} and no explanation" if status else "it reported an error and no explanation"
        )
    failure = _class(words, message, status)
    wait = retry_after(headers)
    if wait is None and failure in _WORTH_WAITING:
        wait = retry_after_in_text(message)
    return Failure(
        failure,
        message,
        retry_after=wait,
        should_retry=should_retry(headers),
        code=words[0] if words else None,
        param=_text(error.get("param")),
    )


def _class(words: list[str], message: str, status: int | None) -> FailureClass:
    lowered = [word.lower() for word in words]
    for word in lowered:
        if decisive := _DECISIVE.get(word):
            return decisive
    kinds: list[FailureClass] = [kind for word in lowered if (kind := _KIND.get(word))]
    base: FailureClass = class_of_status(status) if status else kinds[0] if kinds else "server_error"
    for phrase in _PHRASES:
        if base in phrase.instead_of and phrase.words.search(message):
            return phrase.failure
    return base


def _error_object(body: Any) -> dict[str, Any]:
    """What describes the error in `{"error": {...}}`, `{"error": "text", "code": ...}`, `[{"error": {...}}]` or a flat body."""
    if isinstance(body, list) and body:
        body = cast("list[Any]", body)[0]
    if not isinstance(body, dict):
        return {}
    members = cast("dict[str, Any]", body)
    inner: Any = members.get("error")
    return cast("dict[str, Any]", inner) if isinstance(inner, dict) else members


def _words(error: Mapping[str, Any]) -> list[str]:
    """The error's code words, the most telling first."""
    inner: Any = error.get("innererror")
    inner_code: Any = cast("dict[str, Any]", inner).get("code") if isinstance(inner, dict) else None
    found = (error.get("code"), error.get("type"), inner_code)
    return [word for word in found if isinstance(word, str) and word]


def _message(error: Mapping[str, Any], body: Any) -> str:
    """The error's sentence; for a router's error with what the vendor behind it said (OpenRouter: `metadata.raw`)."""
    text = error_text(error) or error_text(body)
    metadata: Any = error.get("metadata")
    raw: Any = cast("dict[str, Any]", metadata).get("raw") if isinstance(metadata, dict) else None
    if not isinstance(raw, str) or not raw:
        return text
    return f"{text}: {error_text(raw.encode())}"


def _status_within(error: Mapping[str, Any]) -> int | None:
    """The HTTP status that an error names itself (OpenRouter `code`, Groq `status_code`, Azure `status`)."""
    for name in ("status_code", "code", "status"):
        value: Any = error.get(name)
        if isinstance(value, str) and len(value) == 3 and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
