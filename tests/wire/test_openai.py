"""The adapter against recorded traffic of OpenAI and of nine compatible vendors: it must read what the official SDK reads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest, ChatResponse
from app.core.errors import ProviderError
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished, fold, unfold
from app.providers.http_provider import HttpProvider
from app.providers.openai import openai_provider
from tests.support.loopback import Answer, Loopback
from tests.wire.exchanges import Exchange, Scenario, answer, exchanges, random_cuts, scenarios, skip, steps

pytestmark = skip

ALL = exchanges("openai", "openai_compatible") + steps("openai", "openai_compatible")
BROKEN = {"error_in_200", "midstream_error"}
WHOLE = [e for e in ALL if e.status == 200 and e.case not in BROKEN and e.body is not None]
STREAMED = [e for e in ALL if e.status == 200 and e.case not in BROKEN and e.sse is not None]
REFUSED = [e for e in ALL if e.status >= 400]
MIDSTREAM = [e for e in ALL if e.case == "midstream_error"]

CLASSES = {
    "openai__error_400__01": "invalid_request",
    "openai__error_401__01": "auth",
    "openai__error_404__01": "not_found",
    "openai__error_429_insufficient_quota__01": "quota_exhausted",
    "openai__error_429_too_large__01": "request_too_large",
    "openai__error_500__01": "server_error",
    "openai_compatible__error_400_context_length__01": "context_length",
    "openai_compatible__error_401__01": "auth",
    "openai_compatible__error_403__01": "auth",
    "openai_compatible__error_429_retry_after__01": "rate_limited",
    "openai_compatible__error_500__01": "server_error",
    "openai_compatible__error_503__01": "overloaded",
    "openai_compatible__error_in_200__01": "content_filtered",
    "openai_compatible__midstream_error__01": "invalid_output",
    "openai_compatible__midstream_error__02": "context_length",
    "openrouter_429_200_200_tools.0": "rate_limited",
    "zai_429_429_200stream.0": "rate_limited",
    "zai_429_429_200stream.1": "rate_limited",
}


def ids(exchange: Exchange) -> str:
    return exchange.id


@asynccontextmanager
async def provider_at(what: Answer | list[Answer]) -> AsyncIterator[tuple[HttpProvider, str, Loopback]]:
    async with Loopback(what) as loopback:
        config = LLMProvider.model_validate({"kind": "openai_compatible", "base_url": loopback.url, "api_key": "key"})
        provider = openai_provider("recorded", config)
        try:
            yield provider, loopback.url, loopback
        finally:
            await provider.aclose()


async def ask(provider: HttpProvider, exchange: Exchange, *, incremental: bool) -> list[ModelEvent]:
    request = ChatRequest(exchange.model or "any", (user("hello"),), incremental=incremental)
    return [event async for event in provider.stream(request)]


def client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=url, api_key="key", max_retries=0, http_client=httpx.AsyncClient(verify=False))


async def sdk_whole(url: str) -> ChatCompletion:
    async with client(url) as sdk:
        return await sdk.chat.completions.create(model="any", messages=[{"role": "user", "content": "hello"}])


async def sdk_stream(url: str) -> list[ChatCompletionChunk]:
    async with client(url) as sdk:
        stream = await sdk.chat.completions.create(model="any", messages=[{"role": "user", "content": "hello"}], stream=True)
        return [chunk async for chunk in stream]


def expected_of_whole(completion: ChatCompletion) -> dict[str, Any]:
    return {
        "id": completion.id,
        "model": completion.model,
        "choices": [
            {
                "index": choice.index,
                "text": (message and message.content) or "",  # Azure's content filter sends no message at all
                "refusal": (message and message.refusal) or "",
                "tools": [(c.id, c.function.name, c.function.arguments) for c in (message and message.tool_calls) or ()],
                "finish": choice.finish_reason,
            }
            for choice in completion.choices
            for message in (choice.message,)
        ],
        "usage": expected_usage(completion.usage),
    }


def expected_of_stream(chunks: list[ChatCompletionChunk]) -> dict[str, Any]:
    choices: dict[int, dict[str, Any]] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for piece in chunk.choices:
            empty = {"index": piece.index, "text": "", "refusal": "", "tools": {}, "finish": None}
            choice = choices.setdefault(piece.index, empty)
            choice["text"] += piece.delta.content or ""
            choice["refusal"] += piece.delta.refusal or ""
            choice["finish"] = piece.finish_reason or choice["finish"]
            for call in piece.delta.tool_calls or ():
                tool = choice["tools"].setdefault(call.index, ["", "", ""])
                tool[0] = tool[0] or call.id
                tool[1] = tool[1] or call.function.name
                tool[2] += call.function.arguments or ""
    return {
        "id": chunks[0].id,
        "model": chunks[0].model,
        "choices": [{**c, "tools": [tuple(tool) for tool in c["tools"].values()]} for c in choices.values()],
        "usage": expected_usage(usage),
    }


def expected_usage(usage: Any) -> tuple[int, int, int, int] | None:
    """What was charged for: xAI's completion tokens come without reasoning, its total with it."""
    if usage is None:
        return None
    inner, outer = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = min((inner and inner.cached_tokens) or 0, usage.prompt_tokens)
    return usage.prompt_tokens, usage.total_tokens - usage.prompt_tokens, cached, (outer and outer.reasoning_tokens) or 0


