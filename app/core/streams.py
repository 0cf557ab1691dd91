"""All concurrency around async iterators, in one place.

| name            | does                                                                          |
|-----------------|-------------------------------------------------------------------------------|
| `merge`         | several sources as one, items as they come                                    |
| `race`          | the source that speaks first; the others are closed                           |
| `share`         | one source, many readers; it belongs to none of them                          |
| `with_deadline` | a source that must speak, and go on speaking, in time                         |
| `prime`         | a source whose first items are already here, so that early failures are raised |
| `batches`       | what a source has ready, grouped, so that many items make one write           |
| `in_time`       | an awaitable that must be done in time                                        |
| `supervise`     | an awaitable that ends early when a watcher says so                           |

Nothing else in the application creates tasks around generators. No timer here cancels a task: `with_deadline` cancels the
future that the source waits for, so a deadline can never hit whoever happens to run at that moment.
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import aclosing, suppress
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

_BUFFERED = 256
"""Items that the sources of a `merge` may be ahead of its reader."""


class _Step(Generic[T]):
    """Something awaited by hand, such as an advance of an async iterator: it can be looked at before it is waited for.

    `start` runs it until it is done or must wait. `resume` waits for the rest. Between the two the holder may await other
    things, as long as it does so in the same task.
    """

    __slots__ = ("_awaitable", "value", "waiting_for")

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._awaitable = awaitable.__await__()
        self.waiting_for: Any = None
        self.value: T

    def start(self) -> bool:
        """True when the item is there in `value`. Raises what the source raises, StopAsyncIteration at its end."""
        try:
            self.waiting_for = self._awaitable.send(None)
        except StopIteration as done:
            self.value = done.value
            return True
        return False

    @types.coroutine
    def resume(self) -> Generator[Any, Any, T]:
        while True:
            try:
                sent = yield self.waiting_for
            except BaseException as error:
                move, argument = self._awaitable.throw, error
            else:
                move, argument = self._awaitable.send, sent
            try:
                self.waiting_for = cast("Callable[[Any], Any]", move)(argument)
            except StopIteration as done:
                return done.value

    async def abandon(self) -> None:
        """Cancel the source where it waits."""
        try:
            self.waiting_for = self._awaitable.throw(asyncio.CancelledError())
        except (StopIteration, StopAsyncIteration, asyncio.CancelledError):
            return
        with suppress(StopAsyncIteration, asyncio.CancelledError):
            await self.resume()


async def close(source: AsyncIterator[Any]) -> None:
    """Close `source` if it can be closed."""
    if isinstance(source, (AsyncGenerator, Batches)):
        await source.aclose()


class Batches(Generic[T]):
    """See `batches`."""

    __slots__ = ("_ended", "_held", "_most", "_source")

    def __init__(self, source: AsyncIterator[T], most: int) -> None:
        self._source = source
        self._most = most
        self._held: _Step[T] | None = None
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
            step = _Step(source.__anext__())
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
        if self._held is not None:
            step, self._held = self._held, None
            await step.abandon()
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

    Items that are there at once cost no timer.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    limit, phase = first_s, "first"
    try:
        while True:
            step = _Step(source.__anext__())
            try:
                there = step.start()
            except StopAsyncIteration:
                return
            if not there:
                now = loop.time()
                when = None if limit is None else (started if phase == "first" else now) + limit
                what = phase
                if until is not None and (when is None or until < when):
                    when, what = until, "whole"
                try:
                    item = await (step.resume() if when is None else _in_time(loop, step, when, lambda w=what: expired(w)))
                except StopAsyncIteration:
                    return
            else:
                item = step.value
            limit, phase = idle_s, "idle"
            yield item
    finally:
        await close(source)


async def _in_time(loop: asyncio.AbstractEventLoop, step: _Step[T], when: float, error: Callable[[], Exception]) -> T:
    over = False

    def expire() -> None:
        nonlocal over
        over = True
        future = step.waiting_for
        if future is not None:
            future.cancel()

    timer = loop.call_at(when, expire)
    try:
        return await step.resume()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if over and not (task and task.cancelling()):
            raise error() from None
        raise
    finally:
        timer.cancel()


async def in_time(work: Awaitable[T], seconds: float, expired: Callable[[], Exception]) -> T:
    """Await `work`, at most `seconds`, else raise what `expired` makes. Work that need not wait costs no timer."""
    step = _Step(work)
    if step.start():
        return step.value
    loop = asyncio.get_running_loop()
    return await _in_time(loop, step, loop.time() + seconds, expired)


class _Pump(Generic[T]):
    """The tasks of a `merge`: each reads a source into one queue."""

    def __init__(self, sources: Sequence[AsyncIterator[T]], limit: int | None) -> None:
        self._items: deque[T] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._turns = asyncio.Semaphore(limit) if limit and limit < len(sources) else None
        self._running = len(sources)
        self._error: BaseException | None = None
        self._tasks = [asyncio.ensure_future(self._read(source)) for source in sources]

    async def _read(self, source: AsyncIterator[T]) -> None:
        try:
            if self._turns:
                async with self._turns:
                    await self._drain(source)
            else:
                await self._drain(source)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._error = self._error or error
        finally:
            self._running -= 1
            self._wake.set()

    async def _drain(self, source: AsyncIterator[T]) -> None:
        try:
            async for item in source:
                self._items.append(item)
                self._wake.set()
                if len(self._items) >= _BUFFERED:
                    self._room.clear()
                    await self._room.wait()
        finally:
            await close(source)

    async def items(self) -> AsyncIterator[T]:
        try:
            while True:
                while self._items:
                    yield self._items.popleft()
                self._room.set()
                if self._error:
                    raise self._error
                if not self._running:
                    return
                self._wake.clear()
                await self._wake.wait()
        finally:
            await _stop(self._tasks)


async def _stop(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel `tasks` and wait until they are over, whatever else is cancelled meanwhile."""
    for task in tasks:
        task.cancel()
    pending: list[asyncio.Future[Any]] = [task for task in tasks if not task.done()]
    interrupted = False
    while pending:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            interrupted = True
        pending = [task for task in pending if not task.done()]
    if interrupted:
        raise asyncio.CancelledError


