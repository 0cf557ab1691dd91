from __future__ import annotations

import json

import pytest

from app.core.chat import ChatResponse
from app.core.messages import ReasoningPart, ToolCallPart
from app.core.model_events import ReasoningDelta, ResponseFinished, ResponseStarted, TextDelta, ToolCallDelta
from app.core.usage import Usage
from app.providers.gemini.responses import GeminiDecoder, decode_response
from app.providers.http_provider import DialectError


def candidate(*parts: dict, finish: str | None = "STOP", **more) -> dict:
    return {"content": {"role": "model", "parts": list(parts)}, **({"finishReason": finish} if finish else {}), **more}


def answer(*candidates: dict, **more) -> dict:
    return {"candidates": list(candidates), "responseId": "r1", "modelVersion": "gemini-x", **more}


def decode(*candidates: dict, **more) -> ChatResponse:
    return decode_response(answer(*candidates, **more), {})


def stream(*chunks: dict, n: int = 1) -> tuple[list, ChatResponse]:
    decoder = GeminiDecoder({}, model="asked", choices=n)
    events = [event for chunk in chunks for event in decoder.feed(b"", json.dumps(chunk).encode())]
    for event in events:
        if not isinstance(event, (ResponseStarted, ResponseFinished)):
            decoder.builder.add(event)
    return events, decoder.finish()


def failure_of(*chunks: dict, n: int = 1) -> str:
    with pytest.raises(DialectError) as raised:
        stream(*chunks, n=n)
    return raised.value.failure.failure


def test_thoughts_are_reasoning_and_a_texts_signature_seals_them() -> None:
    response = decode(candidate({"text": "hmm", "thought": True}, {"text": "yes", "thoughtSignature": "seal"}))

    (choice,) = response.choices
    assert (choice.text, choice.reasoning) == ("yes", "hmm")
    assert choice.reasoning_parts == (ReasoningPart("hmm", "seal"),)
    assert (response.id, response.model, response.provider_request_id) == ("r1", "gemini-x", "r1")


def test_calls_without_an_id_get_one_that_repeats_neither_here_nor_in_the_conversation() -> None:
    call = {"functionCall": {"name": "f", "args": {"a": [1]}}}
    sealed = {**call, "thoughtSignature": "seal"}

    first, again, other = (
        decode_response({**answer(candidate(sealed, call)), "responseId": name}, {}) for name in ("r1", "r1", "r2")
    )

    assert first == again
    assert first.choices[0].finish_reason == "tool_calls"
    assert first.choices[0].tool_calls == (
        ToolCallPart("call_r1_0", "f", '{"a":[1]}', "seal"),
        ToolCallPart("call_r1_1", "f", '{"a":[1]}'),
    )
    assert {call.id for call in other.choices[0].tool_calls}.isdisjoint(call.id for call in first.choices[0].tool_calls)


def test_an_id_that_the_vendor_gives_twice_is_told_apart() -> None:
    call = {"functionCall": {"name": "f", "id": "same"}}

    (choice,) = decode(candidate(call, call)).choices

    assert [call.id for call in choice.tool_calls] == ["same", "samex"]


