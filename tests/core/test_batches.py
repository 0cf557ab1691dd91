"""`batches`: what is ready comes together, and a step that is held hurts nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

from app.core.streams import batches, close
from tests.core.speaking import Source, nothing_left, settle

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_what_is_ready_is_grouped_and_the_rest_waited_for(run: Run) -> None:
    async def main() -> None:
        source = Source(1, 2, 3)
        with nothing_left():
            async with aclosing(batches(source.run())) as groups:
                assert await anext(groups) == [1, 2, 3]
                await asyncio.sleep(0.001)  # the reader writes, while the step it holds waits
                source.put(4)
                await asyncio.sleep(0.001)
                source.put(5)
                assert await anext(groups) == [4, 5]
                waiting = asyncio.get_running_loop().call_later(0.001, source.put, 6)
                assert await anext(groups) == [6]
                assert not waiting.cancelled()
                source.put(Source.END)
                with pytest.raises(StopAsyncIteration):
                    await anext(groups)
        assert source.log == ["started", "cleaned"]

    run(main())


async def test_a_group_holds_no_more_than_most() -> None:
    async with aclosing(batches(Source(*range(5), ends=True).run(), most=2)) as groups:
        assert [len(group) async for group in groups] == [2, 2, 1]


async def test_an_error_comes_after_the_items_before_it() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise ValueError

    groups = batches(source())
    assert await anext(groups) == [1, 2]
    for _ in range(2):
        with pytest.raises(ValueError):
            await anext(groups)


def test_closing_while_a_step_is_held_cancels_the_source_and_sees_its_clean_up_through(run: Run) -> None:
    async def main() -> None:
        source = Source(1)
        source.tidy = asyncio.Event()
        with nothing_left():
            groups = batches(source.run())
            assert await anext(groups) == [1]
            asyncio.get_running_loop().call_later(0.005, source.tidy.set)
            await close(groups)
            assert source.log == ["started", "cleaned"]
            await close(groups)

    run(main())


def test_closing_cancels_a_task_that_the_held_source_waits_for(run: Run) -> None:
    async def main() -> None:
        with nothing_left():

            async def source() -> AsyncIterator[int]:
                yield 1
                await asyncio.create_task(asyncio.sleep(60))
                yield 2

            groups = batches(source())
            assert await anext(groups) == [1]
            await asyncio.sleep(0)
            await close(groups)

    run(main())


def test_closing_when_what_the_held_source_waits_for_is_there_already(run: Run) -> None:
    async def main() -> None:
        source = Source(1)
        with nothing_left():
            groups = batches(source.run())
            assert await anext(groups) == [1]
            source.put(2)
            await asyncio.sleep(0)
            await close(groups)
        assert source.log == ["started", "cleaned"]

    run(main())


def test_a_cancelled_reader_that_is_elsewhere_closes_the_source(run: Run) -> None:
    async def main() -> None:
        source = Source(1)

        async def read() -> None:
            async with aclosing(batches(source.run())) as groups:
                async for _ in groups:
                    await asyncio.Event().wait()  # a client that does not read

        with nothing_left():
            reader = asyncio.ensure_future(read())
            await settle()
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            del reader
        assert source.log == ["started", "cleaned"]

    run(main())


def test_a_reader_that_is_cancelled_while_it_waits_for_a_held_step_closes_the_source(run: Run) -> None:
    async def main() -> None:
        source = Source(1)

        async def read() -> None:
            async with aclosing(batches(source.run())) as groups:
                async for _ in groups:
                    await asyncio.sleep(0)

        with nothing_left():
            reader = asyncio.ensure_future(read())
            await settle()
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            del reader
        assert source.log == ["started", "cleaned"]

    run(main())


def test_a_cancellation_that_comes_during_the_clean_up_is_not_lost(run: Run) -> None:
    async def main() -> None:
        source = Source(1)
        source.tidy = asyncio.Event()
        passed = False

        async def read() -> None:
            nonlocal passed
            groups = batches(source.run())
            await anext(groups)
            await close(groups)
            passed = True

        reader = asyncio.ensure_future(read())
        await settle()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert not passed

    run(main())
