"""A response and its events are the same thing told twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.chat import ChatResponse, Choice
from app.core.model_events import (
    Delta,
    ReasoningDelta,
    RefusalDelta,
    ResponseBuilder,
    ResponseFinished,
    ResponseStarted,
    TextDelta,
    ToolCallDelta,
    deltas,
    fold,
    unfold,
)
from tests.core.made import responses


def bare(response: ChatResponse) -> ResponseFinished:
    """The last event as it would be if it said nothing of the content: what is folded must come from the deltas."""
    kept = [
        Choice(c.index, finish_reason=c.finish_reason, native_finish_reason=c.native_finish_reason) for c in response.choices
    ]
    return ResponseFinished(replace(response, choices=tuple(kept)))


@given(responses())
def test_folding_what_was_unfolded_gives_the_response(response: ChatResponse) -> None:
    *told, last = unfold(response)
    assert last == ResponseFinished(response)
    assert fold([*told, bare(response)]) == response


@given(responses())
def test_a_unary_answer_is_its_last_event_alone(response: ChatResponse) -> None:
    assert fold([ResponseFinished(response)]) is response


def pieces(text: str, draw: st.DrawFn) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def split(delta: Delta, draw: st.DrawFn) -> Iterator[Delta]:
    """`delta` in pieces: what names a tool call is on the first, what seals reasoning on the last, logprobs anywhere."""
    match delta:
        case TextDelta():
            parts = pieces(delta.text, draw)
            at = draw(st.integers(0, len(parts) - 1))
            for number, text in enumerate(parts):
                yield TextDelta(text, delta.choice, delta.logprobs if number == at else None)
        case ReasoningDelta():
            *heads, last = pieces(delta.text, draw)
            yield from (ReasoningDelta(text, delta.choice) for text in heads)
            yield ReasoningDelta(last, delta.choice, delta.signature, delta.redacted)
        case RefusalDelta():
            yield from (RefusalDelta(text, delta.choice) for text in pieces(delta.text, draw))
        case ToolCallDelta():
            first, *more = pieces(delta.arguments, draw)
            yield replace(delta, arguments=first)
            yield from (ToolCallDelta(delta.index, text, choice=delta.choice) for text in more)


@given(responses(), st.data())
def test_deltas_cut_anywhere_and_told_in_turns_fold_to_the_same(response: ChatResponse, data: Any) -> None:
    draw = data.draw
    lanes = [[piece for delta in deltas(choice) for piece in split(delta, draw)] for choice in response.choices]
    told: list[Delta] = []
    while any(lanes):
        lane = draw(st.sampled_from([lane for lane in lanes if lane]))
        told.append(lane.pop(0))
    folded = fold([ResponseStarted(response.id, response.model), *told, bare(response)])
    assert folded == response


def test_tool_calls_told_in_turns_are_put_in_the_order_of_their_index() -> None:
    builder = ResponseBuilder()
    for index, text in ((1, "{"), (0, "[1"), (1, "}"), (0, "]")):
        builder.add(ToolCallDelta(index, text, f"id{index}", f"tool{index}"))
    assert [(call.id, call.arguments) for call in builder.choice().tool_calls] == [("id0", "[1]"), ("id1", "{}")]


def test_log_probabilities_of_several_deltas_are_joined() -> None:
    builder = ResponseBuilder()
    builder.add(TextDelta("a", logprobs={"content": [1], "refusal": None}))
    builder.add(TextDelta("b", logprobs={"content": [2]}))
    assert builder.choice().logprobs == {"content": [1, 2]}


def test_what_has_not_been_said_is_an_empty_choice_and_indexes_name_those_that_have() -> None:
    builder = ResponseBuilder()
    builder.add(TextDelta("x", 2))
    assert builder.indexes() == (2,)
    assert builder.choice(1) == Choice(1)


def test_a_stream_that_does_not_finish_is_no_response() -> None:
    with pytest.raises(ValueError, match="ResponseFinished"):
        fold([ResponseStarted("r", "m"), TextDelta("x")])