@pytest.mark.parametrize(
    ("native", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        *((reason, "content_filter") for reason in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
        *((reason, "content_filter") for reason in ("IMAGE_SAFETY", "MODEL_ARMOR", "LANGUAGE", "OTHER")),
        ("SOMETHING_NEW", "stop"),
    ],
)
def test_finish_reasons_are_normalised_and_the_native_one_is_kept(native: str, finish: str) -> None:
    (choice,) = decode(candidate({"text": "x"}, finish=native)).choices

    assert (choice.finish_reason, choice.native_finish_reason) == (finish, native)


def test_a_blocked_prompt_is_a_filtered_answer() -> None:
    response = decode_response({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}, {})

    (choice,) = response.choices
    assert (choice.text, choice.finish_reason, choice.native_finish_reason) == ("", "content_filter", "SAFETY")
    assert response.usage == Usage(input_tokens=4)


def test_an_undeclared_call_is_shown_and_a_broken_one_has_failed() -> None:
    call = {"functionCall": {"name": "ghost"}}

    (choice,) = decode(candidate(call, finish="UNEXPECTED_TOOL_CALL")).choices
    with pytest.raises(DialectError) as raised:
        decode({"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "Malformed function call: f("})

    assert (choice.finish_reason, choice.native_finish_reason) == ("tool_calls", "UNEXPECTED_TOOL_CALL")
    assert raised.value.failure.failure == "invalid_output"
    assert "Malformed function call: f(" in raised.value.failure.message


def test_a_broken_choice_does_not_spoil_a_good_one() -> None:
    good, broken = decode(candidate({"text": "a"}), {"index": 1, "finishReason": "MALFORMED_FUNCTION_CALL"}).choices

    assert (good.text, broken.native_finish_reason) == ("a", "MALFORMED_FUNCTION_CALL")


def test_usage_counts_thoughts_as_output_and_tool_prompts_as_input() -> None:
    counts = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 5,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 3,
        "thoughtsTokenCount": 2,
    }

    assert decode(candidate({"text": "x"}), usageMetadata=counts).usage == Usage(15, 5, 4, 0, 2)


def test_candidates_become_choices() -> None:
    choices = decode(candidate({"text": "a"}), candidate({"text": "b"}, finish="MAX_TOKENS", index=1)).choices

    assert [(choice.index, choice.text, choice.finish_reason) for choice in choices] == [(0, "a", "stop"), (1, "b", "length")]


def test_log_probabilities_take_openais_shape() -> None:
    result = {
        "chosenCandidates": [{"token": "é", "logProbability": -0.1}],
        "topCandidates": [{"candidates": [{"token": "e", "logProbability": -2.0}]}],
    }

    (choice,) = decode(candidate({"text": "é"}, logprobsResult=result)).choices

    assert choice.text == "é"
    assert choice.logprobs == {
        "content": [
            {
                "token": "é",
                "logprob": -0.1,
                "bytes": [195, 169],
                "top_logprobs": [{"token": "e", "logprob": -2.0, "bytes": [101]}],
            }
        ]
    }


@pytest.mark.parametrize(("created", "expected"), [("2026-03-05T22:50:32.281553Z", 1772751032), ("soon", 0), (None, 0)])
def test_the_time_of_creation_is_read_where_there_is_one(created: str | None, expected: int) -> None:
    assert decode(candidate({"text": "x"}), createTime=created).created == expected


@pytest.mark.parametrize("body", [{}, {"candidates": []}, {"usageMetadata": {"promptTokenCount": 1}}, []])
def test_an_answer_without_a_candidate_is_incomplete(body: object) -> None:
    with pytest.raises(DialectError) as raised:
        decode_response(body, {})

    assert raised.value.failure.failure == "incomplete"


def test_a_whole_answer_needs_no_finish_reason_but_a_list_of_chunks_does() -> None:
    body = answer(candidate({"text": "x"}, finish=None))

    assert decode_response(body, {}).choices[0].finish_reason == "stop"
    with pytest.raises(DialectError):
        decode_response([body], {})


def test_an_error_in_a_whole_answer_is_a_failure() -> None:
    with pytest.raises(DialectError) as raised:
        decode_response([answer(candidate({"text": "x"})), {"error": {"code": 503, "status": "UNAVAILABLE"}}], {})

    assert raised.value.failure.failure == "overloaded"


def test_a_stream_is_told_in_events() -> None:
    events, response = stream(
        answer(candidate({"text": "a", "thought": True}, finish=None)),
        answer(candidate({"text": "b"}, finish=None), usageMetadata={"promptTokenCount": 1}),
        answer(candidate({"functionCall": {"name": "f", "id": "1"}, "thoughtSignature": "s"}, finish=None)),
        answer(candidate({"text": ""}), usageMetadata={"promptTokenCount": 1, "candidatesTokenCount": 2}),
    )

    assert events == [
        ResponseStarted("r1", "gemini-x"),
        ReasoningDelta("a"),
        TextDelta("b"),
        ToolCallDelta(0, "{}", "1", "f", signature="s"),
    ]
    assert response.usage == Usage(1, 2)
    assert response.choices[0].finish_reason == "tool_calls"


def test_text_after_a_first_finish_reason_and_usage_after_the_last_are_not_lost() -> None:
    _, response = stream(
        answer(candidate({"text": "a"})),
        answer(candidate({"text": "b"}, finish="MAX_TOKENS")),
        {"usageMetadata": {"candidatesTokenCount": 2}},
    )

    assert (response.choices[0].text, response.choices[0].finish_reason) == ("ab", "length")
    assert response.usage == Usage(0, 2)


def test_a_stream_is_whole_only_when_every_choice_asked_for_has_finished() -> None:
    first = answer(candidate({"text": "a"}))
    second = answer(candidate({"text": "b"}, finish=None, index=1))

    assert failure_of() == "incomplete"
    assert failure_of(answer(candidate({"text": "a"}, finish=None))) == "incomplete"
    assert failure_of(answer(candidate({"text": "a"}, finish="FINISH_REASON_UNSPECIFIED"))) == "incomplete"
    assert failure_of(first, n=2) == "incomplete"
    assert failure_of(first, second, n=2) == "incomplete"
    assert len(stream(first, second, answer(candidate(index=1)), n=2)[1].choices) == 2


def test_a_prompt_blocked_in_a_stream_ends_it() -> None:
    begun = answer(candidate({"text": "a"}, finish=None))
    block = {"promptFeedback": {"blockReason": "JAILBREAK"}}

    for chunks, text in (([block], ""), ([begun, block, {"promptFeedback": {}}], "a")):
        (choice,) = stream(*chunks)[1].choices
        assert (choice.text, choice.finish_reason, choice.native_finish_reason) == (text, "content_filter", "JAILBREAK")


def test_an_event_that_is_no_json_is_a_failure() -> None:
    with pytest.raises(DialectError) as raised:
        GeminiDecoder({}).feed(b"", b"{half")

    assert raised.value.failure.failure == "server_error"
