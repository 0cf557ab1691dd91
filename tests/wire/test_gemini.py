"""Recorded Gemini traffic through our adapter, against what the official `google-genai` reads from the same bytes."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from typing import Any

import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest, ChatResponse, ToolDefinition
from app.core.errors import FailureClass, ProviderError
from app.core.messages import Message, Part, TextPart, ToolResultPart, user
from app.core.model_events import ModelEvent, ResponseFinished, fold
from app.providers.gemini import gemini_provider
from app.providers.http_provider import HttpProvider
from tests.support.loopback import Answer, Loopback
from tests.wire.exchanges import Exchange, answer, exchanges, random_cuts, scenarios, skip, steps

pytestmark = skip

ALL = (*exchanges("gemini"), *steps("gemini"))
WHOLE = [exchange for exchange in ALL if exchange.status < 400 and exchange.sse is None and exchange.content[:1] != b"["]
LISTED = [exchange for exchange in ALL if exchange.content[:1] == b"["]
STREAMED = [exchange for exchange in ALL if exchange.sse is not None]
FAILED = [exchange for exchange in ALL if exchange.status >= 400]

FAILURES: dict[str, FailureClass] = {
    "error_400": "invalid_request",
    "error_403": "auth",
    "error_404": "not_found",
    "error_429_plain": "rate_limited",
    "error_429_retry_info": "rate_limited",
    "error_500": "server_error",
}


@dataclass(frozen=True)
class Reading:
    """What one reader, ours or the SDK, found in a response."""

    text: str
    thoughts: str
    calls: tuple[tuple[str, dict[str, Any]], ...]
    call_ids: tuple[str, ...]
    signatures: tuple[str, ...]
    finish: str | None
    usage: tuple[int, int, int, int]
    model: str
    id: str


def our_reading(response: ChatResponse) -> Reading:
    (choice,) = response.choices
    usage = response.usage
    calls = choice.tool_calls
    sealed = [part.signature for part in (*choice.reasoning_parts, *calls) if part.signature]
    return Reading(
        text=choice.text,
        thoughts=choice.reasoning,
        calls=tuple((call.name, json.loads(call.arguments)) for call in calls),
        call_ids=tuple(call.id for call in calls),
        signatures=tuple(sorted(sealed)),
        finish=choice.native_finish_reason,
        usage=(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.reasoning_tokens),
        model=response.model,
        id=response.id,
    )


def sdk_reading(chunks: list[types.GenerateContentResponse]) -> Reading:
    candidates = [candidate for chunk in chunks for candidate in chunk.candidates or []]
    parts = [part for candidate in candidates if candidate.content for part in candidate.content.parts or []]
    calls = [part.function_call for part in parts if part.function_call]
    finish = next((candidate.finish_reason for candidate in reversed(candidates) if candidate.finish_reason), None)
    usage = next(chunk.usage_metadata for chunk in reversed(chunks) if chunk.usage_metadata)
    thoughts = usage.thoughts_token_count or 0
    return Reading(
        text="".join(part.text or "" for part in parts if not part.thought),
        thoughts="".join(part.text or "" for part in parts if part.thought),
        calls=tuple((call.name or "", call.args or {}) for call in calls),
        call_ids=tuple(call.id or "" for call in calls),
        signatures=tuple(sorted(_base64(part.thought_signature) for part in parts if part.thought_signature)),
        finish=finish.value if finish else None,
        usage=(
            (usage.prompt_token_count or 0) + (usage.tool_use_prompt_token_count or 0),
            (usage.candidates_token_count or 0) + thoughts,
            usage.cached_content_token_count or 0,
            thoughts,
        ),
        model=next(chunk.model_version or "" for chunk in chunks),
        id=next(chunk.response_id or "" for chunk in chunks),
    )


def _base64(signature: bytes) -> str:
    encoded: str = types.Part(thought_signature=signature).model_dump(mode="json")["thought_signature"]
    return encoded.replace("-", "+").replace("_", "/")


async def ask_us(reply: Answer, exchange: Exchange, *, incremental: bool) -> list[ModelEvent]:
    async with Loopback(reply) as vendor:
        provider = connect(vendor.url)
        request = ChatRequest(exchange.model, (user("hello"),), incremental=incremental)
        try:
            return [event async for event in provider.stream(request)]
        finally:
            await provider.aclose()


def connect(url: str) -> HttpProvider:
    return gemini_provider("google", LLMProvider(kind="gemini", base_url=f"{url}/v1beta", api_key="k"))  # pyright: ignore


async def ask_sdk(reply: Answer, exchange: Exchange, *, stream: bool) -> list[types.GenerateContentResponse]:
    async with Loopback(reply) as vendor:
        return await asyncio.to_thread(_ask_sdk, vendor.url, exchange.model, stream)


def _ask_sdk(url: str, model: str, stream: bool) -> list[types.GenerateContentResponse]:
    options = types.HttpOptions(base_url=url, retry_options=types.HttpRetryOptions(attempts=1))
    with genai.Client(api_key="k", http_options=options) as client:
        if stream:
            return list(client.models.generate_content_stream(model=model, contents="hello"))
        return [client.models.generate_content(model=model, contents="hello")]


def only_response(events: list[ModelEvent]) -> ChatResponse:
    finished = [event.response for event in events if isinstance(event, ResponseFinished)]
    assert len(finished) == 1
    assert isinstance(events[-1], ResponseFinished)
    assert fold(events) == finished[0]
    return finished[0]


def same(ours: Reading, theirs: Reading) -> None:
    """Equal, but for the ids that we make up where the vendor gave none."""
    assert len(set(ours.call_ids)) == len(ours.call_ids)
    for mine, given in zip(ours.call_ids, theirs.call_ids, strict=True):
        assert mine == given if given else mine.startswith("call_")
    assert ours == Reading(**{**vars(theirs), "call_ids": ours.call_ids})


@pytest.mark.parametrize("incremental", [False, True], ids=["unary", "watched"])
@pytest.mark.parametrize("exchange", WHOLE, ids=str)
async def test_a_whole_answer_reads_as_the_sdk_reads_it(exchange: Exchange, incremental: bool) -> None:
    response = only_response(await ask_us(answer(exchange), exchange, incremental=incremental))

    same(our_reading(response), sdk_reading(await ask_sdk(answer(exchange), exchange, stream=False)))


@pytest.mark.parametrize("exchange", STREAMED, ids=str)
async def test_a_stream_reads_as_the_sdk_reads_it_wherever_it_is_cut(exchange: Exchange) -> None:
    theirs = sdk_reading(await ask_sdk(answer(exchange), exchange, stream=True))
    for seed in range(5):
        cuts = random_cuts(random.Random(seed), len(exchange.content))
        response = only_response(await ask_us(answer(exchange, cuts), exchange, incremental=True))
        same(our_reading(response), theirs)


@pytest.mark.parametrize("exchange", LISTED, ids=str)
async def test_a_stream_as_a_json_list_reads_as_its_chunks(exchange: Exchange) -> None:
    response = only_response(await ask_us(answer(exchange), exchange, incremental=True))

    chunks = [
        (await ask_sdk(Answer(body=json.dumps(chunk).encode()), exchange, stream=False))[0]
        for chunk in json.loads(exchange.content)
    ]
    same(our_reading(response), sdk_reading(chunks))


@pytest.mark.parametrize("incremental", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("exchange", FAILED, ids=str)
async def test_an_error_has_its_class_and_the_sdks_code_and_message(exchange: Exchange, incremental: bool) -> None:
    with pytest.raises(ProviderError) as ours:
        await ask_us(answer(exchange), exchange, incremental=incremental)
    with pytest.raises(genai_errors.APIError) as theirs:
        await ask_sdk(answer(exchange), exchange, stream=incremental)

    assert ours.value.failure == FAILURES[exchange.case]
    assert ours.value.status == theirs.value.code
    assert ours.value.provider_code == theirs.value.status
    assert ours.value.message.endswith(str(theirs.value.message))


async def test_the_delay_in_the_body_is_the_retry_hint() -> None:
    (exchange,) = [exchange for exchange in FAILED if exchange.case == "error_429_retry_info"]

    with pytest.raises(ProviderError) as raised:
        await ask_us(answer(exchange), exchange, incremental=False)

    assert raised.value.retry_after == 48.0


@pytest.mark.parametrize(
    ("name", "finish"),
    [
        ("content_filter__01", "content_filter"),
        ("content_filter__02", "content_filter"),
        ("truncated__01", "length"),
        ("plain__01", "stop"),
        ("tool_call__01", "tool_calls"),
        ("malformed_or_unexpected_tool_call__01", "tool_calls"),
    ],
)
async def test_the_finish_reason_is_normalised(name: str, finish: str) -> None:
    (exchange,) = [exchange for exchange in WHOLE if exchange.id == f"gemini__{name}"]

    response = only_response(await ask_us(answer(exchange), exchange, incremental=False))

    assert response.choices[0].finish_reason == finish


@pytest.mark.parametrize("clean", [True, False], ids=["clean end", "broken connection"])
@pytest.mark.parametrize("exchange", STREAMED, ids=str)
async def test_a_stream_cut_anywhere_is_whole_or_one_provider_error(exchange: Exchange, clean: bool) -> None:
    whole = only_response(await ask_us(answer(exchange), exchange, incremental=True))
    content = exchange.content
    last = content.rstrip().rfind(b"data: ")
    outcomes: set[str] = set()

    def reply(stop: int) -> Answer:
        if clean:
            return Answer(headers={"content-type": "text/event-stream"}, body=content[:stop])
        return answer(exchange, stop_after=stop)

    offsets = range(len(content)) if len(content) < 2_500 else sorted(random.Random(7).sample(range(len(content)), 600))
    replies = [reply(stop) for stop in offsets]
    async with Loopback(replies) as vendor:
        provider = connect(vendor.url)
        request = ChatRequest(exchange.model, (user("hello"),), incremental=True)
        for stop in offsets:
            try:
                response = only_response([event async for event in provider.stream(request)])
            except ProviderError as error:
                outcomes.add(error.failure)
            else:
                assert response == whole
                assert stop > last
        await provider.aclose()
    assert outcomes == {"incomplete"}


async def test_what_is_left_half_said_after_the_finish_reason_does_no_harm() -> None:
    (exchange,) = [exchange for exchange in STREAMED if exchange.id == "gemini__stream__02"]
    enough = Answer(headers={"content-type": "text/event-stream"}, body=exchange.content + b"data: {")

    response = only_response(await ask_us(enough, exchange, incremental=True))

    assert response.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("bare", [True, False], ids=["bare json", "event"])
async def test_an_error_in_the_middle_of_a_stream_has_the_sdks_code_and_message(bare: bool) -> None:
    (exchange,) = [exchange for exchange in STREAMED if exchange.id == "gemini__stream__02"]
    first = exchange.content.split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    tail = json.dumps(error, indent=2) if bare else f"data: {json.dumps(error)}\r\n\r\n"
    reply = Answer(headers={"content-type": "text/event-stream"}, body=first + tail.encode())

    with pytest.raises(ProviderError) as ours:
        await ask_us(reply, exchange, incremental=True)
    with pytest.raises(genai_errors.APIError) as theirs:
        await ask_sdk(reply, exchange, stream=True)

    assert (ours.value.failure, theirs.value.code) == ("overloaded", 503)
    assert ours.value.message.endswith(str(theirs.value.message))


@pytest.mark.parametrize("scenario", [s for s in scenarios() if s.steps[0].provider == "gemini"], ids=str)
async def test_a_tool_loop_sends_back_what_the_recorded_client_sent(scenario: Any) -> None:
    first, second = scenario.steps
    recorded = second.request["body"]
    incremental = first.sse is not None
    asked = Message("user", tuple(TextPart(part["text"]) for part in recorded["contents"][0]["parts"]))
    responses = [
        part["functionResponse"] for content in recorded["contents"] for part in content["parts"] if "functionResponse" in part
    ]
    async with Loopback([answer(first), answer(second)]) as vendor:
        provider = connect(vendor.url)
        tools = tuple(ToolDefinition(row["name"], row["description"]) for row in recorded["tools"][0]["functionDeclarations"])
        request = ChatRequest(first.model, (asked,), tools=tools, incremental=incremental)
        choice = only_response([event async for event in provider.stream(request)]).choices[0]
        turn: tuple[Part, ...] = (*choice.reasoning_parts, *choice.tool_calls)
        results = tuple(
            Message("tool", (ToolResultPart(call.id, (TextPart(json.dumps(row["response"])),)),))
            for call, row in zip(choice.tool_calls, responses, strict=True)
        )
        again = ChatRequest(first.model, (asked, Message("assistant", turn), *results), tools=tools, incremental=incremental)
        final = only_response([event async for event in provider.stream(again)])
        await provider.aclose()

    sent = vendor.received[1].json["contents"]
    assert [content["role"] for content in sent] == ["user", "model", "user"]
    assert _comparable(part for content in sent for part in content["parts"]) == _comparable(
        part for content in recorded["contents"] for part in content["parts"]
    )
    assert final.choices[0].finish_reason == "stop"


def _comparable(parts: Any) -> list[Any]:
    """Parts without ids, which the recorded client left out, and with signatures in one of base64's two alphabets."""
    found: list[Any] = json.loads(json.dumps(list(parts)).replace("-", "+").replace("_", "/"))
    for part in found:
        for member in part.values():
            if isinstance(member, dict):
                member.pop("id", None)
    return found
