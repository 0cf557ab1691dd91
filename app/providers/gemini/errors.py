"""What Gemini's errors mean (google.rpc.Status, the same in an error answer and in the middle of a stream)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from app.core.errors import FailureClass
from app.providers.failures import MAX_ERROR_TEXT, class_of_status, error_text, parse_json, retry_after, should_retry
from app.providers.http_provider import Failure

_CLASS_OF_CODE: dict[str, FailureClass] = {
    "CANCELLED": "server_error",
    "UNKNOWN": "server_error",
    "INVALID_ARGUMENT": "invalid_request",
    "DEADLINE_EXCEEDED": "timeout",
    "NOT_FOUND": "not_found",
    "PERMISSION_DENIED": "auth",
    "UNAUTHENTICATED": "auth",
    "RESOURCE_EXHAUSTED": "rate_limited",
    "FAILED_PRECONDITION": "invalid_request",
    "ABORTED": "server_error",
    "OUT_OF_RANGE": "invalid_request",
    "UNIMPLEMENTED": "invalid_request",
    "INTERNAL": "server_error",
    "UNAVAILABLE": "overloaded",
    "DATA_LOSS": "server_error",
}
"""google.rpc.Code by what a caller can do about it."""

_REFUSALS: tuple[tuple[re.Pattern[str], FailureClass], ...] = (
    (re.compile(r"API.?key (not valid|expired|not found)|API_KEY_(INVALID|SERVICE_BLOCKED)", re.IGNORECASE), "auth"),
    (re.compile(r"location is not supported|enable billing", re.IGNORECASE), "auth"),
    (
        re.compile(r"token count.*(exceeds|only supports)|exceeds the maximum number of tokens", re.IGNORECASE | re.DOTALL),
        "context_length",
    ),
    (re.compile(r"payload size exceeds", re.IGNORECASE), "request_too_large"),
)
"""What status 400 hides, by the error's text: a bad key, an account without access, a prompt too long, a body too large."""

_NO_QUOTA = re.compile(r"\blimit: 0\b")  # "Quota exceeded for metric: ..., limit: 0": the plan has none of this model


def read_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What an error answer means; `body` may be JSON, a list around it (the streaming form), plain text, or nothing."""
    parsed = parse_json(body)
    if isinstance(parsed, list) and parsed:
        parsed = cast("list[Any]", parsed)[0]
    error = cast("dict[str, Any]", parsed).get("error") if isinstance(parsed, dict) else None
    if error:
        return failure_of(error, headers, status)
    text = error_text(body) or f"status {status} without a body"
    return Failure(class_of_status(status), text, retry_after(headers), should_retry(headers))


def failure_of(account: Any, headers: Mapping[str, str], status: int | None = None) -> Failure:
    """What the error object `{code, message, status, details}` means. `status` is the HTTP status of an error answer."""
    error = cast("dict[str, Any]", account) if isinstance(account, dict) else {"message": account}
    code = error.get("status") if isinstance(error.get("status"), str) else None
    number = error.get("code")
    if not isinstance(number, int) or not 400 <= number < 600:
        number = status or 500
    text = error_text(error.get("message")) or code or f"error {number}"
    details = [row for row in _rows(error.get("details")) if isinstance(row.get("@type"), str)]
    failure = _classify(code, number, text, details)
    wait = None if failure == "quota_exhausted" else _delay(details) or retry_after(headers)
    return Failure(failure, text[:MAX_ERROR_TEXT], wait, should_retry(headers), code=code)


def _classify(code: str | None, number: int, text: str, details: list[dict[str, Any]]) -> FailureClass:
    failure = _CLASS_OF_CODE.get(code or "") or class_of_status(number)
    if failure == "rate_limited":
        return "quota_exhausted" if _waiting_is_vain(text, details) else failure
    if failure == "invalid_request":
        account = " ".join((text, *(str(row.get("reason", "")) for row in details)))
        for pattern, hidden in _REFUSALS:
            if pattern.search(account):
                return hidden
    return failure


def _waiting_is_vain(text: str, details: list[dict[str, Any]]) -> bool:
    """Whether a quota by the day is used up, or there is none at all: seconds of waiting cure neither."""
    violations = [row for detail in details for row in _rows(detail.get("violations"))]
    return any("PerDay" in str(row.get("quotaId")) for row in violations) or _NO_QUOTA.search(text) is not None


def _delay(details: list[dict[str, Any]]) -> float | None:
    """The wait of google.rpc.RetryInfo, in seconds: a protobuf duration such as `48.9s`."""
    for detail in details:
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)s", delay)):
            return float(found.group(1))
    return None


def _rows(value: Any) -> list[dict[str, Any]]:
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]
