"""The time that processes share is that of Redis, whatever their machines say."""

from __future__ import annotations

import time

import pytest

from app.core.clock import SystemClock
from app.core.errors import StateUnavailable
from app.state.client import StateClient
from app.state.shared_clock import LOOK_S, SharedClock
from tests.reliability.turned import TurnedClock
from tests.support.clocks import SkewedClock
from tests.support.ports import free_ports
from tests.support.serving import until

HOUR = 3600.0


async def told_by(state: StateClient) -> float:
    seconds, microseconds = await state.commands.time()
    return seconds + microseconds / 1_000_000


@pytest.mark.parametrize("skew_s", [-HOUR, 0.0, HOUR])
async def test_it_is_the_time_of_redis_however_wrong_the_machine_is(state: StateClient, skew_s: float) -> None:
    clock = SharedClock(state, SkewedClock(skew_s))
    await clock.start()
    before, now, after = await told_by(state), clock.now(), await told_by(state)
    await clock.close()
    off_s = max(before - now, now - after, 0.0)
    print(f"a clock {skew_s:+.0f} s from the others' tells the time of Redis within {off_s * 1000:.1f} ms")
    assert off_s < 0.25


async def test_a_step_of_the_machines_clock_changes_nothing(state: StateClient) -> None:
    machine = SkewedClock(0.0)
    clock = SharedClock(state, machine)
    await clock.look()
    machine.skew_s = HOUR
    assert abs(clock.now() - time.time()) < 1


async def test_it_follows_a_machine_that_stood_still_and_a_redis_with_another_time(state: StateClient) -> None:
    machine = SkewedClock(0.0, up_s=HOUR)
    clock = SharedClock(state, machine)
    await clock.start()
    machine.up_s = HOUR + LOOK_S + 100  # as where it was suspended, or another Redis took over
    assert clock.now() > time.time() + 100
    await until(lambda: abs(clock.now() - time.time()) < 1, within_s=5)
    await clock.close()


async def test_an_answer_that_took_long_does_not_spoil_what_was_known(state: StateClient) -> None:
    clock = SharedClock(state, SystemClock())
    await clock.look()
    known = clock.now() - time.monotonic()

    class Slow:
        """A machine that stood still for 10 s after the question."""

        asked = 0

        def monotonic(self) -> float:
            self.asked += 1
            return time.monotonic() + (10 if self.asked > 1 else 0)

    clock.monotonic = Slow().monotonic
    await clock.look()
    clock.monotonic = time.monotonic
    assert abs(clock.now() - time.monotonic() - known) < 0.25


async def test_without_redis_it_is_the_machines_own_and_then_goes_on_from_what_was_known(state: StateClient) -> None:
    (port,) = free_ports(1)
    away = StateClient(f"redis://127.0.0.1:{port}/0")
    clock = SharedClock(away, TurnedClock(ahead_s=HOUR))
    with pytest.raises(StateUnavailable):
        await clock.look()
    await clock.start()
    assert clock.now() == TurnedClock(ahead_s=HOUR).now()
    await clock.close()
    await away.close()
    machine = TurnedClock()
    clock = SharedClock(state, machine)
    await clock.look()
    machine.time += 60
    assert abs(clock.now() - time.time() - 60) < 1
