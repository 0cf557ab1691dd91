"""Several processes that serve the same sockets, each replaced when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final

from app.config.settings import Settings
from app.core.errors import QuorumError
from app.state.locks import FileLock
from app.worker import READY, Order

STEADY_S: Final = 30.0
"""A worker that lived so long is replaced at once; one that died sooner, after a delay that doubles."""

FIRST_DELAY_S: Final = 0.25
LONGEST_DELAY_S: Final = 10.0
KILL_AFTER_S: Final = 10.0
"""Beyond the grace and drain periods, for a worker that does not end."""

_METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

log = logging.getLogger(__name__)


class WorkerPool:
    """Keeps `settings.workers` processes alive until it is told to stop by SIGTERM or SIGINT, which it hands on, as SIGHUP.

    Closes its copies of the sockets when it stops, so that the last worker to leave ends the listening.
    """

    def __init__(
        self, factory: str, settings: Settings, sockets: Sequence[socket.socket], *, metrics_dir: Path, announcement: str
    ) -> None:
        self._factory = factory
        self._settings = settings
        self._sockets = sockets
        self._metrics_dir = metrics_dir
        self._announcement: str | None = announcement
        self._children: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._ready_once = False
        self._failure: str | None = None

    async def run(self) -> None:
        """Returns when every worker has ended after a signal. Raises `QuorumError` where none ever became ready."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._stop, signal.SIGINT)
        loop.add_signal_handler(signal.SIGHUP, self._send, signal.SIGHUP)
        async with asyncio.TaskGroup() as group:
            places = [group.create_task(self._keep()) for _ in range(self._settings.workers)]
            await self._stopping.wait()
            _, late = await asyncio.wait(places, timeout=self._settings.grace_s + self._settings.drain_s + KILL_AFTER_S)
            if late:
                self._send(signal.SIGKILL)
        if self._failure is not None:
            raise QuorumError(self._failure)

    def _stop(self, number: signal.Signals) -> None:
        for each in self._sockets:
            each.close()
        self._stopping.set()
        self._send(number)

    def _send(self, number: signal.Signals) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    async def _keep(self) -> None:
        """One place in the pool: a worker, and its successors."""
        delay_s = FIRST_DELAY_S
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._live()
            if self._stopping.is_set():
                return
            if not self._ready_once:
                self._failure = f"a worker ended while starting ({_ending(code)}): what it wrote above says why"
                self._stop(signal.SIGTERM)
                return
            log.warning("a worker ended (%s); another one takes its place", _ending(code))
            if time.monotonic() - started >= STEADY_S:
                delay_s = FIRST_DELAY_S
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)

    async def _live(self) -> int:
        """One worker from its start to its end; its exit code."""
        order = self._order()
        ours, theirs = socket.socketpair()
        with theirs:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a package named `app` in the working directory is not ours
                "-m",
                "app.worker",
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(), *order.sockets),
                env={**os.environ, _METRICS_VARIABLE: str(self._metrics_dir)},
                start_new_session=True,  # Ctrl-C in a terminal is for us; we hand it on
            )
        self._children.add(child)
        if self._stopping.is_set():
            self._send(signal.SIGTERM)
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            writer.write(order.packed())
            with contextlib.suppress(ConnectionError):
                if await reader.read(1) == READY:
                    self._ready_once = True
            return await child.wait()
        finally:
            self._children.discard(child)
            writer.close()
            self._forget(child.pid)

    def _order(self) -> Order:
        """The first worker announces the service."""
        announcement, self._announcement = self._announcement, None
        return Order(self._factory, self._settings, tuple(each.fileno() for each in self._sockets), announcement)

    def _forget(self, pid: int) -> None:
        """Drops the gauges of a process that has ended; its counters stay."""
        multiprocess: Any = importlib.import_module("prometheus_client.multiprocess")  # heavy, and without types
        multiprocess.mark_process_dead(pid, str(self._metrics_dir))


@contextlib.contextmanager
def metrics_directory(run_dir: Path) -> Generator[Path]:
    """A fresh directory for the metrics that workers share. It is removed at the end, as are those left by a kill -9."""
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in run_dir.glob("metrics-*"):
        lock = FileLock(old / "lock")
        with contextlib.suppress(FileNotFoundError):
            if lock.take(wait=False):
                shutil.rmtree(old, ignore_errors=True)
        lock.release()
    directory = Path(tempfile.mkdtemp(prefix="metrics-", dir=run_dir))
    try:
        with FileLock(directory / "lock"):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
