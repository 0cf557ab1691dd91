"""Streams: what vendors do differently from the recorded ones."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.core.chat import ChatResponse
from app.core.messages import ToolCallPart
from app.core.model_events import ModelEvent, ReasoningDelta, ResponseFinished, ResponseStarted, TextDelta, ToolCallDelta, fold
from app.core.usage import Usage
from app.providers.http_provider import DialectError
from app.providers.openai.stream import OpenAIStreamDecoder

FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def delta(index: int = 0, /, **members: Any) -> dict[str, Any]:
    return {"id": "r", "model": "m", "choices": [{"index": index, "delta": members, "finish_reason": None}]}


def tool(**call: Any) -> dict[str, Any]:
    return delta(tool_calls=[call])


def events_of(*chunks: dict[str, Any], done: bool = True, done_marker: bool = True) -> list[ModelEvent]:
    decoder = OpenAIStreamDecoder(done_marker=done_marker, provider_request_id="req_1")
    events: list[ModelEvent] = []
    for data in [*(orjson.dumps(chunk) for chunk in chunks), *([b"[DONE]"] if done else [])]:
        for event in decoder.feed(b"", data):
            if not isinstance(event, ResponseStarted | ResponseFinished):
                decoder.builder.add(event)
            events.append(event)
    assert decoder.done == done
    return [*events, ResponseFinished(decoder.finish())]


def response_of(*chunks: dict[str, Any], **more: Any) -> ChatResponse:
    return fold(events_of(*chunks, **more))


def failure_of(*chunks: dict[str, Any], **more: Any) -> str:
    with pytest.raises(DialectError) as caught:
        events_of(*chunks, **more)
    return caught.value.failure.failure


def calls_of(*chunks: dict[str, Any]) -> tuple[ToolCallPart, ...]:
    choice = response_of(*chunks, FINISH).choices[0]
    assert choice.finish_reason == "tool_calls"
    return choice.tool_calls


def test_text_comes_as_it_is_sent() -> None:
    assert events_of(delta(role="assistant", content=""), delta(content="a"), delta(content="b"), FINISH)[:-1] == [
        ResponseStarted("r", "m", 0),
        TextDelta("a"),
        TextDelta("b"),
    ]


def test_a_first_chunk_with_text_loses_nothing() -> None:
    assert (
        response_of(delta(role="assistant", content="a"), delta(role="assistant", content="b"), FINISH).choices[0].text == "ab"
    )


def test_azure_begins_with_a_chunk_that_is_no_start() -> None:
    first = {"id": "", "model": "", "choices": [], "prompt_filter_results": []}
    assert events_of(first, delta(content="a"), FINISH)[0] == ResponseStarted("r", "m", 0)


def test_several_choices_are_kept_apart() -> None:
    ends = {"choices": [{"index": i, "delta": {}, "finish_reason": ("stop", "length")[i]} for i in (0, 1)]}
    response = response_of(delta(0, content="a"), delta(1, content="b"), delta(0, content="c"), delta(1, content="d"), ends)
    assert [(c.index, c.text, c.finish_reason) for c in response.choices] == [(0, "ac", "stop"), (1, "bd", "length")]


@pytest.mark.parametrize(
    "piece",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm", "content": ""},
        {"reasoning": "hm", "reasoning_details": [{"text": "hm"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    ],
)
def test_reasoning_is_told_from_text(piece: dict[str, Any]) -> None:
    assert events_of(delta(**piece), delta(content="a"), FINISH)[1:3] == [ReasoningDelta("hm"), TextDelta("a")]


def test_logprobs_come_with_their_text() -> None:
    tokens = [{"token": "a", "logprob": -0.5}]
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": tokens, "refusal": None}}]}
    assert response_of(delta(role="assistant"), chunk, FINISH).choices[0].logprobs == {"content": tokens}


def test_parallel_tool_calls_are_told_apart_by_index() -> None:
    assert calls_of(
        tool(index=0, id="a", function={"name": "f", "arguments": ""}),
        tool(index=1, id="b", function={"name": "g", "arguments": ""}),
        tool(index=0, function={"arguments": '{"x":'}),
        tool(index=1, function={"arguments": "{}"}),
        tool(index=0, function={"arguments": "1}"}),
    ) == (ToolCallPart("a", "f", '{"x":1}'), ToolCallPart("b", "g", "{}"))


def test_the_first_piece_alone_names_the_call() -> None:
    events = events_of(
        tool(index=0, id="a", function={"name": "f", "arguments": ""}),
        tool(index=0, id="a", function={"name": "f", "arguments": "{}"}),
        FINISH,
    )
    assert events[1:3] == [ToolCallDelta(0, "", "a", "f"), ToolCallDelta(0, "{}")]


def test_whole_calls_that_all_claim_index_0_are_several_calls() -> None:
    assert calls_of(
        tool(index=0, id="a", function={"name": "f", "arguments": "{}"}),
        tool(index=0, id="b", function={"name": "f", "arguments": "{}"}),
    ) == (ToolCallPart("a", "f", "{}"), ToolCallPart("b", "f", "{}"))


def test_an_id_that_changes_from_piece_to_piece_does_not_split_a_call() -> None:
    assert calls_of(
        tool(index=0, id="a", function={"name": "f", "arguments": "{"}),
        tool(index=0, id="b", function={"name": None, "arguments": "}"}),
    ) == (ToolCallPart("a", "f", "{}"),)


def test_calls_without_index_are_told_apart_by_id() -> None:
    assert calls_of(
        tool(id="a", function={"name": "f", "arguments": "{"}),
        tool(function={"arguments": "}"}),
        tool(id="b", function={"name": "f", "arguments": "{}"}),
        tool(id="a", function={"arguments": " "}),
    ) == (ToolCallPart("a", "f", "{} "), ToolCallPart("b", "f", "{}"))


def test_calls_without_index_and_id_begin_with_a_name_after_whole_arguments() -> None:
    assert calls_of(
        tool(function={"name": "f", "arguments": '{"x":'}),
        tool(function={"name": "f", "arguments": "1}"}),
        tool(function={"name": "f", "arguments": "{}"}),
        tool(function={"name": "g", "arguments": {}}),
    ) == (ToolCallPart("call_0_r", "f", '{"x":1}'), ToolCallPart("call_1_r", "f", "{}"), ToolCallPart("call_2_r", "g", "{}"))


def test_the_legacy_function_call_streams_too() -> None:
    assert calls_of(
        delta(function_call={"name": "f", "arguments": ""}),
        delta(function_call={"arguments": "{}"}),
    ) == (ToolCallPart("call_0_r", "f", "{}"),)


@pytest.mark.parametrize(
    "last",
    [
        {**FINISH, "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
        {**FINISH, "x_groq": {"id": "q", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}},
        {"choices": [{**FINISH["choices"][0], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}]},
    ],
)
def test_usage_is_found_wherever_it_comes(last: dict[str, Any]) -> None:
    assert response_of(delta(content="a"), last).usage == Usage(1, 2)


def test_the_last_word_on_usage_counts() -> None:
    growing = [{**delta(content="a"), "usage": {"prompt_tokens": 1, "completion_tokens": n}} for n in range(3)]
    after = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 7}}
    assert response_of(*growing, FINISH, after).usage == Usage(1, 7)
    assert response_of(*growing, FINISH).choices[0].text == "aaa"


def test_a_stream_without_its_marker_is_incomplete() -> None:
    assert failure_of(delta(content="a"), FINISH, done=False) == "incomplete"
    assert failure_of(done=False) == "incomplete"


def test_a_vendor_without_marker_is_whole_when_all_choices_are() -> None:
    assert response_of(delta(content="a"), FINISH, done=False, done_marker=False).choices[0].text == "a"
    assert failure_of(delta(content="a"), done=False, done_marker=False) == "incomplete"
    assert failure_of(delta(0, content="a"), delta(1, content="b"), FINISH, done=False, done_marker=False) == "incomplete"


def test_a_marker_without_anything_before_it_is_no_answer() -> None:
    assert failure_of() == "incomplete"


def test_an_answer_without_finish_reason_but_with_marker_is_whole() -> None:
    choice = response_of(delta(content="a")).choices[0]
    assert (choice.text, choice.finish_reason, choice.native_finish_reason) == ("a", "stop", None)


@pytest.mark.parametrize(
    ("chunk", "failure"),
    [
        ({"error": {"message": "slow down", "type": "rate_limit_exceeded"}}, "rate_limited"),
        (
            {"error": {"message": "boom", "code": 502}, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
            "server_error",
        ),
        ({"error": "The model is overloaded"}, "overloaded"),
        ({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "error"}]}, "server_error"),
        ({"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 429}}]}, "rate_limited"),
        ({"choices": [], "x_groq": {"error": "over capacity"}}, "overloaded"),
        ({**delta(content="x"), "error": {"message": "boom"}}, "server_error"),
    ],
)
def test_an_error_in_the_middle_is_an_error(chunk: dict[str, Any], failure: str) -> None:
    assert failure_of(delta(content="a"), chunk) == failure


def test_an_error_event_is_one_by_its_name() -> None:
    decoder = OpenAIStreamDecoder(done_marker=True, provider_request_id=None)
    with pytest.raises(DialectError, match="boom"):
        decoder.feed(b"error", b'{"message": "boom"}')


def test_what_is_not_json_is_a_failure() -> None:
    decoder = OpenAIStreamDecoder(done_marker=True, provider_request_id=None)
    with pytest.raises(DialectError) as caught:
        decoder.feed(b"", b"{half")
    assert caught.value.failure.failure == "server_error"
