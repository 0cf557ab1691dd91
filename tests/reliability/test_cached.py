"""Which questions are the same, and which answers are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.chat import CallContext, ChatRequest, ChatResponse, Choice, Generation, NamedTool, ResponseFormat, ToolDefinition
from app.core.messages import ImagePart, Message, TextPart, ToolCallPart, assistant, user
from app.core.models import ModelProfile
from app.core.usage import Usage
from app.reliability.cached import digest, keepable, packed, unpacked

PROFILE = ModelProfile("fast", "p", "m")
ASKED = ChatRequest("m", (user("hi"),))
OTHERS = [
    replace(ASKED, model="n"),
    replace(ASKED, messages=(user("ho"),)),
    replace(ASKED, messages=(user("hi"), user("hi"))),
    replace(ASKED, messages=(assistant("hi"),)),
    replace(ASKED, messages=(Message("user", (TextPart("hi"), ImagePart(url="https://x"))),)),
    replace(ASKED, generation=Generation(temperature=0.5)),
    replace(ASKED, generation=Generation(seed=1)),
    replace(ASKED, generation=Generation(response_format=ResponseFormat("json_object"))),
    replace(ASKED, tools=(ToolDefinition("f"),)),
    replace(ASKED, tools=(ToolDefinition("f"),), tool_choice=NamedTool("f")),
    replace(ASKED, tools=(ToolDefinition("f"),), tool_choice="required"),
    replace(ASKED, extra={"top_k": 1}),
    replace(ASKED, context=CallContext(replicate=1)),
]


def test_whatever_may_change_the_answer_makes_another_question() -> None:
    names = [digest(PROFILE, request) for request in (ASKED, *OTHERS)]
    assert len(set(names)) == len(names)
    assert digest(replace(PROFILE, provider="q"), ASKED) not in names


def test_who_asks_and_how_does_not() -> None:
    same = replace(ASKED, incremental=True, context=CallContext("run", "req", "t", deadline=5.0, cache="use"))
    assert digest(PROFILE, same) == digest(PROFILE, ASKED)
    assert digest(replace(PROFILE, name="other alias"), ASKED) == digest(PROFILE, ASKED)


@given(st.dictionaries(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), max_size=6), st.randoms())
def test_the_order_of_members_does_not_count(extra: dict[str, int], rng: Any) -> None:
    items = list(extra.items())
    rng.shuffle(items)
    assert digest(PROFILE, replace(ASKED, extra=extra)) == digest(PROFILE, replace(ASKED, extra=dict(items)))


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        (Choice(text="x"), True),
        (Choice(tool_calls=(ToolCallPart("1", "f", "{}"),), finish_reason="tool_calls"), True),
        (Choice(text="x", finish_reason="length"), False),
        (Choice(finish_reason="content_filter"), False),
        (Choice(refusal="no"), False),
    ],
)
def test_only_whole_and_unfiltered_answers_are_kept(choice: Choice, kept: bool) -> None:
    assert keepable(ChatResponse("r", "m", (Choice(text="fine"), choice))) is kept


def test_an_answer_comes_back_as_it_was() -> None:
    choice = Choice(1, "é", "because", "", (ToolCallPart("1", "f", '{"a": 1}'),), "tool_calls", "tool_use", {"content": []})
    response = ChatResponse("r", "m", (Choice(), choice), Usage(1, 2, 3, 4, 5), 7)
    assert unpacked(packed(response)) == response
