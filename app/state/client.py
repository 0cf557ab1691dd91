"""The connection to Redis or Valkey: one factory, short timeouts, no retries, one mapping of its failures.

redis-py 8 waits 59 s for a frozen server by default, and repeats commands that may have been applied; here a command takes
250 ms at most and is sent once. A command that timed out may still be applied later, when the server resumes.
"""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import redis.exceptions as refused
from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.maint_notifications import MaintNotificationsConfig

from app.core.errors import ConfigError, StateUnavailable

COMMAND_TIMEOUT_S: Final = 0.25
COMMAND_CONNECTIONS: Final = 64
BLOCKING_CONNECTIONS: Final = 1024
"""Each subscription and each blocking read holds one."""

OLDEST_MAJOR: Final = 7

_TCP: Final[Mapping[str, Any]] = {"socket_keepalive": True}
SCHEMES: Final[Mapping[str, Mapping[str, Any]]] = {"redis": _TCP, "rediss": _TCP, "unix": {}}
"""What a URL may begin with, and what its connections get besides."""

_SCRIPTS: Final = Path(__file__).parent / "scripts"

# What says that the server cannot serve now, as opposed to: that the command was wrong.
_AWAY: Final = (
    refused.ConnectionError,
    refused.TimeoutError,
    refused.ReadOnlyError,
    refused.OutOfMemoryError,
    OSError,
)


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


_CONNECTIONS: Final[Mapping[str, type[AbstractConnection]]] = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}


class StateClient:
    """Connections to one Redis. `commands` answers within 250 ms or fails; `blocking` is for reads that wait.

    Raises `ConfigError` for a URL it does not know. Nothing is connected before the first command.
    """

    def __init__(self, url: str) -> None:
        self.where = without_password(url)
        options = _options(url)
        commands = BlockingConnectionPool.from_url(
            url,
            max_connections=COMMAND_CONNECTIONS,
            timeout=COMMAND_TIMEOUT_S,
            socket_timeout=COMMAND_TIMEOUT_S,
            **options,
        )
        commands.connection_class = _CONNECTIONS[urlsplit(url).scheme]
        self.commands = Redis.from_pool(commands)
        self.blocking = Redis.from_pool(
            ConnectionPool.from_url(url, max_connections=BLOCKING_CONNECTIONS, socket_timeout=None, **options)
        )

    def script(self, name: str) -> AsyncScript:
        """The script `scripts/<name>.lua`, sent by its hash."""
        return self.commands.register_script((_SCRIPTS / f"{name}.lua").read_text())

    async def ping(self) -> bool:
        """Whether the server answers within the command timeout."""
        try:
            with reaching_state():
                return bool(await self.commands.ping())
        except StateUnavailable:
            return False

    async def warnings(self) -> tuple[str, ...]:
        """What about this server may break promises: an evicting memory policy, a version too old."""
        with reaching_state():
            facts: Mapping[str, Any] = await self.commands.info("server", "memory")
        found: list[str] = []
        policy = str(facts.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction":
            found.append(
                f"Redis at {self.where} has maxmemory-policy {policy!r}, which may drop keys, limits and runs: "
                "set it to 'noeviction'"
            )
        version = str(facts.get("valkey_version") or facts.get("redis_version", "0"))
        if int(version.split(".")[0]) < OLDEST_MAJOR:
            found.append(f"Redis at {self.where} is version {version}: {OLDEST_MAJOR} or newer is needed")
        return tuple(found)

    async def close(self) -> None:
        await self.commands.aclose()
        await self.blocking.aclose()


@contextmanager
def reaching_state() -> Generator[None]:
    """Turns "the server cannot serve now", in any of its forms, into `StateUnavailable`; other errors pass."""
    try:
        yield
    except _AWAY as error:
        raise StateUnavailable(f"the state store does not answer ({type(error).__name__}); try again shortly") from error


def without_password(url: str) -> str:
    """`url` as it may be shown: no user, no password, no query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _options(url: str) -> dict[str, Any]:
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigError(
            f"the Redis URL begins with {scheme!r}: use one of {known} (Sentinel and Cluster addresses are not supported)"
        )
    return {
        "socket_connect_timeout": COMMAND_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        **SCHEMES[scheme],
    }