def read(response: ChatResponse) -> dict[str, Any]:
    usage = response.usage
    return {
        "id": response.id,
        "model": response.model,
        "choices": [
            {
                "index": choice.index,
                "text": choice.text,
                "refusal": choice.refusal,
                "tools": [(call.id, call.name, call.arguments) for call in choice.tool_calls],
                "finish": choice.native_finish_reason,
            }
            for choice in response.choices
        ],
        "usage": (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.reasoning_tokens)
        if usage.total_tokens
        else None,
    }


@pytest.mark.parametrize("exchange", WHOLE, ids=ids)
@pytest.mark.parametrize("incremental", [False, True], ids=["unary", "incremental"])
async def test_a_whole_answer_is_what_the_sdk_reads(exchange: Exchange, incremental: bool) -> None:
    cuts = random_cuts(random.Random(exchange.id), len(exchange.content))
    async with provider_at(answer(exchange, cuts)) as (provider, url, _):
        events = await ask(provider, exchange, incremental=incremental)
        completion = await sdk_whole(url)
    assert len(events) == 1 or incremental
    assert read(fold(events)) == expected_of_whole(completion)


@pytest.mark.parametrize("exchange", STREAMED, ids=ids)
@pytest.mark.parametrize("seed", range(4))
async def test_a_stream_is_what_the_sdk_reads_however_it_is_cut(exchange: Exchange, seed: int) -> None:
    cuts = random_cuts(random.Random(f"{exchange.id}{seed}"), len(exchange.content), pieces=1 + 60 * seed)
    async with provider_at(answer(exchange, cuts)) as (provider, url, _):
        events = await ask(provider, exchange, incremental=True)
        chunks = await sdk_stream(url)
    last = events[-1]
    assert isinstance(last, ResponseFinished)
    assert read(last.response) == expected_of_stream(chunks)
    assert fold(events) == last.response
    assert fold(unfold(last.response)) == last.response


@pytest.mark.parametrize("exchange", REFUSED, ids=ids)
@pytest.mark.parametrize("incremental", [False, True], ids=["unary", "incremental"])
async def test_an_error_answer_is_an_error_of_its_class_with_the_text_the_sdk_has(
    exchange: Exchange, incremental: bool
) -> None:
    async with provider_at(answer(exchange)) as (provider, url, _):
        with pytest.raises(ProviderError) as caught:
            await ask(provider, exchange, incremental=incremental)
        with pytest.raises(openai.APIStatusError) as theirs:
            await sdk_whole(url)
    error = caught.value
    body = theirs.value.body
    said = body["message"] if isinstance(body, dict) and "message" in body else str(body)
    assert error.failure == CLASSES[exchange.id]
    assert error.status == theirs.value.status_code == exchange.status
    assert said in error.message or body["error"] in error.message
    assert error.provider_request_id == theirs.value.request_id
    hint = exchange.headers.get("retry-after")
    assert error.retry_after == (float(hint) if hint else None)


@pytest.mark.parametrize("exchange", [e for e in ALL if e.case == "error_in_200"], ids=ids)
@pytest.mark.parametrize("incremental", [False, True], ids=["unary", "incremental"])
async def test_an_error_that_comes_with_status_200_is_an_error(exchange: Exchange, incremental: bool) -> None:
    async with provider_at(answer(exchange)) as (provider, _, _):
        with pytest.raises(ProviderError, match="Azure Content management policy") as caught:
            await ask(provider, exchange, incremental=incremental)
    assert caught.value.failure == CLASSES[exchange.id]


