"""The real application under uvicorn, in the test's own event loop (so that a loopback provider beside it can be watched)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import structlog
import yaml
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from pydantic import SecretStr

from app.config.settings import Settings
from app.core.clock import Clock
from app.main import create_app
from app.worker import Server, configured
from tests.support.clients import http_client

ONE_CALL = {"retry": {"enabled": False}, "breaker": {"enabled": False}, "pace": {"enabled": False}}
"""Every call is made, once, whatever became of the others before it."""
AT_ONCE = {"kind": "mock", "options": {"latency_scale": 0}, "reliability": ONE_CALL}
"""The mock provider without its waiting times, and with nothing around it."""


@dataclass
class Serving:
    """`url` is where it listens, `config` its configuration file, `client` asks it."""

    app: FastAPI
    url: str
    config: Path
    client: httpx.AsyncClient
    _server: Server

    @property
    def connections(self) -> int:
        """Connections that clients have open now."""
        return len(self._server.server_state.connections)

    def configure(self, config: Mapping[str, Any] | str) -> None:
        """Write another configuration. It is in force after a reload."""
        self.config.write_text(config if isinstance(config, str) else yaml.safe_dump(config))


def upstream(url: str, **provider: Any) -> dict[str, Any]:
    """A configuration with the models `m` and `m2` at an OpenAI-like provider at `url`, each call of them made once."""
    up = {"kind": "openai_compatible", "base_url": url, "api_key": "upstream-key", "reliability": ONE_CALL}
    return {
        "providers": {"up": {**up, **provider}},
        "models": {name: {"provider": "up", "model": name} for name in ("m", "m2")},
    }


@asynccontextmanager
async def serving(
    directory: Path,
    redis_url: str,
    config: Mapping[str, Any] | str | None = None,
    *,
    clock: Clock | None = None,
    **settings: Any,
) -> AsyncIterator[Serving]:
    """The service on a free port, on a machine with this `clock`. Without `config` the mock provider answers, at once."""
    path = directory / "quorum.yaml"
    if not path.exists() or config is not None:
        told = {"providers": {"mock": AT_ONCE}} if config is None else config
        path.write_text(told if isinstance(told, str) else yaml.safe_dump(told))
    values = {"config": path, "data_dir": directory, "redis_url": SecretStr(redis_url), "log_level": "error", **settings}
    app = create_app(Settings(**values), clock=clock)
    structlog.configure(cache_logger_on_first_use=False)  # a logger that is kept cannot be listened to by later tests
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    ready = asyncio.Event()
    server = Server(configured(app, drain_s=1), ready.set)
    running = asyncio.create_task(server.serve([listening]))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    assert not running.done(), "it did not start"
    try:
        async with http_client(url, timeout_s=30) as client:
            yield Serving(app, url, path, client, server)
    finally:
        server.should_exit = True
        await running


@contextmanager
def serving_in_thread(
    directory: Path, redis_url: str, config: Mapping[str, Any] | None = None, **settings: Any
) -> Iterator[str]:
    """The same in a thread of its own, for clients that block. Gives the URL."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(directory, redis_url, config, **settings)) as service,
    ):
        yield service.url


async def until(true: Any, *, within_s: float = 5.0) -> Any:
    """The first true value of `true()`, looked at after every turn of the event loop; fails after `within_s`."""
    async with asyncio.timeout(within_s):
        while not (value := true()):
            await asyncio.sleep(0.002)
    return value
