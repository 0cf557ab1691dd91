"""The processes of a benchmark: where they run, when they are ready, what they use.

What is measured has a core of its own, upstream and load have the others, where the machine has four and lets us say so.
Memory and processor time are read from /proc, so they are measured on Linux only.
"""

from __future__ import annotations

import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

import orjson

from bench.load import CALM_S, Order, Report

ROOT = Path(__file__).parents[1]
CONFIG = Path("bench") / "quorum.yaml"
READY_WITHIN_S = 30
LOAD_ENDS_WITHIN_S = 30
OPENING_S = 2.0 + CALM_S
"""The warm-up of a load of streams: until all are open, and the calm after it."""
Contestant = Literal["quorum", "before", "floor"]
_PROC = Path("/proc")


class BenchError(Exception):
    """A scene cannot run; the message says why."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which processors each part may use; empty for all of them."""

    server: frozenset[int] = frozenset()
    upstream: frozenset[int] = frozenset()
    load: frozenset[int] = frozenset()


def cores() -> Cores:
    """The last core for the server, the one before it for the upstream, the rest for the load; no pinning with fewer than four.

    The first cores take the machine's interrupts.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(allowed) < 4:
        return Cores()
    *rest, upstream_core, server_core = allowed
    return Cores(frozenset({server_core}), frozenset({upstream_core}), frozenset(rest))


def more_descriptors() -> None:
    """500 streams are 1,000 sockets in the server: take as many descriptors as the machine gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536) if hard > 0 else 65_536), hard))


class Process:
    """A running server. `ready_s` is how long it took until it was."""

    def __init__(self, popen: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.pid, self.port = popen.pid, port
        self.ready_s = 0.0
        self._popen, self._log = popen, log

    def running(self) -> bool:
        return self._popen.poll() is None

    def said(self) -> str:
        """The last lines of what it wrote."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

    def cpu_s(self) -> float | None:
        """Processor time used so far, in seconds."""
        try:
            fields = (_PROC / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int | None:
        """Memory in use, as the kernel counts it."""
        try:
            pages = int((_PROC / str(self.pid) / "statm").read_text().split()[1])
        except OSError:
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


@contextmanager
def upstream(directory: Path, where: Cores) -> Iterator[Process]:
    with _started([sys.executable, "-m", "bench.upstream", "PORT"], {}, directory / "upstream.log", where.upstream) as process:
        yield process


@contextmanager
def contestant(
    name: Contestant,
    upstream: Process,
    directory: Path,
    where: Cores,
    *,
    before: Path | None = None,
    profile: Path | None = None,
) -> Iterator[Process]:
    """The service or the floor, with one worker, ready.

    Parameters:
        before: another checkout of the service, for the contestant of that name.
        profile: where to write a profile of it.
    """
    data = directory / name
    if name == "floor":
        target = ["bench.floor", "PORT"]
    else:
        config = (before if name == "before" and before else ROOT) / CONFIG  # an older service may not know all of ours
        serve = ["serve", "--port", "PORT", "--workers", "1", "--config", str(config), "--data-dir", str(data)]
        target = ["bench.command", *serve]
    command = [sys.executable, "-P", "-m", *(["bench.profiling", str(profile)] if profile else []), *target]
    # -P: else the service would be taken from the working directory, whatever PYTHONPATH says
    environ = {
        "BENCH_UPSTREAM": f"http://127.0.0.1:{upstream.port}",
        "BENCH_KEY": "sk-bench",
        "PYTHONPATH": os.pathsep.join(str(path) for path in ((before if name == "before" else None), ROOT) if path),
        "QUORUM_GRACE_S": "0",
        "QUORUM_DRAIN_S": "1",
        "QUORUM_LOG_LEVEL": "warning",
    }
    with _started(command, environ, directory / f"{name}.log", where.server) as process:
        _wait_ready(process)
        if profile:
            os.kill(process.pid, signal.SIGUSR2)
        yield process


@contextmanager
def _started(command: Sequence[str], environ: Mapping[str, str], log: Path, where: frozenset[int]) -> Iterator[Process]:
    port = _free_port()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("QUORUM_", "PROMETHEUS_"))}
    arguments = [str(port) if part == "PORT" else part for part in command]
    with log.open("wb") as output:
        popen = subprocess.Popen(arguments, cwd=ROOT, env={**inherited, **environ}, stdout=output, stderr=output)
    process = Process(popen, port, log)
    try:
        if where:
            os.sched_setaffinity(popen.pid, where)
        _wait_listening(process)
        yield process
    finally:
        process.stop()


def _wait_listening(process: Process) -> None:
    _until(process, lambda: socket.create_connection(("127.0.0.1", process.port), 1).close() is None)


def _wait_ready(process: Process) -> None:
    def ready() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    _until(process, ready)


def _until(process: Process, true: Callable[[], bool]) -> None:
    began = time.monotonic()
    while time.monotonic() - began < READY_WITHIN_S:
        if not process.running():
            break
        with suppress(OSError, http.client.HTTPException):
            if true():
                process.ready_s += time.monotonic() - began
                return
        time.sleep(0.01)
    raise BenchError(f"it did not start:\n{process.said()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a load saw, and what the server used meanwhile. Times are sorted, in milliseconds."""

    times_ms: list[float]
    seconds: float
    cpu_s: float | None
    resident_bytes: int | None

    def quantile(self, share: float) -> float:
        return self.times_ms[min(len(self.times_ms) - 1, int(share * len(self.times_ms)))]


def load(
    server: Process,
    kind: Literal["calls", "streams"],
    body: Mapping[str, object],
    connections: int,
    seconds: float,
    where: Cores,
    *,
    warm_up_s: float,
    keyed: bool = False,
) -> Measured:
    """Put a load on `server`: `connections` over as many processes as there are cores for it, counted after `warm_up_s`.

    With `keyed` each request has an idempotency key of its own.

    Raises:
        BenchError: an answer was not what it should be.
    """
    processes = min(connections, 2)
    begin = time.monotonic() + 0.5 + warm_up_s
    with ExitStack() as running:
        loads: list[Callable[[], Report]] = []
        for number in range(processes):
            share = connections // processes + (number < connections % processes)
            order = Order(kind, server.port, orjson.dumps(body).decode(), share, begin, begin + seconds, keyed)
            loads.append(running.enter_context(_loading(order, where.load)))
        _sleep_until(begin)
        used = server.cpu_s()
        _sleep_until(begin + seconds)
        used_after, resident = server.cpu_s(), server.resident_bytes()
        reports = [report() for report in loads]
    for report in reports:
        if report.error:
            raise BenchError(f"{report.error}\n{server.said()}")
    times = sorted(time_ms for report in reports for time_ms in report.times_ms)
    if not times:
        raise BenchError(f"no answer within {seconds:g} s; measure longer (--seconds)")
    return Measured(times, seconds, None if used is None or used_after is None else used_after - used, resident)


@contextmanager
def _loading(order: Order, where: frozenset[int]) -> Iterator[Callable[[], Report]]:
    """A process of the load. What is yielded waits for its report."""
    with TemporaryFile() as output:
        popen = subprocess.Popen(
            [sys.executable, "-m", "bench.load", orjson.dumps(asdict(order)).decode()], cwd=ROOT, stdout=output
        )

        def report() -> Report:
            if popen.wait(LOAD_ENDS_WITHIN_S) != 0:
                raise BenchError("a process of the load has failed")
            output.seek(0)
            return Report(**orjson.loads(output.read()))

        try:
            if where:
                os.sched_setaffinity(popen.pid, where)
            yield report
        finally:
            popen.kill()
            popen.wait()


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))
