"""Our own adapters against the mock server: over any vendor's wire, a persona answers what it answers in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
import pytest

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest, ChatResponse, Generation, ResponseFormat, ToolDefinition
from app.core.errors import ProviderError
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished, fold
from app.providers.base import Provider
from app.providers.factory import make_provider
from app.providers.mock import DEFAULT_PERSONAS
from tests.providers.mock.asking import ask

DIALECTS = {"openai": "/v1", "anthropic": "", "gemini": "/v1beta"}
WEATHER = ToolDefinition("get_weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
REQUESTS = {
    "text": ChatRequest("mock-scholar", (user("Explain tides"),), Generation(reasoning_effort="none")),
    "sum": ChatRequest("mock-swift", (user("What is 17*23?"),)),
    "tools": ChatRequest("mock-swift", (user("The weather in Paris and London, both?"),), tools=(WEATHER,)),
    "schema": ChatRequest(
        "mock-swift",
        (user("What is 2+3?"),),
        Generation(response_format=ResponseFormat("json_schema", schema=SCHEMA, strict=True)),
    ),
    "length": ChatRequest("mock-swift", (user("Explain tides"),), Generation(max_tokens=7)),
}


@asynccontextmanager
async def adapter(dialect: str, url: str) -> AsyncIterator[Provider]:
    base = url + DIALECTS[dialect]
    made = make_provider("wire", LLMProvider.model_validate({"kind": dialect, "base_url": base, "api_key": "any"}))
    try:
        yield made
    finally:
        await made.aclose()


async def answered(provider: Provider, request: ChatRequest) -> ChatResponse:
    events: list[ModelEvent] = [event async for event in provider.stream(request)]
    last = events[-1]
    assert isinstance(last, ResponseFinished)
    assert fold(events) == last.response
    return last.response


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_answer_over_the_wire_is_the_answer_in_process(url: str, dialect: str, what: str, incremental: bool):
    request = replace(REQUESTS[what], incremental=incremental)
    async with adapter(dialect, url) as provider:
        got = (await answered(provider, request)).choices[0]
    asked = request.messages[0].text
    own = (await ask(asked, request.model, generation=request.generation, tools=request.tools)).choices[0]
    assert [(call.name, orjson.loads(call.arguments)) for call in got.tool_calls] == [
        (call.name, orjson.loads(call.arguments)) for call in own.tool_calls
    ]
    assert got.finish_reason == own.finish_reason
    if what != "schema" or dialect == "openai":
        assert got.text == own.text
    else:
        assert orjson.loads(got.text) == {"answer": 5}


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("429", "rate_limited"),
        ("503", "overloaded"),
        ("500", "server_error"),
        ("401", "auth"),
        ("404", "not_found"),
        ("400", "invalid_request"),
        ("garbage", "server_error"),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_fault_on_the_wire_is_its_failure_class(url: str, dialect: str, fault: str, failure: str, incremental: bool):
    prompt = f"Hello [[mock: fault={fault} retry_after=2]]"
    async with adapter(dialect, url) as provider:
        with pytest.raises(ProviderError) as raised:
            await answered(provider, ChatRequest("mock-swift", (user(prompt),), incremental=incremental))
    assert raised.value.failure == failure
    if failure == "rate_limited":
        assert raised.value.retry_after == 2


@pytest.mark.parametrize(
    ("fault", "failures"),
    [
        ("truncate:2", {"incomplete"}),
        ("reset:2", {"incomplete", "connection"}),
        ("midstream-error", {"overloaded", "server_error"}),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_broken_stream_is_a_failure(url: str, dialect: str, fault: str, failures: set[str]):
    async with adapter(dialect, url) as provider:
        with pytest.raises(ProviderError) as raised:
            await answered(provider, ChatRequest("mock-swift", (user(f"Hi [[mock: fault={fault}]]"),), incremental=True))
    assert raised.value.failure in failures


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_check_lists_the_personas(url: str, dialect: str):
    async with adapter(dialect, url) as provider:
        availability = await asyncio.wait_for(provider.check(), 5)
    assert availability.available
    assert set(availability.models) == set(DEFAULT_PERSONAS)
