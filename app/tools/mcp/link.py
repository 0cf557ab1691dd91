"""A worker's connection to the relay: what it knows of the MCP servers, and its calls to them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, cast

import structlog

from app.config.tools import McpServerConfig
from app.observability.metrics import MCP_SERVERS
from app.tools.mcp.frames import ServerState, packed, read
from app.tools.mcp.starting import RelayProcess

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
STEADY_S: Final = 10.0
"""A relay that ended after so long is replaced at once; for one that ended sooner the wait doubles."""
LEAVE_S: Final = 8.0
"""How long a worker that goes waits for the servers to end: a program has 2 s after its stdin closed, and 2 s after SIGTERM."""
_GONE: Final = {
    "failure": "unknown",
    "message": "the relay went away while it worked; whether the call took effect is not known",
}
_AWAY: Final = {"failure": "away", "message": "the relay to the MCP servers is being started"}

_log = structlog.get_logger("quorum.mcp")


@dataclass(slots=True)
class Server:
    """What is known of a configured server. `tools` stay known while it is away."""

    config: McpServerConfig
    state: ServerState = "starting"
    error: str | None = None
    tools: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class McpLink:
    """The configured MCP servers, reached through the relay of the data directory. Without any, nothing is started.

    Parameters:
        changed: called when a server's state or tools are others.
    """

    def __init__(self, data_dir: Path, changed: Callable[[], None]) -> None:
        self.servers: dict[str, Server] = {}
        self._relay = RelayProcess(data_dir)
        self._changed = changed
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ids = count(1)
        self._task: asyncio.Task[None] | None = None
        self._started = False
        self._ends = False

    def configure(self, servers: Mapping[str, McpServerConfig]) -> None:
        """Want these servers, and no others. Those that are wanted as before go on undisturbed."""
        kept = self.servers
        self.servers = {}
        for name, config in servers.items():
            before = kept.get(name)
            same = before is not None and _wire(before.config) == _wire(config)
            self.servers[name] = Server(config, before.state, before.error, before.tools) if before and same else Server(config)
        for name in kept.keys() - self.servers.keys():
            MCP_SERVERS.labels(name).set(math.nan)  # neither up nor down: workers cannot take a label back
        self._want()
        self._begin()

    def start(self) -> None:
        """From now on there is an event loop to connect in."""
        self._started = True
        self._begin()

    async def close(self) -> None:
        """Leave the relay, which ends the servers where nobody else wants them."""
        self._started = False
        if self._writer is not None:
            self._write({"op": "leave"})
        if self._task is not None:
            if self._writer is not None:
                await asyncio.wait([self._task], timeout=LEAVE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await asyncio.to_thread(self._relay.leave, ends=self._ends)

    async def call(
        self, server: str, tool: str, arguments: dict[str, Any], *, timeout_s: float, meta: Mapping[str, Any], most_bytes: int
    ) -> dict[str, Any]:
        """The answer to a call, as the relay gives it: `{content, structured, is_error}`, or `{failure, message}`."""
        if self._writer is None:
            return dict(_AWAY)
        number = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._write(
            {
                "op": "call",
                "id": number,
                "server": server,
                "tool": tool,
                "arguments": arguments,
                "timeout_s": timeout_s,
                "meta": dict(meta),
                "most_bytes": most_bytes,
            }
        )
        try:
            return await answer
        except asyncio.CancelledError:
            self._write({"op": "cancel", "id": number})
            raise
        finally:
            self._answers.pop(number, None)

    # ---- the connection

    def _begin(self) -> None:
        if self._started and self.servers and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep(), name="mcp link")

    async def _keep(self) -> None:
        delay_s = FIRST_DELAY_S
        while self._started:
            try:
                await asyncio.to_thread(self._relay.ensure)
                reader, self._writer = await asyncio.open_unix_connection(str(self._relay.socket))
            except OSError as error:
                self._all_away(f"the relay cannot be reached: {error}")
            else:
                began = time.monotonic()
                try:
                    self._want()
                    await self._read(reader)
                finally:
                    self._lost()
                if time.monotonic() - began >= STEADY_S:
                    delay_s = FIRST_DELAY_S
            if self._started:
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, LONGEST_DELAY_S)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Take what the relay says, to its end."""
        while (frame := await read(reader)) is not None:
            if frame["on"] == "server":
                self._hear(frame)
            elif frame["on"] == "left":
                self._ends = frame["ends"]
            elif (answer := self._answers.get(frame["id"])) is not None and not answer.done():
                answer.set_result(frame)

    def _hear(self, frame: dict[str, Any]) -> None:
        server = self.servers.get(frame["name"])
        if server is None:
            return
        name, state = frame["name"], cast("ServerState", frame["state"])
        if state != server.state:
            _log.info("an MCP server is " + state, server=name, reason=frame["error"])
            MCP_SERVERS.labels(name).set(1 if state == "ready" else 0)
        server.state, server.error = state, frame["error"]
        if state == "ready":
            server.tools = frame["tools"]
        self._changed()

    def _lost(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._relay.reap()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(dict(_GONE))
        if self._started:
            self._all_away("the relay has ended and is started again")

    def _all_away(self, why: str) -> None:
        for name, server in self.servers.items():
            server.state, server.error = "away", why
            MCP_SERVERS.labels(name).set(0)
        self._changed()

    def _want(self) -> None:
        self._write({"op": "want", "servers": {name: _wire(server.config) for name, server in self.servers.items()}})

    def _write(self, frame: dict[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(packed(frame))


def _wire(config: McpServerConfig) -> dict[str, Any]:
    """What of a server's configuration makes it another server."""
    return {
        "command": list(config.command),
        "env": config.env,
        "cwd": config.cwd,
        "url": config.url,
        "headers": config.headers,
        "connect_s": config.connect_s,
    }
