"""Programs a test runs that pip cannot install: skipped without on a person's machine, a failure in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest


class Program(NamedTuple):
    """The names a program goes by, and the Debian package it is in."""

    names: tuple[str, ...]
    package: str


PROGRAMS = {
    "chromium": Program(("chromium", "chromium-browser", "google-chrome"), "chromium"),
    "docker": Program(("docker",), "docker.io"),
    "node": Program(("node", "nodejs"), "nodejs npm"),
    "nginx": Program(("nginx", "/usr/sbin/nginx"), "nginx"),
    "promtool": Program(("promtool",), "prometheus"),
    "redis-server": Program(("redis-server", "valkey-server"), "redis-server"),
    "wrk": Program(("wrk",), "wrk"),
}


def needs(name: str) -> str:
    """The path of the program `name`, one of `PROGRAMS`.

    Where it is missing the test is skipped and says what to install; with `QUORUM_CI=1` it fails, so that CI runs all of them.
    """
    program = PROGRAMS[name]
    for candidate in program.names:
        path = shutil.which(candidate)
        if path is not None:
            return path
    return _lacking(f"{name} is not on the PATH: install it (Debian: apt-get install {program.package})")


def needs_installed(path: Path, command: str) -> None:
    """Skips the test, or fails it in CI, where `path` is not there and `command` would make it."""
    if not path.exists():
        _lacking(f"{path.name} is not installed: {command}")


def _lacking(reason: str) -> NoReturn:
    if os.environ.get("QUORUM_CI") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
