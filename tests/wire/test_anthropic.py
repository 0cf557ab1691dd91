"""Recorded Anthropic traffic: our provider reads the same from the bytes as the vendor's own SDK."""

from __future__ import annotations

import json
import random
import re
from contextlib import suppress
from dataclasses import replace

import anthropic
import pytest

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest, ChatResponse, Generation, ToolDefinition
from app.core.errors import ProviderError
from app.core.messages import Message, TextPart, ToolResultPart, system, user
from app.core.model_events import ResponseFinished, fold
from app.providers.anthropic import anthropic_provider
from tests.support.loopback import Answer, Loopback
from tests.wire.exchanges import Exchange, answer, exchanges, random_cuts, skip, steps

pytestmark = skip

ALL = exchanges("anthropic") + steps("anthropic")
COMPLETE = [exchange for exchange in ALL if exchange.status < 400 and b"event: error" not in exchange.content]
FAILED = [exchange for exchange in ALL if exchange not in COMPLETE]
STREAMS = [exchange for exchange in COMPLETE if exchange.sse is not None]

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

CLASS_OF_CASE = {
    "error_400": "invalid_request",
    "error_400_context_length": "context_length",
    "error_401": "auth",
    "error_404": "not_found",
    "error_429_retry_after": "rate_limited",
    "error_529_overloaded": "overloaded",
    "midstream_error": "overloaded",
}
CLASS_OF_STEP = {429: "rate_limited", 503: "overloaded"}


def request_for(exchange: Exchange, *, incremental: bool | None = None) -> ChatRequest:
    streamed = exchange.sse is not None or bool((exchange.request["body"] or {}).get("stream"))
    return ChatRequest(exchange.model, (user("Hello"),), incremental=streamed if incremental is None else incremental)


async def events_of(url: str, request: ChatRequest) -> list[object]:
    provider = anthropic_provider("claude", LLMProvider(kind="anthropic", base_url=url))
    try:
        return [event async for event in provider.stream(request)]
    finally:
        await provider.aclose()


async def ask(url: str, request: ChatRequest) -> ChatResponse:
    events = await events_of(url, request)
    assert [event for event in events if isinstance(event, ResponseFinished)] == events[-1:]
    folded = fold(events)
    assert folded == events[-1].response
    return folded


async def ask_sdk(url: str, *, stream: bool) -> anthropic.types.Message:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="key", max_retries=0) as client:
        options = {"model": "claude-haiku-4-5", "max_tokens": 10, "messages": [{"role": "user", "content": "Hello"}]}
        if not stream:
            return await client.messages.create(**options)
        async with client.messages.stream(**options) as events:
            return await events.get_final_message()


def seen_by_sdk(message: anthropic.types.Message) -> dict:
    def blocks(kind: str) -> list:
        return [block for block in message.content if block.type == kind]

    used = message.usage
    read, written = used.cache_read_input_tokens or 0, used.cache_creation_input_tokens or 0
    return {
        "id": message.id,
        "model": message.model,
        "text": "".join(block.text for block in blocks("text")),
        "reasoning": "".join(block.thinking for block in blocks("thinking")),
        "signatures": [block.signature for block in blocks("thinking")],
        "redacted": [block.data for block in blocks("redacted_thinking")],
        "tools": [(block.id, block.name, block.input) for block in blocks("tool_use")],
        "stop_reason": message.stop_reason,
        "finish_reason": FINISH[message.stop_reason],
        "refusal": (message.stop_details.explanation if message.stop_details else None) or "",
        "input": used.input_tokens + read + written,
        "output": used.output_tokens,
        "cached": read,
        "written": written,
        "thought": used.output_tokens_details.thinking_tokens if used.output_tokens_details else 0,
    }


def seen_by_us(response: ChatResponse) -> dict:
    (choice,) = response.choices
    return {
        "id": response.id,
        "model": response.model,
        "text": choice.text,
        "reasoning": choice.reasoning,
        "signatures": [part.signature for part in choice.reasoning_parts if part.signature],
        "redacted": [part.redacted for part in choice.reasoning_parts if part.redacted],
        "tools": [(call.id, call.name, json.loads(call.arguments)) for call in choice.tool_calls],
        "stop_reason": choice.native_finish_reason,
        "finish_reason": choice.finish_reason,
        "refusal": choice.refusal,
        "input": response.usage.input_tokens,
        "output": response.usage.output_tokens,
        "cached": response.usage.cached_input_tokens,
        "written": response.usage.cache_write_tokens,
        "thought": response.usage.reasoning_tokens,
    }


def test_recordings_of_every_sort_are_there() -> None:
    assert len(exchanges("anthropic")) == 26
    assert len(STREAMS) == 8
    assert {exchange.case for exchange in FAILED} >= set(CLASS_OF_CASE)


@pytest.mark.parametrize("exchange", COMPLETE, ids=str)
async def test_a_complete_exchange_reads_as_the_sdk_reads_it(exchange: Exchange) -> None:
    cuts = random_cuts(random.Random(exchange.id), len(exchange.content))
    async with Loopback(answer(exchange, cuts)) as vendor:
        ours = await ask(vendor.url, request_for(exchange))
        theirs = await ask_sdk(vendor.url, stream=exchange.sse is not None)
    assert seen_by_us(ours) == seen_by_sdk(theirs)
    assert ours.provider_request_id == exchange.headers.get("request-id")


@pytest.mark.parametrize("exchange", [exchange for exchange in COMPLETE if exchange.sse is None], ids=str)
async def test_a_whole_body_where_a_stream_was_asked_for_reads_the_same(exchange: Exchange) -> None:
    async with Loopback(answer(exchange)) as vendor:
        whole = await ask(vendor.url, request_for(exchange, incremental=False))
        unfolded = await ask(vendor.url, request_for(exchange, incremental=True))
    assert whole == unfolded


