"""A TCP proxy before a store: it loses replies of commands that were carried out, or the store freezes behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from urllib.parse import urlsplit


class LossyProxy:
    """`share` of the replies are lost: half by breaking the connection, half in silence. `lost` counts them.

    With `freeze_at` the store freezes: what it is sent then it carries out, and answers, once that is over.
    """

    def __init__(self, upstream_url: str, seed: int) -> None:
        self.share = 0.0
        self.lost = 0
        self.url = ""
        self.frozen = False
        """Whether it has been, since `freeze_at` was called."""
        self._freezes: tuple[bytes, int, float] | None = None
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._upstream = urlsplit(upstream_url)
        self._rng = Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    def freeze_at(self, named: bytes, number: int, for_s: float) -> None:
        """Freeze for so long when the commands that name `named` have come to the `number`-th, from 0 on."""
        self.frozen = False
        self._freezes = named, number, for_s

    def thaw(self) -> None:
        """It is not frozen any more."""
        self._thawed.set()

    async def thawed(self) -> None:
        """Wait until it is not frozen any more."""
        await self._thawed.wait()

    def _watch(self, data: bytes) -> None:
        if self._freezes is None or self._freezes[0] not in data:
            return
        named, number, for_s = self._freezes
        self._freezes = (named, number - 1, for_s) if number else None
        if not number:
            self.frozen = True
            self._thawed.clear()
            asyncio.get_running_loop().call_later(for_s, self._thawed.set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._upstream.scheme == "unix":
            store_reader, store_writer = await asyncio.open_unix_connection(self._upstream.path)
        else:
            store_reader, store_writer = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        there = asyncio.create_task(self._forward(reader, store_writer, lossy=False))
        back = asyncio.create_task(self._forward(store_reader, writer, lossy=True))
        self._tasks |= {there, back}
        with suppress(asyncio.CancelledError):
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        for task in (there, back):
            task.cancel()
        for end in (writer, store_writer):
            end.close()
        self._tasks -= {there, back}

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, lossy: bool) -> None:
        silent = False
        with suppress(OSError):
            while data := await reader.read(65_536):
                if not lossy:
                    self._watch(data)
                await self._thawed.wait()
                if lossy and (silent or self._rng.random() < self.share):
                    self.lost += 1
                    if not silent and self._rng.random() < 0.5:
                        return
                    silent = True
                    continue
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def lossy_proxy(upstream_url: str, *, seed: int = 1) -> AsyncIterator[LossyProxy]:
    """A proxy before the store at `upstream_url`. It loses nothing before `share` is set."""
    proxy = LossyProxy(upstream_url, seed)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(proxy._tasks):
            task.cancel()
        await asyncio.sleep(0)
