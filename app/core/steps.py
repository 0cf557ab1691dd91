"""Async iterators advanced by hand: looked at before they are waited for, and without a task around them.

The names for others are in `streams`, which documents them.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def close(source: AsyncIterator[Any]) -> None:
    """Close `source` if it can be closed."""
    aclose = getattr(source, "aclose", None)
    if aclose is not None:
        await aclose()


class Step(Generic[T]):
    """Something awaited by hand, such as an advance of an async iterator.

    `start` runs it until it is done or must wait; `resume` waits for the rest. Between the two the holder may await other
    things, as long as it does so in the same task. `expire` cancels what it waits for, or will wait for next.
    """

    __slots__ = ("_awaitable", "_due", "_waiting_for", "expired", "value")

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._awaitable = awaitable.__await__()
        self._waiting_for: Any = None
        self._due = False
        self.expired = False
        self.value: T

    def start(self) -> bool:
        """True when the item is there in `value`. Raises what the source raises, StopAsyncIteration at its end."""
        try:
            self._waiting_for = self._awaitable.send(None)
        except StopIteration as done:
            self.value = done.value
            return True
        return False

    @types.coroutine
    def resume(self) -> Generator[Any, Any, T]:
        awaitable = self._awaitable
        while True:
            try:
                try:
                    sent = yield self._waiting_for
                except BaseException as error:  # whatever is thrown in here is the source's to deal with
                    self._waiting_for = awaitable.throw(error)
                else:
                    self._waiting_for = awaitable.send(sent)
                if self._due:
                    self._cut()
            except StopIteration as done:
                return done.value

    def expire(self) -> None:
        """Time is up. What is already there, though nobody has looked, may still come through; further waiting may not."""
        self.expired = True
        future = self._waiting_for
        self._due = future is None or not future.cancel()

    def _cut(self) -> None:
        """Cancel the source at its next wait, once: what it awaits while it cleans up is left alone."""
        self._due = False
        future = self._waiting_for
        if future is None or not future.cancel():
            self._waiting_for = self._awaitable.throw(asyncio.CancelledError())

    async def abandon(self) -> None:
        """Cancel the source where it waits, and see it through its clean-up."""
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            self._cut()
        except (StopIteration, StopAsyncIteration, asyncio.CancelledError):
            return
        with suppress(StopAsyncIteration):
            try:
                await self.resume()
            except asyncio.CancelledError:
                if task and task.cancelling() > before:
                    raise


class Batches(Generic[T]):
    """See `batches`."""

    __slots__ = ("_ended", "_held", "_most", "_source")

    def __init__(self, source: AsyncIterator[T], most: int) -> None:
        self._source = source
        self._most = most
        self._held: Step[T] | None = None
        self._ended: BaseException | None = None

    def __aiter__(self) -> Batches[T]:
        return self

    async def __anext__(self) -> list[T]:
        if self._ended is not None:
            raise self._ended
        batch: list[T] = []
        if self._held is not None:
            step, self._held = self._held, None
            batch.append(await step.resume())
        source, most = self._source, self._most
        while len(batch) < most:
            step = Step(source.__anext__())
            try:
                if step.start():
                    batch.append(step.value)
                    continue
            except (StopAsyncIteration, Exception) as error:
                if not batch:
                    raise
                self._ended = error
                return batch
            if batch:
                self._held = step
                return batch
            batch.append(await step.resume())
        return batch

    async def aclose(self) -> None:
        try:
            if self._held is not None:
                step, self._held = self._held, None
                await step.abandon()
        finally:
            await close(self._source)


def batches(source: AsyncIterator[T], *, most: int = 64) -> Batches[T]:
    """Group what `source` has ready: a list ends where the source would wait, or at `most` items.

    An error of the source is raised after the items before it were given out. Iterate and close it in one task.
    """
    return Batches(source, most)


async def with_deadline(
    source: AsyncIterator[T],
    *,
    expired: Callable[[str], Exception],
    first_s: float | None = None,
    idle_s: float | None = None,
    until: float | None = None,
) -> AsyncIterator[T]:
    """`source`, as long as it speaks in time.

    Parameters:
        expired: makes the error to raise of what was waited for: `first`, `idle` or `whole`.
        first_s: seconds until the first item.
        idle_s: seconds between two items.
        until: when the whole must be over, on the event loop's clock, in seconds.

    Items that are there at once cost no timer, and are given whatever the time.
    """
    watch = _Watch(first_s, idle_s, until)
    try:
        while True:
            step = Step(source.__anext__())
            try:
                if step.start():
                    item = step.value
                else:
                    watch.over(step)
                    item = await step.resume()
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                if watch.struck(step):
                    raise expired(watch.phase) from None
                raise
            watch.heard()
            yield item
    finally:
        watch.stop()
        await close(source)


class _Watch:
    """One timer for all waits of a source. It is set once and looks, when it fires, how long the present wait has lasted:
    setting and cancelling one for each item would cost as much as the item."""

    __slots__ = ("_at", "_before", "_first_s", "_idle_s", "_loop", "_since", "_spoken", "_step", "_timer", "_until", "phase")

    def __init__(self, first_s: float | None, idle_s: float | None, until: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._first_s, self._idle_s, self._until = first_s, idle_s, until
        self._since = self._loop.time()
        self._spoken = False
        self._step: Step[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0
        self._before = _cancellations()
        self.phase = "first"

    def over(self, step: Step[Any]) -> None:
        """A wait begins."""
        self._step = step
        if self._spoken:
            self._since = self._loop.time()
        due = self._due()
        if due is not None and (self._timer is None or due < self._at):
            self._set(due)

    def heard(self) -> None:
        """An item is there."""
        self._step = None
        self._spoken = True

    def struck(self, step: Step[Any]) -> bool:
        """Whether a cancellation of the wait was this watch's doing, and nobody's else."""
        return step.expired and _cancellations() <= self._before

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> float | None:
        limit = self._idle_s if self._spoken else self._first_s
        if limit is None:
            return self._until
        due = self._since + limit
        return due if self._until is None or due <= self._until else self._until

    def _set(self, due: float) -> None:
        self.stop()
        self._at = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        due = self._due()
        if self._step is None or due is None:
            return
        if self._loop.time() < due - _EARLY_S:
            self._set(due)
            return
        self.phase = "whole" if due == self._until else "idle" if self._spoken else "first"
        self._step.expire()


_EARLY_S = 0.002
"""How much too early a loop may fire a timer: its clock has a resolution."""


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


async def _in_time(loop: asyncio.AbstractEventLoop, step: Step[T], when: float, error: Callable[[], Exception]) -> T:
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    timer = loop.call_at(when, step.expire)
    try:
        return await step.resume()
    except asyncio.CancelledError:
        if step.expired and not (task and task.cancelling() > before):
            raise error() from None
        raise
    finally:
        timer.cancel()


async def in_time(work: Awaitable[T], seconds: float, expired: Callable[[], Exception]) -> T:
    """Await `work`, at most `seconds`, else raise what `expired` makes. Work that need not wait costs no timer."""
    step = Step(work)
    if step.start():
        return step.value
    loop = asyncio.get_running_loop()
    return await _in_time(loop, step, loop.time() + seconds, expired)
