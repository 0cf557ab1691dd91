from __future__ import annotations

import json
from typing import Any

import pytest

from app.core.chat import ChatResponse
from app.core.messages import ReasoningPart, ToolCallPart
from app.core.model_events import ReasoningDelta, ResponseStarted, TextDelta, ToolCallDelta
from app.core.usage import Usage
from app.providers.anthropic.response import decode
from app.providers.anthropic.stream import AnthropicStream
from app.providers.http_provider import DialectError

START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "claude", "content": [], "usage": {"input_tokens": 5, "cache_read_input_tokens": 2}},
}
STOP = {"type": "message_stop"}


def block(index: int, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": content}


def end(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def ended(reason: str | None, **more: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, **more}, "usage": {"output_tokens": 9}}


def feed(*events: dict[str, Any]) -> tuple[AnthropicStream, list[Any]]:
    stream = AnthropicStream({"request-id": "req_1"})
    seen: list[Any] = []
    for event in events:
        for item in stream.feed(event["type"].encode(), json.dumps(event).encode()):
            if not isinstance(item, ResponseStarted):
                stream.builder.add(item)
            seen.append(item)
    return stream, seen


def response(*events: dict[str, Any]) -> ChatResponse:
    return feed(START, *events, ended("end_turn"), STOP)[0].finish()


def test_a_stream_gives_its_deltas_and_then_the_whole() -> None:
    stream, seen = feed(
        START,
        {"type": "ping"},
        block(0, type="text", text=""),
        delta(0, type="text_delta", text="Hel"),
        delta(0, type="text_delta", text=""),
        delta(0, type="citations_delta", citation={}),
        delta(0, type="text_delta", text="lo"),
        end(0),
        {"type": "news_of_the_vendor"},
        ended("max_tokens"),
    )
    assert seen == [ResponseStarted("msg_1", "claude"), TextDelta("Hel"), TextDelta("lo")]
    assert not stream.done
    stream.feed(b"message_stop", b'{"type": "message_stop"}')
    whole = stream.finish()
    assert (whole.choices[0].text, whole.choices[0].finish_reason, whole.choices[0].native_finish_reason) == (
        "Hello",
        "length",
        "max_tokens",
    )
    assert whole.usage == Usage(input_tokens=7, output_tokens=9, cached_input_tokens=2)
    assert whole.provider_request_id == "req_1"


def test_tool_calls_are_numbered_without_regard_to_other_blocks() -> None:
    _, seen = feed(
        START,
        block(0, type="text", text=""),
        block(1, type="server_tool_use", id="srv", name="web_search", input={}),
        delta(1, type="input_json_delta", partial_json='{"query": 1}'),
        block(2, type="tool_use", id="a", name="f", input={}),
        delta(2, type="input_json_delta", partial_json=""),
        delta(2, type="input_json_delta", partial_json='{"x"'),
        delta(2, type="input_json_delta", partial_json=": 1}"),
        end(2),
        block(3, type="tool_use", id="b", name="g", input={}),
        end(3),
    )
    assert seen[1:] == [
        ToolCallDelta(0, "", "a", "f"),
        ToolCallDelta(0, '{"x"'),
        ToolCallDelta(0, ": 1}"),
        ToolCallDelta(1, "", "b", "g"),
        ToolCallDelta(1, "{}"),
    ]


def test_arguments_that_came_with_the_start_are_kept_even_without_the_blocks_end() -> None:
    started = block(0, type="tool_use", id="a", name="f", input={"x": 1})
    stream, seen = feed(START, started, ended("tool_use"), STOP)
    assert seen[-1] == ToolCallDelta(0, '{"x":1}')
    assert stream.finish().choices[0].tool_calls == (ToolCallPart("a", "f", '{"x":1}'),)


def test_reasoning_is_sealed_by_its_signature() -> None:
    events = (
        block(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="h"),
        delta(0, type="thinking_delta", thinking="m"),
        delta(0, type="signature_delta", signature="seal"),
        end(0),
        block(1, type="redacted_thinking", data="secret"),
        end(1),
    )
    assert feed(START, *events)[1][1:] == [
        ReasoningDelta("h"),
        ReasoningDelta("m"),
        ReasoningDelta("", signature="seal"),
        ReasoningDelta("", redacted="secret"),
    ]
    choice = response(*events).choices[0]
    assert choice.reasoning == "hm"
    assert choice.reasoning_parts == (ReasoningPart("hm", "seal"), ReasoningPart("", None, "secret"))


def test_a_refusal_says_why() -> None:
    stream, _ = feed(START, ended("refusal", stop_details={"type": "refusal", "explanation": "policy"}), STOP)
    choice = stream.finish().choices[0]
    assert (choice.refusal, choice.finish_reason) == ("policy", "content_filter")


def test_later_counts_replace_earlier_ones_unless_they_are_null() -> None:
    update = ended("end_turn")
    update["usage"] = {
        "input_tokens": 6,
        "cache_read_input_tokens": None,
        "cache_creation_input_tokens": 3,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }
    whole = feed(START, update, STOP)[0].finish()
    assert whole.usage == Usage(11, 9, cached_input_tokens=2, cache_write_tokens=3, reasoning_tokens=4)


@pytest.mark.parametrize("name", [b"error", b""])
def test_an_error_event_ends_the_stream_whatever_it_is_called(name: bytes) -> None:
    stream, _ = feed(START)
    with pytest.raises(DialectError) as caught:
        stream.feed(name, b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}')
    assert caught.value.failure.failure == "overloaded"


def test_an_error_event_may_be_plain_text() -> None:
    with pytest.raises(DialectError, match="gone wrong"):
        feed(START)[0].feed(b"error", b"gone wrong")


def test_a_stream_without_its_end_or_its_start_has_failed() -> None:
    with pytest.raises(DialectError) as caught:
        feed(START, ended("end_turn"))[0].finish()
    assert caught.value.failure.failure == "incomplete"
    with pytest.raises(DialectError) as caught:
        feed(STOP)[0].finish()
    assert caught.value.failure.failure == "server_error"


def test_a_whole_body_reads_as_the_same_answer_streamed() -> None:
    body = {
        "type": "message",
        "id": "msg_1",
        "model": "claude",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "seal"},
            {"type": "text", "text": "Hello"},
            {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        ],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 9},
    }
    streamed = response(
        block(0, type="thinking", thinking="hm", signature="seal"),
        block(1, type="text", text="Hello"),
        block(2, type="tool_use", id="a", name="f", input={}),
        delta(2, type="input_json_delta", partial_json='{"x":1}'),
    )
    assert decode(body, {"request-id": "req_1"}) == streamed


@pytest.mark.parametrize(
    ("native", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("unheard_of", "stop"),
        (None, "stop"),
    ],
)
def test_stop_reasons_are_normalised_and_kept(native: str | None, ours: str) -> None:
    body = {"type": "message", "id": "m", "model": "c", "content": [], "stop_reason": native, "usage": None}
    choice = decode(body, {}).choices[0]
    assert (choice.finish_reason, choice.native_finish_reason) == (ours, native)


def test_a_whole_body_that_is_an_error_is_one() -> None:
    with pytest.raises(DialectError) as caught:
        decode({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, {})
    assert caught.value.failure.failure == "overloaded"
