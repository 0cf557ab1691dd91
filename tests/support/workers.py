"""Processes of `quorum worker`, over the store of a test."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

QUORUM = str(Path(sys.executable).with_name("quorum"))


class WorkerProcess:
    """`said` is what it wrote on stderr so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""
        self.ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if line.startswith("Quorum works"):
                self.ready.set()
        self.ready.set()

    def wait_ready(self) -> None:
        assert self.ready.wait(30)
        assert self.process.poll() is None, self.said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        self._reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def worker(
    directory: Path, redis_url: str, config: Mapping[str, Any], *words: str, drain_s: float = 0.5
) -> Iterator[WorkerProcess]:
    """A worker with these words on its command line, gone at the end of the test."""
    directory.mkdir(exist_ok=True)
    path = directory / "quorum.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    variables = {
        "REDIS_URL": redis_url,
        "CONFIG": path,
        "DATA_DIR": directory,
        "SECRET": "x" * 32,
        "LOG_LEVEL": "error",
        "DRAIN_S": drain_s,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("QUORUM_", "PROMETHEUS_"))}
    environment = {**inherited, **{f"QUORUM_{name}": str(value) for name, value in variables.items()}}
    process = subprocess.Popen([QUORUM, "worker", *words], env=environment, cwd=directory, stderr=subprocess.PIPE, text=True)
    running = WorkerProcess(process)
    try:
        running.wait_ready()
        yield running
    finally:
        running.close()
