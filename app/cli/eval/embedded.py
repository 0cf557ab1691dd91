"""A service of our own for as long as an evaluation lasts: `quorum serve` in a process beside this one, on a free port."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.core.errors import OrchestratorError

START_S: Final = 60.0
STOP_S: Final = 15.0
_READY = re.compile(rb"serves (http://[^ ]+)")
_KEPT_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Embedded:
    """Where it listens, and a key with every scope."""

    url: str
    key: str


@asynccontextmanager
async def embedded(config: Path | None, *, data_dir: Path | None, workers: int) -> AsyncGenerator[Embedded]:
    """Serve `config` until leaving. Without a `data_dir` its state is gone afterwards.

    Raises:
        OrchestratorError: it did not start; the message is its own.
    """
    with tempfile.TemporaryDirectory(prefix="quorum-eval-", ignore_cleanup_errors=True) as temporary:
        key = secrets.token_urlsafe(24)
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-c",
                "from app.cli.eval.child import main; main()",
                "serve",
                "--host",
                "127.0.0.1",
                "--port",
                "0",
            ),
            *("--workers", str(workers), *(("--config", str(config)) if config else ())),
            env=_environment(key, data_dir or Path(temporary)),
            stdin=asyncio.subprocess.PIPE,  # its lifeline
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: what is under way there is cancelled by our leaving
        )
        try:
            url, draining = await _started(process)
            try:
                yield Embedded(url, key)
            finally:
                draining.cancel()
        finally:
            await _stop(process)


def _environment(key: str, data_dir: Path) -> dict[str, str]:
    own = {
        "QUORUM_ADMIN_KEY": key,
        "QUORUM_DATA_DIR": str(data_dir),
        "QUORUM_LOG_LEVEL": "error",
        "QUORUM_GRACE_S": "0",
        "QUORUM_DRAIN_S": "2",
    }
    root = str(Path(__file__).parents[3])  # where this package is, also where it is not installed
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    inherited = {name: value for name, value in os.environ.items() if name not in ("QUORUM_URL", "QUORUM_API_KEY")}
    return {**inherited, **own, "PYTHONPATH": path}


async def _started(process: asyncio.subprocess.Process) -> tuple[str, asyncio.Task[None]]:
    """Its URL when it is ready, and the task that reads on what it says."""
    assert process.stderr is not None  # noqa: S101 - it is a pipe
    said: list[bytes] = []
    url = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            async for line in process.stderr:
                said.append(line)
                if found := _READY.search(line):
                    url = found[1].decode()
                if line.startswith(b"Try: "):
                    return url, asyncio.create_task(_read_on(process.stderr))
    text = b"".join(said[-_KEPT_LINES:]).decode(errors="replace").strip().removeprefix("quorum: ")
    raise OrchestratorError(f"the service for the evaluation did not start: {text or 'it said nothing'}")


async def _read_on(lines: asyncio.StreamReader) -> None:
    """What it says later are its errors: they are for the user's eyes too."""
    async for line in lines:
        sys.stderr.write(line.decode(errors="replace"))


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await process.wait()
                return
        process.kill()
    await process.wait()
