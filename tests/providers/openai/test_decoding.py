"""Whole bodies as responses: what vendors do differently from the recorded ones."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.chat import Choice
from app.core.messages import ReasoningPart, ToolCallPart
from app.core.usage import NO_USAGE, Usage
from app.providers.http_provider import DialectError
from app.providers.openai.decoding import decode_response, usage_of


def choice_of(message: dict[str, Any], **more: Any) -> Choice:
    body = {"id": "r", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop", **more}]}
    return decode_response(body, {}).choices[0]


def failure_in(body: dict[str, Any]) -> str:
    with pytest.raises(DialectError) as caught:
        decode_response(body, {})
    return caught.value.failure.failure


def test_a_response_carries_its_frame() -> None:
    body = {"id": "r", "model": "m", "created": 5, "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    response = decode_response(body, {"x-request-id": "req_1"})
    assert (response.id, response.model, response.created, response.provider_request_id) == ("r", "m", 5, "req_1")
    assert response.usage == NO_USAGE


def test_several_choices_keep_their_indexes_also_when_they_have_none() -> None:
    rows = [{"message": {"content": text}, "finish_reason": "stop"} for text in "ab"]
    assert [(c.index, c.text) for c in decode_response({"choices": rows}, {}).choices] == [(0, "a"), (1, "b")]
    numbered = [{**row, "index": 1 - at} for at, row in enumerate(rows)]
    assert [(c.index, c.text) for c in decode_response({"choices": numbered}, {}).choices] == [(1, "a"), (0, "b")]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "yes", "reasoning_content": "because"},
        {"content": "yes", "reasoning": "because"},
        {"content": "yes", "reasoning": "because", "reasoning_content": "because"},
        {"content": "yes", "reasoning_details": [{"type": "reasoning.text", "text": "be"}, {"summary": "cause"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "because"}]}, {"type": "text", "text": "yes"}]},
    ],
)
def test_reasoning_is_found_wherever_a_vendor_puts_it(message: dict[str, Any]) -> None:
    choice = choice_of(message)
    assert (choice.text, choice.reasoning) == ("yes", "because")
    assert choice.reasoning_parts == (ReasoningPart("because"),)


def test_a_refusal_is_no_text() -> None:
    choice = choice_of({"content": None, "refusal": "I cannot"})
    assert (choice.text, choice.refusal) == ("", "I cannot")


def test_tool_calls_without_id_or_with_arguments_as_object_are_read() -> None:
    calls = [{"function": {"name": "add", "arguments": {"a": 1}}}, {"id": "", "function": {"name": "now", "arguments": None}}]
    choice = choice_of({"content": None, "tool_calls": calls})
    assert choice.tool_calls == (ToolCallPart("call_0_r", "add", '{"a":1}'), ToolCallPart("call_1_r", "now", ""))
    assert choice.finish_reason == "tool_calls"
    assert choice.native_finish_reason == "stop"


def test_the_legacy_function_call_is_a_tool_call() -> None:
    choice = choice_of({"function_call": {"name": "add", "arguments": "{}"}}, finish_reason="function_call")
    assert choice.tool_calls == (ToolCallPart("call_0_r", "add", "{}"),)
    assert choice.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("native", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("model_length", "length"),
        ("MAX_TOKENS", "length"),
        ("end_turn", "stop"),
        ("sensitive", "content_filter"),
        ("something_new", "stop"),
        (None, "stop"),
        ("", "stop"),
    ],
)
def test_finish_reasons_are_four_and_the_native_word_is_kept(native: str | None, ours: str) -> None:
    choice = choice_of({"content": "x"}, finish_reason=native)
    assert choice.finish_reason == ours
    assert choice.native_finish_reason == (native or None)


@pytest.mark.parametrize(
    ("native", "failure"), [("error", "server_error"), ("insufficient_system_resource", "overloaded"), ("abort", "incomplete")]
)
def test_a_finish_reason_that_means_a_failure_is_one(native: str, failure: str) -> None:
    assert failure_in({"choices": [{"message": {"content": "half"}, "finish_reason": native}]}) == failure


def test_an_error_inside_a_choice_is_one() -> None:
    error = {"code": 502, "message": "upstream"}
    assert failure_in({"choices": [{"message": {"content": ""}, "finish_reason": "error", "error": error}]}) == "server_error"


def test_a_body_without_choices_is_a_failure() -> None:
    assert failure_in({"id": "r", "choices": []}) == "server_error"
    assert failure_in({"object": "error", "message": "The model is overloaded"}) == "overloaded"


def test_logprobs_keep_openais_shape_and_empty_ones_are_none() -> None:
    tokens = [{"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": []}]
    assert choice_of({"content": "a"}, logprobs={"content": tokens, "refusal": None}).logprobs == {"content": tokens}
    assert choice_of({"content": "a"}, logprobs={"content": None}).logprobs is None


@pytest.mark.parametrize(
    ("sent", "usage"),
    [
        (None, NO_USAGE),
        ({"prompt_tokens": 3, "completion_tokens": None, "total_tokens": None}, Usage(3, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4}, Usage(9, 2, cached_input_tokens=4)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 4}, Usage(9, 2, cached_input_tokens=4)),
        ({"prompt_tokens": 7, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 163}}, Usage(7, 1, 7)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3},
            },
            Usage(9, 1, 2, 3),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 14,
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            Usage(9, 5, reasoning_tokens=4),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 18,
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            Usage(9, 9, reasoning_tokens=4),
        ),
    ],
)
def test_usage_has_one_meaning(sent: dict[str, Any] | None, usage: Usage) -> None:
    assert usage_of(sent) == usage
