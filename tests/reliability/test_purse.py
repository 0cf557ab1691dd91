from __future__ import annotations

from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import given

from app.core.budgets import Amount
from app.core.chat import ChatRequest, Generation
from app.core.errors import BudgetExceeded
from app.core.messages import user
from app.core.models import ModelProfile
from app.core.usage import FlatPrice, Usage
from app.reliability.forecast import input_bound
from app.reliability.purse import Bounds, PurseDraw, RunPurse

MODEL = ModelProfile("m", "p", "m", price=FlatPrice(1.0, 10.0))
MESSAGES = (user("x" * 20),)
KNOWN = input_bound(MESSAGES)


def request(max_tokens: int) -> ChatRequest:
    return ChatRequest("m", MESSAGES, Generation(max_tokens=max_tokens))


def purse(bounds: Bounds, *, strict: bool) -> RunPurse:
    return RunPurse(bounds, strict=strict, ends_run=not strict, known_tokens=KNOWN)


@dataclass
class Under:
    """Calls under way, each with its most tokens."""

    open: list[tuple[PurseDraw, int]] = field(default_factory=list)


@given(st.integers(100, 3_000), st.lists(st.tuples(st.integers(1, 900), st.booleans(), st.floats(0, 1)), max_size=30))
def test_a_strict_purse_never_gives_out_more_than_it_holds(size: int, steps: list[tuple[int, bool, float]]) -> None:
    held, calls = purse(Bounds(tokens=size), strict=True), Under()
    for tokens, ends, share in steps:
        if ends and calls.open:
            draw, most = calls.open.pop(0)
            draw.book(Usage(KNOWN, int(most * share)), None)
        else:
            try:
                calls.open.append((held.draw(request(tokens), MODEL), tokens))
            except BudgetExceeded:
                continue
        assert held.spent.tokens + sum(KNOWN + most for _, most in calls.open) <= size


def test_a_plan_that_was_reserved_whole_stops_when_more_was_really_used() -> None:
    held = purse(Bounds(tokens=300), strict=False)
    first, second = held.draw(request(200), MODEL), held.draw(request(200), MODEL)
    first.book(Usage(100, 150), None)
    held.draw(request(200), MODEL)
    second.book(Usage(100, 150), None)
    with pytest.raises(BudgetExceeded, match="the run has used 500 tokens of 300, its budget"):
        held.draw(request(1), MODEL)


def test_dollars_bound_it_as_well() -> None:
    held = purse(Bounds(nano_usd=2_000_000), strict=True)
    held.draw(request(100), MODEL).book(Usage(100, 90), 0.001)
    with pytest.raises(BudgetExceeded, match=r"the call would take the run to \$0\.0021"):
        held.draw(request(100), MODEL)
    held.draw(request(80), MODEL)


def test_a_call_that_is_booked_twice_counts_once() -> None:
    held = purse(Bounds(tokens=1_000), strict=True)
    draw = held.draw(request(100), MODEL)
    draw.book(Usage(10, 5), 0.5)
    draw.book(Usage(10, 5), 0.5)
    assert (held.spent.tokens, held.spent.usd) == (15, 0.5)


def test_what_models_wrote_counts_two_bytes_a_token() -> None:
    held = purse(Bounds(tokens=KNOWN + 500 + 1), strict=True)
    held.draw(ChatRequest("m", (user("x" * 1_020),), Generation(max_tokens=1)), MODEL)
    with pytest.raises(BudgetExceeded):
        purse(Bounds(tokens=KNOWN + 500), strict=True).draw(
            ChatRequest("m", (user("x" * 1_020),), Generation(max_tokens=1)), MODEL
        )


async def test_a_purse_inside_of_another_is_bounded_by_both() -> None:
    whole = RunPurse(Bounds(tokens=1_000), strict=True, ends_run=True, known_tokens=KNOWN)
    parts = [
        RunPurse(Bounds(), strict=True, ends_run=True, known_tokens=KNOWN, own=Bounds(tokens=600), reserve=whole.reserve)
        for _ in range(2)
    ]
    first = await parts[0].reserve(Amount(400))
    assert first is not None
    assert await parts[0].reserve(Amount(300)) is None  # over its own, with what is under way
    assert await parts[1].reserve(Amount(601)) is None
    second = await parts[1].reserve(Amount(600))
    assert second is not None
    assert await parts[0].reserve(Amount(100)) is None  # the whole is given out
    first.settle_later(Amount(100))
    assert await parts[0].reserve(Amount(300)) is not None
    second.settle_later(Amount(0))
    assert whole.spent == Amount(100)


async def test_what_the_whole_does_not_give_is_not_held_against_the_part() -> None:
    whole = RunPurse(Bounds(tokens=100), strict=True, ends_run=True, known_tokens=KNOWN)
    part = RunPurse(Bounds(), strict=True, ends_run=True, known_tokens=KNOWN, own=Bounds(tokens=500), reserve=whole.reserve)
    assert await part.reserve(Amount(400)) is None
    assert await part.reserve(Amount(100)) is not None
    assert await part.reserve(Amount(1)) is None
