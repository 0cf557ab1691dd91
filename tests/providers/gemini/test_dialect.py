from __future__ import annotations

import json

import pytest

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest
from app.core.errors import ProviderError
from app.core.messages import user
from app.core.model_events import ResponseFinished, ResponseStarted, TextDelta
from app.providers.gemini import GeminiDialect, gemini_provider
from app.providers.http_provider import HttpProvider
from tests.support.loopback import Answer, Loopback, as_json, sse

REPLY = {"candidates": [{"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}], "modelVersion": "gemini-x"}


def ask(model: str = "gemini-x", *, incremental: bool = False) -> ChatRequest:
    return ChatRequest(model, (user("hi"),), incremental=incremental)


def connect(url: str, **more) -> HttpProvider:
    return gemini_provider(
        "google", LLMProvider.model_validate({"kind": "gemini", "base_url": url, "api_key": "secret", **more})
    )


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-x", "/v1beta/models/gemini-x"),
        ("tunedModels/mine", "/v1beta/tunedModels/mine"),
        ("publishers/google/models/gemini-x", "/v1beta/publishers/google/models/gemini-x"),
        ("odd?key=1#x", "/v1beta/models/odd%3Fkey%3D1%23x"),
    ],
)
def test_the_model_is_in_the_path(model: str, path: str) -> None:
    dialect = GeminiDialect(base_url=None, api_key="secret")

    assert str(dialect.url(ask(model))) == f"https://generativelanguage.googleapis.com{path}:generateContent"
    assert (
        str(dialect.url(ask(model, incremental=True)))
        == f"https://generativelanguage.googleapis.com{path}:streamGenerateContent?alt=sse"
    )


def test_configured_query_members_join_the_urls() -> None:
    dialect = GeminiDialect(base_url="https://proxy.test/v1/", api_key=None, query={"team": "a b"})

    assert str(dialect.url(ask())) == "https://proxy.test/v1/models/gemini-x:generateContent?team=a+b"
    assert str(dialect.url(ask(incremental=True))).endswith(":streamGenerateContent?team=a+b&alt=sse")
    assert dict(dialect.models_url().params) == {"team": "a b", "pageSize": "1000"}
    assert dialect.headers() == {}


async def test_the_key_goes_in_a_header_and_never_into_the_url() -> None:
    async with Loopback(as_json(REPLY)) as vendor:
        provider = connect(f"{vendor.url}/v1beta", headers={"x-extra": "1"})
        events = [event async for event in provider.stream(ask())]
        await provider.aclose()

    (request,) = vendor.received
    assert request.path == "/v1beta/models/gemini-x:generateContent"
    assert (request.headers["x-goog-api-key"], request.headers["x-extra"]) == ("secret", "1")
    assert request.json == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    assert isinstance(events[0], ResponseFinished)


async def test_a_check_lists_the_models_by_the_names_they_are_asked_by() -> None:
    async with Loopback(as_json({"models": [{"name": "models/gemini-x"}, {"name": "tunedModels/mine"}]})) as vendor:
        provider = connect(vendor.url)
        found = await provider.check()
        await provider.aclose()

    assert (found.available, found.models) == (True, ("gemini-x", "tunedModels/mine"))


async def test_a_check_with_a_bad_key_says_so() -> None:
    refusal = {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}
    async with Loopback(as_json(refusal, 400)) as vendor:
        provider = connect(vendor.url)
        found = await provider.check()
        await provider.aclose()

    assert not found.available
    assert "API key not valid" in (found.error or "")


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
async def test_an_error_that_stands_bare_in_a_stream_is_that_error(end: str) -> None:
    first = {"candidates": [{"content": {"parts": [{"text": "he"}]}}]}
    error = {"error": {"code": 429, "message": "Too fast {}.", "status": "RESOURCE_EXHAUSTED"}}
    reply = sse(f"data: {json.dumps(first)}\r\n\r\n{json.dumps(error, indent=2)}{end}")

    async with Loopback(reply) as vendor:
        provider = connect(vendor.url)
        events = provider.stream(ask(incremental=True))
        assert isinstance(await anext(events), ResponseStarted)
        assert await anext(events) == TextDelta("he")
        with pytest.raises(ProviderError) as raised:
            await anext(events)
        await provider.aclose()

    assert (raised.value.failure, raised.value.provider_code) == ("rate_limited", "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"3",
        b'{"candidates": 1}',
        b'{"candidates": [{"content": 1}]}',
        b'{"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]}',
    ],
)
@pytest.mark.parametrize("incremental", [True, False])
async def test_an_answer_of_a_strange_shape_is_a_provider_error(body: bytes, incremental: bool) -> None:
    reply = sse(b"data: " + body + b"\n\n") if incremental else Answer(body=body)
    async with Loopback(reply) as vendor:
        provider = connect(vendor.url)
        with pytest.raises(ProviderError) as raised:
            [event async for event in provider.stream(ask(incremental=incremental))]
        await provider.aclose()

    assert raised.value.failure in ("server_error", "incomplete")
