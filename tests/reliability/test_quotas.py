"""Laws of the limits, on the pure rules. `tests/state/test_ledger_against_model.py` holds the scripts to the same rules."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from app.core.budgets import NOTHING, Amount, Claim, Limit
from app.reliability.quotas import MOST_OVER, Counters

START_US = 1_700_000_000_000_000
SECOND_US = 1_000_000


def claims(limit: Limit, number: int, tokens: int = 1, *, least: int | None = None) -> Claim:
    return Claim(f"run_{number}", "t", (limit,), Amount(tokens, tokens), None if least is None else Amount(least, least))


@given(st.integers(1, 50), st.lists(st.integers(0, 20_000), min_size=1, max_size=150))
def test_no_stretch_of_time_admits_more_than_the_limit_and_its_rate(size: int, gaps_ms: list[int]) -> None:
    counters, limit = Counters(lease_s=30), Limit("requests_per_minute", "tenant", size)
    now, admitted = START_US, []
    for number, gap in enumerate(gaps_ms):
        now += gap * 1000
        verdict = counters.admit(claims(limit, number), now)
        if verdict and not verdict.refused_by:
            admitted.append(now)
    for first, since in enumerate(admitted):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= size + size * (admitted[last] - since) / (60 * SECOND_US)


@given(st.integers(1, 200), st.integers(1, 100), st.integers(0, 59_999))
def test_who_waits_as_long_as_told_is_admitted(size: int, tokens: int, gap_ms: int) -> None:
    counters, limit = Counters(lease_s=30), Limit("tokens_per_minute", "tenant", size)
    counters.admit(claims(limit, 0, size), START_US)
    now = START_US + gap_ms * 1000
    refused = counters.admit(claims(limit, 1, tokens), now)
    assert refused
    if tokens > size:
        assert refused.refused_by
        assert refused.retry_after_s is None
    elif refused.refused_by:
        assert refused.retry_after_s is not None
        later = counters.admit(claims(limit, 1, tokens), now + round(refused.retry_after_s * SECOND_US) + 1)
        assert later
        assert not later.refused_by


@given(
    st.integers(1, 500),
    st.lists(st.tuples(st.integers(1, 300), st.floats(0, 1), st.booleans(), st.integers(0, 600)), max_size=60),
)
def test_a_day_never_books_more_than_it_holds(size: int, steps: list[tuple[int, float, bool, int]]) -> None:
    counters, limit = Counters(lease_s=30), Limit("tokens_per_day", "tenant", size)
    now, booked, held = START_US, 0, dict[int, tuple[int, float]]()
    for number, (tokens, share, settles, gap_s) in enumerate(steps):
        now += gap_s * SECOND_US
        if settles and held:
            which, (was, part) = held.popitem()
            used = int(was * part)
            counters.settle(claims(limit, which, was), Amount(used, used), now)
            booked += used
        else:
            verdict = counters.admit(claims(limit, number, tokens), now)
            if verdict and not verdict.refused_by:
                held[number] = (tokens, share)
        if now // (86_400 * SECOND_US) == START_US // (86_400 * SECOND_US):
            assert booked + sum(was for was, _ in held.values()) <= size


def test_tokens_that_drained_meanwhile_are_not_given_back_twice() -> None:
    counters, limit = Counters(lease_s=30), Limit("tokens_per_minute", "tenant", 1_000)
    counters.admit(claims(limit, 1, 1_000), START_US)
    later = START_US + 60 * SECOND_US
    counters.admit(claims(limit, 2, 1_000), later)
    counters.settle(claims(limit, 1, 1_000), NOTHING, later)
    refused = counters.admit(claims(limit, 3, 1), later)
    assert refused
    assert refused.refused_by == limit


def test_a_part_is_granted_where_a_part_will_do() -> None:
    counters, limit = Counters(lease_s=30), Limit("tokens_per_day", "tenant", 100)
    counters.admit(claims(limit, 1, 70), START_US)
    part = counters.admit(claims(limit, 2, 80, least=10), START_US)
    assert part
    assert (part.granted.tokens, part.refused_by) == (30, None)
    less = counters.admit(claims(limit, 3, 80, least=10), START_US)
    assert less
    assert less.refused_by == limit


def test_a_run_that_is_not_renewed_makes_room_and_one_that_is_does_not() -> None:
    counters, limit = Counters(lease_s=30), Limit("concurrent_runs", "tenant", 1)
    counters.admit(claims(limit, 1), START_US)
    assert counters.renew(claims(limit, 1), START_US + 20 * SECOND_US)
    refused = counters.admit(claims(limit, 2), START_US + 40 * SECOND_US)
    assert refused
    assert refused.refused_by == limit
    later = counters.admit(claims(limit, 2), START_US + 51 * SECOND_US)
    assert later
    assert not later.refused_by


def test_only_so_many_runs_that_are_over_are_remembered() -> None:
    counters, limit = Counters(lease_s=30), Limit("requests_per_minute", "tenant", 10**6)
    for number in range(MOST_OVER + 1):
        counters.admit(claims(limit, number), START_US)
        counters.settle(claims(limit, number), NOTHING, START_US)
    assert counters.admit(claims(limit, MOST_OVER), START_US) is None
    assert counters.admit(claims(limit, 1), START_US) is None
    assert counters.admit(claims(limit, 0), START_US) is not None
