"""What error answers of any dialect have in common: the status table, the retry hints, and the text of a body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

import orjson

from app.core.errors import FailureClass

MAX_ERROR_TEXT = 2_000
"""Characters of a provider's error text that are kept. Some echo the whole request."""

_CLASS_OF_STATUS: dict[int, FailureClass] = {
    401: "auth",
    402: "quota_exhausted",  # OpenRouter, DeepSeek: the balance is used up
    403: "auth",
    404: "not_found",
    408: "timeout",
    413: "request_too_large",
    429: "rate_limited",
    498: "overloaded",  # Groq: flex tier capacity exceeded
    503: "overloaded",
    504: "timeout",
    524: "timeout",  # Cloudflare: the origin did not answer in time
    529: "overloaded",
}

_TEXT_MEMBERS = ("message", "detail", "error_description", "error", "msg", "title", "reason", "errors", "raw")
"""Where APIs put the sentence that says what was wrong, in the order of preference."""

_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "milliseconds": 0.001}
_QUANTITY = r"(\d+(?:\.\d+)?)\s*(?:(ms|milliseconds)|(h)(?:ours?)?|(m)(?:inutes?|ins?)?|(s)(?:econds?|ecs?)?)(?![a-z])"
_QUANTITIES = re.compile(_QUANTITY, re.IGNORECASE)
_WAIT = re.compile(rf"(?:try again|retry) (?:in|after) (?:{_QUANTITY}[\s,]*)+", re.IGNORECASE)
_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def class_of_status(status: int) -> FailureClass:
    """The failure class of an HTTP status (at least 400) when the body says nothing more."""
    if known := _CLASS_OF_STATUS.get(status):
        return known
    return "server_error" if status >= 500 else "invalid_request"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How long the provider asks to wait, in seconds.

    `retry-after-ms` (OpenAI, Azure) is finer and goes first; `retry-after` is seconds or an HTTP date (RFC 9110, section
    10.2.3), which counts from the answer's own `date` where it has one.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    hint = headers.get("retry-after")
    seconds = _number(hint)
    until = _date(hint)
    if seconds is not None or until is None:
        return seconds
    return max(0.0, (until - (_date(headers.get("date")) or datetime.now(UTC))).total_seconds())


def retry_after_in_text(text: str) -> float | None:
    """The wait that an error text names, as "Please try again in 1m2.5s" or "retry after 60 seconds"; in seconds."""
    found = _WAIT.search(text)
    if found is None:
        return None
    return sum(float(number) * _UNIT_S["".join(unit).lower()] for number, *unit in _QUANTITIES.findall(found.group()))


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """The provider's explicit word on retrying (`x-should-retry`: OpenAI, Anthropic), None where it says nothing."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def parse_json(body: bytes) -> Any:
    """The body as JSON, None where it is none."""
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def error_text(body: Any) -> str:
    """The sentence in an error body that says what was wrong; empty where there is none.

    `body` is bytes (JSON, plain text, HTML, nothing) or parsed JSON of any shape. At most 2,000 characters come back.
    """
    if not isinstance(body, bytes):
        return _text_in(body)[:MAX_ERROR_TEXT]
    parsed = parse_json(body)
    if parsed is not None and (text := _text_in(parsed)):
        return text[:MAX_ERROR_TEXT]
    text = body[: 16 * MAX_ERROR_TEXT].decode(errors="replace")
    if "<" in text:
        text = _TAG.sub(" ", text)
    return " ".join(text.split())[:MAX_ERROR_TEXT]


def _text_in(value: Any, depth: int = 0) -> str:
    if isinstance(value, str):
        return value
    if depth > 4:
        return ""
    if isinstance(value, list):
        texts = [_text_in(item, depth + 1) for item in cast("list[Any]", value)[:5]]
        return "; ".join(text for text in texts if text)
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return next((text for name in _TEXT_MEMBERS if (text := _text_in(members.get(name), depth + 1))), "")
    return ""


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else -1.0
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
