"""The breaker's decisions, one after the other, without any I/O."""

from __future__ import annotations

from dataclasses import replace

from app.config.spec import CircuitBreakerConfig
from app.reliability.circuit import Circuit, Rules, Tally, rules_of

RULES: Rules = rules_of(CircuitBreakerConfig())
T = 1_000_000
NO_JITTER = 0.5


def opened(now: int = T) -> Circuit:
    circuit = Circuit()
    circuit.report(now, RULES, 0, Tally(20, 20), NO_JITTER)
    assert circuit.state == "open"
    return circuit


def test_it_trips_at_half_of_twenty_calls_and_not_before() -> None:
    circuit = Circuit()
    circuit.report(T, RULES, 0, Tally(19, 19), NO_JITTER)
    assert circuit.state == "closed"
    circuit = Circuit()
    circuit.report(T, RULES, 0, Tally(20, 9), NO_JITTER)
    assert circuit.state == "closed"
    circuit.report(T + 1, RULES, 0, Tally(1, 1), NO_JITTER)
    assert circuit.state == "closed"  # 10 of 21
    circuit.report(T + 1, RULES, 0, Tally(1, 1), NO_JITTER)
    assert (circuit.state, circuit.generation) == ("open", 1)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    circuit = Circuit()
    circuit.report(T, RULES, 0, Tally(19, 19), NO_JITTER)
    circuit.report(T + 10_000, RULES, 0, Tally(1, 1), NO_JITTER)
    assert circuit.state == "closed"
    circuit.report(T + 18_999, RULES, 0, Tally(19, 19), NO_JITTER)
    assert circuit.state == "open"


def test_slow_first_tokens_trip_it_though_nothing_failed() -> None:
    circuit = Circuit()
    circuit.report(T, RULES, 0, Tally(20, 0, 20, 15), NO_JITTER)
    assert circuit.state == "closed"
    circuit.report(T, RULES, 0, Tally(5, 0, 5, 5), NO_JITTER)
    assert circuit.state == "open"


def test_unary_calls_say_nothing_of_first_tokens() -> None:
    circuit = Circuit()
    circuit.report(T, RULES, 0, Tally(100, 0, 19, 19), NO_JITTER)
    assert circuit.state == "closed"


def test_it_refuses_until_its_time_is_over_and_then_hands_out_three_permits() -> None:
    circuit = opened()
    refused = circuit.ask(T + 9_999, RULES, "early")
    assert (refused.admitted, refused.retry_ms) == (False, 1)
    grants = [circuit.ask(T + 10_000, RULES, permit) for permit in "abcd"]
    assert [grant.admitted for grant in grants] == [True, True, True, False]
    assert all(grant.probe for grant in grants[:3])
    assert grants[3].retry_ms == RULES.lease_ms
    assert circuit.state == "half_open"


def test_asking_again_with_the_same_permit_hands_out_no_other() -> None:
    circuit = opened()
    first = circuit.ask(T + 10_000, RULES, "a")
    assert circuit.ask(T + 10_001, RULES, "a") == first
    assert circuit.issued == 1


def test_three_good_probes_close_it_and_one_bad_opens_it_for_twice_as_long() -> None:
    circuit = opened()
    generation = circuit.ask(T + 10_000, RULES, "a").generation
    circuit.ask(T + 10_000, RULES, "b")
    circuit.settle(T + 10_100, RULES, generation, "a", "passed", NO_JITTER)
    assert circuit.state == "half_open"
    circuit.settle(T + 10_200, RULES, generation, "b", "failed", NO_JITTER)
    assert (circuit.state, circuit.until, circuit.trips) == ("open", T + 10_200 + 20_000, 2)
    generation = circuit.ask(circuit.until, RULES, "c").generation
    for permit in ("c", "d", "e"):
        circuit.ask(T + 40_000, RULES, permit)
        circuit.settle(T + 40_000, RULES, generation, permit, "passed", NO_JITTER)
    assert (circuit.state, circuit.trips) == ("closed", 0)


def test_the_time_doubles_up_to_its_bound_with_jitter_around() -> None:
    circuit, now, waits = opened(), T, []
    for number in range(6):
        generation = circuit.ask(now := circuit.until, RULES, f"{number}").generation
        circuit.settle(now, RULES, generation, f"{number}", "failed", NO_JITTER)
        waits.append(circuit.until - now)
    assert waits == [20_000, 40_000, 80_000, 120_000, 120_000, 120_000]
    early, late = Circuit(), Circuit()
    early.report(T, RULES, 0, Tally(20, 20), 0.0)
    late.report(T, RULES, 0, Tally(20, 20), 0.999)
    assert (early.until - T, late.until - T) == (9_000, 10_998)


def test_probes_that_come_to_nothing_start_a_new_epoch_and_never_make_a_fourth_in_theirs() -> None:
    circuit = opened()
    first = [circuit.ask(T + 10_000, RULES, permit) for permit in "abc"]
    circuit.settle(T + 10_100, RULES, first[0].generation, "a", "passed", NO_JITTER)
    circuit.settle(T + 10_100, RULES, first[1].generation, "b", "void", NO_JITTER)
    assert not circuit.ask(T + 10_200, RULES, "d").admitted  # c is under way
    after = circuit.ask(T + 10_000 + RULES.lease_ms, RULES, "d")
    assert after.admitted
    assert after.generation == first[0].generation + 1
    circuit.settle(T + 30_000, RULES, first[2].generation, "c", "failed", NO_JITTER)
    assert circuit.state == "half_open"


def test_a_probe_that_is_renewed_keeps_its_permit() -> None:
    circuit = opened()
    for permit in "abc":
        circuit.ask(T + 10_000, RULES, permit)
    circuit.renew(T + 19_000, RULES, "c")
    assert not circuit.ask(T + 21_000, RULES, "d").admitted
    assert circuit.ask(T + 29_000, RULES, "d").admitted


def test_results_of_an_older_epoch_decide_nothing() -> None:
    circuit = opened()
    circuit.reset()
    circuit.report(T, RULES, 0, Tally(100, 100), NO_JITTER)
    assert (circuit.state, circuit.generation) == ("closed", 2)


def test_a_pause_only_grows_and_ends_with_a_reset() -> None:
    circuit = Circuit()
    circuit.cool(T, 5_000)
    circuit.cool(T, 1_000)
    assert circuit.cool_until == T + 5_000
    circuit.reset()
    assert circuit.cool_until == 0


def test_a_window_shorter_than_its_parts_still_works() -> None:
    circuit = Circuit()
    circuit.report(T, replace(RULES, window_ms=5), 0, Tally(20, 20), NO_JITTER)
    assert circuit.state == "open"