@pytest.mark.parametrize("exchange", STREAMS, ids=str)
async def test_a_stream_reads_the_same_however_it_is_cut(exchange: Exchange) -> None:
    size = len(exchange.content)
    cuts = [random_cuts(random.Random(seed), size, pieces=3 * seed**2) for seed in range(1, 8)]
    async with Loopback([answer(exchange), *(answer(exchange, some) for some in cuts)]) as vendor:
        expected = await ask(vendor.url, request_for(exchange))
        for _ in cuts:
            assert await ask(vendor.url, request_for(exchange)) == expected


@pytest.mark.parametrize("exchange", FAILED, ids=str)
async def test_a_failed_exchange_fails_with_its_class_and_the_sdks_status_and_message(exchange: Exchange) -> None:
    async with Loopback(answer(exchange)) as vendor:
        with pytest.raises(ProviderError) as ours:
            await events_of(vendor.url, request_for(exchange))
        with pytest.raises(anthropic.APIStatusError) as theirs:
            await ask_sdk(vendor.url, stream=exchange.sse is not None)
    error, body = ours.value, theirs.value.body
    assert error.failure == (CLASS_OF_CASE.get(exchange.case) or CLASS_OF_STEP[exchange.status])
    assert error.status == theirs.value.response.status_code == exchange.status
    assert (body["error"]["message"] if isinstance(body, dict) else theirs.value.message) in error.message
    assert error.provider_request_id == exchange.headers.get("request-id")
    hint = exchange.headers.get("retry-after")
    assert error.retry_after == (float(hint) if hint else None)
    assert error.should_retry == {"true": True, "false": False, None: None}[exchange.headers.get("x-should-retry")]


async def test_the_second_turn_of_a_tool_loop_is_sent_as_it_was_recorded() -> None:
    first, second = (step for step in steps("anthropic") if step.id.startswith("tool_loop_anthropic_plain"))
    recorded = second.request["body"]
    results = [block for block in recorded["messages"][-1]["content"] if block["type"] == "tool_result"]
    async with Loopback([answer(first), answer(second)]) as vendor:
        answered = (await ask(vendor.url, request_for(first))).choices[0]
        conversation = (
            system(recorded["system"][0]["text"]),
            user(recorded["messages"][0]["content"][0]["text"]),
            Message("assistant", answered.tool_calls),
            *(
                Message("tool", (ToolResultPart(call.id, (TextPart(result["content"][0]["text"]),)),))
                for call, result in zip(answered.tool_calls, results, strict=True)
            ),
        )
        (tool,) = recorded["tools"]
        await ask(
            vendor.url,
            ChatRequest(
                recorded["model"],
                conversation,
                Generation(max_tokens=recorded["max_tokens"]),
                (ToolDefinition(tool["name"], tool["description"], tool["input_schema"]),),
            ),
        )
    assert {"stream": False, **vendor.received[1].json} == recorded


def damaged(content: bytes, rng: random.Random) -> bytes:
    """`content` with one JSON value replaced by another, or a piece overwritten at random."""
    if rng.random() < 0.5:
        at = rng.randrange(len(content))
        return content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at + rng.randrange(9) :]
    values = list(re.finditer(rb'(?<=[:\[,])\s*("[^"\\]*"|\d+|null|\[\]|\{\})', content))
    value = rng.choice(values)
    return content[: value.start()] + rng.choice([b"null", b"7", b'"x"', b"[]", b"{}", b"true"]) + content[value.end() :]


@pytest.mark.parametrize("exchange", ALL, ids=str)
async def test_damaged_bytes_raise_nothing_but_provider_errors(exchange: Exchange) -> None:
    rng = random.Random(exchange.id)
    whole = answer(exchange)
    async with Loopback(lambda _: replace(whole, body=damaged(exchange.content, rng))) as vendor:
        provider = anthropic_provider("claude", LLMProvider(kind="anthropic", base_url=vendor.url))
        for _ in range(60):
            with suppress(ProviderError):
                async for _event in provider.stream(request_for(exchange)):
                    pass
        await provider.aclose()


@pytest.mark.parametrize("clean", [True, False], ids=["the stream ends", "the connection breaks"])
@pytest.mark.parametrize("exchange", STREAMS, ids=str)
async def test_a_stream_cut_at_any_byte_is_whole_or_one_failure(exchange: Exchange, clean: bool) -> None:
    whole = answer(exchange)
    sizes = range(len(exchange.content) + 1)
    lengths = iter(sizes)

    def next_answer(_: object) -> Answer:
        length = next(lengths)
        return replace(whole, body=exchange.content[:length]) if clean else replace(whole, stop_after=length)

    async with Loopback(whole) as vendor:
        expected = await ask(vendor.url, request_for(exchange))
    outcomes: list[str] = []
    async with Loopback(next_answer) as vendor:
        provider = anthropic_provider("claude", LLMProvider(kind="anthropic", base_url=vendor.url))
        for _ in sizes:
            try:
                events = [event async for event in provider.stream(request_for(exchange))]
            except ProviderError as error:
                outcomes.append(error.failure)
            else:
                assert fold(events) == events[-1].response == expected
                outcomes.append("whole")
        await provider.aclose()
    failed = outcomes.count("incomplete")
    assert exchange.content.rindex(b"message_stop") < failed < len(sizes)
    assert outcomes == ["incomplete"] * failed + ["whole"] * (len(sizes) - failed)
