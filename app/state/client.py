"""The connection to Redis or Valkey: its scripts, its warnings, and one mapping of its failures."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import redis.exceptions as refused
from redis.asyncio.client import PubSub
from redis.commands.core import AsyncScript

from app.core.errors import StateUnavailable
from app.state.addresses import address
from app.state.connections import BLOCKING_CONNECTIONS, COMMAND_CONNECTIONS, COMMAND_TIMEOUT_S, connect, disconnect

OLDEST_MAJOR: Final = 7

_SCRIPTS: Final = Path(__file__).parent / "scripts"

# What says that the server cannot serve now, as opposed to: that the command was wrong.
_AWAY: Final = (
    refused.ConnectionError,
    refused.TimeoutError,
    refused.ReadOnlyError,
    refused.OutOfMemoryError,
    refused.ClusterError,
    refused.TryAgainError,
    refused.RedisClusterException,
    OSError,
)


class StateClient:
    """Connections to one Redis, to the primary that Sentinel names, or to a Cluster (`addresses` says how they are written).

    `commands` answers within `timeout_s` or fails; `blocking` is for reads that wait, and subscriptions.

    Raises `ConfigError` for a URL it does not know. Nothing is connected before the first command.
    """

    def __init__(self, url: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        self.where = without_password(url)
        self._address = address(url)
        self.commands = connect(self._address, COMMAND_CONNECTIONS, timeout_s)
        self.blocking = connect(self._address, BLOCKING_CONNECTIONS, None)

    def script(self, name: str) -> AsyncScript:
        """The script `scripts/<name>.lua`, sent by its hash."""
        return self.commands.register_script((_SCRIPTS / f"{name}.lua").read_text())

    async def subscribe(self, channel: str) -> PubSub:
        """A subscription to `channel`, with a connection of its own. Closing it is the caller's."""
        if self._address.shape == "cluster":
            await self.blocking.initialize()  # a subscription does not ask where its channel lives
        pushes = self.blocking.pubsub(ignore_subscribe_messages=True)
        await pushes.subscribe(channel)
        return pushes

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
            facts: Mapping[str, Any] = await self._info()
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

    async def _info(self) -> Mapping[str, Any]:
        if self._address.shape != "cluster":
            return await self.commands.info("server", "memory")
        cluster: Any = self.commands
        await cluster.initialize()
        return await cluster.info("server", "memory", target_nodes=cluster.get_default_node())

    async def close(self) -> None:
        await disconnect(self.commands)
        await disconnect(self.blocking)


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


def evalsha(pipe: Any, script: AsyncScript, keys: Sequence[str], args: Sequence[Any]) -> None:
    """Queue `script` in a pipeline. (A Cluster's pipeline has no method for it, since it cannot know where it is loaded.)"""
    pipe.execute_command("EVALSHA", script.sha, len(keys), *keys, *args)
