"""What every HTTP provider does, shown with the smallest dialect there could be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import httpx
import orjson
import pytest

from app.core.chat import CallContext, ChatRequest, ChatResponse, Choice
from app.core.errors import ProviderError
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished, ResponseStarted, TextDelta, fold
from app.providers.http import HttpClient
from app.providers.http_provider import DialectError, Failure, HttpProvider, StreamDecoder
from tests.support.loopback import Answer, Loopback, Received, as_json, sse


class Decoder(StreamDecoder):
    def feed(self, name: bytes, data: bytes) -> Sequence[ModelEvent]:
        if name == b"error":
            raise DialectError(Failure("overloaded", data.decode(), retry_after=3.0))
        if data == b"END":
            self.done = True
            return ()
        return (TextDelta(orjson.loads(data)["text"]),)

    def finish(self) -> ChatResponse:
        if not self.done:
            raise DialectError(Failure("incomplete", "the stream ended early"))
        return ChatResponse("r", "m", (self.builder.choice(),))


class Plain:
    """Answers are `{"text": ...}`, streams are such pieces and `END`."""

    def __init__(self, base: str) -> None:
        self._base = base

    def url(self, request: ChatRequest) -> httpx.URL:
        return httpx.URL(f"{self._base}/say/{request.model}")

    def headers(self) -> Mapping[str, str]:
        return {"authorization": "Bearer secret"}

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        return {"prompt": request.messages[-1].text, "stream": request.incremental}

    def decode(self, body: Any, headers: Mapping[str, str]) -> ChatResponse:
        return ChatResponse("r", "m", (Choice(0, body["text"]),), provider_request_id=headers.get("x-request-id"))

    def decoder(self, request: ChatRequest, headers: Mapping[str, str]) -> StreamDecoder:
        return Decoder()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return Failure("rate_limited", body.decode(), retry_after=float(headers["retry-after"]), code="slow", param="p")

    def models_url(self) -> httpx.URL:
        return httpx.URL(f"{self._base}/models")

    def model_names(self, body: Any) -> tuple[str, ...]:
        return tuple(row["id"] for row in body["data"])


def provider(url: str, **more: Any) -> HttpProvider:
    return HttpProvider("p", "plain", Plain(url), HttpClient("p", connect_s=5, max_connections=4), **more)


def asked(*, incremental: bool = False, **context: Any) -> ChatRequest:
    return ChatRequest("m", (user("hi"),), incremental=incremental, context=CallContext(**context))


async def ask(answer: Any, *, incremental: bool = False) -> list[ModelEvent]:
    async with Loopback(answer) as server:
        made = provider(server.url)
        try:
            return [event async for event in made.stream(asked(incremental=incremental))]
        finally:
            await made.aclose()


async def failing(answer: Any, *, incremental: bool = False) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await ask(answer, incremental=incremental)
    assert caught.value.provider == "p"
    return caught.value


STREAM = 'data: {"text": "one "}\n\ndata: {"text": "two"}\n\ndata: END\n\n'


async def test_a_unary_call_is_one_event() -> None:
    (event,) = await ask(as_json({"text": "hello"}))
    assert isinstance(event, ResponseFinished)
    assert event.response.choices[0].text == "hello"


@pytest.mark.parametrize("cuts", [(), (5, 6, 7, 40), range(100)])
async def test_a_stream_is_its_pieces_and_the_whole(cuts: Sequence[int]) -> None:
    events = await ask(sse(STREAM, cuts=cuts), incremental=True)
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["one ", "two"]
    assert fold(events).choices[0].text == "one two"


async def test_a_whole_answer_to_a_request_for_a_stream_is_told_as_one() -> None:
    events = await ask(as_json({"text": "hello"}), incremental=True)
    assert [type(event) for event in events] == [ResponseStarted, TextDelta, ResponseFinished]


async def test_the_request_carries_credential_extra_headers_and_trace_context() -> None:
    async with Loopback(as_json({"text": "x"})) as server:
        made = provider(server.url, extra_headers={"x-extra": "1", "User-Agent": "mine"})
        async for _ in made.stream(asked(traceparent="00-a-b-01")):
            pass
        await made.aclose()
    (received,) = server.received
    assert (received.method, received.path, received.json) == ("POST", "/say/m", {"prompt": "hi", "stream": False})
    sent = ("authorization", "x-extra", "user-agent", "traceparent", "content-type")
    assert [received.headers[name] for name in sent] == ["Bearer secret", "1", "mine", "00-a-b-01", "application/json"]


@pytest.mark.parametrize("incremental", [False, True])
async def test_an_error_answer_says_everything_the_dialect_knows_of_it(incremental: bool) -> None:
    headers = {"retry-after": "7", "x-request-id": "req_1"}
    error = await failing(Answer(429, headers, b"too fast"), incremental=incremental)
    assert error.message == "provider 'p' (m): too fast"
    assert (error.failure, error.status, error.retry_after) == ("rate_limited", 429, 7)
    assert (error.model, error.provider_code, error.param, error.provider_request_id) == ("m", "slow", "p", "req_1")


@pytest.mark.parametrize(
    ("answer", "incremental", "failure", "message"),
    [
        (Answer(body=b"<html>"), False, "server_error", "the answer is not JSON"),
        (as_json({"other": 1}), False, "server_error", "unknown shape (KeyError)"),
        (as_json([1]), False, "server_error", "unknown shape (TypeError)"),
        (sse("data: {\n\n"), True, "server_error", "the stream has an unknown shape (JSONDecodeError)"),
        (sse('data: {"a": 1}\n\n'), True, "server_error", "unknown shape (KeyError)"),
        (sse("event: error\ndata: busy\n\n"), True, "overloaded", "busy"),
        (sse('data: {"text": "one"}\n\n'), True, "incomplete", "the stream ended early"),
        (sse(STREAM, stop_after=30), True, "incomplete", "broke"),
        (Answer(body=b'{"text": "x"}', stop_after=5), False, "incomplete", "broke"),
    ],
)
async def test_answers_that_are_none_are_failures_with_their_class(
    answer: Answer, incremental: bool, failure: str, message: str
) -> None:
    error = await failing(answer, incremental=incremental)
    assert error.failure == failure
    assert message in error.message


@pytest.mark.parametrize("incremental", [False, True])
async def test_a_stream_that_is_left_or_an_answer_not_waited_for_closes_its_connection(incremental: bool) -> None:
    held = sse(STREAM, hold_after=30) if incremental else Answer(body=b'{"text": "x"}', hold_after=3)
    async with Loopback(held) as server:
        made = provider(server.url)
        async with aclosing(made.stream(asked(incremental=incremental))) as events:  # type: ignore[type-var]
            if incremental:
                assert await anext(events) == TextDelta("one ")
            waiting = asyncio.ensure_future(anext(events))
            while not server.received:
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        async with asyncio.timeout(1):
            await server.received[0].closed.wait()
        await made.aclose()


async def test_streams_that_end_well_share_one_connection() -> None:
    async with Loopback(sse(STREAM)) as server:
        made = provider(server.url)
        for _ in range(5):
            async for _ in made.stream(asked(incremental=True)):
                pass
            assert server.open == 1
        await made.aclose()


async def test_the_check_lists_the_models_or_says_why_not() -> None:
    def answer(request: Received) -> Answer:
        return answers[len(server.received) - 1]

    unauthorized = Answer(401, {"retry-after": "0"}, b"bad key")
    answers = [as_json({"data": [{"id": "a"}, {"id": "b"}]}), as_json({"odd": 1}), unauthorized, Answer(hold_after=0)]
    async with Loopback(answer) as server:
        made = provider(server.url, check_s=0.05)
        good, odd, refused, slow = [await made.check() for _ in range(4)]
        await made.aclose()
    assert (good.available, good.models) == (True, ("a", "b"))
    assert (odd.available, odd.models) == (True, ())
    assert (refused.available, refused.error) == (False, "provider 'p': bad key")
    assert (slow.available, slow.error) == (False, "provider 'p': no answer within 0.05 s")
    assert server.received[0].path == "/models"
