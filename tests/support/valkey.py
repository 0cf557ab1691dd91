"""A real Valkey for tests: the embedded one, in a directory of its own."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.redis_shapes import external_url

PATIENCE_S = 10.0
"""What a machine on which many tests run may take for one command. The service itself waits 250 ms."""


class External:
    """A Redis that runs already, in place of an embedded one."""

    def __init__(self, url: str) -> None:
        self.url = url


@contextmanager
def running_valkey() -> Iterator[EmbeddedValkey]:
    """A server that is gone afterwards, even where the test stopped or killed it; or the one that the environment names."""
    url = external_url()
    if url is not None:
        yield cast("EmbeddedValkey", External(url))
        return
    with tempfile.TemporaryDirectory(prefix="quorum-test-") as directory:
        server = EmbeddedValkey(Path(directory))
        server.start()
        try:
            yield server
        finally:
            pid = server_pid(server.data_dir)
            if pid is not None:
                os.kill(pid, signal.SIGCONT)
            server.stop()


def patient(url: str) -> StateClient:
    """A client for tests of what is decided, not of how soon it is known."""
    return StateClient(url, timeout_s=PATIENCE_S)


def server_pid(data_dir: Path) -> int | None:
    """The process id of the server of `data_dir`, None where none lives."""
    try:
        pid = int((data_dir / "valkey" / "valkey.pid").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    return None if state == "Z" else pid