@pytest.mark.parametrize("exchange", MIDSTREAM, ids=ids)
@pytest.mark.parametrize("seed", range(3))
async def test_an_error_in_the_middle_of_a_stream_is_an_error_after_the_events_before_it(exchange: Exchange, seed: int) -> None:
    cuts = random_cuts(random.Random(seed), len(exchange.content))
    seen: list[ModelEvent] = []
    async with provider_at(answer(exchange, cuts)) as (provider, url, _):
        with pytest.raises(ProviderError) as caught:
            await gather(provider, seen)
        with pytest.raises(openai.APIError) as theirs:
            await sdk_stream(url)
    assert caught.value.failure == CLASSES[exchange.id]
    assert theirs.value.message in caught.value.message
    assert len(seen) > 1
    assert not isinstance(seen[-1], ResponseFinished)


async def gather(provider: HttpProvider, seen: list[ModelEvent]) -> None:
    """Put the events into `seen`, so that those before an error are there after it."""
    async for event in provider.stream(ChatRequest("any", (user("hello"),), incremental=True)):
        seen.append(event)


@pytest.mark.parametrize("scenario", [s for s in scenarios() if all(step in ALL for step in s.steps)], ids=lambda s: s.id)
async def test_a_recorded_sequence_runs_on_one_provider(scenario: Scenario) -> None:
    async with provider_at([answer(step) for step in scenario.steps]) as (provider, _, loopback):
        for step in scenario.steps:
            if step.status == 200:
                events = await ask(provider, step, incremental=step.sse is not None)
                assert isinstance(events[-1], ResponseFinished)
            else:
                with pytest.raises(ProviderError, match=r"overloaded|rate-limited"):
                    await ask(provider, step, incremental=True)
    assert len(loopback.received) == len(scenario.steps)


CUT = ("openai__stream__01", "openai__tool_parallel_stream__01", "openai_compatible__reasoning_stream__01")


@pytest.mark.parametrize("exchange", [e for e in STREAMED if e.id in CUT], ids=ids)
async def test_a_stream_cut_at_any_byte_is_one_error_until_the_last_byte_is_there(exchange: Exchange) -> None:
    ends = range(len(exchange.content) + 1)
    async with provider_at([answer(exchange, stop_after=end) for end in ends]) as (provider, _, _):
        outcomes = [await outcome(provider) for _ in ends]
    whole, _ = outcomes[-1]
    assert [failure for _, failure in outcomes] == ["incomplete"] * len(exchange.content) + [None]
    assert all(whole.startswith(text) for text, _ in outcomes)


@pytest.mark.parametrize("exchange", [e for e in MIDSTREAM if e.vendor == "openrouter"], ids=ids)
async def test_a_stream_with_an_error_in_it_cut_at_any_byte_is_one_error(exchange: Exchange) -> None:
    ends = range(0, len(exchange.content) + 1, 3)
    async with provider_at([answer(exchange, stop_after=end) for end in ends]) as (provider, _, _):
        outcomes = [await outcome(provider) for _ in ends]
    assert {failure for _, failure in outcomes} == {"incomplete", CLASSES[exchange.id]}


async def outcome(provider: HttpProvider) -> tuple[str, str | None]:
    """The text that came, and the failure class, None when the response was whole."""
    seen: list[ModelEvent] = []
    failure = None
    try:
        await gather(provider, seen)
    except ProviderError as error:
        failure = error.failure
    assert sum(isinstance(event, ResponseFinished) for event in seen) == (0 if failure else 1)
    return "".join(getattr(event, "text", "") for event in seen), failure


@pytest.mark.parametrize("exchange", STREAMED, ids=ids)
async def test_a_stream_that_closes_in_order_before_its_end_marker_is_incomplete(exchange: Exchange) -> None:
    cut = exchange.content[: exchange.content.rindex(b"data: [DONE]")]
    async with provider_at(replace(answer(exchange), body=cut)) as (provider, _, _):
        with pytest.raises(ProviderError) as caught:
            await asyncio.wait_for(ask(provider, exchange, incremental=True), 5)
    assert caught.value.failure == "incomplete"
