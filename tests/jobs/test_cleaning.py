"""Clean-up comes once for all processes, and removes what is dead."""

from __future__ import annotations

import asyncio

from app.jobs.announcing import Announcements
from app.jobs.cleaning import TAKEN_S, Cleaning
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.jobs import JobQueue
from app.state.keys import JOB_STREAM, JOBS
from tests.support.lossy_proxy import lossy_proxy


async def readers(state: StateClient) -> int:
    groups = await state.commands.xinfo_groups(JOB_STREAM)
    return sum(group["consumers"] for group in groups)


async def test_dead_readers_of_the_stream_are_removed_by_one_process(valkey: EmbeddedValkey, state: StateClient) -> None:
    queue, heard = JobQueue(state), asyncio.Event()
    announcements = Announcements(valkey.url)
    announcements.start(heard.set)
    async with asyncio.timeout(10):
        while not heard.is_set():
            await announcements.announce("one")
            await asyncio.sleep(0.05)
    await announcements.leave()
    await announcements.close()
    assert await readers(state) == 1
    cleaners = [Cleaning(state, queue, idle_ms=-1) for _ in range(4)]
    assert sorted([await one.look() for one in cleaners]) == [0, 0, 0, 1]
    assert await readers(state) == 0


async def test_a_clean_up_whose_process_is_killed_in_the_middle_is_done_by_another(
    valkey: EmbeddedValkey, state: StateClient
) -> None:
    await state.commands.xgroup_create(JOB_STREAM, "workers", mkstream=True)
    await state.commands.xgroup_createconsumer(JOB_STREAM, "workers", "dead")
    async with lossy_proxy(valkey.url) as proxy:
        cut = StateClient(proxy.url)
        proxy.freeze_at(b"XINFO", 0, 3_600)
        assert await Cleaning(cut, JobQueue(cut), idle_ms=-1).look() == 0
        assert proxy.frozen
        await cut.close()
    other, mark = Cleaning(state, JobQueue(state), idle_ms=-1), f"{JOBS}scheduled:clean-up"
    assert await other.look() == 0, "the first may be at it still"
    assert await state.commands.pttl(mark) <= TAKEN_S * 1000
    await state.commands.pexpire(mark, 0)
    assert await other.look() == 1
    assert await state.commands.pttl(mark) > TAKEN_S * 1000


async def test_nothing_is_there_to_clean_before_the_first_job(state: StateClient) -> None:
    assert await Cleaning(state, JobQueue(state)).look() == 0
