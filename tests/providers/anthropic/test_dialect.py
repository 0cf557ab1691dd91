from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest
from app.core.errors import ProviderError
from app.core.messages import user
from app.providers.anthropic import ANTHROPIC_CAPABILITIES, AnthropicDialect, anthropic_provider
from tests.support.loopback import Answer, Loopback, as_json, sse

HELLO = ChatRequest("claude", (user("Hi"),))
MESSAGE = {
    "type": "message",
    "id": "m",
    "model": "claude",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
}


def config(url: str, **more: Any) -> LLMProvider:
    return LLMProvider(kind="anthropic", base_url=url, api_key=SecretStr("secret"), **more)


@pytest.mark.parametrize("base", ["https://host", "https://host/", "https://host/v1", "https://host/v1/"])
def test_the_base_url_may_have_the_version_or_not(base: str) -> None:
    dialect = AnthropicDialect(base, None, {})
    assert str(dialect.url(HELLO)) == "https://host/v1/messages"
    assert str(dialect.models_url()) == "https://host/v1/models?limit=1000"


def test_the_vendor_is_the_default() -> None:
    assert str(AnthropicDialect(None, None, {}).url(HELLO)) == "https://api.anthropic.com/v1/messages"


def test_no_key_sends_no_key() -> None:
    assert "x-api-key" not in AnthropicDialect(None, None, {}).headers()


def test_the_capabilities_say_what_is_missing() -> None:
    assert ANTHROPIC_CAPABILITIES.documents
    assert ANTHROPIC_CAPABILITIES.reasoning
    assert not any((ANTHROPIC_CAPABILITIES.seed, ANTHROPIC_CAPABILITIES.n, ANTHROPIC_CAPABILITIES.logprobs))


async def test_a_call_carries_key_version_and_what_is_configured() -> None:
    async with Loopback(as_json(MESSAGE)) as vendor:
        provider = anthropic_provider("claude", config(vendor.url, headers={"anthropic-beta": "x"}, query={"tier": "a"}))
        (event,) = [event async for event in provider.stream(HELLO)]
        await provider.aclose()
    (received,) = vendor.received
    assert event.response.choices[0].text == "Hello"
    assert (received.method, received.path) == ("POST", "/v1/messages?tier=a")
    assert received.headers["x-api-key"] == "secret"
    assert received.headers["anthropic-version"] == "2023-06-01"
    assert received.headers["anthropic-beta"] == "x"
    assert received.json["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]


async def test_a_check_lists_the_models() -> None:
    async with Loopback(as_json({"data": [{"id": "claude-a"}, {"id": "claude-b"}]})) as vendor:
        provider = anthropic_provider("claude", config(vendor.url))
        found = await provider.check()
        await provider.aclose()
    assert (found.available, found.models) == (True, ("claude-a", "claude-b"))
    assert (vendor.received[0].method, vendor.received[0].path) == ("GET", "/v1/models?limit=1000")


@pytest.mark.parametrize(
    "answer",
    [
        as_json([]),
        as_json({"type": "message"}),
        as_json({**MESSAGE, "content": None}),
        as_json({**MESSAGE, "usage": 7}),
        as_json({**MESSAGE, "content": [{"type": "tool_use"}]}),
        Answer(body=b"nothing like JSON"),
        sse("data: 7\n\n"),
        sse('data: {"type": "message_start"}\n\n'),
        sse('event: content_block_delta\ndata: {"type": "content_block_delta", "delta": null}\n\n'),
        sse("event: message_stop\ndata: nonsense\n\n"),
    ],
)
async def test_an_answer_of_any_other_shape_is_a_failure_of_the_provider(answer: Answer) -> None:
    incremental = "event-stream" in answer.headers["content-type"]
    async with Loopback(answer) as vendor:
        provider = anthropic_provider("claude", config(vendor.url))
        with pytest.raises(ProviderError) as caught:
            async for _ in provider.stream(ChatRequest("claude", (user("Hi"),), incremental=incremental)):
                pass
        await provider.aclose()
    assert caught.value.failure == "server_error"
