"""File locks (flock) that the kernel gives back when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self


class FileLock:
    """A lock on a file, held until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file; a child process that inherits it holds the lock too. Raises `RuntimeError` where it is not held."""
        if self._descriptor is None:
            raise RuntimeError(f"the lock {self._path} is not held")
        return self._descriptor

    def take(self, *, shared: bool = False, wait: bool = True) -> bool:
        """Takes the lock, alone or with other shared holders; also changes a held one. False where `wait` would be needed."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
