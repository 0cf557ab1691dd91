"""One timer for many moments."""

from __future__ import annotations

import asyncio

from app.core.alarm import MOST, Alarm


async def test_it_rings_at_each_moment_the_soonest_first() -> None:
    alarm = Alarm(asyncio.Event())
    loop = asyncio.get_running_loop()
    began = loop.time()
    for after_s in (0.6, 0.2, 3_000_000.0, 0.4):
        alarm.ring_in(after_s)
    for least_s in (0.2, 0.4, 0.6):
        async with asyncio.timeout(10):
            await alarm.rung.wait()
        alarm.rung.clear()
        assert loop.time() - began >= least_s
    alarm.close()
    await asyncio.sleep(0)
    assert not alarm.rung.is_set()


async def test_of_too_many_moments_the_soonest_are_remembered() -> None:
    alarm = Alarm(asyncio.Event())
    for number in range(MOST + 1):
        alarm.ring_in(1_000.0 + number)
    alarm.ring_in(0.0)
    async with asyncio.timeout(10):
        await alarm.rung.wait()
    alarm.close()
