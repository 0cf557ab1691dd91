"""`with_deadline`, `in_time` and `supervise`: they end what they should, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from app.core.streams import Abandoned, batches, close, in_time, supervise, with_deadline
from tests.core.speaking import Source, nothing_left, settle

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Late(Exception):
    """Its argument is the phase."""


class Timers:
    """Counts the timers that are set on the running loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.set = 0
        self._call_at = loop.call_at

    def __call__(self, *args: Any, **more: Any) -> asyncio.TimerHandle:
        self.set += 1
        return self._call_at(*args, **more)


@pytest.mark.parametrize(
    ("said", "limits", "phase"),
    [
        ((), {"first_s": 0.02, "idle_s": 60}, "first"),
        ((1,), {"first_s": 60, "idle_s": 0.02}, "idle"),
        ((1,), {"first_s": 60, "idle_s": 60, "until": 0.02}, "whole"),
        ((), {"first_s": 60, "until": 0.02}, "whole"),
        ((), {"first_s": 0.02, "until": 60}, "first"),
    ],
)
def test_a_silent_source_is_ended_with_the_error_of_its_phase(
    run: Run, said: Any, limits: dict[str, float], phase: str
) -> None:
    async def main() -> None:
        source = Source(*said)
        now = asyncio.get_running_loop().time()
        times = {name: now + value if name == "until" else value for name, value in limits.items()}
        got = []
        with nothing_left():
            with pytest.raises(Late, match=phase):
                async for item in with_deadline(source.run(), expired=Late, **times):
                    got.append(item)
            assert got == list(said)
            assert source.log == ["started", "cleaned"]
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    run(main())


async def test_items_that_are_there_set_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    monkeypatch.setattr(loop, "call_at", timers)

    async def ready() -> AsyncIterator[int]:
        for item in range(100):
            yield item

    async for _ in with_deadline(ready(), expired=Late, first_s=60, idle_s=60, until=loop.time() + 60):
        pass
    assert timers.set == 0
    source = Source()
    reader = with_deadline(source.run(), expired=Late, first_s=60)
    waiting = asyncio.ensure_future(anext(reader))
    await settle()
    assert timers.set == 1
    source.put(1)
    await waiting
    await close(reader)


def test_a_deadline_that_passes_while_the_reader_is_elsewhere_disturbs_it_not_and_shows_at_the_next_wait(run: Run) -> None:
    async def main() -> None:
        source = Source(1, 2)
        until = asyncio.get_running_loop().time() + 0.02
        with nothing_left():
            reader = with_deadline(source.run(), expired=Late, until=until)
            assert await anext(reader) == 1
            await asyncio.sleep(0.05)  # the reader is busy with something else, and that is not cut short
            assert await anext(reader) == 2  # was there in time
            with pytest.raises(Late, match="whole"):
                await anext(reader)

    run(main())


def test_a_deadline_that_passes_while_a_step_is_held_disturbs_the_reader_not(run: Run) -> None:
    async def main() -> None:
        source = Source(1)
        until = asyncio.get_running_loop().time() + 0.02
        with nothing_left():
            reader = batches(with_deadline(source.run(), expired=Late, until=until))
            assert await anext(reader) == [1]  # the next step has begun and is held
            await asyncio.sleep(0.05)
            with pytest.raises(Late, match="whole"):
                await anext(reader)
            await close(reader)
        assert source.log == ["started", "cleaned"]

    run(main())


def test_an_item_that_came_in_time_is_given_though_the_reader_comes_late_for_it(run: Run) -> None:
    async def main() -> None:
        source = Source(1)
        until = asyncio.get_running_loop().time() + 0.02
        reader = batches(with_deadline(source.run(), expired=Late, until=until))
        assert await anext(reader) == [1]
        source.put(2)
        await asyncio.sleep(0.05)
        assert await anext(reader) == [2]
        with pytest.raises(Late, match="whole"):
            await anext(reader)
        await close(reader)

    run(main())


def test_a_source_that_never_waits_long_but_says_nothing_is_ended_too(run: Run) -> None:
    async def spinning() -> AsyncIterator[int]:
        while True:
            await asyncio.sleep(0)
        yield 1

    async def main() -> None:
        with nothing_left(), pytest.raises(Late, match="first"):
            await anext(with_deadline(spinning(), expired=Late, first_s=0.02))

    run(main())