async def merge(sources: Sequence[AsyncIterator[T]], *, limit: int | None = None) -> AsyncGenerator[T]:
    """The items of all `sources` as they come, at most `limit` sources at work at once (in their order).

    The first error of a source closes the others and is raised after the items before it. Closing this closes them all.
    """
    if len(sources) == 1:
        async with aclosing(cast("AsyncGenerator[T]", sources[0])) as only:
            async for item in only:
                yield item
        return
    async with aclosing(cast("AsyncGenerator[T]", _Pump(sources, limit).items())) as items:
        async for item in items:
            yield item


async def race(sources: Sequence[AsyncIterator[T]]) -> AsyncIterator[T]:
    """The source that gives an item first, from that item on; the others are closed at once.

    A source that fails or ends before its first item leaves the race; when all have, the first failure is raised.
    """
    firsts = [asyncio.ensure_future(_first(source)) for source in sources]
    waiting = dict(zip(firsts, sources, strict=True))
    failure: BaseException | None = None
    winner: AsyncIterator[T] | None = None
    item: T | None = None
    try:
        while waiting and winner is None:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=firsts.index):
                source = waiting.pop(task)
                error = task.exception()
                if error is not None:
                    failure = failure or (None if isinstance(error, _Ended) else error)
                elif winner is None:
                    winner, item = source, task.result()
                else:
                    await close(source)
    finally:
        await _stop(list(waiting))
        for source in waiting.values():
            await close(source)
    if winner is None:
        if failure is not None:
            raise failure
        return
    try:
        yield cast("T", item)
        async for item in winner:
            yield item
    finally:
        await close(winner)


class _Ended(Exception):
    """A source ended without an item."""


async def _first(source: AsyncIterator[T]) -> T:
    try:
        return await source.__anext__()
    except StopAsyncIteration:
        await close(source)
        raise _Ended from None


class Shared(Generic[T]):
    """See `share`."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._items: list[T] = []
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._readers = 0
        self._task = asyncio.ensure_future(self._read(source))

    async def _read(self, source: AsyncIterator[T]) -> None:
        try:
            async for item in source:
                self._items.append(item)
                self._notify()
        except BaseException as error:
            self._error = error
        finally:
            await close(source)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def reader(self) -> AsyncIterator[T]:
        """The whole source from its beginning. The last reader to leave before the end closes the source."""
        self._readers += 1
        self._task.add_done_callback(lambda _: self._notify())
        try:
            position = 0
            while True:
                while position < len(self._items):
                    position += 1
                    yield self._items[position - 1]
                if self._task.done():
                    if self._error is not None:
                        raise self._error
                    return
                await self._changed.wait()
        finally:
            self._readers -= 1
            if not self._readers:
                await _stop([self._task])


def share(source: AsyncIterator[T]) -> Shared[T]:
    """Read `source` once for any number of readers, each of whom sees all of it.

    The reading belongs to no reader: one that leaves does not disturb the others. It stops when the last has left.
    """
    return Shared(source)


async def prime(source: AsyncIterator[T], *, enough: Callable[[T], bool]) -> AsyncIterator[T]:
    """Read `source` up to the first item that is `enough`, or its end, and give an iterator over all of it.

    What `source` raises before that is raised here, while the caller can still answer otherwise.
    """
    head: deque[T] = deque()
    try:
        async for item in source:
            head.append(item)
            if enough(item):
                break
    except BaseException:
        await close(source)
        raise
    return _primed(head, source)


async def _primed(head: deque[T], source: AsyncIterator[T]) -> AsyncIterator[T]:
    try:
        while head:
            yield head.popleft()
        async for item in source:
            yield item
    finally:
        await close(source)


class Abandoned(Exception):
    """Nobody waits for the result any more."""


async def supervise(work: Coroutine[Any, Any, T], gone: Callable[[], Awaitable[None]], *, after_s: float) -> T:
    """Await `work`, but cancel it once `gone()` has returned.

    `gone` is asked only when `work` is still going after `after_s` seconds, so short work pays one timer for it.

    Raises:
        Abandoned: the work was cut short by `gone`.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    watcher: asyncio.Task[None] | None = None
    left = False

    async def watch() -> None:
        nonlocal left
        await gone()
        left = True
        if task is not None:
            task.cancel()

    def start() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    timer = loop.call_later(after_s, start)
    try:
        return await work
    except asyncio.CancelledError:
        if left and task is not None and task.uncancel() == 0:
            raise Abandoned from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
