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
| `telling`       | what an awaitable tells while it goes on                                      |

Nothing else in the application creates tasks around generators; those that need no task are in `steps`. No timer here cancels
a task: `with_deadline` cancels the future that the source waits for, so a deadline can never hit whoever happens to run at
that moment.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Generic, TypeVar

from app.core.steps import Batches, batches, close, in_time, with_deadline

__all__ = [
    "Abandoned",
    "Batches",
    "Primed",
    "Shared",
    "batches",
    "close",
    "in_time",
    "merge",
    "prime",
    "race",
    "share",
    "supervise",
    "telling",
    "with_deadline",
]

T = TypeVar("T")

_BUFFERED = 256
"""Items that the sources of a `merge` may be ahead of its reader."""


class _Pump(Generic[T]):
    """The tasks of a `merge`: each reads a source into one queue."""

    def __init__(self, sources: Sequence[AsyncIterator[T]], limit: int | None) -> None:
        self._sources = sources
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
        except BaseException as error:  # it is the reader's: `items` raises it
            if self._error is None:
                self._error = error
                self._cancel_others()
        finally:
            self._running -= 1
            self._wake.set()

    def _cancel_others(self) -> None:
        """An error is raised once the queue is empty, so nothing may go on filling it."""
        own = asyncio.current_task()
        _cancel([task for task in self._tasks if task is not own])

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

    async def items(self) -> AsyncGenerator[T]:
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
            await _stop(self._tasks, self._sources)


def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel each once: a second time would hit what its source awaits while it cleans up."""
    for task in tasks:
        if not task.done() and not task.cancelling():
            task.cancel()


async def _stop(tasks: Sequence[asyncio.Task[Any]], sources: Sequence[AsyncIterator[Any]] = ()) -> None:
    """Cancel `tasks`, wait until they are over, then close `sources`, whatever else is cancelled meanwhile.

    What a task ended with is not raised: nobody waits for it any more.
    """
    _cancel(tasks)
    pending: list[asyncio.Task[Any]] = [task for task in tasks if not task.done()]
    interrupted = False
    while pending:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            interrupted = True
        pending = [task for task in pending if not task.done()]
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, so that the loop does not report it as forgotten
    await _close_all(sources)
    if interrupted:
        raise asyncio.CancelledError


async def _close_all(sources: Sequence[AsyncIterator[Any]]) -> None:
    """Close each of `sources`, though closing another fails."""
    async with AsyncExitStack() as stack:
        for source in sources:
            stack.push_async_callback(close, source)


async def merge(sources: Sequence[AsyncIterator[T]], *, limit: int | None = None) -> AsyncGenerator[T]:
    """The items of all `sources` as they come, at most `limit` sources at work at once (in their order).

    The first error of a source closes the others and is raised after the items before it. Closing this closes them all.
    """
    only = len(sources) == 1
    items = sources[0] if only else _Pump(sources, limit).items()
    try:
        async for item in items:
            yield item
    finally:
        await close(items)


async def race(sources: Sequence[AsyncIterator[T]]) -> AsyncIterator[T]:
    """The source that gives an item first, from that item on; the others are closed at once.

    A source that fails or ends before its first item leaves the race; when all have, the first failure is raised.
    """
    firsts = [asyncio.ensure_future(anext(source)) for source in sources]
    winner: int | None = None
    failure: BaseException | None = None
    waiting = set(firsts)
    try:
        try:
            while waiting and winner is None:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=firsts.index):
                    error = task.exception()
                    if error is None:
                        winner = firsts.index(task) if winner is None else winner
                    elif failure is None and not isinstance(error, StopAsyncIteration):
                        failure = error
        finally:
            await _stop(firsts, [source for index, source in enumerate(sources) if index != winner])
        if winner is not None:
            yield firsts[winner].result()
            async for item in sources[winner]:
                yield item
        elif failure is not None:
            raise failure
    finally:
        await _close_all(sources)


class Shared(Generic[T]):
    """See `share`."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._items: list[T] = []
        self._error: BaseException | None = None
        self._over = False
        self._changed = asyncio.Event()
        self._readers = 0
        self._task = asyncio.ensure_future(self._read(source))

    async def _read(self, source: AsyncIterator[T]) -> None:
        try:
            try:
                async for item in source:
                    self._items.append(item)
                    self._notify()
            finally:
                await close(source)
        except asyncio.CancelledError:
            self._error = self._error or Abandoned("every reader had left")
        except BaseException as error:  # it is the readers': each of them raises it
            self._error = error
        finally:
            self._over = True
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def reader(self) -> AsyncIterator[T]:
        """The whole source from its beginning. The last reader to leave before the end closes the source.

        Raises:
            Abandoned: the source was closed because every reader before this one had left.
        """
        self._readers += 1
        try:
            position = 0
            while True:
                while position < len(self._items):
                    position += 1
                    yield self._items[position - 1]
                if self._over:
                    if self._error is not None:
                        raise self._error
                    return
                await self._changed.wait()
        finally:
            self._readers -= 1
            if not self._readers:
                await _stop([self._task])

    @property
    def over(self) -> bool:
        """Whether all of the source was read, or it was closed."""
        return self._over

    async def end(self, reason: Exception) -> None:
        """Close the source though it is read; the readers get `reason` after what it has said."""
        if not self._over:
            self._error = reason
            await _stop([self._task])


def share(source: AsyncIterator[T]) -> Shared[T]:
    """Read `source` once for any number of readers, each of whom sees all of it.

    The reading belongs to no reader: one that leaves does not disturb the others. It stops when the last has left.
    """
    return Shared(source)


async def prime(source: AsyncIterator[T], *, enough: Callable[[T], bool]) -> Primed[T]:
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
    return Primed(head, source)


class Primed(Generic[T]):
    """See `prime`. Closing it closes the source, though nobody has begun to read."""

    __slots__ = ("_head", "_source")

    def __init__(self, head: deque[T], source: AsyncIterator[T]) -> None:
        self._head = head
        self._source = source

    def __aiter__(self) -> Primed[T]:
        return self

    async def __anext__(self) -> T:
        return self._head.popleft() if self._head else await anext(self._source)

    async def aclose(self) -> None:
        self._head.clear()
        await close(self._source)


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
    before = task.cancelling() if task else 0
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
        if left and task is not None and task.cancelling() <= before + 1:
            raise Abandoned from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
        if left and task is not None:
            task.uncancel()  # the watcher's cancellation has done its work, or came too late


async def telling(work: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> AsyncGenerator[T]:
    """The items that `work` gives to the function it is called with, as they come, until it is over.

    What it raises is raised here, after the items before it. Closing this cancels it.
    """
    items: deque[T] = deque()
    wake = asyncio.Event()

    def tell(item: T) -> None:
        items.append(item)
        wake.set()

    task = asyncio.ensure_future(work(tell))
    task.add_done_callback(lambda _: wake.set())
    try:
        while True:
            while items:
                yield items.popleft()
            if task.done():
                break
            wake.clear()
            await wake.wait()
        task.result()
    finally:
        await _stop([task])
