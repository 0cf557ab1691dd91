from __future__ import annotations

import json

import pytest

from app.core.errors import FailureClass
from app.providers.gemini.errors import read_failure

QUOTA = "type.googleapis.com/google.rpc.QuotaFailure"
RETRY = "type.googleapis.com/google.rpc.RetryInfo"
INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def error(code: int, status: str | None, message: str = "no", *details: dict) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": status, "details": list(details)}}).encode()


@pytest.mark.parametrize(
    ("code", "status", "message", "failure"),
    [
        (400, "INVALID_ARGUMENT", "Please use a valid role: user, model.", "invalid_request"),
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", "auth"),
        (400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", "auth"),
        (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", "auth"),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            "context_length",
        ),
        (400, "INVALID_ARGUMENT", "The input token count is 15000 but model only supports up to 8192.", "context_length"),
        (400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes.", "request_too_large"),
        (401, "UNAUTHENTICATED", "no", "auth"),
        (403, "PERMISSION_DENIED", "no", "auth"),
        (404, "NOT_FOUND", "no", "not_found"),
        (429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later.", "rate_limited"),
        (429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: x, limit: 0, model: y", "quota_exhausted"),
        (429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: x, limit: 05", "rate_limited"),
        (499, "CANCELLED", "no", "server_error"),
        (500, "INTERNAL", "no", "server_error"),
        (503, "UNAVAILABLE", "no", "overloaded"),
        (504, "DEADLINE_EXCEEDED", "no", "timeout"),
        (503, None, "no", "overloaded"),
        (418, "A_NEW_ONE", "no", "invalid_request"),
    ],
)
def test_an_error_is_classified_by_its_status_and_text(
    code: int, status: str | None, message: str, failure: FailureClass
) -> None:
    found = read_failure(code, {}, error(code, status, message))

    assert (found.failure, found.message, found.code) == (failure, message, status)


def test_a_bad_key_is_known_by_its_reason_too() -> None:
    body = error(400, "INVALID_ARGUMENT", "Bad.", {"@type": INFO, "reason": "API_KEY_INVALID"})

    assert read_failure(400, {}, body).failure == "auth"


def test_the_delay_comes_from_the_body_and_else_from_the_header() -> None:
    delayed = error(429, "RESOURCE_EXHAUSTED", "Slow down.", {"@type": RETRY, "retryDelay": "48.5s"})

    assert read_failure(429, {"retry-after": "3"}, delayed).retry_after == 48.5
    assert read_failure(429, {"retry-after": "3"}, error(429, "RESOURCE_EXHAUSTED")).retry_after == 3.0
    assert (
        read_failure(429, {}, error(429, "RESOURCE_EXHAUSTED", "no", {"@type": RETRY, "retryDelay": "later"})).retry_after
        is None
    )


@pytest.mark.parametrize(
    ("quota", "failure", "wait"),
    [
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quota_exhausted", None),
        ("GenerateContentPaidTierInputTokensPerModelPerMinute", "rate_limited", 30.0),
    ],
)
def test_a_quota_by_the_day_is_used_up_whatever_the_delay_says(quota: str, failure: str, wait: float | None) -> None:
    details = ({"@type": QUOTA, "violations": [{"quotaId": quota}]}, {"@type": RETRY, "retryDelay": "30s"})

    found = read_failure(429, {}, error(429, "RESOURCE_EXHAUSTED", "Quota.", *details))

    assert (found.failure, found.retry_after) == (failure, wait)


def test_an_error_in_a_list_is_read_like_one_alone() -> None:
    body = b"[" + error(503, "UNAVAILABLE", "Overloaded.") + b"]"

    assert read_failure(503, {}, body) == read_failure(503, {}, error(503, "UNAVAILABLE", "Overloaded."))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "status 502 without a body"),
        (b"<html><h1>Bad Gateway</h1></html>", "Bad Gateway"),
        (b"[]", "[]"),
        (b"3", "3"),
        (b'{"error": "down"}', "down"),
        (b'{"error": {"code": "x", "message": 5, "status": 7, "details": [1, {"@type": 2, "violations": 3}]}}', "error 502"),
    ],
)
def test_a_body_of_any_shape_is_an_error_with_some_text(body: bytes, message: str) -> None:
    found = read_failure(502, {"x-should-retry": "false"}, body)

    assert (found.failure, found.message, found.should_retry) == ("server_error", message, False)
