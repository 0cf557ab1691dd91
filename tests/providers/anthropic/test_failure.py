from __future__ import annotations

import json
from typing import Any

import pytest

from app.providers.anthropic.failure import of_answer, of_event


def body(kind: str, message: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


@pytest.mark.parametrize(
    ("status", "kind", "message", "failure"),
    [
        (400, "invalid_request_error", "messages.0: Input does not match the expected shape.", "invalid_request"),
        (400, "invalid_request_error", "prompt is too long: 3 tokens > 2 maximum", "context_length"),
        (400, "invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 2", "context_length"),
        (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.", "quota_exhausted"),
        (400, "invalid_request_error", "You have reached your specified API usage limits.", "quota_exhausted"),
        (400, "invalid_request_error", "Output blocked by content filtering policy", "content_filtered"),
        (401, "authentication_error", "invalid x-api-key", "auth"),
        (402, "billing_error", "pay", "quota_exhausted"),
        (403, "permission_error", "not yours", "auth"),
        (404, "not_found_error", "model: x", "not_found"),
        (413, "request_too_large", "Request exceeds the maximum size", "request_too_large"),
        (429, "rate_limit_error", "slow down", "rate_limited"),
        (500, "api_error", "Internal server error", "server_error"),
        (504, "timeout_error", "timed out", "timeout"),
        (529, "overloaded_error", "Overloaded", "overloaded"),
        (500, "overloaded_error", "Overloaded", "overloaded"),
        (418, "teapot_error", "short and stout", "invalid_request"),
    ],
)
def test_every_error_has_its_class_and_keeps_its_message(status: int, kind: str, message: str, failure: str) -> None:
    found = of_answer(status, {}, body(kind, message))
    assert (found.failure, found.message, found.code) == (failure, message, kind)


@pytest.mark.parametrize(
    ("status", "content", "failure"),
    [
        (503, b"upstream connect error", "overloaded"),
        (502, b"<html><h1>Bad Gateway</h1></html>", "server_error"),
        (500, b"", "server_error"),
        (413, b"[]", "request_too_large"),
        (400, b'{"error": "plain words"}', "invalid_request"),
        (401, b'{"error": {"type": 7, "message": ["odd"]}}', "auth"),
        (429, b"\xff\xfe", "rate_limited"),
    ],
)
def test_any_other_body_falls_back_to_the_status(status: int, content: bytes, failure: str) -> None:
    found = of_answer(status, {}, content)
    assert found.failure == failure
    assert found.message


def test_hints_are_read_from_the_headers() -> None:
    found = of_answer(429, {"retry-after": "4", "x-should-retry": "true"}, body("rate_limit_error", "slow"))
    assert (found.retry_after, found.should_retry) == (4.0, True)
    refused = of_answer(500, {"x-should-retry": "false"}, body("api_error", "no"))
    assert (refused.retry_after, refused.should_retry) == (None, False)


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded"),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}, "rate_limited"),
        ({"type": "error", "error": {"type": "api_error", "message": "broken"}}, "server_error"),
        ({"type": "error", "error": {"type": "new_error", "message": "unheard of"}}, "server_error"),
        ({"type": "error"}, "server_error"),
        (b"not JSON", "server_error"),
    ],
)
def test_an_error_event_has_its_class(event: Any, failure: str) -> None:
    found = of_event(event).failure
    assert found.failure == failure
    assert found.message
