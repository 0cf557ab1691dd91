"""Connections to Redis in each of its shapes: one server, the primary that Sentinel names, a Cluster.

redis-py 8 waits 59 s for a frozen server by default, and repeats commands that may have been applied; here a command takes
250 ms at most and is sent once. A command that timed out may still be applied later, when the server resumes.
"""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, cast

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    Redis,
    RedisCluster,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from app.state.addresses import Address

COMMAND_TIMEOUT_S: Final = 0.25
COMMAND_CONNECTIONS: Final = 64
BLOCKING_CONNECTIONS: Final = 1024
"""Each subscription and each blocking read holds one."""


class _PromptWrites(AbstractConnection):
    """Writes that can be cancelled.

    redis-py wraps each write in `asyncio.wait_for`, which makes a task, and before Python 3.12 loses a cancellation that comes
    in the same turn as the end of the write (python/cpython issue 86296): a cancelled caller would go on.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        limit_s, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(limit_s):
                await super().send_packed_command(command, check_health)
        finally:
            self.socket_timeout = limit_s


class _Tcp(_PromptWrites, Connection): ...


class _Tls(_PromptWrites, SSLConnection): ...


class _Unix(_PromptWrites, UnixDomainSocketConnection): ...


class _SentinelTcp(_PromptWrites, SentinelManagedConnection): ...


class _SentinelTls(_PromptWrites, SentinelManagedSSLConnection): ...


_CONNECTIONS: Final[Mapping[str, type[AbstractConnection]]] = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}


def connect(where: Address, most: int, timeout_s: float | None) -> Redis:
    """A client of the Redis at `where`. Nothing is connected before its first command. (That of a Cluster takes the same
    commands, though it is no `Redis` by its type.)

    Parameters:
        most: connections to one server.
        timeout_s: of a command, and of a connection before it; None for commands that wait by themselves.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": COMMAND_TIMEOUT_S if timeout_s is None else timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    match where.shape:
        case "single":
            return _single(where, most, timeout_s, options)
        case "sentinel":
            return _sentinel(where, most, options)
        case "cluster":
            return _cluster(where, options)


async def disconnect(client: Redis) -> None:
    """Close `client` and, where Sentinel names its server, the connections to the sentinels, which it would leave open."""
    await client.aclose()
    sentinel: Any = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for one in sentinel.sentinels if sentinel else ():
        await one.aclose()


def _single(where: Address, most: int, timeout_s: float | None, options: dict[str, Any]) -> Redis:
    if where.scheme != "unix":
        options["socket_keepalive"] = True
    if timeout_s is None:
        return Redis.from_pool(ConnectionPool.from_url(where.url, max_connections=most, **options))
    pool = BlockingConnectionPool.from_url(where.url, max_connections=most, timeout=timeout_s, **options)
    pool.connection_class = _CONNECTIONS[where.scheme]
    return Redis.from_pool(pool)


def _sentinel(where: Address, most: int, options: dict[str, Any]) -> Redis:
    """The primary, asked for anew with each connection: after a failover the old connections end, or are told to."""
    tls: dict[str, Any] = {"ssl": True, **_tls(where)} if where.tls else {}
    sentinel = Sentinel(
        list(where.hosts),
        sentinel_kwargs={
            "socket_timeout": COMMAND_TIMEOUT_S,
            "socket_connect_timeout": COMMAND_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
            "username": where.options.get("sentinel_username"),
            "password": where.options.get("sentinel_password"),
            **tls,
        },
    )
    for one in sentinel.sentinels:
        one.connection_pool.connection_class = _Tls if where.tls else _Tcp
    pool = SentinelConnectionPool(
        where.service,
        sentinel,
        connection_class=_SentinelTls if where.tls else _SentinelTcp,
        max_connections=most * 4,
        db=where.db,
        username=where.username,
        password=where.password,
        **_tls(where),
        **options,
    )
    return Redis.from_pool(pool)


def _cluster(where: Address, options: dict[str, Any]) -> Redis:
    kind: dict[str, Any] = {"ssl": True, **_tls(where)} if where.tls else {}
    shared = {key: value for key, value in options.items() if key != "retry"}
    nodes = [ClusterNode(host, port) for host, port in where.hosts]
    client = RedisCluster(
        startup_nodes=nodes,
        max_connections=BLOCKING_CONNECTIONS,
        username=where.username,
        password=where.password,
        retry=options["retry"],
        **shared,
        **kind,
    )
    connections = _Tls if where.tls else _Tcp
    for node in client.startup_nodes:
        node.connection_class = connections
    for kwargs in (client.connection_kwargs, client.nodes_manager.connection_kwargs):
        kwargs["connection_class"] = connections
    return cast("Redis", client)


def _tls(where: Address) -> dict[str, str]:
    return {name: value for name, value in where.options.items() if name.startswith("ssl_")}
