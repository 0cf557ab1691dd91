"""`quorum serve`: the process that owns the sockets, the embedded Valkey and the workers.

With one worker it serves itself. It ends with 0 after SIGTERM or SIGINT, leaving no process behind; after a kill -9 its workers
finish and end, and the Valkey waits to be adopted by the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from importlib.metadata import version
from types import FrameType
from typing import Final

from pydantic import SecretStr

from app.config.loading import load
from app.config.settings import Settings
from app.config.spec import QuorumSpec
from app.core.clock import SystemClock
from app.core.errors import ConfigError, StateUnavailable
from app.listening import bind, is_loopback, may_bind, urls
from app.state.api_keys import ApiKeys
from app.state.client import StateClient, without_password
from app.state.embedded import EmbeddedValkey
from app.state.secrets import load_secret
from app.worker import announce, make_app, run
from app.worker import serve as serve_here
from app.worker_pool import WorkerPool, metrics_directory

FACTORY: Final = "app.main:create_app"
WATCH_S: Final = 1.0
"""How often the embedded server is looked after: well within the 5 s in which the service recovers."""

log = logging.getLogger(__name__)


def serve(settings: Settings, *, factory: str = FACTORY) -> None:
    """Serves until a signal ends it.

    1. Check the configuration, so that a bad one starts nothing.
    2. Start or adopt the embedded Valkey, where no Redis URL is given.
    3. Refuse a public address without keys; bind the sockets.
    4. Serve, here or in workers.

    Raises `ConfigError` and `StateUnavailable` with what to do about it.
    """
    spec = _configuration(settings)
    _on_signals(_leave)
    with state_of(settings) as (shared, valkey):
        keyed = _has_keys(shared, spec)
        refusal = may_bind(settings.host, keyed, settings.insecure)
        if refusal is not None:
            raise ConfigError(refusal)
        sockets = bind(settings.host, settings.port)
        text = announcement(shared, urls(sockets), keyed=keyed)
        try:
            if settings.workers == 1:
                run(_in_this_process(shared, factory, sockets, valkey, text))
            else:
                asyncio.run(_in_workers(shared, factory, sockets, valkey, text))
        finally:
            # A second signal must not keep the embedded server from being stopped.
            _on_signals(signal.SIG_IGN)


def announcement(settings: Settings, addresses: list[str], *, keyed: bool) -> str:
    """What is printed when the service is ready; `{summary}` stands for the application's own lines."""
    state = without_password(_redis_url(settings))
    bearer = ' -H "Authorization: Bearer $QUORUM_ADMIN_KEY"' if keyed else ""
    openness = (
        "" if keyed else "No API key exists: everybody who reaches this address may use it. 'quorum keys create' makes one.\n"
    )
    return (
        f"Quorum {version('quorum')} serves {' and '.join(addresses)} (documentation: {addresses[0]}/docs), state at {state}\n"
        f"{{summary}}{openness}"
        f"Try: curl -s {addresses[0]}/v1/orchestrations{bearer} -H 'Content-Type: application/json' "
        '-d \'{"input": "Why is the sky blue?"}\''
    )


async def _in_this_process(
    settings: Settings, factory: str, sockets: list[socket.socket], valkey: EmbeddedValkey | None, text: str
) -> None:
    app = make_app(factory, settings)
    async with watched(valkey):
        await serve_here(
            app,
            sockets,
            grace_s=settings.grace_s,
            drain_s=settings.drain_s,
            on_ready=lambda: announce(app, text),
        )


async def _in_workers(
    settings: Settings, factory: str, sockets: list[socket.socket], valkey: EmbeddedValkey | None, text: str
) -> None:
    with metrics_directory(settings.data_dir / "run") as metrics_dir:
        async with watched(valkey):
            await WorkerPool(factory, settings, sockets, metrics_dir=metrics_dir, announcement=text).run()


@contextlib.contextmanager
def state_of(settings: Settings) -> Generator[tuple[Settings, EmbeddedValkey | None]]:
    """The settings with a Redis URL in any case, and the embedded server where that is its own."""
    if settings.redis_url is not None:
        if settings.secret is None:
            log.warning(
                "QUORUM_SECRET is not set: this machine keeps one of its own, and other replicas will not agree with it"
            )
        yield settings, None
        return
    with EmbeddedValkey(settings.data_dir) as valkey:
        yield settings.model_copy(update={"redis_url": SecretStr(valkey.url)}), valkey


def _configuration(settings: Settings) -> QuorumSpec:
    path = settings.config_path()
    return QuorumSpec() if path is None else load(path).spec


def _has_keys(settings: Settings, spec: QuorumSpec) -> bool:
    """Whether any key was ever made, here or in the store. Raises `StateUnavailable` where only the store can tell."""
    if spec.keys or settings.admin_key is not None:
        return True
    try:
        return asyncio.run(_any_stored(settings))
    except StateUnavailable:
        if is_loopback(settings.host):
            return False
        raise


async def _any_stored(settings: Settings) -> bool:
    state = StateClient(_redis_url(settings))
    secret = load_secret(settings.secret.get_secret_value() if settings.secret else None, settings.data_dir)
    try:
        return bool(await ApiKeys(state, secret, SystemClock()).all())
    finally:
        await state.close()


def _redis_url(settings: Settings) -> str:
    if settings.redis_url is None:
        raise ConfigError("no Redis URL is set")
    return settings.redis_url.get_secret_value()


@contextlib.asynccontextmanager
async def watched(valkey: EmbeddedValkey | None) -> AsyncGenerator[None]:
    """Starts the embedded server again whenever it has died."""
    task = None if valkey is None else asyncio.create_task(_watch(valkey), name="valkey watch")
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _watch(valkey: EmbeddedValkey) -> None:
    while True:
        await asyncio.sleep(WATCH_S)
        if not valkey.alive():
            log.error("the embedded Valkey has died; starting it again")
            try:
                await asyncio.to_thread(valkey.start)
            except StateUnavailable as error:
                log.error("%s", error.message)  # noqa: TRY400 (the message says it all)


def _on_signals(do: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, do)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Before there is an event loop, and after."""
    sys.exit(0)
