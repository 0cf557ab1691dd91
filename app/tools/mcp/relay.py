"""The relay: the one process of a machine that talks to MCP servers. `python -m app.tools.mcp.relay SOCKET DIRECTORY`.

Workers start it when they need it and say which servers they want. A server runs as long as somebody wants it; the relay ends
itself when nobody is connected any more, so that it outlives a kill -9 of its starters by moments only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import signal
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from app.tools.mcp.frames import packed, read
from app.tools.mcp.sessions import Session

LINGER_S: Final = 3.0
"""Without anybody connected: a worker that is replaced comes back within this time."""
MAX_UNSENT_BYTES: Final = 256 * 1024 * 1024
"""A worker that does not read its answers is cut off here."""

log = logging.getLogger(__name__)


class Relay:
    """The sessions, each known by its configuration, and who wants which.

    Parameters:
        home: where the programs' logs are kept.
    """

    def __init__(self, home: Path) -> None:
        self.over = asyncio.Event()
        self._home = home
        self._sessions: dict[str, Session] = {}
        self._workers: set[_Worker] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._linger: asyncio.TimerHandle | None = None
        self._wait_for_more()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One worker, from its coming to its going."""
        worker = _Worker(self, writer)
        self._workers.add(worker)
        self._wait_for_more()
        leaves = False
        try:
            while not leaves and (frame := await read(reader)) is not None:
                leaves = frame["op"] == "leave"
                if not leaves:
                    worker.obey(frame)
        finally:
            self._workers.discard(worker)
            worker.stop()
            self.tidy()
            self._wait_for_more()
            if leaves and not self._workers:
                await self._settle()
                if not self._workers:
                    self.over.set()
            if leaves:
                worker.send({"on": "left", "ends": self.over.is_set()})
            with contextlib.suppress(ConnectionError):
                writer.close()

    def session(self, key: str, name: str, config: dict[str, Any]) -> Session:
        """The session for a configuration, begun where there is none."""
        found = self._sessions.get(key)
        if found is None:
            found = self._sessions[key] = Session(config, self._home / f"{name}.log", lambda: self._tell(key))
        return found

    def tidy(self) -> None:
        """End the sessions that nobody wants."""
        wanted = {key for worker in self._workers for key in worker.keys.values()}
        for key in self._sessions.keys() - wanted:
            task = asyncio.create_task(self._sessions.pop(key).retire(), name="retiring")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _settle(self) -> None:
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def close(self) -> None:
        """End everything."""
        for worker in self._workers:
            worker.keys.clear()
        self.tidy()
        await self._settle()

    def _tell(self, key: str) -> None:
        for worker in self._workers:
            worker.tell(key)

    def _wait_for_more(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
        self._linger = None
        if not self._workers:
            self._linger = asyncio.get_running_loop().call_later(LINGER_S, self.over.set)


class _Worker:
    """A connected worker: what it wants, and its calls."""

    def __init__(self, relay: Relay, writer: asyncio.StreamWriter) -> None:
        self.keys: dict[str, str] = {}
        self._relay = relay
        self._writer = writer
        self._sessions: dict[str, Session] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}

    def obey(self, frame: dict[str, Any]) -> None:
        match frame["op"]:
            case "want":
                self._want(frame["servers"])
            case "call":
                task = asyncio.create_task(self._call(frame), name="mcp call")
                self._calls[frame["id"]] = task
                task.add_done_callback(lambda _: self._calls.pop(frame["id"], None))
            case "cancel":
                if (task := self._calls.get(frame["id"])) is not None:
                    task.cancel()
            case unknown:
                log.error("a worker said what is not known here: %r", unknown)

    def stop(self) -> None:
        self.keys = {}
        for task in list(self._calls.values()):
            task.cancel()

    def tell(self, key: str) -> None:
        """Tell of the state of a session, under each name that the worker has for it."""
        for name, wanted in self.keys.items():
            session = self._sessions[name]
            if wanted == key:
                self.send(
                    {"on": "server", "name": name, "state": session.state, "error": session.error, "tools": session.tools}
                )

    def _want(self, servers: dict[str, dict[str, Any]]) -> None:
        self.keys = {name: _key(config) for name, config in servers.items()}
        self._sessions = {name: self._relay.session(self.keys[name], name, config) for name, config in servers.items()}
        self._relay.tidy()
        for key in set(self.keys.values()):
            self.tell(key)

    async def _call(self, frame: dict[str, Any]) -> None:
        session = self._sessions.get(frame["server"])
        if session is None:
            answer: dict[str, Any] = {"failure": "away", "message": "its server is not configured any more"}
        else:
            answer = await session.call(
                frame["tool"],
                frame["arguments"],
                timeout_s=frame["timeout_s"],
                meta=frame["meta"],
                most_bytes=frame["most_bytes"],
            )
        self.send({"on": "answer", "id": frame["id"], **answer})

    def send(self, frame: dict[str, Any]) -> None:
        """Tell the worker something. One that does not read is cut off."""
        self._writer.write(packed(frame))
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._writer.transport.abort()


def _key(config: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(config, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def serve(socket: Path, home: Path) -> None:
    """Serve until nobody is connected any more, or a signal comes. The socket is elsewhere than at `home` where
    that is too long a path for one."""
    relay = Relay(home)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, relay.over.set)
    server = await asyncio.start_unix_server(relay.serve, str(socket))
    await relay.over.wait()
    await asyncio.to_thread(socket.unlink, missing_ok=True)
    server.close()
    await relay.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
