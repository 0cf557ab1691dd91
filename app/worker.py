"""One process that serves HTTP: uvicorn on sockets that are bound already, with signal handling of our own.

uvicorn refuses new connections at once on SIGTERM. Here the process first says "not ready" and serves on for the grace
period, so that balancers notice; then it finishes what is under way, and ends.

`python -m app.worker FD` is a child of the supervisor. The socket FD is its lifeline: its order comes in on it, one byte goes
out when it is ready, and its end means that the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import math
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.config.settings import Settings
from app.core.errors import ConfigError, QuorumError
from app.core.lifecycle import ABORT, Draining

KEEP_ALIVE_S: Final = 75
"""For idle connections: longer than the 60 s after which the usual balancers drop theirs, so that they never race with us."""

MAX_HEAD_BYTES: Final = 256 * 1024
"""For the request line and all headers. uvicorn has no bound on them, and the longest header alone is bounded by the limits."""

LINGER_S: Final = 1.0
LINGER_BYTES: Final = 16 * 1024 * 1024
"""How long and how much of a body is still taken after its answer. Closing at once would lose the answer: the reset that
unread data provokes overtakes it (nginx calls this `lingering_close`)."""

GC_THRESHOLD: Final = 10_000
"""New container objects between two collections of the youngest: a request makes some hundred that all die with it."""

SAY_S: Final = 0.5
"""After the drain period: for those who read runs that belong to the process to hear of their end, and then for all others."""

READY: Final = b"R"
_LENGTH: Final = struct.Struct(">Q")

log = logging.getLogger(__name__)


class Application(Protocol):
    """An ASGI application with a `state`, as FastAPI has."""

    state: Any

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is to do. `factory` is `module:function`; the function makes the application from the settings."""

    factory: str
    settings: Settings
    sockets: tuple[int, ...]
    announcement: str | None = None

    def packed(self) -> bytes:
        body = pickle.dumps(self)
        return _LENGTH.pack(len(body)) + body


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with a bound on a request's head, an end to bodies that nobody reads, and a way to break it."""

    head: int | None = 0
    """Bytes of the head so far; None while a body is read."""
    unread = 0
    """Bytes of a body that came after its answer."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.head is not None and not self.transport.is_closing():
            self.head += len(data)
            if self.head > MAX_HEAD_BYTES:
                self.send_400_response(f"The head of a request may have {MAX_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"call": self.transport.abort}}

    def on_headers_complete(self) -> None:
        self.head = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete:
            self.unread += len(body)
            if self.unread > LINGER_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        self.head = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.head is None:
            self.unread = 0
            self.loop.call_later(LINGER_S, self._stop_reading, self.cycle)

    def _stop_reading(self, cycle: object) -> None:
        if self.head is None and self.cycle is cycle:
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn without its signal handling."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _settle()
        self._on_ready()


def _settle() -> None:
    """Take what the start has made, modules above all, out of the garbage collector's sight: it lives as long as the process.

    Without this each full collection walks some hundred thousand objects in vain, in the middle of a request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def make_app(factory: str, settings: Settings) -> Application:
    """Calls the factory `module:function`."""
    module, _, name = factory.partition(":")
    return cast("Application", getattr(importlib.import_module(module), name)(settings))


def configured(app: Application, *, drain_s: float) -> uvicorn.Config:
    """How uvicorn serves `app`."""
    return uvicorn.Config(
        cast("Any", app),
        loop="none",
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(drain_s + 2 * SAY_S),
    )


async def serve(
    app: Application,
    sockets: Sequence[socket.socket],
    *,
    grace_s: float,
    drain_s: float,
    on_ready: Callable[[], None],
    lifeline: socket.socket | None = None,
) -> None:
    """Serves until SIGTERM (after `grace_s`), SIGINT (at once), or the end of the lifeline. Closes the sockets.

    What is under way has `drain_s` to finish; then what is left is ended, with word to whoever waits (`Draining`).

    A second signal ends it without that. SIGHUP reloads the configuration.
    """
    server = Server(configured(app, drain_s=drain_s), on_ready)
    draining: Draining = getattr(app.state, "draining", None) or Draining()
    # Our generators are always closed, so the loop need not know them all: that would cost every call a dozen weak references.
    sys.set_asyncgen_hooks(firstiter=None)
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def leave() -> None:
        server.should_exit = True

    def stop(wait_s: float) -> None:
        if draining.begun:
            server.force_exit = True
            leave()
            return
        draining.begin()
        loop.call_later(wait_s, leave)
        loop.call_later(wait_s + drain_s, draining.end)
        loop.call_later(wait_s + drain_s + SAY_S, lambda: draining.cut(server.server_state.tasks))

    def reload() -> None:
        task = loop.create_task(_reload(app))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def abandoned() -> None:
        loop.remove_reader(cast("socket.socket", lifeline))
        if not draining.begun:
            stop(0.0)

    loop.add_signal_handler(signal.SIGTERM, stop, grace_s)
    loop.add_signal_handler(signal.SIGINT, stop, 0.0)
    loop.add_signal_handler(signal.SIGHUP, reload)
    if lifeline is not None:
        loop.add_reader(lifeline, abandoned)
    await server.serve(list(sockets))


def run(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` to its end on the fast event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def announce(app: Application, text: str) -> None:
    """Prints where the service listens and what it serves."""
    summary = getattr(app.state, "summary", "")
    print(text.replace("{summary}", f"{summary}\n" if summary else ""), file=sys.stderr, flush=True)


async def _reload(app: Application) -> None:
    try:
        await app.state.reload()
    except ConfigError as error:
        log.error("the configuration is not reloaded, the old one stays: %s", "; ".join((error.message, *error.faults)))  # noqa: TRY400


def main() -> None:
    """The entry of a child process: obeys the order that comes in on the lifeline."""
    lifeline = socket.socket(fileno=int(sys.argv[1]))
    order = _received(lifeline)

    try:
        app = make_app(order.factory, order.settings)
    except QuorumError as error:
        sys.exit("\n".join((f"quorum: {error.message}", *getattr(error, "faults", ()))))

    def on_ready() -> None:
        if order.announcement is not None:
            announce(app, order.announcement)
        with contextlib.suppress(OSError):  # the supervisor is gone: the lifeline's end is noticed next
            lifeline.send(READY)

    sockets = [socket.socket(fileno=descriptor) for descriptor in order.sockets]
    grace_s, drain_s = order.settings.grace_s, order.settings.drain_s
    run(serve(app, sockets, grace_s=grace_s, drain_s=drain_s, on_ready=on_ready, lifeline=lifeline))


def _received(lifeline: socket.socket) -> Order:
    with lifeline.makefile("rb") as file:
        body = file.read(_LENGTH.unpack(file.read(_LENGTH.size))[0])
    return cast("Order", pickle.loads(body))  # noqa: S301 (from our own parent, over a socket that only it holds)


if __name__ == "__main__":
    main()
