"""Ways to put a question to a mock provider."""

from __future__ import annotations

from typing import Any

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest, ChatResponse
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished
from app.providers.mock import MockProvider, mock_provider


def provider(**options: Any) -> MockProvider:
    """A provider whose personas answer at once."""
    return mock_provider("mock", LLMProvider(kind="mock", options={"latency_scale": 0, **options}))


async def events(mock: MockProvider, request: ChatRequest) -> list[ModelEvent]:
    return [event async for event in mock.stream(request)]


async def ask(prompt: str, model: str = "mock-careful", mock: MockProvider | None = None, **more: Any) -> ChatResponse:
    last = (await events(mock or provider(), ChatRequest(model, (user(prompt),), **more)))[-1]
    assert isinstance(last, ResponseFinished)
    return last.response


async def text(prompt: str, model: str = "mock-careful", **more: Any) -> str:
    return (await ask(prompt, model, **more)).choices[0].text
