"""Word to the workers that there is something to do: taskiq on a Redis Stream.

A message carries a job's id, one at a time, and is acknowledged when it is received: who gets one looks at the queue
(`state/jobs.py`), which decides on fairness, leases and redelivery. So a message that is lost costs a moment, never a job, and
one that comes twice does nothing. That is on purpose: taskiq-redis gives a dead worker's message to another only when a further
one arrives, gives a long job's message to a second worker, and on a Cluster gives none again (taskiq-redis issues 101, 130).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from taskiq import AsyncBroker, SendTaskError
from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver
from taskiq_redis import RedisStreamBroker, RedisStreamClusterBroker, RedisStreamSentinelBroker

from app.state.addresses import Address, address
from app.state.keys import JOB_STREAM

GROUP: Final = "workers"
KEPT: Final = 10_000
"""Messages that the stream is trimmed to, about."""
_BLOCK_MS: Final = 2_000
_CONNECT_S: Final = 0.25
_SILENT_S: Final = 5.0
"""A read that waits for `_BLOCK_MS` and is not answered after this is one of a server that is away."""
_CONNECTIONS: Final = 8
_AT_ONCE: Final = 64
_AGAIN_S: Final = 0.5
_CLOSE_S: Final = 0.5

_log = structlog.get_logger("quorum.jobs")
logging.getLogger("taskiq").setLevel(logging.CRITICAL)  # what goes wrong there is told here, once


class Announcements:
    """The stream, for one process. `start` has `wake` called for each message that this process gets."""

    def __init__(self, redis_url: str) -> None:
        self._broker = _broker(address(redis_url))
        self._wake: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None
        self._finish = asyncio.Event()

        async def look(job_id: str) -> None:
            self._wake()

        self._look = self._broker.register_task(look, task_name="look")

    async def announce(self, job_id: str, times: int = 1) -> None:
        """Tell workers of a job. Where that fails they find it by themselves, a little later."""
        try:
            for _ in range(times):
                await self._look.kiq(job_id)
        except SendTaskError as error:
            _log.warning("workers could not be told of a job; they will find it", reason=type(error.__cause__).__name__)

    def start(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._task = asyncio.create_task(self._listen(), name="job announcements")

    async def leave(self) -> None:
        """Hear no more, so that what is announced from now on is heard by others."""
        self._finish.set()
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_CLOSE_S)
            await self.close()  # the library may swallow the cancellation; without its connections it ends all the same

    async def close(self) -> None:
        with contextlib.suppress(Exception):  # a store that is away must not keep the process from ending
            await self._broker.shutdown()

    async def _listen(self) -> None:
        away = False
        while not self._finish.is_set():
            try:
                await self._broker.startup()
                away = False
                receiver = Receiver(
                    self._broker,
                    validate_params=False,
                    max_async_tasks=_AT_ONCE,
                    run_startup=False,
                    ack_type=AcknowledgeType.WHEN_RECEIVED,
                )
                await receiver.listen(self._finish)
            except Exception as error:  # the boundary to the library: the next message must be heard
                if not away:
                    _log.warning("announcements of jobs are not heard", reason=type(error).__name__)
                away = True
            await asyncio.sleep(_AGAIN_S)


def _broker(where: Address) -> AsyncBroker:
    stream: dict[str, Any] = {
        "queue_name": JOB_STREAM,
        "consumer_group_name": GROUP,
        "consumer_name": f"w_{secrets.token_hex(8)}",
        "xread_block": _BLOCK_MS,
        "maxlen": KEPT,
    }
    connection: dict[str, Any] = {
        "socket_timeout": _SILENT_S,
        "socket_connect_timeout": _CONNECT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    claims: dict[str, Any] = {"xread_count": 1, "unacknowledged_lock_timeout": 5.0}
    match where.shape:
        case "single":
            more: dict[str, Any] = {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}
            pool = _CONNECTIONS
            return RedisStreamBroker(where.url, max_connection_pool_size=pool, **stream, **claims, **connection, **more)
        case "sentinel":
            named: dict[str, Any] = {"username": where.username, "password": where.password, "db": where.db, **_tls(where)}
            own = {"username": where.options.get("sentinel_username"), "password": where.options.get("sentinel_password")}
            told: dict[str, Any] = {"sentinel_kwargs": {**own, **_tls(where), **connection}, **connection, **named}
            return RedisStreamSentinelBroker(list(where.hosts), where.service, **stream, **told)
        case "cluster":
            scheme, (host, port) = "rediss" if where.tls else "redis", where.hosts[0]
            named = {"username": where.username, "password": where.password}
            return RedisStreamClusterBroker(f"{scheme}://{host}:{port}", **stream, **connection, **named, **_tls(where))


def _tls(where: Address) -> dict[str, Any]:
    given = {name: value for name, value in where.options.items() if name.startswith("ssl_")}
    return {"ssl": True, **given} if where.tls and where.shape == "sentinel" else given
