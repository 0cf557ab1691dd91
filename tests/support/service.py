"""A running service in a process of its own, and what a test asks of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.support.valkey import server_pid

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 90
"""A test's patience where several services start at once on a machine that has much else to do; the benchmark measures how long
one takes."""

SERVE = """
import sys
from app.config.settings import load_settings
from app.core.errors import QuorumError
from app.supervisor import serve
try:
    serve(load_settings(), factory=sys.argv[1])
except QuorumError as error:
    sys.exit(error.message)
"""


class Service:
    """`said` is what it wrote on stderr so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""
        self.url = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            found = re.search(r"serves (http://[^ ]+)", line)
            if found:
                self.url = found[1]
            if line.startswith("Try: "):
                self._ready.set()
        self._ready.set()

    def wait_ready(self) -> None:
        assert self._ready.wait(READY_WITHIN_S), self.said
        assert self.url, self.said

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, timeout=20)

    def facts(self) -> dict[str, Any]:
        return self.get("/facts").json()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Waits for its end; the exit code."""
        code = self.process.wait(30)
        self._reader.join(10)
        return code


@contextmanager
def service(
    data_dir: Path, *, factory: str = "tests.support.tiny_app:create_app", ready: bool = True, **settings: object
) -> Iterator[Service]:
    """A service on a free port. What is still there of it at the end of the test is killed."""
    variables = {"port": 0, "grace_s": 0, "drain_s": 5, "data_dir": data_dir, **settings}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("QUORUM_", "PROMETHEUS_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, factory],
        env={
            **inherited,
            "PYTHONPATH": str(ROOT),
            **{f"QUORUM_{name.upper()}": str(value) for name, value in variables.items()},
        },
        cwd=data_dir,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Service(process)
    try:
        if ready:
            running.wait_ready()
        yield running
    finally:
        process.kill()  # first, since it would replace a Valkey or a worker that is killed before it
        process.wait()
        for pid in processes_of(data_dir):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert process.stderr is not None
        running._reader.join(10)
        process.stderr.close()


def processes_of(data_dir: Path) -> set[int]:
    """Every living process that was started for `data_dir`, which stands in the environment they inherit, and its Valkey."""
    mark = f"QUORUM_DATA_DIR={data_dir}\0".encode()
    valkey = server_pid(data_dir)  # it writes its title over its environment
    found = set() if valkey is None else {valkey}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes() + b"\0":
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def workers_of(pid: int) -> list[int]:
    """The children of a process that serve."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"app.worker" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")]


def eventually(true: Callable[[], Any], *, within_s: float = 30) -> Any:
    """The first true value of `true`, which is asked again and again; fails after `within_s`: a promise where it is given."""
    deadline = time.monotonic() + within_s
    while True:
        value = true()
        if value:
            return value
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
