"""What all dialects share about errors: statuses, hints, texts."""

from __future__ import annotations

import pytest

from app.providers.failures import class_of_status, error_text, retry_after, retry_after_in_text, should_retry


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (400, "invalid_request"),
        (401, "auth"),
        (402, "quota_exhausted"),
        (403, "auth"),
        (404, "not_found"),
        (408, "timeout"),
        (413, "request_too_large"),
        (418, "invalid_request"),
        (422, "invalid_request"),
        (429, "rate_limited"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "overloaded"),
        (504, "timeout"),
        (529, "overloaded"),
        (599, "server_error"),
    ],
)
def test_a_status_alone_has_a_class(status: int, failure: str) -> None:
    assert class_of_status(status) == failure


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "1250"}, 1.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:27:30 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "3", "retry-after-ms": "x"}, 3.0),
    ],
)
def test_the_headers_say_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit reached. Please try again in 1.2s. Visit https://example.com", 1.2),
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 7m12s.", 432.0),
        ("Please try again in 1h2m3.5s.", 3723.5),
        ("Please retry after 60 seconds. To increase the limit, pay.", 60.0),
        ("please retry in 2 minutes", 120.0),
        ("Please try again later.", None),
        ("Give up after 5 more attempts, or retry after 5 more mistakes", None),
        ("", None),
    ],
)
def test_the_text_says_how_long_to_wait(text: str, seconds: float | None) -> None:
    found = retry_after_in_text(text)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_the_explicit_word_on_retrying_is_read() -> None:
    assert should_retry({"x-should-retry": "true"}) is True
    assert should_retry({"x-should-retry": "False"}) is False
    assert should_retry({}) is None
    assert should_retry({"x-should-retry": "maybe"}) is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        (b'{"error": {"message": "no such thing", "code": 5}}', "no such thing"),
        (b'{"error": "no such thing"}', "no such thing"),
        (b'{"error": {"error": {"message": "deep"}}}', "deep"),
        (b'[{"error": {"message": "in a list"}}]', "in a list"),
        (b'{"detail": [{"msg": "field required"}, {"msg": "not an integer"}]}', "field required; not an integer"),
        (b'"a string"', "a string"),
        (b"upstream connect error\n or disconnect", "upstream connect error or disconnect"),
        (b"<html><head><style>p {}</style><title>502 Bad Gateway</title></head><hr></html>", "502 Bad Gateway"),
        (b"\xff\xfe", "��"),
        (b'{"status": 3}', '{"status": 3}'),
        (b"null", "null"),
    ],
)
def test_the_sentence_is_found_in_a_body_of_any_shape(body: bytes, text: str) -> None:
    assert error_text(body) == text


def test_an_endless_text_is_cut() -> None:
    assert len(error_text(b"x" * 100_000)) == 2_000
    assert len(error_text({"message": "x" * 100_000})) == 2_000