def test_a_deadline_that_falls_between_two_waits_of_one_step_is_not_missed(run: Run) -> None:
    """A chunk without content has just arrived when the time is up; the source has yet to notice, and waits on for the next."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        arrived, never = loop.create_future(), loop.create_future()

        async def chunks() -> AsyncIterator[int]:
            await arrived
            await never
            yield 1

        until = loop.time() + 0.02
        reader = with_deadline(chunks(), expired=Late, until=until)
        waiting = asyncio.ensure_future(anext(reader))
        await settle()
        loop.call_at(until - 0.001, lambda: (block(until + 0.02, loop), arrived.set_result(None)))
        with pytest.raises(Late, match="whole"):
            await asyncio.wait_for(waiting, 5)

    run(main())


def block(until: float, loop: asyncio.AbstractEventLoop) -> None:
    """Keep the loop busy, as a heavy computation would."""
    import time

    while time.monotonic() < until:
        pass


def test_a_cancellation_from_outside_stays_one(run: Run) -> None:
    async def main() -> None:
        source = Source()
        with nothing_left():
            reader = asyncio.ensure_future(anext(with_deadline(source.run(), expired=Late, first_s=60)))
            await settle()
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            del reader
        assert source.log == ["started", "cleaned"]

    run(main())


async def test_what_a_source_awaits_in_its_clean_up_is_not_cut_by_the_deadline() -> None:
    source = Source()
    source.tidy = asyncio.Event()
    reader = asyncio.ensure_future(anext(with_deadline(source.run(), expired=Late, first_s=0.001)))
    while source.queue._getters:  # type: ignore[attr-defined] # until the deadline has struck
        await asyncio.sleep(0)
    await settle()
    source.tidy.set()
    with pytest.raises(Late):
        await reader
    assert source.log == ["started", "cleaned"]


async def test_a_deadline_holds_in_the_clean_up_of_a_cancelled_task_too() -> None:
    async def main() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(Late):
                await in_time(asyncio.Event().wait(), 0.001, lambda: Late("cleaning"))
            return "cleaned"
        return "never"

    task = asyncio.ensure_future(main())
    await settle()
    task.cancel()
    assert await task == "cleaned"


# in_time


async def test_work_that_is_done_in_time_gives_its_value_and_work_that_need_not_wait_sets_no_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    monkeypatch.setattr(loop, "call_at", timers)

    async def at_once() -> int:
        return 1

    assert await in_time(at_once(), 60, Late) == 1
    assert timers.set == 0
    assert await in_time(asyncio.sleep(0, 2), 60, Late) == 2


def test_work_that_takes_too_long_is_cancelled_and_the_error_is_the_given_one(run: Run) -> None:
    async def main() -> None:
        cancelled = False

        async def work() -> None:
            nonlocal cancelled
            try:
                await asyncio.Event().wait()
            finally:
                cancelled = True

        with nothing_left(), pytest.raises(Late, match="work"):
            await in_time(work(), 0.01, lambda: Late("work"))
        assert cancelled

    run(main())


async def test_errors_of_work_come_through() -> None:
    async def fails(after: int) -> None:
        for _ in range(after):
            await asyncio.sleep(0)
        raise KeyError

    for after in (0, 2):
        with pytest.raises(KeyError):
            await in_time(fails(after), 60, Late)


# supervise


async def test_work_that_is_over_soon_is_not_watched() -> None:
    asked = False

    async def gone() -> None:
        nonlocal asked
        asked = True

    with nothing_left():
        assert await supervise(asyncio.sleep(0, "done"), gone, after_s=60) == "done"
    assert not asked


def test_work_is_cancelled_once_nobody_waits(run: Run) -> None:
    async def main() -> None:
        source, left = Source(), asyncio.Event()

        async def work() -> Any:
            return await anext(source.run())

        async def gone() -> None:
            await left.wait()

        with nothing_left():
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, left.set)
            with pytest.raises(Abandoned):
                await supervise(work(), gone, after_s=0)
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
            await asyncio.sleep(0)
        assert not source.open

    run(main())


def test_a_cancellation_from_outside_is_not_an_abandonment(run: Run) -> None:
    async def main() -> None:
        watching = asyncio.Event()

        async def gone() -> None:
            watching.set()
            await asyncio.Event().wait()

        with nothing_left():
            task = asyncio.ensure_future(supervise(asyncio.sleep(60), gone, after_s=0))
            await watching.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del task
            await asyncio.sleep(0)

    run(main())


async def test_both_at_once_are_a_cancellation() -> None:
    left = asyncio.Event()

    async def gone() -> None:
        await left.wait()
        asyncio.get_running_loop().call_soon(task.cancel)

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)

    task = asyncio.ensure_future(supervise(stubborn(), gone, after_s=0))
    await asyncio.sleep(0.01)
    left.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_finishes_though_it_was_told_to_stop_gives_its_value_and_leaves_no_cancellation_behind() -> None:
    async def gone() -> None:
        return

    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "done"
        return "never"

    assert await supervise(stubborn(), gone, after_s=0) == "done"
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
