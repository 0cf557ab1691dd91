"""`merge`, `race`, `share` and `prime`: what they give, and that they leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.streams import Abandoned, batches, close, merge, prime, race, share
from tests.core.speaking import Source, nothing_left, settle


async def everything(source: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in source]


# merge


@given(st.lists(st.lists(st.integers(), max_size=5), max_size=5), st.none() | st.integers(1, 6))
@settings(max_examples=60)
def test_merge_gives_every_item_of_every_source_in_that_sources_order(lists: list[list[int]], limit: int | None) -> None:
    async def main() -> None:
        with nothing_left():
            sources = [Source(*[(i, x) for x in row], ends=True) for i, row in enumerate(lists)]
            got = await everything(merge([s.run() for s in sources], limit=limit))
            for i, row in enumerate(lists):
                assert [x for source, x in got if source == i] == row
            assert all(s.log == ["started", "cleaned"] for s in sources)

    asyncio.run(main())


async def test_merge_gives_items_as_they_come() -> None:
    a, b = Source(), Source()
    async with aclosing(merge([a.run(), b.run()])) as items:
        for source, item in ((b, 1), (a, 2), (b, 3)):
            source.put(item)
            assert await anext(items) == item


async def test_merge_has_at_most_limit_sources_at_work_and_starts_them_in_order() -> None:
    sources = [Source() for _ in range(5)]
    with nothing_left():
        async with aclosing(merge([s.run() for s in sources], limit=2)) as items:
            for source in sources:
                source.put("x")
                assert await anext(items) == "x"
                await settle()
                assert sum(s.open for s in sources) <= 2
                source.put(Source.END)
            with pytest.raises(StopAsyncIteration):
                await anext(items)
    assert all(s.log == ["started", "cleaned"] for s in sources)


async def test_the_first_error_of_a_merged_source_closes_the_others_and_comes_after_the_items_before_it() -> None:
    a, b = Source(1), Source(2, ValueError("b"))
    with nothing_left():
        got: list[int] = []
        with pytest.raises(ValueError, match="b"):
            async for item in merge([a.run(), b.run()]):
                got.append(item)
    assert sorted(got) == [1, 2]
    assert a.log == b.log == ["started", "cleaned"]


async def test_an_error_is_not_held_back_by_sources_that_go_on_speaking_to_a_slow_reader() -> None:
    async def endless() -> AsyncIterator[int]:
        while True:
            await asyncio.sleep(0)
            yield 0

    async def fails() -> AsyncIterator[int]:
        await asyncio.sleep(0)
        raise ValueError
        yield 1

    got = 0
    with nothing_left(), pytest.raises(ValueError):
        async for _ in merge([endless(), fails()]):
            await settle(3)
            got += 1
            assert got < 100


async def test_closing_a_merge_closes_every_source_begun_or_not() -> None:
    sources = [Source(i) for i in range(4)]
    runs = [s.run() for s in sources]
    begun = await prime(runs[3], enough=lambda _: True)  # open already, but its turn will not come
    with nothing_left():
        async with aclosing(merge([*runs[:3], begun], limit=2)) as items:
            await anext(items)
    assert not any(s.open for s in sources)


async def test_a_merged_source_whose_wait_was_cancelled_is_not_taken_for_one_that_ended() -> None:
    a, b = Source(asyncio.CancelledError()), Source()
    with nothing_left(), pytest.raises(asyncio.CancelledError):
        await everything(merge([a.run(), b.run()]))
    assert not b.open


async def test_the_sources_of_a_merge_are_not_far_ahead_of_its_reader() -> None:
    sources = [Source(*range(2000)) for _ in range(3)]
    with nothing_left():
        async with aclosing(merge([s.run() for s in sources])) as items:
            read = 0
            for _ in range(5):
                for _ in range(100):
                    await anext(items)
                    read += 1
                await settle(3000)
                assert sum(s.taken for s in sources) - read < 300


async def test_a_cancelled_reader_of_a_merge_waits_for_the_clean_up_of_the_sources() -> None:
    sources = [Source(), Source()]
    sources[0].tidy = asyncio.Event()
    with nothing_left():
        reader = asyncio.create_task(everything(merge([s.run() for s in sources])))
        await settle()
        reader.cancel()
        await settle()
        reader.cancel()  # once more, while it cleans up
        await settle()
        assert not reader.done()
        sources[0].tidy.set()
        with pytest.raises(asyncio.CancelledError):
            await reader
        del reader
    assert all(s.log == ["started", "cleaned"] for s in sources)


async def test_a_cancellation_that_comes_while_a_merge_is_closed_is_not_lost() -> None:
    sources = [Source(1), Source()]
    sources[0].tidy = asyncio.Event()
    passed = False

    async def read() -> None:
        nonlocal passed
        items = merge([s.run() for s in sources])
        await anext(items)
        await items.aclose()
        passed = True

    reader = asyncio.ensure_future(read())
    await settle()
    reader.cancel()
    await settle()
    sources[0].tidy.set()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert not passed
    assert not any(s.open for s in sources)


async def test_one_source_needs_no_generator_to_be_merged() -> None:
    source = Source(1, 2, ends=True)
    assert await everything(merge([batches(source.run())])) == [[1, 2]]


# race


async def test_the_first_to_speak_wins_the_race_and_the_others_are_closed_before_it_goes_on() -> None:
    sources = [Source(), Source(), Source()]
    with nothing_left():
        async with aclosing(race([s.run() for s in sources])) as items:
            first = asyncio.ensure_future(anext(items))
            await settle()
            sources[1].put("won", "and", "on", Source.END)
            assert await first == "won"
            assert [s.open for s in sources] == [False, True, False]
            assert await everything(items) == ["and", "on"]
    assert not any(s.open for s in sources)


async def test_one_that_fails_or_ends_leaves_the_race() -> None:
    sources = [Source(ValueError()), Source(ends=True), Source()]
    with nothing_left():
        reader = asyncio.ensure_future(everything(race([s.run() for s in sources])))
        await settle()
        sources[2].put("late", Source.END)
        assert await reader == ["late"]


async def test_when_all_have_left_the_race_its_first_failure_is_raised() -> None:
    sources = [Source(), Source(ValueError("first")), Source(ends=True)]
    with nothing_left():
        reader = asyncio.ensure_future(everything(race([s.run() for s in sources])))
        await settle()
        sources[0].put(KeyError("second"))
        with pytest.raises(ValueError, match="first"):
            await reader


async def test_a_race_of_sources_that_say_nothing_is_empty() -> None:
    with nothing_left():
        assert await everything(race([Source(ends=True).run(), Source(ends=True).run()])) == []
        assert await everything(race([])) == []


@pytest.mark.parametrize("place", ["before", "after"])
async def test_leaving_a_race_closes_everybody(place: str) -> None:
    sources = [Source(), Source()]
    with nothing_left():
        items = race([s.run() for s in sources])
        first = asyncio.ensure_future(anext(items))
        await settle()
        if place == "before":
            first.cancel()
            await asyncio.wait([first])
        else:
            sources[0].put(1)
            await first
        await close(items)
        del first
    assert not any(s.open for s in sources)


async def test_a_loser_whose_clean_up_fails_takes_nobody_along() -> None:
    async def sulking() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 0
        finally:
            raise KeyError

    with nothing_left():
        assert await everything(race([sulking(), Source(1, 2, ends=True).run()])) == [1, 2]


async def test_winners_that_speak_at_the_same_moment_are_one_and_the_other_is_closed() -> None:
    sources = [Source(1, ends=True), Source(2, ends=True)]
    with nothing_left():
        assert await everything(race([s.run() for s in sources])) == [1]
    assert not any(s.open for s in sources)


# share


async def test_every_reader_of_a_shared_source_sees_all_of_it_whenever_it_comes() -> None:
    source = Source(1, 2)
    with nothing_left():
        shared = share(source.run())
        early = asyncio.ensure_future(everything(shared.reader()))
        await settle()
        late = asyncio.ensure_future(everything(shared.reader()))
        await settle()
        source.put(3, Source.END)
        assert await asyncio.gather(early, late) == [[1, 2, 3]] * 2
        assert await everything(shared.reader()) == [1, 2, 3]
        del early, late
    assert source.log == ["started", "cleaned"]


async def test_a_reader_that_leaves_does_not_disturb_the_others_and_the_last_stops_the_source() -> None:
    source = Source(1)
    with nothing_left():
        shared = share(source.run())
        first, second = shared.reader(), shared.reader()
        assert [await anext(first), await anext(second)] == [1, 1]
        await close(first)
        source.put(2)
        assert await anext(second) == 2
        assert source.open
        await close(second)
        assert not source.open
        with pytest.raises(Abandoned):
            await everything(shared.reader())


async def test_every_reader_gets_the_items_before_an_error_and_the_error() -> None:
    with nothing_left():
        shared = share(Source(1, ValueError("x")).run())
        for _ in range(2):
            reader = shared.reader()
            assert await anext(reader) == 1
            with pytest.raises(ValueError, match="x"):
                await anext(reader)
            await close(reader)


# prime


async def test_a_primed_source_is_read_up_to_what_is_enough_and_gives_all_of_it() -> None:
    source = Source(1, 2, 3, 4, ends=True)
    with nothing_left():
        primed = await prime(source.run(), enough=lambda x: x == 2)
        assert source.taken == 2
        assert await everything(primed) == [1, 2, 3, 4]


async def test_what_fails_before_it_is_enough_is_raised_by_prime_itself() -> None:
    source = Source(1, ValueError("early"))
    with nothing_left(), pytest.raises(ValueError, match="early"):
        await prime(source.run(), enough=lambda x: x == 2)


async def test_what_fails_later_is_raised_where_it_stands_and_a_short_source_is_given_whole() -> None:
    primed = await prime(Source(1, ValueError("late")).run(), enough=lambda _: True)
    assert await anext(primed) == 1
    with pytest.raises(ValueError, match="late"):
        await anext(primed)
    assert await everything(await prime(Source(1, ends=True).run(), enough=lambda _: False)) == [1]


async def test_closing_a_primed_source_that_nobody_read_closes_it() -> None:
    source = Source(1)
    with nothing_left():
        primed = await prime(source.run(), enough=lambda _: True)
        await close(primed)
    assert source.log == ["started", "cleaned"]
