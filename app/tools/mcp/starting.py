"""Finding the relay of a data directory, or starting it. Blocks: call it in a thread.

As with the embedded store, two locks decide: `starting` is held while somebody looks and starts, `relay` by the relay itself,
exactly as long as it lives.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from app.state.embedded import make_private, socket_path
from app.state.locks import FileLock
from app.tools.mcp.frames import PROTOCOL

START_TIMEOUT_S: Final = 20.0
END_TIMEOUT_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.02

_left: Final[list[subprocess.Popen[bytes]]] = []
"""Relays that were started here and are left to others who use them; kept, so that their end is noticed."""


class RelayProcess:
    """The relay of `data_dir`, which any process may have started."""

    def __init__(self, data_dir: Path) -> None:
        self._home = data_dir.resolve() / "mcp"
        self.socket = socket_path(self._home, f"relay-{PROTOCOL}")
        self._process: subprocess.Popen[bytes] | None = None

    def ensure(self) -> None:
        """Make sure that one listens at `socket`.

        Raises:
            OSError: the directory cannot be used, or the relay does not start; says where its log is.
        """
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(self._home)
        if self.socket.parent != self._home:
            make_private(self.socket.parent)
        with FileLock(self._home / "starting.lock"):
            deadline = time.monotonic() + START_TIMEOUT_S
            while not self._answers():
                if self._free():
                    self._spawn()
                if time.monotonic() > deadline:
                    raise OSError(f"the MCP relay does not start; its log is {str(self._log_file)!r}")
                time.sleep(_LOOK_AGAIN_S)

    def reap(self) -> None:
        """Take note of the end of a relay that was started here."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        _left[:] = [process for process in _left if process.poll() is None]

    def leave(self, *, ends: bool) -> None:
        """Wait for the end of a relay that has said that it ends; else leave it to the others who use it."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while ends and not self._free() and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_S)
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(max(0.0, deadline - time.monotonic()) if ends else 0.0)
            except subprocess.TimeoutExpired:
                _left.append(process)
        self.reap()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket))
            except OSError:
                return False
            return True

    def _free(self) -> bool:
        lock = FileLock(self._home / "relay.lock")
        free = lock.take(wait=False)
        lock.release()
        return free

    def _spawn(self) -> None:
        self.reap()
        self.socket.unlink(missing_ok=True)
        with FileLock(self._home / "relay.lock") as lock, self._log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                [sys.executable, "-P", "-m", "app.tools.mcp.relay", str(self.socket), str(self._home)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock.descriptor,),
                start_new_session=True,  # Ctrl-C in a terminal is for us; we tell it
            )

    @property
    def _log_file(self) -> Path:
        return self._home / "relay.log"
