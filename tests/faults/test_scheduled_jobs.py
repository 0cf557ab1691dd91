"""Jobs that come by themselves, where the process that has one is killed in the middle: another does it, once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from app.jobs.cleaning import TAKEN_S, Cleaning
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.jobs import JobQueue
from app.state.keys import JOB_STREAM, JOBS, TRAINED, TRAINING_LEASE
from app.state.lessons import LEASE_S, LessonStore
from tests.jobs.test_training import put_in_force, seeded
from tests.orchestration.learning.judged import SKILLS, judged_rows
from tests.support.lossy_proxy import lossy_proxy
from tests.support.serving import until, upstream
from tests.support.valkey import running_valkey
from tests.support.workers import WorkerProcess, worker

EVERY = 5
TAKEN_WITHIN_S = LEASE_S + EVERY / 10 + 20
"""The lease of the dead process, the next look of another, and a training on a busy machine."""


@pytest.fixture
def store() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


def training(one: WorkerProcess) -> int | None:
    """The process that trains for a worker."""
    for child in Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children").read_text().split():
        if b"app.jobs.training_process" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    return None


def alive(pid: int) -> bool:
    """Whether a process is there, and is not only waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.timeout(180)
async def test_a_training_whose_process_is_killed_ends_with_it_and_is_done_once_by_another(
    tmp_path: Path, store: EmbeddedValkey
) -> None:
    state = StateClient(store.url)
    config: dict[str, Any] = upstream("http://127.0.0.1:9")
    config["models"] = {name: {"provider": "up", "model": name} for name in SKILLS}
    config["learning"] = {"train": {"every_s": EVERY}}
    await seeded(state, "default", judged_rows(100))
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(tmp_path / name, store.url, config)) for name in ("one", "two")]
        children = await until(lambda: [child for child in map(training, workers) if child], within_s=20)
        assert len(children) == 1, "one process has it"
        first = next(one for one in workers if training(one))
        first.kill()
        killed = time.monotonic()
        await until(lambda: not alive(children[0]), within_s=5)
        ended = time.monotonic() - killed
        assert await LessonStore(state).versions("default") == []
        async with asyncio.timeout(TAKEN_WITHIN_S):
            while not await state.commands.exists(TRAINED):
                await asyncio.sleep(0.05)
        took = time.monotonic() - killed
        async with asyncio.timeout(10):
            while await state.commands.exists(TRAINING_LEASE) or not await put_in_force(state):
                await asyncio.sleep(0.05)
    versions = await LessonStore(state).versions("default")
    told = await put_in_force(state)
    await state.close()
    assert told == [(versions[0][0], "done", "service")]
    assert len(versions) == 1
    print(f"a training killed: its process ended {ended:.1f} s later, and another had done it after {took:.1f} s")


async def test_a_clean_up_whose_process_is_killed_in_the_middle_is_done_by_another(
    store: EmbeddedValkey,
) -> None:
    state = StateClient(store.url)
    await state.commands.xgroup_create(JOB_STREAM, "workers", mkstream=True)
    await state.commands.xgroup_createconsumer(JOB_STREAM, "workers", "dead")
    async with lossy_proxy(store.url) as proxy:
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
    await state.close()
