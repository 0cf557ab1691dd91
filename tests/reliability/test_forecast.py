from __future__ import annotations

from collections.abc import AsyncIterator

import hypothesis.strategies as st
import pytest
from hypothesis import given

from app.core.budgets import nano_usd
from app.core.chat import ChatRequest, Choice, Generation, ResponseFormat, ToolDefinition
from app.core.messages import DocumentPart, ImagePart, Message, TextPart, ToolCallPart, ToolResultPart, user
from app.core.model_events import ModelEvent
from app.core.models import Model, ModelProfile
from app.core.usage import FlatPrice, Usage
from app.reliability.forecast import (
    CALL_TOKENS,
    DOCUMENT_TOKENS,
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    REPAIR_TOKENS,
    cut_off,
    forecast,
    input_bound,
    planned_call,
    worst_nano_usd,
)

RATES = st.one_of(st.none(), st.floats(0, 500))


def model(name: str = "m", **known: object) -> Model:
    async def never(_: ChatRequest) -> AsyncIterator[ModelEvent]:
        raise AssertionError("a forecast calls nothing")
        yield

    return Model(ModelProfile(name, "p", name, **known), never)  # type: ignore[arg-type]


@given(st.text())
def test_a_text_never_has_more_tokens_than_bytes(text: str) -> None:
    assert input_bound([user(text)]) == CALL_TOKENS + MESSAGE_TOKENS + len(text.encode("utf-8", "surrogatepass"))


def test_a_call_that_is_to_give_json_may_be_made_twice() -> None:
    once = planned_call(model(), [user("n?")], (), Generation(max_tokens=100), max_tokens=1)
    form = ResponseFormat("json_object")
    twice = planned_call(model(), [user("n?")], (), Generation(max_tokens=100, response_format=form), max_tokens=1)
    assert twice.output_tokens == 200
    assert twice.input_tokens == 2 * once.input_tokens + 100 + REPAIR_TOKENS


def test_every_kind_of_part_counts() -> None:
    parts = (ImagePart(url="https://x"), DocumentPart(data="x"), ToolCallPart("1", "f", "{}"))
    result = ToolResultPart("1", (TextPart("ok"), ImagePart(url="https://x")))
    tool = ToolDefinition("f", "does", {"type": "object"})
    bound = input_bound([Message("user", parts, "é"), Message("tool", (result,))], [tool])
    assert bound == (
        CALL_TOKENS
        + (MESSAGE_TOKENS + 2)
        + IMAGE_TOKENS
        + DOCUMENT_TOKENS
        + (MESSAGE_TOKENS + 1 + 2)
        + MESSAGE_TOKENS
        + (MESSAGE_TOKENS + 2 + IMAGE_TOKENS)
        + (MESSAGE_TOKENS + 1 + 4 + len('{"type":"object"}'))
    )


@given(
    st.tuples(st.floats(0, 500), st.floats(0, 500), RATES, RATES, RATES),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.data(),
)
def test_no_usage_within_the_bounds_costs_more_than_the_worst(
    rates: tuple[float, float, float | None, float | None, float | None], sent: int, written: int, data: st.DataObject
) -> None:
    price = FlatPrice(*rates)
    used_in, used_out = data.draw(st.integers(0, sent)), data.draw(st.integers(0, written))
    cached = data.draw(st.integers(0, used_in))
    made = data.draw(st.integers(0, used_in - cached))
    usage = Usage(used_in, used_out, cached, made, data.draw(st.integers(0, used_out)))
    worst = worst_nano_usd(price, sent, written)
    assert worst is not None
    assert nano_usd(price.cost(usage)) <= worst + 1  # of a float


def test_a_model_cannot_read_or_write_more_than_it_can() -> None:
    call = planned_call(
        model(context_window=50, max_output_tokens=10), [user("x" * 500)], (), Generation(max_tokens=100, n=2), max_tokens=7
    )
    assert (call.input_tokens, call.output_tokens) == (50, 20)


def test_what_does_not_say_how_much_to_write_gets_the_configured_bound() -> None:
    call = planned_call(model(), [user("x")], (), Generation(), max_tokens=7)
    assert call.output_tokens == 7


def test_quoted_answers_count_for_what_their_models_may_write() -> None:
    alone = planned_call(model(), [user("x")], (), Generation(max_tokens=100), max_tokens=0)
    quoting = planned_call(
        model(), [user("x")], (), Generation(max_tokens=100), max_tokens=0, quoted_tokens=300, prompt_bytes=50
    )
    assert quoting.input_tokens - alone.input_tokens == 2 * 300 + 50


def test_the_price_of_a_plan_is_not_known_where_that_of_a_model_is_not() -> None:
    priced = planned_call(model("a", price=FlatPrice(1, 1)), [user("x")], (), Generation(max_tokens=10), max_tokens=0)
    other = planned_call(model("b"), [user("x")], (), Generation(max_tokens=10), max_tokens=0)
    found = forecast([priced, other, other])
    assert (found.nano_usd, found.unpriced, found.tokens) == (None, ("b",), priced.tokens + 2 * other.tokens)
    assert forecast([priced, priced]).nano_usd == 2 * (priced.nano_usd or 0) > 0


def test_the_least_is_the_cheapest_call_of_the_first_stage() -> None:
    def call(price: float, stage: int, tokens: int) -> object:
        many = Generation(max_tokens=tokens)
        return planned_call(model(price=FlatPrice(0, price)), [user("x")], (), many, max_tokens=0, stage=stage)

    found = forecast([call(10, 1, 50), call(2, 1, 100), call(1, 2, 1)])  # type: ignore[list-item]
    assert (found.least.tokens, found.least.nano_usd) == (found.calls[0].tokens, 200_000)


@pytest.mark.parametrize(("said", "tokens"), [("", 0), ("12345678", 2), ("123456789", 3)])
def test_an_answer_that_was_cut_off_is_estimated_by_its_bytes(said: str, tokens: int) -> None:
    used = cut_off([user("x" * 400)], Choice(0, said))
    assert (used.output_tokens, used.input_tokens) == (tokens, (400 + CALL_TOKENS + MESSAGE_TOKENS) // 4)
