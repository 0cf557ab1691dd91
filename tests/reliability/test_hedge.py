"""When a call is hedged, how often at most, and what is usual."""

from __future__ import annotations

from random import Random

import pytest

from app.config.spec import HedgeConfig
from app.core.chat import ChatRequest
from app.core.messages import user
from app.reliability.hedge import Usual
from app.reliability.quantiles import Quantiles


class Nobody:
    def attempt(self, outcome: str, latency_s: float, ttft_s: float | None) -> None:
        pass


def usual(**config: float) -> Usual:
    return Usual(Nobody(), HedgeConfig.model_validate({"enabled": True, **config}))


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95, 0.99])
def test_a_quantile_is_right_to_a_tenth(quantile: float) -> None:
    rng = Random(1)
    times = [rng.expovariate(2.0) for _ in range(2_000)]
    found = Quantiles()
    for time in times:
        found.add(time)
    recent = sorted(times[-1_000:])
    assert found.at(quantile) == pytest.approx(recent[int(quantile * len(recent))], rel=0.25)


def test_what_is_usual_follows_what_changes() -> None:
    found = Quantiles()
    for seconds in (0.1, 2.0):
        for _ in range(5_000):
            found.add(seconds)
    assert found.at(0.5) == pytest.approx(2.0, rel=0.1)


def test_it_goes_on_for_ever() -> None:
    found = Quantiles()
    for _ in range(300_000):
        found.add(0.2)
    assert found.at(0.95) == pytest.approx(0.2, rel=0.1)


def test_streams_and_whole_answers_have_times_of_their_own() -> None:
    times = usual(min_calls=5)
    stream, whole = ChatRequest("m", (user("x"),), incremental=True), ChatRequest("m", (user("x"),))
    for _ in range(5):
        times.attempt("ok", 3.0, 0.5)
        times.attempt("timeout", 60.0, None)
    assert times.delay_s(whole) is None
    assert times.delay_s(stream) == pytest.approx(0.5, rel=0.1)


def test_at_most_one_call_in_twenty_is_hedged() -> None:
    times, request = usual(), ChatRequest("m", (user("x"),))
    hedged = 0
    for _ in range(1_000):
        times.delay_s(request)
        hedged += times.take()
    assert hedged == 50
