"""How models have been doing."""

from __future__ import annotations

from random import Random

import pytest

from app.config.spec import CircuitBreakerConfig
from app.core.models import ModelProfile
from app.reliability.breakers import Breakers
from app.reliability.circuit import Tally, rules_of
from app.reliability.standings import HALF_LIFE_S, PRIOR, LocalStandings
from tests.reliability.turned import TurnedClock

ONE, TWO = ModelProfile("one", "p", "m1"), ModelProfile("two", "p", "m2")


def test_who_fails_stands_lower_and_gets_a_new_chance() -> None:
    clock = TurnedClock()
    standings = LocalStandings(clock)
    assert standings.of(ONE).success == PRIOR
    for _ in range(5):
        standings.record(ONE, ok=False)
    standings.record(TWO, ok=True)
    assert standings.of(ONE).success == pytest.approx(0.45)
    assert standings.of(TWO).success > PRIOR
    clock.time += 10 * HALF_LIFE_S
    assert standings.of(ONE).success == pytest.approx(PRIOR, abs=0.01)


def test_an_open_breaker_is_told() -> None:
    clock = TurnedClock()
    breakers = Breakers(None, clock, Random(1))
    breaker = breakers.of("p", "m1", "", rules_of(CircuitBreakerConfig(min_calls=1)))
    breaker.record(breaker.circuit.generation, Tally(calls=1, failures=1))
    standings = LocalStandings(clock, breakers)
    assert standings.of(ONE).open_s > 0
    assert standings.of(TWO).open_s == 0
