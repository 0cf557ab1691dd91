"""Clean-up comes once for all processes, and removes what is dead."""

from __future__ import annotations

import asyncio

from app.jobs.announcing import Announcements
from app.jobs.cleaning import Cleaning
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.jobs import JobQueue
from app.state.keys import JOB_STREAM


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


async def test_nothing_is_there_to_clean_before_the_first_job(state: StateClient) -> None:
    assert await Cleaning(state, JobQueue(state)).look() == 0
