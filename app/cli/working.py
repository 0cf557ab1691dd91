"""The process of `quorum worker`: all parts of the service, of which nothing is served."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog
from prometheus_client import start_http_server

from app.config.settings import Settings
from app.container import Container
from app.core.errors import ConfigError
from app.observability import logs
from app.state.client import without_password
from app.state.embedded import EmbeddedValkey
from app.supervisor import state_of, watched
from app.worker import run

_log = structlog.get_logger("quorum.jobs")


def work(settings: Settings, *, metrics_port: int | None = None) -> None:
    """Works until a signal ends it: SIGTERM lets runs end for `drain_s` seconds, and leaves the others to other workers.

    Raises:
        ConfigError: settings or configuration are wrong.
        StateUnavailable: the embedded store cannot be started.
    """
    logs.configure(settings.log_level, None if settings.log_format == "auto" else settings.log_format)
    with state_of(settings) as (shared, valkey):
        if metrics_port is not None:
            start_http_server(metrics_port, "127.0.0.1")
        run(_work(shared, valkey))


async def _work(settings: Settings, valkey: EmbeddedValkey | None) -> None:
    container = Container(settings, works=True)
    draining, stopped = container.services.draining, asyncio.Event()
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def stop() -> None:
        if not draining.begun:
            draining.begin()
            loop.call_later(settings.drain_s, draining.end)
        else:
            draining.end()
        stopped.set()

    def reload() -> None:
        task = loop.create_task(_reload(container))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    async with watched(valkey), container.run():
        where = without_password(settings.redis_url.get_secret_value()) if settings.redis_url else ""
        print(f"Quorum works on the queue at {where}\n{container.summary()}", file=sys.stderr, flush=True)
        await stopped.wait()


async def _reload(container: Container) -> None:
    try:
        await container.reload_on_signal()
    except ConfigError as error:
        _log.error("the configuration is not reloaded, the old one stays", reason=error.message, faults=error.faults)
