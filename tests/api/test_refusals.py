"""How seldom it is recorded that a key asks for what it may not do."""

from __future__ import annotations

from app.api.refusals import EVERY_S, MOST_KEPT, Refusals


def test_of_a_key_at_a_route_one_a_minute_is_recorded_with_how_many_were_left_out() -> None:
    refusals = Refusals()
    assert [refusals.passed("k", "GET /a", now) for now in (5.0, 6.0, 5.0 + EVERY_S - 0.1)] == [0, None, None]
    assert refusals.passed("k", "GET /a", 5.0 + EVERY_S) == 2
    assert refusals.passed("k", "GET /a", 5.0 + 2 * EVERY_S) == 0


def test_other_keys_and_other_routes_are_recorded_beside() -> None:
    refusals = Refusals()
    asked = [("k", "GET /a"), ("k", "POST /a"), ("l", "GET /a"), ("k", "GET /a")]
    assert [refusals.passed(key, route, 0.0) for key, route in asked] == [0, 0, 0, None]


def test_what_is_remembered_is_bounded_and_the_latest_stays() -> None:
    refusals = Refusals()
    for number in range(MOST_KEPT + 1):
        assert refusals.passed(f"k{number}", "GET /a", 0.0) == 0
    assert refusals.passed(f"k{MOST_KEPT}", "GET /a", 0.0) is None
    assert refusals.passed("k0", "GET /a", 0.0) == 0
