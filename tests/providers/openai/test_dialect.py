"""URLs, credentials, the factory and the availability check."""

from __future__ import annotations

from typing import Any

import pytest

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest
from app.core.errors import ConfigError
from app.core.messages import user
from app.core.model_events import ResponseFinished
from app.providers.openai import OpenAIDialect, openai_provider
from app.providers.vendors import UNKNOWN, VENDORS
from tests.support.loopback import Loopback, as_json

REQUEST = ChatRequest("my model", (user("hi"),))
ANSWER = {"id": "r", "model": "m", "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}


def config(**members: Any) -> LLMProvider:
    return LLMProvider.model_validate({"kind": "openai_compatible", **members})


def test_the_chat_url_is_under_the_base_url() -> None:
    assert str(OpenAIDialect("http://a/v1/", None, UNKNOWN).url(REQUEST)) == "http://a/v1/chat/completions"


def test_azure_has_the_model_in_the_path_and_a_version_in_the_query() -> None:
    dialect = OpenAIDialect("https://me.openai.azure.com", "k", VENDORS["azure"])
    assert str(dialect.url(REQUEST)) == (
        "https://me.openai.azure.com/openai/deployments/my%20model/chat/completions?api-version=2024-10-21"
    )
    assert str(dialect.models_url()) == "https://me.openai.azure.com/openai/models?api-version=2024-10-21"
    assert dialect.headers() == {"api-key": "k"}


def test_a_configured_query_goes_over_the_vendors() -> None:
    dialect = OpenAIDialect("https://me.openai.azure.com", "k", VENDORS["azure"], {"api-version": "2025-01-01", "x": "1"})
    assert dict(dialect.url(REQUEST).params) == {"api-version": "2025-01-01", "x": "1"}


def test_the_key_is_a_bearer_token_and_no_key_is_no_header() -> None:
    assert OpenAIDialect("http://a", "k", UNKNOWN).headers() == {"authorization": "Bearer k"}
    assert OpenAIDialect("http://a", None, UNKNOWN).headers() == {}


@pytest.mark.parametrize("url", ["api.example.com/v1", "ftp://example.com", "http://", "http://a:port"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        OpenAIDialect(url, None, UNKNOWN)


@pytest.mark.parametrize("members", [{}, {"vendor": "azure"}])
def test_a_missing_base_url_is_named(members: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"provider 'p': .* set base_url"):
        openai_provider("p", config(**members))


def test_an_unknown_vendor_is_named() -> None:
    with pytest.raises(ConfigError, match="'gorq' is not known"):
        openai_provider("p", config(vendor="gorq", base_url="http://a"))


def credential(environ: dict[str, str], **members: Any) -> str | None:
    return openai_provider("p", config(**members), environ=environ).dialect.headers().get("authorization")


def test_a_key_of_the_environment_goes_to_the_vendor_alone() -> None:
    environ = {"GROQ_API_KEY": "secret"}
    assert credential(environ, vendor="groq") == "Bearer secret"
    assert credential(environ, vendor="groq", api_key="mine") == "Bearer mine"
    assert credential(environ, vendor="groq", base_url="http://elsewhere") is None
    assert credential({}, vendor="groq") is None


async def test_a_call_carries_key_headers_query_and_body() -> None:
    async with Loopback(as_json(ANSWER)) as loopback:
        provider = openai_provider(
            "p", config(base_url=loopback.url + "/v1", api_key=" k\n", headers={"X-Own": "1"}, query={"a": "b"})
        )
        events = [event async for event in provider.stream(REQUEST)]
        await provider.aclose()
    [last] = events
    assert isinstance(last, ResponseFinished)
    assert last.response.choices[0].text == "hi"
    [received] = loopback.received
    assert (received.method, received.path) == ("POST", "/v1/chat/completions?a=b")
    assert received.headers["authorization"] == "Bearer k"
    assert received.headers["x-own"] == "1"
    assert received.json == {"model": "my model", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("listed", [{"data": [{"id": "a"}, {"id": "b"}]}, [{"id": "a"}, {"id": "b"}]])
async def test_the_check_lists_the_models(listed: Any) -> None:
    async with Loopback(as_json(listed)) as loopback:
        provider = openai_provider("p", config(base_url=loopback.url, api_key="k"))
        availability = await provider.check()
        await provider.aclose()
    assert (availability.available, availability.models) == (True, ("a", "b"))
    assert loopback.received[0].path == "/models"


async def test_the_check_says_why_a_provider_is_not_available() -> None:
    async with Loopback(as_json({"error": {"message": "Incorrect API key"}}, status=401)) as loopback:
        provider = openai_provider("p", config(base_url=loopback.url, api_key="k"))
        availability = await provider.check()
        await provider.aclose()
    assert not availability.available
    assert "Incorrect API key" in (availability.error or "")
