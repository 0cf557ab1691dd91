from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from app.core.streams import telling


async def test_what_is_told_comes_while_the_work_goes_on() -> None:
    heard, goes_on = asyncio.Event(), False

    async def work(tell: Callable[[int], None]) -> None:
        nonlocal goes_on
        tell(1)
        tell(2)
        await heard.wait()
        goes_on = True
        tell(3)

    items: list[int] = []
    async with aclosing(telling(work)) as told:
        async for item in told:
            items.append(item)
            if item == 2:
                assert not goes_on
                heard.set()
    assert items == [1, 2, 3]


async def test_what_the_work_raises_comes_after_what_it_told() -> None:
    async def work(tell: Callable[[int], None]) -> None:
        tell(1)
        raise ValueError("no more")

    items: list[int] = []
    with pytest.raises(ValueError, match="no more"):
        async for item in telling(work):
            items.append(item)
    assert items == [1]


async def test_who_stops_listening_cancels_the_work_and_waits_for_its_end() -> None:
    ended = False

    async def work(tell: Callable[[int], None]) -> None:
        nonlocal ended
        tell(1)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended = True

    async with aclosing(telling(work)) as told:
        assert await anext(told) == 1
    assert ended
