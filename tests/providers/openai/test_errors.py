"""Error answers of OpenAI and compatible vendors, and the class each has."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.providers.openai.errors import failure_of_body, failure_of_status


def error(message: str, **more: Any) -> bytes:
    return orjson.dumps({"error": {"message": message, **more}})


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        # The code decides.
        (429, error("You exceeded your current quota", code="insufficient_quota"), "quota_exhausted"),
        (400, error("too long", code="context_length_exceeded"), "context_length"),
        (400, error("filtered", code="content_filter"), "content_filtered"),
        (400, error("x", innererror={"code": "ResponsibleAIPolicyViolation"}), "content_filtered"),
        (400, error("Failed to call a function", code="tool_use_failed"), "invalid_output"),
        (404, error("x", code="DeploymentNotFound"), "not_found"),
        # Then the vendors' phrases.
        (429, error("Request too large for gpt-5-nano on tokens per min", code="rate_limit_exceeded"), "request_too_large"),
        (413, error("Request too large for model `x` on tokens per minute (TPM)"), "request_too_large"),
        (429, error("Insufficient balance or no resource package"), "quota_exhausted"),
        (403, orjson.dumps({"error": "Your newly created team doesn't have any credits yet"}), "quota_exhausted"),
        (400, orjson.dumps({"code": "Client specified an invalid argument", "error": "Incorrect API key provided: x"}), "auth"),
        (400, error("This model's maximum context length is 8192 tokens. However, you requested 9000"), "context_length"),
        (400, error("Please reduce the length of the messages or completion."), "context_length"),
        (400, error("This endpoint's maximum input length exceeded: prompt is too long"), "context_length"),
        (400, error("The input (9000 tokens) exceeds the model's maximum of 8192 tokens"), "context_length"),
        (500, error("the request exceeds the available context size"), "context_length"),
        (403, error("Your chosen model requires moderation and your input was flagged"), "content_filtered"),
        (400, error("foo/bar is not a valid model ID", code=400), "not_found"),
        (500, error("The engine is currently overloaded, please try again later"), "overloaded"),
        # A phrase does not overrule a status that it does not fit.
        (429, error("Rate limit reached for tokens: your token limit is 10 a minute"), "rate_limited"),
        (401, error("Your request is missing the context window parameter"), "auth"),
        # Then the status.
        (400, error("temperature must be at most 2", type="invalid_request_error"), "invalid_request"),
        (401, error("no", type="invalid_request_error"), "auth"),
        (402, error("pay"), "quota_exhausted"),
        (404, b"404 page not found", "not_found"),
        (422, orjson.dumps({"detail": [{"loc": ["body"], "msg": "field required"}]}), "invalid_request"),
        (500, error("x", type="server_error"), "server_error"),
        (503, b"upstream connect error", "overloaded"),
        (502, b"<html><title>502 Bad Gateway</title></html>", "server_error"),
        (504, b"", "timeout"),
        (429, b"[]", "rate_limited"),
        (429, b"null", "rate_limited"),
        (400, orjson.dumps([{"error": {"code": 400, "message": "bad"}}]), "invalid_request"),
        (400, orjson.dumps({"error": {"message": {"nested": []}, "code": {}}}), "invalid_request"),
    ],
)
def test_an_error_answer_has_its_class(status: int, body: bytes, failure: str) -> None:
    found = failure_of_status(status, {}, body)
    assert found.failure == failure
    assert found.message


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ({"error": {"message": "x", "type": "rate_limit_error"}}, "rate_limited"),
        ({"error": {"message": "x", "code": 503}}, "overloaded"),
        ({"error": {"message": "x", "code": "429"}}, "rate_limited"),
        ({"error": {"message": "x", "type": "BadRequestError"}}, "invalid_request"),
        ({"error": {"message": "context length exceeded", "type": "invalid_request_error"}}, "context_length"),
        ({"error": {"message": "x"}}, "server_error"),
        ({}, "server_error"),
        ([], "server_error"),
        ("text", "server_error"),
        (None, "server_error"),
        (5, "server_error"),
    ],
)
def test_an_error_without_a_status_has_its_class(body: Any, failure: str) -> None:
    found = failure_of_body(body)
    assert found.failure == failure
    assert found.message


def test_code_and_parameter_are_kept() -> None:
    found = failure_of_status(400, {}, error("bad", code="empty_array", param="messages", type="invalid_request_error"))
    assert (found.code, found.param, found.message) == ("empty_array", "messages", "bad")


def test_a_router_tells_what_the_vendor_behind_it_said() -> None:
    raw = '{"error": {"message": "model busy"}}'
    body = error("Provider returned error", code=429, metadata={"raw": raw, "provider_name": "x"})
    assert failure_of_status(429, {}, body).message == "Provider returned error: model busy"


def test_the_wait_is_read_from_headers_first_then_from_the_text_of_what_waiting_cures() -> None:
    text = "Rate limit reached. Please try again in 1.5s."
    assert failure_of_status(429, {"retry-after": "4"}, error(text)).retry_after == 4.0
    assert failure_of_status(429, {}, error(text)).retry_after == 1.5
    assert failure_of_status(400, {}, error(text)).retry_after is None
    assert failure_of_status(429, {}, error("slow down")).retry_after is None


def test_the_explicit_word_on_retrying_is_kept() -> None:
    assert failure_of_status(500, {"x-should-retry": "false"}, b"").should_retry is False
    assert failure_of_status(500, {}, b"").should_retry is None
