"""Sources for tests of streams, and what may be left behind by none of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any


class Source:
    """An async iterator that speaks when told to.

    Items put into it come out in order; an exception put into it is raised; `END` ends it. `log` says what became of it:
    `started`, `cleaned` when its clean-up, which has to wait itself, is through. `tidy` is what the clean-up waits for.
    """

    END = object()

    def __init__(self, *items: Any, ends: bool = False) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.log: list[str] = []
        self.tidy: asyncio.Event | None = None
        self.taken = 0
        self.put(*items)
        if ends:
            self.put(self.END)

    def put(self, *items: Any) -> None:
        for item in items:
            self.queue.put_nowait(item)

    @property
    def open(self) -> bool:
        return "started" in self.log and "cleaned" not in self.log

    async def run(self) -> AsyncIterator[Any]:
        self.log.append("started")
        try:
            while True:
                item = await self.queue.get()
                self.taken += 1
                if item is self.END:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            await asyncio.sleep(0)
            if self.tidy:
                await self.tidy.wait()
            self.log.append("cleaned")


async def settle(turns: int = 20) -> None:
    """Let everything that can run, run."""
    for _ in range(turns):
        await asyncio.sleep(0)


@contextmanager
def nothing_left() -> Iterator[None]:
    """No task is left behind, no generator is left to the garbage collector, and the loop has nothing to complain of."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    orphans: list[str] = []
    complaints: list[Any] = []
    hooks, reporting = sys.get_asyncgen_hooks(), loop.get_exception_handler()

    def orphan(generator: Any) -> None:
        orphans.append(generator.__qualname__)
        assert hooks.finalizer is not None
        hooks.finalizer(generator)

    sys.set_asyncgen_hooks(firstiter=hooks.firstiter, finalizer=orphan)
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        yield
        assert asyncio.all_tasks() == before
        assert orphans == []
        assert complaints == []
    finally:
        sys.set_asyncgen_hooks(*hooks)
        loop.set_exception_handler(reporting)
